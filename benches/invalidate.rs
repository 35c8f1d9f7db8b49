//! The price of a commit that touches one of many live ranges.
//!
//! In: nothing. Out: criterion's figures for the same commit with 1,000 and with 100,000 live
//! subscriptions, each on a range of its own. The second should cost at most twice the first.
//! Invariant: every commit ends exactly one subscription, which is made anew before the next.

use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use database::commit::{Database, Options, Writer};
use database::deployment::{Analysis, Bundle, CodeVersion, Tier};
use database::json;
use database::record::{Given, Timestamp};
use database::schema::Schema;
use database::snapshot::Deployment;
use database::subscriptions::{Invalidation, Owner, Watcher};
use database::transaction::Transaction;

const EPOCH: u64 = 1_700_000_000_000_000_000;
const SCHEMA: &str = r#"{"tables":[{"tableName":"messages",
    "indexes":[{"indexDescriptor":"by_channel","fields":["channel"]}],"stagedDbIndexes":[],
    "searchIndexes":[],"stagedSearchIndexes":[],"vectorIndexes":[],"stagedVectorIndexes":[],
    "documentType":{"type":"any"}}],"schemaValidation":true}"#;

/// Relies on every channel and does nothing about it.
struct Nobody;

impl Watcher for Nobody {
    fn end(self: Arc<Self>, _: &Invalidation) {}
    fn published(&self) {}
}

fn given(call: u64) -> Given {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&call.to_be_bytes());
    Given { code: CodeVersion::default(), snapshot: Timestamp(0), seed, now: EPOCH + call }
}

fn deployed() -> Database {
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
    database
}

/// Reads one channel at the newest snapshot and watches what was read.
fn watch(database: &Database, channel: u64) {
    let mut reader = database.begin(database.snapshot(), &given(0), true);
    let query = format!(
        r#"{{"source":{{"type":"IndexRange","indexName":"messages.by_channel","range":[
        {{"type":"Eq","fieldPath":"channel","value":{channel}}}],"order":"desc"}},
        "operators":[{{"limit":1}}]}}"#
    );
    let query = reader.open_query("", &query).expect("the index exists");
    reader.next(query).expect("within the limits");
    let reads = Arc::new(reader.reads().clone());
    let since = reader.snapshot().ts;
    let watcher: Arc<dyn Watcher> = Arc::new(Nobody);
    let watcher = Arc::downgrade(&watcher);
    let registered = database.subscriptions().register(&reads, since, Owner::Watcher(watcher));
    registered.expect("nothing was committed since");
}

fn post(database: &Database, channel: u64, call: u64) -> Transaction {
    let mut transaction = database.begin(database.snapshot(), &given(call), false);
    let message = json::decode(&format!(r#"{{"channel":{channel},"body":"hello"}}"#));
    let message = message.expect("written right above");
    transaction.insert("", "messages", message).expect("within the limits");
    transaction
}

fn invalidations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit that touches one of N live ranges");
    for live in [1_000u64, 100_000] {
        let database = deployed();
        (0..live).for_each(|channel| watch(&database, channel));
        let mut call = 1;
        let mut touched = None;
        group.bench_function(BenchmarkId::from_parameter(live), |bencher| {
            let prepared = || {
                touched.take().into_iter().for_each(|channel| watch(&database, channel));
                assert_eq!(database.subscriptions().len() as u64, live);
                call += 1;
                let channel = call * 7919 % live;
                touched = Some(channel);
                post(&database, channel, call)
            };
            let commit = |transaction| {
                let writer = Writer::new("messages:send", "b");
                database.commit(transaction, EPOCH, writer).map(drop)
            };
            bencher.iter_batched(prepared, commit, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, invalidations);
criterion_main!(benches);
