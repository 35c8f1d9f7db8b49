// `concave test`: modules that tests replace, and modules that are for Node.
//
// In: the built program, an app with test files. Out: checks of what each test comes to.
// Invariant: a mock is seen by the file that asks for it, and by the functions it tests; by no
// other file.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { app } from "./app.mjs";
import { report as verdict, run } from "./verdicts.mjs";

/** What comes of the tests of an app: errors, and how many pass. */
function report(sources) {
  const folder = app("mocks", sources);
  const { errors, states } = verdict(folder);
  return { errors, passed: Object.values(states).filter((one) => one === "pass").length, folder };
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
});
`;

const COUNTER = `
export class Thing {}
let count = 0;
export const next = () => { count += 1; return count; };
`;

const LATER = `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { beforeEach, expect, test, vi } from "vitest";
import schema from "./schema";
import { next } from "./counter";
const modules = import.meta.glob("./**/*.ts");
beforeEach(() => { vi.resetModules(); vi.doUnmock("./email"); });
test("resetModules makes modules of the app anew, of packages not", async () => {
  const first = await import("./counter");
  expect([first.next(), first.next(), (await import("./counter")).next()]).toEqual([1, 2, 3]);
  vi.resetModules();
  const second = await import("./counter");
  expect(second.next()).toBe(1);
  expect(second.Thing).not.toBe(first.Thing);
  expect(next()).toBe(1);
  expect((await import("convex/values")).ConvexError).toBe(ConvexError);
});
test("doMock is for what is imported later, until doUnmock", async () => {
  expect((await import("./words")).where()).toBe("real");
  expect(vi.doMock("./email", () => ({ host: "first" }))).toBe(vi);
  expect((await import("./email")).host).toBe("first");
  expect((await import("./words")).where()).toBe("first");
  vi.doMock("./email", async (original) => ({ ...await original(), host: "second" }));
  expect((await import("./words")).where()).toBe("second");
  const t = convexTest(schema, modules);
  expect(await t.query(api.mail.host)).toBe("second");
  vi.doUnmock("./email");
  expect((await import("./words")).where()).toBe("real");
  expect(await convexTest(schema, modules).query(api.mail.host)).toBe("real");
});
test("importMock", async () => {
  const { send, host } = await vi.importMock("./email");
  expect([send("x"), host]).toEqual([undefined, "real"]);
  vi.doMock("./email", () => ({ host: "mine" }));
  expect((await vi.importMock("./email")).host).toBe("mine");
});
test("an error of a module that was made anew has its place", async () => {
  vi.resetModules();
  (await import("./breaks")).fails();
});
`;

const BREAKS = `
export const fails = () => {
  throw new Error("broken");
};
`;

const TAKEN_BACK = `
import { expect, test, vi } from "vitest";
import { host } from "./email";
vi.mock("./email", () => ({ host: "fake" }));
vi.unmock("./email");
test("unmock comes before the imports", () => { expect(host).toBe("real"); });
`;

const NOT_LITERAL = `
import { expect, test, vi } from "vitest";
const name = "./email";
test("a name that is no literal", () => {
  expect(() => vi.doMock(name, () => ({}))).toThrow(/named by a literal/);
  vi.resetModules();
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
    "late.test.ts": LATE, "wrong.test.ts": WRONG, "back.test.ts": TAKEN_BACK,
  });
  const { wrong, ...others } = errors;
  assert.deepEqual(others, {});
  assert.equal(passed, 5);
  assert.match(wrong, /wrong\.test\.ts:4:9: Could not resolve "\.\/nowhere"/);
});

test("a \"use node\" action runs in V8 as well, or says what it needs", () => {
  const { errors, passed } = report({
    "schema.ts": SCHEMA, "nodey.ts": NODE, "nodefs.ts": FILES, "n.test.ts": NODE_TEST,
  });
  assert.equal(passed, 1);
  assert.deepEqual(Object.keys(errors), ["n > use node fs"]);
  assert.match(errors["n > use node fs"], /nodefs \("use node"\) .*nodefs\.ts:3:\d+: .*"node:fs"/s);
});

