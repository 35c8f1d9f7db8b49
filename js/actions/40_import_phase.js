// Clock and randomness while an action's modules are evaluated: fixed by the push.
//
// In: `importPhase.begin({ nowMs, seed })` before the first import, `end()` after it. Out: `Date`
// and `Math.random`, which are the machine's at any other time. Invariant: equal pushes give equal
// values at module level, in every run and every function kind (`convex-compat.md` section 8.3).
((prelude) => {
  'use strict';
  const { bootstrap, primordials } = prelude;
  const { apply, construct, defineProperty, install } = primordials;
  const { DateNow, MathRandom } = bootstrap.primordials;

  let frozen;
  prelude.importPhase = {
    __proto__: null,
    begin({ nowMs, seed }) {
      frozen = { __proto__: null, nowMs, stream: prelude.chacha().start(seed) };
    },
    end() { frozen = undefined; },
  };
  const now = () => frozen === undefined ? DateNow() : frozen.nowMs;

  install(Math, {
    random() {
      if (frozen === undefined) return MathRandom();
      const high = prelude.chacha().next(frozen.stream) >>> 5;
      return (high * 67108864 + (prelude.chacha().next(frozen.stream) >>> 6)) / 9007199254740992;
    },
  });

  const NativeDate = primordials.Date;
  // Not a class: Date() without `new` is legal and gives text.
  function Date(year, month, date, hours, minutes, seconds, ms) {
    if (new.target === undefined) {
      return apply(primordials.DateToString, construct(NativeDate, [now()]), []);
    }
    return construct(NativeDate, arguments.length === 0 ? [now()] : arguments, new.target);
  }
  install(Date, {
    now() { return now(); },
    parse: NativeDate.parse,
    UTC: NativeDate.UTC,
  });
  defineProperty(Date, 'prototype', {
    __proto__: null, value: NativeDate.prototype, writable: false,
  });
  install(NativeDate.prototype, { constructor: Date });
  install(globalThis, { Date });
})(globalThis.__concave);
