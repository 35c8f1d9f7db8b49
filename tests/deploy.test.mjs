// npm's own command line deploys the examples: `npx convex deploy` against a host of ours.
//
// In: the built program, copies of examples/*, the convex package. Out: checks that what it
// deployed runs, that our generated files are its own byte for byte, and that failures are told.
// Invariant: the command line is the package's, unmodified.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ConvexHttpClient } from "convex/browser";
import { EXAMPLES, ROOT, concave, copy, pointedAt, serve } from "./host.mjs";

const run = promisify(execFile);

/** What proves that a deployment runs: a public query and what it gives on an empty database. */
const FIRST_QUERY = {
  swaghaus: ["shop:getItems", {}, []],
  transfer: ["accounts:get_stats", { initialBalance: 1 }, { count: 0, total: 0, changed: 0 }],
  chat: ["channels:list", {}, []],
  "tasks-automerge": ["documents:doc", { documentId: "none" }, null],
  components: ["messages:statistics", {}, { messages: 0, characters: 0, longest: 0 }],
};

/** `CI=1 npx convex …` in a folder; gives all it printed. */
async function convex(folder, host, ...args) {
  const cli = join(folder, "node_modules/convex/bin/main.js");
  const flags = ["--url", host.url, "--admin-key", host.key];
  const { CONVEX_SELF_HOSTED_URL, CONVEX_SELF_HOSTED_ADMIN_KEY, ...env } = pointedAt(host);
  const ended = await run(process.execPath, [cli, ...args, ...flags], {
    cwd: folder,
    env: { ...env, CI: "1" },
  }).catch((error) => error);
  return { code: ended.code ?? 0, output: `${ended.stdout}${ended.stderr}` };
}

/** The files below `_generated`, by name. */
function generated(folder) {
  const files = readdirSync(join(folder, "convex/_generated")).sort();
  return files.map((name) => [name, readFileSync(join(folder, "convex/_generated", name), "utf8")]);
}

for (const example of EXAMPLES) {
  test(`npx convex deploy: ${example}, and it generates what we do`, async () => {
    const folder = copy(example);
    const host = await serve();
    const deployed = await convex(folder, host, "deploy");
    assert.equal(deployed.code, 0, deployed.output);
    assert.deepEqual(generated(folder), generated(join(ROOT, "examples", example)));

    const [path, args, expected] = FIRST_QUERY[example];
    assert.deepEqual(await new ConvexHttpClient(host.url).query(path, args), expected);
    await host.stop();
  });
}

test("npx convex deploy: ten components from npm, each of them works", async () => {
  const folder = copy("components");
  const host = await serve();
  const deployed = await convex(folder, host, "deploy");
  assert.equal(deployed.code, 0, deployed.output);
  const options = { cwd: folder, env: pointedAt(host) };
  delete options.env.NODE_TEST_CONTEXT;
  const smoke = await run(process.execPath, ["--test", "smoke.test.mjs"], options).catch((e) => e);
  assert.equal(smoke.code ?? 0, 0, smoke.stdout);
  await host.stop();
});

test("deploying again what concave pushed sends the changed module and changes it", async () => {
  const folder = copy("chat");
  const host = await serve("--push", folder);
  const file = join(folder, "convex/users.ts");
  writeFileSync(file, `${readFileSync(file, "utf8")}
export const hello = query({ args: {}, handler: async () => "hello" });
`);
  const deployed = await convex(folder, host, "deploy");
  assert.equal(deployed.code, 0, deployed.output);
  assert.equal(await new ConvexHttpClient(host.url).query("users:hello", {}), "hello");
  await host.stop();
});

test("a deploy that fails says why and leaves what was serving", async () => {
  const folder = copy("chat");
  const host = await serve("--push", folder);
  const broken = `throw new Error("broken at import");\nexport {};\n`;
  writeFileSync(join(folder, "convex/broken.ts"), broken);
  const deployed = await convex(folder, host, "deploy", "--typecheck", "disable");
  assert.notEqual(deployed.code, 0);
  assert.match(deployed.output, /broken at import/);
  assert.deepEqual(await new ConvexHttpClient(host.url).query("channels:list", {}), []);

  const pushed = concave(["push", folder], { env: pointedAt(host) });
  assert.equal(pushed.status, 1);
  assert.match(pushed.stderr, /broken at import/);
  assert.match(pushed.stderr, /broken\.ts:1/);
  await host.stop();
});

test("a schema that the documents do not fit is refused, and named", async () => {
  const folder = copy("chat");
  const host = await serve("--push", folder);
  await new ConvexHttpClient(host.url).mutation("users:enter", { name: "ada" });
  const schema = join(folder, "convex/schema.ts");
  const text = readFileSync(schema, "utf8").replace("name: v.string() }", "name: v.number() }");
  writeFileSync(schema, text);
  const deployed = await convex(folder, host, "deploy", "--typecheck", "disable");
  assert.notEqual(deployed.code, 0);
  assert.match(deployed.output, /users/);
  const pushed = concave(["push", folder], { env: pointedAt(host) });
  assert.equal(pushed.status, 1);
  assert.match(pushed.stderr, /users/);
  const client = new ConvexHttpClient(host.url);
  assert.deepEqual(await client.query("users:search", { prefix: "" }), ["ada"]);
  await host.stop();
});

test("a wrong admin key deploys nothing", async () => {
  const folder = copy("transfer");
  const host = await serve();
  const deployed = await convex(folder, { ...host, key: "concave|wrong" }, "deploy");
  assert.notEqual(deployed.code, 0);
  const pushed = concave(["push", folder, "--url", host.url, "--admin-key", "concave|wrong"]);
  assert.equal(pushed.status, 1);
  assert.doesNotMatch(pushed.stderr, /concave\|wrong/);
  await host.stop();
});

test("concave push writes files that an app without a schema compiles with", async () => {
  const folder = copy("transfer");
  rmSync(join(folder, "convex"), { recursive: true });
  cpSync(join(ROOT, "examples/chat/convex/tsconfig.json"), join(folder, "convex/tsconfig.json"));
  writeFileSync(join(folder, "convex/plain.ts"), `
import { query } from "./_generated/server";
import type { Doc, Id, TableNames } from "./_generated/dataModel";
import { api, internal, components } from "./_generated/api";
export const any = query({ handler: async (ctx): Promise<Doc[]> => ctx.db.query("x").collect() });
export const id = (text: string) => text as Id<"x">;
export const names: TableNames = "x";
export const references = (): unknown[] => [api.plain.any, internal, components];
`);
  const host = await serve();
  const pushed = concave(["push", folder], { env: pointedAt(host) });
  assert.equal(pushed.status, 0, pushed.stderr);
  const tsc = join(folder, "node_modules/typescript/bin/tsc");
  const checked = await run(process.execPath, [tsc, "--noEmit", "-p", "convex"], { cwd: folder })
    .catch((error) => error);
  assert.equal(checked.stdout, "");
  await host.stop();
});
