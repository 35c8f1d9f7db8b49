// The web classes, on the global object.
//
// In: deno_web's scripts and `js/web`. Out: globals, not enumerable, and how the console shows
// them. Invariant: what `convex-compat.md` section 8.1 lists, and URLPattern, CustomEvent,
// queueMicrotask, CryptoKey, which cannot break code; a test names them all.
((prelude) => {
  'use strict';
  const { core, primordials } = prelude.bootstrap;
  const { ObjectDefineProperty } = primordials;
  const { show } = core.loadExtScript('ext:concave_web/shown.js');
  const from = (specifier, names) => {
    const exports = core.loadExtScript(specifier);
    for (let at = 0; at < names.length; at++) {
      const name = names[at];
      ObjectDefineProperty(globalThis, name, {
        __proto__: null, value: exports[name], writable: true, enumerable: false,
        configurable: true,
      });
      show(prelude.shown, name, exports[name]);
    }
  };
  const web = (script, names) => from(`ext:deno_web/${script}.js`, names);
  web('00_url', ['URL', 'URLSearchParams']);
  web('01_dom_exception', ['DOMException']);
  web('01_urlpattern', ['URLPattern']);
  web('02_event', ['Event', 'EventTarget', 'CustomEvent']);
  core.loadExtScript('ext:deno_web/02_event.js').saveGlobalThisReference(globalThis);
  // deno_web's copies and transfers nothing: it is the half that `70_structured_clone.js` needs.
  const { DOMException } = core.loadExtScript('ext:deno_web/01_dom_exception.js');
  prelude.domException = (message, name) => new DOMException(message, name);
  prelude.host.structuredClone =
    core.loadExtScript('ext:deno_web/02_structured_clone.js').structuredClone;
  web('02_timers', ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval']);
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
  from('ext:concave_web/headers.js', ['Headers']);
  from('ext:concave_web/form_data.js', ['FormData']);
  from('ext:concave_web/request.js', ['Request']);
  from('ext:concave_web/response.js', ['Response']);
  from('ext:concave_web/fetch.js', ['fetch']);
  // A script that was not run by now is not in the snapshot.
  core.loadExtScript('ext:concave_web/multipart.js');
  from('ext:concave_crypto/crypto.js', ['crypto', 'Crypto', 'SubtleCrypto', 'CryptoKey']);
})(globalThis.__concave);
