// The shop's two tables: what is on the shelf, and what lies in whose cart.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  items: defineTable({
    name: v.string(),
    description: v.string(),
    price: v.number(),
    // How many are left. `addCart` never takes it below zero.
    stock: v.number(),
  }).index("by_name", ["name"]),

  carts: defineTable({
    buyer: v.string(),
    item: v.id("items"),
    quantity: v.number(),
  })
    .index("by_buyer", ["buyer"])
    .index("by_buyer_and_item", ["buyer", "item"]),
});
