//! The style guide, executable: what every file of the repository keeps to.
//!
//! In: the repository's files. Out: findings with file and line. Invariant: the checker itself is
//! tested: each rule finds what breaks it and passes what keeps it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use database::limits::TABLE;

/// Most lines of a file.
const FILE_LINES_MAX: usize = 800;
/// Most lines of a function, its signature and last brace included.
const FUNCTION_LINES_MAX: usize = 70;
/// Most characters of a line.
const LINE_LENGTH_MAX: usize = 100;
/// Most bytes of a file.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = Vec::new();
    let mut files = Vec::new();
    for path in paths(root) {
        let size = fs::metadata(&path).unwrap().len();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if size > FILE_BYTES_MAX {
            findings.push(format!("{name}: {size} bytes; at most {FILE_BYTES_MAX}"));
        } else if let Ok(text) = fs::read_to_string(&path) {
            files.push(File { name, text });
        }
    }
    assert!(files.len() > 50, "the walk found only {} files", files.len());
    findings.extend(files.iter().flat_map(check));
    findings.extend(check_all(&files));
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// One file of the repository.
struct File {
    /// Path from the repository's root.
    name: String,
    text: String,
}

impl File {
    fn is(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.name).extension().and_then(|e| e.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension))
    }

    fn is_source(&self) -> bool {
        self.is(&["rs", "js", "mjs"]) && !self.is_input()
    }

    /// What tests feed to the program, and what the program writes: not ours to style.
    fn is_input(&self) -> bool {
        let fixture = self.name.strip_prefix("tests/").is_some_and(|p| p.matches('/').count() > 1);
        fixture || self.name.contains("/_generated/") || self.name.contains("/vendor/")
    }

    fn finding(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.name, line + 1)
    }
}

/// Every file below `root` that belongs to the repository.
fn paths(root: &Path) -> Vec<PathBuf> {
    const SKIPPED: &[&str] = &[
        ".git",
        "target",
        "node_modules",
        ".cache",
        ".concave",
        ".env.local",
        "proptest-regressions",
    ];
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if SKIPPED.contains(&entry.file_name().to_str().unwrap()) {
                continue;
            }
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The rules that look at one file.
fn check(file: &File) -> Vec<String> {
    let rules: [fn(&File) -> Vec<String>; 10] = [
        check_name,
        check_header,
        check_map,
        check_stop,
        check_lengths,
        check_functions,
        check_words,
        check_database,
        check_wire_names,
        check_machine,
    ];
    rules.iter().flat_map(|rule| rule(file)).collect()
}

/// The rules that look at all files together.
fn check_all(files: &[File]) -> Vec<String> {
    let mut findings = check_limits(files, TABLE.iter().map(|limit| limit.name));
    findings.extend(check_examples(files));
    findings
}

/// Names say what a file is about.
fn check_name(file: &File) -> Vec<String> {
    if file.is_input() {
        return Vec::new();
    }
    const EMPTY_NAMES: &[&str] =
        &["utils", "util", "common", "helpers", "helper", "types", "manager", "misc"];
    let stem = Path::new(&file.name).file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    if EMPTY_NAMES.contains(&stem) {
        return vec![
            file.finding(0, format!("{stem:?} names nothing; say what the file is about")),
        ];
    }
    Vec::new()
}

/// Sources open with what they are.
fn check_header(file: &File) -> Vec<String> {
    let expected: &[&str] = match () {
        () if file.is_input() => return Vec::new(),
        () if file.is(&["rs"]) => &["//! "],
        () if file.is(&["js", "mjs"]) => &["// ", "/*", "#!"],
        () if file.is(&["ts"]) && file.name.starts_with("examples/") => &["// ", "/*"],
        () if file.name == "Cargo.toml" => &["# "],
        () => return Vec::new(),
    };
    if expected.iter().any(|start| file.text.starts_with(start)) {
        Vec::new()
    } else {
        vec![file.finding(0, "no header: say what this is, what comes in, what goes out")]
    }
}

/// A folder's first file says what each of the others is.
fn check_map(file: &File) -> Vec<String> {
    const FILES_MIN: usize = 3;
    let is_first = file.name.ends_with("/lib.rs") || file.name.ends_with("/mod.rs");
    if !is_first || file.name.contains("/tests/") || file.is_input() {
        return Vec::new();
    }
    let header: Vec<&str> = file.text.lines().take_while(|l| l.starts_with("//!")).collect();
    let header = header.join("\n");
    let mut of_tests = false;
    let mut named = Vec::new();
    for line in file.text.lines() {
        let words = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let name = words.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
        named.extend(name.filter(|_| !of_tests));
        of_tests = line == "#[cfg(test)]";
    }
    let missing = named.iter().filter(|name| !has_word(&header, name));
    let missing: Vec<_> = missing.copied().filter(|_| named.len() >= FILES_MIN).collect();
    let finding = |name: &str| file.finding(0, format!("the header does not say what {name} is"));
    missing.into_iter().map(finding).collect()
}

/// The files on the path of a call say where they stand on it.
fn check_stop(file: &File) -> Vec<String> {
    let stop = match file.name.strip_prefix("runtime/").unwrap_or("") {
        "server/src/http.rs" | "server/src/socket.rs" => 1,
        "server/src/session.rs" => 2,
        "functions/src/call.rs" => 3,
        "functions/src/run.rs" => 4,
        "database/src/transaction.rs" => 5,
        "database/src/commit.rs" => 6,
        "database/src/subscriptions.rs" => 7,
        "server/src/subscriber.rs" => 8,
        _ => return Vec::new(),
    };
    let sentence = format!("Stop {stop} of 8");
    if file.text.lines().take_while(|line| line.starts_with("//!")).any(|l| l.contains(&sentence)) {
        Vec::new()
    } else {
        vec![file.finding(0, format!("the header does not say {sentence:?}"))]
    }
}

fn check_lengths(file: &File) -> Vec<String> {
    if !file.is_source() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(file.finding(0, format!("{lines} lines; at most {FILE_LINES_MAX}")));
    }
    for (at, line) in file.text.lines().enumerate() {
        let length = line.chars().count();
        if length > LINE_LENGTH_MAX {
            findings
                .push(file.finding(at, format!("{length} characters; at most {LINE_LENGTH_MAX}")));
        }
    }
    findings
}

