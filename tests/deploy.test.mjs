// npm's own command line deploys the examples: `npx convex deploy` against a host of ours.
//
// In: the built program, copies of examples/*, the convex package. Out: checks that what it
// deployed runs, that our generated files have the types of its own, and that failures are told.
// Invariant: the command line is the package's, unmodified.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

/** Compiles a file that says that two folders of generated files have the same types. */
const SAME_TYPES = `
import * as ours from "./_ours/api";
import * as theirs from "./_generated/api";
import * as ourServer from "./_ours/server";
import * as theirServer from "./_generated/server";
import type * as ourData from "./_ours/dataModel";
import type * as theirData from "./_generated/dataModel";
type Asks<A> = <T>() => T extends A ? 1 : 2;
type Same<A, B> = Asks<A> extends Asks<B> ? true : false;
const same = <A, B>(_: Same<A, B>) => {};
same<typeof ours, typeof theirs>(true);
same<typeof ourServer, typeof theirServer>(true);
same<ourData.DataModel, theirData.DataModel>(true);
same<ourData.TableNames, theirData.TableNames>(true);
same<ourData.Id<ourData.TableNames>, theirData.Id<theirData.TableNames>>(true);
same<ourServer.QueryCtx, theirServer.QueryCtx>(true);
same<ourServer.MutationCtx, theirServer.MutationCtx>(true);
same<ourServer.ActionCtx, theirServer.ActionCtx>(true);
same<ourServer.DatabaseReader, theirServer.DatabaseReader>(true);
same<ourServer.DatabaseWriter, theirServer.DatabaseWriter>(true);
// @ts-expect-error: the check itself can fail
same<typeof ours.api, typeof theirs.internal>(true);
`;

for (const example of EXAMPLES) {
  test(`npx convex deploy: ${example}, and its generated types are ours`, async () => {
    const folder = copy(example);
    const host = await serve();
    const deployed = await convex(folder, host, "deploy");
    assert.equal(deployed.code, 0, deployed.output);

    const [path, args, expected] = FIRST_QUERY[example];
    assert.deepEqual(await new ConvexHttpClient(host.url).query(path, args), expected);

    cpSync(join(ROOT, "examples", example, "convex/_generated"), join(folder, "convex/_ours"), {
      recursive: true,
    });
    writeFileSync(join(folder, "convex/check.ts"), SAME_TYPES);
    const tsc = join(folder, "node_modules/typescript/bin/tsc");
    const checked = await run(process.execPath, [tsc, "--noEmit", "-p", "convex"], { cwd: folder })
      .catch((error) => error);
    assert.equal(checked.stdout, "");
    await host.stop();
  });
}

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
