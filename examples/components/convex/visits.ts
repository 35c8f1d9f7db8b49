// sharded-counter: many writers count without waiting for each other.
import { ShardedCounter } from "@convex-dev/sharded-counter";
import { v } from "convex/values";
import { components } from "./_generated/api";
import { mutation, query } from "./_generated/server";

const visits = new ShardedCounter<string>(components.shardedCounter, { defaultShards: 8 });

export const add = mutation({
  args: { page: v.string() },
  handler: (ctx, { page }) => visits.inc(ctx, page),
});

export const count = query({
  args: { page: v.string() },
  handler: (ctx, { page }) => visits.count(ctx, page),
});
