//! Articles as a file: CSV that Excel opens as it is, or JSON; a page of them in memory at a time.

use axum::{
    Json,
    body::Body,
    extract::{State, rejection::JsonRejection},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{body::image_url, ids, shown};
use crate::{
    dialects::label_printer::{
        answer::{Refusal, RefusalBody},
        field::{self, bad},
    },
    event::format_timestamp,
    http::{Api, Caller},
    product::article::{german, tiered_prices_text},
    store::{Article, Store, StoreError},
};

/// Articles that are named one by one.
const MAX_IDS: usize = 10_000;
const HEADINGS: [&str; 17] = [
    "Artikelnummer",
    "Produktname",
    "Beschreibung",
    "Preis",
    "Währung",
    "Preisart",
    "Staffelpreise",
    "EAN",
    "Kategorie",
    "Hersteller",
    "Bild",
    "Quelle",
    "Geprüft",
    "Veröffentlicht",
    "OCR-Konfidenz",
    "Erstellt",
    "Geändert",
];

/// Which articles are to be written, and how.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body")]
pub struct ExportBody {
    /// All when absent.
    #[schema(max_items = 10000)]
    ids: Option<Vec<Uuid>>,
    /// `csv` when absent.
    #[schema(pattern = "^(csv|json)$")]
    format: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Csv,
    Json,
}

/// All articles or some, as CSV (UTF-8 with a byte order mark, semicolons, German headings) or as JSON.
#[utoipa::path(
    post, path = "/api/articles/export", tag = "label printer: articles", request_body = ExportBody,
    responses(
        (status = 200, description = "The file", content((String = "text/csv"), (Value = "application/json"))),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn export(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Refusal> {
    let fields = field::object(body)?;
    let format = match fields.get("format") {
        None | Some(Value::Null) => Format::Csv,
        Some(Value::String(word)) if word == "csv" => Format::Csv,
        Some(Value::String(word)) if word == "json" => Format::Json,
        Some(_) => return Err(bad("format must be csv or json.")),
    };
    let wanted = match fields.get("ids") {
        None | Some(Value::Null) => None,
        // A page without a selection sends an empty one.
        Some(Value::Array(list)) if list.is_empty() => None,
        Some(_) => Some(ids(&fields, MAX_IDS)?),
    };
    // The first page before the answer begins: a database that does not answer is still told of.
    let page = api.store.articles_after(caller.sees_only(), Uuid::nil(), wanted.as_deref()).await?;
    let pages = Pages { store: api.store, caller, wanted, page, format, begun: false, over: false };
    let (content_type, name) = match format {
        Format::Csv => ("text/csv; charset=utf-8", "artikel.csv"),
        Format::Json => ("application/json", "artikel.json"),
    };
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, Body::from_stream(stream::try_unfold(pages, Pages::next))).into_response())
}

struct Pages {
    store: Store,
    caller: Caller,
    wanted: Option<Vec<Uuid>>,
    page: Vec<Article>,
    format: Format,
    begun: bool,
    over: bool,
}

impl Pages {
    async fn next(mut self) -> Result<Option<(Bytes, Pages)>, StoreError> {
        if self.over {
            return Ok(None);
        }
        let mut text = String::new();
        match (self.format, self.begun) {
            (Format::Csv, false) => text = format!("\u{feff}{}", line(HEADINGS.map(str::to_owned))),
            (Format::Json, false) => text.push('['),
            (Format::Json, true) if !self.page.is_empty() => text.push(','),
            _ => {}
        }
        self.begun = true;
        match self.format {
            Format::Csv => self.page.iter().for_each(|article| text += &line(row(article))),
            Format::Json => {
                let articles: Vec<String> =
                    self.page.iter().map(|article| shown(article).to_string()).collect();
                text += &articles.join(",\n");
            }
        }
        let last = self.page.last().map(|article| article.id);
        if let Some(last) = last {
            let owner = self.caller.sees_only();
            self.page = self.store.articles_after(owner, last, self.wanted.as_deref()).await?;
        }
        if self.page.is_empty() {
            self.over = true;
            text += if self.format == Format::Json { "]" } else { "" };
        }
        Ok(Some((text.into(), self)))
    }
}

fn row(article: &Article) -> [String; 17] {
    let yes = |flag: bool| if flag { "ja" } else { "nein" }.to_owned();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let tiers =
        article.tiered_prices_text.clone().or_else(|| tiered_prices_text(&article.tiers, &article.currency));
    [
        article.article_number.clone(),
        article.product_name.clone(),
        text(&article.description),
        german(article.price),
        article.currency.clone(),
        article.price_type.word().to_owned(),
        tiers.unwrap_or_default(),
        text(&article.ean),
        text(&article.category),
        text(&article.manufacturer),
        image_url(article).unwrap_or_default(),
        article.source_url.clone(),
        yes(article.verified),
        yes(article.published),
        article.ocr_confidence.map(german).unwrap_or_default(),
        format_timestamp(article.created_at),
        format_timestamp(article.updated_at),
    ]
}

/// One line as RFC 4180 has it, but for semicolons, which Excel expects where the decimal mark is a comma.
fn line<const N: usize>(values: [String; N]) -> String {
    let values = values.map(|value| {
        let value = harmless(&value);
        if value.contains(['"', ';', '\n', '\r']) {
            format!("\"{}\"", value.replace('"', "\"\""))
        } else {
            value
        }
    });
    values.join(";") + "\r\n"
}

/// A text from a stranger's page that a spreadsheet would take for a formula gets an apostrophe in front.
fn harmless(value: &str) -> String {
    let formula =
        value.trim_start().starts_with(['=', '+', '-', '@']) || value.starts_with(['\t', '\r', '\n']);
    if formula { format!("'{value}") } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_a_formula_and_every_value_comes_back() {
        let values = ["=1+1", "@SUM(A1)", " -1", "a;b", "say \"hi\"", "two\nlines", "12,50", "plain"];
        let text = line(values.map(str::to_owned));
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).delimiter(b';').from_reader(text.as_bytes());
        let record = reader.records().next().unwrap().unwrap();
        let read: Vec<&str> = record.iter().collect();
        assert_eq!(read, ["'=1+1", "'@SUM(A1)", "' -1", "a;b", "say \"hi\"", "two\nlines", "12,50", "plain"]);
    }
}
