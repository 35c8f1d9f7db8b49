// What peers do: send the pieces that they made, and follow those of everybody.
import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import type { MutationCtx } from "./_generated/server";
import { mutation, query } from "./_generated/server";

const piece = { documentId: v.string(), data: v.bytes() };

/** Stores a change, once. */
export const submitChange = mutation({
  args: piece,
  returns: v.id("changes"),
  handler: async (ctx, { documentId, data }) => store(ctx, documentId, "change", data),
});

/** Stores a snapshot, once. */
export const submitSnapshot = mutation({
  args: piece,
  returns: v.id("changes"),
  handler: async (ctx, { documentId, data }) => store(ctx, documentId, "snapshot", data),
});

/** The pieces of a document, oldest first: peers subscribe to page after page. */
export const pullChanges = query({
  args: { documentId: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { documentId, paginationOpts }) => {
    const found = await ctx.db
      .query("changes")
      .withIndex("by_document", (q) => q.eq("documentId", documentId))
      .paginate(paginationOpts);
    return { ...found, page: found.page.map(({ _id, type, data }) => ({ _id, type, data })) };
  },
});

/** Inserts a piece unless it is there already; gives its row either way. */
export async function store(
  ctx: MutationCtx,
  documentId: string,
  type: "change" | "snapshot",
  data: ArrayBuffer,
) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const known = await ctx.db
    .query("changes")
    .withIndex("by_hash", (q) =>
      q.eq("documentId", documentId).eq("type", type).eq("hash", hash),
    )
    .first();
  return known?._id ?? (await ctx.db.insert("changes", { documentId, type, hash, data }));
}
