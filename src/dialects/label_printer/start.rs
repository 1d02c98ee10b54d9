//! `POST /api/automation/start` and `start-simple`: a job, with a price list if one comes along.

use axum::{
    extract::{Request, State},
    response::Response,
};
use chrono::Utc;
use serde_json::{Map, Value, json};

use super::{
    answer::{Refusal, status, success},
    form::{File, Form, READERS, unreadable_list},
    poll,
    wish::Wish,
};
use crate::{
    http::{Api, internal},
    product::price_list::{self, Limits, PriceList},
    store::{ListedRow, NewImport, StoreError},
};

/// Both routes take the same fields; the older one only knew fewer.
pub async fn start(State(api): State<Api>, request: Request) -> Result<Response, Refusal> {
    let Form { fields, file } = Form::read(&api, request).await?;
    let Wish { mut request, rows } = Wish::read(&fields, Utc::now())?;
    // Everything is looked at before anything is stored.
    api.store.check(request.clone(), &api.limits).await.map_err(failed)?;
    let mut message = "Automation started".to_owned();
    if let Some(list) = read_list(file, rows, api.max_upload).await? {
        if list.unusable > 0 {
            message = format!("{message}; unusable entries in the price list: {}", list.unusable);
        }
        request.import_id = Some(api.store.import(list.import).await.map_err(failed)?);
    }
    let id = api.store.submit(request, &api.limits).await.map_err(failed)?;
    let job = api.store.job(id).await.map_err(failed)?.job;
    let line =
        json!({ "id": id, "name": job.name, "status": poll::status(&job), "progress": poll::progress(&job) });
    Ok(success(json!({ "jobId": id, "job": line, "message": message })))
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
