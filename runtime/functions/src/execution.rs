//! The call that runs on this thread: its transaction, its log, what it looked at, its nested
//! calls.
//!
//! In: syscalls and natives, which have no other way to know who called them. Out: what
//! [`crate::run`] reports. Invariant: at most one call a thread; while none runs (modules being
//! imported, contexts being made) every data syscall is refused.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use database::error::UserError;
use database::limits;
use database::record::{
    Call, FunctionKind, FunctionPath, Given, LogLevel, LogLine, Logged, Observed,
};
use database::transaction::{Savepoint, Transaction};

use storage::Storage;

use crate::code::Code;
use crate::elsewhere::Elsewhere;
use crate::exception;
use crate::files::Files;

/// The state of one call.
pub(crate) struct Execution {
    pub(crate) transaction: Transaction,
    pub(crate) code: Arc<Code>,
    pub(crate) call: Call,
    pub(crate) given: Given,
    pub(crate) observed: Observed,
    pub(crate) log: Log,
    pub(crate) journal: Option<Arc<str>>,
    pub(crate) files: Files,
    /// Where functions run that are not in this deployment.
    pub(crate) elsewhere: Option<Arc<dyn Elsewhere>>,
    /// What it did with them.
    pub(crate) visits: Visits,
    /// What the last of them threw.
    pub(crate) elsewhere_threw: Option<String>,
    frames: Vec<Frame>,
    nested: u64,
    /// How many `snapshotQuery` calls it is inside of.
    forks: usize,
}

/// What a call did with functions that run elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Visits {
    /// It did not want one.
    #[default]
    None,
    /// One has run: the call cannot be executed again.
    Some,
    /// It wanted one from a context that other calls had used: it is to be executed in fresh ones.
    Refused,
}

/// One function on the stack of nested calls.
struct Frame {
    path: FunctionPath,
    kind: FunctionKind,
}

/// Environment variables by name, with their values; `None`: it is not set.
pub(crate) type Imported = BTreeMap<String, Option<String>>;

thread_local! {
    static RUNNING: RefCell<Option<Box<Execution>>> = const { RefCell::new(None) };
    static IMPORT_LOG: RefCell<Log> = RefCell::default();
    static IMPORT_ENVIRONMENT: RefCell<Imported> = const { RefCell::new(Imported::new()) };
    static IMPORTING: Cell<bool> = const { Cell::new(false) };
    static IMPORT_READS: RefCell<Imported> = const { RefCell::new(Imported::new()) };
}

impl Execution {
    pub(crate) fn new(
        transaction: Transaction,
        code: Arc<Code>,
        call: Call,
        given: Given,
        storage: Storage,
    ) -> Self {
        Self {
            transaction,
            code,
            call,
            given,
            files: Files::new(storage),
            observed: Observed::default(),
            log: Log::default(),
            journal: None,
            elsewhere: None,
            visits: Visits::None,
            elsewhere_threw: None,
            frames: Vec::new(),
            nested: 0,
            forks: 0,
        }
    }

    /// Kind of the innermost function.
    pub(crate) fn kind(&self) -> FunctionKind {
        self.frames.last().map_or(FunctionKind::Query, |frame| frame.kind)
    }

    /// Path of the innermost function.
    pub(crate) fn path(&self) -> &FunctionPath {
        self.frames.last().map_or(&self.call.path, |frame| &frame.path)
    }

    /// Component of the innermost function.
    pub(crate) fn component(&self) -> Arc<str> {
        Arc::clone(&self.path().component)
    }

    /// `process.env.<name>` of the innermost function: in a component what its parent bound.
    fn environment_variable(&mut self, name: &str) -> Option<Arc<str>> {
        if self.path().component.is_empty() {
            return self.transaction.environment_variable(name);
        }
        let unit = self.code.analysis.components.unit(&self.path().component);
        let binding = unit.and_then(|unit| unit.environment.get(name))?;
        binding.value(|of_app| self.transaction.environment_variable(of_app))
    }

