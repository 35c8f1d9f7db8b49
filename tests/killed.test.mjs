// Processes that are killed with work under way: who is told what, and what runs again.
//
// In: the built program, tests/site and tests/schedule; `kill -9` of workers and of the host. Out:
// what callers get, what the rows of `_scheduled_functions` say. Invariant: nothing waits for a
// time; an action has run at most once, a mutation exactly once, whatever was killed.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { app } from "./app.mjs";
import { eventually, killChildren, serve, start, within } from "./host.mjs";

const { jobs, notes } = anyApi;
const killWorkers = (host) => killChildren(host.child);
const connect = (host) => new ConvexHttpClient(host.url, { logger: false });

test("an HTTP action's process: an error before the response, a cut in the middle", async () => {
  const host = await serve("--push", "tests/site");
  const [, site] = await host.says(/HTTP actions (http:\S+)/);
  const client = connect(host);
  const noted = (text) => eventually(text, () => client.query(notes.has, { text }));

  const waiting = fetch(`${site}/signal?name=killed`);
  await noted("killed began");
  killWorkers(host);
  const response = await waiting;
  assert.equal(response.status, 500);
  const { code } = await response.json();
  assert.match(code, /Error: The process that ran GET \/signal ended: signal: 9 \(SIGKILL\)/);
  assert.match(code, /may have done a part of its work; it is not run again by itself/);

  const asked = new Promise((resolve) => get(`${site}/leave?name=cut`, resolve));
  const cut = await within("the response begins", asked);
  await within("its first piece", new Promise((resolve) => cut.once("data", resolve)));
  const broken = new Promise((resolve) => cut.on("error", resolve).on("end", resolve));
  killWorkers(host);
  const end = await within("its end", broken);
  assert.equal(end?.code, "ECONNRESET", "a response that is cut does not look whole");
  assert.equal(await client.query(notes.has, { text: "cut finished" }), false);

  assert.equal(await (await fetch(`${site}/hello`)).text(), "hello");
  await host.stop();
});

/** Schedules an action and waits until it runs. */
async function lingering(client, gate) {
  const given = { path: "jobs:linger", delay: 0, args: { gate } };
  const id = await client.mutation(jobs.after, given);
  const noted = () => client.query(jobs.notes);
  await eventually(`${gate} begins`, noted, (all) => all.includes(`${gate} began`));
  return id;
}

const began = async (client, gate) =>
  (await client.query(jobs.notes)).filter((text) => text === `${gate} began`).length;

test("a scheduled action's process: the job has failed, and is not run again", async () => {
  const host = await serve("--push", "tests/schedule");
  const client = connect(host);
  const id = await lingering(client, "worker");
  killWorkers(host);
  const { state } = await eventually("the job is over", () => client.query(jobs.get, { id }),
    (row) => row.completedTime !== undefined);
  assert.equal(state.kind, "failed");
  assert.match(state.error, /^The process that ran jobs:linger ended: signal: 9/);
  // What is scheduled behind it runs; nothing of the first comes back.
  const next = await lingering(client, "next");
  await client.mutation(jobs.bump, { name: "next" });
  await eventually("the next job", () => client.query(jobs.get, { id: next }),
    (row) => row.state.kind === "success");
  assert.equal(await began(client, "worker"), 1);
  await host.stop();
});

test("the host: its actions have failed, its mutations run, each once", async () => {
  const data = mkdtempSync(join(tmpdir(), "concave-killed-"));
  process.on("exit", () => rmSync(data, { recursive: true, force: true }));
  const ports = ["--port", "0", "--site-port", "0"];
  const first = await start(["serve", "--data", data, ...ports, "--push", "tests/schedule"]);
  const id = await lingering(connect(first), "host");
  const given = { path: "jobs:note", delay: 500, args: { text: "due meanwhile" } };
  const due = await connect(first).mutation(jobs.after, given);
  await first.endsBy("SIGKILL");

  const second = await start(["serve", "--data", data, ...ports]);
  const client = connect(second);
  const { state } = await eventually("the job is over", () => client.query(jobs.get, { id }),
    (row) => row.completedTime !== undefined);
  assert.deepEqual(state, { kind: "failed", error: "Transient error while executing action" });
  await eventually("what was due", () => client.query(jobs.get, { id: due }),
    (row) => row.state.kind === "success");
  assert.equal(await began(client, "host"), 1);
  const all = await client.query(jobs.notes);
  assert.deepEqual(all.filter((text) => text === "due meanwhile"), ["due meanwhile"]);
  await second.stop();
});

const WAITS = {
  "m.ts": `
    import { action, mutation, query } from "./_generated/server";
    import { anyApi } from "convex/server";
    export const note = mutation(async ({ db }) => await db.insert("notes", {}));
    export const noted = query(async ({ db }) => (await db.query("notes").collect()).length);
    export const waits = action(async (ctx) => {
      await ctx.runMutation(anyApi.m.note);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      return "done";
    });`,
};

for (const [what, signal] of [
  ["Ctrl-C, which goes to all processes of a terminal", (pid) => process.kill(-pid, "SIGINT")],
  ["a terminal that is closed", (pid) => process.kill(pid, "SIGHUP")],
]) {
  test(`${what}: actions end first`, async () => {
    const ports = ["--port", "0", "--site-port", "0", "--push", app("waits", WAITS)];
    const host = await start(["serve", "--in-memory", ...ports], { detached: true });
    const client = connect(host);
    const waits = client.action(anyApi.m.waits);
    await eventually("it has begun", () => client.query(anyApi.m.noted));
    signal(host.child.pid);
    assert.equal(await waits, "done");
    assert.equal(await within("the host ends", host.ended), 0, host.output);
  });
}
