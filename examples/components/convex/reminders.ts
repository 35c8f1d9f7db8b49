// crons: timetables that the running app adds and removes.
import { Crons } from "@convex-dev/crons";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { internalMutation, mutation, query } from "./_generated/server";

const crons = new Crons(components.crons);

export const every = mutation({
  args: { name: v.string(), ms: v.number() },
  handler: async (ctx, { name, ms }) => {
    await crons.register(ctx, { kind: "interval", ms }, internal.reminders.remind, { name }, name);
  },
});

export const stop = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await crons.delete(ctx, { name });
  },
});

export const names = query({
  args: {},
  handler: async (ctx) => (await crons.list(ctx)).map((cron) => cron.name ?? null),
});

export const remind = internalMutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.db.insert("outcomes", { of: `reminder ${name}`, text: "reminded" });
  },
});
