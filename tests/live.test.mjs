// The npm package's WebSocket client, unmodified: subscriptions, mutations, errors, the operator.
//
// In: a host that serves examples/chat. Out: what the client shows its user. Invariant: two clients
// of one host see the same, and what one writes reaches the other without asking.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ROOT, pointedAt, serve, within } from "./host.mjs";

const api = anyApi;
let host;
before(async () => {
  host = await serve("--push", `${ROOT}examples/chat`);
});
after(() => host.stop());

/** Follows a query; `next(test)` resolves with the first value that passes. */
function follow(client, query, args) {
  const seen = [];
  let wake = () => {};
  const stop = client.onUpdate(
    query,
    args,
    (value) => {
      seen.push(value);
      wake();
    },
    (error) => {
      seen.push(error);
      wake();
    },
  );
  const next = async (passes) => {
    const last = () => `${passes}; last seen: ${inspect(seen.at(-1))}`;
    while (!seen.some(passes)) {
      await within(last, new Promise((resolve) => (wake = resolve)));
    }
    return seen.find(passes);
  };
  return { seen, next, stop };
}

test("what one client writes reaches the other", async () => {
  const [one, other] = [new ConvexClient(host.url), new ConvexClient(host.url)];
  const channels = follow(other, api.channels.list, {});
  await channels.next((list) => list.length === 0);
  const id = await one.mutation(api.channels.open, { name: "general" });
  const list = await channels.next((list) => list.length === 1);
  assert.equal(list[0]._id, id);
  const author = await one.mutation(api.users.enter, { name: "ada" });

  const page = { paginationOpts: { numItems: 2, cursor: null }, channel: id };
  const messages = follow(other, api.messages.list, page);
  await messages.next((result) => result.page.length === 0);
  const sent = ["a", "b", "c"].map((body) =>
    one.mutation(api.messages.send, { channel: id, author, body }),
  );
  await Promise.all(sent);
  // The page keeps the end it had when it was empty, so it holds everything since.
  const full = await messages.next((result) => result.page.length === 3);
  assert.deepEqual(full.page.map((message) => message.body), ["c", "b", "a"]);
  const counted = await channels.next((list) => list[0]?.messages === 3);
  assert.equal(counted[0].name, "general");
  await Promise.all([one.close(), other.close()]);
});

test("a writer reads its own write when its promise resolves", async () => {
  const client = new ConvexClient(host.url);
  const channels = follow(client, api.channels.list, {});
  await channels.next(() => true);
  for (let number = 0; number < 20; number += 1) {
    const id = await client.mutation(api.channels.open, { name: `own-${number}` });
    assert.ok(channels.seen.at(-1).some((channel) => channel._id === id));
  }
  await client.close();
});

test("errors of functions arrive as errors", async () => {
  const client = new ConvexClient(host.url);
  const wrong = follow(client, api.messages.list, {});
  const error = await wrong.next((value) => value instanceof Error);
  assert.match(error.message, /Server Error\nArgumentValidationError/);
  const missing = follow(client, api.nothing.here, {});
  const gone = await missing.next((value) => value instanceof Error);
  assert.match(gone.message, /Could not find public function for 'nothing:here'/);
  await assert.rejects(client.mutation(api.channels.open, { name: "No!" }), (thrown) => {
    assert.equal(thrown.data.code, "InvalidChannelName");
    return true;
  });
  const wrongKind = /as Action, but it is defined as Query/;
  await assert.rejects(client.action(api.channels.list, {}), wrongKind);
  await client.close();
});

test("changes over HTTP reach the socket", async () => {
  const client = new ConvexClient(host.url);
  const channels = follow(client, api.channels.list, {});
  const before = (await channels.next(() => true)).length;
  await new ConvexHttpClient(host.url).mutation(api.channels.open, { name: "over-http" });
  await channels.next((list) => list.length === before + 1);
  await client.close();
});

test("the operator's commands of the npm package read over the socket", () => {
  const cli = `${ROOT}tests/node_modules/convex/bin/main.js`;
  const options = { env: pointedAt(host), cwd: `${ROOT}examples/chat`, encoding: "utf8" };
  const run = (...args) => spawnSync(process.execPath, [cli, ...args], options);
  const data = run("data");
  assert.equal(data.status, 0, data.stderr);
  assert.match(data.stdout, /channels\nmessages\nusers/);
  const rows = run("data", "users");
  assert.match(rows.stdout, /"ada"/);
  const spec = run("function-spec");
  assert.equal(spec.status, 0, spec.stderr);
  assert.match(spec.stdout, /"identifier": "channels.js:open"/);
});
