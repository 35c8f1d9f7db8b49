//! Which lines of the author's files ran: a table, and an lcov file.
//!
//! In: V8's counts of bundled modules, their source maps. Out: counts by file and line. Invariant:
//! test files, generated files and packages are left out; a line counts as run if anything on it
//! did.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bundler::is_test_file;
use serde::Deserialize;
use sourcemap::SourceMap;

use super::frames::Frames;

/// What one run of a test file counted: functions by the path of their bundled module.
pub type Counted = BTreeMap<String, Vec<Function>>;

/// One function of a bundled module.
#[derive(Clone, Debug, Deserialize)]
pub struct Function {
    /// Empty: it has none.
    name: String,
    /// Itself, and the blocks in it whose count is another: start, end (UTF-16 units), count.
    ranges: Vec<(u32, u32, u64)>,
}

/// The counts of all files.
#[derive(Debug, Default)]
pub struct Coverage {
    files: BTreeMap<String, File>,
}

#[derive(Debug, Default)]
struct File {
    /// By line, from 1.
    lines: BTreeMap<u32, u64>,
    /// By the line that they begin in, and name.
    functions: BTreeMap<(u32, String), u64>,
}

impl Coverage {
    /// Adds what a test file counted.
    pub fn add(&mut self, counted: &Counted, frames: &Frames) {
        for (path, functions) in counted {
            if let Some((source, map)) = frames.module(path) {
                self.add_module(functions, source, &map);
            }
        }
    }

    fn add_module(&mut self, functions: &[Function], source: &str, map: &SourceMap) {
        let mut ranges: Vec<_> = functions.iter().flat_map(|of| of.ranges.clone()).collect();
        // Each before those inside of it.
        ranges.sort_by_key(|&(start, end, _)| (start, std::cmp::Reverse(end)));
        let starts = line_starts(source);
        let mut lines: BTreeMap<(&str, u32), u64> = BTreeMap::new();
        let mut places: BTreeMap<u32, (&str, u32)> = BTreeMap::new();
        for token in map.tokens() {
            let Some(file) = token.get_source().and_then(own) else { continue };
            let Some(start) = starts.get(token.get_dst_line() as usize) else { continue };
            let (offset, line) = (start + token.get_dst_col(), token.get_src_line() + 1);
            let count = innermost(&ranges, offset);
            let known = lines.entry((file, line)).or_default();
            *known = count.max(*known);
            places.insert(offset, (file, line));
        }
        for ((file, line), count) in lines {
            *self.files.entry(file.to_owned()).or_default().lines.entry(line).or_default() += count;
        }
        for Function { name, ranges } in functions.iter().filter(|of| !of.name.is_empty()) {
            let Some(&(start, _, count)) = ranges.first() else { continue };
            let Some((_, (file, line))) = places.range(start..).next() else { continue };
            let file = self.files.entry((*file).to_owned()).or_default();
            *file.functions.entry((*line, name.clone())).or_default() += count;
        }
    }

    /// The table that people read.
    pub fn table(&self) -> String {
        let rows: Vec<_> = self.files.iter().map(|(name, file)| Row::of(name, file)).collect();
        let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
        let all = Row {
            name: "All files".to_owned(),
            lines: (sum(|row| row.lines.0), sum(|row| row.lines.1)),
            functions: (sum(|row| row.functions.0), sum(|row| row.functions.1)),
            missed: String::new(),
        };
        let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(all.name.len());
        let mut text = format!(
            " {:<width$} {:>8} {:>11}  {:>11}  Lines that did not run\n",
            "Coverage", "%", "Lines", "Functions"
        );
        for Row { name, lines, functions, missed } in rows.iter().chain([&all]) {
            let _ = writeln!(
                text,
                " {name:<width$} {:>8} {:>11}  {:>11}  {missed}",
                percent(*lines),
                format!("{}/{}", lines.0, lines.1),
                format!("{}/{}", functions.0, functions.1),
            );
        }
        text
    }

