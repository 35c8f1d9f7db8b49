//! Stop 3 of 8: one call to its end: begin, run, commit, retry with a reason.
//!
//! Before: `server/session.rs` or `http.rs` made the call; `pool.rs` gave it a worker. After:
//! `run.rs` runs the JavaScript. In: a [`Call`]. Out: an [`Outcome`]. Invariant: a mutation's
//! outcome is that of an attempt that committed, or of one that wrote nothing; after
//! [`OPTIMISTIC_ATTEMPTS`] conflicts it runs while holding its turn in the commit order, so
//! contention costs time, never starvation.

use std::sync::Arc;

use database::commit::{Committed, Conflict, Rejected, Turn, Writer};
use database::error::{Refusal, UserError};
use database::json;
use database::key::Interval;
use database::probe::{Probe, Site};
use database::read_set::ReadSet;
use database::record::{
    Call, CallRecord, Expect, FunctionError, FunctionKind, Given, Observed, Outcome, Timestamp,
};
use database::requests::{Recorded, RequestAnswer};
use database::scheduling;
use database::snapshot::{CATALOG, Snapshot};
use database::transaction::Transaction;

use crate::check;
use crate::code::Code;
use crate::engine::Engine;
use crate::execution::{Execution, Visits};
use crate::files::Files;
use crate::host::{Shared, cache_key};
use crate::kept::{Mode, Traces, Use};
use crate::reuse::Standing;
use crate::run::Target;
use crate::syscall::{elsewhere, probe};
use crate::twice;
use crate::warnings;
use crate::watchdog::{Watchdog, Watched};

/// Attempts that may conflict before the call takes its turn.
const OPTIMISTIC_ATTEMPTS: usize = 2;

/// How a worker's run of a job ended.
pub(crate) enum Ran {
    /// With this answer.
    Done(Box<Result<Outcome, Refusal>>),
    /// Another version was pushed meanwhile: run it again with that version's code.
    Moved(Box<Call>),
}

/// Runs `call` with the engine's code.
pub(crate) fn run(
    shared: &Shared,
    engine: &mut Engine,
    watched: &Watched,
    call: Call,
    snapshot: Arc<Snapshot>,
) -> Ran {
    let code = Arc::clone(engine.code());
    let function = match check::find(&code.analysis, &call) {
        Ok(function) => function,
        Err(error) => return done(Ok(failed(&call, &code.given(&snapshot), error))),
    };
    let attempts = Attempts { shared, watched, function_kind: function.kind };
    match function.kind {
        FunctionKind::Query => {
            // An equal question of somebody else may have been answered while this one waited.
            let key = cache_key(&call, code.analysis.version);
            if let Some(found) = shared.cached(&key, snapshot.ts) {
                return done(Ok(found));
            }
            let outcome = Arc::new(attempts.query(engine, &call, snapshot));
            shared.remember(&call, &outcome);
            done(Ok(Arc::unwrap_or_clone(outcome)))
        }
        FunctionKind::Mutation => attempts.mutation(engine, call),
        FunctionKind::Action => {
            let why = format!("{} is an action, and was queued for an isolate", call.path);
            done(Err(Refusal::Broken(why)))
        }
    }
}

/// Runs `call` again with what was decided then, on a thread and in an isolate of its own; nothing
/// is committed and nothing is cached.
///
/// # Errors
/// The system has no thread to give, or the host hit a bug.
pub(crate) fn rerun(
    shared: &Shared,
    code: &Arc<Code>,
    call: &Call,
    given: &Given,
    snapshot: Arc<Snapshot>,
) -> Result<Outcome, Refusal> {
    apart(|watched| again((shared, watched), code, call, given, snapshot))
}

/// Runs `call` again as [`rerun`] does, and finds the author's line at which `probe` came to hold.
///
/// # Errors
/// As [`rerun`].
pub(crate) fn locate(
    shared: &Shared,
    code: &Arc<Code>,
    past: (&Call, &Given, Arc<Snapshot>),
    probe: &Probe,
) -> Result<Option<Site>, Refusal> {
    let (call, given, snapshot) = past;
    if probe.holds(&Transaction::begin(Arc::clone(&snapshot), given, false)) {
        // What every call reads before its first line: code and schema.
        return Ok(None);
    }
    apart(|watched| {
        probe::arm(probe.clone());
        again((shared, watched), code, call, given, snapshot);
        probe::disarm()
    })
}

