import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { internalMutation, mutation, query } from "./_generated/server";

export const list = query({
  args: { zebra: v.id("zebras"), limit: v.optional(v.number()) },
  returns: v.array(v.object({ _id: v.id("zebras"), stripes: v.number() })),
  handler: async () => [],
});
export const send = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    await ctx.runMutation(internal.messages.write, { text });
    await ctx.runMutation(components.shapes.simple.write, { text });
  },
});
export const write = internalMutation({ args: { text: v.string() }, handler: async () => null });
export const anything = query(async () => 1);
