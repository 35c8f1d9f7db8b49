//! Where lines go: data to standard output, news and problems to standard error.
//!
//! In: text. Out: text, coloured on a terminal only.
//! Invariant: a reader that went away (a closed pipe) is not a failure of the command; data that
//! could not be written is one, whatever else the command has done.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use console::Style;

/// Why data could not be written; what comes after it would leave a gap.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// One line of data. Whether it was written says [`written`].
pub(crate) fn data(line: impl Display) {
    write(|to| writeln!(to, "{line}"));
}

/// Whether all data was written. Asked once, at a command's end.
///
/// # Errors
/// The system's; none, if it is only that nobody reads any more.
pub(crate) fn written() -> io::Result<()> {
    write(|to| to.flush());
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.filter(|why| why.kind() != io::ErrorKind::BrokenPipe).map_or(Ok(()), Err)
}

/// Writes to standard output, unless that has failed before.
fn write(some: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if failed.is_none() {
        *failed = some(&mut io::stdout().lock()).err();
    }
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

/// A path or name in a command that is shown, as a shell takes it.
pub(crate) fn word(text: impl Display) -> String {
    let text = text.to_string();
    // Only a NUL has no quotes, and no path holds one.
    shlex::try_quote(&text).map_or_else(|_| text.clone(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn only_what_a_shell_would_split_is_quoted() {
        assert_eq!(word("backups/monday"), "backups/monday");
        assert_eq!(word("my backups"), "'my backups'");
        assert_eq!(word("it's"), "\"it's\"");
    }
}
