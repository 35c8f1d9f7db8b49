import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema(
  {
    zebras: defineTable({ stripes: v.number() }),
    documents: defineTable({
      title: v.string(),
      body: v.optional(v.string()),
      tags: v.array(v.string()),
      owner: v.id("zebras"),
      place: v.object({ x: v.number(), deep: v.object({ y: v.optional(v.bytes()) }) }),
      vector: v.array(v.float64()),
      counts: v.record(v.string(), v.int64()),
    })
      .index("by_title", ["title", "owner"])
      .index("by_a_long_list_of_fields", ["place.x", "place.deep.y", "title", "owner", "body"])
      .searchIndex("by_body", { searchField: "body", filterFields: ["title", "owner"] })
      .searchIndex("plain", { searchField: "title" })
      .vectorIndex("by_vector", { vectorField: "vector", dimensions: 4, filterFields: ["title"] }),
    either: defineTable(
      v.union(
        v.object({ kind: v.literal("a"), a: v.number() }),
        v.object({ kind: v.literal("b"), b: v.string() }),
      ),
    ).index("by_kind", ["kind"]),
    anything: defineTable(v.any()),
  },
  { schemaValidation: false },
);
