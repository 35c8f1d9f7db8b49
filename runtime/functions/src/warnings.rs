//! Warnings about calls that came near a limit (`convex-compat.md` section 8.5).
//!
//! In: what a call has used. Out: console lines. Invariant: equal calls get equal lines, so nothing
//! here depends on how long a call took.

use database::limits;
use database::record::{Arguments, LogLine};
use database::work::Usage;

/// What is told from here on, in percent of a limit.
const NEAR_PERCENT: u64 = 80;

/// What helps where much is read.
const READ_LESS: &str = " Consider using smaller limits in your queries, paginating your queries, \
     or using indexed queries with a selective index range expressions.";

/// Something that a limit counts.
struct Counted {
    what: &'static str,
    actual: u64,
    limit: u64,
    unit: &'static str,
    help: &'static str,
}

/// About a transaction.
pub(crate) fn of_usage(usage: &Usage) -> Vec<LogLine> {
    let count = |what, actual, limit, help| Counted { what, actual, limit, unit: "", help };
    let bytes =
        |what, actual, limit, help| Counted { unit: " bytes", ..count(what, actual, limit, help) };
    let counted = [
        count(
            "Many documents read in a single function execution",
            usage.documents_read,
            limits::DOCUMENTS_READ,
            READ_LESS,
        ),
        count(
            "Many reads in a single function execution",
            usage.ranges,
            limits::INDEX_RANGES,
            READ_LESS,
        ),
        bytes(
            "Many bytes read in a single function execution",
            usage.bytes_read,
            limits::BYTES_READ,
            READ_LESS,
        ),
        count(
            "Many writes in a single function execution",
            usage.documents_written,
            limits::DOCUMENTS_WRITTEN,
            "",
        ),
        bytes(
            "Many bytes written in a single function execution",
            usage.bytes_written,
            limits::BYTES_WRITTEN,
            "",
        ),
        count(
            "Many functions scheduled by this mutation",
            usage.functions_scheduled,
            limits::FUNCTIONS_SCHEDULED,
            "",
        ),
        bytes(
            "Large total size of the arguments of scheduled functions from this mutation",
            usage.scheduled_bytes,
            limits::SCHEDULED_BYTES,
            "",
        ),
    ];
    counted.into_iter().filter_map(Counted::line).collect()
}

/// About what went in, and what came out where something did.
pub(crate) fn of_values(arguments: &Arguments, result_bytes: Option<u64>) -> Vec<LogLine> {
    let large = |what, actual, limit| Counted { what, actual, limit, unit: " bytes", help: "" };
    // No value is more than nine times as large as its JSON text.
    let may_be_large = arguments.json.len() as u64 * 9 > near(limits::ARGUMENT_BYTES);
    let given = if may_be_large { arguments.value.size() as u64 } else { 0 };
    let counted = [
        large("Large size of the function arguments", given, limits::ARGUMENT_BYTES),
        large(
            "Large size of the function return value",
            result_bytes.unwrap_or(0),
            limits::RESULT_BYTES,
        ),
    ];
    counted.into_iter().filter_map(Counted::line).collect()
}

impl Counted {
    fn line(self) -> Option<LogLine> {
        let Self { what, actual, limit, unit, help } = self;
        // Beyond the limit it was an error.
        (actual > near(limit) && actual <= limit).then(|| {
            let text = format!("{what} (actual: {actual}{unit}, limit: {limit}{unit}).{help}");
            LogLine::warning(text)
        })
    }
}

fn near(limit: u64) -> u64 {
    limit * NEAR_PERCENT / 100
}
