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

/// What the call is called.
const CALL: &str = "import.meta.glob";

/// What calls stand for: most files of a folder ask the same, and its files are read once.
#[derive(Default)]
pub(crate) struct Globs {
    /// By the folder and what stands between the parentheses.
    members: Mutex<HashMap<(PathBuf, String), Members>>,
}

/// The files that a call reaches, each with its member of the object.
type Members = Arc<[(PathBuf, String)]>;

impl Globs {
    /// `text` of `file` with its calls expanded; `None` where there are none.
    pub(crate) fn expand(&self, text: &str, file: &Path) -> Option<String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(CALL) {
            let (before, call) = rest.split_at(at);
            let Some((arguments, length)) = arguments(&call[CALL.len()..]) else {
                expanded.push_str(&rest[..at + CALL.len()]);
                rest = &rest[at + CALL.len()..];
                continue;
            };
            let length = CALL.len() + length;
            expanded.push_str(before);
            expanded.push_str(&self.object(arguments, file));
            expanded.push_str(&"\n".repeat(call[..length].matches('\n').count()));
            rest = &call[length..];
        }
        expanded.push_str(rest);
        text.contains(CALL).then_some(expanded)
    }

    /// The object that a call stands for: the file that asks is not in it.
    fn object(&self, arguments: &str, file: &Path) -> String {
        let list = arguments.trim_start();
        let end =
            if list.starts_with('[') { list.find(']').map(|at| at + 1) } else { list.find(',') };
        let (patterns, options) = list.split_at(end.unwrap_or(list.len()));
        if options.contains("eager") {
            let why = "import.meta.glob with `eager` is not supported by `concave test`: leave it \
                       out, and call the functions that it then gives.";
            return format!("(() => {{ throw new Error({}); }})()", quoted(why));
        }
        let members = self.members(patterns, file.parent().unwrap_or(file));
        let others = members.iter().filter(|(path, _)| path != file);
        let others: Vec<_> = others.map(|(_, member)| member.as_str()).collect();
        format!("({{ {} }})", others.join(", "))
    }

    fn members(&self, patterns: &str, dir: &Path) -> Members {
        let key = (dir.to_owned(), patterns.to_owned());
        // Held while they are looked for: whoever waits asks for the same, mostly.
        let mut known = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let members = known.entry(key).or_insert_with(|| {
            let found = matching(&strings(patterns), dir).into_iter();
            found.map(|(key, path)| (path.clone(), member(&key, &path))).collect()
        });
        Arc::clone(members)
    }
}

/// A function that imports a file, and says which it is.
fn member(key: &str, path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let node = if has_use_node(&text) { ", node: true" } else { "" };
    let (key, path) = (quoted(key), quoted(&path.to_string_lossy()));
    format!("{key}: Object.assign(() => import({key}), {{ file: {path}{node} }})")
}

/// The text between the parentheses of a call, and how long the call is; type arguments are
/// skipped.
fn arguments(text: &str) -> Option<(&str, usize)> {
    let open = match text.trim_start().chars().next()? {
        '(' => text.find('(')?,
        '<' => text.find(">(")? + 1,
        _ => return None,
    };
    let (mut depth, mut quote) = (0_usize, None);
    for (at, character) in text[open..].char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(character),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[open + 1..open + at], open + at + 1));
        }
    }
    None
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

/// The files that patterns reach from a folder, as specifiers and as paths.
fn matching(patterns: &[String], dir: &Path) -> Vec<(String, PathBuf)> {
    let (refused, wanted): (Vec<_>, Vec<_>) = patterns.iter().partition(|p| p.starts_with('!'));
    let mut found = Vec::new();
    for pattern in wanted {
        // Folders are walked from where the first wildcard stands.
        let fixed = pattern.find(['*', '?', '{', '[', '(']).unwrap_or(pattern.len());
        let folder = pattern[..fixed].rsplit_once('/').map_or(".", |(folder, _)| folder);
        let mut files = Vec::new();
        walk(&tidy(&dir.join(folder)), &mut files);
        found.extend(files.into_iter().filter_map(|path| {
            let key = specifier(dir, &path);
            let is_refused = refused.iter().any(|pattern| matches(&pattern[1..], &key));
            (matches(pattern, &key) && !is_refused).then_some((key, path))
        }));
    }
    found.sort();
    found.dedup();
    found
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
fn tidy(path: &Path) -> PathBuf {
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
        let globs = Globs::default();
        let expanded = globs.expand(text, &dir.path().join("b.test.ts")).unwrap();
        assert_eq!(expanded.lines().count(), text.lines().count());
        assert!(expanded.contains("\"./a.ts\": Object.assign(() => import(\"./a.ts\")"));
        assert!(!expanded.contains("c.ts") && !expanded.contains("b.test.ts\":"), "{expanded}");
        let of_another = globs.expand(text, &dir.path().join("a.ts")).unwrap();
        assert!(of_another.contains("\"./b.test.ts\":"), "{of_another}");
        assert!(!of_another.contains("a.ts\":"), "{of_another}");
        assert_eq!(globs.expand("import.meta.env", Path::new("/x.ts")), None);
    }
}
