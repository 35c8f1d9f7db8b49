//! A thrown value → what its author reads: text, TypeScript positions, ConvexError data.
//!
//! In: a JavaScript exception. Out: a [`FunctionError`]. Invariant: never throws and never loops,
//! whatever hostile object was thrown; the prelude's `formatError` guards every property access.

use database::record::{FunctionError, HOST_MODULES};

use crate::code::Code;
use crate::modules::SCHEME;
use crate::natives::string;

/// Longest text of an error, in bytes (`convex-compat.md` section 8.7).
const MESSAGE_BYTES: usize = 64 << 10;

/// Describes `exception`; `hooks` are the prelude's.
pub(crate) fn describe(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    code: Option<&Code>,
    exception: v8::Local<'_, v8::Value>,
) -> FunctionError {
    v8::tc_scope!(let scope, scope);
    let fields = format_fields(scope, hooks, exception);
    let Some([text, stack, data]) = fields else {
        // Out of stack or being terminated: the caller reports that reason instead.
        return FunctionError { message: "Uncaught exception".to_owned(), data: None };
    };
    let text = text.unwrap_or_else(|| "Uncaught undefined".to_owned());
    let message = full_text(code, text, &stack.unwrap_or_default());
    FunctionError { message, data }
}

/// `text`, cut at [`MESSAGE_BYTES`], then the frames of V8's `stack` text in TypeScript.
pub(crate) fn full_text(code: Option<&Code>, text: String, stack: &str) -> String {
    let stack = below_message(&text, stack);
    let mut message = text;
    if message.len() > MESSAGE_BYTES {
        let mut end = MESSAGE_BYTES;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message.push_str(cure(&message));
    for frame in frames(code, stack) {
        message.push_str("\n    at ");
        message.push_str(&frame);
    }
    message.push('\n');
    if message.lines().count() == 1 {
        message.truncate(message.trim_end().len());
    }
    message
}

/// V8's `stack` without the message that it opens with. The message of an error that crossed a
/// nested call has frames in its text: taken for frames once more, they would double at each level.
fn below_message<'a>(text: &str, stack: &'a str) -> &'a str {
    let (_, stack) = stack.split_once('\n').unwrap_or_default();
    match text.split_once('\n') {
        Some((_, message)) => stack.strip_prefix(message).unwrap_or(stack),
        None => stack,
    }
}

/// What V8's own text leaves out.
fn cure(text: &str) -> &'static str {
    let missing = text.strip_prefix("Uncaught TypeError: process.");
    if missing.is_some_and(|rest| rest.ends_with(" is not a function")) {
        return ". Of `process` there is only `process.env` in Convex's default runtime; what needs \
                more of Node goes into a file that begins with \"use node\".";
    }
    if text == "Uncaught RangeError: Array buffer allocation failed" {
        return ". What ArrayBuffers of one function may hold at once is bounded (`concave limits` \
                says by how much): work in parts, or use file storage.";
    }
    ""
}

/// `[text, stack, data]` as the prelude gives them.
fn format_fields(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    exception: v8::Local<'_, v8::Value>,
) -> Option<[Option<String>; 3]> {
    let key = string(scope, "formatError");
    let format = v8::Local::<v8::Function>::try_from(hooks.get(scope, key.into())?).ok()?;
    let described = format.call(scope, hooks.into(), &[exception])?;
    let described = v8::Local::<v8::Object>::try_from(described).ok()?;
    let mut fields = [None, None, None];
    for (field, name) in fields.iter_mut().zip(["text", "stack", "data"]) {
        let key = string(scope, name);
        let value = described.get(scope, key.into())?;
        *field = value.is_string().then(|| value.to_rust_string_lossy(scope));
    }
    Some(fields)
}

/// One frame of a stack, in a module's JavaScript.
pub(crate) struct Frame {
    /// The function; `None` for an anonymous one.
    pub(crate) name: Option<String>,
    /// The module's path.
    pub(crate) path: String,
    /// Line, from 1.
    pub(crate) line: u32,
    /// Column, from 1.
    pub(crate) column: u32,
}

/// Frames of V8's stack that are looked at.
const FRAMES: usize = 100;

/// The frames of the code that runs now that stand in modules, innermost first.
pub(crate) fn running_frames(scope: &mut v8::PinScope<'_, '_>) -> Vec<Frame> {
    let Some(stack) = v8::StackTrace::current_stack_trace(scope, FRAMES) else { return Vec::new() };
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let frames = (0..stack.get_frame_count()).filter_map(|at| {
        let frame = stack.get_frame(scope, at)?;
        let script = frame.get_script_name(scope)?.to_rust_string_lossy(scope);
        let name = frame.get_function_name(scope).map(|name| name.to_rust_string_lossy(scope));
        Some(Frame {
            name,
            path: script.strip_prefix(SCHEME)?.to_owned(),
            line: number(frame.get_line_number()),
            column: number(frame.get_column()),
        })
    });
    frames.collect()
}

/// The frames of V8's stack text that stand in modules.
pub(crate) fn stack_frames(stack: &str) -> impl Iterator<Item = Frame> {
    stack.lines().filter_map(|line| line.strip_prefix("    at ")).filter_map(|frame| {
        let (name, location) = split_frame(frame);
        let (path, line, column) = split_location(location)?;
        let name = name.map(|name| name.trim_start_matches("async "));
        let name = name.filter(|name| *name != "async").map(str::to_owned);
        Some(Frame { name, path: path.to_owned(), line, column })
    })
}

