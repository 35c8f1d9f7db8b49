// What WebCrypto does, one line a case: the same code runs in Node and in functions.
//
// In: `crypto`, fixtures (keys, signatures and ciphertexts that Node made). Out: what each case
// gives: bytes as hexadecimal, keys by what they show, errors by their name. Invariant: no case
// needs randomness, so two implementations that are right agree on every byte.

export const HASHES = ["SHA-1", "SHA-256", "SHA-384", "SHA-512"];
const RSA_HASHES = HASHES.slice(1);
export const CURVES = ["P-256", "P-384", "P-521"];
export const MESSAGE = text("The quick brown fox jumps over the lazy dog");

/** Every family of cases. */
export const FAMILIES = {
  digest, hmac, cbc, ctr, gcm, kw, hkdf, pbkdf2, ecdsa, ecdh, ed25519, x25519, rsaSign, rsaOaep,
  rsaKeys, wrap, deriveKey, refusals,
};

/** Runs the cases of one family: title → what it gave. */
export async function outcomes(crypto, family, fixtures) {
  const found = [];
  const put = (title, run) => found.push([title, run]);
  FAMILIES[family](put, crypto.subtle, fixtures);
  const given = [];
  for (const [title, run] of found) given.push([title, await outcome(run)]);
  return given;
}

async function outcome(run) {
  try {
    return shown(await run());
  } catch (error) {
    return `throws ${error.name}`;
  }
}

export function shown(value) {
  if (value instanceof ArrayBuffer) return toHex(value);
  if (Array.isArray(value)) return value.map(shown);
  if (Object.prototype.toString.call(value) === "[object CryptoKey]") {
    const { type, extractable, algorithm, usages } = value;
    const members = Object.entries(algorithm).map(([name, member]) => [
      name,
      ArrayBuffer.isView(member) ? toHex(member) : member.name ?? member,
    ]);
    return { type, extractable, algorithm: members.sort(), usages: [...usages].sort() };
  }
  if (value?.kty !== undefined) return { ...value, key_ops: [...value.key_ops].sort() };
  return value;
}

export function toHex(data) {
  const bytes = ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (digits) => parseInt(digits, 16));
}

function text(string) {
  return new TextEncoder().encode(string);
}

