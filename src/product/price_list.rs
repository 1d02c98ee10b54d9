//! Reads a shop's price list from `.xlsx`, `.xls` or `.csv`.
//!
//! The first sheet's first row holds the headings, in German or English; every other row is a product. What comes
//! in is a stranger's file: before a parser sees it, it is measured, because a few kilobytes of it can unfold to
//! gigabytes.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use calamine::{Data, DataRef, ExcelDateTime, Reader as _, Xls, Xlsx};
use serde_json::{Map, Value};
use zip::ZipArchive;

use crate::product::{ProductFacts, Tier, is_ean13, parse_price};

/// An xlsx file holds a dozen or two parts; pictures and the like may add some.
const MAX_ZIP_ENTRIES: usize = 2_000;

/// What a file may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The file itself, in bytes.
    pub bytes: usize,
    /// What it unfolds to: all parts of an xlsx, and the text of all cells together. In bytes.
    pub unpacked_bytes: usize,
    /// Rows of the sheet, the headings among them.
    pub rows: usize,
    pub columns: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 10 << 20, unpacked_bytes: 64 << 20, rows: 50_001, columns: 100 }
    }
}

/// Why a whole file was refused.
#[derive(Debug, thiserror::Error)]
pub enum SpreadsheetError {
    #[error("{file} is larger than {limit} bytes; split it into several files")]
    FileTooLarge { file: String, limit: usize },
    #[error("{file} unfolds to more than {limit} bytes; save only the price list in it")]
    UnpackedTooLarge { file: String, limit: usize },
    #[error("{file} has more than {limit} rows; split it into several files")]
    TooManyRows { file: String, limit: usize },
    #[error("{file} has more than {limit} columns; save only the price list in it")]
    TooManyColumns { file: String, limit: usize },
    #[error("{file} is neither a workbook (.xlsx, .xls) nor text (.csv)")]
    UnknownFormat { file: String },
    #[error("{file} cannot be read ({problem}); open it, remove any password and save it as .xlsx again")]
    Broken { file: String, problem: String },
    #[error(
        "{file} has no headings in its first row; name the columns, at least Artikelnummer and Beschreibung"
    )]
    NoHeadings { file: String },
}

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

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PriceList {
    /// Rows that have both an article number and a description, each article number once.
    pub products: Vec<ListedProduct>,
    /// Rows with any content, without the headings.
    pub total_rows: u32,
    pub headers: Vec<String>,
    /// A row without its mandatory cells is no product; a row with an unreadable price or EAN is one, without it.
    pub errors: Vec<RowError>,
}

/// Reads a whole file. `file_name` is for messages only: the content tells what it is.
pub fn parse(bytes: &[u8], file_name: &str, limits: Limits) -> Result<PriceList, SpreadsheetError> {
    let file = File { name: file_name.chars().take(200).collect(), limits };
    if bytes.len() > limits.bytes {
        return Err(SpreadsheetError::FileTooLarge { file: file.name, limit: limits.bytes });
    }
    let sheet = match bytes {
        [b'P', b'K', ..] => file.xlsx(bytes)?,
        [0xD0, 0xCF, 0x11, 0xE0, ..] => file.xls(bytes)?,
        _ if bytes.contains(&0) => return Err(SpreadsheetError::UnknownFormat { file: file.name }),
        _ => file.csv(bytes)?,
    };
    file.price_list(sheet)
}

