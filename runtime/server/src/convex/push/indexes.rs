//! What a schema change does to indexes (`IndexDiff` of `convex-compat.md` section 6.4).
//!
//! In: the exported JSON of the running and of the new schema. Out: indexes added, removed, enabled
//! and disabled, in the CLI's shape.
//! Invariant: applying the difference to the old set of indexes gives the new one.

use std::collections::BTreeMap;

use database::schema::Schema;
use serde::Deserialize;
use serde_json::{Value, json};

/// One index as the CLI knows it, keyed by `table.index`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Index {
    kind: Kind,
    /// Filled, but not to be queried until it is enabled.
    pub(super) staged: bool,
}

/// All indexes of a schema.
pub(super) type Indexes = BTreeMap<String, Index>;

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Database { fields: Vec<String> },
    Search { field: String, filters: Vec<String> },
    Vector { field: String, dimensions: u32, filters: Vec<String> },
}

/// What happens to one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Identical,
    Enabled,
    Disabled,
    Dropped,
}

impl Change {
    /// As `evaluate_schema` spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Identical => "identical",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Dropped => "dropped",
        }
    }
}

impl Index {
    /// `{name, type, fields…, staged}`.
    pub(super) fn to_json(&self, name: &str) -> Value {
        let mut index = match &self.kind {
            Kind::Database { fields } => {
                json!({ "name": name, "type": "database", "fields": fields })
            }
            Kind::Search { field, filters } => json!({
                "name": name, "type": "search", "searchField": field, "filterFields": filters,
            }),
            Kind::Vector { field, dimensions, filters } => json!({
                "name": name, "type": "vector", "dimensions": dimensions,
                "vectorField": field, "filterFields": filters,
            }),
        };
        index["staged"] = self.staged.into();
        index
    }
}

/// The indexes that a schema declares; none without a schema.
///
/// # Errors
/// A schema whose JSON is not in the shape of section 3.2, which parsing it has excluded.
pub(super) fn of(schema: Option<&Schema>) -> Result<Indexes, serde_json::Error> {
    let Some(schema) = schema else {
        return Ok(Indexes::new());
    };
    let exported: Exported = serde_json::from_str(&schema.json)?;
    Ok(exported.tables.into_iter().flat_map(Table::indexes).collect())
}

/// What happens to each index between two schemas. An index whose definition changes is dropped
/// and added.
pub(super) fn changes<'a>(old: &'a Indexes, new: &'a Indexes) -> Vec<(&'a str, &'a Index, Change)> {
    let mut changes = Vec::new();
    for (name, index) in old {
        if new.get(name).is_none_or(|new| new.kind != index.kind) {
            changes.push((name.as_str(), index, Change::Dropped));
        }
    }
    for (name, index) in new {
        let change = match old.get(name).filter(|old| old.kind == index.kind) {
            None => Change::Added,
            Some(old) if old.staged == index.staged => Change::Identical,
            Some(_) if index.staged => Change::Disabled,
            Some(_) => Change::Enabled,
        };
        changes.push((name.as_str(), index, change));
    }
    changes
}

/// `IndexDiff` of the CLI.
pub(super) fn difference(old: &Indexes, new: &Indexes) -> Value {
    let changes = changes(old, new);
    let only = |wanted: Change| -> Vec<Value> {
        let chosen = changes.iter().filter(|(_, _, change)| *change == wanted);
        chosen.map(|(name, index, _)| index.to_json(name)).collect()
    };
    json!({
        "added_indexes": only(Change::Added),
        "removed_indexes": only(Change::Dropped),
        "enabled_indexes": only(Change::Enabled),
        "disabled_indexes": only(Change::Disabled),
    })
}

