// Headers, of the Fetch standard.
//
// In: `__bootstrap`. Out: `Headers`, and for other scripts `headersOf(list, immutable)`,
// `listOf(headers)`, `fill(headers, init)`. Invariant: a list holds `[name, value]` pairs with
// names in lower case and values trimmed; nothing in it can break the lines of an HTTP message.
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const {
    ArrayPrototypePush, ArrayPrototypeSlice, ArrayPrototypeSort, ArrayPrototypeSplice,
    JSONStringify, ObjectPrototypeIsPrototypeOf, RegExpPrototypeTest, SafeRegExp,
    StringPrototypeToLowerCase,
    Symbol, SymbolIterator, TypeError,
  } = primordials;
  const webidl = core.loadExtScript('ext:deno_webidl/00_webidl.js');
  const { HTTP_TOKEN_CODE_POINT_RE, httpTrim } = core.loadExtScript('ext:deno_web/00_infra.js');

  const PAIRS = Symbol('pairs');
  const BREAKS_LINES = new SafeRegExp('[\\0\\r\\n]');
  let inner;

  class Headers {
    #list = [];
    #immutable = false;
    #sorted = undefined;

    static {
      inner = {
        headersOf(list, immutable) {
          const headers = new Headers();
          headers.#list = list;
          headers.#immutable = immutable;
          return headers;
        },
        listOf: (headers) => headers.#list,
      };
    }

    constructor(init = undefined) {
      this[webidl.brand] = webidl.brand;
      if (init === undefined) return;
      const prefix = "Failed to construct 'Headers'";
      fill(this, webidl.converters.HeadersInit(init, prefix, 'Argument 1'));
    }

    append(name, value) {
      const prefix = "Failed to execute 'append' on 'Headers'";
      const key = this.#key(name, arguments.length, 2, prefix);
      const text = valueOf(value, prefix);
      this.#change();
      ArrayPrototypePush(this.#list, [key, text]);
    }

    delete(name) {
      const key = this.#key(name, arguments.length, 1, "Failed to execute 'delete' on 'Headers'");
      this.#change();
      this.#remove(key, 0);
    }

    get(name) {
      const key = this.#key(name, arguments.length, 1, "Failed to execute 'get' on 'Headers'");
      return combined(this.#list, key);
    }

    getSetCookie() {
      webidl.assertBranded(this, HeadersPrototype);
      const values = [];
      for (let at = 0; at < this.#list.length; at++) {
        const { 0: name, 1: value } = this.#list[at];
        if (name === 'set-cookie') ArrayPrototypePush(values, value);
      }
      return values;
    }

    has(name) {
      const key = this.#key(name, arguments.length, 1, "Failed to execute 'has' on 'Headers'");
      return find(this.#list, key) >= 0;
    }

    set(name, value) {
      const prefix = "Failed to execute 'set' on 'Headers'";
      const key = this.#key(name, arguments.length, 2, prefix);
      const text = valueOf(value, prefix);
      this.#change();
      const at = find(this.#list, key);
      if (at < 0) {
        ArrayPrototypePush(this.#list, [key, text]);
      } else {
        this.#list[at] = [key, text];
        this.#remove(key, at + 1);
      }
    }

    /** What iteration gives, made anew after each change. */
    get [PAIRS]() {
      this.#sorted ??= sorted(this.#list);
      return this.#sorted;
    }

    #key(name, given, wanted, prefix) {
      webidl.assertBranded(this, HeadersPrototype);
      webidl.requiredArguments(given, wanted, prefix);
      const text = webidl.converters.ByteString(name, prefix, 'Argument 1');
      if (!RegExpPrototypeTest(HTTP_TOKEN_CODE_POINT_RE, text)) {
        throw new TypeError(`${prefix}: ${JSONStringify(text)} is not a header's name`);
      }
      return StringPrototypeToLowerCase(text);
    }

    #change() {
      if (this.#immutable) throw new TypeError('These headers are immutable');
      this.#sorted = undefined;
    }

    #remove(key, from) {
      for (let at = this.#list.length - 1; at >= from; at--) {
        if (this.#list[at][0] === key) ArrayPrototypeSplice(this.#list, at, 1);
      }
    }
  }
  const HeadersPrototype = Headers.prototype;
  webidl.mixinPairIterable('Headers', Headers, PAIRS, 0, 1);
  webidl.configureInterface(Headers);

  function valueOf(value, prefix) {
    const text = httpTrim(webidl.converters.ByteString(value, prefix, 'Argument 2'));
    if (RegExpPrototypeTest(BREAKS_LINES, text)) {
      throw new TypeError(`${prefix}: ${JSONStringify(text)} is not a header's value`);
    }
    return text;
  }

  function find(list, key) {
    for (let at = 0; at < list.length; at++) {
      if (list[at][0] === key) return at;
    }
    return -1;
  }

  function combined(list, key) {
    let all = null;
    for (let at = 0; at < list.length; at++) {
      if (list[at][0] === key) all = all === null ? list[at][1] : `${all}, ${list[at][1]}`;
    }
    return all;
  }

  /** By name; equal names are one pair, but for `set-cookie`, which keeps its order. */
  function sorted(list) {
    const pairs = [];
    for (let at = 0; at < list.length; at++) {
      const { 0: name, 1: value } = list[at];
      const known = name === 'set-cookie' ? -1 : find(pairs, name);
      if (known < 0) ArrayPrototypePush(pairs, [name, value]);
      else pairs[known][1] = `${pairs[known][1]}, ${value}`;
    }
    return ArrayPrototypeSort(pairs, (left, right) =>
      (left[0] < right[0] ? -1 : left[0] > right[0] ? 1 : 0));
  }

  /** Adds what `HeadersInit` was converted to. */
  function fill(headers, init) {
    if (init.pairs === undefined) {
      for (const name in init.record) headers.append(name, init.record[name]);
      return;
    }
    for (let at = 0; at < init.pairs.length; at++) {
      const pair = init.pairs[at];
      if (pair.length !== 2) {
        throw new TypeError(`A header is a name and a value, not ${pair.length} values`);
      }
      headers.append(pair[0], pair[1]);
    }
  }

  webidl.converters.HeadersInit = (value, prefix, context, options) => {
    if (webidl.type(value) !== 'Object') {
      throw webidl.makeException(TypeError, 'is neither an object nor a list of pairs', prefix,
        context);
    }
    const convert = (name) => webidl.converters[name](value, prefix, context, options);
    if (ObjectPrototypeIsPrototypeOf(HeadersPrototype, value)) {
      return { pairs: ArrayPrototypeSlice(inner.listOf(value)) };
    }
    return value[SymbolIterator] === undefined || value[SymbolIterator] === null
      ? { record: convert('record<ByteString, ByteString>') }
      : { pairs: convert('sequence<sequence<ByteString>>') };
  };

  return { Headers, HeadersPrototype, ...inner, fill, combined };
})();
