// Actions that call back, fail in every way, and eat what they can get.
import {
  actionGeneric as action,
  anyApi,
  internalActionGeneric as internalAction,
  internalMutationGeneric as internalMutation,
  internalQueryGeneric as internalQuery,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { ConvexError, v } from "convex/values";

const { acts } = anyApi;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

// What a module sees while it is evaluated is fixed by the push, in every function kind.
const evaluated = [Math.random(), Date.now(), new Date().toISOString()];
export const evaluatedInAction = action(async () => {
  const now = [Date.now(), new Date().getTime()];
  return { evaluated, isLive: now.every((time) => time > evaluated[1]), date: Date(),
    random: Math.random() };
});
export const evaluatedInQuery = query(async () => evaluated);

export const put = internalMutation({
  args: { key: v.string(), value: v.any() },
  handler: async (ctx, { key, value }) => {
    console.info("putting", key);
    return await ctx.db.insert("pairs", { key, value });
  },
});

export const get = internalQuery({
  args: { key: v.string() },
  handler: async (ctx, { key }) => {
    const found = await ctx.db.query("pairs").filter((q) => q.eq(q.field("key"), key)).collect();
    return found.map((pair: any) => pair.value);
  },
});

export const count = query(async (ctx) => (await ctx.db.query("pairs").collect()).length);

/** A mutation, a query and an action, each seeing what the one before did. */
export const roundTrip = action({
  args: { key: v.string(), value: v.any() },
  returns: v.any(),
  handler: async (ctx, { key, value }) => {
    console.log("before", { key });
    await ctx.runMutation(acts.put, { key, value });
    const seen = await ctx.runQuery(acts.get, { key });
    const again: any = await ctx.runAction(acts.echo, { value: seen });
    console.log("after", new Map([["seen", again]]));
    return again;
  },
});

export const echo = internalAction({
  args: { value: v.any() },
  handler: async (_ctx, { value }) => value,
});

export const oneEach = action({
  args: { key: v.string() },
  handler: async (ctx, { key }) => {
    await ctx.runMutation(acts.put, { key, value: 1 });
    return (await ctx.runQuery(acts.get, { key })).length;
  },
});

// What benches/actions.rs calls: by an index, so that the work stays the same.
export const nothing = action(async () => null);
export const write = mutation(async (ctx, { key }: any) => {
  await ctx.db.insert("keyed", { key });
});
export const read = query(async (ctx, { key }: any) =>
  ctx.db.query("keyed").withIndex("by_key", (q: any) => q.eq("key", key)).first());
export const both = action(async (ctx, { key }: any) => {
  await ctx.runMutation(acts.write, { key });
  return ctx.runQuery(acts.read, { key });
});

const inner = () => {
  throw new Error("from inside");
};
const logsFrames = () => {
  console.trace("here", 1);
  console.log([Object.assign(new Error("logged", { cause: new TypeError("deep") }), { code: 5 })]);
};
export const framesInQuery = query(async () => logsFrames());
export const framesInAction = action(async () => logsFrames());
export const throws = action(async () => {
  await sleep(1);
  inner();
});

export const throwsData = action(async (_ctx, { code }: any) => {
  throw new ConvexError({ code, big: 2n ** 60n });
});

export const rethrows = action(async (ctx, { code }: any) => {
  try {
    await ctx.runAction(acts.throwsData, { code });
  } catch (error) {
    return { isConvexError: error instanceof ConvexError, data: (error as any).data };
  }
  return null;
});

export const nestedError = action(async (ctx) => ctx.runMutation(acts.put, { key: 7 }));
export const missing = action(async (ctx) => ctx.runQuery(anyApi.nothing.here, {}));
export const wrongKind = action(async (ctx) => ctx.runMutation(acts.get, { key: "a" }));
export const badResult = action({ args: {}, returns: v.string(), handler: async () => 1 as any });
export const swallows = action(async (ctx) => {
  await ctx.runMutation(acts.put, { key: "a", value: {} }).catch(() => {});
  await ctx.runMutation(acts.put, { wrong: 1 } as any).catch(() => {});
  return "went on";
});

export const waits = action(async (_ctx, { ms }: any) => {
  console.log("waits");
  await sleep(ms);
  return "waited";
});
export const loops = action(async () => {
  console.log("loops");
  for (;;);
});
export const eats = action(async () => {
  const all: any[] = [];
  for (;;) all.push(new Array(1000).fill(all));
});
export const never = action(async () => new Promise(() => {}));
export const dangles = action(async (ctx) => {
  void ctx.runAction(acts.waits, { ms: 500 });
  return "returned";
});
export const rejects = action(async () => {
  void Promise.reject(new TypeError("nobody caught it"));
  await sleep(1000);
});

export const listens = action(async () => {
  const target = new EventTarget();
  target.addEventListener("x", () => {
    throw new RangeError("from a listener");
  });
  target.dispatchEvent(new Event("x"));
  await sleep(1000);
});

export const identity = action(async (ctx) => ctx.auth.getUserIdentity());
export const variables = action(async () => [
  process.env.CONVEX_CLOUD_URL,
  process.env.NOT_SET ?? null,
]);
export const leaks = action(async () => {
  const kept = ((globalThis as any).kept ??= []);
  kept.push(new Array(10_000).fill(kept.length));
  return kept.length;
});
export const handles = action(async (ctx) => {
  const { createFunctionHandle } = await import("convex/server");
  const handle = await createFunctionHandle(acts.echo);
  return [handle, await ctx.runAction(handle as any, { value: "through a handle" })];
});
export const again = action(async (ctx): Promise<any> => ctx.runAction(acts.again, {}));
export const exits = action(async () => (process as any).exit(3));
export const stores = action(async (ctx) => ctx.storage.store("text" as any));

/** Says something, and waits until somebody has written. */
export const speaks = action(async (ctx) => {
  console.warn("not done yet");
  while ((await ctx.runQuery(acts.read, { key: "spoken" })) === null) await sleep(5);
});

/** Objects that say they are of the platform, and are not. */
export const forges = action(async () => {
  const brand = Symbol.for("Deno.core.hostObject");
  const forged = (parts: any) => ({ [brand]: () => parts });
  const errors: string[] = [];
  const types = ["nope", "Blob", "File", "CryptoKey", "DOMException", "__proto__", "constructor"];
  const parts = [null, 1, "Blob", {}, { type: {} }, ...types.map((type) => ({ type }))];
  const copies = [(value: any) => structuredClone(value), (value: any) => structuredClone([value]),
    (value: any) => performance.mark("m", { detail: value }).detail];
  for (const part of parts) {
    for (const copy of copies) {
      try {
        errors.push(typeof copy(forged(part)));
      } catch (error: any) {
        errors.push(error.name);
      }
    }
  }
  return errors.filter((name) => !["object", "DataCloneError", "TypeError"].includes(name));
});

/** A module of nothing, by the ways that read it from a response. */
export const streamsWasm = action({ args: {}, handler: async () => {
  const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
  const served = (type: string) => new Response(bytes, { headers: { "content-type": type } });
  const { instance, module } = await WebAssembly.instantiateStreaming(
    Promise.resolve(served("application/wasm; charset=x")));
  const compiled = await WebAssembly.compileStreaming(served("application/wasm"));
  const refused = await WebAssembly.compileStreaming(served("text/plain")).catch(String);
  return [instance instanceof WebAssembly.Instance, module instanceof WebAssembly.Module,
    compiled instanceof WebAssembly.Module, refused];
} });
