// Documents as their pieces: changes as peers made them, and snapshots of everything up to a point.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  changes: defineTable({
    documentId: v.string(),
    type: v.union(v.literal("change"), v.literal("snapshot")),
    /** SHA-256 of the data, in hex: a piece that arrives twice is stored once. */
    hash: v.string(),
    data: v.bytes(),
  })
    .index("by_document", ["documentId"])
    .index("by_hash", ["documentId", "type", "hash"]),
});
