// Convex's own export comes in: a zip as the official backend writes it, made here by hand.
//
// In: entries as `convex-compat.md` sections 6.12 says, deflated and streamed, so that sizes stand
// behind the bytes. Out: checks through `concave import` and `npx convex import` that ids, times,
// values, files and components are what they were. Invariant: nothing here is written by concave.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { app } from "./app.mjs";
import { CONCAVE, KEY, ROOT, concave, pointedAt, serve } from "./host.mjs";
import { streamed, unzip, zip } from "./zip.mjs";

const execute = promisify(execFile);
const CLI = join(ROOT, "tests/node_modules/convex/bin/main.js");
const HOME = mkdtempSync(join(tmpdir(), "concave-official-"));
process.on("exit", () => rmSync(HOME, { recursive: true, force: true }));

const SCHEMA = `
  import { defineSchema, defineTable } from "convex/server";
  import { v } from "convex/values";
  export default defineSchema({
    tags: defineTable({ label: v.string() }),
    users: defineTable({ name: v.string(), avatar: v.optional(v.id("_storage")) })
      .index("by_name", ["name"]),
    messages: defineTable({
      author: v.id("users"), body: v.string(), likes: v.int64(), score: v.float64(),
      raw: v.bytes(), any: v.any(),
    }).index("by_likes", ["likes"]),
    empty: defineTable({ n: v.number() }),
  });`;
const SOURCES = {
  "schema.ts": SCHEMA,
  "chat.ts": `
    import { mutation, query } from "./_generated/server";
    import { components } from "./_generated/api";
    export const all = query({ handler: async (ctx) => ({
      users: await ctx.db.query("users").withIndex("by_name").collect(),
      messages: await ctx.db.query("messages").withIndex("by_likes").collect(),
      empty: await ctx.db.query("empty").collect(),
      files: await ctx.db.system.query("_storage").collect(),
      sent: await ctx.runQuery(components.mail.lib.list, {}),
    }) });
    export const avatar = query({ handler: async ({ db, storage }, { user }) => {
      const { avatar } = await db.get(user);
      return await storage.getUrl(avatar);
    } });
    export const send = mutation({ handler: async ({ db }, { author }) => await db.insert(
      "messages", { author, body: "new", likes: 9n, score: 1, raw: new ArrayBuffer(0), any: 0 },
    ) });`,
  "convex.config.ts": `
    import { defineApp } from "convex/server";
    import mail from "./mail/convex.config";
    const app = defineApp();
    app.use(mail);
    export default app;`,
  "mail/convex.config.ts": `
    import { defineComponent } from "convex/server";
    export default defineComponent("mail");`,
  "mail/lib.ts": `
    import { queryGeneric as query } from "convex/server";
    export const list = query({ handler: async (ctx) => await ctx.db.query("sent").collect() });`,
};
const APP = app("official", SOURCES);

/** An ID as Convex writes it: table number, 16 bytes, checksum, in base 32. */
function id(table, n) {
  const bytes = [];
  for (let rest = table; ; rest >>= 7) {
    if (rest < 128) {
      bytes.push(rest);
      break;
    }
    bytes.push((rest & 127) | 128);
  }
  for (let at = 0; at < 16; at++) bytes.push((n * 37 + at * 11) & 255);
  let [low, high] = [0, 0];
  for (const byte of bytes) {
    low = (low + byte) & 255;
    high = (high + low) & 255;
  }
  const bits = [...bytes, low, high].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  const groups = bits.match(/.{1,5}/g).map((group) => parseInt(group.padEnd(5, "0"), 2));
  return groups.map((group) => "0123456789abcdefghjkmnpqrstvwxyz"[group]).join("");
}

// A deployment whose tables were made in another order than here, some long gone.
const [USERS, MESSAGES, EMPTY, LOOSE, SENT, STORAGE] = [10023, 10011, 10012, 10030, 10001, 540];
const ADA = id(USERS, 1);
const BOB = id(USERS, 2);
const PICTURE = id(STORAGE, 1);
const BARE = id(STORAGE, 2);
const BYTES = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 1, 2, 255]);
const float64 = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return `{"$float":"${bytes.toString("base64")}"}`;
};
/** What each message holds: as the export writes it, and as it is. */
const VALUES = [
  ["1.0", 1], ["1", 1n], ["-9223372036854775808", -(2n ** 63n)],
  ["9223372036854775807", 2n ** 63n - 1n], [float64(NaN), NaN], [float64(-0), -0],
  [float64(Infinity), Infinity], [float64(-Infinity), -Infinity], ["1e300", 1e300],
  ["5e-324", 5e-324], ["9007199254740993.0", 9007199254740992], ["0.1", 0.1],
  ['{"$bytes":"AP8="}', new Uint8Array([0, 255]).buffer], ['{"$bytes":""}', new ArrayBuffer(0)],
  ['"\\u0000 é 😀 \\"quoted\\""', '\u0000 é 😀 "quoted"'], ["[1,1.0,null,[]]", [1n, 1, null, []]],
  ['{"a b":{"":true},"c":[{"$bytes":"AQ=="}]}',
    { "a b": { "": true }, c: [new Uint8Array([1]).buffer] }],
];
const TIME = 1688000000000;

