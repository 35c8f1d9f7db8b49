// What draws randomness: keys, signatures and ciphertexts that one WebCrypto makes and another
// checks.
//
// In: `crypto`. Out: what was made, as JSON; whether it is accepted. Invariant: one table of
// algorithms, so both sides know what each product is.
import { CURVES, HASHES, MESSAGE, bytes, fromHex, shown, toHex } from "./cases.js";

const SIZE = { modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) };

/** Every algorithm whose keys are made: how, and what the keys do. */
export const MADE = [
  ...[128, 192, 256].flatMap((length) => ["AES-CBC", "AES-CTR", "AES-GCM"].map((name) =>
    [{ name, length }, ["encrypt", "decrypt", "wrapKey"]])),
  [{ name: "AES-KW", length: 192 }, ["wrapKey", "unwrapKey"]],
  ...HASHES.map((hash) => [{ name: "HMAC", hash }, ["sign", "verify"]]),
  [{ name: "HMAC", hash: "SHA-256", length: 104 }, ["sign", "verify"]],
  ...CURVES.map((namedCurve) => [{ name: "ECDSA", namedCurve }, ["sign", "verify"]]),
  ...CURVES.map((namedCurve) => [{ name: "ECDH", namedCurve }, ["deriveBits", "deriveKey"]]),
  [{ name: "Ed25519" }, ["sign", "verify"]],
  [{ name: "X25519" }, ["deriveBits"]],
  [{ name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", ...SIZE }, ["sign", "verify"]],
  [{ name: "RSA-PSS", hash: "SHA-384", ...SIZE }, ["sign", "verify"]],
  [{ name: "RSA-OAEP", hash: "SHA-1", ...SIZE }, ["encrypt", "decrypt"]],
];

/** Makes keys and uses them: what each shows, its JWKs, and what was signed or sealed with it. */
export async function making({ subtle }) {
  const made = [];
  for (const [algorithm, usages] of MADE) {
    const key = await subtle.generateKey(algorithm, true, usages);
    const keys = key.privateKey === undefined ? [key] : [key.privateKey, key.publicKey];
    const jwks = [];
    for (const one of keys) jwks.push(await subtle.exportKey("jwk", one));
    const products = [];
    for (const parameters of randomised(algorithm)) {
      const signs = usages.includes("sign");
      const product = signs
        ? await subtle.sign(parameters, keys[0], MESSAGE)
        : await subtle.encrypt(parameters, keys.at(-1), MESSAGE);
      products.push(toHex(product));
    }
    made.push({ keys: keys.map(shown), jwks, products });
  }
  return made;
}

/** Parameters of the operations that draw randomness. */
export function randomised({ name }) {
  if (name === "ECDSA") return HASHES.map((hash) => ({ name, hash }));
  if (name === "RSA-PSS") return [0, 20, 48].map((saltLength) => ({ name, saltLength }));
  if (name === "RSA-OAEP") return [{ name }, { name, label: bytes(5) }];
  if (name === "Ed25519" || name === "HMAC" || name === "RSASSA-PKCS1-v1_5") return [{ name }];
  return [];
}

/** Whether what another made is accepted: its keys, signatures and ciphertexts. */
export async function accepted({ subtle }, made) {
  const found = [];
  for (const [at, { jwks, products }] of made.entries()) {
    const [algorithm] = MADE[at];
    const { kty } = jwks[0];
    const pull = (jwk) => subtle.importKey("jwk", jwk, algorithm, false, jwk.key_ops);
    const keys = await Promise.all(jwks.map(pull));
    const results = [kty];
    for (const [place, parameters] of randomised(algorithm).entries()) {
      const product = fromHex(products[place]);
      if (algorithm.name === "RSA-OAEP") {
        results.push(toHex(await subtle.decrypt(parameters, keys[0], product)) === toHex(MESSAGE));
      } else {
        results.push(await subtle.verify(parameters, keys.at(-1), product, MESSAGE));
      }
    }
    found.push(results);
  }
  return found;
}