/// Functions fit a screen. Formatted code ends a function where its indentation comes back.
fn check_functions(file: &File) -> Vec<String> {
    if !file.is_source() {
        return Vec::new();
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let script = !file.is(&["rs"]);
    let starts = |line: &str| starts_function(line) || (script && starts_member(line));
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| starts(line)) {
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends =
            |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}'));
        let one_line = line.ends_with('}') || line.ends_with(';');
        let length = match lines[at..].iter().position(ends) {
            Some(end) if !one_line => end + 1,
            _ => 1,
        };
        if length > FUNCTION_LINES_MAX {
            findings
                .push(file.finding(at, format!("{length} lines; at most {FUNCTION_LINES_MAX}")));
        }
    }
    findings
}

fn starts_function(line: &str) -> bool {
    const BEFORE: &[&str] =
        &["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "export", "static"];
    let mut words = line.split_whitespace().skip_while(|word| BEFORE.contains(word));
    words.next().is_some_and(|word| word == "fn" || word == "function")
}

/// Arrow functions and methods of JavaScript.
fn starts_member(line: &str) -> bool {
    // Wrappers of whole files, and of parts that run when they are needed (`js/README.md`).
    const WRAPPERS: &[&str] = &["section(", "later(", "((prelude) =>"];
    const BLOCKS: &[&str] = &["if", "for", "while", "switch", "catch"];
    const BEFORE: &[&str] = &["async ", "static ", "get ", "set ", "*", "#"];
    let mut code = line.trim_start();
    if code.ends_with("=> {") {
        return !WRAPPERS.iter().any(|wrapper| code.contains(wrapper));
    }
    while let Some(rest) = BEFORE.iter().find_map(|word| code.strip_prefix(word)) {
        code = rest;
    }
    let name = code.split('(').next().unwrap_or("").trim_end();
    let is_name = name.starts_with(char::is_alphabetic) && name.chars().all(char::is_alphanumeric);
    code.ends_with(") {") && is_name && !BLOCKS.contains(&name)
}

/// Words that do not belong: anywhere, or outside the crate that is allowed them.
fn check_words(file: &File) -> Vec<String> {
    if !file.is_source() || file.name == "tests/tidy.rs" {
        return Vec::new();
    }
    let in_runtime = file.name.starts_with("runtime/") && !file.name.contains("/examples/");
    let rust = file.is(&["rs"]);
    let functions = file.name.starts_with("runtime/functions/");
    // The worker process is V8; the host's side of the crate does not use it.
    let isolates = functions
        || file.name.starts_with("runtime/actions/")
        || file.name.starts_with("runtime/bounds/");
    // What both do with V8 and is not unsafe.
    let shared = ["runtime/web/src/clone.rs", "runtime/web/src/lazy.rs"];
    let engine = isolates || shared.contains(&&*file.name);
    let rules: [(&str, bool, &str); 10] = [
        ("TODO", true, "do it, or open an issue"),
        ("FIXME", true, "fix it, or open an issue"),
        ("todo!", rust, "do it"),
        ("unimplemented!", rust, "implement it"),
        ("dbg!", rust, "a trace that was forgotten"),
        ("println!", rust && in_runtime, "output belongs to commands/terminal.rs"),
        ("eprintln!", rust && in_runtime, "output belongs to commands/terminal.rs"),
        ("v8::", rust && in_runtime && !engine, "only functions, actions and bounds know V8"),
        ("unsafe", rust && !isolates, "only functions, actions and bounds may be unsafe"),
        ("anyhow", rust, "errors are typed"),
    ];
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        for (word, _, why) in rules.iter().filter(|(_, applies, _)| *applies) {
            let text = if word.chars().all(char::is_uppercase) { line } else { code };
            if has_word(text, word) {
                findings.push(file.finding(at, format!("{word:?}: {why}")));
            }
        }
    }
    findings
}

