//! A spreadsheet whose columns a person assigns to the fields of articles: a look at it, and its import.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::body::{MAX_NAME, MAX_NUMBER, MAX_TEXT, MAX_WORD};
use crate::{
    dialects::label_printer::{
        answer::{Refusal, RefusalBody, success},
        excel::line,
        field::{self, bad},
        form::{File, Form, read},
    },
    http::{Api, Caller},
    product::{
        article::short_description,
        price_list::{KEPT_ERRORS, Limits, RowError, is_article_number},
        spreadsheet::{self, Cell},
    },
    store::ArticleUpdate,
};

/// Rows that a look at a file shows.
const SHOWN: usize = 20;
/// Columns that may be assigned.
const MAX_MAPPINGS: usize = 50;

/// The fields that a column may be assigned to: name, what it means, kind.
const FIELDS: [(&str, &str, &str); 15] = [
    ("productName", "Produktname", "string"),
    ("description", "Beschreibung, höchstens 500 Zeichen", "string"),
    ("price", "Preis", "number"),
    ("tieredPrices", "Staffelpreise als Text, wie „ab 10 Stück 4,50 €, ab 100 Stück 3,95 €“", "string"),
    ("tieredPricesText", "Staffelpreise, wie sie der Shop schreibt", "string"),
    ("currency", "Währung, drei Buchstaben", "string"),
    ("ean", "EAN, 8 bis 14 Ziffern", "string"),
    ("category", "Kategorie", "string"),
    ("manufacturer", "Hersteller", "string"),
    ("imageUrl", "Adresse des Bildes", "string"),
    ("thumbnailUrl", "Adresse des kleinen Bildes", "string"),
    ("sourceUrl", "Adresse der Produktseite", "string"),
    ("verified", "Geprüft: ja oder nein", "boolean"),
    ("published", "Veröffentlicht: ja oder nein", "boolean"),
    ("articleNumber", "Artikelnummer; nach ihr wird gesucht", "string"),
];

/// A form with a spreadsheet.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body that is read by hand")]
pub struct PreviewForm {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// A form with a spreadsheet and what to do with it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body that is read by hand")]
pub struct ImportForm {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// JSON: `{"matchColumn": {"type": "index" | "header" | "auto", "value": …}, "fieldMappings": [{"excelColumn": …,
    /// "dbField": …}], "startRow": 2}`; a column is its heading, its number from 0, or its letter.
    config: String,
}

/// The headings and the first rows of a spreadsheet.
#[utoipa::path(
    post, path = "/api/articles/excel-preview", tag = "label printer: articles",
    request_body(content = PreviewForm, content_type = "multipart/form-data"),
    responses((status = 200, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody)),
)]
pub async fn preview(State(api): State<Api>, request: Request) -> Result<Response, Refusal> {
    let (file, _) = Form::upload(&api, request).await?;
    let limits = Limits { bytes: api.max_upload, ..Limits::default() };
    let body = read(move || {
        let (mut headers, mut rows, mut total) = (Vec::new(), Vec::new(), 0u32);
        spreadsheet::read(&file.bytes, &file.name, limits, |row| {
            if row.number == 1 {
                headers = row.cells.iter().map(Cell::text).collect();
                return;
            }
            total += 1;
            if rows.len() < SHOWN {
                rows.push(row.cells.iter().map(Cell::json).collect::<Vec<_>>());
            }
        })?;
        let width = rows.iter().map(Vec::len).chain([headers.len()]).max().unwrap_or_default();
        headers.resize(width, String::new());
        rows.iter_mut().for_each(|row| row.resize(width, Value::Null));
        Ok(json!({
            "headers": headers,
            "rows": rows,
            "totalRows": total,
            "columnIndices": (0..width).collect::<Vec<_>>(),
        }))
    })
    .await?;
    Ok(success(body))
}

/// The fields that a column may be assigned to.
#[utoipa::path(
    get, path = "/api/articles/excel-valid-fields", tag = "label printer: articles",
    responses((status = 200, body = Value)),
)]
pub async fn valid_fields() -> Response {
    let fields: Vec<Value> = FIELDS
        .iter()
        .map(|(field, description, kind)| json!({ "field": field, "description": description, "type": kind }))
        .collect();
    Json(json!({ "success": true, "data": fields, "fields": fields })).into_response()
}

