// What a client was told survives kill -9: through real hosts that are killed and started again.
//
// In: an app of counters, files, schedules. Out: what is there after a crash. Invariant: no test
// asserts a time.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { KEY, start } from "./host.mjs";

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

/** A folder that goes with the test process. */
function folder() {
  const path = mkdtempSync(join(tmpdir(), "concave-data-"));
  process.on("exit", () => rmSync(path, { recursive: true, force: true }));
  return join(path, "data");
}

/** A host that keeps its data in `data`. */
async function serve(data, ...args) {
  const ports = ["--port", "0", "--site-port", "0", "--admin-key", KEY];
  const host = await start(["serve", "--data", data, ...ports, ...args]);
  host.client = new ConvexHttpClient(host.url);
  host.client.setAdminAuth(KEY);
  /** As a power cut of the process alone. */
  host.crash = () => {
    host.child.ref();
    host.child.kill("SIGKILL");
    return host.ended;
  };
  return host;
}

async function setVariable(host, name, value) {
  const headers = { "Content-Type": "application/json", Authorization: `Convex ${KEY}` };
  const body = JSON.stringify({ changes: [{ name, value }] });
  const url = `${host.url}/api/update_environment_variables`;
  const answer = await fetch(url, { method: "POST", headers, body });
  assert.equal(answer.status, 200, await answer.text());
}

test("what was told is there after kill -9", async () => {
  const data = folder();
  let host = await serve(data, "--push", APP);
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