/// Whether `word` occurs and is not part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part_of_word);
        let after = word.ends_with(part_of_word)
            && text[at + word.len()..].chars().next().is_some_and(part_of_word);
        !before && !after
    })
}

/// The database cannot reach a clock, a socket, a file or an order that differs between runs.
fn check_database(file: &File) -> Vec<String> {
    const FORBIDDEN_CRATES: &[&str] =
        &["v8", "tokio", "rand", "getrandom", "chrono", "time", "functions", "server", "hyper"];
    const FORBIDDEN_NAMES: &[&str] = &[
        "SystemTime",
        "Instant",
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "std::thread::spawn",
    ];
    let Some(inside) = file.name.strip_prefix("runtime/database/") else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    if inside == "Cargo.toml" {
        let dependencies =
            file.text.lines().enumerate().skip_while(|(_, l)| *l != "[dependencies]");
        let dependencies = dependencies.skip(1).take_while(|(_, line)| !line.starts_with('['));
        for (at, line) in dependencies {
            let name = line.split(['.', ' ', '=']).next().unwrap_or("");
            if FORBIDDEN_CRATES.contains(&name) {
                findings.push(file.finding(at, format!("the database must not depend on {name}")));
            }
        }
    }
    if inside == "src/lib.rs" && !file.text.contains("#![forbid(unsafe_code)]") {
        findings.push(file.finding(0, "no #![forbid(unsafe_code)]"));
    }
    if file.is(&["rs"]) {
        let shipped = file.text.lines().enumerate().take_while(|(_, line)| *line != "#[cfg(test)]");
        for (at, line) in shipped {
            let code = line.split("//").next().unwrap_or("");
            for name in FORBIDDEN_NAMES.iter().filter(|name| has_word(code, name)) {
                findings.push(file.finding(at, format!("the database must not know {name}")));
            }
        }
    }
    findings
}

/// Names of Convex's protocols stand where the protocols are spoken.
fn check_wire_names(file: &File) -> Vec<String> {
    const NAMES: &[(&str, &[&str])] = &[
        ("\"1.0/", &["runtime/functions/src/syscall", "runtime/actions/src/", "runtime/outside/"]),
        ("ModifyQuerySet", &["runtime/server/src/convex/", "runtime/server/src/tests/"]),
        ("deploy2/", &["runtime/server/src/", "runtime/commands/push.rs"]),
        (
            "_system/",
            &["runtime/server/src/", "runtime/commands/", "runtime/database/src/record.rs"],
        ),
    ];
    if !file.is(&["rs"]) || !file.name.starts_with("runtime/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        for (name, places) in NAMES.iter().filter(|(name, _)| code.contains(name)) {
            if !places.iter().any(|place| file.name.starts_with(place)) {
                findings
                    .push(file.finding(at, format!("{name:?} belongs to {}", places.join(", "))));
            }
        }
    }
    findings
}

