// Automerge inside functions. The file is named by its path, so that `npx convex deploy` finds it
// too; where only concave pushes, `import * as Automerge from "@automerge/automerge"` is enough.
import * as Automerge from "@automerge/automerge/slim";
import wasm from "../node_modules/@automerge/automerge/dist/automerge.wasm";
import type { DatabaseReader } from "./_generated/server";

/** Fulfilled once Automerge can be used. */
export const started = Automerge.initializeWasm(wasm as unknown as Uint8Array);

/** A list of tasks, as its peers see it. */
export type Tasks = { title: string; tasks: Task[] };
export type Task = { id: string; text: string; done: boolean };

/** The first change of every list, the same in `src/peer.mjs`: all peers mean the same tasks. */
export function beginning(): Uint8Array {
  const empty = Automerge.init<Tasks>({ actor: "00".repeat(16) });
  const made = Automerge.change(empty, { time: 0 }, (doc) => {
    doc.title = "Tasks";
    doc.tasks = [];
  });
  return Automerge.save(made);
}

/** The pieces of a document, oldest first. */
export async function pieces(db: DatabaseReader, documentId: string) {
  return await db
    .query("changes")
    .withIndex("by_document", (q) => q.eq("documentId", documentId))
    .collect();
}

/** The document that these pieces make; `null` where there are none. */
export async function assemble(rows: { data: ArrayBuffer }[]) {
  if (rows.length === 0) return null;
  await started;
  const bytes = new Uint8Array(rows.reduce((sum, row) => sum + row.data.byteLength, 0));
  let at = 0;
  for (const { data } of rows) {
    bytes.set(new Uint8Array(data), at);
    at += data.byteLength;
  }
  return Automerge.loadIncremental(Automerge.init<Tasks>(), bytes);
}

/** These bytes in a buffer of their own, as `v.bytes()` wants them. */
export function buffer(bytes: Uint8Array): ArrayBuffer {
  return bytes.slice().buffer as ArrayBuffer;
}

export { Automerge };
