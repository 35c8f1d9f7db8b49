"use node";
// Node actions that use what only Node has, and fail in every way.
import * as A from "@automerge/automerge";
import { actionGeneric as action, anyApi, internalActionGeneric as internalAction } from "convex/server";
import { ConvexError, v } from "convex/values";
import isOdd from "is-odd";
import ms from "ms";
import { createHash } from "node:crypto";
import { createSocket as createDatagrams } from "node:dgram";
import { setServers } from "node:dns";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, writeFileSync, writeSync, openSync }
  from "node:fs";
import { get } from "node:http";
import { Socket, connect } from "node:net";
import { setPriority, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { shared } from "../shared_node";

const { rows } = anyApi;
const { work } = anyApi.deep;
const sleep = (time: number) => new Promise((resolve) => setTimeout(resolve, time));
let runs = 0;

export const builtins = action({
  args: {},
  returns: v.object({ hash: v.string(), text: v.string(), own: v.boolean(), node: v.boolean() }),
  handler: async () => ({
    hash: createHash("sha256").update("abc").digest("hex"),
    text: Buffer.from("aGVsbG8=", "base64").toString("utf8"),
    own: readFileSync(fileURLToPath(import.meta.url), "utf8").includes("builtins"),
    node: Number(process.versions.node.split(".")[0]) >= 20,
  }),
});

export const packages = action(async () => [isOdd(3), isOdd(4), ms("2 days"), shared(20)]);

export const automerge = action(async () => {
  let one = A.from<{ list: string[] }>({ list: ["a"] });
  let two = A.clone(one);
  one = A.change(one, (doc) => void doc.list.push("b"));
  two = A.change(two, (doc) => void doc.list.unshift("c"));
  const merged = A.merge(one, two);
  return [...A.load<{ list: string[] }>(A.save(merged)).list];
});

export const roundTrip = action({
  args: { key: v.string(), value: v.any() },
  handler: async (ctx, { key, value }): Promise<any> => {
    console.log("before", { key });
    await ctx.runMutation(rows.put, { key, value });
    const seen = await ctx.runQuery(rows.get, { key });
    console.log("after", new Map([["seen", seen]]));
    return ctx.runAction(rows.there, { value: seen });
  },
});

export const echo = internalAction({ args: { value: v.any() }, handler: async (_ctx, { value }) => value });

export const schedules = action({
  args: { key: v.string() },
  handler: async (ctx, { key }) => {
    await ctx.scheduler.runAfter(0, rows.put, { key, value: "scheduled" });
    const never = await ctx.scheduler.runAfter(60_000, rows.put, { key, value: "cancelled" });
    await ctx.scheduler.cancel(never);
    return (await ctx.auth.getUserIdentity()) === null;
  },
});

export const stores = action({
  args: { bytes: v.number() },
  handler: async (ctx, { bytes }) => {
    const given = new Uint8Array(bytes).map((_, at) => at % 251);
    const id = await ctx.storage.store(new Blob([given], { type: "text/x-test" }));
    const found = (await ctx.storage.get(id))!;
    const same = Buffer.from(await found.arrayBuffer()).equals(Buffer.from(given));
    await ctx.storage.delete(id);
    return [same, found.type, found.size, await ctx.storage.get(id)];
  },
});

export const variables = action(async () => Object.keys(process.env).sort());
export const pid = action(async () => process.pid);
export const counts = action(async () => ++runs);

export const levels = action(async () => {
  console.debug("d");
  console.warn("w", [1, { a: { b: { c: {} } } }]);
  console.error(new TypeError("e").message);
  console.table([{ a: 1 }]);
  console.log("é".repeat(40_000));
});

export const consoles = action(async () => {
  console.time("t");
  console.timeLog("t", "x");
  console.timeEnd("t");
  console.timeEnd("t");
  console.group("g");
  console.log("in");
  console.group();
  console.warn("deeper", { a: 1 });
  console.groupEnd();
  console.assert(true, "no");
  console.assert(false, "as");
  console.groupEnd();
  console.count();
  console.count();
  console.group("open");
});

export const streams = action(async () => {
  process.stdout.write("one\ntwo");
  process.stdout.write(Buffer.from(" \u20ac").subarray(0, 2));
  process.stdout.write(Buffer.from("\u20ac").subarray(1));
  process.stderr.write("wrong\r\n");
  process.stdout.write("\n");
  process.stdout.write("left");
  process.stdout.end();
});

export const throws = action(async () => {
  const inner = () => {
    throw new RangeError("from inside");
  };
  inner();
});

export const throwsData = action(async () => {
  throw new ConvexError({ code: "mine", big: 3n });
});

export const rethrows = action(async (ctx) => {
  try {
    await ctx.runMutation(rows.refuses, {});
  } catch (error) {
    return { isConvexError: error instanceof ConvexError, data: (error as any).data };
  }
});

export const exits = action(async () => {
  process.exit(3);
});

export const aborts = action(async () => {
  process.abort();
});

export const rejects = action(async () => {
  void Promise.reject(new TypeError("nobody caught it"));
  await sleep(1_000);
});

export const late = action(async () => {
  setTimeout(() => {
    throw new Error("from a timer");
  }, 1);
  await sleep(1_000);
});

export const never = action(() => new Promise<void>(() => {}));

export const dangles = action(async (ctx) => {
  void ctx.runAction(rows.slow);
  setInterval(() => console.log("a ghost"), 5);
  return process.pid;
});

/** Says that it runs, and waits until somebody opens its gate. */
export const waits = action({
  args: { gate: v.string() },
  handler: async (ctx, { gate }): Promise<number> => {
    await ctx.runMutation(rows.put, { key: gate, value: process.pid });
    while ((await ctx.runQuery(rows.seen, { key: `${gate} is open` })).length === 0) {
      await sleep(20);
    }
    return process.pid;
  },
});

export const eats = action(async () => {
  const all: unknown[] = [];
  for (;;) all.push(new Array(1_000).fill(all));
});

export const forbidden = action({
  args: { what: v.string() },
  handler: async (_ctx, { what }) => {
    if (what === "write") writeFileSync(join(dirname(tmpdir()), "modules/concave-node-test"), "x");
    if (what === "write far") writeFileSync("/tmp/concave-node-test", "x");
    if (what === "list") readdirSync(dirname(tmpdir()));
    if (what === "read") readFileSync("/etc/hostname");
    if (what === "spawn") (await import("node:child_process")).execFileSync("true");
    if (what === "kill") process.kill(process.ppid, "SIGTERM");
    if (what === "kill all") process.kill(0, "SIGTERM");
    if (what === "priority") setPriority(process.ppid, 19);
    if (what === "package") await import(["not", "installed"].join("-"));
  },
});

export const fetches = action({
  args: { url: v.string() },
  handler: async (_ctx, { url }) => (await fetch(url)).text(),
});

/** What a failed exchange says to code that looks. */
export const cause = action({
  args: { url: v.string() },
  handler: async (_ctx, { url }) => {
    try {
      return await (await fetch(url)).text();
    } catch (error: any) {
      const { message, cause } = error;
      console.log(error);
      return [error instanceof TypeError, message, cause instanceof Error, cause.message, cause.code];
    }
  },
});

const own = mkdtempSync(join(tmpdir(), "import-"));

/** Writes files, and says what there was before. */
export const files = action({
  args: { text: v.string() },
  handler: async (_ctx, { text }) => {
    const before = readdirSync(tmpdir()).map((name) => name.replace(/-\w+$/, "-"));
    const made = mkdtempSync(join(tmpdir(), "run-"));
    mkdirSync(join(made, "deep/er"), { recursive: true });
    writeFileSync(join(made, "deep/er/file"), text);
    writeFileSync(join(own, "file"), text);
    const read = [made + "/deep/er/file", own + "/file"].map((path) => readFileSync(path, "utf8"));
    chmodSync(join(made, "deep/er/file"), 0);
    let most = "";
    try {
      const file = openSync(join(made, "most"), "w");
      // Nothing is kept of what lies before.
      writeSync(file, "x", 512 * 2 ** 20);
    } catch (error: any) {
      most = error.code;
    }
    return { pid: process.pid, folder: tmpdir(), before, read, most,
      variable: process.env.TMPDIR === tmpdir() };
  },
});

/** What each kind of client gets to hear. */
export const reaches = action({
  args: { host: v.string(), port: v.number(), path: v.string() },
  handler: async (_ctx, { host, port, path }) => {
    const socketOf = (make: () => Socket) => new Promise<string>((resolve) => {
      const socket = make();
      socket.on("connect", () => resolve("connected")).on("error", (e: any) => resolve(e.message));
    });
    const datagram = createDatagrams("udp4");
    const sent = new Promise<string>((resolve) => {
      datagram.send("x", port, host, (error) => resolve(error ? error.message : "sent"));
    });
    const lookup: any = (_: string, options: any, done: any) =>
      options.all ? done(null, [{ address: "::ffff:127.0.0.1", family: 6 },
        { address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
    const asked = new Promise<string>((resolve) => {
      get({ host, port }, () => resolve("answered")).on("error", (e) => resolve(e.message));
    });
    // The handle under a socket, and another address than the one that was looked up.
    const below = new Socket();
    below.connect({ host: "1.1.1.1", port: 1 });
    const handle = (below as any)._handle;
    below.on("error", () => {}).destroy();
    let servers = "set";
    try {
      setServers([`${host === "localhost" ? "127.0.0.1" : host}:${port}`]);
    } catch (error: any) {
      servers = error.message;
    }
    const found = {
      net: await socketOf(() => connect(port, host)),
      lookup: await socketOf(() => connect({ host: "example.com", port, lookup })),
      path: await socketOf(() => connect(path)),
      http: await asked,
      dgram: await sent,
      handle: handle.connect({}, "127.0.0.1", port),
      servers,
    };
    datagram.close();
    return found;
  },
});

export const loops = action(async (ctx) => {
  await ctx.runMutation(rows.put, { key: "loops", value: process.pid });
  for (;;);
});

export const traces = action(async () => {
  console.trace("here", 1);
  console.log(Object.assign(new Error("logged"), { code: 5 }));
});
