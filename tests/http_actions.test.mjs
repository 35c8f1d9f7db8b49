// HTTP actions end to end: `http.ts` as an app writes it, clients as browsers, curl and proxies
// are.
//
// In: the built program and tests/site. Out: checks of what handlers see and what clients read.
// Invariant: what waits, waits for a note that the test adds, so that no test depends on how fast
// anything is.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { KEY, ROOT, eventually, serve, start, within } from "./host.mjs";
import { until } from "./watch.mjs";

const host = await serve("--push", "tests/site");
after(() => host.stop());
const SITE = (await fetch(`${host.url}/api/v1/get_canonical_urls`, {
  headers: { authorization: `Convex ${KEY}` },
}).then((response) => response.json())).convexSiteUrl;
const { notes } = anyApi;
const client = new ConvexHttpClient(host.url, { logger: false });
const note = (text) => client.mutation(notes.add, { text });
const noted = (text) =>
  eventually(`the note ${text}`, () => client.query(notes.has, { text }));

const ask = (path, options, site = SITE) =>
  fetch(`${site}${path}`, { redirect: "manual", ...options });
const text = async (...request) => (await ask(...request)).text();

/** A request whose body is written, and whose response is read, as the test goes on. */
function open(path, options = {}) {
  const sent = request(`${SITE}${path}`, { method: "POST", ...options });
  const answered = new Promise((resolve, reject) =>
    sent.on("response", resolve).on("error", reject));
  answered.catch(() => {});
  return { sent, answered };
}

/** The next piece of a response that is being read. */
async function piece(response) {
  for (;;) {
    const bytes = response.read();
    if (bytes !== null) return bytes.toString();
    const more = new Promise((resolve) => response.once("readable", resolve));
    await within("the next piece of a response", more);
  }
}

test("exact routes, the longest prefix, and what no route takes", async () => {
  assert.equal(await text("/tree/exact"), "exact");
  assert.equal(await text("/tree/other"), "prefix /tree/");
  assert.equal(await text("/tree/deep/er?x=1"), "prefix /tree/deep/");
  for (const [path, method] of [["/tree", "GET"], ["/", "GET"], ["/hello", "POST"]]) {
    const missing = await ask(path, { method });
    assert.equal(missing.status, 404);
    assert.equal(await missing.text(), "No matching routes found");
  }
  // The same on the other origin, below /http.
  assert.equal(await (await fetch(`${host.url}/http/tree/deep/er`)).text(), "prefix /tree/deep/");
});

test("every method has its route, HEAD that of GET", async () => {
  for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
    assert.equal(await text("/method", { method, body: "body" }), `${method} false body`);
    assert.equal(await text("/method", { method }), `${method} true `);
  }
  for (const method of ["GET", "OPTIONS"]) {
    assert.equal(await text("/method", { method }), `${method} true `);
  }
  const head = await ask("/cookies", { method: "HEAD" });
  assert.equal(head.status, 418);
  assert.deepEqual(head.headers.getSetCookie(), ["a=1", "b=2"]);
  assert.equal(await head.text(), "");
});

test("a handler sees the URL, the headers and the caller as they came", async () => {
  const headers = { "x-latin": "caf\u00e9", "x-forwarded-proto": "https", "X-Mixed": "1, 2" };
  const seen = await (await ask("/seen?a=1&b=%C3%A9", { headers })).json();
  const { host: own } = new URL(SITE);
  assert.equal(seen.url, `https://${own}/seen?a=1&b=%C3%A9`);
  assert.deepEqual(seen.query, { a: "1", b: "é" });
  assert.equal(seen.headers["x-latin"], "caf\u00e9");
  assert.equal(seen.headers["x-mixed"], "1, 2");
  assert.equal(seen.headers.host, own);
  assert.deepEqual([seen.method, seen.body, seen.identity, seen.site], ["GET", null, null, SITE]);
  const mounted = await (await fetch(`${host.url}/http/seen`)).json();
  assert.equal(mounted.url, `${host.url}/seen`);
});

