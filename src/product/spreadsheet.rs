//! Reads the first sheet of a stranger's `.xlsx`, `.xls` or `.csv`, row by row.
//!
//! Before a parser sees such a file it is measured, because a few kilobytes of it can unfold to gigabytes. Nothing but
//! the row at hand is kept, so a long sheet costs no more memory than a short one.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Cursor, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use calamine::{Data, DataRef, ExcelDateTime, Reader as _, Xls, Xlsx};
use serde_json::{Map, Value};
use zip::ZipArchive;

use crate::product::parse_price;

/// An xlsx file holds a dozen or two parts; pictures and the like may add some.
const MAX_ZIP_ENTRIES: usize = 2_000;
/// Areas of merged cells at the most.
const MAX_MERGED: usize = 100_000;

/// What is said of a formula that was never calculated.
const NO_VALUE: &str =
    "Die Formel hat keinen Wert; öffnen Sie die Datei in einer Tabellenkalkulation und speichern Sie sie";

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
        Self { bytes: 10 << 20, unpacked_bytes: 128 << 20, rows: 200_001, columns: 100 }
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
    #[error("{file} has more than {limit} areas of merged cells; undo the merging and save it again")]
    TooManyMerged { file: String, limit: usize },
    #[error("{file} is neither a workbook (.xlsx, .xls) nor text (.csv)")]
    UnknownFormat { file: String },
    #[error("{file} is empty, so it has no headings; name the columns in its first row")]
    Empty { file: String },
    #[error("{file} is protected by a password; remove it and save the file again")]
    Encrypted { file: String },
    #[error("{file} cannot be read ({problem}); open it, remove any password and save it as .xlsx again")]
    Broken { file: String, problem: String },
    #[error(
        "{file} has no headings in its first row; name the columns, at least Artikelnummer and Beschreibung"
    )]
    NoHeadings { file: String },
}

/// What stands in a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell {
    #[default]
    Empty,
    Text(String),
    Number(f64),
    /// A formula that has no value: a sentence about it.
    Bad(String),
}

impl Cell {
    /// As people read it; empty for a cell without a value.
    pub fn text(&self) -> String {
        match self {
            Cell::Empty | Cell::Bad(_) => String::new(),
            Cell::Text(text) => text.trim().to_owned(),
            // An article number or an EAN that was typed as a number has no decimals: 10023, not 10023.0. Like Excel,
            // no more digits than a number has: 0.3, not 0.30000000000000004.
            Cell::Number(number) => {
                format!("{number:.14e}").parse().map_or_else(|_| number.to_string(), |n: f64| n.to_string())
            }
        }
    }

    /// The amount, if it is one.
    pub fn price(&self) -> Option<f64> {
        match self {
            Cell::Empty | Cell::Bad(_) => None,
            Cell::Text(text) => parse_price(text),
            Cell::Number(number) => (0.0..1e7).contains(number).then(|| (number * 100.0).round() / 100.0),
        }
    }

    /// As JSON: a number, a text, or null.
    pub fn json(&self) -> Value {
        match self {
            Cell::Empty | Cell::Bad(_) => Value::Null,
            Cell::Number(number) => Value::from(*number),
            Cell::Text(_) => Value::from(self.text()),
        }
    }
}

/// A row that has any content.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// As the spreadsheet counts, from 1.
    pub number: u32,
    pub cells: &'a [Cell],
    /// How many rows the sheet says to have, for a progress bar; 0 when it does not say.
    pub expected: u32,
}

