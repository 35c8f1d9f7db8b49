// `concave test`: files that are not as they should be, and what Vite gives a file.
//
// In: the built program, apps with test files. Out: checks of what each file comes to. Invariant: a
// file that tests nothing fails, as with vitest, and says why.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { app } from "./app.mjs";
import { CONCAVE } from "./host.mjs";
import { ENVIRONMENT, report, run } from "./verdicts.mjs";

test("a file or a suite without tests fails, as with vitest", () => {
  const { code, errors } = report(app("empty", {
    "none.test.ts": 'import { test } from "vitest";\n'
      + 'export const never = () => test("x", () => {});',
    "some.test.ts": 'import { test } from "vitest";\ntest("one", () => {});',
  }));
  assert.deepEqual([code, Object.keys(errors)], [1, ["none"]]);
  assert.match(errors.none, /^Error: No test suite found in file .*none\.test\.ts/);
});

test("import.meta.env is that of a Vite test run, and vi.stubEnv changes it", () => {
  const { code, errors, states } = report(app("vite", {
    "env.test.ts": `
import { expect, test, vi } from "vitest";
test("env", () => {
  expect(import.meta.env).toMatchObject(
    { MODE: "test", DEV: true, PROD: false, SSR: true, BASE_URL: "/" });
  expect(Object.keys(import.meta.env)).toContain("NODE_ENV");
  vi.stubEnv("VITE_KEY", "k");
  vi.stubEnv("DEV", false);
  expect([import.meta.env.VITE_KEY, process.env.VITE_KEY]).toEqual(["k", "k"]);
  expect(import.meta.env.DEV).toBe(false);
  vi.unstubAllEnvs();
  expect([import.meta.env.VITE_KEY, import.meta.env.DEV]).toEqual([undefined, true]);
  expect(process.env.DEV).toBe(undefined);
});
`,
  }));
  const passed = { "env > env": "pass" };
  assert.deepEqual({ code, errors, states }, { code: 0, errors: {}, states: passed });
});

test("an action may throw what throws when it is looked at", () => {
  const { states, errors } = report(app("odd", {
    "odd.ts": `
import { actionGeneric as action } from "convex/server";
const no = () => { throw new Error("do not look"); };
const odd = new Proxy({}, { get: no, has: no });
export const proxy = action({ handler: async () => { throw odd; } });
`,
    "odd.test.ts": `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test } from "vitest";
test("proxy", async () => {
  const t = convexTest(undefined, import.meta.glob("./**/*.ts"));
  await t.action(api.odd.proxy, {}).catch(() => {});
});
test("after it", async () => { expect(1).toBe(1); });
`,
  }));
  assert.deepEqual({ errors, states }, {
    errors: {}, states: { "odd > proxy": "pass", "odd > after it": "pass" },
  });
});

test("generated code that is not there is named with what makes it", () => {
  const folder = app("ungenerated", {
    "m.test.ts": 'import { api } from "./_generated/api";\nimport { test } from "vitest";\n'
      + 'test("x", () => { void api; });',
  });
  rmSync(join(folder, "convex/_generated"), { recursive: true, force: true });
  const { code, errors: { m: said } } = report(folder);
  assert.equal(code, 1);
  assert.match(said, /m\.test\.ts:1:21: Could not resolve "\.\/_generated\/api"/);
  assert.match(said, /concave dev --once/);
});

/** Answers what it is sent, in a process of its own: `run` waits for its program. */
const ECHO = `
require("node:http").createServer((request, response) => request.pipe(response))
  .listen(0, "127.0.0.1", function () { console.log(this.address().port); });
`;

