// Hosts that die at random moments under load keep every promise; disks that fail are survived.
//
// In: the built program; CRASH_ROUNDS and CRASH_SEED for more. Out: what crash.mjs checks.
// Invariant: no test asserts a time.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { anyApi as api } from "convex/server";
import { APP, crash, disk, folder, serve } from "./crash.mjs";
import { KEY, ROOT, concave, eventually, pointedAt } from "./host.mjs";
import { unzip } from "./zip.mjs";

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

// Node waits for ever at its end for a socket that was reset while it ended.
test("a link of the proxy that is cut while it ends keeps no process alive", () => {
  const script = `
    import { connect, createServer } from "node:net";
    import { Proxy } from ${JSON.stringify(new URL("proxy.mjs", import.meta.url))};
    const server = createServer(() => {});
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const proxy = await Proxy.to("http://127.0.0.1:" + server.address().port);
    const linked = new Promise((resolve) => (proxy.onLink = resolve));
    const client = connect(new URL(proxy.url).port, "127.0.0.1");
    client.on("error", () => {});
    const { far } = await linked;
    await new Promise((resolve) => far.on("connect", resolve));
    far.end();
    process.nextTick(() => proxy.close());
    server.close();`;
  const options = { timeout: 60_000, encoding: "utf8" };
  const ended = spawnSync(process.execPath, ["--input-type=module", "-e", script], options);
  assert.deepEqual([ended.status, ended.signal], [0, null], ended.stderr);
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
    await host.says(/Data cannot be kept: .*Data can be kept again/s);
    const seqs = async () =>
      (await host.client.query(api.bank.since, { from: 0 })).map(({ seq }) => seq);
    assert.deepEqual(await seqs(), [1, 12, 13]);
    await host.crash();
    host = await serve(data, [], { env });
    assert.deepEqual(await seqs(), [1, 12, 13]);
    await host.crash();
  });
}

/** An import over the endpoints of the official CLI, step by step. */
class Import {
  constructor(host) {
    this.host = host;
  }

  async #post(path, body) {
    const headers = { "authorization": `Convex ${KEY}`, "content-type": "application/json" };
    const answer = await fetch(`${this.host.url}/api/${path}`, { method: "POST", headers, body });
    assert.equal(answer.status, 200, await answer.clone().text());
    return answer.json();
  }

  /** Uploads rows, and gives what the import waits for then. */
  async begin(tableName, rows) {
    const { uploadToken } = await this.#post("import/start_upload", "{}");
    const text = rows.map((row) => JSON.stringify(row)).join("\n");
    const to = `import/upload_part?uploadToken=${uploadToken}&partNumber=1`;
    const part = await this.#post(to, text);
    const wanted = { tableName, mode: "append", format: "jsonLines" };
    const finish = { import: wanted, uploadToken, partTokens: [part] };
    const { importId } = await this.#post("import/finish_upload", JSON.stringify(finish));
    this.importId = importId;
    return this.until("waiting_for_confirmation", "failed");
  }

  /** Confirms it, and gives how it ended. */
  async perform() {
    await this.#post("perform_import", JSON.stringify({ importId: this.importId }));
    return this.until("completed", "failed");
  }

  async until(...states) {
    const { importId } = this;
    const asked = JSON.stringify({ path: "_system/cli/queryImport", args: { importId } });
    const look = async () => (await this.#post("query", asked)).value.state;
    return eventually(`the import is ${states}`, look, ({ state }) => states.includes(state));
  }
}

test("a disk that is full does not keep the data in: export and backup go on", async () => {
  const data = folder();
  const { env, set } = disk(data);
  const host = await serve(data, ["--push", APP], { env });
  await host.client.mutation(api.bank.open, { accounts: 2, balance: 1_000 });
  set("f");
  const target = ["--url", host.url, "--admin-key", host.key];
  const out = folder();
  for (const args of [["export", `${out}.zip`], ["backup", `${out}.copy`]]) {
    const { status, stderr } = concave([...args, ...target]);
    assert.equal(status, 0, stderr);
  }
  const rows = unzip(readFileSync(`${out}.zip`)).get("accounts/documents.jsonl").toString();
  assert.equal(rows.trim().split("\n").length, 2);
  // npm's command line looks at the row.
  const cli = join(ROOT, "tests/node_modules/convex/bin/main.js");
  const options = { env: { ...pointedAt(host), CI: "1" }, cwd: APP, encoding: "utf8" };
  const npm = spawnSync(process.execPath, [cli, "export", "--path", `${out}.npm.zip`], options);
  assert.equal(npm.status, 0, npm.stderr);
  assert.ok(unzip(readFileSync(`${out}.npm.zip`)).has("accounts/documents.jsonl"));
  set("0");
  await host.crash();
});

test("a disk that is full during an import: all or nothing, and that is said", async () => {
  const data = folder();
  const { env, set } = disk(data);
  let host = await serve(data, ["--push", APP], { env });
  await host.client.mutation(api.bank.open, { accounts: 2, balance: 1_000 });
  const row = (seq) => ({ client: "file", seq, from: 0, to: 1, amount: 1 });
  const rows = Array.from({ length: 3_000 }, (_, seq) => row(seq));
  const count = async () => (await host.client.query(api.bank.since, { from: 0 })).length;
  const full = new Import(host);
  assert.equal((await full.begin("moves", rows)).state, "waiting_for_confirmation");
  set("f");
  const { state, error_message: message } = await full.perform();
  assert.equal(state, "failed");
  assert.match(message, /disk is full.*\nNothing was imported\./s);
  assert.equal(await count(), 0);
  set("0");
  const again = new Import(host);
  await again.begin("moves", rows);
  assert.equal((await again.perform()).state, "completed");
  assert.equal(await count(), rows.length);
  await host.crash();
  host = await serve(data, [], { env });
  assert.equal(await count(), rows.length);
  await host.crash();
});