/// Takes rows that came as JSON objects; their keys are the headings, and row 2 is the first of them.
pub fn from_objects(rows: &[Map<String, Value>], limits: Limits) -> Result<PriceList, SpreadsheetError> {
    let file = File { name: "The list".into(), limits };
    let mut sheet = Sheet::default();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (row, object) in rows.iter().enumerate() {
        for (key, value) in object {
            let next = places.len();
            let column = *places.entry(key).or_insert(next);
            if column == next {
                file.put(&mut sheet, 0, column, Cell::Text(key.clone()))?;
            }
            let cell = match value {
                Value::Number(number) => number.as_f64().map_or(Cell::Empty, Cell::Number),
                Value::String(text) => Cell::Text(text.clone()),
                Value::Bool(truth) => Cell::Text(truth.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => Cell::Empty,
            };
            file.put(&mut sheet, row + 1, column, cell)?;
        }
    }
    file.price_list(sheet)
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Cell {
    #[default]
    Empty,
    Text(String),
    Number(f64),
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Cell::Empty => String::new(),
            Cell::Text(text) => text.trim().to_owned(),
            // An article number or an EAN that was typed as a number has no decimals: 10023, not 10023.0.
            Cell::Number(number) => number.to_string(),
        }
    }

    fn price(&self) -> Option<f64> {
        match self {
            Cell::Empty => None,
            Cell::Text(text) => parse_price(text),
            Cell::Number(number) => (0.0..1e7).contains(number).then(|| (number * 100.0).round() / 100.0),
        }
    }
}

/// The rows that have any content, by their number, in order.
#[derive(Default)]
struct Sheet {
    rows: BTreeMap<u32, Vec<Cell>>,
    text_bytes: usize,
}

/// One file on its way through its limits.
struct File {
    name: String,
    limits: Limits,
}

impl File {
    fn price_list(self, sheet: Sheet) -> Result<PriceList, SpreadsheetError> {
        let mut rows = sheet.rows.into_iter();
        match rows.next() {
            Some((1, cells)) => Ok(price_list(cells.iter().map(Cell::text).collect(), rows)),
            _ => Err(SpreadsheetError::NoHeadings { file: self.name }),
        }
    }

    fn broken(&self, problem: impl ToString) -> SpreadsheetError {
        // The parsers' own sentences may quote the file at length.
        let problem = problem.to_string().chars().take(200).collect();
        SpreadsheetError::Broken { file: self.name.clone(), problem }
    }

    fn unpacked_too_large(&self) -> SpreadsheetError {
        SpreadsheetError::UnpackedTooLarge { file: self.name.clone(), limit: self.limits.unpacked_bytes }
    }

    fn too_many_rows(&self) -> SpreadsheetError {
        SpreadsheetError::TooManyRows { file: self.name.clone(), limit: self.limits.rows }
    }

    fn too_many_columns(&self) -> SpreadsheetError {
        SpreadsheetError::TooManyColumns { file: self.name.clone(), limit: self.limits.columns }
    }

    /// Puts a cell into its place; `row` and `column` count from 0.
    fn put(&self, sheet: &mut Sheet, row: usize, column: usize, cell: Cell) -> Result<(), SpreadsheetError> {
        let cell = match cell {
            // No database takes the character zero.
            Cell::Text(text) if text.contains('\0') => Cell::Text(text.replace('\0', "")),
            cell => cell,
        };
        if let Cell::Text(text) = &cell {
            if text.trim().is_empty() {
                return Ok(());
            }
            // One shared string can stand in very many cells.
            sheet.text_bytes += text.len();
        }
        if cell == Cell::Empty {
            return Ok(());
        }
        if sheet.text_bytes > self.limits.unpacked_bytes {
            return Err(self.unpacked_too_large());
        }
        if column >= self.limits.columns {
            return Err(self.too_many_columns());
        }
        if row >= self.limits.rows {
            return Err(self.too_many_rows());
        }
        let cells = sheet.rows.entry(row as u32 + 1).or_default();
        if cells.len() <= column {
            cells.resize(column + 1, Cell::Empty);
        }
        cells[column] = cell;
        Ok(())
    }

