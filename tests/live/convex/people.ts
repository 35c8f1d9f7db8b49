// Who is asking, and a function that is neither query nor mutation.
import { actionGeneric as action, queryGeneric as query } from "convex/server";

/** The subject of the caller's identity, or null. */
export const subject = query({
  args: {},
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.subject ?? null,
});

export const act = action({ args: {}, handler: async () => "done" });
