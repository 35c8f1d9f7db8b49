// Lists of notes, ordered by place: what the tests watch, page through and break.
import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";

const inList = (ctx: any, list: string) =>
  ctx.db.query("notes").withIndex("by_list", (q: any) => q.eq("list", list));

/** The bodies of a list, in order. */
export const bodies = query({
  args: { list: v.string() },
  handler: async (ctx, { list }) =>
    (await inList(ctx, list).collect()).map((note: any) => note.body),
});

/** How many notes a list has. */
export const count = query({
  args: { list: v.string() },
  handler: async (ctx, { list }) => (await inList(ctx, list).collect()).length,
});

/** Whether a list has any note: reads the same range, changes seldom. */
export const any = query({
  args: { list: v.string() },
  handler: async (ctx, { list }) => (await inList(ctx, list).collect()).length > 0,
});

/** The longest body; throws while the list holds a note that is called "bad". */
export const longest = query({
  args: { list: v.string() },
  handler: async (ctx, { list }) => {
    const notes = await inList(ctx, list).collect();
    if (notes.some((note: any) => note.body === "bad")) throw new ConvexError({ code: "Bad", list });
    return Math.max(0, ...notes.map((note: any) => note.body.length));
  },
});

/** One page of a list, in order of place. */
export const page = query({
  args: { list: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { list, paginationOpts }) => {
    const result = await inList(ctx, list).paginate(paginationOpts);
    return { ...result, page: result.page.map((note: any) => note.place) };
  },
});

/** One page of those notes of a list that have this body, few of which are read at a time. */
export const found = query({
  args: { list: v.string(), body: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { list, body, paginationOpts }) => {
    const notes = inList(ctx, list).filter((q: any) => q.eq(q.field("body"), body));
    const result = await notes.paginate({ ...paginationOpts, maximumRowsRead: 4 });
    return { ...result, page: result.page.map((note: any) => note.place) };
  },
});

/** A megabyte that depends on nothing but its letter. */
export const large = query({
  args: { letter: v.string() },
  handler: async (_ctx, { letter }) => letter.repeat(1_000_000),
});

/** Adds a note, and tells how many the list has then. */
export const add = mutation({
  args: { list: v.string(), body: v.string(), place: v.optional(v.number()) },
  handler: async (ctx, { list, body, place }) => {
    const before = (await inList(ctx, list).collect()).length;
    await ctx.db.insert("notes", { list, body, place: place ?? before });
    return before + 1;
  },
});

/** Adds a note, and reads nothing. */
export const log = mutation({
  args: { list: v.string(), body: v.string(), place: v.number() },
  handler: async (ctx, note) => {
    await ctx.db.insert("notes", note);
    return note.place;
  },
});

/** The places of a list, in the order in which they were added. */
export const places = query({
  args: { list: v.string() },
  handler: async (ctx, { list }) => {
    const notes = await inList(ctx, list).collect();
    notes.sort((one: any, other: any) => one._creationTime - other._creationTime);
    return notes.map((note: any) => note.place);
  },
});

/** How many bytes or characters that is. */
export const weigh = mutation({
  args: { load: v.union(v.bytes(), v.string()) },
  handler: async (_ctx, { load }) => (typeof load === "string" ? load.length : load.byteLength),
});

/** Adds and removes notes by place, in one transaction. */
export const edit = mutation({
  args: { list: v.string(), add: v.array(v.number()), remove: v.array(v.number()) },
  handler: async (ctx, { list, add, remove }) => {
    for (const note of await inList(ctx, list).collect()) {
      if (remove.includes(note.place)) await ctx.db.delete(note._id);
    }
    for (const place of add) await ctx.db.insert("notes", { list, place, body: `${place}` });
  },
});

/** Moves every note of a list, in a loop over the index that has their places. */
export const move = mutation({
  args: { list: v.string(), by: v.number() },
  handler: async (ctx, { list, by }) => {
    let moved = 0;
    for await (const note of inList(ctx, list)) {
      await ctx.db.patch(note._id, { place: note.place + by });
      moved += 1;
    }
    return moved;
  },
});

/** Copies every note of a list into the same list. */
export const copy = mutation({
  args: { list: v.string() },
  handler: async (ctx, { list }) => {
    for await (const note of inList(ctx, list)) {
      await ctx.db.insert("notes", { list, body: note.body, place: note.place });
    }
  },
});

/** Removes every note with this body. */
export const drop = mutation({
  args: { list: v.string(), body: v.string() },
  handler: async (ctx, { list, body }) => {
    for (const note of await inList(ctx, list).collect()) {
      if (note.body === body) await ctx.db.delete(note._id);
    }
  },
});

/** Adds a note, then throws: nothing of it may be seen. */
export const fail = mutation({
  args: { list: v.string() },
  handler: async (ctx, { list }) => {
    await ctx.db.insert("notes", { list, body: "never", place: 0 });
    throw new ConvexError({ code: "Refused", list });
  },
});
