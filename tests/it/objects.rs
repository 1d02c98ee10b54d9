//! Objects: in S3, on a real server of its protocol, which refuses what is not signed; with addresses that are signed and
//! end; and as pictures in other sizes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jobcast::{
    config::Signed,
    event::JobType,
    job::JobId,
    store::{Artifact, Blobs, BlobsError, Change, NewJob, Row},
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;
use url::Url;
use uuid::Uuid;

use crate::{
    process::{Process, free_port},
    raw_client::{RawClient, Told},
    support::{Running, answer, config, folder, quiet_config, soon, wait_for},
};

/// What a bucket's server does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// It says 403 to every GET.
    RefusesGets,
    /// It takes requests and never answers.
    Stalls,
    /// It says 503 to everything.
    Fails,
}

/// The server of a bucket, and how many requests it has left without a good answer.
#[derive(Clone)]
struct Bucket {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    spoilt: watch::Sender<usize>,
}

/// An S3 server on a folder, as long as the runtime lives.
async fn s3(root: &std::path::Path, key: &str, secret: &str) -> Bucket {
    let mut service = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
    service.set_auth(SimpleAuth::from_single(key, secret));
    let service = service.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bucket = Bucket { address, mood: watch::Sender::new(Mood::Well), spoilt: watch::Sender::new(0) };
    let shared = bucket.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (service, bucket) = (service.clone(), shared.clone());
            let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                let mood = *bucket.mood.borrow();
                let spoilt = mood != Mood::Well && (mood != Mood::RefusesGets || request.method() == "GET");
                if spoilt {
                    bucket.spoilt.send_modify(|spoilt| *spoilt += 1);
                }
                let answer = hyper::service::Service::call(&service, request);
                let status = |code| hyper::Response::builder().status(code).body(s3s::Body::empty()).unwrap();
                async move {
                    match mood {
                        Mood::Stalls => std::future::pending().await,
                        Mood::Fails => Ok(status(503)),
                        Mood::RefusesGets if spoilt => Ok(status(403)),
                        _ => answer.await,
                    }
                }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    bucket
}

/// The settings of a server whose objects rest in the bucket `pictures`.
fn settings<'a>(endpoint: &'a str, secret: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("JOBCAST__OBJECTS__URL", "s3://pictures/jobcast"),
        ("AWS_ENDPOINT", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "the-key"),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ]
}

/// Runs the short conversation that stores a picture; returns its answer and the picture's address.
async fn store_a_picture(server: &Process) -> (u16, Value, Option<String>) {
    let run = server.http.post(format!("{}/api/test-websocket/run", server.base)).send().await.unwrap();
    let (status, body) = answer(run).await;
    let Some(job) = body["jobId"].as_str() else { return (status, body, None) };
    let events = server.events(job).await;
    let captured = events.iter().find(|event| event["event"] == "screenshot:captured");
    let address = captured.map(|event| event["data"]["url"].as_str().unwrap().to_owned());
    (status, body, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_rest_in_a_bucket_and_load_from_their_address() {
    let (bucket, folder) = (folder(), folder());
    std::fs::create_dir(bucket.path().join("pictures")).unwrap();
    let endpoint = format!("http://{}", s3(bucket.path(), "the-key", "the-secret").await.address);
    let settings =
        |secret| [&settings(&endpoint, secret)[..], &[("JOBCAST__PIPELINE__ENABLED", "false")]].concat();
    let server = Process::start(folder.path(), free_port(), &settings("the-secret")).await;
    let (status, body, address) = store_a_picture(&server).await;
    assert_eq!((status, &body["success"]), (200, &json!(true)), "{body}");
    let address = address.unwrap();
    let whole = server.http.get(&address).send().await.unwrap();
    assert_eq!(whole.status().as_u16(), 200);
    let whole = whole.bytes().await.unwrap();
    assert!(image::load_from_memory(&whole).is_ok());
    let part = server.http.get(&address).header("range", "bytes=5-9").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap()), (206, whole.slice(5..10)));
    let key = address.split_once("/cdn/").unwrap().1;
    let stored = std::fs::read(bucket.path().join("pictures/jobcast").join(key)).unwrap();
    assert_eq!(stored, whole);
    server.kill();

    let wrong = Process::start(folder.path(), free_port(), &settings("another-secret")).await;
    let (status, body, _) = store_a_picture(&wrong).await;
    assert_eq!((status, &body["success"]), (503, &json!(false)), "{body}");
    let unread = wrong.http.get(address.replace(&server_base(&address), &wrong.base)).send().await.unwrap();
    assert_eq!(unread.status().as_u16(), 503);
}

