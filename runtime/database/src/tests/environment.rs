//! Environment variables: recorded reads, changes that invalidate exactly those, limits.

use std::collections::BTreeMap;

use super::*;
use crate::environment::{Change, Variables, check};
use crate::limits;
use crate::log::LogEntry;

fn set(name: &str, value: &str) -> Change {
    Change { name: name.into(), value: Some(value.into()) }
}

fn unset(name: &str) -> Change {
    Change { name: name.into(), value: None }
}

/// Who of those that read `X`, the missing `Y`, and nothing, is touched by a change.
fn touched(database: &Database, change: Change) -> [bool; 3] {
    let readers = [Some("X"), Some("Y"), None].map(|name| {
        let mut transaction = begin(database, 1);
        if let Some(name) = name {
            transaction.environment_variable(name);
        }
        transaction.reads().clone()
    });
    let before = database.snapshot().ts;
    database.change_environment(&[change], EPOCH).unwrap();
    let history = database.history();
    let newest: Vec<&Arc<LogEntry>> = history.entries.iter().filter(|e| e.ts > before).collect();
    readers.map(|reads| newest.iter().any(|entry| entry.overlap(&reads).is_some()))
}

#[test]
fn a_change_touches_those_who_read_that_variable_and_nobody_else() {
    let database = deployed();
    database.change_environment(&[set("X", "1")], EPOCH).unwrap();
    assert_eq!(begin(&database, 1).environment_variable("X").as_deref(), Some("1"));
    assert_eq!(touched(&database, set("X", "2")), [true, false, false]);
    assert_eq!(touched(&database, set("X", "2")), [false, false, false], "the same value");
    assert_eq!(touched(&database, set("Y", "")), [false, true, false], "a missing one was read");
    assert_eq!(touched(&database, unset("Y")), [false, true, false]);
    assert_eq!(touched(&database, unset("Z")), [false, false, false]);
    assert_eq!(begin(&database, 1).environment_variable("Y"), None);
}

#[test]
fn a_conflict_names_the_variable() {
    let database = deployed();
    let mut transaction = begin(&database, 1);
    transaction.environment_variable("KEY");
    transaction.insert("", "a", value("{}")).unwrap();
    database.change_environment(&[set("KEY", "secret")], EPOCH).unwrap();
    let rejected = database.commit(transaction, EPOCH, writer("f")).unwrap_err();
    let cause = rejected.conflict.cause();
    let expected =
        "f re-ran: the operator changed the environment variable \"KEY\", which it had read";
    assert_eq!(cause, expected);
    assert_eq!(rejected.conflict.range, "[environment variable \"KEY\"]");
}

#[test]
fn variables_survive_commits_and_pushes_and_stay_in_the_past() {
    let database = deployed();
    let before = database.snapshot();
    database.change_environment(&[set("X", "1")], EPOCH).unwrap();
    mutate(&database, 1, |transaction| transaction.insert("", "a", value("{}")));
    push(&database, Some(SCHEMA)).unwrap();
    assert_eq!(database.snapshot().environment().get("X").map(|x| &**x), Some("1"));
    assert_eq!(before.environment().get("X"), None);
}

#[test]
fn code_serves_only_with_the_values_that_its_modules_saw() {
    let database = deployed();
    let saw = |name: &str, value: Option<&str>| {
        let mut deployment = deployment(Some(SCHEMA));
        let analysis = Arc::get_mut(&mut deployment.analysis).unwrap();
        let value = value.map(str::to_owned);
        analysis.imported_environment = BTreeMap::from([(name.to_owned(), value)]);
        deployment
    };
    let code = |result: Result<Timestamp, PushError>| result.map_err(|error| error.code);
    database.change_environment(&[set("X", "1")], EPOCH).unwrap();
    assert_eq!(code(database.activate(saw("X", None), EPOCH)), Err("RaceDetected"));
    database.activate(saw("X", Some("1")), EPOCH).unwrap();
    let now = database.snapshot().ts;
    assert_eq!(code(database.change_environment(&[set("X", "2")], EPOCH)), Err("RaceDetected"));
    assert_eq!(database.snapshot().ts, now, "nothing changed");
    database.change_environment(&[set("Y", "2")], EPOCH).unwrap();
    database.activate_with(saw("X", Some("2")), &[set("X", "2")], EPOCH).unwrap();
    assert_eq!(database.snapshot().environment().get("X").map(|x| &**x), Some("2"));
}

#[test]
fn names_made_up_without_end_are_read_as_one_range() {
    let database = deployed();
    let mut transaction = begin(&database, 1);
    for number in 0..3 * limits::ENVIRONMENT_VARIABLES {
        transaction.environment_variable(&format!("V{number}"));
    }
    transaction.environment_variable(&"x".repeat(300));
    transaction.environment_variable("not a name");
    assert!(transaction.reads().len() <= 2, "{}", transaction.reads().len());
    database.change_environment(&[set("V0", "1")], EPOCH).unwrap();
    let history = database.history();
    assert!(history.entries[0].overlap(transaction.reads()).is_some());
}

#[test]
fn what_the_operator_may_set() {
    let refused = |changes: &[Change]| check(&Variables::default(), changes).unwrap_err().code;
    let long = |bytes: u64| "x".repeat(usize::try_from(bytes).unwrap());
    assert_eq!(refused(&[set("", "")]), "EnvironmentVariableNameInvalid");
    assert_eq!(refused(&[set("1A", "")]), "EnvironmentVariableNameInvalid");
    assert_eq!(refused(&[set("A B", "")]), "EnvironmentVariableNameInvalid");
    assert_eq!(refused(&[unset("CONVEX_SITE_URL")]), "EnvVarNameForbidden");
    assert_eq!(refused(&[set("A", "1"), unset("A")]), "EnvVarNameNotUnique");
    let name = long(limits::ENVIRONMENT_NAME_BYTES);
    check(&Variables::default(), &[set(&name, "")]).unwrap();
    assert_eq!(refused(&[set(&format!("{name}x"), "")]), "EnvironmentVariableNameTooLong");
    let most = long(limits::ENVIRONMENT_VALUE_BYTES);
    check(&Variables::default(), &[set("_a1", &most)]).unwrap();
    assert_eq!(refused(&[set("A", &format!("{most}x"))]), "EnvironmentVariableValueTooLarge");

    let full: Vec<Change> =
        (0..limits::ENVIRONMENT_VARIABLES).map(|n| set(&format!("V{n}"), "")).collect();
    let variables = Variables::default().after(&full, Timestamp(1));
    assert_eq!(check(&variables, &[set("ONE_MORE", "")]).unwrap_err().code, "EnvVarLimitMet");
    check(&variables, &[set("ONE_MORE", ""), unset("V0")]).unwrap();
    let fits = limits::ENVIRONMENT_BYTES / (limits::ENVIRONMENT_VALUE_BYTES + 2);
    let large: Vec<Change> = (10..10 + fits).map(|n| set(&format!("{n}"), &most)).collect();
    let variables = Variables::default().after(&large, Timestamp(1));
    assert_eq!(check(&variables, &[set("X", &most)]).unwrap_err().code, "EnvVarTotalSizeLimitMet");
}
