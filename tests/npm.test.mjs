// Live queries through npm's unmodified ConvexClient and BaseConvexClient.
//
// In: the built program and tests/live, served by one host. Out: checks of what the clients'
// callbacks are given. Invariant: each test has lists of its own, so any order will do.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { BaseConvexClient, ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ConvexError } from "convex/values";
import WebSocket from "ws";
import { serve } from "./host.mjs";
import { Proxy } from "./proxy.mjs";
import { hurry, until, watch } from "./watch.mjs";

const { boxes, notes, people } = anyApi;
const host = await serve("--push", "tests/live");
after(() => host.stop());

let lists = 0;
const list = () => `list-${lists++}`;

const clients = [];
after(() => Promise.all(clients.map((client) => client.close())));

/** A client of the host, or of what stands before it. */
function open(url = host.url, options = {}) {
  const client = new ConvexClient(url, { logger: false, ...options });
  clients.push(client);
  return client;
}

test("a subscription shows what is there, then every change, also of others", async () => {
  const [one, other] = [open(), open()];
  const args = { list: list() };
  const watched = watch(one, notes.bodies, args);
  await watched.shows([]);
  await other.mutation(notes.add, { ...args, body: "a" });
  await watched.shows(["a"]);
  const http = new ConvexHttpClient(host.url, { logger: false });
  await http.mutation(notes.add, { ...args, body: "b" });
  await watched.shows(["a", "b"]);
  assert.deepEqual(watched.seen, [[], ["a"], ["a", "b"]]);

  watched.stop();
  await one.mutation(notes.add, { ...args, body: "c" });
  assert.equal(watched.seen.length, 3);
  assert.deepEqual(watched.errors, []);
});

test("a result that did not change is not delivered again", async () => {
  const client = open();
  const args = { list: list() };
  const count = watch(client, notes.count, args);
  const any = watch(client, notes.any, args);
  for (const body of ["a", "b", "c", "d"]) await client.mutation(notes.add, { ...args, body });
  await count.shows(4);
  assert.deepEqual(count.seen, [0, 1, 2, 3, 4]);
  assert.deepEqual(any.seen, [false, true]);
});

test("a mutation resolves when its effect can be seen, not before", async () => {
  const client = open();
  const args = { list: list() };
  const watched = watch(client, notes.count, args);
  await watched.shows(0);
  for (let n = 1; n <= 25; n++) {
    assert.equal(await client.mutation(notes.add, { ...args, body: "x" }), n);
    assert.equal(client.client.localQueryResult("notes:count", args), n);
    assert.equal(watched.last(), n);
  }
});

test("mutations sent at once run in the order in which they were sent", async () => {
  const client = open();
  const args = { list: list() };
  const letters = [..."abcdefghijklmnopqrstuvwxyz"];
  const sent = letters.map((body) => client.mutation(notes.add, { ...args, body }));
  assert.deepEqual(await Promise.all(sent), letters.map((_, n) => n + 1));
  assert.deepEqual(await client.query(notes.bodies, args), letters);
});

test("a loop that writes where it reads goes over each document once", async () => {
  const client = open();
  const args = { list: list() };
  for (const body of ["a", "b", "c"]) await client.mutation(notes.add, { ...args, body });
  assert.equal(await client.mutation(notes.move, { ...args, by: 2 }), 3);
  await client.mutation(notes.copy, args);
  const paginationOpts = { cursor: null, numItems: 10 };
  assert.deepEqual((await client.query(notes.page, { ...args, paginationOpts })).page,
    [2, 2, 3, 3, 4, 4]);
});

for (const many of [1_100, 3_000]) {
  test(`${many} mutations that nobody awaits all run, once and in order`, async () => {
    const client = open();
    const args = { list: list() };
    const places = Array.from({ length: many }, (_, place) => place);
    const sent = places.map((place) => client.mutation(notes.log, { ...args, body: "x", place }));
    const done = Promise.all(sent);
    const after = client.query(notes.places, args);
    assert.deepEqual(await done, places);
    await after;
    assert.deepEqual(await client.query(notes.places, args), places);
    assert.equal(client.connectionState().connectionCount, 1);
  });
}

test("a mutation that throws rejects with its data, and nothing of it is seen", async () => {
  const client = open();
  const args = { list: list() };
  const watched = watch(client, notes.count, args);
  await watched.shows(0);
  const error = await client.mutation(notes.fail, args).catch((error) => error);
  assert.ok(error instanceof ConvexError, String(error));
  assert.deepEqual(error.data, { code: "Refused", list: args.list });
  await assert.rejects(client.mutation(notes.missing, {}), /Could not find public function/);
  await client.mutation(notes.add, { ...args, body: "a" });
  assert.deepEqual(watched.seen, [0, 1]);
});

