// Modules with "use node" end to end: npm's unmodified clients, the built program, Node, npm.
//
// In: the built program and tests/node, whose package `is-odd` npm installs on the host. Out:
// checks of results, errors and processes. Invariant: whatever a function does to its process, the
// host answers, names the function and the cure, and the next call works.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync,
  statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTcpServer } from "node:net";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ConvexError } from "convex/values";
import { isPublic } from "../js/node/addresses.mjs";
import { Streams } from "../js/node/streams.mjs";
import { answers } from "./answers.mjs";
import { KEY, ROOT, concave, eventually, pointedAt, serve, start, within } from "./host.mjs";
import { until } from "./watch.mjs";
import { deaf } from "./web/server.js";

const APP = join(ROOT, "tests/node");
/** What `packages` gives. */
const PACKAGES = [true, false, 172_800_000, "20 is shared"];
const { rows } = anyApi;
const { work } = anyApi.deep;
const host = await serve("--push", "tests/node");
after(() => host.stop());
const client = new ConvexHttpClient(host.url, { logger: false });

const { answer, error } = answers(host, "deep/work");

const lives = (pid) => existsSync(`/proc/${pid}`)
  && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));

/** A folder of its own, gone with this process. */
function folder(name) {
  const made = mkdtempSync(join(tmpdir(), `concave-${name}-`));
  process.on("exit", () => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** A copy of the app that a test may change; with `packages`, its own node_modules. */
function copy(files = {}, packages = undefined) {
  const made = folder("node-app");
  const filter = (path) => !path.includes("node_modules") && !path.includes("_generated");
  cpSync(APP, made, { recursive: true, filter });
  const modules = join(made, "node_modules");
  if (packages === undefined) symlinkSync(join(APP, "node_modules"), modules);
  else {
    mkdirSync(modules);
    for (const name of readdirSync(join(APP, "node_modules"))) {
      if (!(name in packages)) symlinkSync(join(APP, "node_modules", name), join(modules, name));
    }
    for (const [name, json] of Object.entries(packages)) {
      mkdirSync(join(modules, name));
      writeFileSync(join(modules, name, "package.json"), JSON.stringify({ name, ...json }));
      writeFileSync(join(modules, name, "index.js"), "");
    }
  }
  for (const [path, text] of Object.entries(files)) writeFileSync(join(made, path), text);
  return made;
}

/** What a push that must fail prints. */
function refusal(app, to = host) {
  const pushed = concave(["push", app], { env: pointedAt(to) });
  assert.equal(pushed.status, 1, pushed.stdout + pushed.stderr);
  return pushed.stderr;
}

test("what only Node has: crypto, Buffer, its own files", async () => {
  const hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  const expected = { hash, text: "hello", own: true, node: true };
  assert.deepEqual(await client.action(work.builtins, {}), expected);
});

test("packages: external ones, bundled ones, Automerge as it is imported anywhere", async () => {
  assert.deepEqual(await client.action(work.packages, {}), PACKAGES);
  assert.deepEqual(await client.action(work.automerge, {}), ["c", "a", "b"]);
});

test("a Node action calls functions of the default runtime, and they call it", async () => {
  const value = { list: [1, "two", 3n, null], bytes: new Uint8Array([1, 2]).buffer };
  assert.deepEqual(await client.action(work.roundTrip, { key: "k", value }), [value]);
  assert.deepEqual((await answer("roundTrip", { key: "l", value: 5 })).logLines, [
    "[LOG] 'before' { key: 'l' }",
    "[INFO] 'putting' 'l'",
    "[LOG] 'after' Map(1) { 'seen' => [ 5 ] }",
  ]);
  await assert.rejects(client.action(work.echo, { value: 1 }), /Could not find public function/);
  const wrong = client.action(work.roundTrip, { key: 1, value: 1 });
  await assert.rejects(wrong, /ArgumentValidationError/);
});

test("the scheduler, identity and files are there", async () => {
  assert.equal(await client.action(work.schedules, { key: "s" }), true);
  let seen = [];
  await until(() => {
    client.query(rows.seen, { key: "s" }).then((found) => (seen = found));
    return seen.length > 0;
  });
  assert.deepEqual(seen, ["scheduled"]);
  // Larger than what may be under way at a time.
  const stored = [true, "text/x-test", 700_000, null];
  assert.deepEqual(await client.action(work.stores, { bytes: 700_000 }), stored);
});

test("console lines are Convex's, long ones cut", async () => {
  const { logLines } = await answer("levels");
  assert.deepEqual(logLines.slice(0, 3), ["[DEBUG] 'd'", "[WARN] 'w' [ 1, { a: { b: [Object] } } ]",
    "[ERROR] 'e'"]);
  assert.match(logLines[3], /^\[LOG\] ┌─+┬─+┐\n│ \(index\)/);
  assert.match(logLines[4], /é \(truncated due to length\)$/);
});

test("groups, timers and counts are the default runtime's, and end with their run", async () => {
  const lines = [
    "[INFO] t: _ms 'x'", "[INFO] t: _ms", "[WARN] Timer 't' does not exist", "[LOG] 'g'",
    "[LOG]   'in'", "[WARN]     'deeper' { a: 1 }", "[ERROR]   Assertion failed: 'as'",
    "[LOG] default: 1", "[LOG] default: 2", "[LOG] 'open'"];
  for (let times = 0; times < 2; times++) {
    const { logLines } = await answer("consoles");
    assert.deepEqual(logLines.map((line) => line.replace(/\b\d+ms/, "_ms")), lines);
  }
});

test("what is written to the standard streams is logged, a line each", async () => {
  for (let times = 0; times < 2; times++) {
    const { logLines } = await answer("streams");
    assert.deepEqual(logLines, ["[LOG] one", "[ERROR] wrong", "[LOG] two \u20ac", "[LOG] left"]);
  }
});

test("the stacks that are logged are the author's", async () => {
  const source = readFileSync(join(APP, "convex/deep/work.ts"), "utf8").split("\n");
  const frame = (text) => `\n    at <anonymous> (../convex/deep/work.ts:${
    source.findIndex((found) => found.includes(text)) + 1}:_)`;
  const { logLines } = await answer("traces");
  assert.deepEqual(logLines.map((line) => line.replaceAll(/:\d+\)/g, ":_)")), [
    `[LOG] 'here' 1 Trace${frame("console.trace")}`,
    `[LOG] Error: logged${frame("new Error(\"logged")} {\n  code: 5\n}`,
  ]);
});

test("errors name the author's lines, whatever ended the function", async () => {
  const source = readFileSync(join(APP, "convex/deep/work.ts"), "utf8").split("\n");
  const at = (text) => {
    const line = source.findIndex((found) => found.includes(text)) + 1;
    return new RegExp(`\\(../convex/deep/work.ts:${line}:\\d+\\)$`);
  };
  const thrown = (await error("throws")).trimEnd().split("\n");
  assert.equal(thrown.length, 3, thrown.join("\n"));
  assert.equal(thrown[0], "Uncaught RangeError: from inside");
  assert.match(thrown[1], at("from inside"));
  assert.match(thrown[2], at("  inner();"));

  const exits = (await error("exits")).trimEnd().split("\n");
  assert.match(exits[0], /^deep\/work:exits called process\.exit\(3\), .* throw an error, inst/);
  assert.match(exits[1], at("process.exit(3)"));

  const aborts = (await error("aborts")).trimEnd().split("\n");
  assert.match(aborts[0], /^deep\/work:aborts called process\.abort\(\), which ended its process/);
  assert.match(aborts[1], at("process.abort()"));

  const rejects = (await error("rejects")).trimEnd().split("\n");
  assert.equal(rejects[0], "Uncaught TypeError: nobody caught it");
  assert.match(rejects[1], /deep\/work:rejects .* Await it, or give it a `catch`\.$/);
  assert.match(rejects[2], at("nobody caught it"));

  const late = (await error("late")).trimEnd().split("\n");
  assert.equal(late[0], "Uncaught Error: from a timer");
  assert.match(late[1], /deep\/work:late's own calls, in a timer/);
  assert.match(late[2], at("from a timer"));
  assert.match(await error("never"), /^Returned promise will never resolve: deep\/work:never /);
  assert.equal(await client.action(work.counts, {}) > 0, true, "the next call works");
});

test("a ConvexError keeps its data, out of Node and into it", async () => {
  await assert.rejects(client.action(work.throwsData, {}), (caught) => {
    assert.ok(caught instanceof ConvexError);
    assert.deepEqual(caught.data, { code: "mine", big: 3n });
    return true;
  });
  const data = { code: "full", big: 2n ** 60n };
  assert.deepEqual(await client.action(work.rethrows, {}), { isConvexError: true, data });
});

test("a process is used again after a clean end, and only then", async () => {
  const first = await client.action(work.pid, {});
  assert.equal(await client.action(work.pid, {}), first);
  await error("throws");
  assert.equal(await client.action(work.pid, {}), first, "an error is a clean end too");
  const { value, logLines } = await answer("dangles");
  // Its interval may go off once more before it has ended.
  const [warning] = logLines.filter((line) => line !== "[LOG] 'a ghost'");
  assert.match(warning, /^\[WARN\] 1 unawaited operation: \[runAction\]\. Async operations/);
  assert.notEqual(await client.action(work.pid, {}), value);
  await until(() => !lives(value), "the process that may still be busy ends");
  assert.deepEqual((await answer("pid")).logLines ?? [], [], "no ghost speaks");
});

test("a module that is imported meanwhile is not taken for what a run left", async (t) => {
  const slow = '"use node";\nawait new Promise((resolve) => setTimeout(resolve, 700));\n'
    + 'import { actionGeneric as action } from "convex/server";\n'
    + "export const ready = action(async () => true);\n";
  const other = await serve("--push", copy({ "convex/zz_slow.ts": slow }));
  t.after(() => other.stop());
  const there = new ConvexHttpClient(other.url, { logger: false });
  // The process that looked at the modules has imported them.
  const socket = new ConvexClient(other.url, { logger: false });
  t.after(() => socket.close());
  const waits = socket.action(work.waits, { gate: "alone" });
  const seen = () => there.query(rows.seen, { key: "alone" });
  await eventually("the action runs", seen, (rows) => rows.length > 0);
  const first = await there.action(work.pid, {});
  assert.equal(await there.action(work.pid, {}), first);
  await there.mutation(rows.open, { gate: "alone" });
  assert.notEqual(await waits, first);
});

test("eight at once are eight processes; one that is killed ends its own call only", async () => {
  const socket = new ConvexClient(host.url, { logger: false });
  const gate = "eight";
  const calls = Array.from({ length: 8 }, () => socket.action(work.waits, { gate }));
  const settled = Promise.allSettled(calls);
  const waiting = () => client.query(rows.seen, { key: gate });
  // However long their processes take to start: none ends before the last one is there.
  const pids = await eventually("eight that wait", waiting, (found) => found.length === 8);
  assert.equal(new Set(pids).size, 8);
  process.kill(pids[3], "SIGKILL");
  await client.mutation(rows.open, { gate });
  const ends = await settled;
  const failed = ends.filter((end) => end.status === "rejected");
  assert.equal(failed.length, 1);
  const { message } = failed[0].reason;
  assert.match(message, /The process that ran deep\/work:waits ended: signal: 9 .*not run again/);
  await socket.close();
});

test("a process that is given two runs at once ends, and neither is given an end", async () => {
  const made = folder("executor");
  writeFileSync(join(made, "m.mjs"), `const action = (invokeAction) => ({ invokeAction });
export const waits = action(() => new Promise(() => setInterval(() => {}, 1_000)));
export const returns = action(async () => '"second"');
`);
  for (const type of ["run", "analyze"]) {
    const child = spawn(process.execPath, [join(ROOT, "js/node/executor.mjs")],
      { env: { TMPDIR: made }, stdio: ["ignore", "ignore", "pipe", "pipe"] });
    const [, , words, socket] = child.stdio;
    let [said, last] = ["", ""];
    socket.on("data", (bytes) => (said += bytes));
    words.on("data", (bytes) => (last += bytes));
    const say = (head, tail = "") => {
      const [text, bytes] = [Buffer.from(JSON.stringify(head)), Buffer.from(tail)];
      const lengths = Buffer.alloc(8);
      lengths.writeUInt32LE(4 + text.length + bytes.length, 0);
      lengths.writeUInt32LE(text.length, 4);
      socket.write(Buffer.concat([lengths, text, bytes]));
    };
    const limits = { log_lines: 10, log_line_bytes: 100 };
    const job = { module: "m.mjs", request_id: "", timeout_ms: 60_000, modules: ["m.mjs"] };
    say({ type: "deploy", folder: made, network: {}, limits });
    say({ type: "run", run: 1, export: "waits", ...job }, "[]");
    say({ type, run: 2, export: "returns", ...job }, "[]");
    const code = await within("the process ends", new Promise((resolve) =>
      child.on("close", resolve)));
    assert.equal(code, 1);
    assert.equal(last, `the host broke the protocol: it said ${type} while m.mjs:waits was `
      + "running\n");
    assert.ok(said.includes("ready") && !said.includes("done"), said);
  }
});

test("memory without end ends its process, not the host", async () => {
  assert.match(await error("eats"), /ran deep\/work:eats ended: .*JavaScript heap out of memory/);
  assert.equal((await answer("pid")).status, "success");
});

test("the environment is the deployment's, and no more", async () => {
  // The last is the process's own.
  const known = ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL", "TMPDIR"];
  assert.deepEqual(await client.action(work.variables, {}), known);
  const set = await fetch(`${host.url}/api/update_environment_variables`, {
    method: "POST",
    headers: { authorization: `Convex ${host.key}`, "content-type": "application/json" },
    body: JSON.stringify({ changes: [{ name: "SECRET", value: "s" }] }),
  });
  assert.equal(set.status, 200);
  assert.deepEqual(await client.action(work.variables, {}), [...known, "SECRET"].sort());
});

test("the host's files and programs are out of reach", async () => {
  for (const what of ["write", "write far", "list", "read", "spawn"]) {
    const [first, cure, frame] = (await error("forbidden", { what })).split("\n");
    assert.match(first, /^Uncaught Error: Access .* restricted$/);
    assert.match(cure, /writes no other files .* Use ctx\.storage for files that are to last\.$/);
    assert.match(frame, /work\.ts/);
  }
  const missing = await error("forbidden", { what: "package" });
  assert.match(missing, /'not-installed' .*\nnot-installed is not part of the deployment: inst/);
  assert.ok(!missing.includes(tmpdir()), missing);
});

test("a process has a folder for files, which each run finds empty", async () => {
  const first = await client.action(work.files, { text: "first" });
  const { pid, folder: temporary, ...rest } = first;
  const kept = { before: ["import-"], variable: true, most: "EFBIG" };
  assert.deepEqual(rest, { ...kept, read: ["first", "first"] });
  assert.equal(statSync(temporary).mode & 0o777, 0o700);
  assert.equal(readdirSync(temporary).length, 1, "it is emptied as the run ends");
  const again = await client.action(work.files, { text: "again" });
  assert.deepEqual(again, { ...first, read: ["again", "again"] });
  // Another process has another folder.
  assert.match(await error("exits"), /process\.exit\(3\)/);
  await eventually("its folder is gone", () => existsSync(temporary), (found) => !found);
  const other = await client.action(work.files, { text: "other" });
  assert.notEqual(other.folder, temporary);
  assert.deepEqual(other.before, kept.before);
  process.kill(other.pid, "SIGKILL");
  await eventually("its folder is gone", () => existsSync(other.folder), (found) => !found);
});

test("private addresses are out of reach, whatever client asks", async () => {
  const server = createServer((_request, response) => response.end("hello"));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const path = join(folder("node-socket"), "s");
  const local = createServer();
  await new Promise((resolve) => local.listen(path, resolve));
  const { port } = server.address();
  const CURE = / is not a public address\. Actions reach .*--allow-private-network\.$/;
  for (const name of ["127.0.0.1", "localhost"]) {
    const found = await client.action(work.reaches, { host: name, port, path });
    for (const [how, text] of Object.entries(found)) {
      if (how === "handle") assert.equal(text, -constants.errno.EACCES);
      else assert.match(text, CURE, how);
    }
    assert.match(found.net, new RegExp(`^${name} is (127\\.0\\.0\\.1|::1), which`));
    assert.match(found.lookup, /^example\.com is /);
    const [first, frame] = (await error("fetches", { url: `http://${name}:${port}/?key` }))
      .split("\n");
    assert.match(first, CURE);
    assert.match(first, new RegExp(`^Uncaught TypeError: Could not fetch http://${name}:${port}/`
      + `\\?\\.\\.\\.: ${name} is `));
    assert.match(frame, /work\.ts/);
  }
  // The host itself is its deployment's own.
  assert.match(await client.action(work.fetches, { url: `${host.url}/version` }), /./);
  const open = await serve("--push", "tests/node", "--allow-private-network");
  const there = new ConvexHttpClient(open.url, { logger: false });
  assert.equal(await there.action(work.fetches, { url: `http://127.0.0.1:${port}/` }), "hello");
  assert.deepEqual(await there.action(work.reaches, { host: "localhost", port, path }), {
    net: "connected", lookup: "connected", path: "connected", http: "answered", dgram: "sent",
    handle: -constants.errno.EBADF, servers: "set",
  });
  await open.stop();
  for (const listening of [server, local]) {
    listening.closeAllConnections();
    listening.close();
  }
});

test("Node's rule of what is public is the default runtime's", () => {
  const source = readFileSync(join(ROOT, "runtime/actions/src/network.rs"), "utf8");
  const list = (name) => [...new RegExp(`let ${name} = \\[([^\\]]+)\\]`).exec(source)[1]
    .matchAll(/"([^"]+)"/g)].map(([, address]) => address);
  assert.ok(list("public").length > 5 && list("special").length > 20);
  for (const address of list("public")) assert.equal(isPublic(address), true, address);
  const strange = ["", "1.1.1", "1.1.1.1.", "01.1.1.1111", "1.1.1.256", "2001:4860::8888%1", "::g",
    "2001:4860:::1", ":2001:4860::1", "2001:4860:1:1:1:1:1", "2001:4860::1:1:1:1:1:1:1",
    "2001:4860::1:", "localhost", undefined, { toString: () => "1.1.1.1" }];
  for (const address of [...list("special"), ...strange]) {
    assert.equal(isPublic(address), false, String(address));
  }
  const odd = ["2001:4860:4860:0:0:0:0:8888", "2606:4700:1:2:3:4:5::", "::ffff:1.1.1.1"];
  for (const address of odd) {
    assert.equal(isPublic(address), true, address);
  }
});

test("a request that fails says where, why and what to do", async () => {
  const hangup = createServer((request) => request.socket.destroy());
  const odd = createTcpServer((socket) => socket.end("SSH-2.0-x\r\n"));
  for (const server of [hangup, odd]) {
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  }
  const open = await serve("--push", "tests/node", "--allow-private-network");
  const there = new ConvexHttpClient(open.url, { logger: false });
  const says = async (url, wanted) => {
    const answered = there.action(work.fetches, { url });
    const caught = await answered.then(() => "nothing", ({ message }) => message);
    const said = `Could not fetch ${url}: `;
    assert.ok(caught.includes(`\nUncaught TypeError: fetch failed: ${said}`), caught);
    assert.match(caught, wanted);
    // Code that tries again looks for Node's own text; the rest is in the cause.
    const [isTypeError, message, isError, reason, code] = await there.action(work.cause, { url });
    assert.deepEqual([isTypeError, message, isError], [true, "fetch failed", true]);
    assert.ok(reason.startsWith(said), reason);
    assert.match(reason, wanted);
    assert.match(code, /^[A-Z_]+$/);
  };
  const at = (server) => `127.0.0.1:${server.address().port}`;
  const closed = await deaf();
  const nobody = new URL(closed.url).host;
  await says(`http://${nobody}/`,
    new RegExp(`: ${nobody}: connection refused\\. Nothing listens there: check the port, or`));
  await says("http://nobody.invalid/", /nobody\.invalid could not be found: .* Check the name/);
  await says(`http://${at(hangup)}/`, /the server closed the connection \(.*\)\. Try again later/);
  await says(`http://${at(odd)}/`, /what came back is no HTTP \(.*Check that a web server/);
  await says(`https://${at(hangup)}/`, /TLS failed: .*|the server closed the connection/);
  const cut = createTcpServer((socket) => {
    socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbody"));
  });
  await new Promise((resolve) => cut.listen(0, "127.0.0.1", resolve));
  const broken = { url: `http://${at(cut)}/` };
  await assert.rejects(there.action(work.fetches, broken),
    /\nUncaught TypeError: terminated: The body broke off: the server closed the connection \(/);
  const caught = await there.action(work.cause, broken);
  assert.deepEqual(caught.slice(0, 3), [true, "terminated", true]);
  await open.stop();
  closed.stop();
  for (const server of [hangup, odd, cut]) server.close();
});

test("other processes are out of reach: the host least of all", async () => {
  for (const what of ["kill", "kill all", "priority"]) {
    const [first, cure, frame] = (await error("forbidden", { what })).split("\n");
    assert.match(first, /^Uncaught (System)?Error: .*EPERM/);
    assert.match(cure, /own process \(process\.pid\) only: other processes .* out of its reach/);
    assert.match(frame, /work\.ts/);
  }
  assert.equal(lives(host.child.pid), true);
  assert.equal((await answer("pid")).status, "success");
});

test("pushes that cannot run are refused with the cure, and what ran goes on", async () => {
  const query = '"use node";\nimport { queryGeneric as query } from "convex/server";\n'
    + "export const wrong = query(async () => 1);\n";
  assert.match(refusal(copy({ "convex/wrong.ts": query })),
    /`wrong` defined in `wrong\.js` is a Query function\. Only actions can be defined in Node/);
  const throwing = '"use node";\nimport { hostname } from "node:os";\n\n'
    + 'throw new Error(typeof hostname);\n';
  const thrown = refusal(copy({ "convex/throwing.ts": throwing }));
  assert.match(thrown, /Failed to analyze throwing\.js: Uncaught Error: function\n/);
  assert.match(thrown, /\n    at .*\.\.\/convex\/throwing\.ts:4:7/);
  assert.match(refusal(copy({}, { "is-odd": { version: "99.0.0" } })),
    /registry does not have is-odd@99\.0\.0, which node\.externalPackages of convex\.json ask/);
  assert.equal((await answer("pid")).status, "success");
});

test("no Node, no npm, no registry: each is said", async () => {
  const env = { ...process.env, XDG_CACHE_HOME: folder("node-cache") };
  const none = await serve("--node", "/nowhere/node");
  assert.match(refusal(APP, none), /"\/nowhere\/node" could not be started as Node.*--node PATH/);
  await none.stop();
  const alone = folder("node-alone");
  symlinkSync(process.execPath, join(alone, "node"));
  const args = ["serve", "--in-memory", "--port", "0", "--site-port", "0", "--admin-key", KEY];
  const poor = await start(args, { env: { ...env, PATH: alone } });
  assert.match(refusal(APP, poor), /there is no `npm` beside its Node\.js or on its PATH\. Inst/);
  await poor.stop();
  const nobody = "http://127.0.0.1:9/";
  const offline = await start(args, { env: { ...env, npm_config_registry: nobody } });
  assert.match(refusal(APP, offline), /could not reach the npm registry to install .*is-odd@3/);
  await offline.stop();
});

test("npm's own command line deploys Node modules", async () => {
  const external = { node: { externalPackages: ["is-odd", "@automerge/automerge"] } };
  const app = copy({ "convex.json": JSON.stringify(external) });
  const other = await serve();
  const { CONVEX_SELF_HOSTED_URL, CONVEX_SELF_HOSTED_ADMIN_KEY, ...env } = pointedAt(other);
  const cli = join(app, "node_modules/convex/bin/main.js");
  const flags = ["--url", other.url, "--admin-key", other.key, "--typecheck", "disable"];
  execFileSync(process.execPath, [cli, "deploy", ...flags],
    { cwd: app, env: { ...env, CI: "1" }, stdio: "pipe" });
  const there = new ConvexHttpClient(other.url, { logger: false });
  assert.deepEqual(await there.action(work.automerge, {}), ["c", "a", "b"]);
  assert.deepEqual(await there.action(work.packages, {}), PACKAGES);
  await other.stop();
});

test("no process and no folder outlives its host, whatever a function does", async () => {
  const other = await serve("--push", "tests/node");
  const there = new ConvexHttpClient(other.url, { logger: false });
  const call = there.action(work.loops, {}).catch(() => {});
  let pid;
  await until(() => {
    there.query(rows.seen, { key: "loops" }).then(([found]) => (pid = found), () => {});
    return pid !== undefined;
  });
  assert.ok(lives(pid));
  const folders = () => readdirSync(tmpdir()).filter((name) =>
    name.startsWith(`concave-node-${other.child.pid}-`));
  assert.equal(folders().length, 1);
  other.child.kill("SIGKILL");
  await until(() => !lives(pid), "it loops for a host that is gone");
  await call;
  const next = await serve();
  await until(() => folders().length === 0, "the next host sweeps");
  await next.stop();
});

test("a run has no more streams than its numbers are, and none of the next run's", () => {
  const streams = new Streams(7, () => {});
  for (let n = 0; n < 2 ** 20; n++) {
    const stream = streams.open();
    if (Math.floor(stream / 2 ** 20) !== 7) assert.fail(`${stream} is another run's`);
    streams.takeIn({ event: "stop", stream });
  }
  assert.throws(() => streams.open(), /Too many streams: an action may send 1048576 bodies/);
  assert.equal(new Streams(8, () => {}).open(), 8 * 2 ** 20);
});
