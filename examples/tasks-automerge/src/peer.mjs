// One peer of a document: edits at once, on or off line, and merges what the others did.
//
// In: the address of a host, a document's id. Out: `doc`, as everybody will see it. Invariant: an
// edit stays in `outbox` until the host has stored it, whatever happens to the connection.
import * as Automerge from "@automerge/automerge";
import { ConvexClient } from "convex/browser";
import { api } from "../convex/_generated/api.js";

/** Pieces a page. */
const PAGE = 50;

/** The same first change in every peer, so that they all mean the same list. */
const BEGINNING = (() => {
  const empty = Automerge.init({ actor: "00".repeat(16) });
  const made = Automerge.change(empty, { time: 0 }, (doc) => {
    doc.title = "Tasks";
    doc.tasks = [];
  });
  return Automerge.save(made);
})();

export class Peer {
  /** The document, merged. */
  doc = Automerge.load(BEGINNING);
  /** Own changes that the host has not confirmed. */
  outbox = [];
  #url;
  #documentId;
  #client = null;
  /** Rejects what waits on a connection that is closed: the client itself never settles it. */
  #cut = () => {};
  #whenCut = null;
  #seen = new Set();
  #sending = null;
  #stops = [];

  constructor(url, documentId) {
    this.#url = url;
    this.#documentId = documentId;
  }

  get isOnline() {
    return this.#client !== null;
  }

  /** Edits the document, on or off line. */
  edit(change) {
    const before = this.doc;
    this.doc = Automerge.change(before, change);
    if (this.doc === before) return;
    this.outbox.push(Automerge.getLastLocalChange(this.doc));
    this.#send();
  }

  /** Goes on line: follows the others, sends what waits. */
  connect() {
    if (this.#client !== null) return;
    this.#client = new ConvexClient(this.#url, { unsavedChangesWarning: false, logger: false });
    this.#whenCut = new Promise((_, reject) => { this.#cut = reject; });
    this.#whenCut.catch(() => {});
    this.outbox.unshift(BEGINNING);
    this.#follow(this.#client, null);
    this.#send();
  }

  /** Goes off line. What was under way may or may not arrive; it is sent again. */
  async disconnect() {
    const client = this.#client;
    this.#client = null;
    this.#sending = null;
    for (const stop of this.#stops.splice(0)) stop();
    this.#cut(new Error("The peer went off line."));
    await client?.close();
  }

  /** Sends everything again as one snapshot, which the others need no changes for. */
  async submitSnapshot() {
    const data = buffer(Automerge.save(this.doc));
    const args = { documentId: this.#documentId, data };
    const submitted = this.#client.mutation(api.sync.submitSnapshot, args);
    await Promise.race([submitted, this.#whenCut]);
  }

  /** Subscribes to the page that starts at `cursor`, and once it is full to the next. */
  #follow(client, cursor) {
    let next = null;
    const paginationOpts = { numItems: PAGE, cursor };
    const args = { documentId: this.#documentId, paginationOpts };
    const stop = client.onUpdate(api.sync.pullChanges, args, (found) => {
      if (client !== this.#client) return;
      this.#merge(found.page);
      if (!found.isDone && next !== found.continueCursor) {
        next = found.continueCursor;
        this.#follow(client, next);
      }
    });
    this.#stops.push(stop);
  }

  #merge(page) {
    for (const { _id, data } of page) {
      if (this.#seen.has(_id)) continue;
      this.doc = Automerge.loadIncremental(this.doc, new Uint8Array(data));
      this.#seen.add(_id);
    }
  }

  /** Sends the outbox, oldest first, one at a time. */
  #send() {
    const client = this.#client;
    if (client === null || this.#sending !== null) return;
    this.#sending = (async () => {
      while (client === this.#client && this.outbox.length > 0) {
        const [change] = this.outbox;
        const args = { documentId: this.#documentId, data: buffer(change) };
        await client.mutation(api.sync.submitChange, args);
        // Only the connection that is the peer's own may take it out.
        if (client === this.#client) this.outbox.shift();
      }
      if (client === this.#client) this.#sending = null;
    })().catch(() => {
      // The connection was closed; the next one sends what is left.
    });
  }
}

/** These bytes in a buffer of their own, as the client wants them. */
function buffer(bytes) {
  return bytes.slice().buffer;
}
