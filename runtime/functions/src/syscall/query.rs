//! Index queries: streams and pages.

use std::borrow::Cow;

use database::pagination::PageRequest;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Answer, parse};
use crate::execution::Execution;

#[derive(Deserialize)]
struct Open<'a> {
    #[serde(borrow)]
    query: &'a RawValue,
}

pub(super) fn open(execution: &mut Execution, arguments: &str) -> Answer {
    let args: Open<'_> = parse("db.query", arguments)?;
    let component = execution.component();
    let query = execution.transaction.open_query(&component, args.query.get())?;
    Ok(format!("{{\"queryId\":{query}}}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfQuery {
    query_id: u32,
}

pub(super) fn next(execution: &mut Execution, arguments: &str) -> Answer {
    let args: OfQuery = parse("queryStreamNext", arguments)?;
    Ok(match execution.transaction.next(args.query_id)? {
        // `value` must be null, not absent, at the end: the library parses it.
        None => "{\"value\":null,\"done\":true}".to_owned(),
        Some(document) => {
            let json = document.json();
            let mut text = String::with_capacity(json.len() + 24);
            text.push_str("{\"value\":");
            text.push_str(json);
            text.push_str(",\"done\":false}");
            text
        }
    })
}

pub(super) fn close(execution: &mut Execution, arguments: &str) -> Answer {
    let args: OfQuery = parse("queryCleanup", arguments)?;
    Ok(execution.transaction.close_query(args.query_id).to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageArgs<'a> {
    #[serde(borrow)]
    query: &'a RawValue,
    #[serde(borrow)]
    cursor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    end_cursor: Option<Cow<'a, str>>,
    /// `None` where it is NaN or infinite: JSON has no such numbers.
    page_size: Option<f64>,
    maximum_rows_read: Option<f64>,
    maximum_bytes_read: Option<f64>,
}

pub(super) fn page(execution: &mut Execution, arguments: &str) -> Answer {
    let args: PageArgs<'_> = parse("paginate", arguments)?;
    let component = execution.component();
    let journal = execution.call.journal.clone();
    let request = PageRequest {
        query: args.query.get(),
        cursor: args.cursor.as_deref(),
        end_cursor: args.end_cursor.as_deref(),
        page_size: args.page_size.map_or(0, count),
        maximum_rows_read: args.maximum_rows_read.map(count),
        maximum_bytes_read: args.maximum_bytes_read.map(count),
        journal: journal.as_deref(),
    };
    let page = execution.transaction.page(&component, request)?;
    let mut text = String::from("{\"page\":[");
    for (at, document) in page.documents.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(document.json());
    }
    let string = |value: &Option<String>| serde_json::json!(value).to_string();
    text.push_str(&format!(
        "],\"isDone\":{},\"continueCursor\":{},\"splitCursor\":{},\"pageStatus\":{}}}",
        page.is_done,
        serde_json::json!(page.continue_cursor),
        string(&page.split_cursor),
        page.status.map_or("null".to_owned(), |status| format!("\"{}\"", status.name())),
    ));
    execution.journal = Some(page.journal.into());
    Ok(text)
}

/// JavaScript numbers of documents: fractions are cut, negatives and NaN count as none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
fn count(number: f64) -> u64 {
    number as u64
}
