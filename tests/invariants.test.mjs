// Invariants: declared with `concave/server`, checked after every commit in `dev` and in `test`.
//
// In: the built program and an app written here. Out: checks of what is told of a commit that
// breaks one, of the test that fails, and that editors and Convex's own bundler know the import.
// Invariant: what holds is never told to be broken: every commit here is told or not for a reason.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { app } from "./app.mjs";
import { ROOT, concave, copy, save, start } from "./host.mjs";

const SCHEMA = `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({
  accounts: defineTable({ owner: v.string(), balance: v.number() }).index("by_owner", ["owner"]),
  notes: defineTable({ text: v.string() }),
});
`;

const BANK = `
import { mutationGeneric as mutation } from "convex/server";
import { v } from "convex/values";
export const open = mutation({ args: { owner: v.string(), balance: v.number() },
  handler: (ctx, account) => ctx.db.insert("accounts", account) });
export const set = mutation({ args: { owner: v.string(), balance: v.number() },
  handler: async (ctx, { owner, balance }) => {
    const found = ctx.db.query("accounts").withIndex("by_owner", (q) => q.eq("owner", owner));
    await ctx.db.patch((await found.unique())._id, { balance });
  } });
export const note = mutation({ args: {}, handler: (ctx) => ctx.db.insert("notes", { text: "x" }) });
`;

const INVARIANTS = `
import { invariant } from "concave/server";
import { internalQueryGeneric as internalQuery } from "convex/server";
export const solvent = invariant("nobody is overdrawn", internalQuery({
  args: {},
  handler: async (ctx) => {
    const accounts = await ctx.db.query("accounts").collect();
    if (accounts.length > 2) throw new Error("Too many accounts for this bank");
    const poor = accounts.find(({ balance }) => balance < 0);
    return poor === undefined || \`\${poor.owner} owes \${-poor.balance}\`;
  },
}));
export const small = invariant("a bank is small", internalQuery({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).length < 2,
}));
export const plain = internalQuery({ args: {}, handler: async () => false });
`;

const TESTS = `
import { convexTest } from "convex-test";
import { anyApi } from "convex/server";
import { expect, test } from "vitest";
import schema from "./schema";
const modules = import.meta.glob("./**/*.*s");
const { bank } = anyApi;

test("fine", async () => {
  const t = convexTest(schema, modules);
  await t.mutation(bank.open, { owner: "ada", balance: 1 });
  await t.mutation(bank.set, { owner: "ada", balance: 0 });
});

test("breaks it and hides it", async () => {
  const t = convexTest(schema, modules);
  await t.mutation(bank.open, { owner: "ada", balance: 1 });
  await t.mutation(bank.set, { owner: "ada", balance: -3 }).catch(() => {});
  await t.mutation(bank.set, { owner: "ada", balance: 3 });
});

test("breaks it with its own hands", async () => {
  const t = convexTest(schema, modules);
  await t.run(async (ctx) => {
    await ctx.db.insert("notes", { text: "a" });
    await ctx.db.insert("notes", { text: "b" });
  });
});

test("takes back what would break it", async () => {
  const t = convexTest(schema, modules);
  await expect(t.run(async (ctx) => {
    await ctx.db.insert("accounts", { owner: "ada", balance: -1 });
    throw new Error("no");
  })).rejects.toThrow("no");
});
`;

const SOURCES = { "schema.ts": SCHEMA, "bank.ts": BANK, "invariants.ts": INVARIANTS };

