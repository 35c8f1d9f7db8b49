//! Durable before told: a journal that is slow, and one that fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{EPOCH, begin, collect, deployed, dump, full_scan, mutate, value, writer};
use crate::commit::Database;
use crate::durability::{Journal, NotDurable};
use crate::log::LogEntry;
use crate::record::Given;
use crate::subscriptions::{Invalidation, Owner, Watcher};

/// Takes commits in, and keeps them when it is told to.
#[derive(Default)]
struct Slow(Mutex<Vec<Arc<LogEntry>>>);

impl Journal for Slow {
    fn append(&self, entry: &Arc<LogEntry>) {
        self.0.lock().unwrap().push(Arc::clone(entry));
    }

    fn forget(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl Slow {
    fn keep(&self, database: &Database, count: usize) {
        let entries: Vec<_> = self.0.lock().unwrap().drain(..count).collect();
        entries.iter().for_each(|entry| database.made_durable(entry));
    }
}

fn kept() -> (Database, Arc<Slow>) {
    let (database, journal) = (deployed(), Arc::new(Slow::default()));
    database.keep_in(journal.clone());
    (database, journal)
}

fn insert(database: &Database, call: u64) -> crate::commit::Committed {
    let mut transaction = database.begin(database.newest(), &super::given(call), false);
    transaction.insert("", "a", value(&format!(r#"{{"x":{call}}}"#))).unwrap();
    database.commit(transaction, EPOCH + call, writer("insert")).unwrap()
}

#[derive(Debug, Default)]
struct Counts(AtomicUsize, AtomicUsize);

impl Watcher for Counts {
    fn end(self: Arc<Self>, _: &Invalidation) {}

    fn published(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn durable(&self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn without_a_journal_too_whoever_waits_is_told() {
    // A call that reads a commit can ask in the moment before that commit counts as durable.
    let database = deployed();
    let told = Arc::new(Mutex::new(Vec::new()));
    let next = crate::record::Timestamp(EPOCH + 5_000);
    let tell = told.clone();
    database.when_durable(next, Box::new(move |durable| tell.lock().unwrap().push(durable)));
    assert!(told.lock().unwrap().is_empty());
    assert_eq!(insert(&database, 5_000).ts, next);
    assert_eq!(*told.lock().unwrap(), [Ok(())]);
}

#[test]
fn nobody_is_told_before_it_is_durable() {
    let (database, journal) = kept();
    let mut look = begin(&database, 1);
    collect(&mut look, &full_scan("a")).unwrap();
    let watcher = Arc::new(Counts::default());
    let weak: std::sync::Weak<dyn Watcher> = Arc::downgrade(&(watcher.clone() as _));
    let reads = Arc::new(look.reads().clone());
    let since = database.snapshot().ts;
    database.subscriptions().register(&reads, since, Owner::Watcher(weak)).unwrap();
    let before = dump(&database);

    let (first, second) = (insert(&database, 2), insert(&database, 3));
    let told = Arc::new(Mutex::new(Vec::new()));
    for ts in [first.ts, second.ts] {
        let told = told.clone();
        let note = move |durable: Result<(), NotDurable>| told.lock().unwrap().push((ts, durable));
        database.when_durable(ts, Box::new(note));
    }
    assert_eq!(dump(&database), before, "what may be told is what is durable");
    assert_eq!(database.newest().ts, second.ts);
    assert_eq!(database.history().entries.len(), 1, "history is told too");
    assert!(told.lock().unwrap().is_empty());
    let count = |n: &AtomicUsize| n.load(Ordering::SeqCst);
    assert_eq!((count(&watcher.0), count(&watcher.1)), (1, 0));

    journal.keep(&database, 1);
    assert_eq!(*told.lock().unwrap(), [(first.ts, Ok(()))]);
    assert_eq!(database.snapshot().ts, first.ts);
    assert_eq!((count(&watcher.0), count(&watcher.1)), (1, 1));
    journal.keep(&database, 1);
    assert_eq!(told.lock().unwrap()[1], (second.ts, Ok(())));
    database.wait_durable(second.ts).unwrap();
    assert_eq!(database.history().entries.len(), 3);
}

#[test]
fn what_cannot_be_kept_is_undone() {
    let (database, journal) = kept();
    insert(&database, 1);
    journal.keep(&database, 1);
    let (before, durable) = (dump(&database), database.snapshot().ts);
    let lost = insert(&database, 2);
    // Read what is lost: it must not commit, whatever comes in between.
    let mut based_on_it = database.begin(database.newest(), &super::given(3), false);
    collect(&mut based_on_it, &full_scan("a")).unwrap();
    based_on_it.insert("", "b", value("{}")).unwrap();
    let also_lost = insert(&database, 4);
    let told = Arc::new(Mutex::new(None));
    let note = told.clone();
    database.when_durable(lost.ts, Box::new(move |d| *note.lock().unwrap() = Some(d)));

    assert_eq!(database.undo("no space left"), 2);
    let answer = told.lock().unwrap().take().unwrap().unwrap_err().to_string();
    assert!(answer.contains("no space left") && answer.contains("undone"), "{answer}");
    assert_eq!(database.newest().ts, durable);
    assert_eq!(dump(&database), before);
    let rejected = database.commit(based_on_it, EPOCH + 5, writer("late")).unwrap_err();
    assert_eq!(rejected.conflict.index, "undone");
    assert!(rejected.conflict.to_string().contains("was undone back to"), "{rejected:?}");
    // Whoever asks late hears the same, also after newer commits are durable.
    assert_eq!(&*database.cannot_keep().unwrap().why, "no space left");
    let next = insert(&database, 6);
    assert!(next.ts > also_lost.ts, "a timestamp is given once");
    journal.keep(&database, 1);
    assert!(
        database.wait_durable(lost.ts).is_err() && database.wait_durable(also_lost.ts).is_err()
    );
    database.wait_durable(next.ts).unwrap();
    assert_eq!(database.cannot_keep(), None);
    assert_eq!(database.undo("nothing to undo"), 0);
}

#[test]
fn a_subscription_that_an_undone_commit_ended_is_told_at_the_next() {
    let (database, journal) = kept();
    let mut look = begin(&database, 1);
    collect(&mut look, &full_scan("a")).unwrap();
    let watcher = Arc::new(Counts::default());
    let weak: std::sync::Weak<dyn Watcher> = Arc::downgrade(&(watcher.clone() as _));
    let (reads, since) = (Arc::new(look.reads().clone()), database.snapshot().ts);
    database.subscriptions().register(&reads, since, Owner::Watcher(weak)).unwrap();
    insert(&database, 2);
    database.undo("torn");
    assert_eq!(watcher.1.load(Ordering::SeqCst), 0);
    let mut other = database.begin(database.newest(), &super::given(3), false);
    other.insert("", "b", value("{}")).unwrap();
    database.commit(other, EPOCH, writer("other")).unwrap();
    journal.keep(&database, 1);
    assert_eq!(watcher.1.load(Ordering::SeqCst), 1);
}

#[test]
fn without_a_journal_everything_is_durable_at_once() {
    let database = deployed();
    let (_, committed) = mutate(&database, 1, |now| now.insert("", "a", value(r#"{"x":1}"#)));
    assert_eq!(database.snapshot().ts, committed.ts);
    database.wait_durable(committed.ts).unwrap();
}

#[test]
fn creation_times_grow_from_commit_to_commit_while_the_clock_is_behind() {
    let database = deployed();
    let behind = EPOCH - 3_600_000_000_000;
    let mut written = Vec::new();
    for call in 0..300 {
        let given = Given { now: behind + call, ..super::given(call) };
        let mut transaction = database.begin(database.newest(), &given, false);
        for n in 0..call % 4 + 1 {
            let document = value(&format!(r#"{{"x":{call},"n":{n}}}"#));
            written.push(transaction.insert("", "a", document).unwrap());
        }
        database.commit(transaction, behind + call, writer("insert")).unwrap();
    }
    let all = collect(&mut begin(&database, 999), &full_scan("a")).unwrap();
    assert_eq!(all.len(), 750);
    let found: Vec<_> = all.iter().map(|document| document.id).collect();
    assert!(found == written, "documents are in the order of their commits");
    let times: Vec<f64> = all.iter().map(|document| document.creation_time).collect();
    assert!(times.is_sorted_by(|one, next| one < next));
}
