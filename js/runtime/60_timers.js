// Timers and fetch: things that queries and mutations cannot have; and queueMicrotask.
//
// In: `__concave.call.kind`. Out: the globals, and `__concave.refuse(what)`, which throws Convex's
// text. Invariant: nothing here ever waits; what cannot work throws at once, at the caller's line.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { primordials } = prelude;
  const { apply, lazy, section } = primordials;

  const refuse = (what) => {
    if (prelude.call.kind === 'import') {
      throw new primordials.Error(`${what} unsupported at import time`);
    }
    throw new primordials.Error(`Can't use ${what} in queries and mutations. Please consider using `
      + 'an action. See https://docs.convex.dev/functions/actions for more details.');
  };
  prelude.refuse = refuse;

  const names = ['setTimeout', 'setInterval', 'clearTimeout', 'clearInterval', 'fetch',
    'queueMicrotask'];
  prelude.waits = section(() => ({
    __proto__: null,
    setTimeout() { refuse('setTimeout'); },
    setInterval() { refuse('setInterval'); },
    // No timer ever runs, so there is never one to clear.
    clearTimeout() {},
    clearInterval() {},
    // Throws instead of rejecting: a rejection nobody awaits at import time would be lost.
    fetch() { refuse('fetch()'); },
    queueMicrotask(callback) {
      if (typeof callback !== 'function') {
        throw new primordials.TypeError('queueMicrotask takes a function');
      }
      const start = apply(primordials.PromiseResolve, primordials.Promise, [undefined]);
      apply(primordials.PromiseThen, start, [() => { callback(); }]);
    },
  }));
  lazy(names, prelude.waits);
});
