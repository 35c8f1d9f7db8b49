import {
  actionGeneric as action,
  internalMutationGeneric as internalMutation,
  makeFunctionReference,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import type { FunctionHandle } from "convex/server";
import { v } from "convex/values";

/** What the modules saw when they were imported. */
const imported = { label: process.env.LABEL ?? null, shared: process.env.SHARED ?? null };

export const add = mutation({
  args: { name: v.string(), by: v.number() },
  returns: v.number(),
  handler: async (ctx, { name, by }) => {
    const byName = ctx.db.query("counts").withIndex("by_name", (q) => q.eq("name", name));
    const found = await byName.unique();
    if (found === null) {
      await ctx.db.insert("counts", { name, value: by });
      return by;
    }
    await ctx.db.patch(found._id, { value: found.value + by });
    return found.value + by;
  },
});

export const value = query({
  args: { name: v.string() },
  returns: v.number(),
  handler: async (ctx, { name }) => {
    const byName = ctx.db.query("counts").withIndex("by_name", (q) => q.eq("name", name));
    return (await byName.unique())?.value ?? 0;
  },
});

export const ids = query({
  args: {},
  handler: async (ctx) => {
    const all = await ctx.db.query("counts").collect();
    return Object.fromEntries(all.map((count) => [count.name, count._id]));
  },
});

export const get = query({
  args: { id: v.string() },
  handler: async (ctx, { id }) => {
    const own = ctx.db.normalizeId("counts", id);
    return own === null ? null : await ctx.db.get(own);
  },
});

/** Writes, then fails. */
export const fail = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.db.insert("counts", { name, value: 1000 });
    throw new Error(`${name} fails`);
  },
});

export const environment = query({
  args: {},
  handler: async () => ({
    label: process.env.LABEL ?? null,
    shared: process.env.SHARED ?? null,
    apps: process.env.SECRET ?? null,
    imported,
  }),
});

export const who = query({
  args: {},
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.subject ?? null,
});

export const page = query({
  args: {},
  handler: async (ctx) =>
    await ctx.db.query("counts").paginate({ cursor: null, numItems: 1 }),
});

export const badReturn = query({
  args: {},
  returns: v.number(),
  handler: async () => "text" as unknown as number,
});

export const hidden = internalMutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.db.insert("counts", { name, value: -1 });
  },
});

const add_ = makeFunctionReference<"mutation">("lib:add");

/** Schedules a function of its own. */
export const later = mutation({
  args: { name: v.string(), by: v.number() },
  handler: async (ctx, args) => await ctx.scheduler.runAfter(0, add_, args),
});

/** Calls back what it was handed. */
export const call = mutation({
  args: { handle: v.string(), args: v.any() },
  handler: async (ctx, { handle, args }) =>
    await ctx.runMutation(handle as FunctionHandle<"mutation">, args),
});

export const callLater = mutation({
  args: { handle: v.string(), args: v.any() },
  handler: async (ctx, { handle, args }) =>
    await ctx.scheduler.runAfter(0, handle as FunctionHandle<"mutation">, args),
});

export const jobs = query({
  args: {},
  handler: async (ctx) => {
    const jobs = await ctx.db.system.query("_scheduled_functions").collect();
    return jobs.map((job) => ({ name: job.name, state: job.state.kind }));
  },
});

export const files = query({
  args: {},
  handler: async (ctx) => {
    const files = await ctx.db.system.query("_storage").collect();
    return await Promise.all(files.map(async (file) => ({
      id: file._id,
      size: file.size,
      url: await ctx.storage.getUrl(file._id),
    })));
  },
});

export const upload = mutation({
  args: {},
  handler: async (ctx) => await ctx.storage.generateUploadUrl(),
});

/** An action calls its own component, stores a file, schedules. */
export const act = action({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const added: number = await ctx.runMutation(add_, { name, by: 5 });
    const file = await ctx.storage.store(new Blob([name]));
    await ctx.scheduler.runAfter(0, add_, { name, by: 1 });
    return { added, label: process.env.LABEL ?? null, apps: process.env.SECRET ?? null,
      url: await ctx.storage.getUrl(file) };
  },
});
