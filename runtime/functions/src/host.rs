//! The host: the `functions` crate's implementation of [`Functions`].
//!
//! In: pushes and calls from the server. Out: analyses and outcomes. Invariant: a cached answer is
//! the one a fresh execution at its timestamp would give; equal queries run once, as long as
//! nothing that they read is written between their snapshots.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError, Weak};

use database::cache::{Asker, CacheKey};
use database::commit::Database;
use database::deployment::{Analysis, Bundle, CodeVersion, Module, Tier};
use database::durability::NotDurable;
use database::environment::{Change, Variables};
use database::error::{PushError, Refusal, UserError};
use database::limits;
use database::probe::{Probe, Site};
use database::record::{
    Actions, Call, Caller, Expect, FunctionKind, FunctionPath, Functions, Given, Outcome, Reply,
    Timestamp, World,
};
use database::recording::{Replay, Replayed};
use database::snapshot::{Deployment, Snapshot};
use database::work::Budget;
use storage::Storage;

use crate::action;
use crate::builder::Helper;
use crate::call;
use crate::check;
use crate::code::Code;
use crate::elsewhere::Elsewhere;
use crate::inline;
use crate::pool::{self, Job, Pool};
use crate::push::{self, Circumstances, Pace};
use crate::replay;
use crate::reuse::{self, Purity, Ran, Reuse};

/// What a host is made with.
pub struct Config {
    /// Isolate threads; cores are a good number.
    pub threads: usize,
    /// More of them, which run calls only while others wait for functions elsewhere, or are inside
    /// a built-in function that does not see that its call was stopped.
    pub spare_threads: usize,
    /// How to start the builder's process.
    pub helper: Helper,
    /// Who runs actions.
    pub actions: Arc<dyn Actions>,
    /// Where files are kept.
    pub storage: Storage,
    /// Who proves that contexts of a module may serve more than one call; `None`: only those serve
    /// more whose module asks for it.
    pub purity: Option<Arc<dyn Purity>>,
    /// Whether a push after the first serves before its snapshot is made: for who waits for it to
    /// serve a save, not for who has traffic, whose calls are slow until then.
    pub answers_at_once: bool,
}

/// What a host has that runs on another one's threads.
pub struct Neighbour {
    /// Its data.
    pub database: Arc<Database>,
    /// Its clock and randomness.
    pub world: Arc<dyn World>,
    /// Who runs its actions.
    pub actions: Arc<dyn Actions>,
    /// Where its files are kept.
    pub storage: Storage,
    /// Where functions run that are not in its deployment.
    pub elsewhere: Option<Arc<dyn Elsewhere>>,
    /// What one call may use, where that is less than the table says.
    pub budget: Option<Budget>,
    /// Whether each query and mutation is executed a second time, in fresh contexts: where the two
    /// differ the outcome says so ([`Outcome::remark`]).
    pub twice: bool,
}

/// The functions of a deployment, running.
pub struct Host {
    shared: Arc<Shared>,
    pool: Arc<RwLock<Pool>>,
    helper: Helper,
    actions: Arc<dyn Actions>,
    /// The code of its neighbours.
    library: Arc<Library>,
    /// Itself, for what it starts when a call ends.
    this: Weak<Self>,
}

/// What the host and its workers share.
pub(crate) struct Shared {
    pub(crate) database: Arc<Database>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) storage: Storage,
    /// Where functions run that tests hand in.
    pub(crate) elsewhere: Option<Arc<dyn Elsewhere>>,
    /// What one call may use, where that is less than the table says.
    pub(crate) budget: Option<Budget>,
    /// Whether each call is executed a second time.
    pub(crate) twice: bool,
    /// Of a neighbour: code that it shares with others.
    library: Option<Arc<Library>>,
    purity: Option<Arc<dyn Purity>>,
    answers_at_once: bool,
    helper: Helper,
    codes: RwLock<Codes>,
    waiting: Mutex<HashMap<CacheKey, Vec<Follower>>>,
    /// Calls at snapshots whose code came without what V8 wrote, while that is made anew.
    unmade: Mutex<BTreeMap<CodeVersion, Vec<Asked>>>,
    /// Held by whoever makes a snapshot that a push did not wait for.
    completing: Mutex<()>,
}

