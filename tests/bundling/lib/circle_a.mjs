import { b } from "./circle_b.mjs";
export function a() {
  return ["a", b];
}