fn server_base(address: &str) -> String {
    address.split_once("/cdn/").unwrap().0.to_owned()
}

/// A server in this process whose addresses of objects are signed.
async fn signing() -> Running {
    let mut config = quiet_config();
    config.objects.signed = Signed::Always;
    Running::start(config).await
}

/// Runs the short conversation in this process; returns the job.
async fn converse(server: &Running) -> String {
    let (status, body) = server.post("/api/test-websocket/run", &json!({})).await;
    assert_eq!(status, 200, "{body}");
    body["jobId"].as_str().unwrap().to_owned()
}

/// What a job's events say, by name.
async fn told(server: &Running, job: &str, name: &str) -> Value {
    let (_, page) = server.get(&format!("/v1/jobs/{job}/events")).await;
    let events = page["events"].as_array().unwrap();
    events.iter().find(|event| event["event"] == name).unwrap()["data"].clone()
}

async fn status(server: &Running, address: &str) -> u16 {
    server.http.get(address).send().await.unwrap().status().as_u16()
}

/// The same address with another value somewhere in its query.
fn changed(address: &str, name: &str, value: &str) -> String {
    let mut url = Url::parse(address).unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    assert!(pairs.iter().any(|(known, _)| known == name), "{address} has a {name}");
    url.query_pairs_mut().clear();
    for (known, old) in pairs {
        let value = if known == name { value } else { &old };
        url.query_pairs_mut().append_pair(&known, value);
    }
    url.into()
}

