// A cycle: each needs the other, but only when called.
import { isOdd } from "./odd.js";
export function isEven(n) { return n === 0 || isOdd(n - 1); }
export const even = (n) => isEven(n);
export { odd } from "./odd.js";
