// Hosts that die under load, and what must be true of them afterwards.
//
// In: rounds, a seed, how they die: killed, or with a power cut below SQLite (crash/disk.c). Out:
// nothing, or the promise that was broken. Thousands at will: node tests/crash.mjs 1000 [cut]
// Invariant: the checks use only what clients were told.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { KEY, start, within } from "./host.mjs";
import { Proxy } from "./proxy.mjs";
import { Random } from "./random.mjs";

const ACCOUNTS = 6;
const BALANCE = 1_000;
const HTTP_CLIENTS = 6;
const SOCKET_CLIENTS = 2;

export const APP = app("crash", {
  "schema.ts": `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({
      accounts: defineTable({ n: v.number(), balance: v.number() }).index("by_n", ["n"]),
      moves: defineTable({ client: v.string(), seq: v.number(), from: v.number(), to: v.number(),
        amount: v.number() }).index("by_client", ["client", "seq"]),
      counts: defineTable({ moves: v.number() }),
    });`,
  "bank.ts": `
    import { mutation, query } from "./_generated/server";
    export const open = mutation({ handler: async ({ db }, { accounts, balance }) => {
      if (await db.query("counts").first()) return;
      for (let n = 0; n < accounts; n++) await db.insert("accounts", { n, balance });
      await db.insert("counts", { moves: 0 });
    } });
    export const move = mutation({ handler: async ({ db }, { client, seq, from, to, amount }) => {
      const account = (n) => db.query("accounts").withIndex("by_n", q => q.eq("n", n)).unique();
      const [a, b] = [await account(from), await account(to)];
      await db.patch(a._id, { balance: a.balance - amount });
      await db.patch(b._id, { balance: b.balance + amount });
      await db.insert("moves", { client, seq, from, to, amount });
      const count = await db.query("counts").first();
      await db.patch(count._id, { moves: count.moves + 1 });
      return count.moves + 1;
    } });
    export const look = query({ handler: async ({ db }) => {
      const accounts = await db.query("accounts").withIndex("by_n").collect();
      const { moves } = await db.query("counts").first();
      return { moves, balances: accounts.map(({ balance }) => balance) };
    } });
    export const since = query({ handler: async ({ db }, { from }) => {
      const rest = await db.query("moves").withIndex("by_creation_time", q =>
        q.gt("_creationTime", from)).take(4000);
      return rest.map(({ _id, _creationTime: at, client, seq, from, to, amount }) =>
        ({ _id, at, client, seq, from, to, amount }));
    } });`,
});

/** A library of tests/crash to put before libc, told what to do through a file. */
function library(name, first) {
  const home = mkdtempSync(join(tmpdir(), `concave-${name}-`));
  process.on("exit", () => rmSync(home, { recursive: true, force: true }));
  const [library, control] = [join(home, `${name}.so`), join(home, "control")];
  const source = fileURLToPath(new URL(`crash/${name}.c`, import.meta.url));
  const flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"];
  const made = spawnSync("cc", flags, { encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
  writeFileSync(control, first);
  const set = (bytes) => writeFileSync(control, bytes, { flag: "r+" });
  return { control, set, env: { ...process.env, NO_COLOR: "1", LD_PRELOAD: library } };
}

/** A disk that fails when it is told to: an environment for a host, and `set`. */
export function disk(folder) {
  const { control, set, env } = library("disk", "0");
  return { env: { ...env, CONCAVE_DISK_FOLDER: folder, CONCAVE_DISK_CONTROL: control }, set };
}

/** A clock that can be set: an environment for hosts, and `set` with seconds it is ahead. */
export function clock() {
  const seconds = (ahead) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(ahead));
    return bytes;
  };
  const { control, set, env } = library("clock", seconds(0));
  return { env: { ...env, CONCAVE_CLOCK_CONTROL: control }, set: (ahead) => set(seconds(ahead)) };
}

/** A folder that goes with the test process. */
export function folder() {
  const path = mkdtempSync(join(tmpdir(), "concave-data-"));
  process.on("exit", () => rmSync(path, { recursive: true, force: true }));
  return join(path, "data");
}

/** A host that keeps its data in `data`. */
export async function serve(data, args = [], options = {}) {
  const ports = ["--port", "0", "--site-port", "0", "--admin-key", KEY];
  const host = await start(["serve", "--data", data, ...ports, ...args], options);
  host.client = new ConvexHttpClient(host.url);
  host.client.setAdminAuth(KEY);
  /** As the death of the process alone. */
  host.crash = () => host.endsBy("SIGKILL");
  return host;
}

/** What clients were told. */
class Told {
  /** "client/seq" of moves that were acknowledged. */
  moves = new Set();
  /** Moves that were asked for over HTTP and got no answer: each may be there or not. */
  unknown = new Set();
  /** The highest count that anybody was shown. */
  count = 0;
  /** The highest count that a subscription was shown; it never goes back. */
  live = 0;
  broken = [];

  saw(moves, where) {
    this.count = Math.max(this.count, moves);
    if (where !== "subscription") return;
    if (moves < this.live) {
      this.broken.push(`a subscription went back from ${this.live} to ${moves}`);
    }
    this.live = moves;
  }

  state({ moves, balances }, where) {
    const sum = balances.reduce((a, b) => a + b, 0);
    if (sum !== ACCOUNTS * BALANCE) this.broken.push(`${where} shows a sum of ${sum}`);
    this.saw(moves, where);
  }
}

/** Clients that never rest. */
class Load {
  stopped = false;
  sockets = [];

