// Drives the transfers through npm's unmodified ConvexHttpClient. Needs a host that serves this
// folder: its address comes from CONVEX_SELF_HOSTED_URL.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { ConvexError } from "convex/values";
import { api } from "./convex/_generated/api.js";

const url = process.env.CONVEX_SELF_HOSTED_URL;
const client = () => new ConvexHttpClient(url, { logger: false });
const ACCOUNTS = 10;
const INITIAL = 100;

async function reset() {
  while ((await client().mutation(api.seed.clear_accounts, {})).more);
  await client().mutation(api.seed.seed_range, { start: 0, count: ACCOUNTS, initial: INITIAL });
}

test("transfer: money moves, and arrives", async () => {
  await reset();
  await client().mutation(api.transfer.transfer, { amount: 30, from_id: 1, to_id: 2 });
  const balances = [1, 2].map((id) => client().query(api.accounts.get_account, { id }));
  assert.deepEqual((await Promise.all(balances)).map((account) => account.balance), [70, 130]);
  const stats = await client().query(api.accounts.get_stats, { initialBalance: INITIAL });
  assert.deepEqual(stats, { count: ACCOUNTS, total: ACCOUNTS * INITIAL, changed: 2 });
});

test("transfer: without funds, or to nowhere, nothing moves", async () => {
  await reset();
  const attempt = (args) => client().mutation(api.transfer.transfer, args);
  const failsWith = (code) => (error) => error instanceof ConvexError && error.data.code === code;
  const tooMuch = attempt({ amount: 101, from_id: 1, to_id: 2 });
  await assert.rejects(tooMuch, failsWith("InsufficientFunds"));
  await assert.rejects(attempt({ amount: 1, from_id: 1, to_id: 99 }), failsWith("NoSuchAccount"));
  await assert.rejects(attempt({ amount: 0, from_id: 1, to_id: 2 }), failsWith("InvalidTransfer"));
  const stats = await client().query(api.accounts.get_stats, { initialBalance: INITIAL });
  assert.deepEqual(stats, { count: ACCOUNTS, total: ACCOUNTS * INITIAL, changed: 0 });
});

test("transfer: 200 at once over 10 accounts keep the sum at every moment", async () => {
  await reset();
  const clients = Array.from({ length: 16 }, client);
  const total = async () =>
    (await client().query(api.accounts.get_stats, { initialBalance: INITIAL })).total;
  const transfers = Array.from({ length: 200 }, (_, i) => {
    const [from_id, to_id] = [(i * 3) % ACCOUNTS, (i * 3 + 1) % ACCOUNTS];
    const args = { amount: 1 + (i % 7), from_id, to_id };
    return clients[i % 16].mutation(api.transfer.transfer, args);
  });
  const looks = await Promise.all(Array.from({ length: 20 }, total));
  await Promise.all(transfers);
  assert.deepEqual(new Set([...looks, await total()]), new Set([ACCOUNTS * INITIAL]));

  // Each account's balance is what the list of transfers says, whatever the order was.
  const expected = Array(ACCOUNTS).fill(INITIAL);
  for (let i = 0; i < 200; i++) {
    expected[(i * 3) % ACCOUNTS] -= 1 + (i % 7);
    expected[(i * 3 + 1) % ACCOUNTS] += 1 + (i % 7);
  }
  for (const [id, balance] of expected.entries()) {
    assert.equal((await client().query(api.accounts.get_account, { id })).balance, balance);
  }
});
