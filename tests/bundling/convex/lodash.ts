import _ from "lodash";
import * as all from "lodash";
import { groupBy, map as mapAll } from "lodash";
import chunk from "lodash/chunk.js";
import fp from "lodash/fp.js";

export function run() {
  const { sortBy } = all;
  return {
    chunk: chunk([1, 2, 3, 4, 5], 2),
    group: groupBy(["one", "two", "three"], "length"),
    map: mapAll({ a: 1, b: 2 }, (value: number, key: string) => key + value),
    sorted: sortBy([3, 1, 2]),
    fp: fp.flow(fp.map((x: number) => x * 2), fp.sum)([1, 2, 3]),
    same: all.default === _ && all.groupBy === groupBy,
    names: Object.keys(all).length > 300,
  };
}
