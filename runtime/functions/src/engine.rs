//! One thread's isolate for one deployment version, with contexts made ahead.
//!
//! In: the code to serve. Out: results of single calls. Invariant: an engine whose isolate was
//! terminated is never used again; [`Engine::is_spent`] says so.

use std::cell::RefCell;
use std::sync::Arc;

use database::limits;
use database::record::{FunctionError, FunctionPath};

use crate::code::Code;
use crate::context::{Late, Ready};
use crate::execution::{self, Execution};
use crate::isolate::{LimitedIsolate, StopSwitch};
use crate::run::{self, Target};
use crate::{modules, rejections};

/// Contexts kept ready while the thread is idle: one for the call, one for its retry.
const READY_CONTEXTS: usize = 2;

/// Entries outside the snapshot that a context is kept ready for: the ones called last.
const READY_ENTRIES: usize = 2;

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
    /// What contexts are made for beside those of the app, the one called last first.
    recent: Vec<Wanted>,
    /// Bytes of WebAssembly memories of ended calls that no collection has looked at since.
    left: u64,
}

/// What a context is for: a part of the code, and its entry that the snapshot does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    part: usize,
    entry: Option<Arc<str>>,
}

impl Wanted {
    fn of(code: &Code, module: &Arc<str>) -> Self {
        Self { part: code.part, entry: code.is_late(module).then(|| Arc::clone(module)) }
    }

    fn is(&self, ready: &Ready) -> bool {
        ready.part == self.part && ready.entry == self.entry
    }
}

/// The functions of the app that the snapshot holds.
const APP: Wanted = Wanted { part: 0, entry: None };

/// The prelude's hooks in one context.
type Hooks<'s> = v8::Local<'s, v8::Object>;

/// What one call left behind.
pub(crate) struct Ran {
    pub(crate) result: Result<String, FunctionError>,
    pub(crate) execution: Box<Execution>,
}

impl Engine {
    /// Starts an isolate from the code's blob.
    pub(crate) fn new(code: Arc<Code>) -> Self {
        rejections::clear();
        let isolate = LimitedIsolate::new(code.blob().to_vec());
        // Before the first call: what is called first, by and large, and warms what all share.
        let late = code.late_functions().take(READY_ENTRIES);
        let recent = late.map(|entry| Wanted { part: 0, entry: Some(Arc::clone(entry)) }).collect();
        Self { isolate: Some(isolate), code, recent, left: 0 }
    }

    /// The code it serves.
    pub(crate) fn code(&self) -> &Arc<Code> {
        &self.code
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
        let Some(code) = self.code.of(&path.component) else { return };
        let wanted = Wanted::of(code, &path.module);
        if count_ready(&wanted) == 0 {
            self.make_ready(&wanted);
        }
    }

    /// Makes a context ahead, if there is room. Returns whether it made one.
    pub(crate) fn prepare(&mut self) -> bool {
        if self.is_spent() {
            return false;
        }
        if count_ready(&APP) < READY_CONTEXTS {
            return self.make_ready(&APP);
        }
        let missing = self.recent.iter().find(|wanted| count_ready(wanted) == 0).cloned();
        missing.is_some_and(|wanted| self.make_ready(&wanted))
    }

    fn make_ready(&mut self, wanted: &Wanted) -> bool {
        // V8 does not know how far they grew, so it sees no reason to collect them.
        if self.left > limits::WASM_MEMORY_BYTES {
            self.collect_garbage();
        }
        let Some(code) = self.code.parts().nth(wanted.part).cloned() else { return false };
        let isolate = self.isolate.as_mut().expect("an engine owns its isolate");
        v8::scope!(let scope, isolate.v8());
        let queue = queue_at(scope, 0);
        // A failure shows again in the call that needs the context, where it can be reported.
        match Ready::make(scope, &code, queue, late(wanted.entry.as_ref())) {
            Ok(ready) => READY.with_borrow_mut(|list| list.push(ready)),
            Err(_) => return false,
        }
        true
    }

    /// Notes which module is called, for contexts made ahead.
    fn note(&mut self, wanted: Wanted) {
        if self.recent.first() == Some(&wanted) || wanted == APP {
            return;
        }
        self.recent.retain(|other| *other != wanted);
        self.recent.insert(0, wanted);
        for old in self.recent.split_off(READY_ENTRIES.min(self.recent.len())) {
            READY.with_borrow_mut(|list| list.retain(|ready| !old.is(ready)));
        }
    }

    /// Runs one call to its end in a fresh context.
    pub(crate) fn run(&mut self, execution: Box<Execution>, target: &Target) -> Ran {
        rejections::clear();
        let code = self.code.of(&target.path.component).expect("it was found to run").clone();
        self.note(Wanted::of(&code, &target.path.module));
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
        Ran { result, execution }
    }

    /// Calls `look` with a part of the engine's code in a fresh context, outside any call.
    pub(crate) fn in_context<R>(
        &mut self,
        code: &Code,
        look: impl for<'s, 'i> FnOnce(&mut v8::PinScope<'s, 'i>, Hooks<'s>, &Code) -> R,
    ) -> Result<R, FunctionError> {
        execution::set_import_environment(&code.analysis.imported_environment);
        let isolate = self.isolate.as_mut().expect("an engine owns its isolate");
        v8::scope!(let scope, isolate.v8());
        let queue = queue_at(scope, 0);
        let ready = Ready::make(scope, code, queue, Late::All)?;
        let context = v8::Local::new(scope, &ready.context);
        let scope = &mut v8::ContextScope::new(scope, context);
        let hooks = v8::Local::new(scope, &ready.hooks);
        Ok(look(scope, hooks, code))
    }

    /// Gives the memory of finished contexts back; only worth it while idle.
    pub(crate) fn collect_garbage(&mut self) {
        self.left = 0;
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
        self.stop_switch().memories.take_after(0);
        rejections::clear();
        modules::end();
        modules::forget_sources();
        QUEUES.take();
        self.isolate.take();
    }
}

/// How many contexts are ready in which exactly that was evaluated.
fn count_ready(wanted: &Wanted) -> usize {
    READY.with_borrow(|list| list.iter().filter(|ready| wanted.is(ready)).count())
}

fn late(entry: Option<&Arc<str>>) -> Late<'_> {
    entry.map_or(Late::Nothing, Late::Entry)
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
    let wanted = Wanted::of(code, module);
    // A nested call cannot take one: it would need another queue, and V8 does not change the queue
    // of a context while the old one runs.
    let take = |list: &mut Vec<Ready>| {
        let at = list.iter().position(|ready| wanted.is(ready))?;
        Some(list.remove(at))
    };
    let ready = (depth == 0).then(|| READY.with_borrow_mut(take)).flatten();
    match ready {
        Some(ready) => Ok(ready),
        None => {
            let queue = queue_at(scope, depth);
            Ready::make(scope, code, queue, late(wanted.entry.as_ref()))
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
