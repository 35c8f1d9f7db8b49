//! The end of a component that is not mounted any more: its data goes when the operator says so.
//!
//! In: a component's path. Out: one commit that deletes its documents, and its tables.
//! Invariant: what is mounted is never deleted; the blobs of deleted files are found by the same
//! log entries as those of single ones.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::catalog::{components_key, number_key, table_key};
use crate::commit::{Database, OPERATOR, Writer};
use crate::components::is_within;
use crate::error::PushError;
use crate::key::Interval;
use crate::log::LogEntry;
use crate::record::{Given, Timestamp};
use crate::snapshot::Snapshot;
use crate::system_rows::row;
use crate::transaction::Transaction;

impl Database {
    /// Deletes the data of a component, and of those inside of it. Commits wait meanwhile; readers
    /// do not.
    ///
    /// # Errors
    /// `ComponentPathNotFound`; `ComponentMounted`: a push must take it away first.
    pub fn delete_component(&self, component: &str, now: u64) -> Result<Timestamp, PushError> {
        let turn = self.turn();
        let newest = turn.snapshot();
        check(&newest, component)?;
        let ts = turn.next_timestamp(now, 0);
        let seed = Sha256::digest(ts.0.to_be_bytes()).into();
        let given = Given { snapshot: newest.ts, seed, now, ..Given::default() };
        let mut transaction = Transaction::begin(Arc::clone(&newest), &given, false);
        let gone: Vec<_> =
            newest.components().filter(|path| is_within(path, component)).cloned().collect();
        let tables: Vec<_> =
            gone.iter().flat_map(|path| newest.catalog.tables(path)).cloned().collect();
        for table in &tables {
            for (_, document) in newest.range(table.by_id.id, &Interval::all()) {
                transaction.remove_row(table, &row(document));
            }
        }
        let mut next = Snapshot { ts, ..Snapshot::clone(&newest) };
        next.maps = transaction.state.maps.settled().clone();
        let catalog = Arc::make_mut(&mut next.catalog);
        let mut written = vec![components_key()];
        for table in &tables {
            next.maps.remove_table(table);
            written.push(table_key(&table.component, &table.name));
            written.push(number_key(&table.component, table.number));
        }
        gone.iter().for_each(|path| catalog.remove_component(path));
        turn.publish(LogEntry {
            ts,
            writer: Writer::new(OPERATOR, ""),
            writes: transaction.state.writes.values().cloned().collect(),
            catalog: written,
            snapshot: Arc::new(next),
        });
        Ok(ts)
    }
}

fn check(snapshot: &Snapshot, component: &str) -> Result<(), PushError> {
    if component.is_empty() || !snapshot.has_component(component) {
        let text = format!("There is no component {component:?}.");
        return Err(PushError::new("ComponentPathNotFound", text));
    }
    let deployment = snapshot.deployment.as_ref();
    if deployment.is_some_and(|now| now.analysis.of(component).is_some()) {
        let text = format!(
            "The component {component:?} is mounted. Take its `use(…)` out of convex.config.ts \
             and push; then it can be deleted."
        );
        return Err(PushError::new("ComponentMounted", text));
    }
    Ok(())
}
