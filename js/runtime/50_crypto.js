// `crypto`: WebCrypto (js/web/crypto.js) over the host's algorithms and the call's random stream.
//
// In: `__concave.webCrypto`, that script as a function of `__bootstrap`; `host.crypto`; the call's
// random stream (40_determinism.js). Out: `crypto`, `Crypto`, `SubtleCrypto`, `CryptoKey`.
// Invariant: random values are a function of the call's seed, drawn from the same stream as
// `Math.random`; what needs randomness that must not be guessed (new keys, salted signatures)
// throws Convex's text. A call that never looks at these globals pays for one closure.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { host, primordials } = prelude;
  const { lazy, section } = primordials;

  lazy(['crypto', 'Crypto', 'SubtleCrypto', 'CryptoKey'], section(() => {
    const { apply, uncurry } = primordials;

    const ops = {
      op_crypto(request, key, data, first, second) {
        const bytes = host.crypto(request, key, data, first, second);
        if (bytes === null) refuseRandomness();
        return bytes;
      },
      op_crypto_fill(bytes) {
        if (prelude.call.kind === 'import') refuseRandomness();
        let word = 0;
        for (let at = 0; at < bytes.length; at++) {
          word = at % 4 === 0 ? prelude.random() : word >>> 8;
          bytes[at] = word;
        }
      },
    };

    function refuseRandomness() {
      if (prelude.call.kind === 'import') {
        throw new primordials.Error('Cannot use cryptographic randomness at import time');
      }
      prelude.refuse('cryptographic randomness');
    }

    // A constructor that gives another class's object.
    function DOMException(message, name) { return prelude.domException(message, name); }

    /** What the script uses of deno_core's world. */
    function bootstrap() {
      const p = primordials;
      const core = {
        ops,
        encode: host.utf8Encode,
        decode: (bytes) => host.textDecode('utf-8', bytes, false, true),
        loadExtScript: () => ({ DOMException }),
        hostObjectBrand: prelude.platform().brand,
        registerCloneableResource: prelude.platform().cloneable,
      };
      const names = {
        ArrayBufferIsView: p.isView,
        ArrayBufferPrototypeGetByteLength: uncurry(p.ArrayBufferByteLength),
        ArrayPrototypeIncludes: uncurry(p.ArrayIncludes),
        ArrayPrototypePush: uncurry(p.ArrayPush),
        DataViewPrototypeGetBuffer: uncurry(p.DataViewBuffer),
        DataViewPrototypeGetByteLength: uncurry(p.DataViewByteLength),
        DataViewPrototypeGetByteOffset: uncurry(p.DataViewByteOffset),
        JSONParse: p.JSONParse,
        JSONStringify: p.JSONStringify,
        MathTrunc: p.MathTrunc,
        Number: p.Number,
        NumberPrototypeToString: uncurry(p.NumberToString),
        ObjectDefineProperty: p.defineProperty,
        ObjectKeys: p.ObjectKeys,
        StringPrototypePadEnd: uncurry(p.StringPadEnd),
        StringPrototypePadStart: uncurry(p.StringPadStart),
        StringPrototypeSlice: uncurry(p.StringSlice),
        StringPrototypeStartsWith: uncurry(p.StringStartsWith),
        StringPrototypeToUpperCase: uncurry(p.StringToUpperCase),
        SymbolToStringTag: p.SymbolToStringTag,
        TypeError: p.TypeError,
        TypedArrayPrototypeGetBuffer: uncurry(p.TypedArrayBuffer),
        TypedArrayPrototypeGetByteLength: uncurry(p.TypedArrayByteLength),
        TypedArrayPrototypeGetByteOffset: uncurry(p.TypedArrayByteOffset),
        TypedArrayPrototypeGetSymbolToStringTag: uncurry(p.TypedArrayTag),
        Uint8Array: p.Uint8Array,
      };
      return { core, primordials: names };
    }

    return prelude.platform().dress(apply(prelude.webCrypto, undefined, [bootstrap()]));
  }));
});
