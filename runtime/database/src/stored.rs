//! What a log store keeps of a database: pairs of bytes, and commits as changes of pairs.
//!
//! ```text
//!   LogEntry ─▶ encode ─▶ bytes in the log ─▶ Commit::decode ─▶ changes of pairs (a checkpoint)
//!                                                  └──────────▶ replay ─▶ LogEntry
//!   pairs of a checkpoint ─▶ Restoring ─▶ Snapshot
//! ```
//! In: commits, or bytes that were written by an earlier process. Out: the other. Invariant: the
//! pairs at a timestamp are the whole database at it; replaying a commit on the snapshot before it
//! gives the snapshot after it. Bytes that mean nothing are [`Damaged`], never guessed.

mod bytes;
mod restore;

use std::sync::Arc;

use brotli::enc::BrotliEncoderParams;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalog::{Catalog, Table};
use crate::commit::Writer;
use crate::document::Document;
use crate::id::{DocumentId, TableNumber};
use crate::log::{LogEntry, Write};
use crate::record::{RequestKey, Timestamp};
use crate::requests::RequestAnswer;
use crate::snapshot::Snapshot;
use bytes::Reader;

pub use restore::{Restored, Restoring};

/// The layout of everything below. A store of a higher one is not opened, one of a lower one is
/// read and goes on in this one: until 2 code was kept at its full length, with its snapshots.
pub const FORMAT: u32 = 2;

/// A component, and how its pair begins: in this order pairs are read back.
const COMPONENT: u8 = 1;
/// A table.
const TABLE: u8 = 2;
/// A document.
const DOCUMENT: u8 = 3;
/// An environment variable.
const VARIABLE: u8 = 4;
/// The code that serves.
const DEPLOYMENT: u8 = 5;
/// The answer of a request that may come again.
const REQUEST: u8 = 6;

/// The first byte of a value that brotli made shorter; JSON has another one.
const SHORTENED: u8 = 0;
/// The window of brotli: 4 MiB, in which the parts of an app repeat each other.
const WINDOW_BITS: i32 = 22;
/// Bytes of an encoded write beside the document's text: its key, its lengths, its numbers.
const WRITE_BYTES: usize = 64;