/// Runs `work` on a thread that may hold an isolate of its own, and whose calls have their limits
/// of time.
pub(crate) fn apart<R: Send>(work: impl FnOnce(&Watched) -> R + Send) -> Result<R, Refusal> {
    let broken = |why: &str| Refusal::Broken(format!("cannot run the call again: {why}"));
    let watchdog = Watchdog::start().map_err(|e| broken(&e.to_string()))?;
    let watched_work = || {
        let watched = Watched::this_thread();
        let _guard = watchdog.guard(&watched);
        work(&watched)
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(crate::pool::STACK_BYTES);
        let thread =
            builder.spawn_scoped(scope, watched_work).map_err(|e| broken(&e.to_string()))?;
        thread.join().map_err(|_| broken("it panicked"))
    })
}

fn again(
    at: (&Shared, &Watched),
    code: &Arc<Code>,
    call: &Call,
    given: &Given,
    snapshot: Arc<Snapshot>,
) -> Outcome {
    let mut engine = Engine::new(Arc::clone(code));
    attempt_again(at, &mut engine, call, given.clone(), snapshot).0
}

/// Runs `call` with what was decided for it before; nothing is committed and nothing is cached.
/// Gives also what it would have committed; `None` where it failed.
pub(crate) fn attempt_again(
    (shared, watched): (&Shared, &Watched),
    engine: &mut Engine,
    call: &Call,
    given: Given,
    snapshot: Arc<Snapshot>,
) -> (Outcome, Option<Transaction>) {
    let code = Arc::clone(engine.code());
    let function = match check::find(&code.analysis, call) {
        Ok(function) => function,
        Err(error) => return (failed(call, &given, error), None),
    };
    let attempts = Attempts { shared, watched, function_kind: function.kind };
    let (attempt, _) = attempts.once(engine, call, (given, snapshot), Mode::Fresh);
    let Attempt { outcome, to_commit, .. } = attempt;
    (outcome, to_commit.map(|(transaction, _)| transaction))
}

fn done(answer: Result<Outcome, Refusal>) -> Ran {
    Ran::Done(Box::new(answer))
}

/// Somebody canceled the job before it began, or it has run.
fn no_longer_waits(call: &Call) -> Refusal {
    let text = format!("The scheduled run of {} was canceled before it began.", call.path);
    Refusal::Bad(UserError::new("JobNotPending", text))
}

/// The answer of a request that committed when it was delivered before.
fn done_before(recorded: &Recorded, given: Given, retries: Vec<Conflict>) -> Ran {
    let RequestAnswer { result, log_lines } = recorded.answer.clone();
    done(Ok(Outcome {
        result: Ok(stamped(result, recorded.ts)),
        kind: FunctionKind::Mutation,
        log_lines,
        ts: recorded.ts,
        cached: true,
        retries,
        ..Outcome::of_nothing(given)
    }))
}

/// A result with the commit's timestamp where it has `db.vars.commitTs`.
pub(crate) fn stamped(text: Arc<str>, ts: Timestamp) -> Arc<str> {
    if !text.contains("$commitTs") {
        return text;
    }
    match json::decode(&text) {
        Ok(mut value) => {
            value.fill_placeholders(ts);
            json::encode(&value).into()
        }
        Err(_) => text,
    }
}

/// What every attempt of one call needs.
struct Attempts<'a> {
    shared: &'a Shared,
    watched: &'a Watched,
    function_kind: FunctionKind,
}

/// One attempt's end.
struct Attempt {
    outcome: Outcome,
    /// `None` where the function failed.
    to_commit: Option<(Transaction, Files)>,
    /// What it did with functions that run elsewhere.
    visits: Visits,
}

