//! Several components in one database: activation of all at once, rows of each for itself.
//!
//! In: deployments with mounted components, without V8. Out: what one component's push, documents
//! and jobs mean for another.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use super::scheduling::{Clock, with_jobs};
use super::*;
use crate::components::{Components, Instance, Unit};
use crate::crons;
use crate::record::{Arguments, FunctionPath, Job};
use crate::scheduling::{self, JobState, NewJob};

/// An app with `jobs:run`, and components with the same; each with its schema and cron jobs.
pub(super) fn mounted(instances: &[(&str, Option<&str>, &str)]) -> Deployment {
    let mut deployment = with_jobs("{}");
    let mut components = Components::default();
    for (path, schema, crons) in instances {
        let part = with_jobs(crons);
        let mut analysis = Analysis::clone(&part.analysis);
        analysis.schema = schema.map(|json| Arc::new(Schema::from_json(json).unwrap()));
        let definition: Arc<str> = format!("at/{path}").into();
        let instance = Instance { definition: definition.clone(), unit: components.units.len() };
        components.instances.insert((*path).into(), instance);
        components.units.push(Unit {
            definition,
            environment: Default::default(),
            bundle: part.bundle,
            analysis: Arc::new(analysis),
        });
    }
    Arc::get_mut(&mut deployment.analysis).unwrap().components = components;
    deployment
}

fn job(from: &str, to: &str, seconds: u64) -> NewJob {
    let path = FunctionPath::parse("jobs:run").unwrap().within(&to.into());
    let args = Arguments::parse(&path, "{}").unwrap();
    let at = (EPOCH / 1_000_000_000 + seconds) as f64;
    NewJob { from: from.into(), path, args, at, by: None }
}

fn strict(kind: &str) -> String {
    format!(
        r#"{{"tables":[{{"tableName":"a","indexes":[],"documentType":{{"type":"object","value":
        {{"x":{{"fieldType":{{"type":"{kind}"}},"optional":false}}}}}}}}],
        "schemaValidation":true}}"#
    )
}

