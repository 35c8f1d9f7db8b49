"use node";
import { createHash } from "node:crypto";
import path, { join } from "path";
import _ from "lodash";
import { Level } from "../shared/status";

export function run() {
  return {
    hash: createHash("sha256").update("x").digest("hex"),
    joined: join("a", "b") + path.sep,
    chunk: _.chunk([1, 2, 3], 2),
    level: Level.Low,
  };
}
