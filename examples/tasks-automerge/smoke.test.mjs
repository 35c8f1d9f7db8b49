// Drives documents through peers with npm's unmodified ConvexClient. Needs a host that serves this
// folder: its address comes from CONVEX_SELF_HOSTED_URL.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import * as Automerge from "@automerge/automerge";
import { ConvexHttpClient } from "convex/browser";
import { api } from "./convex/_generated/api.js";
import { Peer } from "./src/peer.mjs";

const url = process.env.CONVEX_SELF_HOSTED_URL;
const client = () => new ConvexHttpClient(url, { logger: false });

/** Waits until `look` gives something true. */
async function until(look, what) {
  for (const end = Date.now() + 30_000; ; ) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const texts = (doc) => doc.tasks.map((task) => task.text).sort();
const add = (text) => (doc) => void doc.tasks.push({ id: text, text, done: false });

test("tasks-automerge: two who edit apart end with one list, and the query too", async () => {
  const documentId = randomUUID();
  const [ann, ben] = [new Peer(url, documentId), new Peer(url, documentId)];
  ann.edit(add("milk"));
  ben.edit(add("bread"));
  ben.edit((doc) => void (doc.tasks[0].done = true));
  ann.connect();
  ben.connect();
  const heads = (peer) => Automerge.getHeads(peer.doc).join();
  await until(() => texts(ann.doc).length === 2 && heads(ann) === heads(ben), "both tasks");
  const sent = () => ann.outbox.length === 0 && ben.outbox.length === 0;
  await until(sent, "confirmations");
  assert.deepEqual(texts(ann.doc), ["bread", "milk"]);
  assert.deepEqual(Automerge.toJS(ann.doc), Automerge.toJS(ben.doc));
  const seen = await client().query(api.documents.doc, { documentId });
  assert.deepEqual(seen, Automerge.toJS(ann.doc));

  // A mutation is one more peer.
  await client().mutation(api.documents.addTask, { documentId, text: "tea" });
  await until(() => texts(ben.doc).includes("tea"), "the mutation's task");
  await Promise.all([ann.disconnect(), ben.disconnect()]);
});

test("tasks-automerge: a piece that arrives twice is stored once", async () => {
  const documentId = randomUUID();
  const data = Automerge.save(Automerge.from({ title: "x", tasks: [] })).slice().buffer;
  const submit = () => client().mutation(api.sync.submitChange, { documentId, data });
  const first = await submit();
  assert.equal(await submit(), first);
  const snapshot = await client().mutation(api.sync.submitSnapshot, { documentId, data });
  assert.notEqual(snapshot, first);
  const paginationOpts = { numItems: 10, cursor: null };
  const pulled = await client().query(api.sync.pullChanges, { documentId, paginationOpts });
  assert.deepEqual(pulled.page.map((row) => [row._id, row.type]),
    [[first, "change"], [snapshot, "snapshot"]]);

  const deleted = await client().mutation(api.documents.deleteDoc, { documentId });
  assert.deepEqual(deleted, { more: false });
  assert.equal(await client().query(api.documents.doc, { documentId }), null);
  assert.deepEqual(await client().query(api.documents.heads, { documentId }), []);
});
