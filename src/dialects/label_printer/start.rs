//! `POST /api/automation/start` and `start-simple`: a job, with a price list if one comes along.

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use chrono::Utc;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{
    answer::{Refusal, RefusalBody, status, success},
    form::{File, Form, READERS, unreadable_list},
    poll,
    wish::Wish,
};
use crate::{
    http::{Api, Caller, REPLAYED, internal, once_key},
    product::price_list::{self, Limits, PriceList},
    store::{ListedRow, NewImport, OnceKey, StoreError, Submitted, hexadecimal},
};

/// Fields of a start. Each option may stand here or in `config`, and in a form as text.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read as loose JSON, described for the contract")]
pub struct StartFields {
    #[schema(max_length = 2048, example = "https://shop.example.com/")]
    shop_url: String,
    /// The label template's id or name.
    #[schema(max_length = 200, example = "standard-label")]
    template_id: String,
    #[schema(max_length = 200)]
    name: Option<String>,
    #[schema(minimum = 1)]
    max_products: Option<u32>,
    follow_pagination: Option<bool>,
    /// Higher ones are worked on first.
    #[schema(minimum = -100, maximum = 100)]
    priority: Option<i16>,
    /// Any of these options again, `crawlerConfig` and `matcherConfig`.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
    /// A price list, one object a row.
    #[schema(value_type = Option<Vec<Object>>)]
    excel_data: Option<Vec<Value>>,
}

/// The same as a form, with a spreadsheet.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read field by field, described for the contract")]
pub struct StartForm {
    shop_url: String,
    template_id: String,
    /// JSON text.
    config: Option<String>,
    /// A price list: .xlsx, .xls or .csv.
    #[schema(value_type = Option<String>, format = Binary)]
    excel_file: Option<Vec<u8>>,
}

/// Starts a job; the fields are those of `/api/automation/start`.
#[utoipa::path(
    post, path = "/api/automation/start-simple", tag = "label printer",
    request_body(content((StartFields = "application/json"), (StartForm = "multipart/form-data"))),
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 200, pattern = "^[!-~]+$")),
    responses(
        (status = 200, body = Value),
        (status = 400, body = RefusalBody),
        (status = 409, body = RefusalBody, description = "The key was used for another request"),
        (status = 413, body = RefusalBody),
        (status = 503, body = RefusalBody),
    ),
)]
pub async fn start_simple(state: State<Api>, caller: Caller, request: Request) -> Result<Response, Refusal> {
    start(state, caller, request).await
}

/// Starts a job, with a price list if one comes along.
///
/// With an `Idempotency-Key` (also `X-Idempotency-Key`) a request that is repeated is answered with the job that it made
/// before, and `Idempotency-Replayed: true`.
#[utoipa::path(
    post, path = "/api/automation/start", tag = "label printer",
    request_body(content((StartFields = "application/json"), (StartForm = "multipart/form-data"))),
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 200, pattern = "^[!-~]+$")),
    responses(
        (status = 200, body = Value),
        (status = 400, body = RefusalBody),
        (status = 409, body = RefusalBody, description = "The key was used for another request"),
        (status = 413, body = RefusalBody),
        (status = 503, body = RefusalBody),
    ),
)]
pub async fn start(State(api): State<Api>, caller: Caller, request: Request) -> Result<Response, Refusal> {
    let headers = request.headers().clone();
    let form = Form::read(&api, request).await?;
    let once = once(&headers, &form)?;
    let Form { fields, file } = form;
    let Wish { mut request, rows } = Wish::read(&fields, Utc::now())?;
    // A request that comes again must not store its price list again.
    if let Some(once) = &once
        && let Some(job) = api.store.made_under(caller.subject(), once).await.map_err(failed)?
    {
        return answer(&api, Submitted { job, replayed: true }, "Automation started".into()).await;
    }
    // Everything is looked at before anything is stored.
    api.store.check(request.clone(), &api.limits).await.map_err(failed)?;
    let mut message = "Automation started".to_owned();
    if let Some(list) = read_list(file, rows, api.max_upload).await? {
        if list.unusable > 0 {
            message = format!("{message}; unusable entries in the price list: {}", list.unusable);
        }
        request.import_id = Some(api.store.import(list.import).await.map_err(failed)?);
    }
    let import = request.import_id;
    let owner = caller.subject();
    let submitted = api.store.submit_once(request, owner, &api.limits, once.as_ref()).await;
    // The same request came twice at once and the other one was faster, or there is no job after all.
    if let Some(import) = import
        && submitted.as_ref().map_or(true, |made| made.replayed)
    {
        api.store
            .discard_import(import, submitted.as_ref().ok().map(|made| made.job))
            .await
            .map_err(failed)?;
    }
    answer(&api, submitted.map_err(failed)?, message).await
}