impl Attempts<'_> {
    fn query(&self, engine: &mut Engine, call: &Call, snapshot: Arc<Snapshot>) -> Outcome {
        let given = self.shared.given(engine.code(), &snapshot);
        self.attempt(engine, call, given, snapshot).outcome
    }

    fn mutation(&self, engine: &mut Engine, call: Call) -> Ran {
        let mut conflicts: Vec<Conflict> = Vec::new();
        loop {
            engine.ensure_ready(&call.path);
            let patient = conflicts.len() >= OPTIMISTIC_ATTEMPTS;
            let turn = patient.then(|| self.shared.database.turn());
            let snapshot = self.shared.database.newest();
            let serving = snapshot.deployment.as_ref().map(|d| d.analysis.version);
            if serving != Some(engine.code().analysis.version) {
                return Ran::Moved(Box::new(call));
            }
            let given = self.shared.given(engine.code(), &snapshot);
            if let Some(done) = call.once.and_then(|request| snapshot.answered(request)) {
                return done_before(done, given, conflicts);
            }
            if call.own_job().is_some_and(|job| !scheduling::is_ready(&snapshot, job)) {
                return done(Err(no_longer_waits(&call)));
            }
            let Attempt { mut outcome, to_commit, .. } =
                self.attempt(engine, &call, given, snapshot);
            outcome.retries.clone_from(&conflicts);
            let Some((mut transaction, files)) = to_commit else { return done(Ok(outcome)) };
            if let Some(refusal) = self.shared.database.no_room_for(&transaction) {
                return done(Err(refusal));
            }
            let kept = match files.keep(&transaction) {
                Ok(kept) => kept,
                Err(error) => {
                    let UserError { message, data, .. } = error;
                    let result = Err(FunctionError { message, data });
                    return done(Ok(Outcome { result, ..outcome }));
                }
            };
            if let (Some(request), Ok(result)) = (call.once, &outcome.result) {
                let (result, log_lines) = (result.clone(), outcome.log_lines.clone());
                transaction.once(request, RequestAnswer { result, log_lines });
            }
            match self.commit(&call, transaction, turn) {
                Ok(committed) => {
                    kept.committed();
                    outcome.ts = committed.ts;
                    let result = outcome.result.map(|text| stamped(text, committed.ts));
                    return done(Ok(Outcome { result, ..outcome }));
                }
                Err(rejected) => {
                    kept.discard();
                    let conflict = rejected.conflict;
                    assert!(!patient, "a call that holds its turn cannot conflict: {conflict}");
                    conflicts.push(conflict);
                }
            }
            if engine.is_spent() {
                return Ran::Moved(Box::new(call));
            }
        }
    }

    fn commit(
        &self,
        call: &Call,
        transaction: Transaction,
        turn: Option<Turn<'_>>,
    ) -> Result<Committed, Box<Rejected>> {
        let writer = Writer::of(CallRecord::new(call, transaction.given()));
        let now = self.shared.world.now();
        match turn {
            Some(turn) => turn.commit(transaction, now, writer),
            None => self.shared.database.commit(transaction, now, writer),
        }
    }

    /// Runs the function at `snapshot`: where a kept context served it and something threw, or the
    /// call is a sample, once more in fresh contexts, and that execution counts.
    fn attempt(
        &self,
        engine: &mut Engine,
        call: &Call,
        given: Given,
        snapshot: Arc<Snapshot>,
    ) -> Attempt {
        let at = (given, snapshot);
        let code = Arc::clone(engine.code());
        if self.shared.twice {
            return self.attempt_twice(engine, call, at);
        }
        let (mut first, traces) = self.once(engine, call, at.clone(), Mode::MayKeep);
        first.outcome.remark = code.take_news();
        if traces.served.is_empty() {
            self.shared.consider(&code, &call.path);
            return first;
        }
        let kept = standings(&code, &traces);
        let sampled = kept.iter().filter(|standing| standing.is_sampled()).count();
        // An isolate that was stopped decides nothing again: the reason is time or memory.
        if engine.is_spent() || (sampled == 0 && !traces.threw) {
            return first;
        }
        let (mut fresh, _) = self.once(engine, call, at, Mode::Fresh);
        fresh.outcome.remark = first.outcome.remark.clone();
        // What it finds frozen a function may take for an error of its own, and go on.
        let is_caught = traces.threw && first.outcome.result.is_ok();
        let differs = difference(&first.outcome, &fresh.outcome).filter(|_| !is_caught);
        if let Some(what) = differs {
            let why = differed(call, what, &first.outcome);
            kept.iter().for_each(|standing| standing.refuse(why.clone()));
            fresh.outcome.remark = Some(why.into());
            // Others of its results may have come to something else as well.
            self.shared.database.cache().clear();
        } else if traces.threw {
            kept.iter().for_each(|standing| standing.threw());
        }
        fresh
    }

    /// Runs the function in a context that other calls have used, and in a fresh one, which counts.
    /// Where the two differ a third execution tells whether the function is deterministic at all.
    fn attempt_twice(
        &self,
        engine: &mut Engine,
        call: &Call,
        at: (Given, Arc<Snapshot>),
    ) -> Attempt {
        let code = Arc::clone(engine.code());
        let part = code.of(&call.path.component);
        let own = part.and_then(|part| part.standings.get(&call.path.module));
        own.iter().for_each(|standing| standing.try_it());
        let (mut first, mut traces) = self.once(engine, call, at.clone(), Mode::MayTry);
        if first.visits == Visits::Refused {
            let why = "it calls functions that run elsewhere, and those run once";
            standings(&code, &traces).iter().for_each(|standing| standing.refuse(why.to_owned()));
            (first, traces) = self.once(engine, call, at.clone(), Mode::Fresh);
        }
        if first.visits != Visits::None {
            return first;
        }
        // An isolate that was stopped decides nothing again: the reason is time or memory.
        if engine.is_spent() {
            return first;
        }
        let (mut fresh, _) = self.once(engine, call, at.clone(), Mode::Fresh);
        let other_error = || twice::difference(call, &first.outcome, &fresh.outcome);
        let what = difference(&first.outcome, &fresh.outcome);
        let Some(what) = what.or_else(|| other_error().map(|_| "its error")) else { return fresh };
        let kept = standings(&code, &traces);
        if kept.iter().any(|standing| !standing.is_tried()) {
            let why = differed(call, what, &first.outcome);
            kept.iter().for_each(|standing| standing.refuse(why.clone()));
            fresh.outcome.remark = Some(why.into());
            return fresh;
        }
        kept.iter().for_each(|standing| standing.refuse(differed(call, what, &first.outcome)));
        let other = match kept.is_empty() || engine.is_spent() {
            true => first,
            false => self.once(engine, call, at, Mode::Fresh).0,
        };
        let found = twice::difference(call, &other.outcome, &fresh.outcome);
        fresh.outcome.remark = found.map(Into::into);
        fresh
    }

    /// Runs the function once.
    fn once(
        &self,
        engine: &mut Engine,
        call: &Call,
        (given, snapshot): (Given, Arc<Snapshot>),
        mode: Mode,
    ) -> (Attempt, Traces) {
        let code = Arc::clone(engine.code());
        let read_only = self.function_kind == FunctionKind::Query;
        let mut transaction = Transaction::begin(Arc::clone(&snapshot), &given, read_only);
        if let Some(budget) = self.shared.budget {
            transaction.enter(Some(budget));
        }
        let own_job = call.own_job().filter(|_| !read_only);
        if let Some(job) = own_job {
            let waited = transaction.begin_run(job);
            assert!(waited, "a job runs at a snapshot in which it waits to be run");
        }
        let function = code.analysis.function(&call.path).expect("it was found to run");
        if let Err(error) = check::arguments(&snapshot, function, &call.path, &call.args) {
            let kind = self.function_kind;
            let outcome = Outcome { kind, ..failed(call, &given, error) };
            let attempt = Attempt { outcome, to_commit: None, visits: Visits::None };
            return (attempt, Traces::default());
        }
        let target = Target {
            path: call.path.clone(),
            kind: function.kind,
            args: Arc::clone(&call.args.json),
            seed: given.seed,
            now: given.now,
        };
        let mut execution = Box::new(Execution::new(
            transaction,
            Arc::clone(&code),
            call.clone(),
            given.clone(),
            self.shared.storage.clone(),
        ));
        execution.elsewhere.clone_from(&self.shared.elsewhere);
        execution.enter(call.path.clone(), function.kind).expect("the first call has depth one");
        self.watched.begin(engine.stop_switch());
        let ran = engine.run(execution, &target, mode);
        self.watched.end();
        let mut execution = *ran.execution;
        if let Some(job) = own_job {
            execution.transaction.end_run(job);
        }
        let (mut refused, mut result_bytes) = (false, None);
        let raw = execution.elsewhere_threw.take();
        let ended = ran.result.map_err(|error| elsewhere::as_thrown(error, raw.as_deref()));
        let result = ended.and_then(|text| {
            let checked = check::result(&snapshot, function, &call.path, &text);
            refused = checked.is_err();
            let returned =
                checked.map_err(|e| FunctionError { message: e.message, data: e.data })?;
            result_bytes = Some(returned.bytes);
            Ok(returned.text)
        });
        execution.log.append(warnings::of_values(&call.args, result_bytes));
        execution.log.append(warnings::of_usage(&execution.transaction.usage()));
        let mut attempt = finish(self.function_kind, result, execution, given);
        if refused {
            // A table that ids in the result belong to may be created later.
            Arc::make_mut(&mut attempt.outcome.reads).insert(CATALOG, Interval::all());
        }
        (attempt, ran.traces)
    }
}