/// Reads a whole file, row by row. `file_name` is for messages only: the content tells what it is.
///
/// # Errors
/// A sentence that says what to do. Rows that came before it were real.
pub fn read(
    bytes: &[u8],
    file_name: &str,
    limits: Limits,
    mut each: impl FnMut(Row<'_>),
) -> Result<(), SpreadsheetError> {
    let file = File { name: file_name.chars().take(200).collect(), limits };
    if bytes.len() > limits.bytes {
        return Err(SpreadsheetError::FileTooLarge { file: file.name, limit: limits.bytes });
    }
    let rows = &mut Rows::new(&file, &mut each);
    match bytes {
        [] => return Err(SpreadsheetError::Empty { file: file.name }),
        [b'P', b'K', ..] => file.xlsx(bytes, rows)?,
        [0xD0, 0xCF, 0x11, 0xE0, ..] => file.xls(bytes, rows)?,
        _ if is_no_table(bytes) => return Err(SpreadsheetError::UnknownFormat { file: file.name }),
        _ => file.csv(bytes, rows)?,
    }
    rows.end();
    Ok(())
}

/// Takes rows that came as JSON objects; their keys are the headings, and row 2 is the first of them.
///
/// # Errors
/// As [`read`].
pub fn read_objects(
    objects: &[Map<String, Value>],
    limits: Limits,
    mut each: impl FnMut(Row<'_>),
) -> Result<(), SpreadsheetError> {
    let file = File { name: "The list".into(), limits };
    let rows = &mut Rows::new(&file, &mut each);
    let mut places: HashMap<&str, usize> = HashMap::new();
    for key in objects.iter().flat_map(Map::keys) {
        let next = places.len();
        if let std::collections::hash_map::Entry::Vacant(place) = places.entry(key) {
            place.insert(next);
            rows.put(0, next, Cell::Text(key.clone()))?;
        }
    }
    rows.expected = objects.len() as u32 + 1;
    for (row, object) in objects.iter().enumerate() {
        for (key, value) in object {
            let cell = match value {
                Value::Number(number) => number.as_f64().map_or(Cell::Empty, Cell::Number),
                Value::String(text) => Cell::Text(text.clone()),
                Value::Bool(truth) => Cell::Text(truth.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => Cell::Empty,
            };
            rows.put(row + 1, places[key.as_str()], cell)?;
        }
    }
    rows.end();
    Ok(())
}

/// Whether these bytes are surely not lines of values: pictures, PDF, web pages.
fn is_no_table(bytes: &[u8]) -> bool {
    let head: Vec<u8> = bytes.iter().take(512).map(u8::to_ascii_lowercase).collect();
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&head).trim_ascii_start();
    let utf16 = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    [&b"%pdf"[..], b"<!doctype", b"<html", b"<?xml", b"{\\rtf"].iter().any(|kind| head.starts_with(kind))
        || (!utf16 && bytes.contains(&0))
}

/// One file on its way through its limits.
struct File {
    name: String,
    limits: Limits,
}

/// A merged area: its value is that of all its rows.
struct Merged {
    first_row: u32,
    last_row: u32,
    column: usize,
    value: Cell,
}

/// Puts cells together to rows, and passes each row on once the next one begins.
struct Rows<'a> {
    file: &'a File,
    each: &'a mut dyn FnMut(Row<'_>),
    /// Counts from 0.
    number: usize,
    cells: Vec<Cell>,
    text_bytes: usize,
    expected: u32,
    /// Areas that begin further down, by their first row.
    merged: VecDeque<Merged>,
    /// Areas that began.
    open: Vec<Merged>,
}

