// What happened, in the order in which it was committed; tests wait for it and release it.
import {
  anyApi,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { v } from "convex/values";

export const add = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    await ctx.db.insert("notes", { text });
    return text.length;
  },
});

export const has = query({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    const found = await ctx.db.query("notes").withIndex("by_text", (q) => q.eq("text", text)).first();
    return found !== null;
  },
});

export const list = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).map((note) => note.text),
});

/** Waits until somebody has added the note. */
export async function waitFor(ctx: any, text: string) {
  while (!(await ctx.runQuery(anyApi.notes.has, { text }))) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
