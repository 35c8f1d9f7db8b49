//! One transaction after another against a model: a plain list of documents.
//!
//! In: random inserts, patches, replacements, deletes, savepoints, rollbacks and commits. Out:
//! every get, count and range, either way round, is what the list says, own writes included,
//! whichever of them is the first to look.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Insert { table: bool, x: Option<i8>, y: i8 },
    Patch { which: usize, x: Option<i8> },
    Replace { which: usize, x: Option<i8>, y: i8 },
    Remove { which: usize },
    Savepoint,
    Rollback,
    Commit,
    Range { table: bool, low: i8, high: i8, descending: bool, limit: Option<u8> },
    Equal { x: Option<i8>, low: i8, descending: bool },
    Count { table: bool },
    Scan { table: bool },
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    table: &'static str,
    id: String,
    x: Option<i8>,
    y: Option<i8>,
    /// Order of creation.
    made: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let x = || prop::option::weighted(0.9, -3i8..8);
    prop_oneof![
        6 => (any::<bool>(), x(), 0i8..4).prop_map(|(table, x, y)| Step::Insert { table, x, y }),
        3 => (0usize..30, x()).prop_map(|(which, x)| Step::Patch { which, x }),
        2 => (0usize..30, x(), 0i8..4).prop_map(|(which, x, y)| Step::Replace { which, x, y }),
        2 => (0usize..30).prop_map(|which| Step::Remove { which }),
        1 => Just(Step::Savepoint),
        1 => Just(Step::Rollback),
        1 => Just(Step::Commit),
        4 => (any::<bool>(), -4i8..9, -4i8..9, any::<bool>(), prop::option::of(0u8..4)).prop_map(
            |(table, low, high, descending, limit)| Step::Range {
                table, low, high, descending, limit,
            }
        ),
        3 => (x(), 0i8..4, any::<bool>())
            .prop_map(|(x, low, descending)| Step::Equal { x, low, descending }),
        1 => any::<bool>().prop_map(|table| Step::Count { table }),
        1 => any::<bool>().prop_map(|table| Step::Scan { table }),
    ]
}

fn name(table: bool) -> &'static str {
    if table { "a" } else { "b" }
}

