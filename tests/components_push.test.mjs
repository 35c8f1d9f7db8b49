// Two pushers, one project: `concave push` sends and generates what `npx convex deploy` does.
//
// In: the built program, the npm package's command line, examples/components, a recorder.
// Out: checks on both requests and both `_generated` folders. Invariant: nothing is compared with
// what we believe the official command line does; it runs here.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  cpSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { CONCAVE, ROOT, copy, pointedAt } from "./host.mjs";
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

const official = (folder) => {
  const cli = join(folder, "node_modules/convex/bin/main.js");
  return push(folder, process.execPath, cli, "deploy", "--typecheck", "disable");
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

const folders = [];
process.on("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A copy of tests/codegen. */
function project(settings) {
  const folder = mkdtempSync(join(tmpdir(), "concave-codegen-"));
  cpSync(join(ROOT, "tests/codegen"), folder, { recursive: true });
  symlinkSync(join(ROOT, "tests/node_modules"), join(folder, "node_modules"));
  writeFileSync(join(folder, "convex.json"), JSON.stringify(settings));
  folders.push(folder);
  return folder;
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

/** `convex.json` of projects that want their generated code otherwise. */
const SETTINGS = {
  "as it comes": {},
  "one .ts file each": { codegen: { fileType: "ts" } },
  "types written out": { codegen: { staticApi: true, staticDataModel: true } },
  "types written out in .ts": {
    codegen: { fileType: "ts", staticApi: true, staticDataModel: true },
  },
  "CommonJS, components written out": {
    codegen: { legacyComponentApi: true },
    generateCommonJSApi: true,
  },
};

for (const [name, settings] of Object.entries(SETTINGS)) {
  test(`generated code: ${name}`, async () => {
    const folders = [project(settings), project(settings)];
    const push = await compare(...folders);
    const types = Object.values(generated(folders[0])).join("");
    // The comparison is of something: every part of the project is in it.
    for (const part of ["delete", "shapes", "inner"]) assert.match(types, new RegExp(part));
    assert.deepEqual(Object.keys(push.analysis).sort(), ["", "shapes", "shapes/inner"]);
  });
}

test("generated code of other settings goes when they change", async () => {
  const [folder, other] = [project({}), project({})];
  await compare(folder, other);
  for (const changed of [folder, other]) {
    writeFileSync(join(changed, "convex.json"), JSON.stringify(SETTINGS["one .ts file each"]));
  }
  await compare(folder, other);
});

test("ten components from npm and a local one", async () => {
  const push = await compare(copy("components"), copy("components"));
  const children = push.analysis[""].definition.childComponents;
  assert.equal(children.length, 12);
  // Some of them use each other, and bring versions of their own.
  const nested = children.filter(
    (child) => push.analysis[child.path].definition.childComponents.length > 0,
  );
  assert.ok(nested.length >= 4);
});
