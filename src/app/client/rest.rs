//! The REST calls of the command line, and errors in sentences that say what to do.

use std::{convert::Infallible, error::Error as _, sync::OnceLock, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{
    Body, Method, RequestBuilder, Response, StatusCode, header,
    multipart::{Form, Part},
    redirect::Policy,
};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use url::{Url, form_urlencoded};

use super::{ClientError, Remote};
use crate::job::{JobId, Order};

/// Time for one call, and for one that carries a price list.
const CALL: Duration = Duration::from_secs(60);
const UPLOAD: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of an upload that are handed over at once.
const PIECE: usize = 1 << 16;
/// Largest answer that is read; a job's results are the largest.
const MAX_ANSWER: usize = 16_000_000;
/// Longest sentence of a server that is repeated.
const MAX_SENTENCE: usize = 500;

/// A job whose price list comes along as a spreadsheet.
#[derive(Clone, Debug, Default)]
pub struct PriceListJob {
    pub shop_url: String,
    pub template_id: String,
    /// `name`, `maxProducts`, `followPagination` and the like, a JSON object.
    pub config: Value,
    /// The spreadsheet's name, ending in `.xlsx`, `.xls` or `.csv`.
    pub file_name: String,
    /// The spreadsheet's bytes.
    pub file: Vec<u8>,
}

/// A spreadsheet to be imported.
#[derive(Clone, Debug, Default)]
pub struct Spreadsheet {
    /// Ends in `.xlsx`, `.xls` or `.csv`.
    pub name: String,
    pub bytes: Vec<u8>,
    /// Which columns fill which fields of articles; `None` for a list of products.
    pub config: Option<Value>,
}

/// Submits a job: `POST /v1/jobs` with `body`.
pub async fn submit(base: &Remote, body: &impl Serialize) -> Result<JobId, ClientError> {
    let request = base.request(Method::POST, "v1/jobs")?.timeout(CALL).json(body);
    job_id(base, &call(base, request).await?, "id")
}

/// Submits a job together with the price list that its products are matched to.
pub async fn submit_with_price_list(base: &Remote, job: PriceListJob) -> Result<JobId, ClientError> {
    let file = named(Part::bytes(job.file), job.file_name)?;
    let form = Form::new()
        .text("shopUrl", job.shop_url)
        .text("templateId", job.template_id)
        .text("config", job.config.to_string())
        .part("excelFile", file);
    let request = base.request(Method::POST, "api/automation/start")?.timeout(UPLOAD).multipart(form);
    job_id(base, &call(base, request).await?, "jobId")
}

/// Imports a spreadsheet and returns what the server says of its rows; `sent` hears how many bytes have left.
pub async fn import(
    base: &Remote,
    sheet: Spreadsheet,
    sent: watch::Sender<u64>,
) -> Result<Value, ClientError> {
    let length = sheet.bytes.len() as u64;
    let rest = Bytes::from(sheet.bytes);
    let pieces = stream::unfold((rest, sent), |(mut rest, sent)| async move {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(PIECE.min(rest.len()));
        sent.send_modify(|bytes| *bytes += piece.len() as u64);
        Some((Ok::<_, Infallible>(piece), (rest, sent)))
    });
    let file = Part::stream_with_length(Body::wrap_stream(pieces), length);
    let mut form = Form::new().part("file", named(file, sheet.name)?);
    let path = match sheet.config {
        Some(config) => {
            form = form.text("config", config.to_string());
            "api/articles/excel-import"
        }
        None => "api/excel/upload",
    };
    let request = base.request(Method::POST, path)?.timeout(UPLOAD).multipart(form);
    let mut answer = call(base, request).await?;
    // The same again, where some of the pages read it.
    if let Value::Object(fields) = &mut answer {
        fields.remove("data");
    }
    Ok(answer)
}

/// A file of a form with the kind that its name's ending tells.
fn named(file: Part, name: String) -> Result<Part, ClientError> {
    let mime = match name.to_ascii_lowercase().rsplit_once('.') {
        Some((_, "csv")) => "text/csv",
        Some((_, "xls")) => "application/vnd.ms-excel",
        _ => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    };
    file.file_name(name).mime_str(mime).map_err(|error| ClientError::Client(error.to_string()))
}

/// A job as `GET /v1/jobs/{id}` shows it.
pub async fn job(base: &Remote, id: JobId) -> Result<Value, ClientError> {
    call(base, base.request(Method::GET, &format!("v1/jobs/{id}"))?.timeout(CALL)).await
}

/// The newest jobs, as `GET /v1/jobs` lists them; `query` holds its parameters.
pub async fn jobs(base: &Remote, query: &[(&str, String)]) -> Result<Value, ClientError> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    call(base, base.request(Method::GET, &format!("v1/jobs?{query}"))?.timeout(CALL)).await
}