fn literal(x: Option<i8>) -> String {
    x.map_or_else(|| r#"{"$undefined":null}"#.into(), |x| x.to_string())
}

fn object(x: Option<i8>, y: i8) -> Value {
    value(&x.map_or_else(|| format!(r#"{{"y":{y}}}"#), |x| format!(r#"{{"x":{x},"y":{y}}}"#)))
}

/// The database, the model, and both at the last savepoint.
struct Run {
    database: Database,
    transaction: Transaction,
    rows: Vec<Row>,
    saved: Vec<(crate::transaction::Savepoint, Vec<Row>)>,
    made: usize,
    calls: u64,
}

impl Run {
    fn new() -> Self {
        let database = deployed();
        let transaction = begin(&database, 0);
        Self { database, transaction, rows: Vec::new(), saved: Vec::new(), made: 0, calls: 0 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Insert { table, x, y } => {
                let id = self.transaction.insert("", name(table), object(x, y)).unwrap();
                self.made += 1;
                let row =
                    Row { table: name(table), id: id.encode(), x, y: Some(y), made: self.made };
                self.rows.push(row);
            }
            Step::Patch { which, x } => self.on_row(which, |transaction, row| {
                let patch = json::decode_patch(&format!(r#"{{"x":{}}}"#, literal(x))).unwrap();
                transaction.patch("", &row.id, Some(row.table), patch).unwrap();
                row.x = x;
            }),
            Step::Replace { which, x, y } => self.on_row(which, |transaction, row| {
                transaction.replace("", &row.id, None, object(x, y)).unwrap();
                (row.x, row.y) = (x, Some(y));
            }),
            Step::Remove { which } => {
                if which < self.rows.len() {
                    let row = self.rows.remove(which);
                    self.transaction.remove("", &row.id, None).unwrap();
                    let again = self.transaction.remove("", &row.id, None).unwrap_err();
                    let text = format!("Delete on nonexistent document ID {}", row.id);
                    assert_eq!(again.message, text);
                }
            }
            Step::Savepoint => {
                self.saved.push((self.transaction.savepoint(), self.rows.clone()));
            }
            Step::Rollback => {
                if let Some((savepoint, rows)) = self.saved.pop() {
                    self.transaction.rollback(savepoint);
                    self.rows = rows;
                }
            }
            Step::Commit => self.commit(),
            Step::Range { table, low, high, descending, limit } => {
                let range =
                    [bound("Gte", "x", &low.to_string()), bound("Lt", "x", &high.to_string())];
                let within = |row: &Row| row.x.is_some_and(|x| low <= x && x < high);
                let index = format!("{}.by_x", name(table));
                self.compare(&index, &range.join(","), (descending, limit), within);
            }
            Step::Equal { x, low, descending } => {
                let range = [bound("Gt", "y", &low.to_string()), bound("Eq", "x", &literal(x))];
                let within = |row: &Row| row.x == x && row.y.is_some_and(|y| y > low);
                self.compare("a.by_xy", &range.join(","), (descending, None), within);
            }
            Step::Count { table } => self.check_count(name(table)),
            Step::Scan { table } => self.check_scan(name(table)),
        }
        self.check_points();
    }

    fn on_row(&mut self, which: usize, change: impl FnOnce(&mut Transaction, &mut Row)) {
        if let Some(row) = self.rows.get_mut(which) {
            change(&mut self.transaction, row);
        }
    }

    fn commit(&mut self) {
        self.calls += 1;
        let next = begin(&self.database, self.calls);
        let done = std::mem::replace(&mut self.transaction, next);
        self.database.commit(done, EPOCH + self.calls, writer("model")).unwrap();
        // A later clock, so that creation times keep the order of the model.
        let mut given = given(self.calls);
        given.now = EPOCH + self.calls * 1_000_000_000;
        self.transaction = self.database.begin(self.database.snapshot(), &given, false);
        self.saved.clear();
    }

    fn compare(
        &mut self,
        index: &str,
        range: &str,
        (descending, limit): (bool, Option<u8>),
        within: impl Fn(&Row) -> bool,
    ) {
        let table = index.split('.').next().unwrap();
        let mut rows: Vec<_> =
            self.rows.iter().filter(|row| row.table == table && within(row)).collect();
        rows.sort_by_key(|row| match index {
            "a.by_xy" => (row.x, row.y, row.made),
            _ => (row.x, None, row.made),
        });
        if descending {
            rows.reverse();
        }
        rows.truncate(limit.map_or(usize::MAX, usize::from));
        let operators = limit.map_or_else(String::new, |limit| format!(r#"{{"limit":{limit}}}"#));
        let order = if descending { "desc" } else { "asc" };
        let query = index_query(index, range, order, &operators);
        let found = collect(&mut self.transaction, &query).unwrap();
        let found: Vec<_> = found.iter().map(|document| document.id.encode()).collect();
        let expected: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
        assert_eq!(found, expected, "{query}");
    }

    /// Every row by id.
    fn check_points(&mut self) {
        for row in &self.rows {
            let get = crate::transaction::GetArgs { id: &row.id, table: None, is_system: false };
            let document = self.transaction.get("", get).unwrap().expect("the model has it");
            let number = |value: Option<i8>| value.map_or("undefined".into(), |v| v.to_string());
            assert_eq!(field(&document, "x"), number(row.x));
            assert_eq!(field(&document, "y"), number(row.y));
        }
        // The model checks more often than the budget of one call allows.
        self.transaction.usage = Default::default();
    }

    /// A table's size.
    fn check_count(&mut self, table: &str) {
        let count = self.transaction.count("", table).unwrap();
        assert_eq!(count, self.rows.iter().filter(|row| row.table == table).count() as u64);
    }

    /// A table's rows in the order of creation.
    fn check_scan(&mut self, table: &str) {
        let rows = self.rows.iter().filter(|row| row.table == table);
        let mut expected: Vec<_> = rows.map(|row| (row.made, row.id.clone())).collect();
        expected.sort();
        let found = collect(&mut self.transaction, &full_scan(table)).unwrap();
        let found: Vec<_> = found.iter().map(|document| document.id.encode()).collect();
        assert_eq!(found, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_transaction_is_a_list_of_documents(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        run.commit();
        run.check_points();
        for table in ["a", "b"] {
            run.check_count(table);
            run.check_scan(table);
        }
        let entries = run.database.history().entries;
        prop_assert!(entries.windows(2).all(|pair| pair[0].ts > pair[1].ts));
    }
}

#[test]
fn a_rollback_takes_created_tables_with_it() {
    let database = database();
    let mut transaction = begin(&database, 1);
    let savepoint = transaction.savepoint();
    transaction.insert("", "fresh", value("{}")).unwrap();
    assert_eq!(transaction.count("", "fresh").unwrap(), 1);
    transaction.rollback(savepoint);
    assert_eq!(transaction.count("", "fresh").unwrap(), 0);
    assert!(!transaction.has_writes());
    let ts = database.commit(transaction, EPOCH + 5, writer("f")).unwrap().ts;
    assert_eq!(ts, Timestamp(EPOCH), "an empty commit is its snapshot");
    assert!(database.snapshot().tables("").is_empty());
    assert!(database.history().entries.is_empty());
}

#[test]
fn writes_that_change_nothing_leave_no_trace() {
    let database = deployed();
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "a", value(r#"{"x":1}"#)));
    let id = id.encode();
    let (_, committed) = mutate(&database, 2, |tx| {
        tx.patch("", &id, None, json::decode_patch(r#"{"x":1}"#)?)?;
        tx.replace("", &id, None, value(r#"{"x":1}"#))?;
        let other = tx.insert("", "a", value("{}"))?.encode();
        tx.remove("", &other, None)?;
        tx.patch("", &id, None, json::decode_patch(r#"{"x":2}"#)?)?;
        tx.patch("", &id, None, json::decode_patch(r#"{"x":1}"#)?)
    });
    assert_eq!(database.history().entries.len(), 2, "the push and the insert");
    assert_eq!(committed.ts, database.snapshot().ts);
}

#[test]
fn databases_are_shared_and_transactions_move_between_threads() {
    fn shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    shared::<Database>();
    moves::<Transaction>();
}

#[test]
fn equal_executions_have_equal_digests() {
    let run = |x: u8| {
        let database = deployed();
        mutate(&database, 1, |tx| tx.insert("", "a", value(&format!(r#"{{"x":{x}}}"#)))).1
    };
    assert_eq!(run(1).writes_digest, run(1).writes_digest);
    assert_ne!(run(1).writes_digest, run(2).writes_digest);
}

#[test]
fn the_commit_timestamp_takes_the_place_of_its_placeholder() {
    let database = deployed();
    let (id, committed) = mutate(&database, 1, |tx| {
        let id =
            tx.insert("", "a", value(r#"{"x":{"$commitTs":null},"in":[{"$commitTs":null}]}"#))?;
        assert_eq!(tx.count("", "a")?, 1);
        Ok(id)
    });
    let mut reader = begin(&database, 2);
    let at = Value::Int64(committed.ts.0 as i64);
    let query = index_query("a.by_x", &bound("Eq", "x", &json::encode(&at)), "asc", "");
    let found = collect(&mut reader, &query).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, id);
    assert_eq!(found[0].value().field("in"), Some(&Value::Array(vec![at])));
}

#[test]
fn the_commit_timestamp_replaces_even_the_largest_integer() {
    let database = deployed();
    let largest = json::encode(&Value::Int64(i64::MAX));
    let document = value(&format!(r#"{{"x":{largest}}}"#));
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "a", document));
    let (_, committed) = mutate(&database, 2, |tx| {
        tx.patch("", &id.encode(), None, json::decode_patch(r#"{"x":{"$commitTs":null}}"#)?)
    });
    let at = Value::Int64(committed.ts.0 as i64);
    let found = collect(&mut begin(&database, 3), &full_scan("a")).unwrap();
    assert_eq!(found[0].value().field("x"), Some(&at));
}
