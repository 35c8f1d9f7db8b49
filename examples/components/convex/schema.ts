// The tables of the app; those of its components are their own.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  messages: defineTable({ user: v.string(), text: v.string() }),
  players: defineTable({ name: v.string(), key: v.optional(v.string()) }),
  results: defineTable({ player: v.string(), points: v.number() }),
  purchases: defineTable({ run: v.string(), item: v.string() }).index("by_run", ["run"]),
  outcomes: defineTable({ of: v.string(), text: v.string() }).index("by_of", ["of"]),
});