/// Where the modules stand whose contexts served an attempt.
fn standings<'a>(code: &'a Arc<Code>, traces: &Traces) -> Vec<&'a Standing> {
    let standing = |of: &Use| code.parts().nth(of.part)?.standings.get(&of.module);
    traces.served.iter().filter_map(standing).collect()
}

/// In what two executions of one call differ. Where both threw they do not: a frozen context may
/// throw earlier (`this.name = …` in an error's constructor), and a fresh one decides all errors.
fn difference(one: &Outcome, other: &Outcome) -> Option<&'static str> {
    if one.result.is_err() && other.result.is_err() {
        return None;
    }
    let equal = [
        ("its result", one.result == other.result),
        ("its log lines", one.log_lines == other.log_lines),
        ("what it wrote", one.writes_digest == other.writes_digest),
        ("what it read", one.reads == other.reads),
        ("what it looked at", one.observed == other.observed && one.usage == other.usage),
        ("where its page ended", one.journal == other.journal),
    ];
    equal.iter().find(|(_, equal)| !equal).map(|(what, _)| *what)
}

/// Why contexts of the modules that a call ran in are not kept any more.
fn differed(call: &Call, what: &str, kept: &Outcome) -> String {
    let threw = kept.result.as_ref().err().and_then(|error| error.message.lines().next());
    let how = threw.map(|text| format!(" There it threw: {text}.")).unwrap_or_default();
    format!(
        "{} behaved otherwise in a context that earlier calls had used: {what} differed.{how} The \
         execution in a fresh context counts. From now on each call of that module has a fresh \
         context, which is slower; keep what a call changes out of module-level variables and \
         objects.",
        call.path
    )
}