/// Asks something of a job, and returns the job as it is then; of one that had ended and is retried, the new one.
pub async fn order(base: &Remote, id: JobId, order: Order) -> Result<Value, ClientError> {
    let path = format!("v1/jobs/{id}/{}", order.word());
    call(base, base.request(Method::POST, &path)?.timeout(CALL)).await
}

/// An address below the server's, which may itself have a path.
pub(super) fn address(base: &Url, path: &str) -> String {
    format!("{}/{path}", base.as_str().trim_end_matches('/'))
}

/// The server's address as people may see it: without what stands before an `@`.
pub(in crate::app) fn shown(base: &Url) -> String {
    let mut base = base.clone();
    // Only addresses that cannot carry credentials refuse to have them taken away.
    let _ = base.set_username("");
    let _ = base.set_password(None);
    base.as_str().trim_end_matches('/').to_owned()
}

/// One pool of connections a process. It goes straight to the server: a proxy that the environment names is meant
/// for the web, and does not pass WebSockets of plain HTTP on.
pub(super) fn http(base: &Url) -> Result<&'static reqwest::Client, ClientError> {
    static PLAIN: OnceLock<reqwest::Client> = OnceLock::new();
    static SECURE: OnceLock<reqwest::Client> = OnceLock::new();
    let pool = match base.scheme() {
        "http" => &PLAIN,
        "https" => &SECURE,
        _ => return Err(ClientError::NotAnAddress(shown(base))),
    };
    if let Some(client) = pool.get() {
        return Ok(client);
    }
    // Installed already in a server's process; then nothing changes.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        // Kept connections would belong to the runtime that opened them, and a command makes only a few calls.
        .pool_max_idle_per_host(0);
    if base.scheme() == "http" {
        // A small container without root certificates must do for a server on the same host.
        builder = builder.tls_certs_only(std::iter::empty());
    }
    let client = builder.build().map_err(|error| ClientError::Client(innermost(&error)))?;
    Ok(pool.get_or_init(|| client))
}

async fn call(base: &Url, request: RequestBuilder) -> Result<Value, ClientError> {
    let response = request.send().await.map_err(|error| unreachable(base, &error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(refusal(base, response).await);
    }
    let body = read(base, response).await?;
    serde_json::from_slice(&body).map_err(|_| foreign(base, status))
}

/// What an answer that is no success says.
pub(super) async fn refusal(base: &Url, response: Response) -> ClientError {
    let status = response.status();
    if let Some(to) = response.headers().get(header::LOCATION).filter(|_| status.is_redirection()) {
        let to = clip(&String::from_utf8_lossy(to.as_bytes()));
        return refused(status, format!("{} sends us on to {to}; use that server's address.", shown(base)));
    }
    let Ok(body) = read(base, response).await else { return foreign(base, status) };
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return foreign(base, status) };
    // `{"error":{"code","message"}}` of /v1, `{"error":"…","message":"…"}` of /api.
    let error = &body["error"];
    let what = error["message"].as_str().or(error.as_str());
    let more = body["message"].as_str().filter(|more| error.is_string() && Some(*more) != error.as_str());
    match (what, more) {
        (Some(what), None) => refused(status, clip(what)),
        (Some(what), Some(more)) => refused(status, clip(&format!("{what}: {more}"))),
        (None, _) => foreign(base, status),
    }
}

fn refused(status: StatusCode, message: String) -> ClientError {
    let may_pass = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    ClientError::Refused { message, may_pass }
}

/// An answer that Jobcast does not give.
fn foreign(base: &Url, status: StatusCode) -> ClientError {
    refused(status, format!("{} answers {status}, not as Jobcast does; is the address right?", shown(base)))
}

async fn read(base: &Url, mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(base, &error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            let message = format!("{} answers with more than {MAX_ANSWER} bytes.", shown(base));
            return Err(ClientError::Refused { message, may_pass: false });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn job_id(base: &Url, answer: &Value, field: &str) -> Result<JobId, ClientError> {
    let id = answer[field].as_str().and_then(|id| id.parse().ok());
    id.ok_or_else(|| foreign(base, StatusCode::OK))
}

/// Why no answer came.
pub(super) fn unreachable(base: &Url, error: &reqwest::Error) -> ClientError {
    if error.is_timeout() {
        return ClientError::Unreachable(shown(base), "it does not answer in time".into());
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return ClientError::NothingThere(shown(base));
        }
        cause = error.source();
    }
    ClientError::Unreachable(shown(base), innermost(error))
}

/// The cause that tells most, without the address, which may hold a password.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut told = None;
    while let Some(error) = cause {
        told = Some(error.to_string());
        cause = error.source();
    }
    told.unwrap_or_else(|| "the call failed".into())
}

