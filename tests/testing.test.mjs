// `concave test`: the runner, the matchers, `convexTest` on the real engine.
//
// In: the built program, apps with test files. Out: checks of what each test file's tests come to,
// and of what the user reads. Invariant: an app here has tests that must fail beside those that
// must pass.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { app } from "./app.mjs";
import { CONCAVE, ROOT, eventually } from "./host.mjs";
import { ENVIRONMENT, report, run } from "./verdicts.mjs";

const SCHEMA = `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({ tasks: defineTable({ text: v.string() }) });
`;

const TASKS = `
import { actionGeneric as action, internalMutationGeneric, makeFunctionReference,
  mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { ConvexError, v } from "convex/values";
export const list = query({ args: {}, handler: async (ctx) =>
  (await ctx.db.query("tasks").collect()).map((task) => task.text) });
export const add = mutation({ args: { text: v.string() }, handler: async (ctx, { text }) => {
  if (text === "") throw new ConvexError({ why: "empty" });
  return await ctx.db.insert("tasks", { text });
} });
export const hidden = internalMutationGeneric({ args: { text: v.string() },
  handler: async (ctx, { text }) => { await ctx.db.insert("tasks", { text }); } });
export const later = mutation({ args: { text: v.string(), ms: v.number() },
  handler: async (ctx, { text, ms }) => {
    await ctx.scheduler.runAfter(ms, makeFunctionReference("tasks:hidden"), { text });
  } });
export const load = action({ args: { url: v.string() }, handler: async (ctx, { url }) => {
  const text = await (await fetch(url)).text();
  await ctx.runMutation(makeFunctionReference("tasks:hidden"), { text });
  return process.env.GREETING ?? null;
} });
export const deep = action({ args: { levels: v.number() }, handler: async (ctx, { levels }) => {
  if (levels === 0) throw new Error("deep down");
  await ctx.runAction(makeFunctionReference("tasks:deep"), { levels: levels - 1 });
} });
export const greeting = query({ args: {}, handler: async () => process.env.GREETING ?? null });
export const who = query({ args: {}, handler: async (ctx) =>
  (await ctx.auth.getUserIdentity())?.name ?? null });
export const timer = query({ args: {}, handler: async () => { setTimeout(() => {}, 0); } });
export const random = query({ args: {}, handler: async () => Math.random() });
export const fails = mutation({ args: {}, handler: async (ctx) => {
  await ctx.db.insert("tasks", { text: "gone" });
  throw new Error("no luck");
} });
`;

const CRONS = `
import { cronJobs, makeFunctionReference } from "convex/server";
const crons = cronJobs();
crons.daily("remind", { hourUTC: 9, minuteUTC: 0 }, makeFunctionReference("tasks:hidden"),
  { text: "cron" });
export default crons;
`;

const HEAD = `
import { convexTest } from "convex-test";
import { anyApi as api, createFunctionHandle, makeFunctionReference, mutationGeneric,
} from "convex/server";
import { afterEach, describe, expect, test, vi } from "vitest";
import schema from "./schema";
import { add, list } from "./tasks";
// A file does not find itself with a pattern, as with Vite.
const modules = { ...import.meta.glob("./**/*.ts"), "./here.ts": async () => here };
const here = { get ofTest() { return ofTest; } };
const ofTest = mutationGeneric({ handler: (ctx, args) => spied(ctx, args) });
const spied = vi.fn(async (ctx, { text }) => { await ctx.db.insert("tasks", { text }); });
const open = (options = {}) => convexTest({ schema, modules, ...options });
afterEach(() => { vi.useRealTimers(); vi.unstubAllEnvs(); });
`;

