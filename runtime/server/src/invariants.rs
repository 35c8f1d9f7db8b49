//! Invariants: queries of `convex/invariants.ts` that must hold after every commit.
//!
//! In: commits, one after another. Out: which invariant a commit broke, and which holds again.
//! Invariant: each is asked at the snapshot of each commit that wrote into what it had read, oldest
//! first, so that the commit that is told is the one that did it; what could not be asked is told
//! too.

use std::sync::{Arc, Weak};
use std::time::Duration;

use database::commit::Database;
use database::deployment::{CodeVersion, INVARIANTS};
use database::error::Refusal;
use database::key::Interval;
use database::limits::TABLE;
use database::log::LogEntry;
use database::read_set::ReadSet;
use database::record::{
    Arguments, Call, Caller, Expect, FunctionKind, FunctionPath, Functions, Identity, Outcome,
    Timestamp,
};
use database::recording::written;
use database::snapshot::{CATALOG, Snapshot};
use database::subscriptions::{Invalidation, Owner, SubscriptionId, Watcher};
use serde_json::value::RawValue;
use tokio::sync::{Mutex, Notify, oneshot};

use crate::event::{Event, InvariantEvent};
use crate::host::Host;
use crate::recording::argument;

/// How many of the keys that a commit wrote are told.
const KEYS_TOLD: usize = 8;

/// The invariants of a database, and up to which commit they were checked.
pub struct Invariants {
    database: Arc<Database>,
    functions: Weak<dyn Functions>,
    /// Held while queries run: commits are checked one after another.
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    version: Option<CodeVersion>,
    checked: Timestamp,
    all: Vec<Declared>,
}

/// One invariant.
#[derive(Clone)]
struct Declared {
    name: Arc<str>,
    path: FunctionPath,
    /// What it read last; `None`: it was not asked yet, or gave no answer.
    reads: Option<Arc<ReadSet>>,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Holds,
    Violated,
    Unchecked,
}

/// News of an invariant.
#[derive(Clone, Debug)]
pub enum Finding {
    /// A commit broke it.
    Violated(Violation),
    /// It holds again.
    Holds {
        /// Its name.
        name: Arc<str>,
    },
    /// Nobody knows.
    Unchecked {
        /// Its name; of all of them none.
        name: Option<Arc<str>>,
        /// Why, and what to do.
        why: String,
    },
}

/// A commit after which an invariant does not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The invariant's name.
    pub name: Arc<str>,
    /// What its query said.
    pub why: String,
    /// The commit.
    pub commit: Arc<LogEntry>,
}

/// What the query of an invariant said.
enum Verdict {
    Holds,
    Violated(String),
    Unknown(String),
}

impl Invariants {
    /// Those of a database whose functions are `functions`. Commits so far are not looked at.
    pub fn new(database: &Arc<Database>, functions: &Arc<dyn Functions>) -> Self {
        let checked = database.kept().oldest;
        let state = Mutex::new(State { checked, ..State::default() });
        Self { database: Arc::clone(database), functions: Arc::downgrade(functions), state }
    }

    /// The same for a fork, as far as they are checked here.
    pub async fn fork(&self, database: &Arc<Database>, functions: &Arc<dyn Functions>) -> Self {
        let state = self.state.lock().await.clone();
        let (database, functions) = (Arc::clone(database), Arc::downgrade(functions));
        Self { database, functions, state: Mutex::new(state) }
    }

    /// Checks the commits since the last time, oldest first.
    pub async fn check(&self) -> Vec<Finding> {
        let mut state = self.state.lock().await;
        let mut found = Vec::new();
        let Some(commits) = self.database.commits_since(state.checked) else {
            self.begin_anew(&mut state, &mut found).await;
            return found;
        };
        for commit in commits {
            state.declare(&commit.snapshot);
            for declared in &mut state.all {
                let is_touched = match &declared.reads {
                    None => true,
                    Some(reads) => commit.overlap(reads).is_some(),
                };
                if is_touched {
                    found.extend(self.ask(declared, commit.ts, Some(&commit)).await);
                }
            }
            state.checked = commit.ts;
        }
        found
    }

