import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
import lodash, { chunk } from "lodash";
import * as all from "lodash";
import { status } from "../shared/status";
import plain, { named } from "../lib/plain.cjs";
import babel, * as babelAll from "../lib/babel.cjs";
import { first } from "../lib/cycle_a.cjs";
import * as environment from "../lib/environment.cjs";
import data from "../lib/data.json";
import { a } from "../lib/circle_a.mjs";
import moduleDefault, { value, "a string name" as odd } from "../lib/module.mjs";
import { counter, increment as more } from "./nested/counter";
import * as counters from "./nested/counter";
import late from "./nested/late";

const before = counter;
more();
const facts = {
  counter,
  live: [before, counters.counter],
  chunk: chunk([1, 2, 3], 2),
  same: lodash.chunk === all.chunk,
  plain,
  named,
  babel: [babel, babelAll.other],
  first: first(),
  environment: { ...environment },
  data,
  circle: a(),
  value: [value, odd, typeof moduleDefault],
  late: late(),
  shadow: ((counter: string) => ({ counter }))("shadowed"),
};

export default defineSchema({
  users: defineTable({ name: v.string(), status, facts: v.literal(JSON.stringify(facts)) }).index(
    "by_name",
    ["name"],
  ),
});
