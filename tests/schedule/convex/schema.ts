// Notes that jobs leave, and counters that they share.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  notes: defineTable({ text: v.string() }),
  counters: defineTable({ name: v.string(), count: v.number() }).index("by_name", ["name"]),
});