#[derive(Deserialize)]
struct Exported {
    tables: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    table_name: String,
    #[serde(default)]
    indexes: Vec<Fields>,
    #[serde(default)]
    staged_db_indexes: Vec<Fields>,
    #[serde(default)]
    search_indexes: Vec<Search>,
    #[serde(default)]
    staged_search_indexes: Vec<Search>,
    #[serde(default)]
    vector_indexes: Vec<Vector>,
    #[serde(default)]
    staged_vector_indexes: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    index_descriptor: String,
    fields: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    index_descriptor: String,
    search_field: String,
    #[serde(default)]
    filter_fields: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    index_descriptor: String,
    vector_field: String,
    dimensions: u32,
    #[serde(default)]
    filter_fields: Vec<String>,
}

impl Table {
    fn indexes(self) -> Vec<(String, Index)> {
        let mut all = Vec::new();
        let mut add = |name: &str, kind: Kind, staged: bool| {
            all.push((format!("{}.{name}", self.table_name), Index { kind, staged }));
        };
        for (list, staged) in [(self.indexes, false), (self.staged_db_indexes, true)] {
            for Fields { index_descriptor, fields } in list {
                add(&index_descriptor, Kind::Database { fields }, staged);
            }
        }
        for (list, staged) in [(self.search_indexes, false), (self.staged_search_indexes, true)] {
            for Search { index_descriptor, search_field: field, filter_fields: filters } in list {
                add(&index_descriptor, Kind::Search { field, filters }, staged);
            }
        }
        for (list, staged) in [(self.vector_indexes, false), (self.staged_vector_indexes, true)] {
            for index in list {
                let Vector { index_descriptor, vector_field: field, dimensions, .. } = index;
                let filters = index.filter_fields;
                add(&index_descriptor, Kind::Vector { field, dimensions, filters }, staged);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(tables: Value) -> Indexes {
        let exported: Exported = serde_json::from_value(json!({ "tables": tables })).unwrap();
        exported.tables.into_iter().flat_map(Table::indexes).collect()
    }

    fn by(name: &str, fields: &[&str]) -> Value {
        json!({ "indexDescriptor": name, "fields": fields })
    }

    #[test]
    fn tells_every_change_apart() {
        let old = schema(json!([{
            "tableName": "t",
            "indexes": [by("same", &["a"]), by("gone", &["b"]), by("other", &["c"]),
                        by("off", &["d"])],
            "stagedDbIndexes": [by("on", &["e"])],
        }]));
        let new = schema(json!([{
            "tableName": "t",
            "indexes": [by("same", &["a"]), by("other", &["c", "a"]), by("on", &["e"]),
                        by("new", &["f"])],
            "stagedDbIndexes": [by("off", &["d"])],
        }]));
        let names = |list: &Value| -> Vec<String> {
            let list = list.as_array().unwrap();
            list.iter().map(|index| index["name"].as_str().unwrap().to_owned()).collect()
        };
        let diff = difference(&old, &new);
        assert_eq!(names(&diff["added_indexes"]), ["t.new", "t.other"]);
        assert_eq!(names(&diff["removed_indexes"]), ["t.gone", "t.other"]);
        assert_eq!(names(&diff["enabled_indexes"]), ["t.on"]);
        assert_eq!(names(&diff["disabled_indexes"]), ["t.off"]);
        assert_eq!(diff["added_indexes"][1]["fields"], json!(["c", "a"]));
        assert_eq!(diff["disabled_indexes"][0]["staged"], json!(true));
    }

    #[test]
    fn search_and_vector_indexes_have_their_own_shapes() {
        let new = schema(json!([{
            "tableName": "t",
            "searchIndexes": [{ "indexDescriptor": "s", "searchField": "body",
                                "filterFields": ["by"] }],
            "stagedVectorIndexes": [{ "indexDescriptor": "v", "vectorField": "e",
                                      "dimensions": 3, "filterFields": [] }],
        }]));
        let added = &difference(&Indexes::new(), &new)["added_indexes"];
        assert_eq!(
            added[0],
            json!({ "name": "t.s", "type": "search", "searchField": "body",
                                     "filterFields": ["by"], "staged": false })
        );
        assert_eq!(
            added[1],
            json!({ "name": "t.v", "type": "vector", "dimensions": 3,
                                     "vectorField": "e", "filterFields": [], "staged": true })
        );
    }
}
