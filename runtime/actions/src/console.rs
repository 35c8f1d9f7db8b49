//! Console lines of one run: counted, cut and sent.
//!
//! In: rendered arguments. Out: [`ToHost::Log`]. Invariant: no more lines and no longer ones than
//! the limits say, whatever is logged; the last line says that there were more.

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

    /// The message of a line; `None` where there have been too many.
    pub(crate) fn line(&mut self, level: &str, mut messages: Vec<String>) -> Option<ToHost> {
        self.lines += 1;
        if self.lines > self.limits.log_lines + 1 {
            return None;
        }
        let run = self.run;
        if self.lines > self.limits.log_lines {
            let text = format!(
                "Log overflow (maximum {}). Remaining log lines omitted.",
                self.limits.log_lines
            );
            let (level, messages) = ("ERROR".to_owned(), vec![text]);
            return Some(ToHost::Log { run, level, messages, truncated: false });
        }
        let truncated = truncate(&mut messages, self.limits.log_line_bytes);
        Some(ToHost::Log { run, level: level.to_owned(), messages, truncated })
    }

    /// The message of the host's own warning: it is sent however many lines there were.
    pub(crate) fn warning(&self, text: String) -> ToHost {
        let (run, level) = (self.run, "WARN".to_owned());
        ToHost::Log { run, level, messages: vec![text], truncated: false }
    }
}

/// Cuts a line at the limit of bytes, at a character's boundary.
fn truncate(messages: &mut Vec<String>, limit: u64) -> bool {
    let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
    for at in 0..messages.len() {
        if messages[at].len() > left {
            let mut end = left;
            while !messages[at].is_char_boundary(end) {
                end -= 1;
            }
            messages[at].truncate(end);
            messages.truncate(at + 1);
            return true;
        }
        left = left.saturating_sub(messages[at].len() + 1);
    }
    false
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
        }
    }

    #[test]
    fn lines_stop_at_their_limit_and_the_last_says_so() {
        let mut console = Console::new(1, limits(3, 100));
        let lines: Vec<_> =
            (0..9).filter_map(|n| console.line("LOG", vec![n.to_string()])).collect();
        assert_eq!(lines.len(), 4);
        let ToHost::Log { level, messages, .. } = &lines[3] else { panic!("{lines:?}") };
        assert_eq!(level, "ERROR");
        assert_eq!(messages[0], "Log overflow (maximum 3). Remaining log lines omitted.");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut messages = vec!["é".repeat(20), "gone".to_owned()];
        assert!(truncate(&mut messages, 31));
        assert_eq!(messages, ["é".repeat(15)]);
    }
}
