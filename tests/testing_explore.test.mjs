// `t.explore` of `concave test`: it never says of less than every order that it was every one.
//
// In: the built program, apps with functions that race, fail and go on; the search itself. Out:
// checks of results and errors. Invariant: a search that is not complete, and a function that never
// works, are told.
import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { test } from "node:test";
import { app } from "./app.mjs";
import { report } from "./verdicts.mjs";

const SHOP = `
import { actionGeneric as action, makeFunctionReference as ref, mutationGeneric as mutation,
  queryGeneric as query } from "convex/server";
import { v } from "convex/values";
export const stock = mutation({ args: { left: v.number() }, handler: async (ctx, { left }) => {
  await ctx.db.insert("stock", { left }); } });
export const left = query({ handler: async (ctx) => (await ctx.db.query("stock").first()).left });
/** Takes one, of those that there are. */
export const take = mutation({ args: {}, handler: async (ctx) => {
  const { _id, left } = await ctx.db.query("stock").first();
  if (left === 0) throw new Error("sold out");
  await ctx.db.patch(_id, { left: left - 1 });
} });
export const pay = action({ handler: async (ctx) => {
  await fetch("https://bank.invalid/");
  await ctx.runMutation(ref("shop:take"));
} });
export const write = action({ args: { text: v.string() }, handler: async (ctx, { text }) => {
  for (let i = 0; i < 4; i++) await ctx.runMutation(ref("shop:log"), { text });
} });
export const log = mutation({ handler: async (ctx, { text }) => {
  await ctx.db.insert("log", { text }); } });
export const both = action({ args: {}, handler: async (ctx) => {
  await Promise.all(["a", "b"].map((text) => ctx.runMutation(ref("shop:log"), { text })));
} });
export const first = query({ handler: async (ctx) => (await ctx.db.query("log").first()).text });
export const again = mutation({ args: {}, handler: async (ctx) => {
  await ctx.db.insert("log", { text: "again" });
  await ctx.scheduler.runAfter(60_000, ref("shop:again"));
} });
`;

const HEAD = `
import { convexTest } from "convex-test";
import { anyApi } from "convex/server";
import { expect, test, vi } from "vitest";
const modules = import.meta.glob("./**/*.ts");
const api = anyApi.shop;
const open = async (left = 1) => {
  const t = convexTest(undefined, modules);
  await t.mutation(api.stock, { left });
  return t;
};
`;

/** What the tests of one file come to. */
const explored = (tests) => report(app("explore", { "shop.ts": SHOP, "x.test.ts": HEAD + tests }));

test("a bound of orders that was asked for is told", () => {
  const { errors, states, files } = explored(`
const writers = (t) => ["a", "b", "c"].map((text) => () => t.action(api.write, { text }));
test("asked for", async () => {
  const t = await open();
  const found = await t.explore(writers(t), { most: 3 });
  expect(found).toEqual({ orders: 3, complete: false, failed: [] });
});
test("exact", async () => {
  const t = await open();
  const two = writers(t).slice(0, 2);
  const all = await t.explore(two, { most: 70 });
  expect(all).toEqual({ orders: 70, complete: true, failed: [] });
  expect(await t.explore(two, { most: Infinity })).toEqual(all);
  expect((await t.explore(two, { most: 69 })).complete).toBe(false);
});
test("beyond", async () => {
  const t = await open();
  const invariant = async () => { expect(await t.query(api.first)).not.toBe("a"); };
  await t.explore(writers(t), { most: 3, invariant });
});
test("options", async () => {
  const t = await open();
  for (const options of [{ invarient: () => {} }, { invariant: true }, { most: 0 }]) {
    await expect(t.explore(writers(t), options)).rejects.toThrow("none of its options");
  }
  await expect(t.explore([])).rejects.toThrow("takes an array of functions");
});
`);
  assert.match(errors["x > beyond"], /the shortest of 3 that were run; there are more/);
  const passed = Object.keys(states).filter((name) => states[name] === "pass");
  assert.deepEqual(passed, ["asked for", "exact", "options"].map((name) => `x > ${name}`),
    JSON.stringify(errors));
  const told = files[0].log.filter((line) => line.includes("as `most` says, and there are more"));
  assert.equal(told.length, 2, files[0].log.join("\n"));
});

