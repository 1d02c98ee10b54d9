//! Workbooks for people: an empty one with the headings that are understood, and one with all known products, which
//! can be changed and uploaded again.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    dialects::label_printer::{
        answer::{Refusal, RefusalBody},
        field::bad,
    },
    http::Api,
    product::Tier,
    store::{ListedRow, StoreError},
};

const CONTENT_TYPE: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
/// The columns that every workbook has.
const HEADINGS: [&str; 8] =
    ["Artikelnummer", "Beschreibung", "Produktname", "EAN", "Preis", "Währung", "Kategorie", "Zusatzinfo"];
/// Columns beside those: an upload takes a hundred in all.
const MAX_TIERS: usize = 20;
const MAX_CUSTOM: usize = 72;
/// Characters of a cell.
const MAX_CELL: usize = 32_767;
/// Products that are read at once, and pages of them that wait for the writer.
const PAGE: i64 = 1000;
const WAITING: usize = 2;
/// Rows of a sheet, without the headings.
const MAX_ROWS: u32 = 1_048_575;
/// Workbooks that are written at once.
static WRITERS: Semaphore = Semaphore::const_new(2);

/// An empty workbook with the headings that are understood, and two examples.
#[utoipa::path(
    get, path = "/api/excel/template", tag = "label printer: spreadsheets",
    responses((status = 200, body = Vec<u8>, content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")),
)]
pub async fn template() -> Result<Response, Refusal> {
    let written = tokio::task::spawn_blocking(write_template).await;
    attachment(written, "artikel-vorlage.xlsx")
}

/// All known products as a workbook.
#[utoipa::path(
    get, path = "/api/excel/export", tag = "label printer: spreadsheets",
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (status = 503, body = RefusalBody),
    ),
)]
pub async fn export(State(api): State<Api>) -> Result<Response, Refusal> {
    let columns = api.store.product_columns(MAX_TIERS as i64, MAX_CUSTOM as i64).await?;
    // Never closed, so a permit always comes.
    let permit = WRITERS.acquire().await;
    let (pages, receiver) = mpsc::channel(WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        write_products(columns, receiver)
    });
    let mut after = String::new();
    loop {
        let page = api.store.products_after(&after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.article_number.clone();
        let is_last = (page.len() as i64) < PAGE;
        // The writer is gone when it failed; it says why.
        if pages.send(page).await.is_err() || is_last {
            break;
        }
    }
    drop(pages);
    attachment(writing.await, "artikel.xlsx")
}

fn attachment<E>(written: Result<Result<Vec<u8>, XlsxError>, E>, name: &str) -> Result<Response, Refusal> {
    let bytes = match written {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            tracing::error!(%error, "a workbook could not be written");
            return Err(StoreError::Corrupt { table: "products", detail: error.to_string() }.into());
        }
        Err(_) => return Err(bad("The writer failed; the server's log tells why.")),
    };
    let headers = [
        (header::CONTENT_TYPE, CONTENT_TYPE.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, bytes).into_response())
}

/// Names nobody and no moment, so that the same products give the same file.
fn workbook() -> Result<Workbook, XlsxError> {
    let mut workbook = Workbook::new();
    let properties = DocProperties::new().set_creation_datetime(&ExcelDateTime::from_ymd(2026, 1, 1)?);
    workbook.set_properties(&properties);
    Ok(workbook)
}

fn headings<'a>(sheet: &mut Worksheet, more: impl Iterator<Item = &'a str>) -> Result<(), XlsxError> {
    let bold = Format::new().set_bold();
    sheet.set_freeze_panes(1, 0)?;
    for (column, heading) in HEADINGS.into_iter().chain(more).enumerate() {
        let column = column as u16;
        sheet.set_column_width(column, if column == 1 || column == 2 { 40.0 } else { 16.0 })?;
        sheet.write_string_with_format(0, column, heading, &bold)?;
    }
    Ok(())
}