    /// Enters a function.
    ///
    /// # Errors
    /// The limit of nesting.
    pub(crate) fn enter(
        &mut self,
        path: FunctionPath,
        kind: FunctionKind,
    ) -> Result<(), UserError> {
        let depth = u64::try_from(self.frames.len()).expect("a stack's depth fits");
        if depth > limits::CALL_DEPTH {
            return Err(UserError::new(
                "CallDepthLimit",
                "Cross component call depth limit exceeded. Do you have an infinite loop in your \
                 app?",
            ));
        }
        self.frames.push(Frame { path, kind });
        Ok(())
    }

    /// Leaves the innermost function.
    pub(crate) fn leave(&mut self) {
        let left = self.frames.pop();
        assert!(left.is_some(), "every leave has its enter");
    }

    /// A seed for the next nested call: a function of the call's seed and of how many came before.
    pub(crate) fn nested_seed(&mut self) -> [u8; 32] {
        use sha2::Digest as _;
        self.nested += 1;
        let mut hash = sha2::Sha256::new();
        hash.update(self.given.seed);
        hash.update(self.nested.to_le_bytes());
        hash.finalize().into()
    }

    /// How many functions are on the stack.
    pub(crate) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Swaps in a transaction at the same snapshot that sees no uncommitted writes and whose reads
    /// are not kept; gives back the call's own.
    pub(crate) fn fork_at_snapshot(&mut self) -> Transaction {
        let snapshot = Arc::clone(self.transaction.snapshot());
        let fork = Transaction::begin(snapshot, &self.given, true);
        self.forks += 1;
        std::mem::replace(&mut self.transaction, fork)
    }

    /// Goes on with the transaction that [`Self::fork_at_snapshot`] gave.
    pub(crate) fn end_fork(&mut self, outer: Transaction) {
        self.forks -= 1;
        self.transaction = outer;
    }

    /// Whether what is read now is not kept among the call's reads.
    pub(crate) fn is_forked(&self) -> bool {
        self.forks > 0
    }

    /// Marks the writes so far, for a nested mutation.
    pub(crate) fn savepoint(&mut self) -> Savepoint {
        self.transaction.savepoint()
    }
}

/// Makes `execution` the one that runs here.
pub(crate) fn begin(execution: Box<Execution>) {
    RUNNING.with_borrow_mut(|running| {
        assert!(running.is_none(), "a thread runs one call at a time");
        *running = Some(execution);
    });
}

/// Takes it back.
pub(crate) fn end() -> Box<Execution> {
    RUNNING.take().expect("a call that ended had begun")
}

/// Drops whatever ran here when the host itself failed.
pub(crate) fn abandon() {
    RUNNING.take();
}

/// Runs `work` as if no call ran here: a module's import sees none.
pub(crate) fn aside<R>(work: impl FnOnce() -> R) -> R {
    let running = RUNNING.take();
    let done = work();
    RUNNING.set(running);
    done
}

/// Whether a call runs here.
pub(crate) fn is_running() -> bool {
    RUNNING.with_borrow(Option::is_some)
}

/// Gives the running call to `use_it`; `None` while modules are imported.
pub(crate) fn with<R>(use_it: impl FnOnce(&mut Execution) -> R) -> Option<R> {
    RUNNING.with_borrow_mut(|running| running.as_deref_mut().map(use_it))
}

/// Notes a hidden input: 1 time, 2 randomness, 4 identity.
pub(crate) fn observe(flag: u32) {
    with(|execution| match flag {
        1 => execution.observed.time = true,
        2 => execution.observed.randomness = true,
        _ => execution.observed.identity = true,
    });
}

/// Appends a console line to the running call, or to the import log.
pub(crate) fn log(level: &str, parts: Vec<String>) {
    let level = match level {
        "DEBUG" => LogLevel::Debug,
        "ERROR" => LogLevel::Error,
        "WARN" => LogLevel::Warn,
        "INFO" => LogLevel::Info,
        _ => LogLevel::Log,
    };
    RUNNING.with_borrow_mut(|running| match running {
        Some(execution) => {
            let code = &execution.code;
            let parts = parts.into_iter().map(|part| exception::readable(code, part)).collect();
            execution.log.push(level, parts);
        }
        None => IMPORT_LOG.with_borrow_mut(|log| log.push(level, parts)),
    });
}

