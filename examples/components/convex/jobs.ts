// workpool: a queue with a bounded number of workers, and a callback for what became of each job.
import { vOnCompleteArgs, Workpool } from "@convex-dev/workpool";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { internalAction, internalMutation, mutation, query } from "./_generated/server";

const pool = new Workpool(components.workpool, { maxParallelism: 2 });

export const start = mutation({
  args: { numbers: v.array(v.number()) },
  handler: async (ctx, { numbers }) => {
    for (const number of numbers) {
      await pool.enqueueAction(
        ctx,
        internal.jobs.square,
        { number },
        { onComplete: internal.jobs.done, context: `square of ${number}` },
      );
    }
  },
});

export const square = internalAction({
  args: { number: v.number() },
  handler: async (_ctx, { number }) => {
    if (number < 0) throw new Error("no negative numbers here");
    return number * number;
  },
});

export const done = internalMutation({
  args: vOnCompleteArgs(v.string()),
  handler: async (ctx, { context, result }) => {
    const text = result.kind === "success" ? String(result.returnValue) : result.kind;
    await ctx.db.insert("outcomes", { of: context, text });
  },
});

/** What became of something: `null` while it runs. */
export const outcome = query({
  args: { of: v.string() },
  handler: async (ctx, { of }) => {
    const found = await ctx.db
      .query("outcomes")
      .withIndex("by_of", (q) => q.eq("of", of))
      .first();
    return found?.text ?? null;
  },
});
