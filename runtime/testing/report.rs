//! What a user reads of a suite: pretty text, JUnit's XML, or JSON.
//!
//! In: [`FileReport`]s. Out: text. Invariant: every failure is told with its message, its frames in
//! TypeScript and the line; the last line counts.

use std::fmt::Write as _;
use std::time::Duration;

use clap::ValueEnum;
use console::Style;
use serde_json::{Value, json};

use super::frames::Frames;
use super::suite::FileReport;

/// In which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Reporter {
    /// For people.
    #[default]
    Pretty,
    /// For CI systems.
    Junit,
    /// For programs.
    Json,
}

/// One test.
#[derive(Clone, Debug)]
struct Test<'a> {
    names: Vec<&'a str>,
    state: &'a str,
    ms: f64,
    errors: &'a [Value],
}

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As they should.
    pub passed: usize,
    /// Otherwise.
    pub failed: usize,
    /// Not run.
    pub skipped: usize,
    /// Files with a failure, of a test or outside of any.
    pub failed_files: usize,
}

impl Counts {
    /// Whether everything that ran passed.
    pub fn is_good(self) -> bool {
        self.failed == 0 && self.failed_files == 0
    }
}

/// Counts the tests of files.
pub fn count(files: &[FileReport]) -> Counts {
    let mut counts = Counts::default();
    for file in files {
        for test in tests(file) {
            match test.state {
                "pass" => counts.passed += 1,
                "fail" => counts.failed += 1,
                _ => counts.skipped += 1,
            }
        }
        let is_bad = file.report["state"] == "fail" || !errors(file).is_empty();
        counts.failed_files += usize::from(is_bad);
    }
    counts
}

/// The files in which something failed outside of their tests: at import, in a hook of a suite.
pub fn broken(files: &[FileReport]) -> impl Iterator<Item = &FileReport> {
    files.iter().filter(|file| !errors(file).is_empty())
}

/// A file as it ends: its tests, one line each, and what it logged.
pub fn of_file(file: &FileReport) -> String {
    let mut text = format!(" {}\n", Style::new().bold().apply_to(&file.file));
    for test in tests(file) {
        let (mark, style) = match test.state {
            "pass" => ("✓", Style::new().green()),
            "fail" => ("✗", Style::new().red()),
            "todo" => ("…", Style::new().dim()),
            _ => ("-", Style::new().dim()),
        };
        let name = test.names.join(" > ");
        let _ = writeln!(text, "   {} {name}{}", style.apply_to(mark), took(test.ms));
    }
    for line in &file.lines {
        let _ = writeln!(text, "   | {}", line.replace('\n', "\n   | "));
    }
    text
}

fn took(ms: f64) -> String {
    if ms < 1.0 { String::new() } else { format!(" ({ms:.0} ms)") }
}

/// Every failure, and the counts.
pub fn summary(files: &[FileReport], frames: &Frames, time: Duration) -> String {
    let mut text = String::new();
    for file in files {
        for error in errors(file) {
            failure(&mut text, &file.file, error, frames);
        }
        for test in tests(file).iter().filter(|test| test.state == "fail") {
            let name = format!("{} > {}", file.file, test.names.join(" > "));
            for error in test.errors {
                failure(&mut text, &name, error, frames);
            }
        }
    }
    let Counts { passed, failed, skipped, failed_files } = count(files);
    let mut parts = vec![];
    for (number, what) in [(failed, "failed"), (passed, "passed"), (skipped, "skipped")] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    if parts.is_empty() {
        parts.push("none".to_owned());
    }
    let bad = if failed_files > 0 { format!("{failed_files} failed, ") } else { String::new() };
    let _ = writeln!(text, " Files  {bad}{} run", files.len());
    let _ = writeln!(text, " Tests  {}", parts.join(", "));
    let _ = writeln!(text, "  Time  {:.2} s", time.as_secs_f64());
    text
}

fn failure(text: &mut String, name: &str, error: &Value, frames: &Frames) {
    let mark = Style::new().red().bold().apply_to(" FAIL ");
    let _ = writeln!(text, "{mark} {name}");
    let _ = writeln!(text, "{}", message(error));
    if let Some(diff) = error["diff"].as_str() {
        let plain = (!console::colors_enabled()).then(|| console::strip_ansi_codes(diff));
        let _ = writeln!(text, "\n{}", plain.as_deref().unwrap_or(diff));
    }
    let found = frames.of(error["stack"].as_str().unwrap_or_default());
    for frame in &found {
        let _ = writeln!(text, "  at {frame}");
    }
    if let Some(code) = found.first().and_then(|frame| frames.code(frame)) {
        let _ = write!(text, "\n{code}");
    }
    let mut cause = &error["cause"];
    while !cause.is_null() {
        let _ = writeln!(text, "\nCaused by: {}", message(cause));
        for frame in frames.of(cause["stack"].as_str().unwrap_or_default()) {
            let _ = writeln!(text, "  at {frame}");
        }
        cause = &cause["cause"];
    }
    text.push('\n');
}

fn message(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or_default();
    match error["name"].as_str() {
        // Our own words, or what was thrown and is no error.
        None => message.to_owned(),
        Some(name) => format!("{name}: {message}"),
    }
}

