// Actions end to end: npm's unmodified clients, the built program, its worker processes.
//
// In: the built program and tests/actions. Out: checks of results, errors, console lines, and of
// the processes behind them. Invariant: whatever a worker process dies of, the host answers, and
// the next call works.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ConvexError } from "convex/values";
import { answers } from "./answers.mjs";
import { KEY, children, eventually, killChildren, serve } from "./host.mjs";
import { until } from "./watch.mjs";

const { acts } = anyApi;
const host = await serve("--push", "tests/actions");
after(() => host.stop());
const client = new ConvexHttpClient(host.url, { logger: false });

const { answer, error } = answers(host, "acts");

test("an action calls a mutation, a query and an action, as its caller", async () => {
  const value = { list: [1, "two", 3n, null], bytes: new Uint8Array([1, 2]).buffer };
  assert.deepEqual(await client.action(acts.roundTrip, { key: "k", value }), [value]);
  assert.equal(await client.query(acts.count, {}), 1);
  const { logLines } = await answer("roundTrip", { key: "l", value: 5 });
  assert.deepEqual(logLines, [
    "[LOG] 'before' { key: 'l' }",
    "[INFO] 'putting' 'l'",
    "[LOG] 'after' Map(1) { 'seen' => [ 5 ] }",
  ]);
  const [handle, through] = await client.action(acts.handles, {});
  assert.match(handle, /^function:\/\//);
  assert.equal(through, "through a handle");
});

/** What the log has, and where to go on from. */
async function logged(from = 0) {
  const headers = { authorization: `Convex ${KEY}` };
  const path = `/api/stream_function_logs?cursor=${from}`;
  return (await fetch(`${host.url}${path}`, { headers })).json();
}

test("the log has an entry for each function that an action calls, each line once", async () => {
  const { newCursor } = await logged();
  await answer("roundTrip", { key: "logged", value: 1 });
  const { entries } = await logged(newCursor);
  const shown = entries.map(({ kind, udfType, identifier, caller, logLines }) => [kind, udfType,
    identifier, caller ?? "", ...logLines.map(({ messages }) => messages.join(" "))].join(" "));
  assert.deepEqual(shown, [
    "Progress Action acts:roundTrip  'before' { key: 'logged' }",
    "Completion Mutation acts:put Action 'putting' 'logged'",
    "Completion Query acts:get Action",
    "Completion Action acts:echo Action",
    "Progress Action acts:roundTrip  'after' Map(1) { 'seen' => [ 1 ] }",
    "Completion Action acts:roundTrip HttpApi",
  ]);
  assert.equal(new Set(entries.map(({ requestId }) => requestId)).size, 1);
  assert.equal(entries[1].usageStats.databaseWriteDocuments, 1);

  await error("nestedError");
  const refused = (await logged(entries.at(-1).timestamp * 1000)).entries;
  assert.match(refused.find(({ identifier }) => identifier === "acts:put").error,
    /^ArgumentValidationError: /);
});

test("an action's lines are in the log while it runs", async () => {
  let { newCursor: cursor } = await logged();
  let ended = false;
  const running = client.action(acts.speaks, {}).then(() => (ended = true));
  for (let entries = []; entries.length === 0;) {
    ({ entries, newCursor: cursor } = await logged(cursor));
    if (entries.length === 0) continue;
    const [{ kind, identifier, logLines, timestamp }] = entries;
    assert.deepEqual([kind, identifier], ["Progress", "acts:speaks"]);
    assert.deepEqual(logLines.map(({ level, messages }) => [level, ...messages]),
      [["WARN", "'not done yet'"]]);
    assert.equal(typeof timestamp, "number");
  }
  assert.equal(ended, false);
  await client.mutation(acts.write, { key: "spoken" });
  await running;
});

test("values at module level are those of the push, later ones are live", async () => {
  const [one, other] = [await client.action(acts.evaluatedInAction, {}),
    await client.action(acts.evaluatedInAction, {})];
  assert.deepEqual(one.evaluated, other.evaluated);
  assert.deepEqual(one.evaluated, await client.query(acts.evaluatedInQuery, {}));
  assert.ok(one.isLive && one.random !== other.random && one.random !== one.evaluated[0]);
  assert.equal(one.date.slice(11, 15), String(new Date().getFullYear()));
});

test("WebAssembly is read from a response", async () => {
  assert.deepEqual(await client.action(acts.streamsWasm, {}), [true, true, true,
    "TypeError: WebAssembly: the response must have the content type application/wasm, and has "
    + "text/plain."]);
});

test("over the WebSocket too, many at once", async () => {
  const socket = new ConvexClient(host.url, { logger: false });
  const calls = Array.from({ length: 50 }, (_, n) => socket.action(acts.oneEach, { key: `s${n}` }));
  assert.deepEqual(await Promise.all(calls), Array(50).fill(1));
  await socket.close();
});

const source = readFileSync("tests/actions/convex/acts.ts", "utf8").split("\n");
/** Where a text first stands in the functions' source. */
const line = (text) => source.findIndex((found) => found.includes(text)) + 1;

for (const [kind, name] of [["query", "framesInQuery"], ["action", "framesInAction"]]) {
  test(`the stacks that ${kind === "query" ? "a query" : "an action"} logs are its author's`,
    async () => {
      const response = await fetch(`${host.url}/api/${kind}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ path: `acts:${name}`, args: {}, format: "json" }),
      });
      const { logLines } = await response.json();
      const [traced, logged] = logLines.map((text) => text.replaceAll(/:\d+\)/g, ":_)"));
      const at = (text) => `(../convex/acts.ts:${line(text)}:_)`;
      const caller = `<anonymous> ${at(`const ${name}`)}`;
      const frames = (text, margin) => [`logsFrames ${at(text)}`, caller]
        .map((frame) => `\n${margin}at ${frame}`).join("");
      assert.equal(traced, `[LOG] 'here' 1 Trace${frames("console.trace", "    ")}`);
      assert.equal(logged, `[LOG] [\n  Error: logged${frames("new Error(\"logged", "      ")} {\n`
        + `    code: 5,\n    [cause]: TypeError: deep${frames("new Error(\"logged", "        ")}\n`
        + "  }\n]");
    });
}

test("errors name the author's lines", async () => {
  const thrown = await error("throws");
  const [first, ...frames] = thrown.trimEnd().split("\n");
  assert.equal(first, "Uncaught Error: from inside");
  const inner = `^    at inner \\(../convex/acts.ts:${line("from inside")}:\\d+\\)$`;
  assert.match(frames[0], new RegExp(inner));
  assert.match(frames[1], new RegExp(`acts.ts:${line("  inner();")}:\\d+\\)$`));
  assert.equal(frames.length, 2, thrown);
});

test("mistakes are told with their cure", async () => {
  const { again, exits, stores } = { again: await error("again"), exits: await error("exits"),
    stores: await error("stores") };
  assert.match(again, /acts:again was called by an action .* 64 deep.* infinite loop in your app/);
  assert.match(exits, /process\.exit is not a function\. .* begins with "use node"\./);
  assert.match(stores, /storage\.store: the argument must be a Blob or a File/);
});

test("a ConvexError keeps its data, out of an action and between two", async () => {
  const big = 2n ** 60n;
  const data = { code: "full", big };
  await assert.rejects(client.action(acts.throwsData, { code: "full" }), (caught) => {
    assert.ok(caught instanceof ConvexError);
    assert.deepEqual(caught.data, data);
    return true;
  });
  const inside = await client.action(acts.rethrows, { code: "full" });
  assert.deepEqual(inside, { isConvexError: true, data });
});

test("what a called function refuses is the caller's error, and can be caught", async () => {
  assert.match(await error("nestedError"), /^Uncaught Error: ArgumentValidationError: /);
  assert.match(await error("missing"), /Could not find function for 'nothing:here'/);
  const wrongKind = /Trying to execute acts:get as Mutation, but it is defined as Query/;
  assert.match(await error("wrongKind"), wrongKind);
  assert.match(await error("badResult"), /^ReturnsValidationError: /);
  assert.equal(await client.action(acts.swallows, {}), "went on");
});

test("promises that nobody awaits, and that never settle", async () => {
  const dangling = await answer("dangles");
  assert.equal(dangling.value, "returned");
  assert.match(dangling.logLines[0], /^\[WARN\] 1 unawaited operation: \[runAction\]\. Async op/);
  assert.match(await error("never"), /^Returned promise will never resolve/);
  assert.match(await error("rejects"), /^Uncaught TypeError: nobody caught it\n    at .*acts\.ts/);
  assert.match(await error("listens"), /^Uncaught RangeError: from a listener\n    at .*acts\.ts/);
});

test("no action sees another's globals; variables and identity are there", async () => {
  for (let n = 0; n < 3; n++) assert.equal(await client.action(acts.leaks, {}), 1);
  assert.deepEqual(await client.action(acts.variables, {}), [host.url, null]);
  assert.equal(await client.action(acts.identity, {}), null);
});

test("an action that runs out of memory is told so; another one waits beside it", async () => {
  const waiting = client.action(acts.waits, { ms: 3000 });
  assert.match(await error("eats"), /^JavaScript execution ran out of memory \(maximum memory/);
  assert.equal(await waiting, "waited");
});

test("a killed worker is an error for its actions; the host goes on", async () => {
  let { newCursor } = await logged();
  const [waiting, looping] = [error("waits", { ms: 600_000 }), error("loops")];
  // Both have begun when both have said so.
  for (const begun = new Set(); begun.size < 2;) {
    const { entries, newCursor: next } = await logged(newCursor);
    for (const { kind, identifier } of entries) if (kind === "Progress") begun.add(identifier);
    newCursor = next;
  }
  const killed = killChildren(host.child);
  assert.match(await waiting, /^The process that ran acts:waits ended: signal: 9/);
  assert.match(await looping, /^The process that ran acts:loops ended: signal: 9/);
  // Idle ones were killed too: the host gives them jobs until it has seen their end.
  const there = () => children(host.child).filter((pid) => killed.includes(pid));
  await eventually("they are gone", there, (pids) => pids.length === 0);
  assert.equal(await client.action(acts.oneEach, { key: "after" }), 1);
});

test("objects that pretend to be of the platform are errors, and their process lives", async () => {
  const waiting = client.action(acts.waits, { ms: 500 });
  assert.deepEqual(await client.action(acts.forges, {}), []);
  assert.equal(await waiting, "waited");
});

test("100 actions wait at once", async () => {
  const calls = Array.from({ length: 100 }, () => client.action(acts.waits, { ms: 8000 }));
  assert.deepEqual(await Promise.all(calls), Array(100).fill("waited"));
});

test("a host that is killed leaves no worker behind", async () => {
  const other = await serve("--push", "tests/actions");
  const calls = new ConvexHttpClient(other.url, { logger: false });
  assert.equal(await calls.action(acts.leaks, {}), 1);
  const busy = calls.action(acts.loops, {}).catch(() => "gone");
  await new Promise((resolve) => setTimeout(resolve, 500));
  const pids = children(other.child);
  assert.ok(pids.length > 0);
  other.child.kill("SIGKILL");
  assert.equal(await busy, "gone");
  const alive = (pid) => {
    try {
      return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
    } catch {
      return false;
    }
  };
  await until(() => !pids.some(alive), "the workers to end");
});