test("a header that is the app's own turns nobody away", async () => {
  for (const authorization of ["Bearer sk_live_1", "Basic dXNlcg==", "whsec_1"]) {
    const response = await ask("/seen", { headers: { authorization } });
    assert.equal(response.status, 200);
    const seen = await response.json();
    assert.equal(seen.headers.authorization, authorization);
    assert.match(seen.identity, /^threw .+/, authorization);
  }
});

test("bodies in: JSON, forms with files, bytes", async () => {
  const json = JSON.stringify({ a: ["é", null] });
  assert.deepEqual(await (await ask("/json", { method: "POST", body: json })).json(),
    { got: { a: ["é", null] } });
  const form = new FormData();
  form.append("name", "Ada");
  form.append("file", new Blob([new Uint8Array([0, 255, 13, 10])], { type: "a/b" }), "raw.bin");
  const got = await (await ask("/form", { method: "POST", body: form })).json();
  assert.deepEqual(got, { name: "Ada", file: "raw.bin", type: "a/b", bytes: [0, 255, 13, 10] });
});

test("bodies out: text, bytes, Blob, FormData, JSON, nothing", async () => {
  const hello = await ask("/hello");
  assert.equal(hello.headers.get("content-type"), "text/plain;charset=UTF-8");
  assert.equal(await hello.text(), "hello");
  const bytes = new Uint8Array(await (await ask("/bytes")).arrayBuffer());
  assert.deepEqual([...bytes], Array.from({ length: 256 }, (_, n) => n));
  const blob = await ask("/blob");
  assert.equal(blob.headers.get("content-type"), "text/html");
  assert.equal(await blob.text(), "<p>é");
  const form = await (await ask("/form")).formData();
  assert.deepEqual([form.get("a"), form.get("file").name, await form.get("file").text()],
    ["1", "two.txt", "two"]);
  const empty = await ask("/empty");
  const seen = [empty.status, empty.headers.get("x-empty"), await empty.text()];
  assert.deepEqual(seen, [204, "yes", ""]);
  const cookies = await ask("/cookies");
  assert.deepEqual([cookies.status, cookies.headers.get("x-latin")], [418, "caf\u00e9"]);
  assert.deepEqual(cookies.headers.getSetCookie(), ["a=1", "b=2"]);
  const away = await ask("/away");
  assert.deepEqual([away.status, away.headers.get("location")], [307, "https://example.com/there"]);
});

test("a response is read chunk by chunk, each when it is made", async () => {
  const { sent, answered } = open("/steps?name=one", { method: "GET" });
  sent.end();
  await note("one 1");
  const response = await answered;
  assert.equal(response.headers["content-type"], "text/event-stream");
  for (const step of [1, 2, 3]) {
    if (step > 1) await note(`one ${step}`);
    assert.equal(await piece(response), `step ${step};`);
  }
  response.resume();
  await until(() => response.complete);
});

test("a request and its response run side by side", async () => {
  const { sent, answered } = open("/echo");
  let response;
  for (const chunk of ["first", "second", "third"]) {
    sent.write(chunk);
    response ??= await answered;
    assert.equal(await piece(response), chunk);
  }
  sent.end();
  response.resume();
  await until(() => response.complete);
});

test("large bodies pass in both directions without being held", async () => {
  const size = 64 << 20;
  const chunk = Buffer.alloc(1 << 20, 3);
  const { sent, answered } = open("/count", { headers: { "content-length": size } });
  for (let n = 0; n < size; n += chunk.length) {
    if (!sent.write(chunk)) await new Promise((resolve) => sent.once("drain", resolve));
  }
  sent.end();
  const counted = [];
  for await (const bytes of await answered) counted.push(bytes);
  assert.equal(JSON.parse(Buffer.concat(counted)).bytes, size);
  const most = 20 << 20;
  const large = await ask(`/large?bytes=${most}`);
  assert.equal((await large.arrayBuffer()).byteLength, most);
});

test("a response beyond the limit is cut, and the terminal says why", async () => {
  const large = await ask(`/large?bytes=${(20 << 20) + 1}`);
  await assert.rejects(large.arrayBuffer(), /terminated/);
  await assert.rejects(text("/throws-late"), /terminated|fetch failed/);
  // The host is none the worse.
  assert.equal(await text("/hello"), "hello");
});

