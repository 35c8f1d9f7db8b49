// Clients that are not JavaScript: PyPI's `convex` and crates.io's `convex`, unmodified.
//
// In: the built program, tests/python and tests/rust-client. Out: what those programs say.
// Invariant: under CI nothing is skipped; elsewhere a test that is skipped says what is missing.
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { join } from "node:path";
import { after, test } from "node:test";
import { ROOT, serve } from "./host.mjs";

const host = await serve("--push", "tests/live");
after(() => host.stop());

/** Runs a program that the host serves meanwhile, and gives what it printed. */
const run = (program, ...args) =>
  new Promise((resolve, reject) => {
    execFile(program, args, { cwd: ROOT, timeout: 600_000 }, (error, stdout, stderr) =>
      error ? reject(new Error(`${error}\n${stdout}${stderr}`)) : resolve(stdout));
  });

test("PyPI's client subscribes, mutates and sees the update", async (t) => {
  const made = spawnSync(join(ROOT, "scripts/python.sh"), { encoding: "utf8" });
  if (made.status === 3 && !process.env.CI) {
    console.log(`SKIPPED: ${made.stderr}`);
    return t.skip("no python3-venv");
  }
  assert.equal(made.status, 0, made.stdout + made.stderr);
  const said = await run(".cache/python/bin/python", "tests/python/client.py", host.url);
  assert.match(said, /PyPI convex: subscribed, mutated, saw the update/);
});

test("crates.io's client subscribes, mutates and sees the update", async () => {
  const manifest = ["--manifest-path", "tests/rust-client/Cargo.toml"];
  const said = await run("cargo", "run", "--quiet", "--locked", ...manifest, "--", host.url);
  assert.match(said, /crates.io convex: subscribed, mutated, saw the update/);
});
