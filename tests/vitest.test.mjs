// vitest itself on the engine: the npm package in js/test, in the place of convex-test.
//
// In: the built program, vitest and the packages of tests/suites. Out: checks of what vitest
// reports. Invariant: test files are unchanged; only vitest's configuration names the package.
import assert from "node:assert/strict";
import {
  cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "./host.mjs";
import { install, unpacked, vitest } from "./suites.mjs";

const MODULES = join(ROOT, "tests/suites/node_modules");

/** An app with the package among its own. */
function app(sources) {
  const folder = mkdtempSync(join(tmpdir(), "concave-vitest-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, "node_modules"));
  for (const name of readdirSync(MODULES)) {
    symlinkSync(join(MODULES, name), join(folder, "node_modules", name));
  }
  install(join(folder, "node_modules/concave-test"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "v", type: "module" }));
  for (const [path, source] of Object.entries(sources)) {
    mkdirSync(join(folder, "convex"), { recursive: true });
    writeFileSync(join(folder, "convex", path), source);
  }
  return folder;
}

const SOURCES = {
  "schema.ts": `import { defineSchema } from "convex/server";
export default defineSchema({});
`,
  "email.ts": `export const host = "real";
`,
  "words.ts": `import { host } from "./email";
export const where = () => host;
`,
  "mail.ts": `import { queryGeneric as query } from "convex/server";
import { where } from "./words";
export const host = query({ handler: async () => where() });
export const timer = query({ handler: async () => { setTimeout(() => {}, 0); } });
`,
  "disk.ts": `"use node";
import { readFileSync } from "node:fs";
import { actionGeneric as action } from "convex/server";
export const read = action({ args: {}, handler: async () => readFileSync("package.json", "utf8") });
`,
  "engine.test.ts": `import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test } from "vitest";
import schema from "./schema";
const modules = import.meta.glob("./**/*.ts");
test("engine", async () => {
  const t = convexTest(schema, modules);
  expect(await t.query(api.mail.host)).toBe("real");
  await expect(t.query(api.mail.timer)).rejects.toThrow("setTimeout");
  expect(await convexTest(schema).query(api.mail.host)).toBe("real");
  expect(await t.action(api.disk.read)).toContain('"name":"v"');
  const text = await t.run(async (ctx) => {
    const id = await ctx.storage.store(new Blob(["hello"]));
    return (await ctx.storage.get(id)).text();
  });
  expect(text).toBe("hello");
});
`,
  "naps.ts": `import { actionGeneric as action, anyApi as api } from "convex/server";
export const nap = action({ handler: async (ctx) => {
  const before = Date.now();
  await ctx.runQuery(api.mail.host);
  await new Promise((resolve) => setTimeout(resolve, 5000));
  await ctx.runQuery(api.mail.host);
  return Date.now() - before;
} });
`,
  "time.test.ts": `import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { afterEach, expect, test, vi } from "vitest";
import schema from "./schema";
const modules = import.meta.glob("./**/*.ts");
afterEach(() => { vi.useRealTimers(); });
test("fake timers wait for the engine", async () => {
  vi.useFakeTimers();
  const t = convexTest(schema, modules);
  const slept = t.action(api.naps.nap);
  await vi.advanceTimersByTimeAsync(5000);
  expect(await slept).toBe(5000);
});
test("t.advance", async () => {
  const t: any = convexTest(schema, modules);
  const state = async () => await t.run(async (ctx) =>
    (await ctx.db.system.query("_scheduled_functions").first()).state.kind);
  await t.run((ctx) => ctx.scheduler.runAfter(1000, api.naps.nap, {}));
  await t.advance("5 s");
  expect(await state()).toBe("inProgress");
  await t.advance("1 s");
  expect(await state()).toBe("success");
});
`,
  "mocks.test.ts": `import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test, vi } from "vitest";
import schema from "./schema";
vi.mock("./email", () => ({ host: "fake" }));
test("mocks", async () => {
  const t = convexTest(schema, import.meta.glob("./**/*.ts"));
  expect(await t.query(api.mail.host)).toBe("fake");
});
`,
};

test("an app's tests run in vitest on the engine, with Node and mocks where they are", () => {
  const folder = app(SOURCES);
  const { code, passed, failures } = vitest(folder, "concave-test");
  assert.deepEqual(failures, []);
  assert.deepEqual([code, passed], [0, 4]);
  const without = vitest(folder, "concave-test", { program: join(folder, "nothing") });
  assert.equal(without.code, 1);
  assert.match(without.failures.join("\n"), /test-server could not be started .*CONCAVE_BINARY/);
});

test("an example's own tests run in vitest, explore included", () => {
  const folder = app({});
  cpSync(join(ROOT, "examples/transfer/convex"), join(folder, "convex"), { recursive: true });
  const { code, passed, failures } = vitest(folder, "concave-test");
  assert.deepEqual(failures, []);
  assert.deepEqual([code, passed], [0, 8]);
});

test("the suite of @convex-dev/workflow runs in vitest on the engine", () => {
  const folder = unpacked("workflow");
  install(join(folder, "../../concave-test"));
  const alias = join(folder, "../../concave-test/convex_test_vitest.js");
  const { code, passed, failures } = vitest(folder, alias);
  assert.deepEqual(failures, []);
  assert.deepEqual([code, passed], [0, 97]);
});
