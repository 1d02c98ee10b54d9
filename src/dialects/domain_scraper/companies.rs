//! What is known of companies: the list, as a file, and the numbers that the page shows.

use axum::{
    Json,
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{
    answer::{Detail, Refusal},
    start::{CsvForm, DOMAIN_HEADINGS, Table, profile},
};
use crate::{
    http::{Api, Caller, window},
    job::{Scope, domain},
    store::{Company, Store, StoreError},
};

/// Companies of a preview.
const PREVIEW: i64 = 20;
/// Companies that are read at once for a file.
const PORTION: i64 = 500;
/// What a browser opens in a spreadsheet program: a byte order mark first.
const BOM: &str = "\u{feff}";
const HEADINGS: [&str; 10] = [
    "domain",
    "company_name",
    "industry",
    "description",
    "phone",
    "email",
    "address",
    "linkedin",
    "certifications",
    "services",
];

#[derive(Deserialize, IntoParams)]
pub struct ListQuery {
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    #[param(minimum = 0)]
    offset: Option<i64>,
}

/// The companies that are known, those found last first.
#[utoipa::path(
    get, path = "/api/companies", tag = "domain scraper", params(ListQuery),
    responses((status = 200, body = Value), (status = 400, body = Detail), (status = 503, body = Detail)),
)]
pub async fn list(
    State(api): State<Api>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let Query(ListQuery { limit, offset }) = query?;
    let (limit, offset) = window(limit, offset)?;
    let (companies, total) = api.store.companies(caller.subject(), limit, offset).await?;
    let companies: Vec<Value> = companies.iter().map(line).collect();
    Ok(Json(json!({ "companies": companies, "total": total, "limit": limit, "offset": offset })))
}

/// A company as the list shows it.
fn line(company: &Company) -> Value {
    let profile = &company.profile;
    let text = |of: &str, key: &str| profile[of][key].clone();
    let list = |key: &str| if profile[key].is_array() { profile[key].clone() } else { json!([]) };
    json!({
        "domain": company.domain,
        "company_name": text("company_information", "name"),
        "industry": text("description_industry", "industry"),
        "description": text("description_industry", "description"),
        "phone": text("contact_information", "phone"),
        "email": text("contact_information", "email"),
        "address": text("contact_information", "address"),
        "linkedin": text("social_media", "linkedin"),
        "certifications": list("certifications"),
        "services": list("services"),
    })
}

#[derive(Deserialize, IntoParams)]
pub struct ExportQuery {
    /// `download` for the file, `preview` for its first rows as JSON.
    #[param(pattern = "^(download|preview)$")]
    mode: Option<String>,
}

/// The companies that are known as CSV (UTF-8 with a byte order mark), or the first rows of it.
#[utoipa::path(
    get, path = "/api/companies_csv", tag = "domain scraper", params(ExportQuery),
    responses(
        (status = 200, description = "The file, or its first rows", content((String = "text/csv"), (Value = "application/json"))),
        (status = 400, body = Detail), (status = 503, body = Detail),
    ),
)]
pub async fn export(
    State(api): State<Api>,
    caller: Caller,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    caller.require(Scope::Read)?;
    let owner = caller.subject().to_owned();
    match query?.mode.as_deref() {
        Some("preview") => {
            let (companies, total) = api.store.companies(&owner, PREVIEW, 0).await?;
            let rows: Vec<Value> = companies.iter().map(line).collect();
            Ok(Json(json!({ "columns": HEADINGS, "rows": rows, "total": total })).into_response())
        }
        None | Some("download") => {
            // The first portion before the answer begins: a database that does not answer is still told of.
            let portion = api.store.companies_after(&owner, "", PORTION).await?;
            let rest = Rest { store: api.store, owner, portion: Some(portion), begun: false };
            let headers = [
                (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
                (header::CONTENT_DISPOSITION, "attachment; filename=\"companies.csv\""),
            ];
            Ok((headers, Body::from_stream(stream::try_unfold(rest, Rest::next))).into_response())
        }
        Some(_) => Err(Refusal::bad("mode must be download or preview.")),
    }
}

/// The rest of a file.
struct Rest {
    store: Store,
    owner: String,
    portion: Option<Vec<Company>>,
    begun: bool,
}

impl Rest {
    async fn next(mut self) -> Result<Option<(Bytes, Rest)>, StoreError> {
        let Some(portion) = self.portion.take() else { return Ok(None) };
        let mut writer = csv::Writer::from_writer(Vec::new());
        let broken = |error: &dyn std::fmt::Display| StoreError::Corrupt {
            table: "companies",
            detail: error.to_string(),
        };
        let mut text = Vec::new();
        if !self.begun {
            text.extend_from_slice(BOM.as_bytes());
            writer.write_record(HEADINGS).map_err(|error| broken(&error))?;
            self.begun = true;
        }
        for company in &portion {
            let line = line(company);
            let cells = HEADINGS.map(|heading| cell(&line[heading]));
            writer.write_record(cells).map_err(|error| broken(&error))?;
        }
        text.extend(writer.into_inner().map_err(|error| broken(&error))?);
        if portion.len() as i64 == PORTION
            && let Some(last) = portion.last()
        {
            self.portion = Some(self.store.companies_after(&self.owner, &last.domain, PORTION).await?);
        }
        Ok(Some((text.into(), self)))
    }
}

/// A cell that no spreadsheet program takes for a formula: what strangers' sites say is in it.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.chars().next() {
        Some('=' | '@' | '\t' | '\r') => format!("'{text}"),
        // A phone number begins with a plus and is none.
        Some('+' | '-') if text.chars().any(char::is_alphabetic) => format!("'{text}"),
        _ => text,
    }
}

