export const one = 1;
export function two(n) { return [this === undefined, n]; }
export class Three { value = 3; }
const text = "named in quotes";
export { text as "odd name" };
