// What a client was told survives kill -9: through real hosts that are killed and started again.
//
// In: an app of counters, files, schedules. Out: what is there after a crash. Invariant: no test
// asserts a time.
import assert from "node:assert/strict";
import {
  cpSync, existsSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { folder, serve } from "./crash.mjs";
import { CONCAVE, KEY, concave, start } from "./host.mjs";

const APP = app("durable", {
  "schema.ts": `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({
      notes: defineTable({ text: v.string(), n: v.number() }).index("by_n", ["n"]),
    });`,
  "notes.ts": `
    import { mutation, query, internalMutation, action } from "./_generated/server";
    import { internal, api } from "./_generated/api";
    export const add = mutation({ handler: async ({ db }, { text, n }) =>
      await db.insert("notes", { text, n }) });
    export const rewrite = mutation({ handler: async ({ db }, { id, text }) =>
      await db.patch(id, { text }) });
    export const remove = mutation({ handler: async ({ db }, { id }) => await db.delete(id) });
    export const list = query({ handler: async ({ db }) =>
      await db.query("notes").withIndex("by_n").collect() });
    export const elsewhere = mutation({ handler: async ({ db }, doc) =>
      await db.insert("loose", doc) });
    export const loose = query({ handler: async ({ db }) => await db.query("loose").collect() });
    export const later = mutation({ handler: async ({ scheduler }, { ms }) =>
      await scheduler.runAfter(ms, internal.notes.tick, {}) });
    export const tick = internalMutation({ handler: async ({ db }) => {
      await db.insert("notes", { text: "tick", n: 1000 });
    } });
    export const jobs = query({ handler: async ({ db }) =>
      await db.system.query("_scheduled_functions").collect() });
    export const variable = query({ handler: async () => process.env.GREETING ?? null });
    export const store = action({ handler: async ({ storage, runMutation }, { text }) => {
      const id = await storage.store(new Blob([text], { type: "text/plain" }));
      await runMutation(api.notes.elsewhere, { id });
      return id;
    } });
    export const read = action({ handler: async ({ storage }, { id }) =>
      await (await storage.get(id)).text() });`,
});

async function setVariable(host, name, value) {
  const headers = { "Content-Type": "application/json", Authorization: `Convex ${KEY}` };
  const body = JSON.stringify({ changes: [{ name, value }] });
  const url = `${host.url}/api/update_environment_variables`;
  const answer = await fetch(url, { method: "POST", headers, body });
  assert.equal(answer.status, 200, await answer.text());
}

test("what was told is there after kill -9", async () => {
  const data = folder();
  let host = await serve(data, ["--push", APP]);
  const ids = [];
  for (let n = 0; n < 20; n++) {
    ids.push(await host.client.mutation(api.notes.add, { text: `note ${n}`, n: 20 - n }));
  }
  await host.client.mutation(api.notes.rewrite, { id: ids[3], text: "changed" });
  await host.client.mutation(api.notes.remove, { id: ids[4] });
  await host.client.mutation(api.notes.elsewhere, { any: [1n, { thing: null }] });
  await setVariable(host, "GREETING", "hello");
  const file = await host.client.action(api.notes.store, { text: "kept bytes" });
  const due = await host.client.mutation(api.notes.later, { ms: 600_000 });
  const seen = await host.client.query(api.notes.list);
  const loose = await host.client.query(api.notes.loose);
  await host.crash();

  host = await serve(data);
  assert.deepEqual(await host.client.query(api.notes.list), seen);
  assert.equal(seen.length, 19);
  assert.deepEqual(await host.client.query(api.notes.loose), loose);
  assert.equal(await host.client.query(api.notes.variable), "hello");
  assert.equal(await host.client.action(api.notes.read, { id: file }), "kept bytes");
  const [job] = await host.client.query(api.notes.jobs);
  assert.equal(job._id, due);
  assert.equal(job.state.kind, "pending");
  // New ones go on from there, and a start after an orderly end knows the same.
  await host.client.mutation(api.notes.add, { text: "after", n: 0 });
  const after = await host.client.query(api.notes.list);
  assert.equal(after[0].text, "after");
  assert.equal(await host.stop(), 0);
  host = await serve(data);
  assert.deepEqual(await host.client.query(api.notes.list), after);
  await host.crash();
});

const FREE_PORTS = ["--port", "0", "--site-port", "0"];

test("a folder has one host, and a newer format is refused", async () => {
  const data = folder();
  const host = await serve(data);
  const second = concave(["serve", "--data", data, ...FREE_PORTS]);
  assert.equal(second.status, 1);
  assert.match(second.stderr, /in use by another concave/);
  // The folder itself is locked too.
  rmSync(join(data, "LOCK"));
  const third = concave(["serve", "--data", data, ...FREE_PORTS], { timeout: 20_000 });
  assert.equal(third.status, 1);
  assert.match(third.stderr, /in use by another concave/);
  assert.equal(await host.stop(), 0);
  writeFileSync(join(data, "FORMAT"), "concave data, format 99\n");
  const newer = concave(["serve", "--data", data, ...FREE_PORTS]);
  assert.equal(newer.status, 1);
  assert.match(newer.stderr, /newer concave \(format 99; this one knows 2\)/);
});

test("the made up admin key stays with the data", async () => {
  const data = folder();
  const keys = [];
  for (let n = 0; n < 2; n++) {
    const host = await start(["serve", "--data", data, ...FREE_PORTS]);
    keys.push((await host.says(/admin key (concave\|[0-9a-f]{64})/))[1]);
    assert.equal(await host.stop(), 0);
  }
  assert.equal(keys[0], keys[1]);
});

test("who wrote each version, and queries of the past, also after a crash", async () => {
  const data = folder();
  let host = await serve(data, ["--push", APP]);
  const id = await host.client.mutation(api.notes.add, { text: "first", n: 1 });
  await host.client.mutation(api.notes.rewrite, { id, text: "second" });
  await host.client.mutation(api.notes.remove, { id });
  await host.crash();
  host = await serve(data);
  const target = ["--url", host.url, "--admin-key", KEY];
  const shown = concave(["history", "notes", id, "--json", ...target]);
  assert.equal(shown.status, 0, shown.stderr);
  const { versions } = JSON.parse(shown.stdout);
  assert.deepEqual(versions.map(({ document }) => document?.text), [undefined, "second", "first"]);
  assert.deepEqual(versions[1].writer.args, { id, text: "second" });
  assert.equal(versions[1].writer.function, "notes:rewrite");
  assert.equal(versions[0].writer.identity, "the operator");
  for (const { at, document } of versions) {
    const run = concave(["run", "notes:list", "--at", at, ...target]);
    assert.equal(run.status, 0, run.stderr);
    const texts = JSON.parse(run.stdout).map(({ text }) => text);
    assert.deepEqual(texts, document ? [document.text] : []);
  }
  const text = concave(["history", "notes", id, ...target]).stdout;
  assert.match(text, /notes:rewrite\(\{"id":.*by the operator/);
  const early = concave(["run", "notes:list", "--at", "1000", ...target]);
  assert.equal(early.status, 1);
  assert.match(early.stderr, /no longer kept: the oldest one is at/);
  const none = concave(["history", "notes", "x", ...target]);
  assert.match(none.stderr, /"x" is no id of the table "notes"/);
  await host.crash();
});

test("a log that lost its end is refused, and can be given up", async () => {
  const data = folder();
  let host = await serve(data, ["--push", APP]);
  for (let n = 0; n < 5; n++) await host.client.mutation(api.notes.add, { text: "x", n });
  await host.crash();
  // As if the disk had lost the last bytes: SQLite alone would go on without them.
  const wal = join(data, "db/log.sqlite-wal");
  truncateSync(wal, readFileSync(wal).length - 1000);
  const refused = concave(["serve", "--data", data, ...FREE_PORTS]);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /is damaged.*were kept, and the log ends at/s);
  const [, good] = refused.stderr.match(/--give-up-after (\d+)/);
  host = await serve(data, ["--give-up-after", good]);
  assert.deepEqual((await host.client.query(api.notes.list)).map(({ n }) => n), [0, 1, 2, 3]);
  await host.client.mutation(api.notes.add, { text: "on it goes", n: 9 });
  await host.crash();
  host = await serve(data);
  assert.equal((await host.client.query(api.notes.list)).length, 5);
  await host.crash();
});

/** Fills bytes of a file with zeros. */
function zero(path, from, length) {
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.fill(0, from, from + length));
}

test("a log with a lost page can be given up from there, and only when asked", async () => {
  const data = folder();
  let host = await serve(data, ["--push", APP]);
  const text = "x".repeat(2_000);
  for (let n = 0; n < 60; n++) await host.client.mutation(api.notes.add, { text, n });
  assert.equal(await host.stop(), 0);
  const tried = (...args) => {
    const { status, stderr } = concave(["serve", "--data", data, ...args, ...FREE_PORTS]);
    assert.equal(status, 1, stderr);
    return stderr;
  };
  assert.match(tried("--give-up-after", "5"), /--give-up-after 5 is not possible.*Possible are/s);
  const log = join(data, "db/log.sqlite");
  zero(log, readFileSync(log).length - 10 * 4096, 4096);
  const numbers = async () => (await host.client.query(api.notes.list)).map(({ n }) => n);
  for (let times = 0; times < 2; times++) {
    assert.match(tried(), /is damaged, so it is not served/);
  }
  const [, good] = tried().match(/--give-up-after (\d+)/);
  host = await serve(data, ["--give-up-after", good]);
  const left = await numbers();
  assert.ok(left.length > 30 && left.length < 60, `${left}`);
  assert.deepEqual(left, [...left.keys()]);
  await host.client.mutation(api.notes.add, { text: "on it goes", n: 1_000 });
  await host.crash();
  assert.ok(existsSync(join(data, "db/log.given-up.sqlite")));
  host = await serve(data);
  assert.deepEqual(await numbers(), [...left, 1_000]);
  assert.equal(await host.stop(), 0);
  // Nothing of the log can be read: the checkpoint is what is left.
  zero(log, 0, 4096);
  const [, checkpoint] = tried().match(/--give-up-after (\d+)/);
  host = await serve(data, ["--give-up-after", checkpoint]);
  assert.equal(await host.stop(), 0);
  writeFileSync(join(data, "FORMAT"), "concave dava, format 2\n");
  assert.match(tried(), /FORMAT is not what was written.*`concave data, format 2`/s);
});

test("another build of concave evaluates the app again, and serves", async () => {
  const data = folder();
  let host = await serve(data, ["--push", APP]);
  await host.client.mutation(api.notes.add, { text: "old build", n: 1 });
  assert.equal(await host.stop(), 0);
  // Another time of writing is another build: its startup snapshot is not trusted.
  const other = join(folder(), "..", "concave");
  cpSync(CONCAVE, other);
  utimesSync(other, 1_000_000, 1_000_000);
  for (let n = 0; n < 2; n++) {
    host = await serve(data, [], { program: other });
    assert.equal((await host.client.query(api.notes.list))[0].text, "old build");
    assert.equal(await host.client.mutation(api.notes.later, { ms: 1 }).then((id) => !!id), true);
    await host.crash();
  }
});

test("dev keeps data beside the app; in memory only when asked", async () => {
  const notes = readFileSync(join(APP, "convex/notes.ts"), "utf8");
  const root = app("durable-dev", { "notes.ts": notes });
  const dev = async (...args) => {
    const host = await start(["dev", root, ...FREE_PORTS, ...args]);
    await host.says(/pushed|push /);
    host.client = new ConvexHttpClient(host.url);
    return host;
  };
  let host = await dev();
  await host.says(/functions|push/);
  await host.client.mutation(api.notes.elsewhere, { kept: true });
  assert.equal(await host.stop(), 0);
  assert.equal(readFileSync(join(root, ".concave/.gitignore"), "utf8"), "*\n");
  host = await dev();
  assert.equal((await host.client.query(api.notes.loose)).length, 1);
  assert.equal(await host.stop(), 0);
  host = await dev("--in-memory");
  assert.deepEqual(await host.client.query(api.notes.loose), []);
  assert.equal(await host.stop(), 0);
  assert.ok(existsSync(join(root, ".concave/db/log.sqlite")));
});
