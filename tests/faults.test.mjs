// What befalls a host from outside: it is told to end, it may not write, its clock is set back.
//
// In: the built program; signals, modes of files, a clock of tests/crash. Out: what clients get,
// what the operator reads. Invariant: no test asserts a time, and each works as root and without.
import assert from "node:assert/strict";
import {
  chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync,
  readdirSync, rmSync, unlinkSync, writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { clock, disk, folder, serve } from "./crash.mjs";
import { CONCAVE, concave, eventually, pointedAt, start, within } from "./host.mjs";
import { watch } from "./watch.mjs";

const APP = app("faults", {
  "notes.ts": `
    import { action, internalMutation, mutation, query } from "./_generated/server";
    import { api, internal } from "./_generated/api";
    export const add = mutation({ handler: async ({ db }, { text }) =>
      await db.insert("notes", { text, now: Date.now() }) });
    export const list = query({ handler: async ({ db }) => await db.query("notes").collect() });
    export const has = query({ handler: async ({ db }, { text }) =>
      (await db.query("notes").collect()).some((note) => note.text === text) });
    export const waits = action({ handler: async (ctx, { gate }) => {
      await ctx.runMutation(api.notes.add, { text: "began" });
      const said = await (await fetch(gate)).text();
      await ctx.runMutation(api.notes.add, { text: said });
      return said;
    } });
    export const later = mutation({ handler: async ({ scheduler }, { ms, text }) =>
      await scheduler.runAfter(ms, internal.notes.due, { text }) });
    export const due = internalMutation({ handler: async ({ db }, { text }) => {
      await db.insert("notes", { text, now: Date.now() });
    } });
    export const store = action({ handler: async ({ storage }, { texts }) =>
      await Promise.all(texts.map((text) => storage.store(new Blob([text])))) });
    export const load = action({ handler: async ({ storage }, { id }) =>
      await (await storage.get(id)).text() });
    const imported = String(new Date(0));
    export const zones = query(() => [imported, String(new Date(0))]);
    export const uploadUrl = mutation(({ storage }) => storage.generateUploadUrl());
    export const url = query({ handler: async ({ storage }, { id }) => storage.getUrl(id) });
    export const beat = internalMutation({ handler: async ({ db }) => {
      await db.insert("beats", {});
    } });
    export const beats = query({ handler: async ({ db }) =>
      (await db.query("beats").collect()).length });`,
  "crons.ts": `
    import { cronJobs } from "convex/server";
    import { internal } from "./_generated/api";
    const crons = cronJobs();
    crons.interval("beat", { seconds: 1 }, internal.notes.beat, {});
    export default crons;`,
});
const HOME = mkdtempSync(join(tmpdir(), "concave-faults-"));
process.on("exit", () => rmSync(HOME, { recursive: true, force: true }));
const PORTS = ["--port", "0", "--site-port", "0"];

test("SIGTERM: what runs is answered and kept, nobody new gets in, exit code 0", async (t) => {
  const data = folder();
  const host = await serve(data, ["--push", APP, "--allow-private-network"]);
  let open;
  const gate = createServer((_, response) => (open = () => response.end("the last word")));
  await new Promise((resolve) => gate.listen(0, "127.0.0.1", resolve));
  const at = `http://127.0.0.1:${gate.address().port}`;
  t.after(() => gate.close());
  const socket = new ConvexClient(host.url, { logger: false });
  t.after(() => socket.close());
  const answers = [host.client.action(api.notes.waits, { gate: at })];
  await eventually("the action waits at the gate", () => open);
  const ended = host.endsBy("SIGTERM");
  // From its word on, nobody new gets in, and the call goes on.
  const refused = async () => (await fetch(`${host.url}/version`).catch(({ cause }) => cause)).code;
  await eventually("connections are refused", refused, (code) => code === "ECONNREFUSED");
  assert.equal(host.child.exitCode, null, host.output);
  open();
  assert.deepEqual(await within("the answer", Promise.all(answers)), ["the last word"]);
  assert.equal(await ended, 0, host.output);
  const again = await serve(data);
  const texts = (await again.client.query(api.notes.list)).map(({ text }) => text);
  assert.deepEqual(texts, ["began", "the last word"]);
  assert.equal(await again.stop(), 0);
});

test("functions know UTC alone, wherever the host stands", async (t) => {
  const env = { ...process.env, NO_COLOR: "1", TZ: "Asia/Tokyo" };
  const host = await serve(folder(), ["--push", APP], { env });
  t.after(() => host.stop());
  const utc = "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)";
  assert.deepEqual(await host.client.query(api.notes.zones), [utc, utc]);
});

test("a key that was never written whole is made anew, and that of the folder stays", async (t) => {
  const data = folder();
  mkdirSync(data);
  const key = join(data, "admin-key");
  const serving = () => start(["serve", "--data", data, ...PORTS]);
  assert.equal(await (await serving()).stop(), 0);
  const first = readFileSync(key, "utf8");
  assert.match(first, /^concave\|[0-9a-f]{64}$/);
  // What a full disk, or a power cut in the middle, left behind.
  writeFileSync(key, "");
  const again = await serving();
  t.after(() => again.stop());
  const second = readFileSync(key, "utf8");
  assert.match(second, /^concave\|[0-9a-f]{64}$/);
  assert.notEqual(second, first);
  const command = ["run", "notes:list", "--url", again.url, "--admin-key", second];
  assert.match(concave(command).stderr, /Nothing is deployed yet/);
});

test("a second signal ends the wait for what runs, and that is said", async (t) => {
  const host = await serve(folder(), ["--push", APP, "--allow-private-network"]);
  let waits;
  const gate = createServer(() => (waits = true));
  await new Promise((resolve) => gate.listen(0, "127.0.0.1", resolve));
  t.after(() => gate.closeAllConnections() ?? gate.close());
  const at = `http://127.0.0.1:${gate.address().port}`;
  const cut = assert.rejects(host.client.action(api.notes.waits, { gate: at }));
  await eventually("the action waits at the gate", () => waits);
  host.child.kill("SIGTERM");
  await host.says(/for 10 seconds at most; a second signal, 100 ms later or more, ends it at once/);
  // At once it is still the first one: what comes twice, to a process and to its group.
  const again = setInterval(() => host.child.kill("SIGTERM"), 20);
  t.after(() => clearInterval(again));
  assert.equal(await within("the host ends", host.ended), 0, host.output);
  assert.match(host.output, /A second signal came: what was still running was cut off/);
  await cut;
});

test("a signal that comes twice at once is one", async (t) => {
  const host = await serve(folder(), ["--push", APP, "--allow-private-network"]);
  let waits;
  const gate = createServer((_, response) => (waits = response));
  await new Promise((resolve) => gate.listen(0, "127.0.0.1", resolve));
  t.after(() => gate.closeAllConnections() ?? gate.close());
  const at = `http://127.0.0.1:${gate.address().port}`;
  const called = host.client.action(api.notes.waits, { gate: at });
  await eventually("the action waits at the gate", () => waits);
  const stops = new RegExp("answering what is in flight");
  host.child.kill("SIGTERM");
  await host.says(stops);
  host.child.kill("SIGTERM");
  // It is answered before the host ends, or was cut off by the same signal.
  waits.end("open");
  await called;
  assert.equal(await within("the host ends", host.ended), 0, host.output);
  assert.doesNotMatch(host.output, /A second signal came/);
});

const texts = async (host) =>
  (await host.client.query(api.notes.list)).map(({ text }) => text);

/** Adds a note that cannot be kept, and gives what its caller is told. */
const refused = (host, text) =>
  host.client.mutation(api.notes.add, { text }).then(() => assert.fail("acknowledged"), String);

/** Adds a note that is kept in the end: what a failure undoes takes commits with it that came
 * before it was over, and they are told to try again. */
const insist = (host, text) => eventually(`${text} is kept`, () =>
  host.client.mutation(api.notes.add, { text }).then(() => true, (error) => {
    if (!/undone and nothing was committed/.test(error.message)) throw error;
    return false;
  }));

for (const [name, end] of [
  ["kill -9", (host) => host.crash()],
  ["SIGTERM while syncs fail", (host) => host.endsBy("SIGTERM")],
  ["SIGTERM when they work again", (host, set) => (set("0"), host.endsBy("SIGTERM"))],
]) {
  test(`what was told as undone does not come back: ${name}`, async () => {
    const data = folder();
    const { env, set } = disk(data);
    let host = await serve(data, ["--push", APP], { env });
    await host.client.mutation(api.notes.add, { text: "kept" });
    set("s");
    for (const text of ["undone", "undone too"]) {
      assert.match(await refused(host, text), /undone and nothing was committed/);
    }
    assert.deepEqual(await texts(host), ["kept"]);
    await end(host, set);
    set("0");
    host = await serve(data, [], { env });
    assert.deepEqual(await texts(host), ["kept"]);
    await host.client.mutation(api.notes.add, { text: "next" });
    await host.crash();
    host = await serve(data, [], { env });
    assert.deepEqual(await texts(host), ["kept", "next"]);
    assert.equal(await host.stop(), 0);
  });
}

test("what is acknowledged after a failure is there after a power cut, and only that", async () => {
  const data = folder();
  const { env, set } = disk(data);
  let host = await serve(data, ["--push", APP], { env });
  const kept = [];
  for (let round = 0; round < 6; round++) {
    set("s");
    assert.match(await refused(host, `undone ${round}`), /undone and nothing was committed/);
    set("0");
    await insist(host, `kept ${round}`);
    kept.push(`kept ${round}`);
    set("c");
    // The beat of the cron job is what it dies of, if not this.
    host.client.mutation(api.notes.add, { text: `cut off ${round}` }).catch(() => {});
    await within("the power cut", host.ended);
    set("0");
    host = await serve(data, [], { env });
    const there = (await texts(host)).filter((text) => !text.startsWith("cut off"));
    assert.deepEqual(there, kept);
  }
  assert.equal(await host.stop(), 0);
});

test("a limit on the size of files is told like a full disk, and survived", async () => {
  const data = folder();
  let host = await serve(data, ["--push", APP]);
  assert.equal(await host.stop(), 0);
  // In KiB: the write-ahead log reaches it.
  const limited = join(data, "../limited");
  writeFileSync(limited, `#!/bin/bash\nulimit -f 4096\nexec "${CONCAVE}" "$@"\n`, { mode: 0o755 });
  host = await serve(data, [], { program: limited });
  let count = 0;
  const full = async () => {
    for (;; count++) await host.client.mutation(api.notes.add, { text: "x".repeat(500_000) });
  };
  const told = /undone and nothing was committed: the disk failed/;
  await assert.rejects(within("the limit", full()), told);
  assert.equal((await texts(host)).length, count);
  await host.crash();
  host = await serve(data);
  assert.equal((await texts(host)).length, count);
  await host.client.mutation(api.notes.add, { text: "there is room again" });
  assert.equal(await host.stop(), 0);
});

/** A folder that everybody can look into, and how to start a host there as a user without rights:
 * this one, if not root. The program is a copy: root's build may be where no one else can go. */
function unprivileged() {
  const home = mkdtempSync(join(tmpdir(), "concave-rights-"));
  process.on("exit", () => rmSync(home, { recursive: true, force: true }));
  const program = join(home, "concave");
  copyFileSync(CONCAVE, program);
  const user = { program, cwd: home };
  if (process.getuid() === 0) Object.assign(user, { uid: 65_534, gid: 65_534 });
  const own = (path) => {
    if (user.uid !== undefined) chownSync(path, user.uid, user.gid);
  };
  chmodSync(home, 0o755);
  own(home);
  return { home, user, own };
}

test("permission denied: the folder or the file is named, and nothing is changed", async () => {
  const { home, user, own } = unprivileged();
  const tried = (data) => {
    const options = { ...user, timeout: 20_000 };
    const { status, stderr } = concave(["serve", "--data", data, ...PORTS], options);
    assert.equal(status, 1, stderr);
    return stderr;
  };
  const locked = join(home, "locked");
  mkdirSync(locked, { mode: 0o555 });
  own(locked);
  const said = tried(join(locked, "data"));
  assert.match(said, /Could not use the data folder .*locked\/data: Permission denied/);
  assert.deepEqual(readdirSync(locked), []);

  const data = join(home, "data");
  const host = await serve(data, [], user);
  const pushed = concave(["push", APP], { env: pointedAt(host) });
  assert.equal(pushed.status, 0, pushed.stderr);
  await host.client.mutation(api.notes.add, { text: "kept" });
  assert.equal(await host.stop(), 0);
  const log = join(data, "db/log.sqlite");
  for (const [path, mode, wrong] of [
    [log, 0o644, 0o000], [log, 0o644, 0o444], [join(data, "db/state.sqlite"), 0o644, 0o000],
    [join(data, "db"), 0o755, 0o555], [join(data, "db/mark"), 0o644, 0o000],
    [join(data, "LOCK"), 0o644, 0o000], [join(data, "files"), 0o755, 0o000],
  ]) {
    chmodSync(path, wrong);
    const text = tried(data);
    assert.match(text, /Could not (use|open) .*data/, path);
    assert.match(text, /[Pp]ermission denied|read-?only|unable to open/, path);
    assert.ok(!/damaged/.test(text), text);
    chmodSync(path, mode);
  }
  const again = await serve(data, [], user);
  assert.deepEqual((await again.client.query(api.notes.list)).map(({ text }) => text), ["kept"]);
  assert.equal(await again.stop(), 0);
  assert.ok(existsSync(log));
});

test("files that cannot be written: said at the start, not ready, and uploads can be tried again",
  async () => {
    const { home, user } = unprivileged();
    const data = join(home, "data");
    let host = await serve(data, [], user);
    const pushed = concave(["push", APP], { env: pointedAt(host) });
    assert.equal(pushed.status, 0, pushed.stderr);
    const ready = async () => (await fetch(`${host.url}/ready`)).status;
    const upload = async () => {
      const url = await host.client.mutation(api.notes.uploadUrl);
      return await fetch(url, { method: "POST", body: "b" });
    };
    const files = join(data, "files");
    const lock = () => chmodSync(files, 0o555);
    const unlock = () => chmodSync(files, 0o755);
    const refused = async () => {
      const answer = await upload();
      assert.equal(answer.status, 503);
      const { code, message } = await answer.json();
      assert.equal(code, "NotDurable");
      assert.match(message, /files: Permission denied.*Try again when the disk works/);
      assert.equal(await ready(), 503);
    };
    assert.equal(await ready(), 200);
    lock();
    await refused();
    await host.client.mutation(api.notes.add, { text: "what is no file is kept" });
    assert.equal(await host.stop(), 0);
    host = await serve(data, [], user);
    assert.match(host.output, /Files cannot be stored in .*files: .*Permission denied/);
    await refused();
    unlock();
    assert.equal(await ready(), 200);
    assert.equal((await upload()).status, 200);
    assert.deepEqual(readdirSync(files).filter((name) => name.startsWith("draft")), []);
    assert.equal(await host.stop(), 0);
  });

test("a stored file that the disk has changed is never given as a whole one", async (t) => {
  const data = folder();
  let host = await serve(data, ["--push", APP]);
  const large = "x".repeat(1_000_000);
  const ids = await host.client.action(api.notes.store, { texts: ["small", large] });
  assert.equal(await host.stop(), 0);
  for (const name of readdirSync(join(data, "files"))) {
    const path = join(data, "files", name);
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1] ^= 4;
    writeFileSync(path, bytes);
  }
  host = await serve(data);
  t.after(() => host.stop());
  for (const id of ids) {
    const url = await host.client.query(api.notes.url, { id });
    const whole = fetch(url).then((answer) => answer.arrayBuffer());
    await assert.rejects(within("the download", whole), /terminated|fetch failed/);
    await assert.rejects(host.client.action(api.notes.load, { id }),
      /The stored file \w+ is damaged: its bytes are not those that were stored/);
    // A part has no hash to compare; the rest of the host goes on.
    const part = await fetch(url, { headers: { range: "bytes=0-1" } });
    assert.equal((await part.arrayBuffer()).byteLength, 2);
    // Whoever downloads sees a cut; the operator sees why, once.
    await host.says(new RegExp(`the stored file ${id} was cut off: .*${id} is damaged`));
    await assert.rejects(within("again", fetch(url).then((answer) => answer.arrayBuffer())));
    assert.equal(host.output.split(`stored file ${id} was cut off`).length, 2, host.output);
  }
  const target = ["--url", host.url, "--admin-key", host.key];
  const out = join(mkdtempSync(join(tmpdir(), "concave-out-")), "out.zip");
  const exported = concave(["export", out, ...target]);
  assert.equal(exported.status, 1, exported.stderr);
  assert.match(exported.stderr, /stored file \w+ is damaged: .* Restore a backup\. .*--without/);
  await host.says(/An export was cut off, and is not whole: The stored file \w+ is damaged: /);
  assert.ok(!existsSync(out), "no file that looks whole");
  const without = concave(["export", out, "--without-files", ...target]);
  assert.equal(without.status, 0, without.stderr);
  const copy = (name, ...more) => concave(["backup", join(HOME, name), ...more, ...target]);
  const told = /stored file \w+ is damaged: .*everything but such files: .*--without-damaged-files/;
  assert.match(copy("refused").stderr, told);
  assert.ok(!existsSync(join(HOME, "refused")), "no folder that looks whole");
  // One whose bytes are gone.
  for (const name of readdirSync(join(data, "files"))) unlinkSync(join(data, "files", name));
  const gone = concave(["export", `${out}.gone.zip`, ...target]);
  assert.match(gone.stderr, /bytes of the stored file \w+ are not there.*--without-files/);
  const [kept] = await host.client.action(api.notes.store, { texts: ["whole"] });
  for (const id of ids) {
    const answer = await fetch(await host.client.query(api.notes.url, { id }));
    assert.equal(answer.status, 500);
    const text = new RegExp(`bytes of the stored file ${id} are not there, although nobody`);
    assert.match((await answer.json()).message, text);
    await assert.rejects(host.client.action(api.notes.load, { id }), text);
  }
  await host.client.mutation(api.notes.add, { text: "in the copy" });
  assert.match(copy("refused").stderr, /bytes of the stored file \w+ are not there/);
  const rest = copy("rest", "--without-damaged-files");
  assert.equal(rest.status, 0, rest.stderr);
  for (const id of ids) assert.match(rest.stderr, new RegExp(`Not in the copy: .* ${id} are not`));
  const served = await serve(join(HOME, "rest"));
  assert.deepEqual(await texts(served), ["in the copy"]);
  assert.equal(await served.client.action(api.notes.load, { id: kept }), "whole");
  assert.equal(await served.stop(), 0);
  await host.says(/An export was cut off, .*bytes of the stored file \w+ are not there/);
  await host.says(/A copy of this host goes without a stored file: .*\w+ are not there/);
});

