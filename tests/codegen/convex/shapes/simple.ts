import { v } from "convex/values";
import { components } from "./_generated/api.js";
import { internalQuery, mutation, query } from "./_generated/server.js";

export const write = mutation({
  args: { text: v.string() },
  returns: v.null(),
  handler: async (ctx, { text }) => ctx.runMutation(components.second.sub.thing.put, { text }),
});
export const unseen = internalQuery({ args: {}, handler: async () => 1 });
export const none = query({ args: {}, handler: async () => 1 });
export const a10 = query({ args: {}, handler: async () => 1 });
export const a9 = query({ args: {}, handler: async () => 1 });
export const A9 = query({ args: {}, handler: async () => 1 });
export const a_9 = query({ args: {}, handler: async () => 1 });
export const undeclared = query(async () => 1);
