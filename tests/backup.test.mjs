// Data out of a host and into one: our commands and npm's, Convex's snapshots, files of rows.
//
// In: an app with every kind of value, files and a component. Out: checks that what goes out comes
// back bit for bit, and that what cannot come in changes nothing.
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { clock, folder, serve as keeping } from "./crash.mjs";
import { CONCAVE, KEY, ROOT, eventually, pointedAt, start } from "./host.mjs";
import { unzip, zip } from "./zip.mjs";

const execute = promisify(execFile);
const CLI = join(ROOT, "tests/node_modules/convex/bin/main.js");
const HOME = mkdtempSync(join(tmpdir(), "concave-backup-"));
process.on("exit", () => rmSync(HOME, { recursive: true, force: true }));

const SOURCES = {
  "schema.ts": `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({
      owners: defineTable({ name: v.string() }),
      zoo: defineTable({ n: v.number(), owner: v.id("owners"), any: v.any() })
        .index("by_n", ["n"]),
    });`,
  "zoo.ts": `
    import { action, mutation, query } from "./_generated/server";
    import { api, components } from "./_generated/api";
    export const fill = mutation({ handler: async (ctx) => {
      await ctx.db.insert("loose", { made: "before the others" });
      const owner = await ctx.db.insert("owners", { name: "Ada \\"quoted\\", \\u0001\\u2028 é" });
      const any = [null, true, 1n, -(2n ** 63n), 1, 1.5, -0, NaN, Infinity, 5e-324, 2 ** 60, "",
        new Uint8Array([0, 255]).buffer, [[]], { "a b": { c: [1n] } }];
      for (let n = 0; n < any.length; n++) await ctx.db.insert("zoo", { n, owner, any: any[n] });
      await ctx.runMutation(components.notes.lib.add, { text: "inside" });
    } });
    export const add = mutation({ handler: async ({ db }, { n }) =>
      await db.insert("zoo", { n, owner: (await db.query("owners").first())._id, any: null }) });
    export const clear = mutation({ handler: async ({ db }) => {
      for (const doc of await db.query("zoo").collect()) await db.delete(doc._id);
    } });
    export const list = query({ handler: async ({ db }) =>
      await db.query("zoo").withIndex("by_n").collect() });
    export const all = query({ handler: async (ctx) => ({
      zoo: await ctx.db.query("zoo").withIndex("by_n").collect(),
      owners: await ctx.db.query("owners").collect(),
      loose: await ctx.db.query("loose").collect(),
      files: await ctx.db.system.query("_storage").collect(),
      notes: await ctx.runQuery(components.notes.lib.list, {}),
    }) });
    export const store = action({ handler: async ({ storage }, { text }) =>
      await storage.store(new Blob([text], { type: "text/plain" })) });
    export const url = query({ handler: async ({ storage }, { id }) => storage.getUrl(id) });
    export const later = mutation({ handler: async ({ scheduler }, { ms }) =>
      await scheduler.runAfter(ms, api.zoo.add, { n: 77 }) });
    export const overdue = mutation({ handler: async ({ scheduler }, { time }) =>
      await scheduler.runAt(time, api.zoo.add, { n: 78 }) });
    export const job = query({ handler: async ({ db }, { id }) =>
      (await db.system.get(id)).state.kind });
    export const drop = mutation({ handler: async ({ storage }, { id }) => storage.delete(id) });`,
  "convex.config.ts": `
    import { defineApp } from "convex/server";
    import notes from "./notes/convex.config";
    const app = defineApp();
    app.use(notes);
    export default app;`,
  "notes/convex.config.ts": `
    import { defineComponent } from "convex/server";
    export default defineComponent("notes");`,
  "notes/lib.ts": `
    import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
    export const add = mutation({ handler: async ({ db }, { text }) =>
      await db.insert("notes", { text }) });
    export const list = query({ handler: async ({ db }) => await db.query("notes").collect() });`,
};
const APP = app("backup", SOURCES);

