// What the app may ask of the component (mutation, query), and what it may not (internalQuery).
import { v } from "convex/values";
import { internalQuery, mutation, query } from "./_generated/server";

export const record = mutation({
  args: { who: v.string(), what: v.string() },
  returns: v.null(),
  handler: async (ctx, entry) => {
    await ctx.db.insert("entries", entry);
    return null;
  },
});

/** What somebody did, latest last. */
export const of = query({
  args: { who: v.string() },
  returns: v.array(v.object({ what: v.string(), at: v.number() })),
  handler: async (ctx, { who }) => {
    const entries = ctx.db.query("entries").withIndex("by_who", (q) => q.eq("who", who));
    const found = await entries.collect();
    return found.map((entry) => ({ what: entry.what, at: entry._creationTime }));
  },
});

/** For the component itself: the app does not see it. */
export const count = internalQuery({
  args: {},
  handler: async (ctx) => (await ctx.db.query("entries").collect()).length,
});
