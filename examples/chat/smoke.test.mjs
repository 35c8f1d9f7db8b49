// Drives the chat through npm's unmodified ConvexHttpClient. Needs a host that serves this folder:
// its address and admin key come from CONVEX_SELF_HOSTED_URL and CONVEX_SELF_HOSTED_ADMIN_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { ConvexError } from "convex/values";
import { api, internal } from "./convex/_generated/api.js";

const { CONVEX_SELF_HOSTED_URL: url, CONVEX_SELF_HOSTED_ADMIN_KEY: key } = process.env;
const client = new ConvexHttpClient(url, { logger: false });
const operator = new ConvexHttpClient(url, { logger: false });
operator.setAdminAuth(key);

/** A channel of its own for each test, so that they can run against any host, in any order. */
async function room() {
  const name = `room-${process.hrtime.bigint().toString(36)}`;
  const channel = await client.mutation(api.channels.open, { name, topic: "tests" });
  const ada = await client.mutation(api.users.enter, { name: "ada" });
  const bob = await client.mutation(api.users.enter, { name: "bob" });
  return { name, channel, ada, bob };
}

const count = async (name) => {
  const channels = await client.query(api.channels.list, {});
  return channels.find((channel) => channel.name === name).messages;
};

test("chat: entering twice gives the same user", async () => {
  const first = await client.mutation(api.users.enter, { name: "grace" });
  assert.equal(await client.mutation(api.users.enter, { name: "grace" }), first);
  assert.deepEqual(await client.query(api.users.search, { prefix: "gr" }), ["grace"]);
});

test("chat: pages walk a channel newest first, with authors, without gaps or repeats", async () => {
  const { channel, ada, bob, name } = await room();
  for (let i = 0; i < 25; i++) {
    const author = i % 2 === 0 ? ada : bob;
    await client.mutation(api.messages.send, { channel, author, body: `message ${i}` });
  }
  const seen = [];
  for (let cursor = null, isDone = false; !isDone; ) {
    const paginationOpts = { numItems: 10, cursor };
    const result = await client.query(api.messages.list, { channel, paginationOpts });
    assert.ok(result.page.length <= 10);
    seen.push(...result.page);
    ({ continueCursor: cursor, isDone } = result);
  }
  const bodies = Array.from({ length: 25 }, (_, i) => `message ${24 - i}`);
  assert.deepEqual(seen.map((message) => message.body), bodies);
  assert.deepEqual(seen.slice(0, 2).map((message) => message.author), ["ada", "bob"]);
  assert.equal(await count(name), 25);
});

test("chat: a ConvexError carries its data, and the count does not move", async () => {
  const { channel, ada, name } = await room();
  const error = await client
    .mutation(api.messages.send, { channel, author: ada, body: "x".repeat(501) })
    .catch((error) => error);
  assert.ok(error instanceof ConvexError, String(error));
  assert.deepEqual(error.data, { code: "InvalidLength", length: 501, longest: 500 });
  assert.equal(await count(name), 0);
});

test("chat: twenty people talk at once and every message counts", async () => {
  const { channel, ada, name } = await room();
  const said = Array.from({ length: 20 }, (_, i) =>
    new ConvexHttpClient(url, { logger: false }).mutation(api.messages.send, {
      channel,
      author: ada,
      body: `at once ${i}`,
    }),
  );
  assert.equal(new Set(await Promise.all(said)).size, 20);
  assert.equal(await count(name), 20);
  assert.equal(await client.mutation(api.channels.clear, { channel }), 20);
  assert.equal(await count(name), 0);
});

test("chat: internal functions are for the operator", async () => {
  const { channel } = await room();
  const remove = internal.channels.removeMessages;
  await assert.rejects(client.mutation(remove, { channel }), /Could not find public function/);
  assert.equal(await operator.mutation(remove, { channel }), 0);
});
