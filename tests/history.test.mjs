// Clients that are cut off at random moments see a strictly serializable history.
//
// In: the built program and tests/history; HISTORY_SEED and HISTORY_OPERATIONS to play one again.
// Out: the history's check. Invariant: a seed decides every choice (who calls what, where it is
// cut), but not how the machine interleaves them; it is printed before anything runs.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { serve } from "./host.mjs";
import { check } from "./history/check.mjs";
import { Proxy } from "./proxy.mjs";
import { Random } from "./random.mjs";
import { hurry, until } from "./watch.mjs";

const { registers } = anyApi;
const SEED = Number(process.env.HISTORY_SEED ?? Date.now() % 1_000_000);
const OPERATIONS = Number(process.env.HISTORY_OPERATIONS ?? 4_000);
const CLIENTS = 8;
/** Operations after which the registers are left for fresh ones: lists stay short. */
const ERA = 400;
const REGISTERS = 5;

/** Everything that happened, in one order of time. */
class History {
  operations = [];
  begun = 0;
  #clock = 0;
  tick = () => ++this.#clock;
  /** The registers in use now. */
  era() {
    const era = Math.floor(this.begun / ERA);
    return Array.from({ length: REGISTERS }, (_, n) => `${era}.${n}`);
  }
}

/** One client behind a proxy that cuts it off after a random number of bytes. */
class Actor {
  constructor(history, name, seed, hostUrl) {
    Object.assign(this, { history, name, hostUrl, random: new Random(seed) });
    Object.assign(this, { cuts: 0, lives: 0, turn: 0 });
  }

  async start() {
    this.proxy = await Proxy.to(this.hostUrl);
    this.proxy.onLink = (link) => (link.fuse = 500 + this.random.below(20_000));
    this.proxy.passes = (direction, bytes, link) => {
      // Half of the cuts swallow what was on its way up, half what was on its way down.
      const burnt = this.calm || link.up + link.down < link.fuse;
      if (!burnt) this.cuts++;
      return burnt;
    };
    this.http = new ConvexHttpClient(this.hostUrl, { logger: false });
    this.#open();
  }

  #open() {
    this.lives++;
    this.client = new ConvexClient(this.proxy.url, { logger: false });
    hurry(this.client.client);
    this.me = `${this.name}.${this.lives}`;
    this.shown = new Map();
    this.forget = this.client.client.addOnTransitionHandler(() => this.#see());
  }

  /** What the subscriptions show now, all together, is one read. */
  #see() {
    const reads = [];
    for (const { queryToken } of this.shown.values()) {
      const values = this.client.client.localQueryResultByToken(queryToken);
      if (values) reads.push(...values);
    }
    const text = JSON.stringify(reads);
    if (reads.length === 0 || text === this.seen) return;
    this.seen = text;
    this.#record("saw", { reads, begin: null, end: this.history.tick() });
  }

  #record(what, operation) {
    const recorded = { client: this.me, appends: [], reads: [], begin: null, end: null };
    Object.assign(recorded, operation);
    recorded.name = `${this.me} ${what} ${this.history.operations.length}`;
    this.history.operations.push(recorded);
    return recorded;
  }

  /** One random call, to its end. */
  async act() {
    const { history, random } = this;
    const names = history.era();
    history.begun++;
    this.#subscribe(names);
    const die = random.below(100);
    if (die < 50) await this.#append(names);
    else if (die < 75) await this.#read("read", this.client, names, this.me);
    // Nothing but time joins what comes over HTTP to what the socket shows.
    else if (die < 90) await this.#read("read by HTTP", this.http, names, `${this.me} HTTP`);
    else if (die < 98) this.proxy.cut();
    else await this.#replace(names);
  }

  async #append(names) {
    const { history, random } = this;
    const register = random.pick(names);
    const value = history.tick();
    const others = names.filter((name) => name !== register && random.below(3) === 0);
    const recorded = this.#record("appended", { appends: [[register, value]], begin: value });
    const args = { register, value, also: others };
    recorded.reads = await this.client.mutation(registers.append, args);
    // Its own value is part of what it wrote, not of what it read.
    assert.equal(recorded.reads[0][1].pop(), value);
    recorded.end = history.tick();
    this.seen = null;
    this.#see();
  }

  async #read(what, via, names, client) {
    const { history, random } = this;
    const wanted = names.filter(() => random.below(2) === 0);
    // What a client asked before, it answers itself: each of its reads is a new one. Other clients
    // ask the same questions, so that answers are shared on the host.
    const args = { registers: wanted, turn: this.turn++ };
    const recorded = this.#record(what, { client, begin: history.tick() });
    recorded.reads = await via.query(registers.read, args);
    recorded.end = history.tick();
    this.seen = null;
    this.#see();
  }

  /** Each register of the era is a subscription of its own. */
  #subscribe(names) {
    for (const [name, { unsubscribe }] of this.shown) {
      if (names.includes(name)) continue;
      unsubscribe();
      this.shown.delete(name);
    }
    for (const name of names) {
      if (this.shown.has(name) || this.random.below(4) > 0) continue;
      const args = { registers: [name] };
      this.shown.set(name, this.client.client.subscribe("registers:read", args));
    }
  }

  /** The client is gone in the middle of a call, whose fate nobody learns. */
  async #replace(names) {
    const value = this.history.tick();
    const register = this.random.pick(names);
    this.#record("was lost appending", { appends: [[register, value]], begin: value });
    this.client.mutation(registers.append, { register, value, also: [] }).catch(() => {});
    const turns = this.random.below(3);
    for (let n = 0; n < turns; n++) await new Promise((resolve) => setImmediate(resolve));
    this.forget();
    await this.client.close();
    this.#open();
  }

  async stop() {
    this.calm = true;
    await until(() => this.client.connectionState().isWebSocketConnected, `${this.name} is back`);
    await this.close();
  }

  async close() {
    this.forget();
    await this.client.close();
    this.proxy.close();
  }
}

