//! One `convexTest()`: a database of its own, a clock that the test sets, seeded randomness.
//!
//! In: a deployment. Out: calls, scheduled functions. Invariant: nothing runs in it that the test
//! did not ask for: what is scheduled waits until the test's timers say so.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use database::commit::{Database, Options};
use database::crons;
use database::deployment::INVARIANTS;
use database::environment::Change;
use database::error::{PushError, Refusal, UserError};
use database::id::DocumentId;
use database::record::{
    Actions, Arguments, Call, CronRun, FunctionKind, FunctionPath, Functions, Job, Outcome,
    World as Seam,
};
use database::scheduling::{self, JobState};
use database::snapshot::Deployment;
use database::work::Budget;
use functions::{Elsewhere, Neighbour};
use serde_json::{Value, json};
use server::{Files, Finding, Invariants, Schedule};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::deploy::Ready;
use super::footprints::Noted;
use crate::commands::host::files_in_memory;
use crate::outside::Services;
use crate::world::SeededWorld;

const NS_PER_MS: u64 = 1_000_000;
/// One call to the next while the test's clock stands, nanoseconds: documents of one transaction
/// are a quarter of a microsecond apart.
const STEP_NS: u64 = 4_000;

/// The clock of a test, and its randomness.
pub struct Clock {
    /// What its randomness is a function of.
    pub seed: u64,
    now: AtomicU64,
    seeds: SeededWorld,
}

impl Clock {
    /// A clock that stands, and the randomness of a seed.
    pub fn new(now_ms: f64, seed: u64) -> Self {
        let clock = Self { seed, now: AtomicU64::new(0), seeds: SeededWorld::new(seed) };
        clock.set(now_ms);
        clock
    }

    /// Sets it, milliseconds since the Unix epoch.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    pub fn set(&self, now_ms: f64) {
        let now_ms = now_ms as u64;
        if self.now.load(Ordering::SeqCst) / NS_PER_MS != now_ms {
            self.now.store(now_ms.saturating_mul(NS_PER_MS), Ordering::SeqCst);
        }
    }
}

impl Seam for Clock {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn seed(&self) -> [u8; 32] {
        // Drawn once for each attempt at a call. Documents of one moment are in the order in which
        // they were made; there is room for so many calls in a millisecond.
        let now = self.now.load(Ordering::SeqCst);
        if now % NS_PER_MS < NS_PER_MS - STEP_NS {
            self.now.fetch_add(STEP_NS, Ordering::SeqCst);
        }
        self.seeds.seed()
    }
}

/// Does what may wait for others on a thread that may wait: a function of the test can hold the
/// right to commit while it asks this one.
async fn waiting<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => resume_unwind(ended.into_panic()),
    }
}

/// What a world is opened with.
pub struct Opening {
    /// Its number, for messages of the worker.
    pub id: u64,
    /// Its clock.
    pub clock: Arc<Clock>,
    /// Who runs its actions.
    pub actions: Arc<dyn Actions>,
    /// Who runs functions of the test.
    pub elsewhere: Arc<dyn Elsewhere>,
    /// What one call may use, where the test says.
    pub budget: Option<Budget>,
    /// Whether each call is executed a second time.
    pub twice: bool,
}

/// One `convexTest()`.
pub struct World {
    /// Its number.
    pub id: u64,
    /// Its clock.
    pub clock: Arc<Clock>,
    /// Its data.
    pub database: Arc<Database>,
    /// Its functions.
    pub functions: Arc<functions::Host>,
    /// The same, with notes of what they read.
    pub noted: Arc<Noted>,
    /// What its actions may ask for.
    pub services: Arc<Services>,
    environment: Arc<AsyncMutex<BTreeMap<String, String>>>,
    /// Jobs that the test knows of.
    told: Mutex<BTreeSet<DocumentId>>,
    watched: Mutex<BTreeMap<u64, Watched>>,
    /// Changes that were told of watched queries; held while they are looked for.
    changes: AsyncMutex<u64>,
    invariants: Invariants,
}

