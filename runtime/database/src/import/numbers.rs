//! Which number each table has after an import.
//!
//! In: the numbers by which imported ids know their tables, and those there are. Out: the tables
//! that are made, or get another number. Invariant: a table with documents that stay keeps its
//! number; two tables of a component never have the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Import, ImportTable, taken};
use crate::catalog::{FIRST_USER_TABLE, Table};
use crate::error::UserError;
use crate::id::TableNumber;
use crate::snapshot::Snapshot;

/// A table that an import makes.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) component: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) number: TableNumber,
    /// The table of that name, which has another number and is, or will be, empty.
    pub(super) before: Option<Arc<Table>>,
}

/// Decides, component by component.
///
/// # Errors
/// A number that a table with documents has.
pub(super) fn numbered(import: &Import, snapshot: &Snapshot) -> Result<Vec<Numbered>, UserError> {
    let mut all = Vec::new();
    for component in import.components() {
        all.extend(of_component(import, snapshot, component)?);
    }
    Ok(all)
}

fn of_component(
    import: &Import,
    snapshot: &Snapshot,
    component: &Arc<str>,
) -> Result<Vec<Numbered>, UserError> {
    let tables = import.tables.iter().filter(|table| table.component == *component);
    let imported: BTreeMap<&str, &ImportTable> =
        tables.map(|table| (&*table.name, table)).collect();
    let claims = claims(&imported)?;
    let mut numbers: BTreeSet<TableNumber> = claims.keys().copied().collect();
    let (mut made, mut floating) = (Vec::new(), Vec::new());
    let there = taken(&snapshot.catalog, component);
    for (number, table) in &there {
        let stays = !import.clears(imported.contains_key(&*table.name)) || table.is_system();
        let holds = stays && snapshot.count(table) > 0;
        let wanted = claims.iter().find(|(_, name)| ***name == *table.name).map(|(n, _)| *n);
        match (wanted, claims.get(number)) {
            // It has the number that it should have, or nobody else wants it.
            (Some(wanted), _) if wanted == *number => {}
            (None, None) => drop(numbers.insert(*number)),
            (wanted, claimed) if holds => return Err(conflict(table, wanted, claimed.copied())),
            (Some(wanted), _) => made.push((wanted, Arc::clone(&table.name), Some(table))),
            (None, Some(_)) => floating.push((Arc::clone(&table.name), Some(table))),
        }
    }
    for (name, table) in imported {
        if snapshot.table(component, name).is_none() {
            match claims.iter().find(|(_, claimed)| **claimed == name) {
                Some((number, _)) => made.push((*number, Arc::clone(&table.name), None)),
                None => floating.push((Arc::clone(&table.name), None)),
            }
        }
    }
    let mut free = (FIRST_USER_TABLE..).map(TableNumber).filter(|n| !numbers.contains(n));
    for (name, before) in floating {
        made.push((free.next().expect("there are fewer tables than numbers"), name, before));
    }
    let numbered = made.into_iter().map(|(number, name, before)| Numbered {
        component: Arc::clone(component),
        name,
        number,
        before: before.cloned(),
    });
    Ok(numbered.collect())
}

/// Which table each number belongs to in the import.
fn claims<'a>(
    imported: &BTreeMap<&'a str, &ImportTable>,
) -> Result<BTreeMap<TableNumber, &'a str>, UserError> {
    let mut claims = BTreeMap::new();
    for (name, table) in imported {
        let Some(number) = table.number.or_else(|| first_number(table)) else { continue };
        if number.0 < FIRST_USER_TABLE {
            let text = format!(
                "The table \"{name}\" of the import has the number {}; tables of an app have \
                 numbers from {FIRST_USER_TABLE} on.",
                number.0
            );
            return Err(UserError::new("InvalidTableNumber", text));
        }
        if let Some(other) = claims.insert(number, *name) {
            let text = format!(
                "The tables \"{other}\" and \"{name}\" of the import have the same number, {}.",
                number.0
            );
            return Err(UserError::new("InvalidTableNumber", text));
        }
    }
    Ok(claims)
}

/// The number in the first id, where nothing else says it.
fn first_number(table: &ImportTable) -> Option<TableNumber> {
    let ids = table.rows.iter().filter_map(|row| row.id);
    ids.map(|id| id.table).find(|number| number.0 >= FIRST_USER_TABLE)
}

/// A table keeps documents under a number that it would have to give up.
fn conflict(table: &Table, wanted: Option<TableNumber>, claimed: Option<&str>) -> UserError {
    let Table { name, number, .. } = table;
    let text = match (wanted, claimed) {
        (Some(wanted), _) => format!(
            "The documents to import into \"{name}\" have IDs of a table with the number {}, and \
             \"{name}\" has documents with the number {}: they are from different deployments. \
             Replace the table, or take `_id` out of the file.",
            wanted.0, number.0
        ),
        (None, claimed) => format!(
            "The IDs of the table \"{}\" of the import have the number {}, which is that of \
             \"{name}\" here, and \"{name}\" has documents. Import into an empty deployment, or \
             replace all tables.",
            claimed.unwrap_or_default(),
            number.0
        ),
    };
    UserError::new("TableNumberConflict", text)
}
