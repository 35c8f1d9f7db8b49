// What the web platform throws, and which requests it refuses: errors, each of its class.
//
// In: `print`. Out: lines. Invariant: the same lines in every runtime that keeps to the standards.

export default async function errors(print) {
  for (const [name, run] of Object.entries(THROWN)) {
    try {
      await run();
      print(name, "gives");
    } catch (error) {
      const isDOMException = error instanceof DOMException;
      print(name, error?.name, error instanceof Error, isDOMException,
        isDOMException && error.code);
    }
  }
  const controller = new AbortController();
  controller.abort();
  for (const signal of [AbortSignal.abort(), controller.signal,
    AbortSignal.any([controller.signal])]) {
    print(signal.reason.name, signal.reason.message);
  }
  const given = [null, "", 0].map((reason) => AbortSignal.abort(reason).reason);
  print(given);
}

const post = (init) => new Request("http://a/", { method: "POST", ...init });
const stream = () => new ReadableStream();

const THROWN = {
  "atob of one character": () => atob("a"),
  "atob of signs": () => atob("%%"),
  "atob padded within": () => atob("YQ=a"),
  "atob of much": () => atob("%".repeat(20_000)),
  btoa: () => btoa("\u20ac"),
  "structuredClone of a function": () => structuredClone(() => 1),
  throwIfAborted: () => AbortSignal.abort().throwIfAborted(),
  "measure of no mark": () => performance.measure("x", "nope"),
  "URL of a path": () => new URL("/path"),
  "TextDecoder of no encoding": () => new TextDecoder("nope"),
  "TextDecoder that is fatal": () => new TextDecoder("utf-8", { fatal: true })
    .decode(new Uint8Array([255])),
  "a second reader": () => {
    const locked = stream();
    locked.getReader();
    locked.getReader();
  },
  "a stream as a body": () => post({ body: stream() }),
  "a stream as a body, and half": () => post({ body: stream(), duplex: "half" }),
  "a stream of another request": () => new Request(post({ body: stream(), duplex: "half" })),
  "a stream instead of another's": () => new Request(post({ body: "text" }), { body: stream() }),
  "text and half": () => post({ body: "text", duplex: "half" }),
  "text and full": () => post({ body: "text", duplex: "full" }),
  "only-if-cached": () => post({ cache: "only-if-cached" }),
  "only-if-cached of the same origin": () => post({ cache: "only-if-cached", mode: "same-origin" }),
  "only-if-cached of another request": () => new Request(
    post({ cache: "only-if-cached", mode: "same-origin" }), { mode: "cors" }),
  navigate: () => post({ mode: "navigate" }),
};
