//! What one run may leave with the host: console lines, and questions without an answer.
//!
//! In: each of them. Out: what fits, and words for what does not. Invariant: a run that sends
//! without end costs the host a fixed amount of memory.

use crate::pool::{CallLimits, Line};

/// Console lines of a run and of the functions that it called.
pub(crate) struct Lines {
    lines: Vec<Line>,
    limit: usize,
}

impl Lines {
    pub(crate) fn new(limit: usize) -> Self {
        Self { lines: Vec::new(), limit }
    }

    /// Keeps a line, and says whether; the first that is too many is replaced by one that says so.
    pub(crate) fn push(&mut self, line: Line) -> bool {
        let count = self.lines.len();
        if count < self.limit {
            self.lines.push(line);
        } else if count == self.limit {
            self.lines.push(Line::overflow(self.limit));
        }
        count < self.limit
    }

    /// The lines, in order.
    pub(crate) fn into_vec(self) -> Vec<Line> {
        self.lines
    }
}

/// Questions of a run that have no answer yet.
#[derive(Default)]
pub(crate) struct Waiting {
    count: usize,
    bytes: usize,
}

impl Waiting {
    /// Counts a question in, also where it is too much: it is counted until it is answered.
    ///
    /// # Errors
    /// What the action's author reads where there is too much.
    pub(crate) fn add(&mut self, bytes: usize, limits: &CallLimits) -> Result<(), String> {
        self.count += 1;
        self.bytes += bytes;
        if self.count > limits.count {
            let limit = limits.count;
            return Err(format!(
                "Too many operations at once: an action may have {limit} that are not finished. \
                 Await some before you start more."
            ));
        }
        if self.bytes > limits.bytes {
            let limit = limits.bytes >> 20;
            return Err(format!(
                "Too much at once: the arguments of an action's unfinished operations may have \
                 {limit} MiB together. Await some before you start more."
            ));
        }
        Ok(())
    }

    /// Counts an answered question out.
    pub(crate) fn remove(&mut self, bytes: usize) {
        self.count -= 1;
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_counted_until_they_are_answered() {
        let limits = CallLimits { count: 2, bytes: 10 };
        let mut waiting = Waiting::default();
        assert!(waiting.add(4, &limits).is_ok());
        assert!(waiting.add(4, &limits).is_ok());
        assert!(waiting.add(1, &limits).unwrap_err().starts_with("Too many operations at once"));
        waiting.remove(1);
        waiting.remove(4);
        assert!(waiting.add(7, &limits).unwrap_err().starts_with("Too much at once"));
        waiting.remove(7);
        assert!(waiting.add(6, &limits).is_ok());
    }
}
