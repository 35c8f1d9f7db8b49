import { componentsGeneric, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

const { inner } = componentsGeneric() as any;

export const add = mutation({
  args: { name: v.string(), by: v.number() },
  returns: v.number(),
  handler: async (ctx, args): Promise<number> => await ctx.runMutation(inner.lib.add, args),
});

/** Its own write and the one below are undone together. */
export const addTwiceAndFail = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.db.insert("notes", { name });
    await ctx.runMutation(inner.lib.add, { name, by: 7 });
    throw new Error("outer fails");
  },
});

export const seen = query({
  args: { name: v.string() },
  handler: async (ctx, { name }) => ({
    notes: (await ctx.db.query("notes").collect()).length,
    value: await ctx.runQuery(inner.lib.value, { name }),
    meta: await ctx.meta.getFunctionMetadata(),
  }),
});