const ENGINE = `${HEAD}
test("named functions run on the engine, internal ones too", async () => {
  const t = open();
  const id = await t.mutation(api.tasks.add, { text: "a" });
  await t.mutation(api.tasks.hidden, { text: "b" });
  expect(await t.query(api.tasks.list)).toEqual(["a", "b"]);
  expect(await open().query(api.tasks.list)).toEqual([]);
  await expect(t.query(api.tasks.timer)).rejects.toThrow("setTimeout");
  const same = await t.run(async (ctx) => [ctx.db.normalizeId("tasks", id),
    ctx.db.normalizeId("others", id), ctx.db.normalizeId("tasks", "x" + id),
    (await ctx.db.get(id)).text]);
  expect(same).toEqual([id, null, null, "a"]);
});
test("a transaction that throws writes nothing, inline or named", async () => {
  const t = open();
  await expect(t.mutation(api.tasks.fails)).rejects.toThrow(/^no luck$/);
  const mine = new Error("mine");
  await expect(t.run(async (ctx) => {
    await ctx.db.insert("tasks", { text: "x" });
    throw mine;
  })).rejects.toBe(mine);
  await expect(t.mutation(api.tasks.add, { text: "" })).rejects.toMatchObject(
    { data: { why: "empty" } });
  await expect(t.mutation(api.tasks.add, { text: 1 })).rejects.toThrow("ArgumentValidationError");
  expect(await t.query(api.tasks.list)).toEqual([]);
});
test("queries in a test cannot write; a table must fit its schema", async () => {
  const t = open();
  await expect(t.query(async (ctx) => ctx.db.insert("tasks", { text: "x" }))).rejects.toThrow();
  await expect(t.run((ctx) => ctx.db.insert("tasks", { text: 3 }))).rejects.toThrow("schema");
});
test("nested calls of an inline mutation are part of it", async () => {
  const t = open();
  await expect(t.mutation(async (ctx) => {
    await ctx.runMutation(api.tasks.add, { text: "inner" });
    expect(await ctx.runQuery(api.tasks.list)).toEqual(["inner"]);
    throw new Error("undo");
  })).rejects.toThrow("undo");
  expect(await t.query(api.tasks.list)).toEqual([]);
});
test("functions of a test file are functions", async () => {
  const t = open();
  await t.mutation(makeFunctionReference("here:ofTest"), { text: "here" });
  await t.mutation(async (ctx) => {
    await ctx.scheduler.runAfter(0, makeFunctionReference("here:ofTest"), { text: "there" });
  });
  await t.finishAllScheduledFunctions(() => {});
  expect(spied).toHaveBeenCalledTimes(2);
  expect(await t.query(api.tasks.list)).toEqual(["here", "there"]);
});
test("what tests written for convex-test do with jobs, handles and spies", async () => {
  const spy = vi.spyOn(add, "_handler");
  const t = open();
  const remind = makeFunctionReference("tasks:hidden");
  const jobs = () => t.run((ctx) => ctx.db.system.query("_scheduled_functions").collect());
  const gone = await t.run((ctx) => ctx.scheduler.runAfter(1e9, remind, { text: "gone" }));
  expect((await jobs()).map((job) => job.name)).toEqual(["tasks:hidden"]);
  await t.run((ctx) => ctx.db.delete("_scheduled_functions", gone));
  expect(await jobs()).toEqual([]);
  await t.run((ctx) => ctx.runMutation("function://;tasks:add", { text: "a" }));
  expect(spy).toHaveBeenCalledOnce();
  const nobody = await t.run(() => createFunctionHandle(makeFunctionReference("no:body")));
  await expect(t.run((ctx) => ctx.runMutation(nobody, {}))).rejects.toThrow("Could not find");
  // A spy that comes later is seen too.
  const later = vi.spyOn(list, "_handler").mockReturnValue(["mine"]);
  expect(await t.query(api.tasks.list)).toEqual(["mine"]);
  later.mockRestore();
});
test("jobs run when the test waits, not between two of its calls", async () => {
  const t = open();
  await t.mutation(api.tasks.later, { text: "job", ms: 0 });
  for (let i = 0; i < 5; i++) {
    await t.query(async () => { for (let n = 0; n < 100_000; n++) Math.sqrt(n); });
    expect(await t.query(api.tasks.list)).toEqual([]);
  }
  await new Promise((resolve) => setTimeout(resolve, 0));
  expect(await t.query(api.tasks.list)).toEqual(["job"]);
});
test("limits of a transaction", async () => {
  const metrics = await open().run(async (ctx) => {
    await ctx.db.insert("tasks", { text: "a" });
    return ctx.meta.getTransactionMetrics();
  });
  expect(metrics).toMatchObject({ documentsWritten: { used: 1 } });
  const t = open({ transactionLimits: { documentsWritten: 2 } });
  const write = (count) => t.run(async (ctx) => {
    for (let i = 0; i < count; i++) await ctx.db.insert("tasks", { text: String(i) });
  });
  await write(2);
  await expect(write(3)).rejects.toThrow("limit: 2");
});
test("files", async () => {
  const t = open();
  const text = await t.run(async (ctx) => {
    const id = await ctx.storage.store(new Blob(["hello"]));
    return (await ctx.storage.get(id)).text();
  });
  expect(text).toBe("hello");
  // They come and go with the transaction.
  await t.run(async (ctx) => {
    const id = await ctx.storage.store(new Blob(["seen"], { type: "text/plain" }));
    expect(await ctx.db.system.get(id)).toMatchObject({ size: 4, contentType: "text/plain" });
    expect(await ctx.storage.getUrl(id)).toContain("/api/storage/");
    await ctx.storage.delete(id);
    expect(await ctx.storage.getUrl(id)).toBeNull();
  });
  await expect(t.run(async (ctx) => {
    await ctx.storage.store(new Blob(["gone"]));
    throw new Error("no luck");
  })).rejects.toThrow("no luck");
  expect(await t.run((ctx) => ctx.db.system.query("_storage").collect())).toHaveLength(1);
});
`;

