//! Which functions of a bundle run while its modules are imported.
//!
//! In: code whose blob holds the prelude alone. Out: [`Ran`]. Invariant: runs in a child process of
//! its own, and only for a version with a module that is called often; where it does not see every
//! import to its end, it says nothing at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bounds::coverage::{self, Script};
use serde_json::json;

use crate::code::{Code, Origin};
use crate::context::Purpose;
use crate::engine::Engine;
use crate::inspector::Inspector;
use crate::modules::SCHEME;

/// Where the functions end that ran while their module was imported, by module path: UTF-16
/// offsets in its source, in order. Each module is one of its own functions.
pub type Ran = BTreeMap<Arc<str>, Vec<u32>>;

/// Watches the import of each part: all entries together, then each by itself, as contexts of a
/// blob and contexts without one do it. `None`: an import failed.
pub(crate) fn watch(engine: &mut Engine, code: &Arc<Code>) -> Vec<Option<Ran>> {
    let before = engine
        .in_context(code, Purpose::Calls(&code.whole()), |scope, _, _| Coverage::start(scope));
    let Ok(coverage) = before else { return Vec::new() };
    code.parts().map(|part| watch_part(engine, part, &coverage)).collect()
}

fn watch_part(engine: &mut Engine, code: &Code, coverage: &Coverage) -> Option<Ran> {
    let mut ran = BTreeMap::new();
    engine.in_context(code, Purpose::Everything, |_, _, _| ()).ok()?;
    coverage.take(&mut ran)?;
    for entry in Code::entries(&code.bundle) {
        let origin = Origin { late: Some(Arc::clone(entry)), ..code.whole() };
        // One that fails by itself is served by the context of all; what ran by then ran.
        let _ = engine.in_context(code, Purpose::Calls(&origin), |_, _, _| ());
        coverage.take(&mut ran)?;
    }
    let is_whole = !engine.is_spent();
    is_whole.then(|| ran.into_iter().map(|(path, ends)| (path, Vec::from_iter(ends))).collect())
}

/// V8's counting of calls, for one isolate. Dropped before it.
struct Coverage(Inspector);

impl Coverage {
    fn start(isolate: &mut v8::Isolate) -> Self {
        let inspector = Inspector::of(isolate);
        inspector.ask("Profiler.enable", &json!({}));
        let counts = json!({ "callCount": true, "detailed": false });
        inspector.ask("Profiler.startPreciseCoverage", &counts);
        Self(inspector)
    }

    /// Adds what ran since the last time. `None`: V8 gave no such answer.
    fn take(&self, ran: &mut BTreeMap<Arc<str>, BTreeSet<u32>>) -> Option<()> {
        let answer = self.0.ask("Profiler.takePreciseCoverage", &json!({}));
        for Script { url, functions } in coverage::scripts(&answer)? {
            let Some(path) = url.strip_prefix(SCHEME) else { continue };
            let called = functions.iter().filter_map(|function| function.ranges.first());
            let called = called.filter(|range| range.count > 0).map(|range| range.end);
            let mut called = called.peekable();
            if called.peek().is_some() {
                ran.entry(path.into()).or_default().extend(called);
            }
        }
        Some(())
    }
}