    /// The history has forgotten commits that were not checked.
    async fn begin_anew(&self, state: &mut State, found: &mut Vec<Finding>) {
        let snapshot = self.database.snapshot();
        if !state.all.is_empty() {
            found.push(Finding::Unchecked {
                name: None,
                why: format!(
                    "the history has forgotten commits after {} before they were checked. They \
                     come faster than the queries of the invariants run: let those read less, by \
                     an index, or give the history more memory (--memory).",
                    state.checked
                ),
            });
        }
        state.declare(&snapshot);
        for declared in &mut state.all {
            found.extend(self.ask(declared, snapshot.ts, None).await);
        }
        state.checked = snapshot.ts;
    }

    /// Asks whether one holds at `at`; gives what is news.
    async fn ask(
        &self,
        declared: &mut Declared,
        at: Timestamp,
        commit: Option<&Arc<LogEntry>>,
    ) -> Option<Finding> {
        let before = declared.standing;
        let verdict = match self.run(declared.path.clone(), at).await {
            Ok(outcome) => {
                declared.reads = Some(Arc::clone(&outcome.reads));
                verdict(&outcome)
            }
            Err(refusal) => {
                declared.reads = None;
                Verdict::Unknown(refusal.to_string())
            }
        };
        let name = Arc::clone(&declared.name);
        let (now, news) = match (verdict, commit) {
            (Verdict::Holds, _) => (Standing::Holds, Finding::Holds { name }),
            (Verdict::Violated(why), Some(commit)) => {
                let commit = Arc::clone(commit);
                (Standing::Violated, Finding::Violated(Violation { name, why, commit }))
            }
            (Verdict::Violated(why), None) => {
                let why = format!("it does not hold, and nobody knows since when: {why}");
                (Standing::Violated, Finding::Unchecked { name: Some(name), why })
            }
            (Verdict::Unknown(why), _) => {
                (Standing::Unchecked, Finding::Unchecked { name: Some(name), why })
            }
        };
        declared.standing = now;
        (now != before).then_some(news)
    }

    async fn run(&self, path: FunctionPath, at: Timestamp) -> Result<Outcome, Refusal> {
        let ended = || Refusal::Broken("the host ends".to_owned());
        let functions = self.functions.upgrade().ok_or_else(ended)?;
        let call = Call {
            args: Arguments::parse(&path, "{}")?,
            path,
            expect: Expect::Kind(FunctionKind::Query),
            identity: Identity::System,
            caller: Caller::Tester,
            request_id: "invariant".into(),
            at: Some(at),
            journal: None,
            once: None,
            job: None,
        };
        let (done, outcome) = oneshot::channel();
        functions.call(call, Box::new(move |answer| drop(done.send(answer))));
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Rings when a commit writes into what any of them has read, or the code changes.
    async fn watch(&self, bell: &Arc<Bell>) -> Option<SubscriptionId> {
        let state = self.state.lock().await;
        let mut reads = ReadSet::default();
        reads.insert(CATALOG, Interval::all());
        state.all.iter().flat_map(|one| &one.reads).for_each(|read| reads.merge(read));
        let watcher: Arc<dyn Watcher> = Arc::clone(bell) as Arc<dyn Watcher>;
        let owner = Owner::Watcher(Arc::downgrade(&watcher));
        match self.database.subscriptions().register(&Arc::new(reads), state.checked, owner) {
            Ok(subscription) => Some(subscription),
            Err(why) => {
                let bell = Arc::clone(bell);
                self.database.when_durable(why.at, Box::new(move |_| bell.0.notify_one()));
                None
            }
        }
    }
}

impl State {
    /// Takes note of the code of a snapshot.
    fn declare(&mut self, snapshot: &Snapshot) {
        let analysis = snapshot.deployment.as_ref().map(|now| &now.analysis);
        let version = analysis.map(|analysis| analysis.version);
        if version == self.version {
            return;
        }
        self.version = version;
        let module = analysis.and_then(|analysis| analysis.modules.get(INVARIANTS));
        let functions = module.map(|module| &module.functions);
        let all = functions.into_iter().flatten().filter_map(|function| {
            let name = function.invariant.clone()?;
            let (module, export) = (INVARIANTS.into(), Arc::clone(&function.name));
            let before = self.all.iter().find(|one| one.name == name);
            // One that is new is taken to have held so far.
            let standing = before.map_or(Standing::Holds, |one| one.standing);
            let path = FunctionPath { component: "".into(), module, export };
            Some(Declared { name, path, reads: None, standing })
        });
        self.all = all.collect();
    }
}

fn verdict(outcome: &Outcome) -> Verdict {
    let text = match &outcome.result {
        Ok(text) => &**text,
        Err(error) => {
            let message = error.message.trim_end();
            let thrown = message.strip_prefix("Uncaught Error: ");
            let is_limit = |text: &str| TABLE.iter().any(|limit| text.starts_with(limit.error));
            let is_verdict = message.starts_with("Uncaught ") && !thrown.is_some_and(is_limit);
            return match is_verdict {
                true => Verdict::Violated(message.to_owned()),
                false => Verdict::Unknown(message.to_owned()),
            };
        }
    };
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Null | serde_json::Value::Bool(true)) => Verdict::Holds,
        Ok(serde_json::Value::Bool(false)) => Verdict::Violated("its query gave false".to_owned()),
        Ok(serde_json::Value::String(why)) => Verdict::Violated(why),
        _ => Verdict::Unknown(format!(
            "its query gave {text}. It must give true, or nothing, while the invariant holds, and \
             false, or a text that says why, when it does not."
        )),
    }
}