/** Bytes that look random and are not. */
export function bytes(length, seed = 1) {
  let state = seed * 2654435761 >>> 0;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

/** The same bytes with one bit of the last changed. */
function tampered(data) {
  const copy = new Uint8Array(data.slice(0));
  copy[copy.length - 1] ^= 1;
  return copy;
}

const b64url = (data) => {
  let binary = "";
  for (const byte of data) binary += String.fromCharCode(byte);
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
};

function digest(put, subtle) {
  for (const hash of HASHES) {
    for (const length of [0, 1, 111, 4096]) {
      put(`${hash} of ${length} bytes`, () => subtle.digest(hash, bytes(length)));
    }
  }
  put("a name in lower case", () => subtle.digest("sha-256", MESSAGE));
  put("a dictionary", () => subtle.digest({ name: "Sha-512" }, MESSAGE.buffer));
  put("a DataView of a part", () => subtle.digest("SHA-1", new DataView(MESSAGE.buffer, 4, 9)));
  put("a view of wide numbers", () => subtle.digest("SHA-1", new Float64Array([1, 2.5])));
  put("changed later", () => {
    const data = bytes(8);
    const promise = subtle.digest("SHA-256", data);
    data.fill(0);
    return promise;
  });
  put("MD5", () => subtle.digest("MD5", MESSAGE));
  put("HMAC", () => subtle.digest("HMAC", MESSAGE));
  put("text", () => subtle.digest("SHA-1", "text"));
  put("no data", () => subtle.digest("SHA-1"));
  put("no name", () => subtle.digest({}, MESSAGE));
}

function hmac(put, subtle) {
  const both = ["sign", "verify"];
  const importRaw = (hash, length = 32, more = {}) =>
    subtle.importKey("raw", bytes(length), { name: "HMAC", hash, ...more }, true, both);
  for (const hash of HASHES) {
    for (const length of [1, 32, 200]) {
      put(`${hash}, a key of ${length} bytes`, async () => {
        const key = await importRaw(hash, length);
        const tag = await subtle.sign("HMAC", key, MESSAGE);
        const jwk = await subtle.exportKey("jwk", key);
        const again = await subtle.importKey("jwk", jwk, { name: "hmac", hash: { name: hash } },
          true, ["verify"]);
        return [key, tag, jwk, await subtle.exportKey("raw", again),
          await subtle.verify("HMAC", again, tag, MESSAGE),
          await subtle.verify("HMAC", again, tampered(tag), MESSAGE),
          await subtle.verify("HMAC", again, tag.slice(1), MESSAGE),
          await subtle.verify("HMAC", again, tag, tampered(MESSAGE))];
      });
    }
  }
  put("an empty key", () => importRaw("SHA-1", 0));
  put("too many bits", () => importRaw("SHA-1", 4, { length: 33 }));
  put("too few bits", () => importRaw("SHA-1", 4, { length: 24 }));
  put("as many bits", () => importRaw("SHA-1", 4, { length: 32 }));
  put("no hash", () => subtle.importKey("raw", bytes(4), "HMAC", true, both));
  const sha1 = { name: "HMAC", hash: "SHA-1" };
  put("spki", () => subtle.importKey("spki", bytes(4), sha1, true, both));
  put("no usages", () => subtle.importKey("raw", bytes(4), sha1, true, []));
  put("a usage of ciphers", () =>
    subtle.importKey("raw", bytes(4), { name: "HMAC", hash: "SHA-1" }, true, ["encrypt"]));
  const jwk = { kty: "oct", k: b64url(bytes(32)) };
  const importJwk = (more, usages = both, extractable = true) =>
    subtle.importKey("jwk", { ...jwk, ...more }, { name: "HMAC", hash: "SHA-256" }, extractable,
      usages);
  for (const more of [{}, { alg: "HS256" }, { alg: "HS512" }, { kty: "RSA" }, { k: undefined },
    { use: "sig" }, { use: "enc" }, { key_ops: both }, { key_ops: ["sign"] }, { ext: true },
    { key_ops: ["sign", "verify", "sign"] }, { ext: false }]) {
    put(`a JWK with ${JSON.stringify(more)}`, () => importJwk(more));
  }
  put("a JWK that stays", () => importJwk({ ext: false }, both, false));
  put("a JWK that is text", () => importJwk.call(null, {}).then(() =>
    subtle.importKey("jwk", "text", { name: "HMAC", hash: "SHA-256" }, true, both)));
}

function aesKey(subtle, name, length, usages = ["encrypt", "decrypt"]) {
  return subtle.importKey("raw", bytes(length / 8, length), name, true, usages);
}

function aesRound(put, subtle, title, bits, algorithm, length) {
  put(`${title}, ${bits} bits, ${length} bytes`, async () => {
    const key = await aesKey(subtle, algorithm.name, bits);
    const sealed = await subtle.encrypt(algorithm, key, bytes(length));
    const opened = await subtle.decrypt(algorithm, key, sealed);
    return [key, sealed, toHex(opened) === toHex(bytes(length)),
      await outcome(() => subtle.decrypt(algorithm, key, tampered(sealed)))];
  });
}

function cbc(put, subtle) {
  const algorithm = { name: "AES-CBC", iv: bytes(16, 9) };
  for (const bits of [128, 192, 256]) {
    for (const length of [1, 15, 16, 17, 4096]) {
      aesRound(put, subtle, "CBC", bits, algorithm, length);
    }
    put(`a JWK of ${bits} bits`, async () => {
      const jwk = await subtle.exportKey("jwk", await aesKey(subtle, "AES-CBC", bits));
      return [jwk, await subtle.importKey("jwk", jwk, "aes-cbc", false, ["decrypt"]),
        await outcome(() => subtle.importKey("jwk", { ...jwk, alg: "A128GCM" }, "AES-CBC", true,
          ["encrypt"]))];
    });
  }
  put("nothing", async () =>
    subtle.encrypt(algorithm, await aesKey(subtle, "AES-CBC", 128), bytes(0)));
  put("a short vector", async () => subtle.encrypt({ name: "AES-CBC", iv: bytes(15) },
    await aesKey(subtle, "AES-CBC", 128), MESSAGE));
  put("no vector", async () => subtle.encrypt("AES-CBC", await aesKey(subtle, "AES-CBC", 128),
    MESSAGE));
  put("half a block", async () => subtle.decrypt(algorithm, await aesKey(subtle, "AES-CBC", 128),
    bytes(24)));
  put("a key of 120 bits", () => aesKey(subtle, "AES-CBC", 120));
  put("a key of another mode", async () => subtle.encrypt(algorithm,
    await aesKey(subtle, "AES-CTR", 128), MESSAGE));
  put("a key that only decrypts", async () => subtle.encrypt(algorithm,
    await aesKey(subtle, "AES-CBC", 128, ["decrypt"]), MESSAGE));
}

function ctr(put, subtle) {
  const high = new Uint8Array(16).fill(0xff);
  for (const bits of [128, 192, 256]) {
    for (const length of [0, 1, 16, 100]) {
      const algorithm = { name: "AES-CTR", counter: bytes(16, 5), length: 64 };
      aesRound(put, subtle, "CTR", bits, algorithm, length);
    }
  }
  for (const length of [3, 7, 8, 31, 32, 33, 64, 127, 128]) {
    const algorithm = { name: "AES-CTR", counter: high, length };
    aesRound(put, subtle, `a counter of ${length} bits that wraps`, 128, algorithm, 77);
  }
  const run = (counter, length, size) => async () =>
    subtle.encrypt({ name: "AES-CTR", counter, length }, await aesKey(subtle, "AES-CTR", 128),
      bytes(size));
  put("as many blocks as counts", run(bytes(16), 2, 64));
  put("more blocks than counts", run(bytes(16), 2, 65));
  put("a counter of no bits", run(bytes(16), 0, 16));
  put("a counter of 129 bits", run(bytes(16), 129, 16));
  put("a counter of 256 bits", run(bytes(16), 256, 16));
  put("a short counter", run(bytes(15), 64, 16));
}

function gcm(put, subtle) {
  const name = "AES-GCM";
  for (const bits of [128, 192, 256]) {
    for (const length of [0, 1, 16, 100]) {
      aesRound(put, subtle, "GCM", bits, { name, iv: bytes(12) }, length);
    }
  }
  for (const size of [1, 8, 16, 60, 128]) {
    const algorithm = { name, iv: bytes(size), additionalData: bytes(20, 3) };
    aesRound(put, subtle, `a vector of ${size} bytes`, 256, algorithm, 50);
  }
  for (const tagLength of [32, 64, 96, 104, 112, 120, 128]) {
    for (const size of [12, 16]) {
      const algorithm = { name, iv: bytes(size), tagLength, additionalData: bytes(17) };
      const title = `a tag of ${tagLength} bits, a vector of ${size} bytes`;
      aesRound(put, subtle, title, 128, algorithm, 33);
    }
  }
  const run = (more) => async () =>
    subtle.encrypt({ name, iv: bytes(12), ...more }, await aesKey(subtle, name, 128), MESSAGE);
  put("a tag of 33 bits", run({ tagLength: 33 }));
  put("a tag of 0 bits", run({ tagLength: 0 }));
  put("empty additional data", run({ additionalData: bytes(0) }));
  put("other additional data", async () => {
    const key = await aesKey(subtle, name, 128);
    const sealed = await run({ additionalData: bytes(3) })();
    return subtle.decrypt({ name, iv: bytes(12), additionalData: bytes(4) }, key, sealed);
  });
  put("shorter than a tag", async () =>
    subtle.decrypt({ name, iv: bytes(12) }, await aesKey(subtle, name, 128), bytes(15)));
}

function kw(put, subtle) {
  for (const bits of [128, 192, 256]) {
    for (const size of [128, 192, 256]) {
      put(`${size} bits wrapped by ${bits}`, async () => {
        const by = await aesKey(subtle, "AES-KW", bits, ["wrapKey", "unwrapKey"]);
        const key = await aesKey(subtle, "AES-GCM", size);
        const wrapped = await subtle.wrapKey("raw", key, by, "AES-KW");
        const back = await subtle.unwrapKey("raw", wrapped, by, "AES-KW", "AES-GCM", true,
          ["encrypt"]);
        return [by, await subtle.exportKey("jwk", by), wrapped, back,
          await subtle.exportKey("raw", back),
          await outcome(() => subtle.unwrapKey("raw", tampered(wrapped), by, "AES-KW", "AES-GCM",
            true, ["encrypt"]))];
      });
    }
  }
  const wrapping = () => aesKey(subtle, "AES-KW", 128, ["wrapKey", "unwrapKey"]);
  put("an HMAC key of 5 bytes", async () => {
    const key = await subtle.importKey("raw", bytes(5), { name: "HMAC", hash: "SHA-1" }, true,
      ["sign"]);
    return subtle.wrapKey("raw", key, await wrapping(), "AES-KW");
  });
  put("a JWK", async () => {
    const key = await aesKey(subtle, "AES-CBC", 256);
    const by = await wrapping();
    const wrapped = await subtle.wrapKey("jwk", key, by, "AES-KW");
    const back = await subtle.unwrapKey("jwk", wrapped, by, "AES-KW", "AES-CBC", true, ["encrypt"]);
    return [back, await subtle.exportKey("raw", back)];
  });
  put("encrypting", async () => subtle.encrypt("AES-KW", await wrapping(), bytes(16)));
  put("a usage of ciphers", () => aesKey(subtle, "AES-KW", 128, ["encrypt"]));
}

function hkdf(put, subtle) {
  const key = (usages = ["deriveBits"], extractable = false) =>
    subtle.importKey("raw", bytes(22), "HKDF", extractable, usages);
  for (const hash of HASHES) {
    const sizes = [[0, 0, 256], [13, 10, 336], [80, 80, 656], [200, 1000, 8]];
    for (const [salt, info, length] of sizes) {
      put(`${hash}, salt ${salt}, info ${info}, ${length} bits`, async () =>
        subtle.deriveBits({ name: "HKDF", hash, salt: bytes(salt, 2), info: bytes(info, 3) },
          await key(), length));
    }
  }
  const run = (length) => async () => subtle.deriveBits(
    { name: "HKDF", hash: "SHA-1", salt: bytes(1), info: bytes(1) }, await key(), length);
  put("255 hashes", run(255 * 160));
  put("more than 255 hashes", run(255 * 160 + 8));
  put("a part of a byte", run(9));
  put("no bits at all", run(null));
  put("an extractable key", () => key(["deriveBits"], true));
  put("a usage of signatures", () => key(["sign"]));
  put("no usages", () => key([]));
  put("exported", async () => subtle.exportKey("raw", await key()));
  put("a key for deriveKey", async () => subtle.deriveBits(
    { name: "HKDF", hash: "SHA-1", salt: bytes(1), info: bytes(1) }, await key(["deriveKey"]), 8));
  put("no info", async () => subtle.deriveBits({ name: "HKDF", hash: "SHA-1", salt: bytes(1) },
    await key(), 8));
}

function pbkdf2(put, subtle) {
  const key = () => subtle.importKey("raw", text("password"), "PBKDF2", false, ["deriveBits"]);
  for (const hash of HASHES) {
    for (const [salt, iterations, length] of [[4, 1, 160], [0, 2, 256], [100, 1000, 1032]]) {
      put(`${hash}, salt ${salt}, ${iterations} times, ${length} bits`, async () =>
        subtle.deriveBits({ name: "PBKDF2", hash, salt: bytes(salt), iterations }, await key(),
          length));
    }
  }
  const run = (iterations, length, name = "PBKDF2") => async () =>
    subtle.deriveBits({ name, hash: "SHA-1", salt: bytes(1), iterations }, await key(), length);
  put("no iteration", run(0, 8));
  put("iterations below 0", run(-1, 8));
  put("iterations that are no number", run("x", 8));
  put("a part of a byte", run(1, 9));
  put("no bits at all", run(1, null));
  put("an empty password", async () => subtle.deriveBits(
    { name: "PBKDF2", hash: "SHA-1", salt: bytes(1), iterations: 1 },
    await subtle.importKey("raw", bytes(0), "PBKDF2", false, ["deriveBits"]), 64));
}

/** Imports a key pair from every format and exports it to every format. */
function formats(put, subtle, title, algorithm, pair, uses) {
  const from = { raw: pair.raw, spki: pair.spki, pkcs8: pair.pkcs8 };
  for (const [format, hex] of Object.entries(from)) {
    if (hex === undefined) continue;
    put(`${title}: ${format}`, async () => {
      const usages = format === "pkcs8" ? uses.private : uses.public;
      const key = await subtle.importKey(format, fromHex(hex), algorithm, true, usages);
      const out = [];
      for (const to of ["raw", "spki", "pkcs8", "jwk"]) {
        out.push([to, await outcome(() => subtle.exportKey(to, key))]);
      }
      return [key, out];
    });
    put(`${title}: ${format} cut off`, () => subtle.importKey(format, fromHex(hex).slice(0, -1),
      algorithm, true, format === "pkcs8" ? uses.private : uses.public));
    put(`${title}: ${format} with more behind`, () => subtle.importKey(format,
      fromHex(`${hex}00`), algorithm, true, format === "pkcs8" ? uses.private : uses.public));
  }
  for (const kind of ["public", "private"]) {
    const jwk = pair[`${kind}Jwk`];
    put(`${title}: the JWK of a ${kind} key`, async () => {
      const key = await subtle.importKey("jwk", jwk, algorithm, true, uses[kind]);
      const der = kind === "public" ? "spki" : "pkcs8";
      return [key, await subtle.exportKey("jwk", key), await subtle.exportKey(der, key)];
    });
    for (const more of [{ kty: "oct" }, { use: "sig" }, { use: "enc" }, { key_ops: [] },
      { ext: false }]) {
      put(`${title}: the JWK of a ${kind} key with ${JSON.stringify(more)}`, () =>
        subtle.importKey("jwk", { ...jwk, ...more }, algorithm, true, uses[kind]));
    }
  }
  put(`${title}: a private key without usages`, () =>
    subtle.importKey("pkcs8", fromHex(pair.pkcs8), algorithm, true, []));
  put(`${title}: a public key with usages of the private one`, () =>
    subtle.importKey("spki", fromHex(pair.spki), algorithm, true, uses.private));
}

/** Signatures that Node made, and what must not pass for them. */
function verifies(put, subtle, { title, key, algorithm, signature, hash = algorithm }) {
  put(`${title}: verifies`, async () => {
    const imported = await subtle.importKey("spki", fromHex(key), hash, true, ["verify"]);
    const good = fromHex(signature);
    const check = (given, message) => subtle.verify(algorithm, imported, given, message);
    return [await check(good, MESSAGE), await check(tampered(good), MESSAGE),
      await check(good, tampered(MESSAGE)), await check(good.slice(0, -1), MESSAGE),
      await check(bytes(0), MESSAGE)];
  });
}

function ecdsa(put, subtle, fixtures) {
  for (const namedCurve of CURVES) {
    const pair = fixtures.ecdsa[namedCurve];
    const algorithm = { name: "ECDSA", namedCurve };
    formats(put, subtle, namedCurve, algorithm, pair, { private: ["sign"], public: ["verify"] });
    for (const hash of HASHES) {
      verifies(put, subtle, { title: `${namedCurve} with ${hash}`, key: pair.spki,
        hash: algorithm, algorithm: { name: "ECDSA", hash }, signature: pair.signatures[hash] });
    }
    const other = CURVES[(CURVES.indexOf(namedCurve) + 1) % 3];
    for (const format of ["raw", "spki"]) {
      put(`${namedCurve} taken for ${other}: ${format}`, () => subtle.importKey(format,
        fromHex(pair[format]), { name: "ECDSA", namedCurve: other }, true, ["verify"]));
    }
    for (const format of ["raw", "spki"]) {
      for (const [sign, compressed] of Object.entries(pair.compressed[format])) {
        put(`${namedCurve}: a compressed point, ${sign}: ${format}`, async () => {
          const usages = ["verify"];
          const key = await subtle.importKey(format, fromHex(compressed), algorithm, true, usages);
          return [key, await subtle.exportKey("raw", key), await subtle.exportKey("jwk", key)];
        });
      }
    }
    put(`${namedCurve}: a compressed point, cut off`, () => subtle.importKey("raw",
      fromHex(pair.compressed.raw.even).slice(0, -1), algorithm, true, ["verify"]));
    put(`${namedCurve}: a compressed point of no key`, () => subtle.importKey("raw",
      fromHex(`02${"ff".repeat(pair.raw.length / 4 - 0.5)}`), algorithm, true, ["verify"]));
    put(`${namedCurve}: a point off the curve`, () =>
      subtle.importKey("raw", tampered(fromHex(pair.raw)), algorithm, true, ["verify"]));
    put(`${namedCurve}: a JWK with a wrong alg`, () => subtle.importKey("jwk",
      { ...pair.publicJwk, alg: "ES1" }, algorithm, true, ["verify"]));
    put(`${namedCurve}: a JWK with its alg`, () => subtle.importKey("jwk", { ...pair.publicJwk,
      alg: { "P-256": "ES256", "P-384": "ES384", "P-521": "ES512" }[namedCurve] }, algorithm, true,
      ["verify"]));
  }
  put("an unknown curve", () => subtle.importKey("raw", bytes(65),
    { name: "ECDSA", namedCurve: "K-256" }, true, ["verify"]));
  put("no curve", () => subtle.importKey("raw", bytes(65), "ECDSA", true, ["verify"]));
}

/** Two keys that agree on a secret. */
function agreement(put, subtle, title, algorithm, [one, two]) {
  const pull = () => Promise.all([
    subtle.importKey("pkcs8", fromHex(one.pkcs8), algorithm, false, ["deriveBits"]),
    subtle.importKey("spki", fromHex(two.spki), algorithm, true, []),
  ]);
  for (const length of [null, 0, 8, 128, 251, 256, 521, 528, 536]) {
    put(`${title}: ${length} bits`, async () => {
      const [key, peer] = await pull();
      return subtle.deriveBits({ name: algorithm.name, public: peer }, key, length);
    });
  }
  put(`${title}: a private key as the public one`, async () => {
    const [key] = await pull();
    return subtle.deriveBits({ name: algorithm.name, public: key }, key, 8);
  });
  put(`${title}: no key`, async () =>
    subtle.deriveBits({ name: algorithm.name, public: {} }, (await pull())[0], 8));
  put(`${title}: a key of another algorithm`, async () => {
    const [key] = await pull();
    return subtle.deriveBits({ name: algorithm.name, public: await aesKey(subtle, "AES-GCM", 128) },
      key, 8);
  });
}

function ecdh(put, subtle, fixtures) {
  for (const namedCurve of CURVES) {
    const pairs = fixtures.ecdh[namedCurve];
    const algorithm = { name: "ECDH", namedCurve };
    const uses = { private: ["deriveBits", "deriveKey"], public: [] };
    formats(put, subtle, namedCurve, algorithm, pairs[0], uses);
    agreement(put, subtle, namedCurve, algorithm, pairs);
  }
  put("keys of two curves", async () => {
    const pull = (format, namedCurve, usages) => subtle.importKey(format,
      fromHex(fixtures.ecdh[namedCurve][0][format]), { name: "ECDH", namedCurve }, true, usages);
    return subtle.deriveBits({ name: "ECDH", public: await pull("spki", "P-384", []) },
      await pull("pkcs8", "P-256", ["deriveBits"]), 8);
  });
}

function ed25519(put, subtle, fixtures) {
  const pair = fixtures.ed25519;
  const uses = { private: ["sign"], public: ["verify"] };
  formats(put, subtle, "Ed25519", { name: "Ed25519" }, pair, uses);
  verifies(put, subtle, { title: "Ed25519", key: pair.spki, algorithm: { name: "Ed25519" },
    signature: pair.signature });
  put("signs", async () => subtle.sign("Ed25519",
    await subtle.importKey("pkcs8", fromHex(pair.pkcs8), "ed25519", false, ["sign"]), MESSAGE));
  put("signs from a JWK", async () => subtle.sign("Ed25519",
    await subtle.importKey("jwk", pair.privateJwk, "Ed25519", false, ["sign"]), MESSAGE));
  put("taken for X25519", () =>
    subtle.importKey("spki", fromHex(pair.spki), "X25519", true, []));
}

function x25519(put, subtle, fixtures) {
  const uses = { private: ["deriveBits", "deriveKey"], public: [] };
  formats(put, subtle, "X25519", { name: "X25519" }, fixtures.x25519[0], uses);
  agreement(put, subtle, "X25519", { name: "X25519" }, fixtures.x25519);
  put("a point of small order", async () => {
    const key = await subtle.importKey("pkcs8", fromHex(fixtures.x25519[0].pkcs8), "X25519", false,
      ["deriveBits"]);
    const zero = await subtle.importKey("raw", new Uint8Array(32), "X25519", true, []);
    return subtle.deriveBits({ name: "X25519", public: zero }, key, 256);
  });
}

function rsaSign(put, subtle, fixtures) {
  const { spki, pkcs8, pkcs1, pss } = fixtures.rsa;
  for (const hash of HASHES) {
    const algorithm = { name: "RSASSA-PKCS1-v1_5", hash };
    verifies(put, subtle, { title: `PKCS#1 with ${hash}`, key: spki, algorithm,
      signature: pkcs1[hash] });
  }
  for (const name of ["RSASSA-PKCS1-v1_5", "RSA-PSS"]) {
    put(`${name} with SHA-1, a key that signs`, () => subtle.importKey("pkcs8", fromHex(pkcs8),
      { name, hash: "SHA-1" }, false, ["sign"]));
  }
  for (const hash of RSA_HASHES) {
    put(`PKCS#1 with ${hash} signs`, async () => {
      const algorithm = { name: "RSASSA-PKCS1-v1_5", hash };
      const key = await subtle.importKey("pkcs8", fromHex(pkcs8), algorithm, false, ["sign"]);
      return subtle.sign(algorithm, key, MESSAGE);
    });
    for (const [saltLength, signature] of Object.entries(pss[hash])) {
      verifies(put, subtle, { title: `PSS with ${hash} and ${saltLength} bytes of salt`, key: spki,
        hash: { name: "RSA-PSS", hash }, signature,
        algorithm: { name: "RSA-PSS", saltLength: Number(saltLength) } });
    }
    put(`PSS with ${hash} and the wrong salt`, async () => subtle.verify(
      { name: "RSA-PSS", saltLength: 7 },
      await subtle.importKey("spki", fromHex(spki), { name: "RSA-PSS", hash }, true, ["verify"]),
      fromHex(pss[hash][20]), MESSAGE));
    put(`PSS with ${hash} signs without salt`, async () => subtle.sign(
      { name: "RSA-PSS", saltLength: 0 },
      await subtle.importKey("pkcs8", fromHex(pkcs8), { name: "RSA-PSS", hash }, false, ["sign"]),
      MESSAGE));
  }
}

function rsaOaep(put, subtle, fixtures) {
  const { pkcs8, oaep } = fixtures.rsa;
  const pull = (hash) =>
    subtle.importKey("pkcs8", fromHex(pkcs8), { name: "RSA-OAEP", hash }, false, ["decrypt"]);
  for (const hash of HASHES) {
    for (const [label, sealed] of Object.entries(oaep[hash])) {
      const more = label === "" ? {} : { label: text(label) };
      const algorithm = { name: "RSA-OAEP", ...more };
      put(`${hash}, label ${JSON.stringify(label)}`, async () =>
        subtle.decrypt(algorithm, await pull(hash), fromHex(sealed)));
      put(`${hash}, label ${JSON.stringify(label)}, tampered`, async () =>
        subtle.decrypt(algorithm, await pull(hash), tampered(fromHex(sealed))));
    }
  }
  put("another label", async () => subtle.decrypt({ name: "RSA-OAEP", label: text("other") },
    await pull("SHA-256"), fromHex(oaep["SHA-256"].label)));
  put("nothing", async () => subtle.decrypt("RSA-OAEP", await pull("SHA-256"), bytes(0)));
}

function rsaKeys(put, subtle, fixtures) {
  const uses = { private: ["sign"], public: ["verify"] };
  const names = { "RSASSA-PKCS1-v1_5": uses, "RSA-PSS": uses,
    "RSA-OAEP": { private: ["decrypt", "unwrapKey"], public: ["encrypt", "wrapKey"] } };
  for (const [name, allowed] of Object.entries(names)) {
    formats(put, subtle, name, { name, hash: "SHA-256" }, fixtures.rsa, allowed);
  }
  for (const hash of HASHES) {
    for (const name of Object.keys(names)) {
      put(`alg of ${name} with ${hash}`, async () => {
        const key = await subtle.importKey("spki", fromHex(fixtures.rsa.spki), { name, hash }, true,
          names[name].public);
        return (await subtle.exportKey("jwk", key)).alg;
      });
    }
  }
  const importJwk = (jwk) =>
    subtle.importKey("jwk", jwk, { name: "RSA-PSS", hash: "SHA-256" }, true,
      jwk.d === undefined ? ["verify"] : ["sign"]);
  const { publicJwk, privateJwk } = fixtures.rsa;
  put("a JWK with another alg", () => importJwk({ ...publicJwk, alg: "RS256" }));
  put("a JWK without n", () => importJwk({ ...publicJwk, n: undefined }));
  put("a JWK without primes", () => importJwk({ ...privateJwk, p: undefined }));
  put("raw", () => subtle.importKey("raw", bytes(256), { name: "RSA-PSS", hash: "SHA-256" }, true,
    ["verify"]));
  put("an elliptic key", () => subtle.importKey("spki", fromHex(fixtures.ecdsa["P-256"].spki),
    { name: "RSA-PSS", hash: "SHA-256" }, true, ["verify"]));
}

function wrap(put, subtle, fixtures) {
  const iv = bytes(12);
  const ciphers = [{ name: "AES-GCM", iv }, { name: "AES-CBC", iv: bytes(16) },
    { name: "AES-CTR", counter: bytes(16), length: 32 }];
  for (const cipher of ciphers) {
    const by = () => aesKey(subtle, cipher.name, 256, ["wrapKey", "unwrapKey"]);
    put(`${cipher.name}: pkcs8`, async () => {
      const algorithm = { name: "ECDSA", namedCurve: "P-256" };
      const key = await subtle.importKey("pkcs8", fromHex(fixtures.ecdsa["P-256"].pkcs8), algorithm,
        true, ["sign"]);
      const wrapped = await subtle.wrapKey("pkcs8", key, await by(), cipher);
      const back = await subtle.unwrapKey("pkcs8", wrapped, await by(), cipher, algorithm, false,
        ["sign"]);
      return [wrapped, back];
    });
    put(`${cipher.name}: raw`, async () =>
      subtle.wrapKey("raw", await aesKey(subtle, "AES-KW", 128, ["wrapKey"]), await by(), cipher));
    put(`${cipher.name}: a JWK there and back`, async () => {
      const algorithm = { name: "HMAC", hash: "SHA-384" };
      const key = await subtle.importKey("raw", bytes(9), algorithm, true, ["sign"]);
      const wrapped = await subtle.wrapKey("jwk", key, await by(), cipher);
      const back = await subtle.unwrapKey("jwk", wrapped, await by(), cipher, algorithm, true,
        ["sign"]);
      return [back, await subtle.exportKey("raw", back)];
    });
  }
  put("OAEP unwraps", async () => {
    const algorithm = { name: "RSA-OAEP", hash: "SHA-256" };
    const key = await subtle.importKey("pkcs8", fromHex(fixtures.rsa.pkcs8), algorithm, false,
      ["unwrapKey"]);
    const back = await subtle.unwrapKey("raw", fromHex(fixtures.rsa.wrapped), key, "RSA-OAEP",
      "AES-GCM", true, ["decrypt"]);
    return [back, await subtle.exportKey("raw", back)];
  });
  const gcm = ciphers[0];
  put("a key that is not extractable", async () => subtle.wrapKey("raw",
    await subtle.importKey("raw", bytes(16), "AES-GCM", false, ["encrypt"]),
    await aesKey(subtle, "AES-GCM", 128, ["wrapKey"]), gcm));
  put("a key that does not wrap", async () => subtle.wrapKey("raw",
    await aesKey(subtle, "AES-GCM", 128), await aesKey(subtle, "AES-GCM", 128), gcm));
  put("a JWK that is no JSON", async () => {
    const key = await aesKey(subtle, "AES-GCM", 128, ["encrypt", "unwrapKey"]);
    const sealed = await subtle.encrypt(gcm, key, text("{"));
    return subtle.unwrapKey("jwk", sealed, key, gcm, "AES-GCM", true, ["encrypt"]);
  });
  put("by digest", async () => subtle.wrapKey("raw", await aesKey(subtle, "AES-GCM", 128),
    await aesKey(subtle, "AES-GCM", 128, ["wrapKey"]), "SHA-1"));
}

function deriveKey(put, subtle, fixtures) {
  const derived = async (type, usages, exporting = true) => {
    const base = await subtle.importKey("raw", bytes(32), "HKDF", false, ["deriveKey"]);
    const algorithm = { name: "HKDF", hash: "SHA-256", salt: bytes(8), info: bytes(8, 2) };
    const key = await subtle.deriveKey(algorithm, base, type, exporting, usages);
    return exporting ? [key, await subtle.exportKey("raw", key)] : key;
  };
  for (const name of ["AES-CBC", "AES-CTR", "AES-GCM"]) {
    for (const length of [128, 192, 256]) {
      put(`${name} of ${length} bits`, () => derived({ name, length }, ["encrypt"]));
    }
  }
  put("AES-KW", () => derived({ name: "AES-KW", length: 256 }, ["wrapKey"]));
  for (const hash of HASHES) {
    put(`HMAC with ${hash}`, () => derived({ name: "HMAC", hash }, ["sign"]));
    put(`HMAC with ${hash} of 80 bits`, () =>
      derived({ name: "HMAC", hash, length: 80 }, ["sign"]));
  }
  put("AES of 100 bits", () => derived({ name: "AES-GCM", length: 100 }, ["encrypt"]));
  put("AES of no length", () => derived("AES-GCM", ["encrypt"]));
  put("AES without usages", () => derived({ name: "AES-GCM", length: 128 }, []));
  put("from PBKDF2", async () => {
    const base = await subtle.importKey("raw", text("pw"), "PBKDF2", false, ["deriveKey"]);
    const algorithm = { name: "PBKDF2", hash: "SHA-512", salt: bytes(8), iterations: 10 };
    return subtle.exportKey("raw", await subtle.deriveKey(algorithm, base,
      { name: "AES-GCM", length: 256 }, true, ["encrypt"]));
  });
  put("from ECDH to HKDF to AES", async () => {
    const [one, two] = fixtures.ecdh["P-256"];
    const curve = { name: "ECDH", namedCurve: "P-256" };
    const key = await subtle.importKey("jwk", one.privateJwk, curve, false, ["deriveKey"]);
    const peer = await subtle.importKey("raw", fromHex(two.raw), curve, false, []);
    const middle = await subtle.deriveKey({ name: "ECDH", public: peer }, key, "HKDF", false,
      ["deriveKey"]);
    const algorithm = { name: "HKDF", hash: "SHA-256", salt: bytes(0), info: text("app") };
    const last = await subtle.deriveKey(algorithm, middle, { name: "AES-GCM", length: 128 }, true,
      ["encrypt"]);
    return [middle, last, await subtle.exportKey("raw", last)];
  });
  put("from X25519", async () => {
    const [one, two] = fixtures.x25519;
    const key = await subtle.importKey("pkcs8", fromHex(one.pkcs8), "X25519", false, ["deriveKey"]);
    const peer = await subtle.importKey("jwk", two.publicJwk, "X25519", false, []);
    return subtle.exportKey("raw", await subtle.deriveKey({ name: "X25519", public: peer }, key,
      { name: "AES-CBC", length: 256 }, true, ["encrypt"]));
  });
}

function refusals(put, subtle) {
  const key = () => aesKey(subtle, "AES-GCM", 128);
  const cipher = { name: "AES-GCM", iv: bytes(12) };
  put("an unknown algorithm", () => subtle.importKey("raw", bytes(16), "AES-XYZ", true, []));
  put("an unknown format", () => subtle.importKey("der", bytes(16), "AES-GCM", true, ["encrypt"]));
  put("an unknown usage", () => subtle.importKey("raw", bytes(16), "AES-GCM", true, ["eat"]));
  put("usages that are text", () => subtle.importKey("raw", bytes(16), "AES-GCM", true, "encrypt"));
  put("bytes that are an array", () =>
    subtle.importKey("raw", [1, 2], "AES-GCM", true, ["encrypt"]));
  put("a JWK that is bytes", () =>
    subtle.importKey("jwk", bytes(16), "AES-GCM", true, ["encrypt"]));
  put("no key", () => subtle.encrypt(cipher, {}, MESSAGE));
  put("a key's look-alike", async () => {
    const { type, algorithm, usages } = await key();
    return subtle.encrypt(cipher, { type, algorithm, usages, extractable: true }, MESSAGE);
  });
  put("another algorithm than the key's", async () =>
    subtle.encrypt({ name: "AES-CBC", iv: bytes(16) }, await key(), MESSAGE));
  put("a signature by a cipher", async () => subtle.sign("AES-GCM", await key(), MESSAGE));
  put("too few arguments", async () => subtle.encrypt(cipher, await key()));
  put("spki of a secret", async () => subtle.exportKey("spki", await key()));
  put("not extractable", async () => subtle.exportKey("raw",
    await subtle.importKey("raw", bytes(16), "AES-GCM", false, ["encrypt"])));
  put("usages once each", () => subtle.importKey("raw", bytes(16), "AES-GCM", true,
    ["unwrapKey", "encrypt", "decrypt", "encrypt", "wrapKey"]));
  put("another this", () => subtle.digest.call({}, "SHA-1", MESSAGE));
  put("what a key shows cannot be changed", async () => {
    const made = await key();
    made.usages.push("sign");
    made.algorithm.name = "AES-CBC";
    return toHex(await subtle.encrypt(cipher, made, MESSAGE));
  });
}

/** What operations that need randomness throw. */
export async function refused({ subtle }, fixtures) {
  const said = [];
  const says = async (title, run) => {
    try {
      await run();
      said.push([title, "nothing"]);
    } catch (error) {
      said.push([title, `${error.name}: ${error.message}`]);
    }
  };
  const curve = { name: "ECDSA", namedCurve: "P-256" };
  const rsa = (name, format, usages) => subtle.importKey(format, fromHex(fixtures.rsa[format]),
    { name, hash: "SHA-256" }, false, usages);
  const modulus = { modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) };
  const aes = { name: "AES-GCM", length: 128 };
  await says("AES key", () => subtle.generateKey(aes, true, ["encrypt"]));
  await says("HMAC key", () => subtle.generateKey({ name: "HMAC", hash: "SHA-1" }, true, ["sign"]));
  await says("EC key", () => subtle.generateKey(curve, true, ["sign"]));
  await says("Ed25519 key", () => subtle.generateKey("Ed25519", true, ["sign"]));
  await says("RSA key", () => subtle.generateKey({ name: "RSA-PSS", hash: "SHA-256", ...modulus },
    true, ["sign"]));
  await says("ECDSA", async () => subtle.sign({ name: "ECDSA", hash: "SHA-256" },
    await subtle.importKey("jwk", fixtures.ecdsa["P-256"].privateJwk, curve, false, ["sign"]),
    MESSAGE));
  await says("PSS", async () => subtle.sign({ name: "RSA-PSS", saltLength: 32 },
    await rsa("RSA-PSS", "pkcs8", ["sign"]), MESSAGE));
  await says("OAEP", async () =>
    subtle.encrypt("RSA-OAEP", await rsa("RSA-OAEP", "spki", ["encrypt"]), MESSAGE));
  await says("OAEP wrapping", async () => subtle.wrapKey("raw",
    await aesKey(subtle, "AES-GCM", 128), await rsa("RSA-OAEP", "spki", ["wrapKey"]), "RSA-OAEP"));
  await says("too many iterations", async () => subtle.deriveBits(
    { name: "PBKDF2", hash: "SHA-1", salt: bytes(8), iterations: 500_001 },
    await subtle.importKey("raw", bytes(8), "PBKDF2", false, ["deriveBits"]), 168));
  return said;
}