const CONTROL = `${HEAD}
test("time passes when the test says so", async () => {
  const t = open();
  await t.mutation(api.tasks.later, { text: "soon", ms: 3_600_000 });
  await t.advance("59 minutes");
  const count = async (what) =>
    (await t.query(api.tasks.list)).filter((text) => text === what).length;
  expect(await count("soon")).toBe(0);
  const crons = await count("cron");
  await t.advance("30 days");
  expect(await count("soon")).toBe(1);
  expect(await count("cron")).toBe(crons + 30);
});
test("fake timers move the engine", async () => {
  vi.useFakeTimers();
  const t = open();
  await t.mutation(api.tasks.later, { text: "a", ms: 1000 });
  await t.mutation(api.tasks.later, { text: "b", ms: 5000 });
  vi.advanceTimersByTime(4999);
  await t.finishInProgressScheduledFunctions();
  expect(await t.query(api.tasks.list)).toEqual(["a"]);
  await t.finishAllScheduledFunctions(vi.runAllTimers);
  expect(await t.query(api.tasks.list)).toEqual(["a", "b"]);
});
test("requests are scripted, variables and identity given", async () => {
  const t = open();
  t.onFetch("https://example.com/", (request) => new Response("from " + request.url));
  vi.stubEnv("GREETING", "hi");
  expect(await t.action(api.tasks.load, { url: "https://example.com/x" })).toBe("hi");
  expect(await t.query(api.tasks.greeting)).toBe("hi");
  expect(await t.query(api.tasks.list)).toEqual(["from https://example.com/x"]);
  await expect(t.action(api.tasks.load, { url: "https://other.com/" })).rejects.toThrow(
    "is not scripted");
  expect(await t.withIdentity({ name: "Ann" }).query(api.tasks.who)).toBe("Ann");
  expect(await t.query(api.tasks.who)).toBe(null);
});
test("a watched query is as fresh as the last call", async () => {
  const t = open();
  const watch = await t.watch(api.tasks.list);
  await t.mutation(api.tasks.add, { text: "a" });
  await t.run((ctx) => ctx.db.insert("tasks", { text: "b" }));
  await t.run((ctx) => ctx.db.query("tasks").collect());
  expect(watch.results).toEqual([[], ["a"], ["a", "b"]]);
});
test("random", async () => { console.log("random", await open().query(api.tasks.random)); });
`;

const RUNNER = `
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, test, vi } from "vitest";
const order: string[] = [];
beforeAll(() => { order.push("all"); });
beforeEach(() => { order.push("each"); });
afterAll(() => { expect(order).toEqual(["all", "each", "a", "each", "b 1", "each", "b 2"]); });
describe("inside", () => {
  it.only("a", () => { order.push("a"); });
  test("not run", () => { throw new Error("ran"); });
  test.only.each([1, 2])("b %i", (n) => { order.push("b " + n); });
  test.todo("later");
});
test.only("mocks", async () => {
  const fn = vi.fn((n: number) => n + 1);
  expect(fn(1)).toBe(2);
  expect(fn).toHaveBeenCalledWith(1);
  order.pop();
});
`;

const MORE = `
import { afterEach, describe, expect, it, test, vi } from "vitest";
const order: string[] = [];
afterEach(() => { vi.unstubAllGlobals(); });
let quick;
const isDone = new Promise((resolve) => { quick = resolve; });
test.concurrent("slow", async () => {
  order.push("slow begins");
  await isDone;
  order.push("slow ends");
});
test.concurrent("quick", async () => { order.push("quick"); quick(); });
test("side by side", () => { expect(order).toEqual(["slow begins", "quick", "slow ends"]); });
describe.skip("left out", () => { it("inside", () => { throw new Error("ran"); }); });
test.skip("skipped", () => { throw new Error("ran"); });
test.skipIf(true)("skipped too", () => { throw new Error("ran"); });
test.fails("fails as it should", () => { expect(1).toBe(2); });
test("stubbed", () => {
  vi.stubGlobal("answer", 42);
  expect(globalThis.answer).toBe(42);
});
test("no stub stays", () => { expect("answer" in globalThis).toBe(false); });
test("spied", () => {
  const object = { twice: (n: number) => n * 2 };
  const spy = vi.spyOn(object, "twice").mockImplementationOnce(() => 0);
  expect([object.twice(2), object.twice(2)]).toEqual([0, 4]);
  expect(spy.mock.calls).toEqual([[2], [2]]);
});
test("fake time", async () => {
  vi.useFakeTimers({ now: new Date("2030-01-01") });
  const told = vi.fn();
  setTimeout(told, 1000, "one");
  setInterval(told, 3000, "many");
  vi.advanceTimersByTime(6000);
  expect(told.mock.calls.flat()).toEqual(["one", "many", "many"]);
  expect(new Date().toISOString()).toBe("2030-01-01T00:00:06.000Z");
  vi.clearAllTimers();
  setTimeout(told, 1e9, "late");
  vi.runAllTimers();
  expect(told).toHaveBeenLastCalledWith("late");
  vi.useRealTimers();
});
test("inline snapshots and asymmetric matchers", () => {
  expect({ a: 1, b: "x" }).toMatchObject({ b: expect.stringContaining("x") });
  expect([1, { a: "b" }]).toMatchInlineSnapshot(\`
    [
      1,
      {
        "a": "b",
      },
    ]
  \`);
});
`;

