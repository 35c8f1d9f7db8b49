//! Unhandled promise rejections of the call that runs on this thread.
//!
//! In: V8's reject callback. Out: the first rejection nobody handled by the time all microtasks
//! ran.
//! Invariant: the list is emptied at the start of every call, so one call never sees another's.

use std::cell::RefCell;

thread_local! {
    static PENDING: RefCell<Vec<(v8::Global<v8::Promise>, v8::Global<v8::Value>)>> =
        const { RefCell::new(Vec::new()) };
}

/// V8's callback.
pub(crate) unsafe extern "C" fn on_reject(message: v8::PromiseRejectMessage<'_>) {
    v8::callback_scope!(unsafe scope, &message);
    let promise = message.get_promise();
    match message.get_event() {
        v8::PromiseRejectEvent::PromiseRejectWithNoHandler => {
            if let Some(value) = message.get_value() {
                let entry = (v8::Global::new(scope, promise), v8::Global::new(scope, value));
                PENDING.with_borrow_mut(|pending| pending.push(entry));
            }
        }
        v8::PromiseRejectEvent::PromiseHandlerAddedAfterReject => {
            let promise = v8::Global::new(scope, promise);
            PENDING.with_borrow_mut(|pending| pending.retain(|(other, _)| *other != promise));
        }
        v8::PromiseRejectEvent::PromiseRejectAfterResolved
        | v8::PromiseRejectEvent::PromiseResolveAfterResolved => {}
    }
}

/// How many are pending: a nested call looks only at its own.
pub(crate) fn mark() -> usize {
    PENDING.with_borrow(Vec::len)
}

/// The first rejection after `mark` other than `own` (the call's own promise, which the caller
/// reads itself), and forgets everything after `mark`.
pub(crate) fn take_since<'s>(
    scope: &v8::PinScope<'s, '_>,
    mark: usize,
    own: Option<v8::Local<'_, v8::Promise>>,
) -> Option<v8::Local<'s, v8::Value>> {
    let taken = PENDING.with_borrow_mut(|pending| {
        if pending.len() > mark { pending.split_off(mark) } else { Vec::new() }
    });
    let own = own.map(|promise| v8::Global::new(scope, promise));
    let first = taken.into_iter().find(|(promise, _)| own.as_ref() != Some(promise))?;
    Some(v8::Local::new(scope, first.1))
}

/// Forgets everything: before an isolate is dropped, and at the start of a call.
pub(crate) fn clear() {
    PENDING.with_borrow_mut(Vec::clear);
}