/// Code by version; the newest few.
#[derive(Default)]
struct Codes {
    newest: Option<Arc<Code>>,
    by_version: BTreeMap<CodeVersion, Arc<Code>>,
}

/// Code by version that neighbours share: what was found out about a module holds for all of them.
type Library = Mutex<BTreeMap<CodeVersion, Arc<Code>>>;

/// Versions in a library.
const LIBRARY_KEPT: usize = 64;

/// How many versions stay loaded: the newest, the one before, and what `at` queries ask for.
const VERSIONS_KEPT: usize = 4;

/// A call that is to be started.
struct Asked {
    call: Call,
    snapshot: Arc<Snapshot>,
    reply: Reply,
}

/// A query that waits for an equal one that runs.
struct Follower {
    call: Call,
    code: Arc<Code>,
    snapshot: Arc<Snapshot>,
    reply: Reply,
}

impl Host {
    /// Starts the workers.
    ///
    /// # Errors
    /// The system has no threads to give.
    pub fn start(
        config: Config,
        database: Arc<Database>,
        world: Arc<dyn World>,
    ) -> std::io::Result<Arc<Self>> {
        crate::platform::initialize();
        let Config { threads, spare_threads, helper, actions, storage, purity, answers_at_once } =
            config;
        let shared = Arc::new(Shared {
            database,
            world,
            storage,
            elsewhere: None,
            budget: None,
            twice: false,
            library: None,
            purity,
            answers_at_once,
            helper: helper.clone(),
            codes: RwLock::default(),
            waiting: Mutex::default(),
            unmade: Mutex::default(),
            completing: Mutex::default(),
        });
        let (pool, library) =
            (Arc::new(RwLock::new(Pool::start(threads, spare_threads, &shared)?)), Arc::default());
        Ok(Arc::new_cyclic(|this| {
            let this = this.clone();
            Self { shared, pool, helper, actions, library, this }
        }))
    }

    /// A host of another database on the threads of this one: it costs next to nothing, and ends
    /// with its last use.
    pub fn beside(&self, neighbour: Neighbour) -> Arc<Self> {
        let Neighbour { database, world, actions, storage, elsewhere, budget, twice } = neighbour;
        let (pool, helper) = (Arc::clone(&self.pool), self.helper.clone());
        let library = Arc::clone(&self.library);
        let shared = Arc::new(Shared {
            database,
            world,
            storage,
            elsewhere,
            budget,
            twice,
            library: Some(Arc::clone(&library)),
            // A module is proved pure over many calls; a neighbour has few.
            purity: None,
            answers_at_once: false,
            helper: helper.clone(),
            codes: RwLock::default(),
            waiting: Mutex::default(),
            unmade: Mutex::default(),
            completing: Mutex::default(),
        });
        Arc::new_cyclic(|this| {
            let this = this.clone();
            Self { shared, pool, helper, actions, library, this }
        })
    }

    /// Finishes what is queued and ends the threads; later calls are refused.
    pub fn shutdown(&self) {
        self.pool.write().unwrap_or_else(PoisonError::into_inner).shut_down();
    }

    /// Runs a call again with what the host decided then, without cache and without commit: the
    /// outcome must be equal (design, section 6, point 2).
    ///
    /// # Errors
    /// The snapshot is no longer kept.
    pub fn rerun(&self, call: &Call, given: &Given) -> Result<Outcome, Refusal> {
        let snapshot = self.shared.database.snapshot_at(given.snapshot)?;
        let code = self.shared.code_of(&snapshot).ok_or_else(nothing_deployed)?;
        call::rerun(&self.shared, &code, call, given, snapshot)
    }

    /// What runs while the modules of the newest deployment are imported, the app's first.
    pub fn ran_at_import(&self) -> Vec<Ran> {
        let newest = self.shared.newest_code();
        newest.map(|code| reuse::ran(&self.helper, &code).clone()).unwrap_or_default()
    }

    /// The newest deployment as it is served now: with its snapshot, once that is made.
    pub fn newest(&self) -> Option<Arc<Analysis>> {
        self.shared.newest_code().map(|code| Arc::clone(&code.analysis))
    }