  constructor(told, seed, proxy) {
    Object.assign(this, { told, proxy, random: new Random(seed) });
    this.running = Array.from({ length: HTTP_CLIENTS }, (_, n) => this.#http(`h${n}`));
    for (let n = 0; n < SOCKET_CLIENTS; n++) this.running.push(this.#socket(`s${n}`));
  }

  #move(client, seq) {
    const from = this.random.below(ACCOUNTS);
    const to = (from + 1 + this.random.below(ACCOUNTS - 1)) % ACCOUNTS;
    return { client, seq, from, to, amount: 1 + this.random.below(9) };
  }

  async #http(name) {
    const client = new ConvexHttpClient(this.proxy.url, { logger: false });
    for (let seq = 0; !this.stopped; seq++) {
      const id = `${name}/${seq}`;
      try {
        if (seq % 5 === 4) this.told.state(await client.query(api.bank.look), "a query");
        this.told.unknown.add(id);
        this.told.saw(await client.mutation(api.bank.move, this.#move(name, seq)), "answer");
        this.told.moves.add(id);
        this.told.unknown.delete(id);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async #socket(name) {
    const client = new ConvexClient(this.proxy.url, { logger: false });
    this.sockets.push(client);
    if (name === "s0") {
      client.onUpdate(api.bank.look, {}, (state) => this.told.state(state, "subscription"));
    }
    for (let seq = 0; !this.stopped; seq++) {
      // Across reconnections the client asks again until it has an answer: once and for all.
      this.told.saw(await client.mutation(api.bank.move, this.#move(name, seq)), "answer");
      this.told.moves.add(`${name}/${seq}`);
    }
  }

  /** Ends when every client has its last answer. */
  async stop() {
    this.stopped = true;
    await within("the last answers", Promise.all(this.running));
    await Promise.all(this.sockets.map((client) => client.close()));
  }

  /** Ends now: a check that failed must not keep the process waiting for clients. */
  abandon() {
    this.stopped = true;
    for (const client of this.sockets) client.close();
  }
}

/** Every move that is there, in the order of their creation. */
async function moves(client) {
  const all = [];
  for (;;) {
    const page = await client.query(api.bank.since, { from: all.at(-1)?.at ?? 0 });
    if (page.length === 0) return all;
    all.push(...page);
  }
}

/** What must be true after a crash. */
async function check(host, told, newest) {
  assert.deepEqual(told.broken, []);
  const [known, count] = [new Set(told.moves), told.count];
  const state = await host.client.query(api.bank.look);
  const all = await moves(host.client);
  const ids = all.map(({ client, seq }) => `${client}/${seq}`);
  const there = new Set(ids);
  assert.equal(there.size, ids.length, "a move happened twice");
  assert.equal(new Set(all.map(({ at }) => at)).size, all.length, "a timestamp came twice");
  const lost = [...known].filter((id) => !there.has(id));
  assert.deepEqual(lost, [], "moves that were acknowledged are lost");
  assert.ok(state.moves >= count, `${count} moves were shown, and ${state.moves} are there`);
  assert.ok(all.length >= state.moves, `${all.length} moves, and a count of ${state.moves}`);
  // The accounts are what the moves, up to some moment after the look, made of them.
  const balances = Array(ACCOUNTS).fill(BALANCE);
  for (const { from, to, amount } of all.slice(0, state.moves)) {
    balances[from] -= amount;
    balances[to] += amount;
  }
  assert.deepEqual(state.balances, balances, "a move was half applied");
  const { ts } = await (await fetch(`${host.url}/api/query_ts`, { method: "POST" })).json();
  const at = Buffer.from(ts, "base64").readBigUInt64LE();
  assert.ok(at >= newest.at, "time went back");
  newest.at = at;
  return all.length;
}

/** Ends a host at once; one whose power is cut dies at what it writes next. */
async function die(host, power) {
  if (!power) return host.crash();
  power.set("c");
  await within("the power cut", host.ended);
  return power.set("0");
}

/** Kills hosts under load; `how` is "kill" or "cut". */
export async function crash({ rounds, seed, how = "kill", say = () => {} }) {
  const random = new Random(seed);
  const data = folder();
  const power = how === "cut" ? disk(data) : undefined;
  const options = power ? { env: power.env } : {};
  let host = await serve(data, ["--push", APP], options);
  await host.client.mutation(api.bank.open, { accounts: ACCOUNTS, balance: BALANCE });
  const proxy = await Proxy.to(host.url);
  const [told, newest] = [new Told(), { at: 0n }];
  const load = new Load(told, seed, proxy);
  try {
    for (let round = 1; round <= rounds; round++) {
      await new Promise((resolve) => setTimeout(resolve, 50 + random.below(800)));
      await die(host, power);
      host = await serve(data, [], options);
      const count = await within("the checks", check(host, told, newest));
      proxy.target = host.url;
      say(`round ${round} of ${rounds} (${how}, seed ${seed}): ${count} moves`);
    }
    // The clients of the last round get their answers too.
    await load.stop();
    await check(host, told, newest);
  } catch (error) {
    // The runner shows one error: what the host said belongs to it.
    throw new Error(`seed ${seed}, ${how}: ${error.message}\n${host.output}`, { cause: error });
  } finally {
    load.abandon();
  }
  assert.ok(told.moves.size > rounds, `only ${told.moves.size} moves were acknowledged`);
  await host.crash();
  return told;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [rounds, how, seed] = [process.argv[2] ?? 100, process.argv[3], process.argv[4]];
  const given = { rounds: Number(rounds), how, seed: Number(seed ?? Date.now() % 1_000_000) };
  await crash({ ...given, say: (line) => console.log(line) });
  process.exit(0);
}
