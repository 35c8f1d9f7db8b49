// Makes and removes accounts.
import { v } from "convex/values";
import { mutation } from "./_generated/server";

// A transaction may write at most 16,000 documents.
const CLEARED_AT_ONCE = 8000;

/** Makes the accounts `start`, `start + 1`, … (`count` of them), each with `initial` in it. */
export const seed_range = mutation({
  args: { start: v.number(), count: v.number(), initial: v.number() },
  returns: v.null(),
  handler: async (ctx, { start, count, initial }) => {
    for (let id = start; id < start + count; id++) {
      await ctx.db.insert("accounts", { id, balance: initial });
    }
    await ctx.db.insert("supply", { amount: count * initial });
    return null;
  },
});

/** Removes accounts, oldest first, and says whether there are more: call it until there are none. */
export const clear_accounts = mutation({
  args: {},
  returns: v.object({ deleted: v.number(), more: v.boolean() }),
  handler: async (ctx) => {
    const accounts = await ctx.db.query("accounts").take(CLEARED_AT_ONCE);
    for (const account of accounts) {
      await ctx.db.delete("accounts", account._id);
    }
    const taken = accounts.reduce((sum, account) => sum + account.balance, 0);
    await ctx.db.insert("supply", { amount: -taken });
    return { deleted: accounts.length, more: accounts.length === CLEARED_AT_ONCE };
  },
});
