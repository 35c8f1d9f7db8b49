//! Tests of the engine as a whole: through [`Database`], never through a file's insides.
//!
//! In: databases without V8, functions written in Rust. Out: what every file's header promises,
//! checked against models, against serial replays and against fresh executions.

mod activation;
mod backfill;
mod caching;
mod components;
mod conflicts;
mod durability;
mod environment;
mod files;
mod imports;
mod limits;
mod memory;
mod model;
mod pages;
mod ranges;
mod requests;
mod retention;
mod scheduling;
mod serializability;
mod stored;
mod streams;
mod subscriptions;
mod values;

use std::sync::Arc;

use crate::commit::{Committed, Database, Options, Writer};
use crate::deployment::{Analysis, Bundle, CodeVersion, Tier};
use crate::document::Document;
use crate::error::{PushError, UserError};
use crate::json;
use crate::record::{Given, Timestamp};
use crate::schema::Schema;
use crate::snapshot::Deployment;
use crate::transaction::Transaction;
use crate::value::Value;

/// The first timestamp of every test.
const EPOCH: u64 = 1_700_000_000_000_000_000;

/// Tables `a` and `b` with an index `by_x` on `x`, and one `by_xy`; any document fits.
const SCHEMA: &str = r#"{"tables":[
    {"tableName":"a","indexes":[
        {"indexDescriptor":"by_x","fields":["x"]},{"indexDescriptor":"by_xy","fields":["x","y"]}],
     "stagedDbIndexes":[],"searchIndexes":[],"stagedSearchIndexes":[],"vectorIndexes":[],
     "stagedVectorIndexes":[],"documentType":{"type":"any"}},
    {"tableName":"b","indexes":[{"indexDescriptor":"by_x","fields":["x"]}],
     "stagedDbIndexes":[],"searchIndexes":[],"stagedSearchIndexes":[],"vectorIndexes":[],
     "stagedVectorIndexes":[],"documentType":{"type":"any"}}],
    "schemaValidation":true}"#;

fn database() -> Database {
    Database::new(Options { history_bytes: 64 << 20, cache_bytes: 1 << 20, now: EPOCH })
}

/// A database with [`SCHEMA`].
fn deployed() -> Database {
    let database = database();
    push(&database, Some(SCHEMA)).unwrap();
    database
}

fn push(database: &Database, schema: Option<&str>) -> Result<Timestamp, PushError> {
    database.activate(deployment(schema), EPOCH)
}

fn deployment(schema: Option<&str>) -> Deployment {
    let analysis = Analysis {
        version: CodeVersion::default(),
        modules: Default::default(),
        schema: schema.map(|json| Arc::new(Schema::from_json(json).unwrap())),
        definition_json: None,
        auth_json: None,
        imported_environment: Default::default(),
        components: Default::default(),
        tier: Tier::Evaluate { reason: Some("no V8 here".into()), blob: [].into() },
        warnings: Vec::new(),
    };
    Deployment { bundle: Arc::new(Bundle::default()), analysis: Arc::new(analysis) }
}

/// What the host decides for call number `call`.
fn given(call: u64) -> Given {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&call.to_be_bytes());
    Given { code: CodeVersion::default(), snapshot: Timestamp(0), seed, now: EPOCH + call }
}

fn writer(function: &str) -> Writer {
    Writer::new(function, format!("r-{function}"))
}

fn begin(database: &Database, call: u64) -> Transaction {
    database.begin(database.snapshot(), &given(call), false)
}

/// Runs one mutation alone.
fn mutate<T>(
    database: &Database,
    call: u64,
    body: impl FnOnce(&mut Transaction) -> Result<T, UserError>,
) -> (T, Committed) {
    let mut transaction = begin(database, call);
    let result = body(&mut transaction).unwrap();
    (result, database.commit(transaction, EPOCH + call, writer("mutate")).unwrap())
}

fn value(text: &str) -> Value {
    json::decode(text).unwrap()
}

/// Every document of a query.
fn collect(transaction: &mut Transaction, query: &str) -> Result<Vec<Arc<Document>>, UserError> {
    let open = transaction.open_query("", query)?;
    let mut documents = Vec::new();
    while let Some(document) = transaction.next(open)? {
        documents.push(document);
    }
    assert!(transaction.close_query(open));
    Ok(documents)
}

fn full_scan(table: &str) -> String {
    format!(r#"{{"source":{{"type":"FullTableScan","tableName":"{table}"}},"operators":[]}}"#)
}

/// A query over an index; `range` and `operators` are the insides of JSON arrays.
fn index_query(index: &str, range: &str, order: &str, operators: &str) -> String {
    format!(
        r#"{{"source":{{"type":"IndexRange","indexName":"{index}","range":[{range}],
        "order":"{order}"}},"operators":[{operators}]}}"#
    )
}

/// One comparison of an index range.
fn bound(kind: &str, field: &str, value: &str) -> String {
    format!(r#"{{"type":"{kind}","fieldPath":"{field}","value":{value}}}"#)
}

/// Field of a document, as canonical text; missing is `undefined`.
fn field(document: &Document, name: &str) -> String {
    document.value().field(name).map_or_else(|| "undefined".into(), json::encode)
}

/// Everything in a database, as text.
fn dump(database: &Database) -> String {
    let snapshot = database.snapshot();
    let mut text = String::new();
    for table in snapshot.tables("") {
        for index in snapshot.indexes("", &table.name) {
            text += &format!("{} {}\n", index.label(), table.number.0);
            for (_, document) in snapshot.range(index.id, &crate::key::Interval::all()) {
                text += document.json();
                text.push('\n');
            }
        }
    }
    text
}