fn finish(
    kind: FunctionKind,
    result: Result<String, FunctionError>,
    execution: Execution,
    given: Given,
) -> Attempt {
    let Execution { transaction, observed, log, journal, files, visits, .. } = execution;
    let outcome = Outcome {
        kind,
        log_lines: log.into_lines().into(),
        ts: given.snapshot,
        reads: Arc::new(transaction.reads().clone()),
        writes_digest: transaction.writes_digest(),
        observed,
        usage: transaction.usage(),
        journal,
        cached: false,
        retries: Vec::new(),
        remark: None,
        given,
        result: result.map(Into::into),
    };
    let to_commit = outcome.result.is_ok().then_some((transaction, files));
    Attempt { outcome, to_commit, visits }
}

/// The outcome of a call that no JavaScript ran for.
pub(crate) fn failed(call: &Call, given: &Given, error: UserError) -> Outcome {
    let kind = match call.expect {
        Expect::Kind(kind) => kind,
        Expect::Any => FunctionKind::Query,
    };
    // What is checked before a call is in the catalog: the deployment, and the tables that ids of
    // arguments belong to. Which functions there are depends on who asks.
    let mut reads = ReadSet::default();
    reads.insert(CATALOG, Interval::all());
    Outcome {
        result: Err(FunctionError { message: error.message, data: error.data }),
        kind,
        reads: Arc::new(reads),
        observed: Observed { identity: true, ..Observed::default() },
        ..Outcome::of_nothing(given.clone())
    }
}
