//! `import.meta.glob`, as Vite has it: a call becomes an object of functions that import.
//!
//! In: the text of a file. Out: the text with each call expanded, on as many lines as before.
//! Invariant: the files of a folder that a pattern reaches, and nothing below `node_modules`.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::compile::quoted;
use crate::project::has_use_node;

/// What the call is called, also where its types are not installed.
const CALLS: [&str; 2] = ["import.meta.glob", "(import.meta as any).glob"];

/// What calls stand for: most files of a folder ask the same, and its files are read once.
pub(crate) struct Globs {
    /// Where patterns begin that begin with a slash.
    pub(crate) root: PathBuf,
    members: Mutex<HashMap<Key, Members>>,
}

/// The files that a call reaches.
type Members = Arc<[Member]>;

/// The folder of a file, what its calls begin at, and what stands between their parentheses.
type Key = (PathBuf, Option<String>, String);

impl Globs {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), members: Mutex::default() }
    }

    /// `text` of `file` with its calls expanded, and imports that they need; `None` where there
    /// are none.
    pub(crate) fn expand(&self, text: &str, file: &Path) -> Option<(String, String)> {
        let (mut expanded, mut imports) = (String::new(), String::new());
        let mut rest = text;
        let next = |text: &str| {
            let places = CALLS.iter().filter_map(|call| Some((text.find(call)?, call.len())));
            places.min()
        };
        while let Some((at, name)) = next(rest) {
            let (before, call) = rest.split_at(at);
            let Some((arguments, length)) = arguments(&call[name..]) else {
                expanded.push_str(&rest[..at + name]);
                rest = &rest[at + name..];
                continue;
            };
            let length = name + length;
            expanded.push_str(before);
            expanded.push_str(&self.object(arguments, file, &mut imports));
            expanded.push_str(&"\n".repeat(call[..length].matches('\n').count()));
            rest = &call[length..];
        }
        expanded.push_str(rest);
        next(text).map(|_| (expanded, imports))
    }

    /// The object that a call stands for: the file that asks is not in it.
    fn object(&self, arguments: &str, file: &Path, imports: &mut String) -> String {
        let (patterns, options) = arguments.split_at(first(arguments));
        let options = match Asked::read(options) {
            Ok(options) => options,
            Err(why) => {
                let why = format!(
                    "import.meta.glob: {why}; `concave test` looks for files before code runs."
                );
                return format!("(() => {{ throw new Error({}); }})()", quoted(&why));
            }
        };
        let members = self.members(patterns, file.parent().unwrap_or(file), &options.base);
        let members = members.iter().filter(|member| member.path != file);
        let members: Vec<_> = if options.eager {
            members.map(|member| member.eager(&options, imports)).collect()
        } else {
            members.map(|member| member.lazy(&options)).collect()
        };
        format!("({{ {} }})", members.join(", "))
    }

    fn members(&self, patterns: &str, dir: &Path, base: &Option<String>) -> Members {
        let key = (dir.to_owned(), base.clone(), patterns.to_owned());
        // Held while they are looked for: whoever waits asks for the same, mostly.
        let mut known = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let members = known.entry(key).or_insert_with(|| {
            let within = match base.as_deref().map(|base| (base, base.strip_prefix('/'))) {
                Some((_, Some(of_root))) => tidy(&self.root.join(of_root)),
                Some((base, None)) => tidy(&dir.join(base)),
                None => dir.to_owned(),
            };
            let found = matching(&strings(patterns), &within, &self.root).into_iter();
            let key = |key, path: &Path| match base {
                Some(_) => specifier(&within, path),
                None => key,
            };
            found.map(|(found, path)| Member::new(key(found, &path), dir, path)).collect()
        });
        Arc::clone(members)
    }
}

/// What a call asks for besides its patterns.
#[derive(Default)]
struct Asked {
    eager: bool,
    /// The one export that is wanted.
    export: Option<String>,
    /// Where patterns and keys begin.
    base: Option<String>,
    raw: bool,
}

