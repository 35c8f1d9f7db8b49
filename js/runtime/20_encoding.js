// TextEncoder, TextDecoder, atob, btoa, and the one base64 codec of the prelude.
//
// In: strings and buffers; `host.utf8Encode`, `host.textDecode`, `host.encodingLabel`. Out: the
// globals, and `__concave.encoding()` with `base64()` and `bytesOf` for other files. Invariant:
// results are those of the Encoding and Infra standards; where streaming is not offered (multi-byte
// encodings other than UTF-8 and UTF-16) the call says so instead of giving wrong text.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { host, primordials } = prelude;
  const { apply, lazy, section } = primordials;

  lazy(['atob', 'btoa'], section(() => ({
    __proto__: null,
    /** Bytes as a binary string, from forgiving base64. */
    atob(data) {
      if (arguments.length === 0) throw new primordials.TypeError('atob needs 1 argument');
      return prelude.encoding().base64().atob(`${data}`);
    },
    /** Base64 of a binary string. */
    btoa(data) {
      if (arguments.length === 0) throw new primordials.TypeError('btoa needs 1 argument');
      return prelude.encoding().base64().btoa(`${data}`);
    },
  })));

  prelude.encoding = section(() => {
    /** A Uint8Array over the bytes of a BufferSource (no copy); `undefined` for anything else. */
    const bytesOf = (value) => {
      const p = primordials;
      if (p.isView(value)) {
        const typed = apply(p.TypedArrayTag, value, []) !== undefined;
        const buffer = apply(typed ? p.TypedArrayBuffer : p.DataViewBuffer, value, []);
        const offset = apply(typed ? p.TypedArrayByteOffset : p.DataViewByteOffset, value, []);
        const length = apply(typed ? p.TypedArrayByteLength : p.DataViewByteLength, value, []);
        return new p.Uint8Array(buffer, offset, length);
      }
      if (host.slots(value) !== 'ArrayBuffer') return undefined;
      return new p.Uint8Array(value, 0, apply(p.ArrayBufferByteLength, value, []));
    };

    function makeEncoder() {
      const { TypeError, TypedArrayTag, TypedArrayLength, uncurry } = primordials;
      const codeAt = uncurry(primordials.StringCharCodeAt);
      const wellFormed = uncurry(primordials.StringToWellFormed);

      const encodeInto = (text, target) => {
        const room = apply(TypedArrayLength, target, []);
        let read = 0;
        let written = 0;
        while (read < text.length) {
          const unit = codeAt(text, read);
          const wide = unit >= 0xd800 && unit < 0xdc00;
          const point = wide
            ? 0x10000 + ((unit - 0xd800) << 10) + (codeAt(text, read + 1) - 0xdc00)
            : unit;
          const size = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
          if (written + size > room) break;
          if (size === 1) target[written++] = point;
          else {
            const lead = size === 2 ? 0xc0 : size === 3 ? 0xe0 : 0xf0;
            target[written++] = lead | (point >> (6 * (size - 1)));
            for (let left = size - 2; left >= 0; left--) {
              target[written++] = 0x80 | ((point >> (6 * left)) & 0x3f);
            }
          }
          read += wide ? 2 : 1;
        }
        return { read, written };
      };

      class TextEncoder {
        #brand = true;

        get encoding() { return this.#brand && 'utf-8'; }

        encode(input = '') { return this.#brand && host.utf8Encode(`${input}`); }

        encodeInto(source, destination) {
          if (!this.#brand || apply(TypedArrayTag, destination, []) !== 'Uint8Array') {
            throw new TypeError('TextEncoder.encodeInto writes into a Uint8Array');
          }
          return encodeInto(wellFormed(`${source}`), destination);
        }

        get [primordials.SymbolToStringTag]() { return 'TextEncoder'; }
      }
      return TextEncoder;
    }

    function makeDecoder() {
      const { RangeError, TypeError, Uint8Array, uncurry } = primordials;
      const slice = uncurry(primordials.TypedArraySlice);
      const subarray = uncurry(primordials.TypedArraySubarray);
      const tails = makeTails();

      const join = (tail, bytes) => {
        if (tail === undefined) return bytes;
        const all = new Uint8Array(tail.length + bytes.length);
        apply(primordials.TypedArraySet, all, [tail]);
        apply(primordials.TypedArraySet, all, [bytes, tail.length]);
        return all;
      };

      class TextDecoder {
        #encoding;
        #fatal;
        #ignoreBOM;
        #tail = undefined;
        #started = false;

        constructor(label = 'utf-8', options = undefined) {
          const encoding = host.encodingLabel(`${label}`);
          if (encoding === null) {
            const shown = primordials.JSONStringify(`${label}`);
            throw new RangeError(`The encoding label ${shown} is unknown`);
          }
          this.#encoding = encoding;
          this.#fatal = Boolean(options?.fatal);
          this.#ignoreBOM = Boolean(options?.ignoreBOM);
        }

        get encoding() { return this.#encoding; }

        get fatal() { return this.#fatal; }

        get ignoreBOM() { return this.#ignoreBOM; }

        decode(input = undefined, options = undefined) {
          const given = input === undefined ? new Uint8Array(0) : bytesOf(input);
          if (given === undefined) {
            throw new TypeError('TextDecoder.decode takes an ArrayBuffer or a view of one');
          }
          const stream = Boolean(options?.stream);
          if (stream) tails.check(this.#encoding);
          let bytes = join(this.#tail, given);
          this.#tail = undefined;
          if (stream) {
            const end = bytes.length - tails.length(this.#encoding, bytes);
            if (end < bytes.length) this.#tail = slice(bytes, end);
            bytes = subarray(bytes, 0, end);
          }
          const keepMark = this.#ignoreBOM || this.#started;
          this.#started = stream && (this.#started || bytes.length > 0);
          return host.textDecode(this.#encoding, bytes, this.#fatal, keepMark);
        }

        get [primordials.SymbolToStringTag]() { return 'TextDecoder'; }
      }
      return TextDecoder;
    }

    /** How many bytes at the end of a chunk belong to a character that goes on in the next. */
    function makeTails() {
      const { apply: call, StringIncludes, TypeError } = primordials;
      const stateful = ' gbk gb18030 big5 euc-jp iso-2022-jp shift_jis euc-kr ';

      const check = (encoding) => {
        if (call(StringIncludes, stateful, [` ${encoding} `])) {
          throw new TypeError(`TextDecoder cannot stream ${encoding}; decode all bytes at once`);
        }
      };

      const utf8 = (bytes) => {
        const size = bytes.length;
        for (let back = 1; back <= 3 && back <= size; back++) {
          const byte = bytes[size - back];
          if ((byte & 0xc0) === 0x80) continue;
          const needs = byte >= 0xf0 && byte <= 0xf4 ? 4 : byte >= 0xe0 && byte < 0xf0 ? 3
            : byte >= 0xc2 && byte < 0xe0 ? 2 : 1;
          if (needs <= back) return 0;
          return back === 1 || secondFits(byte, bytes[size - back + 1]) ? back : 0;
        }
        return 0;
      };

      // Overlong forms, surrogates and points past U+10FFFF are malformed at their second byte.
      const secondFits = (lead, second) => {
        const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
        const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
        return second >= low && second <= high;
      };

      const utf16 = (bytes, highAt) => {
        const odd = bytes.length % 2;
        const even = bytes.length - odd;
        const lead = even >= 2 ? bytes[even - 2 + highAt] : 0;
        return odd + (lead >= 0xd8 && lead <= 0xdb ? 2 : 0);
      };

      const length = (encoding, bytes) => {
        if (encoding === 'utf-8') return utf8(bytes);
        if (encoding === 'utf-16le') return utf16(bytes, 1);
        if (encoding === 'utf-16be') return utf16(bytes, 0);
        return 0;
      };
      return { check, length };
    }

    const base64 = section(() => {
      const { SyntaxError, Uint8Array, uncurry } = primordials;
      const codeAt = uncurry(primordials.StringCharCodeAt);
      const subarray = uncurry(primordials.TypedArraySubarray);
      const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

      const isSpace = (code) => code === 0x20 || (code >= 9 && code <= 13 && code !== 11);

      const digit = (code, url) => {
        if (code >= 0x41 && code <= 0x5a) return code - 0x41;
        if (code >= 0x61 && code <= 0x7a) return code - 0x61 + 26;
        if (code >= 0x30 && code <= 0x39) return code - 0x30 + 52;
        if (code === (url ? 0x2d : 0x2b)) return 62;
        return code === (url ? 0x5f : 0x2f) ? 63 : -1;
      };

      /** Text of `bytes`; 62 and 63 are `+/` or `-_`. */
      const encode = (bytes, url, pad) => {
        const size = bytes.length;
        const rest = size % 3;
        const whole = ((size - rest) / 3) * 4;
        const out = new Uint8Array(whole + (rest === 0 ? 0 : pad ? 4 : rest + 1));
        const alphabet = host.utf8Encode(letters + (url ? '-_' : '+/'));
        let at = 0;
        for (let from = 0; from < size; from += 3) {
          const left = size - from;
          const bits = (bytes[from] << 16) | (left > 1 ? bytes[from + 1] << 8 : 0)
            | (left > 2 ? bytes[from + 2] : 0);
          out[at++] = alphabet[bits >> 18];
          out[at++] = alphabet[(bits >> 12) & 63];
          if (left > 1) out[at++] = alphabet[(bits >> 6) & 63];
          else if (pad) out[at++] = 0x3d;
          if (left > 2) out[at++] = alphabet[bits & 63];
          else if (pad) out[at++] = 0x3d;
        }
        return host.textDecode('utf-8', out, false, true);
      };

      const skip = (text, at) => {
        while (at < text.length && isSpace(codeAt(text, at))) at++;
        return at;
      };

      const bad = (why) => new SyntaxError(`Invalid base64: ${why}`);

      /** The state of one decoding (the proposal's FromBase64), written into `out`. */
      const decode = (text, rules, out) => {
        const state = { read: 0, written: 0, error: undefined };
        let bits = 0;
        let count = 0;
        let at = 0;
        if (out.length === 0) return state;
        for (;;) {
          at = skip(text, at);
          if (at === text.length) {
            if (count > 0 && rules.last === 'stop-before-partial') return state;
            if (count > 0) finish(state, out, { bits, count, strict: false }, rules.last);
            if (state.error === undefined) state.read = text.length;
            return state;
          }
          const code = codeAt(text, at++);
          if (code === 0x3d) {
            return padded(state, out, { text, at, bits, count, rules });
          }
          const value = digit(code, rules.url);
          if (value < 0) {
            state.error = bad('a character outside the alphabet');
            return state;
          }
          const left = out.length - state.written;
          if ((left === 1 && count === 2) || (left === 2 && count === 3)) return state;
          bits = (bits << 6) | value;
          if (++count < 4) continue;
          out[state.written++] = bits >> 16;
          out[state.written++] = bits >> 8;
          out[state.written++] = bits;
          bits = 0;
          count = 0;
          state.read = at;
          if (state.written === out.length) return state;
        }
      };

      const padded = (state, out, { text, at, bits, count, rules }) => {
        if (count < 2) {
          state.error = bad('padding in the wrong place');
          return state;
        }
        at = skip(text, at);
        if (count === 2) {
          if (at === text.length) {
            if (rules.last !== 'stop-before-partial') state.error = bad('one = is missing');
            return state;
          }
          if (codeAt(text, at) === 0x3d) at = skip(text, at + 1);
        }
        if (at < text.length) state.error = bad('text after the padding');
        else finish(state, out, { bits, count, strict: rules.last === 'strict' }, 'loose');
        if (state.error === undefined) state.read = text.length;
        return state;
      };

      const finish = (state, out, { bits, count, strict }, last) => {
        if (last === 'strict' || count === 1) state.error = bad('the last group is not complete');
        else if (strict && (bits & (count === 2 ? 15 : 3)) !== 0) state.error = bad('surplus bits');
        else {
          out[state.written++] = count === 2 ? bits >> 4 : bits >> 10;
          if (count === 3) out[state.written++] = bits >> 2;
        }
      };

      const decodeAll = (text, rules) => {
        // What is in order; else the steps below say what is wrong with it.
        if (rules.last === 'loose') {
          const bytes = host.base64Decode(text, rules.url, false);
          if (bytes !== null) return bytes;
        }
        const out = new Uint8Array((text.length * 3) / 4 + 4);
        const state = decode(text, rules, out);
        if (state.error !== undefined) throw state.error;
        return subarray(out, 0, state.written);
      };

      const invalid = (why) => prelude.domException(why, 'InvalidCharacterError');

      const atob = (text) => {
        const whole = host.base64Decode(text, false, true);
        if (whole !== null) return whole;
        let bytes;
        try {
          // Infra's forgiving decoding takes no padding, or exactly the right one, like this.
          bytes = decodeAll(text, { last: 'loose', url: false });
        } catch {
          throw invalid('atob: the string is not correctly encoded base64');
        }
        let result = '';
        for (let from = 0; from < bytes.length; from += 4096) {
          const chunk = subarray(bytes, from, from + 4096);
          result += apply(primordials.StringFromCharCode, undefined, chunk);
        }
        return result;
      };

      const btoa = (text) => {
        const bytes = new Uint8Array(text.length);
        for (let at = 0; at < text.length; at++) {
          const code = codeAt(text, at);
          if (code > 255) throw invalid('btoa: the string has characters outside Latin-1');
          bytes[at] = code;
        }
        return encode(bytes, false, true);
      };
      return { encode, decode, decodeAll, atob, btoa };
    });

    return prelude.platform().dress({ __proto__: null, bytesOf, base64,
      TextEncoder: makeEncoder(), TextDecoder: makeDecoder() });
  });
  lazy(['TextEncoder', 'TextDecoder'], prelude.encoding);
});
