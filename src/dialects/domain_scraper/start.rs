//! Starting jobs: from domains that were typed in, from a file of them, and from those that are known.

use axum::{
    Json,
    extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::answer::{Detail, Refusal};
use crate::{
    http::{Api, Caller},
    job::{Companies, JobId, Scope},
    store::NewJob,
};

/// Domains that a list of the known ones gives when nobody says how many.
const USUAL: i64 = 100;

#[derive(Deserialize, ToSchema)]
pub struct Domains {
    /// Domains or addresses; one text may hold several.
    #[schema(max_items = 2000)]
    domains: Vec<String>,
}

/// What was started.
#[derive(serde::Serialize, ToSchema)]
pub struct Started {
    job_id: String,
    message: String,
    /// Domains that are looked up.
    count: usize,
    mode: String,
}

/// Looks companies up by their domains, several at once.
#[utoipa::path(
    post, path = "/api/process_redis", tag = "domain scraper", request_body = Domains,
    responses(
        (status = 200, body = Started), (status = 400, body = Detail), (status = 413, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn parallel(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<Domains>, JsonRejection>,
) -> Result<Json<Started>, Refusal> {
    let Json(Domains { domains }) = body?;
    start(&api, &caller, Companies::read(domains, false)?).await
}

/// Looks companies up one after the other; a person is asked about each that was found.
#[utoipa::path(
    post, path = "/api/process", tag = "domain scraper", request_body = Domains,
    responses(
        (status = 200, body = Started), (status = 400, body = Detail), (status = 413, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn sequential(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<Domains>, JsonRejection>,
) -> Result<Json<Started>, Refusal> {
    let Json(Domains { domains }) = body?;
    start(&api, &caller, Companies::read(domains, true)?).await
}

/// A form with a file of domains.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body that is read by hand")]
pub struct CsvForm {
    /// CSV whose column `domain`, or else the first one, holds the domains.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Looks the companies of a CSV file up, one after the other.
#[utoipa::path(
    post, path = "/api/process_csv", tag = "domain scraper",
    request_body(content = CsvForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Started), (status = 400, body = Detail), (status = 413, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn from_csv(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Json<Started>, Refusal> {
    let table = Table::upload(&api, request).await?;
    let at = table.column(&DOMAIN_HEADINGS);
    let mut domains: Vec<&str> =
        table.rows.iter().filter_map(|row| row.get(at.unwrap_or(0)).map(String::as_str)).collect();
    // A file without headings begins with a domain.
    if at.is_none() {
        domains.insert(0, table.headings.first().map_or("", String::as_str));
    }
    start(&api, &caller, Companies::read(domains, true)?).await
}

#[derive(Deserialize, ToSchema)]
#[serde(default)]
pub struct FromFinal {
    /// Only those whose sites were never looked at.
    only_new: bool,
    /// So many at the most.
    #[schema(minimum = 1, maximum = 2000)]
    limit: Option<i64>,
}

impl Default for FromFinal {
    fn default() -> FromFinal {
        FromFinal { only_new: true, limit: None }
    }
}

/// Looks companies up that are known by name: those of lists, and those that were looked up before.
#[utoipa::path(
    post, path = "/api/process_from_final", tag = "domain scraper", request_body = FromFinal,
    responses(
        (status = 200, body = Started), (status = 400, body = Detail), (status = 413, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn from_final(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<FromFinal>, JsonRejection>,
) -> Result<Json<Started>, Refusal> {
    let Json(FromFinal { only_new, limit }) = body?;
    let limit = limit.unwrap_or(USUAL);
    let most = Companies::MAX_DOMAINS as i64;
    if !(1..=most).contains(&limit) {
        return Err(Refusal::bad(format!("limit must be from 1 to {most}.")));
    }
    let domains = api.store.known_domains(caller.subject(), only_new, limit).await?;
    start(&api, &caller, Companies::read(domains, true)?).await
}

async fn start(api: &Api, caller: &Caller, companies: Companies) -> Result<Json<Started>, Refusal> {
    caller.require(Scope::Write)?;
    let (count, is_sequential) = (companies.domains.len(), companies.sequential);
    let id = JobId(Uuid::now_v7());
    let new = NewJob { owner: caller.subject().to_owned(), ..NewJob::on_companies(id, companies)? };
    api.store.create(new).await?;
    let (mode, how) = match is_sequential {
        true => ("sequential", "one after the other"),
        false => ("redis_parallel", "in parallel"),
    };
    Ok(Json(Started {
        job_id: id.to_string(),
        message: format!("Processing {count} domains {how}"),
        count,
        mode: mode.to_owned(),
    }))
}

/// What a column of domains may be called.
pub const DOMAIN_HEADINGS: [&str; 5] = ["domain", "domains", "website", "url", "site"];

/// A CSV file.
pub struct Table {
    pub headings: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Rows of a file at the most.
    const MAX_ROWS: usize = 50_000;
    /// Bytes of a cell that are kept.
    const MAX_CELL: usize = 2_000;

    /// Reads the one file of a form.
    pub async fn upload(api: &Api, mut request: Request) -> Result<Table, Refusal> {
        DefaultBodyLimit::max(api.max_upload).apply(&mut request);
        let unreadable = |status: StatusCode, why: String| match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Refusal::new(status, "The upload is larger than this server takes.")
            }
            _ => Refusal::bad(format!("The form cannot be read: {why}.")),
        };
        let mut parts = Multipart::from_request(request, &())
            .await
            .map_err(|error| unreadable(error.status(), error.body_text()))?;
        while let Some(part) =
            parts.next_field().await.map_err(|error| unreadable(error.status(), error.body_text()))?
        {
            if part.file_name().is_some() || part.name() == Some("file") {
                let bytes =
                    part.bytes().await.map_err(|error| unreadable(error.status(), error.body_text()))?;
                return Table::read(&bytes);
            }
        }
        Err(Refusal::bad("Send a CSV file in the form's field file."))
    }

    /// Reads CSV, in UTF-8 with or without a byte order mark, with commas, semicolons or tabs.
    pub fn read(bytes: &[u8]) -> Result<Table, Refusal> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        let first = text.lines().next().unwrap_or_default();
        let delimiter = [b';', b'\t', b',']
            .into_iter()
            .max_by_key(|delimiter| first.bytes().filter(|byte| byte == delimiter).count());
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter.unwrap_or(b','))
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| Refusal::bad(format!("The file is no CSV: {error}.")))?;
            if rows.len() > Table::MAX_ROWS {
                return Err(Refusal::bad(format!("The file has more than {} rows.", Table::MAX_ROWS)));
            }
            let cell = |cell: &str| {
                let cell = cell.trim();
                let cell = &cell[..cell.floor_char_boundary(Table::MAX_CELL.min(cell.len()))];
                cell.chars().filter(|c| !c.is_control()).collect::<String>()
            };
            rows.push(record.iter().map(cell).collect::<Vec<String>>());
        }
        if rows.is_empty() {
            return Err(Refusal::bad("The file is empty."));
        }
        let headings = rows.remove(0);
        Ok(Table { headings, rows })
    }

    /// The place of the first column that has one of these names.
    pub fn column(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| {
            self.headings.iter().position(|heading| heading.to_lowercase().replace([' ', '-'], "_") == *name)
        })
    }
}

/// What a table says of one company, in the shape of what is read of sites; empty if it says nothing.
pub fn profile(table: &Table, row: &[String]) -> Value {
    let cell = |names: &[&str]| {
        let cell = table.column(names).and_then(|at| row.get(at))?;
        Some(cell.trim()).filter(|cell| !cell.is_empty())
    };
    let list = |names: &[&str]| -> Vec<&str> {
        let parts = cell(names).into_iter().flat_map(|cell| cell.split(['|', ';']));
        parts.map(str::trim).filter(|part| !part.is_empty()).take(50).collect()
    };
    let said = json!({
        "company_information": { "name": cell(&["company_name", "name", "company"]) },
        "description_industry": { "industry": cell(&["industry"]), "description": cell(&["description"]) },
        "contact_information": {
            "phone": cell(&["phone", "telephone"]), "email": cell(&["email", "e_mail"]), "address": cell(&["address"]),
        },
        "social_media": { "linkedin": cell(&["linkedin"]) },
        "certifications": list(&["certifications"]),
        "services": list(&["services"]),
    });
    let says_something = said.as_object().is_some_and(|said| {
        said.values().any(|part| match part {
            Value::Object(part) => part.values().any(|value| !value.is_null()),
            Value::Array(list) => !list.is_empty(),
            _ => false,
        })
    });
    if says_something { said } else { json!({}) }
}