/// Bytes that no version of this program wrote.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what} cannot be read: {why}")]
pub struct Damaged {
    /// `the commit at 17…`, `a document`, …
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

impl Damaged {
    fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

/// One pair that a commit wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None`: it is gone.
    pub value: Option<Vec<u8>>,
}

/// One commit as the log keeps it.
#[derive(Clone, Debug)]
pub struct Commit {
    /// When.
    pub ts: Timestamp,
    /// The timestamp of the commit before it.
    pub previous: Timestamp,
    /// Who wrote.
    pub writer: Writer,
    /// What.
    pub changes: Vec<Change>,
}

/// A table's pair.
#[derive(Serialize, Deserialize)]
struct StoredTable {
    name: Arc<str>,
    indexes: Vec<StoredIndex>,
}

#[derive(Serialize, Deserialize)]
struct StoredIndex {
    name: Arc<str>,
    fields: Vec<Arc<str>>,
    staged: bool,
}

/// A deployment's pair.
#[derive(Serialize, Deserialize)]
struct StoredDeployment<D> {
    /// The build whose V8 can load its startup snapshot.
    build: String,
    deployment: D,
}

/// A request's pair.
#[derive(Serialize, Deserialize)]
struct StoredRequest {
    key: RequestKey,
    answer: RequestAnswer,
}

/// Encodes a commit; `before` is the snapshot before it, `build` names this program's build.
pub fn encode(before: &Snapshot, entry: &LogEntry, build: &str) -> Vec<u8> {
    let texts = entry.writes.iter().filter_map(|write| write.after.as_ref());
    let texts: usize = texts.map(|document| document.json().len()).sum();
    // A large commit is not copied again and again while it grows.
    let mut out = Vec::with_capacity(512 + texts + entry.writes.len() * WRITE_BYTES);
    bytes::put_u64(&mut out, before.ts.0);
    bytes::put(&mut out, &to_json(&entry.writer));
    let (place, mut count) = (out.len(), 0);
    bytes::put_u32(&mut out, count);
    each_change(before, entry, build, &mut |Change { key, value }| {
        bytes::put(&mut out, &key);
        out.push(u8::from(value.is_some()));
        bytes::put(&mut out, value.as_deref().unwrap_or_default());
        count += 1;
    });
    bytes::set_u32(&mut out, place, count);
    out
}

/// The pairs of a whole snapshot, in no order that matters.
pub fn pairs(snapshot: &Snapshot, build: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let nothing = Snapshot::empty(Timestamp(0));
    let mut all = component_changes(&nothing.catalog, &snapshot.catalog).0;
    all.extend(table_changes(&nothing.catalog, &snapshot.catalog));
    all.extend(variable_changes(&nothing, snapshot));
    all.extend(snapshot.deployment.is_some().then(|| deployment_change(snapshot, build)));
    all.extend(snapshot.requests.all().map(|(ts, key, answer)| request_change(ts, key, answer)));
    // One by one: together they are as large as the database.
    let documents = snapshot.catalog.all_tables().flat_map(|table| {
        let documents = snapshot.range(table.by_id.id, &crate::key::Interval::all());
        documents.map(|(_, document)| document_change(table, document.id, Some(document)))
    });
    all.into_iter().chain(documents).filter_map(|Change { key, value }| Some((key, value?)))
}

/// Where the pairs of requests older than a snapshot's oldest one are: they are no longer needed.
pub fn forgotten_requests(snapshot: &Snapshot) -> (Vec<u8>, Vec<u8>) {
    let oldest = snapshot.requests.all().next().map_or(snapshot.ts, |(ts, _, _)| ts);
    (request_key(Timestamp(0)), request_key(oldest))
}

/// Hands out the pairs that a commit wrote, one by one: together they are as large as it is.
fn each_change(before: &Snapshot, entry: &LogEntry, build: &str, take: &mut dyn FnMut(Change)) {
    let after = &entry.snapshot;
    let mut unmounted = Vec::new();
    let write = |write: &Arc<Write>| {
        document_change(&write.table, write.document().id, write.after.as_deref())
    };
    if Arc::ptr_eq(&before.catalog, &after.catalog) {
        entry.writes.iter().map(write).for_each(&mut *take);
    } else {
        let (added, gone) = component_changes(&before.catalog, &after.catalog);
        added.into_iter().for_each(&mut *take);
        unmounted = gone;
        // A table goes after its documents, and comes before them.
        let stays = |write: &&Arc<Write>| after.catalog.index(write.table.by_id.id).is_some();
        let (stay, go): (Vec<_>, Vec<_>) = entry.writes.iter().partition(stays);
        go.into_iter().map(write).for_each(&mut *take);
        table_changes(&before.catalog, &after.catalog).into_iter().for_each(&mut *take);
        stay.into_iter().map(write).for_each(&mut *take);
    }
    if !entry.catalog.is_empty() {
        variable_changes(before, after).into_iter().for_each(&mut *take);
        let same = match (&before.deployment, &after.deployment) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (before, after) => before.is_none() && after.is_none(),
        };
        if !same {
            take(deployment_change(after, build));
        }
    }
    if let Some((key, answer)) = after.requests.at(entry.ts) {
        take(request_change(entry.ts, key, answer));
    }
    // After their documents.
    unmounted.into_iter().for_each(take);
}

/// The components that are new, and those that are gone; the app is there from the start.
fn component_changes(before: &Catalog, after: &Catalog) -> (Vec<Change>, Vec<Change>) {
    let missing = |from: &Catalog, to: &Catalog, value: Option<Vec<u8>>| -> Vec<Change> {
        let known = |path: &&Arc<str>| to.components().any(|known| known == *path);
        let missing = from.components().filter(|path| !known(path));
        let key = |path: &Arc<str>| [&[COMPONENT], path.as_bytes()].concat();
        missing.map(|path| Change { key: key(path), value: value.clone() }).collect()
    };
    (missing(after, before, Some(Vec::new())), missing(before, after, None))
}

/// The tables that differ; the host's own are there from the start.
fn table_changes(before: &Catalog, after: &Catalog) -> Vec<Change> {
    let authors = |catalog: &Catalog| -> Vec<Arc<Table>> {
        catalog.all_tables().filter(|table| !table.is_system()).cloned().collect()
    };
    let changed = authors(after).into_iter().filter(|table| {
        let old = before.table(&table.component, &table.name);
        old.is_none_or(|old| !Arc::ptr_eq(old, table))
    });
    let changed = changed.map(|table| {
        let indexes = table.indexes.values().map(|index| StoredIndex {
            name: Arc::clone(&index.name),
            fields: index.declared_fields().to_vec(),
            staged: index.staged,
        });
        let stored = StoredTable { name: Arc::clone(&table.name), indexes: indexes.collect() };
        let key = table_key(TABLE, &table.component, table.number);
        Change { key, value: Some(to_json(&stored)) }
    });
    let gone = authors(before).into_iter().filter(|table| {
        let now = after.table(&table.component, &table.name);
        now.is_none_or(|now| now.number != table.number)
    });
    let gone = gone
        .map(|table| Change { key: table_key(TABLE, &table.component, table.number), value: None });
    // First those that are gone: another may have their name or their number now.
    gone.chain(changed).collect()
}

