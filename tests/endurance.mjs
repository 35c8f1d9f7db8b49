// A host that works for long within a memory budget: transfers, live queries that come and go,
// actions, documents that come and go.
//
// In: rounds, a budget. Out: what a round left in memory, and the highest that was seen. By hand
// for as long as you like: node tests/endurance.mjs MINUTES 256M
// Invariant: what clients see is checked all the time: no transfer makes or loses money.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { folder, serve } from "./crash.mjs";
import { KEY, eventually } from "./host.mjs";
import { Random } from "./random.mjs";

const ACCOUNTS = 400;
const BALANCE = 1_000;
const SENDERS = 8;
const WATCHERS = 6;
const FOLLOWED = 15;
/** Transfers of a round, all senders together. */
const ROUND = 1_200;

const APP = app("endurance", {
  "schema.ts": `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({
      accounts: defineTable({ n: v.number(), balance: v.number() }).index("by_n", ["n"]),
      notes: defineTable({ n: v.number(), text: v.string() }).index("by_n", ["n"]),
    });`,
  "bank.ts": `
    import { action, mutation, query } from "./_generated/server";
    import { api } from "./_generated/api";
    const account = (db, n) =>
      db.query("accounts").withIndex("by_n", q => q.eq("n", n)).unique();
    export const open = mutation({ handler: async ({ db }, { accounts, balance }) => {
      for (let n = 0; n < accounts; n++) await db.insert("accounts", { n, balance });
    } });
    export const move = mutation({ handler: async ({ db }, { from, to, amount }) => {
      const [a, b] = [await account(db, from), await account(db, to)];
      await db.patch(a._id, { balance: a.balance - amount });
      await db.patch(b._id, { balance: b.balance + amount });
    } });
    export const sum = query({ handler: async ({ db }) =>
      (await db.query("accounts").collect()).reduce((sum, { balance }) => sum + balance, 0) });
    export const pair = query({ handler: async ({ db }, { a, b, salt }) =>
      [(await account(db, a)).balance, (await account(db, b)).balance, salt] });
    export const note = mutation({ handler: async ({ db }, { n, bytes, keep }) => {
      await db.insert("notes", { n, text: "x".repeat(bytes) });
      const old = await db.query("notes").withIndex("by_n", q => q.lt("n", n - keep)).take(10);
      for (const { _id } of old) await db.delete(_id);
    } });
    export const act = action({ handler: async ({ runQuery }) => await runQuery(api.bank.sum) });`,
});

/** Resident memory of the host, and what its processes for actions have alone: MiB. */
function taken(host) {
  const pages = (pid) => {
    const [, resident, shared] = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ").map(Number);
    return { resident: resident / 256, own: (resident - shared) / 256 };
  };
  const pid = host.child.pid;
  let workers = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, "utf8");
      for (const child of children.split(" ").filter(Boolean)) workers += pages(child).own;
    } catch {
      // It has ended in this moment.
    }
  }
  return { host: pages(pid).resident, workers };
}

async function stats(host) {
  const headers = { Authorization: `Convex ${KEY}` };
  return await (await fetch(`${host.url}/api/concave/stats`, { headers })).json();
}

/** A host under load. */
class Endurance {
  constructor(memory) {
    Object.assign(this, { memory, random: new Random(7), notes: 0, refused: 0, updates: 0 });
    this.highest = 0;
  }

  async start() {
    this.host = await serve(folder(), ["--push", APP, "--memory", this.memory]);
    this.client = new ConvexHttpClient(this.host.url);
    await this.client.mutation(api.bank.open, { accounts: ACCOUNTS, balance: BALANCE });
    this.watchers = Array.from({ length: WATCHERS }, () => new ConvexClient(this.host.url));
    this.following = this.watchers.map(() => []);
    this.sampler = setInterval(() => {
      const { host, workers } = taken(this.host);
      this.highest = Math.max(this.highest, host + workers);
    }, 20);
  }

