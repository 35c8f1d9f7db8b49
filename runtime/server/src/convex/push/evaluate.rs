//! The answer of `evaluate_schema` (`convex-compat.md` section 6.8): what a push would cost.
//!
//! In: an analyzed push and the tables that exist. Out: for each table how much must be checked,
//! for each index what happens and over how many documents.
//! Invariant: a prediction changes nothing; what it cannot prove unnecessary it calls necessary.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::indexes::{self, Change};
use super::pending::Push;
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
    let counts: BTreeMap<String, u64> = {
        let tables = host.database.snapshot().tables(component);
        tables.iter().map(|table| (table.name.to_string(), table.documents)).collect()
    };
    let count = |table: &str| counts.get(table).copied().unwrap_or(0);
    let before = push.base.as_ref().and_then(|base| base.schema(component));
    let before = exported(before.map(|schema| &*schema.json))?;
    let after = push.analysis.of(component).and_then(|found| found.schema.as_ref());
    let after = exported(after.map(|schema| &*schema.json))?;
    let tables: Vec<Value> = after
        .tables
        .iter()
        .map(|table| {
            let documents = count(&table.table_name);
            json!({
                "name": table.table_name,
                "outcome": outcome(&before, &after, table, documents),
                "numDocs": documents,
                // Sizes are not kept per table; documents are in memory, so a check costs little.
                "sizeBytes": 0,
            })
        })
        .collect();
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
        "discardedStagedValidators": [],
    }))
}

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
        && before.tables.iter().any(|old| {
            old.table_name == table.table_name && old.document_type == table.document_type
        });
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
        let table = Table { table_name: "t".into(), document_type: document };
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
