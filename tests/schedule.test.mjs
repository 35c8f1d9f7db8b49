// Scheduled functions and cron jobs, as an app sees them through the npm package's clients.
//
// In: the built program and tests/schedule. Out: checks of what was run, how often, and what the
// rows of `_scheduled_functions` say. Invariant: nothing here asserts how long anything takes.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { clock } from "./crash.mjs";
import { ROOT, concave, eventually, pointedAt, serve, start } from "./host.mjs";
import { until, watch } from "./watch.mjs";

const { jobs } = anyApi;
const PORTS = ["--port", "0", "--site-port", "0"];
const host = await serve("--push", "tests/schedule");
after(() => host.stop());
const http = new ConvexHttpClient(host.url);
const client = new ConvexClient(host.url);
after(() => client.close());

const run = (path, args, delay = 0) => http.mutation(jobs.after, { path, delay, args });
const ended = (watched) => until(() => watched.last()?.completedTime && watched.last());

test("a job runs after its mutation, and a live query sees it through", async (t) => {
  // However long it takes to look, the job is not due before its host's clock is set.
  const { env, set } = clock();
  const serving = ["serve", "--in-memory", ...PORTS, "--push", "tests/schedule"];
  const timed = await start(serving, { env });
  t.after(() => timed.stop());
  const [there, live] = [new ConvexHttpClient(timed.url), new ConvexClient(timed.url)];
  t.after(() => live.close());
  const given = { path: "jobs:note", args: { text: "first" }, delay: 3_600_000 };
  const id = await there.mutation(jobs.after, given);
  const row = watch(live, jobs.get, { id });
  const pending = await until(() => row.last());
  assert.equal(pending.name, "jobs.js:note");
  assert.deepEqual(pending.args, [{ text: "first" }]);
  set(3_600);
  // The host looks at the clock when something is due before.
  await there.mutation(jobs.at, { time: Date.now(), text: "overdue" });
  const done = await ended(row);
  assert.deepEqual(row.seen.map((seen) => seen.state), [{ kind: "pending" }, { kind: "success" }]);
  assert.ok(done.completedTime >= done.scheduledTime, JSON.stringify(done));
  assert.ok((await there.query(jobs.notes)).includes("first"));
});

test("runAt takes a date, and one that has passed is now", async () => {
  const time = Date.now() - 86_399_877;
  const id = await http.mutation(jobs.at, { time, text: "late" });
  const row = watch(client, jobs.get, { id });
  const done = await ended(row);
  assert.equal(done.scheduledTime, time);
  assert.deepEqual(done.state, { kind: "success" });
});

test("a mutation that fails has scheduled nothing", async () => {
  await assert.rejects(http.mutation(jobs.afterAll, { text: "never" }), /never mind/);
  const id = await run("jobs:note", { text: "behind" });
  await ended(watch(client, jobs.get, { id }));
  assert.ok(!(await http.query(jobs.notes)).includes("never"));
});

test("a canceled job does not run; what has ended stays as it is", async () => {
  const id = await run("jobs:note", { text: "canceled" }, 3_600_000);
  const row = watch(client, jobs.get, { id });
  await http.mutation(jobs.cancel, { id });
  assert.deepEqual((await ended(row)).state, { kind: "canceled" });
  const ran = await run("jobs:note", { text: "ran" });
  const before = await ended(watch(client, jobs.get, { id: ran }));
  await http.mutation(jobs.cancel, { id: ran });
  assert.deepEqual(await http.query(jobs.get, { id: ran }), before);
  const stranger = http.mutation(jobs.cancel, { id: "nonsense" });
  await assert.rejects(stranger, /Invalid argument `id` for `scheduler.cancel`/);
});

