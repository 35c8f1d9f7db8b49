// `concave test`: time that tests move, with what sleeps and streams in it.
//
// In: the built program, an app whose actions wait. Out: checks of when what ran. Invariant: no
// check depends on how fast the machine is; what a test moves is the test's clock.
import assert from "node:assert/strict";
import { test } from "node:test";
import { app } from "./app.mjs";
import { report, run } from "./verdicts.mjs";

const APP = {
  "schema.ts": `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({ log: defineTable({ at: v.number(), what: v.string() }) });`,
  "f.ts": `
import { actionGeneric as action, anyApi, mutationGeneric as mutation, queryGeneric as query }
  from "convex/server";
const api: any = anyApi;
export const log = mutation({ handler: async (ctx, { what }) => {
  await ctx.db.insert("log", { at: Date.now(), what });
} });
export const all = query({ handler: async (ctx) => await ctx.db.query("log").collect() });
export const chain = mutation({ handler: async (ctx, { left, gap }) => {
  await ctx.db.insert("log", { at: Date.now(), what: "chain" });
  if (left > 0) await ctx.scheduler.runAfter(gap, api.f.chain, { left: left - 1, gap });
} });
export const sleep = action({ handler: async (ctx, { ms }) => {
  await ctx.runMutation(api.f.log, { what: "before" });
  await new Promise((resolve) => setTimeout(resolve, ms));
  await ctx.runMutation(api.f.log, { what: "after" });
} });
export const polls = action({ handler: async (ctx) => {
  let rounds = 0;
  await new Promise<void>((resolve) => {
    const never = setTimeout(() => { throw new Error("it was cleared"); }, 2500);
    const timer = setInterval(() => {
      clearTimeout(never);
      rounds += 1;
      if (rounds === 3) { clearInterval(timer); resolve(); }
    }, 1000);
  });
  await ctx.runMutation(api.f.log, { what: "polled" });
} });
export const later = mutation({ handler: async (ctx, { name, delay, ...args }) =>
  await ctx.scheduler.runAfter(delay, api.f[name], args) });
export const jobs = query({ handler: async (ctx) =>
  await ctx.db.system.query("_scheduled_functions").collect() });`,
  "http.ts": `
import { anyApi, httpActionGeneric, httpRouter } from "convex/server";
const api: any = anyApi;
const http = httpRouter();
const streamed = (write: (ctx: any, put: (text: string) => Promise<void>) => Promise<void>) =>
  httpActionGeneric(async (ctx) => {
    const { readable, writable } = new TransformStream();
    const writer = writable.getWriter();
    const put = (text: string) => writer.write(new TextEncoder().encode(text));
    void write(ctx, put).then(() => writer.close(), (error) => writer.abort(error));
    return new Response(readable, { status: 201, headers: { "x-how": "streamed" } });
  });
http.route({ path: "/stream", method: "GET", handler: streamed(async (ctx, put) => {
  for (const what of ["a", "b", "c"]) {
    await ctx.runMutation(api.f.log, { what });
    await put(what);
  }
}) });
http.route({ path: "/breaks", method: "GET", handler: streamed(async (_ctx, put) => {
  await put("a");
  throw new Error("in the middle");
}) });
http.route({ path: "/none", method: "GET",
  handler: httpActionGeneric(async () => new Response(null, { status: 204 })) });
export default http;`,
};

const HEAD = `
import { convexTest } from "convex-test";
import { anyApi } from "convex/server";
import { afterEach, expect, test, vi } from "vitest";
import schema from "./schema";
const api: any = anyApi;
const open = (): any => convexTest(schema, import.meta.glob("./**/*.ts"));
const seen = async (t: any, from = 0) =>
  (await t.query(api.f.all)).map(({ at, what }: any) => [what, at - from]);
const T0 = Date.UTC(2024, 0, 31);
const fake = () => { vi.useFakeTimers(); vi.setSystemTime(T0); };
afterEach(() => { vi.useRealTimers(); });`;

/** Runs test files that must pass. */
function passes(name, files) {
  const sources = Object.entries(files).map(([file, text]) => [file, HEAD + text]);
  const { code, errors, states } = report(app(name, { ...APP, ...Object.fromEntries(sources) }));
  assert.deepEqual(errors, {});
  assert.equal(code, 0);
  assert.ok(Object.values(states).every((state) => state === "pass"));
}

test("an HTTP action goes on until its response's body is over", () => passes("streams", {
  "stream.test.ts": `
test("writes while it streams", async () => {
  const t = open();
  const response = await t.fetch("/stream");
  expect([response.status, response.headers.get("x-how")]).toEqual([201, "streamed"]);
  expect(await response.text()).toBe("abc");
  expect((await seen(t)).map(([what]: any) => what)).toEqual(["a", "b", "c"]);
});
test("breaks while it streams", async () => {
  await expect((await open().fetch("/breaks")).text()).rejects.toThrow("in the middle");
});
test("has no body", async () => {
  const response = await open().fetch("/none");
  expect([response.status, response.body]).toEqual([204, null]);
});`,
}));