fn write_template() -> Result<Vec<u8>, XlsxError> {
    let mut workbook = workbook()?;
    let sheet = workbook.add_worksheet();
    sheet.set_name("Artikel")?;
    headings(sheet, ["ab 10", "ab 100"].into_iter())?;
    let examples: [([&str; 8], f64, &[f64]); 2] = [
        (
            [
                "BEISPIEL-1",
                "Spanplattenschraube 4 x 40 mm, verzinkt, 200 Stück",
                "Spanplattenschraube 4 x 40 mm",
                "4006381333931",
                "",
                "EUR",
                "Schrauben",
                "Bitte die Beispiele löschen",
            ],
            4.99,
            &[4.5, 3.95],
        ),
        (["BEISPIEL-2", "Wandfarbe weiß matt, 5 l", "", "", "", "EUR", "Farben", ""], 29.99, &[]),
    ];
    for (row, (texts, price, tiers)) in examples.into_iter().enumerate() {
        let row = row as u32 + 1;
        for (column, text) in texts.into_iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            sheet.write_string(row, column as u16, text)?;
        }
        sheet.write_number(row, 4, price)?;
        for (column, price) in tiers.iter().enumerate() {
            sheet.write_number(row, (HEADINGS.len() + column) as u16, *price)?;
        }
    }
    workbook.save_to_buffer()
}

/// Row after row into a temporary file: memory stays flat however many products there are.
fn write_products(
    (tiers, custom): (Vec<i32>, Vec<String>),
    mut pages: mpsc::Receiver<Vec<ListedRow>>,
) -> Result<Vec<u8>, XlsxError> {
    let mut workbook = workbook()?;
    let sheet = workbook.add_worksheet_with_constant_memory()?;
    sheet.set_name("Artikel")?;
    let tier_headings: Vec<String> = tiers.iter().map(|quantity| format!("ab {quantity}")).collect();
    headings(sheet, tier_headings.iter().chain(&custom).map(String::as_str))?;
    let mut row = 0;
    while let Some(page) = pages.blocking_recv() {
        for product in page {
            if row == MAX_ROWS {
                break;
            }
            row += 1;
            write_product(sheet, row, &product, &tiers, &custom)?;
        }
    }
    workbook.save_to_buffer()
}

fn write_product(
    sheet: &mut Worksheet,
    row: u32,
    product: &ListedRow,
    tiers: &[i32],
    custom: &[String],
) -> Result<(), XlsxError> {
    // Always as text: `=1+1` in a product's name is a name, not a formula.
    let text = |sheet: &mut Worksheet, column: usize, text: Option<&str>| -> Result<(), XlsxError> {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            sheet.write_string(row, column as u16, text.chars().take(MAX_CELL).collect::<String>())?;
        }
        Ok(())
    };
    text(sheet, 0, Some(&product.article_number))?;
    text(sheet, 1, product.description.as_deref().or(Some(&product.name)))?;
    text(sheet, 2, Some(&product.name))?;
    text(sheet, 3, product.ean.as_deref())?;
    if let Some(price) = product.price {
        sheet.write_number(row, 4, price)?;
    }
    text(sheet, 5, product.currency.as_deref())?;
    text(sheet, 6, product.category.as_deref())?;
    text(sheet, 7, product.additional_info.as_deref())?;
    let listed: Vec<Tier> = serde_json::from_value(product.tiers.clone()).unwrap_or_default();
    let prices: BTreeMap<i64, f64> =
        listed.iter().map(|tier| (i64::from(tier.min_quantity), tier.price)).collect();
    for (column, quantity) in tiers.iter().enumerate() {
        if let Some(price) = prices.get(&i64::from(*quantity)) {
            sheet.write_number(row, (HEADINGS.len() + column) as u16, *price)?;
        }
    }
    for (column, heading) in custom.iter().enumerate() {
        let value = product.custom_fields.get(heading).and_then(Value::as_str);
        text(sheet, HEADINGS.len() + tiers.len() + column, value)?;
    }
    Ok(())
}
