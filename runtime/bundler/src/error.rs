//! What can be wrong with a project, in its author's terms: file, line, frame, import chain, cure.
//!
//! In: problems found while discovering, compiling and linking. Out: one [`BundleErrors`] that
//! prints them all. Invariant: every problem found is reported, sorted by place, each of them once.

use std::fmt;

use thiserror::Error;

/// One thing that is wrong with the project.
#[derive(Clone, Debug, Default, Error, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundleError {
    /// File, relative to the project's root; `None` where no single file is to blame.
    pub file: Option<String>,
    /// Line, from 1; 0 where unknown.
    pub line: u32,
    /// Column in characters, from 1; 0 where unknown.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// The line at fault and its neighbours, with a caret; empty where the place is unknown.
    pub code_frame: String,
    /// Files from the one at fault to the function file that reaches it; empty if it is that file.
    pub import_chain: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl BundleError {
    /// An error that no single place is to blame for.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// An error about a whole file.
    pub(crate) fn in_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: Some(file.into()), message: message.into(), ..Self::default() }
    }

    /// Points at a byte of the file's text.
    pub(crate) fn at(mut self, text: &str, offset: usize) -> Self {
        let (line, column) = line_and_column(text, offset);
        self.line = line;
        self.column = column;
        self.code_frame = code_frame(text, line, column);
        self
    }

    /// Adds the cure.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), 0) => write!(f, "{file}: {}", self.message)?,
            (Some(file), line) => write!(f, "{file}:{line}:{}: {}", self.column, self.message)?,
            (None, _) => write!(f, "{}", self.message)?,
        }
        if !self.code_frame.is_empty() {
            write!(f, "\n\n{}", self.code_frame)?;
        }
        if let [first, rest @ ..] = &self.import_chain[..]
            && !rest.is_empty()
        {
            write!(f, "\n\n  {first}")?;
            for importer in rest {
                write!(f, "\n    is imported by {importer}")?;
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\n\n  {help}")?;
        }
        Ok(())
    }
}

/// Every problem that was found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct BundleErrors(pub Vec<BundleError>);

impl BundleErrors {
    /// Sorts by place and drops repetitions.
    pub(crate) fn collect(mut errors: Vec<BundleError>) -> Self {
        assert!(!errors.is_empty(), "a failure carries at least one error");
        errors.sort();
        errors.dedup_by(|a, b| a.file == b.file && a.line == b.line && a.message == b.message);
        Self(errors)
    }
}

impl From<BundleError> for BundleErrors {
    fn from(error: BundleError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for BundleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            writeln!(f, "{error}\n")?;
        }
        match self.0.len() {
            1 => write!(f, "1 error"),
            n => write!(f, "{n} errors"),
        }
    }
}

/// Line and column (both from 1, the column in characters) of a byte offset.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// The line and one neighbour on each side, numbered, with a caret under the column.
fn code_frame(text: &str, line: u32, column: u32) -> String {
    const WIDTH_MAX: usize = 160; // minified files have lines of megabytes
    let (line, column) = (line as usize, column as usize);
    let first = line.saturating_sub(1).max(1);
    let gutter = (line + 1).to_string().len();
    let mut frame = Vec::new();
    for (number, source) in text.lines().enumerate().skip(first - 1).take(line + 2 - first) {
        let number = number + 1;
        let shift = if column > WIDTH_MAX { column - WIDTH_MAX / 2 } else { 0 };
        let shown: String = source.chars().skip(shift).take(WIDTH_MAX).collect();
        let mark = if number == line { '>' } else { ' ' };
        frame.push(format!("{mark} {number:>gutter$} | {shown}").trim_end().to_owned());
        if number == line {
            let spaces: String = source
                .chars()
                .skip(shift)
                .take(column - 1 - shift)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            frame.push(format!("  {:>gutter$} | {spaces}^", ""));
        }
    }
    frame.join("\n")
}

/// The candidate that looks most like `name`, if one is close enough to be a slip of the finger.
pub(crate) fn closest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| (1..=limit).contains(distance))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap neighbours) that lead from `a` to `b`, ignoring case.
fn edit_distance(a: &str, b: &str) -> usize {
    let [a, b]: [Vec<char>; 2] = [a, b].map(|text| text.to_lowercase().chars().collect());
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let at = |i: usize, j: usize| table[i * width + j];
                let replaced = at(i - 1, j - 1) + usize::from(a[i - 1] != b[j - 1]);
                let edited = replaced.min(at(i - 1, j) + 1).min(at(i, j - 1) + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { edited.min(at(i - 2, j - 2) + 1) } else { edited }
            };
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_points_at_the_column() {
        let error = BundleError::in_file("a.ts", "bad").at("one\n\ttwo x\nthree\n", 9);
        assert_eq!((error.line, error.column), (2, 6));
        assert_eq!(error.code_frame, "  1 | one\n> 2 | \ttwo x\n    | \t    ^\n  3 | three");
    }

    #[test]
    fn a_frame_of_a_minified_file_stays_narrow() {
        let text = "x".repeat(10_000);
        let error = BundleError::in_file("a.js", "bad").at(&text, 9_000);
        assert!(error.code_frame.lines().all(|line| line.len() < 200));
    }

    #[test]
    fn the_closest_name_is_a_slip_not_a_guess() {
        assert_eq!(closest("mesages", ["users", "messages"]), Some("messages"));
        assert_eq!(closest("lsit", ["list", "edit"]), Some("list"), "neighbours swapped");
        assert_eq!(closest("Users", ["users"]), None, "equal but for case is distance zero");
        assert_eq!(closest("a", ["zebra"]), None);
    }
}