test("a query that throws tells onError, and recovers when the data is mended", async () => {
  const client = open();
  const args = { list: list() };
  const watched = watch(client, notes.longest, args);
  await watched.shows(0);
  await client.mutation(notes.add, { ...args, body: "bad" });
  assert.equal(watched.errors.length, 1);
  const [error] = watched.errors;
  assert.ok(error instanceof ConvexError, String(error));
  assert.deepEqual(error.data, { code: "Bad", list: args.list });
  await client.mutation(notes.add, { ...args, body: "more" });
  assert.equal(watched.errors.length, 1, "the same error is not delivered again");
  await client.mutation(notes.drop, { ...args, body: "bad" });
  await watched.shows(4);

  const missing = watch(client, notes.missing, {});
  await until(() => missing.errors.length > 0);
  assert.match(String(missing.errors[0]), /Could not find public function/);
});

test("queries of one client change together: an invariant never looks broken", async () => {
  const [reader, ...writers] = [open(), open(), open(), open()];
  const names = ["a", "b", "c", "d", "e"];
  const group = list();
  await reader.mutation(boxes.fill, { group, names, amount: 100 });
  const tokens = names.map((name) => reader.client.subscribe("boxes:amount", { group, name }));
  const sums = [];
  reader.client.addOnTransitionHandler(() => {
    const held = tokens.map(({ queryToken }) => reader.client.localQueryResultByToken(queryToken));
    if (!held.includes(undefined)) sums.push(held.reduce((sum, amount) => sum + amount, 0));
  });
  const moves = writers.map(async (writer, w) => {
    for (let n = 0; n < 40; n++) {
      const [from, to] = [names[(n + w) % 5], names[(n * 3 + w + 1) % 5]];
      if (from !== to) await writer.mutation(boxes.move, { group, from, to, amount: n });
    }
  });
  await Promise.all(moves);
  await reader.mutation(boxes.move, { group, from: "a", to: "b", amount: 1 });
  assert.ok(sums.length > 5, `${sums.length} transitions were seen`);
  assert.deepEqual([...new Set(sums)], [500]);
});

test("an optimistic update shows at once, and the server's result takes its place", async () => {
  const client = open();
  const args = { list: list() };
  const watched = watch(client, notes.bodies, args);
  await watched.shows([]);
  const optimisticUpdate = (store, { body }) => {
    const before = store.getQuery(notes.bodies, args) ?? [];
    store.setQuery(notes.bodies, args, [...before, `${body}?`]);
  };
  const sent = client.mutation(notes.add, { ...args, body: "a" }, { optimisticUpdate });
  assert.deepEqual(watched.last(), ["a?"]);
  await sent;
  assert.deepEqual(watched.seen, [[], ["a?"], ["a"]]);

  const hopeful = (store) => store.setQuery(notes.bodies, args, ["a", "never"]);
  await assert.rejects(client.mutation(notes.fail, args, { optimisticUpdate: hopeful }));
  await watched.shows(["a"]);
  assert.deepEqual(watched.seen.slice(3), [["a", "never"], ["a"]]);
});

test("equal subscriptions of one client and of many all see the change", async () => {
  const args = { list: list() };
  const first = open();
  const watched = [watch(first, notes.count, args), watch(first, notes.count, args)];
  for (let n = 0; n < 20; n++) watched.push(watch(open(), notes.count, args));
  await Promise.all(watched.map((each) => each.shows(0)));
  await first.mutation(notes.add, { ...args, body: "a" });
  await Promise.all(watched.map((each) => each.shows(1)));
  for (const each of watched) assert.deepEqual(each.seen, [0, 1]);
});

for (const [name, passes] of [
  ["the request is lost", (direction) => direction !== "up"],
  ["the response is lost", (direction) => direction !== "down"],
]) {
  test(`a mutation runs exactly once where the connection is cut and ${name}`, async () => {
    const proxy = await Proxy.to(host.url);
    const client = open(proxy.url);
    hurry(client.client);
    const args = { list: list() };
    const watched = watch(client, notes.count, args);
    await watched.shows(0);
    for (let n = 1; n <= 5; n++) {
      let cuts = 0;
      proxy.passes = (direction) => cuts > 0 || passes(direction) || !++cuts;
      assert.equal(await client.mutation(notes.add, { ...args, body: "once" }), n);
      assert.equal(cuts, 1, "the connection was cut");
      assert.equal(watched.last(), n);
    }
    assert.ok(client.connectionState().connectionCount >= 6);
    assert.equal(await open().query(notes.count, args), 5);
    proxy.close();
  });
}

