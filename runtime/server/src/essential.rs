//! The parts of a host that it cannot do without: threads and tasks that must not die unseen.
//!
//! In: their work. Out: nothing, unless one of them panics. Invariant: a host never goes on without
//! one. What panicked is told to the operator, and the process aborts at once, without the handlers
//! of an orderly end: those may wait for what is gone. Where data is kept that loses nothing:
//! what was acknowledged is on the disk, and the rest was never told. Whoever supervises the
//! process starts it again.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::process::abort;
use std::task::Poll;

use tokio::task::JoinHandle;

use crate::event::Warn;

/// Does `work` on a thread of this name, without which the host ends.
///
/// # Errors
/// The system has no thread to give.
pub fn thread(
    name: &'static str,
    warn: &Warn,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let warn = Warn::clone(warn);
    let work = move || watched(name, &warn, abort, work);
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Does `work` on a task, without which the host ends. It may be aborted.
pub(crate) fn task(
    name: &'static str,
    warn: &Warn,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let warn = Warn::clone(warn);
    tokio::spawn(async move {
        let mut work = pin!(work);
        poll_fn(|context| {
            let mut polled = Poll::Pending;
            watched(name, &warn, abort, || polled = work.as_mut().poll(context));
            polled
        })
        .await;
    })
}

/// Does `work`; if it panics, says so and ends the host.
fn watched<E>(name: &str, warn: &Warn, end: impl FnOnce() -> E, work: impl FnOnce()) {
    // What it has left half done is looked at by nobody: the host ends.
    let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else { return };
    let text = format!(
        "The host ends, because a part that it cannot do without hit a bug of its own: {name} \
         panicked with {:?}. Please report it. Start the host again: where data is kept, \
         everything that was acknowledged is there.",
        said(&*panic)
    );
    // It ends even where nobody can be told.
    let _ = catch_unwind(AssertUnwindSafe(|| warn(&text)));
    end();
}

/// What was said at a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::tests::{outlive, run_alone};

    /// What was told, and how often the host ended.
    fn after(work: impl FnOnce()) -> (Vec<String>, u32) {
        let (news, mut ends) = (Arc::new(Mutex::new(Vec::new())), 0);
        let told = Arc::clone(&news);
        let warn: Warn = Arc::new(move |text| told.lock().unwrap().push(text.to_owned()));
        watched("committer", &warn, || ends += 1, work);
        (news.lock().unwrap().clone(), ends)
    }

    #[test]
    fn a_part_that_panics_is_named_and_ends_the_host() {
        let number = 7;
        let (news, ends) = after(|| panic!("entry {number} is odd"));
        assert!(news.len() == 1 && ends == 1, "{news:?}");
        let told = r#"it cannot do without hit a bug of its own: committer panicked with "entry 7"#;
        assert!(news[0].contains(told) && news[0].contains("report it"), "{news:?}");
        let (news, ends) = after(|| std::panic::panic_any(7));
        assert!(ends == 1 && news[0].contains(r#"with "no words""#), "{news:?}");
    }

    #[test]
    #[ignore = "it ends its process: the test below runs it"]
    fn a_task_that_panics() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let warn: Warn = Arc::new(|text| panic!("{text}"));
        let work = async {
            tokio::task::yield_now().await;
            panic!("the second poll");
        };
        // Nobody asks how the task ended.
        runtime.block_on(async { drop(task("delivery", &warn, work).await) });
        outlive();
    }

    #[test]
    fn the_process_of_a_task_that_panics_ends() {
        let (status, said) = run_alone("essential::tests::a_task_that_panics");
        assert!(!status.success(), "{said}");
        assert!(said.contains(r#"delivery panicked with "the second poll". Please"#), "{said}");
    }

    #[test]
    fn one_that_comes_to_its_end_ends_nothing() {
        assert_eq!(after(|| {}), (Vec::new(), 0));
    }

    #[test]
    fn the_host_ends_where_nobody_can_be_told() {
        let (warn, mut ends): (Warn, _) = (Arc::new(|_| panic!("nobody listens")), 0);
        watched("committer", &warn, || ends += 1, || panic!("a bug"));
        assert_eq!(ends, 1);
    }
}
