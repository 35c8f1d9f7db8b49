// `concave test`: what queries and mutations cannot have, wherever they run.
//
// In: the built program, an app whose functions fetch and wait. Out: checks of what they throw: in
// the engine, with mocks, counted, as closures. Invariant: a verdict is that of a host, so it does
// not depend on where a function runs; tests and actions fetch and wait.
import assert from "node:assert/strict";
import { test } from "node:test";
import { app } from "./app.mjs";
import { report } from "./verdicts.mjs";

const FUNCTIONS = `
import { actionGeneric as action, makeFunctionReference as ref, mutationGeneric as mutation,
  queryGeneric as query } from "convex/server";
import { word } from "./word";
const wait = () => new Promise((resolve) => { setTimeout(resolve, 0); });
export const fetches = mutation({ handler: async (ctx) => {
  await ctx.db.insert("notes", { text: word() });
  const look = () => ctx.db.query("notes").collect();
  await Promise.all([look(), look().then(() => fetch("https://a.example/"))]);
} });
export const waits = query({ handler: async (ctx) => {
  await ctx.db.query("notes").collect();
  await wait();
  return word();
} });
export const ticks = query({ handler: () => { setInterval(() => {}, 1); return word(); } });
export const immediate = query({ handler: () => typeof setImmediate });
export const brings = query({ handler: async (ctx) => {
  globalThis.fetch = async () => "brought";
  await ctx.db.query("notes").collect();
  return fetch("https://a.example/");
} });
export const note = mutation({ handler: async (ctx) => {
  for (let i = 0; i < 20; i++) await ctx.db.insert("notes", { text: word() });
} });
/** Fetches and waits while mutations run beside it. */
export const busy = action({ handler: async (ctx) => {
  const both = async () => { await wait(); return (await fetch("https://a.example/")).text(); };
  const [, text, , again] = await Promise.all([ctx.runMutation(ref("f:note")), both(),
    ctx.runMutation(ref("f:note")), both()]);
  return text + again;
} });
`;

const HEAD = `
import { convexTest } from "convex-test";
import { anyApi } from "convex/server";
import { expect, test, vi } from "vitest";
const modules = import.meta.glob("./**/*.ts");
const api = anyApi.f;
const open = () => convexTest(undefined, modules);
const NO = "in queries and mutations. Please consider using an action.";
const wait = () => new Promise((resolve) => { setTimeout(resolve, 0); });
`;

const TESTS = `
test("functions", async () => {
  const t = open();
  await expect(t.mutation(api.fetches)).rejects.toThrow("Can't use fetch() " + NO);
  await expect(t.query(api.waits)).rejects.toThrow("Can't use setTimeout " + NO);
  await expect(t.query(api.ticks)).rejects.toThrow("Can't use setInterval " + NO);
  expect(await t.query(api.immediate)).toBe("undefined");
  expect(await t.query(api.brings)).toBe("brought");
  expect(await t.run((ctx) => ctx.db.query("notes").collect())).toEqual([]);
});
test("closures", async () => {
  const t = open();
  const fetching = async () => { await fetch("https://a.example/"); };
  for (const run of [t.run, t.query, t.mutation]) {
    await expect(run(fetching)).rejects.toThrow("Can't use fetch() " + NO);
    await expect(run(wait)).rejects.toThrow("Can't use setTimeout " + NO);
  }
});
test("stubs and fake timers are the test's", async () => {
  const t = open();
  const stub = vi.fn(async () => new Response("stub"));
  vi.stubGlobal("fetch", stub);
  vi.useFakeTimers();
  await expect(t.mutation(api.fetches)).rejects.toThrow("Can't use fetch() " + NO);
  await expect(t.run(wait)).rejects.toThrow("Can't use setTimeout " + NO);
  vi.useRealTimers();
  expect(stub).not.toHaveBeenCalled();
  expect(fetch).toBe(stub);
  expect(await t.action(api.busy)).toBe("stubstub");
  vi.unstubAllGlobals();
  const spy = vi.spyOn(globalThis, "fetch").mockImplementation(async () => new Response("spy"));
  await expect(t.mutation(api.fetches)).rejects.toThrow("Can't use fetch() " + NO);
  expect(await t.action(api.busy)).toBe("spyspy");
  expect(spy).toHaveBeenCalledTimes(2);
  vi.restoreAllMocks();
  expect(vi.isMockFunction(fetch)).toBe(false);
  await wait();
});
test("tests and actions wait and fetch, beside mutations", async () => {
  const t = open();
  t.onFetch("https://a.example/", () => new Response("script"));
  const own = async () => { await t.mutation(api.note); await wait(); return "test"; };
  const all = await Promise.all([t.action(api.busy), own(), t.mutation(api.note), own()]);
  expect(all).toEqual(["scriptscript", "test", null, "test"]);
  expect(await t.run(async (ctx) => ctx.db.query("notes").collect())).toHaveLength(100);
});
`;

const SOURCES = {
  "word.ts": 'export const word = () => "real";',
  "f.ts": FUNCTIONS,
  "plain.test.ts": HEAD + TESTS,
  "mocked.test.ts": `${HEAD}vi.mock("./word", () => ({ word: () => "mocked" }));${TESTS}`,
};

test("queries and mutations neither fetch nor wait: plain, mocked and counted", () => {
  const folder = app("refused", SOURCES);
  for (const args of [[], ["--coverage"]]) {
    const { code, errors, passed } = report(folder, ...args);
    assert.deepEqual({ code, errors, passed }, { code: 0, errors: {}, passed: 8 });
  }
});
