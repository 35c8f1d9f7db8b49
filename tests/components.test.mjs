// Components end to end: npm's own command line deploys small apps with them to a host of ours.
//
// In: the built program, tests/components, the convex package. Out: checks that instances share
// nothing, that calls across are one transaction, and that what is wrong is told.
// Invariant: the command line is the package's, unmodified.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ConvexHttpClient } from "convex/browser";
import { app } from "./app.mjs";
import { ROOT, pointedAt, serve } from "./host.mjs";

const run = promisify(execFile);
const CLI = join(ROOT, "tests/node_modules/convex/bin/main.js");

/** `npx convex …args` in a folder; gives all it printed. */
async function convex(folder, host, ...args) {
  const env = { ...pointedAt(host), CI: "1" };
  const ended = await run(process.execPath, [CLI, ...args], { cwd: folder, env })
    .catch((error) => error);
  return { code: ended.code ?? 0, output: `${ended.stdout}${ended.stderr}` };
}

const deploy = (folder, host) => convex(folder, host, "deploy", "--typecheck", "disable");

/** A copy of tests/components that a test may change. */
function fixture() {
  const folder = mkdtempSync(join(tmpdir(), "concave-components-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(ROOT, "tests/components"), folder, { recursive: true });
  symlinkSync(join(ROOT, "tests/node_modules"), join(folder, "node_modules"));
  return folder;
}

/** A host with the fixture on it, and ways to ask it. */
async function deployed() {
  const folder = fixture();
  const host = await serve();
  const said = await deploy(folder, host);
  assert.equal(said.code, 0, said.output);
  return { folder, host, said: said.output, ...asking(host) };
}

function asking(host) {
  const client = new ConvexHttpClient(host.url);
  return {
    client,
    ask: (path, args = {}) => client.query("calls:ask", { path, args }),
    run: (path, args = {}) => client.mutation("calls:run", { path, args }),
    act: (path, args = {}) => client.action("calls:act", { path, args }),
  };
}

/** Asks until the answer is the expected one: jobs run when they run. */
async function becomes(expected, question) {
  for (let patience = 200; ; patience--) {
    const answer = await question();
    if (patience === 0 || JSON.stringify(answer) === JSON.stringify(expected)) {
      return assert.deepEqual(answer, expected);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("one definition under two names, and nested: each instance has its own tables", async () => {
  const { host, client, ask, run, said } = await deployed();
  for (const path of ["one", "two", "outer", "outer/inner"]) {
    assert.match(said, new RegExp(`Installed component ${path}\\.`));
  }
  assert.equal(await client.mutation("calls:add", { which: "one", name: "a", by: 2 }), 2);
  assert.equal(await client.mutation("calls:add", { which: "one", name: "a", by: 3 }), 5);
  assert.equal(await client.mutation("calls:add", { which: "two", name: "a", by: 10 }), 10);
  assert.equal(await run("outer.deep.calls.add", { name: "a", by: 100 }), 100);
  assert.equal(await ask("one.lib.value", { name: "a" }), 5);
  assert.equal(await ask("two.lib.value", { name: "a" }), 10);
  const seen = await ask("outer.deep.calls.seen", { name: "a" });
  assert.equal(seen.value, 100);
  assert.equal(seen.meta.name, "deep/calls:seen");
  assert.equal(seen.meta.componentPath, "outer");
  await host.stop();
});
