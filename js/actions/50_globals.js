// The web classes, on the global object.
//
// In: deno_web's scripts and ours. Out: globals, not enumerable. Invariant: only what
// `convex-compat.md` section 8.1 lists.
((bootstrap) => {
  'use strict';
  const { core, primordials } = bootstrap;
  const { ObjectDefineProperty } = primordials;
  const from = (script, names, extension = 'deno_web') => {
    const exports = core.loadExtScript(`ext:${extension}/${script}.js`);
    for (const name of names) {
      ObjectDefineProperty(globalThis, name, {
        __proto__: null, value: exports[name], writable: true, enumerable: false,
        configurable: true,
      });
    }
  };
  from('00_url', ['URL', 'URLSearchParams']);
  from('01_dom_exception', ['DOMException']);
  from('02_event', ['Event', 'EventTarget', 'CustomEvent']);
  core.loadExtScript('ext:deno_web/02_event.js').saveGlobalThisReference(globalThis);
  from('02_structured_clone', ['structuredClone']);
  from('02_timers', ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval']);
  from('03_abort_signal', ['AbortController', 'AbortSignal']);
  from('05_base64', ['atob', 'btoa']);
  from('06_streams', ['ReadableStream', 'ReadableStreamDefaultReader', 'ReadableStreamBYOBReader',
    'WritableStream', 'WritableStreamDefaultWriter', 'TransformStream']);
  from('08_text_encoding', ['TextEncoder', 'TextDecoder', 'TextEncoderStream',
    'TextDecoderStream']);
  from('09_file', ['Blob', 'File']);
  from('15_performance', ['performance', 'Performance', 'PerformanceEntry', 'PerformanceMark',
    'PerformanceMeasure']);
  from('crypto', ['crypto', 'Crypto', 'SubtleCrypto', 'CryptoKey'], 'concave_crypto');
})(globalThis.__bootstrap);
