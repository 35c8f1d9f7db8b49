// Boxes of a group: moving amounts between them keeps the group's sum.
import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

const box = (ctx: any, group: string, name: string) =>
  ctx.db.query("boxes").withIndex("by_name", (q: any) => q.eq("group", group).eq("name", name));

/** What one box holds. */
export const amount = query({
  args: { group: v.string(), name: v.string() },
  handler: async (ctx, { group, name }) => (await box(ctx, group, name).unique())?.amount ?? null,
});

/** Makes the boxes of a group, each with the same amount. */
export const fill = mutation({
  args: { group: v.string(), names: v.array(v.string()), amount: v.number() },
  handler: async (ctx, { group, names, amount }) => {
    for (const name of names) await ctx.db.insert("boxes", { group, name, amount });
  },
});

/** Moves an amount from one box to another. */
export const move = mutation({
  args: { group: v.string(), from: v.string(), to: v.string(), amount: v.number() },
  handler: async (ctx, { group, from, to, amount }) => {
    const source = await box(ctx, group, from).unique();
    const target = await box(ctx, group, to).unique();
    await ctx.db.patch(source._id, { amount: source.amount - amount });
    await ctx.db.patch(target._id, { amount: target.amount + amount });
  },
});