/// Makes the companies of a CSV file known: the columns are those of the file that is given out, and all but the domain
/// may be missing.
#[utoipa::path(
    post, path = "/api/companies_csv", tag = "domain scraper",
    request_body(content = CsvForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Value), (status = 400, body = Detail), (status = 413, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn import(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Write)?;
    let table = Table::upload(&api, request).await?;
    let at = table.column(&DOMAIN_HEADINGS).ok_or_else(|| Refusal::bad("The file has no column domain."))?;
    let mut listed: Vec<(String, Value)> = Vec::new();
    let mut skipped = 0;
    for row in &table.rows {
        match row.get(at).and_then(|cell| domain(cell)) {
            Some(domain) => listed.push((domain, profile(&table, row))),
            None => skipped += 1,
        }
    }
    if listed.is_empty() {
        return Err(Refusal::bad("No valid domains provided"));
    }
    let imported = api.store.list_companies(caller.subject(), &listed).await?;
    let known = listed.len() as u64 - imported;
    Ok(Json(json!({ "imported": imported, "already_known": known, "skipped": skipped })))
}

/// Counts over what is known.
#[utoipa::path(
    get, path = "/api/stats", tag = "domain scraper",
    responses((status = 200, body = Value), (status = 503, body = Detail)),
)]
pub async fn stats(State(api): State<Api>, caller: Caller) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let counts = api.store.company_counts(caller.subject()).await?;
    Ok(Json(json!({
        "companies": counts.companies,
        "unique_companies": counts.companies,
        "scraped": counts.attempts,
        "extracted": counts.read,
        "failed": counts.failed,
        "people": counts.people,
        "services": counts.services,
        "products": counts.products,
        "certifications": counts.certifications,
        "total_companies": counts.companies,
        "total_people": counts.people,
        "total_services": counts.services,
    })))
}

/// How a domain becomes a company: what the page draws.
#[utoipa::path(get, path = "/api/graph", tag = "domain scraper", responses((status = 200, body = Value)))]
pub async fn graph() -> Json<Value> {
    let node = |id: &str, label: &str, kind: &str| json!({ "id": id, "label": label, "type": kind });
    let edge = |source: &str, target: &str, label: &str| json!({ "source": source, "target": target, "label": label });
    Json(json!({
        "nodes": [
            node("domains", "Domains", "process"),
            node("queue", "Queue", "storage"),
            node("scrape", "Visit the site", "process"),
            node("extract", "Read structured data and text", "process"),
            node("approve", "Approval", "process"),
            node("companies", "Companies", "storage"),
        ],
        "edges": [
            edge("domains", "queue", "one item each"),
            edge("queue", "scrape", "N at once"),
            edge("scrape", "extract", "pages"),
            edge("extract", "companies", "in parallel mode"),
            edge("extract", "approve", "in sequential mode"),
            edge("approve", "companies", "accepted"),
        ],
    }))
}