/** The same app, whose tables are made in another order, so that they have other numbers. */
const OTHER = app("backup-other", {
  ...SOURCES,
  "schema.ts": SOURCES["schema.ts"].replace("owners:", "aaa: defineTable({}), owners:"),
});

async function hostOf(folder, options = {}) {
  const ports = ["--port", "0", "--site-port", "0", "--admin-key", KEY];
  const host = await start(["serve", "--in-memory", ...ports, "--push", folder], options);
  host.client = new ConvexHttpClient(host.url);
  return host;
}

/** Runs a program to its end. */
async function run(program, args, options) {
  const running = execute(program, args, { cwd: HOME, ...options });
  running.child.stdin.end();
  const ended = await running.catch((error) => error);
  return { code: ended.code ?? 0, out: ended.stdout, err: ended.stderr };
}

const concave = (host, ...args) => run(CONCAVE, args, { env: pointedAt(host) });
const convex = (host, ...args) =>
  run(process.execPath, [CLI, ...args], { env: { ...pointedAt(host), CI: "1" }, cwd: APP });

async function works(ended) {
  const { code, out, err } = await ended;
  assert.equal(code, 0, out + err);
  return err;
}

async function fails(ended, pattern) {
  const { code, out, err } = await ended;
  assert.notEqual(code, 0, out + err);
  assert.match(err, pattern);
}

async function filled(options) {
  const host = await hostOf(APP, options);
  await host.client.mutation(api.zoo.fill, {});
  host.file = await host.client.action(api.zoo.store, { text: "kept bytes" });
  return host;
}

const contents = (file) => {
  const entries = unzip(readFileSync(join(HOME, file)));
  return Object.fromEntries([...entries].map(([name, bytes]) => [name, bytes.toString()]));
};

/** Exports that differ in nothing but their moment. */
function assertSame(one, other) {
  assert.deepEqual(contents(one), contents(other));
}

test("npm's export and import carry ids, times, files and components, bit for bit", async () => {
  const [from, to] = [await filled(), await hostOf(OTHER)];
  const path = join(HOME, "npm.zip");
  await works(convex(from, "export", "--path", path, "--include-file-storage"));
  const said = await works(convex(to, "import", path));
  assert.match(said, /zoo +\| 15 +\|/);
  assert.match(said, /Added 19 documents/);
  const [before, after] = await Promise.all(
    [from, to].map((host) => host.client.query(api.zoo.all, {})));
  assert.equal(before.zoo.length, 15);
  assert.equal(before.files.length + before.notes.length + before.loose.length, 3);
  assert.deepEqual(after, before);
  assert.ok(Object.is(after.zoo[6].any, -0));
  const url = await to.client.query(api.zoo.url, { id: from.file });
  const origin = await from.client.query(api.zoo.url, { id: from.file });
  assert.equal(new URL(url).pathname, new URL(origin).pathname);
  const file = await fetch(url);
  assert.equal(await file.text(), "kept bytes");
  assert.equal(file.headers.get("content-type"), "text/plain");
  // The indexes hold what came, and take more.
  await to.client.mutation(api.zoo.add, { n: 99 });
  assert.equal((await to.client.query(api.zoo.list, {})).length, 16);
  await Promise.all([from.stop(), to.stop()]);
});

