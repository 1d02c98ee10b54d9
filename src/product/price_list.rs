//! Reads a shop's price list out of a spreadsheet: the first row holds the headings, in German or English; every
//! other row is a product.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::spreadsheet::{self, Cell};
pub use super::spreadsheet::{Limits, SpreadsheetError};
use crate::product::{ProductFacts, Tier, is_ean13};

/// Unusable cells and rows of a list that are kept; all are counted.
pub const KEPT_ERRORS: usize = 1000;
/// Characters of an article number; a longer one is none.
const MAX_ARTICLE_NUMBER: usize = 100;
/// Characters of a heading that count.
const MAX_HEADING: usize = 200;
/// Characters of a name and of a category; what is longer is cut.
const MAX_NAME: usize = 500;

/// One product of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedProduct {
    /// As the spreadsheet counts: the headings are row 1.
    pub row: u32,
    /// `description` is the listed one; `name` is the column of that kind, else the description.
    pub facts: ProductFacts,
    pub category: Option<String>,
    pub additional_info: Option<String>,
    /// Every other column that has a value, by its heading.
    pub custom_fields: BTreeMap<String, String>,
}

/// What is wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    pub row: u32,
    /// The heading, when one cell is to blame.
    pub column: Option<String>,
    pub message: String,
}

/// What is to be said of a list beside its products.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Rows with any content, without the headings.
    pub total_rows: u32,
    /// Rows that have both an article number and a description, each article number once.
    pub valid_rows: u32,
    pub headers: Vec<String>,
    /// The first [`KEPT_ERRORS`]. A row without its mandatory cells is no product; a row with an unreadable price or EAN
    /// is one, without it.
    pub errors: Vec<RowError>,
    /// All errors.
    pub error_count: u32,
}

/// A list that is held as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PriceList {
    pub products: Vec<ListedProduct>,
    pub summary: Summary,
}

/// Reads a whole file. `file_name` is for messages only: the content tells what it is.
///
/// # Errors
/// A sentence that says what to do.
pub fn parse(bytes: &[u8], file_name: &str, limits: Limits) -> Result<PriceList, SpreadsheetError> {
    let mut products = Vec::new();
    let summary = parse_each(bytes, file_name, limits, |product, _| products.push(product))?;
    Ok(PriceList { products, summary })
}

/// Reads a whole file and passes each product on, with the number of rows that the sheet says to have (0 when it does
/// not say).
///
/// # Errors
/// A sentence that says what to do; products that came before it are not to be used.
pub fn parse_each(
    bytes: &[u8],
    file_name: &str,
    limits: Limits,
    mut each: impl FnMut(ListedProduct, u32),
) -> Result<Summary, SpreadsheetError> {
    let mut reader = ListReader::default();
    spreadsheet::read(bytes, file_name, limits, |row| {
        if let Some(product) = reader.take(row.number, row.cells) {
            each(product, row.expected);
        }
    })?;
    reader.end(file_name)
}

/// Takes rows that came as JSON objects; their keys are the headings, and row 2 is the first of them.
///
/// # Errors
/// A sentence that says what to do.
pub fn from_objects(rows: &[Map<String, Value>], limits: Limits) -> Result<PriceList, SpreadsheetError> {
    let mut reader = ListReader::default();
    let mut products = Vec::new();
    spreadsheet::read_objects(rows, limits, |row| products.extend(reader.take(row.number, row.cells)))?;
    Ok(PriceList { products, summary: reader.end("The list")? })
}

/// What a column holds; the number is the heading's place in its list: the first that has a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    ArticleNumber(usize),
    Description(usize),
    Name,
    Ean,
    Price,
    Currency,
    Category,
    /// The price per piece from this quantity on.
    Tier(u32),
    AdditionalInfo(usize),
    Other,
}

const ARTICLE_NUMBER: [&str; 8] = [
    "artikelnummer",
    "article number",
    "sku",
    "art-nr",
    "article_number",
    "art.-nr.",
    "artikel-nr.",
    "articlenumber",
];
const DESCRIPTION: [&str; 8] = [
    "beschreibung",
    "description",
    "produktbeschreibung",
    "name",
    "bezeichnung",
    "artikelbezeichnung",
    "produktname",
    "productname",
];
const ADDITIONAL_INFO: [&str; 5] = ["additional info", "zusatzinfo", "notes", "hinweise", "additional_info"];

/// Whether a column of this heading holds article numbers.
pub fn is_article_number(heading: &str) -> bool {
    columns(heading).iter().any(|column| matches!(column, Column::ArticleNumber(_)))
}