const BAD = {
  "loop.test.ts": `import { expect, test } from "vitest";
test("before", () => {});
test("never ends", () => { for (;;) {} }, 200);
test("after", () => { expect(1).toBe(1); });
test("waits", async () => { await new Promise(() => {}); }, 200);`,
  "syntax.test.ts": `import { test } from "vitest";
test("x", () => { const = 3; });`,
  "builtin.test.ts": `import fs from "node:fs";
import { test } from "vitest";
test("x", () => fs);`,
  "throws.test.ts": `import { test } from "vitest";
test("x", () => {});
throw new Error("at import");`,
  "memory.test.ts": `import { test } from "vitest";
test("eats", () => {
  const all: any[] = [];
  for (;;) all.push(new Array(10_000).fill(all.length));
});
test("last", () => {});`,
  "leaks.test.ts": `import { afterEach, test } from "vitest";
let cleared;
afterEach(() => { clearInterval(cleared); });
test("leaks", () => {
  setInterval(() => {}, 10);
});
test("clears", () => { cleared = setInterval(() => {}, 10); setTimeout(() => {}, 10_000); });`,
  "unhandled.test.ts": `import { test } from "vitest";
test("fine itself", () => { Promise.reject(new Error("nobody looked")); });`,
  "good.test.ts": `import { expect, test } from "vitest";
test("good", () => { expect(1).toBe(1); });`,
};

test("convex-test's API on the real engine", () => {
  const sources = { "schema.ts": SCHEMA, "tasks.ts": TASKS, "engine.test.ts": ENGINE };
  const folder = app("engine", sources);
  const { code, errors, passed } = report(folder);
  assert.deepEqual(errors, {});
  assert.equal(passed, 9);
  assert.equal(code, 0);
});

test("time, requests, variables and live queries are the test's", () => {
  const sources = { "schema.ts": SCHEMA, "tasks.ts": TASKS, "crons.ts": CRONS };
  const folder = app("control", { ...sources, "control.test.ts": CONTROL });
  const one = report(folder, "--seed", "7");
  assert.deepEqual(one.errors, {});
  // Randomness is a function of the seed.
  const logged = (of) => of.files[0].log;
  assert.deepEqual(logged(report(folder, "--seed", "7")), logged(one));
  assert.notDeepEqual(logged(report(folder, "--seed", "8")), logged(one));
});

test("only, each, todo, hooks", () => {
  const { code, states } = report(app("runner", { "runner.test.ts": RUNNER }));
  assert.deepEqual(states, {
    "runner > inside > a": "pass", "runner > inside > not run": "skip",
    "runner > inside > b 1": "pass", "runner > inside > b 2": "pass",
    "runner > inside > later": "todo", "runner > mocks": "pass",
  });
  assert.equal(code, 0);
});

test("concurrent, skip, fails, stubs, spies, fake time, inline snapshots", () => {
  const folder = app("more", { "more.test.ts": MORE });
  const { code, errors, passed, skipped } = report(folder);
  assert.deepEqual(errors, {});
  assert.deepEqual([code, passed, skipped], [0, 9, 3]);
});

test("what is bad fails by itself, with its place and a cure", () => {
  const folder = app("bad", BAD);
  const { code, states, errors } = report(folder);
  assert.equal(code, 1);
  assert.deepEqual(states, {
    "good > good": "pass", "leaks > leaks": "fail", "leaks > clears": "pass",
    "loop > before": "pass",
    "loop > never ends": "fail", "loop > after": "pass", "loop > waits": "fail",
    "memory > eats": "fail", "memory > last": "pass", "unhandled > fine itself": "pass",
  });
  assert.match(errors.syntax, /syntax\.test\.ts:2:\d+: Unexpected token/);
  assert.match(errors.builtin, /builtin\.test\.ts:1:\d+: Could not resolve "node:fs"/);
  assert.match(errors.builtin, /without Node/);
  assert.match(errors.throws, /at import/);
  assert.match(errors["loop > never ends"], /never ended.*Look for a loop/s);
  assert.match(errors["loop > waits"], /timed out in 200ms/);
  assert.match(errors["memory > eats"], /ran out of memory/);
  assert.match(errors.unhandled, /nobody looked/);
  assert.match(errors["leaks > leaks"], /leaves a timer running: setInterval.*clearInterval/);
  const { out: leaks } = run(folder, "--filter", "leaks");
  assert.match(leaks, /at convex\/leaks\.test\.ts:5:3\n/);
  const { out } = run(folder, "--filter", "throws");
  assert.match(out, /at convex\/throws\.test\.ts:3:7\n\n.*> 3 \| throw new Error/s);
});

