// `concave test`: what tests do to the ground they stand on, and files that do not end.
//
// In: the built program, apps with odd tests. Out: checks of what each comes to. Invariant: a test
// that fails is told as failed, whatever it or the one after it has replaced.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { app } from "./app.mjs";
import { CONCAVE } from "./host.mjs";
import { ENVIRONMENT, report, run } from "./verdicts.mjs";

const SCHEMA = `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({ notes: defineTable({ text: v.string() }) });
`;

const NOTES = `
import { actionGeneric as action, makeFunctionReference, mutationGeneric as mutation,
  queryGeneric as query } from "convex/server";
import { v } from "convex/values";
import { shout } from "./lib";
const list = makeFunctionReference<"query">("notes:list");
export const listed = query({ handler: async (ctx) =>
  (await ctx.db.query("notes").collect()).length });
export { listed as list };
export const add = mutation({ handler: async (ctx, { text }) => {
  await ctx.db.insert("notes", { text: typeof text === "string" ? shout(text) : text });
} });
export const wrong = query({ returns: v.string(), handler: async () => 1 as any });
export const typed = query({ handler: async () => (null as any).field });
export class NotFound extends Error {
  constructor(readonly what: string) { super("no " + what); this.name = "NotFound"; }
}
export const missing = action({ handler: async () => {
  throw new NotFound("note");
} });
export const text = action({ handler: async () => { throw "just text"; } });
export const both = action({ handler: async (ctx) => {
  const counts = await Promise.all([ctx.runQuery(list), ctx.runQuery(list)]);
  await Promise.all(["a", "b"].map((text) =>
    ctx.runMutation(makeFunctionReference<"mutation">("notes:add"), { text })));
  return counts;
} });
`;

const HTTP = `
import { httpActionGeneric, httpRouter } from "convex/server";
import { shout } from "./lib";
const http = httpRouter();
http.route({ path: "/hello", method: "GET",
  handler: httpActionGeneric(async () => new Response(shout("hi"))) });
export default http;
`;

const CRONS = `
import { cronJobs, makeFunctionReference } from "convex/server";
import "./lib";
const crons = cronJobs();
crons.interval("add", { hours: 1 }, makeFunctionReference<"mutation">("notes:add"), { text: "c" });
export default crons;
`;

const APP = {
  "schema.ts": SCHEMA, "notes.ts": NOTES, "http.ts": HTTP, "crons.ts": CRONS,
  "lib.ts": "export const shout = (text: string) => `${text}!`;",
};

const HEAD = `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test, vi } from "vitest";
import schema from "./schema";
const modules = import.meta.glob("./**/*.{ts,tsx}");
const open = () => convexTest(schema, modules);
`;

test("a test that replaces JSON or Math.random keeps no other from being told", () => {
  const { code, errors, states } = report(app("natives", {
    ...APP,
    "json.test.ts": `${HEAD}
test("fails", () => { expect(1).toBe(2); });
test("replaces", async () => {
  vi.spyOn(JSON, "stringify").mockReturnValue("pretty");
  JSON.parse = () => ({ tasks: [] });
  expect(JSON.stringify({})).toBe("pretty");
});`,
    "random.test.ts": `${HEAD}
test("side by side", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  const t = open();
  expect(await Promise.all([t.run(async () => 1), t.run(async () => 2)])).toEqual([1, 2]);
});`,
  }));
  assert.deepEqual(states, {
    "json > fails": "fail", "json > replaces": "pass", "random > side by side": "pass",
  });
  assert.deepEqual([code, Object.keys(errors)], [1, ["json > fails"]]);
});

test("http.ts and crons.ts are the engine's, also where modules are mocked or counted", () => {
  const source = {
    ...APP,
    "mocked.test.ts": `${HEAD}
vi.mock("./lib", () => ({ shout: () => "mocked" }));
test("mocked", async () => {
  const t = open();
  expect(await (await t.fetch("/hello")).text()).toBe("mocked");
  await t.mutation(api.notes.add, { text: "a" });
  expect(await t.run(async ({ db }) => (await db.query("notes").first()).text)).toBe("mocked");
});`,
    "real.test.ts": `${HEAD}
test("real", async () => {
  const t = open();
  expect(await (await t.fetch("/hello")).text()).toBe("hi!");
  await t.advance("200 min");
  // At once, and each hour.
  expect(await t.query(api.notes.list)).toBe(4);
});`,
  };
  assert.deepEqual(report(app("engine", source)).errors, {});
  const { code, out } = run(app("engine", source), "--coverage");
  assert.equal(code, 0, out);
});