/// What modules logged while they were imported, and forgets it.
pub(crate) fn take_import_log() -> Vec<LogLine> {
    IMPORT_LOG.take().lines
}

/// Which environment variables `process.env` shows on this thread while modules are imported.
pub(crate) fn set_import_environment(environment: &Imported) {
    IMPORT_ENVIRONMENT.with_borrow_mut(|now| {
        if now != environment {
            now.clone_from(environment);
        }
    });
}

/// While it lives, modules are being imported, even if a call waits for them. What they see of the
/// environment came with their code, so it is no read of the call.
pub(crate) struct Importing(());

impl Importing {
    /// Begins to import modules that see these variables; `None`: those that were set before.
    pub(crate) fn begin(environment: Option<&Imported>) -> Self {
        if let Some(environment) = environment {
            set_import_environment(environment);
        }
        IMPORTING.set(true);
        Self(())
    }
}

impl Drop for Importing {
    fn drop(&mut self) {
        IMPORTING.set(false);
    }
}

/// The environment variables that modules looked at while they were imported, and forgets them.
pub(crate) fn take_import_reads() -> Imported {
    IMPORT_READS.take()
}

/// Remembers what was taken.
pub(crate) fn restore_import_reads(taken: impl Iterator<Item = (String, Option<String>)>) {
    IMPORT_READS.with_borrow_mut(|reads| reads.extend(taken));
}

/// `process.env.<name>`: from the call's snapshot, as a recorded read; while modules are imported,
/// what the push saw.
pub(crate) fn environment_variable(name: &str) -> Option<Arc<str>> {
    let of_call = match IMPORTING.get() {
        true => None,
        false => with(|execution| execution.environment_variable(name)),
    };
    of_call.unwrap_or_else(|| {
        let value = IMPORT_ENVIRONMENT.with_borrow(|now| now.get(name).cloned().flatten());
        IMPORT_READS.with_borrow_mut(|reads| {
            reads.entry(name.to_owned()).or_insert_with(|| value.clone());
        });
        value.map(Arc::from)
    })
}

/// Console lines within the limits of `convex-compat.md` section 8.4.
#[derive(Default)]
pub(crate) struct Log {
    lines: Vec<LogLine>,
    overflown: bool,
}

impl Log {
    fn push(&mut self, level: LogLevel, mut messages: Vec<String>) {
        if self.overflown {
            return;
        }
        if self.lines.len() as u64 >= limits::LOG_LINES {
            self.overflown = true;
            let text = format!(
                "Log overflow (maximum {}). Remaining log lines omitted.",
                limits::LOG_LINES
            );
            let messages = vec![text];
            let (level, logged) = (LogLevel::Error, Logged::AtEnd);
            self.lines.push(LogLine { level, messages, truncated: false, logged });
            return;
        }
        let truncated = web::console::truncate(&mut messages, limits::LOG_LINE_BYTES);
        self.lines.push(LogLine { level, messages, truncated, logged: Logged::AtEnd });
    }

    /// The host's own lines, however many there are already.
    pub(crate) fn append(&mut self, lines: Vec<LogLine>) {
        self.lines.extend(lines);
    }

    /// The lines, in order.
    pub(crate) fn into_lines(self) -> Vec<LogLine> {
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stops_at_its_limit_and_says_so() {
        let mut log = Log::default();
        for line in 0..300 {
            log.push(LogLevel::Log, vec![line.to_string()]);
        }
        let lines = log.into_lines();
        assert_eq!(lines.len() as u64, limits::LOG_LINES + 1);
        assert_eq!(
            lines[256].client_text().lines().next(),
            Some("[ERROR] Log overflow (maximum 256). Remaining log lines omitted.")
        );
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut log = Log::default();
        log.push(LogLevel::Log, vec!["é".repeat(20_000), "gone".to_owned()]);
        let line = &log.into_lines()[0];
        assert!(line.truncated);
        assert_eq!(line.messages.len(), 1);
        assert_eq!(line.messages[0].len() as u64, limits::LOG_LINE_BYTES);
    }
}
