//! Where modules are that do not finish importing, when the builder's time is over.
//!
//! In: the isolates of the builder's child process. Out: on standard error, the frame that runs
//! when the CPU time of an analysis is used up; the process ends with [`EXIT_CODE`] then.
//! Invariant: only the child watches; what V8 cannot interrupt (its own native code) is ended by
//! the system, later, and has no place.

use std::cell::Cell;
use std::ffi::c_void;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use database::deployment::Position;

use crate::exception::{Frame, running_frames};
use crate::watchdog;

/// How the child ends when its time is over.
pub(crate) const EXIT_CODE: i32 = 124;

/// How often the clock is looked at.
const PERIOD: Duration = Duration::from_millis(50);

/// The isolate that runs now; there is none where nobody watches.
static WATCHED: OnceLock<Mutex<Option<v8::IsolateHandle>>> = OnceLock::new();

thread_local! {
    /// Where modules are being imported, while somebody watches.
    static CONTEXT: Cell<Option<v8::Global<v8::Context>>> = const { Cell::new(None) };
}

/// Watches this process from now on, until it has used so much CPU time.
pub(crate) fn begin(limit: Duration) {
    let watched = WATCHED.get_or_init(Mutex::default);
    let watch = move || {
        while watchdog::cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID) < limit {
            std::thread::sleep(PERIOD);
        }
        if let Some(isolate) = &*watched.lock().unwrap_or_else(PoisonError::into_inner) {
            isolate.request_interrupt(tell, std::ptr::null_mut());
        }
    };
    // Where there is no thread for it the system's limit is left, which knows no place.
    let _ = std::thread::Builder::new().name("overtime".to_owned()).spawn(watch);
}

/// An isolate was made in this process.
pub(crate) fn note(isolate: &v8::Isolate) {
    if let Some(watched) = WATCHED.get() {
        let handle = isolate.thread_safe_handle();
        *watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }
}

/// What a child said before it ended: where in a module's JavaScript it was.
pub(crate) fn place(words: &str) -> Option<Position> {
    let told = words.lines().rev().find_map(|line| line.strip_prefix(TOLD))?;
    let (rest, column) = told.rsplit_once(':')?;
    let (path, line) = rest.rsplit_once(':')?;
    Some(Position { path: path.into(), line: line.parse().ok()?, column: column.parse().ok()? })
}

/// Begins the line that says where.
const TOLD: &str = "concave: running at ";

/// While it lives, modules are imported in a context.
pub(crate) struct Importing(());

impl Importing {
    /// Begins to import in the scope's context.
    pub(crate) fn begin(scope: &v8::PinScope<'_, '_>) -> Self {
        if WATCHED.get().is_some() {
            let context = scope.get_current_context();
            CONTEXT.set(Some(v8::Global::new(scope, context)));
        }
        Self(())
    }
}

impl Drop for Importing {
    fn drop(&mut self) {
        CONTEXT.take();
    }
}

/// Called by V8 on the isolate's thread, between two instructions of JavaScript.
unsafe extern "C" fn tell(isolate: v8::UnsafeRawIsolatePtr, _data: *mut c_void) {
    // SAFETY: V8 passes the isolate that it interrupts, which lives until the callback returns.
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    v8::callback_scope!(unsafe scope, &mut isolate);
    if let Some(context) = CONTEXT.take() {
        let context = v8::Local::new(scope, context);
        let scope = &mut v8::ContextScope::new(scope, context);
        if let Some(Frame { path, line, column, .. }) = running_frames(scope).first() {
            let _ = writeln!(std::io::stderr(), "{TOLD}{path}:{line}:{column}");
        }
    }
    // SAFETY: a plain system call that does not return.
    unsafe { libc::_exit(EXIT_CODE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_in_the_last_words() {
        let words = "# noise\nconcave: running at dir/m.js:3:14\n";
        let told = Position { path: "dir/m.js".into(), line: 3, column: 14 };
        assert_eq!(place(words), Some(told));
        assert_eq!(place("# Fatal error in m.js:3:14"), None);
    }
}