test(`${OPERATIONS} operations of ${CLIENTS} clients, HISTORY_SEED=${SEED}`, async () => {
  console.log(`HISTORY_SEED=${SEED} HISTORY_OPERATIONS=${OPERATIONS}`);
  const host = await serve("--push", "tests/history");
  after(() => host.stop());
  const history = new History();
  const actors = Array.from({ length: CLIENTS }, (_, n) =>
    new Actor(history, `c${n}`, SEED * CLIENTS + n, host.url));
  // Where one of them fails, the others must not keep the runner waiting.
  after(() => Promise.all(actors.map((actor) => actor.close())));
  await Promise.all(actors.map(async (actor) => {
    await actor.start();
    while (history.begun < OPERATIONS) await actor.act();
    await actor.stop();
  }));

  const http = new ConvexHttpClient(host.url, { logger: false });
  const eras = Math.ceil((OPERATIONS + CLIENTS) / ERA);
  const names = Array.from({ length: eras }, (_, era) =>
    Array.from({ length: REGISTERS }, (_, n) => `${era}.${n}`)).flat();
  const final = new Map(await http.query(registers.read, { registers: names }));
  const wrong = check(history.operations, final);
  const cuts = actors.reduce((sum, actor) => sum + actor.cuts, 0);
  console.log(`${history.operations.length} operations recorded, ${cuts} connections cut`);
  assert.deepEqual(wrong, [], `HISTORY_SEED=${SEED}:\n${wrong.join("\n")}`);
  assert.ok(cuts > OPERATIONS / 100, `${cuts} cuts`);
});

/** Short histories: `a` and `b` are registers; each row: client, appends, reads, begin, end. */
const rows = (...rows) => rows.map(([client, appends, reads, begin, end], n) =>
  ({ name: `operation ${n}`, client, appends, reads, begin, end }));
const GOOD = rows(
  ["x", [["a", 1]], [["a", []]], 1, 4],
  ["y", [["a", 2]], [["a", [1]], ["b", []]], 2, 6],
  ["z", [], [["a", [1]], ["b", []]], 3, 7],
  ["z", [["b", 3]], [["a", [1, 2]]], 8, 9],
  ["x", [], [["a", [1]]], null, 10],
  ["x", [], [["a", [1, 2]], ["b", [3]]], null, 11],
  ["y", [["b", 4]], [], 12, null],
);
const FINAL = new Map([["a", [1, 2]], ["b", [3]]]);

test("the check passes a good history", () => {
  assert.deepEqual(check(GOOD, FINAL), []);
});

/** A copy of the good history with changes to some operations. */
const broken = (changes) => GOOD.map((good, n) => ({ ...good, ...changes[n] }));
const BROKEN = [
  ["a lost append", GOOD, [["a", [1, 2]], ["b", []]], /lost/],
  ["an append that ran twice", GOOD, [["a", [1, 2, 1]], ["b", [3]]], /more than once/],
  ["a value from nowhere", GOOD, [["a", [1, 2, 9]], ["b", [3]]], /nobody/],
  ["a list that never was", broken({ 2: { reads: [["a", [2]]] } }), FINAL, /never was/],
  ["an old read", broken({ 3: { appends: [], reads: [["a", []]] }, 5: { reads: [] } }),
    [["a", [1, 2]], ["b", []]], /before themselves.*time/],
  ["two appends that both came first", broken({ 1: { reads: [["a", []]] } }), FINAL, /themselves/],
  ["write skew", broken({ 3: { begin: 3, reads: [["a", []]] }, 0: { reads: [["b", []]] },
    1: { reads: [["b", [3]], ["a", []]] } }), FINAL, /themselves/],
  ["half of a state", broken({ 5: { reads: [["a", [1]], ["b", [3]]] } }), FINAL, /themselves/],
  ["an own write that is not seen", broken({ 4: { reads: [["a", []]] } }), FINAL, /same client/],
  ["a subscription that goes back", broken({ 4: { reads: [["a", [1, 2]]] },
    5: { reads: [["a", [1]]] } }), FINAL, /same client/],
];
for (const [name, operations, final, text] of BROKEN) {
  test(`the check finds ${name}`, () => {
    const wrong = check(operations, new Map(final));
    assert.ok(wrong.length > 0, "nothing found");
    assert.match(wrong.join("\n"), text);
  });
}