test("a file that loops or waits outside of its tests fails by itself, and says where", () => {
  const folder = app("loops", {
    "top.test.ts": 'import { test } from "vitest";\ntest("t", () => {});\nfor (;;);',
    "before.test.ts": `import { beforeAll, test } from "vitest";
beforeAll(() => { for (;;); });\ntest("t", () => {});`,
    "after.test.ts": `import { afterAll, test } from "vitest";
afterAll(() => { for (;;); });\ntest("t", () => {});`,
    "good.test.ts": 'import { test } from "vitest";\ntest("t", () => {});',
  });
  const options = { encoding: "utf8", env: ENVIRONMENT };
  const args = ["test", folder, "--timeout", "500", "--reporter", "json"];
  const { stdout, status } = spawnSync(CONCAVE, args, options);
  const files = Object.fromEntries(JSON.parse(stdout).files.map((file) => [file.file, file]));
  const { errors: [top] } = files["convex/top.test.ts"];
  assert.match(top, /never ended: .* at its top level, in describe\(\) or in a module/);
  const { errors: [before] } = files["convex/before.test.ts"];
  assert.match(before, /never ended: .* in beforeAll\(\)\. Look for a loop/);
  const { errors: [after], tests } = files["convex/after.test.ts"];
  assert.match(after, /never ended: .* in afterAll\(\) .*after the test "t"/);
  assert.deepEqual(tests.map(({ name, state }) => [name, state]), [["t", "pass"]]);
  assert.equal(files["convex/good.test.ts"].tests[0].state, "pass");
  assert.equal(status, 1);
});

test("files are told apart by their endings, tests by any of their characters", () => {
  const one = (name, value) => `import { describe, expect, test } from "vitest";
describe("outer (1)", () => {
  test("${name}: is-it", () => { expect(1).toBe(${value}); });
  test("other", () => {});
});`;
  const folder = app("names", {
    "b.test.ts": one("ts", 1), "b.test.js": one("js", 2), "b.test.tsx": one("tsx", 1),
  });
  const { files } = report(folder);
  const told = files.map(({ file, tests }) => `${file} ${tests[0].name} ${tests[0].state}`);
  assert.deepEqual(told, [
    "convex/b.test.js outer (1) > js: is-it fail", "convex/b.test.ts outer (1) > ts: is-it pass",
    "convex/b.test.tsx outer (1) > tsx: is-it pass",
  ]);
  for (const filter of ["ts: is-it", "(1) > ts:", "outer (1) ts:", "ts: is-"]) {
    const { passed, failed } = report(folder, "--filter", filter);
    assert.deepEqual([passed, failed], [1, 0], filter);
  }
});

test("errors keep their class, their words, and what caused them", () => {
  const folder = app("errors", {
    ...APP,
    "e.test.ts": `${HEAD}
import { NotFound } from "./notes";
test("classes and texts", async ({ annotate }) => {
  const t = open();
  await expect(t.query(api.notes.typed)).rejects.toThrow(TypeError);
  await expect(t.action(api.notes.missing)).rejects.toThrow(NotFound);
  await expect(t.action(api.notes.missing)).rejects.toMatchObject({ what: "note" });
  await expect(t.action(api.notes.text)).rejects.toBe("just text");
  await expect(t.query(api.notes.wrong)).rejects.toThrow(/Validator error/);
  await expect(t.mutation(api.notes.add, { text: 1 })).rejects.toThrow(/Validator error/);
  await expect(t.run(({ db }) => db.insert("notes", { text: 1 }))).rejects.toThrow(
    /Validator error/);
  expect([typeof global.process.nextTick, process.cwd().length > 1]).toEqual(["function", true]);
  expect([process.env.VITEST, typeof setImmediate]).toEqual(["true", "function"]);
  await annotate("noted");
});
test("caused", () => { throw new Error("outer", { cause: new RangeError("inner") }); });
test("no error", () => { throw { code: 42 }; });`,
  });
  const { code, out } = run(folder);
  assert.equal(code, 1);
  assert.match(out, /Error: outer[^]*Caused by: RangeError: inner\n {2}at .*e\.test\.ts:/);
  assert.match(out, /> no error\n\{ code: 42 \}/);
  assert.match(out, /2 failed, 1 passed/);
});

test("an error at the end of a file is shown where the file ends", () => {
  const { errors } = report(app("ends", {
    "e.test.ts": 'import { test } from "vitest";\ntest("x", () => {',
  }));
  assert.match(errors.e, /e\.test\.ts:2:1\d: /);
  assert.doesNotMatch(errors.e, /concave\.evaluated/);
});