#[test]
fn components_have_tables_ids_and_schemas_of_their_own() {
    let database = database();
    let number = strict("number");
    database.activate(mounted(&[("x", Some(&number), "{}"), ("x/y", None, "{}")]), EPOCH).unwrap();
    let ((id, other), _) = mutate(&database, 1, |tx| {
        let refused = tx.insert("x", "a", value(r#"{"x":"text"}"#)).unwrap_err();
        assert_eq!(refused.code, "SchemaEnforcementError");
        let id = tx.insert("x", "a", value(r#"{"x":1}"#))?;
        Ok((id, tx.insert("x/y", "a", value(r#"{"x":"text"}"#))?))
    });
    assert_eq!(id.table, other.table, "numbers are counted by component");
    let mut tx = begin(&database, 2);
    let mut find = |component: &str, id: &crate::id::DocumentId| {
        let args = crate::transaction::GetArgs { id: &id.encode(), table: None, is_system: false };
        tx.get(component, args).unwrap().is_some()
    };
    assert_eq!([find("x", &id), find("x/y", &id), find("", &id)], [true, false, false]);
    assert!(find("x/y", &other));
}

#[test]
fn a_push_that_one_component_refuses_changes_none() {
    let database = database();
    database.activate(mounted(&[("x", None, "{}"), ("y", None, "{}")]), EPOCH).unwrap();
    mutate(&database, 1, |tx| tx.insert("y", "a", value(r#"{"x":"text"}"#)));
    let before = database.snapshot();
    let number = strict("number");
    let pushed =
        mounted(&[("new", None, "{}"), ("x", Some(SCHEMA), "{}"), ("y", Some(&number), "{}")]);
    let refused = database.activate(pushed, EPOCH).unwrap_err();
    assert!(refused.message.contains("in table \"a\" does not match"), "{}", refused.message);
    let after = database.snapshot();
    assert_eq!(after.ts, before.ts);
    assert!(!after.has_component("new") && after.indexes("x", "b").is_empty());
}

#[test]
fn what_is_not_mounted_keeps_its_documents_and_indexes_and_has_no_cron_jobs() {
    let database = database();
    let crons = r#"{"tick":{"name":"jobs:run","args":[{}],
        "schedule":{"type":"interval","hours":1}}}"#;
    let both = || mounted(&[("x", Some(SCHEMA), crons), ("y", Some(SCHEMA), crons)]);
    database.activate(both(), EPOCH).unwrap();
    mutate(&database, 1, |tx| tx.insert("x", "a", value(r#"{"x":1}"#)));
    let components = |database: &Database| -> Vec<String> {
        let snapshot = database.snapshot();
        let jobs = crons::jobs(&snapshot).map(|job| job.unwrap().path.component.to_string());
        jobs.collect::<BTreeSet<_>>().into_iter().collect()
    };
    assert_eq!(components(&database), ["x", "y"]);
    database.activate(mounted(&[("y", Some(SCHEMA), crons)]), EPOCH).unwrap();
    assert_eq!(components(&database), ["y"]);
    let snapshot = database.snapshot();
    assert_eq!(snapshot.tables("x")[0].documents, 1);
    assert_eq!(snapshot.indexes("x", "a").len(), 4);
    database.activate(both(), EPOCH).unwrap();
    assert_eq!(components(&database), ["x", "y"]);
}

#[test]
fn only_what_is_not_mounted_can_be_deleted_and_then_nothing_of_it_is_left() {
    let database = database();
    let all = || mounted(&[("x", Some(SCHEMA), "{}"), ("x/y", None, "{}"), ("xx", None, "{}")]);
    database.activate(all(), EPOCH).unwrap();
    mutate(&database, 1, |tx| tx.insert("x", "a", value(r#"{"x":1}"#)));
    mutate(&database, 2, |tx| tx.insert("xx", "a", value(r#"{"x":1}"#)));
    let code = |component| database.delete_component(component, EPOCH).unwrap_err().code;
    assert_eq!(
        [code("x"), code(""), code("z")],
        ["ComponentMounted", "ComponentPathNotFound", "ComponentPathNotFound"]
    );
    database.activate(mounted(&[("xx", None, "{}")]), EPOCH).unwrap();
    let mut reader = begin(&database, 3);
    assert_eq!(reader.count("x", "a"), Ok(1));
    database.delete_component("x", EPOCH).unwrap();
    // Who had read of it must not write on.
    reader.insert("xx", "b", value("{}")).unwrap();
    assert!(database.commit(reader, EPOCH + 3, writer("late")).is_err());
    let snapshot = database.snapshot();
    assert_eq!(snapshot.components().map(|path| &**path).collect::<Vec<_>>(), ["", "xx"]);
    assert_eq!(snapshot.tables("xx")[0].documents, 1);
    database.activate(all(), EPOCH).unwrap();
    assert_eq!(begin(&database, 4).count("x", "a"), Ok(0));
}

#[test]
fn jobs_of_all_components_are_due_in_one_order_and_belong_to_who_scheduled_them() {
    let database = database();
    database.activate(mounted(&[("x", None, "{}"), ("y", None, "{}")]), EPOCH).unwrap();
    let (ids, _) = mutate(&database, 1, |tx| {
        let jobs = [job("y", "y", 1), job("", "x", 2), job("x", "", 3), job("", "", 4)];
        jobs.into_iter().map(|job| tx.schedule(job)).collect::<Result<Vec<_>, _>>()
    });
    let snapshot = database.snapshot();
    let due: Vec<_> = scheduling::pending(&snapshot).map(|row| row.job().unwrap()).collect();
    assert_eq!(due.iter().map(|job| job.id).collect::<Vec<_>>(), ids);
    let paths: Vec<_> = due.iter().map(|job| &*job.path.component).collect();
    assert_eq!(paths, ["y", "x", "", ""]);
    let rows = |component: &str| {
        snapshot.count(snapshot.table(component, "_scheduled_functions").unwrap())
    };
    assert_eq!([rows(""), rows("x"), rows("y")], [2, 1, 1]);
    // Its own component may cancel a job, another does not find it.
    let clock = Clock(AtomicU64::new(snapshot.ts.0 + 1_000));
    scheduling::cancel(&database, &clock, ("", &ids[2].encode()), writer("c")).unwrap();
    assert!(scheduling::is_ready(&database.snapshot(), Job::Scheduled(ids[2])));
    scheduling::cancel(&database, &clock, ("x", &ids[2].encode()), writer("c")).unwrap();
    assert!(!scheduling::is_ready(&database.snapshot(), Job::Scheduled(ids[2])));
    assert!(scheduling::begin(&database, &clock, Job::Scheduled(ids[0])).is_some());
    scheduling::end(&database, &clock, Job::Scheduled(ids[0]), &JobState::Success);
    assert_eq!(begin(&database, 2).job_state(ids[0]), Some(JobState::Success));
    let mut tx = begin(&database, 3);
    let unknown = tx.schedule(job("", "gone", 1)).unwrap_err().message;
    assert_eq!(
        unknown,
        "Attempted to schedule function at nonexistent path: jobs:run in component \"gone\""
    );
}

#[test]
fn a_handle_outlives_pushes_and_leads_to_its_component() {
    let database = database();
    database.activate(mounted(&[("x", None, "{}")]), EPOCH).unwrap();
    let path = |component: &str| FunctionPath::parse("jobs:run").unwrap().within(&component.into());
    let handle = |component: &str| database.snapshot().handle(&path(component));
    let (app, x) = (handle("").unwrap(), handle("x").unwrap());
    assert_ne!(app, x);
    assert_eq!(database.snapshot().behind_handle(&x).unwrap(), path("x"));
    database.activate(mounted(&[]), EPOCH).unwrap();
    assert_eq!(database.snapshot().behind_handle(&x).unwrap(), path("x"));
    database.activate(mounted(&[("x", None, "{}"), ("y", None, "{}")]), EPOCH).unwrap();
    assert_eq!(handle("x"), Some(x.clone()));
    assert_ne!(handle("y"), Some(x));
    for wrong in ["function://0#jobs:run", "function://", "jobs:run"] {
        let error = database.snapshot().behind_handle(wrong).unwrap_err();
        assert_eq!(error.code, "InvalidFunctionHandle", "{wrong}");
    }
}