    fn xlsx(&self, bytes: &[u8]) -> Result<Sheet, SpreadsheetError> {
        self.unpack_within_limits(bytes)?;
        self.without_panic(|| {
            let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|error| self.broken(error))?;
            let name =
                workbook.sheet_names().first().cloned().ok_or_else(|| self.broken("it has no sheet"))?;
            // Cell by cell: two cells in opposite corners would otherwise become billions.
            let mut cells = workbook.worksheet_cells_reader(&name).map_err(|error| self.broken(error))?;
            let mut sheet = Sheet::default();
            while let Some(cell) = cells.next_cell().map_err(|error| self.broken(error))? {
                let (row, column) = cell.get_position();
                let value = match cell.get_value() {
                    DataRef::Empty | DataRef::Error(_) => Cell::Empty,
                    DataRef::Int(number) => Cell::Number(*number as f64),
                    DataRef::Float(number) => Cell::Number(*number),
                    DataRef::Bool(truth) => Cell::Text(truth.to_string()),
                    DataRef::DateTime(time) => Cell::Text(date(time)),
                    DataRef::SharedString(text) => Cell::Text((*text).to_owned()),
                    DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
                        Cell::Text(text.clone())
                    }
                };
                self.put(&mut sheet, row as usize, column as usize, value)?;
            }
            Ok(sheet)
        })
    }

    /// Unpacks each part into nothing and counts: a file need not claim its sizes, and a claim may be a lie.
    fn unpack_within_limits(&self, bytes: &[u8]) -> Result<(), SpreadsheetError> {
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| self.broken(error))?;
        if archive.len() > MAX_ZIP_ENTRIES {
            return Err(self.unpacked_too_large());
        }
        let mut left = self.limits.unpacked_bytes as u64;
        for index in 0..archive.len() {
            let entry = archive.by_index(index).map_err(|error| self.broken(error))?;
            let unpacked =
                io::copy(&mut entry.take(left + 1), &mut io::sink()).map_err(|error| self.broken(error))?;
            left = left.checked_sub(unpacked).ok_or_else(|| self.unpacked_too_large())?;
        }
        Ok(())
    }

    fn xls(&self, bytes: &[u8]) -> Result<Sheet, SpreadsheetError> {
        self.xls_within_limits(bytes)?;
        self.without_panic(|| {
            let mut workbook: Xls<_> = Xls::new(Cursor::new(bytes)).map_err(|error| self.broken(error))?;
            let range = match workbook.worksheet_range_at(0) {
                Some(range) => range.map_err(|error| self.broken(error))?,
                None => return Err(self.broken("it has no sheet")),
            };
            let (first_row, first_column) = range.start().unwrap_or_default();
            let mut sheet = Sheet::default();
            for (row, column, value) in range.used_cells() {
                let value = match value {
                    Data::Empty | Data::Error(_) => Cell::Empty,
                    Data::Int(number) => Cell::Number(*number as f64),
                    Data::Float(number) => Cell::Number(*number),
                    Data::Bool(truth) => Cell::Text(truth.to_string()),
                    Data::DateTime(time) => Cell::Text(date(time)),
                    Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => {
                        Cell::Text(text.clone())
                    }
                };
                self.put(&mut sheet, first_row as usize + row, first_column as usize + column, value)?;
            }
            Ok(sheet)
        })
    }

    /// The parser of `.xls` makes room for all cells between the outermost ones, and for as many as a record
    /// claims. So the records are looked at first: nothing in them may claim more than the limits.
    fn xls_within_limits(&self, bytes: &[u8]) -> Result<(), SpreadsheetError> {
        const BEGIN: u16 = 0x809;
        const END: u16 = 0x0A;
        const BOUND_SHEET: u16 = 0x85;
        const DIMENSIONS: u16 = 0x200;
        const SEVERAL_NUMBERS: u16 = 0xBD;
        const CELLS: [u16; 7] = [0x203, 0x204, 0xD6, 0x205, 0x27E, 0xFD, 0x06];

        let streams =
            compound::workbooks(bytes).ok_or_else(|| self.broken("its parts are not where it says"))?;
        if streams.is_empty() {
            return Err(self.broken("there is no workbook in it"));
        }
        let mut area = 0;
        for stream in &streams {
            for (_, data) in records(stream).filter(|(kind, _)| *kind == BOUND_SHEET) {
                let at =
                    compound::u32_at(data, 0).ok_or_else(|| self.broken("a sheet has no place"))? as usize;
                let sheet = stream.get(at..).ok_or_else(|| self.broken("a sheet is not where it says"))?;
                let (mut rows, mut columns, mut depth) = (0, 0, 0);
                for (kind, data) in records(sheet) {
                    let number = |at| usize::from(compound::u16_at(data, at).unwrap_or(u16::MAX));
                    let row = |at| compound::u32_at(data, at).unwrap_or(u32::MAX) as usize;
                    depth += i32::from(kind == BEGIN) - i32::from(kind == END);
                    let (from, to, width) = match kind {
                        END if depth <= 0 => break,
                        DIMENSIONS if data.len() < 12 => (number(0), number(2), number(6)),
                        DIMENSIONS => (row(0), row(4), number(10)),
                        // This one holds several numbers of a row, six bytes each.
                        SEVERAL_NUMBERS => (0, number(0) + 1, number(2) + data.len() / 6),
                        _ if CELLS.contains(&kind) => (0, number(0) + 1, number(2) + 1),
                        _ => continue,
                    };
                    (rows, columns) = (to.max(rows), width.max(columns));
                    if from > to || rows > self.limits.rows {
                        return Err(self.too_many_rows());
                    }
                    if columns > self.limits.columns {
                        return Err(self.too_many_columns());
                    }
                }
                area += rows * columns;
                if area > self.limits.rows * self.limits.columns {
                    return Err(self.too_many_rows());
                }
            }
        }
        Ok(())
    }

    /// The workbook parsers index into hostile bytes; one that slips costs this file, not the process.
    fn without_panic<T>(
        &self,
        read: impl FnOnce() -> Result<T, SpreadsheetError>,
    ) -> Result<T, SpreadsheetError> {
        catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|_| Err(self.broken("its parts contradict each other")))
    }

    fn csv(&self, bytes: &[u8]) -> Result<Sheet, SpreadsheetError> {
        // One kind of line end, and one behind the last line too, so that lines can be counted.
        let text = decode(bytes).replace("\r\n", "\n") + "\n";
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter(&text))
            .from_reader(text.as_bytes());
        let mut sheet = Sheet::default();
        let mut record = csv::StringRecord::new();
        // The reader skips empty lines, but a spreadsheet counts them; a line break inside of quotes is no row.
        let mut inner_breaks = 0;
        while reader.read_record(&mut record).map_err(|error| self.broken(error))? {
            inner_breaks += record.iter().map(|value| value.matches('\n').count()).sum::<usize>();
            let line_behind = usize::try_from(reader.position().line()).unwrap_or(usize::MAX);
            let row = line_behind.saturating_sub(2 + inner_breaks);
            for (column, value) in record.iter().enumerate() {
                self.put(&mut sheet, row, column, Cell::Text(value.to_owned()))?;
            }
        }
        Ok(sheet)
    }
}