test("a failure is told with its diff, its line and the function's; JUnit has it too", () => {
  const sources = { "schema.ts": SCHEMA, "tasks.ts": TASKS };
  const folder = app("failing", { ...sources, "f.test.ts": `${HEAD}
test("diff", () => { expect({ a: 1 }).toEqual({ a: 2 }); });
test("throws", async () => { await open().mutation(api.tasks.fails); });
test("acts", async () => { await open().action(api.tasks.deep, { levels: 2 }); });
test("passes", () => {});` });
  const { code, out, told } = run(folder);
  assert.equal(code, 1);
  assert.match(out, /FAIL .*f\.test\.ts > diff\nAssertionError.*- +"a": 2,\n\+ +"a": 1,/s);
  assert.match(out, /no luck\n  at handler \(convex\/tasks\.ts:\d+:\d+\)\n  at convex\/f\.test/);
  // An action's too, one frame a level.
  const [, frames] = out.match(/deep down\n((?: {2}at .*\n)+)/);
  const handlers = /^( {2}at handler \(convex\/tasks\.ts:\d+:\d+\)\n){3} {2}at convex\/f\.t.*\n$/;
  assert.match(frames, handlers);
  assert.match(out, /Tests {2}3 failed, 1 passed/);
  assert.match(told, /3 of 4 tests failed/);
  const junit = run(folder, "--reporter", "junit");
  assert.match(junit.out, /tests="4" failures="3"/);
  assert.match(junit.out, /<testcase classname="convex\/f.test.ts" name="diff"[^>]*><failure/);
  const one = report(folder, "--filter", "passes");
  assert.deepEqual([one.code, one.passed, one.skipped], [0, 1, 3]);
  // Whoever names the functions' folder is told the same, with the same code around it.
  const untimed = (text) => text.replace(/\([\d.]+ ms\)|Time .*/g, "");
  assert.equal(untimed(run(join(folder, "convex")).out), untimed(out));
});

test("a function that remembers is not deterministic, and the test says so", () => {
  const folder = app("memory", {
    "schema.ts": SCHEMA,
    "tasks.ts": TASKS,
    "counted.ts": `import { mutationGeneric as mutation } from "convex/server";
export const experimental_reuseContext = true;
let calls = 0;
export const count = mutation({ args: {}, handler: async () => { calls += 1; return calls; } });`,
    "counted.test.ts": `${HEAD}
test("counts", async () => {
  const t = open();
  // Each thread has contexts of its own.
  for (let i = 0; i < 20; i++) await t.mutation(api.counted.count);
});`,
  });
  const told = report(folder).errors["counted > counts"];
  assert.match(told, /counted:count (behaved otherwise|is not deterministic)/);
});

test("no call finds what another has left, whoever used its context before", () => {
  const folder = app("left", {
    "schema.ts": SCHEMA,
    "tasks.ts": TASKS,
    "left.ts": `import { makeFunctionReference, mutationGeneric as mutation } from "convex/server";
let calls = 0;
export const count = mutation({ args: {}, handler: async () => { calls += 1; return calls; } });
export const ask = mutation({ args: {}, handler: async (ctx) => {
  calls += 1;
  try {
    await ctx.runMutation(makeFunctionReference("here:ofTest"), { text: \`\${calls}\` });
  } catch (error) {
    throw new Error("not asked: " + error.message);
  }
  return calls;
} });`,
    "left.test.ts": `${HEAD}
test("counts", async () => {
  const t = open();
  const each = async (call) => {
    const found = [];
    for (let i = 0; i < 10; i++) found.push(await call());
    return new Set(found);
  };
  expect(await each(() => t.mutation(api.left.count))).toEqual(new Set([1]));
  spied.mockClear();
  expect(await each(() => t.mutation(api.left.ask))).toEqual(new Set([1]));
  expect(spied).toHaveBeenCalledTimes(10);
  expect(await each(() => t.run((ctx) => ctx.runMutation(api.left.count)))).toEqual(new Set([1]));
});`,
  });
  assert.deepEqual(report(folder).errors, {});
});

