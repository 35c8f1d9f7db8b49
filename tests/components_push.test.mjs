// Two pushers, one project: `concave push` sends and generates what `npx convex deploy` does.
//
// In: the built program, the npm package's command line, examples/components, a recorder.
// Out: checks on both requests and both `_generated` folders. Invariant: nothing is compared with
// what we believe the official command line does; it runs here.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { CONCAVE, copy, pointedAt } from "./host.mjs";
import { record } from "./recorder.mjs";

const run = promisify(execFile);
const recorder = await record();

/** Runs a pusher in a folder; what it prints is part of a failure. */
async function push(folder, ...command) {
  const { CONVEX_SELF_HOSTED_URL, CONVEX_SELF_HOSTED_ADMIN_KEY, ...env } = pointedAt(recorder);
  const flags = ["--url", recorder.url, "--admin-key", recorder.key];
  const options = { cwd: folder, env: { ...env, CI: "1" } };
  const ended = await run(command[0], [...command.slice(1), ...flags], options).catch((e) => e);
  assert.equal(ended.code ?? 0, 0, `${command.join(" ")}:\n${ended.stdout}${ended.stderr}`);
  return recorder.pushes.at(-1);
}

const official = (folder, command = "deploy") => {
  const cli = join(folder, "node_modules/convex/bin/main.js");
  return push(folder, process.execPath, cli, command, "--typecheck", "disable");
};
const ours = (folder) => push(folder, CONCAVE, "push", ".");

/** Every generated file of a project, by path. */
function generated(folder, within = "convex") {
  const found = {};
  for (const entry of readdirSync(join(folder, within), { withFileTypes: true })) {
    const path = join(within, entry.name);
    if (entry.isDirectory()) Object.assign(found, generated(folder, path));
    else if (within.endsWith("_generated")) found[path] = readFileSync(join(folder, path), "utf8");
  }
  return found;
}

/** What a push says of definitions, but for the code itself. */
function shape({ request }) {
  const paths = (modules) => modules.map((m) => m.path).filter((p) => !p.startsWith("_deps/"));
  const { appDefinition: app, componentDefinitions } = request;
  const common = (definition) => ({
    definition: definition.definition.path,
    environment: definition.definition.environment,
    dependencies: definition.dependencies,
    schema: definition.schema?.path ?? null,
    version: definition.udfServerVersion,
  });
  return {
    app: { ...common(app), modules: paths(app.changedModules).sort() },
    components: componentDefinitions.map((definition) => ({
      path: definition.definitionPath,
      ...common(definition),
      modules: paths(definition.functions).sort(),
    })),
    packages: request.nodeDependencies,
  };
}

/** Runs both pushers on copies of one project and compares all that they do. */
async function compare(folder, other) {
  const theirs = await official(other);
  const mine = await ours(folder);
  assert.deepEqual(shape(mine), shape(theirs));
  assert.deepEqual(mine.exported, theirs.exported);
  assert.deepEqual(mine.analysis, theirs.analysis);
  const [written, expected] = [generated(folder), generated(other)];
  assert.deepEqual(Object.keys(written), Object.keys(expected));
  for (const [path, text] of Object.entries(written)) assert.equal(text, expected[path], path);
  return mine;
}

test("ten components from npm and a local one", async () => {
  const push = await compare(copy("components"), copy("components"));
  assert.equal(Object.keys(push.analysis).length, 13);
});