test("explore: one function's transactions side by side, expectations, what is no function", () => {
  const { errors, states } = report(app("explored", {
    ...APP,
    "x.test.ts": `${HEAD}
test("all", async () => {
  const t = open();
  const total = async () => expect(await t.query(api.notes.list)).toBe(4);
  const { orders } = await t.explore([() => t.action(api.notes.both), () =>
    Promise.all(["c", "d"].map((text) => t.mutation(api.notes.add, { text })))],
  { invariant: total });
  expect(orders).toBeGreaterThan(1);
});
test("expects", async () => {
  const t = open();
  const none = async () => { expect(await t.query(api.notes.list)).toBe(0); };
  await t.explore([none, () => t.mutation(api.notes.add, { text: "a" })]);
});
test("promise", async () => { const t = open(); await t.explore([t.query(api.notes.list)]); });
test("replay", async () => { await open().explore([() => {}], { replay: "garbage" }); });
test("time", async () => { await open().advance(-1); });
test("scripts", async () => {
  const t = open();
  t.onFetch(/a\\.b/g, () => new Response("ok"));
  const ask = async () => (await fetch("https://a.b/")).text();
  expect([await t.action(ask), await t.action(ask)]).toEqual(["ok", "ok"]);
});`,
  }));
  const passed = Object.keys(states).filter((name) => states[name] === "pass");
  assert.deepEqual(passed, ["x > all", "x > scripts"], JSON.stringify(errors));
  assert.match(errors["x > expects"], /AssertionError|expected 1 to be \+?0/);
  assert.match(errors["x > promise"], /takes an array of functions/);
  assert.match(errors["x > replay"], /the line that a failure has told/);
  assert.match(errors["x > time"], /time does not go back/);
});

test("in CI snapshots that are missing fail, and nothing is written", () => {
  const folder = app("ci", {
    "s.test.ts": 'import { expect, test } from "vitest";\n'
      + 'test("s", () => { expect(1).toMatchSnapshot(); });',
  });
  const options = { encoding: "utf8", env: { ...ENVIRONMENT, CI: "true" } };
  assert.equal(spawnSync(CONCAVE, ["test", folder], options).status, 1);
  const kept = join(folder, "convex/__snapshots__/s.test.ts.snap");
  assert.equal(existsSync(kept), false);
  const elsewhere = { ...options, env: { ...options.env, CI: "" } };
  assert.equal(spawnSync(CONCAVE, ["test", folder], elsewhere).status, 0);
  assert.match(readFileSync(kept, "utf8"), /^\/\/ Vitest Snapshot v1,/);
});

test("half a character in a name or a message is told as U+FFFD, and the report stays", () => {
  const folder = app("halves", {
    "h.test.ts": `
import { expect, test } from "vitest";
test("truncate", () => expect("hi \\u{1f600}".slice(0, 4)).toBe("hi"));
test("name \\ud83d of \\\\ud83d", () => {});
test("diff", () => expect({ a: "\\ude00" }).toEqual({ a: 1 }));
test("thrown", () => { throw new Error("\\ud83d"); });
`,
  });
  const { states, errors } = report(folder);
  assert.deepEqual(states, {
    "h > truncate": "fail", "h > name \ufffd of \\ud83d": "pass", "h > diff": "fail",
    "h > thrown": "fail",
  });
  assert.match(errors["h > truncate"], /expected 'hi \ufffd' to be 'hi'/);
  assert.equal(errors["h > thrown"], "Error: \ufffd");
});

test("a file in which .only was left fails in CI, unless that is asked for", () => {
  const folder = app("ci_only", {
    "o.test.ts": 'import { test } from "vitest";\ntest.only("one", () => {});\n'
      + 'test("two", () => {});',
  });
  const code = (CI, ...args) => {
    const options = { encoding: "utf8", env: { ...ENVIRONMENT, CI } };
    const { status, stdout } = spawnSync(CONCAVE, ["test", folder, ...args], options);
    assert.equal(stdout.includes("Unexpected .only modifier"), status === 1, stdout);
    return status;
  };
  const config = join(folder, "vitest.config.ts");
  rmSync(config, { force: true });
  assert.deepEqual([code("true"), code(""), code("true", "--allow-only")], [1, 0, 0]);
  writeFileSync(config, "export default { test: { allowOnly: true } };");
  assert.equal(code("true"), 0);
  writeFileSync(config, "export default { test: { allowOnly: false } };");
  assert.deepEqual([code(""), code("", "--allow-only")], [1, 0]);
});
