// The web classes, on the global object.
//
// In: deno_web's scripts and `js/web`. Out: globals, not enumerable. Invariant: what
// `convex-compat.md` section 8.1 lists, and URLPattern, CustomEvent, queueMicrotask, CryptoKey,
// which cannot break code; tests/globals.test.mjs names them all.
((prelude) => {
  'use strict';
  const { core, primordials } = prelude.bootstrap;
  const { ObjectDefineProperty } = primordials;
  const { apply } = prelude.primordials;
  const { dress } = prelude.open().platform();
  const from = (specifier, names) => {
    const exports = dress(core.loadExtScript(specifier));
    for (let at = 0; at < names.length; at++) {
      const name = names[at];
      ObjectDefineProperty(globalThis, name, {
        __proto__: null, value: exports[name], writable: true, enumerable: false,
        configurable: true,
      });
    }
  };
  const web = (script, names) => from(`ext:deno_web/${script}.js`, names);
  web('00_url', ['URL', 'URLSearchParams']);
  web('01_dom_exception', ['DOMException']);
  web('01_urlpattern', ['URLPattern']);
  web('02_event', ['Event', 'EventTarget', 'CustomEvent']);
  core.loadExtScript('ext:deno_web/02_event.js').saveGlobalThisReference(globalThis);
  const { DOMException } = core.loadExtScript('ext:deno_web/01_dom_exception.js');
  prelude.domException = (message, name) => new DOMException(message, name);
  // Its members are own properties, under symbols.
  const members = primordials.ReflectOwnKeys(new DOMException());
  prelude.isHidden = (key) =>
    typeof key === 'symbol' && apply(prelude.primordials.ArrayIncludes, members, [key]);
  // deno_web's own asks deno_core's serializer, which ends the process where user code gives a
  // platform object's parts a type of its own.
  core.loadExtScript('ext:deno_web/02_structured_clone.js').structuredClone =
    prelude.cloning().structuredClone;
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
  // A run's blobs end with it: nobody could ask for such a URL.
  delete URL.createObjectURL;
  delete URL.revokeObjectURL;
  web('15_performance', ['performance', 'Performance', 'PerformanceEntry', 'PerformanceMark',
    'PerformanceMeasure']);
  const { performance, setTimeOrigin } = core.loadExtScript('ext:deno_web/15_performance.js');
  const { clearMarks, clearMeasures } = performance;
  // What was marked before, by another run in this context or while modules were imported, is gone.
  prelude.call.forget = () => {
    setTimeOrigin();
    apply(clearMarks, performance, []);
    apply(clearMeasures, performance, []);
  };
  from('ext:concave_web/headers.js', ['Headers']);
  from('ext:concave_web/form_data.js', ['FormData']);
  from('ext:concave_web/request.js', ['Request']);
  from('ext:concave_web/response.js', ['Response']);
  from('ext:concave_web/fetch.js', ['fetch']);
  // A script that was not run by now is not in the snapshot.
  core.loadExtScript('ext:concave_web/multipart.js');
  from('ext:concave_crypto/crypto.js', ['crypto', 'Crypto', 'SubtleCrypto', 'CryptoKey']);
})(globalThis.__concave);
