//! One thread's isolate for one deployment version, with contexts made ahead.
//!
//! In: the code to serve. Out: results of single calls. Invariant: an engine whose isolate was
//! terminated is never used again; [`Engine::is_spent`] says so.

use std::cell::RefCell;
use std::sync::Arc;

use database::limits;
use database::record::{FunctionError, FunctionPath};

use crate::code::{Code, Origin};
use crate::context::{Purpose, Ready};
use crate::entries::Pins;
use crate::execution::{self, Execution};
use crate::isolate::{LimitedIsolate, StopSwitch};
use crate::kept::{Mode, Traces};
use crate::run::{self, Target};
use crate::{kept, modules, rejections};

/// Contexts kept ready for the module called last: one for the call, one for its retry.
const READY_CONTEXTS: usize = 2;

/// Origins that a context is kept ready of: those of the modules called last.
const READY_ORIGINS: usize = 4;

/// The same where modules are evaluated in their contexts: those may be large.
const READY_LATE_ORIGINS: usize = 2;

type Queue = v8::UniqueRef<v8::MicrotaskQueue>;

thread_local! {
    /// Microtask queues by depth of nesting. A queue is empty whenever no call runs at its depth.
    static QUEUES: RefCell<Vec<Queue>> = const { RefCell::new(Vec::new()) };
    /// Contexts for the next calls.
    static READY: RefCell<Vec<Ready>> = const { RefCell::new(Vec::new()) };
}

/// An isolate and its code.
pub(crate) struct Engine {
    isolate: Option<LimitedIsolate>,
    code: Arc<Code>,
    /// Where contexts are made from ahead, for the module called last first.
    recent: Vec<Origin>,
    /// How many of them there are at most.
    most_recent: usize,
    /// Bytes of WebAssembly memories of ended calls that no collection has looked at since.
    left: u64,
    pins: Pins,
}

/// The prelude's hooks in one context.
type Hooks<'s> = v8::Local<'s, v8::Object>;

/// What one call left behind.
pub(crate) struct Ran {
    pub(crate) result: Result<String, FunctionError>,
    pub(crate) execution: Box<Execution>,
    pub(crate) traces: Traces,
}

impl Engine {
    /// Starts an isolate from the code's blob.
    pub(crate) fn new(code: Arc<Code>) -> Self {
        rejections::clear();
        let isolate = LimitedIsolate::new(Arc::clone(code.blob()));
        // Before the first call: what is called first, by and large, and warms what all share.
        let is_late = code.parts().any(|part| !part.late().is_empty());
        let most_recent = if is_late { READY_LATE_ORIGINS } else { READY_ORIGINS };
        let mut recent: Vec<Origin> = Vec::new();
        for origin in code.with_functions().into_iter().map(|module| code.origin(module)) {
            if recent.len() < most_recent && !recent.contains(&origin) {
                recent.push(origin);
            }
        }
        Self { isolate: Some(isolate), code, recent, most_recent, left: 0, pins: Pins::default() }
    }

    /// The code it serves.
    pub(crate) fn code(&self) -> &Arc<Code> {
        &self.code
    }

    /// Its isolate, for an inspector.
    pub(crate) fn isolate(&mut self) -> &mut v8::Isolate {
        self.isolate.as_mut().expect("an engine owns its isolate").v8()
    }

    /// The switch that stops it, for the watchdog.
    pub(crate) fn stop_switch(&self) -> Arc<StopSwitch> {
        Arc::clone(self.isolate.as_ref().expect("an engine owns its isolate").stop_switch())
    }

    /// Whether it must be thrown away.
    pub(crate) fn is_spent(&self) -> bool {
        self.stop_switch().reason().is_some()
    }

    /// Makes a context for a function of `module` if none is ready: before a transaction begins,
    /// so that it is not among the time in which another commit can conflict with it.
    pub(crate) fn ensure_ready(&mut self, path: &FunctionPath) {
        let Some(code) = self.code.of(&path.component).cloned() else { return };
        let isolate = self.isolate.as_mut().expect("an engine owns its isolate");
        {
            v8::scope!(let scope, isolate.v8());
            if kept::ensure(scope, &code, &path.module) {
                return;
            }
        }
        let origin = code.origin(&path.module);
        if count_ready(&origin) == 0 {
            self.make_ready(&origin);
        }
    }

    /// Makes a context ahead, if there is room. Returns whether it made one.
    pub(crate) fn prepare(&mut self) -> bool {
        if self.is_spent() {
            return false;
        }
        let wanted = |at: usize, origin: &Origin| {
            if at == 0 && origin.late.is_none() { READY_CONTEXTS } else { 1 }
        };
        let mut recent = self.recent.iter().enumerate();
        let missing = recent.find(|(at, origin)| count_ready(origin) < wanted(*at, origin));
        missing.map(|(_, origin)| origin.clone()).is_some_and(|origin| self.make_ready(&origin))
    }

    fn make_ready(&mut self, origin: &Origin) -> bool {
        // V8 does not know how far they grew, so it sees no reason to collect them.
        if self.left > limits::WASM_MEMORY_BYTES {
            self.collect_garbage();
        }
        let Some(code) = self.code.parts().nth(origin.part).cloned() else { return false };
        let isolate = self.isolate.as_mut().expect("an engine owns its isolate");
        v8::scope!(let scope, isolate.v8());
        let queue = queue_at(scope, 0);
        // A failure shows again in the call that needs the context, where it can be reported.
        match Ready::make(scope, &code, queue, Purpose::Calls(origin)) {
            Ok(ready) => READY.with_borrow_mut(|list| list.push(ready)),
            Err(_) => return false,
        }
        self.pins.note_context(scope);
        true
    }

