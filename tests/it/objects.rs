//! Objects in S3: a real server of its protocol, which refuses what is not signed.

use std::net::SocketAddr;

use hyper_util::rt::TokioIo;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use serde_json::{Value, json};

use crate::{
    process::{Process, free_port},
    support::{answer, folder},
};

/// An S3 server on a folder, as long as the runtime lives.
async fn s3(root: &std::path::Path, key: &str, secret: &str) -> SocketAddr {
    let mut service = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
    service.set_auth(SimpleAuth::from_single(key, secret));
    let service = service.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service.clone());
            tokio::spawn(connection);
        }
    });
    address
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
    let endpoint = format!("http://{}", s3(bucket.path(), "the-key", "the-secret").await);
    let settings = |secret| {
        [
            ("JOBCAST__OBJECTS__URL", "s3://pictures/jobcast"),
            ("JOBCAST__PIPELINE__ENABLED", "false"),
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "the-key"),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ]
    };
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