impl<'a> Rows<'a> {
    fn new(file: &'a File, each: &'a mut dyn FnMut(Row<'_>)) -> Rows<'a> {
        Rows {
            file,
            each,
            number: 0,
            cells: Vec::new(),
            text_bytes: 0,
            expected: 0,
            merged: VecDeque::new(),
            open: Vec::new(),
        }
    }

    /// Areas of several rows; counts from 0.
    fn merge(&mut self, areas: Vec<calamine::Dimensions>) -> Result<(), SpreadsheetError> {
        if areas.len() > MAX_MERGED {
            return Err(SpreadsheetError::TooManyMerged { file: self.file.name.clone(), limit: MAX_MERGED });
        }
        let tall = areas.into_iter().filter(|area| area.end.0 > area.start.0);
        let mut merged: Vec<Merged> = tall
            .map(|area| Merged {
                first_row: area.start.0,
                last_row: area.end.0,
                column: area.start.1 as usize,
                value: Cell::Empty,
            })
            .filter(|area| area.column < self.file.limits.columns)
            .collect();
        merged.sort_by_key(|area| area.first_row);
        self.merged = merged.into();
        Ok(())
    }

    /// Puts a cell into its place; `row` and `column` count from 0, and rows come in order.
    fn put(&mut self, row: usize, column: usize, cell: Cell) -> Result<(), SpreadsheetError> {
        let cell = match cell {
            // No database takes the character zero.
            Cell::Text(text) if text.contains('\0') => Cell::Text(text.replace('\0', "")),
            cell => cell,
        };
        match &cell {
            Cell::Empty => return Ok(()),
            Cell::Text(text) if text.trim().is_empty() => return Ok(()),
            // One shared string can stand in very many cells.
            Cell::Text(text) => self.text_bytes += text.len(),
            Cell::Number(_) | Cell::Bad(_) => {}
        }
        if self.text_bytes > self.file.limits.unpacked_bytes {
            return Err(self.file.unpacked_too_large());
        }
        if column >= self.file.limits.columns {
            return Err(self.file.too_many_columns());
        }
        if row >= self.file.limits.rows {
            return Err(self.file.too_many_rows());
        }
        if row < self.number {
            return Err(self.file.broken("its rows are not in order"));
        }
        if row > self.number {
            self.end();
            self.number = row;
        }
        if self.cells.len() <= column {
            self.cells.resize(column + 1, Cell::Empty);
        }
        self.cells[column] = cell;
        Ok(())
    }

    /// Passes on the row at hand.
    fn end(&mut self) {
        if self.cells.is_empty() {
            return;
        }
        let row = self.number as u32;
        self.open.retain(|area| area.last_row >= row);
        while self.merged.front().is_some_and(|area| area.first_row <= row) {
            let Some(mut area) = self.merged.pop_front() else { break };
            // One whose first row has no content has no value either.
            if area.first_row == row
                && let Some(cell) = self.cells.get(area.column)
            {
                area.value = cell.clone();
                self.open.push(area);
            }
        }
        for area in self.open.iter().filter(|area| area.first_row < row) {
            if self.cells.len() <= area.column {
                self.cells.resize(area.column + 1, Cell::Empty);
            }
            if self.cells[area.column] == Cell::Empty {
                self.cells[area.column] = area.value.clone();
            }
        }
        (self.each)(Row { number: row + 1, cells: &self.cells, expected: self.expected });
        self.cells.clear();
    }
}

impl File {
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

    fn xlsx(&self, bytes: &[u8], rows: &mut Rows<'_>) -> Result<(), SpreadsheetError> {
        self.unpack_within_limits(bytes)?;
        self.without_panic(|| {
            let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|error| self.broken(error))?;
            let name =
                workbook.sheet_names().first().cloned().ok_or_else(|| self.broken("it has no sheet"))?;
            if let Ok(areas) = workbook.merge_cells_by_sheet_name(&name) {
                rows.merge(areas)?;
            }
            // Cell by cell: two cells in opposite corners would otherwise become billions.
            let mut cells = workbook.worksheet_cells_reader(&name).map_err(|error| self.broken(error))?;
            rows.expected = cells.dimensions().end.0.saturating_add(1);
            while let Some(cell) =
                cells.next_cell_with_formula_metadata().map_err(|error| self.broken(error))?
            {
                let (row, column) = cell.pos;
                let value = match &cell.value {
                    DataRef::Error(error) => Cell::Bad(format!("Die Formel ergibt {error}")),
                    DataRef::Empty if cell.formula.is_some() => Cell::Bad(NO_VALUE.into()),
                    DataRef::Empty => Cell::Empty,
                    DataRef::Int(number) => Cell::Number(*number as f64),
                    DataRef::Float(number) => Cell::Number(*number),
                    DataRef::Bool(truth) => Cell::Text(truth.to_string()),
                    DataRef::DateTime(time) => Cell::Text(date(time)),
                    DataRef::SharedString(text) => Cell::Text((*text).to_owned()),
                    DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
                        Cell::Text(text.clone())
                    }
                };
                rows.put(row as usize, column as usize, value)?;
            }
            Ok(())
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

    fn xls(&self, bytes: &[u8], rows: &mut Rows<'_>) -> Result<(), SpreadsheetError> {
        self.xls_within_limits(bytes)?;
        self.without_panic(|| {
            let mut workbook: Xls<_> = Xls::new(Cursor::new(bytes)).map_err(|error| self.broken(error))?;
            let range = match workbook.worksheet_range_at(0) {
                Some(range) => range.map_err(|error| self.broken(error))?,
                None => return Err(self.broken("it has no sheet")),
            };
            let (first_row, first_column) = range.start().unwrap_or_default();
            rows.expected = range.end().unwrap_or_default().0.saturating_add(1);
            for (row, column, value) in range.used_cells() {
                let value = match value {
                    Data::Empty => Cell::Empty,
                    Data::Error(error) => Cell::Bad(format!("Die Formel ergibt {error}")),
                    Data::Int(number) => Cell::Number(*number as f64),
                    Data::Float(number) => Cell::Number(*number),
                    Data::Bool(truth) => Cell::Text(truth.to_string()),
                    Data::DateTime(time) => Cell::Text(date(time)),
                    Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => {
                        Cell::Text(text.clone())
                    }
                };
                rows.put(first_row as usize + row, first_column as usize + column, value)?;
            }
            Ok(())
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
        const ENCRYPTED: u16 = 0x2F;
        const CELLS: [u16; 7] = [0x203, 0x204, 0xD6, 0x205, 0x27E, 0xFD, 0x06];

        if compound::is_encrypted(bytes) {
            return Err(SpreadsheetError::Encrypted { file: self.name.clone() });
        }
        let streams =
            compound::workbooks(bytes).ok_or_else(|| self.broken("its parts are not where it says"))?;
        if streams.is_empty() {
            return Err(self.broken("there is no workbook in it"));
        }
        let mut area = 0;
        for stream in &streams {
            if records(stream).take_while(|(kind, _)| *kind != END).any(|(kind, _)| kind == ENCRYPTED) {
                return Err(SpreadsheetError::Encrypted { file: self.name.clone() });
            }
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

    fn csv(&self, bytes: &[u8], rows: &mut Rows<'_>) -> Result<(), SpreadsheetError> {
        // One kind of line end, and one behind the last line too, so that lines can be counted.
        let text = decode(bytes).replace("\r\n", "\n") + "\n";
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter(&text))
            .from_reader(text.as_bytes());
        rows.expected = u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX);
        let mut record = csv::StringRecord::new();
        // The reader skips empty lines, but a spreadsheet counts them; a line break inside of quotes is no row.
        let mut inner_breaks = 0;
        while reader.read_record(&mut record).map_err(|error| self.broken(error))? {
            inner_breaks += record.iter().map(|value| value.matches('\n').count()).sum::<usize>();
            let line_behind = usize::try_from(reader.position().line()).unwrap_or(usize::MAX);
            let row = line_behind.saturating_sub(2 + inner_breaks);
            for (column, value) in record.iter().enumerate() {
                rows.put(row, column, Cell::Text(value.to_owned()))?;
            }
        }
        Ok(())
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

/// UTF-16 with a byte order mark, UTF-8 with or without one, else what Western Windows writes.
fn decode(bytes: &[u8]) -> String {
    let units = |from: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|unit| from([unit[0], unit[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xFF, 0xFE, ..] => return units(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => return units(u16::from_be_bytes),
        _ => {}
    }
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

    /// Whether it is a newer workbook with a password: such a one is wrapped whole.
    pub fn is_encrypted(bytes: &[u8]) -> bool {
        let name: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
        bytes.windows(name.len()).any(|window| window == name)
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