fn date(time: &ExcelDateTime) -> String {
    let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
    if time.is_duration() {
        return format!("{:.4}", time.as_f64());
    }
    match (hour, minute, second) {
        (0, 0, 0) => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"),
    }
}

/// UTF-8 with or without a byte order mark, else what Western Windows writes.
fn decode(bytes: &[u8]) -> String {
    const WINDOWS_1252: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.trim_start_matches('\u{feff}').to_owned();
    }
    let table: Vec<char> = WINDOWS_1252.chars().collect();
    bytes
        .iter()
        .map(
            |byte| {
                if (0x80..0xA0).contains(byte) { table[usize::from(byte - 0x80)] } else { char::from(*byte) }
            },
        )
        .collect()
}

/// The mark that parts the headings best.
fn delimiter(text: &str) -> u8 {
    let mut quoted = false;
    let outside: Vec<char> = text
        .chars()
        .take_while(|c| {
            quoted ^= *c == '"';
            quoted || *c != '\n'
        })
        .filter(|c| matches!(c, ';' | ',' | '\t'))
        .collect();
    let count = |mark: u8| outside.iter().filter(|c| **c == char::from(mark)).count();
    [b';', b'\t', b','].into_iter().rev().max_by_key(|mark| count(*mark)).unwrap_or(b';')
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

fn price_list(headers: Vec<String>, rows: impl Iterator<Item = (u32, Vec<Cell>)>) -> PriceList {
    let columns: Vec<Vec<Column>> = headers.iter().map(|heading| columns(heading)).collect();
    let mut list = PriceList { headers, ..PriceList::default() };
    let mut first_rows: HashMap<String, u32> = HashMap::new();
    for (row, cells) in rows {
        list.total_rows += 1;
        let reader = Row { number: row, cells: &cells, columns: &columns, headers: &list.headers };
        let product = reader.product(&mut list.errors);
        let Some(article_number) = product.facts.article_number.clone() else {
            list.errors.push(reader.error(None, "Artikelnummer fehlt"));
            continue;
        };
        if product.facts.description.is_none() {
            list.errors.push(reader.error(None, "Beschreibung fehlt"));
            continue;
        }
        if let Some(first) = first_rows.get(&article_number) {
            let message = format!("Artikelnummer {article_number} steht schon in Zeile {first}");
            list.errors.push(reader.error(None, &message));
            continue;
        }
        first_rows.insert(article_number, row);
        list.products.push(product);
    }
    list
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
        let cells =
            self.cells.iter().zip(self.columns).enumerate().filter(|(_, (cell, _))| **cell != Cell::Empty);
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

    fn product(&self, errors: &mut Vec<RowError>) -> ListedProduct {
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
                name: self.text(is(Column::Name)).or_else(|| description.clone()),
                currency: currency.or_else(|| price.map(|_| "EUR".to_owned())),
                price,
                tiers,
                ean,
                description,
                image_url: None,
            },
            category: self.text(is(Column::Category)),
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

/// The records of an `.xls` stream: a kind and its bytes. Ends where they stop making sense.
fn records(mut stream: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let kind = compound::u16_at(stream, 0)?;
        let end = 4 + usize::from(compound::u16_at(stream, 2)?);
        let data = stream.get(4..end)?;
        stream = &stream[end..];
        Some((kind, data))
    })
}

