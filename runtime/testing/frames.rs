//! Positions in bundled test files → TypeScript, with the line.
//!
//! In: V8's stack text. Out: `at fn (convex/file.test.ts:L:C)` lines, and the code around the
//! first one. Invariant: what stands in packages and in the runner itself is left out, unless
//! nothing else is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bundler::BundledModule;
use sourcemap::SourceMap;

/// Lines above and below the one at fault.
const AROUND: usize = 2;

/// Source maps of the bundle of test files.
pub struct Frames {
    root: PathBuf,
    /// Source and source map, by the path of a bundled module.
    texts: BTreeMap<String, (String, String)>,
    parsed: Mutex<BTreeMap<String, Option<Arc<SourceMap>>>>,
}

/// One frame in an author's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    function: String,
    file: String,
    line: u32,
    column: u32,
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { function, file, line, column } = self;
        match function.as_str() {
            "" => write!(f, "{file}:{line}:{column}"),
            name => write!(f, "{name} ({file}:{line}:{column})"),
        }
    }
}

impl Frame {
    /// As the engine writes it, which [`Frames::of`] knows again.
    pub fn as_of_engine(&self) -> String {
        Self { file: format!("../{}", self.file), ..self.clone() }.to_string()
    }
}

impl Frames {
    /// Those of a bundle whose sources are named from `root`.
    pub fn new(root: PathBuf, modules: Vec<BundledModule>) -> Self {
        let map = |module: BundledModule| Some((module.path, (module.source, module.source_map?)));
        let texts = modules.into_iter().filter_map(map).collect();
        Self { root, texts, parsed: Mutex::default() }
    }

    /// The frames of a stack that stand in the author's files; also those that the engine has
    /// mapped already.
    pub fn of(&self, stack: &str) -> Vec<Frame> {
        let lines = stack.lines().filter_map(|line| line.trim_start().strip_prefix("at "));
        let frames: Vec<_> = lines.filter_map(|line| self.frame(line)).collect();
        // A path without a folder is a module of ours.
        let own = |frame: &&Frame| {
            frame.file != "convex_test.js" && !frame.file.contains("node_modules/")
        };
        let owned: Vec<_> = frames.iter().filter(own).cloned().collect();
        if owned.is_empty() { frames } else { owned }
    }

    /// A logged text with the frames in it as their author knows them, the runner's own left out.
    pub fn readable(&self, text: &str) -> String {
        let shown = |line: &str| {
            let (margin, frame) = line.split_once("at ").filter(|(m, _)| m.trim().is_empty())?;
            frame.contains("convex:/").then(|| {
                let frame = self.frame(frame).filter(|frame| frame.file != "convex_test.js");
                frame.map(|frame| format!("{margin}at {frame}"))
            })
        };
        let lines =
            text.split('\n').filter_map(|line| shown(line).unwrap_or(Some(line.to_owned())));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn frame(&self, line: &str) -> Option<Frame> {
        let (function, place) = match line.strip_suffix(')').and_then(|l| l.split_once(" (")) {
            Some((function, place)) => (function.trim_start_matches("async "), place),
            None => ("", line.trim_start_matches("async ")),
        };
        let mut parts = place.rsplitn(3, ':');
        let column: u32 = parts.next()?.parse().ok()?;
        let line: u32 = parts.next()?.parse().ok()?;
        let file = parts.next()?;
        let function = function.to_owned();
        let Some(path) = file.strip_prefix("convex:/") else {
            let file = file.strip_prefix("../")?.to_owned();
            return Some(Frame { function, file, line, column });
        };
        let map = self.map(bundled(path))?;
        let token = map.lookup_token(line.saturating_sub(1), column.saturating_sub(1))?;
        let source = token.get_source()?;
        Some(Frame {
            function,
            file: source.strip_prefix("../").unwrap_or(source).to_owned(),
            line: token.get_src_line() + 1,
            column: token.get_src_col() + 1,
        })
    }

    /// A bundled module: its source and its map.
    pub fn module(&self, path: &str) -> Option<(&str, Arc<SourceMap>)> {
        let path = bundled(path);
        Some((self.texts.get(path)?.0.as_str(), self.map(path)?))
    }

    /// The text of a bundled module's map.
    pub fn map_text(&self, path: &str) -> Option<&str> {
        Some(self.texts.get(path)?.1.as_str())
    }

    fn map(&self, path: &str) -> Option<Arc<SourceMap>> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        let parse = || {
            let (_, map) = self.texts.get(path)?;
            SourceMap::from_slice(map.as_bytes()).ok().map(Arc::new)
        };
        parsed.entry(path.to_owned()).or_insert_with(parse).clone()
    }

    /// Where a test with this name seems to be written, as a stack.
    pub fn test_in(&self, file: &str, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(file)).ok()?;
        let quoted = ['"', '\'', '`'].map(|quote| format!("{quote}{name}{quote}"));
        let at = text.lines().position(|line| quoted.iter().any(|name| line.contains(name)))?;
        let line = text.lines().nth(at)?;
        let column = line.len() - line.trim_start().len();
        Some(format!("    at ../{file}:{}:{}", at + 1, column + 1))
    }

    /// The code around a frame, the line marked.
    pub fn code(&self, frame: &Frame) -> Option<String> {
        let text = fs::read_to_string(self.root.join(Path::new(&frame.file))).ok()?;
        let at = usize::try_from(frame.line).ok()?.checked_sub(1)?;
        let lines: Vec<&str> = text.lines().collect();
        lines.get(at)?;
        let last = (at + AROUND).min(lines.len() - 1);
        let width = (last + 1).to_string().len();
        let mut code = String::new();
        for (number, line) in
            lines.iter().enumerate().take(last + 1).skip(at.saturating_sub(AROUND))
        {
            let mark = if number == at { '>' } else { ' ' };
            code.push_str(&format!("  {mark} {:>width$} | {line}\n", number + 1));
            if number == at {
                let column = usize::try_from(frame.column).unwrap_or(1).saturating_sub(1);
                code.push_str(&format!("    {:>width$} | {:>column$}^\n", "", ""));
            }
        }
        Some(code)
    }
}

/// The path of a module; one that was made again has a number behind a question mark.
fn bundled(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_in_maps_and_in_mapped_text() {
        let map = r#"{"version":3,"sources":["../convex/a.test.ts"],"names":[],"mappings":"AAAA"}"#;
        let module = BundledModule {
            path: "convex/a.test.js".into(),
            source: String::new(),
            source_map: Some(map.into()),
            environment: "isolate",
        };
        let frames = Frames::new(PathBuf::from("/nowhere"), vec![module]);
        let stack = "Error: x\n    at async f (convex:/convex/a.test.js?2:1:1)\n    at \
                     convex:/_test/vitest.js:1:5\n    at handler (../convex/b.ts:3:4)";
        let found: Vec<_> = frames.of(stack).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["f (convex/a.test.ts:1:1)", "handler (convex/b.ts:3:4)"]);
        let logged =
            "at last\n  at f (convex:/convex/a.test.js:1:1)\n  at convex:/_test/main.js:1:5";
        assert_eq!(frames.readable(logged), "at last\n  at f (convex/a.test.ts:1:1)");
    }
}