/// A column may be two things: `Name` is the description where there is no other.
fn columns(heading: &str) -> Vec<Column> {
    let heading = heading.to_lowercase();
    // `Preis (€)`, `Preis in EUR` and `ab 10 Stück` mean what stands in front.
    let plain = heading.split(['(', '[', '€']).next().unwrap_or_default().trim();
    let plain = ["in eur", "eur", "stück", "stk", "stk."]
        .iter()
        .fold(plain, |rest, unit| rest.trim_end_matches(unit).trim());
    let place = |list: &[&str]| list.iter().position(|known| *known == heading.trim());
    let mut found = Vec::new();
    found.extend(place(&ARTICLE_NUMBER).map(Column::ArticleNumber));
    found.extend(place(&DESCRIPTION).map(Column::Description));
    found.extend(place(&ADDITIONAL_INFO).map(Column::AdditionalInfo));
    match plain {
        "name" | "bezeichnung" | "artikelbezeichnung" | "produktname" | "product name" | "productname" => {
            found.push(Column::Name)
        }
        "ean" | "gtin" | "ean-code" | "ean13" | "ean-13" | "ean/gtin" => found.push(Column::Ean),
        "preis" | "price" | "einzelpreis" | "stückpreis" | "verkaufspreis" | "vk" => {
            found.push(Column::Price)
        }
        "währung" | "currency" => found.push(Column::Currency),
        "kategorie" | "category" | "warengruppe" => found.push(Column::Category),
        _ => {
            let quantity = plain.strip_prefix("ab ").map(|number| number.trim().replace('.', ""));
            found.extend(quantity.and_then(|n| n.parse().ok()).filter(|n| *n > 0).map(Column::Tier));
        }
    }
    if found.is_empty() {
        found.push(Column::Other);
    }
    found
}

/// Rows on their way to products.
#[derive(Default)]
struct ListReader {
    /// What each column holds; `None` before the headings.
    columns: Option<Vec<Vec<Column>>>,
    first_rows: HashMap<String, u32>,
    summary: Summary,
}

impl ListReader {
    fn take(&mut self, number: u32, cells: &[Cell]) -> Option<ListedProduct> {
        let Some(columns) = &self.columns else {
            // Headings that do not stand in the first row are none.
            if number == 1 {
                self.summary.headers = cells.iter().map(|cell| cut(&cell.text(), MAX_HEADING)).collect();
                self.columns = Some(self.summary.headers.iter().map(|heading| columns(heading)).collect());
            } else {
                self.columns = Some(Vec::new());
            }
            return None;
        };
        if self.summary.headers.is_empty() {
            return None;
        }
        self.summary.total_rows += 1;
        let row = Row { number, cells, columns, headers: &self.summary.headers };
        let mut errors = Vec::new();
        let product = row.product(&mut errors, &mut self.first_rows);
        self.summary.error_count += errors.len() as u32;
        let room = KEPT_ERRORS.saturating_sub(self.summary.errors.len());
        self.summary.errors.extend(errors.into_iter().take(room));
        self.summary.valid_rows += u32::from(product.is_some());
        product
    }

    fn end(self, file_name: &str) -> Result<Summary, SpreadsheetError> {
        if self.summary.headers.iter().all(String::is_empty) {
            return Err(SpreadsheetError::NoHeadings { file: file_name.chars().take(200).collect() });
        }
        Ok(self.summary)
    }
}

struct Row<'a> {
    number: u32,
    cells: &'a [Cell],
    columns: &'a [Vec<Column>],
    headers: &'a [String],
}