test("a fetch that no script answers goes out, with the body of its Request", async () => {
  const echo = spawn(process.execPath, ["-e", ECHO], { stdio: ["ignore", "pipe", "inherit"] });
  process.on("exit", () => echo.kill());
  const port = Number(await once(echo.stdout, "data"));
  const { code, errors, states } = report(app("out", {
    "out.ts": `
import { actionGeneric as action } from "convex/server";
export const post = action({ handler: async (_ctx, { url }) => {
  const asked = new Request(url, { method: "POST", body: "a body" });
  return (await fetch(asked)).text();
} });
`,
    "out.test.ts": `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test } from "vitest";
const modules = import.meta.glob("./**/*.ts");
const url = "http://127.0.0.1:${port}/";
test("out", async () => {
  expect(await convexTest(undefined, modules).action(api.out.post, { url })).toBe("a body");
});
test("scripted", async () => {
  const t = convexTest(undefined, modules);
  t.onFetch(url, async (request) => new Response("script: " + await request.text()));
  expect(await t.action(api.out.post, { url })).toBe("script: a body");
  await expect(t.action(api.out.post, { url: "http://127.0.0.1:1/" })).rejects
    .toThrow("is not scripted in this test");
});
`,
  }));
  echo.kill();
  assert.deepEqual({ code, errors, states }, {
    code: 0, errors: {}, states: { "out > out": "pass", "out > scripted": "pass" },
  });
});

test("a page of no number of documents says how many it must have", () => {
  const { code, errors, states } = report(app("pages", {
    "pages.test.ts": `
import { convexTest } from "convex-test";
import { expect, test } from "vitest";
test("pages", async () => {
  const page = (numItems: number) => convexTest(undefined, import.meta.glob("./**/*.ts"))
    .run((ctx) => ctx.db.query("notes").paginate({ cursor: null, numItems }));
  for (const numItems of [NaN, 0]) {
    await expect(page(numItems)).rejects.toThrow("Must request at least 1 document");
  }
  expect((await page(1)).page).toEqual([]);
});
`,
  }));
  const passed = { "pages > pages": "pass" };
  assert.deepEqual({ code, errors, states }, { code: 0, errors: {}, states: passed });
});

const TASKS = `
import { makeFunctionReference, mutationGeneric as mutation, queryGeneric as query,
} from "convex/server";
export const add = mutation({ handler: async (ctx) => { await ctx.db.insert("tasks", {}); } });
export const list = query({ handler: (ctx) => ctx.db.query("tasks").collect() });
`;

const WORLDS = `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { afterEach, expect, test, vi } from "vitest";
const modules = import.meta.glob("./**/*.ts");
const open = () => convexTest(undefined, modules);
const at = (time) => vi.setSystemTime(new Date(time));
afterEach(() => { vi.useRealTimers(); });
`;

test("each convexTest() begins with nothing, at its own time, with its own modules", () => {
  const { code, states, errors } = report(app("worlds", {
    "tasks.ts": TASKS,
    "worlds.test.ts": `${WORLDS}
test("first", async () => {
  const t = open();
  await t.mutation(api.tasks.add, {});
  expect(await t.query(api.tasks.list, {})).toHaveLength(1);
});
test("earlier", async () => {
  at("2020-02-02T00:00:00Z");
  const t = open();
  expect(await t.query(api.tasks.list, {})).toEqual([]);
  await t.mutation(api.tasks.add, {});
  const [task] = await t.query(api.tasks.list, {});
  expect(new Date(task._creationTime).toISOString()).toMatch(/^2020-02-02T00:00:00/);
});
test("modules", async () => {
  const { "./tasks.ts": tasks } = modules;
  delete modules["./tasks.ts"];
  await expect(open().mutation(api.tasks.add, {})).rejects.toThrow(/Could not find.*tasks:add/);
  modules["./other.ts"] = tasks;
  await open().mutation(api.other.add, {});
  modules["./tasks.ts"] = async () => ({});
  await expect(open().mutation(api.tasks.add, {})).rejects.toThrow(/Could not find.*tasks:add/);
});
`,
  }));
  const passed = Object.fromEntries(["first", "earlier", "modules"].map((name) =>
    [`worlds > ${name}`, "pass"]));
  assert.deepEqual({ code, errors, states }, { code: 0, errors: {}, states: passed });
});

