//! Who touches WebAssembly while a snapshot is made, where it cannot exist.
//!
//! In: reads of the global. Out: the paths of the modules that were running. Invariant: what a
//! module does after it found `WebAssembly` missing is in no snapshot: `typeof WebAssembly` counts
//! as a touch.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use v8::MapFnTo as _;

use super::string;
use crate::exception::running_frames;

thread_local! {
    static TOUCHED: RefCell<BTreeSet<Arc<str>>> = const { RefCell::new(BTreeSet::new()) };
}

/// Begins to look.
pub(crate) fn arm(scope: &mut v8::PinScope<'_, '_>) {
    take();
    let global = scope.get_current_context().global(scope);
    let key = string(scope, "WebAssembly");
    global.set_accessor(scope, key.into(), read);
}

/// Ends it: a context made from the snapshot gets the real one.
pub(crate) fn disarm(scope: &mut v8::PinScope<'_, '_>) {
    let global = scope.get_current_context().global(scope);
    let key = string(scope, "WebAssembly");
    global.delete(scope, key.into());
}

/// Notes that the module at `path` needs it.
pub(crate) fn note(path: &Arc<str>) {
    TOUCHED.with_borrow_mut(|touched| touched.insert(Arc::clone(path)));
}

/// Whether anything was noted.
pub(crate) fn is_noted() -> bool {
    !TOUCHED.with_borrow(BTreeSet::is_empty)
}

/// What was noted, and forgets it.
pub(crate) fn take() -> BTreeSet<Arc<str>> {
    TOUCHED.take()
}

/// The getter's address, for the table of external references.
pub(super) fn reference() -> v8::AccessorNameGetterCallback {
    read.map_fn_to()
}

fn read(
    scope: &mut v8::PinScope<'_, '_>,
    _name: v8::Local<'_, v8::Name>,
    _args: v8::PropertyCallbackArguments<'_>,
    _result: v8::ReturnValue<'_, v8::Value>,
) {
    for frame in running_frames(scope) {
        note(&frame.path.into());
    }
}