test("export → import → export is equal, from our commands to ours and to npm's", async () => {
  const [from, to] = [await filled(), await hostOf(APP)];
  await works(concave(from, "export", "a.zip"));
  await works(concave(to, "import", "a.zip"));
  await works(concave(to, "export", "b.zip"));
  assertSame("a.zip", "b.zip");
  const entries = contents("a.zip");
  assert.match(entries["_tables/documents.jsonl"], /{"name":"zoo","id":1000\d}/);
  assert.equal(entries["zoo/generated_schema.jsonl"], '"uniform"\n');
  assert.match(entries["zoo/documents.jsonl"], /"any":-9223372036854775808,"n":3\.0,/);
  assert.match(entries["_components/notes/notes/documents.jsonl"], /"text":"inside"/);
  assert.equal(entries[`_storage/${from.file}.txt`], "kept bytes");
  await fails(concave(to, "export", "a.zip"), /a\.zip is there already/);
  // Again into what is full: only when told to, and then it is the same.
  await fails(concave(to, "import", "a.zip"), /Table \w+ already exists\. Please choose a new/);
  await to.client.mutation(api.zoo.add, { n: 7 });
  await fails(concave(to, "import", "a.zip", "--replace"), /nobody is here to say yes/);
  await fails(concave(to, "import", "a.zip", "--append"), /is there already/);
  assert.equal((await to.client.query(api.zoo.list, {})).length, 16);
  await works(convex(to, "import", join(HOME, "a.zip"), "--replace", "-y"));
  await works(concave(to, "export", "c.zip"));
  assertSame("a.zip", "c.zip");
  await works(concave(to, "import", "a.zip", "--replace-all", "--yes"));
  await works(concave(to, "export", "--without-files", "d.zip"));
  const left = Object.fromEntries(
    Object.entries(entries).filter(([name]) => !name.includes("_storage/")));
  assert.deepEqual(contents("d.zip"), left);
  await works(concave(to, "export", "--component", "notes", "e.zip"));
  assert.deepEqual(Object.keys(contents("e.zip")).filter((name) => /notes/.test(name)), [
    "notes/documents.jsonl", "notes/generated_schema.jsonl"]);
  await Promise.all([from.stop(), to.stop()]);
});

test("an export is of one moment, whatever is written and deleted before it is taken", async () => {
  const host = await filled();
  const headers = { Authorization: `Convex ${KEY}` };
  const at = `${host.url}/api/export`;
  const asked = await fetch(`${at}/request/zip?includeStorage=true`, { method: "POST", headers });
  const { startTs } = await asked.json();
  await host.client.mutation(api.zoo.clear, {});
  await host.client.mutation(api.zoo.drop, { id: host.file });
  const answer = await fetch(`${at}/zip/${startTs}`, { headers });
  assert.equal(answer.headers.get("content-disposition"),
    `attachment; filename=snapshot_concave_${startTs}.zip`);
  const entries = unzip(Buffer.from(await answer.arrayBuffer()));
  assert.equal(entries.get("zoo/documents.jsonl").toString().trim().split("\n").length, 15);
  assert.equal(entries.get(`_storage/${host.file}.txt`).toString(), "kept bytes");
  assert.equal((await fetch(`${at}/zip/17`, { headers })).status, 404);
  for (const [path, method] of [["request/zip", "POST"], [`zip/${startTs}`, "GET"]]) {
    const refused = await fetch(`${at}/${path}`, { method });
    assert.ok([401, 403].includes(refused.status), path);
  }
  await host.stop();
});

test("whoever follows a query sees an import, also one that renumbers tables", async () => {
  const [from, to] = [await filled(), await hostOf(OTHER)];
  await works(concave(from, "export", "live.zip"));
  const client = new ConvexClient(to.url);
  let seen;
  client.onUpdate(api.zoo.list, {}, (list) => (seen = list));
  const until = (count) => eventually(`${count} documents`, () => seen?.length,
    (length) => length === count);
  await until(0);
  await works(concave(to, "import", "live.zip"));
  await until(15);
  await to.client.mutation(api.zoo.add, { n: 50 });
  await until(16);
  await works(concave(to, "import", "live.zip", "--replace", "--yes"));
  await until(15);
  await client.close();
  await Promise.all([from.stop(), to.stop()]);
});