test("an answer before the upload is over reaches the client", async () => {
  const body = Buffer.alloc(8 << 20, 1);
  const refused = await ask("/refuse", { method: "POST", body });
  assert.deepEqual([refused.status, await refused.text()], [413, "no, thank you"]);
});

test("204, 205 and 304 end with their head, whatever the handler put into them", async () => {
  const { port } = new URL(SITE);
  for (const status of [204, 205, 304]) {
    for (const kind of ["empty", "text", "stream"]) {
      const head = (path, more = "") => `GET ${path} HTTP/1.1\r\nhost: a\r\n${more}\r\n`;
      const socket = connect(Number(port), "127.0.0.1");
      socket.write(head(`/bodiless?status=${status}&kind=${kind}`)
        + head("/hello", "connection: close\r\n"));
      let answer = "";
      for await (const bytes of socket) answer += bytes;
      const [first, next, ...rest] = answer.split("\r\n\r\n");
      assert.match(first, new RegExp(`^HTTP/1.1 ${status} `), kind);
      const lengths = first.match(/^(content-length|transfer-encoding):.*$/gm) ?? [];
      assert.deepEqual(lengths, status === 205 ? ["content-length: 0"] : [], kind);
      assert.match(next, /^HTTP\/1\.1 200 /);
      assert.deepEqual(rest, ["hello"]);
    }
  }
});

test("an upload that is cut is an error for the handler that reads it", async () => {
  const { port } = new URL(SITE);
  const socket = connect(Number(port), "127.0.0.1");
  const head = "POST /broken-upload HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n";
  socket.write(`${head}\r\nnot all of it`);
  // A host that has not read of it yet would never hear of it.
  await noted("upload began");
  socket.resetAndDestroy();
  await noted("upload broken: TypeError");
  assert.equal(await client.query(notes.has, { text: "upload whole" }), false);
});

test("CORS is the app's business, on both origins", async () => {
  const headers = {
    origin: "https://app.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "x-own",
  };
  for (const origin of [SITE, `${host.url}/http`]) {
    const preflight = await fetch(`${origin}/cors`, { method: "OPTIONS", headers });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers.get("access-control-allow-origin"), "https://app.example");
    assert.equal(preflight.headers.get("access-control-allow-headers"), "x-own");
    const bare = await fetch(`${origin}/hello`, { headers });
    assert.equal(bare.headers.get("access-control-allow-origin"), null);
  }
});

test("errors have Convex's shapes", async () => {
  const threw = await ask("/throws");
  assert.equal(threw.status, 500);
  const { code, trace, ...rest } = await threw.json();
  assert.match(code, /^\[Request ID: [0-9a-f]{16}\] Server Error: Uncaught Error: boom$/);
  assert.match(trace, /^Uncaught Error: boom\n +at .*\(\.\.\/convex\/http\.ts:\d+:\d+\)/);
  assert.deepEqual(rest, {});
  const data = await (await ask("/throws-data")).json();
  assert.match(data.code, /Uncaught ConvexError: /);
  assert.deepEqual(data.data, { code: "full", left: "1" });
  const nothing = await (await ask("/nothing")).json();
  assert.match(nothing.code, /HTTP actions must return a Response/);
});

test("a handler calls queries, mutations and actions, and keeps files", async () => {
  const called = await (await ask("/calls", { method: "POST", body: "from outside" })).json();
  assert.deepEqual(called, { length: 12, has: true, inside: "internal" });
  const headers = { "content-type": "image/x-own" };
  const body = Buffer.from([0, 1, 2, 255]);
  const { id, url } = await (await ask("/store", { method: "POST", body, headers })).json();
  for (const where of [`${SITE}/stored?id=${id}`, url]) {
    const stored = await fetch(where);
    assert.equal(stored.headers.get("content-type"), "image/x-own");
    assert.deepEqual(Buffer.from(await stored.arrayBuffer()), body);
  }
});

