//! The answer of `evaluate_schema` (`convex-compat.md` section 6.8): what a push would cost.
//!
//! In: an analyzed push and the tables that exist. Out: for each table how much must be checked,
//! for each index what happens and over how many documents.
//! Invariant: a prediction changes nothing; what it cannot prove unnecessary it calls necessary.

use database::snapshot::Snapshot;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::indexes::{self, Change};
use super::pending::Push;
use super::staged::{self, Found, Staging, State};
use super::started;
use crate::host::Host;
use crate::refusal::Failure;

/// The answer of `evaluate_schema`.
///
/// # Errors
/// Only a broken rule of ours.
pub(super) fn response(host: &Host, push: &Push) -> Result<Value, Failure> {
    let mut components = Map::new();
    for (component, _) in push.analysis.each() {
        components.insert(component.to_owned(), of_component(host, push, component)?);
    }
    let known = push.base.as_ref().map(|base| &base.analysis.components.definitions);
    let new =
        push.analysis.components.definitions.keys().filter(|path| {
            !path.is_empty() && !known.is_some_and(|known| known.contains_key(*path))
        });
    Ok(json!({
        "componentSchemaEvaluations": components,
        "newComponentDefinitions": new.collect::<Vec<_>>(),
    }))
}

fn of_component(host: &Host, push: &Push, component: &str) -> Result<Value, Failure> {
    let snapshot = host.database.snapshot();
    let count = |table: &str| -> u64 {
        snapshot.table(component, table).map_or(0, |table| snapshot.count(table))
    };
    let before = push.base.as_ref().and_then(|base| base.schema(component));
    let before = exported(before.map(|schema| &*schema.json))?;
    let after = push.analysis.of(component).and_then(|found| found.schema.as_ref());
    let after = exported(after.map(|schema| &*schema.json))?;
    let (mut tables, mut discarded) = (Vec::new(), Vec::new());
    for table in &after.tables {
        let name = &table.table_name;
        let old = before.table(name).map_or(NOTHING, Table::staging);
        let staged = staged::look(&snapshot, (component, name), old, table.staging())?;
        if let Some(replaced) = staged.discarded {
            let state = State::Valid.json();
            discarded.push(json!({ "tableName": name, "state": state, "replaced": replaced }));
        }
        tables.push(prediction(&snapshot, (component, table), (&before, &after), &staged));
    }
    let (old, new) = started::index_sets(push, component)?;
    let indexes: Vec<Value> = indexes::changes(&old, &new)
        .into_iter()
        .map(|(name, index, change)| {
            let table = name.split('.').next().unwrap_or_default();
            let mut prediction = index.to_json(name);
            prediction["change"] = change.name().into();
            prediction["needsBackfill"] = (change == Change::Added).into();
            prediction["numDocs"] = count(table).into();
            prediction
        })
        .collect();
    let instances = &push.analysis.components.instances;
    Ok(json!({
        "definitionPath": instances.get(component).map_or("", |found| &*found.definition),
        "schemaValidation": after.schema_validation,
        "tables": tables,
        "indexes": indexes,
        "discardedStagedValidators": discarded,
    }))
}

/// One table's line.
fn prediction(
    snapshot: &Snapshot,
    (component, table): (&str, &Table),
    (before, after): (&Exported, &Exported),
    staged: &Found,
) -> Value {
    let name = &table.table_name;
    let documents = snapshot.table(component, name).map_or(0, |table| snapshot.count(table));
    let outcome = match outcome(before, after, table, documents) {
        "mustWalk" if staged.applied && staged.state == Some(State::Valid) => {
            "supersetOfStagedValidated"
        }
        outcome => outcome,
    };
    let walk = outcome == "mustWalk";
    let mut shown = json!({
        "name": name,
        "outcome": outcome,
        "numDocs": documents,
        // Adding them up takes as long as the walk, so only a walk is weighed.
        "sizeBytes": if walk { staged::size(snapshot, component, name) } else { 0 },
    });
    if let Some(state) = &staged.state {
        shown["staged"] = state.json();
    }
    if walk {
        shown["canSkipAfterStagedValidation"] = staged.applied.into();
    }
    shown
}

const NOTHING: Staging<'_> = Staging { document: None, staged: None };

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    tables: Vec<Table>,
    schema_validation: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    table_name: String,
    document_type: Value,
    staged_document_type: Option<Value>,
}

impl Exported {
    fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.table_name == name)
    }
}

impl Table {
    fn staging(&self) -> Staging<'_> {
        Staging { document: Some(&self.document_type), staged: self.staged_document_type.as_ref() }
    }
}

fn exported(json: Option<&str>) -> Result<Exported, Failure> {
    let Some(json) = json else {
        return Ok(Exported::default());
    };
    serde_json::from_str(json)
        .map_err(|error| Failure::broken(format!("A schema was kept in a wrong shape: {error}")))
}

fn outcome(before: &Exported, after: &Exported, table: &Table, documents: u64) -> &'static str {
    let anything = table.document_type["type"] == "any";
    if !after.schema_validation || anything {
        return "notValidated";
    }
    let enforced = before.schema_validation
        && before
            .table(&table.table_name)
            .is_some_and(|old| old.document_type == table.document_type);
    match (enforced, documents) {
        (true, _) => "supersetOfEnforced",
        // Any validator holds for the documents of an empty table.
        (false, 0) => "supersetOfShape",
        (false, _) => "mustWalk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_table(validation: bool, document: Value) -> Exported {
        let table =
            Table { table_name: "t".into(), document_type: document, staged_document_type: None };
        Exported { tables: vec![table], schema_validation: validation }
    }

    #[test]
    fn only_what_is_proved_is_not_walked() {
        let any = || json!({ "type": "any" });
        let object = || json!({ "type": "object", "value": {} });
        let outcome = |before: Exported, after: Exported, documents| {
            outcome(&before, &after, &after.tables[0], documents)
        };
        let checked = |document| one_table(true, document);
        assert_eq!(outcome(checked(object()), checked(any()), 9), "notValidated");
        assert_eq!(outcome(checked(object()), one_table(false, object()), 9), "notValidated");
        assert_eq!(outcome(checked(object()), checked(object()), 9), "supersetOfEnforced");
        assert_eq!(outcome(one_table(false, object()), checked(object()), 9), "mustWalk");
        assert_eq!(outcome(checked(any()), checked(object()), 9), "mustWalk");
        assert_eq!(outcome(Exported::default(), checked(object()), 0), "supersetOfShape");
    }
}