/// A query that a test watches.
struct Watched {
    call: Call,
    /// What the test was told last.
    last: Option<Value>,
}

impl World {
    /// An empty database with the deployment running, on the threads of `host`.
    ///
    /// # Errors
    /// A schema that cannot be.
    pub fn open(
        host: &functions::Host,
        ready: &Ready,
        opening: Opening,
    ) -> Result<Self, PushError> {
        let now = opening.clock.now();
        let options = Options::at(now);
        if let Some(copy) = ready.copy(now) {
            let world = Self::of(host, Database::fork(copy, &options), opening);
            world.functions.resume()?;
            return Ok(world);
        }
        let world = Self::of(host, Database::new(options), opening);
        let Deployment { bundle, analysis } = &*ready.deployment;
        world.functions.activate(Arc::clone(bundle), Arc::clone(analysis))?;
        ready.keep(world.database.newest());
        Ok(world)
    }

    /// A copy of this world as it is now, but for its files; it costs next to nothing.
    pub async fn fork(&self, host: &functions::Host, opening: Opening) -> Self {
        let options = Options::at(opening.clock.now());
        let forked = Self::of(host, Database::fork(self.database.newest(), &options), opening);
        let environment = self.environment.lock().await.clone();
        let called: Arc<dyn Functions> = Arc::clone(&forked.functions) as Arc<dyn Functions>;
        let invariants = self.invariants.fork(&forked.database, &called).await;
        forked.noted.start(&forked.database);
        Self { environment: Arc::new(AsyncMutex::new(environment)), invariants, ..forked }
    }

    fn of(host: &functions::Host, database: Database, opening: Opening) -> Self {
        let Opening { id, clock, actions, elsewhere, budget, twice } = opening;
        let seam: Arc<dyn Seam> = Arc::clone(&clock) as Arc<dyn Seam>;
        // A test moves the clock by as little as it likes.
        database.cache().keep_to_the_clock();
        let database = Arc::new(database);
        let storage = files_in_memory("test", None);
        let files = Files::new(Arc::clone(&database), storage.clone(), Arc::clone(&seam));
        let functions = host.beside(Neighbour {
            database: Arc::clone(&database),
            world: Arc::clone(&seam),
            actions,
            storage,
            elsewhere: Some(elsewhere),
            budget,
            twice,
        });
        let noted = Arc::new(Noted::new(Arc::clone(&functions)));
        let called: Arc<dyn Functions> = Arc::clone(&noted) as Arc<dyn Functions>;
        let services = Arc::new(Services {
            functions: Arc::downgrade(&called),
            database: Arc::clone(&database),
            world: seam,
            files,
            inner: Arc::default(),
        });
        let (environment, told, watched, changes) = Default::default();
        // What they read is no part of any call.
        let plain: Arc<dyn Functions> = Arc::clone(&functions) as Arc<dyn Functions>;
        let invariants = Invariants::new(&database, &plain);
        Self {
            id,
            clock,
            database,
            functions,
            noted,
            services,
            environment,
            told,
            watched,
            changes,
            invariants,
        }
    }

    /// Makes `process.env` of functions what it is in the test.
    ///
    /// # Errors
    /// Modules that fail at import with the new values.
    pub async fn set_environment(&self, wanted: BTreeMap<String, String>) -> Result<(), PushError> {
        let mut known = Arc::clone(&self.environment).lock_owned().await;
        if *known == wanted {
            return Ok(());
        }
        let set = wanted.iter().filter(|(name, value)| known.get(*name) != Some(*value));
        let set = set.map(|(name, value)| (name.clone(), Some(value.clone())));
        let gone = known.keys().filter(|name| !wanted.contains_key(*name));
        let changes: Vec<_> = set
            .chain(gone.map(|name| (name.clone(), None)))
            .map(|(name, value)| Change { name, value })
            .collect();
        // Modules may have to be evaluated again, in another process. Who comes next waits until
        // this one's call is on its way.
        let functions = Arc::clone(&self.functions);
        waiting(move || functions.change_environment(&changes).map(drop)).await?;
        *known = wanted;
        Ok(())
    }

