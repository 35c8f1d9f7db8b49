// The last script of the prelude: functions must not find the host.
//
// In: a finished prelude. Out: nothing. Invariant: `__concave` is reachable from no global; the
// Rust host took its handle to `hooks` before, and the prelude's closures keep the rest.
(() => {
  'use strict';
  globalThis.__concave.pack();
  delete globalThis.__concave;
})();