async fn answer(api: &Api, made: Submitted, message: String) -> Result<Response, Refusal> {
    let job = api.store.job(made.job).await.map_err(failed)?.job;
    let mut answer = success(json!({ "jobId": job.id, "job": poll::started(&job), "message": message }));
    if made.replayed {
        answer.headers_mut().insert(REPLAYED.0, REPLAYED.1);
    }
    Ok(answer)
}

/// The key of a repeatable start, with the fingerprint of the fields and the spreadsheet.
fn once(headers: &HeaderMap, form: &Form) -> Result<Option<OnceKey>, Refusal> {
    let file = form.file.as_ref().map(|file| json!([file.name, hexadecimal(&Sha256::digest(&file.bytes))]));
    let fields = Value::Object(form.fields.clone());
    Ok(once_key(headers, &[&json!("POST /api/automation/start"), &fields, &json!(file)])?)
}

/// A price list that can be stored, and how many of its entries cannot.
struct ReadList {
    import: NewImport,
    unusable: usize,
}

/// The uploaded file, else the rows of the body, else nothing.
async fn read_list(
    file: Option<File>,
    rows: Vec<Map<String, Value>>,
    max_upload: usize,
) -> Result<Option<ReadList>, Refusal> {
    if file.is_none() && rows.is_empty() {
        return Ok(None);
    }
    let limits = Limits { bytes: max_upload, ..Limits::default() };
    let read = move || match file {
        Some(file) => {
            let list = price_list::parse(&file.bytes, &file.name, limits)?;
            Ok((list, file.name, file.bytes.len()))
        }
        None => Ok((price_list::from_objects(&rows, limits)?, "excelData".to_owned(), 0)),
    };
    // Never closed, so a permit always comes.
    let _permit = READERS.acquire().await;
    let (list, file_name, file_size) = tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| unreadable_list("The reader failed at this file; the server's log tells why.".into()))?
        .map_err(|error: price_list::SpreadsheetError| unreadable_list(error.to_string()))?;
    if list.products.is_empty() {
        let why = list.summary.errors.first().map(|error| format!(" Row {}: {}.", error.row, error.message));
        return Err(unreadable_list(format!("It lists no product.{}", why.unwrap_or_default())));
    }
    Ok(Some(stored(list, file_name, file_size)))
}

fn stored(list: PriceList, file_name: String, file_size: usize) -> ReadList {
    let errors: Vec<Value> = list
        .summary
        .errors
        .iter()
        .map(|error| json!({ "row": error.row, "column": error.column, "message": error.message }))
        .collect();
    let import = NewImport {
        file_name,
        file_size: file_size as i64,
        headers: list.summary.headers,
        products: list.products.into_iter().map(ListedRow::from).collect(),
        errors: errors.into(),
        error_count: list.summary.error_count as i32,
    };
    ReadList { import, unusable: list.summary.error_count as usize }
}

/// What the server could not do is told in two parts, what the client did wrong in one.
fn failed(error: StoreError) -> Refusal {
    let rejection = internal(error);
    let status = status(rejection.code);
    if status.is_server_error() {
        return Refusal::because(status, "Failed to start automation", rejection.message);
    }
    rejection.into()
}
