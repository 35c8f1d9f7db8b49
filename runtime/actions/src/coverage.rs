//! What of a process's modules ran, for `concave test --coverage`.
//!
//! In: V8's precise coverage, of a runtime that was started with it. Out: JSON text: modules by
//! path, each with its functions as `{ name, ranges: [[start, end, count]] }`, offsets in UTF-16
//! units of the module's source. Invariant: modules of the runner are left out.

use std::cell::RefCell;
use std::rc::Rc;

use bounds::coverage::{self, Function, Range, Script};
use deno_core::{InspectorSessionKind, JsRuntime, JsRuntimeInspector, LocalInspectorSession};
use serde_json::{Value, json};

use crate::loader::SCHEME;

/// The runner's own modules.
const RUNNER: &str = "_test/";

/// V8's counting, for one runtime.
pub(crate) struct Coverage {
    session: RefCell<LocalInspectorSession>,
    answer: Rc<RefCell<String>>,
}

impl Coverage {
    /// Starts it, before any module is loaded; the runtime has an inspector.
    pub(crate) fn start(js: &JsRuntime) -> Rc<Self> {
        let answer = Rc::new(RefCell::new(String::new()));
        let kept = Rc::clone(&answer);
        let keep = Box::new(move |message: deno_core::InspectorMsg| {
            kept.replace(message.content);
        });
        let kind = InspectorSessionKind::NonBlocking { wait_for_disconnect: false };
        let session = JsRuntimeInspector::create_local_session(js.inspector(), keep, kind);
        let this = Self { session: RefCell::new(session), answer };
        this.ask("Profiler.enable", &json!({}));
        this.ask("Profiler.startPreciseCoverage", &json!({ "callCount": true, "detailed": true }));
        Rc::new(this)
    }

    fn ask(&self, method: &str, params: &Value) -> String {
        self.session.borrow_mut().post_message(1, method, Some(params));
        self.answer.take()
    }

    /// What ran until now.
    pub(crate) fn take(&self) -> String {
        let answer = self.ask("Profiler.takePreciseCoverage", &json!({}));
        let Some(scripts) = coverage::scripts(&answer) else { return "{}".to_owned() };
        let mut modules = serde_json::Map::new();
        for Script { url, functions } in scripts {
            let path = url.strip_prefix(SCHEME).filter(|path| !path.starts_with(RUNNER));
            let Some(path) = path else { continue };
            let functions = functions.iter().map(|Function { name, ranges }| {
                let range = |range: &Range| json!([range.start, range.end, range.count]);
                json!({ "name": name, "ranges": ranges.iter().map(range).collect::<Vec<_>>() })
            });
            modules.insert(path.to_owned(), functions.collect());
        }
        Value::Object(modules).to_string()
    }
}