/// Just enough of the compound file format (the file system inside of an `.xls`) to find its workbook.
mod compound {
    pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
    }

    pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    }

    struct Volume<'a> {
        bytes: &'a [u8],
        sector_size: usize,
        /// The sector after each sector.
        next: Vec<u32>,
    }

    impl Volume<'_> {
        fn sector(&self, id: u32) -> Option<&[u8]> {
            let start = (id as usize).checked_add(1)?.checked_mul(self.sector_size)?;
            self.bytes.get(start..(start + self.sector_size).min(self.bytes.len()))
        }

        fn chain(&self, start: u32) -> Option<Vec<u8>> {
            const END_OF_CHAIN: u32 = 0xFFFF_FFFE;
            let (mut at, mut out) = (start, Vec::new());
            while at != END_OF_CHAIN {
                out.extend_from_slice(self.sector(at)?);
                // A chain that is longer than the file runs in a circle.
                if out.len() > self.bytes.len() {
                    return None;
                }
                at = *self.next.get(at as usize)?;
            }
            Some(out)
        }
    }

    /// All streams that a parser could take for the workbook, whole. `None` when the file contradicts itself.
    pub fn workbooks(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        const SMALL_STREAM: u32 = 4096;
        const NO_SECTOR: u32 = 0xFFFF_FFFC;
        let shift = u16_at(bytes, 30).filter(|shift| [9, 12].contains(shift))?;
        let mut volume = Volume { bytes, sector_size: 1 << shift, next: Vec::new() };

        // The sectors that say which sector follows which are listed in the header, and on from there.
        let mut lists: Vec<u32> = (0..109).map_while(|n| u32_at(bytes, 76 + 4 * n)).collect();
        let mut more = u32_at(bytes, 68)?;
        while more < NO_SECTOR {
            let sector = volume.sector(more)?;
            let last = volume.sector_size / 4 - 1;
            lists.extend((0..last).map_while(|n| u32_at(sector, 4 * n)));
            more = u32_at(sector, 4 * last)?;
            if lists.len() > bytes.len() {
                return None;
            }
        }
        for list in lists.into_iter().filter(|id| *id < NO_SECTOR) {
            let sector = volume.sector(list)?;
            let next: Vec<u32> = (0..volume.sector_size / 4).map_while(|n| u32_at(sector, 4 * n)).collect();
            volume.next.extend(next);
        }

        let mut found = Vec::new();
        for entry in volume.chain(u32_at(bytes, 48)?)?.chunks_exact(128) {
            let name: String = (0..32)
                .map_while(|n| u16_at(entry, 2 * n).filter(|unit| *unit != 0))
                .map(|unit| char::from_u32(u32::from(unit)).unwrap_or('?'))
                .collect();
            if !["workbook", "book"].contains(&name.to_lowercase().as_str()) {
                continue;
            }
            // Real workbooks are padded beyond this; a smaller one would lie in a second file system inside.
            if u32_at(entry, 120)? < SMALL_STREAM {
                return None;
            }
            found.push(volume.chain(u32_at(entry, 116)?)?);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;
    use rust_xlsxwriter::{ExcelDateTime, Format, Workbook};

    use super::*;

    /// The demo shop's price list, saved in the format of old.
    const XLS: &[u8] = include_bytes!("../../tests/fixtures/shop/price-list.xls");

    fn csv(text: &str) -> PriceList {
        parse(text.as_bytes(), "liste.csv", Limits::default()).unwrap()
    }

    fn refused(bytes: &[u8], limits: Limits) -> String {
        parse(bytes, "liste", limits).map(|list| list.total_rows).unwrap_err().to_string()
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

        assert_eq!(list.headers, headings);
        assert_eq!((list.total_rows, list.errors), (1, vec![]));
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
        assert_eq!(list.errors.len(), 1);
        assert_eq!(list.errors[0].row, 4);

        let wide: String = (0..101).map(|n| format!("\"k{n}\": 1,")).collect();
        let wide = objects(&format!("[{{{wide} \"sku\": 1}}]"));
        assert!(from_objects(&wide, Limits::default()).unwrap_err().to_string().contains("columns"));
    }

    #[test]
    fn an_old_workbook_is_read_too() {
        let list = parse(XLS, "preisliste.xls", Limits::default()).unwrap();
        assert_eq!((list.products.len(), list.errors), (33, vec![]));
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
        let errors: Vec<(u32, &str)> = list.errors.iter().map(|e| (e.row, e.message.as_str())).collect();
        assert_eq!(errors, [(3, "Artikelnummer fehlt"), (6, "Beschreibung fehlt")]);
        assert_eq!(list.total_rows, 4);
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
            list.errors.iter().map(|e| (e.column.as_deref(), e.message.as_str())).collect();
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
            (String::new(), "no headings"),
            ("\u{0}\u{1}".to_owned(), "neither a workbook"),
            ("PK\u{3}\u{4}not a zip".to_owned(), "cannot be read"),
        ] {
            let said = refused(text.as_bytes(), limits);
            assert!(said.contains(reason), "{said} / {reason}");
        }
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
        assert!(refused(&bytes, Limits::default()).contains("more than 50001 rows"));
    }

    #[test]
    fn an_old_workbook_that_claims_too_much_is_refused_before_it_is_parsed() {
        // The record with the sheet's dimensions: its kind, its length, the first row and the row behind the last.
        let claimed = [0x00, 0x02, 0x0E, 0x00, 0, 0, 0, 0, 34, 0, 0, 0];
        let at = XLS.windows(claimed.len()).position(|window| window == claimed).unwrap();
        let mut bytes = XLS.to_vec();
        bytes[at + 8..at + 12].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
        assert!(refused(&bytes, Limits::default()).contains("more than 50001 rows"));
        let mut bytes = XLS.to_vec();
        bytes[at + 14..at + 16].copy_from_slice(&0xFFFFu16.to_le_bytes());
        assert!(refused(&bytes, Limits::default()).contains("more than 100 columns"));
        // A number in the last row of all: kind 0x203, length 14, row.
        let number = XLS.windows(5).position(|window| window == [0x03, 0x02, 0x0E, 0x00, 1]).unwrap();
        let mut bytes = XLS.to_vec();
        bytes[number + 4..number + 6].copy_from_slice(&0xFFFEu16.to_le_bytes());
        assert!(refused(&bytes, Limits::default()).contains("more than 50001 rows"));
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