impl Finding {
    /// What people are told; `replay` is the command that runs the commit's call again.
    pub fn text(&self, replay: Option<&str>) -> String {
        let quoted = |name: &Arc<str>| format!("{name:?}");
        match self {
            Self::Holds { name } => format!("the invariant {} holds again", quoted(name)),
            Self::Unchecked { name, why } => {
                let which = name.as_ref().map_or_else(
                    || "not all invariants were".to_owned(),
                    |name| format!("the invariant {} was not", quoted(name)),
                );
                format!("{which} checked: {why}")
            }
            Self::Violated(Violation { name, why, commit }) => {
                let writer = &commit.writer;
                let args = writer.record.as_ref().map_or("", |record| &record.args);
                let args = argument(args).map(RawValue::get);
                let mut lines = vec![format!(
                    "the invariant {} does not hold since {}({}) committed at {}",
                    quoted(name),
                    writer.function,
                    args.unwrap_or_default(),
                    commit.ts
                )];
                lines.extend(why.lines().map(|line| format!("  {line}")));
                let keys = written(commit);
                let more = keys.len().saturating_sub(KEYS_TOLD);
                let more = (more > 0).then(|| format!("and {more} more"));
                let keys: Vec<_> = keys.into_iter().take(KEYS_TOLD).chain(more).collect();
                lines.push(format!("  it wrote {}", keys.join(", ")));
                lines.extend(replay.map(|replay| format!("  {replay}")));
                lines.join("\n")
            }
        }
    }
}

/// Says that there is something to check.
struct Bell(Notify);

impl Watcher for Bell {
    fn end(self: Arc<Self>, _: &Invalidation) {}

    fn durable(&self) {
        self.0.notify_one();
    }
}

/// Checks the invariants of a host for as long as somebody polls it.
pub(crate) async fn tend(host: Arc<Host>) {
    let invariants = Invariants::new(&host.database, &host.functions);
    let bell = Arc::new(Bell(Notify::new()));
    loop {
        for finding in invariants.check().await {
            let call = match &finding {
                Finding::Violated(violation) => number(&host, &violation.commit).await,
                Finding::Holds { .. } | Finding::Unchecked { .. } => None,
            };
            host.tell(Event::Invariant(InvariantEvent { finding, call }));
        }
        let subscription = invariants.watch(&bell).await;
        bell.0.notified().await;
        subscription.into_iter().for_each(|id| host.database.subscriptions().cancel(id));
    }
}

/// The number of the call that committed: it is recorded once its caller is answered, which is
/// about now.
async fn number(host: &Host, commit: &LogEntry) -> Option<u64> {
    commit.writer.record.as_ref()?;
    for _ in 0..100 {
        if let Some(number) = host.calls.of_commit(commit.ts) {
            return Some(number);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}
