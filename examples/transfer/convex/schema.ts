// Accounts with a number of their own and a balance; and what was put into all of them together.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  accounts: defineTable({ id: v.number(), balance: v.number() }).index("by_account_id", ["id"]),
  // Each time that money comes in, or leaves: `invariants.ts` compares.
  supply: defineTable({ amount: v.number() }),
});
