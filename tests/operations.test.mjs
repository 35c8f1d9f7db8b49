// A host that is operated: its memory budget, its figures, its history, pushes beside traffic.
//
// In: the built program and a small app. Out: refusals with their reasons, figures that add up.
// Invariant: no test asserts a time; memory is read from outside the process.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { folder } from "./crash.mjs";
import { endure } from "./endurance.mjs";
import { CONCAVE, KEY, concave, eventually, pointedAt, serve, start } from "./host.mjs";

const SCHEMA = (index) => `
  import { defineSchema, defineTable } from "convex/server";
  import { v } from "convex/values";
  export default defineSchema({
    notes: defineTable({ n: v.number(), text: v.string() })${index},
  });`;
const NOTES = {
  "schema.ts": SCHEMA(""),
  "notes.ts": `
    import { ConvexError } from "convex/values";
    import { mutation, query } from "./_generated/server";
    export const add = mutation({ handler: async ({ db }, { n, bytes }) =>
      await db.insert("notes", { n, text: "x".repeat(bytes) }) });
    export const many = mutation({ handler: async ({ db }, { from, count }) => {
      for (let n = from; n < from + count; n++) await db.insert("notes", { n, text: "" });
    } });
    export const rewrite = mutation({ handler: async ({ db }, { id, bytes, n }) =>
      await db.patch(id, { n, text: "x".repeat(bytes) }) });
    export const remove = mutation({ handler: async ({ db }) => {
      const some = await db.query("notes").take(10);
      for (const { _id } of some) await db.delete(_id);
      return some.length;
    } });
    export const large = query({ handler: async ({ db }, { bytes }) =>
      (await db.query("notes").collect()).length + "x".repeat(bytes) });
    export const one = query({ handler: async ({ db }) => (await db.query("notes").first())?.n });
    export const says = query({ handler: async () => {
      console.log("hello", { n: 1 });
      console.warn("careful");
    } });
    export const fails = query({ handler: async () => {
      console.log("a secret");
      throw new Error("on purpose");
    } });
    export const told = query({ handler: async () => { throw new ConvexError("sold out"); } });`,
};
const APP = app("operations", NOTES);
const MIB = 2 ** 20;

function operator(host) {
  const client = new ConvexHttpClient(host.url);
  client.setAdminAuth(KEY);
  return client;
}