impl Row<'_> {
    fn error(&self, column: Option<usize>, message: &str) -> RowError {
        let column = column.and_then(|at| self.headers.get(at)).cloned();
        RowError { row: self.number, column, message: message.to_owned() }
    }

    /// The cells with a value, each with its place and what its column holds.
    fn filled(&self) -> impl Iterator<Item = (usize, &Cell, Column)> {
        let has_value = |cell: &Cell| !matches!(cell, Cell::Empty | Cell::Bad(_));
        let cells =
            self.cells.iter().zip(self.columns).enumerate().filter(move |(_, (cell, _))| has_value(cell));
        cells.flat_map(|(at, (cell, columns))| columns.iter().map(move |column| (at, cell, *column)))
    }

    /// The first value of the wanted columns, in the order of their ranks.
    fn first(&self, rank: impl Fn(Column) -> Option<usize>) -> Option<(usize, &Cell)> {
        let ranked = self.filled().filter_map(|(at, cell, column)| Some((rank(column)?, at, cell)));
        ranked.min_by_key(|(rank, at, _)| (*rank, *at)).map(|(_, at, cell)| (at, cell))
    }

    fn text(&self, rank: impl Fn(Column) -> Option<usize>) -> Option<String> {
        self.first(rank).map(|(_, cell)| cell.text())
    }

    /// The product of a row that is one.
    fn product(
        &self,
        errors: &mut Vec<RowError>,
        first_rows: &mut HashMap<String, u32>,
    ) -> Option<ListedProduct> {
        for (at, cell) in self.cells.iter().enumerate() {
            if let Cell::Bad(why) = cell {
                errors.push(self.error(Some(at), why));
            }
        }
        let product = self.values(errors);
        let Some(article_number) = product.facts.article_number.clone() else {
            errors.push(self.error(None, "Artikelnummer fehlt"));
            return None;
        };
        if article_number.chars().count() > MAX_ARTICLE_NUMBER {
            let message = format!("Artikelnummer ist länger als {MAX_ARTICLE_NUMBER} Zeichen");
            errors.push(self.error(None, &message));
            return None;
        }
        if product.facts.description.is_none() {
            errors.push(self.error(None, "Beschreibung fehlt"));
            return None;
        }
        if let Some(first) = first_rows.get(&article_number) {
            let message = format!("Artikelnummer {article_number} steht schon in Zeile {first}");
            errors.push(self.error(None, &message));
            return None;
        }
        first_rows.insert(article_number, self.number);
        Some(product)
    }

    fn values(&self, errors: &mut Vec<RowError>) -> ListedProduct {
        let is = |wanted: Column| move |column: Column| (column == wanted).then_some(0);
        let description =
            self.text(|column| if let Column::Description(rank) = column { Some(rank) } else { None });
        let ean = self.first(is(Column::Ean)).and_then(|(at, cell)| {
            let code: String = cell.text().chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
            if !is_ean13(&code) {
                errors.push(self.error(Some(at), &format!("EAN {code} ist keine gültige EAN-13")));
                return None;
            }
            Some(code)
        });
        let price = self.first(is(Column::Price)).and_then(|(at, cell)| self.price(at, cell, errors));
        let mut tiers: Vec<Tier> = Vec::new();
        for (at, cell, column) in self.filled() {
            if let Column::Tier(min_quantity) = column
                && let Some(price) = self.price(at, cell, errors)
            {
                tiers.push(Tier { min_quantity, price });
            }
        }
        tiers.sort_by_key(|tier| tier.min_quantity);
        tiers.dedup_by_key(|tier| tier.min_quantity);
        let currency =
            self.text(is(Column::Currency)).map(|currency| currency.replace('€', "EUR").to_uppercase());
        ListedProduct {
            row: self.number,
            facts: ProductFacts {
                article_number: self
                    .text(|column| if let Column::ArticleNumber(rank) = column { Some(rank) } else { None }),
                name: self
                    .text(is(Column::Name))
                    .or_else(|| description.clone())
                    .map(|name| cut(&name, MAX_NAME)),
                currency: currency.or_else(|| price.map(|_| "EUR".to_owned())),
                price,
                tiers,
                ean,
                description,
                image_url: None,
            },
            category: self.text(is(Column::Category)).map(|category| cut(&category, MAX_NAME)),
            additional_info: self
                .text(|column| if let Column::AdditionalInfo(rank) = column { Some(rank) } else { None }),
            custom_fields: self
                .filled()
                .filter(|(_, _, column)| *column == Column::Other)
                .map(|(at, cell, _)| (self.headers[at].clone(), cell.text()))
                .filter(|(heading, _)| !heading.is_empty())
                .collect(),
        }
    }

    fn price(&self, at: usize, cell: &Cell, errors: &mut Vec<RowError>) -> Option<f64> {
        let price = cell.price();
        if price.is_none() {
            errors.push(self.error(Some(at), &format!("Preis „{}“ ist nicht lesbar", cell.text())));
        }
        price
    }
}

