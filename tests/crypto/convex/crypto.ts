// The cases of WebCrypto, run by functions.
import {
  actionGeneric as action,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { v } from "convex/values";
import { outcomes, refused } from "../cases.js";
import { accepted, making } from "../made.js";

/** What every case of a family gives here. */
export const cases = query({
  args: { family: v.string(), fixtures: v.any() },
  handler: (_ctx, { family, fixtures }) => outcomes(crypto, family, fixtures),
});

/** What operations that need randomness say. */
export const random = mutation({
  args: { fixtures: v.any() },
  handler: (_ctx, { fixtures }) => refused(crypto, fixtures),
});

/** The cases in an action. */
export const casesInAction = action({
  args: { family: v.string(), fixtures: v.any() },
  handler: (_ctx, { family, fixtures }) => outcomes(crypto, family, fixtures),
});

/** Keys, signatures and ciphertexts made here. */
export const make = action({ args: {}, handler: () => making(crypto) });

/** Whether the ones of another are accepted. */
export const accept = query({
  args: { made: v.any() },
  handler: (_ctx, { made }) => accepted(crypto, made),
});

/** How long a timer of 5 ms took while 2 million iterations ran: it does not wait for them. */
export const meanwhile = action({
  args: {},
  handler: async () => {
    const key = await crypto.subtle.importKey("raw", new Uint8Array(8), "PBKDF2", false, [
      "deriveBits",
    ]);
    const order: string[] = [];
    const algorithm = (iterations: number) => ({
      name: "PBKDF2", hash: "SHA-512", salt: new Uint8Array(8), iterations,
    });
    const slow = crypto.subtle
      .deriveBits(algorithm(2_000_000), key, 512)
      .then(() => order.push("derived"));
    await new Promise((resolve) => setTimeout(resolve, 5)).then(() => order.push("timer"));
    await slow;
    const refused = await crypto.subtle
      .deriveBits(algorithm(50_000_001), key, 512)
      .catch((error) => `${error}`);
    return { order, refused };
  },
});

/** Names, shapes and random values. */
export const shape = query({ args: {}, handler: () => shapes() });

/** The same in an action. */
export const shapeInAction = action({ args: {}, handler: () => shapes() });

function shapes() {
  const views = [
    Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array,
    BigInt64Array, BigUint64Array,
  ].map((View) => {
    const view = crypto.getRandomValues(new View(64) as any);
    return new Set(new Uint8Array(view.buffer)).size > 8;
  });
  const part = new Uint8Array(64);
  crypto.getRandomValues(part.subarray(16, 48));
  const zero = (from: number, to: number) => part.subarray(from, to).every((byte) => byte === 0);
  const name = (use: () => unknown) => {
    try {
      use();
      return "none";
    } catch (error: any) {
      return error.name;
    }
  };
  return {
    tags: [crypto, crypto.subtle].map((value) => Object.prototype.toString.call(value)),
    made: [Crypto, SubtleCrypto, CryptoKey].map((Class: any) => name(() => new Class())),
    views,
    part: [zero(0, 16), zero(16, 48), zero(48, 64)],
    quota: [0, 65536, 65537].map((size) => name(() => crypto.getRandomValues(new Uint8Array(size)))),
    wide: name(() => crypto.getRandomValues(new BigUint64Array(8193))),
    wrong: [new Float64Array(1), new DataView(new ArrayBuffer(1)), [1], null].map((value) =>
      name(() => crypto.getRandomValues(value as any)),
    ),
    detached: name(() => crypto.getRandomValues.call({} as any, new Uint8Array(1))),
    uuids: [crypto.randomUUID(), crypto.randomUUID()],
  };
}