/// Changes the articles whose numbers stand in a spreadsheet; rows of other numbers are skipped.
#[utoipa::path(
    post, path = "/api/articles/excel-import", tag = "label printer: articles",
    request_body(content = ImportForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
        (status = 503, body = RefusalBody),
    ),
)]
pub async fn import(State(api): State<Api>, caller: Caller, request: Request) -> Result<Response, Refusal> {
    let (File { name, bytes }, fields) = Form::upload(&api, request).await?;
    let plan = Plan::read(fields.get("config").unwrap_or(&Value::Null))?;
    let limits = Limits { bytes: api.max_upload, ..Limits::default() };
    let rows = read(move || {
        let mut reader = Reader::new(plan);
        spreadsheet::read(&bytes, &name, limits, |row| reader.take(row.number, row.cells))?;
        Ok(reader)
    })
    .await?;
    if let Some(refusal) = rows.refusal {
        return Err(refusal);
    }
    if rows.columns.is_none() {
        return Err(bad("The file has no headings in its first row."));
    }
    let done = api.store.update_articles(caller.subject(), &rows.updates).await?;
    Ok(success(json!({
        "totalRows": rows.total,
        "matchedArticles": done.matched,
        "updatedArticles": done.updated,
        "skippedArticles": i64::from(rows.total) - done.matched,
        "errors": rows.errors.iter().map(line).collect::<Vec<_>>(),
        "errorCount": rows.error_count,
        "message": format!("{} of {} rows changed articles", done.matched, rows.total),
    })))
}

/// A column as a person names it.
#[derive(Clone, Debug, PartialEq)]
enum Column {
    /// From 0.
    Index(usize),
    /// A heading, else a letter, else a number.
    Named(String),
    /// The first whose heading is one of an article number.
    Auto,
}

impl Column {
    fn read(value: &Value) -> Option<Column> {
        match value {
            Value::Number(number) => Some(Column::Index(usize::try_from(number.as_u64()?).ok()?)),
            Value::String(name) if !name.trim().is_empty() => Some(Column::Named(name.trim().to_owned())),
            _ => None,
        }
    }

    fn place(&self, headers: &[String]) -> Option<usize> {
        match self {
            Column::Auto => headers.iter().position(|heading| is_article_number(heading)),
            Column::Index(index) => Some(*index).filter(|index| *index < headers.len()),
            Column::Named(name) => headers
                .iter()
                .position(|heading| heading == name)
                .or_else(|| headers.iter().position(|heading| heading.to_lowercase() == name.to_lowercase()))
                .or_else(|| name.parse().ok())
                .or_else(|| letters(name))
                .filter(|index| *index < headers.len()),
        }
    }
}

/// `A` is 0, `Z` is 25, `AA` is 26.
fn letters(name: &str) -> Option<usize> {
    if name.len() > 3 || !name.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let number = name.bytes().fold(0, |number, byte| number * 26 + usize::from(byte - b'A') + 1);
    number.checked_sub(1)
}

