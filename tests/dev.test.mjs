// `concave dev` while things go wrong: what it tries again, what it restores, what it watches.
//
// In: the built program and apps of a few files. Out: checks of output and files.
// Invariant: what is repaired is pushed without anything else being saved.
import assert from "node:assert/strict";
import {
  existsSync, mkdirSync, readFileSync, readdirSync, realpathSync, rmSync, symlinkSync, unlinkSync,
  utimesSync, writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { app } from "./app.mjs";
import { concave, eventually, start } from "./host.mjs";

process.setMaxListeners(30);
const DEV = ["--port", "0", "--site-port", "0", "--in-memory"];
const QUERY = `import { query } from "./_generated/server";
export const a = query(async () => 1);
`;

/** A development server of an app; `does` runs a command in its folder, which must succeed. */
async function develop(name, sources, prepare = () => {}) {
  const folder = app(name, sources);
  prepare(folder);
  const host = await start(["dev", folder, ...DEV]);
  const does = (...args) => {
    const ended = concave(args, { cwd: folder });
    assert.equal(ended.status, 0, ended.stderr);
    return ended.stdout.trim();
  };
  const file = (...path) => join(folder, ...path);
  const count = (text) => host.output.split(text).length - 1;
  return { host, does, file, count };
}

/** Packages of the app's own, beside npm's `convex`. */
function ownPackages(folder) {
  const convex = realpathSync(join(folder, "node_modules/convex"));
  unlinkSync(join(folder, "node_modules"));
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(convex, join(folder, "node_modules/convex"));
}

function install(folder, name, source) {
  const place = join(folder, "node_modules", name);
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, "package.json"), `{ "name": "${name}", "main": "index.js" }`);
  writeFileSync(join(place, "index.js"), source);
}

const touch = (path) => utimesSync(path, new Date(), new Date());

test("a push that a variable fails is tried again once the variable is set", async () => {
  const { host, does, count } = await develop("issuer", {
    "m.ts": QUERY,
    "auth.config.ts": `export default {
  providers: [{ domain: process.env.ISSUER, applicationID: "x" }],
};
`,
  });
  await host.says(/ISSUER[^]*what was running goes on/);
  // Another one: the same failure is not told twice, and nothing else happens.
  does("env", "set", "OTHER", "1");
  does("env", "set", "ISSUER", "https://issuer.example");
  await host.says(/push +pushed 1 function /);
  assert.equal(count("error:"), 1, host.output);
  await host.stop();
});

test("a module that throws without a variable is pushed once it is there", async () => {
  const { host, does } = await develop("throws", {
    "m.ts": `if (!process.env.NEEDED) throw new Error("NEEDED is not set");
${QUERY}`,
  });
  await host.says(/NEEDED is not set[^]*what was running goes on/);
  does("env", "set", "NEEDED", "1");
  await host.says(/push +pushed 1 function /);
  assert.equal(does("run", "m:a"), "1");
  await host.stop();
});

test("a schema is pushed once the documents fit, and a failure is told once", async () => {
  const { host, does, file, count } = await develop("schema", {
    "m.ts": `import { internalMutation } from "./_generated/server";
export const add = internalMutation(async ({ db }, args) => db.insert("things", args));
export const note = internalMutation(async ({ db }) => db.insert("notes", {}));
export const clear = internalMutation(async ({ db }) => {
  for (const { _id } of await db.query("things").collect()) await db.delete(_id);
});
`,
  });
  await host.says(/push +pushed/);
  does("run", "m:add", "{ name: 1 }");
  const from = host.output.length;
  writeFileSync(file("convex/schema.ts"), `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({ things: defineTable({ name: v.string() }), notes: defineTable({}) });
`);
  await host.says(/Schema validation failed[^]*what was running goes on/, from);
  // A save of the same text is a save.
  touch(file("convex/schema.ts"));
  await host.says(/push +failed again, for the same reason/, from);
  does("run", "m:note");
  does("run", "m:clear");
  await host.says(/push +pushed/, from);
  assert.equal(count("Schema validation failed"), 1, host.output);
  await host.stop();
});

test("a package that was missing is pushed once it is installed", async () => {
  const source = `import { query } from "./_generated/server";
import { z } from "zzpkg";
export const a = query(async () => z);
`;
  const { host, does, file } = await develop("missing", { "m.ts": source }, ownPackages);
  await host.says(/Could not resolve "zzpkg"[^]*npm install zzpkg/);
  install(file(), "zzpkg", "exports.z = 7;");
  await host.says(/push +pushed 1 function /);
  assert.equal(does("run", "m:a"), "7");
  await host.stop();
});

test("a name that is like a package's is told both ways out", async () => {
  const source = 'import ms from "ms";\nexport const a = ms;\n';
  const near = (folder) => {
    ownPackages(folder);
    install(folder, "ws", "");
  };
  const { host } = await develop("near", { "m.ts": source }, near);
  await host.says(/Could not resolve "ms"[^]*npm install ms\n[^]*Did you mean "ws"\?/);
  await host.stop();
});

test("a file of a package that the app reads is watched", async () => {
  const source = `import { query } from "./_generated/server";
import { x } from "dep";
export const a = query(async () => x);
`;
  const { host, does, file } = await develop("patched", { "m.ts": source }, (folder) => {
    ownPackages(folder);
    install(folder, "dep", "exports.x = 1;");
  });
  await host.says(/push +pushed/);
  assert.equal(does("run", "m:a"), "1");
  let from = host.output.length;
  writeFileSync(file("node_modules/dep/index.js"), "exports.x = 22;");
  await host.says(/push +pushed/, from);
  assert.equal(does("run", "m:a"), "22");
  // Installed again: the folder is another one now.
  from = host.output.length;
  rmSync(file("node_modules/dep"), { recursive: true });
  await host.says(/Could not resolve "dep"/, from);
  install(file(), "dep", "exports.x = 3;");
  await host.says(/push +pushed/, from);
  from = host.output.length;
  writeFileSync(file("node_modules/dep/index.js"), "exports.x = 44;");
  await host.says(/push +pushed/, from);
  assert.equal(does("run", "m:a"), "44");
  await host.stop();
});

