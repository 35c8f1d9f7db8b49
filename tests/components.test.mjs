// Components end to end: npm's own command line deploys small apps with them to a host of ours.
//
// In: the built program, tests/components, the convex package. Out: checks that instances share
// nothing, that calls across are one transaction, and that what is wrong is told.
// Invariant: the command line is the package's, unmodified.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { app } from "./app.mjs";
import { ROOT, concave, eventually, pointedAt, serve } from "./host.mjs";

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
  const wanted = JSON.stringify(expected);
  await eventually(wanted, question, (answer) => JSON.stringify(answer) === wanted);
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

test("a call across is a part of the transaction, undone where its error is caught", async () => {
  const { host, client, ask } = await deployed();
  const errors = await client.mutation("calls:caught", { name: "a" });
  assert.match(errors[0], /Uncaught Error: a fails\n {4}at handler \(.*counter\/lib\.ts:\d+:\d+\)/);
  assert.match(errors[1], /Uncaught Error: outer fails\n {4}at handler \(.*deep\/calls\.ts:\d+/);
  assert.equal(await ask("one.lib.value", { name: "a" }), 1);
  const { notes, value } = await ask("outer.deep.calls.seen", { name: "a" });
  assert.deepEqual({ notes, value }, { notes: 0, value: 0 });
  // Not caught: nothing of it stays, the caller's own part included.
  const all = client.mutation("calls:run", { path: "one.lib.fail", args: { name: "a" } });
  await assert.rejects(all, /Uncaught Error: .*a fails/s);
  assert.equal(await ask("one.lib.value", { name: "a" }), 1);
  await host.stop();
});

test("a component does not see who calls, and followed queries see its writes", async () => {
  const { host, client, run, ask } = await deployed();
  assert.equal(await ask("one.lib.who"), null);
  const user = Buffer.from(JSON.stringify({
    subject: "ada", issuer: "https://issuer", tokenIdentifier: "https://issuer|ada",
  })).toString("base64");
  const headers = {
    authorization: `Convex ${host.key}:${user}`, "content-type": "application/json",
  };
  const body = JSON.stringify({ path: "calls:ask", args: { path: "one.lib.who", args: {} } });
  const answer = await fetch(`${host.url}/api/query`, { method: "POST", headers, body });
  assert.equal((await answer.json()).value, null);
  const live = new ConvexClient(host.url);
  const seen = [];
  const args = { path: "outer.deep.calls.seen", args: { name: "live" } };
  live.onUpdate(anyApi.calls.ask, args, ({ value }) => seen.push(value));
  await becomes([0], () => seen);
  await run("outer.deep.calls.add", { name: "live", by: 2 });
  await becomes([0, 2], () => seen);
  assert.equal(await client.query("calls:ask", args).then(({ value }) => value), 2);
  await live.close();
  await host.stop();
});

test("ids of a component are its own, and so are pages", async () => {
  const { host, run, ask } = await deployed();
  await run("one.lib.add", { name: "a", by: 1 });
  const id = (await ask("one.lib.ids")).a;
  assert.equal((await ask("one.lib.get", { id })).name, "a");
  assert.equal(await ask("two.lib.get", { id }), null);
  await assert.rejects(ask("one.lib.page"), /paginate\(\) is only supported in the app\./);
  await host.stop();
});

test("arguments and results are checked at the boundary", async () => {
  const { host, run, ask } = await deployed();
  await assert.rejects(run("one.lib.add", { name: 1, by: 1 }), /ArgumentValidationError: Value/);
  await assert.rejects(ask("one.lib.badReturn"), /ReturnsValidationError: Value does not match/);
  const named = (path) => run(path, { name: "a" }).catch((error) => error.message);
  assert.match(await named("one.lib.hidden"), /"one" does not export lib:hidden: it is an in/);
  assert.match(await named("one.lib.nothing"), /"one" does not export lib:nothing: it has no such/);
  assert.match(await named("nobody.lib.add"), /Child component "nobody" does not exist/);
  assert.match(await named("outer.inner.lib.add"), /"outer" does not export inner\/lib:add/);
  assert.match(await named("one.lib.value"), /Trying to execute lib:value as Mutation, but it is/);
  const asked = ask("one.lib.add", { name: "a", by: 1 });
  await assert.rejects(asked, /Trying to execute lib:add as Query, but it is defined as Mutation/);
  await host.stop();
});

/** Changes variables as `npx convex env` does. */
async function setVariables(host, variables) {
  const changes = Object.entries(variables).map(([name, value]) => ({ name, value }));
  const headers = { authorization: `Convex ${host.key}`, "content-type": "application/json" };
  const body = JSON.stringify({ changes });
  const answer = await fetch(`${host.url}/api/update_environment_variables`, {
    method: "POST", headers, body,
  });
  assert.equal(answer.status, 200, await answer.text());
}

test("a component sees the environment that it is given, at import too, and no other", async () => {
  const { host, client, ask, act } = await deployed();
  await setVariables(host, { SECRET: "the app's" });
  const seen = (label, shared = null) =>
    ({ label, shared, apps: null, imported: { label, shared } });
  assert.deepEqual(await client.query("calls:environment"), { label: null, apps: "the app's" });
  assert.deepEqual(await ask("one.lib.environment"), seen("first"));
  assert.deepEqual(await ask("two.lib.environment"), seen("second"));
  // Modules saw it when they were imported, so they are evaluated again.
  await setVariables(host, { SHARED: "for all" });
  assert.deepEqual(await ask("one.lib.environment"), seen("first", "for all"));
  assert.deepEqual(await ask("two.lib.environment"), seen("second"));
  const { label, apps } = await act("one.lib.act", { name: "x" });
  assert.deepEqual({ label, apps }, { label: "first", apps: null });
  await host.stop();
});

test("a component knows where its HTTP actions are; an error has each frame once", async () => {
  const config = (name, uses = "") => `import { defineComponent } from "convex/server";
import inner from "../inner/convex.config";
const component = defineComponent("${name}");
${uses}
export default component;`;
  const site = `
import { queryGeneric as query, anyApi, componentsGeneric } from "convex/server";
const { env } = process;
export const urls = query(async () => [env.CONVEX_CLOUD_URL, env.CONVEX_SITE_URL]);
export const deep = query(async (ctx, { left }) => {
  if (left === 0) throw new Error("too deep");
  return await ctx.runQuery(anyApi.site.deep, { left: left - 1 });
});`;
  const folder = app("sites", {
    "convex.config.ts": `import { defineApp } from "convex/server";
import outer from "./outer/convex.config";
import inner from "./inner/convex.config";
const app = defineApp();
app.use(outer, { httpPrefix: "/outer/" });
app.use(inner);
export default app;`,
    "outer/convex.config.ts": config("outer", "component.use(inner, { httpPrefix: '/in/' });"),
    "outer/site.ts": `${site}
const { inner } = componentsGeneric();
export const below = query((ctx) => ctx.runQuery(inner.site.urls, {}));`,
    "inner/convex.config.ts": config("inner").replace(/import inner.*\n/, ""),
    "inner/site.ts": site,
    "site.ts": `${site}
const { inner, outer } = componentsGeneric();
export const all = query((ctx) => Promise.all(
  [inner.site.urls, outer.site.urls, outer.site.below].map((each) => ctx.runQuery(each, {}))));`,
  });
  const host = await serve("--push", folder);
  const client = new ConvexHttpClient(host.url);
  const [, origin] = await host.says(/HTTP actions (http:\S+)\s/);
  assert.deepEqual(await client.query("site:all"), [
    [host.url, origin], [host.url, `${origin}/outer`], [host.url, `${origin}/outer/in`],
  ]);
  const { message } = await client.query("site:deep", { left: 5 }).catch((error) => error);
  assert.match(message, /too deep/);
  assert.equal(message.match(/ at /g).length, 6, message);
  await host.stop();
});

test("scheduler and files of a component are its own, in mutations and in actions", async () => {
  const { host, run, ask, act } = await deployed();
  await run("one.lib.later", { name: "a", by: 4 });
  await becomes(4, () => ask("one.lib.value", { name: "a" }));
  await becomes([{ name: "lib.js:add", state: "success" }], () => ask("one.lib.jobs"));
  assert.deepEqual(await ask("two.lib.jobs"), []);
  const { added, url } = await act("two.lib.act", { name: "bytes" });
  assert.equal(added, 5);
  await becomes(6, () => ask("two.lib.value", { name: "bytes" }));
  assert.equal(await (await fetch(url)).text(), "bytes");
  assert.deepEqual((await ask("two.lib.files")).map((file) => [file.size, file.url]), [[5, url]]);
  assert.deepEqual(await ask("one.lib.files"), []);
  const uploadTo = await run("one.lib.upload");
  const { storageId } = await (await fetch(uploadTo, { method: "POST", body: "up" })).json();
  const [file] = await ask("one.lib.files");
  assert.equal(file.id, storageId);
  assert.equal(await (await fetch(file.url)).text(), "up");
  assert.equal((await fetch(file.url.replace("component=one", "component=two"))).status, 404);
  await host.stop();
});

test("cron jobs of a component run in each instance", async () => {
  const { host, ask } = await deployed();
  for (const path of ["one", "two"]) {
    await becomes(-1, () => ask(`${path}.lib.value`, { name: "ticked" }));
  }
  await becomes(-1, async () => (await ask("outer.deep.calls.seen", { name: "ticked" })).value);
  await host.stop();
});

test("a function that a component is handed can be called, at once and later", async () => {
  const { host, client, run } = await deployed();
  const text = "from one";
  const given = await client.mutation("calls:handOver", { to: "one.lib.call", text });
  assert.equal(given, "noted from one");
  await client.mutation("calls:handOver", { to: "two.lib.callLater", text: "later" });
  await becomes(["from one", "later"], () => client.query("calls:notes"));
  const handle = await client.query("calls:handle", { path: "one.lib.add" });
  assert.match(handle, /^function:\/\/[a-z0-9]+#lib:add$/);
  const args = { name: "h", by: 2 };
  const call = (handle) => client.mutation("calls:callHandle", { handle, args });
  assert.equal(await call(handle), 2);
  assert.equal(await run("two.lib.call", { handle, args }), 4);
  await assert.rejects(call("function://0#calls:note"), /is not a function handle of this/);
  await assert.rejects(client.query("calls:handle", { path: "one.lib.hidden" }), /does not export/);
  await host.stop();
});

test("exact routes come first, then the longest prefix, which a mount does not see", async () => {
  const { host, run } = await deployed();
  await run("two.lib.add", { name: "a", by: 2 });
  const get = async (path) => {
    const answer = await fetch(`${host.url}/http${path}`);
    return `${answer.status} ${await answer.text()}`;
  };
  assert.equal(await get("/two/value?name=a"), "200 second 2 /two/value");
  assert.equal(await get("/outer/inner/value"), "200 third 0 /outer/inner/value");
  assert.equal(await get("/two/exact"), "200 the app's");
  assert.equal(await get("/outer/inner/app/x"), "200 the app's longer prefix");
  assert.equal(await get("/two/nothing"), "404 No matching routes found");
  assert.equal(await get("/outer/value"), "404 No matching routes found");
  await host.stop();
});

test("the operator reaches every component, nobody else does", async () => {
  const { host, client, run, folder } = await deployed();
  await run("one.lib.add", { name: "a", by: 2 });
  const hidden = ["--component", "one", "lib:hidden", '{"name":"op"}'];
  const said = await convex(folder, host, "run", ...hidden);
  assert.equal(said.code, 0, said.output);
  const asked = async (componentPath, key) => {
    const headers = { "content-type": "application/json" };
    if (key) headers.authorization = `Convex ${key}`;
    const body = JSON.stringify({ path: "lib:value", args: { name: "op" }, componentPath });
    const answer = await fetch(`${host.url}/api/query`, { method: "POST", headers, body });
    return [answer.status, await answer.json()];
  };
  assert.deepEqual(await asked("one", host.key), [200, { status: "success", value: -1 }]);
  assert.equal((await asked("one"))[0], 403);
  const [status, { code }] = await asked("nobody", host.key);
  assert.deepEqual([status, code], [400, "ComponentPathNotFound"]);
  await assert.rejects(client.query("lib:value", { name: "a" }), /Could not find public function/);
  const list = async () => {
    const headers = { authorization: `Convex ${host.key}`, "content-type": "application/json" };
    const body = JSON.stringify({ path: "_system/frontend/components:list", args: {} });
    const answer = await fetch(`${host.url}/api/query`, { method: "POST", headers, body });
    return (await answer.json()).value.map(({ path, name, state, httpPrefix }) =>
      [path, name, state, httpPrefix]);
  };
  assert.deepEqual(await list(), [
    ["one", "one", "active", null],
    ["outer", "outer", "active", "/outer/"],
    ["outer/inner", "inner", "active", "/inner/"],
    ["two", "two", "active", "/two/"],
  ]);
  await host.stop();
});

test("the commands look into components, nested ones too", async () => {
  const { host, run } = await deployed();
  await run("one.lib.add", { name: "a", by: 2 });
  await run("one.lib.add", { name: "a", by: 3 });
  await run("two.lib.add", { name: "b", by: 4 });
  const env = pointedAt(host);
  const ask = (component, command, ...args) =>
    concave([command, ...args, "--component", component], { env });
  const lines = ({ status, stdout, stderr }) => {
    assert.equal(status, 0, stderr);
    return stdout.trim().split("\n").map((line) => JSON.parse(line));
  };
  // Each instance counts its own cron jobs too, from when they run.
  const counts = (component) =>
    lines(ask(component, "data", "counts", "--order", "asc")).filter(({ name }) => name < "c");
  const seen = ["one", "two", "outer/inner"].map((component) =>
    counts(component).map(({ name, value }) => [name, value]));
  assert.deepEqual(seen, [[["a", 5]], [["b", 4]], []]);
  const [one] = counts("one");
  const tables = lines(ask("one", "data"));
  assert.ok(tables.find(({ name }) => name === "counts").documents >= 1);
  assert.equal(ask("one", "run", "lib:value", '{"name":"a"}').stdout, "5\n");
  const told = JSON.parse(ask("one", "history", "counts", one._id, "--json").stdout);
  assert.deepEqual(told.versions.map(({ document }) => document.value), [5, 2]);
  assert.deepEqual(lines(concave(["run", "lib:value", '{"name":"a"}', "--component", "one",
    "--at", told.versions[1].at], { env })), [2]);

  for (const args of [["data"], ["run", "lib:value"], ["history", "counts", one._id]]) {
    const wrong = ask("none", ...args);
    assert.equal(wrong.status, 1);
    assert.match(wrong.stderr,
      /no component "none"\. Mounted here: one, outer, outer\/inner, two\./, args.join(" "));
  }
  assert.match(ask("one", "data", "nothing").stderr, /Tables of the component "one": .*counts/);
  assert.match(ask("one", "run", "lib:nothing").stderr, /The component "one" has:\n[^]*lib:value/);
  assert.match(ask("one", "run", "lib:value").stderr,
    /`name`\. Consider [^\n]+ if this is expected\.\n\nObject: {}\nValidator: v\.object\(/);
  assert.match(ask("one", "history", "nothing", one._id).stderr,
    /no table "nothing" in the component "one"/);
  await host.stop();
});

test("a component that is taken away keeps its data until it comes back", async () => {
  const { host, folder, run, ask } = await deployed();
  await run("one.lib.add", { name: "a", by: 2 });
  await run("two.lib.add", { name: "a", by: 3 });
  const config = join(folder, "convex/convex.config.ts");
  const whole = readFileSync(config, "utf8");
  writeFileSync(config, whole.replace(/app\.use\(counter, \{ name: "one".*\n/, ""));
  const without = await deploy(folder, host);
  assert.equal(without.code, 0, without.output);
  assert.match(without.output, /Unmounted component one\./);
  await assert.rejects(ask("one.lib.value", { name: "a" }), /Child component "one" does not exist/);
  assert.equal(await ask("two.lib.value", { name: "a" }), 3);
  writeFileSync(config, whole);
  const back = await deploy(folder, host);
  assert.match(back.output, /Remounted component one\./);
  assert.equal(await ask("one.lib.value", { name: "a" }), 2);
  // Under another name it is another one.
  writeFileSync(config, whole.replace('name: "one"', 'name: "renamed"'));
  const renamed = await deploy(folder, host);
  assert.match(renamed.output, /Installed component renamed\./);
  assert.equal(await ask("renamed.lib.value", { name: "a" }), 0);
  await host.stop();
});

const PUBLIC = `
import { componentsGeneric, queryGeneric as query } from "convex/server";
export const alive = query({ args: {}, handler: async () => "alive" });
`;
const component = (name, more = "") =>
  `import { defineComponent } from "convex/server";
   const component = defineComponent("${name}"${more});
   export default component;`;
const uses = (name, used) => component(name).replace("const component", `import used from "${used}";
   const component`).replace("export default", "component.use(used);\nexport default");
const appUsing = (imports, ...lines) =>
  `import { defineApp } from "convex/server";
   ${imports}
   const app = defineApp();
   ${lines.join("\n")}
   export default app;`;
const LEAF = 'import leaf from "./leaf/convex.config";';
const NEEDS = ', { env: { KEY: v.string() } }';

/** Sources under convex/ that cannot be pushed, and what is said of them. */
const WRONG = {
  "a component twice under one name": [
    { "convex.config.ts": appUsing(LEAF, "app.use(leaf); app.use(leaf);"),
      "leaf/convex.config.ts": component("leaf") },
    /convex\.config\.ts uses two components under the name "leaf"\. Give one of them another/,
  ],
  "components in a circle": [
    { "convex.config.ts": appUsing('import a from "./a/convex.config";', "app.use(a);"),
      "a/convex.config.ts": uses("a", "../b/convex.config"),
      "b/convex.config.ts": uses("b", "../a/convex.config") },
    /Components use each other in a circle: (a uses b uses a|b uses a uses b)\./,
  ],
  "two components at one prefix": [
    { "convex.config.ts": appUsing(LEAF, 'app.use(leaf, { name: "x", httpPrefix: "/p" });',
      'app.use(leaf, { name: "y", httpPrefix: "/p/" });'),
      "leaf/convex.config.ts": component("leaf") },
    /Two components are mounted at the httpPrefix "\/p\/": "x" and "y"\./,
  ],
  "something that is no component": [
    { "convex.config.ts": appUsing("", "app.use({} as any);") },
    /Component definition does not have the required componentDefinitionPath property/,
  ],
  "an environment variable that is not given": [
    { "convex.config.ts": appUsing(LEAF, "app.use(leaf as any);"),
      "leaf/convex.config.ts": `import { v } from "convex/values"; ${component("leaf", NEEDS)}` },
    /convex\.config\.ts does not give the component "leaf" the environment variable KEY/,
  ],
  "an environment variable that is not declared": [
    { "convex.config.ts": appUsing(LEAF, 'app.use(leaf, { env: { KEY: "x" } } as any);'),
      "leaf/convex.config.ts": component("leaf") },
    /gives the component "leaf" the environment variable KEY, which it does not declare\./,
  ],
  "a variable of the app that is declared and not set": [
    { "convex.config.ts": appUsing('import { v } from "convex/values";')
      .replace("defineApp()", "defineApp({ env: { KEY: v.string() } })") },
    /Environment variable KEY is declared in convex\.config\.ts, and it is not set\./,
  ],
  "a component whose module throws": [
    { "convex.config.ts": appUsing(LEAF, "app.use(leaf);"),
      "leaf/convex.config.ts": component("leaf"),
      "leaf/broken.ts": 'throw new Error("broken at import");\nexport {};' },
    /Failed to analyze leaf\/broken\.js: Uncaught Error: broken at import\n.*broken\.ts:1/,
  ],
  "a cron job of a component without its function": [
    { "convex.config.ts": appUsing(LEAF, "app.use(leaf);"),
      "leaf/convex.config.ts": component("leaf"),
      "leaf/crons.ts": `import { cronJobs, makeFunctionReference } from "convex/server";
        const crons = cronJobs();
        crons.interval("x", { hours: 1 }, makeFunctionReference<"mutation">("lib:gone"), {});
        export default crons;` },
    /The cron job 'x' schedules a function that does not exist: lib:gone\nIn the component "leaf"/,
  ],
  "a component for Node": [
    { "convex.config.ts": appUsing(LEAF, "app.use(leaf);"),
      "leaf/convex.config.ts": component("leaf"),
      "leaf/node.ts": '"use node";\nexport const x = 1;' },
    /"use node" directive is not supported in components/,
  ],
  "a component that imports what Convex does not have": [
    { "convex.config.ts": appUsing(LEAF, "app.use(leaf);"),
      "leaf/convex.config.ts": component("leaf"),
      "leaf/files.ts": 'import fs from "fs";\nexport const x = fs;' },
    /leaf\/files\.ts/,
  ],
};

test("what cannot be mounted is refused with the cure; what served goes on", async (t) => {
  const host = await serve();
  const first = await deploy(app("components-fine", { "alive.ts": PUBLIC }), host);
  assert.equal(first.code, 0, first.output);
  for (const [name, [sources, expected]] of Object.entries(WRONG)) {
    await t.test(name, async () => {
      const said = await deploy(app("components-wrong", { "alive.ts": PUBLIC, ...sources }), host);
      assert.notEqual(said.code, 0, said.output);
      assert.match(said.output, expected);
      assert.equal(await new ConvexHttpClient(host.url).query("alive:alive"), "alive");
    });
  }
  await host.stop();
});

test("a component by itself has its types generated, without its environment", async () => {
  const host = await serve();
  const folder = fixture();
  // Of one inside of convex/ the command line does not find its own import.
  cpSync(join(folder, "convex/counter"), join(folder, "component"), { recursive: true });
  const flags = ["--component-dir", "./component", "--typecheck", "disable"];
  const said = await convex(folder, host, "codegen", ...flags);
  assert.equal(said.code, 0, said.output);
  const generated = readFileSync(join(folder, "component/_generated/component.ts"), "utf8");
  assert.match(generated, /add: FunctionReference<\s*"mutation",\s*"internal"/);
  assert.doesNotMatch(generated, /hidden/);
  assert.match(readFileSync(join(folder, "component/_generated/server.ts"), "utf8"), /LABEL/);
  await host.stop();
});

test("documents of a component that do not fit keep the old deployment", async () => {
  const { host, folder, run, ask } = await deployed();
  await run("two.lib.add", { name: "a", by: 3 });
  const schema = join(folder, "convex/counter/schema.ts");
  const text = readFileSync(schema, "utf8").replace("value: v.number()", "value: v.string()");
  writeFileSync(schema, text);
  const said = await deploy(folder, host);
  assert.notEqual(said.code, 0);
  assert.match(said.output, /in table "counts" does not match the schema/);
  const pushed = concave(["push", folder], { env: pointedAt(host) });
  assert.notEqual(pushed.status, 0);
  assert.match(pushed.stderr,
    /Schema validation failed in component "[^"]+"\.\nDocument with ID "/);
  assert.equal(await run("two.lib.add", { name: "a", by: 1 }), 4);
  assert.equal(await ask("two.lib.value", { name: "a" }), 4);
  await host.stop();
});
