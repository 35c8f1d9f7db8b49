// Bodies of files, in and out of a Node process, a window at a time.
//
// In: what the host says about streams, bytes of a run. Out: the same the other way. Invariant: no
// more is under way than the window; a run's end ends its streams.

/** As `protocol.rs` has them, in bytes. */
const WINDOW_BYTES = 256 << 10;
const CHUNK_BYTES = 64 << 10;
/** Numbers of streams carry their run's number above this many bits. */
const RUN_SHIFT = 2 ** 20;

/** The streams of one run. */
export class Streams {
  #run;
  #say;
  #next = 0;
  #incoming = new Map();
  #outgoing = new Map();

  /** `say` sends the head of a message about a stream, and bytes. */
  constructor(run, say) {
    this.#run = run;
    this.#say = say;
  }

  /** Whether something is under way. */
  isBusy() {
    return this.#incoming.size + this.#outgoing.size > 0;
  }

  /** Opens a stream to the host. */
  open() {
    if (this.#next >= RUN_SHIFT) {
      throw new Error(`Too many streams: an action may send ${RUN_SHIFT} bodies and files in all, `
        + 'and receive as many. Split its work over several actions.');
    }
    const stream = this.#run * RUN_SHIFT + this.#next++;
    this.#outgoing.set(stream, { credit: WINDOW_BYTES, wake: undefined });
    return stream;
  }

  /** Sends a whole ReadableStream; stops reading it when the host wants no more. */
  async send(stream, body) {
    try {
      for await (const bytes of body) {
        for (let at = 0; at < bytes.length;) {
          const size = await this.#credit(stream, Math.min(bytes.length - at, CHUNK_BYTES));
          if (size === 0) return;
          this.#say({ event: 'chunk', stream }, bytes.subarray(at, at + size));
          at += size;
        }
      }
      this.#close(stream, undefined);
    } catch (error) {
      this.#close(stream, String(error));
      throw error;
    }
  }

  /** Reads a whole stream of the host. */
  async read(stream) {
    const parts = [];
    const incoming = this.expect(stream);
    for (;;) {
      const chunk = incoming.chunks.shift();
      if (chunk !== undefined) {
        parts.push(chunk);
        this.#say({ event: 'credit', stream, bytes: chunk.length });
      } else if (incoming.ended) {
        this.#incoming.delete(stream);
        if (incoming.error) throw new Error(incoming.error);
        return parts;
      } else await new Promise((resolve) => { incoming.wake = resolve; });
    }
  }

  /** Acts on what the host said. */
  takeIn({ event, stream, bytes: credit, error }, bytes) {
    if (event === 'chunk' || event === 'end') {
      // Its first bytes may come before the answer that names it.
      const incoming = this.expect(stream);
      if (event === 'chunk') incoming.chunks.push(Uint8Array.from(bytes));
      else Object.assign(incoming, { ended: true, error });
      incoming.wake?.();
      return;
    }
    const outgoing = this.#outgoing.get(stream);
    if (outgoing === undefined) return;
    if (event === 'stop') this.#outgoing.delete(stream);
    else outgoing.credit += credit;
    outgoing.wake?.();
  }

  /** The run has ended: nothing more of it is sent or wanted. */
  end() {
    const error = 'the function ended before its body did';
    for (const stream of this.#outgoing.keys()) this.#close(stream, error);
    for (const [stream, { ended }] of this.#incoming) {
      if (!ended) this.#say({ event: 'stop', stream });
    }
    this.#incoming.clear();
  }

  /** Makes room for a stream of the host. */
  expect(stream) {
    const known = this.#incoming.get(stream);
    if (known !== undefined) return known;
    const incoming = { chunks: [], ended: false, error: undefined, wake: undefined };
    this.#incoming.set(stream, incoming);
    return incoming;
  }

  /** Waits until some bytes may be sent; 0 when nobody wants more. */
  async #credit(stream, wanted) {
    for (;;) {
      const outgoing = this.#outgoing.get(stream);
      if (outgoing === undefined) return 0;
      const taken = Math.min(wanted, outgoing.credit);
      if (taken > 0) {
        outgoing.credit -= taken;
        return taken;
      }
      await new Promise((resolve) => { outgoing.wake = resolve; });
    }
  }

  #close(stream, error) {
    if (this.#outgoing.delete(stream)) this.#say({ event: 'end', stream, error });
  }
}
