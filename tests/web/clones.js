// structuredClone with transfers, and how URLs look on the console.
//
// In: `print`. Out: lines. Invariant: equal in every runtime.
import { attempt } from "./print.js";

export default function clones(print) {
  const buffer = new Uint8Array([1, 2, 3]).buffer;
  const copy = structuredClone(buffer);
  print("copied", buffer.byteLength, copy.byteLength);
  const moved = structuredClone({ buffer, list: [buffer] }, { transfer: [buffer] });
  print("moved", buffer.byteLength, new Uint8Array(moved.buffer), moved.buffer === moved.list[0]);
  const view = new Uint16Array([1, 2]);
  const taken = structuredClone(view, { transfer: [view.buffer] });
  print("taken", view.length, [...taken]);
  print("none", structuredClone(1, {}), structuredClone(1, undefined), structuredClone(1, null));
  const twice = new ArrayBuffer(1);
  attempt(print, () => structuredClone(1, { transfer: [twice, twice] }));
  attempt(print, () => structuredClone(() => 1));
  print("kept", twice.byteLength);
  print("urls", typeof URL.canParse, "searchParams" in new URL("http://a/?b"));
}
