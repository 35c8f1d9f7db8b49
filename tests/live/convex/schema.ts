// Notes in lists, and boxes that hold a constant sum together.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  notes: defineTable({ list: v.string(), place: v.number(), body: v.string() })
    .index("by_list", ["list", "place"]),
  boxes: defineTable({ group: v.string(), name: v.string(), amount: v.number() })
    .index("by_name", ["group", "name"]),
});