    /// How the contexts of the newest deployment's modules are used, by component and module.
    pub fn reuse(&self) -> BTreeMap<String, Reuse> {
        let Some(code) = self.shared.newest_code() else { return BTreeMap::new() };
        let of_part = |part: &Arc<Code>| {
            let unit =
                part.part.checked_sub(1).and_then(|at| code.analysis.components.units.get(at));
            let prefix = unit.map(|unit| format!("{}/", unit.definition)).unwrap_or_default();
            let shown = part.standings.shown().into_iter();
            shown.map(|(path, reuse)| (format!("{prefix}{path}"), reuse)).collect::<Vec<_>>()
        };
        code.parts().flat_map(of_part).collect()
    }

    /// Makes a deployment the running one, with the environment that its modules saw.
    fn activate_with(
        &self,
        deployment: Deployment,
        changes: &[Change],
    ) -> Result<Timestamp, PushError> {
        let Deployment { bundle, analysis } = &deployment;
        let code = self.shared.load(bundle, analysis);
        self.shared.keep(&code);
        let now = self.shared.world.now();
        let ts = self.shared.database.activate_with(deployment, changes, now)?;
        self.shared.database.wait_durable(ts)?;
        self.shared.codes_mut().newest = Some(code);
        if let Some(deployment) = &self.shared.database.snapshot().deployment {
            self.actions.deployed(deployment);
        }
        self.complete();
        Ok(ts)
    }

    /// A reply that waits until what a mutation read and wrote is durable. Queries need none: they
    /// read at a durable snapshot.
    fn when_durable(&self, reply: Reply) -> Reply {
        let database = Arc::clone(&self.shared.database);
        Box::new(move |answer| match answer {
            Ok(outcome) => {
                let (ts, told) = (outcome.ts, move |durable: Result<(), NotDurable>| {
                    reply(durable.map(|()| outcome).map_err(Refusal::from));
                });
                database.when_durable(ts, Box::new(told));
            }
            // Nothing ran to its end.
            refused => reply(refused),
        })
    }

    /// Makes the deployment that a database was restored with the running one: its contexts are
    /// made ahead, and whoever runs actions is told.
    ///
    /// # Errors
    /// Its modules cannot be evaluated any more.
    pub fn resume(&self) -> Result<(), PushError> {
        let snapshot = self.shared.database.snapshot();
        let Some(code) = self.shared.made_code_of(&snapshot)? else { return Ok(()) };
        self.shared.codes_mut().newest = Some(code);
        if let Some(deployment) = &snapshot.deployment {
            self.actions.deployed(deployment);
        }
        self.complete();
        Ok(())
    }

    fn analyze_with(
        &self,
        bundle: &Arc<Bundle>,
        environment: &Variables,
        snapshot: &Snapshot,
    ) -> Result<Arc<Analysis>, PushError> {
        let given = Circumstances {
            helper: &self.helper,
            actions: &*self.actions,
            environment,
            running: snapshot.deployment.as_deref(),
            pace: self.pace(),
        };
        push::analyze(&given, bundle)
    }

    /// Whether a push waits for its snapshot: the first one does, and those after one that can have
    /// none do, to say so.
    fn pace(&self) -> Pace {
        if !self.shared.answers_at_once {
            return Pace::Whole;
        }
        match self.shared.newest_code().as_deref().map(|code| &code.analysis.tier) {
            None | Some(Tier::Evaluate { reason: Some(_), .. }) => Pace::Whole,
            Some(_) => Pace::AtOnce,
        }
    }

