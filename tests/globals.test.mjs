// The globals of functions, as convex-compat.md section 8.1 lists them.
//
// In: tests/web. Out: what queries, mutations, actions, HTTP actions and modules that are imported
// find. Invariant: all find the same names, but for DIFFERENT, and nothing that is not listed here.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ROOT, serve } from "./host.mjs";

let host;
let client;
before(async () => {
  host = await serve("--push", `${ROOT}tests/web`);
  client = new ConvexHttpClient(host.url, { logger: false });
});
after(() => host?.stop());

const { globals } = anyApi;
const words = (text) => text.split(/\s+/).filter(Boolean);

/** Convex's own list. */
const CONVEX = words(`
  self console URL URLSearchParams Headers Request Response fetch FormData Blob File
  TextEncoder TextDecoder TextEncoderStream TextDecoderStream atob btoa
  ReadableStream ReadableStreamDefaultReader ReadableStreamBYOBReader WritableStream
  WritableStreamDefaultWriter TransformStream AbortController AbortSignal Event EventTarget
  DOMException structuredClone setTimeout clearTimeout setInterval clearInterval
  crypto Crypto SubtleCrypto
  performance Performance PerformanceEntry PerformanceMark PerformanceMeasure
  AsyncLocalStorage AsyncResource process WebAssembly Convex`);

/** What is there besides: no code breaks by it, and some needs it. */
const MORE = words("CryptoKey CustomEvent URLPattern queueMicrotask");

/** ECMAScript's. */
const ECMASCRIPT = words(`
  AggregateError Array ArrayBuffer AsyncDisposableStack BigInt BigInt64Array BigUint64Array Boolean
  DataView Date DisposableStack Error EvalError FinalizationRegistry Float32Array Float64Array
  Function Infinity Int16Array Int32Array Int8Array Intl Iterator JSON Map Math NaN Number Object
  Promise Proxy RangeError ReferenceError Reflect RegExp Set String SuppressedError Symbol
  SyntaxError TypeError URIError Uint16Array Uint32Array Uint8Array Uint8ClampedArray WeakMap
  WeakRef WeakSet decodeURI decodeURIComponent encodeURI encodeURIComponent escape eval globalThis
  isFinite isNaN parseFloat parseInt undefined unescape`);

/** What Convex does not define either: some of it would make libraries believe in a browser. */
const ABSENT = words(`
  window require module exports Buffer setImmediate WebSocket XMLHttpRequest localStorage navigator
  document location Deno global __concave __bootstrap`);

/**
 * What only actions have, and why. Memory that threads share has no use without threads. V8 adds
 * Float16Array to each context after it was made, so a module that is evaluated once, for all
 * calls, would not find it and the call would; it costs each call about 5 % more; and no value of
 * Convex holds one.
 */
const DIFFERENT = words("Atomics Float16Array SharedArrayBuffer");

/**
 * What V8 adds late as well: functions of queries and mutations have them, their modules do not
 * while they are imported. tslib, in many packages, looks for one and makes its own; a module that
 * had to be evaluated anew for each call because of that would be far worse.
 */
const LATE = words("AsyncDisposableStack DisposableStack SuppressedError");

const KINDS = {
  query: () => client.query(globals.inQuery, {}),
  mutation: () => client.mutation(globals.inMutation, {}),
  action: () => client.action(globals.inAction, {}),
  "HTTP action": async () => {
    const [, site] = await host.says(/HTTP actions (http:\S+)/);
    return (await fetch(`${site}/globals`)).json();
  },
};

for (const [kind, ask] of Object.entries(KINDS)) {
  test(`the globals of a ${kind}`, async () => {
    const { early, names, enumerable, ...found } = await ask();
    const isAction = kind.endsWith("ction");
    const wanted = [...CONVEX, ...MORE, ...ECMASCRIPT, ...(isAction ? DIFFERENT : [])].sort();
    assert.deepEqual(names, wanted);
    assert.deepEqual(early, wanted.filter((name) => isAction || !LATE.includes(name)));
    assert.deepEqual(ABSENT.filter((name) => names.includes(name)), []);
    assert.deepEqual(enumerable, []);
    assert.deepEqual(found, {
      crypto: ["function", "function", "object"],
      console: Array(9).fill("function"),
      process: [["env"], [], "undefined", false, "string", "string", "TypeError", "TypeError"],
      self: true,
      clock: [0, 0, "UTC"],
      locale: ["1.234,5", "1970年1月1日"],
      code: ["EvalError", "EvalError", "object"],
      base64: [2, "aA=="],
      weak: [true, "undefined"],
    });
  });
}

test("what a call has marked is not there for the next one in its context", async () => {
  for (let n = 0; n < 12; n++) {
    assert.equal(await client.query(anyApi.reused.marks, { n }), 0);
    assert.equal(await client.action(anyApi.reused.marksInAction, { n }), 0);
  }
});

test("the console shows platform objects alike, without the host's own keys", async () => {
  const lines = async (kind, path) => {
    const response = await fetch(`${host.url}/api/${kind}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ path, args: {}, format: "json" }),
    });
    const { status, errorMessage, logLines } = await response.json();
    assert.equal(status, "success", errorMessage);
    return logLines.join("\n").replaceAll(/timeStamp: [\d.]+/g, "timeStamp: 0");
  };
  const shown = await lines("action", "globals:showsInAction");
  assert.equal(shown, await lines("query", "globals:showsInQuery"));
  assert.doesNotMatch(shown, /Symbol\(/);
  for (const text of [
    "CustomEvent {", "detail: [ 1 ]", "Own { mine: 1 }", "AbortSignal { aborted: true }",
    "TextDecoder { encoding: 'windows-1252', fatal: false, ignoreBOM: false }",
    "ReadableStreamDefaultReader {}", "PerformanceMark {",
    "nested: [ Headers { 'a' => 'b' }, ReadableStream { locked: false } ]",
  ]) assert.ok(shown.includes(text), `${text} in ${shown}`);
  assert.match(await lines("action", "globals:showsError"), /AbortError: m\n(?!.*Symbol\()/s);
});

test("a response of any status may have a body", async () => {
  const wanted = [200, 204, 205, 304, 599].map((status) => [status, "", status, "[1]"]);
  wanted.push("RangeError", "RangeError", "TypeError");
  assert.deepEqual(await client.query(globals.responsesInQuery, {}), wanted);
  assert.deepEqual(await client.mutation(globals.responsesInMutation, {}), wanted);
  assert.deepEqual(await client.action(globals.responsesInAction, {}), wanted);
});

test("names that nobody has touched are as any others, in actions as in queries", async () => {
  const of = async (kind, path) => {
    const response = await fetch(`${host.url}/api/${kind}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ path, args: {}, format: "json" }),
    });
    const { status, errorMessage, value, logLines } = await response.json();
    assert.equal(status, "success", errorMessage);
    return { value, logLines };
  };
  const found = await of("action", "globals:untouchedInAction");
  assert.deepEqual(found, await of("query", "globals:untouchedInQuery"));
  for (const [name, type, ...rest] of found.value.seen) {
    assert.ok(["function", "object"].includes(type), name);
    assert.deepEqual(rest, [true, false, true, false], name);
  }
  const { blob, deleted, form, copied } = found.value;
  assert.deepEqual({ blob, deleted, form, copied },
    { blob: "mine", deleted: true, form: "undefined", copied: "DataCloneError" });
  assert.match(found.logLines.join(), /Headers \{ 'a' => 'b' \}/);
});
