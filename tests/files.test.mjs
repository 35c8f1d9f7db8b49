// File storage as an app uses it: upload URLs, downloads, live URLs, files in mutations.
//
// In: the built program, an app of a few functions, npm's clients, raw sockets. Out: checks of
// what is stored, what is told, and what is not left behind. Invariant: every upload goes through
// a URL that the app's own mutation made.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { connect } from "node:net";
import { after, test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { app } from "./app.mjs";
import { KEY, serve } from "./host.mjs";
import { watch } from "./watch.mjs";
import { unzip } from "./zip.mjs";

const FILES = `
import {
  actionGeneric as action, mutationGeneric as mutation, queryGeneric as query,
} from "convex/server";
const call = async (op, args) =>
  JSON.parse(await Convex.asyncSyscall("1.0/" + op, JSON.stringify(args)));

export const uploadUrl = mutation((ctx) => ctx.storage.generateUploadUrl());
export const url = query((ctx, { id }) => ctx.storage.getUrl(id));
export const metadata = query((ctx, { id }) => ctx.storage.getMetadata(id));
export const row = query((ctx, { id }) => ctx.db.system.get("_storage", id));
export const rows = query((ctx) => ctx.db.system.query("_storage").collect());
export const attach = mutation((ctx, { id }) => ctx.db.insert("posts", { id }));
export const remove = mutation((ctx, { id }) => ctx.storage.delete(id));
export const removeAndFail = mutation(async (ctx, { id }) => {
  await ctx.storage.delete(id);
  throw new Error("after all not");
});
/** Stores text, and reads it back before it is committed. */
export const store = mutation(async (ctx, { text, sha256, fail }) => {
  const id = await call("storageStore", { blob: btoa(text), contentType: "text/plain", sha256 });
  const { blob } = await call("storageGet", { storageId: id });
  if (fail) throw new Error("nothing is left of " + atob(blob));
  return { id, text: atob(blob) };
});
export const read = mutation(async (ctx, { id }) => {
  const found = await call("storageGet", { storageId: id });
  return found && { text: atob(found.blob), type: found.contentType };
});
export const storeMuch = mutation(async (ctx, { megabytes }) => {
  const blob = btoa("x".repeat(1 << 20));
  for (let n = 0; n < megabytes; n++) await call("storageStore", { blob, contentType: null });
});
export const used = mutation(async (ctx) => {
  await call("storageStore", { blob: btoa("12345"), contentType: null });
  const { filesWritten, fileWriteBytes } = await ctx.meta.getTransactionMetrics();
  return [filesWritten.used, fileWriteBytes.used];
});
// What the package needs of Blob, where the runtime has none.
globalThis.Blob ??= class Blob {
  constructor([part], { type = "" } = {}) {
    this.type = type;
    this.bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
  }
  async arrayBuffer() { return this.bytes.buffer; }
  async text() { return new TextDecoder().decode(this.bytes); }
};
/** The same through the package. */
export const storeBlob = mutation(async (ctx, { text }) => {
  const id = await ctx.storage.store(new Blob([text], { type: "text/html" }));
  const blob = await ctx.storage.get(id);
  return { id, type: blob.type, text: await blob.text() };
});
/** Longer than any message between host and worker. */
export const copyInAction = action(async (ctx, { id, times, sha256 }) => {
  const blob = await ctx.storage.get(id);
  const copies = new Blob(Array(times).fill(blob), { type: blob.type });
  const copy = await ctx.storage.store(copies, { sha256 });
  const url = await ctx.storage.getUrl(copy);
  const { size } = await ctx.storage.getMetadata(copy);
  await ctx.storage.delete(id);
  return { copy, url, size, gone: await ctx.storage.get(id) };
});
export const writeInQuery = query(() => call("storageGenerateUploadUrl", {}));
`;
const SCHEMA = `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({ posts: defineTable({ id: v.id("_storage") }) });
`;

const folder = app("files", { "files.js": FILES, "schema.ts": SCHEMA });
const host = await serve("--push", folder);
after(() => host.stop());
const { files } = anyApi;
const client = new ConvexHttpClient(host.url, { logger: false });
const sha256 = (text) => createHash("sha256").update(text);

/** Uploads as a page does. */
async function upload(body, headers = {}) {
  const response = await fetch(await client.mutation(files.uploadUrl, {}), {
    method: "POST", body, headers,
  });
  return { status: response.status, ...(await response.json()) };
}

test("a file is uploaded by a page, shown by a query, and read by everybody with the URL",
  async () => {
    const text = "täxt ".repeat(100_000);
    const { storageId: id } = await upload(text, { "content-type": "text/x-mine; charset=utf-8" });
    const row = await client.query(files.row, { id });
    assert.deepEqual(Object.keys(row).sort(),
      ["_creationTime", "_id", "contentType", "sha256", "size"]);
    assert.equal(row.sha256, sha256(text).digest("base64"));
    assert.equal(row.size, Buffer.byteLength(text));
    const metadata = await client.query(files.metadata, { id });
    assert.deepEqual(metadata, {
      storageId: id,
      sha256: sha256(text).digest("hex"),
      size: row.size,
      contentType: "text/x-mine; charset=utf-8",
    });
    await client.mutation(files.attach, { id });

    const url = await client.query(files.url, { id });
    assert.ok(url.startsWith(`${host.url}/api/storage/`) && !url.includes(id), url);
    const whole = await fetch(url, { headers: { origin: "http://page.example" } });
    assert.ok((await whole.text()) === text);
    assert.equal(whole.headers.get("content-type"), "text/x-mine; charset=utf-8");
    assert.equal(whole.headers.get("access-control-allow-origin"), "http://page.example");
    const part = await fetch(url, { headers: { range: "bytes=599994-" } });
    const rest = Buffer.from(text).subarray(599_994).toString();
    assert.ok(part.status === 206 && (await part.text()) === rest);
    const beyond = await fetch(url, { headers: { range: "bytes=9999999-" } });
    assert.equal(beyond.status, 416);
  });

test("a live query that shows a URL learns of the deletion, and then the URL answers 404",
  async () => {
    const { storageId: id } = await upload("soon gone");
    const live = new ConvexClient(host.url, { logger: false });
    after(() => live.close());
    const shown = watch(live, files.url, { id });
    const url = await client.query(files.url, { id });
    await shown.shows(url);
    await assert.rejects(client.mutation(files.removeAndFail, { id }), /after all not/);
    assert.equal((await fetch(url)).status, 200);
    await client.mutation(files.remove, { id });
    const gone = await fetch(url);
    assert.deepEqual([gone.status, (await gone.json()).code], [404, "FileNotFound"]);
    await shown.shows(null);
    assert.deepEqual(shown.seen, [url, null]);
    assert.equal(await client.query(files.row, { id }), null);
    await assert.rejects(client.mutation(files.remove, { id }), /no file with the id/);
  });

test("a wrong hash, a forged token and an upload that is cut leave nothing", async () => {
  const before = await client.query(files.rows, {});
  const digest = `sha-256=${sha256("right").digest("base64")}`;
  const wrong = await upload("wrong", { digest });
  assert.deepEqual([wrong.status, wrong.code], [400, "Sha256Mismatch"]);
  assert.equal((await upload("right", { digest })).status, 200);

  const url = new URL(await client.mutation(files.uploadUrl, {}));
  const forged = await fetch(`${url}A`, { method: "POST", body: "x" });
  assert.deepEqual([forged.status, (await forged.json()).code], [401, "StorageTokenInvalid"]);

  await new Promise((resolve) => {
    const socket = connect(Number(url.port), "127.0.0.1", () => {
      const path = `${url.pathname}${url.search}`;
      socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n`);
      socket.write("x".repeat(500_000), () => socket.destroy());
    });
    socket.on("error", () => {}).on("close", resolve);
  });
  // What comes later is handled later; and the host goes on.
  assert.equal((await upload("after the cut")).status, 200);
  const sizes = (await client.query(files.rows, {})).slice(before.length).map((row) => row.size);
  assert.deepEqual(sizes, [5, 13]);
});

test("a mutation stores and reads files, and leaves none when it fails", async () => {
  const hash = sha256("hello").digest("hex");
  const { id, text } = await client.mutation(files.store, { text: "hello", sha256: hash });
  assert.equal(text, "hello");
  assert.deepEqual(await client.mutation(files.read, { id }), { text, type: "text/plain" });
  assert.equal(await (await fetch(await client.query(files.url, { id }))).text(), "hello");
  const before = (await client.query(files.rows, {})).length;
  const failing = client.mutation(files.store, { text: "bye", fail: true });
  await assert.rejects(failing, /nothing is left of bye/);
  const promised = client.mutation(files.store, { text: "other", sha256: hash });
  await assert.rejects(promised, /SHA-256 is .* was promised/);
  const much = client.mutation(files.storeMuch, { megabytes: 17 });
  await assert.rejects(much, /Too many bytes of files/);
  assert.equal((await client.query(files.rows, {})).length, before);
  assert.deepEqual(await client.mutation(files.used, {}), [1, 5]);
});

test("mutations and actions store and read Blobs", async () => {
  const { id, type, text } = await client.mutation(files.storeBlob, { text: "<p>é</p>" });
  assert.deepEqual([type, text], ["text/html", "<p>é</p>"]);
  const times = 300_000;
  const all = text.repeat(times);
  const hash = sha256(all).digest("base64");
  const promised = client.action(files.copyInAction, { id, times: 2, sha256: hash });
  await assert.rejects(promised, /SHA-256/);
  const copied = await client.action(files.copyInAction, { id, times, sha256: hash });
  assert.deepEqual([copied.size, copied.gone], [Buffer.byteLength(all), null]);
  const got = await fetch(copied.url);
  assert.equal(got.headers.get("content-type"), "text/html");
  assert.ok((await got.text()) === all);
  assert.equal(await client.query(files.url, { id }), null);
});

test("what is no file's id, and what queries may not do, is said", async () => {
  const post = await client.mutation(files.attach,
    { id: (await client.query(files.rows, {}))[0]._id });
  await assert.rejects(client.query(files.url, { id: post }),
    /expected to be an Id<"_storage">, got Id<"posts"> instead/);
  await assert.rejects(client.query(files.url, { id: "nonsense" }), /Unable to decode ID/);
  await assert.rejects(client.query(files.writeInQuery, {}), /queries only read/);
  const missing = await fetch(`${host.url}/api/storage/00000000-0000-4000-8000-000000000000`);
  assert.equal(missing.status, 404);
  const path = await fetch(`${host.url}/api/storage/nonsense`);
  assert.deepEqual([path.status, (await path.json()).code], [400, "InvalidStoragePath"]);
});

test("a mutation that needs room takes nothing that an export holds", async () => {
  const small = await serve("--push", folder, "--memory", "256M");
  const its = new ConvexHttpClient(small.url, { logger: false });
  // The files have a quarter of that: 64 MiB.
  const much = async () => its.mutation(files.storeMuch, { megabytes: 15 });
  await its.mutation(files.store, { text: "held" });
  const operator = { headers: { authorization: `Convex ${KEY}` } };
  const ask = `${small.url}/api/export/request/zip?includeStorage=true`;
  const { startTs } = await (await fetch(ask, { method: "POST", ...operator })).json();
  for (let n = 0; n < 4; n++) await much();
  for (const { _id } of await its.query(files.rows, {})) {
    await its.mutation(files.remove, { id: _id });
  }
  // Only the past has room for this.
  await much();
  const zip = await fetch(`${small.url}/api/export/zip/${startTs}`, operator);
  const entries = unzip(Buffer.from(await zip.arrayBuffer()));
  assert.ok([...entries.values()].some((bytes) => bytes.toString() === "held"));
  await small.stop();
});
