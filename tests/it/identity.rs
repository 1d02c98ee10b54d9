//! Who may do what, through every door: owners, others, nobody in particular, and tokens and keys that are no good.

use std::{
    collections::HashSet,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{TimeDelta, Utc};
use futures_util::StreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jobcast::{config::Config, job::JobId};
use reqwest::Method;
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::{
    label_library::job_with_labels,
    raw_client::{RawClient, Told},
    support::{PATIENCE, Running, answer, soon},
    workers::taking_tokens,
};

pub const SECRET: &str = "a secret of the tests that is long enough";

/// A server whose owners show tokens, and where anybody may come in.
async fn open(change: impl FnOnce(&mut Config)) -> Running {
    let mut config = taking_tokens();
    config.auth.leeway = Duration::ZERO;
    config.auth.recheck = Duration::from_secs(1);
    change(&mut config);
    Running::start(config).await
}

/// A token, made by hand: nothing of the server's own signs what its tests check.
fn assemble(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", part(&signature))
}

fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let mut code = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    code.update(message);
    code.finalize().into_bytes().to_vec()
}

/// A token of a subject with more claims, or others.
fn token(sub: impl Into<Value>, more: Value) -> String {
    let now = Utc::now().timestamp();
    let mut claims = json!({ "sub": sub.into(), "iat": now, "exp": now + 600 });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    signed(&claims)
}

/// A token with these claims.
pub fn signed(claims: &Value) -> String {
    assemble(&json!({ "alg": "HS256", "typ": "JWT" }), claims, |text| hs256(SECRET.as_bytes(), text))
}

pub fn of(sub: &str) -> String {
    token(sub, json!({}))
}

/// The status and body of a request of somebody; of nobody in particular without a token.
pub async fn call(
    server: &Running,
    who: Option<&str>,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let mut request = server.http.request(Method::from_bytes(method.as_bytes()).unwrap(), server.url(path));
    if let Some(token) = who {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| json!(body.len())))
}

/// A job of somebody, with a screenshot and a reading; its id and the reading's.
async fn job_of(server: &Running, who: Option<&str>) -> (String, String) {
    let (status, body) = call(server, who, "POST", "/api/test-websocket/run", None).await;
    assert_eq!(status, 200, "{body}");
    (body["jobId"].as_str().unwrap().into(), body["ocrResultId"].as_str().unwrap().into())
}

/// The names and jobs of the broadcasts that a client was told so far: until the answer to a question of its own.
async fn heard(client: &mut RawClient) -> HashSet<String> {
    let asked = client.ask(&json!(["ping"])).await;
    let mut jobs = HashSet::new();
    loop {
        match client.next().await.expect("an answer") {
            Told::Event { name, arguments } if name == "job:created" => {
                jobs.insert(arguments[0]["jobId"].as_str().unwrap().to_owned());
            }
            Told::Ack { id, .. } if id == asked => return jobs,
            _ => {}
        }
    }
}