test("a job that remembers fails the test that waits for it", () => {
  const folder = app("job", {
    "schema.ts": SCHEMA,
    "tasks.ts": TASKS,
    "counted.ts": `import { mutationGeneric as mutation } from "convex/server";
export const experimental_reuseContext = true;
let calls = 0;
export const count = mutation({ args: {}, handler: async (ctx) => {
  calls += 1;
  await ctx.db.insert("tasks", { text: \`\${calls}\` });
} });`,
    "counted.test.ts": `${HEAD}
test("counts", async () => {
  const t = open();
  await t.run(async (ctx) => {
    for (let i = 0; i < 20; i++) await ctx.scheduler.runAfter(0, api.counted.count, {});
  });
  await t.finishAllScheduledFunctions(() => {});
});
test("the next one passes", () => {});`,
  });
  const { errors, passed } = report(folder);
  assert.match(errors["counted > counts"], /NotDeterministic: counted:count behaved otherwise/);
  assert.equal(passed, 1);
});

test("with --watch the tests run again at every save", async () => {
  const source = (value) => `import { expect, test } from "vitest";
import { value } from "./value";
test("t", () => { expect(value).toBe(${value}); });`;
  const folder = app("watch", { "w.test.ts": source(1), "value.ts": "export const value = 1;" });
  const child = spawn(CONCAVE, ["test", folder, "--watch"], { env: ENVIRONMENT });
  let told = "";
  const says = async (pattern) => {
    await eventually(pattern, () => told, (text) => pattern.test(text));
    told = "";
  };
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => { told += text; });
  try {
    await says(/1 passed[^]*waiting for changes/);
    writeFileSync(join(folder, "convex/value.ts"), "export const value = 2;");
    await says(/value\.ts changed[^]*1 failed[^]*waiting for changes/);
    writeFileSync(join(folder, "convex/w.test.ts"), source(2));
    await says(/w\.test\.ts changed[^]*1 passed[^]*waiting for changes/);
    // A configuration that was not there before, and that leaves nothing to run in the file.
    const setup = "vitest.config.ts";
    writeFileSync(join(folder, "bad.ts"), 'throw new Error("not set up");');
    writeFileSync(join(folder, setup), 'export default { test: { setupFiles: ["./bad.ts"] } };');
    await says(/\.ts changed[^]*Error: not set up[^]*Tests  none[^]*waiting for changes/);
  } finally {
    child.kill();
  }
});

test("--coverage tells which lines of functions ran, in a table and for tools", () => {
  const folder = app("coverage", {
    "schema.ts": SCHEMA, "crons.ts": CRONS, "tasks.ts": TASKS,
    "size.ts": `import { queryGeneric as query } from "convex/server";
export const of = query({ handler: async (_ctx, { n }: { n: number }) => {
  if (n > 9) {
    return "big";
  }
  return "small";
} });`,
    "size.test.ts": `import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test, vi } from "vitest";
import schema from "./schema";
const t = () => convexTest(schema, import.meta.glob("./**/*.ts"));
test("small", async () => { expect(await t().query(api.size.of, { n: 1 })).toBe("small"); });
test("made anew", async () => {
  vi.resetModules();
  expect((await import("./anew")).ran()).toBe(1);
});`,
    "anew.ts": "export const ran = () => {\n  return 1;\n};",
  });
  const { code, out } = run(folder, "--coverage");
  assert.equal(code, 0, out);
  assert.match(out, /convex\/size\.ts +66\.7 +4\/6 +1\/1 +4-5\n/);
  assert.match(out, /convex\/anew\.ts +100\.0 +3\/3/);
  assert.doesNotMatch(out, /size\.test\.ts +\d/);
  const lcov = readFileSync(join(folder, "coverage/lcov.info"), "utf8");
  const [of] = lcov.match(/SF:convex\/size\.ts\n[^]*?end_of_record/);
  const lines = of.match(/^DA:.*$/gm).join(" ");
  assert.equal(lines, "DA:2,1 DA:3,1 DA:4,0 DA:5,0 DA:6,1 DA:7,1");
});

