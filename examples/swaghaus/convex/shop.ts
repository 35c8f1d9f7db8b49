// What the shop's page calls: look at the shelf, put something into the cart, look at the cart.
import { ConvexError, v } from "convex/values";
import { mutation, query } from "./_generated/server";

/** What can be bought now, in alphabetical order. */
export const getItems = query({
  args: {},
  handler: async (ctx) => {
    const items = await ctx.db.query("items").withIndex("by_name").collect();
    return items.filter((item) => item.stock > 0);
  },
});

/** One item, also when it is sold out. */
export const getItem = query({
  args: { item: v.id("items") },
  handler: async (ctx, { item }) => await ctx.db.get("items", item),
});

/**
 * Moves one piece from the shelf into a buyer's cart.
 *
 * Two buyers who want the last piece at the same moment both read a stock of 1. Only one of them
 * can commit: the other's read is out of date by then, so the host runs it again, and this time
 * it reads 0 and throws. There is no lock here, and none is needed.
 */
export const addCart = mutation({
  args: { buyer: v.string(), item: v.id("items") },
  returns: v.object({ left: v.number() }),
  handler: async (ctx, { buyer, item: id }) => {
    const item = await ctx.db.get("items", id);
    if (item === null) {
      throw new ConvexError({ code: "NoSuchItem", item: id });
    }
    if (item.stock <= 0) {
      throw new ConvexError({ code: "SoldOut", name: item.name });
    }
    await ctx.db.patch("items", id, { stock: item.stock - 1 });

    const inCart = await ctx.db
      .query("carts")
      .withIndex("by_buyer_and_item", (q) => q.eq("buyer", buyer).eq("item", id))
      .unique();
    if (inCart === null) {
      await ctx.db.insert("carts", { buyer, item: id, quantity: 1 });
    } else {
      await ctx.db.patch("carts", inCart._id, { quantity: inCart.quantity + 1 });
    }
    return { left: item.stock - 1 };
  },
});

/** A buyer's cart, with the name and price of each item. */
export const getCart = query({
  args: { buyer: v.string() },
  handler: async (ctx, { buyer }) => {
    const lines = await ctx.db
      .query("carts")
      .withIndex("by_buyer", (q) => q.eq("buyer", buyer))
      .collect();
    return await Promise.all(
      lines.map(async (line) => {
        const item = await ctx.db.get("items", line.item);
        return { name: item?.name ?? "?", price: item?.price ?? 0, quantity: line.quantity };
      }),
    );
  },
});
