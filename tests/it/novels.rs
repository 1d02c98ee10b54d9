//! The novel tool's frontend: from what a page agrees to pay to the sentences that its worker makes of a real PDF, and what
//! is done with them afterwards.

use std::{path::Path, process::Stdio, time::Duration};

use calamine::Reader as _;
use chrono::Utc;
use futures_util::{StreamExt as _, stream};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::{
    identity,
    proxy::Proxy,
    raw_client::{RawClient, Told},
    stock_client::{Page, Stock},
    support::{Running, answer, soon, wait_for},
    workers::{Caller, taking_tokens},
};

/// A token of a subject: `access` or `refresh`.
pub fn token(sub: &str, kind: &str, seconds: i64) -> String {
    let exp = Utc::now().timestamp() + seconds;
    identity::signed(&json!({ "sub": sub, "type": kind, "fresh": false, "exp": exp }))
}

async fn server() -> Running {
    let mut config = taking_tokens();
    config.auth.leeway = Duration::ZERO;
    Running::start(config).await
}

/// A PDF with a text on each of its pages.
fn pdf(pages: &[String]) -> Vec<u8> {
    let mut objects = vec!["<</Type/Catalog/Pages 2 0 R>>".to_owned()];
    let kids: Vec<String> = (0..pages.len()).map(|page| format!("{} 0 R", 3 + 2 * page)).collect();
    objects.push(format!("<</Type/Pages/Kids[{}]/Count {}>>", kids.join(" "), pages.len()));
    for (page, text) in pages.iter().enumerate() {
        let font = "<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>";
        objects.push(format!("<</Type/Page/Parent 2 0 R/Resources{font}/Contents {} 0 R>>", 4 + 2 * page));
        let content = format!("BT /F1 12 Tf 72 700 Td ({text}) Tj ET");
        objects.push(format!("<</Length {}>>\nstream\n{content}\nendstream", content.len()));
    }
    let mut file = "%PDF-1.4\n".to_owned();
    for (number, object) in objects.iter().enumerate() {
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", number + 1));
    }
    file.push_str("trailer <</Root 1 0 R>>\n%%EOF\n");
    file.into_bytes()
}

async fn call(server: &Running, who: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = server.http.request(method, server.url(&format!("/api/v1{path}"))).bearer_auth(who);
    if let Some(body) = body {
        request = request.json(&body);
    }
    answer(request.send().await.unwrap()).await
}

async fn confirm(server: &Running, who: &str, credits: i64) -> i64 {
    let settings =
        json!({ "original_filename": "conte.pdf", "estimated_tokens": 900, "sentence_length_limit": 6 });
    let body =
        json!({ "estimated_credits": credits, "model_preference": "speed", "processing_settings": settings });
    let (status, made) = call(server, who, "POST", "/credits/jobs/confirm", Some(body)).await;
    assert_eq!(
        (status, &made["status"], &made["reserved"]),
        (201, &json!("pending"), &json!(true)),
        "{made}"
    );
    made["job_id"].as_i64().unwrap()
}

async fn upload(
    server: &Running,
    who: &str,
    path: &str,
    file: Option<(&str, Vec<u8>)>,
    job: Option<i64>,
) -> (u16, Value) {
    let mut form = Form::new().text("sentence_length_limit", "6");
    if let Some(job) = job {
        form = form.text("job_id", job.to_string());
    }
    if let Some((name, bytes)) = file {
        form = form.part("pdf_file", Part::bytes(bytes).file_name(name.to_owned()));
    }
    let request = server.http.post(server.url(&format!("/api/v1{path}"))).bearer_auth(who).multipart(form);
    answer(request.send().await.unwrap()).await
}

/// A page of the second generation: its token stands in the address.
async fn page(server: &Running, token: &str) -> RawClient {
    let mut base = server.base.clone();
    base.set_query(Some(&format!("token={token}")));
    RawClient::connect(&base).await
}

async fn join(page: &mut RawClient, job: i64, token: &str) {
    page.send(format!("42{}", json!(["join_job", { "job_id": job, "token": token }]))).await;
}

