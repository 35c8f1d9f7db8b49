//! Any history of concurrent calls equals its log order, run one by one.
//!
//! In: random programs whose writes depend on their reads, interleaved step by step. Out: replayed
//! alone, in the order of their commits, they read the same, and leave the same database.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Sum { table: u8, low: u8, high: u8 },
    First { table: u8, low: u8, descending: bool },
    Count { table: u8 },
    Insert { table: u8, x: u8 },
    PatchFirst { table: u8, low: u8 },
    RemoveFirst { table: u8, low: u8 },
    Nested { table: u8, x: u8, fails: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u8..3, 0u8..10, 0u8..10)
            .prop_map(|(table, low, high)| Step::Sum { table, low, high }),
        2 => (0u8..3, 0u8..10, any::<bool>())
            .prop_map(|(table, low, descending)| Step::First { table, low, descending }),
        1 => (0u8..4).prop_map(|table| Step::Count { table }),
        2 => (0u8..4, 0u8..10).prop_map(|(table, x)| Step::Insert { table, x }),
        3 => (0u8..3, 0u8..10).prop_map(|(table, low)| Step::PatchFirst { table, low }),
        1 => (0u8..3, 0u8..10).prop_map(|(table, low)| Step::RemoveFirst { table, low }),
        1 => (0u8..4, 0u8..10, any::<bool>())
            .prop_map(|(table, x, fails)| Step::Nested { table, x, fails }),
    ]
}

/// Tables `a` and `b` have an index; `c` and `d` come to be with their first document.
fn table(number: u8) -> &'static str {
    ["a", "b", "c", "d"][usize::from(number)]
}

fn scan(number: u8, low: u8, high: u8, descending: bool, limit: &str) -> String {
    let order = if descending { "desc" } else { "asc" };
    if number < 2 {
        let range = [bound("Gte", "x", &low.to_string()), bound("Lte", "x", &high.to_string())];
        return index_query(&format!("{}.by_x", table(number)), &range.join(","), order, limit);
    }
    index_query(&format!("{}.by_creation_time", table(number)), "", order, limit)
}

/// A running program: what it read so far decides what it writes.
struct Program {
    number: u64,
    steps: Vec<Step>,
    at: usize,
    transaction: Transaction,
    sum: i64,
    trace: Vec<String>,
}

impl Program {
    fn begin(number: u64, steps: Vec<Step>, database: &Database) -> Self {
        let mut given = given(number);
        // Far behind every commit, so that creation times do not depend on the snapshot.
        given.now = 2 * EPOCH + number * 1_000_000_000;
        let transaction = database.begin(database.snapshot(), &given, false);
        Self { number, steps, at: 0, transaction, sum: 0, trace: Vec::new() }
    }

    fn step(&mut self) {
        let step = self.steps[self.at].clone();
        self.at += 1;
        let told = self.run(step).unwrap_or_else(|error| error.message);
        self.trace.push(told);
    }

    fn read(&mut self, query: &str) -> Result<Vec<Arc<Document>>, UserError> {
        let documents = collect(&mut self.transaction, query)?;
        for document in &documents {
            self.sum += field(document, "x").parse::<f64>().unwrap() as i64;
        }
        Ok(documents)
    }

