// Who is asking, and functions that are neither query nor mutation.
import { actionGeneric as action, queryGeneric as query } from "convex/server";
import { ConvexError, v } from "convex/values";

/** The subject of the caller's identity, or null. */
export const subject = query({
  args: {},
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.subject ?? null,
});

export const act = action({ args: {}, handler: async () => "done" });

/** Gives back what it gets. */
export const echo = action({
  args: { values: v.any() },
  handler: async (_ctx, { values }) => values,
});

/** How many bytes that is. */
export const size = query({
  args: { load: v.bytes() },
  handler: async (_ctx, { load }) => load.byteLength,
});

/** Throws what it gets. */
export const refuse = action({
  args: { data: v.any() },
  handler: async (_ctx, { data }) => {
    throw new ConvexError(data);
  },
});