fn clip(sentence: &str) -> String {
    sentence.chars().take(MAX_SENTENCE).collect()
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, extract::Multipart, routing::get, routing::post};
    use serde_json::json;

    use super::*;
    use crate::app::client::tests::serve;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    async fn answered(status: u16, body: &'static str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        let base = serve(Router::new().fallback(move || async move { (status, body) })).await;
        let error = job(&base, ID.parse().unwrap()).await.unwrap_err().to_string();
        error.replace(base.as_str().trim_end_matches('/'), "BASE")
    }

    #[tokio::test]
    async fn errors_of_both_apis_become_one_sentence() {
        let native = r#"{"error":{"code":"job_not_found","message":"There is no job 5.","retryable":false}}"#;
        assert_eq!(answered(404, native).await, "There is no job 5.");
        let simple = r#"{"error":"Shop URL is required"}"#;
        assert_eq!(answered(400, simple).await, "Shop URL is required");
        let detailed = r#"{"success":false,"error":"Failed to parse Excel file","message":"no sheet"}"#;
        assert_eq!(answered(400, detailed).await, "Failed to parse Excel file: no sheet");
        let foreign = "BASE answers 502 Bad Gateway, not as Jobcast does; is the address right?";
        assert_eq!(answered(502, "<html>").await, foreign);
        let foreign = "BASE answers 200 OK, not as Jobcast does; is the address right?";
        assert_eq!(answered(200, "<html>").await, foreign);
    }

    #[tokio::test]
    async fn a_refused_connection_says_what_to_start() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Url = format!("http://user:secret@{}/", listener.local_addr().unwrap()).parse().unwrap();
        let base = Remote::from(base);
        drop(listener);
        let error = job(&base, ID.parse().unwrap()).await.unwrap_err();
        let server = format!("http://127.0.0.1:{}", base.port().unwrap());
        assert_eq!(
            error.to_string(),
            format!("nothing answers at {server}; is `jobcast serve` running there?")
        );
        assert!(error.may_pass());
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_but_told() {
        let elsewhere =
            || async { (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, "https://other.example/")]) };
        let base = serve(Router::new().fallback(elsewhere)).await;
        let error = submit(&base, &json!({})).await.unwrap_err().to_string();
        assert!(
            error.ends_with("sends us on to https://other.example/; use that server's address."),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_endless_answer_is_not_read_to_its_end() {
        let base = serve(Router::new().fallback(|| async { vec![b' '; MAX_ANSWER + 1] })).await;
        let error = job(&base, ID.parse().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("more than 16000000 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_job_is_submitted_below_the_path_of_the_servers_address() {
        async fn create(Json(body): Json<Value>) -> Json<Value> {
            assert_eq!(body, json!({ "shopUrl": "http://shop.example/" }));
            Json(json!({ "id": ID }))
        }
        let base = serve(Router::new().route("/behind/v1/jobs", post(create))).await;
        for path in ["behind", "behind/"] {
            let base = base.join(path).unwrap().into();
            let id = submit(&base, &json!({ "shopUrl": "http://shop.example/" })).await.unwrap();
            assert_eq!(id.to_string(), ID);
        }
    }

    #[tokio::test]
    async fn a_price_list_goes_along_as_a_file() {
        async fn start(mut form: Multipart) -> Json<Value> {
            let mut seen = Vec::new();
            while let Some(field) = form.next_field().await.unwrap() {
                let name = field.name().unwrap().to_owned();
                let file = field.file_name().map(str::to_owned);
                seen.push((name, file, field.text().await.unwrap()));
            }
            let expected = [
                ("shopUrl", None, "http://shop.example/"),
                ("templateId", None, "standard-label"),
                ("config", None, r#"{"maxProducts":5}"#),
                ("excelFile", Some("prices.xlsx"), "bytes"),
            ];
            assert_eq!(seen, expected.map(|(n, f, t)| (n.to_owned(), f.map(str::to_owned), t.to_owned())));
            Json(json!({ "success": true, "jobId": ID }))
        }
        let base = serve(Router::new().route("/api/automation/start", post(start))).await;
        let job = PriceListJob {
            shop_url: "http://shop.example/".into(),
            template_id: "standard-label".into(),
            config: json!({ "maxProducts": 5 }),
            file_name: "prices.xlsx".into(),
            file: b"bytes".to_vec(),
        };
        assert_eq!(submit_with_price_list(&base, job).await.unwrap().to_string(), ID);
    }

    #[tokio::test]
    async fn a_job_is_looked_up() {
        let base =
            serve(Router::new().route("/v1/jobs/{id}", get(|| async { Json(json!({ "progress": 7 })) })))
                .await;
        assert_eq!(job(&base, ID.parse().unwrap()).await.unwrap(), json!({ "progress": 7 }));
    }
}
