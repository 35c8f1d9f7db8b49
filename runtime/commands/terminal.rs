//! Where lines go: data to standard output, news and problems to standard error.
//!
//! In: text. Out: text, coloured on a terminal only.
//! Invariant: a reader that went away (a closed pipe) is not a failure of the command.

use std::fmt::Display;
use std::io::{self, Write as _};

use console::Style;

/// One line of data.
pub(crate) fn data(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// One line of news.
pub(crate) fn news(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// What went wrong.
pub(crate) fn problem(text: impl Display) {
    let mark = Style::new().for_stderr().red().bold().apply_to("error:");
    let _ = writeln!(io::stderr().lock(), "{mark} {text}");
}

/// What may go wrong.
pub(crate) fn warning(text: impl Display) {
    let mark = Style::new().for_stderr().yellow().bold().apply_to("warning:");
    let _ = writeln!(io::stderr().lock(), "{mark} {text}");
}

/// So many things, in words: `1 function`, `2 functions`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}
