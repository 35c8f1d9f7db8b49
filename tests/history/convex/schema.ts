// Registers: each holds the list of everything that was appended to it.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  registers: defineTable({ name: v.string(), values: v.array(v.number()) })
    .index("by_name", ["name"]),
});
