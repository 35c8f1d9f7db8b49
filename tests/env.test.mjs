// Environment variables: set by our command and by npm's, read by functions, followed by queries.
//
// In: the built program, an app that reads variables in handlers and at import, npm's command line.
// Out: checks of values, of who re-ran, and of what is refused. Invariant: a change that is refused
// changes nothing.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { app } from "./app.mjs";
import { concave, pointedAt, serve } from "./host.mjs";
import { watch } from "./watch.mjs";

const VARS = `
import {
  actionGeneric as action, mutationGeneric as mutation, queryGeneric as query,
} from "convex/server";
const mode = process.env.MODE ?? "no mode";
if (mode === "broken") throw new Error("this mode does not exist");
export const atImport = query(() => mode);
export const one = query(() => process.env.ONE ?? null);
export const two = query(() => process.env.TWO ?? null);
export const named = query((ctx, { name }) => process.env[name] ?? null);
export const listed = query(() => [Object.keys(process.env), "ONE" in process.env]);
export const inAction = action(async () => [mode, process.env.ONE ?? null]);
export const keep = mutation((ctx) => ctx.db.insert("kept", { value: process.env.ONE }));
export const kept = query((ctx) => ctx.db.query("kept").collect());
`;
const AUTH = `
export default { providers: [{ domain: process.env.ISSUER, applicationID: "a" }] };
`;

const folder = app("env", { "vars.js": VARS });
const host = await serve("--push", folder);
after(() => host.stop());
const { vars } = anyApi;
const client = new ConvexHttpClient(host.url, { logger: false });

/** `concave env …`; a command that fails fails the test. */
function env(...args) {
  const ended = concave(["env", ...args], { env: pointedAt(host), input: "" });
  assert.equal(ended.status, 0, ended.stderr);
  return ended.stdout;
}

function refused(...args) {
  const ended = concave(["env", ...args], { env: pointedAt(host), input: "" });
  assert.equal(ended.status, 1, ended.stdout);
  assert.equal(ended.stdout, "");
  return ended.stderr;
}

/** `npx convex …` in the app's folder. */
async function convex(...args) {
  const cli = join(folder, "node_modules/convex/bin/main.js");
  const running = promisify(execFile)(process.execPath, [cli, ...args], {
    cwd: folder, env: { ...pointedAt(host), CI: "1" },
  });
  running.child.stdin.end();
  const ended = await running.catch((error) => error);
  return { code: ended.code ?? 0, stdout: ended.stdout, output: ended.stdout + ended.stderr };
}

test("our command sets, shows and deletes variables, and values are exactly what they were", () => {
  assert.equal(env("list", "--json"), "{}\n");
  assert.equal(env("set", "ONE", "1"), "");
  assert.equal(env("set", "TEXT=two words"), "");
  assert.equal(env("set", "DASH", "-x"), "");
  const lines = "line 1\nline 'two'";
  const piped = concave(["env", "set", "LINES"], { env: pointedAt(host), input: `${lines}\n` });
  assert.equal(piped.status, 0, piped.stderr);
  assert.equal(env("get", "LINES"), `${lines}\n`);
  assert.deepEqual(JSON.parse(env("list", "--json")),
    { DASH: "-x", LINES: lines, ONE: "1", TEXT: "two words" });
  assert.equal(env("list"),
    `DASH=-x\nLINES="line 1\\nline 'two'"\nONE=1\nTEXT='two words'\n`);
  assert.equal(env("list", "--names-only"), "DASH\nLINES\nONE\nTEXT\n");
  assert.deepEqual(JSON.parse(env("unset", "TEXT", "--json")), { name: "TEXT", value: null });
  assert.match(refused("get", "TEXT"), /TEXT is not set.*concave env list/);
  for (const name of ["ONE", "DASH", "LINES"]) env("unset", name);
  assert.equal(env("list"), "");
});

test("what is listed is read back, by us and by npm's command line", async () => {
  const values = {
    CERTIFICATE: "-----BEGIN-----\nab\\n+/=\n-----END-----",
    ENDS: "C:\\a b\\", HASH: "a # b", JSON: `{"a": "it's\\n"}`, PLAIN: "1",
    QUOTED: "'x'", SPACES: "  x ", THREE: "it's\n\"all\" # of", TWO: "it's\n2 lines",
    UNICODE: "é🙂",
  };
  const names = Object.keys(values);
  for (const [name, value] of Object.entries(values)) {
    const set = concave(["env", "set", name], { env: pointedAt(host), input: `${value}\n` });
    assert.equal(set.status, 0, set.stderr);
  }
  const file = join(folder, "listed.env");
  const listed = env("list");
  assert.match(listed, /^CERTIFICATE='-----BEGIN-----\nab\\n\+\/=\n-----END-----'$/m);
  writeFileSync(file, listed);
  const all = () => JSON.parse(env("list", "--json"));
  const unset = () => names.forEach((name) => env("unset", name));
  unset();
  env("set", "--from-file", file);
  assert.deepEqual(all(), values);
  unset();
  const theirs = await convex("env", "set", "--from-file", file);
  assert.equal(theirs.code, 0, theirs.output);
  assert.deepEqual(all(), values);
  unset();
  const none = concave(["env", "set", "--from-file", join(folder, "package.json")],
    { env: pointedAt(host), input: "" });
  assert.equal(none.status, 1);
  assert.match(none.stderr, /package\.json sets no variables.*concave env list/s);
});

