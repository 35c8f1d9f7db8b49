//! Notices what is thrown in frozen contexts, by the code of their calls or of V8.
//!
//! In: frozen contexts. Out: whether something was thrown in one of them, even if it was caught
//! there: what a call finds frozen throws, and nothing else shows the host that it came to
//! something else than in a fresh context. Invariant: one inspector an isolate, made with the first
//! context that is frozen and dropped before the isolate.

use std::cell::RefCell;

use crate::inspector::Inspector;

thread_local! {
    static INSPECTOR: RefCell<Option<Inspector>> = const { RefCell::new(None) };
}

/// Calls `act` with the inspector of this thread's isolate.
pub(crate) fn of<R>(isolate: &mut v8::Isolate, act: impl FnOnce(&Inspector) -> R) -> R {
    INSPECTOR.with_borrow_mut(|made| {
        act(made.get_or_insert_with(|| {
            let inspector = Inspector::of(isolate);
            inspector.watch_throws();
            inspector
        }))
    })
}

/// Whether something was thrown in a frozen context since the last question.
pub(crate) fn take_thrown() -> bool {
    INSPECTOR.with_borrow(|made| {
        let Some(inspector) = made else { return false };
        let thrown = inspector.take_thrown();
        if thrown {
            inspector.pause_on_throws(true);
        }
        thrown
    })
}

/// Something was thrown: what else the call throws says nothing more, and noticing it a thousand
/// times would use up the call's time.
pub(crate) fn rest() {
    INSPECTOR.with(|made| {
        // Whoever holds it is about to end it, or asks it about objects.
        if let Ok(made) = made.try_borrow()
            && let Some(inspector) = &*made
        {
            inspector.pause_on_throws(false);
        }
    });
}

/// Ends: before the isolate.
pub(crate) fn end() {
    INSPECTOR.take();
}