  /** Calls until it is taken; work that is refused comes back later. */
  async insist(call) {
    const taken = async () => {
      try {
        return { answer: await call() };
      } catch (error) {
        if (!/out of memory|TooMany/.test(error.message)) throw error;
        this.refused++;
        return { error };
      }
    };
    const passes = (seen) => !seen.error;
    return (await eventually("work is taken again", taken, passes)).answer;
  }

  /** Every watcher follows other pairs than before. */
  turn() {
    for (const [at, watcher] of this.watchers.entries()) {
      for (const stop of this.following[at].splice(0, FOLLOWED / 3)) stop();
      while (this.following[at].length < FOLLOWED) {
        const [a, b] = [this.random.below(ACCOUNTS), this.random.below(ACCOUNTS)];
        const salt = this.random.below(1_000_000);
        const seen = () => this.updates++;
        this.following[at].push(watcher.onUpdate(api.bank.pair, { a, b, salt }, seen));
      }
    }
  }

  /** One round of work. */
  async round() {
    this.turn();
    const send = async () => {
      const client = new ConvexHttpClient(this.host.url);
      for (let n = 0; n < ROUND / SENDERS; n++) {
        const [from, to] = [this.random.below(ACCOUNTS), this.random.below(ACCOUNTS)];
        if (from !== to) {
          const args = { from, to, amount: this.random.below(10) };
          await this.insist(() => client.mutation(api.bank.move, args));
        }
        if (n % 5 === 0) {
          const args = { n: this.notes++, bytes: 20_000, keep: 300 };
          await this.insist(() => client.mutation(api.bank.note, args));
        }
      }
    };
    await Promise.all(Array.from({ length: SENDERS }, send));
    const sums = [this.client.query(api.bank.sum, {}), this.client.action(api.bank.act, {})];
    const seen = await this.insist(() => Promise.all(sums));
    assert.deepEqual(seen, [ACCOUNTS * BALANCE, ACCOUNTS * BALANCE]);
    return await this.look();
  }

  /** What is in memory. */
  async look() {
    const { host, workers } = taken(this.host);
    const { memory, work, history } = await stats(this.host);
    const { refused, updates, highest } = this;
    return { host, workers, highest, refused, updates, memory, work, history };
  }

  async stop() {
    clearInterval(this.sampler);
    await Promise.all(this.watchers.map((watcher) => watcher.close()));
  }
}

/** Runs `rounds` rounds (or until `enough` says so) within `memory`; `tell` hears of each. */
export async function endure(memory, enough, tell = () => {}) {
  const run = new Endurance(memory);
  await run.start();
  const looks = [];
  for (let round = 1; !enough(round); round++) {
    looks.push(await run.round());
    tell(round, looks.at(-1));
  }
  await run.stop();
  return { run, looks };
}

function line(round, look) {
  const { host, workers, highest, refused, updates, memory, work, history } = look;
  const mib = (bytes) => (bytes / 2 ** 20).toFixed(1);
  return `round ${round}: host ${host.toFixed(0)} + workers ${workers.toFixed(0)} MiB, highest ` +
    `${highest.toFixed(0)}; documents ${mib(memory.documents)}, cache ${mib(memory.cache)}, ` +
    `history ${mib(memory.history)} (${history.commits}), ${work.subscriptions} subscriptions, ` +
    `${updates} updates, ${refused} refused, ${memory.pressure}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [minutes = "5", memory = "256M"] = process.argv.slice(2);
  const until = Date.now() + Number(minutes) * 60_000;
  const every = (round, look) => round % 10 === 1 && console.log(line(round, look));
  const { run, looks } = await endure(memory, () => Date.now() > until, every);
  console.log(line(looks.length, looks.at(-1)));
  for (const seconds of [5, 15, 60]) {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
    console.log(`${seconds} s idle: ${line(looks.length, await run.look())}`);
  }
  assert.equal(await run.host.stop(), 0);
  process.exit();
}