    /// Freezes a context that the last call went without, if one is due: between calls, so that it
    /// is in no call's time.
    pub(crate) fn freeze_wished(&mut self) {
        let Some((of, depth)) = kept::wished() else { return };
        let Some(code) = self.code.parts().nth(of.part).cloned() else { return };
        if let Some(isolate) = self.isolate.as_mut() {
            v8::scope!(let scope, isolate.v8());
            kept::freeze(scope, &code, &of, depth);
        }
    }

    /// Notes which module is called, for contexts made ahead.
    fn note(&mut self, origin: Origin) {
        if self.recent.first() == Some(&origin) {
            return;
        }
        self.recent.retain(|other| *other != origin);
        self.recent.insert(0, origin);
        for origin in self.recent.split_off(self.most_recent.min(self.recent.len())) {
            READY.with_borrow_mut(|list| list.retain(|ready| ready.origin != origin));
        }
    }

    /// Runs one call to its end.
    pub(crate) fn run(&mut self, execution: Box<Execution>, target: &Target, mode: Mode) -> Ran {
        rejections::clear();
        kept::begin(mode);
        let code = self.code.of(&target.path.component).expect("it was found to run").clone();
        self.note(code.origin(&target.path.module));
        execution::begin(execution);
        let stop = self.stop_switch();
        let isolate = self.isolate.as_mut().expect("an engine owns its isolate");
        let result = {
            v8::scope!(let scope, isolate.v8());
            run::invoke(scope, &code, target, 0)
        };
        // A memory may have grown past its limit since the watchdog looked.
        stop.check_memories();
        let memories = stop.memories.take_after(0);
        self.left += memories.iter().map(|memory| memory.bytes() as u64).sum::<u64>();
        let execution = execution::end();
        let result = match stop.reason() {
            Some(why) => {
                Err(FunctionError { message: why.message(&target.path.to_string()), data: None })
            }
            None => result.map_err(|end| match end {
                run::End::Threw(error) => error,
                run::End::Stopped => FunctionError {
                    message: "Function execution was stopped".to_owned(),
                    data: None,
                },
            }),
        };
        Ran { result, execution, traces: kept::end() }
    }

    /// Calls `look` with a part of the engine's code in a fresh context, outside any call.
    pub(crate) fn in_context<R>(
        &mut self,
        code: &Code,
        purpose: Purpose<'_>,
        look: impl for<'s, 'i> FnOnce(&mut v8::PinScope<'s, 'i>, Hooks<'s>, &Code) -> R,
    ) -> Result<R, FunctionError> {
        execution::set_import_environment(&code.analysis.imported_environment);
        let isolate = self.isolate.as_mut().expect("an engine owns its isolate");
        v8::scope!(let scope, isolate.v8());
        let queue = queue_at(scope, 0);
        let ready = Ready::make(scope, code, queue, purpose)?;
        let context = v8::Local::new(scope, &ready.context);
        let scope = &mut v8::ContextScope::new(scope, context);
        let hooks = v8::Local::new(scope, &ready.hooks);
        Ok(look(scope, hooks, code))
    }

    /// Gives the memory of finished contexts back; only worth it while idle.
    pub(crate) fn collect_garbage(&mut self) {
        self.left = 0;
        self.pins = Pins::default();
        if let Some(isolate) = self.isolate.as_mut() {
            isolate.v8().low_memory_notification();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Every handle before its isolate; the queues before it too: their destructor unlinks them
        // from the isolate's own queue.
        READY.take();
        kept::clear();
        self.stop_switch().memories.take_after(0);
        rejections::clear();
        modules::end();
        modules::forget_sources();
        QUEUES.take();
        self.pins = Pins::default();
        self.isolate.take();
    }
}

/// How many contexts of one origin are ready.
fn count_ready(origin: &Origin) -> usize {
    READY.with_borrow(|list| list.iter().filter(|ready| ready.origin == *origin).count())
}

/// A context for a call of a function of `module` at `depth`: a prepared one for a call from
/// outside, if there is any. Every call of a module finds the same: the snapshot, and that module.
///
/// # Errors
/// A module that throws at import.
pub(crate) fn take_ready(
    scope: &mut v8::PinScope<'_, '_, ()>,
    code: &Code,
    module: &Arc<str>,
    depth: usize,
) -> Result<Ready, FunctionError> {
    let origin = code.origin(module);
    // A nested call cannot take one: it would need another queue, and V8 does not change the queue
    // of a context while the old one runs.
    let take = |list: &mut Vec<Ready>| {
        let at = list.iter().position(|ready| ready.origin == origin)?;
        Some(list.remove(at))
    };
    let ready = (depth == 0).then(|| READY.with_borrow_mut(take)).flatten();
    match ready {
        Some(ready) => Ok(ready),
        None => {
            let queue = queue_at(scope, depth);
            Ready::make(scope, code, queue, Purpose::Calls(&origin))
        }
    }
}

/// The microtask queue of calls at `depth`.
pub(crate) fn queue_at(isolate: &mut v8::Isolate, depth: usize) -> *mut v8::MicrotaskQueue {
    QUEUES.with_borrow_mut(|queues| {
        while queues.len() <= depth {
            queues.push(v8::MicrotaskQueue::new(isolate, v8::MicrotasksPolicy::Explicit));
        }
        std::ptr::from_mut(&mut *queues[depth])
    })
}