    /// Makes the snapshot of the running deployment, beside its calls, if it is still to come.
    fn complete(&self) {
        let Some(this) = self.this.upgrade() else { return };
        let newest = self.shared.newest_code();
        if newest.is_none_or(|code| !code.analysis.tier.is_provisional()) {
            return;
        }
        // Where there is no thread for it, each call goes on evaluating its module.
        let _ = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            // One after another: of several pushes in a row only the last is still wanted.
            let _turn = this.shared.completing.lock().unwrap_or_else(PoisonError::into_inner);
            let snapshot = this.shared.database.snapshot();
            let (Some(deployment), Some(code)) = (&snapshot.deployment, this.shared.newest_code())
            else {
                return;
            };
            let version = deployment.analysis.version;
            if code.analysis.version != version || !code.analysis.tier.is_provisional() {
                return;
            }
            let analysis = push::complete(&this.helper, snapshot.environment(), deployment);
            let code = Code::completed(Arc::clone(&deployment.bundle), analysis);
            this.shared.complete(Arc::new(code));
        });
    }

    /// Starts a call of the code of its snapshot; `None`: nothing was deployed then.
    fn start_call(&self, code: Option<Arc<Code>>, asked: Asked) {
        let Asked { call, snapshot, reply } = asked;
        let Some(code) = code else {
            let given = Given { snapshot: snapshot.ts, ..Given::default() };
            return reply(Ok(call::failed(&call, &given, no_functions(&call))));
        };
        let function = match check::find(&code.analysis, &call) {
            Ok(function) => function,
            Err(error) => {
                return reply(Ok(call::failed(&call, &code.given(&snapshot), error)));
            }
        };
        match function.kind {
            FunctionKind::Query => self.query(Follower { call, code, snapshot, reply }),
            FunctionKind::Mutation => {
                let reply = self.when_durable(reply);
                let shared = Arc::clone(&self.shared);
                self.submit(Job { shared, call, code, snapshot, reply });
            }
            FunctionKind::Action => {
                action::run(&*self.actions, (&self.shared, code, snapshot), call, reply);
            }
        }
    }

    /// Starts a call when its code is made. That takes a process, and whoever calls may be a task
    /// that others wait for: a thread waits for it, one for all calls of a version.
    fn call_when_made(&self, version: CodeVersion, asked: Asked) {
        let snapshot = Arc::clone(&asked.snapshot);
        {
            let mut unmade = self.shared.unmade();
            let waiting = unmade.get(&version).map_or(0, Vec::len) as u64;
            if waiting >= limits::MAX_QUEUED_CALLS {
                drop(unmade);
                return (asked.reply)(Err(too_many_unmade()));
            }
            unmade.entry(version).or_default().push(asked);
            if waiting > 0 {
                return;
            }
        }
        let (shared, this) = (Arc::clone(&self.shared), self.this.clone());
        let make = move || {
            let made = catch_unwind(AssertUnwindSafe(|| shared.code_of(&snapshot)));
            // From here on it is at hand, or the next call tries again.
            for asked in shared.take_unmade(version) {
                match (this.upgrade(), &made) {
                    (Some(this), Ok(code)) => this.start_call(code.clone(), asked),
                    (Some(_), Err(_)) => (asked.reply)(Err(pool::broken())),
                    (None, _) => (asked.reply)(Err(pool::shutting_down())),
                }
            }
        };
        if std::thread::Builder::new().name("old code".to_owned()).spawn(make).is_err() {
            for asked in self.shared.take_unmade(version) {
                (asked.reply)(Err(no_thread()));
            }
        }
    }

    fn submit(&self, job: Job) {
        match self.pool.try_read() {
            Ok(pool) => pool.submit(job),
            Err(TryLockError::Poisoned(pool)) => pool.into_inner().submit(job),
            // Only a shutdown locks it. It waits for the worker that this may run on.
            Err(TryLockError::WouldBlock) => job.refuse_at_shutdown(),
        }
    }

    /// Answers a query from the cache, joins an equal one that is running, or queues it.
    fn query(&self, follower: Follower) {
        let shared = &self.shared;
        let key = cache_key(&follower.call, follower.code.analysis.version);
        let ts = follower.snapshot.ts;
        if let Some(found) = shared.cached(&key, ts) {
            return (follower.reply)(Ok(found));
        }
        let Follower { call, code, snapshot, reply } = {
            let mut waiting = shared.waiting();
            if let Some(followers) = waiting.get_mut(&key) {
                followers.push(follower);
                return;
            }
            waiting.insert(key.clone(), Vec::new());
            follower
        };
        let this = self.this.clone();
        let reply: Reply = Box::new(move |answer| {
            let Some(this) = this.upgrade() else { return reply(answer) };
            let followers = this.shared.waiting().remove(&key).unwrap_or_default();
            for follower in followers {
                if follower.snapshot.ts == ts {
                    let shared = |outcome| Outcome { cached: true, ..outcome };
                    (follower.reply)(answer.clone().map(shared));
                } else {
                    // What they read may have been written between the two snapshots.
                    this.query(follower);
                }
            }
            reply(answer);
        });
        let shared = Arc::clone(&self.shared);
        self.submit(Job { shared, call, code, snapshot, reply });
    }
}

