// migrations: every document of a table is visited, in batches, however long that takes.
import { Migrations } from "@convex-dev/migrations";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import type { DataModel } from "./_generated/dataModel";
import { mutation, query } from "./_generated/server";

const migrations = new Migrations<DataModel>(components.migrations);

export const addKeys = migrations.define({
  table: "players",
  batchSize: 2,
  migrateOne: (_ctx, player) => ({ key: player.name.toLowerCase() }),
});

export const run = migrations.runner();

export const enter = mutation({
  args: { names: v.array(v.string()) },
  handler: async (ctx, { names }) => {
    for (const name of names) await ctx.db.insert("players", { name });
  },
});

export const migrate = mutation({
  args: {},
  handler: async (ctx) => {
    await migrations.runOne(ctx, internal.players.addKeys);
  },
});

export const keys = query({
  args: {},
  handler: async (ctx) => {
    const players = await ctx.db.query("players").collect();
    return players.map((player) => player.key ?? null);
  },
});