test("asynchronous fake timers wait for what the engine answers", () => passes("fake", {
  "fake.test.ts": `
test("an action that sleeps", async () => {
  fake();
  const t = open();
  const done = t.action(api.f.sleep, { ms: 5000 });
  await vi.advanceTimersByTimeAsync(4999);
  expect(await seen(t, T0)).toEqual([["before", 0]]);
  await vi.advanceTimersByTimeAsync(1);
  await done;
  expect(await seen(t, T0)).toEqual([["before", 0], ["after", 5000]]);
});
test("a closure that sleeps first", async () => {
  fake();
  const t = open();
  const done = t.action(async (ctx: any) => {
    await new Promise((resolve) => setTimeout(resolve, 5000));
    return ctx.runQuery(api.f.all);
  });
  await vi.runAllTimersAsync();
  expect(await done).toEqual([]);
});
const chained = [["chain", 1000], ["chain", 2000], ["chain", 3000], ["chain", 4000]];
test.for([
  ["by time", async () => { await vi.advanceTimersByTimeAsync(10_000); }],
  ["all", async () => { await vi.runAllTimersAsync(); }],
  ["one after another", async () => {
    for (let at = 0; at < 4; at++) await vi.advanceTimersToNextTimerAsync();
  }],
] as const)("what schedules itself, %s", async ([, advance]) => {
  fake();
  const t = open();
  await t.mutation(api.f.later, { name: "chain", delay: 1000, left: 3, gap: 1000 });
  await advance();
  await t.finishInProgressScheduledFunctions();
  expect(await seen(t, T0)).toEqual(chained);
});
test("a scheduled action that sleeps", async () => {
  fake();
  const t = open();
  await t.mutation(api.f.later, { name: "sleep", delay: 1000, ms: 3000 });
  await vi.runOnlyPendingTimersAsync();
  expect(await seen(t, T0)).toEqual([["before", 1000]]);
  await vi.advanceTimersByTimeAsync(3000);
  await t.finishInProgressScheduledFunctions();
  expect(await seen(t, T0)).toEqual([["before", 1000], ["after", 4000]]);
});
test("a transaction that waits holds nothing up", async () => {
  fake();
  const t = open();
  const slept = new Promise((resolve) => setTimeout(resolve, 5000));
  const done = t.run(async () => {
    await slept;
    return Date.now() - T0;
  });
  await vi.advanceTimersByTimeAsync(6000);
  expect(await done).toBe(5000);
});`,
}));

test("t.advance moves the clock of actions that sleep", () => passes("advance", {
  "advance.test.ts": `
const states = async (t: any) => (await t.query(api.f.jobs)).map(({ state }: any) => state.kind);
const both = [["with fake timers", true], ["without", false]] as const;
test.for(both)("to their end, %s", async ([, isFake]) => {
  if (isFake) fake();
  const t = open();
  await t.advance(0);
  const start = Date.now();
  await t.mutation(api.f.later, { name: "sleep", delay: 1000, ms: 5000 });
  await t.mutation(api.f.later, { name: "chain", delay: 3000, left: 2, gap: 4000 });
  await t.mutation(api.f.later, { name: "polls", delay: 500 });
  await t.advance("10 s");
  expect(Date.now() - start).toBe(10_000);
  expect(await seen(t, start)).toEqual([
    ["before", 1000], ["chain", 3000], ["polled", 3500], ["after", 6000], ["chain", 7000],
  ]);
  await t.advance("1 s");
  expect((await seen(t, start)).at(-1)).toEqual(["chain", 11_000]);
});
test.for(both)("not to an end that is beyond, %s", async ([, isFake]) => {
  if (isFake) fake();
  const t = open();
  const id = await t.mutation(api.f.later, { name: "sleep", delay: 1000, ms: 3_600_000 });
  await t.advance("10 s");
  expect((await seen(t)).map(([what]: any) => what)).toEqual(["before"]);
  expect(await states(t)).toEqual(["inProgress"]);
  await t.advance("1 h");
  expect((await seen(t)).map(([what]: any) => what)).toEqual(["before", "after"]);
  expect(await states(t)).toEqual(["success"]);
});
test("that began before it, and those whose end is waited for", async () => {
  const t = open();
  await t.mutation(api.f.later, { name: "sleep", delay: 1000, ms: 3_600_000 });
  const done = t.action(api.f.sleep, { ms: 3_600_000 });
  await t.advance("2 s");
  await t.finishInProgressScheduledFunctions();
  await done;
  expect(await states(t)).toEqual(["success"]);
});
test("no job has ended before its time", async () => {
  const t = open();
  await t.mutation(api.f.later, { name: "log", delay: 500, what: "a" });
  await t.advance(0);
  const [{ scheduledTime: due }] = await t.query(api.f.jobs);
  // The machine's clock reaches the job's time, and this test's stands before it.
  if (Date.now() < due) {
    while (vi.getRealSystemTime() < due + 50) await new Promise((go) => setTimeout(go, 10));
    expect(await states(t)).toEqual(["pending"]);
  }
  await t.advance("1 min");
  const [{ completedTime, scheduledTime }] = await t.query(api.f.jobs);
  expect(completedTime).toBeGreaterThanOrEqual(scheduledTime);
});`,
}));

