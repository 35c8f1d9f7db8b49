import { name as nameOfA, read as outer, Shape as Base } from "./a.js";
const secret = "b";
function helper() { return secret; }
// The global of this name is another module's.
const structuredClone = () => "not the global";
export const name = `${nameOfA} and of ${secret}`;
export function read() {
  const name = "local";
  const nameOfB = { nameOfA, secret };
  return [name, nameOfB, outer(0), outer(1), helper(), structuredClone()];
}
export class Shape extends Base {
  area() { return [...super.area(), secret]; }
}
export function fetchLike() { return typeof queueMicrotask; }