test("dev tells the commit that breaks one, its keys, and the replay that finds it", async () => {
  const folder = app("invariants", SOURCES);
  const host = await start(["dev", folder, "--in-memory", "--port", "0", "--site-port", "0"]);
  await host.says(/push +pushed/);
  const call = (name, args) => concave(["run", `bank:${name}`, JSON.stringify(args)], {
    cwd: folder,
  });
  call("open", { owner: "ada", balance: 1 });
  call("note", {});
  assert.equal(call("set", { owner: "ada", balance: -3 }).status, 0);
  const told = await host.says(/violated the invariant "nobody is overdrawn" does not hold (.*)\n/);
  const [, args] = told[1].match(/^since bank:set\((.*)\) committed at \d+$/);
  assert.deepEqual(JSON.parse(args), { owner: "ada", balance: -3 });
  await host.says(/\n +ada owes 3\n +it wrote accounts\[_id="\w+"\]\n/);
  const [, id] = await host.says(/again: concave replay (\d+)/);
  const replay = concave(["replay", id], { cwd: folder });
  assert.equal(replay.status, 0, replay.stderr);
  assert.match(replay.stdout, /^mutation bank:set\(\{"balance":-3,"owner":"ada"\}\)/);

  // It stays broken, which is no news; then it holds again.
  call("set", { owner: "ada", balance: -4 });
  call("set", { owner: "ada", balance: 4 });
  await host.says(/holds +the invariant "nobody is overdrawn" holds again/);
  assert.equal(host.output.match(/does not hold/g).length, 1, host.output);

  // What its query throws is a violation too; the other one is another one's.
  call("note", {});
  await host.says(/the invariant "a bank is small" does not hold since bank:note\(\{\}\)/);
  await host.says(/its query gave false/);
  ["bea", "cem"].forEach((owner) => call("open", { owner, balance: 1 }));
  await host.says(/since bank:open\(\{"balance":1,"owner":"cem"\}\)/);
  await host.says(/Error: Too many accounts for this bank\n +at handler \(.*invariants\.ts:8:/);

  // A new one that does not hold is told with the push that brought it.
  const more = INVARIANTS.replace("export const plain =", `export const plain = invariant("never",`)
    .replace("async () => false })", "async () => false }))");
  save(join(folder, "convex/invariants.ts"), more);
  await host.says(/violated the invariant "never" does not hold since push\(\) committed/);
  await host.stop();
});

test("one that gives no verdict, or cannot be asked, is told to be unknown", async () => {
  const invariants = `
    import { invariant } from "concave/server";
    import { internalQueryGeneric as internalQuery } from "convex/server";
    import { v } from "convex/values";
    export const counts = invariant("counts", internalQuery({ args: {}, handler: async () => 5 }));
    export const asks = invariant("asks", internalQuery({
      args: { what: v.string() }, handler: async () => true }));
    export const loops = invariant("loops", internalQuery({
      args: {}, handler: async () => { for (;;); } }));
  `;
  const folder = app("unknown", { ...SOURCES, "invariants.ts": invariants });
  writeFileSync(join(folder, "convex/bank.ts"), BANK + `
    import { invariant } from "concave/server";
    import { internalQueryGeneric as internalQuery } from "convex/server";
    export const lost = invariant("lost", internalQuery({ args: {}, handler: async () => true }));
  `);
  const host = await start(["dev", folder, "--in-memory", "--port", "0", "--site-port", "0"]);
  await host.says(/unknown +the invariant "counts" was not checked: its query gave 5\. /);
  await host.says(/the invariant "asks" was not checked: ArgumentValidationError: .*what/);
  await host.says(/the invariant "loops" was not checked: Function execution timed out/);
  await host.says(/The invariant "lost" in bank\.js is not checked: .*convex\/invariants\.ts/);
  await host.stop();
});

test("a declaration that is none is refused with the cure", () => {
  const cases = [
    ['invariant("", 1)', /the name is empty\. Say in it what always holds/],
    ['invariant("x", 1)', /invariant\("x", query\): the second argument must be what query/],
  ];
  for (const [declaration, text] of cases) {
    const imported = 'import { invariant } from "concave/server";';
    const source = `${imported}\nexport const a = ${declaration};\n`;
    const folder = app("refused", { "invariants.ts": source });
    const pushed = concave(["dev", folder, "--in-memory", "--once", "--port", "0",
      "--site-port", "0"]);
    assert.equal(pushed.status, 1);
    assert.match(pushed.stderr, text);
    assert.match(pushed.stderr, /convex\/invariants\.ts:2:/);
  }
});

test("a test that breaks one fails, and says by which call", () => {
  const folder = app("tested", { ...SOURCES, "bank.test.ts": TESTS });
  const { status, stdout, stderr } = concave(["test", folder, "--reporter", "json"]);
  assert.equal(status, 1, stderr);
  const tests = JSON.parse(stdout).files.flatMap((file) => file.tests);
  const states = Object.fromEntries(tests.map(({ name, state }) => [name, state]));
  assert.deepEqual(states, {
    "fine": "pass",
    "breaks it and hides it": "fail",
    "breaks it with its own hands": "fail",
    "takes back what would break it": "pass",
  });
  const errors = (name) => tests.find((one) => one.name === name).errors.join("\n");
  const hidden = errors("breaks it and hides it");
  assert.match(hidden, /InvariantViolation: the invariant "nobody is overdrawn" does not hold /);
  assert.match(hidden, /since bank:set\(\{"balance":-3,"owner":"ada"\}\) committed at \d+/);
  assert.match(hidden, /ada owes 3[^]*it wrote accounts\[[^]*again: concave test --seed \d+/);
  assert.match(errors("breaks it with its own hands"), /"a bank is small" does not hold/);
});

test("editors and Convex's own bundler know the import, once it is installed", () => {
  const folder = app("installed", SOURCES);
  const packages = join(folder, "packages");
  // The same packages, and ours.
  mkdirSync(packages);
  for (const name of readdirSync(join(ROOT, "tests/node_modules"))) {
    symlinkSync(join(ROOT, "tests/node_modules", name), join(packages, name));
  }
  cpSync(join(ROOT, "js/concave"), join(packages, "concave"), { recursive: true });
  spawnSync("rm", [join(folder, "node_modules")]);
  symlinkSync(packages, join(folder, "node_modules"));
  const source = readFileSync(join(folder, "convex/invariants.ts"), "utf8");
  writeFileSync(join(folder, "convex/invariants.ts"), `${source}
    // @ts-expect-error not a query
    invariant("x", 5);
  `.replaceAll(/\n {4}/g, "\n"));
  const bin = (name) => join(ROOT, "tests/node_modules/.bin", name);
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext",
    "--moduleResolution", "bundler", "--target", "esnext", "convex/invariants.ts"];
  const checked = spawnSync(bin("tsc"), options, { cwd: folder, encoding: "utf8" });
  assert.equal(checked.status, 0, checked.stdout);
  const bundled = spawnSync(bin("esbuild"), ["convex/invariants.ts", "--bundle", "--format=esm",
    "--platform=browser", "--conditions=convex,module"], { cwd: folder, encoding: "utf8" });
  assert.equal(bundled.status, 0, bundled.stderr);
  assert.match(bundled.stdout, /invariant: name/);
});

test("the example's invariant holds in its tests, and finds the deposit that is lost", () => {
  const folder = copy("transfer");
  const path = join(folder, "convex/race.test.ts");
  const source = readFileSync(path, "utf8");
  // Without an invariant of the test's own, and without expecting what it finds.
  const own = source.replace("t.explore([five, seven], { invariant })", "t.explore([five, seven])");
  writeFileSync(path, own.replace(/expect\(explored\)\.rejects\.toThrow\(.*\)/, "explored"));
  const { status, stdout, stderr } = concave(["test", folder, "--filter", "explore finds"]);
  assert.equal(status, 1, stdout + stderr);
  const told = stdout + stderr;
  assert.match(told, /"money is neither made nor lost" does not hold since race:set_balance\(/);
  assert.match(told, /112 were put in, and the accounts hold 10[57]/);
  assert.match(told, /five: query.*seven: query.*mutation.*mutation/s);
});
