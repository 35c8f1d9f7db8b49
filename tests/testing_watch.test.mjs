// `concave test --watch`: what comes and goes while nobody runs it.
//
// In: the built program, an app with a functions folder and a folder beside it. Out: checks of what
// is told after each change. Invariant: a change that a run would see is followed by a run.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { app } from "./app.mjs";
import { CONCAVE } from "./host.mjs";
import { ENVIRONMENT } from "./verdicts.mjs";
import { until } from "./watch.mjs";

const TESTS = `
import { expect, test } from "vitest";
import { deep } from "./deep/d";
test("plain", () => { expect(deep()).toBe(1); });
`;
const QUERY = `
import { queryGeneric as query } from "convex/server";
import { deep } from "../src/deep/d";
export const q = query({ handler: async () => deep() });
`;
const NEW = 'import { test } from "vitest";\ntest("new", () => {});';

/** Watches an app; `after` makes a change and waits for what a run says then. */
async function watching(name, work) {
  const folder = app(name, { "q.ts": QUERY });
  mkdirSync(join(folder, "src/deep"), { recursive: true });
  const write = (path, text) => writeFileSync(join(folder, path), text);
  write("src/deep/d.ts", "export const deep = () => 1;");
  write("src/i.test.ts", TESTS);
  const child = spawn(CONCAVE, ["test", folder, "--watch"], { env: ENVIRONMENT });
  let told = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => { told += text; });
  const after = async (change, pattern) => {
    told = "";
    change();
    await until(() => pattern.test(told), () => `${pattern} in ${told}`);
    await until(() => /waiting for changes\s*$/.test(told), () => `the end of ${told}`);
  };
  try {
    await until(() => /1 passed[^]*waiting for changes/.test(told), () => `a first run: ${told}`);
    await work({ after, write, to: (path) => join(folder, path) });
    assert.equal(child.exitCode, null);
  } finally {
    child.kill();
  }
}

test("a test file that comes is run, in a new folder too, and one that goes is not", () =>
  watching("watch_new", async ({ after, write, to }) => {
    await after(() => write("src/new.test.ts", NEW), /2 passed/);
    await after(() => {
      mkdirSync(to("src/n"));
      write("src/n/a.test.ts", NEW);
    }, /3 passed/);
    await after(() => write("src/n/b.test.ts", NEW), /4 passed/);
    await after(() => rmSync(to("src/n"), { recursive: true }), /2 passed/);
  }));

test("a module that is missing may come, wherever its folder is", () =>
  watching("watch_missing", async ({ after, write, to }) => {
    const text = 'import { x } from "../lib/notyet";\nimport { expect, test } from "vitest";\n'
      + 'test("x", () => { expect(x).toBe(2); });';
    await after(() => write("src/x.test.ts", text), /Could not resolve/);
    await after(() => {
      mkdirSync(to("lib"));
      write("lib/notyet.ts", "export const x = 2;");
    }, /2 passed/);
  }));

test("a folder that goes and comes again is watched again", () =>
  watching("watch_moved", async ({ after, write, to }) => {
    await after(() => renameSync(to("src/deep"), to("src/deeper")), /Could not resolve/);
    await after(() => renameSync(to("src/deeper"), to("src/deep")), /1 passed/);
    await after(() => write("src/deep/d.ts", "export const deep = () => 2;"), /1 failed/);
  }));