test("the cron jobs of a convexTest() count from its own beginning", () => {
  const { code, states, errors } = report(app("crons", {
    "tasks.ts": TASKS,
    "crons.ts": `
import { cronJobs, makeFunctionReference } from "convex/server";
const crons = cronJobs();
crons.interval("add", { hours: 1 }, makeFunctionReference("tasks:add"), {});
export default crons;
`,
    "crons.test.ts": `${WORLDS}
// The first run is at the beginning.
const after = async (time, minutes) => {
  at(time);
  const t = open();
  await t.advance(minutes * 60_000);
  return (await t.query(api.tasks.list, {})).length;
};
test("at ten", async () => { expect(await after("2030-01-01T10:00:00Z", 61)).toBe(2); });
test("before eleven", async () => { expect(await after("2030-01-01T10:50:00Z", 30)).toBe(1); });
`,
  }));
  const passed = { "crons > at ten": "pass", "crons > before eleven": "pass" };
  assert.deepEqual({ code, errors, states }, { code: 0, errors: {}, states: passed });
});

test("vitest's configuration is followed where it is written as literals", () => {
  const folder = app("config", {
    "setup.ts": 'import { beforeEach } from "vitest";\n'
      + "beforeEach((context) => { context.task.meta.fromSetup = true; });\n"
      + "(globalThis as any).readied = 'yes';",
    "globals.test.ts": `
const stub = vi.fn();
describe("globals", () => {
  it("is set up", ({ task }) => {
    expect((globalThis as any).readied).toBe("yes");
    expect(task.meta.fromSetup).toBe(true);
    expect([process.env.COLOR, process.env.COUNT]).toEqual(["blue", "3"]);
    vi.stubEnv("COLOR", "red");
    stub();
  });
  it("starts afresh", () => {
    expect(process.env.COLOR).toBe("blue");
    expect(stub).not.toHaveBeenCalled();
  });
  it("ends", async () => { await new Promise(() => {}); });
});
`,
    "left/out.test.ts": 'throw new Error("excluded");',
  });
  const write = (text) => writeFileSync(join(folder, "vitest.config.mts"), text);
  write(`
import { defineConfig } from "vitest/config";
export default defineConfig({
  test: {
    environment: "edge-runtime",
    globals: true,
    setupFiles: ["./convex/setup.ts"],
    exclude: ["convex/left/**"],
    env: { COLOR: "blue", COUNT: 3 },
    testTimeout: 2_000,
    unstubEnvs: true,
    clearMocks: true,
    alias: { other: "./other" },
  },
});
`);
  const options = { encoding: "utf8", env: ENVIRONMENT };
  const done = spawnSync(CONCAVE, ["test", folder, "--reporter", "json"], options);
  const { files } = JSON.parse(done.stdout || assert.fail(done.stderr));
  assert.deepEqual(files.map(({ file }) => file), ["convex/globals.test.ts"]);
  assert.deepEqual(files[0].errors, []);
  assert.deepEqual(files[0].tests.map(({ state }) => state), ["pass", "pass", "fail"]);
  assert.match(files[0].tests[2].errors[0], /timed out in 2000ms/);
  assert.match(done.stderr, /vitest\.config\.mts:13:12: concave test does not follow "alias"/);
  write('export default { test: { setupFiles: "./convex/nowhere.ts", globals: true } };');
  assert.match(report(folder, "--filter", "globals").errors.globals, /nowhere\.ts/);
});

test("settings of expect, inject, snapshots and fake timers are followed", () => {
  const folder = app("followed", {
    "f.test.ts": `
import { expect, inject, test, vi } from "vitest";
test("asserts nothing", () => {});
test("asserts", () => {
  expect(inject("port" as never)).toBe(1);
  vi.useFakeTimers();
  expect(Date.now()).toBe(5);
  vi.useRealTimers();
  expect({ a: [] }).toMatchInlineSnapshot(\`
    Object {
      "a": Array [],
    }
  \`);
});
`,
  });
  const config = join(folder, "vitest.config.ts");
  writeFileSync(config, `export default { test: {
  expect: { requireAssertions: true }, provide: { port: 1 }, fakeTimers: { now: 5 },
  snapshotFormat: { printBasicPrototype: true }, environment: "jsdom",
}, define: { A: "1" }, resolve: { alias: { a: "./b" } } };`);
  const { told } = run(folder);
  const { states, errors } = report(folder);
  assert.deepEqual(states, { "f > asserts nothing": "fail", "f > asserts": "pass" },
    JSON.stringify(errors));
  assert.match(errors["f > asserts nothing"], /expected any number of assertion/);
  assert.match(told, /vitest\.config\.ts:3:63: concave test has no "jsdom"/);
  assert.match(told, /vitest\.config\.ts:4:12: concave test does not follow "define"/);
  assert.match(told, /vitest\.config\.ts:4:42: concave test does not follow "resolve\.alias"/);
});

