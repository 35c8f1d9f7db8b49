// Drives each component of the example through npm's unmodified ConvexHttpClient. Needs a host that
// serves this folder: its address and key come from CONVEX_SELF_HOSTED_URL and
// CONVEX_SELF_HOSTED_ADMIN_KEY. Names are new in each test: any host will do, in any order.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { ConvexError } from "convex/values";
import { api } from "./convex/_generated/api.js";

const client = new ConvexHttpClient(process.env.CONVEX_SELF_HOSTED_URL, { logger: false });
const own = (name) => `${name}-${process.hrtime.bigint().toString(36)}`;

/** Asks until the answer is the expected one: what is asked for happens in the background. */
async function eventually(ask, expected) {
  const PATIENCE_MS = 60_000;
  for (const since = Date.now(); ; ) {
    const answer = await ask();
    if (JSON.stringify(answer) === JSON.stringify(expected)) return;
    if (Date.now() - since > PATIENCE_MS) assert.deepEqual(answer, expected);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
const outcome = (of) => () => client.query(api.jobs.outcome, { of });

test("rate-limiter: the fourth message at once is refused, and with it all that it would write",
  async () => {
    const user = own("ada");
    const before = await client.query(api.messages.statistics, {});
    for (const text of ["a", "bb", "ccc"]) {
      await client.mutation(api.messages.send, { user, text });
    }
    assert.equal(await client.query(api.messages.mayWrite, { user }), false);
    await assert.rejects(
      client.mutation(api.messages.send, { user, text: "dddd" }),
      (error) => error instanceof ConvexError && error.data.kind === "RateLimited",
    );
    const after = await client.query(api.messages.statistics, {});
    assert.equal(after.messages - before.messages, 3);
    assert.equal(after.characters - before.characters, 6);
    const history = await client.query(api.messages.history, { who: user });
    assert.deepEqual(history.map((entry) => entry.what), Array(3).fill("sent a message"));
    assert.equal(await client.query(api.messages.mayWrite, { user: own("bob") }), true);
  });

test("aggregate: ranks and sums", async () => {
  const points = [3, 10_000_000 + Math.floor(performance.now()), 5];
  const before = await client.query(api.scores.summary, {});
  const player = own("grace");
  for (const value of points) {
    await client.mutation(api.scores.add, { player, points: value });
  }
  const after = await client.query(api.scores.summary, {});
  assert.equal(after.count - before.count, 3);
  assert.equal(after.sum - before.sum, points[0] + points[1] + points[2]);
  assert.equal(after.winner, player);
  assert.equal(await client.query(api.scores.rank, { points: points[1] }), 0);
  const [three, five] = [3, 5].map((value) => client.query(api.scores.rank, { points: value }));
  assert.ok((await three) > (await five));
});

test("sharded-counter: forty writers at once are all counted", async () => {
  const page = own("page");
  const visits = Array.from({ length: 40 }, () => new ConvexHttpClient(client.url));
  await Promise.all(visits.map((visitor) => visitor.mutation(api.visits.add, { page })));
  assert.equal(await client.query(api.visits.count, { page }), 40);
  assert.equal(await client.query(api.visits.count, { page: own("other") }), 0);
});

test("workpool: jobs run, and what became of each is told", async () => {
  const number = Math.floor(performance.now() * 1000) % 100_000;
  await client.mutation(api.jobs.start, { numbers: [number, number + 1, -number - 1] });
  await eventually(outcome(`square of ${number}`), String(number * number));
  await eventually(outcome(`square of ${number + 1}`), String((number + 1) ** 2));
  await eventually(outcome(`square of ${-number - 1}`), "failed");
});

test("workflow: steps go on after the event that they wait for", async () => {
  const item = own("book");
  const id = await client.mutation(api.orders.place, { item });
  assert.equal(await client.query(api.orders.status, { id }), "inProgress");
  assert.equal(await outcome(`order of ${item}`)(), null);
  await client.mutation(api.orders.pay, { id });
  const price = item.length * 10;
  const status = () => client.query(api.orders.status, { id });
  await eventually(status, `${item} for ${price}`);
  assert.equal(await outcome(`order of ${item}`)(), `shipped for ${price}`);
});

test("migrations: every document is visited, in batches", async () => {
  await client.mutation(api.players.enter, { names: ["Ada", "BOB", "Cy", "Dee", "EVE"] });
  await client.mutation(api.players.migrate, {});
  const missing = async () => {
    const keys = await client.query(api.players.keys, {});
    return keys.filter((key) => key === null).length;
  };
  await eventually(missing, 0);
  const keys = await client.query(api.players.keys, {});
  assert.deepEqual(keys.slice(-5), ["ada", "bob", "cy", "dee", "eve"]);
});

test("crons: registered at run time, they run until they are removed", async () => {
  const name = own("tea");
  await client.mutation(api.reminders.every, { name, ms: 1000 });
  assert.ok((await client.query(api.reminders.names, {})).includes(name));
  await eventually(outcome(`reminder ${name}`), "reminded");
  await client.mutation(api.reminders.stop, { name });
  assert.ok(!(await client.query(api.reminders.names, {})).includes(name));
});

test("action-cache: the same arguments are asked about once", async () => {
  const [first, second] = [own("tea"), own("milk")];
  assert.equal(await client.action(api.prices.price, { item: first }), 1);
  assert.equal(await client.action(api.prices.price, { item: first }), 1);
  assert.equal(await client.action(api.prices.price, { item: second }), 1);
});

test("action-retrier: an action that fails twice succeeds in the end", async () => {
  const item = own("cake");
  await client.mutation(api.prices.buy, { item });
  await eventually(outcome(`purchase of ${item}`), `${item} after 3 attempts`);
});

test("presence: who beats is there, who leaves is not", async () => {
  const room = own("room");
  const enter = (user) =>
    client.mutation(api.rooms.heartbeat, { room, user, session: own(user), interval: 10_000 });
  const { roomToken } = await enter("ada");
  const { sessionToken } = await enter("bob");
  const present = () => client.query(api.rooms.present, { roomToken });
  assert.deepEqual((await present()).sort(), ["ada", "bob"]);
  await client.mutation(api.rooms.leave, { sessionToken });
  assert.deepEqual(await present(), ["ada"]);
});
