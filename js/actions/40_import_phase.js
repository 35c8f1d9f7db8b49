// Clock and randomness while an action's modules are evaluated: fixed by the push.
//
// In: `importPhase.begin({ nowMs, seed })` before the first import, `end()` after it. Out: the
// clock of `Date`, and `Math.random`, which are the machine's at any other time. Invariant: equal
// pushes give equal values at module level, in every run and every function kind
// (`convex-compat.md` section 8.3).
((prelude) => {
  'use strict';
  const { bootstrap, primordials } = prelude;
  const { install } = primordials;
  const { DateNow, MathRandom } = bootstrap.primordials;

  let frozen;
  prelude.importPhase = {
    __proto__: null,
    begin({ nowMs, seed }) {
      frozen = { __proto__: null, nowMs, stream: prelude.chacha().start(seed) };
    },
    end() { frozen = undefined; },
  };
  prelude.now = () => frozen === undefined ? DateNow() : frozen.nowMs;

  install(Math, {
    random() {
      if (frozen === undefined) return MathRandom();
      const high = prelude.chacha().next(frozen.stream) >>> 5;
      return (high * 67108864 + (prelude.chacha().next(frozen.stream) >>> 6)) / 9007199254740992;
    },
  });
})(globalThis.__concave);