#[tokio::test]
async fn nobody_learns_of_a_job_that_is_somebody_elses_through_any_door() {
    let server = open(|_| {}).await;
    let (owner, other, admin) = (of("7"), of("8"), token("1", json!({ "roles": ["admin"] })));
    let connect = async |token: Option<&str>| {
        let claim = token.map_or(json!({}), |token| json!({ "token": token }));
        RawClient::come_back(&server.base, &claim).await
    };
    let mut listeners = [
        connect(Some(&owner)).await,
        connect(Some(&other)).await,
        connect(Some(&admin)).await,
        connect(None).await,
    ];
    let (job, reading) = job_of(&server, Some(&owner)).await;
    let (others, _) = job_of(&server, Some(&other)).await;
    let (nobodys, _) = job_of(&server, None).await;

    // Broadcasts go to those who may know.
    let all = [&job, &others, &nobodys];
    let expected = [vec![&job], vec![&others], all.to_vec(), vec![&nobodys]];
    for (listener, expected) in listeners.iter_mut().zip(expected) {
        let last = *expected.last().unwrap();
        let mut told = heard(listener).await;
        while !told.contains(last) {
            told.extend(heard(listener).await);
        }
        assert_eq!(told, expected.into_iter().cloned().collect());
    }

    // For everybody else it is as if it were not there: each answer is the same as for an id that no job has.
    let unknown = Uuid::now_v7().to_string();
    let doors = [
        ("GET", "/v1/jobs/{}"),
        ("PATCH", "/v1/jobs/{}"),
        ("DELETE", "/v1/jobs/{}"),
        ("POST", "/v1/jobs/{}/cancel"),
        ("POST", "/v1/jobs/{}/pause"),
        ("POST", "/v1/jobs/{}/resume"),
        ("POST", "/v1/jobs/{}/retry"),
        ("GET", "/v1/jobs/{}/events"),
        ("GET", "/v1/jobs/{}/events?wait=1s"),
        ("GET", "/api/automation/jobs/{}"),
        ("GET", "/api/automation/jobs/{}/progress"),
        ("GET", "/api/automation/jobs/{}/labels"),
        ("GET", "/api/automation/jobs/{}/labels/0"),
        ("POST", "/api/automation/jobs/{}/cancel"),
        ("POST", "/api/automation/jobs/{}/pause"),
        ("POST", "/api/automation/jobs/{}/resume"),
        ("POST", "/api/automation/jobs/{}/retry"),
        ("DELETE", "/api/automation/jobs/{}"),
        ("GET", "/api/crawler/jobs/{}"),
        ("GET", "/api/crawler/screenshots/{}"),
        ("POST", "/api/crawler/stop/{}"),
        ("POST", "/api/ocr/process-job/{}"),
        ("GET", "/api/ocr/status/{}"),
        ("GET", "/api/images/list/{}/TEST-123"),
        ("GET", "/api/images/screenshots/{}/TEST-123/screenshot.png"),
    ];
    let priority = json!({ "priority": 3 });
    for (method, door) in doors {
        let body = (method == "PATCH").then_some(&priority);
        for who in [Some(other.as_str()), None] {
            let mut answers = Vec::new();
            for id in [&job, &unknown] {
                let (status, said) = call(&server, who, method, &door.replace("{}", id), body).await;
                answers.push((status, said.to_string().replace(id, "…")));
            }
            assert_eq!(answers[0], answers[1], "{method} {door}");
            assert_eq!(answers[0].0, 404, "{method} {door}");
        }
    }
    let (status, _) = call(&server, Some(&other), "GET", &format!("/api/ocr/status/{reading}"), None).await;
    assert_eq!(status, 404);
    for who in [&owner, &admin] {
        for door in doors.iter().filter(|(method, _)| *method == "GET").map(|(_, door)| door) {
            if door.contains("/labels/0") {
                continue;
            }
            let (status, said) = call(&server, Some(who), "GET", &door.replace("{}", &job), None).await;
            assert_eq!(status, 200, "{door}: {said}");
        }
    }

    // Lists and counts.
    for (path, count) in [
        ("/v1/jobs", "/total"),
        ("/api/automation/jobs", "/total"),
        ("/api/automation/stats", "/stats/totalJobs"),
        ("/api/crawler/jobs", "/data"),
    ] {
        for (who, expected) in [(Some(&owner), 1), (Some(&other), 1), (None, 1), (Some(&admin), 3)] {
            let (_, list) = call(&server, who.map(String::as_str), "GET", path, None).await;
            let counted = match list.pointer(count).unwrap() {
                Value::Array(items) => items.len() as u64,
                number => number.as_u64().unwrap(),
            };
            assert_eq!(counted, expected, "{path}: {list}");
        }
    }

    // Sockets.
    let id: JobId = job.parse().unwrap();
    for (listener, sees) in listeners.iter_mut().zip([true, false, true, false]) {
        let subscribed = listener.subscribe(id).await;
        assert_eq!(subscribed["ok"], sees, "{subscribed}");
        if !sees {
            assert_eq!(subscribed["error"]["code"], "job_not_found");
            for order in ["job:cancel", "job:pause", "job:resume", "job:retry"] {
                let answer = listener.call(json!([order, job])).await;
                assert_eq!(answer["error"]["code"], "job_not_found", "{order}");
            }
        }
    }

    // Schedules, and keys of requests that come again.
    let schedule = json!({
        "name": "mine", "cron": "0 6 * * *", "job": { "shopUrl": "https://shop.example.com/" },
    });
    let (status, made) = call(&server, Some(&owner), "POST", "/v1/schedules", Some(&schedule)).await;
    assert_eq!((status, &made["owner"]), (201, &json!("7")));
    let schedule = format!("/v1/schedules/{}", made["id"].as_str().unwrap());
    for (who, expected) in [(Some(&owner), 200), (Some(&other), 404), (None, 404), (Some(&admin), 200)] {
        let who = who.map(String::as_str);
        assert_eq!(call(&server, who, "GET", &schedule, None).await.0, expected);
        let (_, list) = call(&server, who, "GET", "/v1/schedules", None).await;
        assert_eq!(list["total"], u64::from(expected == 200));
    }
    for (method, path) in [("DELETE", schedule.clone()), ("POST", format!("{schedule}/run"))] {
        assert_eq!(call(&server, Some(&other), method, &path, None).await.0, 404);
    }
    let mut made = HashSet::new();
    for who in [&owner, &other] {
        let request =
            server.http.post(server.url("/v1/jobs")).bearer_auth(who).header("idempotency-key", "same");
        let request = request.json(&json!({ "shopUrl": "https://shop.example.com/" }));
        let (status, job) = answer(request.send().await.unwrap()).await;
        assert_eq!(status, 201);
        made.insert(job["id"].to_string());
    }
    assert_eq!(made.len(), 2, "one's key does not lead to the other's job");
    server.stop().await;
}

