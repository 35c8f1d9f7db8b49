// aggregate: ranks and sums of a table, each in a few reads however long the table is.
import { TableAggregate } from "@convex-dev/aggregate";
import { v } from "convex/values";
import { components } from "./_generated/api";
import type { DataModel } from "./_generated/dataModel";
import { mutation, query } from "./_generated/server";

const scores = new TableAggregate<{ Key: number; DataModel: DataModel; TableName: "results" }>(
  components.scores,
  { sortKey: (result) => -result.points, sumValue: (result) => result.points },
);

export const add = mutation({
  args: { player: v.string(), points: v.number() },
  handler: async (ctx, args) => {
    const id = await ctx.db.insert("results", args);
    const result = await ctx.db.get(id);
    await scores.insert(ctx, result!);
  },
});

/** Place among all results, from 0. */
export const rank = query({
  args: { points: v.number() },
  handler: (ctx, { points }) => scores.indexOf(ctx, -points),
});

export const summary = query({
  args: {},
  handler: async (ctx) => {
    const count = await scores.count(ctx);
    const best = count === 0 ? null : await scores.at(ctx, 0);
    const winner = best && (await ctx.db.get(best.id));
    return { count, sum: await scores.sum(ctx), winner: winner?.player ?? null };
  },
});
