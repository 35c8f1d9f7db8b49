// Streams: reading, writing, transforming, text.
//
// In: `print`. Out: lines. Invariant: the same lines, in the same order, wherever there are
// streams.
import { attempt, settled } from "./print.js";

const from = (list) => new ReadableStream({
  start(controller) {
    for (const item of list) controller.enqueue(item);
    controller.close();
  },
});

const all = async (stream) => {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
};

export default async function streams(print) {
  await reading(print);
  await writing(print);
  await text(print);
  await bytes(print);
}

async function reading(print) {
  const stream = new ReadableStream({
    start() { print("start"); },
    pull(controller) {
      print("pull", controller.desiredSize);
      controller.enqueue("x");
      if (stream.done) controller.close();
      stream.done = true;
    },
    cancel(reason) { print("cancel", reason); },
  });
  print(await all(stream), stream.locked);
  const [left, right] = from([1, 2, 3]).tee();
  print(await all(left), await all(right));
  const cancelled = new ReadableStream({ cancel(reason) { print("cancelled", reason); } });
  await cancelled.cancel("why");
  const failing = new ReadableStream({ start(c) { c.error(new RangeError("r")); } });
  await settled(print, failing.getReader().read());
  const locked = from([1]);
  locked.getReader();
  attempt(print, () => locked.getReader());
  await settled(print, locked.cancel());
  const reader = from(["a"]).getReader();
  const [first, second] = [reader.read(), reader.read()];
  print(await first, await second, await reader.closed);
}

async function writing(print) {
  const written = [];
  const sink = () => new WritableStream({
    write(chunk) { written.push(chunk); },
    close() { print("closed", written); },
    abort(reason) { print("aborted", reason); },
  });
  await from([1, 2]).pipeTo(sink());
  const writer = sink().getWriter();
  print(writer.desiredSize, await writer.write("w"), await writer.ready);
  await writer.abort("stop");
  await settled(print, writer.write("late"));
  const doubled = new TransformStream({
    transform(chunk, controller) { controller.enqueue(chunk * 2); },
    flush(controller) { controller.enqueue("end"); },
  });
  print(await all(from([1, 2]).pipeThrough(doubled)));
  const controller = new AbortController();
  const endless = new ReadableStream({ pull(c) { c.enqueue(0); } });
  const piped = endless.pipeTo(new WritableStream({ write() { controller.abort(); } }),
    { signal: controller.signal });
  await settled(print, piped);
  attempt(print, () => endless.pipeTo(new WritableStream(), { signal: {} }));
}

async function text(print) {
  const encoded = from(["\ud83d", "\ude00", "e\u0301"]).pipeThrough(new TextEncoderStream());
  const bytes = await all(encoded);
  print(bytes);
  const split = bytes.flatMap((chunk) => [...chunk].map((byte) => new Uint8Array([byte])));
  const decoded = from(split).pipeThrough(new TextDecoderStream());
  print((await all(decoded)).join("|"));
  const bad = from([new Uint8Array([255])]);
  await settled(print, all(bad.pipeThrough(new TextDecoderStream("utf-8", { fatal: true }))));
  print(new TextDecoderStream("utf-16le").encoding);
}

async function bytes(print) {
  const stream = new ReadableStream({
    type: "bytes",
    pull(controller) {
      const { byobRequest } = controller;
      if (byobRequest === null) {
        controller.enqueue(new Uint8Array([1, 2, 3]));
      } else {
        byobRequest.view[0] = 7;
        byobRequest.respond(1);
      }
    },
  });
  const reader = stream.getReader({ mode: "byob" });
  print((await reader.read(new Uint8Array(4))).value);
  reader.releaseLock();
  const plain = stream.getReader();
  print((await plain.read()).value);
  await plain.cancel();
  print((await plain.read()).done);
}
