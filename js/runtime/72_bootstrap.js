// `__bootstrap`, as the scripts of deno_web and `js/web` expect it of deno_core.
//
// In: the prelude's primordials and encodings, `host.webScript`,
// `host.urlPattern`, `host.urlPatternInput`. Out:
// `__concave.webBootstrap()`: `{ core, internals, primordials }`, where `core.loadExtScript` gives
// a script's exports, evaluated when first asked for. Invariant: deterministic, as all of the
// prelude: parts of blobs are bytes in the heap, nothing is told when garbage is collected. A
// primordial that is not there throws at once, by name.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { host, primordials } = prelude;
  const { apply, section } = primordials;

  prelude.webBootstrap = section(() => {
    const { Proxy, uncurry } = primordials;
    const own = { __proto__: null };
    const bootstrap = {
      core: makeCore(),
      internals: {},
      primordials: new Proxy(own, {
        __proto__: null,
        get: (_target, name) => (own[name] ??= makePrimordial(name)),
      }),
    };
    return bootstrap;

    /** A primordial by deno's name: `ArrayPrototypePush` is our `ArrayPush`, uncurried. */
    function makePrimordial(name) {
      const { StringIndexOf, StringReplace } = primordials;
      const known = special()[name] ?? primordials[name];
      if (known !== undefined) return known;
      if (apply(StringIndexOf, name, ['Prototype']) > 0) {
        const plain = primordials[apply(StringReplace, name, ['Prototype', ''])]
          ?? primordials[apply(StringReplace, name, ['PrototypeGet', ''])];
        if (plain !== undefined) return uncurry(plain);
      }
      throw new primordials.Error(`72_bootstrap.js has no primordial ${name}`);
    }

    function makeCore() {
      const loaded = { __proto__: null };
      const platform = prelude.platform();
      const scripts = makeReplaced();
      const loadExtScript = (specifier) => {
        if (loaded[specifier] === undefined) {
          loaded[specifier] = scripts[specifier]?.()
            ?? platform.dress(apply(host.webScript(specifier), undefined, [bootstrap]));
        }
        return loaded[specifier];
      };
      const tag = (value) => apply(primordials.ObjectToString, value, []);
      const isArrayBuffer = (value) => host.slots(value) === 'ArrayBuffer';
      const isTypedArray = (value) =>
        primordials.isView(value) && apply(primordials.TypedArrayTag, value, []) !== undefined;
      return {
        ops: makeOps(),
        loadExtScript,
        encode: (text) => host.utf8Encode(text),
        decode: (bytes) => host.textDecode('utf-8', bytes, false, false),
        hostObjectBrand: platform.brand,
        registerCloneableResource: platform.cloneable,
        registerTransferableResource() {},
        isArrayBuffer,
        isAnyArrayBuffer: isArrayBuffer,
        isSharedArrayBuffer: () => false,
        isTypedArray,
        isDataView: (value) => primordials.isView(value) && !isTypedArray(value),
        isProxy: () => false,
        isPromise: (value) => tag(value) === '[object Promise]',
        /** What queries and mutations refuse; other functions have no such member. */
        refuse: (what) => prelude.refuse(what),
      };
    }

    /** Scripts whose exports the prelude has: its classes are the ones that functions see. */
    function makeReplaced() {
      return {
        __proto__: null,
        'ext:deno_web/00_url.js': () => {
          const { URL: Locator, URLSearchParams } = prelude.urls();
          // Not the class itself: the script of blobs adds members to what it gets.
          function URL(href, base) { return new Locator(href, base); }
          return { URL, URLSearchParams, URLPrototype: Locator.prototype,
            URLSearchParamsPrototype: URLSearchParams.prototype };
        },
        'ext:deno_web/01_console.js': () =>
          ({ createFilteredInspectProxy: ({ object }) => object }),
        'ext:deno_web/01_dom_exception.js': () => prelude.events(),
        'ext:deno_web/02_event.js': () => prelude.events(),
        'ext:deno_web/02_structured_clone.js': () => ({
          __proto__: null,
          structuredClone(value) {
            // Marks and measures are made with a copy of their detail.
            prelude.call.marked = true;
            return prelude.cloning().structuredClone(value);
          },
        }),
        'ext:deno_web/03_abort_signal.js': () => {
          const exports = prelude.events().internals;
          const { converters, makeException } = bootstrap.core
            .loadExtScript('ext:deno_webidl/00_webidl.js');
          converters.AbortSignal = (value, prefix, context) => {
            if (exports.isSignal(value)) return value;
            throw makeException(primordials.TypeError, 'is not of type AbortSignal', prefix,
              context);
          };
          return exports;
        },
        'ext:deno_web/13_message_port.js': () => ({ markNotSerializable() {} }),
      };
    }

    /** The native functions that the scripts use. */
    function makeOps() {
      const { JSONParse, JSONStringify, Uint8Array } = primordials;
      const slice = uncurry(primordials.TypedArraySlice);
      const subarray = uncurry(primordials.TypedArraySubarray);
      const { TextDecoder, base64 } = prelude.encoding();
      const standard = { __proto__: null, last: 'loose', url: false };
      const noUrls = () => {
        throw new primordials.Error('Blobs have no URLs in queries and mutations');
      };
      return {
        __proto__: null,
        // A part of a blob is known by its bytes: garbage collection needs no help.
        op_blob_create_part: (bytes) => slice(bytes),
        op_blob_clone_part: (part) => ({ uuid: part, size: part.byteLength }),
        op_blob_slice_part: (part, { start, len }) => subarray(part, start, start + len),
        op_blob_read_part: async (part) => slice(part),
        op_blob_remove_part() {},
        // No time passes inside a function; `75_web.js` says where it began.
        op_now() {},
        op_time_origin() {},
        op_blob_create_object_url: noUrls,
        op_blob_from_object_url: noUrls,
        op_blob_revoke_object_url: noUrls,
        op_base64_encode_from_buffer: (bytes, offset, length) =>
          base64().encode(new Uint8Array(bytes.buffer, offset, length), false, true),
        op_base64_decode: (text) => base64().decodeAll(text, standard),
        op_encoding_normalize_label: (label) => new TextDecoder(label).encoding,
        op_encoding_decode_single: (bytes, label, fatal, ignoreBOM) =>
          new TextDecoder(label, { fatal, ignoreBOM }).decode(bytes),
        op_encoding_decode_utf8: (bytes, ignoreBOM) =>
          host.textDecode('utf-8', bytes, false, ignoreBOM),
        op_encoding_decode_utf8_ascii_only: () => null,
        op_encoding_new_decoder: (label, fatal, ignoreBOM) =>
          new TextDecoder(label, { fatal, ignoreBOM }),
        op_encoding_decode: (bytes, decoder, stream) => decoder.decode(bytes, { stream }),
        op_urlpattern_parse: (input, base, { ignoreCase }) => JSONParse(
          host.urlPattern(JSONStringify({ input, base, ignoreCase }))),
        op_urlpattern_process_match_input(input, base, offsets) {
          const parts = JSONParse(host.urlPatternInput(JSONStringify({ input, base })));
          if (parts === null) return null;
          let all = '';
          for (let at = 0; at < parts.length; at++) {
            offsets[at] = all.length;
            all += parts[at];
          }
          offsets[parts.length] = all.length;
          return all;
        },
      };
    }
  });

  /** Primordials that are more than a captured built-in. */
  const special = section(() => {
    const { ArrayPush, IteratorPrototype, Map, Promise, RegExp, Set, SymbolIterator } = primordials;
    const { WeakMap, getPrototypeOf, uncurry } = primordials;

    class SafeArrayIterator {
      #array;
      #next = 0;

      constructor(array) { this.#array = array; }

      next() {
        const done = this.#next >= this.#array.length;
        return { done, value: done ? undefined : this.#array[this.#next++] };
      }

      [SymbolIterator]() { return this; }
    }

    // A loop over a map that user code cannot reach into.
    function SafeMapIterator(map) {
      const pairs = [];
      apply(primordials.MapForEach, map, [(value, key) => {
        apply(ArrayPush, pairs, [[key, value]]);
      }]);
      return new SafeArrayIterator(pairs);
    }

    // When garbage is collected must make no difference.
    class SafeFinalizationRegistry {
      register() {}

      unregister() {}
    }

    const { prototype: AsyncGeneratorPrototype } = getPrototypeOf(async function* none() {});
    const then = uncurry(primordials.PromiseThen);
    const bound = (method) => (...parts) => apply(method, Promise, parts);
    return {
      __proto__: null,
      ArrayBufferIsView: primordials.isView,
      ArrayIsArray: primordials.isArray,
      ArrayIteratorPrototype: getPrototypeOf([][SymbolIterator]()),
      AsyncGeneratorPrototype,
      AsyncGeneratorPrototypeNext: uncurry(AsyncGeneratorPrototype.next),
      // The primordial is V8's own, over the machine's clock.
      Date: prelude.Date,
      IteratorPrototype,
      JSONParse: primordials.JSONParse,
      MathRandom: () => prelude.random() / 4294967296,
      NumberIsInteger: primordials.isInteger,
      NumberMAX_SAFE_INTEGER: 9007199254740991,
      NumberMIN_SAFE_INTEGER: -9007199254740991,
      ObjectCreate: primordials.create,
      ObjectDefineProperty: primordials.defineProperty,
      ObjectFreeze: primordials.freeze,
      ObjectGetOwnPropertyDescriptor: primordials.getOwnPropertyDescriptor,
      ObjectGetPrototypeOf: getPrototypeOf,
      ObjectIs: primordials.is,
      ObjectPrototype: primordials.ObjectPrototype,
      ObjectSetPrototypeOf(target, prototype) {
        primordials.setPrototypeOf(target, prototype);
        return target;
      },
      PromisePrototypeCatch: (promise, rejected) => then(promise, undefined, rejected),
      PromiseReject: bound(primordials.PromiseReject),
      PromiseResolve: bound(primordials.PromiseResolve),
      PromiseWithResolvers: bound(primordials.PromiseWithResolvers),
      ReflectApply: apply,
      ReflectDefineProperty(target, key, descriptor) {
        try {
          primordials.defineProperty(target, key, descriptor);
          return true;
        } catch {
          return false;
        }
      },
      ReflectGetOwnPropertyDescriptor: primordials.getOwnPropertyDescriptor,
      ReflectOwnKeys: primordials.ownKeys,
      SafeArrayIterator,
      SafeFinalizationRegistry,
      SafeMap: Map,
      SafeMapIterator,
      SafePromiseAll: bound(primordials.PromiseAll),
      SafeRegExp: RegExp,
      SafeSet: Set,
      SafeWeakMap: WeakMap,
      TypedArrayPrototypeGetSymbolToStringTag: uncurry(primordials.TypedArrayTag),
      queueMicrotask: prelude.waits().queueMicrotask,
    };
  });
});