test("snapshots are written, compared, and updated when asked", () => {
  const test = (value) => `import { expect, test } from "vitest";
test("s", () => { expect(${value}).toMatchSnapshot(); });`;
  const folder = app("snapshots", { "s.test.ts": test("{ a: [1] }") });
  const file = join(folder, "convex/__snapshots__/s.test.ts.snap");
  assert.equal(report(folder).code, 0);
  assert.match(readFileSync(file, "utf8"), /exports\[`s 1`\] = `\n\{\n {2}"a": \[\n {4}1,/);
  writeFileSync(join(folder, "convex/s.test.ts"), test("{ a: [2] }"));
  const { code, errors } = report(folder);
  assert.equal(code, 1);
  assert.match(errors["s > s"], /Snapshot `s 1` mismatched/);
  assert.equal(report(folder, "--update").code, 0);
  assert.match(readFileSync(file, "utf8"), / 2,/);
});

test("inline snapshots are written into the test file, and updated when asked", () => {
  const source = (inline, value) => `import { expect, test } from "vitest";
interface Kept { a: number[] }
test("s", async () => {
  const kept: Kept = { a: [${value}] };
  expect(kept).toMatchInlineSnapshot(${inline});
  expect(() => { throw new Error("no"); }).toThrowErrorMatchingInlineSnapshot();
  await expect(Promise.resolve(${value})).resolves.toMatchInlineSnapshot(\`${value}\`);
});`;
  const folder = app("inline", { "s.test.ts": source("", 1) });
  const file = join(folder, "convex/s.test.ts");
  const written = (value) => `\`
    {
      "a": [
        ${value},
      ],
    }
  \``;
  assert.deepEqual(report(folder).errors, {});
  const first = readFileSync(file, "utf8");
  const whole = source(written(1), 1).replace("Snapshot();", "Snapshot(`[Error: no]`);");
  assert.equal(first, whole);
  assert.deepEqual(report(folder).errors, {});
  writeFileSync(file, first.replace("{ a: [1] }", "{ a: [2] }"));
  assert.match(report(folder).errors["s > s"], /Snapshot `s 1` mismatched/);
  assert.equal(run(folder, "--update").code, 0);
  assert.match(readFileSync(file, "utf8"), /"a": \[\n +2,/);
});

test("a folder without tests says what test files are called", () => {
  const { code, told } = run(app("none", { "schema.ts": SCHEMA }));
  assert.equal(code, 1);
  assert.match(told, /There are no test files in .*\*\.test\.ts/s);
});

test("explore tells the order that breaks an invariant, and replays it", () => {
  const race = (options) => app("race", {
    "schema.ts": SCHEMA,
    "tasks.ts": TASKS,
    "count.ts": `import { actionGeneric as action, makeFunctionReference as ref,
  mutationGeneric as mutation, queryGeneric as query } from "convex/server";
export const size = query({ handler: async (ctx) =>
  (await ctx.db.query("tasks").collect()).length });
export const add = mutation({ handler: async (ctx, { text }) => {
  await ctx.db.insert("tasks", { text }); } });
/** At most one task: looks first, then adds. */
export const one = action({ handler: async (ctx, { text }) => {
  if (await ctx.runQuery(ref("count:size")) === 0) {
    await ctx.runMutation(ref("count:add"), { text });
  } } });`,
    "race.test.ts": `${HEAD}
test("race", async () => {
  const t = open();
  const add = (text) => () => t.action(api.count.one, { text });
  const invariant = async () => { expect(await t.query(api.count.size)).toBeLessThan(2); };
  await add("first")();
  const { orders, complete } = await t.explore([add("a"), add("b")], { invariant });
  expect([orders, complete]).toEqual([1, true]);
  await t.run(async (ctx) => { await ctx.db.delete((await ctx.db.query("tasks").first())._id); });
  await t.explore([add("a"), add("b")], { invariant, ...${JSON.stringify(options)} });
});`,
  });
  const told = report(race({})).errors["race > race"];
  assert.match(told, /expected 2 to be less than 2/);
  const story = "1. #1: query count:size\n  2. #2: query count:size\n";
  assert.ok(told.includes(story), told);
  assert.match(told, /3\. #\d: mutation count:add\n {2}4\. #\d: mutation count:add/);
  const [, replay] = told.match(/replay: "([\d ]+)"/);
  assert.match(report(race({ replay })).errors["race > race"], /the shortest of 1 that were run/);
  assert.equal(report(race({ replay: "0 0 1" })).code, 0);
});

test("explore runs what makes a difference, and checks what must always hold", () => {
  const folder = app("footprints", {
    "schema.ts": `import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({ accounts: defineTable({ balance: v.number() }) });`,
    "accounts.ts": `import { actionGeneric as action, makeFunctionReference as ref,
  mutationGeneric as mutation, queryGeneric as query } from "convex/server";
export const open = mutation({ handler: (ctx) => ctx.db.insert("accounts", { balance: 10 }) });
export const balance = query({ handler: async (ctx, { id }) => (await ctx.db.get(id)).balance });
export const total = query({ handler: async (ctx) =>
  (await ctx.db.query("accounts").collect()).reduce((sum, { balance }) => sum + balance, 0) });
export const add = mutation({ handler: async (ctx, { id, amount }) => {
  await ctx.db.patch(id, { balance: (await ctx.db.get(id)).balance + amount }); } });
/** Looks twice, then writes. */
export const touch = action({ handler: async (ctx, { id }) => {
  await ctx.runQuery(ref("accounts:balance"), { id });
  await ctx.runQuery(ref("accounts:balance"), { id });
  await ctx.runMutation(ref("accounts:add"), { id, amount: 1 }); } });
/** In two transactions, between which money is missing. */
export const move = action({ handler: async (ctx, { from, to }) => {
  await ctx.runMutation(ref("accounts:add"), { id: from, amount: -5 });
  await ctx.runMutation(ref("accounts:add"), { id: to, amount: 5 }); } });`,
    "accounts.test.ts": `import { convexTest } from "convex-test";
import { anyApi } from "convex/server";
import { expect, test } from "vitest";
import schema from "./schema";
const api = anyApi.accounts;
async function bank() {
  const t = convexTest(schema, import.meta.glob("./**/*.ts"));
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push(await t.mutation(api.open));
  const total = (wanted) => async () => { expect(await t.query(api.total)).toBe(wanted); };
  return { t, ids, total, touch: (id) => () => t.action(api.touch, { id }) };
}
test("apart", async () => {
  const { t, ids, touch, total } = await bank();
  const { orders } = await t.explore(ids.map(touch), { invariant: total(33) });
  expect(orders).toBe(1);
});
test("two of three apart", async () => {
  const { t, ids: [a, b], touch, total } = await bank();
  const { orders } = await t.explore([a, b, b].map(touch), { invariant: total(33) });
  expect(orders).toBe(6);
});
test("always", async () => {
  const { t, ids: [from, to], total } = await bank();
  const move = () => t.action(api.move, { from, to });
  expect((await t.explore([move], { invariant: total(30) })).orders).toBe(1);
  await t.explore([move], { always: total(30) });
});
test("insertions meet: their order can be seen", async () => {
  const { t } = await bank();
  const open = () => t.mutation(api.open);
  expect(await t.explore([open, open])).toMatchObject({ orders: 2, complete: true });
});`,
  });
  const { states, errors } = report(folder);
  const { "accounts > always": told, ...others } = errors;
  assert.deepEqual(others, {});
  assert.equal(states["accounts > always"], "fail");
  assert.match(told, /expected 25 to be 30[^]*1\. move: mutation accounts:add\n\n/);
});

test("HTTP actions answer t.fetch", () => {
  const folder = app("fetch", {
    "schema.ts": SCHEMA,
    "tasks.ts": TASKS,
    "http.ts": `import { httpActionGeneric, httpRouter, makeFunctionReference,
} from "convex/server";
const http = httpRouter();
http.route({ path: "/add", method: "POST", handler: httpActionGeneric(async (ctx, request) => {
  const text = await request.text();
  await ctx.runMutation(makeFunctionReference("tasks:hidden"), { text });
  return new Response("added " + text, { status: 201 });
}) });
http.route({ path: "/done", method: "GET", handler: httpActionGeneric(async () =>
  new Response("unsent", { status: 205 })) });
export default http;`,
    "fetch.test.ts": `${HEAD}
test("fetch", async () => {
  const t = open();
  const answer = await t.fetch("/add", { method: "POST", body: "milk" });
  expect([answer.status, await answer.text()]).toEqual([201, "added milk"]);
  expect(await t.query(api.tasks.list)).toEqual(["milk"]);
  expect((await t.fetch("/nothing")).status).toBe(404);
  const done = await t.fetch("/done");
  expect([done.status, await done.text()]).toEqual([205, ""]);
});`,
  });
  assert.deepEqual(report(folder).errors, {});
});

test("the example's own tests pass, where there is no Node", () => {
  const env = { PATH: "", NO_COLOR: "1" };
  const args = ["test", join(ROOT, "examples/transfer"), "--timeout", "60000"];
  const { status, stdout, stderr } = spawnSync(CONCAVE, args, { encoding: "utf8", env });
  assert.equal(status, 0, stdout + stderr);
});

test("the runner that is kept from run to run is made anew where its file is broken", () => {
  const one = 'import { expect, test } from "vitest"; test("one", () => expect(1).toBe(1));';
  const folder = app("kept", { "one.test.ts": one });
  const env = { ...ENVIRONMENT, XDG_CACHE_HOME: mkdtempSync(join(tmpdir(), "concave-kept-")) };
  const place = join(env.XDG_CACHE_HOME, "concave/snapshots");
  const passes = () => {
    const { status, stderr } = spawnSync(CONCAVE, ["test", folder], { env, encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const [name, ...others] = readdirSync(place);
    assert.deepEqual(others, []);
    return join(place, name);
  };
  const file = passes();
  const whole = readFileSync(file);
  assert.equal(passes(), file);
  assert.deepEqual(readFileSync(file), whole, "it was there");
  for (const broken of ["", whole.subarray(0, 100_000), Buffer.alloc(whole.length, 1)]) {
    writeFileSync(file, broken);
    assert.equal(passes(), file);
    assert.ok(readFileSync(file).length > whole.length / 2, "it is whole again");
  }
});
