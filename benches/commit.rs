//! The price of a commit without V8: moving an amount between two of 10,000 accounts.
//!
//! In: nothing. Out: criterion's figures for `begin · two indexed reads · two patches · commit`,
//! alone, and for a commit that validates against a hundred others.
//! Invariant: every round does the same work; the history's budget bounds its memory.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use database::commit::{Database, Options, Writer};
use database::deployment::{Analysis, Bundle, CodeVersion, Tier};
use database::json;
use database::record::{Given, Timestamp};
use database::schema::Schema;
use database::snapshot::Deployment;
use database::transaction::Transaction;

const EPOCH: u64 = 1_700_000_000_000_000_000;
const ACCOUNTS: u64 = 10_000;
const SCHEMA: &str = r#"{"tables":[{"tableName":"accounts",
    "indexes":[{"indexDescriptor":"by_number","fields":["number"]}],"stagedDbIndexes":[],
    "searchIndexes":[],"stagedSearchIndexes":[],"vectorIndexes":[],"stagedVectorIndexes":[],
    "documentType":{"type":"any"}}],"schemaValidation":true}"#;

fn given(call: u64) -> Given {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&call.to_be_bytes());
    Given { code: CodeVersion::default(), snapshot: Timestamp(0), seed, now: EPOCH + call }
}

fn writer() -> Writer {
    Writer::new("accounts:transfer", "bench")
}

fn filled() -> Database {
    let database = Database::new(Options::at(EPOCH));
    let schema = Schema::from_json(SCHEMA).expect("the schema above is well formed");
    let analysis = Analysis {
        version: CodeVersion::default(),
        modules: Default::default(),
        schema: Some(Arc::new(schema)),
        definition_json: None,
        auth_json: None,
        imported_environment: Default::default(),
        components: Default::default(),
        tier: Tier::Evaluate { reason: Some("no V8 in this bench".into()), blob: [].into() },
        warnings: Vec::new(),
    };
    let deployment =
        Deployment { bundle: Arc::new(Bundle::default()), analysis: Arc::new(analysis) };
    database.activate(deployment, EPOCH).expect("an empty database fits any schema");
    let mut transaction = database.begin(database.snapshot(), &given(0), false);
    for number in 0..ACCOUNTS {
        let account = format!(r#"{{"number":{number},"balance":1000,"owner":"somebody"}}"#);
        let account = json::decode(&account).expect("written right above");
        transaction.insert("", "accounts", account).expect("within the limits");
    }
    database.commit(transaction, EPOCH, writer()).expect("nobody else commits");
    database
}

/// Adds to one account's balance.
fn add(transaction: &mut Transaction, number: u64, amount: i64) {
    let query = format!(
        r#"{{"source":{{"type":"IndexRange","indexName":"accounts.by_number","range":[
        {{"type":"Eq","fieldPath":"number","value":{number}}}],"order":null}},
        "operators":[{{"limit":1}}]}}"#
    );
    let query = transaction.open_query("", &query).expect("the index exists");
    let account = transaction.next(query).expect("within the limits").expect("it was inserted");
    let balance = match account.value().field("balance") {
        Some(database::value::Value::Float64(balance)) => balance + amount as f64,
        other => panic!("a balance is a number: {other:?}"),
    };
    let patch = json::decode_patch(&format!(r#"{{"balance":{balance}}}"#)).expect("a number");
    let id = account.id.encode();
    black_box(transaction.patch("", &id, None, patch).expect("it exists"));
}

fn transfer(database: &Database, call: u64) -> Transaction {
    let mut transaction = database.begin(database.snapshot(), &given(call), false);
    add(&mut transaction, call * 7919 % ACCOUNTS, -1);
    add(&mut transaction, (call * 7919 + 1) % ACCOUNTS, 1);
    transaction
}

fn commits(criterion: &mut Criterion) {
    let database = filled();
    let mut call = 1;
    criterion.bench_function("transfer/whole", |bencher| {
        bencher.iter(|| {
            call += 1;
            let transaction = transfer(&database, call);
            database.commit(transaction, EPOCH + call, writer()).expect("nobody else commits")
        });
    });
    criterion.bench_function("transfer/commit", |bencher| {
        let prepared = || {
            call += 1;
            transfer(&database, call)
        };
        let commit = |transaction| database.commit(transaction, EPOCH, writer()).map(drop);
        bencher.iter_batched(prepared, commit, BatchSize::PerIteration);
    });
    criterion.bench_function("transfer/commit a hundred commits late", |bencher| {
        let prepared = || {
            call += 200;
            let late = transfer(&database, call);
            for other in 1..=100 {
                let other = transfer(&database, call + other);
                database.commit(other, EPOCH, writer()).expect("nobody else commits");
            }
            late
        };
        let commit = |transaction| database.commit(transaction, EPOCH, writer()).map(drop);
        bencher.iter_batched(prepared, commit, BatchSize::PerIteration);
    });
}

criterion_group!(benches, commits);
criterion_main!(benches);