test("after a cut, subscriptions go on and show what was missed", async () => {
  const proxy = await Proxy.to(host.url);
  const [client, other] = [open(proxy.url), open()];
  hurry(client.client);
  const args = { list: list() };
  const watched = watch(client, notes.count, args);
  await watched.shows(0);
  for (let n = 1; n <= 5; n++) {
    proxy.cut();
    await other.mutation(notes.add, { ...args, body: "a" });
    await watched.shows(n);
  }
  // A client that is back before the next commit is told again what it knows.
  const changes = watched.seen.filter((count, at, all) => count !== all[at - 1]);
  assert.deepEqual(changes, [0, 1, 2, 3, 4, 5]);
  proxy.close();
});

test("an action answers, one that is none is refused, and the connection goes on", async () => {
  const client = open();
  assert.equal(await client.action(people.act, {}), "done");
  await assert.rejects(client.action(people.none, {}), /Could not find public function/);
  assert.equal(await client.query(people.subject, {}), null);
  assert.equal(client.connectionState().connectionCount, 1);
});

test("ten thousand queries in one set are answered, and one of them changes", async () => {
  const queries = 10_000;
  const results = new Map();
  const told = [];
  const options = { logger: false, webSocketConstructor: WebSocket };
  const client = new BaseConvexClient(host.url, (tokens) => told.push(...tokens), options);
  clients.push(client);
  const args = Array.from({ length: queries }, () => ({ list: list() }));
  const tokens = args.map((each) => client.subscribe("notes:count", each).queryToken);
  const answered = () => {
    for (const token of told.splice(0)) results.set(token, client.localQueryResultByToken(token));
    return results.size;
  };
  await until(() => answered() === queries, () => `${queries} for ${answered()}`);
  assert.deepEqual(new Set(results.values()), new Set([0]));
  await client.mutation("notes:add", { ...args[4321], body: "a" });
  assert.deepEqual(told, [tokens[4321]]);
  assert.equal(client.localQueryResultByToken(tokens[4321]), 1);
});

test("results of many megabytes arrive whole", async () => {
  const client = open();
  const letters = [..."abcdefghijkl"];
  const watched = letters.map((letter) => watch(client, notes.large, { letter }));
  await until(() => watched.every((each) => each.seen.length === 1));
  for (const [n, each] of watched.entries()) {
    assert.equal(each.last().length, 1_000_000);
    assert.ok(each.last().startsWith(letters[n]) && each.last().endsWith(letters[n]));
  }
});

test("arguments of 16 MiB arrive however long their JSON is, larger ones fail alone", async () => {
  const client = open();
  const count = watch(client, notes.count, { list: list() });
  const load = new ArrayBuffer(13 << 20);
  assert.equal(await client.mutation(notes.weigh, { load }), 13 << 20);
  const control = "\u0001".repeat(3_000_000);
  assert.equal(await client.mutation(notes.weigh, { load: control }), 3_000_000);
  assert.equal((await client.action(people.echo, { values: load })).byteLength, 13 << 20);
  const size = watch(client, people.size, { load });
  await size.shows(13 << 20);
  size.stop();

  const large = "x".repeat(17 << 20);
  const told = /Arguments for .* are too large \(actual: \d+ bytes, limit: 16777216 bytes\)/;
  await assert.rejects(client.mutation(notes.weigh, { load: large }), told);
  await assert.rejects(client.action(people.echo, { values: large }), told);
  const query = watch(client, notes.count, { list: large });
  await until(() => query.errors.length === 1);
  assert.match(String(query.errors[0]), told);
  await count.shows(0);
  assert.equal(client.connectionState().connectionCount, 1);
});

test("an operator acts as a user on a socket, whatever others were told before", async () => {
  assert.equal(await open().query(people.subject, {}), null);
  const client = open();
  client.client.setAdminAuth(host.key, { subject: "ada", issuer: "https://issuer.example" });
  const watched = watch(client, people.subject, {});
  await watched.shows("ada");
  client.client.clearAuth();
  await watched.shows(null);
});

test("a host that stops says goodbye, and its clients find the next one", async () => {
  const first = await serve("--push", "tests/live");
  const proxy = await Proxy.to(first.url);
  const client = open(proxy.url);
  hurry(client.client);
  const args = { list: list() };
  const watched = watch(client, notes.bodies, args);
  await client.mutation(notes.add, { ...args, body: "before" });
  await watched.shows(["before"]);
  assert.equal(await first.stop(), 0, "open sockets do not hold up the end");

  const second = await serve("--push", "tests/live");
  proxy.target = second.url;
  // What the first host held was in memory, so it is gone.
  await watched.shows([]);
  await client.mutation(notes.add, { ...args, body: "after" });
  await watched.shows(["after"]);
  await client.close();
  await second.stop();
  proxy.close();
});
