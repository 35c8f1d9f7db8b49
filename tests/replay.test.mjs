// `concave calls` and `concave replay`: what a host recorded, run again against its snapshot.
//
// In: the built program and an app written here. Out: checks of recordings, of comparisons with the
// code of then and with edited code, and of what cannot be run again.
// Invariant: a replay writes nothing: the tables are looked at after it.
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { app } from "./app.mjs";
import { Command, Debugger } from "./debugger.mjs";
import { KEY, concave, serve } from "./host.mjs";

const SCHEMA = `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({
  items: defineTable({ name: v.string(), stock: v.number() }).index("by_name", ["name"]),
  audit: defineTable({ text: v.string() }),
});
`;

/** Takes stock away; what it does about an empty shelf is what the tests edit. */
const shop = (empty, text = "took") => `
import { actionGeneric as action, internalMutationGeneric as internalMutation,
  makeFunctionReference, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { ConvexError, v } from "convex/values";
export const add = mutation({ args: { name: v.string(), stock: v.number() },
  handler: (ctx, item) => ctx.db.insert("items", item) });
export const take = mutation({ args: { name: v.string(), count: v.number() },
  handler: async (ctx, { name, count }) => {
    const found = ctx.db.query("items").withIndex("by_name", (q) => q.eq("name", name));
    const item = await found.unique();
    console.log("${text}", count, "of", item.stock, Math.random(), Date.now());
    ${empty}
    await ctx.db.patch(item._id, { stock: item.stock - count });
    await ctx.db.insert("audit", { text: name });
    await ctx.scheduler.runAfter(3_600_000, makeFunctionReference("shop:refill"), { name });
    return item.stock - count;
  } });
export const refill = internalMutation({ args: { name: v.string() }, handler: async () => null });
export const stock = query({ args: {}, handler: async (ctx) =>
  (await ctx.db.query("items").collect()).map(({ name, stock }) => [name, stock]) });
export const visit = action({ args: { name: v.string() }, handler: async (ctx, { name }) =>
  await ctx.runMutation(makeFunctionReference("shop:take"), { name, count: 1 }) });
`;
const REFUSES = `if (item.stock < count) throw new ConvexError({ left: item.stock });`;

const host = await serve();
const folder = app("replay", { "schema.ts": SCHEMA, "shop.ts": shop(REFUSES) });
const AT = ["--url", host.url, "--admin-key", KEY];

/** Runs a command at the host; its exit code and what it printed. */
function command(...args) {
  const { status, stdout, stderr } = concave([...args, ...AT], { cwd: folder });
  return { code: status, out: stdout, told: stderr };
}

/** Calls a function, whatever comes of it. */
const call = (path, args) => command("run", path, JSON.stringify(args));

/** A replay that waits for a debugger. */
const inspected = (id, ...more) =>
  new Command(["replay", id, "--inspect=0", ...more, ...AT], { cwd: folder });

/** The newest recording of a function. */
function newest(path, ...filters) {
  const found = JSON.parse(command("calls", "--function", path, "--json", ...filters).out);
  return found[0] ?? assert.fail(`${path} was not called`);
}

/** Saves the module, without pushing it. */
const edit = (...how) => writeFileSync(join(folder, "convex/shop.ts"), shop(...how));

assert.equal(command("push", folder).code, 0);
call("shop:add", { name: "pin", stock: 5 });
assert.equal(call("shop:take", { name: "pin", count: 2 }).out.trim(), "3");
const taken = newest("shop:take");
const later = call("shop:take", { name: "pin", count: 1 });
assert.equal(later.out.trim(), "2");