#[tokio::test]
async fn labels_and_articles_are_those_of_the_owner_of_the_jobs_that_made_them() {
    let server = open(|_| {}).await;
    let pool = sqlx::PgPool::connect(&server.database).await.unwrap();
    let (owner, other, admin) = (of("7"), of("8"), token("1", json!({ "roles": ["admin"] })));
    let (_, label) = job_with_labels(server.store(), &pool, "7").await;
    let article = json!({ "articleNumber": "A-1", "productName": "Schraube", "price": 3.5 });
    let made = call(&server, Some(&owner), "POST", "/api/articles", Some(&article)).await;
    assert_eq!(made.0, 201, "{}", made.1);
    let taken = call(&server, Some(&owner), "POST", "/api/articles", Some(&article)).await;
    assert_eq!(taken.0, 409);
    let article_id = made.1["data"]["id"].as_str().unwrap().to_owned();

    // Lists and counts.
    for (path, count) in [
        ("/api/labels", "/total"),
        ("/api/labels/search?q=Schraube", "/total"),
        ("/api/labels/stats", "/data/totalLabels"),
        ("/api/articles", "/pagination/total"),
        ("/api/articles/stats", "/data/total"),
    ] {
        for (who, expected) in [(Some(&owner), 1), (Some(&other), 0), (None, 0), (Some(&admin), 1)] {
            let (status, list) = call(&server, who.map(String::as_str), "GET", path, None).await;
            assert_eq!((status, list.pointer(count)), (200, Some(&json!(expected))), "{path}: {list}");
        }
    }

    // Each by itself: for others as if it were not there.
    let unknown = Uuid::now_v7().to_string();
    let label = label.to_string();
    let new_name = json!({ "productName": "Mine" });
    for (method, door, id, body) in [
        ("GET", "/api/labels/{}", &label, None),
        ("GET", "/api/labels/{}/image", &label, None),
        ("GET", "/api/labels/{}/thumbnail", &label, None),
        ("PUT", "/api/labels/{}", &label, Some(&new_name)),
        ("POST", "/api/labels/duplicate/{}", &label, None),
        ("DELETE", "/api/labels/{}", &label, None),
        ("GET", "/api/articles/{}", &article_id, None),
        ("PUT", "/api/articles/{}", &article_id, Some(&new_name)),
        ("DELETE", "/api/articles/{}", &article_id, None),
    ] {
        for who in [Some(other.as_str()), None] {
            let mut answers = Vec::new();
            for id in [id, &unknown] {
                let (status, said) = call(&server, who, method, &door.replace("{}", id), body).await;
                answers.push((status, said.to_string().replace(id, "…")));
            }
            assert_eq!(answers[0], answers[1], "{method} {door}");
            assert_eq!(answers[0].0, 404, "{method} {door}");
        }
    }
    let print = json!({
        "layout": { "paperFormat": { "type": "A4" }, "gridLayout": { "columns": 1, "rows": 1 } },
        "labelIds": [label],
    });
    for path in ["/api/print/preview", "/api/print/export"] {
        let (status, said) = call(&server, Some(&other), "POST", path, Some(&print)).await;
        assert_eq!(status, 404, "{path}: {said}");
        let (status, said) = call(&server, Some(&owner), "POST", path, Some(&print)).await;
        assert_eq!(status, 200, "{path}: {said}");
    }
    for (path, body) in [
        ("/api/labels/batch", json!({ "operation": "delete", "labelIds": [label] })),
        ("/api/labels/batch", json!({ "operation": "export", "labelIds": [label] })),
        ("/api/articles/bulk-delete", json!({ "ids": [article_id] })),
        ("/api/articles/bulk-update", json!({ "ids": [article_id], "data": new_name })),
        ("/api/articles/export", json!({ "format": "json", "ids": [article_id] })),
    ] {
        let (status, said) = call(&server, Some(&other), "POST", path, Some(&body)).await;
        assert_eq!(status, 200, "{path}: {said}");
        assert!(!said.to_string().contains("Schraube"), "{path}: {said}");
    }
    let from = json!({ "articleId": article_id });
    let (status, _) =
        call(&server, Some(&other), "POST", "/api/labels/generate-from-article", Some(&from)).await;
    assert_eq!(status, 404);

    // Another owner may have an article of that number, and nothing of the first one's was touched.
    let second = json!({ "articleNumber": "A-1", "productName": "Other", "price": 1 });
    assert_eq!(call(&server, Some(&other), "POST", "/api/articles", Some(&second)).await.0, 201);
    let (_, shown) = call(&server, Some(&owner), "GET", &format!("/api/articles/{article_id}"), None).await;
    assert_eq!(shown["data"]["productName"], "Schraube");
    assert_eq!(call(&server, Some(&owner), "GET", &format!("/api/labels/{label}"), None).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn an_object_is_for_those_who_may_see_its_job_or_were_given_its_address() {
    let server = open(|_| {}).await;
    let (owner, other) = (of("7"), of("8"));
    let object_of = async |who: Option<&str>, job: &str| {
        let (_, page) = call(&server, who, "GET", &format!("/v1/jobs/{job}/events"), None).await;
        let events = page["events"].as_array().unwrap().clone();
        let captured = events.into_iter().find(|event| event["event"] == "screenshot:captured").unwrap();
        captured["data"]["url"].as_str().unwrap().to_owned()
    };
    let (job, _) = job_of(&server, Some(&owner)).await;
    let (nobodys, _) = job_of(&server, None).await;
    let signed = object_of(Some(&owner), &job).await;
    let plain = signed.split('?').next().unwrap();
    let get = async |address: &str, who: Option<&str>| {
        let mut request = server.http.get(address);
        if let Some(token) = who {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(get(&signed, None).await, 200, "a page shows it without a header");
    assert_eq!(get(plain, Some(&owner)).await, 200);
    assert_eq!(get(&format!("{plain}?token={owner}"), None).await, 200);
    assert_eq!(get(plain, Some(&other)).await, 404);
    assert_eq!(get(plain, None).await, 404);
    assert_eq!(get(&signed.replace("signature=", "signature=A"), None).await, 404);
    assert_eq!(get(&plain.replace("/cdn/", "/cdn/tr:w-50/"), None).await, 404);
    let key = plain.split_once("/cdn/").unwrap().1;
    for (who, expected) in [(Some(&owner), 200), (Some(&other), 404), (None, 404)] {
        let path = format!("/v1/objects?key={key}");
        assert_eq!(call(&server, who.map(String::as_str), "GET", &path, None).await.0, expected);
    }
    // What nobody in particular made is for everybody, as long as anybody may come in.
    let public = object_of(None, &nobodys).await;
    let public = public.split('?').next().unwrap();
    assert_eq!(get(public, None).await, 200);
    assert_eq!(get(public, Some("nonsense")).await, 200);
    server.stop().await;
}

/// The code of a refusal, in the words of whoever said it.
fn code(said: &Value) -> String {
    let error = &said["error"];
    error["code"].as_str().or(error.as_str()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_token_or_key_that_is_no_good_is_refused_at_every_door_with_the_reason() {
    let server = open(|config| {
        config.auth.anonymous = false;
        config.auth.issuer = "https://id.example.com/".into();
        config.auth.audience = "jobcast".into();
    })
    .await;
    let now = Utc::now().timestamp();
    let right = json!({ "iss": "https://id.example.com/", "aud": ["other", "jobcast"] });
    let with = |name: &str, value: Value| {
        let mut claims = right.clone();
        claims[name] = value;
        token("7", claims)
    };
    let good = with("scope", json!("openid jobs:read jobs:write"));
    let claims = json!({ "sub": "7", "exp": now + 600, "iss": right["iss"], "aud": "jobcast" });
    let unsigned = assemble(&json!({ "alg": "none" }), &claims, |_| Vec::new());
    let forged = assemble(&json!({ "alg": "HS256" }), &claims, |text| hs256(b"another secret", text));
    let cases = [
        ("token_expired", with("exp", json!(now - 1))),
        ("invalid_token", with("exp", json!("tomorrow"))),
        ("invalid_token", with("exp", Value::Null)),
        ("invalid_token", with("nbf", json!(now + 60))),
        ("invalid_token", with("iss", json!("https://other.example.com/"))),
        ("invalid_token", with("aud", json!("other"))),
        ("invalid_token", with("sub", Value::Null)),
        ("invalid_token", with("sub", json!("anonymous"))),
        ("invalid_token", with("type", json!("refresh"))),
        ("invalid_token", forged),
        ("invalid_token", unsigned),
        ("invalid_token", good[..good.len() - 4].to_owned()),
        ("invalid_token", "x".repeat(9000)),
        ("invalid_token", "jc_0123456789_nobody-knows-this-key".to_owned()),
    ];
    for (expected, token) in &cases {
        let short = &token[..token.len().min(80)];
        let response = server.http.get(server.url("/v1/jobs")).bearer_auth(token).send().await.unwrap();
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.starts_with("Bearer") && challenge.contains("invalid_token"), "{challenge}");
        let (status, said) = answer(response).await;
        assert_eq!((status, code(&said).as_str()), (401, *expected), "{said} {short}");
        let (status, said) = call(&server, Some(token), "GET", "/api/automation/jobs", None).await;
        assert_eq!(status, 401, "{said}");
        assert!(said["error"].as_str().unwrap().len() > 20 && said.get("success").is_none(), "{said}");
        let (status, said) = call(&server, Some(token), "GET", "/api/articles", None).await;
        assert_eq!((status, &said["success"]), (401, &json!(false)), "{said}");
        assert_eq!(RawClient::refused(&server.base, &json!({ "token": token })).await, *expected, "{short}");
    }
    // Through the other ways to send one.
    let expired = &cases[0].1;
    let by_query = server.http.get(server.url(&format!("/v1/jobs?token={expired}"))).send().await.unwrap();
    assert_eq!(code(&answer(by_query).await.1), "token_expired");
    let by_header =
        server.http.get(server.url("/v1/jobs")).header("x-api-key", expired).send().await.unwrap();
    assert_eq!(code(&answer(by_header).await.1), "token_expired");
    let mut base = server.base.clone();
    base.set_query(Some(&format!("token={expired}")));
    assert_eq!(RawClient::refused(&base, &json!({})).await, "token_expired");

    // Nobody in particular is nobody here.
    let response = server.http.get(server.url("/v1/jobs")).send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"jobcast\"");
    assert_eq!(code(&answer(response).await.1), "unauthenticated");
    assert_eq!(RawClient::refused(&server.base, &json!({})).await, "unauthenticated");
    for open in ["/livez", "/healthz", "/readyz", "/openapi.json", "/docs/"] {
        assert_eq!(server.http.get(server.url(open)).send().await.unwrap().status(), 200, "{open}");
    }

    // And the good one is good, wherever it stands; a number as subject is a text.
    assert_eq!(call(&server, Some(&good), "GET", "/v1/jobs", None).await.0, 200);
    base.set_query(Some(&format!("token={}", with("sub", json!(7)))));
    RawClient::connect(&base).await;
    let (_, job) = call(
        &server,
        Some(&with("sub", json!(7))),
        "POST",
        "/v1/jobs",
        Some(&json!({ "shopUrl": "https://shop.example.com/" })),
    )
    .await;
    assert_eq!(job["owner"], "7");
    // A scope is needed for what it names.
    let reader = with("scope", json!("jobs:read"));
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(call(&server, Some(&reader), "GET", &path, None).await.0, 200);
    let (status, said) = call(&server, Some(&reader), "POST", &format!("{path}/cancel"), None).await;
    assert_eq!((status, code(&said).as_str()), (403, "forbidden"));
    let mut socket = RawClient::come_back(&server.base, &json!({ "token": reader })).await;
    assert_eq!(socket.call(json!(["job:cancel", job["id"]])).await["error"]["code"], "forbidden");
    server.stop().await;
}

#[tokio::test]
async fn callers_behind_a_trusted_proxy_are_counted_apart_and_nobody_elses_word_counts() {
    for (proxies, other_callers) in [("127.0.0.1/32", false), ("10.0.0.0/8", true)] {
        let server = open(|config| {
            config.server.trusted_proxies = vec![proxies.parse().unwrap()];
            config.novel_tool.exports_per_hour = 1;
        })
        .await;
        let mut refused = Vec::new();
        for caller in ["203.0.113.7", "203.0.113.7", "203.0.113.8"] {
            let call = server.http.post(server.url("/api/v1/export-to-sheet"));
            let call = call.header("x-forwarded-for", caller).json(&json!({}));
            refused.push(call.send().await.unwrap().status() == 429);
        }
        assert_eq!(refused, [false, true, other_callers], "{proxies}");
        server.stop().await;
    }
}

#[tokio::test]
async fn pages_of_strange_origins_cannot_open_sockets() {
    let server = open(|config| config.server.cors_origins = vec!["https://pages.example.com".into()]).await;
    let own = format!("http://{}", server.base.authority());
    for (origin, status) in
        [("https://pages.example.com", 200), (&own, 200), ("https://evil.example.com", 403), ("null", 403)]
    {
        let url = server.url("/socket.io/?EIO=4&transport=polling");
        let response = server.http.get(url).header("origin", origin).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{origin}");
    }
    server.stop().await;
}

#[tokio::test]
async fn open_connections_end_with_their_tokens_and_keys_and_come_back_with_new_ones() {
    let server = open(|_| {}).await;
    let short = || token("7", json!({ "exp": Utc::now().timestamp() + 3 }));
    let connected = short();
    let mut socket = RawClient::come_back(&server.base, &json!({ "token": connected })).await;
    let (job, _) = job_of(&server, Some(&of("7"))).await;
    let running = {
        let body = json!({ "shopUrl": "https://shop.example.com/" });
        let (_, made) = call(&server, Some(&of("7")), "POST", "/v1/jobs", Some(&body)).await;
        made["id"].as_str().unwrap().to_owned()
    };
    let stream = server
        .http
        .get(server.url(&format!("/v1/jobs/{running}/events?token={}", short())))
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    let mut raw = server.url(&format!("/v1/jobs/{running}/socket?token={}", short()));
    raw.set_scheme("ws").unwrap();
    let (mut raw, _) = tokio_tungstenite::connect_async(raw.as_str()).await.unwrap();
    assert_eq!(socket.subscribe(&job).await["ok"], true);
    let mut told = Vec::new();
    let mut offset = String::new();
    while let Some(next) = soon("the end of the socket", socket.next()).await {
        if let Told::Event { name, arguments } = next {
            if let Some(at) = arguments.get(1).and_then(Value::as_str) {
                offset = at.to_owned();
            }
            told.push((name, arguments));
        }
    }
    let last: Vec<_> = told.iter().rev().take(2).collect();
    assert_eq!((last[0].0.as_str(), &last[0].1[0]["message"]), ("error", &json!("token_expired")));
    assert_eq!(last[1].0, "system:notification");
    assert_eq!(last[1].1[0]["details"]["code"], "token_expired");
    let close = loop {
        if let Message::Close(Some(close)) = soon("the raw socket's end", raw.next()).await.unwrap().unwrap()
        {
            break close;
        }
    };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1008, "the token is good no more"));
    // The stream says why, and ends.
    let mut text = String::new();
    let mut chunks = stream.bytes_stream();
    while let Some(chunk) = soon("the end of the stream", chunks.next()).await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    assert!(text.contains("event: unauthenticated\ndata: {\"code\":\"token_expired\""), "{text}");

    // Another one does not get the session, and does not take it from its client.
    let claim = |token: &str| json!({ "token": token, "pid": socket.pid, "offset": offset });
    let (owner, other) = (of("7"), of("8"));
    let thief = RawClient::come_back(&server.base, &claim(&other)).await;
    assert_ne!(thief.pid, socket.pid);
    let nobody = RawClient::come_back(&server.base, &json!({ "pid": socket.pid, "offset": offset })).await;
    assert_ne!(nobody.pid, socket.pid);
    let back = RawClient::come_back(&server.base, &claim(&owner)).await;
    assert_eq!(back.pid, socket.pid, "the owner's session goes on with a new token");

    // A key that is revoked ends what was opened with it.
    let key = jobcast(&server, &["key", "create", "test", "--subject", "7", "--json"]);
    let key: Value = serde_json::from_str(&key).unwrap();
    let text = key["key"].as_str().unwrap();
    let mut socket = RawClient::come_back(&server.base, &json!({ "token": text })).await;
    assert_eq!(socket.subscribe(&job).await["ok"], true);
    let by_header = server.http.get(server.url("/v1/jobs")).header("x-api-key", text).send().await.unwrap();
    assert_eq!(by_header.status(), 200);
    let list = jobcast(&server, &["key", "list", "--json"]);
    let listed: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(listed["prefix"], key["prefix"]);
    assert!(listed["lastUsedAt"].is_string() && !list.contains(text), "{list}");
    jobcast(&server, &["key", "revoke", key["prefix"].as_str().unwrap()]);
    let (status, said) = call(&server, Some(text), "GET", "/v1/jobs", None).await;
    assert_eq!((status, code(&said).as_str()), (401, "invalid_token"));
    while soon("the end of the socket", socket.next()).await.is_some() {}
    assert_eq!(jobcast(&server, &["key", "list"]), "");

    // A token of the command line is as good as any.
    let made = jobcast(&server, &["token", "--sub", "7", "--scope", "jobs:read", "--ttl", "5m"]);
    let (status, list) = call(&server, Some(made.trim()), "GET", "/v1/jobs", None).await;
    assert_eq!((status, &list["total"]), (200, &json!(2)));
    server.stop().await;
}

/// What a command says that exits well.
fn jobcast(server: &Running, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_jobcast"))
        .args(arguments)
        .env("DATABASE_URL", &server.database)
        .env("JOBCAST__AUTH__JWT_SECRET", SECRET)
        .env("JOBCAST__SERVER__DATA_DIR", server.folder())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Somebody who signs tokens, and gives out the public keys.
struct Signer {
    kid: &'static str,
    key: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Elliptic(EcdsaKeyPair),
}

impl Signer {
    fn rsa(kid: &'static str, der: &[u8]) -> Signer {
        Signer { kid, key: Pair::Rsa(RsaKeyPair::from_der(der).unwrap()) }
    }

    fn elliptic(kid: &'static str) -> Signer {
        let (scheme, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
        Signer {
            kid,
            key: Pair::Elliptic(EcdsaKeyPair::from_pkcs8(scheme, pkcs8.as_ref(), &random).unwrap()),
        }
    }

    /// The public key as it is given out.
    fn public(&self) -> Value {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match &self.key {
            Pair::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({ "kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256", "n": text(&n), "e": text(&e) })
            }
            Pair::Elliptic(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "kid": self.kid, "crv": "P-256", "x": text(x), "y": text(y) })
            }
        }
    }

    fn sign(&self, sub: &str) -> String {
        let alg = if matches!(self.key, Pair::Rsa(_)) { "RS256" } else { "ES256" };
        let header = json!({ "alg": alg, "typ": "JWT", "kid": self.kid });
        let claims = json!({ "sub": sub, "exp": (Utc::now() + TimeDelta::minutes(5)).timestamp() });
        let random = SystemRandom::new();
        assemble(&header, &claims, |text| match &self.key {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).unwrap();
                signature
            }
            Pair::Elliptic(pair) => pair.sign(&random, text).unwrap().as_ref().to_vec(),
        })
    }
}

