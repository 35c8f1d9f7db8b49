// URL and URLSearchParams.
//
// In: texts; `host.urlParse` and `host.urlSet` (a WHATWG parser) and the UTF-8 natives. Out: the
// two globals. Invariant: a URL's parts always come from one parse of its href; its searchParams
// and its search never disagree, whichever of them was changed.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { host, primordials } = prelude;
  const { apply, lazy, section } = primordials;

  prelude.urls = section(() => {
    // What the two classes know of each other.
    const inner = { __proto__: null };

    const locator = section(() => {
      const URLSearchParams = query();
      const { TypeError, JSONStringify, SymbolToStringTag } = primordials;
      // Places in the host's list of parts.
      const HREF = 0, PROTOCOL = 1, USERNAME = 2, PASSWORD = 3, HOST = 4, HOSTNAME = 5;
      const PORT = 6, PATHNAME = 7, SEARCH = 8, HASH = 9, ORIGIN = 10;

      const parse = (url, base) => {
        const against = base === undefined ? undefined : `${base}`;
        return host.urlParse(`${url}`, against);
      };

      class URL {
        #parts;
        #params = undefined;

        constructor(url, base = undefined) {
          if (arguments.length === 0) throw new TypeError('URL needs 1 argument');
          const text = `${url}`;
          const parts = parse(text, base);
          if (parts === null) throw new TypeError(`Invalid URL: ${JSONStringify(text)}`);
          this.#parts = parts;
        }

        static canParse(url, base = undefined) { return parse(url, base) !== null; }

        static parse(url, base = undefined) {
          return parse(url, base) === null ? null : new URL(url, base);
        }

        #set(part, value) {
          const parts = host.urlSet(this.#parts[HREF], part, `${value}`);
          if (parts === null) return false;
          this.#parts = parts;
          return true;
        }

        #refresh() {
          if (this.#params !== undefined) inner.reset(this.#params, this.#parts[SEARCH]);
        }

        get href() { return this.#parts[HREF]; }
        set href(value) {
          const text = `${value}`;
          if (!this.#set('href', text)) throw new TypeError(`Invalid URL: ${JSONStringify(text)}`);
          this.#refresh();
        }
        get origin() { return this.#parts[ORIGIN]; }
        get protocol() { return this.#parts[PROTOCOL]; }
        set protocol(value) { this.#set('protocol', value); }
        get username() { return this.#parts[USERNAME]; }
        set username(value) { this.#set('username', value); }
        get password() { return this.#parts[PASSWORD]; }
        set password(value) { this.#set('password', value); }
        get host() { return this.#parts[HOST]; }
        set host(value) { this.#set('host', value); }
        get hostname() { return this.#parts[HOSTNAME]; }
        set hostname(value) { this.#set('hostname', value); }
        get port() { return this.#parts[PORT]; }
        set port(value) { this.#set('port', value); }
        get pathname() { return this.#parts[PATHNAME]; }
        set pathname(value) { this.#set('pathname', value); }
        get search() { return this.#parts[SEARCH]; }
        set search(value) {
          this.#set('search', value);
          this.#refresh();
        }
        get searchParams() {
          if (this.#params === undefined) {
            const params = new URLSearchParams(this.#parts[SEARCH]);
            inner.link(params, (query) => { this.#set('search', query); });
            this.#params = params;
          }
          return this.#params;
        }
        get hash() { return this.#parts[HASH]; }
        set hash(value) { this.#set('hash', value); }
        toString() { return this.#parts[HREF]; }
        toJSON() { return this.#parts[HREF]; }
        get [SymbolToStringTag]() { return 'URL'; }
      }
      return URL;
    });

    const query = section(() => {
      const { ArrayPush, ArraySort, ArraySplice, StringSlice, StringStartsWith } = primordials;
      const { SymbolIterator, SymbolToStringTag, TypeError, isObject } = primordials;
      const { format, parse } = form();
      const text = (value) => apply(primordials.StringToWellFormed, `${value}`, []);
      const push = (list, item) => { apply(ArrayPush, list, [item]); };
      const need = (given, count) => {
        if (given < count) throw new TypeError(`URLSearchParams needs ${count} argument(s)`);
      };

      const fromPairs = (init, method) => {
        const pairs = [];
        if (typeof method !== 'function') throw new TypeError('The query pairs are not iterable');
        const iterator = apply(method, init, []);
        for (let step = iterator.next(); !step.done; step = iterator.next()) {
          const pair = [];
          const open = isObject(step.value) ? step.value[SymbolIterator] : undefined;
          if (typeof open !== 'function') throw new TypeError('A query pair is not iterable');
          const parts = apply(open, step.value, []);
          for (let part = parts.next(); !part.done; part = parts.next()) {
            push(pair, text(part.value));
          }
          if (pair.length !== 2) throw new TypeError('A query pair has a name and a value');
          push(pairs, pair);
        }
        return pairs;
      };

      const fromRecord = (init) => {
        const pairs = [];
        const keys = primordials.ownKeys(init);
        for (let at = 0; at < keys.length; at++) {
          const descriptor = primordials.getOwnPropertyDescriptor(init, keys[at]);
          if (!descriptor?.enumerable) continue;
          if (typeof keys[at] === 'symbol') throw new TypeError('A query name is a string');
          push(pairs, [text(keys[at]), text(init[keys[at]])]);
        }
        return pairs;
      };

      const read = (init) => {
        if (isObject(init)) {
          const method = init[SymbolIterator];
          const iterable = method !== undefined && method !== null;
          return iterable ? fromPairs(init, method) : fromRecord(init);
        }
        const query = text(init);
        return parse(apply(StringStartsWith, query, ['?'])
          ? apply(StringSlice, query, [1]) : query);
      };

      const Iteration = makeIteration((params, at) => inner.pairs(params)[at]);

      class URLSearchParams {
        #pairs;
        #changed = undefined;

        static {
          inner.pairs = (params) => params.#pairs;
          inner.link = (params, changed) => { params.#changed = changed; };
          inner.reset = (params, query) => { params.#pairs = read(query); };
        }

        constructor(init = '') { this.#pairs = read(init); }

        #change() { this.#changed?.(format(this.#pairs)); }

        #drop(name, value) {
          const wanted = text(name);
          const exact = value === undefined ? undefined : text(value);
          for (let at = this.#pairs.length - 1; at >= 0; at--) {
            const pair = this.#pairs[at];
            if (pair[0] !== wanted || (exact !== undefined && pair[1] !== exact)) continue;
            apply(ArraySplice, this.#pairs, [at, 1]);
          }
        }

        #first(name, value = undefined) {
          const wanted = text(name);
          const exact = value === undefined ? undefined : text(value);
          for (let at = 0; at < this.#pairs.length; at++) {
            const pair = this.#pairs[at];
            if (pair[0] === wanted && (exact === undefined || pair[1] === exact)) return pair;
          }
          return undefined;
        }

        get size() { return this.#pairs.length; }

        append(name, value) {
          need(arguments.length, 2);
          push(this.#pairs, [text(name), text(value)]);
          this.#change();
        }

        delete(name, value = undefined) {
          need(arguments.length, 1);
          this.#drop(name, value);
          this.#change();
        }

        get(name) {
          need(arguments.length, 1);
          return this.#first(name)?.[1] ?? null;
        }

        getAll(name) {
          need(arguments.length, 1);
          const wanted = text(name);
          const values = [];
          for (let at = 0; at < this.#pairs.length; at++) {
            if (this.#pairs[at][0] === wanted) push(values, this.#pairs[at][1]);
          }
          return values;
        }

        has(name, value = undefined) {
          need(arguments.length, 1);
          return this.#first(name, value) !== undefined;
        }

        set(name, value) {
          need(arguments.length, 2);
          const pair = this.#first(name);
          const changed = text(value);
          if (pair === undefined) push(this.#pairs, [text(name), changed]);
          else {
            const kept = [];
            for (let at = 0; at < this.#pairs.length; at++) {
              const other = this.#pairs[at];
              if (other === pair || other[0] !== pair[0]) push(kept, other);
            }
            pair[1] = changed;
            this.#pairs = kept;
          }
          this.#change();
        }

        sort() {
          const byName = (a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0);
          apply(ArraySort, this.#pairs, [byName]);
          this.#change();
        }

        forEach(callback, receiver = undefined) {
          if (typeof callback !== 'function') throw new TypeError('forEach takes a function');
          for (let at = 0; at < this.#pairs.length; at++) {
            const pair = this.#pairs[at];
            apply(callback, receiver, [pair[1], pair[0], this]);
          }
        }

        entries() { return new Iteration(this, (pair) => [pair[0], pair[1]]); }
        keys() { return new Iteration(this, (pair) => pair[0]); }
        values() { return new Iteration(this, (pair) => pair[1]); }
        toString() { return format(this.#pairs); }
        get [SymbolToStringTag]() { return 'URLSearchParams'; }
      }
      primordials.defineProperty(URLSearchParams.prototype, SymbolIterator, {
        __proto__: null, value: URLSearchParams.prototype.entries, writable: true,
        enumerable: false, configurable: true,
      });
      primordials.defineProperty(URLSearchParams, 'length', {
        __proto__: null, value: 0, configurable: true,
      });
      return URLSearchParams;
    });

    /** The class of the iterators: live, as the standard wants. */
    function makeIteration(pairAt) {
      const { IteratorPrototype, SymbolToStringTag, defineProperty } = primordials;

      class Iteration {
        #params;
        #pick;
        #at = 0;

        constructor(params, pick) {
          this.#params = params;
          this.#pick = pick;
        }

        next() {
          const pair = pairAt(this.#params, this.#at);
          if (pair === undefined) return { value: undefined, done: true };
          this.#at++;
          return { value: this.#pick(pair), done: false };
        }
      }
      primordials.setPrototypeOf(Iteration.prototype, IteratorPrototype);
      defineProperty(Iteration.prototype, SymbolToStringTag, {
        __proto__: null, value: 'URLSearchParams Iterator', configurable: true,
      });
      return Iteration;
    }

    /** application/x-www-form-urlencoded. */
    const form = section(() => {
      const { ArrayPush, StringCharCodeAt, StringIncludes, StringIndexOf } = primordials;
      const { StringSlice, encodeURIComponent, uncurry } = primordials;
      const codeAt = uncurry(StringCharCodeAt);
      const slice = uncurry(StringSlice);
      const indexOf = uncurry(StringIndexOf);
      const includes = uncurry(StringIncludes);

      const hex = (code) => {
        if (code >= 0x30 && code <= 0x39) return code - 0x30;
        const letter = code | 0x20;
        return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
      };

      const decode = (text) => {
        if (!includes(text, '%') && !includes(text, '+')) return text;
        const bytes = host.utf8Encode(text);
        const size = bytes.length;
        let to = 0;
        for (let at = 0; at < size; at++) {
          let byte = bytes[at];
          if (byte === 0x2b) byte = 0x20;
          else if (byte === 0x25 && at + 2 < size) {
            const high = hex(bytes[at + 1]);
            const low = hex(bytes[at + 2]);
            if (high >= 0 && low >= 0) {
              byte = high * 16 + low;
              at += 2;
            }
          }
          bytes[to++] = byte;
        }
        const decoded = apply(primordials.TypedArraySubarray, bytes, [0, to]);
        return host.textDecode('utf-8', decoded, false, true);
      };

      const parse = (query) => {
        const pairs = [];
        let from = 0;
        while (from <= query.length) {
          const found = indexOf(query, '&', from);
          const end = found < 0 ? query.length : found;
          if (end > from) {
            const part = slice(query, from, end);
            const equals = indexOf(part, '=');
            const name = equals < 0 ? part : slice(part, 0, equals);
            const value = equals < 0 ? '' : slice(part, equals + 1);
            apply(ArrayPush, pairs, [[decode(name), decode(value)]]);
          }
          from = end + 1;
        }
        return pairs;
      };

      // encodeURIComponent leaves ! ' ( ) ~ as they are and writes a space as %20.
      const encode = (text) => {
        const encoded = encodeURIComponent(text);
        let result = '';
        for (let at = 0; at < encoded.length; at++) {
          const code = codeAt(encoded, at);
          if (code === 0x25 && slice(encoded, at, at + 3) === '%20') {
            result += '+';
            at += 2;
          } else if (code === 0x21 || code === 0x7e || (code >= 0x27 && code <= 0x29)) {
            result += `%${apply(primordials.StringToUpperCase,
              apply(primordials.NumberToString, code, [16]), [])}`;
          } else result += encoded[at];
        }
        return result;
      };

      const format = (pairs) => {
        let result = '';
        for (let at = 0; at < pairs.length; at++) {
          if (at > 0) result += '&';
          result += `${encode(pairs[at][0])}=${encode(pairs[at][1])}`;
        }
        return result;
      };
      return { parse, format };
    });

    return prelude.platform().dress({ __proto__: null, URL: locator(), URLSearchParams: query() });
  });
  lazy(['URL', 'URLSearchParams'], prelude.urls);
});