const lines = (...all) => all.map((line) => `${line}\n`).join("");
const row = (fields) => JSON.stringify(fields).replace(/"@(.*?)@"/g, "$1");
const hash = (bytes) => createHash("sha256").update(bytes).digest("base64");

const message = ([text], n) =>
  `{"_creationTime":${TIME + n}.25,"_id":"${id(MESSAGES, n)}",` +
  `"any":${text},"author":"${n % 2 ? ADA : BOB}","body":"message ${n}","likes":${n},` +
  `"raw":{"$bytes":"/w=="},"score":${n}.5}`;

/** The export, entry by entry, in the order in which the official backend writes them. */
const EXPORT = {
  "README.md": "# Welcome to your Convex snapshot export!\n\nThis ZIP file contains a snapshot.\n",
  "_tables/documents.jsonl": lines(
    row({ name: "empty", id: EMPTY }), row({ name: "loose", id: LOOSE }),
    row({ name: "messages", id: MESSAGES }), row({ name: "users", id: USERS })),
  "_storage/documents.jsonl": lines(
    row({ _creationTime: TIME + 0.5, _id: PICTURE, contentType: "image/png", internalId:
      "6d4a7d9a-1c52-4c1b-9b6e-1b6a1f6c0b01", sha256: hash(BYTES), size: "@8.0@" }),
    row({ _creationTime: TIME + 0.75, _id: BARE, contentType: null, internalId:
      "0b7e7a52-7a8e-4a5a-8a4e-54c2f0c1d102", sha256: hash(""), size: "@0@" })),
  [`_storage/${PICTURE}.png`]: BYTES,
  [`_storage/${BARE}`]: "",
  "empty/documents.jsonl": "",
  "empty/generated_schema.jsonl": lines('"uniform"'),
  "loose/documents.jsonl": lines(`{"_creationTime":${TIME}.0,"_id":"${id(LOOSE, 1)}","n":1}`),
  "loose/generated_schema.jsonl": lines('"uniform"'),
  "messages/documents.jsonl": lines(...VALUES.map(message)),
  "messages/generated_schema.jsonl": lines('"uniform"'),
  "users/documents.jsonl": lines(
    `{"_creationTime":${TIME}.25,"_id":"${ADA}","avatar":"${PICTURE}","name":"Ada"}`,
    `{"_creationTime":${TIME}.5,"_id":"${BOB}","name":"Bob"}`),
  "users/generated_schema.jsonl": lines('"uniform"'),
  "_components/mail/_tables/documents.jsonl": lines(row({ name: "sent", id: SENT })),
  "_components/mail/_storage/documents.jsonl": "",
  "_components/mail/sent/documents.jsonl": lines(
    `{"_creationTime":${TIME}.125,"_id":"${id(SENT, 1)}","to":"ada@example.com","tries":2}`),
  "_components/mail/sent/generated_schema.jsonl": lines('"uniform"'),
  "_components/mail/_components/queue/_tables/documents.jsonl": lines(
    row({ name: "jobs", id: SENT })),
  "_components/mail/_components/queue/jobs/documents.jsonl": lines(
    `{"_creationTime":${TIME}.0,"_id":"${id(SENT, 7)}","kind":"retry"}`),
  "_components/mail/_components/queue/jobs/generated_schema.jsonl": lines('"uniform"'),
};
const FILE = join(HOME, "snapshot_happy-animal-123_1688000000000000000.zip");
writeFileSync(FILE, streamed(EXPORT));

/** Runs a program; it must work. */
async function works(program, args, options) {
  const running = execute(program, args, options);
  running.child.stdin.end();
  const { stdout, stderr } = await running;
  return stdout + stderr;
}

const IMPORTS = {
  "concave import": (host) => works(CONCAVE, ["import", FILE], { env: pointedAt(host) }),
  "npx convex import": (host) => {
    const options = { env: { ...pointedAt(host), CI: "1" }, cwd: APP };
    return works(process.execPath, [CLI, "import", FILE], options);
  },
};

