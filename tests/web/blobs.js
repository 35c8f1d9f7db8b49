// Blob and File.
//
// In: `print`. Out: lines. Invariant: the same lines wherever there are web classes.
import { attempt } from "./print.js";

export default async function blobs(print) {
  const blob = new Blob(["h\u00e9", new Uint8Array([1, 2, 3]), new Blob(["in"]),
    new DataView(new ArrayBuffer(2))], { type: "Text/Plain" });
  print(blob.size, blob.type, await blob.arrayBuffer());
  const slice = blob.slice(2, -3, "a/b");
  print(slice.size, slice.type, await slice.text(), blob.slice(-1).size, blob.slice(5, 2).size);
  const reader = blob.stream().getReader();
  const chunks = [];
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    chunks.push(...step.value);
  }
  print(chunks.length, chunks[3]);
  const file = new File(["x", blob], "n\u00e4me", { type: "t/y", lastModified: 1234 });
  print(file.name, file.size, file.type, file.lastModified, file instanceof Blob,
    Object.prototype.toString.call(file));
  const bytes = new Uint8Array([9, 9]);
  const kept = new Blob([bytes]);
  bytes[0] = 1;
  print(await kept.arrayBuffer(), new Blob().size, new Blob([], { type: "\u00e9" }).type);
  for (const use of [() => new Blob("text"), () => new File([]), () => new Blob(1),
    () => new Blob([], { endings: "odd" }), () => Blob()]) attempt(print, use);
  print(await new Blob(["a\nb"], { endings: "transparent" }).text());
}