impl Asked {
    /// Reads the second argument; says what of it cannot be followed.
    fn read(options: &str) -> Result<Self, String> {
        let text = |name: &str| match value_of(options, name).map(string_at) {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => Err(format!("write `{name}` as a string literal")),
        };
        let eager = match value_of(options, "eager").map(|value| value.starts_with("true")) {
            Some(false) if !value_of(options, "eager").is_some_and(|v| v.starts_with("false")) => {
                return Err("write `eager` as true or false".to_owned());
            }
            eager => eager.unwrap_or(false),
        };
        let (query, legacy) = (text("query")?, text("as")?);
        let raw = match (query.as_deref(), legacy.as_deref()) {
            (None | Some(""), None) => false,
            (Some("?raw" | "raw"), _) | (None, Some("raw")) => true,
            _ => return Err("of Vite's queries only \"?raw\" is known".to_owned()),
        };
        let by_legacy = legacy.is_some().then(|| "default".to_owned());
        let export = text("import")?.filter(|name| name != "*").or(by_legacy);
        Ok(Self { eager, export, base: text("base")?, raw })
    }
}

/// A file that a call reaches.
struct Member {
    key: String,
    path: PathBuf,
    /// As the file that asks imports it.
    from: String,
    is_node: bool,
}

impl Member {
    fn new(key: String, dir: &Path, path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self { key, from: specifier(dir, &path), is_node: has_use_node(&text), path }
    }

    fn specifier(&self, asked: &Asked) -> String {
        quoted(&format!("{}{}", self.from, if asked.raw { "?raw" } else { "" }))
    }

    /// A function that imports the file, and says which it is.
    fn lazy(&self, asked: &Asked) -> String {
        let node = if self.is_node { ", node: true" } else { "" };
        let take = asked.export.as_deref().map_or_else(String::new, |name| {
            format!(".then((module) => module[{}])", quoted(name))
        });
        let (key, path) = (quoted(&self.key), quoted(&self.path.to_string_lossy()));
        let import = format!("import({}){take}", self.specifier(asked));
        format!("{key}: Object.assign(() => {import}, {{ file: {path}{node} }})")
    }

    /// What the file exports, imported with the others.
    fn eager(&self, asked: &Asked, imports: &mut String) -> String {
        let local = format!("$glob_{}", imports.matches(" from ").count());
        let what = match &asked.export {
            Some(name) => format!("{{ {} as {local} }}", quoted(name)),
            None => format!("* as {local}"),
        };
        imports.push_str(&format!(" import {what} from {};", self.specifier(asked)));
        format!("{}: {local}", quoted(&self.key))
    }
}

/// Where the first of some arguments ends.
fn first(arguments: &str) -> usize {
    let mut commas = outside_strings(arguments);
    let comma = commas.find(|(_, character, depth)| *character == ',' && *depth == 0);
    comma.map_or(arguments.len(), |(at, ..)| at)
}

/// What of a piece of code stands outside of its strings: each character with its place, and how
/// many brackets are open after it.
fn outside_strings(code: &str) -> impl Iterator<Item = (usize, char, usize)> {
    let (mut depth, mut quote) = (0_usize, None);
    code.char_indices().filter_map(move |(at, character)| {
        match (quote, character) {
            (Some(open), _) => {
                quote = quote.filter(|_| open != character);
                return None;
            }
            (None, '"' | '\'' | '`') => {
                quote = Some(character);
                return None;
            }
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        Some((at, character, depth))
    })
}

/// What stands behind the name of a member of an object that is written out.
fn value_of<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    object.match_indices(name).find_map(|(at, _)| {
        let before = object[..at].trim_end_matches(['"', '\'']).trim_end();
        let after = object[at + name.len()..].trim_start_matches(['"', '\'']).trim_start();
        let value = after.strip_prefix(':').filter(|_| before.ends_with(['{', ',']))?;
        Some(value.trim_start())
    })
}

/// The string literal that a piece of code begins with.
fn string_at(code: &str) -> Option<String> {
    code.starts_with(['"', '\'', '`']).then(|| strings(code).into_iter().next())?
}

/// The text between the parentheses of a call, and how long the call is; type arguments are
/// skipped.
fn arguments(text: &str) -> Option<(&str, usize)> {
    let open = match text.trim_start().chars().next()? {
        '(' => text.find('(')?,
        '<' => text.find(">(")? + 1,
        _ => return None,
    };
    let (at, ..) = outside_strings(&text[open..]).find(|(.., depth)| *depth == 0)?;
    Some((&text[open + 1..open + at], open + at + 1))
}