test("rows of text: JSON lines, an array, CSV; numbers, ids, appending and replacing", async () => {
  const host = await hostOf(APP);
  const write = (name, text) => writeFileSync(join(HOME, name), text);
  const rows = async () => (await host.client.query(api.zoo.all, {})).loose
    .map(({ _id, _creationTime, ...rest }) => rest);
  write("rows.jsonl", '\ufeff{"a":1,"b":"1"}\n\n{"a":2.5}\r\n');
  await works(concave(host, "import", "rows.jsonl", "--table", "loose"));
  assert.deepEqual(await rows(), [{ a: 1, b: "1" }, { a: 2.5 }]);
  write("rows.csv", 'a,b\n3,"x, ""y"""\n4,nan\n');
  await works(concave(host, "import", "rows.csv", "--table", "loose", "--append"));
  assert.deepEqual((await rows()).slice(2), [{ a: 3, b: 'x, "y"' }, { a: 4, b: "nan" }]);
  write("rows.json", '[{"a":5}]');
  await works(convex(host, "import", "--table", "loose", "--replace", "-y",
    join(HOME, "rows.json")));
  assert.deepEqual(await rows(), [{ a: 5 }]);
  // Ids and times of a file are kept; a table that is empty takes their number.
  const [{ _id, _creationTime }] = (await host.client.query(api.zoo.all, {})).loose;
  write("own.jsonl", JSON.stringify({ _id, _creationTime, a: 6 }));
  await works(concave(host, "import", "own.jsonl", "--table", "loose", "--replace", "--yes"));
  const [own] = (await host.client.query(api.zoo.all, {})).loose;
  assert.deepEqual(own, { _id, _creationTime, a: 6 });
  await fails(concave(host, "import", "own.jsonl", "--table", "owners"), /"loose".*documents/s);
  write("inside.jsonl", '{"text":"into a component"}');
  await works(concave(host, "import", "inside.jsonl", "--table", "notes", "--component", "notes"));
  const { notes } = await host.client.query(api.zoo.all, {});
  assert.deepEqual(notes.map(({ text }) => text), ["into a component"]);
  await host.stop();
});

