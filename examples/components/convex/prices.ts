// action-cache: an expensive action runs once for the same arguments.
// action-retrier: an action that fails is tried again, later and later.
import { ActionCache } from "@convex-dev/action-cache";
import { ActionRetrier, runIdValidator, runResultValidator } from "@convex-dev/action-retrier";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { action, internalAction, internalMutation, mutation } from "./_generated/server";

const cache = new ActionCache(components.actionCache, { action: internal.prices.ask });
const retrier = new ActionRetrier(components.actionRetrier, { initialBackoffMs: 50, base: 2 });

export const price = action({
  args: { item: v.string() },
  handler: (ctx, args): Promise<number> => cache.fetch(ctx, args),
});

/** Every call costs more than the last one: the cache shows. */
export const ask = internalAction({
  args: { item: v.string() },
  handler: (ctx, args): Promise<number> => ctx.runMutation(internal.prices.note, args),
});

export const note = internalMutation({
  args: { item: v.string() },
  handler: async (ctx, { item }): Promise<number> => {
    const of = `asked for ${item}`;
    await ctx.db.insert("outcomes", { of, text: "asked" });
    const asked = await ctx.db
      .query("outcomes")
      .withIndex("by_of", (q) => q.eq("of", of))
      .collect();
    return asked.length;
  },
});

export const buy = mutation({
  args: { item: v.string() },
  handler: async (ctx, args) => {
    const onComplete = internal.prices.bought;
    const run = await retrier.run(ctx, internal.prices.unreliable, args, { onComplete });
    await ctx.db.insert("purchases", { run, item: args.item });
  },
});

/** Fails the first two times. */
export const unreliable = internalAction({
  args: { item: v.string() },
  handler: async (ctx, { item }): Promise<string> => {
    const attempts: number = await ctx.runMutation(internal.prices.note, { item });
    if (attempts < 3) throw new Error(`attempt ${attempts} failed`);
    return `${item} after ${attempts} attempts`;
  },
});

export const bought = internalMutation({
  args: { runId: runIdValidator, result: runResultValidator },
  handler: async (ctx, { runId, result }) => {
    const purchase = await ctx.db
      .query("purchases")
      .withIndex("by_run", (q) => q.eq("run", runId))
      .unique();
    const text = result.type === "success" ? String(result.returnValue) : result.type;
    await ctx.db.insert("outcomes", { of: `purchase of ${purchase!.item}`, text });
  },
});