fn document_change(table: &Table, id: DocumentId, document: Option<&Document>) -> Change {
    let mut key = table_key(DOCUMENT, &table.component, table.number);
    key.extend_from_slice(&id.internal);
    let value = document.map(|document| {
        let mut value = Vec::with_capacity(12 + document.json().len());
        bytes::put_u64(&mut value, document.creation_time.to_bits());
        value.extend_from_slice(&document.size.to_le_bytes());
        value.extend_from_slice(document.json().as_bytes());
        value
    });
    Change { key, value }
}

fn variable_changes(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let key = |name: &str| [&[VARIABLE], name.as_bytes()].concat();
    let (old, new) = (&before.environment, &after.environment);
    let set = new.iter().filter(|(name, value)| old.variable(name) != Some(*value));
    let set = set.map(|(name, value)| Change { key: key(name), value: Some(to_json(value)) });
    let gone = old.iter().filter(|(name, _)| new.variable(name).is_none());
    set.chain(gone.map(|(name, _)| Change { key: key(name), value: None })).collect()
}

fn deployment_change(after: &Snapshot, build: &str) -> Change {
    let value = after.deployment.as_deref().map(|deployment| {
        shortened(&to_json(&StoredDeployment { build: build.to_owned(), deployment }))
    });
    Change { key: vec![DEPLOYMENT], value }
}

/// Every push is a commit, so that the room for history is the room for pushes too.
fn shortened(json: &[u8]) -> Vec<u8> {
    let quick = BrotliEncoderParams { quality: 2, lgwin: WINDOW_BITS, ..Default::default() };
    let mut value = vec![SHORTENED];
    let mut rest = json;
    brotli::BrotliCompress(&mut rest, &mut value, &quick).expect("a Vec always takes it");
    value
}

fn request_change(ts: Timestamp, key: RequestKey, answer: &RequestAnswer) -> Change {
    let stored = StoredRequest { key, answer: answer.clone() };
    Change { key: request_key(ts), value: Some(to_json(&stored)) }
}

/// The pairs of requests in the order of their commits.
fn request_key(ts: Timestamp) -> Vec<u8> {
    let mut key = vec![REQUEST];
    key.extend_from_slice(&ts.0.to_be_bytes());
    key
}

/// The component ends with a byte that no name has.
fn table_key(kind: u8, component: &str, number: TableNumber) -> Vec<u8> {
    let mut key = Vec::with_capacity(22 + component.len());
    key.push(kind);
    key.extend_from_slice(component.as_bytes());
    key.push(0);
    key.extend_from_slice(&number.0.to_be_bytes());
    key
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types have strings as keys")
}

/// What a commit changed, without who did it.
///
/// # Errors
/// Bytes that [`encode`] does not make.
pub fn changes_of(ts: Timestamp, bytes: &[u8]) -> Result<Vec<Change>, Damaged> {
    Ok(Encoded::of(ts, bytes)?.changes)
}

/// A commit whose writer was not looked at.
struct Encoded<'a> {
    previous: Timestamp,
    writer: &'a [u8],
    changes: Vec<Change>,
}

impl<'a> Encoded<'a> {
    fn of(ts: Timestamp, bytes: &'a [u8]) -> Result<Self, Damaged> {
        let what = || format!("the commit at {ts}");
        let short = |()| Damaged::new(what(), "it ends early");
        let mut reader = Reader(bytes);
        let previous = Timestamp(reader.u64().map_err(short)?);
        let writer = reader.bytes().map_err(short)?;
        let count = reader.u32().map_err(short)?;
        let mut changes = Vec::new();
        for _ in 0..count {
            let key = reader.bytes().map_err(short)?.to_vec();
            let there = reader.u8().map_err(short)? == 1;
            let value = reader.bytes().map_err(short)?;
            changes.push(Change { key, value: there.then(|| value.to_vec()) });
        }
        if !reader.0.is_empty() {
            return Err(Damaged::new(what(), "something comes after its end"));
        }
        Ok(Self { previous, writer, changes })
    }
}

impl Commit {
    /// Reads a commit.
    ///
    /// # Errors
    /// Bytes that [`encode`] does not make.
    pub fn decode(ts: Timestamp, bytes: &[u8]) -> Result<Self, Damaged> {
        let Encoded { previous, writer, changes } = Encoded::of(ts, bytes)?;
        let writer = serde_json::from_slice(writer);
        let writer = writer.map_err(|e| Damaged::new(format!("the commit at {ts}"), e))?;
        Ok(Self { ts, previous, writer, changes })
    }
}
