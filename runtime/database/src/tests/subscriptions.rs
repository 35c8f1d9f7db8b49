//! Subscriptions against brute force: a commit ends exactly those whose reads it wrote into.
//!
//! In: random read sets, cancelled and registered late, and random commits. Out: the same
//! invalidations that comparing every read set with every commit gives.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::read_set::ReadSet;
use crate::subscriptions::{Invalidation, Owner, SubscriptionId, Watcher};

/// Keeps what it hears, and what the newest snapshot was when it heard.
struct Ears {
    database: Arc<Database>,
    heard: Mutex<Vec<(Invalidation, Timestamp)>>,
    published: Mutex<Vec<Timestamp>>,
}

impl Watcher for Ears {
    fn end(self: Arc<Self>, why: &Invalidation) {
        self.heard.lock().unwrap().push((why.clone(), self.database.snapshot().ts));
    }
    fn published(&self) {
        self.published.lock().unwrap().push(self.database.snapshot().ts);
    }
}

/// A database and one watcher of everything.
fn watched() -> (Arc<Database>, Arc<Ears>) {
    let database = Arc::new(deployed());
    let ears =
        Ears { database: database.clone(), heard: Mutex::default(), published: Mutex::default() };
    (database, Arc::new(ears))
}

impl Ears {
    fn owner(self: &Arc<Self>) -> Owner {
        let this: Arc<dyn Watcher> = self.clone();
        Owner::Watcher(Arc::downgrade(&this))
    }

    fn take(&self) -> Vec<Invalidation> {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        let published = std::mem::take(&mut *self.published.lock().unwrap());
        assert_eq!(heard.len(), published.len(), "told twice of each");
        for ((why, before), after) in heard.iter().zip(published) {
            assert!(*before < why.at, "told before anybody can see the commit");
            assert!(after >= why.at, "and once it can be seen");
        }
        heard.into_iter().map(|(why, _)| why).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Reads at a snapshot that many commits old.
    Watch {
        low: u8,
        high: u8,
        limit: bool,
        age: usize,
    },
    Cancel {
        which: usize,
    },
    Insert {
        x: u8,
    },
    Move {
        which: usize,
        x: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..40, 0u8..40, any::<bool>(), 0usize..4)
            .prop_map(|(low, high, limit, age)| Step::Watch { low, high, limit, age }),
        1 => (0usize..20).prop_map(|which| Step::Cancel { which }),
        2 => (0u8..40).prop_map(|x| Step::Insert { x }),
        2 => (0usize..20, 0u8..40).prop_map(|(which, x)| Step::Move { which, x }),
    ]
}

