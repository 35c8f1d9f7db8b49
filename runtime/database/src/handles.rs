//! Handles of functions: texts that one component hands to another, which may then call the
//! function (`convex-compat.md` sections 1.7 and 9.7).
//!
//! In: the functions of each push. Out: `function://<id>#<name>`, and the function behind one.
//! Invariant: a function keeps its handle for as long as the database lives, gone and come back
//! included; nobody guesses the handle of a function that was not given to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{FUNCTION_HANDLES, HIDDEN_INDEX};
use crate::deployment::Analysis;
use crate::error::UserError;
use crate::id::DocumentId;
use crate::key::{Interval, encode_value};
use crate::record::FunctionPath;
use crate::snapshot::Snapshot;
use crate::system_rows::{Fields, row};
use crate::transaction::Transaction;
use crate::value::Value;

/// How a handle begins.
const SCHEME: &str = "function://";

/// Gives every function a handle that has none, within the transaction of its activation.
pub(crate) fn sync(transaction: &mut Transaction, analysis: &Analysis) {
    let table = transaction.system_table(FUNCTION_HANDLES);
    let snapshot = Arc::clone(&transaction.snapshot);
    let rows = snapshot.range(table.by_id.id, &Interval::all());
    let known: BTreeSet<(String, String)> = rows
        .map(|(_, document)| {
            let row = row(document);
            let text = |field| row.text(field).unwrap_or_default().to_owned();
            (text("component"), text("function"))
        })
        .collect();
    for (component, analysis) in analysis.each() {
        for (module, found) in &analysis.modules {
            for function in &found.functions {
                let path = format!("{module}:{}", function.name);
                let named = (component.to_owned(), path);
                if known.contains(&named) {
                    continue;
                }
                let (component, path) = named;
                let fields = Fields::from([
                    ("component".into(), Value::String(component)),
                    ("function".into(), Value::String(path)),
                ]);
                transaction.insert_row(&table, fields);
            }
        }
    }
}

impl Snapshot {
    /// The handle of a function that was pushed once.
    pub fn handle(&self, path: &FunctionPath) -> Option<String> {
        let table = self.table("", FUNCTION_HANDLES)?;
        let mut prefix = Vec::new();
        for part in [path.component.to_string(), path.canonical()] {
            encode_value(Some(&Value::String(part)), &mut prefix);
        }
        let index = table.index(HIDDEN_INDEX)?;
        let (_, found) = self.range(index.id, &Interval::prefix(&prefix)).next()?;
        Some(format!("{SCHEME}{}#{}", found.id.encode(), path.identifier()))
    }

    /// The function behind a handle; it may not be there any more.
    ///
    /// # Errors
    /// A text that is no handle of this deployment.
    pub fn behind_handle(&self, handle: &str) -> Result<FunctionPath, UserError> {
        let unknown = || {
            let text = format!("{handle:?} is not a function handle of this deployment.");
            UserError::new("InvalidFunctionHandle", text)
        };
        let id = handle.strip_prefix(SCHEME).ok_or_else(unknown)?;
        let id = id.split_once('#').map_or(id, |(id, _)| id);
        let id = DocumentId::decode(id).ok_or_else(unknown)?;
        let table = self.table("", FUNCTION_HANDLES).filter(|table| table.number == id.table);
        let table = table.ok_or_else(unknown)?;
        let found = self.range(table.by_id.id, &Interval::point(&id.internal)).next();
        let (_, document) = found.ok_or_else(unknown)?;
        let row = row(document);
        let path = FunctionPath::parse(row.text("function").unwrap_or_default())?;
        Ok(path.within(&row.text("component").unwrap_or_default().into()))
    }
}
