// Who talks, where, and what was said.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  users: defineTable({ name: v.string() }).index("by_name", ["name"]),

  channels: defineTable({
    name: v.string(),
    topic: v.optional(v.string()),
    messages: v.number(),
  }).index("by_name", ["name"]),

  messages: defineTable({
    channel: v.id("channels"),
    author: v.id("users"),
    body: v.string(),
  }).index("by_channel", ["channel"]),
});