/// The example worker, with a key that is good for novels alone; it ends after one job.
async fn example(server: &Running) -> tokio::process::Child {
    let jobcast = tokio::process::Command::new(env!("CARGO_BIN_EXE_jobcast"))
        .args(["key", "create", "novels", "--subject", "novels", "--scope", "work:novel", "--quiet"])
        .env("DATABASE_URL", &server.database)
        .env("JOBCAST__SERVER__DATA_DIR", server.folder())
        .output();
    let key = String::from_utf8(jobcast.await.unwrap().stdout).unwrap();
    let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/novels.py");
    tokio::process::Command::new("python3")
        .arg(worker)
        .arg("--once")
        .env("JOBCAST_URL", server.base.as_str())
        .env("JOBCAST_KEY", key.trim())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The next event of a page that is not the server's own.
async fn heard(page: &mut RawClient) -> (String, Value) {
    loop {
        match soon("an event", page.next()).await.expect("an event, not the end") {
            Told::Event { name, mut arguments } if matches!(name.as_str(), "job_progress" | "error") => {
                return (name, arguments.remove(0));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_novel_goes_from_its_price_to_its_sentences_as_its_page_sees_it() {
    let server = server().await;
    let (owner, other) = (token("7", "access", 600), token("8", "access", 600));
    let text = |page: usize| {
        format!("Page {page} commence ici, et elle est assez longue pour devenir deux phrases. Fin {page}.")
    };
    let file = pdf(&(1..=35).map(text).collect::<Vec<_>>());

    // The price, and what is left.
    let (status, estimate) =
        upload(&server, &owner, "/estimate-pdf", Some(("conte.pdf", file.clone())), None).await;
    assert_eq!(
        (status, &estimate["page_count"], &estimate["estimated_tokens"]),
        (200, &json!(35), &json!(1750))
    );
    assert_eq!(estimate["estimated_credits"], 2);
    assert_eq!(upload(&server, &owner, "/estimate-pdf", Some(("x.pdf", b"no".to_vec())), None).await.0, 422);
    let (_, credits) = call(&server, &owner, "GET", "/credits/me", None).await;
    assert_eq!((&credits["balance"], &credits["granted"]), (&json!(10_000), &json!(10_000)), "{credits}");
    let too_much = json!({ "estimated_credits": 10_101 });
    let (status, refused) = call(&server, &owner, "POST", "/credits/jobs/confirm", Some(too_much)).await;
    assert_eq!((status, &refused["error_code"]), (402, &json!("INSUFFICIENT_CREDITS")));
    let (_, listed) = call(&server, &owner, "GET", "/credits/jobs", None).await;
    assert_eq!(listed, json!([]), "what cannot be paid is not there");
    let job = confirm(&server, &owner, 2).await;
    assert_eq!(call(&server, &owner, "GET", "/me/credits", None).await.1["balance"], 9_998);

    // The room, and who may not come in.
    let mut watcher = page(&server, &owner).await;
    join(&mut watcher, job, &owner).await;
    let (name, shown) = heard(&mut watcher).await;
    assert_eq!(
        (name.as_str(), &shown["status"], &shown["id"]),
        ("job_progress", &json!("pending"), &json!(job))
    );
    assert_eq!((&shown["user_id"], &shown["progress_percent"]), (&json!(7), &json!(0)));
    let mut stranger = page(&server, &other).await;
    for (data, message) in [
        (json!({ "job_id": job, "token": other }), "Unauthorized access to job"),
        (json!({ "job_id": 999_999, "token": other }), "Job 999999 not found"),
        (json!({ "job_id": job }), "Missing job_id or token"),
        (json!({ "token": other }), "Missing job_id or token"),
        (json!({ "job_id": job, "token": token("7", "access", -60) }), "token_expired"),
        (json!({ "job_id": job, "token": "nonsense" }), "invalid_token"),
    ] {
        stranger.send(format!("42{}", json!(["join_job", data]))).await;
        assert_eq!(heard(&mut stranger).await, ("error".into(), json!({ "message": message })));
    }
    stranger.send(format!("42{}", json!(["leave_job", {}]))).await;
    assert_eq!(heard(&mut stranger).await.1["message"], "Missing job_id");
    let path = format!("/jobs/{job}");
    let (status, foreign) = call(&server, &other, "GET", &path, None).await;
    assert_eq!((status, &foreign["error"]), (403, &json!("Unauthorized")));
    let response = server.http.get(server.url("/api/v1/jobs")).bearer_auth(token("7", "access", -60));
    assert_eq!(answer(response.send().await.unwrap()).await, (401, json!({ "msg": "Token has expired" })));

    // The PDF.
    let good = || Some(("conte.pdf", file.clone()));
    for (file, number, who, status, error) in [
        (good(), None, &owner, 400, "job_id is required for async processing"),
        (None, Some(job), &owner, 400, "No PDF file provided"),
        (
            Some(("conte.txt", file.clone())),
            Some(job),
            &owner,
            400,
            "Invalid file type. Only PDF files are allowed",
        ),
        (good(), Some(job), &other, 404, "Job not found or unauthorized"),
        (good(), Some(999_999), &owner, 404, "Job not found or unauthorized"),
    ] {
        let refused = upload(&server, who, "/process-pdf-async", file, number).await;
        assert_eq!(refused, (status, json!({ "error": error })));
    }
    let (status, taken) = upload(&server, &owner, "/process-pdf-async", good(), Some(job)).await;
    assert_eq!(
        (status, &taken["job_id"], &taken["status"]),
        (202, &json!(job), &json!("pending")),
        "{taken}"
    );
    let (status, again) = upload(&server, &owner, "/process-pdf-async", good(), Some(job)).await;
    assert_eq!((status, &again["error"]), (400, &json!("Job is in queued status, cannot process")));

    let worker = example(&server).await;
    let mut steps: Vec<(i64, String)> = Vec::new();
    let last = loop {
        let (name, shown) = heard(&mut watcher).await;
        assert_eq!(name, "job_progress", "{shown}");
        let step = shown["current_step"].as_str().unwrap_or_default().to_owned();
        steps.push((shown["progress_percent"].as_i64().unwrap(), step));
        if shown["status"] != "pending" && shown["status"] != "processing" {
            break shown;
        }
    };
    assert!(steps.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{steps:?}");
    assert_eq!(steps.last(), Some(&(100, "Completed".to_owned())), "{}", last["error_message"]);
    assert_eq!(
        (&last["status"], &last["total_chunks"], &last["processed_chunks"]),
        (&json!("completed"), &json!(2), &json!(2)),
        "{last}"
    );
    let chunks = last["chunk_results"].as_array().unwrap();
    assert_eq!(chunks.len(), 2);
    assert_eq!(
        (&chunks[1]["start_page"], &chunks[1]["end_page"]),
        (&json!(20), &json!(35)),
        "one page early"
    );
    let sentences: Vec<&str> = chunks
        .iter()
        .flat_map(|chunk| chunk["sentences"].as_array().unwrap())
        .map(|sentence| sentence["normalized"].as_str().unwrap())
        .collect();
    assert!(sentences.iter().all(|sentence| sentence.split_whitespace().count() <= 6), "{sentences:?}");
    assert_eq!(
        sentences.iter().filter(|sentence| **sentence == "Fin 20.").count(),
        1,
        "the shared page is told once"
    );
    assert!(sentences.contains(&"Page 1 commence ici") && sentences.contains(&"Fin 35."), "{sentences:?}");
    let ended = soon("the worker's end", worker.wait_with_output()).await.unwrap();
    assert!(ended.status.success());
    assert_eq!(call(&server, &owner, "GET", &path, None).await.1, last, "by REST as by the socket");
    let (_, history) = call(&server, &owner, "GET", "/history", None).await;
    assert_eq!(
        (&history[0]["id"], &history[0]["processed_sentences_count"]),
        (&json!(job), &json!(sentences.len()))
    );
    let (_, entry) = call(&server, &owner, "GET", &format!("/history/{job}"), None).await;
    assert_eq!(entry["sentences"].as_array().unwrap().len(), sentences.len());
    assert_eq!(
        (&entry["chunks"][1]["page_count"], &entry["chunks"][1]["status"]),
        (&json!(16), &json!("success"))
    );
    let (status, refused) = call(&server, &owner, "POST", &format!("{path}/cancel"), None).await;
    assert_eq!((status, &refused["error"]), (400, &json!("Cannot cancel job with status completed")));

    // One that is cancelled says so, and gives back what it reserved.
    let second = confirm(&server, &owner, 50).await;
    join(&mut watcher, second, &owner).await;
    while heard(&mut watcher).await.1["id"] != second {}
    let (status, said) = call(&server, &owner, "POST", &format!("/jobs/{second}/cancel"), None).await;
    assert_eq!((status, &said["status"]), (200, &json!("cancelled")), "{said}");
    let cancelled = loop {
        let (_, shown) = heard(&mut watcher).await;
        if shown["status"] != "pending" {
            break shown;
        }
    };
    assert_eq!((&cancelled["status"], &cancelled["is_cancelled"]), (&json!("cancelled"), &json!(true)));
    let (_, credits) = call(&server, &owner, "GET", "/credits/me", None).await;
    assert_eq!((&credits["balance"], &credits["refunded"]), (&json!(9_998), &json!(50)));
    let (_, ledger) = call(&server, &owner, "GET", "/credits/ledger", None).await;
    let deltas: Vec<i64> =
        ledger.as_array().unwrap().iter().map(|line| line["delta_credits"].as_i64().unwrap()).collect();
    assert_eq!(deltas, [50, -50, -2, 10_000]);
    assert_eq!(call(&server, &other, "GET", "/credits/me", None).await.1["balance"], 10_000);

    // Settings and sessions.
    let (_, settings) =
        call(&server, &owner, "PUT", "/settings", Some(json!({ "sentence_length_limit": 12 }))).await;
    assert_eq!(settings["settings"]["sentence_length_limit"], 12);
    assert_eq!(call(&server, &owner, "GET", "/settings", None).await.1["sentence_length_limit"], 12);
    assert_eq!(call(&server, &other, "GET", "/settings", None).await.1["sentence_length_limit"], 8);
    assert_eq!(call(&server, &owner, "GET", "/auth/me", None).await.1["id"], 7);
    let refresh = token("7", "refresh", 600);
    let body = json!({ "refresh_token": refresh });
    let (status, renewed) =
        call(&server, &token("7", "access", -60), "POST", "/auth/refresh", Some(body)).await;
    assert_eq!(status, 200, "{renewed}");
    let renewed = renewed["access_token"].as_str().unwrap();
    assert_eq!(call(&server, renewed, "GET", &path, None).await.0, 200);
    assert_eq!(
        call(&server, &refresh, "GET", &path, None).await.0,
        422,
        "a refresh token gets new ones only"
    );
    assert_eq!(call(&server, &owner, "POST", "/auth/refresh", None).await.0, 422);
    assert_eq!(call(&server, &owner, "POST", "/auth/google", Some(json!({ "token": "x" }))).await.0, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_page_that_connects_five_hundred_times_leaves_the_server_calm() {
    const CONNECTIONS: usize = 500;
    let server = server().await;
    let owner = token("7", "access", 600);
    let job = confirm(&server, &owner, 1).await;
    let began = std::time::Instant::now();
    stream::iter(0..CONNECTIONS)
        .map(|_| async {
            let mut page = page(&server, &owner).await;
            join(&mut page, job, &owner).await;
            let (name, shown) = heard(&mut page).await;
            assert_eq!((name.as_str(), &shown["id"]), ("job_progress", &json!(job)));
            page.send(format!("42{}", json!(["leave_job", { "job_id": job }]))).await;
        })
        .buffer_unordered(50)
        .collect::<Vec<()>>()
        .await;
    println!("{CONNECTIONS} connections with a join each: {:?}", began.elapsed());
    wait_for("all pages to be gone", async || (server.clients() == 0).then_some(())).await;

    // Whoever is there is told; under the namespace of pages whose address has a path, too, until the token ends.
    let mut stays = page(&server, &owner).await;
    join(&mut stays, job, &owner).await;
    heard(&mut stays).await;
    let short = token("7", "access", 3);
    let mut apart = RawClient::connect(&server.base).await;
    apart.send(format!("40/api/v1,{}", json!({ "token": owner }))).await;
    assert!(apart.frame().await.unwrap().starts_with("40/api/v1,{\"sid\""));
    apart.send(format!("42/api/v1,{}", json!(["join_job", { "job_id": job, "token": short }]))).await;
    let told = apart.frame().await.unwrap();
    assert!(told.starts_with("42/api/v1,[\"job_progress\",{\"id\":"), "{told}");
    // Whoever was there already is shown it, too.
    assert_eq!(heard(&mut stays).await.1["id"], job);
    let over = loop {
        let frame = soon("the token's end", apart.frame()).await.unwrap();
        if !frame.contains("job_progress") {
            break frame;
        }
    };
    assert_eq!(over, "42/api/v1,[\"error\",{\"message\":\"token_expired\"}]");
    let cancelled = call(&server, &owner, "POST", &format!("/jobs/{job}/cancel"), None).await;
    assert_eq!(cancelled.0, 200);
    loop {
        if heard(&mut stays).await.1["status"] == "cancelled" {
            break;
        }
    }
    server.stop().await;
}

/// Claims the job that waits, as a worker without a program.
async fn claim(worker: &Caller) -> Value {
    let wish = json!({ "kinds": ["novel"], "worker": "w", "wait": 10 });
    let (status, claimed) = worker.post("/v1/work/claim", wish).await;
    assert_eq!(status, 200, "{claimed}");
    claimed
}

#[tokio::test]
async fn what_a_job_comes_to_is_settled_exported_tried_again_and_done_once_more() {
    let mut config = taking_tokens();
    config.novel_tool.exports_per_hour = 3;
    let server = Running::start(config).await;
    let (owner, other) = (token("7", "access", 600), token("8", "access", 600));
    let worker = Caller::new(&server.base, "robot", "work");
    let good = || Some(("conte.pdf", pdf(&["Il pleut. Il neige.".into(), "Il vente.".into()])));
    let post = async |path: String, body: Value| call(&server, &owner, "POST", &path, Some(body)).await;
    let deltas = async || -> Vec<i64> {
        let (_, ledger) = call(&server, &owner, "GET", "/credits/ledger", None).await;
        ledger.as_array().unwrap().iter().map(|line| line["delta_credits"].as_i64().unwrap()).collect()
    };

    // The text of a PDF, by which pages of the first generation know its price.
    let (status, text) = upload(&server, &owner, "/extract-pdf-text", good(), None).await;
    assert_eq!((status, text), (200, json!({ "text": "Il pleut. Il neige.\nIl vente.\n", "page_count": 2 })));
    for bad in [None, Some(("x.pdf", b"no".to_vec()))] {
        let (status, refused) = upload(&server, &owner, "/extract-pdf-text", bad, None).await;
        assert!(status == 400 && refused["error"].is_string(), "{status} {refused}");
    }

    let (status, refused) = call(&server, &owner, "DELETE", "/jobs", None).await;
    assert!(status == 405 && refused["error"].is_string(), "{status} {refused}");

    // A job that its page ends: what it cost is settled, once.
    let done = confirm(&server, &owner, 10).await;
    let ending = json!({ "job_id": done, "actual_tokens": 3500, "success": true });
    let path = format!("/jobs/{done}/finalize");
    assert_eq!(call(&server, &other, "POST", &path, Some(ending.clone())).await.0, 403);
    let (status, settled) = post(path.clone(), ending.clone()).await;
    assert_eq!(status, 200, "{settled}");
    assert_eq!(
        (&settled["status"], &settled["actual_credits"], &settled["adjustment"], &settled["refunded"]),
        (&json!("completed"), &json!(4), &json!(6), &json!(false))
    );
    let (status, again) = post(format!("/credits/jobs/{done}/finalize"), ending).await;
    assert_eq!((status, &again["error"]), (400, &json!("Cannot finalize job with status completed")));
    let (_, shown) = call(&server, &owner, "GET", &format!("/jobs/{done}"), None).await;
    assert_eq!((&shown["actual_tokens"], &shown["actual_credits"]), (&json!(3500), &json!(4)));
    assert_eq!(deltas().await, [6, -10, 10_000]);
    let failed = confirm(&server, &owner, 20).await;
    let ending =
        json!({ "actual_tokens": 0, "success": false, "error_message": "No luck", "error_code": "NO_LUCK" });
    let (_, settled) = post(format!("/jobs/{failed}/finalize"), ending).await;
    assert_eq!((&settled["refunded"], &settled["refund_amount"]), (&json!(true), &json!(20)), "{settled}");
    let (_, shown) = call(&server, &owner, "GET", &format!("/jobs/{failed}"), None).await;
    assert_eq!((&shown["error_message"], &shown["error_code"]), (&json!("No luck"), &json!("NO_LUCK")));
    assert_eq!(
        deltas().await,
        [20, -20, 6, -10, 10_000],
        "the refund is there without a look at the credits"
    );
    let (status, refused) = post(format!("/history/{failed}/retry"), json!({})).await;
    assert_eq!(status, 400, "it has no PDF: {refused}");

    // A job whose worker fails is tried again under its number, with its PDF and its settings, and paid for anew.
    let tried = confirm(&server, &owner, 30).await;
    assert_eq!(upload(&server, &owner, "/process-pdf-async", good(), Some(tried)).await.0, 202);
    let mut watcher = page(&server, &owner).await;
    join(&mut watcher, tried, &owner).await;
    let claimed = claim(&worker).await;
    let at =
        |claimed: &Value, what: &str| format!("/v1/work/{}/{what}", claimed["job"]["id"].as_str().unwrap());
    let why = json!({ "fence": claimed["fence"], "error": "It is encrypted", "retry": false });
    assert_eq!(worker.post(&at(&claimed, "fail"), why).await.0, 200);
    let told = loop {
        let (_, shown) = heard(&mut watcher).await;
        if shown["status"] == "failed" {
            break shown;
        }
    };
    assert_eq!((&told["error_message"], &told["progress_percent"]), (&json!("It is encrypted"), &json!(100)));
    assert_eq!(deltas().await[..2], [30, -30]);
    assert_eq!(call(&server, &other, "POST", &format!("/history/{tried}/retry"), None).await.0, 404);
    let (status, retried) = post(format!("/history/{tried}/retry"), json!({})).await;
    assert_eq!(
        (status, &retried["entry_id"], &retried["job_id"]),
        (200, &json!(tried), &json!(tried)),
        "{retried}"
    );
    assert_eq!(retried["settings"]["sentence_length_limit"], 6);
    assert_eq!(post(format!("/history/{tried}/retry"), json!({})).await.0, 400, "it is at work");
    assert_eq!(deltas().await[..3], [-30, 30, -30]);

    // This time there are more sentences than a document may hold: they come in a file, and whole.
    let claimed = claim(&worker).await;
    assert_eq!(claimed["document"]["settings"]["sentence_length_limit"], "6", "{claimed}");
    assert_eq!(claimed["artifacts"][0]["name"], "input.pdf");
    let long = "mot ".repeat(20);
    let sentences: Vec<Value> =
        (0..10_000).map(|n| json!({ "normalized": format!("{n} {long}"), "original": long })).collect();
    let file = json!({ "0": sentences }).to_string();
    let size = file.len();
    assert!(size > 1_500_000);
    let fence = claimed["fence"].as_i64().unwrap();
    let put = at(&claimed, &format!("artifacts/sentences.json?fence={fence}"));
    let put = worker.request(reqwest::Method::PUT, &put).body(file).send().await.unwrap();
    assert_eq!(put.status(), 200);
    join(&mut watcher, tried, &owner).await;
    let chunk = json!({ "chunk_id": 0, "status": "success", "sentence_count": 10_000, "tokens": 9, "start_page": 1, "end_page": 2 });
    let patch =
        json!({ "chunk_results": { "0": chunk }, "sentences": "sentences.json", "actual_tokens": 2100 });
    let finish = json!({ "fence": fence, "events": [{ "type": "patch", "patch": patch }] });
    assert_eq!(worker.post(&at(&claimed, "finish"), finish).await.0, 200);
    let last = loop {
        let (_, shown) = heard(&mut watcher).await;
        if shown["status"] == "completed" {
            break shown;
        }
    };
    assert_eq!(last["chunk_results"][0]["sentences"].as_array().unwrap().len(), 10_000);
    assert_eq!((&last["history_id"], &last["retry_count"]), (&json!(tried), &json!(1)));
    assert_eq!(
        call(&server, &owner, "GET", &format!("/jobs/{tried}"), None).await.1,
        last,
        "by REST as well"
    );
    let ending = json!({ "actual_tokens": 1, "success": true });
    let (_, settled) = post(format!("/jobs/{tried}/finalize"), ending).await;
    assert_eq!(settled["actual_credits"], 3, "what its worker counted counts: {settled}");

    // Its spreadsheet opens in a new tab, without a token, and belongs to it alone.
    let (status, exported) = post(format!("/history/{tried}/export"), json!({})).await;
    assert_eq!(status, 200, "{exported}");
    let address = exported["spreadsheet_url"].as_str().unwrap();
    let sheet = server.http.get(address).send().await.unwrap();
    assert_eq!(sheet.status(), 200);
    let sheet = std::io::Cursor::new(sheet.bytes().await.unwrap());
    let mut book: calamine::Xlsx<_> = calamine::open_workbook_from_rs(sheet).unwrap();
    let rows = book.worksheet_range_at(0).unwrap().unwrap();
    assert_eq!(rows.height(), 10_001);
    assert_eq!(
        rows.get_value((1, 1)).unwrap().to_string().trim(),
        sentences[0]["normalized"].as_str().unwrap().trim()
    );
    let wish = json!({ "sentences": ["=1+1", "Deux."], "sheetName": "A/B", "headers": ["Sentence"], "sentenceIndices": [0] });
    assert_eq!(
        call(&server, &other, "POST", "/export-to-sheet", Some(wish.clone())).await.0,
        400,
        "no job of theirs"
    );
    let (status, exported) = post("/export-to-sheet".into(), wish).await;
    assert_eq!(status, 200, "{exported}");
    let (_, history) = call(&server, &owner, "GET", "/history", None).await;
    assert_eq!((&history[0]["id"], &history[0]["exported_to_sheets"]), (&json!(tried), &json!(true)));
    let append = json!({ "sentences": ["x"], "sheetName": "x", "mode": "append" });
    assert_eq!(post("/export-to-sheet".into(), append.clone()).await.0, 400);
    let response = server.http.post(server.url("/api/v1/export-to-sheet")).bearer_auth(&owner).json(&append);
    let response = response.send().await.unwrap();
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    assert_eq!(answer(response).await, (429, json!({ "error": "3 per 1 hour" })));

    // Once more as a job of its own.
    let (status, twin) = post(format!("/history/{tried}/duplicate"), json!({})).await;
    assert_eq!((status, &twin["original_filename"]), (200, &json!("conte.pdf")), "{twin}");
    assert_ne!(twin["job_id"], tried);
    assert_eq!(deltas().await[0], -30);
    let claimed = claim(&worker).await;
    let (_, shown) = call(&server, &owner, "GET", &format!("/jobs/{}", twin["job_id"]), None).await;
    assert_eq!(claimed["job"]["id"], shown["celery_task_id"], "{claimed}");
    let files = claimed["artifacts"].as_array().unwrap();
    assert!(files.iter().any(|file| file["name"] == "input.pdf"), "{claimed}");
    let finish = json!({ "fence": claimed["fence"] });
    assert_eq!(worker.post(&at(&claimed, "finish"), finish).await.0, 200);
    let (_, history) = call(&server, &owner, "GET", "/history?limit=1", None).await;
    assert_eq!(
        (&history[0]["id"], &history[0]["exported_to_sheets"]),
        (&twin["job_id"], &json!(false)),
        "the other one's sheet is not its own"
    );
    assert_eq!(call(&server, &other, "DELETE", &format!("/history/{tried}"), None).await.0, 404);
    assert_eq!(call(&server, &owner, "DELETE", &format!("/history/{tried}"), None).await.0, 200);
    assert_eq!(call(&server, &owner, "GET", &format!("/history/{tried}"), None).await.0, 404);
    server.stop().await;
}

/// What a stock page is shown next of its job, through whatever becomes of its connection.
async fn shown_to(page: &mut Page, returns: &mut Vec<bool>) -> Value {
    loop {
        let heard = page.hear_on(returns).await;
        assert_ne!(heard.name, "error", "{heard:?}");
        if heard.name == "job_progress" {
            return heard.payload;
        }
    }
}

#[tokio::test]
async fn a_stock_page_whose_line_is_cut_sees_the_whole_job_of_the_example_worker() {
    let server = server().await;
    let owner = token("7", "access", 600);
    let job = confirm(&server, &owner, 2).await;
    let line = Proxy::start(&server.base).await;
    let mut url = line.url();
    url.set_query(Some(&format!("token={owner}")));
    let mut page = Page::start(Stock::V4_WEBSOCKET, &url);
    let join = json!(["join_job", { "job_id": job, "token": owner }]);
    page.connect_hearing(&["job_progress", "error"], &[join]).await;
    let mut returns = Vec::new();
    assert_eq!(shown_to(&mut page, &mut returns).await["status"], "pending");

    let text: Vec<String> = (1..=35).map(|page| format!("La page {page} est assez courte.")).collect();
    let file = Some(("conte.pdf", pdf(&text)));
    assert_eq!(upload(&server, &owner, "/process-pdf-async", file, Some(job)).await.0, 202);
    let worker = example(&server).await;
    while shown_to(&mut page, &mut returns).await["status"] == "pending" {}
    line.cut();
    let last = loop {
        let shown = shown_to(&mut page, &mut returns).await;
        if shown["status"] != "processing" {
            break shown;
        }
    };
    assert_eq!((&last["status"], &last["progress_percent"]), (&json!("completed"), &json!(100)), "{last}");
    let sentences: usize = last["chunk_results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chunk| chunk["sentences"].as_array().unwrap().len())
        .sum();
    assert_eq!(sentences, 35);
    assert!(soon("the worker's end", worker.wait_with_output()).await.unwrap().status.success());
    // Should all have been over before the line was cut, it is shown it again.
    if returns.is_empty() {
        page.comes_back().await;
        assert_eq!(shown_to(&mut page, &mut returns).await, last);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_pdf_that_holds_no_text_fails_with_a_sentence_that_says_what_to_do() {
    let server = server().await;
    let owner = token("7", "access", 600);
    let mut watcher = page(&server, &owner).await;
    let job = confirm(&server, &owner, 5).await;
    join(&mut watcher, job, &owner).await;
    let scan = Some(("scan.pdf", pdf(&[String::new(), String::new()])));
    assert_eq!(upload(&server, &owner, "/process-pdf-async", scan, Some(job)).await.0, 202);
    let worker = example(&server).await;
    let failed = loop {
        let (_, shown) = heard(&mut watcher).await;
        if shown["status"] == "failed" {
            break shown;
        }
    };
    let why = failed["error_message"].as_str().unwrap();
    assert!(why.starts_with("No text was found on the 2 pages of the PDF"), "{why}");
    assert_eq!(call(&server, &owner, "GET", "/me/credits", None).await.1["balance"], 10_000);
    assert!(soon("the worker's end", worker.wait_with_output()).await.unwrap().status.success());
    server.stop().await;
}
