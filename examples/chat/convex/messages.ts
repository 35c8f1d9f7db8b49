// What was said: newest first, a page at a time, each message with its author's name.
import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";
import { mutation, query } from "./_generated/server";

const LONGEST = 500;

/** Says something. The channel's count rises in the same transaction. */
export const send = mutation({
  args: { channel: v.id("channels"), author: v.id("users"), body: v.string() },
  returns: v.id("messages"),
  handler: async (ctx, { channel: id, author, body }) => {
    if (body.length === 0 || body.length > LONGEST) {
      throw new ConvexError({ code: "InvalidLength", length: body.length, longest: LONGEST });
    }
    const channel = await ctx.db.get("channels", id);
    if (channel === null || (await ctx.db.get("users", author)) === null) {
      throw new ConvexError({ code: "NotFound", channel: id, author });
    }
    await ctx.db.patch("channels", id, { messages: channel.messages + 1 });
    return await ctx.db.insert("messages", { channel: id, author, body });
  },
});

/** One page of a channel, newest first. */
export const list = query({
  args: { channel: v.id("channels"), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { channel, paginationOpts }) => {
    const result = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .order("desc")
      .paginate(paginationOpts);
    const page = await Promise.all(
      result.page.map(async (message) => {
        const author = await ctx.db.get("users", message.author);
        return { id: message._id, author: author?.name ?? "(gone)", body: message.body };
      }),
    );
    return { ...result, page };
  },
});