impl Functions for Host {
    fn analyze(&self, bundle: Arc<Bundle>) -> Result<Arc<Analysis>, PushError> {
        let snapshot = self.shared.database.snapshot();
        self.analyze_with(&bundle, snapshot.environment(), &snapshot)
    }

    fn activate(
        &self,
        bundle: Arc<Bundle>,
        analysis: Arc<Analysis>,
    ) -> Result<Timestamp, PushError> {
        self.activate_with(Deployment { bundle, analysis }, &[])
    }

    fn change_environment(&self, changes: &[Change]) -> Result<Timestamp, PushError> {
        let database = &self.shared.database;
        let snapshot = database.snapshot();
        let next = snapshot.environment().after(changes, snapshot.ts);
        match &snapshot.deployment {
            Some(now) if !next.agrees(&now.analysis.imported_environment) => {
                let bundle = Arc::clone(&now.bundle);
                let analysis = self.analyze_with(&bundle, &next, &snapshot)?;
                self.activate_with(Deployment { bundle, analysis }, changes)
            }
            _ => {
                let ts = database.change_environment(changes, self.shared.world.now())?;
                database.wait_durable(ts)?;
                Ok(ts)
            }
        }
    }

    fn call(&self, call: Call, reply: Reply) {
        if is_new_work(&call)
            && let Some(refusal) = self.shared.database.out_of_memory()
        {
            return reply(Err(refusal));
        }
        let snapshot = match call.at {
            // The scheduler acts on what is not durable yet; so does the mutation it starts.
            None if call.own_job().is_some() => self.shared.database.newest(),
            None => self.shared.database.snapshot(),
            Some(ts) => match self.shared.database.snapshot_at(ts) {
                Ok(snapshot) => snapshot,
                Err(refusal) => return reply(Err(refusal)),
            },
        };
        let version = match self.shared.code_at_hand(&snapshot) {
            Ok(code) => return self.start_call(code, Asked { call, snapshot, reply }),
            Err(version) => version,
        };
        self.call_when_made(version, Asked { call, snapshot, reply });
    }

    fn waiting(&self) -> usize {
        self.pool.try_read().map_or(0, |pool| pool.waiting())
    }

    fn inline(&self, modules: Vec<Module>, call: &Call) -> Result<Outcome, Refusal> {
        let snapshot = self.shared.database.snapshot();
        let running = snapshot.deployment.as_deref();
        let bundle = Arc::new(inline::bundle(running, &call.path.component, modules));
        let analysis = self
            .analyze_with(&bundle, snapshot.environment(), &snapshot)
            .map_err(|error| Refusal::Bad(UserError::new(error.code, error.message)))?;
        let code = Arc::new(Code::new(bundle, analysis));
        let given = self.shared.given(&code, &snapshot);
        call::rerun(&self.shared, &code, call, &given, snapshot)
    }

    fn contexts(&self) -> BTreeMap<String, String> {
        self.reuse().into_iter().map(|(path, reuse)| (path, reuse.to_string())).collect()
    }

    fn locate(&self, call: &Call, given: &Given, probe: &Probe) -> Result<Option<Site>, Refusal> {
        let snapshot = self.shared.database.snapshot_at(given.snapshot)?;
        let code = self.shared.code_of(&snapshot).ok_or_else(nothing_deployed)?;
        call::locate(&self.shared, &code, (call, given, snapshot), probe)
    }

    fn replay(&self, again: Replay) -> Result<Replayed, Refusal> {
        replay::run(&self.shared, (&self.helper, &*self.actions), again)
    }
}