fn watch(database: &Database, step: (u8, u8, bool, usize)) -> (Arc<ReadSet>, Timestamp) {
    let (low, high, limit, age) = step;
    let entries = database.history().entries;
    let snapshot = entries.get(age).map_or_else(|| database.snapshot(), |e| e.snapshot.clone());
    let ts = snapshot.ts;
    let mut reader = database.begin(snapshot, &given(1), true);
    let range = [bound("Gte", "x", &low.to_string()), bound("Lt", "x", &high.to_string())];
    let operators = if limit { r#"{"limit":1}"# } else { "" };
    let query = index_query("a.by_x", &range.join(","), "asc", operators);
    // An old snapshot may be older than the schema; then there is no such index.
    let _ = collect(&mut reader, &query);
    (Arc::new(reader.reads().clone()), ts)
}

fn check(steps: Vec<Step>) {
    let (database, ears) = watched();
    let mut live: Vec<(SubscriptionId, Arc<ReadSet>)> = Vec::new();
    let mut seen = database.snapshot().ts;
    for (call, step) in steps.into_iter().enumerate() {
        let call = call as u64 + 1;
        match step {
            Step::Watch { low, high, limit, age } => {
                let (reads, ts) = watch(&database, (low, high, limit, age));
                let entries = database.history().entries;
                let stale = entries.iter().any(|e| e.ts > ts && e.overlap(&reads).is_some());
                let registered = database.subscriptions().register(&reads, ts, ears.owner());
                assert_eq!(registered.is_err(), stale);
                live.extend(registered.map(|id| (id, reads)));
            }
            Step::Cancel { which } if which < live.len() => {
                let (id, _) = live.remove(which);
                database.subscriptions().cancel(id);
                database.subscriptions().cancel(id);
            }
            Step::Cancel { .. } => {}
            Step::Insert { x } => {
                let document = value(&format!(r#"{{"x":{x}}}"#));
                mutate(&database, call, |tx| tx.insert("", "a", document));
            }
            Step::Move { which, x } => {
                let found = collect(&mut begin(&database, call), &full_scan("a")).unwrap();
                let Some(document) = found.get(which) else { continue };
                let patch = json::decode_patch(&format!(r#"{{"x":{x}}}"#)).unwrap();
                mutate(&database, call, |tx| tx.patch("", &document.id.encode(), None, patch));
            }
        }
        let newest = database.history().entries[0].clone();
        let committed = std::mem::replace(&mut seen, newest.ts) < newest.ts;
        let hit = |reads: &ReadSet| committed && newest.overlap(reads).is_some();
        let (gone, rest): (Vec<_>, Vec<_>) = live.into_iter().partition(|(_, reads)| hit(reads));
        let gone: Vec<_> = gone.into_iter().map(|(id, _)| Some(id)).collect();
        let told = ears.take();
        let mut ended: Vec<_> = told.iter().map(|told| told.subscription).collect();
        ended.sort();
        assert_eq!(ended, gone, "told of exactly those that the commit touched");
        live = rest;
        assert_eq!(database.subscriptions().len(), live.len());
        let ranges: usize = live.iter().map(|(_, reads)| reads.len()).sum();
        assert_eq!(database.subscriptions().ranges(), ranges);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_commit_ends_exactly_what_it_touches(steps in prop::collection::vec(step(), 1..60)) {
        check(steps);
    }
}

#[test]
fn an_invalidation_says_why() {
    let (database, ears) = watched();
    let (reads, ts) = watch(&database, (3, 8, false, 0));
    let subscriptions = database.subscriptions();
    subscriptions.register(&reads, ts, ears.owner()).unwrap();
    mutate(&database, 1, |tx| tx.insert("", "a", value(r#"{"x":9}"#)));
    assert!(ears.take().is_empty());
    mutate(&database, 2, |tx| tx.insert("", "a", value(r#"{"x":5}"#)));
    let said = ears.take().remove(0).to_string();
    let expected =
        "a.by_x[x>=3, x<8] changed: mutate (request r-mutate) wrote [x=5, _creationTime=";
    assert!(said.starts_with(expected), "{said}");
    assert!(subscriptions.is_empty(), "an invalidated subscription is over");
    let late = subscriptions.register(&reads, ts, ears.owner()).unwrap_err();
    assert!(late.subscription.is_none());
    assert!(late.to_string().starts_with(expected));
}

#[test]
fn registering_while_others_commit_misses_nothing() {
    let (database, ears) = watched();
    let refused = std::thread::scope(|scope| {
        let commits = scope.spawn(|| {
            for call in 1..400 {
                mutate(&database, call, |tx| tx.insert("", "a", value(r#"{"x":5}"#)));
            }
        });
        let mut refused = 0;
        for _ in 0..400 {
            let (reads, ts) = watch(&database, (5, 6, true, 0));
            let registered = database.subscriptions().register(&reads, ts, ears.owner());
            refused += u64::from(registered.is_err());
        }
        commits.join().unwrap();
        refused
    });
    // Each was refused, or heard of a commit, or still holds at the end.
    let live = database.subscriptions().len() as u64;
    assert_eq!(refused + ears.take().len() as u64 + live, 400);
    mutate(&database, 500, |tx| {
        for document in collect(tx, &full_scan("a"))? {
            tx.remove("", &document.id.encode(), None)?;
        }
        Ok(())
    });
    assert!(database.subscriptions().is_empty());
}
