//! Documents of text files: JSON lines, one JSON array, CSV.
//!
//! In: bytes and a format. Out: the fields of each document, with the line or place it is from.
//! Invariant: memory is bounded by what the limits allow, whatever the bytes say.

use std::collections::BTreeMap;
use std::io::{BufRead, Cursor, Read};

use database::error::UserError;
use database::import::ImportRow;
use database::json::{self, Dialect};
use database::limits;
use database::value::Value;
use serde_json::value::RawValue;

use super::quotes::Quotes;
use super::{ArchiveError, Budget};

/// The error of bytes that cannot be read.
pub(super) const UNREADABLE: &str = "InvalidFile";
/// How texts of some programs begin.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How a file of documents is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// One JSON object a line.
    Lines,
    /// One JSON array of objects.
    Array,
    /// A line of names, then lines of values.
    Csv,
}

/// Reads all documents of a file. `source` names it in errors.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub(crate) fn rows(
    source: &str,
    file: impl BufRead,
    format: Rows,
    budget: &mut Budget,
) -> Result<Vec<ImportRow>, ArchiveError> {
    match format {
        Rows::Lines => lines(source, file, Dialect::Plain, budget),
        Rows::Array => array(source, file, budget),
        Rows::Csv => table(source, file, budget),
    }
}

/// A file without the byte order mark that some programs begin texts with.
fn unmarked(source: &str, mut file: impl BufRead) -> Result<impl BufRead, ArchiveError> {
    let mut head = Vec::with_capacity(BYTE_ORDER_MARK.len());
    let begin = file.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut head);
    begin.map_err(|error| unreadable(source, &error))?;
    if head == BYTE_ORDER_MARK {
        head.clear();
    }
    Ok(Cursor::new(head).chain(file))
}