impl Shared {
    /// What the host decides for a new attempt.
    pub(crate) fn given(&self, code: &Code, snapshot: &Snapshot) -> Given {
        let (seed, now) = (self.world.seed(), self.world.now());
        Given { code: code.analysis.version, snapshot: snapshot.ts, seed, now }
    }

    /// The newest deployment's code, for contexts made ahead.
    pub(crate) fn newest_code(&self) -> Option<Arc<Code>> {
        self.codes.read().unwrap_or_else(PoisonError::into_inner).newest.clone()
    }

    /// The code a snapshot's calls run. It may have to be made, and waits for a process then.
    pub(crate) fn code_of(&self, snapshot: &Snapshot) -> Option<Arc<Code>> {
        // That of the newest deployment was made before the first call. An old one's that cannot be
        // made any more is as good as gone.
        self.made_code_of(snapshot).ok().flatten()
    }

    /// The same without waiting; where it must be made, its version.
    fn code_at_hand(&self, snapshot: &Snapshot) -> Result<Option<Arc<Code>>, CodeVersion> {
        let Some(deployment) = &snapshot.deployment else { return Ok(None) };
        let version = deployment.analysis.version;
        if let Some(code) = self.loaded(version) {
            return Ok(Some(code));
        }
        if deployment.analysis.tier.is_missing() {
            return Err(version);
        }
        let code = self.load(&deployment.bundle, &deployment.analysis);
        self.keep(&code);
        Ok(Some(code))
    }

    /// The same, made if need be, with why it cannot be made. Waits for a process.
    fn made_code_of(&self, snapshot: &Snapshot) -> Result<Option<Arc<Code>>, PushError> {
        if let Ok(code) = self.code_at_hand(snapshot) {
            return Ok(code);
        }
        // One at a time: the second caller finds what the first has made.
        let _turn = self.completing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(code) = self.code_at_hand(snapshot) {
            return Ok(code);
        }
        let Some(deployment) = &snapshot.deployment else { return Ok(None) };
        let analysis = push::remade(&self.helper, snapshot.environment(), deployment)?;
        let code = self.load(&deployment.bundle, &analysis);
        self.keep(&code);
        Ok(Some(code))
    }

    fn loaded(&self, version: CodeVersion) -> Option<Arc<Code>> {
        let codes = self.codes.read().unwrap_or_else(PoisonError::into_inner);
        codes.by_version.get(&version).cloned()
    }

    /// The code of a deployment: of a neighbour the one that others have, if there is any.
    fn load(&self, bundle: &Arc<Bundle>, analysis: &Arc<Analysis>) -> Arc<Code> {
        let make = || Arc::new(Code::new(Arc::clone(bundle), Arc::clone(analysis)));
        let Some(library) = &self.library else { return make() };
        // Each holder leaves it whole.
        let mut library = library.lock().unwrap_or_else(PoisonError::into_inner);
        if library.len() >= LIBRARY_KEPT && !library.contains_key(&analysis.version) {
            library.clear();
        }
        Arc::clone(library.entry(analysis.version).or_insert_with(make))
    }

    /// Counts a call in a fresh context, and has its module looked at when that is due.
    pub(crate) fn consider(&self, code: &Arc<Code>, path: &FunctionPath) {
        let Some(part) = code.of(&path.component) else { return };
        let Some(due) = part.standings.get(&path.module).filter(|standing| standing.is_due())
        else {
            return;
        };
        let Some(purity) = &self.purity else {
            return due.refuse("this host keeps no contexts (--fresh-contexts)".to_owned());
        };
        let (purity, helper) = (Arc::clone(purity), self.helper.clone());
        let (code, part, module) = (Arc::clone(code), Arc::clone(part), Arc::clone(&path.module));
        // Beside the calls. Where there is no thread for it, the contexts stay fresh.
        let _ = std::thread::Builder::new().name("purity".to_owned()).spawn(move || {
            let prove = || {
                let ran = reuse::ran(&helper, &code);
                let nothing = Ran::new();
                purity.prove(
                    &part.beside(&module),
                    &part.bundle,
                    ran.get(part.part).unwrap_or(&nothing),
                )
            };
            let verdict = catch_unwind(AssertUnwindSafe(prove));
            let verdict = match verdict {
                Ok(Ok(())) => Ok(()),
                Ok(Err(impure)) => Err(part.place(&impure)),
                Err(_) => Err("the host hit a bug of its own while it looked".to_owned()),
            };
            if let Some(standing) = part.standings.get(&module) {
                standing.proved(verdict);
            }
        });
    }