test("a recording says what went in, what came out, what was read and written", () => {
  assert.equal(taken.function, "shop:take");
  assert.deepEqual([taken.kind, taken.args], ["mutation", { name: "pin", count: 2 }]);
  assert.deepEqual([taken.result, taken.error, taken.identity], [3, null, "the operator"]);
  assert.ok(taken.reads.some((range) => range === 'items.by_name[name="pin"]'), taken.reads);
  const items = taken.writes.find(({ table }) => table === "items");
  assert.deepEqual([items.before.stock, items.after.stock], [5, 3]);
  assert.equal(taken.writes.find(({ table }) => table === "audit").before, null);
  assert.ok(taken.writes.some(({ table }) => table === "_scheduled_functions"), taken.writes);
  assert.match(taken.logs[0], /^\[LOG\] 'took' 2 'of' 5 0\.\d+ \d{13}$/);
  assert.deepEqual(taken.looked, ["time", "randomness"]);

  const list = command("calls").out;
  assert.match(list, /mutation {2}shop:take\(\{"count":2,"name":"pin"\}\) → 3 /);
  const inFull = command("calls", taken.id).out;
  assert.match(inFull, /wrote +items \w+: \{.*"stock":5.*\} → \{.*"stock":3.*\}/);
  assert.match(inFull, new RegExp(`again +concave replay ${taken.id}`));
});

test("calls are found by function, by outcome and by request", () => {
  call("shop:take", { name: "pin", count: 99 });
  call("shop:stock", {});
  const failed = newest("shop:", "--outcome", "error");
  assert.deepEqual(failed.error.data, { left: 2 });
  assert.deepEqual(failed.writes, []);
  call("shop:visit", { name: "pin" });
  const visit = newest("shop:visit");
  assert.equal(visit.kind, "action");
  const inner = JSON.parse(command("calls", "--request", visit.requestId, "--json").out);
  assert.deepEqual(inner.map((found) => found.function), ["shop:visit", "shop:take"]);
});

test("the code of then behaves the same, and nothing is written", () => {
  const before = call("shop:stock", {}).out;
  for (const { id } of [taken, newest("shop:take", "--outcome", "error"), newest("shop:stock")]) {
    const { code, out, told } = command("replay", id, "--old");
    assert.equal(code, 0, out + told);
    assert.match(out, /the same: result, error, reads, writes, log lines/);
  }
  assert.equal(call("shop:stock", {}).out, before);
});

test("edited code is compared with what happened, without being pushed", () => {
  const same = command("replay", taken.id);
  assert.equal(same.code, 0, same.out + same.told);
  assert.match(same.out, /which is the code of then/);

  edit(`if (item.stock < count + 4) return "too few";`, "has taken");
  const { code, out, told } = command("replay", taken.id);
  assert.equal(code, 1, out + told);
  assert.match(told, /behaved differently: result, reads, writes, log lines\./);
  assert.match(out, /result differs:\n {2}- 3\n {2}\+ "too few"\n/);
  assert.match(out, /- items \w+: \{.*"stock":5.*\} → \{.*"stock":3.*\}/);
  // What is random and what the clock says is what it was.
  const [, drawn] = taken.logs[0].match(/'took' (2 'of' 5 .*)$/);
  assert.ok(out.includes(`+ [LOG] 'has taken' ${drawn}`), out);

  const told2 = JSON.parse(command("replay", taken.id, "--json").out);
  assert.deepEqual(told2.different, ["result", "reads", "writes", "log lines"]);
  assert.equal(told2.replayed.result, "too few");
  assert.equal(command("run", "shop:take", '{"name":"pin","count":0}').out.trim(), "1");
});

test("a schema that was edited too is that of the snapshot then", () => {
  const save = (schema) => writeFileSync(join(folder, "convex/schema.ts"), schema);
  save(SCHEMA.replace('.index("by_name"', '.index("by_stock", ["stock"]).index("by_name"'));
  edit(`const same = ctx.db.query("items").withIndex("by_stock", (q) => q.eq("stock", 5));
    console.log((await same.collect()).length, "with five");`);
  const { code, out, told } = command("replay", taken.id);
  assert.equal(code, 1, told);
  assert.match(told, /behaved differently: reads, log lines\./);
  assert.match(out, /\+ items\.by_stock\[stock=5\]\n/);
  assert.match(out, /\+ \[LOG\] 1 'with five'/);
  save(SCHEMA.replace("stock: v.number()", "stock: v.string()"));
  const unfit = command("replay", taken.id);
  assert.equal(unfit.code, 2);
  assert.match(unfit.told, /does not fit the documents of then: [^]*items[^]*stock/);
  save(SCHEMA);
  edit(REFUSES);
});