test("a job that throws has failed, with its error, and has written nothing", async () => {
  const id = await run("jobs:fail", { text: "luck" });
  const { state } = await ended(watch(client, jobs.get, { id }));
  assert.equal(state.kind, "failed");
  assert.match(state.error, /^Uncaught Error: no luck today\n +at handler \(.*\/jobs\.ts:\d+/);
  assert.ok(!(await http.query(jobs.notes)).includes("luck"));
});

test("a job sees itself in progress, is nobody, and cannot cancel itself", async () => {
  const id = await run("jobs:look", {});
  assert.deepEqual((await ended(watch(client, jobs.get, { id }))).state, { kind: "success" });
  const notes = await http.query(jobs.notes);
  assert.ok(notes.includes("inProgress null A mutation cannot cancel itself"), notes.join("\n"));
});

test("actions are scheduled, schedule, and fail", async () => {
  const id = await run("jobs:relay", { text: "relayed" });
  assert.deepEqual((await ended(watch(client, jobs.get, { id }))).state, { kind: "success" });
  await watch(client, jobs.planned, { start: "relayed" }).shows(["relayed: success"]);
  assert.deepEqual(await http.query(jobs.planned, { start: "never" }), ["never: canceled"]);
  const broken = await run("jobs:explode", {});
  const { state } = await ended(watch(client, jobs.get, { id: broken }));
  assert.match(state.error, /^Uncaught Error: out there\n +at handler \(.*convex\/jobs\.ts:\d+/);
});

test("a canceled action runs on, but what it schedules does not", async () => {
  const id = await run("jobs:linger", { gate: "gate" });
  const notes = watch(client, jobs.notes, {});
  await until(() => notes.last()?.includes("gate began"));
  assert.deepEqual((await http.query(jobs.get, { id })).state, { kind: "inProgress" });
  await http.mutation(jobs.cancel, { id });
  await http.mutation(jobs.bump, { name: "gate" });
  await until(() => notes.last().includes("gate ended"));
  const planned = await http.query(jobs.planned, { start: "gate" });
  assert.deepEqual(planned, ["gate itself: canceled", "gate through a mutation: canceled"]);
  assert.deepEqual((await http.query(jobs.get, { id })).state, { kind: "canceled" });
});

test("what cannot be scheduled is refused with the reason", async () => {
  const refused = (path, delay, pattern) => assert.rejects(run(path, {}, delay), pattern);
  await refused("nowhere:note", 0, /to schedule function at nonexistent path: nowhere:note/);
  await refused("jobs:nothing", 0, /no exported function nothing found in the file: jobs\.js/);
  await refused("jobs:note", 1e13, /more than five years from now/);
  const many = { path: "jobs:note", args: { text: "x" }, times: 1001, delay: 0 };
  const tooMany = /Too many functions scheduled by this mutation \(limit: 1000\)/;
  await assert.rejects(http.mutation(jobs.many, many), tooMany);
  const query = await run("jobs:peek", {});
  const { state } = await ended(watch(client, jobs.get, { id: query }));
  assert.match(state.error, /^Unsupported function type: jobs:peek is a query/);
  const wrong = await run("jobs:note", { text: 7 });
  const failed = await ended(watch(client, jobs.get, { id: wrong }));
  assert.match(failed.state.error, /^ArgumentValidationError/);
});

test("jobs and clients that add to one counter lose nothing", async () => {
  const args = { name: "contended" };
  await http.mutation(jobs.many, { path: "jobs:bump", args, times: 300, delay: 0 });
  const clients = Array.from({ length: 100 }, () => new ConvexHttpClient(host.url));
  await Promise.all(clients.map((client) => client.mutation(jobs.bump, args)));
  await watch(client, jobs.count, args).shows(400);
});

test("ten thousand due jobs drain, and clients do not wait for them", async () => {
  const due = Date.now() + 2_000;
  for (let batch = 0; batch < 10; batch++) {
    const args = { name: `shard ${batch}` };
    const delay = Math.max(0, due - Date.now());
    await http.mutation(jobs.many, { path: "jobs:bump", args, times: 1000, delay });
  }
  const total = async () => {
    const shards = Array.from({ length: 10 }, (_, n) => ({ name: `shard ${n}` }));
    const counts = await Promise.all(shards.map((args) => http.query(jobs.count, args)));
    return counts.reduce((sum, count) => sum + count, 0);
  };
  await eventually("the first of the jobs", total);
  for (let ping = 1; ping <= 30; ping++) await http.mutation(jobs.bump, { name: "interactive" });
  const drained = await total();
  assert.ok(drained < 9_000, `30 calls one after the other took as long as ${drained} jobs`);
  for (let done = drained; done < 10_000; ) {
    done = await eventually("more jobs are done", total, (now) => now > done);
  }
  assert.equal(await http.query(jobs.count, { name: "interactive" }), 30);
  assert.equal(await total(), 10_000);
});

/** A copy of the app with these cron jobs. */
function withCrons(source) {
  const folder = mkdtempSync(join(tmpdir(), "concave-crons-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(ROOT, "tests/schedule"), folder, { recursive: true });
  symlinkSync(join(ROOT, "tests/node_modules"), join(folder, "node_modules"));
  const head = `import { anyApi, cronJobs } from "convex/server";\nconst crons = cronJobs();\n`;
  writeFileSync(join(folder, "convex/crons.ts"), `${head}${source}\nexport default crons;\n`);
  return folder;
}

test("cron jobs run from the push on, again and again, and show on the terminal", async (t) => {
  const folder = withCrons(`
crons.interval("tick", { seconds: 1 }, anyApi.jobs.bump, { name: "ticks" });
crons.daily("nightly", { hourUTC: 3, minuteUTC: 30 }, anyApi.jobs.bump, { name: "nights" });
crons.interval("acts", { seconds: 1 }, anyApi.jobs.relay, { text: "by cron" });
crons.interval("fails", { hours: 1 }, anyApi.jobs.fail, { text: "cron" });`);
  const dev = await start(["dev", folder, ...PORTS]);
  t.after(() => dev.stop());
  const ticks = new ConvexClient(dev.url);
  t.after(() => ticks.close());
  const counted = watch(ticks, jobs.count, { name: "ticks" });
  await until(() => counted.last() >= 3);
  const acted = watch(ticks, jobs.planned, { start: "by cron" });
  await until(() => acted.last()?.length >= 2);
  await dev.says(/mutation jobs:bump .* cron job/);
  assert.deepEqual(await new ConvexHttpClient(dev.url).query(jobs.hidden), []);
  const table = () => {
    const shown = concave(["data", "_cron_jobs", "--jsonl"], { cwd: folder });
    assert.equal(shown.status, 0, shown.stderr);
    return shown.stdout.trim().split("\n").map((line) => JSON.parse(line));
  };
  const ran = (rows) => rows.filter(({ lastRun }) => lastRun).length === 3;
  const rows = await eventually("all have run but the one for the night", table, ran);
  const row = (name) => rows.find((row) => row.name === name);
  assert.deepEqual(row("tick").lastRun.state, { kind: "success" });
  // Seconds that a host was too late for are left out.
  const gap = row("tick").nextRun - row("tick").prevRun;
  assert.ok(gap >= 1000 && gap % 1000 === 0, `${gap}`);
  assert.match(row("fails").lastRun.state.error, /no cron today/);
  assert.equal(new Date(row("nightly").nextRun).toISOString().slice(11), "03:30:00.000Z");
  assert.equal(row("nightly").prevRun, undefined);
});

test("cron jobs that could not run stop the push, with the cure", async () => {
  const push = (source) => {
    const pushed = concave(["push", withCrons(source)], { env: pointedAt(host) });
    assert.notEqual(pushed.status, 0, pushed.stdout);
    return pushed.stderr;
  };
  const typo = push(`crons.cron("nightly", "0 25 * * *", anyApi.jobs.bump, { name: "x" });`);
  assert.match(typo, /"nightly".*"0 25 \* \* \*".*character 3, "25" is no hour: 0 to 23/s);
  const gone = push(`crons.hourly("gone", anyApi.jobs.gone);`);
  assert.match(gone, /The cron job 'gone' schedules a function that does not exist: jobs:gone/);
  const query = push(`crons.hourly("peeks", anyApi.jobs.peek);`);
  assert.match(query, /'peeks' schedules the query jobs:peek/);
});
