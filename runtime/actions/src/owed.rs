//! The end that a job is owed, whatever becomes of the thread that has it.
//!
//! In: whether the end was sent. Out: where the job is dropped without one, an end that says that
//! the worker hit a bug. Invariant: exactly one end per job; after a panic the process takes no
//! more jobs, as nobody knows what it has left half-done.

use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::path::Path;
use std::sync::Arc;

use crate::protocol::{End, RunId, Thrown, ToHost};
use crate::wire::Wire;

thread_local! {
    /// What the last panic of this thread said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has what panics say kept for the ends of the jobs that they cost.
pub(crate) fn listen() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let words = words(panic);
        // A thread that is ending owes nothing any more.
        let _ = PANIC.try_with(|last| last.replace(Some(words)));
        print(panic);
    }));
}

fn words(panic: &PanicHookInfo<'_>) -> String {
    let what = panic.payload_as_str().unwrap_or("it does not say what");
    let place = panic.location().map(|place| {
        let file = Path::new(place.file()).file_name().unwrap_or_default();
        format!(" ({}:{})", file.display(), place.line())
    });
    format!("{what}{}", place.unwrap_or_default())
}

/// The end of one job.
pub(crate) struct Owed {
    run: RunId,
    function: String,
    wire: Arc<Wire>,
    /// Has the process forget the run.
    forget: Option<Box<dyn FnOnce() + Send>>,
    is_paid: bool,
}

impl Owed {
    /// The end of a run of `function`; `forget` is called once, at the latest when it is dropped.
    pub(crate) fn new(
        run: RunId,
        function: String,
        wire: Arc<Wire>,
        forget: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { run, function, wire, forget: Some(Box::new(forget)), is_paid: false }
    }

    /// The process is to forget the run: nobody can stop it from here on.
    pub(crate) fn forget(&mut self) {
        if let Some(forget) = self.forget.take() {
            forget();
        }
    }

    /// The end was sent.
    pub(crate) fn paid(&mut self) {
        self.is_paid = true;
    }

    /// Sends an end without a result.
    pub(crate) fn pay(mut self, end: End) {
        self.forget();
        self.paid();
        self.wire.send(&ToHost::Done { run: self.run, end }, &[]);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.forget();
        if self.is_paid {
            return;
        }
        let said = PANIC.try_with(|last| last.borrow().clone()).ok().flatten();
        let why = said.unwrap_or_else(|| "its thread is gone".to_owned());
        let message = format!(
            "The worker that ran {} hit a bug of its own: {why}. The action may have done a part \
             of its work; it is not run again by itself. Please report this.",
            self.function
        );
        let end = End::Threw(Thrown { message, ..Thrown::default() });
        self.wire.send(&ToHost::Retire, &[]);
        self.wire.send(&ToHost::Done { run: self.run, end }, &[]);
    }
}
