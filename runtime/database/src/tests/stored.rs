//! What a log store keeps gives the same database back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::components::mounted;
use super::{
    Analysis, Deployment, EPOCH, SCHEMA, Tier, begin, database, dump, given, push, value, writer,
};
use crate::commit::{Database, Options};
use crate::environment::Change as Variable;
use crate::id::TableNumber;
use crate::import::{Import, ImportRow, ImportTable, Mode};
use crate::log::LogEntry;
use crate::record::{RequestKey, Timestamp};
use crate::requests::RequestAnswer;
use crate::snapshot::Snapshot;
use crate::stored::{self, Change, Commit, Restored, Restoring};

const BUILD: &str = "this build";

/// A life with everything in it: pushes that change indexes, writes, variables, requests.
fn lived() -> Database {
    let database = database();
    let mut ids = Vec::new();
    for call in 0..40 {
        let mut now = begin(&database, call);
        let text = format!(r#"{{"x":{},"y":"{call}"}}"#, call % 7);
        ids.push(now.insert("", "a", value(&text)).unwrap().encode());
        if call % 3 == 2 {
            now.remove("", &ids.remove(0), None).unwrap();
        }
        if call % 5 == 4 {
            now.replace("", &ids[0], None, value(r#"{"x":"replaced"}"#)).unwrap();
        }
        let request = RequestKey { session: [3; 16], request: call as u32 };
        let answer = RequestAnswer { result: call.to_string().into(), log_lines: [].into() };
        now.once(request, answer);
        database.commit(now, EPOCH + call, writer("write")).unwrap();
        if call == 10 {
            push(&database, Some(SCHEMA)).unwrap();
        }
        if call == 20 {
            push(&database, None).unwrap();
            let set = |name: &str, value: Option<&str>| Variable {
                name: name.into(),
                value: value.map(str::to_owned),
            };
            database.change_environment(&[set("A", Some("1")), set("B", Some("2"))], 0).unwrap();
            database.change_environment(&[set("A", None), set("B", Some("3"))], 0).unwrap();
        }
        if call == 25 {
            // Another number, which nobody has; then its old one, for another table.
            for (name, number) in [("a", 10_005), ("b", 10_001)] {
                let number = Some(TableNumber(number));
                let (component, name): (Arc<str>, Arc<str>) = ("".into(), name.into());
                let rows = vec![ImportRow::new(1, Default::default()); 3];
                let source = String::new();
                let tables = vec![ImportTable { component, name, number, source, rows }];
                let (mode, component) = (Mode::Replace, "".into());
                let import = Import { mode, component, tables, files: Vec::new() };
                super::mutate(&database, call, |now| now.import(&import));
            }
            ids.clear();
            ids.extend(["1", "2", "3"].map(|_| {
                super::mutate(&database, call, |now| now.insert("", "a", value("{}"))).0.encode()
            }));
        }
        if call == 30 {
            push(&database, Some(SCHEMA)).unwrap();
            let both = [("x", Some(SCHEMA), "{}"), ("x/y", None, "{}")];
            database.activate(mounted(&both), EPOCH).unwrap();
            for component in ["x", "x/y"] {
                super::mutate(&database, 1, |now| now.insert(component, "a", value("{}")));
            }
        }
        if call == 35 {
            database.activate(mounted(&[("x", None, "{}")]), EPOCH).unwrap();
            database.delete_component("x/y", EPOCH).unwrap();
        }
    }
    database
}

fn options() -> Options {
    Options { history_bytes: 64 << 20, cache_bytes: 1 << 20, now: EPOCH }
}

/// Every commit with the snapshot before it, oldest first.
fn commits(database: &Database) -> Vec<(Arc<Snapshot>, Arc<LogEntry>)> {
    let entries: Vec<_> = database.history().entries.into_iter().rev().collect();
    let mut before = database.snapshot_at(Timestamp(EPOCH)).unwrap();
    let mut commits = Vec::new();
    for entry in entries {
        commits.push((before, Arc::clone(&entry)));
        before = Arc::clone(&entry.snapshot);
    }
    commits
}

fn pairs(snapshot: &Snapshot) -> BTreeMap<Vec<u8>, Vec<u8>> {
    stored::pairs(snapshot, BUILD).collect()
}

fn restored(pairs: &BTreeMap<Vec<u8>, Vec<u8>>, ts: Timestamp) -> Restored {
    let mut restoring = Restoring::new(BUILD);
    pairs.iter().for_each(|(key, value)| restoring.put(key, value).unwrap());
    restoring.finish(ts, options())
}

/// A checkpoint at any commit, and the log after it, give the same database.
#[test]
fn a_checkpoint_and_the_log_after_it_are_the_database() {
    let database = lived();
    let commits = commits(&database);
    assert!(commits.len() > 44);
    let mut folded = BTreeMap::new();
    for at in 0..=commits.len() {
        let here = commits.get(at).map_or(database.snapshot(), |(before, _)| Arc::clone(before));
        assert!(folded == pairs(&here), "the pairs after {at} commits");
        let mut again = restored(&folded, here.ts);
        for (before, entry) in &commits[at..] {
            let bytes = stored::encode(before, entry, BUILD);
            again.replay(Commit::decode(entry.ts, &bytes).unwrap()).unwrap();
        }
        assert!(!again.is_stale());
        let again = again.database();
        assert_eq!(dump(&again), dump(&database), "from commit {at}");
        assert!(pairs(&again.snapshot()) == pairs(&database.snapshot()));
        let request = RequestKey { session: [3; 16], request: 39 };
        assert_eq!(again.snapshot().answered(request), database.snapshot().answered(request));
        let Some((before, entry)) = commits.get(at) else { continue };
        let commit = Commit::decode(entry.ts, &stored::encode(before, entry, BUILD)).unwrap();
        for Change { key, value } in commit.changes {
            match value {
                Some(value) => drop(folded.insert(key, value)),
                None => assert!(folded.remove(&key).is_some(), "what is deleted was there"),
            }
        }
    }
}

/// What came back goes on: its history answers, and new ids and timestamps follow the old ones.
#[test]
fn a_restored_database_goes_on() {
    let database = lived();
    let commits = commits(&database);
    let mut again = restored(&pairs(&commits[5].0), commits[5].0.ts);
    for (before, entry) in &commits[5..] {
        let bytes = stored::encode(before, entry, BUILD);
        again.replay(Commit::decode(entry.ts, &bytes).unwrap()).unwrap();
    }
    let again = again.database();
    let past = &commits[12].1.snapshot;
    assert!(pairs(&again.snapshot_at(past.ts).unwrap()) == pairs(past));
    assert!(again.snapshot_at(commits[3].1.ts).is_err(), "before the checkpoint");
    let mut now = again.begin(again.newest(), &given(99), false);
    now.insert("", "a", value(r#"{"x":1}"#)).unwrap();
    let committed = again.commit(now, 7, writer("late")).unwrap();
    assert!(committed.ts > database.snapshot().ts, "the clock went back, time did not");
}

#[test]
fn another_build_must_evaluate_the_code_again() {
    let database = lived();
    let all = pairs(&database.snapshot());
    let mut other = Restoring::new("another build");
    all.iter().for_each(|(key, value)| other.put(key, value).unwrap());
    assert!(other.finish(database.snapshot().ts, options()).is_stale());
}

#[test]
fn code_is_kept_short_and_without_what_can_be_made_of_it() {
    let database = lived();
    let snapshot = database.snapshot();
    let deployment = snapshot.deployment.as_ref().unwrap();
    let analysis = Analysis {
        tier: Tier::Evaluate { reason: None, blob: vec![7; 100_000].into() },
        ..Analysis::clone(&deployment.analysis)
    };
    let heavy = Deployment { analysis: analysis.into(), ..Deployment::clone(deployment) };
    let json = serde_json::to_vec(&serde_json::json!({"build": BUILD, "deployment": heavy}));
    let json = json.unwrap();
    assert!(json.len() < 100_000);
    let with = Snapshot { deployment: Some(heavy.into()), ..Snapshot::clone(&snapshot) };
    let all = pairs(&with);
    let key = [5_u8];
    assert!(all[&key[..]].len() < json.len() / 2);
    // The other form is that of format 1.
    for value in [&all[&key[..]], &json] {
        let mut restoring = Restoring::new(BUILD);
        restoring.put(&key, value).unwrap();
        let restored = restoring.finish(snapshot.ts, options());
        assert!(!restored.is_stale());
        let again = restored.database().snapshot().deployment.clone().unwrap();
        assert_eq!(again.bundle, deployment.bundle);
        assert_eq!(again.analysis.modules, deployment.analysis.modules);
        assert!(again.analysis.tier.is_missing());
    }
    let cut = &all[&key[..]][..50];
    let damage = Restoring::new(BUILD).put(&key, cut).unwrap_err().to_string();
    assert!(damage.starts_with("the deployed code cannot be read"), "{damage}");
}

#[test]
fn gaps_and_nonsense_are_refused() {
    let database = lived();
    let commits = commits(&database);
    let bytes = |at: usize| stored::encode(&commits[at].0, &commits[at].1, BUILD);
    let decoded = |at: usize| Commit::decode(commits[at].1.ts, &bytes(at)).unwrap();
    let mut again = restored(&BTreeMap::new(), Timestamp(EPOCH));
    again.replay(decoded(0)).unwrap();
    let gap = again.replay(decoded(2)).unwrap_err().to_string();
    assert!(gap.contains("it follows"), "{gap}");
    let twice = again.replay(decoded(0)).unwrap_err();
    assert!(twice.why.contains("what is there ends at"), "{twice}");
    let whole = bytes(1);
    for end in 0..whole.len() {
        assert!(Commit::decode(Timestamp(1), &whole[..end]).is_err(), "cut at {end}");
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(Commit::decode(Timestamp(1), &longer).is_err());
    let mut restoring = Restoring::new(BUILD);
    assert!(restoring.put(&[99], b"").is_err());
    assert!(restoring.put(b"\x03\0\0\0\x27\x110123456789abcdef", b"").is_err(), "no such table");
}