test("npm's command line does the same", async () => {
  const set = await convex("env", "set", "ONE", "from npm");
  assert.equal(set.code, 0, set.output);
  assert.match(set.output, /Successfully set/);
  const file = join(folder, "several.env");
  writeFileSync(file, "TWO=2\nTHREE='three'\n");
  const several = await convex("env", "set", "--from-file", file);
  assert.equal(several.code, 0, several.output);
  assert.equal((await convex("env", "get", "ONE")).stdout.trim(), "from npm");
  const list = await convex("env", "list", "--include-values");
  assert.deepEqual(list.stdout.trim().split("\n").sort(), ["ONE=from npm", "THREE=three", "TWO=2"]);
  const bad = await convex("env", "set", "CONVEX_SITE_URL", "x");
  assert.equal(bad.code, 1);
  assert.match(bad.output, /EnvVarNameForbidden.*set by the host/s);
  for (const name of ["ONE", "TWO", "THREE"]) {
    const removed = await convex("env", "remove", name);
    assert.equal(removed.code, 0, removed.output);
  }
  assert.equal(env("list", "--json"), "{}\n");
});

test("a query that reads a variable follows it, and no other query runs again", async () => {
  const live = new ConvexClient(host.url, { logger: false });
  after(() => live.close());
  const one = watch(live, vars.one, {});
  const two = watch(live, vars.two, {});
  await Promise.all([one.shows(null), two.shows(null)]);
  env("set", "ONE", "1");
  await one.shows("1");
  env("set", "ONE", "1");
  env("set", "ONE", "2");
  await one.shows("2");
  env("unset", "ONE");
  await one.shows(null);
  env("set", "TWO", "x");
  await two.shows("x");
  assert.deepEqual([one.seen, two.seen], [[null, "1", "2", null], [null, "x"]]);
  const why = concave(["why", "-n", "100", "--json"], { env: pointedAt(host) });
  const causes = JSON.parse(why.stdout);
  assert.equal(causes.filter(({ reader }) => reader.function === "vars:one").length, 3);
  const [cause, ...others] = causes.filter(({ reader }) => reader.function === "vars:two");
  assert.deepEqual(others, []);
  assert.match(cause.text, /the operator changed the environment variable "TWO"/);
  assert.match(JSON.stringify(cause.reader), /vars\.js/);
});

test("the origins are there, nothing can be listed, and mutations see what was set", async () => {
  assert.equal(await client.query(vars.named, { name: "CONVEX_CLOUD_URL" }), host.url);
  assert.match(await client.query(vars.named, { name: "CONVEX_SITE_URL" }), /^http:/);
  assert.equal(await client.query(vars.named, { name: "PATH" }), null);
  env("set", "ONE", "kept");
  assert.deepEqual(await client.query(vars.listed, {}), [[], true]);
  await client.mutation(vars.keep, {});
  assert.equal((await client.query(vars.kept, {}))[0].value, "kept");
});

test("modules that read a variable at import are evaluated again, or the change is refused",
  async () => {
    const live = new ConvexClient(host.url, { logger: false });
    after(() => live.close());
    const shown = watch(live, vars.atImport, {});
    await shown.shows("no mode");
    assert.deepEqual(await client.action(vars.inAction, {}), ["no mode", "kept"]);
    env("set", "MODE", "dark");
    await shown.shows("dark");
    env("unset", "ONE");
    assert.deepEqual(await client.action(vars.inAction, {}), ["dark", null]);
    const said = refused("set", "MODE", "broken");
    assert.match(said, /Failed to analyze vars\.js.*this mode does not exist/s);
    assert.equal(env("get", "MODE"), "dark\n");
    assert.equal(await client.query(vars.atImport, {}), "dark");
    // A push keeps the values, and analyses with them.
    const more = "export const more = query(() => mode);";
    writeFileSync(join(folder, "convex/vars.js"), `${VARS}\n${more}`);
    const pushed = concave(["push", folder], { env: pointedAt(host) });
    assert.equal(pushed.status, 0, pushed.stderr);
    assert.equal(await client.query(vars.more, {}), "dark");
    env("unset", "MODE");
    assert.equal(await client.query(vars.more, {}), "no mode");
    await shown.shows("no mode");
    const again = concave(["push", folder], { env: pointedAt(host) });
    assert.match(again.stderr, /unchanged|nothing/i);
  });

test("auth.config.ts reads variables at push, and a missing one is named", async () => {
  writeFileSync(join(folder, "convex/auth.config.ts"), AUTH);
  const missing = await convex("deploy", "--yes");
  assert.equal(missing.code, 1);
  assert.match(missing.output, /Environment variable.*ISSUER.*is used in auth config/s);
  const ours = concave(["push", folder], { env: pointedAt(host) });
  assert.equal(ours.status, 1);
  assert.match(ours.stderr, /Environment variable ISSUER .*concave env set ISSUER/s);
  env("set", "ISSUER", "https://issuer.example");
  const pushed = concave(["push", folder], { env: pointedAt(host) });
  assert.equal(pushed.status, 0, pushed.stderr);
  assert.match(refused("unset", "ISSUER"), /Environment variable ISSUER/);
  assert.equal(env("get", "ISSUER"), "https://issuer.example\n");
  const token = [{ alg: "RS256", kid: "k" }, { iss: "https://other.example", sub: "s", exp: 9e9 }]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  const asked = await fetch(`${host.url}/api/query`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}.AAAA`, "content-type": "application/json" },
    body: JSON.stringify({ path: "vars:one", args: {} }),
  });
  assert.deepEqual([asked.status, (await asked.json()).code], [401, "NoAuthProvider"]);
});
