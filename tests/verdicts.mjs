// What `concave test` says of a folder.
//
// In: a folder, arguments. Out: exit code, what was printed, states and errors of tests. Invariant:
// every error of a run is in `errors`, those outside of tests by their file.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { CONCAVE } from "./host.mjs";

/** What programs print is compared: no colours. In CI they would write no snapshots. */
export const ENVIRONMENT = { ...process.env, NO_COLOR: "1", CI: "" };

/** Runs `concave test`; its exit code and what it printed. */
export function run(folder, ...args) {
  const options = { encoding: "utf8", env: ENVIRONMENT };
  // How fast this machine is decides nothing.
  const done = spawnSync(CONCAVE, ["test", folder, "--timeout", "60000", ...args], options);
  return { code: done.status, out: done.stdout, told: done.stderr };
}

/** The same, as data: `file > test` to its state, and everything else. */
export function report(folder, ...args) {
  const { code, out, told } = run(folder, "--reporter", "json", ...args);
  const json = JSON.parse(out || assert.fail(told));
  const states = {};
  const errors = {};
  for (const { file, tests, errors: outside } of json.files) {
    const short = file.replace(/^convex\//, "").replace(/\.test\.ts$/, "");
    if (outside.length > 0) errors[short] = outside.join("\n");
    for (const { name, state, errors: texts } of tests) {
      states[`${short} > ${name}`] = state;
      if (texts.length > 0) errors[`${short} > ${name}`] = texts.join("\n");
    }
  }
  return { code, states, errors, ...json };
}
