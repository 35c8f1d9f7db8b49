import { AsyncLocalStorage } from "node:async_hooks";
import "server-only";
import { Level, type Status } from "../shared/status";
import { Status as AlsoAType, counter, increment } from "./nested/counter";
import * as counters from "./nested/counter";
import text from "../lib/note.txt";
import { a } from "../lib/circle_a.mjs";
import { value as renamed, "a string name" as odd } from "../lib/module.mjs";
export { Status } from "./nested/counter";
export { counters };

const unused: AlsoAType = "on" satisfies Status;

class Base<T> {
  constructor(
    private readonly inner: T,
    public label = "label",
  ) {}
  get(): T {
    return this.inner;
  }
}

namespace Space {
  export const inside = 1;
}

const shadow = (counter: number) => counter + 1;

export async function run() {
  const before = counter;
  increment();
  const late = await import("./nested/late");
  const missing = await import("./nested/missing" as string).catch((e) => e instanceof Error);
  const guarded = await import("../lib/not_there.mjs").catch((e) => e instanceof Error);
  return {
    live: [before, counter, counters.counter],
    late: late.default(),
    missing,
    guarded,
    storage: new AsyncLocalStorage().run(1, () => 2),
    level: Level.High,
    levels: Level[1],
    text,
    circle: a(),
    renamed,
    odd,
    base: new Base(3).get(),
    space: Space.inside,
    shadow: shadow(4),
    exact: { counter, increment: typeof increment },
    names: [Base.name, run.name, shadow.name],
    bigint: String(2n ** 64n),
    regexp: /(?<year>\d{4})/u.exec("in 2024")?.groups?.year,
    tagged: String.raw`a\n${1}`,
    unused,
  };
}