test("functions that only the edited code has can be scheduled, and have handles", () => {
  const file = join(folder, "convex/later.ts");
  writeFileSync(file, `import { createFunctionHandle, internalMutationGeneric as mutation,
  internalQueryGeneric as query, makeFunctionReference } from "convex/server";
export const refill = mutation({ args: {}, handler: async () => null });
export const two = query({ args: {}, handler: async () => 2 });
/** By a handle. */
export const three = mutation({ args: {}, handler: async (ctx) => {
  const handle = await createFunctionHandle(makeFunctionReference("later:two"));
  return 1 + await ctx.runQuery(handle, {});
} });`);
  edit(`await ctx.scheduler.runAfter(1_000, makeFunctionReference("later:refill"), {});
    console.log(await ctx.runMutation(makeFunctionReference("later:three")), "by a handle");`);
  const { code, out, told } = command("replay", taken.id);
  assert.equal(code, 1, out);
  assert.match(told, /behaved differently: writes, log lines\./, out);
  assert.match(out, /\+ \[LOG\] 3 'by a handle'/);
  assert.match(out, /\+ _scheduled_functions .*later\.js:refill/);
  assert.match(out, /the same: result, error, reads\n/);
  rmSync(file);
  edit(REFUSES);
});

test("an error is another outcome, and shows its line", () => {
  edit(`if (count === 2) throw new Error("not two");`);
  const { code, out } = command("replay", taken.id);
  assert.equal(code, 1);
  assert.match(out, /result differs:\n {2}- 3\n {2}\+ \(no result\)\n/);
  assert.match(out, /\+ Uncaught Error: not two\n {2}\+ {5}at handler \(.*\/shop\.ts:12:28/);
});

test("a loop ends where a call's would", () => {
  edit(`while (count === 2);`);
  const { code, out } = command("replay", taken.id);
  assert.equal(code, 1);
  assert.match(out, /\+ Function execution timed out \(maximum duration: 1s\)/);
  edit(REFUSES);
});

test("a recording in a file is as good as its number", () => {
  const file = join(folder, "call.json");
  writeFileSync(file, JSON.stringify(JSON.parse(command("calls", taken.id, "--json").out)));
  assert.equal(command("replay", file, "--old").code, 0);
  writeFileSync(file, "{");
  const { code, told } = command("replay", file, "--old");
  assert.equal(code, 2);
  assert.match(told, /call\.json is neither the number of a call.*it is no JSON/);
  writeFileSync(file, JSON.stringify({ ...taken, call: "{}" }));
  assert.match(command("replay", file, "--old").told, /cannot be run again: `call`: missing field/);
});

test("what cannot be run again says why", () => {
  const cases = [
    ["999999", /keeps no call 999999: it keeps 1 to \d+\..*`concave calls` lists them/],
    [newest("shop:visit").id, /shop:visit is an action: .*concave calls --request [0-9a-f]{16}/],
  ];
  for (const [id, text] of cases) {
    const { code, told } = command("replay", id, "--old");
    assert.equal(code, 2, told);
    assert.match(told, text);
  }
  writeFileSync(join(folder, "convex/shop.ts"), "export const other = 1;\n");
  const gone = command("replay", taken.id);
  assert.equal(gone.code, 2);
  assert.match(gone.told, /no shop:take: its module shop\.js does not export take as a function/);
  assert.match(gone.told, /Run what was deployed then: --old\./);
  edit(REFUSES);
});

test("a snapshot that the history no longer holds is said to be gone", async () => {
  const small = await serve("--memory", "256MiB");
  const at = ["--url", small.url, "--admin-key", KEY];
  const here = (...args) => concave([...args, ...at], { cwd: folder });
  assert.equal(here("push", folder).status, 0);
  here("run", "shop:add", '{"name":"pin","stock":5}');
  // The history forgets sooner than a file.
  const file = join(folder, "old.json");
  const [call] = JSON.parse(here("calls", "--function", "shop:add", "--json").stdout);
  writeFileSync(file, JSON.stringify(call));
  const name = "x".repeat(900_000);
  for (let at = 0; at < 60 && here("replay", file, "--old").status === 0; at++) {
    for (let more = 0; more < 4; more++) {
      const body = { path: "shop:add", args: { name: name + at + more, stock: 1 } };
      await fetch(`${small.url}/api/mutation`, { method: "POST", body: JSON.stringify(body) });
    }
  }
  const { status, stderr } = here("replay", file, "--old");
  assert.equal(status, 2);
  assert.match(stderr, /The snapshot at \d+ is no longer kept: the oldest one is at \d+/);
  small.stop();
});

test("only the operator sees calls, and runs them again", async () => {
  for (const [method, path] of [["GET", "calls"], ["POST", "replay"]]) {
    const init = { method, body: method === "POST" ? "{}" : undefined };
    const answer = await fetch(`${host.url}/api/concave/${path}`, init);
    assert.ok([400, 401].includes(answer.status), `${path}: ${answer.status}`);
    if (method === "GET") assert.equal((await answer.json()).code, "MissingAdminKey");
    const wrong = { ...init, headers: { authorization: "Convex x|y" } };
    assert.equal((await fetch(`${host.url}/api/concave/${path}`, wrong)).status, 403);
  }
});

test("a debugger stops in the first line, reads variables, and lets it go on", async () => {
  const replay = inspected(taken.id);
  const address = (await replay.says(/waiting at ws:\/\/(127\.0\.0\.1:\d+\/[0-9a-f]{32}),/))[1];
  const [target] = await (await fetch(`http://${address.split("/")[0]}/json/list`)).json();
  assert.equal(target.webSocketDebuggerUrl, `ws://${address}`);
  assert.match(target.title, /^shop:take\(/);

  const client = await Debugger.at(target.webSocketDebuggerUrl);
  await client.ask("Runtime.enable");
  await client.ask("Debugger.enable");
  await client.ask("Runtime.runIfWaitingForDebugger");
  const first = await client.stops();
  assert.equal(await client.evaluates(first, "name + count"), "pin2");
  const { scriptId } = first.location;
  const parsed = client.heard.find(({ method, params }) =>
    method === "Debugger.scriptParsed" && params.scriptId === scriptId);
  assert.equal(parsed.params.url, "convex:/shop.js");
  // TypeScript comes with it.
  const map = JSON.parse(Buffer.from(parsed.params.sourceMapURL.split("base64,")[1], "base64"));
  assert.deepEqual(map.sources, ["../convex/shop.ts"]);
  assert.equal(map.sourcesContent[0], shop(REFUSES));

  const { result } = await client.ask("Debugger.getScriptSource", { scriptId });
  const lineNumber = result.scriptSource.split("\n").findIndex((line) => line.includes("console."));
  await client.ask("Debugger.setBreakpointByUrl", { url: "convex:/shop.js", lineNumber });
  const seen = client.heard.length;
  await client.ask("Debugger.resume");
  const second = await client.stops(seen);
  assert.equal(second.location.lineNumber, lineNumber);
  assert.equal(await client.evaluates(second, "item.stock"), 5);
  await client.ask("Debugger.resume");
  assert.equal(await replay.ended, 0, replay.output);
  assert.match(replay.output, /the same: result, error, reads, writes, log lines/);
});

test("a debugger that leaves lets the call run on", async () => {
  const replay = inspected(taken.id, "--old");
  const client = await Debugger.at((await replay.says(/waiting at (ws:\S+),/))[1]);
  await client.ask("Debugger.enable");
  await client.ask("Runtime.runIfWaitingForDebugger");
  await client.stops();
  client.socket.close();
  assert.equal(await replay.ended, 0, replay.output);
});

test("what cannot be debugged says so to whoever waits", async () => {
  const replay = inspected(newest("shop:visit").id, "--old");
  await Debugger.at((await replay.says(/waiting at (ws:\S+),/))[1]);
  assert.equal(await replay.ended, 2);
  assert.match(replay.output, /shop:visit is an action: /);
});