/// The first characters of a text.
fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use proptest::prelude::*;
    use rust_xlsxwriter::{ExcelDateTime, Format, Workbook};

    use super::*;

    /// The demo shop's price list, saved in the format of old.
    const XLS: &[u8] = include_bytes!("../../tests/fixtures/shop/price-list.xls");

    fn csv(text: &str) -> PriceList {
        parse(text.as_bytes(), "liste.csv", Limits::default()).unwrap()
    }

    fn refused(bytes: &[u8], limits: Limits) -> String {
        parse(bytes, "liste", limits).map(|list| list.summary.total_rows).unwrap_err().to_string()
    }

    #[test]
    fn a_workbook_is_read_with_its_numbers_dates_and_own_columns() {
        let mut workbook = Workbook::new();
        let day = Format::new().set_num_format("yyyy-mm-dd");
        let sheet = workbook.add_worksheet();
        let headings = [
            "Artikelnummer",
            "Beschreibung",
            "EAN",
            "Preis (€)",
            "Kategorie",
            "ab 10",
            "ab 1.000 Stück",
            "Lager",
        ];
        sheet.write_row(0, 0, headings).unwrap();
        sheet.write_row(1, 0, [10023.0]).unwrap();
        sheet.write(1, 1, " Schraube für Größe 4 ").unwrap();
        sheet.write(1, 2, 2_000_000_100_234_u64).unwrap();
        sheet.write(1, 3, 0.1 + 0.2).unwrap();
        sheet.write(1, 4, "Schrauben & Dübel").unwrap();
        sheet.write(1, 5, "1.234,5 €").unwrap();
        sheet.write(1, 6, 12.345).unwrap();
        sheet.write_with_format(1, 7, ExcelDateTime::from_ymd(2025, 3, 9).unwrap(), &day).unwrap();
        workbook.add_worksheet().write(0, 0, "a second sheet is not read").unwrap();
        let list = parse(&workbook.save_to_buffer().unwrap(), "liste.xlsx", Limits::default()).unwrap();

        assert_eq!(list.summary.headers, headings);
        assert_eq!((list.summary.total_rows, list.summary.errors), (1, vec![]));
        let product = &list.products[0];
        assert_eq!(product.row, 2);
        assert_eq!(product.facts.article_number.as_deref(), Some("10023"));
        assert_eq!(product.facts.name.as_deref(), Some("Schraube für Größe 4"));
        assert_eq!(product.facts.ean.as_deref(), Some("2000000100234"));
        assert_eq!(product.facts.price, Some(0.3));
        let tiers = [Tier { min_quantity: 10, price: 1234.5 }, Tier { min_quantity: 1000, price: 12.35 }];
        assert_eq!(product.facts.tiers, tiers);
        assert_eq!(product.category.as_deref(), Some("Schrauben & Dübel"));
        assert_eq!(product.custom_fields, BTreeMap::from([("Lager".to_owned(), "2025-03-09".to_owned())]));
    }

    #[test]
    fn a_list_may_come_as_objects() {
        let objects = |json: &str| -> Vec<Map<String, Value>> { serde_json::from_str(json).unwrap() };
        let rows = objects(
            r#"[{"articleNumber": 4711, "productName": "Klemme\u0000", "price": 2.5, "stock": null},
                {"price": "12,50 €", "ean": "4006381333931", "Artikelnummer": "4712", "Beschreibung": "Bolzen"},
                {"productName": "nameless"}]"#,
        );
        let list = from_objects(&rows, Limits::default()).unwrap();
        let found: Vec<_> = list
            .products
            .iter()
            .map(|p| (p.row, p.facts.article_number.as_deref(), p.facts.name.as_deref(), p.facts.price))
            .collect();
        assert_eq!(
            found,
            [(2, Some("4711"), Some("Klemme"), Some(2.5)), (3, Some("4712"), Some("Bolzen"), Some(12.5))]
        );
        assert_eq!(list.products[1].facts.ean.as_deref(), Some("4006381333931"));
        assert_eq!(list.summary.errors.len(), 1);
        assert_eq!(list.summary.errors[0].row, 4);

        let wide: String = (0..101).map(|n| format!("\"k{n}\": 1,")).collect();
        let wide = objects(&format!("[{{{wide} \"sku\": 1}}]"));
        assert!(from_objects(&wide, Limits::default()).unwrap_err().to_string().contains("columns"));
    }

    #[test]
    fn an_old_workbook_is_read_too() {
        let list = parse(XLS, "preisliste.xls", Limits::default()).unwrap();
        assert_eq!((list.products.len(), list.summary.errors), (33, vec![]));
        let facts = &list.products[0].facts;
        assert_eq!(facts.name.as_deref(), Some("Spanplattenschraube Senkkopf 4 × 40 mm, verzinkt"));
        assert_eq!((facts.price, facts.ean.as_deref()), (Some(4.99), Some("2000000100234")));
        assert_eq!(
            facts.tiers,
            [Tier { min_quantity: 10, price: 4.5 }, Tier { min_quantity: 100, price: 3.95 }]
        );
    }

    #[test]
    fn text_is_read_whatever_its_separator_and_encoding() {
        let rows = "Artikelnummer;Beschreibung;Preis\nSD-1;Dübel für Größe 8;1.234,50 €\n";
        let windows: Vec<u8> = rows.chars().map(|c| if c == '€' { 0x80 } else { c as u8 }).collect();
        let expected = csv(rows).products;
        assert_eq!(expected[0].facts.price, Some(1234.5));
        assert_eq!(expected[0].facts.description.as_deref(), Some("Dübel für Größe 8"));
        let with_mark = [b"\xEF\xBB\xBF", rows.as_bytes()].concat();
        for bytes in [
            windows,
            with_mark,
            rows.replace(';', "\t").into_bytes(),
            rows.replace('\n', "\r\n").into_bytes(),
        ] {
            assert_eq!(parse(&bytes, "liste.csv", Limits::default()).unwrap().products, expected);
        }
        let commas = "SKU,Description,Price\nSD-1,\"Dübel, grau; für \"\"Größe\"\" 8\",12.50\n";
        let facts = &csv(commas).products[0].facts;
        assert_eq!(facts.name.as_deref(), Some("Dübel, grau; für \"Größe\" 8"));
        assert_eq!(facts.price, Some(12.5));
    }

    #[test]
    fn rows_are_numbered_as_the_spreadsheet_shows_them() {
        let list = csv("Artikelnummer;Beschreibung\n\n;fehlt\nA-1;\"zwei\nZeilen\"\n\nA-2;\n;;\nA-3;da\n");
        let rows: Vec<u32> = list.products.iter().map(|product| product.row).collect();
        assert_eq!(rows, [4, 8]);
        let errors: Vec<(u32, &str)> =
            list.summary.errors.iter().map(|e| (e.row, e.message.as_str())).collect();
        assert_eq!(errors, [(3, "Artikelnummer fehlt"), (6, "Beschreibung fehlt")]);
        assert_eq!(list.summary.total_rows, 4);
    }

    #[test]
    fn the_first_heading_with_a_value_counts() {
        let list =
            csv("SKU;Art-Nr;Name;Beschreibung;Hinweise;Farbe\nS-1;A-1;Kurz;Lang;neu;rot\n;A-2;Nur Name;;;\n");
        let both = &list.products[0];
        assert_eq!(both.facts.article_number.as_deref(), Some("S-1"));
        assert_eq!(
            (both.facts.name.as_deref(), both.facts.description.as_deref()),
            (Some("Kurz"), Some("Lang"))
        );
        assert_eq!(both.additional_info.as_deref(), Some("neu"));
        assert_eq!(both.custom_fields, BTreeMap::from([("Farbe".to_owned(), "rot".to_owned())]));
        let one = &list.products[1].facts;
        assert_eq!(one.article_number.as_deref(), Some("A-2"));
        assert_eq!((one.name.as_deref(), one.description.as_deref()), (Some("Nur Name"), Some("Nur Name")));
    }

    #[test]
    fn a_bad_cell_costs_the_value_and_a_repeated_number_the_row() {
        let list = csv("Artikelnummer;Name;EAN;Preis\nA-1;Eins;2000000100235;gratis\nA-1;Zwei;;1\n");
        assert_eq!(list.products.len(), 1);
        assert_eq!((list.products[0].facts.price, &list.products[0].facts.ean), (None, &None));
        let errors: Vec<(Option<&str>, &str)> =
            list.summary.errors.iter().map(|e| (e.column.as_deref(), e.message.as_str())).collect();
        assert_eq!(
            errors,
            [
                (Some("EAN"), "EAN 2000000100235 ist keine gültige EAN-13"),
                (Some("Preis"), "Preis „gratis“ ist nicht lesbar"),
                (None, "Artikelnummer A-1 steht schon in Zeile 2"),
            ]
        );
    }

    #[test]
    fn too_much_of_anything_is_refused() {
        let limits = Limits { bytes: 400, unpacked_bytes: 100, rows: 3, columns: 4 };
        let heading = "Artikelnummer;Beschreibung\n";
        for (text, reason) in [
            ("x".repeat(401), "larger than 400 bytes"),
            (format!("{heading}{}", "A;B\n".repeat(3)), "more than 3 rows"),
            (format!("{heading}A;B;C;D;E\n"), "more than 4 columns"),
            (format!("{heading}A;{}\n", "B".repeat(100)), "unfolds to more than 100 bytes"),
            ("\n\nA;B\n".to_owned(), "no headings"),
            (String::new(), "is empty"),
            (" \n \n".to_owned(), "no headings"),
            ("<html><table><tr><td>Artikelnummer</td></tr></table>".to_owned(), "neither a workbook"),
            ("\u{feff}<?xml version='1.0'?><Workbook/>".to_owned(), "neither a workbook"),
            ("%PDF-1.7 Artikelnummer;Beschreibung".to_owned(), "neither a workbook"),
            ("\u{0}\u{1}".to_owned(), "neither a workbook"),
            ("PK\u{3}\u{4}not a zip".to_owned(), "cannot be read"),
        ] {
            let said = refused(text.as_bytes(), limits);
            assert!(said.contains(reason), "{said} / {reason}");
        }
    }

    /// A workbook whose one sheet is written by hand.
    fn workbook(sheet: &str) -> Vec<u8> {
        const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
        const RELATIONS: &str = "http://schemas.openxmlformats.org/package/2006/relationships";
        const OFFICE: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        let mut file = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in [
            (
                "[Content_Types].xml",
                "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'/>".to_owned(),
            ),
            (
                "_rels/.rels",
                format!(
                    "<Relationships xmlns='{RELATIONS}'><Relationship Id='r1' Type='{OFFICE}/officeDocument' Target='xl/workbook.xml'/></Relationships>"
                ),
            ),
            (
                "xl/workbook.xml",
                format!(
                    "<workbook xmlns='{MAIN}' xmlns:r='{OFFICE}'><sheets><sheet name='Liste' sheetId='1' r:id='r1'/></sheets></workbook>"
                ),
            ),
            (
                "xl/_rels/workbook.xml.rels",
                format!(
                    "<Relationships xmlns='{RELATIONS}'><Relationship Id='r1' Type='{OFFICE}/worksheet' Target='worksheets/sheet1.xml'/></Relationships>"
                ),
            ),
            ("xl/worksheets/sheet1.xml", format!("<worksheet xmlns='{MAIN}'>{sheet}</worksheet>")),
        ] {
            file.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        file.finish().unwrap().into_inner()
    }

    fn cells(row: u32, values: [&str; 3]) -> String {
        let cells = values.iter().zip(["A", "B", "C"]).map(|(value, column)| match value.strip_prefix('=') {
            Some(formula) => format!("<c r='{column}{row}'>{formula}</c>"),
            None => format!("<c r='{column}{row}' t='inlineStr'><is><t>{value}</t></is></c>"),
        });
        format!("<row r='{row}'>{}</row>", cells.collect::<String>())
    }

    fn sheet(rows: &str) -> PriceList {
        parse(&workbook(&format!("<sheetData>{rows}</sheetData>")), "liste.xlsx", Limits::default()).unwrap()
    }

    fn said(list: &PriceList) -> Vec<(u32, Option<&str>, &str)> {
        list.summary.errors.iter().map(|e| (e.row, e.column.as_deref(), e.message.as_str())).collect()
    }

    #[test]
    fn a_formula_counts_by_its_value_and_one_without_is_told() {
        let list = sheet(
            &[
                cells(1, ["Artikelnummer", "Beschreibung", "Preis"]),
                cells(2, ["A-1", "Eins", "=<f>2*2.25</f><v>4.5</v>"]),
                cells(3, ["A-2", "Zwei", "=<f>B9*2</f>"]),
                cells(4, ["=<f>X1</f><v></v>", "Drei", "1"]),
                "<row r='5'><c r='A5' t='str'><f>\"A\"&amp;\"-4\"</f><v>A-4</v></c><c r='B5' t='inlineStr'><is><t>Vier</t></is></c><c r='C5' t='e'><f>1/0</f><v>#DIV/0!</v></c></row>".into(),
            ]
            .concat(),
        );
        let prices: Vec<_> = list
            .products
            .iter()
            .map(|p| (p.row, p.facts.article_number.as_deref().unwrap(), p.facts.price))
            .collect();
        assert_eq!(prices, [(2, "A-1", Some(4.5)), (3, "A-2", None), (5, "A-4", None)]);
        let told = said(&list);
        assert_eq!(
            told.iter().map(|(row, column, _)| (*row, *column)).collect::<Vec<_>>(),
            [(3, Some("Preis")), (4, Some("Artikelnummer")), (4, None), (5, Some("Preis"))]
        );
        assert!(told[0].2.contains("keinen Wert") && told[3].2.contains("#DIV/0!"), "{told:?}");
    }

    #[test]
    fn a_merged_area_gives_its_value_to_all_its_rows() {
        let rows = [
            cells(1, ["Artikelnummer", "Beschreibung", "Kategorie"]),
            cells(2, ["A-1", "Eins", "Schrauben"]),
            cells(3, ["A-2", "Zwei", ""]),
            cells(5, ["A-3", "Drei", ""]),
            cells(6, ["", "Ohne", "Farben"]),
        ];
        let merged = "<mergeCells count='2'><mergeCell ref='C2:C4'/><mergeCell ref='A5:A6'/></mergeCells>";
        let bytes = workbook(&format!("<sheetData>{}</sheetData>{merged}", rows.concat()));
        let list = parse(&bytes, "liste.xlsx", Limits::default()).unwrap();
        let categories: Vec<_> = list.products.iter().map(|p| (p.row, p.category.as_deref())).collect();
        assert_eq!(categories, [(2, Some("Schrauben")), (3, Some("Schrauben")), (5, None)]);
        // What looks like one article number for two products is one.
        assert_eq!(said(&list), [(6, None, "Artikelnummer A-3 steht schon in Zeile 5")]);
    }

    #[test]
    fn very_many_empty_rows_are_none() {
        let headings = cells(1, ["Artikelnummer", "Beschreibung", "Preis"]);
        let mut rows = headings.clone() + &cells(2, ["A-1", "Eins", "1"]);
        rows.extend((3..40_000).map(|row| format!("<row r='{row}'/>")));
        rows.extend((999_000..1_000_000).map(|row| format!("<row r='{row}'><c r='C{row}' s='0'/></row>")));
        let list = sheet(&rows);
        assert_eq!((list.products.len(), list.summary.total_rows), (1, 1));
    }

    #[test]
    fn a_sheet_as_wide_as_can_be_is_refused_and_one_with_headings_alone_is_empty() {
        let wide = "<sheetData><row r='1'><c r='A1' t='inlineStr'><is><t>Artikelnummer</t></is></c><c r='XFD1'><v>1</v></c></row></sheetData>";
        assert!(refused(&workbook(wide), Limits::default()).contains("more than 100 columns"));
        let only = sheet(&cells(1, ["Artikelnummer", "Beschreibung", "Preis"]));
        assert_eq!((only.products.len(), only.summary.total_rows, only.summary.error_count), (0, 0, 0));
        assert!(refused(&workbook("<sheetData/>"), Limits::default()).contains("no headings"));
        let unordered =
            cells(1, ["SKU", "Name", "Preis"]) + &cells(9, ["A", "B", "1"]) + &cells(2, ["C", "D", "1"]);
        assert!(
            refused(&workbook(&format!("<sheetData>{unordered}</sheetData>")), Limits::default())
                .contains("not in order")
        );
    }

    #[test]
    fn a_cell_may_be_as_long_as_excel_allows_but_an_article_number_may_not() {
        let long = "x".repeat(32_767);
        let list = csv(&format!("Artikelnummer;Beschreibung;Name\nA-1;{long};{long}\n{long};zwei;zwei\n"));
        let facts = &list.products[0].facts;
        assert_eq!(facts.description.as_ref().unwrap().len(), 32_767);
        assert_eq!(facts.name.as_ref().unwrap().len(), MAX_NAME);
        assert_eq!(said(&list), [(3, None, "Artikelnummer ist länger als 100 Zeichen")]);
    }

    #[test]
    fn more_errors_than_anybody_reads_are_counted_but_not_kept() {
        let list = csv(&format!("Artikelnummer;Beschreibung\n{}", ";x\n".repeat(KEPT_ERRORS + 7)));
        assert_eq!(list.summary.errors.len(), KEPT_ERRORS);
        assert_eq!((list.summary.error_count, list.summary.total_rows), (1007, 1007));
    }

    #[test]
    fn text_in_utf16_is_read_and_a_workbook_with_a_password_is_not() {
        let rows = "Artikelnummer\tBeschreibung\tPreis\nSD-1\tDübel € 8\t1.234,50\n";
        let little: Vec<u8> =
            [0xFF, 0xFE].into_iter().chain(rows.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let big: Vec<u8> =
            [0xFE, 0xFF].into_iter().chain(rows.encode_utf16().flat_map(u16::to_be_bytes)).collect();
        for bytes in [little, big] {
            assert_eq!(parse(&bytes, "liste.csv", Limits::default()).unwrap().products, csv(rows).products);
        }
        // As newer programs wrap it: the workbook is not there, an encrypted package is.
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let (name, wrapped) = (utf16("Workbook"), utf16("EncryptedPackage"));
        let at = XLS.windows(name.len()).position(|window| window == name).unwrap();
        let mut bytes = XLS.to_vec();
        bytes[at..at + wrapped.len()].copy_from_slice(&wrapped);
        assert!(refused(&bytes, Limits::default()).contains("password"));
        // As older ones do: a record at the beginning says so.
        let begin = XLS.windows(4).position(|window| window == [0x09, 0x08, 0x10, 0x00]).unwrap();
        let mut bytes = XLS.to_vec();
        bytes[begin + 20] = 0x2F;
        bytes[begin + 21] = 0;
        assert!(refused(&bytes, Limits::default()).contains("password"));
    }

    #[test]
    fn numbers_have_no_more_digits_than_excel_shows_and_a_percentage_is_its_number() {
        let mut workbook = Workbook::new();
        let sheet = workbook.add_worksheet();
        sheet.write_row(0, 0, ["Artikelnummer", "Beschreibung", "Rabatt", "Faktor"]).unwrap();
        sheet.write_row(1, 0, ["A-1", "Eins"]).unwrap();
        sheet.write_with_format(1, 2, 0.19, &Format::new().set_num_format("0%")).unwrap();
        sheet.write(1, 3, 0.1 + 0.2).unwrap();
        let list = parse(&workbook.save_to_buffer().unwrap(), "liste.xlsx", Limits::default()).unwrap();
        let own = &list.products[0].custom_fields;
        assert_eq!((own["Rabatt"].as_str(), own["Faktor"].as_str()), ("0.19", "0.3"));
    }

    #[test]
    fn a_zip_bomb_is_measured_and_not_believed() {
        let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
        let mut bomb = zip::ZipWriter::new(Cursor::new(Vec::new()));
        bomb.start_file("xl/sharedStrings.xml", zip::write::SimpleFileOptions::default()).unwrap();
        bomb.write_all(&vec![b' '; 4 << 20]).unwrap();
        let honest = bomb.finish().unwrap().into_inner();
        assert!(honest.len() < 10_000);
        assert!(refused(&honest, limits).contains("unfolds to more than"));
        // The same, claiming to be ten bytes wherever a size is written.
        let size = (4u32 << 20).to_le_bytes();
        let mut lying = honest.clone();
        let places: Vec<usize> = (0..honest.len() - 3).filter(|at| honest[*at..at + 4] == size).collect();
        assert!(places.len() >= 2);
        places.iter().for_each(|at| lying[*at..at + 4].copy_from_slice(&10u32.to_le_bytes()));
        assert!(refused(&lying, limits).contains("cannot be read"));
    }

    #[test]
    fn two_cells_in_far_corners_do_not_become_billions() {
        let mut workbook = Workbook::new();
        let sheet = workbook.add_worksheet();
        sheet.write(0, 0, "Artikelnummer").unwrap();
        sheet.write(1_048_575, 1, "weit unten").unwrap();
        let bytes = workbook.save_to_buffer().unwrap();
        assert!(refused(&bytes, Limits::default()).contains("more than 200001 rows"));
    }

    #[test]
    fn an_old_workbook_that_claims_too_much_is_refused_before_it_is_parsed() {
        // The record with the sheet's dimensions: its kind, its length, the first row and the row behind the last.
        let claimed = [0x00, 0x02, 0x0E, 0x00, 0, 0, 0, 0, 34, 0, 0, 0];
        let at = XLS.windows(claimed.len()).position(|window| window == claimed).unwrap();
        let mut bytes = XLS.to_vec();
        bytes[at + 8..at + 12].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
        let limits = Limits { rows: 50_001, ..Limits::default() };
        assert!(refused(&bytes, limits).contains("more than 50001 rows"));
        let mut bytes = XLS.to_vec();
        bytes[at + 14..at + 16].copy_from_slice(&0xFFFFu16.to_le_bytes());
        assert!(refused(&bytes, Limits::default()).contains("more than 100 columns"));
        // A number in the last row of all: kind 0x203, length 14, row.
        let number = XLS.windows(5).position(|window| window == [0x03, 0x02, 0x0E, 0x00, 1]).unwrap();
        let mut bytes = XLS.to_vec();
        bytes[number + 4..number + 6].copy_from_slice(&0xFFFEu16.to_le_bytes());
        assert!(refused(&bytes, limits).contains("more than 50001 rows"));
    }

    #[test]
    fn a_compound_file_that_runs_in_circles_is_refused() {
        let mut bytes = XLS.to_vec();
        // Every chain now leads back to its beginning.
        let table = (u32::from_le_bytes(XLS[76..80].try_into().unwrap()) as usize + 1) * 512;
        bytes[table..table + 512].chunks_exact_mut(4).for_each(|next| next.fill(0));
        assert!(refused(&bytes, Limits::default()).contains("cannot be read"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is broken in a file, an answer comes back.
        #[test]
        fn a_damaged_file_never_panics(at in any::<prop::sample::Index>(), with in any::<[u8; 4]>(), cut in any::<prop::sample::Index>()) {
            let mut workbook = Workbook::new();
            workbook.add_worksheet().write_row(0, 0, ["Artikelnummer", "Beschreibung"]).unwrap();
            for original in [XLS.to_vec(), workbook.save_to_buffer().unwrap(), "Artikelnummer;Name\nA;ß\n".into()] {
                let mut bytes = original.clone();
                let start = at.index(bytes.len() - 4);
                bytes[start..start + 4].copy_from_slice(&with);
                let _ = parse(&bytes, "liste", Limits::default());
                let _ = parse(&original[..cut.index(original.len())], "liste", Limits::default());
            }
        }
    }
}
