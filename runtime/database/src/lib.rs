//! The database: deterministic, in memory, no V8, no I/O, no clock.
//!
//! In: calls' reads and writes, a time and a seed as plain arguments. Out: results, conflicts and
//! invalidations that carry their reason. Invariant: nothing here can reach a clock, a socket, a
//! file or a source of randomness, so the same inputs give the same outputs, byte for byte.
//!
//! ```text
//! the seams        record.rs        Call, Outcome, and the traits of those who run functions
//!                  error.rs         by who reads them        limits.rs      the one table
//!                  work.rs          what of it is used
//! values           value.rs  json.rs  id.rs  document.rs     shown.rs       as messages print them
//! schema           schema.rs        validate.rs              catalog.rs     tables and indexes
//! 5 transaction    transaction.rs   writes.rs                read_set.rs    what it looked at
//!   queries        query.rs  index_range.rs  expression.rs   pagination.rs  pages
//! 6 commit         commit.rs        log.rs    the history    snapshot.rs    one timestamp
//!   indexes        index_maps.rs    persistent maps          key.rs         ordered bytes
//!   why            explain.rs       keys in words            probe.rs       where in the source
//! 7 invalidation   subscriptions.rs  intervals.rs            cache.rs       results of queries
//! durable          durability.rs    who waits for what       requests.rs    exactly once
//!                  stored.rs        what a log keeps         memory.rs      what goes first
//! deployments      deployment.rs    a push's code            activate.rs    it becomes the running
//!                  backfill.rs      beside the traffic       components.rs  what is mounted
//!                  unmounted.rs     and what is not          handles.rs     names handed over
//! rows of the      system_rows.rs   as any others            scheduling.rs  crons.rs  jobs
//!   host's own     files.rs         blobs                    environment.rs variables
//!                  import.rs        backup_rows.rs           data in and out
//! again            recording.rs     calls that outlive the snapshot they ran at
//! ```
#![forbid(unsafe_code)]

pub mod activate;
mod backfill;
pub mod backup_rows;
pub mod cache;
pub mod catalog;
pub mod commit;
pub mod components;
pub mod crons;
pub mod deployment;
pub mod document;
pub mod durability;
pub mod environment;
pub mod error;
mod explain;
pub mod expression;
pub mod files;
pub mod handles;
pub mod id;
pub mod import;
mod index_maps;
mod index_range;
mod intervals;
pub mod json;
pub mod key;
pub mod limits;
pub mod log;
pub mod memory;
pub mod pagination;
pub mod probe;
pub mod query;
pub mod read_set;
pub mod record;
pub mod recording;
pub mod requests;
pub mod scheduling;
pub mod schema;
mod shown;
pub mod snapshot;
pub mod stored;
pub mod subscriptions;
mod system_rows;
pub mod transaction;
mod unmounted;
pub mod validate;
pub mod value;
pub mod work;
mod writes;

#[cfg(test)]
mod tests;
