// Modules without side effects, joined into one: same values, same bindings, same globals.
import {
  anonymous, count, counter, even, fetchLike, members, name, nameB, named, odd, readA, readB, Shape,
  ShapeB,
} from "../scopes/index.js";

export function run() {
  return {
    names: [name, nameB],
    reads: [readA(0), readA(2), readB()],
    shapes: [new Shape().area(), new ShapeB().area(), ShapeB.kind, Shape.name, ShapeB.name],
    defaults: [anonymous(1), named(3), named.name, readB.name],
    cycle: [even(4), odd(4), even(7), odd(7)],
    namespaces: members(),
    live: [counter, count(), counter, count(), counter],
    globals: fetchLike(),
  };
}
