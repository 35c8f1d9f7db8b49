// npm's own command line, unmodified, against a host of ours: every command a project uses.
//
// In: the built program, a copy of examples/chat, the convex package. Out: checks of what the
// commands print, write and change. Invariant: the command line is the package's; nothing here
// speaks to the host but through it or through npm's clients.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ConvexHttpClient } from "convex/browser";
import { ROOT, copy, eventually, pointedAt, save, serve } from "./host.mjs";

const execute = promisify(execFile);

/** How long a command that watches may take to say something. */
const PATIENCE_MS = 60_000;

/** Types are checked where that is what a test is about. */
const DEPLOY = ["deploy", "--typecheck", "disable"];

const CLI = join(ROOT, "tests/node_modules/convex/bin/main.js");

/** `npx convex …` in a folder, to its end. */
async function convex(app, args, { env = {}, input = "" } = {}) {
  const running = execute(process.execPath, [CLI, ...args], {
    cwd: app.folder,
    env: { ...pointedAt(app.host), CI: "1", ...env },
  });
  running.child.stdin.end(input);
  const ended = await running.catch((error) => error);
  return { code: ended.code ?? 0, out: ended.stdout, err: ended.stderr };
}

/** The same, which must succeed; gives what it printed on both. */
async function works(app, args, options) {
  const ended = await convex(app, args, options);
  assert.equal(ended.code, 0, `convex ${args.join(" ")}\n${ended.out}${ended.err}`);
  return ended;
}

/** The same, which must fail with words that match. */
async function fails(app, args, pattern, options) {
  const ended = await convex(app, args, options);
  assert.notEqual(ended.code, 0, `convex ${args.join(" ")}\n${ended.out}${ended.err}`);
  assert.match(ended.err, pattern);
  return ended;
}

const watching = new Set();
process.setMaxListeners(30);
process.on("exit", () => watching.forEach((child) => child.kill("SIGKILL")));