test("of one file a filter chooses tests; other files are not looked at", () => {
  const tests = 'import { test } from "vitest"; test("red", () => {}); test("blue", () => {});';
  const folder = app("one", {
    "a.test.ts": tests, "a.test.tsx": tests, "blue.test.ts": tests,
    "bad.test.ts": 'import "./nowhere";', "shop.ts": "",
  });
  const of = (file, ...args) => {
    const { code, files } = report(join(folder, "convex", file), ...args);
    return [code, files.map((found) => [found.file, found.tests.map(({ state }) => state)])];
  };
  assert.deepEqual(of("a.test.ts"), [0, [["convex/a.test.ts", ["pass", "pass"]]]]);
  const blue = ["--filter", "blue"];
  assert.deepEqual(of("a.test.ts", ...blue), [0, [["convex/a.test.ts", ["skip", "pass"]]]]);
  assert.deepEqual(of("blue.test.ts", ...blue), [0, [["convex/blue.test.ts", ["skip", "pass"]]]]);
  const none = run(join(folder, "convex/shop.ts"));
  assert.deepEqual([none.code, none.out], [1, ""]);
  assert.match(none.told, /There are no test files in .*convex\/shop\.ts\. Test files are called/);
});

test("files that fail outside of tests are counted, and named at the end", () => {
  const folder = app("broken", {
    "bad.test.ts": 'import "./nowhere";',
    "import.test.ts": 'throw new Error("at <import>");',
    "good.test.ts": 'import { test } from "vitest"; test("a", () => {}); test.skip("b", () => {});'
      + 'test("c", () => { throw new Error("c"); });',
  });
  const alone = run(folder, "--filter", "bad").told;
  assert.match(alone, /error: 1 file failed outside of tests: convex\/bad\.test\.ts\. Again/);
  const { code, out, told } = run(folder, "--reporter", "junit");
  assert.equal(code, 1);
  assert.match(told, /1 of 2 tests failed; 2 files failed outside of tests: (.*)\. Again/m);
  assert.match(told, /: convex\/bad\.test\.ts, convex\/import\.test\.ts\. Again with/m);
  const counts = (element) => [...element.matchAll(/(tests|failures|errors|skipped)="(\d+)"/g)]
    .map(([, name, count]) => `${name} ${count}`).join(", ");
  const root = out.match(/<testsuites .*>/)[0];
  assert.equal(counts(root), "tests 5, failures 1, errors 2, skipped 1");
  const suites = out.match(/<testsuite .*>/g).map(counts);
  assert.deepEqual(suites, [
    "tests 1, failures 0, errors 1, skipped 0", "tests 3, failures 1, errors 0, skipped 1",
    "tests 1, failures 0, errors 1, skipped 0",
  ]);
  const cases = out.match(/<testcase [^>]*>/g);
  assert.equal(cases.length, 5);
  for (const found of cases) {
    assert.match(found, /^<testcase classname="convex\/\w+\.test\.ts" name=".+" time="\d\.\d{3}"/);
  }
  assert.match(out, /time="0\.000"><error message="Error: at &lt;import&gt;">/);
});

test("NODE_ENV is test in test files, and production in functions", () => {
  const { code, errors } = report(app("node_env", {
    "f.ts": `import { queryGeneric as query } from "convex/server";
export const where = query({ handler: () => process.env.NODE_ENV });`,
    "e.test.ts": `import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test, vi } from "vitest";
test("where", async () => {
  expect([process.env.NODE_ENV, process.env["NODE_ENV"]]).toEqual(["test", "test"]);
  const t = convexTest(undefined, import.meta.glob("./**/*.ts"));
  expect(await t.query(api.f.where)).toBe("production");
  vi.stubEnv("NODE_ENV", "staging");
  expect(process.env.NODE_ENV).toBe("staging");
  if (process.env.NODE_ENV === "production") throw new Error("folded");
});`,
  }));
  assert.deepEqual({ code, errors }, { code: 0, errors: {} });
});
