//! A call that ran before, run again: in the code of then, or in other code.
//!
//! In: the call and what the host decided for it then. Out: what it came to, what it read and would
//! have written. Invariant: the snapshot of then answers every read, and nothing is committed,
//! cached, or kept of the code that was brought.

use std::sync::Arc;

use database::commit::{Database, Options};
use database::deployment::{Analysis, Bundle, Environment, Tier};
use database::error::{Refusal, UserError};
use database::record::{Actions, Call, FunctionKind};
use database::recording::{Replay, Replayed, Touched, ranges};
use database::scheduling;
use database::snapshot::{Deployment, Snapshot};

use crate::builder::{self, Built, Helper, Mode, Source};
use crate::code::Code;
use crate::engine::Engine;
use crate::execution::Imported;
use crate::host::{Shared, nothing_deployed};
use crate::push::{self, Circumstances, Pace};
use crate::{call, debug, inline};

/// Runs it.
///
/// # Errors
/// See [`database::record::Functions::replay`].
pub(crate) fn run(
    shared: &Shared,
    with: (&Helper, &dyn Actions),
    again: Replay,
) -> Result<Replayed, Refusal> {
    let Replay { call, given, committed, bundle, debugger } = again;
    let snapshot = shared.database.snapshot_at(given.snapshot)?;
    if snapshot.ts != given.snapshot {
        return Err(bad(
            "UnknownSnapshot",
            format!(
                "The call read the snapshot at {}, which this host never had: it is another \
                 host's, or the host began anew since.",
                given.snapshot
            ),
        ));
    }
    let running = snapshot.deployment.as_ref().map(|then| &then.bundle);
    let brought = bundle.map(|bundle| as_imported(bundle, running));
    let code = match brought {
        Some(bundle) if running.is_none_or(|running| bundle != **running) => {
            analyzed(bundle, with, &snapshot)?
        }
        _ => shared.code_of(&snapshot).ok_or_else(nothing_deployed)?,
    };
    check(&code, &call, &snapshot)?;
    if call.own_job().is_some_and(|job| !scheduling::is_ready(&snapshot, job)) {
        return Err(bad("UnknownSnapshot", "The job did not wait at that snapshot.".to_owned()));
    }
    let snapshot = as_if_deployed(&code, snapshot)?;
    let code = if debugger.is_some() { evaluated(&code, with.0)? } else { code };
    let (outcome, transaction) = call::apart(|watched| {
        let mut engine = Engine::new(Arc::clone(&code));
        // Dropped before the engine.
        let _debugging = debugger.clone().map(|wire| debug::begin(engine.isolate(), wire));
        let (given, snapshot) = (given.clone(), Arc::clone(&snapshot));
        call::attempt_again((shared, watched), &mut engine, &call, given, snapshot)
    })?;
    let touched = match transaction {
        Some(transaction) => Touched::by(transaction, committed),
        None => Touched { reads: ranges(&snapshot, &outcome.reads), writes: Vec::new() },
    };
    let mut outcome = outcome;
    outcome.result = outcome.result.map(|text| call::stamped(text, committed));
    Ok(Replayed { outcome, touched, code: code.analysis.version })
}

/// A bundle with the clock and the randomness that modules of then found at import: they are not
/// what is being compared.
fn as_imported(mut bundle: Bundle, running: Option<&Arc<Bundle>>) -> Bundle {
    if let Some(running) = running {
        bundle.import_time_ms = running.import_time_ms;
        bundle.import_seed = running.import_seed;
    }
    bundle
}

