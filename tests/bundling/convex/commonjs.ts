import plain, { named } from "../lib/plain.cjs";
import * as plainAll from "../lib/plain.cjs";
import babel, { other } from "../lib/babel.cjs";
import * as babelAll from "../lib/babel.cjs";
import fn from "../lib/function.cjs";
import data, { list } from "../lib/data.json";
import * as dataAll from "../lib/data.json";
import { first } from "../lib/cycle_a.cjs";
import * as environment from "../lib/environment.cjs";
import { passed, own } from "../lib/passes_on.cjs";
export * from "../lib/plain.cjs";

export function run() {
  return {
    plain,
    named,
    plainAll: { ...plainAll },
    babel,
    other,
    babelAll: { ...babelAll },
    fn: fn(2),
    fnProperty: (fn as any).extra,
    data,
    list,
    dataKeys: Object.keys(dataAll).sort(),
    first: first(),
    environment: { ...environment },
    passed,
    own,
  };
}
