// What an import must not take: snapshots that somebody has edited, and files of rows that say what
// cannot be so.
//
// In: an export of an app with a file and a component, changed in one place. Out: checks that each
// is refused with a text that says where and why, and changes nothing, or is taken as it is meant.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { CONCAVE, KEY, eventually, pointedAt, start } from "./host.mjs";
import { packedAs, unzip, zip } from "./zip.mjs";

const SOURCES = {
  "box.ts": `
    import { action, mutation, query } from "./_generated/server";
    import { components } from "./_generated/api";
    export const fill = mutation({ handler: async (ctx) => {
      await ctx.db.insert("rows", { n: 1 });
      await ctx.runMutation(components.notes.lib.add, { text: "inside" });
    } });
    export const rows = query({ handler: async ({ db }) => await db.query("rows").collect() });
    export const store = action({ handler: async ({ storage }, { text }) =>
      await storage.store(new Blob([text], { type: "text/plain" })) });
    export const url = query({ handler: async ({ storage }, { id }) => storage.getUrl(id) });
    export const file = query({ handler: async ({ db }, { id }) => await db.system.get(id) });`,
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
    import { mutationGeneric as mutation } from "convex/server";
    export const add = mutation({ handler: async ({ db }, { text }) =>
      await db.insert("notes", { text }) });`,
};
const LINES = "_storage/documents.jsonl";
const ZIP = "import?format=zip&mode=replace";
const ROWS = "import?tableName=rows&format=jsonLines&mode=append";

const hashed = (text) => createHash("sha256").update(text).digest("base64");

let host;
/** The id of the file, the snapshot, and the snapshot's name for the file. */
let [id, good, name] = [];

before(async () => {
  const ports = ["--port", "0", "--site-port", "0", "--admin-key", KEY];
  host = await start(["serve", "--in-memory", ...ports, "--push", app("import", SOURCES)]);
  host.client = new ConvexHttpClient(host.url);
  host.client.setAdminAuth(KEY);
  await host.client.mutation(api.box.fill, {});
  id = await host.client.action(api.box.store, { text: "kept bytes" });
  good = await exported();
  name = `_storage/${id}.txt`;
});
after(() => host.stop());

async function post(path, body) {
  const headers = { authorization: `Convex ${KEY}`, "content-type": "application/json" };
  const answer = await fetch(`${host.url}/api/${path}`, { method: "POST", headers, body });
  const text = await answer.text();
  return { status: answer.status, body: text === "" ? null : JSON.parse(text) };
}

/** All entries of an export, as text. */
async function exported() {
  const { body } = await post("export/request/zip?includeStorage=true");
  const headers = { authorization: `Convex ${KEY}` };
  const answer = await fetch(`${host.url}/api/export/zip/${body.startTs}`, { headers });
  const entries = unzip(Buffer.from(await answer.arrayBuffer()));
  return Object.fromEntries([...entries].map(([entry, bytes]) => [entry, bytes.toString()]));
}

async function takes(path, body) {
  const answer = await post(path, body);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body.numWritten;
}

/** Sends what is refused, and sees that nothing has changed. */
async function refuses(path, body, pattern) {
  const now = await exported();
  const answer = await post(path, body);
  assert.equal(answer.status, 400, JSON.stringify(answer.body));
  assert.match(answer.body.message, pattern);
  assert.deepEqual(await exported(), now);
}

/** Uploads an import in parts; gives its id, and what becomes of it when it was read. */
async function uploaded(wanted, parts) {
  const { uploadToken } = (await post("import/start_upload", "{}")).body;
  const partTokens = [];
  for (const [at, part] of parts.entries()) {
    const to = `import/upload_part?uploadToken=${uploadToken}&partNumber=${at + 1}`;
    partTokens.push((await post(to, part)).body);
  }
  const { importId } = (await post("import/finish_upload",
    JSON.stringify({ import: wanted, uploadToken, partTokens }))).body;
  return { importId, state: await stateAfter("it was read", importId, "uploaded") };
}

/** Follows an import until its state is none of these. */
async function stateAfter(what, importId, ...states) {
  const ask = () => host.client.query("_system/cli/queryImport", { importId });
  return (await eventually(what, ask, ({ state }) => !states.includes(state.state))).state;
}

async function bytesOf(file) {
  const url = await host.client.query(api.box.url, { id: file });
  return await (await fetch(url)).text();
}

/** The snapshot with other text in some entries. */
const edited = (changes) => zip({ ...good, ...changes });
/** Its line about the file, changed. */
const line = (change) =>
  edited({ [LINES]: `${JSON.stringify(change(JSON.parse(good[LINES])))}\n` });

test("a file whose bytes were changed is refused, or stored if its hash is theirs", async () => {
  const text = new RegExp(`^${name.replaceAll(".", "\\.")} has other bytes than ${
    LINES.replaceAll(".", "\\.")}.*: .*${hashed("kept bytes").replaceAll("+", "\\+")}.*${
    hashed("new bytes!").replaceAll("+", "\\+")}`);
  await refuses(ZIP, edited({ [name]: "new bytes!" }), text);
  // The same for a blob that the host does not have.
  const { internalId: _, ...bare } = JSON.parse(good[LINES]);
  await refuses(ZIP, edited({ [name]: "new bytes!", [LINES]: JSON.stringify(bare) }), text);
  assert.equal(await bytesOf(id), "kept bytes");
  const other = { ...JSON.parse(good[LINES]), sha256: hashed("new bytes!") };
  await takes(ZIP, edited({ [name]: "new bytes!", [LINES]: JSON.stringify(other) }));
  assert.equal(await bytesOf(id), "new bytes!");
  // A row without a hash promises nothing.
  const { sha256: __, ...free } = JSON.parse(good[LINES]);
  await takes(ZIP, edited({ [name]: "any bytes", [LINES]: JSON.stringify(free) }));
  assert.equal(await bytesOf(id), "any bytes");
  assert.equal((await host.client.query(api.box.file, { id })).sha256, hashed("any bytes"));
  await takes(ZIP, zip(good));
  assert.equal(await bytesOf(id), "kept bytes");
});

test("a hash that is none is refused", async () => {
  for (const sha256 of ["", "x", hashed("a").slice(4), `${hashed("a")}AAAA`, "zz".repeat(32),
    "+f".repeat(32)]) {
    await refuses(ZIP, line((row) => ({ ...row, sha256 })),
      /^_storage\/documents\.jsonl:1: .*`sha256`.*base64 of 32 bytes/);
  }
  const { internalId: _, ...bare } = JSON.parse(good[LINES]);
  const hex = Buffer.from(bare.sha256, "base64").toString("hex");
  await takes(ZIP, line(() => ({ ...bare, sha256: hex })));
});

test("an entry that cannot be unpacked says how it is compressed, and how it may be", async () => {
  for (const [method, called] of [[12, "Bzip2"], [14, "Lzma"], [93, "Zstd"], [9, "Deflate64"]]) {
    for (const entry of ["rows/documents.jsonl", name, LINES, "_tables/documents.jsonl"]) {
      const pattern = new RegExp(`^${entry.replaceAll(".", "\\.")} .*${called}.*stored.*deflate`);
      await refuses(ZIP, packedAs(zip(good), entry, { method }), pattern);
    }
  }
  await refuses(ZIP, packedAs(zip(good), name, { encrypted: true }),
    new RegExp(`^${name} is encrypted`));
  // What means nothing here need not be read.
  await takes(ZIP, packedAs(edited({ "notes.txt": "x" }), "notes.txt", { method: 14 }));
  // Damage is told as what it is.
  const broken = packedAs(edited({ "rows/documents.jsonl": "\xff\xff\xff\xff".repeat(99) }),
    "rows/documents.jsonl", { method: 8 });
  const now = await exported();
  const { status, body } = await post(ZIP, broken);
  assert.deepEqual([status, body.code], [400, "InvalidFile"]);
  assert.match(body.message, /^rows\/documents\.jsonl cannot be read: /);
  assert.doesNotMatch(body.message, /panic/);
  assert.deepEqual(await exported(), now);
});

test("a zip with two entries of one name is refused", async () => {
  for (const entry of ["rows/documents.jsonl", name, "_components/notes/notes/documents.jsonl"]) {
    await refuses(ZIP, zip([...Object.entries(good), [entry, good[entry]]]),
      new RegExp(`two entries .*${entry}`));
  }
  const folders = [["rows/", ""], ["rows/", ""], ...Object.entries(good)];
  await takes(ZIP, zip(folders));
});

test("a byte order mark is no part of what is written, in any format", async () => {
  const mark = "\ufeff";
  const now = (await host.client.query(api.box.rows, {})).length;
  await takes(ROWS, `${mark}{"a":1}\n{"a":2}\n`);
  await takes(ROWS.replace("jsonLines", "jsonArray"), `${mark}[{"a":3}]`);
  await takes(ROWS.replace("jsonLines", "csv"), `${mark}a,b\n4,x\n`);
  await takes(ROWS.replace("jsonLines", "csv"), `${mark}"a","b"\n5,x\n`);
  const rows = (await host.client.query(api.box.rows, {})).slice(now);
  assert.deepEqual(rows.map(({ _id, _creationTime, ...rest }) => rest),
    [{ a: 1 }, { a: 2 }, { a: 3 }, { a: 4, b: "x" }, { a: 5, b: "x" }]);
  const marked = Object.entries(good).filter(([entry]) => /jsonl$/.test(entry));
  await takes(ZIP, edited(Object.fromEntries(marked.map(([entry, text]) => [entry, mark + text]))));
  // Once, and at the beginning.
  await refuses(ROWS, `${mark}${mark}{"a":1}`, /^rows\.jsonl:1: /);
  await refuses(ROWS, `{"a":1}\n${mark}{"a":2}`, /^rows\.jsonl:2: /);
  const parts = `${mark}{"a":6}`;
  // Also where it comes byte by byte.
  const wanted = { tableName: "other", mode: "append", format: "jsonLines" };
  const bytes = [...Buffer.from(`${mark}{"a":6}`)].map((byte) => Buffer.from([byte]));
  const { importId, state } = await uploaded(wanted, bytes);
  assert.equal(state.state, "waiting_for_confirmation", state.error_message);
  await post("cancel_import", JSON.stringify({ importId }));
});

test("a creation time that no Date can hold is refused", async () => {
  const told = /^rows\.jsonl:2: `_creationTime` .*milliseconds since 1970/;
  for (const time of ["1e300", "8640000000000001", "-1", "0", '"now"', "null", "true", "[1]"]) {
    await refuses(ROWS, `{"a":0}\n{"_creationTime":${time}}`, told);
  }
  const documents = "rows/documents.jsonl";
  const document = JSON.parse(good[documents]);
  for (const _creationTime of [{ $float: "AAAAAAAA+H8=" }, { $float: "AAAAAAAA8H8=" }, 1e300, -1]) {
    await refuses(ZIP, edited({ [documents]: JSON.stringify({ ...document, _creationTime }) }),
      /^rows\/documents\.jsonl:1: `_creationTime` /);
  }
  for (const _creationTime of [1e300, -1, 0, "now"]) {
    await refuses(ZIP, line((row) => ({ ...row, _creationTime })),
      /^_storage\/documents\.jsonl:1: .*_creationTime/);
  }
  await takes(ROWS, '{"_creationTime":8640000000000000,"last":true}');
  const last = (await host.client.query(api.box.rows, {})).find(({ last }) => last);
  assert.equal(new Date(last._creationTime).getUTCFullYear(), 275760);
  await takes(ZIP, zip(good));
});

test("rows of a snapshot's tables are objects, and say in plain words what is not", async () => {
  const table = JSON.parse(good["_tables/documents.jsonl"].split("\n")[0]);
  for (const [entry, row, pattern] of [
    ["_tables/documents.jsonl", [table.name, table.id], /found an array, expected an object/],
    [LINES, [id, null, null, null, null], /found an array, expected an object/],
    ["_tables/documents.jsonl", { ...table, id: "x" },
      /`id`: found string "x", expected a whole number/],
    [LINES, "x", /found string "x", expected an object with the fields `_id`, /],
  ]) {
    const wrong = edited({ [entry]: JSON.stringify(row) });
    await refuses(ZIP, wrong, new RegExp(`^${entry.replaceAll(".", "\\.")}:1: ${pattern.source}`));
  }
});

test("a component that is not mounted is told, and has what is its own when it is", async () => {
  const thing = '{"text":"early"}\n';
  const early = { "_components/zz/_components/notes/notes/documents.jsonl": thing };
  const { importId, state } = await uploaded({ mode: "append", format: "zip" }, [zip(early)]);
  assert.equal(state.state, "waiting_for_confirmation", state.error_message);
  assert.match(state.message_to_confirm,
    /No component is mounted at "zz\/notes" \(there are: "notes"\)/);
  await post("perform_import", JSON.stringify({ importId }));
  const done = await stateAfter("it is done", importId, "waiting_for_confirmation", "in_progress");
  assert.equal(done.state, "completed", done.error_message);
  // Nothing is said of those that are.
  const known = await uploaded({ mode: "append", format: "zip" },
    [zip({ "_components/notes/notes/documents.jsonl": thing })]);
  assert.doesNotMatch(known.state.message_to_confirm, /No component is mounted/);
  await post("cancel_import", JSON.stringify({ importId: known.importId }));
  const folder = app("import-mounted", { ...SOURCES,
    "convex.config.ts": `
      import { defineApp } from "convex/server";
      import notes from "./notes/convex.config";
      import outer from "./outer/convex.config";
      const app = defineApp();
      app.use(notes);
      app.use(outer, { name: "zz" });
      export default app;`,
    "outer/convex.config.ts": `
      import { defineComponent } from "convex/server";
      import notes from "../notes/convex.config";
      const outer = defineComponent("outer");
      outer.use(notes);
      export default outer;`,
    "outer/lib.ts": `
      import { queryGeneric as query, componentsGeneric } from "convex/server";
      const notes = componentsGeneric().notes;
      export const list = query({ handler: async (ctx) =>
        await ctx.runQuery(notes.lib.list, {}) });`,
    "notes/lib.ts": `
      import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
      export const add = mutation({ handler: async ({ db }, { text }) =>
        await db.insert("notes", { text }) });
      export const list = query({ handler: async ({ db }) => await db.query("notes").collect() });`,
    "zz.ts": `
      import { query } from "./_generated/server";
      import { components } from "./_generated/api";
      export const list = query({ handler: async (ctx) =>
        await ctx.runQuery(components.zz.lib.list, {}) });`,
  });
  const env = pointedAt(host);
  const pushed = spawnSync(CONCAVE, ["push"], { cwd: folder, env, encoding: "utf8" });
  assert.equal(pushed.status, 0, pushed.stdout + pushed.stderr);
  const list = await host.client.query(api.zz.list, {});
  assert.deepEqual(list.map(({ text }) => text), ["early"]);
  await refuses("import?tableName=t&format=jsonLines&componentPath=nope", "{}",
    /no component "nope"; there are: "notes", "zz", "zz\/notes"\. Push it first/);
  for (const wrong of ["", "a b", "1a", "a".repeat(65)]) {
    await refuses(ZIP, zip({ [`_components/${wrong}/t/documents.jsonl`]: "{}" }),
      /^_components\/.*: no component can be called ".*": a name is 1 to 64/);
  }
});

test("an array is no object at any endpoint, and no error names a type of ours", async () => {
  const wanted = ["rows", null, "append", "jsonLines"];
  for (const [path, body, field] of [
    ["query", ["box:rows", {}, "json"]],
    ["mutation", ["box:fill", {}]],
    ["action", ["box:store", { text: "x" }]],
    ["function", [null, "box:rows", {}]],
    ["query_batch", [[]]],
    ["query_batch", { queries: [["box:rows", {}]] }, "queries[0]"],
    ["run/box/fill", [{}]],
    ["update_environment_variables", [[]]],
    ["update_environment_variables", { changes: [["NAME", "value"]] }, "changes[0]"],
    ["import/finish_upload", [{ format: "csv" }, "x", []]],
    ["import/finish_upload", { import: wanted, uploadToken: "x", partTokens: [] }, "import"],
    ["perform_import", ["x"]],
    ["cancel_import", ["x"]],
    ["delete_component", ["notes"]],
  ]) {
    const at = field === undefined ? "" : ` at \`${field}\``;
    const { status, body: told } = await post(path, JSON.stringify(body));
    assert.deepEqual([status, told.code], [400, "BadJsonBody"], `${path}: ${told.message}`);
    const begins =
      `The request body is wrong${at}: found an array, expected an object with the field`;
    assert.ok(told.message.startsWith(begins), `${path}: ${told.message}`);
    assert.doesNotMatch(told.message, /struct|sequence|map/);
  }
  const changes = JSON.stringify({ changes: [{ name: "A", value: 3 }] });
  const typed = await post("update_environment_variables", changes);
  assert.match(typed.body.message,
    /at `changes\[0\]\.value`: found integer `3`, expected a string/);
});
