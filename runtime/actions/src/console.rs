//! Console lines of one run: counted, cut and sent.
//!
//! In: rendered arguments. Out: [`ToHost::Log`]. Invariant: no more lines and no longer ones than
//! the limits say, and one that tells the host that there were more, whatever is logged.

use crate::protocol::{Limits, RunId, ToHost};

/// Counts the lines of one run.
pub(crate) struct Console {
    run: RunId,
    limits: Limits,
    lines: u64,
}

impl Console {
    pub(crate) fn new(run: RunId, limits: Limits) -> Self {
        Self { run, limits, lines: 0 }
    }

    /// The message of a line; `None` where there have been too many: the host tells of the first
    /// that is too many.
    pub(crate) fn line(&mut self, level: &str, mut messages: Vec<String>) -> Option<ToHost> {
        self.lines += 1;
        if self.lines > self.limits.log_lines + 1 {
            return None;
        }
        let truncated = web::console::truncate(&mut messages, self.limits.log_line_bytes);
        let (run, level) = (self.run, level.to_owned());
        Some(ToHost::Log { run, level, messages, truncated })
    }

    /// The message of the host's own warning: it is sent however many lines there were.
    pub(crate) fn warning(&self, text: String) -> ToHost {
        let (run, level) = (self.run, "WARN".to_owned());
        ToHost::Log { run, level, messages: vec![text], truncated: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(log_lines: u64, log_line_bytes: u64) -> Limits {
        Limits {
            heap_bytes: 0,
            buffer_bytes: 0,
            process_bytes: 0,
            log_lines,
            log_line_bytes,
            response_bytes: 0,
            pbkdf2_iterations: 0,
            wasm_bytes: 0,
            context_runs: 1,
            contexts_kept: 0,
            coverage: false,
            fetch: Default::default(),
        }
    }

    #[test]
    fn lines_stop_one_after_their_limit() {
        let mut console = Console::new(1, limits(3, 100));
        let lines = (0..9).filter_map(|n| console.line("LOG", vec![n.to_string()]));
        assert_eq!(lines.count(), 4, "the host sees that there were too many");
    }
}