/// The string literals of a piece of code.
fn strings(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '\'', '`']) {
        let quote = rest[at..].chars().next().unwrap_or('"');
        let inside = &rest[at + 1..];
        let Some(end) = inside.find(quote) else { break };
        found.push(inside[..end].to_owned());
        rest = &inside[end + 1..];
    }
    found
}

/// The files that patterns reach from a folder, by the keys that Vite has for them, and as paths.
fn matching(patterns: &[String], dir: &Path, root: &Path) -> Vec<(String, PathBuf)> {
    let (refused, wanted): (Vec<_>, Vec<_>) = patterns.iter().partition(|p| p.starts_with('!'));
    let refused = refused.iter().map(|pattern| match &pattern[1..] {
        // Wherever it is.
        anywhere if anywhere.starts_with("**") => (PathBuf::new(), anywhere),
        pattern => divided(pattern, dir, root),
    });
    let refused: Vec<_> = refused.collect();
    let fits = |(folder, rest): &(PathBuf, &str), path: &Path| {
        path.strip_prefix(folder).is_ok_and(|below| matches(rest, &below.to_string_lossy()))
    };
    let mut found = Vec::new();
    for pattern in wanted {
        let wanted = divided(pattern, dir, root);
        let mut files = Vec::new();
        walk(&wanted.0, &mut files);
        files.retain(|path| fits(&wanted, path) && !refused.iter().any(|not| fits(not, path)));
        found.extend(files.into_iter().map(|path| {
            let in_root = path.strip_prefix(root).ok().filter(|_| pattern.starts_with('/'));
            let key = in_root.map(|below| format!("/{}", below.display()));
            (key.unwrap_or_else(|| specifier(dir, &path)), path)
        }));
    }
    found.sort();
    found.dedup();
    found
}

/// The folder that a pattern is looked for in, which is the one with its first wildcard, and what
/// of the pattern is left.
fn divided<'a>(pattern: &'a str, dir: &Path, root: &Path) -> (PathBuf, &'a str) {
    // `!(a)` and `@(a)` too are wildcards.
    let end = pattern.find(['*', '?', '{', '[', '(', '!', '@', '+']).unwrap_or(pattern.len());
    let (folder, rest) = match pattern[..end].rfind('/') {
        Some(at) => (&pattern[..at], &pattern[at + 1..]),
        None => ("", pattern),
    };
    if pattern.starts_with('/') || pattern.starts_with("**") {
        return (tidy(&root.join(folder.trim_start_matches('/'))), rest);
    }
    (tidy(&dir.join(folder)), rest)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "node_modules" || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// A path without `.` and `..`.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                tidied.pop();
            }
            part => tidied.push(part),
        }
    }
    tidied
}

/// `path` as a file in `dir` imports it.
fn specifier(dir: &Path, path: &Path) -> String {
    let relative = crate::project::relative_path(dir, path).to_string_lossy().replace('\\', "/");
    if relative.starts_with("../") { relative } else { format!("./{relative}") }
}

/// Whether a path fits a pattern: `*`, `**`, `?`, `[a-z]`, `{a,b}`, `!(a|b)`, `@(a|b)`, `?(a)`,
/// `*(a)`, `+(a)`.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return path.is_empty() };
    if let Some(rest) = pattern.strip_prefix("**/") {
        let below = path.match_indices('/').map(|(at, _)| &path[at + 1..]);
        return std::iter::once(path).chain(below).any(|path| matches(rest, path));
    }
    if matches!(first, '!' | '@' | '?' | '*' | '+')
        && let Some((choices, rest)) = group(&pattern[1..], '(', ')')
    {
        return extended(first, &alternatives(choices, '|'), rest, path);
    }
    match first {
        '*' => {
            let rest = pattern.trim_start_matches('*');
            let end = path.find('/').unwrap_or(path.len());
            (0..=end).filter(|at| path.is_char_boundary(*at)).any(|at| matches(rest, &path[at..]))
        }
        '{' if let Some((choices, rest)) = group(pattern, '{', '}') => {
            alternatives(choices, ',').iter().any(|one| matches(&format!("{one}{rest}"), path))
        }
        '(' if let Some((choices, rest)) = group(pattern, '(', ')') => {
            alternatives(choices, '|').iter().any(|one| matches(&format!("{one}{rest}"), path))
        }
        '[' if let Some((set, rest)) = group(pattern, '[', ']') => {
            let mut characters = path.chars();
            let Some(character) = characters.next() else { return false };
            in_set(set, character) && matches(rest, characters.as_str())
        }
        _ => {
            let mut characters = path.chars();
            let Some(character) = characters.next() else { return false };
            let fits = if first == '?' { character != '/' } else { character == first };
            fits && matches(&pattern[first.len_utf8()..], characters.as_str())
        }
    }
}

