// What only the shopkeeper may call: internal functions, reached with `concave run`.
import { v } from "convex/values";
import { internalMutation } from "./_generated/server";

const SHELF = [
  { name: "Cap", description: "Keeps the sun off the keyboard", price: 19, stock: 12 },
  { name: "Mug", description: "Holds 0.4 litres of serializable coffee", price: 12, stock: 30 },
  { name: "Sticker", description: "For the one free spot on the laptop", price: 2, stock: 500 },
  { name: "T-shirt", description: "Commits once, wears for years", price: 25, stock: 20 },
];

/** Empties carts and shelf and stocks the shelf again. */
export const refill = internalMutation({
  args: {},
  returns: v.number(),
  handler: async (ctx) => {
    for (const line of await ctx.db.query("carts").collect()) {
      await ctx.db.delete("carts", line._id);
    }
    for (const item of await ctx.db.query("items").collect()) {
      await ctx.db.delete("items", item._id);
    }
    for (const item of SHELF) {
      await ctx.db.insert("items", item);
    }
    console.log(`put ${SHELF.length} kinds of things on the shelf`);
    return SHELF.length;
  },
});

/** Puts one more kind of thing on the shelf. */
export const add = internalMutation({
  args: { name: v.string(), price: v.number(), stock: v.number() },
  returns: v.id("items"),
  handler: async (ctx, { name, price, stock }) =>
    await ctx.db.insert("items", { name, description: "", price, stock }),
});