test("doMock, doUnmock, importMock and resetModules are for what is imported later", () => {
  const sources = {
    "schema.ts": SCHEMA, "email.ts": EMAIL, "words.ts": WORDS, "mail.ts": MAIL,
    "counter.ts": COUNTER, "breaks.ts": BREAKS,
    "later.test.ts": LATER, "literal.test.ts": NOT_LITERAL,
  };
  const { errors, passed, folder } = report(sources);
  const anew = "later > an error of a module that was made anew has its place";
  const { [anew]: broken, ...others } = errors;
  assert.deepEqual(others, {});
  assert.equal(passed, 4);
  assert.match(broken, /broken/);
  const { out } = run(folder, "--filter", "made anew");
  assert.match(out, /at (Module\.)?fails \(convex\/breaks\.ts:3:9\)/);
});

const SETUP = `
import { beforeEach, vi } from "vitest";
import { calls } from "./lib/calls";
vi.mock("../convex/email", async (importOriginal) => ({
  ...(await importOriginal<object>()), send: async (to: string) => "set up for " + to,
}));
// Elsewhere the same specifier is another file.
vi.mock("./words", () => ({ where: () => "nowhere" }));
calls.push("setup");
beforeEach(() => { calls.push("before"); });
`;

const SET_UP = `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test } from "vitest";
import schema from "./schema";
import { host } from "./email";
import { where } from "./words";
import { where as mocked } from "../setup/words";
import { calls } from "../setup/lib/calls";
const modules = import.meta.glob("./**/*.ts");
test("set up", async () => {
  expect([host, where(), mocked()]).toEqual(["real", "real", "nowhere"]);
  const t = convexTest(schema, modules);
  expect(await t.action(api.mail.notify, { to: "a" })).toBe("set up for a");
  // The setup file's modules are those of the tests.
  expect(calls).toEqual(["setup", "before"]);
});
`;

const SET_UP_AND_MOCKED = `
import { expect, test, vi } from "vitest";
import { host, send } from "./email";
import { where } from "../setup/words";
import { calls } from "../setup/lib/calls";
vi.mock("./email", () => ({ host: "its own", send: async () => "its own" }));
vi.unmock("../setup/words");
test("the file's own counts", async () => {
  expect([host, await send(), where()]).toEqual(["its own", "its own", "real words"]);
  expect(calls).toEqual(["setup", "before"]);
});
`;

test("what a setup file mocks is mocked in every test file, unless that says otherwise", () => {
  const { errors, passed } = report({
    "schema.ts": SCHEMA, "email.ts": EMAIL, "words.ts": WORDS, "mail.ts": MAIL,
    "../vitest.config.ts": 'export default { test: { setupFiles: "./setup/mocks.ts" } };',
    "../setup/mocks.ts": SETUP,
    "../setup/words.ts": 'export const where = () => "real words";',
    "../setup/lib/calls.ts": "export const calls: string[] = [];",
    "up.test.ts": SET_UP, "own.test.ts": SET_UP_AND_MOCKED,
  });
  assert.deepEqual(errors, {});
  assert.equal(passed, 2);
});

test("a factory stands for a module that is not installed, or not there at all", () => {
  const { errors, passed } = report({
    "uses.ts": 'import { actionGeneric as action } from "convex/server";\n'
      + 'import peer from "optional-peer/sub";\nimport { readFileSync } from "node:fs";\n'
      + 'import { flag } from "virtual:env";\nimport { near } from "./lib/nowhere";\n'
      + "export const all = action({ handler: async () => "
      + '[peer, readFileSync("x"), flag, near] });',
    "absent.test.ts": `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test, vi } from "vitest";
import peer from "optional-peer/sub";
vi.mock("optional-peer/sub", () => ({ default: "peer" }));
vi.mock("fs", () => ({ readFileSync: () => "read" }));
vi.mock("virtual:env", () => ({ flag: "on" }));
vi.mock("./lib/nowhere", () => ({ near: "here" }));
test("all", async () => {
  expect(peer).toBe("peer");
  expect((await import("virtual:env")).flag).toBe("on");
  const t = convexTest(undefined, import.meta.glob("./*.ts"));
  expect(await t.action(api.uses.all, {})).toEqual(["peer", "read", "on", "here"]);
});
`,
    "none.test.ts": 'import { test, vi } from "vitest";\nvi.mock("optional-peer");\n'
      + 'test("x", () => {});',
    "original.test.ts": 'import { test, vi } from "vitest";\nimport "@a/peer";\n'
      + 'vi.mock("@a/peer", async (original) => ({ ...await original() }));\ntest("x", () => {});',
  });
  assert.equal(passed, 1, JSON.stringify(errors));
  assert.match(errors.none, /Could not resolve "optional-peer": it is there only as vi\.mock/);
  assert.match(errors.original, /Could not resolve "@a\/peer": it is there only as vi\.mock/);
});