    /// The answer of the cache to a question at a snapshot.
    pub(crate) fn cached(&self, key: &CacheKey, ts: Timestamp) -> Option<Outcome> {
        let found = self.database.cache().find(key, ts, self.world.now())?;
        Some(Outcome { cached: true, ..(*found.outcome).clone() })
    }

    /// Caches a query's outcome; the cache refuses what must not be shared.
    pub(crate) fn remember(&self, call: &Call, outcome: &Arc<Outcome>) {
        self.database.cache().insert(cache_key(call, outcome.given.code), outcome);
    }

    fn keep(&self, code: &Arc<Code>) {
        let mut codes = self.codes_mut();
        if codes.by_version.len() >= VERSIONS_KEPT {
            let newest = codes.newest.as_ref().map(|code| code.analysis.version);
            codes.by_version.retain(|version, _| Some(*version) == newest);
        }
        codes.by_version.insert(code.analysis.version, Arc::clone(code));
    }

    /// Puts code in the place of the same version without a snapshot.
    fn complete(&self, code: Arc<Code>) {
        let mut codes = self.codes_mut();
        let version = code.analysis.version;
        if let Some(known) = codes.by_version.get_mut(&version) {
            *known = Arc::clone(&code);
        }
        if codes.newest.as_ref().is_some_and(|newest| newest.analysis.version == version) {
            codes.newest = Some(code);
        }
    }

    fn codes_mut(&self) -> std::sync::RwLockWriteGuard<'_, Codes> {
        self.codes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn unmade(&self) -> MutexGuard<'_, BTreeMap<CodeVersion, Vec<Asked>>> {
        // Each change is a single call.
        self.unmade.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_unmade(&self, version: CodeVersion) -> Vec<Asked> {
        self.unmade().remove(&version).unwrap_or_default()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<CacheKey, Vec<Follower>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn cache_key(call: &Call, code: CodeVersion) -> CacheKey {
    CacheKey {
        code,
        path: call.path.clone(),
        args: Arc::clone(&call.args.json),
        asker: Asker::of(&call.identity),
        journal: call.journal.clone(),
    }
}

/// Whether a call may be sent away while memory is short. A transaction that was begun is finished,
/// with the functions that it calls; an action has one for each of its calls, so those are new.
/// The scheduler decides for its jobs, and the operator must be able to make room.
fn is_new_work(call: &Call) -> bool {
    match call.caller {
        Caller::HttpApi | Caller::SyncWorker | Caller::Tester | Caller::Function { .. } => {
            !call.identity.makes_room()
        }
        Caller::Scheduler | Caller::Cron => false,
    }
}

fn too_many_unmade() -> Refusal {
    let message = format!(
        "Too many concurrent requests at a timestamp before the running deployment: {} wait for \
         the code of then. Try again in a moment.",
        limits::MAX_QUEUED_CALLS
    );
    Refusal::Overloaded { code: "TooManyConcurrentRequests", message }
}

fn no_thread() -> Refusal {
    let message = "The system has no thread to make the code of that timestamp. Try again.";
    Refusal::Overloaded { code: "NoThread", message: message.to_owned() }
}

pub(crate) fn nothing_deployed() -> Refusal {
    Refusal::Bad(UserError::new("NoDeployment", "No functions are deployed at that snapshot."))
}

fn no_functions(call: &Call) -> UserError {
    let visibility = match call.expect {
        Expect::Kind(_) => "public function for",
        Expect::Any => "function for",
    };
    UserError::new(
        "FunctionNotFound",
        format!(
            "Could not find {visibility} '{}'. Nothing is deployed yet: run `concave push` or \
             `concave dev`.",
            call.path
        ),
    )
}
