// What becomes of platform objects in structuredClone: copies of them, or errors.
//
// In: `print`. Out: lines. Invariant: equal in every runtime that keeps to the standards.
import { attempt } from "./print.js";

export default async function platform(print) {
  const blob = structuredClone(new Blob(["abc", "def"], { type: "text/x" }));
  print(blob instanceof Blob, blob.size, blob.type, await blob.text());
  const slice = structuredClone({ deep: [new Blob(["0123456789"]).slice(2, 5, "a/b")] }).deep[0];
  print(slice instanceof Blob, slice.size, slice.type, await slice.text());
  const file = structuredClone(new File(["in"], "name.txt", { type: "a/b", lastModified: 7 }));
  print(file instanceof File, file.name, file.size, file.type, file.lastModified,
    await file.text());
  const thrown = structuredClone(new DOMException("why", "AbortError"));
  print(thrown instanceof DOMException, thrown.name, thrown.message, thrown.code);
  const key = await crypto.subtle.importKey("raw", new Uint8Array(16),
    { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const copy = structuredClone([key, key]);
  print(copy[0] instanceof CryptoKey, copy[0] === copy[1], copy[0] === key, copy[0].extractable,
    copy[0].usages, copy[0].algorithm.hash.name);
  const signed = await crypto.subtle.sign("HMAC", copy[0], new Uint8Array(3));
  print(signed.byteLength, new Uint8Array(signed).slice(0, 4));
  attempt(print, () => structuredClone({ get a() { throw new RangeError("own"); } }));
}

/** What the standard lets nobody clone: an error for each, alone and deep inside of a value. */
export function uncloneable(print) {
  for (const [name, make] of Object.entries(UNCLONEABLE)) {
    print(name);
    attempt(print, () => structuredClone(make()));
    attempt(print, () => structuredClone({ deep: new Map([["in", [make()]]]) }));
  }
}

const UNCLONEABLE = {
  url: () => new URL("http://a/"),
  query: () => new URLSearchParams("a=b"),
  headers: () => new Headers(),
  request: () => new Request("http://a/"),
  response: () => new Response("x"),
  form: () => new FormData(),
  readable: () => new ReadableStream(),
  writable: () => new WritableStream(),
  transform: () => new TransformStream(),
  reader: () => new ReadableStream().getReader(),
  writer: () => new WritableStream().getWriter(),
  encoder: () => new TextEncoder(),
  decoder: () => new TextDecoder(),
  encoding: () => new TextEncoderStream(),
  decoding: () => new TextDecoderStream(),
  controller: () => new AbortController(),
  signal: () => new AbortController().signal,
  event: () => new Event("x"),
  target: () => new EventTarget(),
  own: () => new (class extends EventTarget {})(),
  crypto: () => crypto,
  subtle: () => crypto.subtle,
  performance: () => performance,
  mark: () => new PerformanceMark("m", { startTime: 1 }),
  promise: () => Promise.resolve(1),
  weak: () => new WeakRef({}),
};
