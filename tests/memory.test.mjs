// A host whose memory is bounded, at its bound: what fills it, who is let in, how room is made.
//
// In: the built program with `--memory`, a small app. Out: refusals with the figures.
// Invariant: no test asserts a time; memory is read from outside the process.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { folder, serve as keeping } from "./crash.mjs";
import { KEY, concave, eventually, pointedAt, serve } from "./host.mjs";

// A debug build's own pages are 70 MB of it.
const BUDGET = 192;
const APP = app("memory", {
  "schema.ts": `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({ notes: defineTable({ text: v.string() }) });`,
  "notes.ts": `
    import { action, mutation, query } from "./_generated/server";
    import { api } from "./_generated/api";
    export const add = mutation({ handler: async ({ db }, { bytes }) =>
      await db.insert("notes", { text: "x".repeat(bytes) }) });
    export const remove = mutation({ handler: async ({ db }) => {
      const some = await db.query("notes").take(10);
      for (const { _id } of some) await db.delete(_id);
      return some.length;
    } });
    export const first = query({ handler: async ({ db }) =>
      (await db.query("notes").first()) !== null });
    const until = async (work) => {
      for (let n = 0; n < 1_000; n++) {
        try {
          await work();
        } catch (error) {
          return [n, error.message];
        }
      }
      return [1_000, ""];
    };
    export const grow = action({ handler: async (ctx) => {
      const grown = await until(() => ctx.runMutation(api.notes.add, { bytes: 900_000 }));
      const look = await until(() => ctx.runQuery(api.notes.first, {}));
      const jobs = await until(() => ctx.scheduler.runAfter(1e9, api.notes.first, {}));
      const files = await until(() => ctx.storage.store(new Blob(["a file"])));
      return { grown, look, jobs, files };
    } });
    export const shrink = action({ handler: async (ctx) => {
      while (await ctx.runMutation(api.notes.remove, {})) { /* until nothing is left */ }
    } });`,
});
const FULL = new RegExp(`The host is out of memory: it uses \\d+ MiB of ${BUDGET} MiB, of which`);

function operator(host) {
  const client = new ConvexHttpClient(host.url);
  client.setAdminAuth(KEY);
  return client;
}

function stats(host) {
  const { stdout, stderr, status } = concave(["stats", "--json"], { env: pointedAt(host) });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

/** The most that a process ever had, MiB. */
function highest(pid) {
  return /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1] / 1024;
}

async function ready(host) {
  const status = async () => (await fetch(`${host.url}/ready`)).status;
  await eventually("ready", status, (now) => now === 200);
}

test("what an action calls is refused while memory is full, as every other call", async (t) => {
  const host = await serve("--push", APP, "--memory", `${BUDGET}M`);
  t.after(() => host.stop());
  const { grown, look, jobs, files } = await new ConvexHttpClient(host.url).action(api.notes.grow);
  assert.ok(grown[0] > 20 && grown[0] < 1_000, `${grown}`);
  for (const [n, why] of [grown, look, jobs, files]) assert.match(why, FULL, `after ${n}`);
  assert.ok(highest(host.child.pid) <= BUDGET, `${highest(host.child.pid)} MiB`);
  assert.equal(stats(host).calls.unknown.refused, 2, "the functions that it called");
  // The operator's actions make room.
  await operator(host).action(api.notes.shrink);
  await ready(host);
  assert.equal(await new ConvexHttpClient(host.url).query(api.notes.first), false);
});

test("a host that its data fills starts, and takes what makes room", async (t) => {
  const data = folder();
  const roomy = await keeping(data, ["--memory", "768M"]);
  assert.equal(concave(["push", APP], { env: pointedAt(roomy) }).status, 0);
  for (let n = 0; n < BUDGET * 1.5; n++) {
    await operator(roomy).mutation(api.notes.add, { bytes: 1_000_000 });
  }
  await roomy.stop();
  const host = await keeping(data, ["--memory", `${BUDGET}M`]);
  t.after(() => host.stop());
  await host.says(/with its data, and --memory gives it 192 MiB: it starts, and refuses new work/);
  await host.says(/New work is refused: The host is out of memory/);
  const anybody = new ConvexHttpClient(host.url);
  await assert.rejects(anybody.query(api.notes.first), FULL);
  assert.equal(stats(host).memory.pressure, "over");
  const add = { bytes: 1_000 };
  await assert.rejects(operator(host).mutation(api.notes.add, add), /Above 110 % of it the opera/);
  assert.equal(await operator(host).query(api.notes.first), true);
  await operator(host).action(api.notes.shrink);
  await ready(host);
  await anybody.mutation(api.notes.add, add);
});

test("an import for which there is no room is refused with the figures", async (t) => {
  const host = await keeping(folder(), ["--memory", `${BUDGET}M`]);
  t.after(() => host.stop());
  const rows = (count) => {
    const file = join(APP, "rows.jsonl");
    writeFileSync(file, '{"a":1}\n'.repeat(count));
    return concave(["import", "--table", "rows", "-y", file], { env: pointedAt(host) });
  };
  const large = rows(2_000_000);
  assert.notEqual(large.status, 0);
  assert.match(large.stderr, /not fit into the host's memory: its first \d+ documents would take/);
  assert.match(large.stderr, /uses \d+ MiB of 192 MiB without its caches[^]+Nothing was imported/);
  const small = rows(20_000);
  assert.equal(small.status, 0, small.stderr);
  const { memory } = stats(host);
  assert.ok(memory.history < 20_000 * 500, `${memory.history}`);
  assert.ok(highest(host.child.pid) <= BUDGET, `${highest(host.child.pid)} MiB`);
});