/** A command that watches: `says` waits for words, `stop` ends it. */
function watch(app, args, env = {}) {
  const child = spawn(process.execPath, [CLI, ...args], {
    cwd: app.folder,
    env: { ...pointedAt(app.host), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  watching.add(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => (output += text));
  }
  const ended = new Promise((resolve) => child.on("exit", resolve));
  return {
    output: () => output,
    async says(pattern) {
      for (const since = Date.now(); !pattern.test(output); ) {
        const late = Date.now() - since > PATIENCE_MS;
        if (late || child.exitCode !== null) {
          throw new Error(`convex ${args.join(" ")} does not say ${pattern}:\n${output}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    async stop() {
      child.kill("SIGKILL");
      await ended;
      watching.delete(child);
    },
  };
}

/** A copy of the chat, with what a test adds, and a host for it. */
async function chat(...options) {
  const folder = copy("chat");
  writeFileSync(join(folder, "convex/extra.ts"), EXTRA);
  return { folder, host: await serve(...options) };
}

const EXTRA = `
import { v } from "convex/values";
import { action, internalMutation, mutation, query } from "./_generated/server";
import { internal } from "./_generated/api";

declare const process: { env: Record<string, string | undefined> };

export const who = query({ args: {}, handler: async (ctx) => {
  console.log("asked who", { deep: [1, 2] });
  return await ctx.auth.getUserIdentity();
} });
export const setting = query({ args: {}, handler: async () => process.env.SETTING ?? "none" });
export const nothing = internalMutation({ args: {}, handler: async () => null });
export const many = action({ args: { n: v.number() }, returns: v.int64(),
  handler: async (ctx, { n }): Promise<bigint> => {
    for (let i = 0; i < n; i++) {
      await ctx.scheduler.runAfter(3_600_000, internal.extra.nothing, {});
    }
    await ctx.storage.store(new Blob(["file"], { type: "text/plain" }));
    return BigInt(n);
  } });
export const odd = mutation({ args: { value: v.any() }, handler: async (ctx, { value }) => {
  console.warn("about to write");
  return await ctx.db.insert("users", value);
} });
`;

const client = (app) => new ConvexHttpClient(app.host.url, { logger: false });
const schemaOf = (app) => join(app.folder, "convex/schema.ts");
const edit = (path, from, to) => {
  const text = readFileSync(path, "utf8");
  assert.ok(text.includes(from), `${path} has no ${from}`);
  save(path, text.replace(from, to));
};

test("deploy: a dry run changes nothing, --cmd knows the host, then it runs", async () => {
  const app = await chat();
  const dry = await works(app, [...DEPLOY, "--dry-run"]);
  assert.match(dry.err, /Would add table indexes:\n.*channels\.by_name/);
  assert.match(dry.err, /Would have deployed Convex functions/);
  await assert.rejects(client(app).query("channels:list", {}), /Could not find public function/);

  const command = `node -e "console.log('URL', process.env.VITE_CONVEX_URL)"`;
  const deployed = await works(app, ["deploy", "--cmd", command]);
  assert.match(`${deployed.out}${deployed.err}`, new RegExp(`URL ${app.host.url}`));
  assert.match(deployed.err, /Deployed Convex functions to/);
  assert.deepEqual(await client(app).query("channels:list", {}), []);
  const verbose = await works(app, [...DEPLOY, "--verbose"]);
  assert.match(verbose.err, /startPush: \{/);
  await app.host.stop();
});

test("dev --once writes .env.local, and codegen the files that are there already", async () => {
  const app = await chat();
  const once = await works(app, ["dev", "--once"]);
  assert.match(once.err, /Convex functions ready!/);
  const written = readFileSync(join(app.folder, ".env.local"), "utf8");
  assert.match(written, new RegExp(`^VITE_CONVEX_URL=${app.host.url}$`, "m"));
  assert.match(written, /^VITE_CONVEX_SITE_URL=http:\/\/127\.0\.0\.1:\d+$/m);

  const files = ["api.d.ts", "api.js", "dataModel.d.ts", "server.d.ts", "server.js"];
  const all = () => files.map((file) => {
    return readFileSync(join(app.folder, "convex/_generated", file), "utf8");
  });
  const before = all();
  rmSync(join(app.folder, "convex/_generated"), { recursive: true });
  await works(app, ["codegen"]);
  assert.deepEqual(all(), before);
  await app.host.stop();
});

test("run: results, logs, identities, --push, and what is missing is listed", async () => {
  const app = await chat();
  const enter = ["users:enter", '{ name: "ada" }'];
  const pushed = await works(app, ["run", "--push", "--typecheck", "disable", ...enter]);
  assert.match(pushed.out, /^"j[0-9a-z]{31}"\n$/);
  assert.equal((await works(app, ["run", "api.users.search", '{"prefix":""}'])).out,
    '[\n  "ada"\n]\n');
  const identity = '{ name: "Grace", subject: "g", issuer: "https://issuer" }';
  const who = await works(app, ["run", "extra:who", "--identity", identity]);
  assert.deepEqual(JSON.parse(who.out), {
    issuer: "https://issuer", name: "Grace", subject: "g", tokenIdentifier: "https://issuer|g",
  });
  assert.match(who.err, /\[LOG\] 'asked who' \{ deep: \[ 1, 2 \] \}/);
  assert.equal((await works(app, ["run", "extra:who"])).out, "");
  assert.equal((await works(app, ["run", "convex/extra.ts:nothing"])).out, "");
  const many = await works(app, ["run", "extra:many", '{ n: 2 }']);
  assert.deepEqual(JSON.parse(many.out), { $integer: "AgAAAAAAAAA=" });

  const missing = await fails(app, ["run", "users:nope"], /Could not find function for/);
  assert.match(missing.err, /Available functions:\n[^]*• users:enter\n/);
  await fails(app, ["run", "users:enter"], /missing the required field `name`/);
  await fails(app, ["run", "users:enter", '{ name: "" }'], /ConvexError: \{"code":"EmptyName"\}/);
  await fails(app, ["run", "extra:who", "--component", "none"], /component.*none/);

  const watched = watch(app, ["run", "--watch", "users:search", '{"prefix":""}']);
  await watched.says(/\[\n {2}"ada"\n\]/);
  await client(app).mutation("users:enter", { name: "bob" });
  await watched.says(/\[\n {2}"ada",\n {2}"bob"\n\]/);
  await watched.stop();
  await app.host.stop();
});

test("run --inline-query reads, imports nothing it needs, and writes nothing", async () => {
  const app = await chat("--push", "examples/chat");
  for (const name of ["ada", "bob"]) await client(app).mutation("users:enter", { name });
  const inline = (query) => ["run", "--inline-query", query];
  const taken = await works(app, inline('await ctx.db.query("users").order("desc").take(1)'));
  assert.equal(JSON.parse(taken.out)[0].name, "bob");
  const several = await works(app, inline(`
    const found = await ctx.db.query("users").withIndex("by_name", (q) => q.gt("name", "a")
      .lte("name", "ada")).unique();
    console.log("found", found.name);
    const same = await ctx.db.get(found._id);
    const page = await ctx.db.query("users")
      .filter((q) => q.or(q.eq(q.field("name"), "bob"), q.not(q.lt(1, 2))))
      .paginate({ cursor: null, numItems: 5 });
    return { same: same.name, page: page.page.length, done: page.isDone, big: 2n ** 40n,
      bytes: new ArrayBuffer(2), none: await ctx.db.query("nothing").first(),
      id: ctx.db.normalizeId("users", found._id) === found._id, odd: [NaN, -0],
      other: await ctx.runQuery("users:search", { prefix: "b" }) };`));
  assert.match(several.err, /\[LOG\] 'found' 'ada'/);
  assert.deepEqual(JSON.parse(several.out), {
    same: "ada", page: 1, done: true, big: { $integer: "AAAAAAABAAA=" }, bytes: { $bytes: "AAA=" },
    none: null, id: true, odd: [{ $float: "AAAAAAAA+H8=" }, { $float: "AAAAAAAAAIA=" }],
    other: ["bob"],
  });
  await fails(app, inline("throw new Error('broken')"), /Uncaught Error: broken/);
  await fails(app, inline("const = 1"), /SyntaxError/);
  await fails(app, inline('ctx.db.query("users")'), /Return value is a Query/);
  await fails(app, inline('await ctx.db.insert("users", {})'), /insert is not a function/);
  await fails(app, [...inline("1"), "--component", "nope"], /has no mounted components/);
  assert.deepEqual(await client(app).query("users:search", { prefix: "" }), ["ada", "bob"]);
  await app.host.stop();
});

test("data: tables, documents in every format, and the system's tables", async () => {
  const app = await chat();
  await works(app, DEPLOY);
  assert.match((await works(app, ["data", "users"])).err, /There are no documents in this table/);
  for (const name of ["ada", "bob"]) await client(app).mutation("users:enter", { name });
  await client(app).action("extra:many", { n: 1 });
  assert.equal((await works(app, ["data"])).out, "channels\nmessages\nusers\n");
  const limited = await works(app, ["data", "users", "--limit", "1", "--order", "asc"]);
  assert.match(limited.out, /^_id +\| _creationTime +\| name *\n-+\|-+\|-+\n"j.*\| "ada" *\n$/);
  assert.match(limited.err, /Showing the 1 oldest created document/);
  const lines = (await works(app, ["data", "users", "--format", "jsonl"])).out.trim().split("\n");
  assert.deepEqual(lines.map((line) => JSON.parse(line).name), ["bob", "ada"]);
  const json = JSON.parse((await works(app, ["data", "users", "--format", "json"])).out);
  assert.equal(json.length, 2);
  const jobs = await works(app, ["data", "_scheduled_functions", "--format", "jsonl"]);
  const job = JSON.parse(jobs.out);
  assert.equal(job.name, "extra.js:nothing");
  assert.deepEqual(job.state, { kind: "pending" });
  const files = JSON.parse((await works(app, ["data", "_storage", "--format", "jsonl"])).out);
  assert.deepEqual([files.size, files.contentType], [4, "text/plain"]);
  assert.match(files.sha256, /^[A-Za-z0-9+/]{43}=$/);
  await app.host.stop();
});

test("env: set, get, list and remove, of one and of many; functions see them", async () => {
  const app = await chat();
  await works(app, DEPLOY);
  assert.match((await works(app, ["env", "list"])).err, /No environment variables set/);
  const set = await works(app, ["env", "set", "SETTING", "on"]);
  assert.match(set.err, /Successfully set SETTING/);
  assert.equal(await client(app).query("extra:setting", {}), "on");
  assert.equal((await works(app, ["env", "get", "SETTING"])).out, "on\n");
  await works(app, ["env", "set", "TEXT"], { input: "two\nlines" });
  const file = join(app.folder, "values.env");
  writeFileSync(file, "SETTING=on\nOTHER=1\nCONVEX_DEPLOYMENT=skipped\n");
  const many = await works(app, ["env", "set", "--from-file", file]);
  assert.match(many.err, /Successfully set 1 environment variable .*1 new, 1 unchanged/);
  writeFileSync(file, "SETTING=off\n");
  await fails(app, ["env", "set", "--from-file", file], /already exists with different value/);
  const list = await works(app, ["env", "list", "--include-values"]);
  assert.equal(list.out, 'OTHER=1\nSETTING=on\nTEXT=\'two\nlines\'\n');
  assert.match((await works(app, ["env", "remove", "SETTING"])).err, /Successfully unset SETTING/);
  assert.equal(await client(app).query("extra:setting", {}), "none");
  assert.match((await works(app, ["env", "get", "SETTING"])).err, /"SETTING" not found/);
  await fails(app, ["env", "set", "no-name", "x"], /EnvironmentVariableNameInvalid/);
  await fails(app, ["env", "set", "CONVEX_SITE_URL", "x"], /EnvVarNameForbidden/);
  await app.host.stop();
});

test("logs: history, a tail, successes, and one line of JSON for each execution", async () => {
  const app = await chat();
  await works(app, DEPLOY);
  await client(app).query("extra:who", {});
  const tail = watch(app, ["logs", "--history", "1", "--success"]);
  await tail.says(/\[CONVEX Q\(extra:who\)\] \[LOG\] 'asked who' \{ deep: \[ 1, 2 \] \}/);
  await tail.says(/\[CONVEX Q\(extra:who\)\] Function executed in \d+ ms/);
  const json = watch(app, ["logs", "--jsonl"]);
  await json.says(/Watching logs/);
  // It shows what comes after its first look, which nobody sees: it has begun when it shows one.
  await eventually("it has begun", async () => {
    await client(app).query("extra:setting", {});
    return /"identifier":"extra:setting"/.test(json.output());
  });
  const entry = client(app).mutation("users:enter", { name: "" });
  await assert.rejects(entry, /EmptyName/);
  await tail.says(/\[CONVEX M\(users:enter\)\] Uncaught ConvexError: .*Empty.*\n.*users\.ts:\d/);
  await json.says(/"identifier":"users:enter".*\n/);
  const line = json.output().split("\n").find((text) => text.includes("users:enter"));
  const { kind, udfType, caller, error, success, usageStats } = JSON.parse(line);
  assert.deepEqual([kind, udfType, caller, success], ["Completion", "Mutation", "HttpApi", null]);
  assert.match(error, /EmptyName/);
  assert.equal(usageStats.databaseWriteDocuments, 0);
  assert.doesNotMatch(tail.output(), /_system/);
  await Promise.all([tail.stop(), json.stop()]);
  await app.host.stop();
});

test("function-spec names every function with what it takes and gives", async () => {
  const app = await chat();
  await works(app, DEPLOY);
  const spec = JSON.parse((await works(app, ["function-spec"])).out);
  assert.equal(spec.url, app.host.url);
  const many = spec.functions.find((found) => found.identifier === "extra.js:many");
  assert.deepEqual(many, {
    identifier: "extra.js:many", functionType: "Action", visibility: { kind: "public" },
    args: { type: "object", value: { n: { fieldType: { type: "number" }, optional: false } } },
    returns: { type: "bigint" },
  });
  const hidden = spec.functions.find((found) => found.identifier === "extra.js:nothing");
  assert.deepEqual(hidden.visibility, { kind: "internal" });
  await app.host.stop();
});

test("dev pushes what is saved, shows logs, and waits for documents that do not fit", async () => {
  const app = await chat();
  const dev = watch(app, ["dev", "--typecheck", "disable"]);
  await dev.says(/Convex functions ready!/);
  const id = await client(app).mutation("extra:odd", { value: { name: "ada" } });
  await dev.says(/\[CONVEX M\(extra:odd\)\] \[WARN\] 'about to write'/);
  const file = join(app.folder, "convex/saved.ts");
  save(file, `import { query, mutation } from "./_generated/server";
export const saved = query({ args: {}, handler: async () => "saved" });
export const fix = mutation({ args: {}, handler: async (ctx) => {
  for (const user of await ctx.db.query("users").collect()) await ctx.db.delete(user._id);
} });
`);
  await dev.says(/ready![^]*ready!/);
  assert.equal(await client(app).query("saved:saved", {}), "saved");

  edit(schemaOf(app), "name: v.string() }).index", "name: v.number() }).index");
  await dev.says(/Schema validation failed\.[^]*Validator: /);
  const text = dev.output();
  assert.match(text, new RegExp(`Document with ID "${id}" in table "users" does not match the`));
  assert.match(text, /Value: "ada"\nValidator: v\.float64\(\)/);
  assert.deepEqual(await client(app).query("users:search", { prefix: "" }), ["ada"]);
  // The documents are repaired, and the push goes on by itself. It begins to watch the table some
  // time after it said so, and what happens before then wakes nobody.
  const mend = async () => {
    // From when it is deployed, this one does not fit, or its function is not there.
    const odd = client(app).mutation("extra:odd", { value: { name: "ada" } });
    await odd.catch((error) => assert.match(error.message, /does not match the schema/));
    await client(app).mutation("saved:fix", {});
    return /failed\.[^]*ready!/.test(dev.output());
  };
  await eventually("the push goes on", async () => {
    const ready = await mend();
    if (!ready) await new Promise((resolve) => setTimeout(resolve, 1_000));
    return ready;
  });
  await dev.stop();
  await app.host.stop();
});

test("a push that drops or fills large indexes asks first; staged ones do not", async () => {
  const app = await chat();
  await works(app, DEPLOY);
  await client(app).mutation("users:enter", { name: "ada" });
  const small = { env: {
    CONVEX_MIN_DOCUMENTS_FOR_INDEX_DELETE_WARNING: "1",
    CONVEX_MIN_DOCUMENTS_FOR_INDEX_BACKFILL_WARNING: "1",
  } };
  const byName = '.index("by_name", ["name"]),\n\n  channels';
  edit(schemaOf(app), byName, ",\n\n  channels");
  const off = join(app.folder, "convex/users.ts");
  rmSync(off);
  const asked = await fails(app, DEPLOY, /To confirm the push:/, small);
  assert.match(asked.err, /⛔ users\.by_name {3}name {2}⚠️ {2}1 documents/);
  assert.match(asked.err, /--skip-large-indexes-check/);
  const skipped = await works(app, [...DEPLOY, "--skip-large-indexes-check"], small);
  assert.match(skipped.err, /✔ Deleted table indexes:\n {2}\[-\] users\.by_name {3}name/);

  const staged = '.index("by_name", { fields: ["name"], staged: true })';
  edit(schemaOf(app), ",\n\n  channels", `${staged},\n\n  channels`);
  assert.match((await works(app, DEPLOY, small)).err, /users\.by_name {3}name.*staged/);
  const query = 'await ctx.db.query("users").withIndex("by_name").collect()';
  await fails(app, ["run", "--inline-query", query],
    /Index users\.by_name is currently staged and not available to query/);
  edit(schemaOf(app), staged, '.index("by_name", ["name"])');
  const enabled = await works(app, DEPLOY, small);
  assert.match(enabled.err, /These indexes are now enabled:\n {2}\[\*\] users\.by_name {3}name/);
  assert.match((await works(app, ["run", "--inline-query", query])).out, /"ada"/);
  await app.host.stop();
});

test("a staged validator is told about, then applied without a scan", async () => {
  const app = await chat();
  await works(app, DEPLOY);
  await client(app).mutation("users:enter", { name: "ada" });
  const plain = 'defineTable({ name: v.string() })';
  const stage = (type) => `${plain}.staged({ age: ${type} })`;
  edit(schemaOf(app), plain, stage("v.number()"));
  const failed = await works(app, [...DEPLOY, "--dry-run"]);
  assert.match(failed.err, /users: failed: Document with ID "j.*missing the required field `age`/);
  edit(schemaOf(app), stage("v.number()"), stage("v.optional(v.number())"));
  const staged = await works(app, DEPLOY);
  assert.match(staged.err, /users: validated\. Safe to apply the staged schema changes/);
  edit(schemaOf(app), `.staged({ age: v.optional(v.number()) })`, "");
  await fails(app, DEPLOY, /--allow-unstaging-schema/);
  const next = "defineTable({ name: v.string(), age: v.optional(v.number()) })";
  edit(schemaOf(app), plain, next);
  const applied = await works(app, DEPLOY);
  assert.match(applied.err, /applies the staged schema without scanning the table/);
  await app.host.stop();
});

const COUNTER = {
  "convex.config.ts": `
import { defineComponent } from "convex/server";
export default defineComponent("counter");
`,
  "schema.ts": `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({ steps: defineTable({ by: v.number() }) });
`,
  "steps.ts": `
import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";
export const add = mutation({ args: { by: v.number() }, handler: async (ctx, { by }) => {
  console.log("step", by);
  await ctx.db.insert("steps", { by });
} });
export const total = query({ args: {}, handler: async (ctx) =>
  (await ctx.db.query("steps").collect()).reduce((sum, { by }) => sum + by, 0) });
`,
};

test("run, data and logs of a component", async () => {
  const app = await chat();
  const folder = join(app.folder, "counter");
  mkdirSync(folder);
  for (const [name, text] of Object.entries(COUNTER)) writeFileSync(join(folder, name), text);
  writeFileSync(join(app.folder, "convex/convex.config.ts"), `
import { defineApp } from "convex/server";
import counter from "../counter/convex.config";
const app = defineApp();
app.use(counter);
app.use(counter, { name: "other" });
export default app;
`);
  const deployed = await works(app, DEPLOY);
  assert.match(deployed.err, /Installed component counter/);
  const inside = (name, ...args) => works(app, [...args, "--component", name]);
  await inside("counter", "run", "steps:add", "{ by: 2 }");
  await inside("counter", "run", "steps:add", "{ by: 3 }");
  assert.equal((await inside("counter", "run", "steps:total")).out, "5\n");
  assert.equal((await inside("other", "run", "steps:total")).out, "0\n");
  await fails(app, ["run", "steps:total"], /Could not find function for 'steps:total'/);
  const missing = await convex(app, ["run", "steps:none", "--component", "counter"]);
  assert.match(missing.err, /Available functions:\n• steps:add\n• steps:total\n/);

  const inline = ["run", "--inline-query"];
  const first = await inside("counter", ...inline, '(await ctx.db.query("steps").first()).by');
  assert.equal(first.out, "2\n");
  assert.equal((await inside("other", ...inline, 'await ctx.db.query("steps").collect()')).out,
    "[]\n");
  assert.equal((await inside("counter", ...inline, 'await ctx.runQuery("steps:total", {})')).out,
    "5\n");
  const nowhere = await fails(app, [...inline, "1", "--component", "nope"], /was not found/);
  assert.match(nowhere.err, /Available components:\n• counter\n• other/);

  assert.equal((await inside("counter", "data")).out, "steps\n");
  const rows = (await inside("counter", "data", "steps", "--format", "jsonl")).out.trim();
  assert.deepEqual(rows.split("\n").map((row) => JSON.parse(row).by), [3, 2]);
  assert.match((await inside("other", "data", "steps")).err, /There are no documents/);
  const logs = watch(app, ["logs", "--history", "100", "--jsonl"]);
  await logs.says(/"componentPath":"counter"[^\n]*"'step'","2"/);
  await logs.stop();
  await app.host.stop();
});

test("a wrong key, and what is not there, fail at once and say what to do", async () => {
  const app = await chat("--push", "examples/chat");
  for (const key of ["concave|0123", "not a key"]) {
    const env = { CONVEX_SELF_HOSTED_ADMIN_KEY: key };
    for (const command of [DEPLOY, ["env", "set", "A", "1"], ["logs"]]) {
      await fails(app, command, /The provided deploy key was invalid for deployment/, { env });
    }
    await fails(app, ["run", "users:search", "{prefix:''}"], /BadDeployKey/, { env });
    await fails(app, ["data"], /Failed to authenticate: "The provided deploy key/, { env });
  }
  await fails(app, ["run", "_system/none:such"], /'_system\/none:such' is not supported/);
  await app.host.stop();
});
