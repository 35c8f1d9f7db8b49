// A peer of the bench durable: the two-document transfer on better-sqlite3 in one Node process.
//
// In: a port, a file that is not there, how many accounts. Out: a server. Invariant: as durable as
// the host: a write-ahead log, synced before each answer.
import Database from "better-sqlite3";
import { check, serve } from "./http.mjs";

const [port, file, accounts] = process.argv.slice(2);
const db = new Database(file);
db.pragma("journal_mode = WAL");
db.pragma("synchronous = FULL");
db.exec(`CREATE TABLE accounts(
  _id INTEGER PRIMARY KEY, id REAL NOT NULL, balance REAL NOT NULL) STRICT;
  CREATE UNIQUE INDEX by_account_id ON accounts(id);`);

const insert = db.prepare("INSERT INTO accounts(id, balance) VALUES(?, 1000000)");
db.transaction(() => {
  for (let id = 0; id < Number(accounts); id++) insert.run(id);
})();

const read = db.prepare("SELECT _id, balance FROM accounts WHERE id = ?");
const write = db.prepare("UPDATE accounts SET balance = ? WHERE _id = ?");
const transfer = db.transaction((fromId, toId, amount) => {
  const [from, to] = [read.get(fromId), read.get(toId)];
  check(from, to, amount);
  write.run(from.balance - amount, from._id);
  write.run(to.balance + amount, to._id);
});
serve(Number(port), (from, to, amount) => transfer.immediate(from, to, amount));