test("a client that leaves cancels the stream; what the handler has begun goes on", async () => {
  for (const [path, name, said] of [
    ["/leave?name=left", "left", "left nobody reads"],
    ["/endless?name=tired", "tired", "tired cancelled"],
  ]) {
    const { sent, answered } = open(path, { method: "GET" });
    sent.end();
    await piece(await answered);
    sent.destroy();
    await noted(said);
    assert.ok(name);
  }
  await note("left go on");
  await noted("left finished");
});

test("a client that leaves before the answer aborts the request's signal", async () => {
  const { sent } = open("/signal?name=early", { method: "GET" });
  sent.on("error", () => {});
  sent.end();
  await noted("early began");
  sent.destroy();
  await noted("early aborted");
});

test("200 requests at once get their own answers", async () => {
  const bodies = Array.from({ length: 200 }, (_, n) => `request ${n}`);
  const answers = bodies.map((body) => text("/method", { method: "POST", body }));
  assert.deepEqual(await Promise.all(answers), bodies.map((body) => `POST false ${body}`));
});

test("dev prints a line for each request, with its route, logs and error", async () => {
  const folder = mkdtempSync(join(tmpdir(), "concave-site-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(ROOT, "tests/site"), folder, { recursive: true });
  symlinkSync(join(ROOT, "tests/node_modules"), join(folder, "node_modules"));
  const dev = await start(["dev", folder, "--port", "0", "--site-port", "0"]);
  await dev.says(/pushed \d+ functions?/);
  const [, site] = readFileSync(join(folder, ".env.local"), "utf8").match(/SITE_URL='(.*)'/);
  await text("/tree/deep/er", {}, site);
  await dev.says(/http +GET \/tree\/deep\/er 200 .*by \/tree\/deep\/\*/);
  await text("/throws", {}, site);
  await dev.says(/http +GET \/throws 500 [^]*\[LOG\] 'before it'[^]*Uncaught Error: boom/);
  await text("/none", {}, site);
  await dev.says(/http +GET \/none 404 /);
  await dev.stop();
});

test("runs of a module that asks for it share a context, until one throws", async () => {
  const shared = await serve("--push", "tests/hello");
  const [, site] = await shared.says(/HTTP actions (http:\S+)\s/);
  for (const wanted of ["1", "2", "3"]) assert.equal(await text("/count", {}, site), wanted);
  assert.equal((await ask("/broken", {}, site)).status, 500);
  assert.equal(await text("/count", {}, site), "1");
  const many = await Promise.all(Array.from({ length: 20 }, () => text("/hello", {}, site)));
  assert.deepEqual(new Set(many), new Set(["hello"]));
  await shared.stop();
});

test("a Content-Length that the body does not keep", async () => {
  const length = (how) => ask(`/length?${how}`);
  const whole = await length("whole=1&body=abc&claimed=7");
  assert.deepEqual([whole.headers.get("content-length"), await whole.text()], ["3", "abc"]);
  const exact = await length("body=abc&claimed=3");
  assert.deepEqual([exact.headers.get("content-length"), await exact.text()], ["3", "abc"]);
  for (const body of ["abcdef", "a"]) {
    const cut = await length(`body=${body}&claimed=3`).then((response) => response.text())
      .catch((error) => error.message);
    assert.match(cut, /terminated|fetch failed/, body);
  }
  const broken = await length("body=abc&claimed=abc");
  assert.equal(broken.status, 500);
  assert.match((await broken.json()).code, /header "content-length" cannot be sent/);
});

test("a fetched response can be answered with, also one that came compressed", async () => {
  const origin = createServer((_, answer) => {
    const body = gzipSync("decoded ".repeat(500));
    answer.writeHead(200, { "content-encoding": "gzip", "content-length": body.length });
    answer.end(body);
  });
  await new Promise((resolve) => origin.listen(0, "127.0.0.1", resolve));
  const open = await serve("--allow-private-network", "--push", "tests/site");
  const [, site] = await open.says(/HTTP actions (http:\S+)\s/);
  const url = `http://127.0.0.1:${origin.address().port}/`;
  for (const copied of [0, 1]) {
    const response = await ask(`/proxy?copied=${copied}&url=${url}`, {}, site);
    assert.equal(response.headers.get("content-encoding"), null);
    assert.equal(await response.text(), "decoded ".repeat(500));
  }
  await open.stop();
  origin.close();
});
