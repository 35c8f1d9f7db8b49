import {
  actionGeneric as action,
  componentsGeneric,
  createFunctionHandle,
  internalMutationGeneric as internalMutation,
  makeFunctionReference,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { v } from "convex/values";

const components = componentsGeneric() as any;
const which = v.union(v.literal("one"), v.literal("two"));
const noteReference = makeFunctionReference<"mutation">("calls:note");

export const add = mutation({
  args: { which, name: v.string(), by: v.number() },
  handler: async (ctx, { which, ...args }): Promise<number> =>
    await ctx.runMutation(components[which].lib.add, args),
});

/** Asks a component's query anything. */
export const ask = query({
  args: { path: v.string(), args: v.any() },
  handler: async (ctx, { path, args }) => await ctx.runQuery(at(path), args),
});

/** Has a component's mutation do anything. */
export const run = mutation({
  args: { path: v.string(), args: v.any() },
  handler: async (ctx, { path, args }) => await ctx.runMutation(at(path), args),
});

export const act = action({
  args: { path: v.string(), args: v.any() },
  handler: async (ctx, { path, args }) => await ctx.runAction(at(path), args),
});

function at(path: string) {
  let reference = components;
  for (const part of path.split(".")) reference = reference[part];
  return reference;
}

/** Catches what a component throws: what that wrote is undone, what came before is not. */
export const caught = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.runMutation(components.one.lib.add, { name, by: 1 });
    const errors: string[] = [];
    for (const target of [components.one.lib.fail, components.outer.deep.calls.addTwiceAndFail]) {
      await ctx.runMutation(target, { name }).catch((error: Error) => errors.push(error.message));
    }
    return errors;
  },
});

export const note = internalMutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    await ctx.db.insert("notes", { text });
    return `noted ${text}`;
  },
});

export const notes = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).map((note) => note.text),
});

/** Hands an internal function of the app to a component, which calls it. */
export const handOver = mutation({
  args: { to: v.string(), text: v.string() },
  handler: async (ctx, { to, text }) => {
    const handle = await createFunctionHandle(noteReference);
    return await ctx.runMutation(at(to), { handle, args: { text } });
  },
});

export const handle = query({
  args: { path: v.string() },
  handler: async (_, { path }) => await createFunctionHandle(at(path)),
});

export const callHandle = mutation({
  args: { handle: v.string(), args: v.any() },
  handler: async (ctx, { handle, args }) => await ctx.runMutation(handle as any, args),
});

export const environment = query({
  args: {},
  handler: async () => ({ label: process.env.LABEL ?? null, apps: process.env.SECRET ?? null }),
});