/** A command, beside this process's own requests. */
function beside(host, args) {
  const child = spawn(CONCAVE, args, { env: pointedAt(host), stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
  return new Promise((resolve) => child.on("exit", (code) => resolve({ code, output })));
}

function stats(host) {
  const { stdout, stderr, status } = concave(["stats", "--json"], { env: pointedAt(host) });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

/** Calls a mutation as anybody; gives the status and the body. */
async function call(host, path, args) {
  const body = JSON.stringify({ path, args: [args], format: "json" });
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${host.url}/api/mutation`, { method: "POST", headers, body });
  return { status: answer.status, body: await answer.json() };
}

test("a budget is held: work is refused with the reason, and taken again", async () => {
  const budget = 160;
  const host = await serve("--push", APP, "--memory", `${budget}M`);
  let [refused, kept, highest] = [undefined, 0, 0];
  // What shrinks at the first refusal makes room for a little more.
  for (let n = 0, refusals = 0; n < 1_000 && refusals < 50; n++) {
    const { status, body } = await call(host, "notes:add", { n, bytes: 900_000 });
    if (status === 200) kept++;
    else refusals++;
    const rss = readFileSync(`/proc/${host.child.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1];
    highest = Math.max(highest, Number(rss) / 1024);
    if (status !== 200) refused ??= { status, body, n };
  }
  assert.ok(refused, "the budget was never reached");
  assert.equal(refused.status, 503, JSON.stringify(refused));
  assert.equal(refused.body.code, "OutOfMemory");
  assert.match(refused.body.message, /it uses \d+ MiB of 160 MiB, of which documents .* \d+ MiB/);
  assert.ok(refused.n > 20, `there was room for more than ${refused.n} documents`);
  assert.ok(highest <= budget, `${highest} MiB`);
  assert.equal((await fetch(`${host.url}/health`)).status, 200);
  await host.says(/New work is refused: The host is out of memory/);
  const { memory } = stats(host);
  assert.equal(memory.budget, budget * MIB);
  assert.notEqual(memory.pressure, "calm");
  assert.ok(memory.documents > kept * 900_000, JSON.stringify(memory));

  const client = operator(host);
  while (await client.mutation(api.notes.remove, {})) { /* until nothing is left */ }
  const status = async () => (await fetch(`${host.url}/ready`)).status;
  await eventually("ready", status, (now) => now === 200);
  await host.says(/New work is taken again/);
  assert.equal((await call(host, "notes:add", { n: 1, bytes: 10 })).status, 200);
  assert.ok(stats(host).memory.documents < MIB);
});

test("a large result is held once, however many clients follow it", async (t) => {
  // A debug build's own pages are 70 MB of it. Copies for each client would be 80 MB.
  const budget = 160;
  const host = await serve("--push", APP, "--memory", `${budget}M`);
  t.after(() => host.stop());
  const clients = Array.from({ length: 40 }, () => new ConvexClient(host.url, { logger: false }));
  t.after(() => Promise.all(clients.map((client) => client.close())));
  const seen = clients.map(() => "");
  clients.forEach((client, at) => client.onUpdate(api.notes.large, { bytes: 2_000_000 },
    (value) => (seen[at] = value[0]), (error) => (seen[at] = error.message)));
  for (let n = 0; n < 5; n++) {
    await eventually(`all see ${n}`, () => seen, (all) => all.every((one) => one === `${n}`));
    const { status, body } = await call(host, "notes:add", { n, bytes: 1 });
    assert.equal(status, 200, JSON.stringify(body));
  }
  const highest = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${host.child.pid}/status`, "utf8"))[1];
  assert.ok(highest / 1024 <= budget, `${highest} KiB`);
  assert.doesNotMatch(host.output, /New work is refused/);
});

test("work that goes on stays within its budget", async () => {
  // A debug build's own pages are 70 MB of it.
  const budget = 192;
  const { run, looks } = await endure(`${budget}M`, (round) => round > 4);
  const { highest, history, memory, work } = looks.at(-1);
  assert.ok(highest <= budget, JSON.stringify(looks, null, 1));
  assert.ok(history.trimmed > 0, "there was more history than it has room for");
  assert.ok(memory.history <= budget * MIB / 16, `${memory.history}`);
  assert.equal(work.sessions, 6);
  assert.ok(run.updates > 100);
  assert.equal(await run.host.stop(), 0);
});

test("a budget that makes no sense is refused at the start", () => {
  const tried = (memory) =>
    concave(["serve", "--in-memory", "--port", "0", "--site-port", "0", "--memory", memory]);
  const small = tried("10M");
  assert.equal(small.status, 2);
  assert.match(small.stderr, /budget of 10 MiB is too small: a host needs 128 MiB at least/);
  const odd = tried("lots");
  assert.equal(odd.status, 2);
  assert.match(odd.stderr, /"lots" is no number of bytes/);
});

test("figures add up, for people and for Prometheus, and are the operator's", async () => {
  const host = await serve("--push", APP);
  const client = new ConvexHttpClient(host.url);
  for (let n = 0; n < 3; n++) await client.mutation(api.notes.add, { n, bytes: 1_000 });
  await client.query(api.notes.one);
  await client.query(api.notes.one);
  await assert.rejects(client.query(api.notes.fails), /on purpose/);
  for (const path of ["/metrics", "/api/concave/stats"]) {
    assert.equal((await fetch(host.url + path)).status, 401);
  }
  const { calls, memory, history, work } = stats(host);
  assert.equal(calls.mutation.ok, 3);
  assert.equal(calls.query.ok + calls.query.cached, 2);
  assert.equal(calls.query.error, 1);
  assert.ok(memory.documents > 3_000 && memory.resident > 10 * MIB);
  assert.equal(memory.pressure, "calm");
  assert.equal(memory.budget, undefined);
  assert.ok(history.commits >= 4 && history.trimmed === 0);
  assert.equal(work.documentsWritten, 3);

  const headers = { Authorization: `Convex ${KEY}` };
  const answer = await fetch(`${host.url}/metrics`, { headers });
  assert.match(answer.headers.get("content-type"), /^text\/plain; version=0\.0\.4/);
  const text = await answer.text();
  const value = (name) => Number(text.match(new RegExp(`^${name} (\\S+)$`, "m"))?.[1]);
  assert.equal(value('concave_calls_total{kind="mutation",end="ok"}'), 3);
  assert.equal(value('concave_call_seconds_bucket{kind="mutation",le="\\+Inf"}'), 3);
  assert.ok(value('concave_call_seconds_sum{kind="mutation"}') > 0);
  assert.equal(value("concave_documents_written_total"), 3);
  for (const line of text.trimEnd().split("\n")) {
    assert.match(line, /^(# (HELP|TYPE) concave_\w+ .+|concave_\w+(\{[^}]+\})? [\d.e+-]+)$/);
  }
  const shown = concave(["stats"], { env: pointedAt(host) });
  assert.match(shown.stdout, /^ {2}mutation +3 ok$/m);
  await host.stop();
});

test("history that has no room is dropped, oldest first, and that is said", async () => {
  const host = await serve("--push", APP, "--memory", "256M");
  const client = operator(host);
  const id = await client.mutation(api.notes.add, { n: 0, bytes: 10 });
  const first = stats(host).history;
  for (let n = 1; n <= 40; n++) {
    await client.mutation(api.notes.rewrite, { id, n, bytes: 900_000 });
  }
  await host.says(/The history is cut to stay within its memory, oldest first/);
  const { history, memory } = stats(host);
  assert.ok(history.trimmed > 10 && history.oldest > first.newest, JSON.stringify(history));
  assert.ok(memory.history <= 256 * MIB / 16, `${memory.history}`);
  const at = ["--at", first.oldest];
  const gone = concave(["run", "notes:one", ...at], { env: pointedAt(host) });
  assert.match(gone.stderr, /is no longer kept: the oldest one is at \d+/);
  await host.stop();
});

test("history on disk has its own room: what a start brings back, oldest left out", async () => {
  const data = join(folder(), "kept");
  const ports = ["--port", "0", "--site-port", "0"];
  const begin = (...args) =>
    start(["serve", "--data", data, "--admin-key", KEY, ...ports, "--history-disk", "2M", ...args]);
  let host = await begin("--push", APP);
  const id = await operator(host).mutation(api.notes.add, { n: 0, bytes: 10 });
  const first = stats(host).history.newest;
  for (let n = 1; n <= 20; n++) {
    await operator(host).mutation(api.notes.rewrite, { id, n, bytes: 500_000 });
  }
  await host.says(/The history on disk is cut to stay within 2\.0 MiB, oldest first: \d+ commits/);
  const room = () => stats(host).disk;
  await eventually("the log is within its room", room, (now) => now.logBytes <= now.logRoom);
  assert.equal(room().logRoom, 2 * MIB);
  // Memory has it all still; a start has not.
  const at = (ts) => concave(["run", "notes:one", "--at", String(ts)], { env: pointedAt(host) });
  assert.equal(at(first).status, 0);
  await host.endsBy("SIGKILL");
  host = await begin();
  assert.match(at(first).stderr, /is no longer kept: the oldest one is at \d+/);
  const { oldest, newest } = stats(host).history;
  assert.ok(oldest < newest);
  assert.equal(at(newest).stdout.trim(), "20");
  assert.equal(await host.stop(), 0);
  const narrow = concave(["serve", "--data", data, "--history-disk", "100K"]);
  assert.match(narrow.stderr, /Room for history of 0\.1 MiB is too small: .* needs 1\.0 MiB/);
});

test("a push fills an index while mutations go on, and misses none of them", async () => {
  const source = app("backfill", NOTES);
  const host = await serve("--push", source);
  const client = operator(host);
  for (let from = 0; from < 20_000; from += 2_000) {
    await client.mutation(api.notes.many, { from, count: 2_000 });
  }
  writeFileSync(join(source, "convex/schema.ts"), SCHEMA(`.index("by_n", ["n"])`));
  writeFileSync(join(source, "convex/check.ts"), `
    import { query } from "./_generated/server";
    export const range = query({ handler: async ({ db }, { from, to }) =>
      (await db.query("notes").withIndex("by_n", q => q.gte("n", from).lt("n", to)).collect())
        .map(({ n }) => n) });`);
  let pushed = false;
  const push = beside(host, ["push", source]).finally(() => (pushed = true));
  let n = 20_000;
  for (; !pushed; n++) await client.mutation(api.notes.add, { n, bytes: 0 });
  const { code, output } = await push;
  assert.equal(code, 0, output);
  assert.ok(n > 20_010, "mutations went on");
  for (let from = 0; from < n; from += 4_000) {
    const to = Math.min(n, from + 4_000);
    const found = await client.query(api.check.range, { from, to });
    assert.deepEqual(found, Array.from({ length: to - from }, (_, at) => from + at));
  }
  await host.stop();
});

test("structured logs: every line is JSON, with facts in fields and without secrets", async () => {
  const data = join(folder(), "kept");
  const ports = ["--port", "0", "--site-port", "0"];
  const logs = ["--log-format", "json", "--log-level", "debug"];
  const host = await start(["serve", "--data", data, ...ports, ...logs, "--push", APP]);
  const client = new ConvexHttpClient(host.url);
  await client.mutation(api.notes.add, { n: 7, bytes: 1 });
  await client.query(api.notes.says);
  await assert.rejects(client.query(api.notes.fails), /on purpose/);
  assert.equal(await host.stop(), 0);
  const lines = host.output.trimEnd().split("\n").map((line) => JSON.parse(line));
  for (const { timestamp, level, target, message } of lines) {
    assert.ok(Date.parse(timestamp) > 1.7e12 && level && target.startsWith("concave") && message);
  }
  const find = (message) => lines.find((line) => message.test(line.message));
  assert.equal(find(/^serving/).url, host.url);
  assert.equal(find(/^a push is running/).functions, 9);
  const call = lines.find((line) => line.function === "notes:add");
  const { kind, caller, identity, documents_written, duration_ms, level } = call;
  assert.deepEqual({ kind, caller, identity, documents_written, level },
    { kind: "mutation", caller: "http", identity: "unknown", documents_written: 1,
      level: "DEBUG" });
  assert.ok(duration_ms > 0 && /^[0-9a-f]{16}$/.test(call.request_id));
  const said = lines.filter(({ target }) => target === "concave::console");
  assert.deepEqual(said.map(({ level, message }) => [level, message]),
    [["INFO", "'hello' { n: 1 }"], ["WARN", "'careful'"], ["INFO", "'a secret'"]]);
  const failed = find(/^a call failed/);
  assert.equal(failed.level, "INFO");
  assert.match(failed.error, /on purpose\n +at handler \(.*convex\/notes\.ts:\d+:\d+\)/);
  assert.ok(find(/^stopping/));
  const key = readFileSync(join(data, "admin-key"), "utf8");
  assert.ok(!host.output.includes(key), "the admin key stands in its file");
});

test("clients are told nothing of errors and logs where the operator wants that", async () => {
  const flags = ["serve", "--in-memory", "--port", "0", "--site-port", "0", "--push", APP];
  const host = await start([...flags, "--redact-logs-to-client", "--log-level", "debug"]);
  const request = { method: "POST", headers: { "content-type": "application/json" },
    body: JSON.stringify({ path: "notes:fails", args: {} }) };
  const answer = await (await fetch(`${host.url}/api/query`, request)).json();
  assert.match(answer.errorMessage, /^\[Request ID: [0-9a-f]{16}\] Server Error$/);
  assert.equal(answer.logLines, undefined);
  const live = new ConvexClient(host.url);
  const overSocket = await live.query(api.notes.fails).catch((error) => error);
  assert.doesNotMatch(overSocket.message, /on purpose|notes\.ts/);
  assert.match(overSocket.message, /Server Error/);
  await assert.rejects(live.query(api.notes.told), { data: "sold out" });
  await live.close();
  // The operator is.
  await host.says(/a secret/);
  await host.says(/on purpose/);
  await host.stop();
  const environment = { ...process.env, REDACT_LOGS_TO_CLIENT: "" };
  const open = await start(flags, { env: environment });
  const whole = await (await fetch(`${open.url}/api/query`, request)).json();
  assert.match(whole.errorMessage, /on purpose/, "an empty variable is none");
  await open.stop();
});