test("generated files that somebody removes are written again", async () => {
  const { host, file } = await develop("generated", { "m.ts": QUERY });
  await host.says(/push +pushed/);
  const folder = file("convex/_generated");
  const names = () => (existsSync(folder) ? readdirSync(folder) : []);
  const read = () => Object.fromEntries(names().filter((name) => !name.startsWith("."))
    .map((name) => [name, readFileSync(join(folder, name), "utf8")]));
  const before = read();
  const same = () => isDeepStrictEqual(read(), before);
  rmSync(folder, { recursive: true });
  await host.says(/push +\d generated files? written again/);
  await eventually("all files are there", same);
  unlinkSync(join(folder, "api.d.ts"));
  await eventually("one file is there again", same);
  await host.stop();
});

test("generated files know the modules of an app that does not bundle", async () => {
  const broken = 'import z from "./nowhere";\nexport const b = z;\n';
  const { host, file } = await develop("early", { "m.ts": QUERY, "deep/broken.ts": broken });
  await host.says(/Could not resolve ".\/nowhere"/);
  const types = () => readFileSync(file("convex/_generated/api.d.ts"), "utf8");
  assert.match(types(), /"deep\/broken": typeof deep_broken;\n +m: typeof m;/);
  assert.ok(existsSync(file("convex/_generated/server.d.ts")));
  writeFileSync(file("convex/deep/broken.ts"), "export const b = 1;\n");
  const early = types();
  await host.says(/push +pushed/);
  assert.equal(types(), early, "the push had nothing to add");
  writeFileSync(file("convex/deep/broken.ts"), broken);
  writeFileSync(file("convex/other.ts"), QUERY);
  await eventually("a new module", types, (text) => text.includes("other: typeof other;"));
  await host.stop();
});

test("an index for searches is warned of, once", async () => {
  const schema = `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({
  users: defineTable({ name: v.string(), at: v.array(v.float64()) })
    .searchIndex("search_name", { searchField: "name" })
    .vectorIndex("near", { vectorField: "at", dimensions: 2 }),
});
`;
  const actions = `import { action } from "./_generated/server";
export const near = action(async (ctx) => ctx.vectorSearch("users", "near", { vector: [1, 2] }));
`;
  const { host, file, count } = await develop("search", { "schema.ts": schema, "m.ts": actions });
  await host.says(/push +pushed/);
  const indexes = "search index users.search_name, vector index users.near";
  assert.ok(host.output.includes(`will fail here: ${indexes}.`), host.output);
  const failed = concave(["run", "m:near"], { cwd: file() });
  assert.match(failed.stderr, /ctx\.vectorSearch is not supported by this version of \w+ yet\./);
  const from = host.output.length;
  writeFileSync(file("convex/other.ts"), QUERY);
  await host.says(/push +pushed/, from);
  assert.equal(count("no search yet"), 1, host.output);
  await host.stop();
});

test("run takes numbers as JavaScript does, and files as a shell completes them", async () => {
  const { host, does, file } = await develop("echo", {
    "a.ts": `import { mutation } from "./_generated/server";
const shown = (x: number) => Object.is(x, -0) ? "-0" : String(x);
export const echo = mutation(async (_, { x }: { x: number }) => shown(x));
`,
  });
  await host.says(/push +pushed/);
  const echo = (text) => does("run", "a:echo", text);
  for (const [text, shown] of [
    ['{"x":NaN}', "NaN"], ['{"x":Infinity}', "Infinity"], ["{x:-Infinity}", "-Infinity"],
    ["{x:-0}", "-0"], ['{"x":-0}', "-0"], ["{x:1e999}", "Infinity"], ["{x:1e-0}", "1"],
  ]) {
    assert.equal(echo(text), `"${shown}"`, text);
  }
  const names = (...all) => all.forEach((name) =>
    assert.equal(does("run", name, "{x: 1}"), '"1"', name));
  names("a:echo", "convex/a:echo", "convex/a.ts:echo", "./convex/a.ts:echo", "api.a.echo");
  const from = host.output.length;
  mkdirSync(file("backend/fns"), { recursive: true });
  writeFileSync(file("backend/fns/m.ts"), readFileSync(file("convex/a.ts")));
  writeFileSync(file("convex.json"), '{ "functions": "backend/fns/" }');
  await host.says(/push +pushed/, from);
  names("m:echo", "backend/fns/m.ts:echo", "backend/fns/m:echo");
  await host.stop();
});

test("a function of a component is told with the component's name", async () => {
  const { host, does } = await develop("parts", {
    "convex.config.ts": `import { defineApp } from "convex/server";
import part from "./part/convex.config";
const app = defineApp();
app.use(part);
export default app;
`,
    "m.ts": QUERY,
    "part/convex.config.ts": `import { defineComponent } from "convex/server";
export default defineComponent("part");
`,
    "part/steps.ts": `import { mutation } from "./_generated/server";
export const add = mutation(async ({ db }) => { await db.insert("steps", {}); });
`,
  });
  await host.says(/push +pushed/);
  does("run", "steps:add", "--component", "part");
  await host.says(/mutation part\/steps:add /);
  await host.stop();
});
