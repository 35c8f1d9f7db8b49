// What no client of Convex sends: garbage, wrong versions, too much, by a bare WebSocket.
//
// In: the built program and tests/live. Out: checks of the refusals. Invariant: a client that
// keeps to the protocol is connected throughout and notices nothing.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { randomUUID } from "node:crypto";
import { ConvexClient } from "convex/browser";
import { anyApi } from "convex/server";
import WebSocket from "ws";
import { serve } from "./host.mjs";
import { until, watch } from "./watch.mjs";

const { notes } = anyApi;
const host = await serve("--push", "tests/live");
const bystander = new ConvexClient(host.url, { logger: false });
const watched = watch(bystander, notes.count, { list: "bystander" });
before(() => watched.shows(0));
after(async () => {
  await bystander.mutation(notes.add, { list: "bystander", body: "still here" });
  await watched.shows(1);
  assert.equal(bystander.connectionState().connectionCount, 1, "it was never cut off");
  await bystander.close();
  assert.equal(await host.stop(), 0);
});

/** A bare socket: `heard` holds the messages in order, `closed` its end. */
async function raw(path = "/api/1.48.0/sync") {
  const socket = new WebSocket(host.url.replace("http", "ws") + path);
  const peer = { socket, heard: [], closed: null };
  socket.on("message", (text) => peer.heard.push(JSON.parse(text)));
  socket.on("close", (code, reason) => (peer.closed = { code, reason: String(reason) }));
  socket.on("error", () => {});
  await until(() => socket.readyState !== WebSocket.CONNECTING);
  peer.say = (...messages) => {
    for (const message of messages) {
      socket.send(typeof message === "object" ? JSON.stringify(message) : message);
    }
  };
  peer.hears = (type, count = 1) =>
    until(() => {
      const found = peer.heard.filter((message) => message.type === type);
      return found.length >= count && found;
    }, () => `${count} ${type} in ${JSON.stringify(peer.heard)}, ${JSON.stringify(peer.closed)}`);
  return peer;
}

const connect = () => ({
  type: "Connect",
  sessionId: randomUUID(),
  connectionCount: 0,
  lastCloseReason: "InitialConnect",
  clientTs: Date.now(),
});
const change = (baseVersion, newVersion, ...modifications) =>
  ({ type: "ModifyQuerySet", baseVersion, newVersion, modifications });
const add = (queryId, udfPath = "notes:count", args = [{ list: "raw" }]) =>
  ({ type: "Add", queryId, udfPath, args });

const NOTHING = { querySet: 0, identity: 0, ts: "AAAAAAAAAAA=" };

test("a transition begins where the last one ended, and answers each query once", async () => {
  const peer = await raw();
  peer.say(connect(), change(0, 1, add(0), add(7)));
  await until(() => peer.heard.flatMap((m) => m.modifications ?? []).length === 2);
  peer.say(change(1, 2, { type: "Remove", queryId: 0 }));
  await until(() => peer.heard.at(-1).endVersion?.querySet === 2);
  let version = NOTHING;
  for (const { startVersion, endVersion } of await peer.hears("Transition")) {
    assert.deepEqual(startVersion, version);
    version = endVersion;
  }
  const told = peer.heard.flatMap(({ modifications }) => modifications);
  assert.deepEqual(told.map(({ type, queryId }) => `${type} ${queryId}`).sort(),
    ["QueryRemoved 0", "QueryUpdated 0", "QueryUpdated 7"]);
  for (const update of told.filter(({ type }) => type === "QueryUpdated")) {
    assert.deepEqual(update, { type: "QueryUpdated", queryId: update.queryId, value: 0,
      logLines: [], journal: null });
  }
  peer.socket.close();
});

test("a response comes before a transition at or past its timestamp", async () => {
  const peer = await raw();
  const call = { udfPath: "notes:add", args: [{ list: "raw-order", body: "a" }] };
  peer.say(connect(), change(0, 1), { type: "Mutation", requestId: 0, ...call });
  const [response] = await peer.hears("MutationResponse");
  assert.deepEqual(Object.keys(response).sort(),
    ["logLines", "requestId", "result", "success", "ts", "type"]);
  const at = (ts) => Buffer.from(ts, "base64").readBigUInt64LE();
  const past = (message) => message.type === "Transition"
    && at(message.endVersion.ts) >= at(response.ts);
  await until(() => peer.heard.slice(peer.heard.indexOf(response)).some(past));
  peer.socket.close();
});

