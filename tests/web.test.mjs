// The web platform in functions: small programs against Node and npm's deno, in a query and in an
// action.
//
// In: the programs of tests/web. Out: what they print. Invariant: a query, an action, Node and deno
// print the same lines, but for those of the two tables, which say why.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import blobs from "./web/blobs.js";
import bodies from "./web/bodies.js";
import clones from "./web/clones.js";
import errors from "./web/errors.js";
import forms, { outside } from "./web/forms.js";
import headers from "./web/headers.js";
import messages from "./web/messages.js";
import platform, { uncloneable } from "./web/platform.js";
import { printed } from "./web/print.js";
import streams from "./web/streams.js";
import timing from "./web/timing.js";
import { linesInDeno } from "./deno.mjs";
import { ROOT, serve } from "./host.mjs";

let host;
let client;
before(async () => {
  host = await serve("--push", `${ROOT}tests/web`);
  client = new ConvexHttpClient(host.url, { logger: false });
});
after(() => host?.stop());

/** Where Node 20 is wrong: which line of which program, what is right, and why. */
const NODE_IS_WRONG = {
  "platform 2": ['true "name.txt" 2 "a/b" 7 "in"', "it clones a File as a Blob"],
  "platform 3": ['true "AbortError" "why" 20', "it clones a DOMException as an object"],
};
/** Where deno differs from what is right: which line of which program, and why. */
const DENO_IS_WRONG = {
  "bodies 178": "text() keeps a byte order mark, which decoding takes away",
  "bodies 179": "and json() fails on one",
  "bodies 188": "its bodies are no byte streams",
  "clones 4": "it transfers a buffer twice where the standard throws",
  "clones 6": "and so the buffer is gone",
  "errors 12": "it does not ask for duplex where a body is a stream",
  "errors 15": "nor where one takes the place of another request's",
  "errors 17": "and takes any text for duplex",
  ...Object.fromEntries([22, 23, 24].map((at) => [`errors ${at}`,
    "its text for an abort without a reason is its own; which one is nobody's rule"])),
  "messages 1": "it has no Request.destination",
  "messages 11": "a Request of an address with a password is an error",
  "forms 9": "FormData(null) is an error: null is no form element",
  "forms 14": "a body of parts ends with an end of line",
  "formsOutside 0": "it reads names as they are escaped, not as they are",
  "formsOutside 8": "a body cut in the middle is an error",
  "formsOutside 9": "so is a part without a name",
};

const PROGRAMS = { blobs, bodies, clones, errors, forms, headers, messages, platform, streams,
  timing };
for (const [name, program] of Object.entries(PROGRAMS)) {
  test(`${name}: a query and an action print what Node and deno print`, async () => {
    const wanted = await agreed(name, program, `./${name}.js`, "default");
    assert.deepEqual(await client.query(anyApi.programs.inQuery, { name }), wanted);
    assert.deepEqual(await client.action(anyApi.programs.inAction, { name }), wanted);
  });
}

test("bodies are read as forms in actions; queries say that they cannot", async () => {
  const name = "formsOutside";
  const wanted = await agreed(name, outside, "./forms.js", "outside");
  assert.deepEqual(await client.action(anyApi.programs.inAction, { name }), wanted);
  await assert.rejects(client.query(anyApi.programs.inQuery, { name }),
    /Can't use formData\(\) in queries and mutations\. Please consider using an action\./);
});

test("what the standard clones for nobody is an error at any depth", async () => {
  // Neither Node 20 nor deno is an oracle: they give empty objects for most of it.
  const name = "uncloneable";
  const lines = await printed(uncloneable);
  const wanted = lines.map((line, at) => (at % 3 === 0 ? line : '"throws" "DataCloneError"'));
  assert.ok(wanted.length > 70);
  assert.deepEqual(await client.query(anyApi.programs.inQuery, { name }), wanted);
  assert.deepEqual(await client.action(anyApi.programs.inAction, { name }), wanted);
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

/** The lines on which Node and deno agree, but for what is listed above. */
async function agreed(name, program, module, exported) {
  const [lines, others] = await Promise.all([
    printed(program), linesInDeno(module, exported)]);
  const wanted = lines.map((line, at) => NODE_IS_WRONG[`${name} ${at}`]?.[0] ?? line);
  assert.equal(others.length, wanted.length);
  for (const [at, line] of others.entries()) {
    const place = `${name} ${at}`;
    if (DENO_IS_WRONG[place]) assert.notEqual(line, wanted[at], place);
    else assert.equal(line, wanted[at], place);
  }
  return wanted;
}