/// Nothing in the repository depends on the machine that wrote it.
fn check_machine(file: &File) -> Vec<String> {
    // Split, so that this file does not find itself.
    let traces = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("registry.npm", "js.org"),
        concat!("\"resol", "ved\":"),
    ];
    // A package of this repository, which npm links.
    let ours = concat!("\"resol", "ved\": \"../");
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate().filter(|(_, line)| !line.contains(ours)) {
        for trace in traces.iter().filter(|trace| line.contains(**trace)) {
            findings.push(file.finding(at, format!("{trace:?} is true on one machine only")));
        }
    }
    findings
}

/// Every limit is named by a test that hits it or reads it.
fn check_limits<'a>(files: &[File], limits: impl Iterator<Item = &'a str>) -> Vec<String> {
    let tests: Vec<&str> = files.iter().filter(|file| file.is(&["rs"])).map(test_code).collect();
    let untested = limits.filter(|limit| !tests.iter().any(|text| has_word(text, limit)));
    untested.map(|limit| format!("limit {limit}: no test names it")).collect()
}

/// The part of a file that only tests compile.
fn test_code(file: &File) -> &str {
    if file.name.starts_with("tests/")
        || file.name.contains("/tests/")
        || file.name.ends_with("/tests.rs")
    {
        return &file.text;
    }
    file.text.find("#[cfg(test)]").map_or("", |at| &file.text[at..])
}

/// Every example explains itself and is tested.
fn check_examples(files: &[File]) -> Vec<String> {
    let mut examples: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files {
        if let Some((example, path)) =
            file.name.strip_prefix("examples/").and_then(|path| path.split_once('/'))
        {
            examples.entry(example).or_default().push(path);
        }
    }
    let mut findings = Vec::new();
    for (example, paths) in examples {
        let wanted =
            ["README.md", "package-lock.json", "smoke.test.mjs", "convex/_generated/api.d.ts"];
        for missing in wanted.iter().filter(|name| !paths.contains(name)) {
            findings.push(format!("examples/{example}: no {missing}"));
        }
    }
    findings
}

mod of_the_checker {
    use super::*;

    fn file(name: &str, text: impl Into<String>) -> File {
        File { name: name.into(), text: text.into() }
    }

    /// How many findings one rule has.
    fn count(rule: fn(&File) -> Vec<String>, name: &str, text: &str) -> usize {
        rule(&file(name, text)).len()
    }

    #[test]
    fn names_and_headers() {
        assert_eq!(count(check_name, "runtime/utils.rs", ""), 1);
        assert_eq!(count(check_name, "runtime/commit.rs", ""), 0);
        assert_eq!(count(check_name, "tests/bundling/convex/helpers.ts", ""), 0);
        assert_eq!(count(check_header, "runtime/a.rs", "use x;\n"), 1);
        assert_eq!(count(check_header, "runtime/a.rs", "//! What.\n"), 0);
        assert_eq!(count(check_header, "js/a.js", "let x;\n"), 1);
        assert_eq!(count(check_header, "js/a.js", "// What.\n"), 0);
        assert_eq!(count(check_header, "examples/a/convex/b.ts", "export {};\n"), 1);
    }

    #[test]
    fn maps() {
        let text = "//! a.rs, b.rs\nmod a;\npub mod b;\nmod c;\n#[cfg(test)]\nmod tests;\n";
        assert_eq!(count(check_map, "runtime/x/mod.rs", text), 1);
        assert_eq!(count(check_map, "runtime/x/mod.rs", &text.replace("b.rs", "b.rs c.rs")), 0);
        assert_eq!(count(check_map, "runtime/x/mod.rs", &text.replace("mod c;", "")), 0);
        assert_eq!(count(check_map, "runtime/x.rs", text), 0);
    }

    #[test]
    fn stops() {
        let name = "runtime/database/src/commit.rs";
        assert_eq!(count(check_stop, name, "//! Stop 6 of 8: commit.\n"), 0);
        assert_eq!(count(check_stop, name, "//! Commit.\n// Stop 6 of 8\n"), 1);
        assert_eq!(count(check_stop, "runtime/world.rs", "//! World.\n"), 0);
    }

    #[test]
    fn lengths() {
        assert_eq!(count(check_lengths, "a.rs", &"x\n".repeat(FILE_LINES_MAX)), 0);
        assert_eq!(count(check_lengths, "a.rs", &"x\n".repeat(FILE_LINES_MAX + 1)), 1);
        assert_eq!(count(check_lengths, "a.js", &"é".repeat(LINE_LENGTH_MAX)), 0);
        assert_eq!(count(check_lengths, "a.js", &"é".repeat(LINE_LENGTH_MAX + 1)), 1);
        assert_eq!(count(check_lengths, "a.md", &"x".repeat(LINE_LENGTH_MAX + 1)), 0);
    }

