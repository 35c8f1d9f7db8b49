// Channels, and the host's own housekeeping.
import { ConvexError, v } from "convex/values";
import { internal } from "./_generated/api";
import { internalMutation, mutation, query } from "./_generated/server";

const NAME = /^[a-z0-9-]{1,30}$/;

/** Opens a channel. */
export const open = mutation({
  args: { name: v.string(), topic: v.optional(v.string()) },
  returns: v.id("channels"),
  handler: async (ctx, { name, topic }) => {
    if (!NAME.test(name)) {
      throw new ConvexError({ code: "InvalidChannelName", name, allowed: NAME.source });
    }
    const known = await ctx.db
      .query("channels")
      .withIndex("by_name", (q) => q.eq("name", name))
      .unique();
    if (known !== null) {
      throw new ConvexError({ code: "ChannelExists", name });
    }
    return await ctx.db.insert("channels", { name, topic, messages: 0 });
  },
});

/** All channels, by name. */
export const list = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("channels").withIndex("by_name").collect(),
});

/** Empties a channel: a nested transaction that is part of this one. */
export const clear = mutation({
  args: { channel: v.id("channels") },
  returns: v.number(),
  handler: async (ctx, { channel }): Promise<number> => {
    const removed = await ctx.runMutation(internal.channels.removeMessages, { channel });
    await ctx.db.patch("channels", channel, { messages: 0 });
    return removed;
  },
});

/** Removes what was said in a channel. Internal: clients cannot call it. */
export const removeMessages = internalMutation({
  args: { channel: v.id("channels") },
  returns: v.number(),
  handler: async (ctx, { channel }) => {
    const messages = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .collect();
    for (const message of messages) {
      await ctx.db.delete("messages", message._id);
    }
    return messages.length;
  },
});
