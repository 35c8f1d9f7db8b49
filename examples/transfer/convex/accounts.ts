// Looks at accounts.
import { v } from "convex/values";
import { query } from "./_generated/server";

/** One account, or null. */
export const get_account = query({
  args: { id: v.number() },
  handler: async (ctx, { id }) =>
    await ctx.db
      .query("accounts")
      .withIndex("by_account_id", (q) => q.eq("id", id))
      .unique(),
});

/** How many accounts there are, what they hold together, and how many were touched since seeding. */
export const get_stats = query({
  args: { initialBalance: v.number() },
  returns: v.object({ count: v.number(), total: v.number(), changed: v.number() }),
  handler: async (ctx, { initialBalance }) => {
    const accounts = await ctx.db.query("accounts").collect();
    return {
      count: accounts.length,
      total: accounts.reduce((sum, account) => sum + account.balance, 0),
      changed: accounts.filter((account) => account.balance !== initialBalance).length,
    };
  },
});