test("an export that a factory forgets throws as soon as it is used, and not before", () => {
  const { errors, passed } = report({
    "lib/x.ts": "export const y = () => 1;\nexport const z = 2;\nexport default 3;",
    "lib/uses.ts": 'import { y, z } from "./x";\nexport const calls = () => y();\n'
      + "export const reads = () => z;",
    "forgets.test.ts": `
import { expect, test, vi } from "vitest";
import three, { y } from "./lib/x";
import * as x from "./lib/x";
import { calls, reads } from "./lib/uses";
vi.mock("./lib/x", () => ({ z: 5 }));
test("has", async () => {
  expect([reads(), x.z, (await import("./lib/x")).z, Object.keys(x)]).toEqual([5, 5, 5, ["z"]]);
  expect(String(Object.prototype.toString.call(x))).toMatch("object");
});
test("calls", () => { calls(); });
test("own", () => { y(); });
test("compares", () => { expect(y).toBeUndefined(); });
test("default", () => { expect(three).toEqual({}); });
test("of all", () => { x.y(); });
`,
  });
  assert.equal(passed, 1, JSON.stringify(errors));
  const names = ["calls", "own", "compares", "of all"];
  for (const name of names) {
    assert.match(errors[`forgets > ${name}`],
      /^Error: \[vitest\] No "y" export is defined on the "\.\/lib\/x" mock\. Did you forget/);
  }
  assert.match(errors["forgets > default"], /No "default" export is defined/);
});

test("what is written in __mocks__ stands for a module without a factory", () => {
  const folder = app("manual", { "q.ts": "export {};" });
  const write = (path, text) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  write("__mocks__/nanoid.ts", 'export const nanoid = () => "root";');
  write("__mocks__/@a/b.js", 'export const b = "scoped";');
  write("lib/__mocks__/x.ts", 'export const x = () => "written";\nexport default "default";');
  write("lib/x.ts", 'export const x = () => "real";\nexport default 1;');
  write("lib/uses.ts", 'import { x } from "./x";\nexport const uses = () => x();');
  write("m.test.ts", `
import { expect, test, vi } from "vitest";
import { nanoid } from "nanoid";
import { b } from "@a/b";
import other, { x } from "./lib/x";
import { uses } from "./lib/uses";
vi.mock("nanoid");
vi.mock("@a/b");
vi.mock("./lib/x");
test("written", async () => {
  expect([nanoid(), b, x(), other, uses()]).toEqual(
    ["root", "scoped", "written", "default", "written"]);
  expect((await vi.importMock<any>("./lib/x")).x()).toBe("written");
  expect((await vi.importActual<any>("./lib/x")).x()).toBe("real");
});
`);
  write("n.test.ts", `
import { expect, test, vi } from "vitest";
import { x } from "./lib/x";
vi.mock("./lib/x", { spy: true });
test("spied", () => { expect(x()).toBe("real"); expect(x).toHaveBeenCalledOnce(); });
test("mockObject", () => {
  const mocked = vi.mockObject({ a: () => 1, b: 2 });
  expect([mocked.a(), mocked.b]).toEqual([undefined, 2]);
  expect(mocked.a).toHaveBeenCalledOnce();
  const spied = vi.mockObject({ a: () => 1 }, { spy: true });
  expect(spied.a()).toBe(1);
  expect(spied.a).toHaveBeenCalledOnce();
});
`);
  const { states, errors } = verdict(folder);
  assert.deepEqual(states,
    { "m > written": "pass", "n > spied": "pass", "n > mockObject": "pass" },
    JSON.stringify(errors));
});

test("an export that a mock has forgotten harms nobody who does not use it", () => {
  const { errors, passed } = report({
    "schema.ts": SCHEMA,
    "email.ts": EMAIL,
    "mail.ts": MAIL.replace("export const host = query", "export { host } from \"./email\";\n"
      + "export const at = query").replace("import { where } from \"./words\";", "")
      .replace("where()", "1"),
    "x.test.ts": `
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test, vi } from "vitest";
import schema from "./schema";
vi.mock("./email", () => ({ send: async () => "faked" }));
test("used", async () => {
  const t = convexTest(schema, import.meta.glob("./**/*.ts"));
  expect(await t.action(api.mail.notify, { to: "ann" })).toBe("faked");
});`,
  });
  assert.equal(passed, 1, JSON.stringify(errors));
});