/// One JSON object a line; empty lines are none.
pub(super) fn lines(
    source: &str,
    file: impl BufRead,
    dialect: Dialect,
    budget: &mut Budget,
) -> Result<Vec<ImportRow>, ArchiveError> {
    let mut rows = Vec::new();
    each_line(source, file, budget, |place, line, budget| {
        let value = json::import(line, dialect).map_err(|error| at(source, place, &error));
        let row = ImportRow::new(place, object(value?, source, place)?);
        budget.hold(&row)?;
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// Hands out the lines of a file that are not empty, with their numbers.
pub(super) fn each_line(
    source: &str,
    file: impl BufRead,
    budget: &mut Budget,
    mut take: impl FnMut(usize, &str, &mut Budget) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut file = unmarked(source, file)?;
    let mut line = Vec::new();
    for place in 1.. {
        line.clear();
        let most = limits::IMPORT_LINE_BYTES;
        let read = file.by_ref().take(most + 1).read_until(b'\n', &mut line);
        if read.map_err(|error| unreadable(source, &error))? == 0 {
            break;
        }
        if line.len() as u64 > most {
            let text = format!("{source}:{place} is longer than {most} bytes.");
            return Err(ArchiveError::wrong("LineTooLong", text));
        }
        budget.take(line.len())?;
        let text = str::from_utf8(&line).map_err(|_| {
            ArchiveError::wrong("InvalidText", format!("{source}:{place}: not valid UTF-8."))
        })?;
        if !text.trim().is_empty() {
            take(place, text.trim_end(), budget)?;
        }
    }
    Ok(())
}

fn array(
    source: &str,
    file: impl BufRead,
    budget: &mut Budget,
) -> Result<Vec<ImportRow>, ArchiveError> {
    let most = limits::IMPORT_ARRAY_BYTES;
    let mut text = Vec::new();
    let read = unmarked(source, file)?.take(most + 1).read_to_end(&mut text);
    read.map_err(|error| unreadable(source, &error))?;
    if text.len() as u64 > most {
        let text = format!(
            "{source}: JSON arrays may have at most {most} bytes. Write one object a line, and \
             import it as jsonLines."
        );
        return Err(ArchiveError::wrong("ArrayTooLarge", text));
    }
    let items: Vec<&RawValue> = serde_json::from_slice(&text).map_err(|error| {
        let text = format!("{source}: not a JSON array of objects: {error}");
        ArchiveError::wrong("InvalidJson", text)
    })?;
    let rows = items.iter().zip(1..).map(|(item, place)| {
        let value = json::import(item.get(), Dialect::Plain);
        let value = value.map_err(|error| at(source, place, &error))?;
        let row = ImportRow::new(place, object(value, source, place)?);
        budget.hold(&row)?;
        Ok(row)
    });
    rows.collect()
}

fn table(
    source: &str,
    file: impl BufRead,
    budget: &mut Budget,
) -> Result<Vec<ImportRow>, ArchiveError> {
    let wrong = |error: csv::Error| ArchiveError::wrong("InvalidCsv", format!("{source}: {error}"));
    let mut reader = csv::Reader::from_reader(Quotes::new(unmarked(source, file)?));
    let names = reader.headers().map_err(wrong)?.clone();
    for (at, name) in names.iter().enumerate() {
        let text = match name {
            "" => format!("{source}:1: column {} has no name.", at + 1),
            name if names.iter().take(at).any(|other| other == name) => {
                format!("{source}:1: two columns are called {name:?}.")
            }
            _ => continue,
        };
        return Err(ArchiveError::wrong("InvalidCsv", text));
    }
    let mut rows = Vec::new();
    loop {
        let record = reader.records().next();
        if let Some(line) = reader.get_ref().open() {
            let text = format!(
                "{source}:{line}: a quoted field begins here, and the file ends before its quote: \
                 its end is missing, or a quote is too many."
            );
            return Err(ArchiveError::wrong("InvalidCsv", text));
        }
        let Some(record) = record else { break };
        let record = record.map_err(wrong)?;
        budget.take(record.as_slice().len())?;
        let line = record.position().map_or(0, csv::Position::line);
        let fields: BTreeMap<String, Value> = names
            .iter()
            .zip(record.iter())
            .map(|(name, cell)| (name.to_owned(), cell_value(cell)))
            .collect();
        let row = ImportRow::new(usize::try_from(line).unwrap_or(usize::MAX), fields);
        budget.hold(&row)?;
        rows.push(row);
    }
    Ok(rows)
}

/// A number where the cell is one. Words that Rust reads as numbers, as `nan` or `infinity`, are
/// somebody's words.
fn cell_value(cell: &str) -> Value {
    let number = cell.parse::<f64>().ok().filter(|_| cell.contains(|c: char| c.is_ascii_digit()));
    number.map_or_else(|| Value::String(cell.to_owned()), Value::Float64)
}

fn object(
    value: Value,
    source: &str,
    place: usize,
) -> Result<BTreeMap<String, Value>, ArchiveError> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => {
            let kind = other.kind_name();
            let text = format!("{source}:{place}: a document must be an object, and is {kind}.");
            Err(ArchiveError::wrong("InvalidDocumentError", text))
        }
    }
}

pub(super) fn at(source: &str, place: usize, error: &UserError) -> ArchiveError {
    // A line has one line.
    let why = error.message.replace(" at line 1 column ", " at column ");
    ArchiveError::wrong("InvalidJson", format!("{source}:{place}: {why}"))
}

/// Compressed bytes that do not unpack, or whose checksum is wrong, come as errors of reading.
pub(super) fn unreadable(source: &str, error: &std::io::Error) -> ArchiveError {
    ArchiveError::wrong(UNREADABLE, format!("{source} cannot be read: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: Rows) -> Result<Vec<String>, String> {
        let rows = rows("f", text.as_bytes(), format, &mut Budget::default());
        let rows = rows.map_err(|error| error.to_string())?;
        let shown = rows.into_iter().map(|row| format!("{} {}", row.place, row.json()));
        Ok(shown.collect())
    }

    #[test]
    fn three_formats_give_the_same() {
        let expected = ["2 {\"a\":1,\"b\":\"x, y\"}".to_owned()];
        assert_eq!(read("\n{\"a\":1,\"b\":\"x, y\"}\r\n\n", Rows::Lines).unwrap(), expected);
        assert_eq!(read("a,b\n1,\"x, y\"\n", Rows::Csv).unwrap(), expected);
        let array = read("[{\"a\":0,\"b\":\"\"},{\"a\":1,\"b\":\"x, y\"}]", Rows::Array).unwrap();
        assert_eq!(array[1..], expected);
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(read("\u{feff}{\"a\":1}", Rows::Lines).unwrap(), ["1 {\"a\":1}"]);
        assert_eq!(read("\u{feff}[{\"a\":1}]", Rows::Array).unwrap(), ["1 {\"a\":1}"]);
        for text in ["\u{feff}a\n1\n", "\u{feff}\"a\"\n1\n"] {
            assert_eq!(read(text, Rows::Csv).unwrap(), ["2 {\"a\":1}"]);
        }
        for text in ["", "\u{feff}"] {
            assert!(read(text, Rows::Lines).unwrap().is_empty());
        }
    }

    #[test]
    fn cells_are_numbers_only_if_they_look_like_it() {
        let cells = read("a,b,c,d\n1e3,nan,,-0.5\n", Rows::Csv).unwrap();
        assert_eq!(cells, ["2 {\"a\":1000,\"b\":\"nan\",\"c\":\"\",\"d\":-0.5}"]);
    }

    #[test]
    fn memory_is_bounded() {
        let long = "x".repeat(usize::try_from(limits::IMPORT_LINE_BYTES).unwrap());
        assert!(read(&long, Rows::Lines).unwrap_err().contains("expected a JSON value"));
        assert!(read(&(long + "x"), Rows::Lines).unwrap_err().starts_with("f:1 is longer than"));
        let array = " ".repeat(usize::try_from(limits::IMPORT_ARRAY_BYTES).unwrap() - 1);
        assert_eq!(read(&format!("[{}]", &array[1..]), Rows::Array).unwrap().len(), 0);
        let above = read(&format!("[{array}]"), Rows::Array).unwrap_err();
        assert!(above.contains("JSON arrays may have at most"), "{above}");
        let mut budget = Budget::default();
        budget.take(usize::try_from(limits::IMPORT_BYTES).unwrap()).unwrap();
        let above = budget.take(1).unwrap_err().to_string();
        assert!(above.starts_with("The import is too large"), "{above}");
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let wrong = |text: &str, format| read(text, format).unwrap_err();
        assert!(wrong("{}\n{\"a\":}", Rows::Lines).starts_with("f:2: expected a JSON value"));
        assert!(wrong("{}\n[1]", Rows::Lines).starts_with("f:2: a document must be an object"));
        assert!(wrong("{\"a\":{\"$other\":\"\"}}", Rows::Lines).contains("starts with a `$`"));
        assert!(wrong("{}\n\u{feff}{}", Rows::Lines).starts_with("f:2: "));
        assert!(wrong("\u{feff}\u{feff}{}", Rows::Lines).starts_with("f:1: "));
        assert!(wrong("a,a\n1,2", Rows::Csv).contains("two columns"));
        assert!(wrong("a,b\n1", Rows::Csv).contains("line: 2"));
        for (text, line) in [
            ("a,b\n1,\"unterminated\n", 2),
            ("a,b\n1,2\n\"x\ny\",\"z\n3,4\n", 4),
            ("a,b\n1,\"x\"\"\n", 2),
            ("\"a", 1),
            ("a,b\n\"", 2),
        ] {
            let told = wrong(text, Rows::Csv);
            assert!(told.starts_with(&format!("f:{line}: a quoted field begins")), "{told}");
        }
        for whole in ["a,b\n1,\"x\"", "\"a\"\r\n\"x\n\"", "a\nx\"y\nz\"\n", "a\n\"x\"y\"\n"] {
            assert!(read(whole, Rows::Csv).is_ok(), "{whole:?}");
        }
        assert!(wrong("{}", Rows::Array).contains("not a JSON array"));
        assert!(wrong("[{},3]", Rows::Array).starts_with("f:2:"));
    }
}