#[tokio::test]
async fn signed_addresses_are_good_through_every_door_and_nothing_signed_is_in_the_journal() {
    let server = signing().await;
    let job = converse(&server).await;
    let page = told(&server, &job, "screenshot:captured").await;
    let stream = server.http.get(server.url(&format!("/v1/jobs/{job}/events")));
    let stream = stream.header("accept", "text/event-stream").send().await.unwrap().text().await.unwrap();
    let streamed = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let streamed = streamed.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let streamed = streamed.into_iter().find(|data| !data["thumbnailUrl"].is_null()).unwrap();
    let mut socket = RawClient::connect(&server.base).await;
    socket.ask(&json!(["job:subscribe", job, { "after": 0 }])).await;
    let replayed = loop {
        let told = soon("the event", socket.next_journaled()).await;
        if let Told::Event { name, mut arguments } = told
            && name == "screenshot:captured"
        {
            break arguments.swap_remove(0);
        }
    };
    let (_, polled) = server.get(&format!("/api/automation/jobs/{job}")).await;
    let polled = &polled["job"]["results"]["screenshots"][0];
    for (door, data) in [("page", &page), ("stream", &streamed), ("socket", &replayed), ("poll", polled)] {
        for field in ["url", "thumbnailUrl"] {
            let address = data[field].as_str().unwrap();
            let answer = server.http.get(address).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 200, "{door} {address}");
            let kept = answer.headers()["cache-control"].to_str().unwrap();
            assert!(kept.starts_with("private, max-age="), "{kept}");
            assert!(image::load_from_memory(&answer.bytes().await.unwrap()).is_ok());
        }
        // What somebody else may have written is not signed.
        assert_eq!(data["productUrl"], "https://shop.example.com/test-product");
    }

    let address = page["url"].as_str().unwrap();
    let plain = address.split('?').next().unwrap();
    let other = page["thumbnailUrl"].as_str().unwrap();
    let mixed = format!("{}?{}", other.split('?').next().unwrap(), address.split_once('?').unwrap().1);
    for (what, refused) in [
        ("unsigned", plain.to_owned()),
        ("of another object", mixed),
        ("good for longer", changed(address, "expires", "9999999999")),
        ("of a number that is none", changed(address, "expires", "soon")),
        ("forged", changed(address, "signature", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        ("in another size", format!("{address}&tr=w-100")),
        ("under another name", format!("{address}&download=x.png")),
        ("unsigned, of nothing", plain.replace(".png", "x.png")),
    ] {
        let answer = server.http.get(&refused).send().await.unwrap();
        let (code, body) = crate::support::answer(answer).await;
        assert_eq!((code, &body["error"]["code"]), (403, &json!("forbidden")), "{what}: {refused}");
        assert!(body["error"]["message"].as_str().unwrap().contains("/v1/objects"), "{body}");
    }

    let mut database = PgConnection::connect(&server.database).await.unwrap();
    let signed: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events WHERE payload::text LIKE '%signature%'")
            .fetch_one(&mut database)
            .await
            .unwrap();
    assert_eq!(signed, 0);
    server.stop().await;
}

#[tokio::test]
async fn an_object_is_described_with_an_address_to_show_it_or_to_save_it_by_name() {
    for server in [signing().await, Running::quiet().await] {
        let job = converse(&server).await;
        let url = told(&server, &job, "screenshot:captured").await["url"].as_str().unwrap().to_owned();
        let key = Url::parse(&url).unwrap().path().strip_prefix("/cdn/").unwrap().to_owned();
        let (_, whole) = server.get(&format!("/v1/objects?key={key}")).await;
        assert_eq!((&whole["key"], &whole["contentType"]), (&json!(key), &json!("image/png")));
        let bytes =
            server.http.get(whole["url"].as_str().unwrap()).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(whole["size"], bytes.len());
        let (_, small) =
            server.get(&format!("/v1/objects?key={key}&tr=w-100,f-jpg&download=St%C3%BChle")).await;
        assert_eq!(small["contentType"], "image/jpeg");
        assert_eq!(small["expiresAt"].is_string(), whole["expiresAt"].is_string());
        let saved = server.http.get(small["url"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(saved.status().as_u16(), 200, "{small}");
        assert_eq!(
            saved.headers()["content-disposition"],
            "attachment; filename=\"St_hle.jpg\"; filename*=UTF-8''St%C3%BChle.jpg"
        );
        let picture = image::load_from_memory(&saved.bytes().await.unwrap()).unwrap();
        assert_eq!((picture.width(), picture.height()), (100, 67));
        for (code, query) in [
            (400, format!("key={key}&tr=w-9000")),
            (400, format!("key={key}&tr=x")),
            (400, format!("key={key}&download=..%2Fx")),
            (400, String::new()),
            (404, "key=jobs/x.png".into()),
            (404, "key=%00".into()),
            (404, format!("key={}", "x".repeat(600))),
        ] {
            let (found, body) = server.get(&format!("/v1/objects?{query}")).await;
            assert_eq!(found, code, "{query}: {body}");
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_comes_in_another_size_which_is_made_once_however_many_ask_at_once() {
    const ASKED: usize = 100;
    let server = Running::quiet().await;
    let job = converse(&server).await;
    let url = told(&server, &job, "screenshot:captured").await["url"].as_str().unwrap().to_owned();
    let small = url.replace("/cdn/", "/cdn/tr:w-290,h-290,f-jpg,q-75/");
    let asked = (0..ASKED).map(|_| server.http.get(&small).send());
    let answers = futures_util::future::join_all(asked).await;
    let mut tags = std::collections::HashSet::new();
    let mut bytes = bytes::Bytes::new();
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.headers()["content-type"], "image/jpeg");
        assert_eq!(answer.headers()["cache-control"], "public, max-age=2592000, immutable");
        tags.insert(answer.headers()["etag"].clone());
        bytes = answer.bytes().await.unwrap();
    }
    assert_eq!(tags.len(), 1);
    let picture = image::load_from_memory(&bytes).unwrap();
    assert_eq!((picture.width(), picture.height()), (300, 200));
    let mut database = PgConnection::connect(&server.database).await.unwrap();
    let made = "SELECT count(*), sum(drawn) FROM derived_objects";
    assert_eq!(sqlx::query_as(made).fetch_one(&mut database).await.ok(), Some((1_i64, 1_i64)));

    let tag = tags.into_iter().next().unwrap();
    let known = server.http.get(&small).header("if-none-match", tag).send().await.unwrap();
    assert_eq!((known.status().as_u16(), known.bytes().await.unwrap().len()), (304, 0));
    let part = server.http.get(&small).header("range", "bytes=0-2").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap()), (206, bytes.slice(..3)));
    // The other ways to write it are the same picture.
    for same in ["/cdn/tr:q-80,f-jpeg,h-300,w-300/", "/cdn/tr:w-201,h-201,f-jpg/"] {
        assert_eq!(status(&server, &url.replace("/cdn/", same)).await, 200);
    }
    assert_eq!(status(&server, &format!("{url}?tr=w-300,h-300,f-jpg,q-80")).await, 200);
    assert_eq!(sqlx::query_as(made).fetch_one(&mut database).await.ok(), Some((1_i64, 1_i64)));
    for (code, bad) in [
        (400, "tr:w-9000"),
        (400, "tr:blur-3"),
        (400, "tr:"),
        (404, "tr:w-50/tr:w-50"),
        (404, "tr:w-50/..%2f..%2f"),
    ] {
        assert_eq!(status(&server, &url.replace("/cdn/", &format!("/cdn/{bad}/"))).await, code, "{bad}");
    }

    // One whose object was lost is made again.
    let key: String =
        sqlx::query_scalar("SELECT key FROM derived_objects").fetch_one(&mut database).await.unwrap();
    std::fs::remove_file(server.folder().join("objects").join(&key)).unwrap();
    let again = server.http.get(&small).send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.bytes().await.unwrap()), (200, bytes));

    // They go with their job.
    assert!(server.folder().join("objects").join(&key).exists());
    let gone = server.http.delete(server.url(&format!("/api/automation/jobs/{job}"))).send().await.unwrap();
    assert_eq!(gone.status().as_u16(), 200);
    assert_eq!(status(&server, &small).await, 404);
    assert!(!server.folder().join("objects").join(&key).exists());
    server.stop().await;
}

