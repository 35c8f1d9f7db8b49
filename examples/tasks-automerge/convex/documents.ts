// Whole documents: read on the server, edited there, made compact, deleted.
import { v } from "convex/values";
import { internal } from "./_generated/api";
import { action, internalMutation, internalQuery, mutation, query } from "./_generated/server";
import { Automerge, assemble, beginning, buffer, pieces, started } from "./automerge";
import { store } from "./sync";

const id = { documentId: v.string() };
const task = v.object({ id: v.string(), text: v.string(), done: v.boolean() });

/** The document as data, for clients that need no Automerge; `null` where there is none. */
export const doc = query({
  args: id,
  returns: v.union(v.null(), v.object({ title: v.string(), tasks: v.array(task) })),
  handler: async (ctx, { documentId }) => {
    const found = await assemble(await pieces(ctx.db, documentId));
    return found && Automerge.toJS(found);
  },
});

/** The heads of the document: equal heads are equal documents. */
export const heads = query({
  args: id,
  returns: v.array(v.string()),
  handler: async (ctx, { documentId }) => {
    const found = await assemble(await pieces(ctx.db, documentId));
    return found === null ? [] : Automerge.getHeads(found);
  },
});

/** Adds a task as one more peer, whose changes merge with those of all others. */
export const addTask = mutation({
  args: { ...id, text: v.string() },
  returns: v.string(),
  handler: async (ctx, { documentId, text }) => {
    await started;
    const rows: { data: ArrayBuffer }[] = await pieces(ctx.db, documentId);
    if (rows.length === 0) {
      const data = buffer(beginning());
      await store(ctx, documentId, "change", data);
      rows.push({ data });
    }
    const before = (await assemble(rows))!;
    const taskId = crypto.randomUUID();
    const time = Math.floor(Date.now() / 1000);
    const after = Automerge.change(before, { time }, (doc) => {
      doc.tasks.push({ id: taskId, text, done: false });
    });
    const change = Automerge.getLastLocalChange(after);
    if (change !== undefined) await store(ctx, documentId, "change", buffer(change));
    return taskId;
  },
});

/** One snapshot and the rows that it replaces. */
export const snapshot = internalQuery({
  args: id,
  handler: async (ctx, { documentId }) => {
    const rows = await pieces(ctx.db, documentId);
    const found = await assemble(rows);
    if (found === null) return null;
    return { data: buffer(Automerge.save(found)), rows: rows.map((row) => row._id) };
  },
});

/** Puts a snapshot in the place of the rows that it holds. */
export const replace = internalMutation({
  args: { ...id, data: v.bytes(), rows: v.array(v.id("changes")) },
  handler: async (ctx, { documentId, data, rows }) => {
    const kept = await store(ctx, documentId, "snapshot", data);
    for (const row of rows) {
      // Two of these may run at a time: what the other deleted is gone.
      if (row !== kept && (await ctx.db.get("changes", row)) !== null) {
        await ctx.db.delete("changes", row);
      }
    }
  },
});

/** Makes one snapshot of all pieces. Changes that arrive meanwhile stay as they are. */
export const compact = action({
  args: id,
  handler: async (ctx, { documentId }): Promise<number> => {
    const made = await ctx.runQuery(internal.documents.snapshot, { documentId });
    if (made === null || made.rows.length < 2) return 0;
    await ctx.runMutation(internal.documents.replace, { documentId, ...made });
    return made.rows.length;
  },
});

/** Deletes a document, some hundred pieces at a time; says whether there are more. */
export const deleteDoc = mutation({
  args: id,
  returns: v.object({ more: v.boolean() }),
  handler: async (ctx, { documentId }) => {
    const rows = await ctx.db
      .query("changes")
      .withIndex("by_document", (q) => q.eq("documentId", documentId))
      .take(500);
    for (const row of rows) await ctx.db.delete("changes", row._id);
    return { more: rows.length === 500 };
  },
});
