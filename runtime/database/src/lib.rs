//! The database: deterministic, in memory, no V8, no I/O, no clock.
//!
//! In: calls' reads and writes, a time and a seed as plain arguments. Out: results, conflicts and
//! invalidations that carry their reason. Invariant: nothing here can reach a clock, a socket, a
//! file or a source of randomness, so the same inputs give the same outputs, byte for byte.
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
mod writes;

#[cfg(test)]
mod tests;
