// Hosts that die at random moments under load keep every promise; disks that fail are survived.
//
// In: the built program; CRASH_ROUNDS and CRASH_SEED for more. Out: what crash.mjs checks.
// Invariant: no test asserts a time.
import assert from "node:assert/strict";
import { test } from "node:test";
import { anyApi as api } from "convex/server";
import { APP, crash, disk, folder, serve } from "./crash.mjs";

const ROUNDS = Number(process.env.CRASH_ROUNDS ?? 6);
const SEED = Number(process.env.CRASH_SEED ?? Date.now() % 1_000_000);

test("nothing that was told is lost when hosts are killed", async (t) => {
  t.diagnostic(`CRASH_SEED=${SEED}`);
  await crash({ rounds: ROUNDS, seed: SEED });
});

test("nothing that was told is lost when power is cut", async (t) => {
  t.diagnostic(`CRASH_SEED=${SEED}`);
  await crash({ rounds: ROUNDS, seed: SEED, how: "cut" });
});

for (const [mode, fault] of [
  ["f", /disk is full/],
  ["s", /disk failed/],
  ["t", /disk failed/],
]) {
  test(`a disk with the fault ${mode}: callers are told, service resumes`, async () => {
    const data = folder();
    const { env, set } = disk(data);
    let host = await serve(data, ["--push", APP], { env });
    await host.client.mutation(api.bank.open, { accounts: 2, balance: 1_000 });
    const move = (seq) =>
      host.client.mutation(api.bank.move, { client: "c", seq, from: 0, to: 1, amount: 1 });
    await move(1);
    for (const seq of [2, 3]) {
      set(mode);
      const failed = await move(seq).then(() => assert.fail("it was acknowledged"), String);
      assert.match(failed, /NotDurable/);
      assert.match(failed, fault);
      const ready = await fetch(`${host.url}/ready`);
      assert.equal(ready.status, 503);
      assert.match((await ready.json()).message, fault);
      assert.equal((await fetch(`${host.url}/health`)).status, 200);
      // Reads go on, and show only what is kept.
      assert.equal((await host.client.query(api.bank.look)).moves, seq === 2 ? 1 : 2);
      set("0");
      await move(10 + seq);
      assert.equal((await fetch(`${host.url}/ready`)).status, 200);
    }
    assert.match(host.output, /Data cannot be kept: .*Data can be kept again/s);
    const seqs = async () =>
      (await host.client.query(api.bank.since, { from: 0 })).map(({ seq }) => seq);
    assert.deepEqual(await seqs(), [1, 12, 13]);
    await host.crash();
    host = await serve(data, [], { env });
    assert.deepEqual(await seqs(), [1, 12, 13]);
    await host.crash();
  });
}
