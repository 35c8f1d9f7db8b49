// The web platform in functions: small programs against Node, in a query and in an action.
//
// In: the programs of tests/web. Out: what they print. Invariant: a query, an action and Node print
// the same lines, but for those of EXCEPTIONS, which say what is right instead, and why.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import blobs from "./web/blobs.js";
import bodies from "./web/bodies.js";
import clones from "./web/clones.js";
import forms, { outside } from "./web/forms.js";
import headers from "./web/headers.js";
import messages from "./web/messages.js";
import { printed } from "./web/print.js";
import streams from "./web/streams.js";
import { ROOT, serve } from "./host.mjs";

let host;
let client;
before(async () => {
  host = await serve("--push", `${ROOT}tests/web`);
  client = new ConvexHttpClient(host.url, { logger: false });
});
after(() => host?.stop());

/** Where Node 20 is not the oracle: its line, the right one, and why. */
const EXCEPTIONS = [];

const everywhere = { blobs, bodies, clones, forms, headers, messages, streams };
for (const [name, program] of Object.entries(everywhere)) {
  test(`${name}: a query and an action print what Node prints`, async () => {
    const wanted = await expected(program);
    assert.deepEqual(await client.query(anyApi.programs.inQuery, { name }), wanted);
    assert.deepEqual(await client.action(anyApi.programs.inAction, { name }), wanted);
  });
}

test("bodies are read as forms in actions; queries say that they cannot", async () => {
  const wanted = await expected(outside);
  const name = "formsOutside";
  assert.deepEqual(await client.action(anyApi.programs.inAction, { name }), wanted);
  await assert.rejects(client.query(anyApi.programs.inQuery, { name }),
    /Can't use formData\(\) in queries and mutations\. Please consider using an action\./);
});

test("an action shows URLs as they are, and gives none to blobs", async () => {
  const response = await fetch(`${host.url}/api/action`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ path: "programs:urls", args: {}, format: "json" }),
  });
  const { value, logLines } = await response.json();
  assert.deepEqual(value, []);
  const text = logLines[0].replaceAll(/\s+/g, " ");
  assert.match(text, /^\[LOG\] URL \{ href: 'http:\/\/u:p@a\.b:81\/c\?d=1&e=2&d=3#f', origin: /);
  assert.match(text, /searchParams: URLSearchParams.* 'd' => '1, 3', 'e' => '2' .*hash: '#f' }/);
  assert.ok(!text.includes("Symbol("), text);
});

async function expected(program) {
  const lines = await printed(program);
  return lines.map((line) => EXCEPTIONS.find(({ node }) => node === line)?.right ?? line);
}