/// A group of alternatives with its sign.
fn extended(sign: char, choices: &[&str], rest: &str, path: &str) -> bool {
    let end = path.find('/').unwrap_or(path.len());
    let mut ends = (0..=end).filter(|at| path.is_char_boundary(*at));
    match sign {
        // As picomatch: what begins like a choice is out, unless the group comes last.
        '!' if rest.is_empty() => {
            end == path.len() && !choices.iter().any(|one| matches(one, path))
        }
        '!' => {
            let begins = |at: usize| choices.iter().any(|one| matches(one, &path[..at]));
            !ends.clone().any(begins) && ends.any(|at| matches(rest, &path[at..]))
        }
        '@' => choices.iter().any(|one| matches(&format!("{one}{rest}"), path)),
        '?' => {
            matches(rest, path) || choices.iter().any(|one| matches(&format!("{one}{rest}"), path))
        }
        _ => {
            let again = ends.filter(|at| *at > 0).any(|at| {
                choices.iter().any(|one| matches(one, &path[..at]))
                    && (matches(rest, &path[at..]) || extended(sign, choices, rest, &path[at..]))
            });
            again || (sign == '*' && matches(rest, path))
        }
    }
}

/// What a pattern that begins with `open` has up to its `close`, and what follows.
fn group(pattern: &str, open: char, close: char) -> Option<(&str, &str)> {
    if !pattern.starts_with(open) {
        return None;
    }
    let mut depth = 0_usize;
    for (at, character) in pattern.char_indices() {
        if character == open {
            depth += 1;
        } else if character == close {
            depth -= 1;
            if depth == 0 {
                return Some((&pattern[1..at], &pattern[at + 1..]));
            }
        }
    }
    None
}