    fn run(&mut self, step: Step) -> Result<String, UserError> {
        let texts = |documents: &[Arc<Document>]| {
            documents.iter().map(|document| document.json()).collect::<Vec<_>>().join(",")
        };
        match step {
            Step::Sum { table, low, high } => {
                Ok(texts(&self.read(&scan(table, low, high, false, ""))?))
            }
            Step::First { table, low, descending } => {
                let query = scan(table, low, 99, descending, r#"{"limit":1}"#);
                Ok(texts(&self.read(&query)?))
            }
            Step::Count { table: number } => {
                let count = self.transaction.count("", table(number))?;
                self.sum += count as i64;
                Ok(count.to_string())
            }
            Step::Insert { table: number, x } => {
                let document = format!(r#"{{"x":{x},"sum":{}}}"#, self.sum);
                Ok(self.transaction.insert("", table(number), value(&document))?.encode())
            }
            Step::PatchFirst { table, low } => {
                let query = scan(table, low, 99, false, r#"{"limit":1}"#);
                let Some(first) = self.read(&query)?.pop() else { return Ok("none".into()) };
                let patch = format!(r#"{{"x":{},"by":{}}}"#, self.sum % 10, self.number);
                let id = first.id.encode();
                let patched = self.transaction.patch("", &id, None, json::decode_patch(&patch)?)?;
                Ok(patched.json().to_owned())
            }
            Step::RemoveFirst { table, low } => {
                let query = scan(table, low, 99, true, r#"{"limit":1}"#);
                let Some(first) = self.read(&query)?.pop() else { return Ok("none".into()) };
                Ok(self.transaction.remove("", &first.id.encode(), None)?.json().to_owned())
            }
            Step::Nested { table: number, x, fails } => {
                let savepoint = self.transaction.savepoint();
                let document = format!(r#"{{"x":{x},"nested":true}}"#);
                let id = self.transaction.insert("", table(number), value(&document))?;
                if fails {
                    self.transaction.rollback(savepoint);
                }
                Ok(id.encode())
            }
        }
    }
}

/// A program that is done, and where in the order it stands.
struct Done {
    number: u64,
    steps: Vec<Step>,
    trace: Vec<String>,
    ts: Timestamp,
    wrote: bool,
}

fn run_interleaved(programs: Vec<Vec<Step>>, schedule: &[u8]) -> (Database, Vec<Done>, usize) {
    let database = deployed();
    let mut waiting: Vec<_> = programs.into_iter().enumerate().rev().collect();
    let (mut running, mut done, mut lost) = (Vec::<Program>::new(), Vec::new(), 0);
    let mut schedule = schedule.iter().cycle().map(|choice| usize::from(*choice));
    while !(waiting.is_empty() && running.is_empty()) {
        let choice = schedule.next().expect("a cycle never ends");
        if (running.len() < 4 && choice % 3 == 0 && !waiting.is_empty()) || running.is_empty() {
            let (number, steps) = waiting.pop().expect("something is left to run");
            running.push(Program::begin(number as u64 + 1, steps, &database));
            continue;
        }
        let at = choice % running.len();
        if running[at].at < running[at].steps.len() {
            running[at].step();
            continue;
        }
        let Program { number, steps, trace, transaction, .. } = running.swap_remove(at);
        let wrote = transaction.has_writes();
        match database.commit(transaction, EPOCH + number, writer("program")) {
            Ok(committed) => done.push(Done { number, steps, trace, ts: committed.ts, wrote }),
            Err(rejected) => {
                assert!(rejected.conflict.to_string().contains("program"));
                lost += 1;
            }
        }
    }
    // Readers stand right behind the commit whose snapshot they saw.
    done.sort_by_key(|done| (done.ts, !done.wrote));
    (database, done, lost)
}

fn check_history(programs: Vec<Vec<Step>>, schedule: &[u8]) -> usize {
    let (database, done, lost) = run_interleaved(programs, schedule);
    let alone = deployed();
    for Done { number, steps, trace, ts, wrote } in done {
        let mut program = Program::begin(number, steps, &alone);
        while program.at < program.steps.len() {
            program.step();
        }
        assert_eq!(program.trace, trace, "call {number} reads otherwise when it runs alone");
        let committed = alone.commit(program.transaction, ts.0, writer("program")).unwrap();
        assert_eq!(committed.ts == ts, wrote || committed.ts == ts);
    }
    assert_eq!(dump(&database), dump(&alone));
    lost
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn concurrent_calls_equal_their_log_order(
        programs in prop::collection::vec(prop::collection::vec(step(), 1..6), 2..24),
        schedule in prop::collection::vec(any::<u8>(), 8..64),
    ) {
        check_history(programs, &schedule);
    }
}

#[test]
fn the_histories_do_contain_conflicts() {
    let programs = (0..20u8).map(|number| {
        vec![Step::PatchFirst { table: 0, low: 0 }, Step::Insert { table: 0, x: number % 10 }]
    });
    let lost = check_history(programs.collect(), &[0, 3, 6, 1, 2, 4, 5, 7, 8]);
    assert!(lost > 2, "a test of conflicts without conflicts tests nothing: {lost}");
}