test("a function that fails in every order fails the test; in some, it is told", () => {
  const { errors, states } = explored(`
const calm = { invariant: () => {} };
const works = (t) => () => t.query(api.left);
test("misspelt", async () => {
  const t = await open(); await t.explore([works(t), () => t.mutation(api.tako, {})], calm); });
test("arguments", async () => {
  const t = await open(); await t.explore([function buys() {
    return t.mutation(api.take, { by: 1 }); }, works(t)], calm); });
test("unscripted", async () => {
  const t = await open(); t.onFetch("https://other.invalid/", () => new Response());
  await t.explore([() => t.action(api.pay), () => t.action(api.pay)], calm); });
test("alone", async () => {
  const t = await open(0); await t.explore([() => t.mutation(api.take, {})]); });
test("caught", async () => {
  const t = await open(0);
  await t.explore([() => t.mutation(api.take, {}).catch(() => {})]); });
test("some", async () => {
  const t = await open();
  const ada = () => t.mutation(api.take, {});
  const grace = () => t.mutation(api.take, {});
  const found = await t.explore([ada, grace], calm);
  expect(found).toEqual({ orders: 2, complete: true, failed: [
    { name: "grace", orders: 1, message: "sold out" }, { name: "ada", orders: 1,
      message: "sold out" }] });
  const replayed = await t.explore([ada, grace], { ...calm, replay: "1 0" });
  expect(replayed).toEqual({ orders: 1, complete: false, failed: [
    { name: "ada", orders: 1, message: "sold out" }] });
});
`);
  assert.match(errors["x > misspelt"], /shop:tako[^]*#2 throws this in/);
  assert.match(errors["x > arguments"], /Validat[^]*buys throws this in/);
  assert.match(errors["x > unscripted"], /is not scripted[^]*#1 throws this in/);
  assert.match(errors["x > alone"], /sold out\n\n#1 throws this in the only order/);
  const passed = Object.keys(states).filter((name) => states[name] === "pass");
  assert.deepEqual(passed, ["x > caught", "x > some"], JSON.stringify(errors));
});

test("an order that does not end is told as that, and the test's data stay", () => {
  const { errors, states } = explored(`
let t;
test("loop", async () => { t = await open(); await t.explore([() => t.mutation(api.again, {})]); });
test("after", async () => { expect(await t.query(api.left)).toBe(1);
  await expect(t.query(api.first)).rejects.toThrow(); });
`);
  assert.match(errors["x > loop"], /one order has run 1000 transactions[^]*scheduled #\d+ runs/);
  assert.match(errors["x > loop"], /schedules itself again/);
  assert.equal(states["x > after"], "pass", JSON.stringify(errors));
});

test("what one function has under way at once is not claimed to be in every order", () => {
  const { errors, states } = explored(`
test("at once", async () => {
  const t = await open();
  const found = await t.explore([() => t.action(api.both, {})]);
  expect(found).toEqual({ orders: 1, complete: false, failed: [] });
  // One after another, as most are.
  expect((await t.explore([() => t.action(api.write, { text: "a" })])).complete).toBe(true);
});
`);
  assert.equal(states["x > at once"], "pass", JSON.stringify(errors));
});

test("functions of one name are told apart in the story", () => {
  const { errors } = explored(`
test("twice", async () => {
  const t = await open(2);
  const buys = () => t.mutation(api.take, {});
  const looks = () => t.query(api.left);
  const invariant = () => { throw new Error("look"); };
  await t.explore([buys, looks, buys], { invariant });
});
`);
  assert.match(errors["x > twice"], /1\. buys #1: mutation shop:take/);
  assert.match(errors["x > twice"], /\. buys #3: mutation shop:take/);
  assert.match(errors["x > twice"], /\. looks: query shop:left/);
});

test("a search that nobody bounds fails where there are more orders than it runs", async () => {
  // The search alone, without a host: thousands of orders are run at once.
  const conflict = { isAlone: true, reads: [], writes: [], inserts: [] };
  const answers = { "test/fork": { id: 1 }, "test/step": conflict };
  globalThis.AsyncLocalStorage = AsyncLocalStorage;
  globalThis.Convex = {
    asyncSyscall: async (op) => JSON.stringify(answers[op] ?? null),
    jsSyscall() {},
  };
  const { explore } = await import("../js/test/explore.js");
  const world = { id: 0, jobs: new Map() };
  const functions = (count) => Array(count).fill(() => world.exploring.gate("writes", () => {}));
  const told = /ran 5000 orders, and there are more[^]*\{ most: 20_000 \}/;
  await assert.rejects(explore(world, functions(7)), told);
  const all = { orders: 5040, complete: true, failed: [] };
  assert.deepEqual(await explore(world, functions(7), { most: 5040 }), all);
  assert.deepEqual(await explore(world, functions(6)), { ...all, orders: 720 });
  assert.equal(world.id, 0);
});