/** What must be there afterwards. */
async function check(client) {
  const { users, messages, empty, files, sent } = await client.query(api.chat.all, {});
  assert.deepEqual(users, [
    { _id: ADA, _creationTime: TIME + 0.25, name: "Ada", avatar: PICTURE },
    { _id: BOB, _creationTime: TIME + 0.5, name: "Bob" },
  ]);
  assert.deepEqual(empty, []);
  assert.equal(messages.length, VALUES.length);
  for (const [n, [text, value]] of VALUES.entries()) {
    assert.deepEqual(messages[n], {
      _id: id(MESSAGES, n), _creationTime: TIME + n + 0.25,
      author: n % 2 ? ADA : BOB, body: `message ${n}`, likes: BigInt(n), score: n + 0.5,
      raw: new Uint8Array([255]).buffer, any: value,
    }, text);
    // What deepEqual takes for equal: zeros.
    assert.ok(Object.is(messages[n].any, value) || typeof value === "object", text);
  }
  const picture = { _id: PICTURE, _creationTime: TIME + 0.5, sha256: hash(BYTES), size: 8,
    contentType: "image/png" };
  const bare = { _id: BARE, _creationTime: TIME + 0.75, sha256: hash(""), size: 0 };
  const typed = files.map(({ contentType, ...file }) => contentType ? { ...file, contentType } :
    file);
  assert.deepEqual(typed, [picture, bare]);
  assert.deepEqual(sent, [{ _id: id(SENT, 1), _creationTime: TIME + 0.125, tries: 2n,
    to: "ada@example.com" }]);
  const file = await fetch(await client.query(api.chat.avatar, { user: ADA }));
  assert.equal(file.headers.get("content-type"), "image/png");
  assert.deepEqual(Buffer.from(await file.arrayBuffer()), BYTES);
}

for (const [name, imported] of Object.entries(IMPORTS)) {
  test(`${name}: Convex's own export, every value as it was`, async () => {
    const host = await serve("--push", APP);
    const client = new ConvexHttpClient(host.url);
    const said = await imported(host);
    assert.match(said, /messages +\| 17 +\|/);
    assert.match(said, /mail:sent +\| 1 +\|/);
    await check(client);
    // It goes on from there: the new document has an ID of the table's old number.
    const next = await client.mutation(api.chat.send, { author: ADA });
    assert.equal(next.slice(0, 3), id(MESSAGES, 1).slice(0, 3));
    await host.stop();
  });
}

test("it goes out again with the same documents, line by line", async () => {
  const host = await serve("--push", APP);
  await IMPORTS["concave import"](host);
  const out = join(HOME, "again.zip");
  await works(CONCAVE, ["export", out], { env: pointedAt(host) });
  const entries = unzip(readFileSync(out));
  const sorted = (text) => text.toString().split("\n").filter(Boolean).sort();
  for (const [name, text] of Object.entries(EXPORT)) {
    if (!name.endsWith("documents.jsonl") || name.includes("_storage")) continue;
    const has = sorted(entries.get(name));
    if (name.endsWith("_tables/documents.jsonl")) {
      for (const line of sorted(text)) assert.ok(has.includes(line), line);
    } else {
      // What no float64 is, came in as the nearest.
      const had = text.replace("9007199254740993.0", "9007199254740992.0");
      assert.deepEqual(has, sorted(had), name);
    }
  }
  assert.deepEqual(entries.get(`_storage/${PICTURE}.png`), BYTES);
  await host.stop();
});

test("what is wrong in it says where, and nothing of it is imported", async () => {
  const host = await serve("--push", APP);
  const client = new ConvexHttpClient(host.url);
  const before = await client.query(api.chat.all, {});
  const changed = (name, change) => streamed({ ...EXPORT, [name]: change(EXPORT[name]) });
  const wrong = {
    "a table that is no JSON": [changed("users/documents.jsonl", (text) => text.slice(0, -9)),
      /users\/documents\.jsonl:2: /],
    "against the schema": [changed("messages/documents.jsonl",
      (text) => text.replace('"likes":3,', '"likes":3.0,')),
    /messages\/documents\.jsonl:4: Failed to insert or update a document in table "messages"/],
    "a reference into no table": [changed("messages/documents.jsonl",
      (text) => text.replace(`"author":"${ADA}"`, `"author":"${id(LOOSE, 1)}"`)),
    /messages\/documents\.jsonl:2: /],
    "a table of the system": [zip({ ...EXPORT, "_tables/documents.jsonl":
      EXPORT["_tables/documents.jsonl"].replace(String(USERS), "513") }), /number 513/],
  };
  for (const [what, [bytes, pattern]] of Object.entries(wrong)) {
    const file = join(HOME, "wrong.zip");
    writeFileSync(file, bytes);
    const ended = concave(["import", file, "--url", host.url, "--admin-key", KEY]);
    assert.equal(ended.status, 1, what);
    assert.match(ended.stderr, pattern, what);
    assert.deepEqual(await client.query(api.chat.all, {}), before, what);
  }
  await host.stop();
});