#[tokio::test]
async fn pictures_that_nobody_looks_at_make_room_for_new_ones() {
    let (store, _announcements) = crate::support::store().await;
    let job = JobId(Uuid::now_v7());
    store.create(NewJob::unplanned(job, JobType::Crawl, "pictures")).await.unwrap();
    let artifact = |key: &str, size| Artifact {
        key: key.into(),
        content_type: "image/png".into(),
        size,
        sha256: "00".into(),
    };
    let rows = vec![Row::Artifact(artifact("source", 10))];
    store.change(job, None, Change { rows, ..Change::default() }).await.unwrap();
    for name in ["first", "second", "third"] {
        assert!(store.keep_derived(&artifact(name, 40), "source").await.unwrap());
        assert!(store.evict_derived(120).await.unwrap().is_empty());
    }
    assert!(store.keep_derived(&artifact("fourth", 40), "source").await.unwrap());
    let mut gone = store.evict_derived(120).await.unwrap();
    gone.sort();
    assert_eq!(gone, ["first", "second"], "some more than need be, so that there is room for a while");
    assert!(store.derived("third").await.unwrap().is_some());
    assert!(!store.keep_derived(&artifact("of nothing", 1), "no source").await.unwrap());
}

/// The objects of a server in a bucket, whose addresses lead there.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_may_lead_to_the_bucket_which_refuses_what_is_not_signed() {
    let (bucket, folder) = (folder(), folder());
    std::fs::create_dir(bucket.path().join("pictures")).unwrap();
    let endpoint = format!("http://{}", s3(bucket.path(), "the-key", "the-secret").await.address);
    let address = format!("{endpoint}/pictures/jobcast/{{key}}");
    let settings = [
        ("JOBCAST__OBJECTS__URL", "s3://pictures/jobcast"),
        ("JOBCAST__OBJECTS__ADDRESS", address.as_str()),
        ("JOBCAST__OBJECTS__SIGNED", "bucket"),
        ("JOBCAST__PIPELINE__ENABLED", "false"),
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "the-key"),
        ("AWS_SECRET_ACCESS_KEY", "the-secret"),
    ];
    let server = Process::start(folder.path(), free_port(), &settings).await;
    let (_, _, address) = store_a_picture(&server).await;
    let address = address.unwrap();
    assert!(address.starts_with(&endpoint), "{address}");
    let fetched = server.http.get(&address).send().await.unwrap();
    assert_eq!(fetched.status().as_u16(), 200);
    assert!(image::load_from_memory(&fetched.bytes().await.unwrap()).is_ok());
    for (what, refused) in [
        ("good for longer", changed(&address, "X-Amz-Expires", "604800")),
        ("of another key", changed(&address, "X-Amz-Signature", &"0".repeat(64))),
        ("unsigned", address.split('?').next().unwrap().to_owned()),
        ("of another object", address.replace("/screenshots/", "/thumbnails/")),
    ] {
        let refused = server.http.get(refused).send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 403, "{what}");
    }
    // What only this server can make is signed by this server.
    let key = Url::parse(&address).unwrap().path().strip_prefix("/pictures/jobcast/").unwrap().to_owned();
    let small =
        server.get(&format!("/v1/objects?key={key}&tr=w-100")).await["url"].as_str().unwrap().to_owned();
    assert!(small.starts_with(&format!("{}/cdn/tr:w-100/", server.base)), "{small}");
    assert_eq!(server.http.get(&small).send().await.unwrap().status().as_u16(), 200);
    let saved = server.get(&format!("/v1/objects?key={key}&download=a%20b.png")).await["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let saved = server.http.get(&saved).send().await.unwrap();
    assert_eq!(
        saved.headers()["content-disposition"],
        "attachment; filename=\"a b.png\"; filename*=UTF-8''a%20b.png"
    );
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_a_bucket_is_never_written_over_by_one_that_should_be_new() {
    let bucket = folder();
    std::fs::create_dir(bucket.path().join("pictures")).unwrap();
    let address = s3(bucket.path(), "the-key", "the-secret").await.address;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = object_store::aws::AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name("pictures")
        .with_access_key_id("the-key")
        .with_secret_access_key("the-secret")
        .build()
        .unwrap();
    let public = Url::parse("http://localhost/").unwrap();
    let blobs = Blobs::over(Arc::new(store), &config().objects, bucket.path(), &public).unwrap();
    let put = |text: &'static str| blobs.put_new("a/b.png".into(), bytes::Bytes::from(text), "image/png");
    put("first").await.unwrap();
    assert!(matches!(put("second").await, Err(BlobsError::Exists(key)) if key == "a/b.png"));
    assert_eq!(blobs.get("a/b.png", None).await.unwrap().bytes, "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_whose_object_is_refused_is_tried_again_and_then_says_what_is_wrong() {
    let _turn = crate::support::heavy().await;
    let (bucket, folder) = (folder(), folder());
    std::fs::create_dir(bucket.path().join("pictures")).unwrap();
    let s3 = s3(bucket.path(), "the-key", "the-secret").await;
    s3.mood.send_replace(Mood::RefusesGets);
    let endpoint = format!("http://{}", s3.address);
    let settings =
        [&settings(&endpoint, "the-secret")[..], &[("JOBCAST__PIPELINE__RETRY_BACKOFF", "10ms")]].concat();
    let server = Process::start(folder.path(), free_port(), &settings).await;
    let mut picture = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(60, 40).write_to(&mut picture, image::ImageFormat::Png).unwrap();
    let part = reqwest::multipart::Part::bytes(picture.into_inner()).file_name("a.png");
    let form = reqwest::multipart::Form::new().part("screenshot", part);
    let sent = server.http.post(format!("{}/api/ocr/process", server.base)).multipart(form);
    let (status, body) = answer(sent.send().await.unwrap()).await;
    assert_eq!((status, &body["result"]["status"]), (200, &json!("failed")), "{body}");
    let said = body["result"]["error"].as_str().unwrap();
    assert!(said.contains("refuses this server's credentials") && !said.contains(&endpoint), "{said}");

    // It is there all the same.
    s3.mood.send_replace(Mood::Well);
    let shown = server.http.get(body["result"]["imageUrl"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(shown.status().as_u16(), 200);
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_stalls_or_is_down_costs_time_and_no_picture() {
    let _turn = crate::support::heavy().await;
    let (bucket, folder) = (folder(), folder());
    std::fs::create_dir(bucket.path().join("pictures")).unwrap();
    let s3 = s3(bucket.path(), "the-key", "the-secret").await;
    let endpoint = format!("http://{}", s3.address);
    let quick = [
        ("JOBCAST__OBJECTS__TIMEOUT", "1s"),
        ("JOBCAST__PIPELINE__RETRY_BACKOFF", "100ms"),
        ("JOBCAST__PIPELINE__MAX_ATTEMPTS", "2"),
        ("JOBCAST__CRAWLER__DELAY", "0s"),
        ("JOBCAST__BROWSER__SETTLE_TIMEOUT", "2s"),
    ];
    let settings = [&settings(&endpoint, "the-secret")[..], &quick].concat();
    let server = Process::start(folder.path(), free_port(), &settings).await;
    let post = async |path: &str, body: Value| {
        answer(server.http.post(format!("{}{path}", server.base)).json(&body).send().await.unwrap()).await
    };
    let wish = json!({ "shopUrl": format!("{}/demo/shop/", server.base), "plan": "crawl", "maxProducts": 2 });
    let begin = async || post("/v1/jobs", wish.clone()).await.1["id"].as_str().unwrap().to_owned();
    let ended = async |job: &str| {
        wait_for("the job to end", async || {
            Some(server.get(&format!("/v1/jobs/{job}")).await).filter(|job| !job["endedAt"].is_null())
        })
        .await
    };
    let pictures = async |job: &str| {
        let shown = server.get(&format!("/api/crawler/screenshots/{job}")).await;
        let mut loaded = 0;
        for shot in shown["data"].as_array().unwrap() {
            let picture = server.http.get(shot["url"].as_str().unwrap()).send().await.unwrap();
            image::load_from_memory(&picture.bytes().await.unwrap()).unwrap();
            loaded += 1;
        }
        loaded
    };

    // For a while it takes pictures and does not say that it has them.
    let mut spoilt = s3.spoilt.subscribe();
    s3.mood.send_replace(Mood::Stalls);
    let stalled = begin().await;
    soon("pictures that are not taken", spoilt.wait_for(|spoilt| *spoilt >= 2)).await.unwrap();
    s3.mood.send_replace(Mood::Well);
    let job = ended(&stalled).await;
    assert_eq!((&job["status"], &job["errors"]), (&json!("completed"), &json!([])), "{job}");
    assert_eq!(pictures(&stalled).await, 2);

    // It stays down for longer than anything is tried.
    s3.mood.send_replace(Mood::Fails);
    let failed = begin().await;
    let job = ended(&failed).await;
    let said = "the object store does not answer as it should";
    assert_eq!(job["status"], "failed", "{job}");
    assert!(job["error"].as_str().unwrap().contains(said), "{job}");
    let errors = job["errors"].as_array().unwrap();
    assert!(errors.len() == 2 && errors.iter().all(|error| error.as_str().unwrap().contains(said)), "{job}");
    assert!(!job.to_string().contains(&s3.address.to_string()), "{job}");

    // What failed is all that is done again when it is back.
    s3.mood.send_replace(Mood::Well);
    let (status, again) = post(&format!("/v1/jobs/{failed}/retry"), json!({})).await;
    assert_eq!(status, 201, "{again}");
    let again = again["id"].as_str().unwrap();
    let job = ended(again).await;
    assert_eq!((&job["status"], &job["errors"]), (&json!("completed"), &json!([])), "{job}");
    assert_eq!(pictures(again).await, 2);

    // Every object that a row names is in the bucket, as it was stored.
    let audit = tokio::process::Command::new(env!("CARGO_BIN_EXE_jobcast"))
        .args(["verify", "--data-dir"])
        .arg(folder.path())
        .env_remove("DATABASE_URL")
        .envs(settings.iter().copied())
        .output();
    let audit = tokio::time::timeout(Duration::from_secs(60), audit).await.unwrap().unwrap();
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
}