    #[test]
    fn functions() {
        let function = |head: &str, lines: usize| {
            let body = "        x();\n".repeat(lines);
            format!("impl A {{\n    {head} {{\n{body}    }}\n}}\n")
        };
        for head in ["fn f()", "pub(crate) async fn f()", "export function f()"] {
            let fits = function(head, FUNCTION_LINES_MAX - 2);
            assert_eq!(count(check_functions, "a.rs", &fits), 0, "{head}");
            let long = function(head, FUNCTION_LINES_MAX - 1);
            assert_eq!(count(check_functions, "a.rs", &long), 1, "{head}");
        }
        for head in ["const f = async (a) =>", "f(a)", "static async f()", "test('f', () =>"] {
            let long = function(head, FUNCTION_LINES_MAX - 1);
            assert_eq!(count(check_functions, "a.js", &long), 1, "{head}");
        }
        for head in ["if (a)", "const f = section(() =>", "later((prelude) =>", "match f(a)"] {
            let long = function(head, FUNCTION_LINES_MAX - 1);
            assert_eq!(count(check_functions, "a.js", &long), 0, "{head}");
        }
        let short_then_long = format!("fn f() {{}}\n{}", "x\n".repeat(200));
        assert_eq!(count(check_functions, "a.rs", &short_then_long), 0);
    }

    #[test]
    fn words() {
        assert_eq!(count(check_words, "runtime/a.rs", "// TODO: more"), 1);
        assert_eq!(count(check_words, "runtime/server/src/a.rs", "use v8::Local;"), 1);
        assert_eq!(count(check_words, "runtime/server/src/a.rs", "[\"v8\", x_v8::y]"), 0);
        assert_eq!(count(check_words, "runtime/functions/src/a.rs", "use v8::Local;"), 0);
        assert_eq!(count(check_words, "runtime/a.rs", "#![forbid(unsafe_code)]"), 0);
        assert_eq!(count(check_words, "runtime/a.rs", "unsafe { x() }"), 1);
        assert_eq!(count(check_words, "runtime/a.rs", "println!(\"x\")"), 1);
        assert_eq!(count(check_words, "benches/a.rs", "println!(\"x\")"), 0);
        assert_eq!(count(check_words, "runtime/a.rs", "// nothing unsafe, no v8"), 0);
    }

    #[test]
    fn the_database() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\ntokio.workspace = true\n";
        assert_eq!(count(check_database, "runtime/database/Cargo.toml", manifest), 1);
        let tests_only = manifest.replace("[dependencies]", "[dev-dependencies]");
        assert_eq!(count(check_database, "runtime/database/Cargo.toml", &tests_only), 0);
        let clock = "let t = SystemTime::now();\n";
        assert_eq!(count(check_database, "runtime/database/src/a.rs", clock), 1);
        assert_eq!(count(check_database, "runtime/world.rs", clock), 0);
        let in_test = format!("//! x\n#[cfg(test)]\n{clock}");
        assert_eq!(count(check_database, "runtime/database/src/a.rs", &in_test), 0);
        assert_eq!(count(check_database, "runtime/database/src/lib.rs", "//! x\n"), 1);
    }

    #[test]
    fn wire_names_and_machines() {
        let syscall = "match name { \"1.0/get\" => get(), }";
        assert_eq!(count(check_wire_names, "runtime/functions/src/syscall.rs", syscall), 0);
        assert_eq!(count(check_wire_names, "runtime/database/src/query.rs", syscall), 1);
        let path = format!("cd {}main", concat!("/wo", "rk/"));
        assert_eq!(count(check_machine, "README.md", &path), 1);
        assert_eq!(count(check_machine, "README.md", "cd examples"), 0);
    }

    #[test]
    fn limits_and_examples() {
        let files = [
            file("runtime/a.rs", "use X_BYTES;\n#[cfg(test)]\nmod tests { use Y_BYTES; }"),
            file("tests/limits.rs", "Z_BYTES"),
        ];
        let found = check_limits(&files, ["X_BYTES", "Y_BYTES", "Z_BYTES", "Z_BYTE"].into_iter());
        assert_eq!(found.len(), 2, "{found:?}");
        let files = [file("examples/a/README.md", ""), file("examples/a/package-lock.json", "")];
        assert_eq!(check_examples(&files).len(), 2);
    }
}
