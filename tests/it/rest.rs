//! The native REST API: what it accepts, what it refuses and how.

use serde_json::json;

use crate::support::Running;

#[tokio::test]
async fn a_job_is_submitted_listed_shown_followed_and_cancelled() {
    let server = Running::quiet().await;
    let body = json!({ "shopUrl": "https://shop.example.com/", "name": "first", "maxProducts": 7 });
    let (status, job) = server.post("/v1/jobs", &body).await;
    assert_eq!((status, &job["status"], &job["config"]["maxProducts"]), (201, &json!("pending"), &json!(7)));
    let id = job["id"].as_str().unwrap();
    let (_, list) = server.get("/v1/jobs?status=pending&limit=1").await;
    assert_eq!((&list["total"], &list["jobs"][0]["id"]), (&json!(1), &job["id"]));
    let (status, cancelled) = server.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!((status, &cancelled["status"]), (200, &json!("cancelled")));
    let (status, again) = server.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!((status, &again["error"]["code"]), (409, &json!("job_ended")));
    let (_, events) = server.get(&format!("/v1/jobs/{id}/events?after=0")).await;
    let told: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|e| (&e["seq"], &e["event"])).collect();
    assert_eq!(told, [(&json!(1), &json!("job:created")), (&json!(2), &json!("job:failed"))]);
    assert_eq!((&events["next"], &events["status"]), (&json!(2), &json!("cancelled")));
    let (_, rest) = server.get(&format!("/v1/jobs/{id}/events?after=1&limit=1")).await;
    assert_eq!(rest["events"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn bad_requests_get_one_shape_with_a_code_and_a_sentence() {
    let server = Running::quiet().await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let post = async |path: &str, content_type: &str, body: &str| {
        let request =
            server.http.post(server.url(path)).header("content-type", content_type).body(body.to_owned());
        crate::support::answer(request.send().await.unwrap()).await
    };
    let json_type = "application/json";
    let huge = format!("{{\"shopUrl\":\"https://{}\"}}", "x".repeat(2_000_000));
    let mut answers = vec![
        (400, "invalid_request", post("/v1/jobs", json_type, "{").await),
        (400, "invalid_request", post("/v1/jobs", json_type, "[]").await),
        (400, "invalid_request", post("/v1/jobs", json_type, "{}").await),
        (400, "invalid_request", post("/v1/jobs", "text/plain", "{}").await),
        (400, "invalid_request", post("/v1/jobs", json_type, r#"{"shopUrl":"nowhere"}"#).await),
        (
            400,
            "invalid_request",
            post("/v1/jobs", json_type, r#"{"shopUrl":"https://a.example","maxProducts":0}"#).await,
        ),
        (
            400,
            "invalid_request",
            post("/v1/jobs", json_type, r#"{"shopUrl":"https://a.example","maxProduct":1}"#).await,
        ),
        (
            400,
            "unknown_template",
            post("/v1/jobs", json_type, r#"{"shopUrl":"https://a.example","templateId":"x"}"#).await,
        ),
        (413, "too_large", post("/v1/jobs", json_type, &huge).await),
        (404, "job_not_found", post(&format!("/v1/jobs/{unknown}/cancel"), json_type, "{}").await),
        (405, "method_not_allowed", post(&format!("/v1/jobs/{unknown}"), json_type, "{}").await),
    ];
    for (status, code, path) in [
        (404, "job_not_found", format!("/v1/jobs/{unknown}")),
        (404, "job_not_found", format!("/v1/jobs/{unknown}/events")),
        (400, "malformed_id", "/v1/jobs/5".into()),
        (400, "malformed_id", format!("/v1/jobs/{}", unknown.replace('-', ""))),
        (400, "malformed_id", "/v1/jobs/%00".into()),
        (400, "invalid_request", format!("/v1/jobs/{unknown}/events?after=-1")),
        (400, "invalid_request", format!("/v1/jobs/{unknown}/events?after=x")),
        (400, "invalid_request", "/v1/jobs?limit=100000".into()),
        (400, "invalid_request", "/v1/jobs?status=odd".into()),
        (404, "route_not_found", "/v1/nothing".into()),
        (404, "route_not_found", "/cdn/jobs/x.png".into()),
        (404, "route_not_found", "/cdn/..%2f..%2fetc%2fpasswd".into()),
    ] {
        answers.push((status, code, server.get(&path).await));
    }
    for (expected, code, (status, body)) in answers {
        assert_eq!((status, body["error"]["code"].as_str()), (expected, Some(code)), "{body}");
        assert!(body["error"]["message"].as_str().unwrap().len() > 10);
        assert!(body["error"]["retryable"].is_boolean());
    }
    let (_, jobs) = server.get("/v1/jobs").await;
    assert_eq!(jobs["total"], 0, "nothing was accepted");
    server.stop().await;
}

#[tokio::test]
async fn the_server_tells_that_it_lives_and_is_ready() {
    let server = Running::quiet().await;
    for path in ["/livez", "/readyz", "/healthz", "/health"] {
        assert_eq!(server.get(path).await.0, 200, "{path}");
    }
    server.stop().await;
}
