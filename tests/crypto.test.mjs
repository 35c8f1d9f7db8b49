// WebCrypto in functions against Node's and deno's: every algorithm, format and operation, byte for
// byte.
//
// In: the cases of tests/crypto/cases.js, keys and signatures that Node makes anew for each run.
// Out: what the same code gives in Node and in a query of a host. Invariant: a difference is a
// failure, but for those of EXCEPTIONS: each says why Node 20 is not the oracle there.
import assert from "node:assert/strict";
import { createCipheriv, webcrypto } from "node:crypto";
import { after, before, test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { CURVES, FAMILIES, HASHES, MESSAGE, bytes, outcomes, toHex } from "./crypto/cases.js";
import { MADE, accepted, making, randomised } from "./crypto/made.js";
import { inDeno } from "./deno.mjs";
import { ROOT, serve } from "./host.mjs";

const { subtle } = webcrypto;

let host;
let client;
let fixtures;
before(async () => {
  [host, fixtures] = await Promise.all([serve("--push", `${ROOT}tests/crypto`), makeFixtures()]);
  client = new ConvexHttpClient(host.url, { logger: false });
});
after(() => host?.stop());

/** Where Node 20 is not the oracle: which place of which result, what is right, and why. */
const EXCEPTIONS = [
  { of: /: (spki|pkcs8) with more behind$/, gives: "throws DataError",
    why: "the specification parses with exactData; Node ignores what follows" },
  { of: /^hmac: spki$/, gives: "throws NotSupportedError",
    why: "a format that the algorithm does not have; Node throws an error of its own" },
  { of: /^hkdf: exported$/, gives: "throws NotSupportedError",
    why: "keys of HKDF have no export operation, which is looked at first" },
  { of: /^(wrap: a key that is |refusals: )not extractable$/, gives: "throws InvalidAccessError",
    why: "Node 20 misspells the name" },
  { of: /^rsaKeys: .*: (spki|pkcs8) \/ 1 \/ 0 \/ 1$/, gives: "throws NotSupportedError",
    why: "RSA keys have no raw format" },
  { of: /^refusals: spki of a secret$/, gives: "throws NotSupportedError", why: "the same of AES" },
  { of: /^rsaKeys: a JWK with another alg$/, gives: "throws DataError",
    why: "the specification compares alg; Node 20 does not, for RSA" },
  { of: /^rsaSign: .* with SHA-1, a key that signs$/, gives: "throws NotSupportedError",
    why: "the library makes no signatures with SHA-1: such a key would be of no use" },
  { of: /^refusals: a JWK that is bytes$/, gives: "throws TypeError",
    why: "importKey, step 2; Node 20 looks for kty in the bytes" },
  { of: /^refusals: usages once each \/ usages$/,
    gives: ["decrypt", "encrypt", "unwrapKey", "wrapKey"],
    why: "usages are a set; Node 20 keeps the second" },
  { of: /^refusals: what a key shows cannot be changed$/, gives: sealed(12, bytes(0), 128, MESSAGE),
    why: "algorithm and usages only mirror the key's slots; Node 20 reads them back" },
  ...[1, 8].map((size) => ({
    of: new RegExp(`^gcm: a vector of ${size} bytes, 256 bits, 50 bytes$`),
    gives: [{ type: "secret", extractable: true, algorithm: [["length", 256], ["name", "AES-GCM"]],
      usages: ["decrypt", "encrypt"] }, sealed(size, bytes(20, 3), 256, bytes(50)), true,
    "throws OperationError"],
    why: "vectors of any length but 0 are allowed; Node 20's WebCrypto takes longer ones only",
  })),
];

/** AES-GCM by the other interface of Node, which has none of WebCrypto's rules. */
function sealed(size, additional, bits, data) {
  const cipher = createCipheriv(`aes-${bits}-gcm`, bytes(bits / 8, bits), bytes(size));
  cipher.setAAD(additional);
  return toHex(Buffer.concat([cipher.update(data), cipher.final(), cipher.getAuthTag()]));
}

/** Where deno is no oracle: which place, and why; each must differ somewhere. */
const DENO_IS_WRONG = [
  { of: /^hmac: no hash$/, why: "a missing member is a TypeError" },
  { of: /^hmac: a JWK with {"key_ops"/, why: "key_ops that name a usage twice are a DataError" },
  { of: /^ctr: (a counter|as many|more)/, why: "it fails where a counter wraps, or is too wide" },
  { of: /^gcm: a vector of \d+ bytes/, why: "it has vectors of 12 and 16 bytes only" },
  { of: /^gcm: a tag of \d+ bits/, why: "it has tags of 128 bits only" },
  { of: /^kw: an HMAC key of 5 bytes/, why: "what cannot be wrapped is an OperationError" },
  { of: /^(kw: encrypting|wrap: by digest|refusals: a signature by a cipher)$/,
    why: "an algorithm that lacks the operation is a NotSupportedError" },
  { of: /^hkdf: (an extractable key|exported)$/, why: "it lets such keys be extractable" },
  { of: /^(ecdsa|ecdh|ed25519): .*(alg|JWK.*)$/, why: "JWKs of Ed25519 have alg, of ECDSA none" },
  { of: /^rsaSign: .* with SHA-1, a key that signs$/, why: "it signs with SHA-1, as Node does" },
  { of: /: a (point off the curve|compressed point of no key)$/,
    why: "it looks at a point only when it is used" },
  { of: /^ecdsa: (an unknown curve|no curve)$/, why: "not names but keys are DataErrors" },
  { of: /^ecdsa: P-384 with SHA-1: verifies/, why: "it takes no hash that short" },
  { of: /^(ecdh|x25519): .*(251|521) bits$/, why: "it leaves bits that were not asked for" },
  { of: /^deriveKey: AES (of no length|without usages)$/, why: "it does not look at either" },
  { of: /^refusals: (an unknown usage|usages that are text)$/, why: "Web IDL says TypeError" },
  { of: /^refusals: usages once each/, why: "usages are listed in the order of the specification" },
  { of: /^refusals: what a key shows/, why: "it takes back what a key shows from the author" },
];

test("deno gives what Node gives, but for what is listed", async () => {
  const found = new Set();
  const unknown = [];
  await Promise.all(Object.keys(FAMILIES).map(async (family) => {
    const [expected, given] = await Promise.all([
      outcomes(webcrypto, family, fixtures), inDeno("crypto/oracle.js", { family, fixtures })]);
    for (const place of differences(family, expected, given)) {
      const [name] = place.split(": wanted");
      const rule = DENO_IS_WRONG.find(({ of }) => of.test(name));
      if (rule === undefined) unknown.push(place);
      else found.add(rule);
    }
  }));
  assert.deepEqual(unknown, []);
  assert.deepEqual(DENO_IS_WRONG.filter((rule) => !found.has(rule)), []);
});

for (const family of Object.keys(FAMILIES)) {
  test(`${family}: a query and an action give what Node gives`, async () => {
    const expected = await outcomes(webcrypto, family, fixtures);
    const given = { family, fixtures };
    compare(family, expected, await client.query(anyApi.crypto.cases, given));
    compare(family, expected, await client.action(anyApi.crypto.casesInAction, given));
  });
}

function compare(family, expected, found) {
  assert.equal(found.length, expected.length);
  assert.equal(differences(family, expected, found).join("\n"), "");
}

function differences(family, expected, found) {
  return expected.flatMap(([title, wanted], at) =>
    differing(`${family}: ${title}`, wanted, found[at]?.[1]));
}

/** Where two results differ, one line each. */
function differing(path, wanted, found) {
  const right = EXCEPTIONS.find((rule) => rule.of.test(path))?.gives ?? wanted;
  const deep = (value) => value !== null && typeof value === "object";
  if (!deep(right) || !deep(found)) {
    const [a, b] = [right, found].map((value) => JSON.stringify(value) ?? "nothing");
    return a === b ? [] : [`${path}: wanted ${a.slice(0, 200)}, found ${b.slice(0, 200)}`];
  }
  const names = new Set([...Object.keys(right), ...Object.keys(found)]);
  return [...names].flatMap((name) => differing(`${path} / ${name}`, right[name], found[name]));
}

test("what needs randomness says Convex's text", async () => {
  const said = await client.mutation(anyApi.crypto.random, { fixtures });
  const convex = "Error: Can't use cryptographic randomness in queries and mutations. Please "
    + "consider using an action. See https://docs.convex.dev/functions/actions for more details.";
  const last = said.pop();
  for (const [title, text] of said) assert.equal(text, convex, title);
  assert.equal(said.length, 9);
  assert.deepEqual(last, ["too many iterations", "OperationError: PBKDF2 of 1000002 iterations; at "
    + "most 1000000 fit here"]);
});

for (const [name, run] of [
  ["a query", () => client.query(anyApi.crypto.shape, {})],
  ["an action", () => client.action(anyApi.crypto.shapeInAction, {})],
]) {
  test(`getRandomValues and randomUUID in ${name}`, async () => {
    const { uuids, ...shape } = await run();
    assert.deepEqual(shape, {
      tags: ["[object Crypto]", "[object SubtleCrypto]"],
      made: ["TypeError", "TypeError", "TypeError"],
      views: Array(9).fill(true),
      part: [true, false, true],
      quota: ["none", "none", "QuotaExceededError"],
      wide: "QuotaExceededError",
      wrong: Array(4).fill("TypeMismatchError"),
      detached: "TypeError",
    });
    const v4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
    for (const uuid of uuids) assert.match(uuid, v4);
    assert.notEqual(uuids[0], uuids[1]);
  });
}

test("what an action makes, Node accepts; queries accept both's", async () => {
  const ours = await client.action(anyApi.crypto.make, {});
  const nodes = JSON.parse(JSON.stringify(await making(webcrypto)));
  assert.deepEqual(ours.map(({ keys }) => keys), nodes.map(({ keys }) => keys));
  const members = ({ jwks }) => jwks.map((jwk) => Object.keys(jwk).sort());
  assert.deepEqual(ours.map(members), nodes.map(members));
  const all = MADE.map(([algorithm], at) =>
    [nodes[at].jwks[0].kty, ...randomised(algorithm).map(() => true)]);
  assert.deepEqual(await accepted(webcrypto, ours), all);
  assert.deepEqual(await client.query(anyApi.crypto.accept, { made: ours }), all);
  assert.deepEqual(await client.query(anyApi.crypto.accept, { made: nodes }), all);
});

test("what takes long leaves an action's timers alone, and has an end", async () => {
  assert.deepEqual(await client.action(anyApi.crypto.meanwhile, {}), {
    order: ["timer", "derived"],
    refused: "OperationError: PBKDF2 of 50000001 iterations; at most 50000000 fit here",
  });
});

// --- what Node makes ---

async function makeFixtures() {
  const [ecdsa, ecdh] = [{}, {}];
  for (const namedCurve of CURVES) {
    const signing = { name: "ECDSA", namedCurve };
    const pair = await subtle.generateKey(signing, true, ["sign", "verify"]);
    const signatures = {};
    for (const hash of HASHES) {
      const made = await subtle.sign({ name: "ECDSA", hash }, pair.privateKey, MESSAGE);
      signatures[hash] = toHex(made);
    }
    const keys = await written(pair, true);
    ecdsa[namedCurve] = { ...keys, compressed: compressed(keys), signatures };
    ecdh[namedCurve] = await two({ name: "ECDH", namedCurve });
  }
  const pair = await subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  const signature = toHex(await subtle.sign("Ed25519", pair.privateKey, MESSAGE));
  const ed25519 = { ...(await written(pair, true)), signature };
  return { ecdsa, ecdh, ed25519, x25519: await two({ name: "X25519" }), rsa: await makeRsa() };
}

/** Both points of the first half of an uncompressed one, raw and in an SPKI. */
function compressed({ raw, spki }) {
  const size = (raw.length / 2 - 1) / 2;
  const x = raw.slice(2, 2 + 2 * size);
  // Everything but the point, with the lengths of what is around it made smaller.
  const head = Buffer.from(spki.slice(0, -raw.length), "hex");
  const algorithm = head.subarray(head.indexOf(0x30, 2), head.lastIndexOf(0x03));
  const value = (tag, bytes) => Buffer.concat([Buffer.from([tag, bytes.length]), bytes]);
  const found = { raw: {}, spki: {} };
  for (const [name, sign] of [["even", "02"], ["odd", "03"]]) {
    const point = Buffer.from(sign + x, "hex");
    found.raw[name] = toHex(point);
    const bits = value(0x03, Buffer.concat([Buffer.from([0]), point]));
    found.spki[name] = toHex(value(0x30, Buffer.concat([algorithm, bits])));
  }
  return found;
}

/** Two pairs for key agreement. */
async function two(algorithm) {
  const make = async () => written(await subtle.generateKey(algorithm, true, ["deriveBits"]), true);
  return [await make(), await make()];
}

/** A pair in every format. */
async function written({ publicKey, privateKey }, raw) {
  const [publicJwk, privateJwk] = await Promise.all(
    [publicKey, privateKey].map((key) => subtle.exportKey("jwk", key)),
  );
  for (const jwk of [publicJwk, privateJwk]) {
    delete jwk.key_ops;
    delete jwk.alg;
  }
  return {
    raw: raw ? toHex(await subtle.exportKey("raw", publicKey)) : undefined,
    spki: toHex(await subtle.exportKey("spki", publicKey)),
    pkcs8: toHex(await subtle.exportKey("pkcs8", privateKey)),
    publicJwk,
    privateJwk,
  };
}

async function makeRsa() {
  const size = { modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) };
  const algorithm = { name: "RSA-PSS", hash: "SHA-256", ...size };
  const made = await subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const pair = await written(made, false);
  const pull = (name, hash, format, usages) =>
    subtle.importKey(format, Buffer.from(pair[format], "hex"), { name, hash }, true, usages);
  const [pkcs1, pss, oaep] = [{}, {}, {}];
  for (const hash of HASHES) {
    const signer = await pull("RSASSA-PKCS1-v1_5", hash, "pkcs8", ["sign"]);
    pkcs1[hash] = toHex(await subtle.sign("RSASSA-PKCS1-v1_5", signer, MESSAGE));
    pss[hash] = {};
    const salter = await pull("RSA-PSS", hash, "pkcs8", ["sign"]);
    for (const saltLength of [0, 20, 32, 64]) {
      const algorithm = { name: "RSA-PSS", saltLength };
      pss[hash][saltLength] = toHex(await subtle.sign(algorithm, salter, MESSAGE));
    }
    oaep[hash] = {};
    const sealer = await pull("RSA-OAEP", hash, "spki", ["encrypt"]);
    for (const label of ["", "label"]) {
      const algorithm = { name: "RSA-OAEP", label: Buffer.from(label) };
      oaep[hash][label] = toHex(await subtle.encrypt(algorithm, sealer, MESSAGE));
    }
  }
  const by = await pull("RSA-OAEP", "SHA-256", "spki", ["wrapKey"]);
  const key = await subtle.importKey("raw", bytes(16), "AES-GCM", true, ["decrypt"]);
  const wrapped = toHex(await subtle.wrapKey("raw", key, by, "RSA-OAEP"));
  return { ...pair, pkcs1, pss, oaep, wrapped };
}
