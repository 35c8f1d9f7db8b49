// `concave test`: modules that tests replace, and modules that are for Node.
//
// In: the built program, an app with test files. Out: checks of what each test comes to.
// Invariant: a mock is seen by the file that asks for it, and by the functions it tests; by no
// other file.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { app } from "./app.mjs";
import { CONCAVE } from "./host.mjs";

/** States of all tests by name, and errors. */
function report(sources) {
  const args = ["test", app("mocks", sources), "--reporter", "json", "--timeout", "60000"];
  const { stdout, stderr } = spawnSync(CONCAVE, args, { encoding: "utf8" });
  const { files } = JSON.parse(stdout || assert.fail(stderr));
  const errors = {};
  for (const { file, tests, errors: outside } of files) {
    if (outside.length > 0) errors[file] = outside.join("\n");
    for (const one of tests) if (one.errors.length > 0) errors[one.name] = one.errors.join("\n");
  }
  const states = files.flatMap(({ tests }) => tests.map(({ state }) => state));
  return { errors, passed: states.filter((state) => state === "pass").length };
}

const SCHEMA = `
import { defineSchema } from "convex/server";
export default defineSchema({});
`;

const EMAIL = `
export const host = "real";
export async function send(to: string) { return \`really to \${to}\`; }
export default class Mailer { greet() { return "real"; } }
export const nested = { deep: { go: () => 1 }, list: [1, 2], n: 3 };
`;

const WORDS = `
import { host } from "./email";
export const where = () => host;
`;

const MAIL = `
import { actionGeneric as action, queryGeneric as query } from "convex/server";
import { send } from "./email";
import { where } from "./words";
export const notify = action({ handler: async (_ctx, { to }) => await send(to) });
export const host = query({ handler: async () => where() });
`;

const MOCKED = `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test, vi } from "vitest";
import schema from "./schema";
import Mailer, { send, host } from "./email";
import * as email from "./email";
import { where } from "./words";
const modules = import.meta.glob("./**/*.ts");
const { sent } = vi.hoisted(() => ({ sent: [] as string[] }));
vi.mock(import("./email"), async (importOriginal) => {
  const actual = await importOriginal();
  const send = vi.fn(async (to: string) => { sent.push(to); return "faked"; });
  return { ...actual, host: "fake", send };
});
test("mocked", async () => {
  expect(host).toBe("fake");
  expect(email.host).toBe("fake");
  expect(where()).toBe("fake");
  expect(new Mailer().greet()).toBe("real");
  const t = convexTest(schema, modules);
  expect(await t.action(api.mail.notify, { to: "ann" })).toBe("faked");
  expect(await t.query(api.mail.host)).toBe("fake");
  expect(send).toHaveBeenCalledWith("ann");
  expect(sent).toEqual(["ann"]);
  const actual = await vi.importActual<typeof email>("./email");
  expect(await actual.send("x")).toBe("really to x");
  expect(() => vi.doMock("./email", () => ({}))).toThrow("not supported");
});
`;

const AUTOMATIC = `
import { expect, test, vi } from "vitest";
import Mailer, { send, host, nested } from "./email";
vi.mock("./email");
test("auto", async () => {
  expect(host).toBe("real");
  expect(send("x")).toBe(undefined);
  vi.mocked(send).mockResolvedValue("mine");
  expect(await send("x")).toBe("mine");
  expect(new Mailer().greet()).toBe(undefined);
  expect(nested.deep.go()).toBe(undefined);
  expect(nested.list).toEqual([]);
});
`;

const REAL = `
import { expect, test } from "vitest";
import { host } from "./email";
test("other files have the real one", () => { expect(host).toBe("real"); });
`;

const LATE = `
import { expect, test, vi } from "vitest";
vi.mock("./email", () => ({ send: late }));
const late = vi.fn(() => "late");
test("a factory that uses a variable of the file", async () => {
  const { send } = await import("./email");
  expect(send("a")).toBe("late");
});
`;

const WRONG = `
import { test, vi } from "vitest";
import { send } from "./email";
vi.mock("./nowhere", () => ({}));
test("never", () => send("x"));
`;

const NODE = `
"use node";
import { actionGeneric as action } from "convex/server";
export const hi = action({ handler: async () => "hi" });
`;

const FILES = `
"use node";
import { readFileSync } from "node:fs";
import { actionGeneric as action } from "convex/server";
export const hi = action({ handler: async () => readFileSync("/etc/hostname", "utf8") });
`;

const NODE_TEST = `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test, vi } from "vitest";
import schema from "./schema";
const modules = import.meta.glob("./**/*.ts");
test("use node", async () => {
  expect(await convexTest(schema, modules).action(api.nodey.hi)).toBe("hi");
});
test("use node fs", async () => {
  expect(await convexTest(schema, modules).action(api.nodefs.hi)).toBe("hi");
});
`;

test("vi.mock replaces a module for one file, and for the functions that it tests", () => {
  const { errors, passed } = report({
    "schema.ts": SCHEMA, "email.ts": EMAIL, "words.ts": WORDS, "mail.ts": MAIL,
    "mocked.test.ts": MOCKED, "automatic.test.ts": AUTOMATIC, "real.test.ts": REAL,
    "late.test.ts": LATE, "wrong.test.ts": WRONG,
  });
  const { "convex/wrong.test.ts": wrong, ...others } = errors;
  assert.deepEqual(others, {});
  assert.equal(passed, 4);
  assert.match(wrong, /wrong\.test\.ts:4:9: Could not resolve "\.\/nowhere"/);
});

test("a \"use node\" action runs in V8 as well, or says what it needs", () => {
  const { errors, passed } = report({
    "schema.ts": SCHEMA, "nodey.ts": NODE, "nodefs.ts": FILES, "n.test.ts": NODE_TEST,
  });
  assert.equal(passed, 1);
  assert.deepEqual(Object.keys(errors), ["use node fs"]);
  assert.match(errors["use node fs"], /nodefs \("use node"\) .*nodefs\.ts:3:\d+: .*"node:fs"/s);
});
