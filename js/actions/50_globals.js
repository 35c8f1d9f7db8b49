// The web classes, on the global object, from the first touch of each on.
//
// In: deno_web's scripts and `js/web`. Out: globals, not enumerable; `__concave.script(name)`, what
// a script exports; `hooks.scripts(names)`, which runs scripts before they are touched.
// Invariant: what `convex-compat.md` section 8.1 lists, and URLPattern, CustomEvent,
// queueMicrotask, CryptoKey, which cannot break code; tests/globals.test.mjs names them all. No
// script is run while the snapshot is made: each object in it costs every context.
((prelude) => {
  'use strict';
  const { bootstrap, call, hooks } = prelude;
  const { core, internals, primordials } = bootstrap;
  const { ops } = core;
  const { ArrayPrototypeIncludes, ObjectAssign, ObjectDefineProperty } = primordials;
  const { ReflectOwnKeys } = primordials;
  const { apply, lazy } = prelude.primordials;

  /** Own members of a DOMException, under symbols; there is none before its script has run. */
  let members = [];
  const adaptations = {
    __proto__: null,
    'ext:deno_web/01_dom_exception.js'({ DOMException }) {
      members = ReflectOwnKeys(new DOMException());
    },
    // What a listener throws goes to whoever hears errors of the global object: there is nobody.
    'ext:deno_web/02_event.js'(exports) {
      exports.saveGlobalThisReference({ __proto__: null, dispatchEvent: () => true });
    },
    // deno_web's own asks deno_core's serializer, which ends the process where user code gives a
    // platform object's parts a type of its own.
    'ext:deno_web/02_structured_clone.js'(exports) {
      exports.structuredClone = prelude.cloning().structuredClone;
    },
    // Its own text where nobody gave a reason is not the one that Node and queries have.
    'ext:deno_web/03_abort_signal.js'({ AbortSignalPrototype, signalAbort }) {
      const { [signalAbort]: abort } = AbortSignalPrototype;
      AbortSignalPrototype[signalAbort] = function (reason = undefined) {
        const aborted = () => prelude.domException('This operation was aborted', 'AbortError');
        return apply(abort, this, [reason === undefined ? aborted() : reason]);
      };
    },
    // A run's blobs end with it: nobody could ask for such a URL.
    'ext:deno_web/09_file.js'() {
      const { URL } = script('ext:deno_web/00_url.js');
      delete URL.createObjectURL;
      delete URL.revokeObjectURL;
    },
    'ext:deno_web/15_performance.js'({ performance, setTimeOrigin }) {
      const { clearMarks, clearMeasures } = performance;
      // What another run in this context has marked is gone.
      call.forget = () => {
        setTimeOrigin();
        apply(clearMarks, performance, []);
        apply(clearMeasures, performance, []);
      };
      setTimeOrigin();
    },
  };
  call.forget = () => {};

  const known = { __proto__: null };
  const script = (name) => {
    if (known[name] === undefined) {
      const exports = ops.op_script(name)(seen);
      known[name] = prelude.platform().dress(exports);
      adaptations[name]?.(exports);
    }
    return known[name];
  };
  // What scripts see, and load of each other.
  const seen = { __proto__: null, internals, primordials,
    core: ObjectAssign({ __proto__: null }, core, { loadExtScript: script,
      reportUnhandledException(error) { prelude.uncaught(error); } }) };
  const touched = (name) => {
    ops.op_script_touched(name);
    return script(name);
  };
  prelude.script = touched;
  hooks.scripts = (names) => {
    for (let at = 0; at < names.length; at++) script(names[at]);
  };

  prelude.domException = (message, name) => {
    const { DOMException } = touched('ext:deno_web/01_dom_exception.js');
    return new DOMException(message, name);
  };
  // The error of atob's op: of a class that nobody has registered it would be thrown as undefined.
  // No op may be called while it runs; atob's own script has loaded the class.
  core.registerErrorBuilder('DOMExceptionInvalidCharacterError', (message) => {
    const { DOMException } = script('ext:deno_web/01_dom_exception.js');
    return new DOMException(message, 'InvalidCharacterError');
  });
  prelude.isHidden = (key) => typeof key === 'symbol' && ArrayPrototypeIncludes(members, key);

  const from = (specifier, names) => lazy(names, () => touched(specifier));
  const web = (name, names) => from(`ext:deno_web/${name}.js`, names);
  web('00_url', ['URL', 'URLSearchParams']);
  web('01_dom_exception', ['DOMException']);
  web('01_urlpattern', ['URLPattern']);
  web('02_event', ['Event', 'EventTarget', 'CustomEvent']);
  web('02_timers', ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval']);
  // deno_core's is enumerable.
  ObjectDefineProperty(globalThis, 'queueMicrotask', { __proto__: null, enumerable: false });
  web('03_abort_signal', ['AbortController', 'AbortSignal']);
  web('05_base64', ['atob', 'btoa']);
  web('06_streams', ['ReadableStream', 'ReadableStreamDefaultReader', 'ReadableStreamBYOBReader',
    'WritableStream', 'WritableStreamDefaultWriter', 'TransformStream']);
  web('08_text_encoding', ['TextEncoder', 'TextDecoder', 'TextEncoderStream',
    'TextDecoderStream']);
  web('09_file', ['Blob', 'File']);
  web('15_performance', ['performance', 'Performance', 'PerformanceEntry', 'PerformanceMark',
    'PerformanceMeasure']);
  from('ext:concave_web/headers.js', ['Headers']);
  from('ext:concave_web/form_data.js', ['FormData']);
  from('ext:concave_web/request.js', ['Request']);
  from('ext:concave_web/response.js', ['Response']);
  let dress = (fetch) => fetch;
  const dressed = () => dress(touched('ext:concave_web/fetch.js').fetch);
  prelude.dressFetch = (given) => {
    dress = given;
    return dressed;
  };
  lazy(['fetch'], () => ({ fetch: dressed() }));
  from('ext:concave_crypto/crypto.js', ['crypto', 'Crypto', 'SubtleCrypto', 'CryptoKey']);
})(globalThis.__concave);
