// A bug on purpose: an action that decides with what it read in one transaction, and writes in
// another one. `race.test.ts` finds the order in which that loses money.
import { v } from "convex/values";
import { api, internal } from "./_generated/api";
import { action, internalMutation } from "./_generated/server";

/** Adds to an account: reads its balance, then writes the sum. */
export const deposit = action({
  args: { id: v.number(), amount: v.number() },
  returns: v.null(),
  handler: async (ctx, { id, amount }): Promise<null> => {
    const account = await ctx.runQuery(api.accounts.get_account, { id });
    // Another deposit may commit here: what was read is old then.
    const balance = (account?.balance ?? 0) + amount;
    await ctx.runMutation(internal.race.set_balance, { id, balance, amount });
    return null;
  },
});

/** Writes a balance, whatever it was, and that so much came in. */
export const set_balance = internalMutation({
  args: { id: v.number(), balance: v.number(), amount: v.number() },
  returns: v.null(),
  handler: async (ctx, { id, balance, amount }) => {
    const account = await ctx.db
      .query("accounts")
      .withIndex("by_account_id", (q) => q.eq("id", id))
      .unique();
    if (account !== null) {
      await ctx.db.patch("accounts", account._id, { balance });
      await ctx.db.insert("supply", { amount });
    }
    return null;
  },
});