test("what a mutation changes is not shown before its response", async () => {
  // Else an optimistic update would be shown on top of the result that replaces it.
  const peer = await raw();
  const list = "raw-first";
  peer.say(connect(), change(0, 1, add(0, "notes:count", [{ list }])));
  const call = { type: "Mutation", udfPath: "notes:add", args: [{ list, body: "a" }] };
  for (let requestId = 0; requestId < 200; requestId++) {
    peer.say({ ...call, requestId });
    await peer.hears("MutationResponse", requestId + 1);
  }
  const shown = (message) => message.modifications?.at(-1)?.value ?? 0;
  await until(() => peer.heard.some((message) => shown(message) === 200));
  let answered = 0;
  for (const message of peer.heard) {
    if (message.type === "MutationResponse") answered++;
    assert.ok(shown(message) <= answered, `${shown(message)} shown after ${answered} answers`);
  }
  peer.socket.close();
});

test("a repeated request is answered with the first result, also over a new socket", async () => {
  const [first, second] = [await raw(), await raw()];
  const hello = connect();
  const call = { udfPath: "notes:add", args: [{ list: "raw-once", body: "a" }] };
  const request = { type: "Mutation", requestId: 3, ...call };
  first.say(hello, change(0, 1), request, request);
  const [one, two] = await first.hears("MutationResponse", 2);
  assert.deepEqual(one, two);
  second.say({ ...hello, connectionCount: 1 }, change(0, 1), request);
  assert.deepEqual((await second.hears("MutationResponse"))[0], one);
  assert.equal(await bystander.query(notes.count, { list: "raw-once" }), 1);
  for (const peer of [first, second]) peer.socket.close();
});

const REFUSED = [
  ["text that is no JSON", ["nonsense"], /JSON|parse|expected/i],
  ["JSON that is no message", ["[]"], /./],
  ["a message without a type", [{}], /type/],
  ["an unknown type", [connect(), { type: "Shout", text: "hi" }], /Shout/],
  ["a field of the wrong type", [connect(), change("zero", 1)], /baseVersion|string/],
  ["a missing field", [connect(), { type: "Mutation", requestId: 0 }], /udfPath|args/],
  ["a query set out of turn", [connect(), change(5, 6)], /BaseVersionMismatch|version/i],
  ["a query set that stands still", [connect(), change(0, 0)], /version/i],
  ["a query id twice", [connect(), change(0, 1, add(1)), change(1, 2, add(1))], /1/],
  ["an unknown query removed", [connect(), change(0, 1, { type: "Remove", queryId: 9 })], /9/],
];
for (const [name, messages, text] of REFUSED) {
  test(`${name} is a FatalError that says why, and the end`, async () => {
    const peer = await raw();
    peer.say(...messages);
    const [{ error }] = await peer.hears("FatalError");
    assert.match(error, text);
    await until(() => peer.closed);
    assert.ok(peer.closed.code !== 1006, "it is closed, not dropped");
  });
}

test("bytes instead of text, and a message too large, end in a bounded close", async () => {
  for (const message of [Buffer.from([1, 2, 3]), `"${"x".repeat(64 << 20)}"`]) {
    const peer = await raw();
    peer.say(connect());
    peer.socket.send(message);
    await until(() => peer.closed);
  }
});

test("a path without a version is served, a request without a socket refused", async () => {
  const peer = await raw("/api/sync");
  peer.say(connect(), change(0, 1, add(0)));
  await peer.hears("Transition");
  peer.socket.close();
  const plain = await fetch(`${host.url}/api/1.48.0/sync`);
  assert.ok(plain.status >= 400 && plain.status < 500, `${plain.status}`);
});

test("a query that cannot run fails alone", async () => {
  const peer = await raw();
  const wrong = [add(0, "notes:none"), add(1, "notes:add"), add(2, "notes:count", [{ list: 5 }])];
  peer.say(connect(), change(0, 1, ...wrong, add(3)));
  await until(() => peer.heard.flatMap((m) => m.modifications ?? []).length === 4);
  const told = peer.heard.flatMap((m) => m.modifications ?? []);
  const byId = Object.fromEntries(told.map((each) => [each.queryId, each]));
  assert.deepEqual([0, 1, 2, 3].map((id) => byId[id].type),
    ["QueryFailed", "QueryFailed", "QueryFailed", "QueryUpdated"]);
  assert.match(byId[0].errorMessage, /Could not find public function/);
  assert.match(byId[2].errorMessage, /ArgumentValidationError/);
  assert.ok(!("errorData" in byId[0]), "an errorData of any kind would make it a ConvexError");
  peer.socket.close();
});