/// The parts of a list, by the separators that stand outside of groups.
fn alternatives(list: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, character) in list.char_indices() {
        match character {
            '(' | '{' => depth += 1,
            ')' | '}' => depth = depth.saturating_sub(1),
            _ if character == separator && depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

fn in_set(set: &str, character: char) -> bool {
    let (negated, set) = match set.strip_prefix(['!', '^']) {
        Some(set) => (true, set),
        None => (false, set),
    };
    let set: Vec<char> = set.chars().collect();
    let mut at = 0;
    let mut is_in = false;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == '-' {
            is_in |= (set[at]..=set[at + 2]).contains(&character);
            at += 3;
        } else {
            is_in |= set[at] == character;
            at += 1;
        }
    }
    is_in != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_reach_what_vite_reaches() {
        let convex = "./**/!(*.*.*)*.*s";
        for (pattern, path, fits) in [
            ("./**/*.ts", "./a.ts", true),
            ("./**/*.ts", "./a/b/c.ts", true),
            ("./**/*.ts", "./a.tsx", false),
            ("./*.ts", "./a/b.ts", false),
            ("../component/**/*.*s", "../component/x.test.ts", true),
            ("./*.{ts,js}", "./a.js", true),
            ("./*.{ts,js}", "./a.css", false),
            (convex, "./a/tasks.ts", true),
            (convex, "./tasks.test.ts", false),
            ("./@(a|b).ts", "./b.ts", true),
            ("./+(ab).ts", "./abab.ts", true),
            ("./[a-c]?.ts", "./bx.ts", true),
            ("./[!a].ts", "./a.ts", false),
            ("./(http|crons).ts", "./crons.ts", true),
            ("./(http|crons).ts", "./cron.ts", false),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn a_call_becomes_an_object_on_as_many_lines() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.ts", "b.test.ts", "deep/c.ts", "node_modules/d.ts"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let text = "const m = import.meta.glob<X>([\n  './**/*.ts',\n  '!./deep/**',\n]);\nend";
        let globs = Globs::new(dir.path());
        let expanded = globs.expand(text, &dir.path().join("b.test.ts")).unwrap().0;
        assert_eq!(expanded.lines().count(), text.lines().count());
        assert!(expanded.contains("\"./a.ts\": Object.assign(() => import(\"./a.ts\")"));
        assert!(!expanded.contains("c.ts") && !expanded.contains("b.test.ts\":"), "{expanded}");
        let of_another = globs.expand(text, &dir.path().join("a.ts")).unwrap().0;
        assert!(of_another.contains("\"./b.test.ts\":"), "{of_another}");
        assert!(!of_another.contains("a.ts\":"), "{of_another}");
        assert_eq!(globs.expand("import.meta.env", Path::new("/x.ts")), None);
    }

    #[test]
    fn patterns_and_options_are_those_of_vite() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["convex/a.ts", "convex/b.js", "convex/c.tsx", "tests/x.test.ts"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let globs = Globs::new(dir.path());
        let keys = |from: &str, call: &str| {
            let expanded = globs.expand(call, &dir.path().join(from)).unwrap().0;
            let keys = expanded.split(": Object.assign(").map(|before| {
                before
                    .rsplit_once('"')
                    .map_or("", |(quoted, _)| quoted.rsplit_once('"').map_or("", |(_, key)| key))
            });
            keys.take(expanded.matches(": Object.assign(").count()).collect::<Vec<_>>().join(" ")
        };
        for (from, call, expected) in [
            (
                "tests/x.test.ts",
                "import.meta.glob('../convex/**/*.{ts,js}')",
                "../convex/a.ts ../convex/b.js",
            ),
            (
                "tests/x.test.ts",
                "import.meta.glob(['../convex/[a-b].{ts,js}', '!**/b.js'])",
                "../convex/a.ts",
            ),
            (
                "tests/x.test.ts",
                "import.meta.glob(['../convex/*', '!../**/b.js'])",
                "../convex/a.ts ../convex/c.tsx",
            ),
            ("tests/x.test.ts", "import.meta.glob('/convex/*.ts')", "/convex/a.ts"),
            ("convex/a.ts", "(import.meta as any).glob('../convex/*.js')", "./b.js"),
        ] {
            assert_eq!(keys(from, call), expected, "{call}");
        }
        let expanded =
            |call: &str| globs.expand(call, &dir.path().join("tests/x.test.ts")).unwrap();
        let (one, _) = expanded("import.meta.glob('/convex/a.ts', { import: 'default' })");
        let load = r#"import("../convex/a.ts").then((module) => module["default"])"#;
        assert!(one.contains(load), "{one}");
        let (based, _) =
            expanded("import.meta.glob('./*.ts', { base: '../convex', query: '?raw' })");
        assert!(based.contains(r#""./a.ts": Object.assign(() => import("../convex/a.ts?raw"),"#));
        let (of_root, _) = expanded("import.meta.glob('./*.js', { base: '/convex' })");
        assert!(of_root.contains(r#""./b.js": Object.assign(() => import("../convex/b.js"),"#));
        let all = "import.meta.glob('/convex/*.{ts,js}', { import: \"x\", eager: true })";
        let (object, imports) = expanded(all);
        assert_eq!(object, r#"({ "/convex/a.ts": $glob_0, "/convex/b.js": $glob_1 })"#);
        let import = r#" import { "x" as $glob_0 } from "../convex/a.ts";"#;
        assert!(imports.starts_with(import), "{imports}");
        for (options, said) in [
            ("{ base: here }", "write `base` as a string literal"),
            ("{ eager: maybe }", "write `eager` as true or false"),
            ("{ query: '?url' }", "only \\\"?raw\\\" is known"),
        ] {
            let (refused, _) = expanded(&format!("import.meta.glob('./a', {options})"));
            assert!(refused.contains(said), "{refused}");
        }
    }
}