/// Code that was not deployed, in the environment of then.
fn analyzed(
    bundle: Bundle,
    (helper, actions): (&Helper, &dyn Actions),
    snapshot: &Snapshot,
) -> Result<Arc<Code>, Refusal> {
    let schema = bundle.schema.clone();
    let bundle = Arc::new(Bundle { schema, ..inline::with(bundle, Vec::new()) });
    let running = snapshot.deployment.as_deref();
    let (environment, pace) = (snapshot.environment(), Pace::Whole);
    let given = Circumstances { helper, actions, environment, running, pace };
    let analysis = push::analyze(&given, &bundle)
        .map_err(|error| Refusal::Bad(UserError::new(error.code, error.message)))?;
    Ok(Arc::new(Code::new(bundle, analysis)))
}

/// The snapshot as it were if this code had been deployed then: with its tables and indexes, and
/// with its functions, which can be scheduled and have handles.
fn as_if_deployed(code: &Code, snapshot: Arc<Snapshot>) -> Result<Arc<Snapshot>, Refusal> {
    let then = snapshot.deployment.as_ref();
    if then.is_some_and(|then| then.analysis.version == code.analysis.version) {
        return Ok(snapshot);
    }
    let now = snapshot.ts.0 + 1;
    let database = Database::fork(snapshot, &Options::at(now));
    let (bundle, analysis) = (Arc::clone(&code.bundle), Arc::clone(&code.analysis));
    database.activate(Deployment { bundle, analysis }, now).map_err(|error| {
        let text = format!(
            "The schema of the code to run does not fit the documents of then: {}",
            error.message
        );
        bad(error.code, text)
    })?;
    Ok(database.newest())
}

/// The same code with nothing evaluated ahead: a debugger knows no script of a startup snapshot.
fn evaluated(code: &Code, helper: &Helper) -> Result<Arc<Code>, Refusal> {
    let nothing = Bundle::default();
    let source = Source { definition: "", bundle: &nothing, environment: Imported::new() };
    let Built { blob, .. } = builder::build(helper, &[source], Mode::Evaluate)
        .map_err(|why| Refusal::Broken(format!("the prelude alone cannot be built: {why:?}")))?;
    let bare = |_: &Analysis| Tier::Evaluate { reason: None, blob: Arc::clone(&blob) };
    let analysis = code.analysis.with_tiers(bare);
    Ok(Arc::new(Code::new(Arc::clone(&code.bundle), Arc::new(analysis))))
}

/// Whether there is something to run again.
fn check(code: &Arc<Code>, call: &Call, snapshot: &Snapshot) -> Result<(), Refusal> {
    let then = snapshot.deployment.as_ref().map(|then| &then.analysis);
    let before = then.and_then(|analysis| analysis.function(&call.path));
    match (code.analysis.function(&call.path), before) {
        (Some(function), _) if function.kind == FunctionKind::Action => Err(action(call)),
        (None, Some(function)) if function.kind == FunctionKind::Action => Err(action(call)),
        (None, Some(_)) => Err(gone(code, call)),
        // A call of what did not exist is answered as it was then.
        _ => Ok(()),
    }
}

fn action(call: &Call) -> Refusal {
    bad(
        "NotReplayable",
        format!(
            "{} is an action: it reaches the outside world, which no snapshot holds, so running it \
         again would be another run. The queries and mutations that it called are calls of their \
         own: concave calls --request {}",
            call.path, call.request_id
        ),
    )
}

fn gone(code: &Arc<Code>, call: &Call) -> Refusal {
    let path = &call.path;
    let modules = code.of(&path.component).map(|part| &part.bundle.modules);
    let module = modules.and_then(|modules| modules.get(&path.module));
    let why = match module.map(|module| module.environment) {
        None => format!("it has no module {}", path.module),
        Some(Environment::Node) => format!("its module {} is for Node.js now", path.module),
        Some(Environment::Isolate) => {
            format!("its module {} does not export {} as a function", path.module, path.export)
        }
    };
    let text = format!(
        "The code to run has no {path}{}: {why}. Run what was deployed then: --old.",
        path.whereabouts()
    );
    bad("FunctionGone", text)
}

fn bad(code: &'static str, text: String) -> Refusal {
    Refusal::Bad(UserError::new(code, text))
}
