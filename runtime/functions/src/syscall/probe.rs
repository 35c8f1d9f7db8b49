//! The author's line behind a read or a write: a look at V8's stack after each syscall of a call
//! that is executed again to be asked.
//!
//! In: a [`Probe`], armed on the thread that runs the call. Out: the [`Site`] at which it came to
//! hold. Invariant: on a thread without a probe nothing is captured; the check is one look at a
//! thread-local.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use database::deployment::Position;
use database::probe::{Probe, Site};
use serde::Deserialize;

use crate::code::Code;
use crate::exception::{self, Frame};
use crate::execution::{self, Execution};
use crate::modules::SCHEME;
use crate::natives::string;

thread_local! {
    static PROBING: RefCell<Option<Probing>> = const { RefCell::new(None) };
}

/// A probe and what it has met.
struct Probing {
    probe: Probe,
    holds: bool,
    /// Where it came to hold, while it does.
    found: Option<Site>,
    /// Where each query was opened: that is its author's line, whoever pulls documents out of it.
    queries: BTreeMap<u32, Option<Site>>,
}

/// Watches this thread's next call.
pub(crate) fn arm(probe: Probe) {
    let (found, queries) = (None, BTreeMap::new());
    PROBING.set(Some(Probing { probe, holds: false, found, queries }));
}

/// Where the probe came to hold and held to the end.
pub(crate) fn disarm() -> Option<Site> {
    PROBING.take()?.found
}

/// Looks at what the syscall that just ended did; `answer` is its JSON text, if it has one.
pub(crate) fn look(
    scope: &mut v8::PinScope<'_, '_>,
    operation: &str,
    arguments: &str,
    answer: Option<&str>,
) {
    if PROBING.with_borrow(Option::is_none) {
        return;
    }
    if operation == "1.0/queryStream"
        && let Some(query) = query_id(answer.unwrap_or_default())
    {
        let site = site(scope);
        with(|probing| drop(probing.queries.insert(query, site)));
    }
    let Some(holds) = holds() else { return };
    let held = with(|probing| std::mem::replace(&mut probing.holds, holds));
    if held == Some(holds) {
        return;
    }
    let opened = match operation {
        "1.0/queryStreamNext" => query_id(arguments)
            .and_then(|query| with(|probing| probing.queries.get(&query).cloned().flatten()))
            .flatten(),
        _ => None,
    };
    let found = if holds { opened.or_else(|| site(scope)) } else { None };
    with(|probing| probing.found = found);
}

fn with<R>(use_it: impl FnOnce(&mut Probing) -> R) -> Option<R> {
    PROBING.with_borrow_mut(|probing| probing.as_mut().map(use_it))
}

/// Whether the probe holds now; `None` while reads and writes are not the call's own.
fn holds() -> Option<bool> {
    with(|probing| {
        execution::with(|execution| {
            (!execution.is_forked()).then(|| probing.probe.holds(&execution.transaction))
        })
        .flatten()
    })
    .flatten()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfQuery {
    query_id: u32,
}

fn query_id(json: &str) -> Option<u32> {
    serde_json::from_str(json).ok().map(|OfQuery { query_id }| query_id)
}

/// The innermost frame of the author's own code: on the stack, else among those that await it,
/// else the function as a whole.
fn site(scope: &mut v8::PinScope<'_, '_>) -> Option<Site> {
    let running =
        |execution: &mut Execution| (Arc::clone(&execution.code), execution.path().clone());
    let (version, path) = execution::with(running)?;
    let code = version.of(&path.component)?;
    let here = exception::running_frames(scope);
    let here = here.iter().find_map(|frame| authored(code, frame));
    here.or_else(|| {
        let text = awaiting(scope)?;
        exception::stack_frames(&text).find_map(|frame| authored(code, &frame))
    })
    .or_else(|| {
        // V8 loses the thread where a function returns a promise that it does not await.
        let Position { path: file, line, column } =
            version.analysis.function(&path)?.position.clone()?;
        let function = Some(path.export.to_string());
        Some(Site { file: from_project(&file), line, column, function, exact: false })
    })
}

/// Source maps count from the folder of the functions; people from the project's.
fn from_project(path: &str) -> String {
    path.trim_start_matches("../").to_owned()
}

/// V8's stack text, which goes on with the functions that await this one.
fn awaiting(scope: &mut v8::PinScope<'_, '_>) -> Option<String> {
    v8::tc_scope!(let scope, scope);
    let nothing = string(scope, "");
    let error = v8::Exception::error(scope, nothing);
    let error = v8::Local::<v8::Object>::try_from(error).ok()?;
    let key = string(scope, "stack");
    let text = error.get(scope, key.into())?;
    text.is_string().then(|| text.to_rust_string_lossy(scope))
}

/// The frame's place in TypeScript, if the author wrote it and not one of their packages.
fn authored(code: &Code, frame: &Frame) -> Option<Site> {
    let function = frame.name.clone().filter(|name| !name.is_empty());
    match code.position(&frame.path, frame.line, frame.column) {
        Some(position) => (!exception::is_dependency(&position.path)).then(|| Site {
            file: from_project(&position.path),
            line: position.line,
            column: position.column,
            function,
            exact: true,
        }),
        // Without a source map: chunks are mostly packages, and say so by their folder.
        None => (!frame.path.starts_with("_deps/")).then(|| Site {
            file: format!("{SCHEME}{}", frame.path),
            line: frame.line,
            column: frame.column,
            function,
            exact: true,
        }),
    }
}
