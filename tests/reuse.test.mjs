// Contexts that serve many calls, as an operator sees them.
//
// In: the built program and a small app. Out: which modules' contexts are used again, and why the
// others' are not. Invariant: results are the same either way.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { concave, pointedAt, serve } from "./host.mjs";
import { until } from "./watch.mjs";

const APP = app("reuse", {
  "schema.ts": `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({ rows: defineTable({ n: v.number() }) });`,
  "pure.ts": `
    import { mutation, query } from "./_generated/server";
    import { ConvexError, v } from "convex/values";
    const NAMES = ["zero", "one"];
    export const add = mutation({
      args: { n: v.number() },
      handler: async ({ db }, { n }) => {
        let sum = 0;
        for (const row of await db.query("rows").collect()) sum += row.n;
        if (n < 0) throw new ConvexError({ n });
        await db.insert("rows", { n });
        return sum + n;
      },
    });
    export const name = query({
      args: { n: v.number(), other: v.optional(v.any()) },
      handler: async (_ctx, { n }) => NAMES[n] ?? null,
    });`,
  "counts.ts": `
    import { query } from "./_generated/server";

    let calls = 0;
    export const count = query({
      handler: async () => {
        calls += 1;
        return calls;
      },
    });`,
});

test("what is proved is used again, what is not says where and why", async () => {
  const host = await serve("--push", APP);
  const client = new ConvexHttpClient(host.url, { logger: false });
  const contexts = () => {
    const { stdout } = concave(["stats", "--json"], { env: pointedAt(host) });
    return JSON.parse(stdout).contexts;
  };
  let asked = 0;
  const askAll = async () => {
    for (let left = 40; left > 0; left--) {
      asked += 1;
      assert.equal(await client.query(api.pure.name, { n: 1, other: asked }), "one");
      assert.equal(await client.query(api.counts.count, { asked }), 1);
    }
  };
  await askAll();
  await until(() => /used again/.test(contexts()["pure.js"]), () => contexts()["pure.js"]);
  const why = /a fresh one a call: .*convex\/counts\.ts:7:9: .*`calls`.* outlives/;
  assert.match(contexts()["counts.js"], why);
  await askAll();
  for (let n = 0, sum = 0; n < 60; n++) {
    sum += n;
    assert.equal(await client.mutation(api.pure.add, { n }), sum);
    const refused = client.mutation(api.pure.add, { n: -1 });
    await assert.rejects(refused, ({ data }) => data.n === -1);
  }
  assert.match(contexts()["pure.js"], /used again/);
  await host.stop();
});

test("--fresh-contexts keeps none, and says so", async () => {
  const host = await serve("--push", APP, "--fresh-contexts");
  const client = new ConvexHttpClient(host.url, { logger: false });
  const shown = () => {
    const { stdout } = concave(["stats", "--json"], { env: pointedAt(host) });
    return JSON.parse(stdout).contexts["pure.js"];
  };
  for (let other = 0; other < 40; other++) {
    assert.equal(await client.query(api.pure.name, { n: 1, other }), "one");
  }
  assert.match(shown(), /a fresh one a call: .*--fresh-contexts/);
  assert.equal(await host.stop(), 0);
});

/** What functions log; nothing of the author's throws when it is shown. */
const LOGGED = ["{ a: 1, b: [2, { c: 3 }] }, new (class A { x = 1 })(), Object.create(null)",
  "new Map([[1, { a: 2 }]]), new Set(['x']), new WeakMap()", "new Date(0), /a/g, Symbol('x'), 1n",
  "new Error('x', { cause: new TypeError('y') })", "class A {}, () => 1, new Proxy({ a: 1 }, {})",
  "new Uint8Array([1]), new ArrayBuffer(3), new DataView(new ArrayBuffer(1))",
  "Object(1), Object('ab'), Object(1n), Object(true)", "Promise.resolve(1), [1].values()",
  "(function () { return arguments; })(1)"];

test("what is logged throws nothing, so contexts stay in use", async () => {
  const host = await serve("--push", app("logs", { "m.ts": `
    import { query } from "./_generated/server";
    export const f = query({ handler: async (ctx, { asked }) => {
      ${LOGGED.map((values) => `console.log(${values});`).join("\n      ")}
      return asked;
    } });` }));
  const client = new ConvexHttpClient(host.url, { logger: false });
  const shown = () => {
    const { stdout } = concave(["stats", "--json"], { env: pointedAt(host) });
    return JSON.parse(stdout).contexts["m.js"];
  };
  let asked = 0;
  const ask = async (times) => {
    for (let left = times; left > 0; left--) {
      asked += 1;
      assert.equal(await client.query(api.m.f, { asked }), asked);
    }
  };
  await ask(40);
  await until(() => /used again/.test(shown()), shown);
  await ask(160);
  assert.match(shown(), /used again/);
  await host.stop();
});