test("watches made side by side have their first results", () => passes("watches", {
  "watch.test.ts": `
test("side by side", async () => {
  const t = open();
  const all = await Promise.all(Array.from({ length: 20 }, () => t.watch(api.f.all, {})));
  expect(all.map(({ results }) => results)).toEqual(all.map(() => [[]]));
  await Promise.all(["a", "b", "c"].map((what) => t.mutation(api.f.log, { what })));
  for (const { current, results } of all) {
    expect(current).toHaveLength(3);
    const lengths = results.map(({ length }: any) => length);
    expect(lengths).toEqual([...lengths].sort());
  }
});`,
}));

const DRAWS = `
const draw = () =>
  [Math.random(), crypto.randomUUID(), ...crypto.getRandomValues(new Uint32Array(2))];
const outside = draw();
const drawn = async (again = 0) => {
  const t = open();
  const all: any = { outside, test: draw() };
  for (const kind of ["query", "action"]) {
    all[kind] = await t[kind](api.draw[kind]);
    all["inline " + kind] = await t[kind](async () => draw());
  }
  all.run = await t.run(async () => draw());
  all.id = [await t.run(async (ctx: any) => ctx.db.insert("log", { at: 0, what: "" }))];
  const values = Object.values(all).flat();
  expect(new Set(values).size).toBe(values.length);
  throw new Error("drawn: " + JSON.stringify(all) + ".");
};
test("first", () => drawn());
test("second", () => drawn());`;

test("randomness is that of the seed, which a run that fails names", () => {
  const folder = app("seeds", {
    ...APP,
    "draw.ts": `
import { actionGeneric, queryGeneric } from "convex/server";
const draw = async () => [Math.random(), crypto.randomUUID(),
  ...[...crypto.getRandomValues(new Uint32Array(2))].map(Number)];
export const query = queryGeneric({ handler: draw });
export const action = actionGeneric({ handler: draw });`,
    "draw.test.ts": HEAD + DRAWS,
  });
  const draws = (...args) => {
    const { errors } = report(folder, ...args);
    const texts = Object.entries(errors);
    return Object.fromEntries(texts.map(([name, text]) => {
      const [, json] = /drawn: (.*)\.$/m.exec(text) ?? assert.fail(text);
      return [name, JSON.parse(json)];
    }));
  };
  const seven = draws("--seed", "7");
  const [first, second] = ["draw > first", "draw > second"].map((name) => seven[name]);
  assert.deepEqual(draws("--seed", "7"), seven);
  assert.deepEqual(draws("--seed", "7", "--filter", "second"), { "draw > second": second });
  const { outside: _, ...own } = second;
  for (const [what, values] of Object.entries(own)) {
    assert.ok(!values.some((value) => first[what].includes(value)), what);
  }
  for (const [what, values] of Object.entries(draws("--seed", "8")["draw > first"])) {
    assert.ok(!values.some((value) => first[what].includes(value)), what);
  }
  const { told } = run(folder, "--filter", "first");
  const [, seed] = /1 of 1 tests failed\. Again .*--seed (\d+)\./.exec(told) ?? assert.fail(told);
  assert.notDeepEqual(draws("--seed", seed)["draw > first"], first);
  const { told: other } = run(folder);
  assert.ok(!other.includes(`--seed ${seed}.`), other);
});

test("fake timers may come by themselves, and messages go through channels", () => passes("modes", {
  "m.test.ts": `
test("nextTimerAsync", async () => {
  vi.useFakeTimers();
  vi.setTimerTickMode("nextTimerAsync");
  const before = Date.now();
  await new Promise((resolve) => { setTimeout(resolve, 60_000); });
  await new Promise((resolve) => { setTimeout(resolve, 60_000); });
  expect(Date.now() - before).toBe(120_000);
  vi.useRealTimers();
});
test("channels", async () => {
  const { port1, port2 } = new MessageChannel();
  const seen: unknown[] = [];
  const sent = { at: [1] };
  port2.postMessage(sent);
  sent.at.push(2);
  port2.postMessage("second");
  await new Promise<void>((resolve) => {
    port1.onmessage = ({ data }) => { seen.push(data); if (seen.length === 2) resolve(); };
  });
  expect(seen).toEqual([{ at: [1] }, "second"]);
  expect(() => port1.postMessage(() => {})).toThrow();
  port1.close();
  port2.postMessage("third");
  const later = new MessageChannel();
  await new Promise((resolve) => {
    later.port1.onmessage = resolve;
    later.port2.postMessage(0);
  });
  expect(seen).toHaveLength(2);
  expect(() => new (MessagePort as any)()).toThrow(TypeError);
});
`,
}));
