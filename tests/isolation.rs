//! Design, section 6, point 1: any history of concurrent calls equals some serial order.
//!
//! In: random calls run by several threads at once through the real isolates. Out: the same calls
//! run one by one in commit order on a fresh database must give the same results and the same
//! tables.

use database::record::{Call, Outcome};

use crate::deployed::{Answer, Deployed};

const BANK: &str = r#"
import { query, mutation } from "./abi.js";
const at = async (db, id) => (await db.index("accounts.by_account_id", [{ type: "Eq",
    fieldPath: "id", value: id }]))[0];
export const open = mutation(async (db, { count }) => {
    for (let id = 0; id < count; id++) await db.insert("accounts", { id, balance: 100, seen: 0 });
});
export const transfer = mutation(async (db, { from, to, amount }) => {
    const a = await at(db, from), b = await at(db, to);
    if (a.balance < amount) return "poor";
    await db.patch(a._id, { balance: a.balance - amount });
    await db.patch(b._id, { balance: b.balance + amount });
    return [a.balance - amount, b.balance + amount];
});
export const audit = mutation(async (db, { id }) => {
    const all = await db.index("accounts.by_account_id", []);
    const total = all.reduce((sum, account) => sum + account.balance, 0);
    await db.patch(all[id]._id, { seen: total });
    return total;
});
export const total = query(async (db) => (await db.table("accounts")).reduce((n, a) =>
    n + a.balance, 0));
export const dump = query(async (db) => (await db.index("accounts.by_account_id", [])).map(({ id,
    balance, seen }) => [id, balance, seen]));
"#;

const SCHEMA: &str = r#"
export default { export: () => JSON.stringify({ schemaValidation: true, tables: [{
    tableName: "accounts", indexes: [{ indexDescriptor: "by_account_id", fields: ["id"] }],
    documentType: { type: "any" } }] }) };
"#;

const ACCOUNTS: u64 = 5;

fn bank() -> Deployed {
    let deployed = Deployed::with(&[("bank", BANK), ("schema", SCHEMA)]);
    deployed.value("bank:open", &format!(r#"{{"count":{ACCOUNTS}}}"#));
    deployed
}

/// A reproducible stream: xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn random_call(deployed: &Deployed, random: &mut Random) -> Call {
    if random.below(5) == 0 {
        let id = random.below(ACCOUNTS);
        return deployed.make("bank:audit", &format!(r#"{{"id":{id}}}"#));
    }
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS - 1));
    let to = if to >= from { to + 1 } else { to };
    let amount = random.below(40);
    let args = format!(r#"{{"from":{from},"to":{to},"amount":{amount}}}"#);
    deployed.make("bank:transfer", &args)
}

/// Runs `count` random calls, 16 in flight; gives each with its outcome.
fn storm(deployed: &Deployed, seed: u64, count: usize) -> Vec<(Call, Outcome)> {
    let mut random = Random(seed);
    let mut done = Vec::new();
    let mut flying: std::collections::VecDeque<(Call, Answer)> = std::collections::VecDeque::new();
    let land = |(call, answer): (Call, Answer), done: &mut Vec<_>| {
        done.push((call, answer.recv().unwrap().unwrap()));
    };
    for _ in 0..count {
        if flying.len() >= 16 {
            land(flying.pop_front().unwrap(), &mut done);
        }
        let call = random_call(deployed, &mut random);
        flying.push_back((call.clone(), deployed.start(call)));
    }
    flying.into_iter().for_each(|flight| land(flight, &mut done));
    done
}

#[test]
fn concurrent_calls_equal_the_serial_order_of_their_commits() {
    for seed in [1, 42, 0x5eed] {
        let deployed = bank();
        let mut history = storm(&deployed, seed, 400);
        assert_eq!(deployed.value("bank:total", "{}"), (ACCOUNTS * 100).to_string());

        // A commit's timestamp is its place; a call that wrote nothing stands at its snapshot,
        // behind the commit that made that snapshot.
        history.sort_by_key(|(_, outcome)| (outcome.ts, outcome.ts == outcome.given.snapshot));
        let serial = bank();
        for (call, outcome) in &history {
            let alone = serial.start(call.clone()).recv().unwrap().unwrap();
            assert_eq!(
                alone.result, outcome.result,
                "seed {seed}: {} {}",
                call.path, call.args.json
            );
            assert!(alone.retries.is_empty());
        }
        assert_eq!(serial.value("bank:dump", "{}"), deployed.value("bank:dump", "{}"));
    }
}

#[test]
fn a_conflict_says_which_range_which_key_and_whose_write() {
    let deployed = bank();
    // On a machine that gives the two isolates one core, a storm may pass without any.
    let conflict = (1..50).find_map(|seed| {
        let history = storm(&deployed, seed, 200);
        history.iter().find_map(|(_, outcome)| outcome.retries.first().cloned())
    });
    let conflict = conflict.expect("ten thousand calls over five accounts conflict somewhere");
    assert!(["accounts.by_account_id", "accounts.by_id"].contains(&conflict.index.as_str()));
    assert!(conflict.range.starts_with('[') && conflict.key.contains("id="), "{conflict:?}");
    assert!(conflict.writer.function.starts_with("bank:"), "{conflict:?}");
    assert!(conflict.to_string().contains("bank:"), "{conflict}");
}

#[test]
fn every_recorded_call_of_a_storm_runs_again_to_the_same_outcome() {
    let deployed = bank();
    for (call, outcome) in storm(&deployed, 99, 60) {
        let again = deployed.host.rerun(&call, &outcome.given).unwrap();
        crate::determinism::assert_same(&call.path.identifier(), &outcome, &again);
    }
}

#[test]
fn a_cached_answer_is_the_one_a_fresh_execution_gives() {
    let deployed = bank();
    let mut random = Random(3);
    let mut cached = 0;
    for _ in 0..200 {
        if random.below(3) == 0 {
            let call = random_call(&deployed, &mut random);
            deployed.start(call).recv().unwrap().unwrap();
        }
        let name = if random.below(2) == 0 { "bank:total" } else { "bank:dump" };
        let call = deployed.make(name, "{}");
        let outcome = deployed.start(call.clone()).recv().unwrap().unwrap();
        let mut given = outcome.given.clone();
        given.snapshot = deployed.database.snapshot().ts;
        let fresh = deployed.host.rerun(&call, &given).unwrap();
        assert_eq!(outcome.result, fresh.result);
        cached += usize::from(outcome.cached);
    }
    assert!(cached > 20, "only {cached} of 200 came from the cache");
}