const HOUR = 3_600;

/** The newest timestamp of a host. */
async function newest(host) {
  const { ts } = await (await fetch(`${host.url}/api/query_ts`, { method: "POST" })).json();
  return Buffer.from(ts, "base64").readBigUInt64LE();
}

test("a clock that goes back an hour, while it runs and between two starts", async (t) => {
  const data = folder();
  const { env, set } = clock();
  const times = [];
  let host = await serve(data, ["--push", APP], { env });
  const look = async () => times.push(await newest(host));
  /** Work of every kind, under a name. */
  const work = async (name) => {
    await host.client.mutation(api.notes.add, { text: `${name} written` });
    await look();
    await host.client.mutation(api.notes.later, { ms: 100, text: `${name} scheduled` });
    const text = `${name} scheduled`;
    await eventually(text, () => host.client.query(api.notes.has, { text }));
    await look();
    const beats = () => host.client.query(api.notes.beats);
    const before = await beats();
    await eventually("the cron job goes on", beats, (now) => now > before);
    await look();
  };
  const connect = () => {
    const socket = new ConvexClient(host.url, { logger: false });
    // One that stays open keeps the test process alive, also when the test has failed.
    t.after(() => socket.close());
    return socket;
  };
  let socket = connect();
  let watched = watch(socket, api.notes.has, { text: "running scheduled" });
  await watched.shows(false);
  await work("before");
  set(-HOUR);
  await socket.mutation(api.notes.add, { text: "over the socket" });
  await work("running");
  await watched.shows(true);
  await socket.close();
  await host.crash();
  set(-2 * HOUR);
  host = await serve(data, [], { env });
  await look();
  socket = connect();
  watched = watch(socket, api.notes.has, { text: "again scheduled" });
  await watched.shows(false);
  await work("again");
  await watched.shows(true);
  for (const [n, time] of times.entries()) {
    assert.ok(n === 0 || time > times[n - 1], `${times}`);
  }
  const notes = await host.client.query(api.notes.list);
  assert.equal(notes.length, 7);
  for (const [n, { _creationTime: at }] of notes.entries()) {
    assert.ok(n === 0 || at > notes[n - 1]._creationTime, JSON.stringify(notes));
  }
  // The clock was another one indeed.
  const [first, last] = [notes[0].now, notes.at(-1).now];
  assert.ok(last < first - HOUR * 1_000, `${first} ${last}`);
  assert.equal(await host.stop(), 0);
});

test("a clock beyond the year 2262: nothing is written, and the right one goes on", async () => {
  const data = folder();
  const { env, set } = clock();
  const FAR = 9_300_000_000;
  set(FAR);
  const tried = concave(["serve", "--data", folder(), ...PORTS], { env, timeout: 20_000 });
  assert.equal(tried.status, 1, tried.stderr);
  assert.match(tried.stderr, /the system's clock is wrong.*beyond the year 2262/);
  set(0);
  let host = await serve(data, ["--push", APP], { env });
  await host.client.mutation(api.notes.add, { text: "before" });
  set(FAR);
  assert.match(await refused(host, "far"), /the system's clock is wrong/);
  await host.crash();
  set(0);
  host = await serve(data, [], { env });
  await host.client.mutation(api.notes.add, { text: "after" });
  assert.deepEqual(await texts(host), ["before", "after"]);
  assert.equal(await host.stop(), 0);
});
