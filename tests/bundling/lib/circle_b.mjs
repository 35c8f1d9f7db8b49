import { a } from "./circle_a.mjs";
export const b = typeof a;