/// What is to be done with a spreadsheet.
#[derive(Debug)]
struct Plan {
    match_column: Column,
    mappings: Vec<(Column, &'static str)>,
    start_row: u32,
}

impl Plan {
    fn read(config: &Value) -> Result<Plan, Refusal> {
        let config: Map<String, Value> = match config {
            Value::String(text) => {
                serde_json::from_str(text).map_err(|_| bad("config must be a JSON object."))?
            }
            _ => return Err(bad("Send the field config: a JSON object with matchColumn and fieldMappings.")),
        };
        let match_column = config.get("matchColumn").and_then(Value::as_object);
        let match_column = match match_column.and_then(|column| column.get("type")).and_then(Value::as_str) {
            None | Some("auto") => Column::Auto,
            Some("index" | "header") => match_column
                .and_then(|column| column.get("value"))
                .and_then(Column::read)
                .ok_or_else(|| bad("matchColumn needs a value: a heading, or a number from 0."))?,
            Some(_) => return Err(bad("matchColumn.type must be index, header or auto.")),
        };
        let wrong = || {
            bad(format!(
                "fieldMappings must be a list of 1 to {MAX_MAPPINGS} such as {{\"excelColumn\": \"Preis\", \"dbField\": \"price\"}}."
            ))
        };
        let list = config.get("fieldMappings").and_then(Value::as_array).ok_or_else(wrong)?;
        if list.is_empty() || list.len() > MAX_MAPPINGS {
            return Err(wrong());
        }
        let mut mappings = Vec::with_capacity(list.len());
        for mapping in list {
            let column = mapping.get("excelColumn").and_then(Column::read).ok_or_else(wrong)?;
            let field = mapping.get("dbField").and_then(Value::as_str).ok_or_else(wrong)?;
            let known = FIELDS.iter().find(|(name, ..)| *name == field);
            let (field, ..) = known.ok_or_else(|| {
                bad(format!("{field:.50} is no field; /api/articles/excel-valid-fields lists them."))
            })?;
            mappings.push((column, *field));
        }
        let start_row = match config.get("startRow") {
            None | Some(Value::Null) => 2,
            Some(value) => value
                .as_u64()
                .and_then(|row| u32::try_from(row).ok())
                .filter(|row| *row >= 1)
                .ok_or_else(|| bad("startRow must be a number from 1."))?,
        };
        Ok(Plan { match_column, mappings, start_row })
    }
}

/// The column that names the article, and the columns of fields with the field that each fills.
type Places = (usize, Vec<(usize, &'static str)>);

/// Rows on their way to updates.
struct Reader {
    plan: Plan,
    headers: Vec<String>,
    /// Where the article number stands, and where each field does; `None` before the first row.
    columns: Option<Places>,
    refusal: Option<Refusal>,
    total: u32,
    updates: Vec<ArticleUpdate>,
    errors: Vec<RowError>,
    error_count: u32,
    first_rows: HashMap<String, u32>,
}

impl Reader {
    fn new(plan: Plan) -> Reader {
        Reader {
            plan,
            headers: Vec::new(),
            columns: None,
            refusal: None,
            total: 0,
            updates: Vec::new(),
            errors: Vec::new(),
            error_count: 0,
            first_rows: HashMap::new(),
        }
    }

    fn take(&mut self, number: u32, cells: &[Cell]) {
        if self.refusal.is_some() {
            return;
        }
        if self.columns.is_none() {
            self.headers = cells.iter().map(Cell::text).collect();
            match self.places() {
                Ok(columns) => self.columns = Some(columns),
                Err(refusal) => self.refusal = Some(refusal),
            }
        }
        let Some((key, fields)) = self.columns.clone() else { return };
        if number < self.plan.start_row {
            return;
        }
        self.total += 1;
        let article_number = cells.get(key).map(Cell::text).unwrap_or_default();
        if article_number.is_empty() || article_number.chars().count() > MAX_NUMBER {
            self.fail(number, Some(key), "Artikelnummer fehlt");
            return;
        }
        if let Some(first) = self.first_rows.insert(article_number.clone(), number) {
            let message =
                format!("Artikelnummer {article_number} steht schon in Zeile {first}; die letzte gilt");
            self.fail(number, Some(key), &message);
        }
        let mut values = Map::new();
        for (at, name) in fields {
            match cells.get(at).unwrap_or(&Cell::Empty) {
                Cell::Empty => {}
                Cell::Bad(why) => self.fail(number, Some(at), why),
                cell => match value(name, cell) {
                    Ok(value) => values.extend(value.map(|value| (name.to_owned(), value))),
                    Err(why) => self.fail(number, Some(at), &why),
                },
            }
        }
        self.updates.push(ArticleUpdate { article_number, fields: values.into() });
    }

    fn places(&self) -> Result<Places, Refusal> {
        let missing = |column: &Column| match column {
            Column::Auto => bad("No column has a heading such as Artikelnummer; name it in matchColumn."),
            Column::Index(index) => bad(format!("The file has no column {index}; the first is 0.")),
            Column::Named(name) => bad(format!("The file has no column “{name:.50}”.")),
        };
        let place = |column: &Column| column.place(&self.headers).ok_or_else(|| missing(column));
        let key = place(&self.plan.match_column)?;
        let fields = self.plan.mappings.iter().map(|(column, field)| Ok((place(column)?, *field)));
        Ok((key, fields.collect::<Result<_, Refusal>>()?))
    }

    fn fail(&mut self, row: u32, column: Option<usize>, message: &str) {
        self.error_count += 1;
        if self.errors.len() < KEPT_ERRORS {
            let column = column.and_then(|at| self.headers.get(at)).filter(|name| !name.is_empty()).cloned();
            self.errors.push(RowError { row, column, message: message.to_owned() });
        }
    }
}

/// A cell as the value of a field; `None` for the key itself.
fn value(name: &str, cell: &Cell) -> Result<Option<Value>, String> {
    let text = Value::from(cell.text());
    let words = |longest| field::text(name, &text, longest);
    let read = match name {
        "productName" => words(MAX_NAME).map(|name| json!(name)),
        "description" => words(MAX_TEXT).map(|text| json!(text.map(|text| short_description(&text)))),
        "tieredPricesText" => words(MAX_TEXT).map(|text| json!(text)),
        "category" | "manufacturer" => words(MAX_WORD).map(|word| json!(word)),
        "price" => return cell.price().map(|price| Some(json!(price))).ok_or_else(|| unreadable(cell)),
        "tieredPrices" => return tiers(&cell.text()).map(Some).ok_or_else(|| unreadable(cell)),
        "currency" => field::currency(name, &text).map(|code| json!(code)),
        "ean" => field::ean(name, &text).map(|code| json!(code)),
        "imageUrl" | "thumbnailUrl" | "sourceUrl" => {
            field::address(name, &text).map(|address| json!(address))
        }
        "verified" | "published" => {
            return yes(&cell.text()).map(|yes| Some(json!(yes))).ok_or_else(|| unreadable(cell));
        }
        _ => return Ok(None),
    };
    read.map(|value| Some(value).filter(|value| !value.is_null())).map_err(|_| unreadable(cell))
}

fn unreadable(cell: &Cell) -> String {
    format!("„{:.50}“ ist hier nicht lesbar", cell.text())
}

fn yes(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "ja" | "yes" | "true" | "wahr" | "x" | "1" => Some(true),
        "nein" | "no" | "false" | "falsch" | "0" => Some(false),
        _ => None,
    }
}

/// `ab 10 Stück 4,50 €, ab 100 Stück 3,95 €`, or `10: 4,50; 100: 3,95`.
fn tiers(text: &str) -> Option<Value> {
    let mut tiers = Vec::new();
    // A comma with a space behind it parts prices; one without is a decimal mark.
    for part in text.replace(", ", ";").split([';', '|', '\n']).map(str::trim).filter(|part| !part.is_empty())
    {
        let rest = part.to_lowercase();
        let rest = rest.trim_start_matches("ab").trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let quantity: u32 = rest[..end].replace('.', "").parse().ok().filter(|quantity| *quantity > 0)?;
        let price = crate::product::parse_price(&rest[end..])?;
        tiers.push(json!({ "minQuantity": quantity, "price": price }));
    }
    (!tiers.is_empty()).then(|| tiers.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_found_by_heading_number_or_letter() {
        let headers: Vec<String> = ["Nr", "Preis", "C"].map(str::to_owned).into();
        for (column, place) in [
            (json!("preis"), Some(1)),
            (json!(2), Some(2)),
            (json!("0"), Some(0)),
            (json!("B"), Some(1)),
            // A heading comes before a letter.
            (json!("C"), Some(2)),
            (json!("D"), None),
            (json!(3), None),
        ] {
            assert_eq!(Column::read(&column).unwrap().place(&headers), place, "{column}");
        }
        assert_eq!((letters("AA"), letters("a"), Column::read(&json!(-1))), (Some(26), None, None));
    }

    #[test]
    fn tier_prices_are_read_as_they_are_written() {
        let expected = json!([{ "minQuantity": 10, "price": 4.5 }, { "minQuantity": 1000, "price": 3.95 }]);
        for text in
            ["ab 10 Stück 4,50 €, ab 1.000 Stück 3,95 €", "10: 4,5 | 1000: 3.95", "AB 10: 4,50\n1000 3,95"]
        {
            assert_eq!(tiers(text).unwrap(), expected, "{text}");
        }
        for text in ["", "gratis", "ab 0 Stück 1,00", "10"] {
            assert_eq!(tiers(text), None, "{text}");
        }
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        for config in [
            json!(null),
            json!("{"),
            json!("[]"),
            json!("{}"),
            json!(r#"{"fieldMappings":[]}"#),
            json!(r#"{"fieldMappings":[{"excelColumn":"A","dbField":"id"}]}"#),
            json!(r#"{"fieldMappings":[{"excelColumn":"A","dbField":"price"}],"startRow":0}"#),
            json!(
                r#"{"matchColumn":{"type":"index"},"fieldMappings":[{"excelColumn":"A","dbField":"price"}]}"#
            ),
        ] {
            assert!(Plan::read(&config).is_err(), "{config}");
        }
    }
}
