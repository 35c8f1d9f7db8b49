// What Node actions call.
import {
  actionGeneric as action,
  anyApi,
  internalActionGeneric as internalAction,
  internalMutationGeneric as internalMutation,
  internalQueryGeneric as internalQuery,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { ConvexError, v } from "convex/values";

export const put = internalMutation({
  args: { key: v.string(), value: v.any() },
  handler: async (ctx, { key, value }) => {
    console.info("putting", key);
    return await ctx.db.insert("rows", { key, value });
  },
});

export const get = internalQuery({
  args: { key: v.string() },
  handler: async (ctx, { key }) => {
    const rows = await ctx.db.query("rows").filter((q) => q.eq(q.field("key"), key)).collect();
    return rows.map((row: any) => row.value);
  },
});

export const seen = query({
  args: { key: v.string() },
  handler: async (ctx, { key }): Promise<any> => ctx.runQuery(anyApi.rows.get, { key }),
});

/** Lets go who waits at a gate. */
export const open = mutation({
  args: { gate: v.string() },
  handler: async (ctx, { gate }) => {
    await ctx.db.insert("rows", { key: `${gate} is open`, value: true });
  },
});

export const refuses = internalMutation(async () => {
  throw new ConvexError({ code: "full", big: 2n ** 60n });
});

/** Not done before whoever does not await it. */
export const slow = internalAction(async () => {
  await new Promise((resolve) => setTimeout(resolve, 500));
});

/** From the default runtime into Node and back. */
export const there = action({
  args: { value: v.any() },
  handler: async (ctx, { value }): Promise<any> =>
    ctx.runAction(anyApi.deep.work.echo, { value }),
});