    /// Runs a call to its end.
    ///
    /// # Errors
    /// As [`Functions::call`].
    pub async fn call(&self, call: Call) -> Result<Outcome, Refusal> {
        let (done, outcome) = oneshot::channel();
        // A test that ended needs no answer.
        self.noted.call(call, Box::new(move |answer| drop(done.send(answer))));
        outcome.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Runs what was scheduled, now.
    ///
    /// # Errors
    /// None that its functions make: those end in its row.
    pub async fn fire(&self, id: DocumentId, request: Arc<str>) -> Result<(), UserError> {
        let snapshot = self.database.newest();
        let row = scheduling::pending(&snapshot).find(|row| row.id() == id);
        // Canceled meanwhile.
        let Some(found) = row.map(|row| row.job()).transpose()? else { return Ok(()) };
        self.run_job((Job::Scheduled(id), request), found.path, found.args).await;
        Ok(())
    }

    /// Runs the occurrence of a cron job that is due.
    pub async fn fire_cron(&self, id: DocumentId, request: Arc<str>) {
        let Some(cron) = crons::job(&self.database.newest(), id) else { return };
        let Ok(schedule) = Schedule::parse(&cron.name, &cron.schedule) else { return };
        let Some(due) = cron.next else { return };
        let (next, _) = schedule.after(due, self.clock.now());
        let job = Job::Cron(CronRun { id, due, next });
        self.run_job((job, request), cron.path, cron.args).await;
    }

    /// What is due next but for some, a scheduled function or a cron job, and when: milliseconds.
    pub async fn next_due(&self, skip: &BTreeSet<String>) -> Value {
        let now = self.clock.now();
        for cron in crons::jobs(&self.database.newest()).flatten() {
            if cron.next.is_none()
                && let Ok(schedule) = Schedule::parse(&cron.name, &cron.schedule)
            {
                let first = schedule.first(cron.previous, now);
                let (database, clock) = self.to_commit();
                waiting(move || crons::set_next(&database, &*clock, cron.id, (None, first))).await;
            }
        }
        let snapshot = self.database.newest();
        let jobs = scheduling::pending(&snapshot).map(|row| (row.due, "job", row.id()));
        let crons = crons::jobs(&snapshot).flatten();
        let crons = crons.filter_map(|cron| Some((cron.next?, "cron", cron.id)));
        let waiting = jobs.chain(crons).filter(|(.., id)| !skip.contains(&id.encode()));
        let next = waiting.min_by_key(|(due, ..)| *due);
        next.map_or(Value::Null, |(due, kind, id)| {
            json!({ "due": due.div_ceil(NS_PER_MS), "kind": kind, "id": id.encode() })
        })
    }

    async fn run_job(
        &self,
        (job, request_id): (Job, Arc<str>),
        path: FunctionPath,
        args: Arguments,
    ) {
        let snapshot = self.database.newest();
        let deployment = snapshot.deployment.as_ref();
        let function = deployment.and_then(|now| now.analysis.function(&path));
        let end = async |state: JobState| {
            let (database, clock) = self.to_commit();
            waiting(move || scheduling::end(&database, &*clock, job, &state)).await;
        };
        let kind = match function.map(|function| function.kind) {
            Some(kind @ (FunctionKind::Mutation | FunctionKind::Action)) => kind,
            Some(FunctionKind::Query) => {
                return end(JobState::Failed(format!("{path} is a query."))).await;
            }
            None => {
                let why = format!("Could not find function for '{path}'");
                return end(JobState::Failed(why)).await;
            }
        };
        let is_action = kind == FunctionKind::Action;
        if is_action {
            let (database, clock) = self.to_commit();
            if waiting(move || scheduling::begin(&database, &*clock, job)).await.is_none() {
                return;
            }
        }
        let call = job.call(kind, (path, args), request_id);
        match self.call(call).await {
            Ok(Outcome { result: Ok(_), .. }) if !is_action => {}
            Ok(Outcome { result: Ok(_), .. }) => end(JobState::Success).await,
            Ok(Outcome { result: Err(error), .. }) => end(JobState::Failed(error.message)).await,
            Err(Refusal::Bad(UserError { code: "JobNotPending", .. })) => {}
            Err(refusal) => end(JobState::Failed(refusal.to_string())).await,
        }
    }

    /// What a commit of its own needs on another thread.
    fn to_commit(&self) -> (Arc<Database>, Arc<Clock>) {
        (Arc::clone(&self.database), Arc::clone(&self.clock))
    }

    /// Looks at a query from now on.
    pub fn watch(&self, number: u64, call: Call) {
        self.watches().insert(number, Watched { call, last: None });
    }

    /// The results of watched queries that are other than they were: number, result, and which of
    /// all changes it is.
    pub async fn changes(&self) -> Vec<Value> {
        // What was looked for later must not have seen less.
        let mut count = self.changes.lock().await;
        let calls = |(number, of): (&u64, &Watched)| (*number, of.call.clone());
        let calls: Vec<_> = self.watches().iter().map(calls).collect();
        let mut changes = Vec::new();
        for (number, call) in calls {
            // What nothing was written to comes from the cache of queries.
            let mut told = match self.call(call).await {
                Ok(Outcome { result: Ok(text), .. }) => {
                    let value: Value = serde_json::from_str(&text).unwrap_or_default();
                    json!({ "watch": number, "value": value })
                }
                Ok(Outcome { result: Err(error), .. }) => {
                    let error = json!({ "message": error.message, "data": error.data });
                    json!({ "watch": number, "error": error })
                }
                Err(refusal) => {
                    json!({ "watch": number, "error": { "message": refusal.to_string() } })
                }
            };
            let mut watched = self.watches();
            let Some(Watched { last, .. }) = watched.get_mut(&number) else { continue };
            if last.as_ref() != Some(&told) {
                *last = Some(told.clone());
                *count += 1;
                told["at"] = json!(*count);
                changes.push(told);
            }
        }
        changes
    }

    /// What the calls since the last time read and wrote, and whether declared invariants look at
    /// what is in between.
    pub fn footprint(&self) -> Value {
        let mut footprint = self.noted.take(&self.database);
        let snapshot = self.database.newest();
        let analysis = snapshot.deployment.as_ref().map(|running| &running.analysis);
        let is_watched = analysis.is_some_and(|now| now.modules.contains_key(INVARIANTS));
        footprint["isWatched"] = json!(is_watched);
        footprint
    }

    /// What must fail the test since the last time: calls whose second execution differed, and what
    /// commits did to invariants.
    pub async fn violations(&self, again: &str) -> Vec<Value> {
        let found = self.invariants.check().await;
        let bad = found.iter().filter(|finding| !matches!(finding, Finding::Holds { .. }));
        let bad = bad.map(|finding| violation("InvariantViolation", &finding.text(Some(again))));
        let remarks = self.noted.take_remarks();
        remarks.iter().map(|text| violation("NotDeterministic", text)).chain(bad).collect()
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<u64, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs that the test has not been told of.
    pub fn new_jobs(&self) -> Vec<Value> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.database.newest();
        let new = scheduling::pending(&snapshot).filter(|row| told.insert(row.id()));
        let job = |row: scheduling::Pending<'_>| {
            let due = row.due.div_ceil(NS_PER_MS);
            json!({ "id": row.id().encode(), "due": due })
        };
        new.map(job).collect()
    }
}

fn violation(name: &str, message: &str) -> Value {
    json!({ "name": name, "message": message })
}

fn gone() -> Refusal {
    Refusal::Broken("The test has ended.".to_owned())
}