/// The whole as JSON.
pub fn json(files: &[FileReport], time: Duration) -> Value {
    let Counts { passed, failed, skipped, .. } = count(files);
    let file = |file: &FileReport| {
        let test = |test: &Test<'_>| {
            let messages: Vec<_> = test.errors.iter().map(message).collect();
            json!({
                "name": test.names.join(" > "), "state": test.state, "ms": test.ms,
                "errors": messages,
            })
        };
        let messages: Vec<_> = errors(file).into_iter().map(message).collect();
        let tests: Vec<_> = tests(file).iter().map(test).collect();
        json!({ "file": file.file, "tests": tests, "errors": messages, "log": file.lines })
    };
    json!({
        "passed": passed, "failed": failed, "skipped": skipped,
        "success": count(files).is_good(), "seconds": time.as_secs_f64(),
        "files": files.iter().map(file).collect::<Vec<_>>(),
    })
}

/// The whole as JUnit's XML.
pub fn junit(files: &[FileReport], frames: &Frames, time: Duration) -> String {
    let Counts { passed, failed, skipped, .. } = count(files);
    let seconds = time.as_secs_f64();
    // What failed outside of the tests is a case of its own: whoever counts cases sees it.
    let broken: usize = files.iter().map(|file| errors(file).len()).sum();
    let total = passed + failed + skipped + broken;
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"concave test\" \
         tests=\"{total}\" failures=\"{failed}\" errors=\"{broken}\" skipped=\"{skipped}\" \
         time=\"{seconds:.3}\">\n"
    );
    for file in files {
        suite_of_junit(&mut xml, file, frames);
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// One file of it.
fn suite_of_junit(xml: &mut String, file: &FileReport, frames: &Frames) {
    let tests = tests(file);
    let of = |state: &str| tests.iter().filter(|test| test.state == state).count();
    let (bad, skipped) = (of("fail"), tests.len() - of("fail") - of("pass"));
    let (name, outside) = (escaped(&file.file), errors(file));
    let seconds = tests.iter().fold(0.0, |sum, test| sum + test.ms) / 1000.0;
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{bad}\" errors=\"{}\" \
         skipped=\"{skipped}\" time=\"{seconds:.3}\">",
        tests.len() + outside.len(),
        outside.len()
    );
    for error in outside {
        let mut text = String::new();
        failure(&mut text, &file.file, error, frames);
        let said = message(error);
        let (first, text) = (escaped(said.lines().next().unwrap_or_default()), escaped(&text));
        let _ = writeln!(
            xml,
            "    <testcase classname=\"{name}\" name=\"{name}\" time=\"0.000\"><error \
             message=\"{first}\">{text}</error></testcase>"
        );
    }
    for test in &tests {
        case_of_junit(xml, &name, test, frames);
    }
    xml.push_str("  </testsuite>\n");
}

/// One test of it.
fn case_of_junit(xml: &mut String, file: &str, test: &Test<'_>, frames: &Frames) {
    let plain = test.names.join(" > ");
    let of = escaped(&plain);
    let seconds = test.ms / 1000.0;
    let open = format!("    <testcase classname=\"{file}\" name=\"{of}\"");
    let _ = match test.state {
        "pass" => writeln!(xml, "{open} time=\"{seconds:.3}\"/>"),
        "fail" => {
            let mut text = String::new();
            test.errors.iter().for_each(|e| failure(&mut text, &plain, e, frames));
            let first = test.errors.first().map(message).unwrap_or_default();
            let (first, text) = (escaped(&first), escaped(&text));
            writeln!(
                xml,
                "{open} time=\"{seconds:.3}\"><failure \
                 message=\"{first}\">{text}</failure></testcase>"
            )
        }
        _ => writeln!(xml, "{open} time=\"0.000\"><skipped/></testcase>"),
    };
}

fn escaped(text: &str) -> String {
    let plain = console::strip_ansi_codes(text);
    let mut escaped = String::with_capacity(plain.len());
    for character in plain.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// What went wrong outside of the file's tests.
fn errors(file: &FileReport) -> Vec<&Value> {
    fn of_suites<'a>(task: &'a Value, found: &mut Vec<&'a Value>) {
        let Some(tasks) = task["tasks"].as_array() else { return };
        found.extend(task["errors"].as_array().into_iter().flatten());
        tasks.iter().for_each(|task| of_suites(task, found));
    }
    let mut found = Vec::new();
    of_suites(&file.report, &mut found);
    found.extend(file.report["unhandled"].as_array().into_iter().flatten());
    found
}

/// The tests of a file, in order.
fn tests(file: &FileReport) -> Vec<Test<'_>> {
    fn below<'a>(task: &'a Value, names: &[&'a str], found: &mut Vec<Test<'a>>) {
        for task in task["tasks"].as_array().into_iter().flatten() {
            let mut names = names.to_vec();
            names.push(task["name"].as_str().unwrap_or_default());
            if task["tasks"].is_array() {
                below(task, &names, found);
                continue;
            }
            found.push(Test {
                names,
                state: task["state"].as_str().unwrap_or("fail"),
                ms: task["ms"].as_f64().unwrap_or_default(),
                errors: task["errors"].as_array().map_or(&[], Vec::as_slice),
            });
        }
    }
    let mut found = Vec::new();
    below(&file.report, &[], &mut found);
    found
}