/// A document of public keys, with one of a kind that nobody knows.
fn document(signer: &Signer) -> String {
    json!({ "keys": [{ "kty": "XYZ", "kid": "new" }, signer.public()] }).to_string()
}

#[tokio::test]
async fn public_keys_are_read_from_an_address_and_again_when_they_change_but_not_at_every_guess() {
    let first = Signer::rsa("one", include_bytes!("../fixtures/keys/rsa-one.der"));
    let second = Signer::elliptic("two");
    let third = Signer::rsa("three", include_bytes!("../fixtures/keys/rsa-three.der"));
    let shown = Arc::new(Mutex::new(document(&first)));
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, count) = (shown.clone(), asked.clone());
    let keys = Router::new().route(
        "/keys",
        get(async move || {
            count.fetch_add(1, Ordering::Relaxed);
            told.lock().unwrap().clone()
        }),
    );
    let keys = tokio::spawn(async move { axum::serve(listener, keys).await });
    let server = open(|config| {
        config.auth.jwks = format!("http://{address}/keys");
        config.auth.jwks_pause = Duration::from_secs(1);
    })
    .await;
    let status = async |token: &str| call(&server, Some(token), "GET", "/v1/jobs", None).await.0;
    assert_eq!(status(&first.sign("7")).await, 200);
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    // A new key is found, and an old one that was withdrawn is good no more.
    *shown.lock().unwrap() = document(&second);
    assert_eq!(status(&second.sign("7")).await, 200);
    assert_eq!(status(&first.sign("7")).await, 401);
    // Guesses do not make it ask.
    for _ in 0..20 {
        assert_eq!(status(&third.sign("7")).await, 401);
    }
    assert!(asked.load(Ordering::Relaxed) <= 4, "{}", asked.load(Ordering::Relaxed));
    // A public key is no secret: what is signed with it as one is refused.
    let claims = json!({ "sub": "7", "exp": (Utc::now() + TimeDelta::minutes(5)).timestamp() });
    let public = second.public().to_string();
    let confused =
        assemble(&json!({ "alg": "HS256", "kid": "two" }), &claims, |text| hs256(public.as_bytes(), text));
    assert_eq!(status(&confused).await, 401);
    // What was known stays good when the address answers nothing of use.
    *shown.lock().unwrap() = "not found".into();
    assert_eq!(status(&third.sign("7")).await, 401);
    assert_eq!(status(&second.sign("7")).await, 200);
    tokio::time::timeout(PATIENCE, server.stop()).await.unwrap();
    keys.abort();
}
