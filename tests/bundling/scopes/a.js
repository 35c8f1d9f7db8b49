const secret = "a";
export const name = `name of ${secret}`;
export function read(depth) {
  // `helper` is a local here and a declaration in b.js.
  const helper = (n) => `${secret}${n}`;
  return depth === 0 ? helper(0) : { secret, helper: helper(depth) };
}
export class Shape {
  static kind = "shape of a";
  area() { return [secret, Shape.kind]; }
}
