// Code that serves from a data folder: what is kept of it, and that it serves again.
//
// In: the built program, an app whose modules make much when they are imported, with components.
// Out: what the folder holds, what runs after a restart, old code too. Invariant: what can be made
// again of the sources takes no room beside the data, and is never what an answer depends on.
import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { folder, serve } from "./crash.mjs";
import { concave, pointedAt } from "./host.mjs";

const COMPONENTS = ["a", "b", "c", "d", "e"];
const MIB = 2 ** 20;

/** Some megabytes in a startup snapshot, from a line. */
const heavy = (version) => `
  import { query, mutation } from "./_generated/server";
  import { components } from "./_generated/api";
  const made = Array.from({ length: 60_000 }, (_, at) => ({ at, text: "entry " + at }));
  export const version = query({ handler: async () => [${version}, made.length] });
  export const add = mutation({ handler: async (ctx, { text }) => {
    for (const name of ${JSON.stringify(COMPONENTS)}) {
      await ctx.runMutation(components[name].rows.add, { text });
    }
    return await ctx.db.insert("notes", { text });
  } });
  export const all = query({ handler: async (ctx) => {
    const found = {};
    for (const name of ${JSON.stringify(COMPONENTS)}) {
      found[name] = await ctx.runQuery(components[name].rows.all, {});
    }
    return found;
  } });`;

const component = (name) => ({
  [`${name}/convex.config.ts`]: `import { defineComponent } from "convex/server";
    export default defineComponent("${name}");`,
  [`${name}/rows.ts`]: `import { mutation, query } from "./_generated/server";
    import { v } from "convex/values";
    export const add = mutation({ args: { text: v.string() }, returns: v.null(),
      handler: async ({ db }, { text }) => void (await db.insert("rows", { text })) });
    export const all = query({ args: {}, returns: v.array(v.string()),
      handler: async ({ db }) =>
        (await db.query("rows").collect()).map(({ text }) => "${name} " + text) });`,
});

const APP = app("kept-code", {
  "convex.config.ts": `import { defineApp } from "convex/server";
    ${COMPONENTS.map((name) => `import ${name} from "./${name}/convex.config";`).join("\n")}
    const app = defineApp();
    ${COMPONENTS.map((name) => `app.use(${name});`).join("\n")}
    export default app;`,
  "heavy.ts": heavy(1),
  ...Object.assign({}, ...COMPONENTS.map(component)),
});

/** Bytes of a folder's files. */
function size(path) {
  const sizes = readdirSync(path, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => statSync(join(entry.parentPath ?? entry.path, entry.name)).size);
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

function run(host, ...args) {
  const { status, stdout, stderr } = concave(args, { env: pointedAt(host) });
  assert.equal(status, 0, stderr);
  return stdout;
}

test("code in a data folder is its sources: it serves again, the old one too", async () => {
  const data = folder();
  let host = await serve(data, ["--push", APP]);
  const made = size(join(data, "snapshots"));
  assert.ok(made > 2 * MIB, `${made} bytes: the app is not heavy enough to show anything`);
  const id = await host.client.mutation(api.heavy.add, { text: "one" });
  const rows = await host.client.query(api.heavy.all, {});
  assert.deepEqual(rows.e, ["e one"]);
  const versions = [];
  for (let version = 2; version < 12; version++) {
    versions.push([version - 1, JSON.parse(run(host, "stats", "--json")).history.newest]);
    writeFileSync(join(APP, "convex/heavy.ts"), heavy(version));
    run(host, "push", APP);
    assert.deepEqual(await host.client.query(api.heavy.version), [version, 60_000]);
  }
  const kept = size(join(data, "db"));
  assert.ok(kept < made, `${kept} bytes of commits, and a snapshot is ${made}`);
  assert.equal(await host.stop(), 0);

  host = await serve(data);
  assert.deepEqual(await host.client.query(api.heavy.all, {}), rows);
  assert.deepEqual(await host.client.query(api.heavy.version), [11, 60_000]);
  assert.match(run(host, "history", "notes", id), /heavy:add/);
  await host.crash();

  // Nothing depends on what can be made again.
  rmSync(join(data, "snapshots"), { recursive: true });
  host = await serve(data);
  assert.ok(existsSync(join(data, "snapshots")));
  assert.deepEqual(await host.client.query(api.heavy.all, {}), rows);
  await host.client.mutation(api.heavy.add, { text: "two" });
  assert.deepEqual((await host.client.query(api.heavy.all, {})).a, ["a one", "a two"]);
  for (const [version, newest] of versions) {
    const then = JSON.parse(run(host, "run", "heavy:version", "--at", newest));
    assert.deepEqual(then, [version, 60_000]);
  }
  await host.crash();
});
