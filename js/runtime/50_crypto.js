// `crypto`: seeded randomness and hashes.
//
// In: the call's random stream (40_determinism.js), `host.digest`. Out: `crypto`, `Crypto`,
// `SubtleCrypto`. Invariant: random values are a function of the call's seed, drawn from the same
// stream as `Math.random`; an operation that does not exist here rejects and says what does.
((prelude) => {
  'use strict';
  const { host, primordials } = prelude;
  const { apply, install, lazy, section } = primordials;

  lazy(['crypto', 'Crypto', 'SubtleCrypto'], section(() => {
    const { SymbolToStringTag, TypeError } = primordials;
    const key = {};
    const need = (token) => {
      if (token !== key) throw new TypeError('Illegal constructor');
    };

    class SubtleCrypto {
      constructor(token) { need(token); }

      async digest(algorithm, data) {
        const name = hashName(algorithm);
        const bytes = prelude.encoding().bytesOf(data);
        if (bytes === undefined) throw new TypeError('digest takes an ArrayBuffer or a view');
        return host.digest(name, bytes);
      }

      get [SymbolToStringTag]() { return 'SubtleCrypto'; }
    }
    install(SubtleCrypto.prototype, makeMissing());

    class Crypto {
      #subtle = new SubtleCrypto(key);

      constructor(token) { need(token); }

      get subtle() { return this.#subtle; }

      getRandomValues(array) {
        fill(array);
        return array;
      }

      randomUUID() { return uuid(); }

      get [SymbolToStringTag]() { return 'Crypto'; }
    }

    function hashName(algorithm) {
      const { StringToUpperCase, isObject } = primordials;
      const given = `${isObject(algorithm) ? algorithm.name : algorithm}`;
      const name = apply(StringToUpperCase, given, []);
      if (name === 'SHA-1' || name === 'SHA-256' || name === 'SHA-384' || name === 'SHA-512') {
        return name;
      }
      throw prelude.domException(`Unrecognized hash ${given}: SHA-1, SHA-256, SHA-384 and SHA-512 `
        + 'are offered', 'NotSupportedError');
    }

    /** The methods of Web Crypto that are not offered. */
    function makeMissing() {
      const refuse = (name) => {
        const text = `crypto.subtle.${name} is not supported in queries and mutations; `
          + 'crypto.subtle.digest, crypto.getRandomValues and crypto.randomUUID are.';
        throw prelude.domException(text, 'NotSupportedError');
      };
      return {
        async encrypt() { refuse('encrypt'); },
        async decrypt() { refuse('decrypt'); },
        async sign() { refuse('sign'); },
        async verify() { refuse('verify'); },
        async generateKey() { refuse('generateKey'); },
        async deriveKey() { refuse('deriveKey'); },
        async deriveBits() { refuse('deriveBits'); },
        async importKey() { refuse('importKey'); },
        async exportKey() { refuse('exportKey'); },
        async wrapKey() { refuse('wrapKey'); },
        async unwrapKey() { refuse('unwrapKey'); },
      };
    }

    function fill(array) {
      const { StringIncludes, TypedArrayTag, isView } = primordials;
      const tag = isView(array) ? apply(TypedArrayTag, array, []) : undefined;
      const integers = ' Int8Array Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array '
        + 'Uint32Array BigInt64Array BigUint64Array ';
      if (tag === undefined || !apply(StringIncludes, integers, [` ${tag} `])) {
        const text = 'getRandomValues takes an array of integers';
        throw prelude.domException(text, 'TypeMismatchError');
      }
      const bytes = prelude.encoding().bytesOf(array);
      if (bytes.length > 65536) {
        throw prelude.domException(`getRandomValues gives at most 65536 bytes, not ${bytes.length}`,
          'QuotaExceededError');
      }
      let word = 0;
      for (let at = 0; at < bytes.length; at++) {
        word = at % 4 === 0 ? prelude.random() : word >>> 8;
        bytes[at] = word;
      }
    }

    function uuid() {
      let text = '';
      for (let at = 0; at < 4; at++) {
        let word = prelude.random();
        if (at === 1) word = (word & 0xffff0fff) | 0x4000;
        if (at === 2) word = (word & 0x3fffffff) | 0x80000000;
        const digits = apply(primordials.NumberToString, word >>> 0, [16]);
        text += apply(primordials.StringPadStart, digits, [8, '0']);
      }
      const part = (from, to) => apply(primordials.StringSlice, text, [from, to]);
      return `${part(0, 8)}-${part(8, 12)}-${part(12, 16)}-${part(16, 20)}-${part(20, 32)}`;
    }

    return { __proto__: null, crypto: new Crypto(key), Crypto, SubtleCrypto };
  }));
})(globalThis.__concave);
