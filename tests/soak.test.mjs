// Subscriptions that come and go for a bounded while: the host's memory comes back.
//
// In: the built program and tests/live. Out: resident memory, round by round. Invariant: the
// amount of work is counted, not timed; every socket is closed before memory is read.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { ConvexClient } from "convex/browser";
import { anyApi } from "convex/server";
import WebSocket from "ws";
import { serve } from "./host.mjs";
import { until, watch } from "./watch.mjs";

const { notes } = anyApi;
const ROUNDS = 12;
const SOCKETS = 60;
const QUERIES = 50;
/** Rounds before the first reading counts: caches fill, V8 warms up. */
const WARM = 4;
/** How much larger the memory may be at the end than when warm: caches breathe, by some MB. */
const FACTOR = 1.15;
const BREATH_MB = 10;
/** Updates of 0.2 MB that a client does not read: 200 MB, were they kept. */
const UNREAD = 1_000;
/** MB by which memory may be larger then: V8's garbage goes up and down by 75 without it. */
const DEAF_MB = 110;

/** Resident memory of a process, in MB. */
function resident(child) {
  const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
  return Number(status.match(/^VmRSS:\s+(\d+) kB$/m)[1]) / 1024;
}

/** A bare socket that speaks the protocol and keeps no more than counts. */
async function subscriber(url) {
  const socket = new WebSocket(`${url.replace("http", "ws")}/api/1.48.0/sync`);
  await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
  const peer = { socket, updates: 0, version: 0, ended: null };
  peer.closed = new Promise((resolve) => socket.on("close", resolve));
  socket.on("message", (text) => {
    const { modifications = [] } = JSON.parse(text);
    peer.updates += modifications.filter(({ type }) => type === "QueryUpdated").length;
  });
  const say = (message) => socket.send(JSON.stringify(message));
  const [lastCloseReason, clientTs] = ["InitialConnect", Date.now()];
  const sessionId = randomUUID();
  say({ type: "Connect", sessionId, connectionCount: 0, lastCloseReason, clientTs });
  peer.change = (modifications) => {
    const baseVersion = peer.version++;
    say({ type: "ModifyQuerySet", baseVersion, newVersion: peer.version, modifications });
  };
  return peer;
}

/** A client of npm's that ends with the test, whatever comes. */
function open(host) {
  const client = new ConvexClient(host.url, { logger: false });
  after(() => client.close());
  return client;
}

/** One round: sockets subscribe, change their minds, are told of commits, and go. */
async function round(host, client, number) {
  const peers = await Promise.all(Array.from({ length: SOCKETS }, () => subscriber(host.url)));
  const add = (queryId, list) =>
    ({ type: "Add", queryId, udfPath: "notes:bodies", args: [{ list: `soak-${list}` }] });
  const first = Array.from({ length: QUERIES }, (_, n) => n);
  for (const [p, peer] of peers.entries()) peer.change(first.map((n) => add(n, (n + p) % 200)));
  await until(() => peers.every(({ updates }) => updates === QUERIES));
  const odd = first.filter((n) => n % 2);
  for (const [p, peer] of peers.entries()) {
    peer.change(odd.map((queryId) => ({ type: "Remove", queryId })));
    peer.change(odd.map((n) => add(QUERIES + n, (n * 3 + p) % 200)));
  }
  await until(() => peers.every(({ updates }) => updates >= QUERIES + QUERIES / 2));
  for (let n = 0; n < 50; n++) {
    const list = `soak-${(number * 7 + n) % 200}`;
    await client.mutation(notes.add, { list, body: "x".repeat(200) });
    await client.mutation(notes.drop, { list, body: "x".repeat(200) });
  }
  // Half say goodbye, half vanish.
  for (const [p, { socket }] of peers.entries()) p % 2 ? socket.close() : socket.terminate();
  await Promise.all(peers.map(({ closed }) => closed));
}

test(`${ROUNDS} rounds of ${SOCKETS} clients with ${QUERIES} queries leave no trace`, async () => {
  const host = await serve("--push", "tests/live");
  const client = open(host);
  const watched = watch(client, notes.count, { list: "soak-0" });
  await watched.shows(0);
  const readings = [];
  for (let number = 0; number < ROUNDS; number++) {
    await round(host, client, number);
    readings.push(Math.round(resident(host.child)));
  }
  console.log(`resident MB, round by round: ${readings.join(" ")}`);
  const end = Math.min(...readings.slice(-3));
  assert.ok(end <= readings[WARM - 1] * FACTOR + BREATH_MB, `${readings}`);
  assert.equal(client.connectionState().connectionCount, 1);
  assert.deepEqual(watched.errors, []);
  await client.close();
  assert.equal(await host.stop(), 0);
});

test("a client that never reads costs a bounded amount, and holds up nobody", async () => {
  const host = await serve("--push", "tests/live");
  const client = open(host);
  const deaf = await subscriber(host.url);
  after(() => deaf.socket.terminate());
  const list = "large";
  const bodies = { type: "Add", queryId: 0, udfPath: "notes:bodies", args: [{ list }] };
  deaf.change([bodies]);
  await until(() => deaf.updates === 1);
  const watched = watch(client, notes.bodies, { list });
  await watched.shows([]);
  const write = async (n) => {
    const body = String.fromCharCode(97 + n % 26).repeat(200_000);
    await client.mutation(notes.add, { list, body });
    assert.deepEqual(watched.last(), [body]);
    await client.mutation(notes.drop, { list, body });
  };
  for (let n = 0; n < 40; n++) await write(n);
  const before = resident(host.child);
  deaf.socket.pause();
  for (let n = 0; n < UNREAD; n++) await write(n);
  const since = resident(host.child);
  console.log(`resident MB, then 200 MB later for a client that does not read: ${before} ${since}`);
  assert.ok(since < before + DEAF_MB, `${before} MB, then ${since} MB`);
  deaf.socket.resume();
  await client.close();
  deaf.socket.terminate();
  assert.equal(await host.stop(), 0);
});
