// The transaction that databases are measured with: two reads by index, a check, two writes.
import { ConvexError, v } from "convex/values";
import type { DatabaseReader } from "./_generated/server";
import { mutation } from "./_generated/server";

/** Moves money from one account to another, or throws and moves nothing. */
export const transfer = mutation({
  args: { amount: v.number(), from_id: v.number(), to_id: v.number() },
  returns: v.null(),
  handler: async (ctx, { amount, from_id, to_id }) => {
    if (!(amount > 0) || from_id === to_id) {
      throw new ConvexError({ code: "InvalidTransfer", amount, from_id, to_id });
    }
    const from = await account(ctx.db, from_id);
    const to = await account(ctx.db, to_id);
    if (from.balance < amount) {
      throw new ConvexError({ code: "InsufficientFunds", id: from_id, balance: from.balance });
    }
    await ctx.db.patch("accounts", from._id, { balance: from.balance - amount });
    await ctx.db.patch("accounts", to._id, { balance: to.balance + amount });
    return null;
  },
});

async function account(db: DatabaseReader, id: number) {
  const found = await db
    .query("accounts")
    .withIndex("by_account_id", (q) => q.eq("id", id))
    .unique();
  if (found === null) {
    throw new ConvexError({ code: "NoSuchAccount", id });
  }
  return found;
}