/// The frames of V8's stack text, mapped to TypeScript, the host's own left out.
fn frames(code: Option<&Code>, stack: &str) -> Vec<String> {
    stack
        .lines()
        .filter_map(|line| line.strip_prefix("    at "))
        .filter_map(|frame| map_frame(code, frame))
        .collect()
}

/// A logged text with the frames in it as their author knows them: in TypeScript, the host's own
/// left out.
pub(crate) fn readable(code: &Code, text: String) -> String {
    if !text.contains(SCHEME) {
        return text;
    }
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let frame = line.trim_start();
        let margin = &line[..line.len() - frame.len()];
        let Some(frame) = frame.strip_prefix("at ").filter(|frame| frame.contains(SCHEME)) else {
            lines.push(line.to_owned());
            continue;
        };
        // What an error has besides its stack follows its last frame.
        let (frame, rest) = frame.strip_suffix(" {").map_or((frame, ""), |frame| (frame, " {"));
        match (map_frame(Some(code), frame), lines.last_mut()) {
            (Some(frame), _) => lines.push(format!("{margin}at {frame}{rest}")),
            (None, Some(last)) => last.push_str(rest),
            (None, None) => {}
        }
    }
    lines.join("\n")
}

/// One frame: `fn (convex:/path.js:L:C)` or `convex:/path.js:L:C`, perhaps after `async `.
fn map_frame(code: Option<&Code>, frame: &str) -> Option<String> {
    let (name, location) = split_frame(frame);
    if name.is_some_and(is_bundlers) {
        return None;
    }
    let Some((path, line, column)) = split_location(location) else {
        // `Promise.all (index 0)`, `Array.map (<anonymous>)`: worth keeping; these are ours.
        let ours = ["concave:", "ext:"].iter().any(|scheme| location.starts_with(scheme));
        return (!ours && name.is_some()).then(|| frame.to_owned());
    };
    let at = match code.and_then(|code| code.position(path, line, column)) {
        Some(position) if is_library(&position.path) => return None,
        Some(position) => format!("{}:{}:{}", position.path, position.line, position.column),
        None if is_library(path) => return None,
        None => format!("{SCHEME}{path}:{line}:{column}"),
    };
    Some(match name {
        Some("async") => format!("async ({at})"),
        Some(name) => format!("{name} ({at})"),
        None => format!("<anonymous> ({at})"),
    })
}

/// Functions that the bundler puts in the place of `import(…)` and `require(…)`.
fn is_bundlers(name: &str) -> bool {
    let bare = name.trim_start_matches("async ");
    bare.starts_with("$import_") || bare.starts_with("$require_")
}

/// Frames inside `convex/server`, or what stands in its place, say nothing about the author's code.
fn is_library(path: &str) -> bool {
    path.starts_with(HOST_MODULES)
        || path.contains("convex/src/server/impl/")
        || (path.contains("convex") && path.contains("/server/impl/"))
}

/// Whether somebody else wrote it: a package, `convex/server` among them.
pub(crate) fn is_dependency(path: &str) -> bool {
    path.contains("node_modules/") || is_library(path)
}

/// Name and location of a frame; a nameless frame that awaits is called `async`.
fn split_frame(frame: &str) -> (Option<&str>, &str) {
    match frame.strip_suffix(')').and_then(|f| f.rsplit_once(" (")) {
        Some((name, location)) => (Some(name), location),
        None => match frame.strip_prefix("async ") {
            Some(location) => (Some("async"), location),
            None => (None, frame),
        },
    }
}

fn split_location(location: &str) -> Option<(&str, u32, u32)> {
    let path = location.strip_prefix(SCHEME)?;
    let (rest, column) = path.rsplit_once(':')?;
    let (path, line) = rest.rsplit_once(':')?;
    Some((path, line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_v8_are_completed_by_the_cure() {
        let full = |text: &str| full_text(None, text.to_owned(), "");
        let exit = full("Uncaught TypeError: process.exit is not a function");
        assert!(exit.ends_with("into a file that begins with \"use node\"."), "{exit}");
        assert!(full("Uncaught RangeError: Array buffer allocation failed").contains("in parts"));
        let other = "Uncaught TypeError: processes is not a function";
        assert_eq!(full(other), other);
    }

    #[test]
    fn frames_of_the_host_and_the_library_are_left_out() {
        let stack = [
            "Error: x",
            "    at handler (convex:/messages.js:3:9)",
            "    at invoke (concave:/10.js:1:1)",
            "    at async ext:concave_web/fetch.js:101:46",
            "    at Object.action (ext:deno_web/02_timers.js:58:13)",
            &format!("    at made.invokeQuery (convex:/{HOST_MODULES}wrappers.js:251:28)"),
            "    at f (convex:/_deps/convex_1.48.0/dist/esm/server/impl/a.js:1:1)",
            "    at $import_2 (convex:/messages.js:30:1)",
            "    at async $require_0 (convex:/messages.js:31:1)",
            "    at async Promise.all (index 0)",
        ];
        let stack = &stack.join("\n");
        assert_eq!(
            frames(None, stack),
            ["handler (convex:/messages.js:3:9)", "async Promise.all (index 0)"]
        );
    }
}