test("what is wrong says where, and changes nothing", async () => {
  const host = await filled();
  await works(concave(host, "export", "good.zip"));
  const good = contents("good.zip");
  const before = await host.client.query(api.zoo.all, {});
  const storage = `_storage/${host.file}.txt`;
  const bytes = zip({ ...good, [storage]: "kept bytes" });
  const flipped = Buffer.from(bytes);
  flipped[flipped.indexOf('"any":true') + 7] ^= 1;
  const changed = (name, change) => zip({ ...good, [name]: change(good[name]) });
  const zips = {
    "no zip": ["hello", /no whole zip/],
    "cut off": [bytes.subarray(0, bytes.length - 30), /no whole zip.*cut off/],
    "a flipped bit": [flipped, /zoo\/documents\.jsonl cannot be read: .*checksum/i],
    "a file's bytes": [zip({ ...good, [storage]: "bad! bytes", "_storage/documents.jsonl":
      good["_storage/documents.jsonl"].replace(/"internalId":"[^"]+",/, "") }),
      /its SHA-256 there is QLJrebjG.*the SHA-256 of the bytes is /],
    "no tables": [zip({ "README.md": "hi" }), /The zip has no tables/],
    "no JSON": [changed("zoo/documents.jsonl", (text) => text.replace("\n", "\n{\n")),
      /zoo\/documents\.jsonl:2: expected a field name/],
    "an old export": [changed("zoo/generated_schema.jsonl", () => '{"type":"object"}\n'),
      /as exports were years ago/],
    "against the schema": [changed("zoo/documents.jsonl", (t) => t.replace('"n":4.0', '"n":"x"')),
      /zoo\/documents\.jsonl:\d+: Failed to insert or update a document in table "zoo" because/],
    "a foreign id": [changed("owners/documents.jsonl", (text) =>
      text + JSON.stringify({ _id: before.zoo[0]._id, name: "x" })), /owners.*:2: .*number/],
    "twice": [changed("zoo/documents.jsonl", (text) => text + text), /:16: .* in the import twice/],
    "a file that is not there": [(({ [storage]: _, ...rest }) => zip(rest))(good),
      /_storage\/documents\.jsonl:1: the zip has no file/],
    "a reserved name": [zip({ "a-b/documents.jsonl": "{}" }), /Invalid table name "a-b"/],
    "two numbers": [changed("_tables/documents.jsonl", (text) =>
      text.replace(/"id":\d+/g, '"id":10001')), /have the same number, 10001/],
  };
  const wrong = join(HOME, "wrong.zip");
  for (const [name, [content, pattern]] of Object.entries(zips)) {
    writeFileSync(wrong, content);
    const ended = concave(host, "import", "wrong.zip", "--replace", "--yes");
    await fails(ended, pattern).catch((error) => {
      throw new Error(`${name}: ${error.message}`);
    });
  }
  await fails(concave(host, "import", "wrong.zip", "--table", "x"), /leave --table out/);
  await fails(concave(host, "import", "nothing.zip"), /Could not read nothing\.zip/);
  await fails(concave(host, "import", "zip.mjs"), /cannot be seen from its name/);
  writeFileSync(join(HOME, "x.jsonl"), '{"$a":1}');
  await fails(concave(host, "import", "x.jsonl", "--table", "fresh"), /x|fresh\.jsonl:1: .*`\$`/);
  await fails(convex(host, "import", wrong, "--replace", "-y"), /have the same number, 10001/);
  await fails(concave(host, "import", "x.jsonl", "--table", "t", "--component", "nope"),
    /no component "nope"/);
  assert.deepEqual(await host.client.query(api.zoo.all, {}), before);
  await works(concave(host, "export", "still.zip"));
  assertSame("good.zip", "still.zip");
  await host.stop();
});

test("stored files that no line tells of come too, what is beside them is named", async () => {
  const [from, to] = [await filled(), await hostOf(APP)];
  await works(concave(from, "export", "lines.zip"));
  const { "_storage/documents.jsonl": _, ...bare } = contents("lines.zip");
  writeFileSync(join(HOME, "bare.zip"), zip({ ...bare, "_storage/notes.txt": "mine" }));
  const told = await works(concave(to, "import", "bare.zip", "--yes"));
  assert.match(told, /Not imported, because it means nothing here: _storage\/notes\.txt/);
  const [file, ...more] = (await to.client.query(api.zoo.all, {})).files;
  assert.deepEqual([file._id, file.size, file.contentType, more], [from.file, 10, undefined, []]);
  const url = await to.client.query(api.zoo.url, { id: from.file });
  assert.equal(await (await fetch(url)).text(), "kept bytes");
  await Promise.all([from.stop(), to.stop()]);
});

test("a snapshot that was unpacked and packed again, folder and all, is the same", async () => {
  const [from, to] = [await filled(), await hostOf(APP)];
  await works(concave(from, "export", "flat.zip"));
  const entries = [...unzip(readFileSync(join(HOME, "flat.zip")))];
  const around = entries.map(([name, bytes]) => [`snap/${name}`, bytes]);
  const packed = Object.fromEntries([["snap/", ""], ...around, ["snap/.DS_Store", "x"],
    ["__MACOSX/snap/zoo/._documents.jsonl", "x"]]);
  writeFileSync(join(HOME, "packed.zip"), zip(packed));
  const said = await works(concave(to, "import", "packed.zip"));
  assert.doesNotMatch(said, /snap|MACOSX|DS_Store/);
  await works(concave(to, "export", "unpacked.zip"));
  assertSame("flat.zip", "unpacked.zip");
  // Two of them are none.
  const both = { ...packed, "other/zoo/documents.jsonl": "" };
  writeFileSync(join(HOME, "both.zip"), zip(both));
  await fails(concave(to, "import", "both.zip", "--replace", "--yes"), /The zip has no tables/);
  writeFileSync(join(HOME, "bad.zip"), zip({ "snap/zoo/documents.jsonl": "{\n" }));
  await fails(concave(to, "import", "bad.zip", "--replace", "--yes"),
    /snap\/zoo\/documents\.jsonl:1/);
  await Promise.all([from.stop(), to.stop()]);
});

/** Asks an endpoint as the operator. */
async function operator(host, path, body, authorization = `Convex ${KEY}`) {
  const headers = { authorization, "content-type": "application/json" };
  const text = typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const url = `${host.url}/api/${path}`;
  const answer = await fetch(url, { method: "POST", headers, body: text });
  return { status: answer.status, body: await answer.json() };
}

test("an import in one request: the body is the file", async () => {
  const host = await filled();
  await works(concave(host, "export", "once.zip"));
  const numbers = async () => (await host.client.query(api.zoo.all, {})).loose.map(({ n }) => n);
  const rows = "import?tableName=loose&format=jsonLines&mode";
  assert.deepEqual(await operator(host, `${rows}=append`, '{"n":1}\n{"n":2}\n'),
    { status: 200, body: { numWritten: 2 } });
  assert.deepEqual(await numbers(), [undefined, 1, 2]);
  assert.deepEqual((await operator(host, `${rows}=replace`, '{"n":3}')).body, { numWritten: 1 });
  assert.deepEqual(await numbers(), [3]);
  const there = await operator(host, "import?tableName=loose&format=csv", "n\n4\n");
  assert.deepEqual([there.status, there.body.code], [400, "TableExists"]);
  const wrong = await operator(host, `${rows}=append`, '{"n":5}\n{');
  assert.equal(wrong.status, 400);
  assert.match(wrong.body.message, /^loose\.jsonl:2: /);
  const foreign = await operator(host, `${rows}=append`, '{"n":6}', "Convex wrong");
  assert.ok([401, 403].includes(foreign.status));
  const no = await operator(host, "import?format=jsonLines&mode=append", '{"n":7}');
  assert.equal(no.body.code, "InvalidName");
  assert.deepEqual(await numbers(), [3]);
  const zipped = await operator(host, "import?format=zip&mode=replaceAll",
    readFileSync(join(HOME, "once.zip")));
  assert.deepEqual([zipped.status, zipped.body], [200, { numWritten: 19 }]);
  await works(concave(host, "export", "once-again.zip"));
  assertSame("once.zip", "once-again.zip");
  await host.stop();
});

test("what runs can be canceled: an export is let go, an import is all or nothing", async () => {
  const host = await filled();
  const newest = async () => (await host.client.query("_system/cli/exports:getLatest", {}));
  host.client.setAdminAuth(KEY);
  const asked = async () =>
    (await operator(host, "export/request/zip?includeStorage=true", "")).body.startTs;
  const download = async (ts) => (await fetch(`${host.url}/api/export/zip/${ts}`,
    { headers: { authorization: `Convex ${KEY}` } })).status;
  const first = await asked();
  const { _id, expiration_ts: until } = await newest();
  assert.equal((await operator(host, "export/cancel/nobody", "")).status, 404);
  const late = await operator(host, `export/set_expiration/${_id}`,
    { expirationTsNs: Number(until) + 1e12 });
  assert.deepEqual([late.status, late.body.code], [400, "InvalidExpiration"]);
  const sooner = Number(until) - 60e9;
  assert.equal((await operator(host, `export/set_expiration/${_id}`,
    { expirationTsNs: sooner })).status, 200);
  assert.equal(Number((await newest()).expiration_ts), sooner);
  assert.equal(await download(first), 200);
  assert.equal((await operator(host, `export/cancel/${_id}`, "")).status, 200);
  assert.equal((await newest()).state, "canceled");
  assert.equal(await download(first), 404);
  const second = await asked();
  const { _id: other } = await newest();
  assert.equal((await operator(host, `export/set_expiration/${other}`,
    { expirationTsNs: 1 })).status, 200);
  await eventually("it has expired", () => download(second), (status) => status === 404);

  // An import, whenever it is: while it is read, while it waits, while it runs.
  const before = (await host.client.query(api.zoo.all, {})).loose.length;
  const rows = Array.from({ length: 5_000 }, (_, n) => `{"n":${n}}`).join("\n");
  for (const confirms of [false, true]) {
    const { uploadToken } = (await operator(host, "import/start_upload", "{}")).body;
    const to = `import/upload_part?uploadToken=${uploadToken}&partNumber=1`;
    const part = (await operator(host, to, rows)).body;
    const wanted = { tableName: "loose", mode: "append", format: "jsonLines" };
    const { importId } = (await operator(host, "import/finish_upload",
      { import: wanted, uploadToken, partTokens: [part] })).body;
    const state = async () =>
      (await host.client.query("_system/cli/queryImport", { importId })).state;
    const ask = (path) => operator(host, path, { importId });
    if (confirms) {
      await eventually("it waits", state, ({ state }) => state === "waiting_for_confirmation");
      assert.equal((await ask("perform_import")).status, 200);
    }
    const canceled = await ask("cancel_import");
    const ended = await eventually("it is over", state,
      ({ state }) => state === "failed" || state === "completed");
    const after = (await host.client.query(api.zoo.all, {})).loose.length;
    if (ended.state === "completed") {
      assert.ok(confirms);
      assert.equal(after, before + 5_000);
    } else {
      assert.equal(canceled.status, 200);
      assert.match(ended.error_message, /^The import was canceled\.\nNothing was imported\.$/);
      assert.equal(after, before);
    }
    assert.equal((await ask("cancel_import")).status, 404);
  }
  await host.stop();
});

test("an import survives kill -9, with the numbers that its tables were given", async () => {
  const from = await filled();
  await works(concave(from, "export", "kept.zip"));
  const data = folder();
  let host = await keeping(data, ["--push", OTHER]);
  await works(concave(host, "import", "kept.zip"));
  const before = await host.client.query(api.zoo.all, {});
  assert.deepEqual(before, await from.client.query(api.zoo.all, {}));
  await host.crash();
  for (const end of ["crash", "stop"]) {
    host = await keeping(data);
    assert.deepEqual(await host.client.query(api.zoo.all, {}), before);
    const url = await host.client.query(api.zoo.url, { id: from.file });
    assert.equal(await (await fetch(url)).text(), "kept bytes");
    await host[end]();
  }
  await from.stop();
});

test("a backup is a whole host: code, variables, schedules, files, as of its moment", async () => {
  const host = await filled();
  const before = await host.client.query(api.zoo.all, {});
  await works(convex(host, "env", "set", "GREETING", "hello"));
  await works(concave(host, "backup", "copy"));
  await host.client.mutation(api.zoo.clear, {});
  await host.stop();
  await fails(concave(host, "backup", "copy"), /copy is there already, and is not empty/);
  const again = await keeping(join(HOME, "copy"));
  assert.deepEqual(await again.client.query(api.zoo.all, {}), before);
  const url = await again.client.query(api.zoo.url, { id: host.file });
  assert.equal(await (await fetch(url)).text(), "kept bytes");
  assert.equal((await run(CONCAVE, ["env", "get", "GREETING"], { env: pointedAt(again) })).out,
    "hello\n");
  await again.client.mutation(api.zoo.add, { n: 1 });
  await again.stop();
});

test("on a terminal, export, import and backup show how far they are; in a pipe they do not", {
  skip: spawnSync("script", ["--version"]).status === 0 ? false : "no program `script` here",
}, async () => {
  const host = await filled();
  for (let n = 0; n < 4; n++) {
    await host.client.action(api.zoo.store, { text: `${n}`.repeat(2_000_000) });
  }
  const shown = async (...args) => {
    const line = [CONCAVE, ...args].map((word) => `'${word}'`).join(" ");
    const env = { ...pointedAt(host), TERM: "xterm", COLUMNS: "120" };
    const { code, out, err } = await run("script", ["-qec", line, "/dev/null"], { env });
    assert.equal(code, 0, out + err);
    return out;
  };
  const quiet = async (...args) => {
    const { code, out, err } = await concave(host, ...args);
    assert.equal(code, 0, err);
    assert.doesNotMatch(out + err, /\x1b|\/s/);
  };
  assert.match(await shown("export", "shown.zip"), /[\d.]+ [KM]?i?B exported, [\d.]+ [KM]?i?B\/s/);
  await quiet("export", "quiet.zip");
  const imported = await shown("import", "shown.zip", "--replace", "--yes");
  assert.match(imported, /[\d.]+ [KM]?i?B of [\d.]+ [KM]?i?B sent, \S+ left/);
  assert.match(imported, /The host reads it/);
  await quiet("import", "quiet.zip", "--replace", "--yes");
  assert.match(await shown("backup", "shown"), /[\d.]+ [KM]?i?B copied, [\d.]+ [KM]?i?B\/s/);
  await quiet("backup", "quiet");
  await host.stop();
});

/** `concave fork …` until it serves. */
async function fork(host, ...args) {
  const forked = await start(["fork", ...args], { env: pointedAt(host), cwd: HOME });
  const [, key] = await forked.says(/admin key (\S+)/);
  forked.key = key;
  forked.client = new ConvexHttpClient(forked.url);
  forked.client.setAdminAuth(key);
  return forked;
}

for (const [where, args] of [["memory", []], ["a folder", ["forked"]]]) {
  test(`a fork in ${where} is of its own, and its schedules rest`, async () => {
    const { env, set } = clock();
    const host = await filled({ env });
    const due = await host.client.mutation(api.zoo.later, { ms: 3_600_000 });
    const forked = await fork(host, ...args);
    const all = async (of) => of.client.query(api.zoo.all, {});
    const before = await all(forked);
    assert.equal(before.zoo.length, 15);
    await forked.client.mutation(api.zoo.clear, {});
    await forked.client.mutation(api.zoo.drop, { id: host.file });
    const file = await forked.client.action(api.zoo.store, { text: "of the fork" });
    const url = await forked.client.query(api.zoo.url, { id: file });
    assert.equal(await (await fetch(url)).text(), "of the fork");
    // The original does its job when its hour has come, and sees nothing of this. It looks at the
    // clock when something is due before.
    set(3_600);
    await host.client.mutation(api.zoo.overdue, { time: Date.now() });
    const state = (of) => of.client.query(api.zoo.job, { id: due });
    await eventually("the job of the original", () => state(host), (now) => now === "success");
    assert.equal(await state(forked), "pending");
    const both = ({ zoo }) => zoo.length === 17;
    const after = await eventually("both jobs have added", () => all(host), both);
    assert.deepEqual(after.files, before.files);
    assert.equal(new Set([host.url, forked.url]).size, 2);
    const kept = await host.client.query(api.zoo.url, { id: host.file });
    assert.equal(await (await fetch(kept)).text(), "kept bytes");
    if (where === "memory") {
      const others = await Promise.all([fork(host), fork(host), fork(host)]);
      await fails(concave(host, "fork"), /Too many forks: 4 are running/);
      assert.equal(await others[0].stop(), 0);
      await host.stop();
      await others[1].says(/The host has stopped, and the fork in it/);
      await assert.rejects(fetch(others[1].url));
    } else {
      await host.stop();
      assert.equal((await all(forked)).zoo.length, 0);
      assert.equal(await forked.stop(), 0);
    }
  });
}
