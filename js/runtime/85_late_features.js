// Library features that V8 would install after a context is made.
//
// V8 adds "shipping" features late, into every context, and aborts if a snapshot's code touched
// their targets; the host switches them off by flag, and this file supplies them in JavaScript.
// In: the built-ins they extend. Out: Promise.try, base64 and hex of Uint8Array, RegExp.escape,
// Error.isError, Map and WeakMap getOrInsert, Iterator.concat, Math.sumPrecise. Left absent:
// Float16Array, Math.f16round, DataView getFloat16 and setFloat16, Temporal, Atomics.pause,
// Intl.Locale.prototype.variants; tests/globals.test.mjs says why.
// Invariant: names, lengths and attributes are those of the standard. Known difference:
// Error.isError goes by the prototype chain for an error that carries Symbol.toStringTag.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { primordials } = prelude;
  const { apply, isObject, lazy, section } = primordials;

  const methods = section(() => ({
    __proto__: null,
    try(callback, ...args) {
      if (!isObject(this)) throw new primordials.TypeError('Promise.try needs a constructor');
      return new this((resolve) => { resolve(apply(callback, undefined, args)); });
    },
    fromBase64(string) { return parts().binary.fromBase64(string, arguments[1]); },
    fromHex(string) { return parts().binary.fromHex(string); },
    toBase64() { return parts().binary.toBase64(this, arguments[0]); },
    setFromBase64(string) { return parts().binary.setFromBase64(this, string, arguments[1]); },
    toHex() { return parts().binary.toHex(this); },
    setFromHex(string) { return parts().binary.setFromHex(this, string); },
    escape(string) { return parts().escape(string); },
    isError(value) { return prelude.errors().isError(value); },
    sumPrecise(items) { return parts().sum(items); },
    concat(...items) { return parts().concat(items); },
  }));
  lazy(['try'], methods, primordials.Promise);
  lazy(['fromBase64', 'fromHex'], methods, primordials.Uint8Array);
  lazy(['toBase64', 'setFromBase64', 'toHex', 'setFromHex'], methods,
    primordials.Uint8Array.prototype);
  lazy(['escape'], methods, primordials.RegExp);
  lazy(['isError'], methods, primordials.Error);
  lazy(['sumPrecise'], methods, primordials.Math);
  lazy(['concat'], methods, primordials.Iterator);

  const upsert = ['getOrInsert', 'getOrInsertComputed'];
  lazy(upsert, section(() => ({
    __proto__: null,
    getOrInsert(key, value) {
      if (apply(primordials.MapHas, this, [key])) return apply(primordials.MapGet, this, [key]);
      apply(primordials.MapSet, this, [key, value]);
      return value;
    },
    getOrInsertComputed(key, callback) {
      const known = apply(primordials.MapHas, this, [key]);
      parts().needFunction(callback);
      if (known) return apply(primordials.MapGet, this, [key]);
      const value = apply(callback, undefined, [key === 0 ? 0 : key]);
      apply(primordials.MapSet, this, [key, value]);
      return value;
    },
  })), primordials.Map.prototype);
  lazy(upsert, section(() => ({
    __proto__: null,
    getOrInsert(key, value) {
      if (apply(primordials.WeakMapHas, this, [key])) {
        return apply(primordials.WeakMapGet, this, [key]);
      }
      apply(primordials.WeakMapSet, this, [key, value]);
      return value;
    },
    getOrInsertComputed(key, callback) {
      const known = apply(primordials.WeakMapHas, this, [key]);
      parts().needHeld(key);
      parts().needFunction(callback);
      if (known) return apply(primordials.WeakMapGet, this, [key]);
      const value = apply(callback, undefined, [key]);
      apply(primordials.WeakMapSet, this, [key, value]);
      return value;
    },
  })), primordials.WeakMap.prototype);

  const parts = section(() => {
    const canBeHeld = (key) => isObject(key)
      || (typeof key === 'symbol' && primordials.SymbolKeyFor(key) === undefined);
    const needHeld = (key) => {
      if (canBeHeld(key)) return;
      throw new primordials.TypeError('Invalid value used as weak map key');
    };
    const needFunction = (callback) => {
      if (typeof callback === 'function') return;
      throw new primordials.TypeError('The callback is not a function');
    };

    const binary = section(() => {
      const { SyntaxError, TypeError, TypedArrayTag, Uint8Array: Bytes, uncurry } = primordials;
      const codeAt = uncurry(primordials.StringCharCodeAt);
      const slice = uncurry(primordials.TypedArraySlice);

      const needText = (value) => {
        if (typeof value !== 'string') throw new TypeError('The input is not a string');
      };
      const needBytes = (value) => {
        if (!primordials.isView(value) || apply(TypedArrayTag, value, []) !== 'Uint8Array') {
          throw new TypeError('The receiver is not a Uint8Array');
        }
        return value;
      };
      const needOptions = (options) => {
        if (options === undefined) return { __proto__: null };
        if (!isObject(options)) throw new TypeError('The options are not an object');
        return options;
      };

      const isUrl = ({ alphabet = 'base64' }) => {
        if (alphabet !== 'base64' && alphabet !== 'base64url') {
          throw new TypeError('alphabet is "base64" or "base64url"');
        }
        return alphabet === 'base64url';
      };

      const rules = (given) => {
        const options = needOptions(given);
        const url = isUrl(options);
        const { lastChunkHandling: last = 'loose' } = options;
        if (last !== 'loose' && last !== 'strict' && last !== 'stop-before-partial') {
          throw new TypeError('lastChunkHandling is "loose", "strict" or "stop-before-partial"');
        }
        return { url, last };
      };

      const fromBase64 = (string, options) => {
        needText(string);
        return slice(prelude.encoding().base64().decodeAll(string, rules(options)));
      };

      const setFromBase64 = (target, string, options) => {
        needBytes(target);
        needText(string);
        const { decode } = prelude.encoding().base64();
        const { read, written, error } = decode(string, rules(options), target);
        if (error !== undefined) throw error;
        return { read, written };
      };

      const toBase64 = (bytes, given) => {
        needBytes(bytes);
        const options = needOptions(given);
        const url = isUrl(options);
        return prelude.encoding().base64().encode(bytes, url, !options.omitPadding);
      };

      const digit = (code) => {
        if (code >= 0x30 && code <= 0x39) return code - 0x30;
        const letter = code | 0x20;
        return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
      };

      const decodeHex = (string, out) => {
        if (string.length % 2 !== 0) throw new SyntaxError('A hex string has an even length');
        let written = 0;
        for (let at = 0; at < string.length && written < out.length; at += 2) {
          const high = digit(codeAt(string, at));
          const low = digit(codeAt(string, at + 1));
          if (high < 0 || low < 0) throw new SyntaxError('The string is not hexadecimal');
          out[written++] = high * 16 + low;
        }
        return { read: written * 2, written };
      };

      const fromHex = (string) => {
        needText(string);
        const out = new Bytes((string.length - (string.length % 2)) / 2);
        decodeHex(string, out);
        return out;
      };

      const setFromHex = (target, string) => {
        needBytes(target);
        needText(string);
        return decodeHex(string, target);
      };

      const toHex = (bytes) => {
        needBytes(bytes);
        let text = '';
        for (let at = 0; at < bytes.length; at++) {
          const digits = apply(primordials.NumberToString, bytes[at], [16]);
          text += bytes[at] < 16 ? `0${digits}` : digits;
        }
        return text;
      };
      return { fromBase64, setFromBase64, toBase64, fromHex, setFromHex, toHex };
    });

    function makeEscape() {
      const { StringCharCodeAt, StringIncludes, StringPadStart, TypeError } = primordials;
      const hex = (code, width) =>
        apply(StringPadStart, apply(primordials.NumberToString, code, [16]), [width, '0']);
      const has = (list, unit) => apply(StringIncludes, list, [unit]);
      const controls = { __proto__: null, 9: 't', 10: 'n', 11: 'v', 12: 'f', 13: 'r' };

      const isSpace = (code) => code === 0x20 || code === 0xa0 || code === 0xfeff
        || code === 0x1680 || (code >= 0x2000 && code <= 0x200a) || code === 0x2028
        || code === 0x2029 || code === 0x202f || code === 0x205f || code === 0x3000;

      const isLone = (string, at, code) => {
        const kind = (place) => apply(StringCharCodeAt, string, [place]) & 0xfc00;
        if ((code & 0xfc00) === 0xd800) return kind(at + 1) !== 0xdc00;
        return (code & 0xfc00) === 0xdc00 && kind(at - 1) !== 0xd800;
      };

      const isWord = (code) => (code >= 0x30 && code <= 0x39) || (code >= 0x41 && code <= 0x5a)
        || (code >= 0x61 && code <= 0x7a);

      return (string) => {
        if (typeof string !== 'string') throw new TypeError('RegExp.escape takes a string');
        let out = '';
        for (let at = 0; at < string.length; at++) {
          const unit = string[at];
          const code = apply(StringCharCodeAt, string, [at]);
          if (at === 0 && isWord(code)) out += `\\x${hex(code, 2)}`;
          else if (has('^$\\.*+?()[]{}|/', unit)) out += `\\${unit}`;
          else if (controls[code] !== undefined) out += `\\${controls[code]}`;
          else if (has(',-=<>#&!%:;@~\'`"', unit) || isSpace(code) || isLone(string, at, code)) {
            out += code <= 0xff ? `\\x${hex(code, 2)}` : `\\u${hex(code, 4)}`;
          } else out += unit;
        }
        return out;
      };
    }

    /** Exact summing: every finite double is a whole number of 2^-1074. */
    function makeSum() {
      const { ArrayBuffer, BigInt: Big, BigIntToString, DataView, Number, TypeError } = primordials;
      const view = new DataView(new ArrayBuffer(8));

      const units = (value) => {
        view.setFloat64(0, value);
        const high = view.getUint32(0);
        const exponent = (high >>> 20) & 0x7ff;
        const fraction = (high & 0xfffff) * 4294967296 + view.getUint32(4);
        const whole = exponent === 0 ? Big(fraction) : Big(fraction + 4503599627370496);
        const scaled = exponent > 1 ? whole << Big(exponent - 1) : whole;
        return high >>> 31 === 1 ? -scaled : scaled;
      };

      const toNumber = (sum) => {
        const negative = sum < 0n;
        const size = negative ? -sum : sum;
        // Keep more than 64 leading bits and a sticky one: Number() then rounds once, correctly.
        const digits = apply(BigIntToString, size, [16]).length;
        const shift = digits > 17 ? (digits - 17) * 4 : 0;
        let kept = size >> Big(shift);
        if (kept << Big(shift) !== size) kept |= 1n;
        const scaled = Number(kept) * 2 ** (shift - 1074);
        return negative ? -scaled : scaled;
      };

      return (items) => {
        if (items === undefined || items === null) throw new TypeError('Nothing to iterate over');
        let sum = 0n;
        let special;
        let onlyMinusZero = true;
        for (const item of items) {
          if (typeof item !== 'number') throw new TypeError('Math.sumPrecise adds only numbers');
          if (item - item !== 0) {
            special = special === undefined || special === item ? item : NaN;
          } else if (item !== 0) {
            sum += units(item);
            onlyMinusZero = false;
          } else if (!primordials.is(item, -0)) onlyMinusZero = false;
        }
        if (special !== undefined) return special;
        if (onlyMinusZero) return -0;
        return sum === 0n ? 0 : toNumber(sum);
      };
    }

    function makeConcat() {
      const { ArrayPush, IteratorPrototype, SymbolIterator, TypeError } = primordials;

      const run = function* run(sources) {
        for (let at = 0; at < sources.length; at++) {
          const iterator = apply(sources[at].open, sources[at].item, []);
          if (!isObject(iterator)) throw new TypeError('An iterator is not an object');
          const { next } = iterator;
          let finished = true;
          try {
            for (;;) {
              const step = apply(next, iterator, []);
              if (!isObject(step)) throw new TypeError('An iterator result is not an object');
              if (step.done) break;
              const { value } = step;
              finished = false;
              yield value;
              finished = true;
            }
          } finally {
            // Only a consumer that stops early leaves the loop here with a value handed out.
            if (!finished) {
              const close = iterator.return;
              if (close !== undefined && close !== null) {
                if (!isObject(apply(close, iterator, []))) {
                  throw new TypeError('An iterator result is not an object');
                }
              }
            }
          }
        }
      };
      const Generator = primordials.getPrototypeOf(run.prototype);
      const { next: resume, return: stop } = Generator;

      class Concatenation {
        #generator;

        constructor(generator) { this.#generator = generator; }

        next() { return apply(resume, this.#generator, []); }

        return() { return apply(stop, this.#generator, [undefined]); }
      }
      primordials.setPrototypeOf(Concatenation.prototype, IteratorPrototype);
      primordials.defineProperty(Concatenation.prototype, primordials.SymbolToStringTag, {
        __proto__: null, value: 'Iterator Helper', configurable: true,
      });

      return (items) => {
        const sources = [];
        for (let at = 0; at < items.length; at++) {
          const item = items[at];
          const open = isObject(item) ? item[SymbolIterator] : undefined;
          if (typeof open !== 'function') throw new TypeError('Iterator.concat takes iterables');
          apply(ArrayPush, sources, [{ __proto__: null, item, open }]);
        }
        return new Concatenation(run(sources));
      };
    }

    return { __proto__: null, needHeld, needFunction, binary: binary(),
      escape: makeEscape(), sum: makeSum(), concat: makeConcat() };
  });
});
