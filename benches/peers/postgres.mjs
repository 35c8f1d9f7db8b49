// A peer of the bench durable: the two-document transfer on PostgreSQL, from one Node process.
//
// In: a port, PostgreSQL's port and user. Out: a server with 10,000 accounts.
// Invariant: transactions are SERIALIZABLE and run again when PostgreSQL says so (40001); its
// settings are its own: every commit is synced, and commits share syncs.
import pg from "pg";
import { check, serve } from "./http.mjs";

const [port, postgres, user, accounts] = process.argv.slice(2);
/** More of them conflict more often, fewer share fewer syncs. */
const CONNECTIONS = Number(process.env.PEER_CONNECTIONS ?? 16);
const pool = new pg.Pool({
  host: "127.0.0.1", port: Number(postgres), user, database: "postgres", max: CONNECTIONS,
});
await pool.query(`CREATE TABLE accounts(
  _id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id DOUBLE PRECISION NOT NULL UNIQUE, balance DOUBLE PRECISION NOT NULL)`);
await pool.query(
  "INSERT INTO accounts(id, balance) SELECT n, 1000000 FROM generate_series(0, $1::int - 1) AS n",
  [Number(accounts)],
);
await pool.query("VACUUM ANALYZE accounts");

const READ = { name: "read", text: "SELECT _id, balance FROM accounts WHERE id = $1" };
const WRITE = { name: "write", text: "UPDATE accounts SET balance = $1 WHERE _id = $2" };
/** Conflicts and deadlocks: PostgreSQL's words for "once more". */
const AGAIN = new Set(["40001", "40P01"]);

async function transfer(fromId, toId, amount) {
  const client = await pool.connect();
  try {
    while (!(await once(client, fromId, toId, amount)));
  } finally {
    client.release();
  }
}

/** One try; false: once more. */
async function once(client, fromId, toId, amount) {
  try {
    await client.query("BEGIN ISOLATION LEVEL SERIALIZABLE");
    const [from] = (await client.query({ ...READ, values: [fromId] })).rows;
    const [to] = (await client.query({ ...READ, values: [toId] })).rows;
    check(from, to, amount);
    const writes = [[from.balance - amount, from._id], [to.balance + amount, to._id]];
    // In one order: two that wait for each other are found only after a second.
    for (const values of writes.sort((a, b) => a[1] - b[1])) {
      await client.query({ ...WRITE, values });
    }
    await client.query("COMMIT");
    return true;
  } catch (error) {
    await client.query("ROLLBACK");
    if (AGAIN.has(error.code)) return false;
    throw error;
  }
}

serve(Number(port), transfer);
