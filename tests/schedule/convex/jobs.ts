// Jobs that leave notes, count, fail and look at themselves; mutations that schedule them.
import {
  internalActionGeneric as internalAction,
  internalMutationGeneric as internalMutation,
  internalQueryGeneric as internalQuery,
  mutationGeneric as mutation,
  queryGeneric as query,
  anyApi,
} from "convex/server";
import { v } from "convex/values";

const internal = anyApi;
const job = v.id("_scheduled_functions");

/** Leaves a note. */
export const note = internalMutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    await ctx.db.insert("notes", { text });
  },
});

/** Fails after it has written. */
export const fail = internalMutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    await ctx.db.insert("notes", { text });
    throw new Error(`no ${text} today`);
  },
});

/** Leaves a note of how it sees itself, and of who it is. */
export const look = internalMutation({
  args: {},
  handler: async (ctx: any) => {
    const { scheduledFunctionId } = await ctx.meta.getRequestMetadata();
    const { state } = await ctx.db.system.get(scheduledFunctionId);
    const identity = await ctx.auth.getUserIdentity();
    let text = `${state.kind} ${identity}`;
    try {
      await ctx.scheduler.cancel(scheduledFunctionId);
    } catch (error: any) {
      text += ` ${error.message}`;
    }
    await ctx.db.insert("notes", { text });
  },
});

/** Adds to a counter that everybody adds to. */
export const bump = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const counters = ctx.db.query("counters").withIndex("by_name", (q: any) => q.eq("name", name));
    const counter = await counters.unique();
    if (counter) await ctx.db.patch(counter._id, { count: counter.count + 1 });
    else await ctx.db.insert("counters", { name, count: 1 });
  },
});

/** What a counter has come to. */
export const count = query({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const counters = ctx.db.query("counters").withIndex("by_name", (q: any) => q.eq("name", name));
    return (await counters.unique())?.count ?? 0;
  },
});

/** Schedules from an action: one to cancel, one to run. */
export const relay = internalAction({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    const never = await ctx.scheduler.runAfter(3_600_000, internal.jobs.note, { text: "never" });
    await ctx.scheduler.cancel(never);
    await ctx.scheduler.runAfter(0, internal.jobs.note, { text });
    return never;
  },
});

/** Begins, waits until somebody counts for it, schedules in both ways there are, and ends. */
export const linger = internalAction({
  args: { gate: v.string() },
  handler: async (ctx, { gate }) => {
    const note = (text: string) => ctx.runMutation(internal.jobs.note, { text: `${gate} ${text}` });
    await note("began");
    while ((await ctx.runQuery(internal.jobs.count, { name: gate })) === 0) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await ctx.scheduler.runAfter(0, internal.jobs.note, { text: `${gate} itself` });
    const args = { text: `${gate} through a mutation` };
    await ctx.runMutation(internal.jobs.after, { path: "jobs:note", delay: 0, args });
    await note("ended");
  },
});

/** Fails outside of any transaction. */
export const explode = internalAction({
  args: {},
  handler: async () => {
    throw new Error("out there");
  },
});

/** How the notes stand that are scheduled with a text that begins so. */
export const planned = query({
  args: { start: v.string() },
  handler: async (ctx, { start }) => {
    const rows = await ctx.db.system.query("_scheduled_functions").collect();
    const isOurs = (row: any) =>
      row.name === "jobs.js:note" && String(row.args[0].text).startsWith(start);
    const ours = rows.filter(isOurs);
    return ours.map((row) => `${(row.args[0] as any).text}: ${row.state.kind}`);
  },
});

/** Something to schedule that cannot be. */
export const peek = internalQuery({ args: {}, handler: async () => null });

/** `runAfter`. */
export const after = mutation({
  args: { path: v.string(), delay: v.number(), args: v.any() },
  handler: async (ctx, { path, delay, args }) =>
    await ctx.scheduler.runAfter(delay, path as any, args),
});

/** `runAt`, a Date. */
export const at = mutation({
  args: { time: v.number(), text: v.string() },
  handler: async (ctx, { time, text }) =>
    await ctx.scheduler.runAt(new Date(time), internal.jobs.note, { text }),
});

/** Schedules, and then fails. */
export const afterAll = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    await ctx.scheduler.runAfter(0, internal.jobs.note, { text });
    throw new Error("never mind");
  },
});

/** Schedules many of the same at once. */
export const many = mutation({
  args: { path: v.string(), args: v.any(), times: v.number(), delay: v.number() },
  handler: async (ctx, { path, args, times, delay }) => {
    for (let n = 0; n < times; n++) await ctx.scheduler.runAfter(delay, path as any, args);
  },
});

/** `cancel`. */
export const cancel = mutation({
  args: { id: v.string() },
  handler: async (ctx, { id }) => await ctx.scheduler.cancel(id as any),
});

/** One job, as functions see it. */
export const get = query({
  args: { id: job },
  handler: async (ctx, { id }) => await ctx.db.system.get(id),
});

/** The kinds of states there are, and how many rows are in each. */
export const states = query({
  args: {},
  handler: async (ctx) => {
    const kinds: Record<string, number> = {};
    for (const row of await ctx.db.system.query("_scheduled_functions").collect()) {
      kinds[row.state.kind] = (kinds[row.state.kind] ?? 0) + 1;
    }
    return kinds;
  },
});

/** Every note. */
export const notes = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).map((note) => note.text),
});

/** What of the host's own a function must not see. */
export const hidden = query({
  args: {},
  handler: async (ctx: any) => await ctx.db.system.query("_cron_jobs").collect(),
});
