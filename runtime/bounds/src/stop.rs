//! The switch that stops what an isolate runs.
//!
//! In: a reason, from any thread or from V8's callbacks. Out: V8 ends what runs. Invariant: the
//! first reason stays, and the isolate runs nothing more.

use std::sync::OnceLock;

/// A switch of one isolate; `R` is why something is stopped.
pub struct Switch<R> {
    reason: OnceLock<R>,
    isolate: OnceLock<v8::IsolateHandle>,
}

impl<R> Default for Switch<R> {
    fn default() -> Self {
        Self { reason: OnceLock::new(), isolate: OnceLock::new() }
    }
}

impl<R: Copy> Switch<R> {
    /// Connects it to its isolate.
    ///
    /// # Panics
    /// It has one.
    pub fn connect(&self, isolate: v8::IsolateHandle) {
        let set = self.isolate.set(isolate);
        assert!(set.is_ok(), "a switch stops one isolate");
    }

    /// Stops whatever the isolate runs; nothing may run in it any more. The first reason stays.
    pub fn stop(&self, why: R) {
        // A lost race means that another reason came first, which is the one to report.
        let _ = self.reason.set(why);
        if let Some(isolate) = self.isolate.get() {
            isolate.terminate_execution();
        }
    }

    /// The reason, if it was stopped.
    pub fn reason(&self) -> Option<R> {
        self.reason.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Switch;

    #[test]
    fn the_first_reason_stays() {
        let switch = Switch::default();
        assert_eq!(switch.reason(), None);
        switch.stop("too late");
        switch.stop("too large");
        assert_eq!(switch.reason(), Some("too late"));
    }
}