    /// The whole in lcov's format, with paths from the folder.
    pub fn lcov(&self) -> String {
        let mut text = String::new();
        for (name, File { lines, functions }) in &self.files {
            let _ = writeln!(text, "TN:\nSF:{name}");
            for (line, function) in functions.keys() {
                let _ = writeln!(text, "FN:{line},{function}");
            }
            for ((_, function), count) in functions {
                let _ = writeln!(text, "FNDA:{count},{function}");
            }
            let ran = |counts: &mut dyn Iterator<Item = &u64>| counts.filter(|c| **c > 0).count();
            let hit = ran(&mut functions.values());
            let _ = writeln!(text, "FNF:{}\nFNH:{hit}", functions.len());
            for (line, count) in lines {
                let _ = writeln!(text, "DA:{line},{count}");
            }
            let hit = ran(&mut lines.values());
            let _ = writeln!(text, "LF:{}\nLH:{hit}\nend_of_record", lines.len());
        }
        text
    }
}

/// A line of the table: how many ran, of how many.
struct Row {
    name: String,
    lines: (usize, usize),
    functions: (usize, usize),
    missed: String,
}

impl Row {
    fn of(name: &str, File { lines, functions }: &File) -> Self {
        let ran = |counts: Vec<u64>| (counts.iter().filter(|c| **c > 0).count(), counts.len());
        Self {
            name: name.to_owned(),
            lines: ran(lines.values().copied().collect()),
            functions: ran(functions.values().copied().collect()),
            missed: missed(lines),
        }
    }
}

/// Lines that did not run: `3-5, 9`.
fn missed(lines: &BTreeMap<u32, u64>) -> String {
    let mut spans: Vec<(u32, u32)> = Vec::new();
    let mut is_going_on = false;
    for (line, count) in lines {
        match spans.last_mut() {
            _ if *count > 0 => is_going_on = false,
            Some(span) if is_going_on => span.1 = *line,
            _ => {
                spans.push((*line, *line));
                is_going_on = true;
            }
        }
    }
    let text = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    spans.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn percent((part, whole): (usize, usize)) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1}", part as f64 / whole as f64 * 100.0) }
}

/// The name of an author's file, of a source as maps name it.
fn own(source: &str) -> Option<&str> {
    let file = source.strip_prefix("../").unwrap_or(source);
    let is_own = !file.starts_with("../")
        // What stands for a mocked file.
        && !file.ends_with(')')
        && file.contains('/')
        && !file.contains("node_modules/")
        && !file.contains("_generated/")
        && !is_test_file(Path::new(file));
    is_own.then_some(file)
}

/// The count of the smallest range around an offset.
fn innermost(ranges: &[(u32, u32, u64)], offset: u32) -> u64 {
    let before = ranges.partition_point(|&(start, ..)| start <= offset);
    let around = ranges[..before].iter().rev().find(|&&(_, end, _)| offset < end);
    around.map_or(0, |&(.., count)| count)
}

/// Where lines begin, in UTF-16 units.
fn line_starts(source: &str) -> Vec<u32> {
    let mut starts = vec![0];
    let mut at = 0;
    for character in source.chars() {
        at += u32::try_from(character.len_utf16()).unwrap_or(1);
        if character == '\n' {
            starts.push(at);
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_did_not_run_are_told_in_spans() {
        let lines = [(1, 1), (2, 0), (4, 0), (5, 3), (7, 0)].into();
        assert_eq!(missed(&lines), "2-4, 7");
    }

    #[test]
    fn the_smallest_range_counts() {
        let ranges = [(0, 100, 1), (10, 50, 4), (20, 30, 0), (60, 70, 2)];
        let counts = [5, 15, 25, 40, 65, 80, 100].map(|offset| innermost(&ranges, offset));
        assert_eq!(counts, [1, 4, 0, 4, 2, 1, 0]);
    }
}
