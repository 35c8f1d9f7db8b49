// Bodies of requests and responses: every kind, every way to read them, once.
//
// In: `print`. Out: lines. Invariant: the same lines wherever there are web classes.
import { attempt, settled } from "./print.js";

const BYTES = new Uint8Array([72, 105, 0, 255]);

export default async function bodies(print) {
  const inits = () => [
    undefined, null, "", "h\u00e9\ud800", BYTES, BYTES.buffer, new DataView(BYTES.buffer, 1, 2),
    new Uint16Array([1, 2]), new Blob(["ab", BYTES], { type: "text/x; q=1" }),
    new URLSearchParams([["a b", "c&d"]]), { toString: () => "object" },
  ];
  for (const [at] of inits().entries()) {
    for (const way of ["text", "bytes", "arrayBuffer", "json"]) {
      const response = new Response(inits()[at]);
      const { body } = way === "text" ? response : {};
      print(at, way, response.headers.get("content-type"), body === undefined ? "" : body !== null);
      // Node 20 has no bytes().
      if (way === "bytes" && response.bytes === undefined) response.bytes = viaBuffer;
      await settled(print, response[way]());
      print(response.bodyUsed);
      await settled(print, response.text());
    }
  }
  await blobs(print);
  await streams(print);
  await clones(print);
}

async function viaBuffer() {
  return new Uint8Array(await this.arrayBuffer());
}

async function blobs(print) {
  const typed = new Response("a", { headers: { "content-type": "Text/HTML;Charset=\"utf-8\"" } });
  const blob = await typed.blob();
  print(blob.type, blob.size, blob instanceof Blob, await blob.text());
  print((await new Response(BYTES).blob()).type, (await new Response("a").blob()).type);
  print(await new Response("\ufeffmark").text());
  await settled(print, new Response("\ufeff{}").json());
}

async function streams(print) {
  const chunks = (list) => new ReadableStream({
    start(controller) {
      for (const chunk of list) controller.enqueue(chunk);
      controller.close();
    },
  });
  const part = (text) => new TextEncoder().encode(text);
  const response = new Response(chunks([part("a"), part("\u20ac").slice(0, 1),
    part("\u20ac").slice(1)]));
  print(response.headers.get("content-type"), response.body.locked);
  print(await response.text(), response.bodyUsed);
  await settled(print, new Response(chunks(["text"])).text());
  const locked = new Response(chunks([]));
  locked.body.getReader();
  await settled(print, locked.text());
  print(locked.bodyUsed);
  attempt(print, () => new Response(locked.body));
  const failing = new ReadableStream({ pull() { throw new RangeError("no"); } });
  await settled(print, new Response(failing).text());
  const whole = new Response("in parts");
  const reader = whole.body.getReader();
  print((await reader.read()).value, whole.bodyUsed, (await reader.read()).done);
  await settled(print, inTurns(new Response("byob")));
  const after = new Response("x");
  await after.text();
  print(after.body !== null, after.bodyUsed);
}

async function inTurns(response) {
  const reader = response.body.getReader({ mode: "byob" });
  const views = [new Uint8Array(2), new Uint8Array(9)];
  return [(await reader.read(views[0])).value, (await reader.read(views[1])).value];
}

async function clones(print) {
  for (const init of ["text", new Response("stream").body, null]) {
    const first = new Response(init, { status: 201, headers: { a: "b" } });
    const second = first.clone();
    first.headers.set("a", "c");
    print(second.status, second.headers.get("a"), await first.text(), first.bodyUsed,
      second.bodyUsed, await second.text());
    attempt(print, () => first.clone());
  }
}
