// The table of the component: the app sees it only through log.ts.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  entries: defineTable({ who: v.string(), what: v.string() }).index("by_who", ["who"]),
});
