// People: found by name, made when they first come.
import { ConvexError, v } from "convex/values";
import { mutation, query } from "./_generated/server";

/** The user of that name; a new one if there is none yet. */
export const enter = mutation({
  args: { name: v.string() },
  returns: v.id("users"),
  handler: async (ctx, { name }) => {
    if (name.trim() === "") {
      throw new ConvexError({ code: "EmptyName" });
    }
    const known = await ctx.db
      .query("users")
      .withIndex("by_name", (q) => q.eq("name", name))
      .unique();
    return known?._id ?? (await ctx.db.insert("users", { name }));
  },
});

/** Names that start with `prefix`, in order: an index range. */
export const search = query({
  args: { prefix: v.string() },
  returns: v.array(v.string()),
  handler: async (ctx, { prefix }) => {
    const users = await ctx.db
      .query("users")
      .withIndex("by_name", (q) => q.gte("name", prefix).lt("name", prefix + "\uffff"))
      .take(20);
    return users.map((user) => user.name);
  },
});
