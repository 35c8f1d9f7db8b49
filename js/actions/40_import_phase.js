// Clock and randomness while an action's modules are evaluated: fixed by the push.
//
// In: `importPhase.begin({ nowMs, seed })` before the first import, `end()` after it. Out: the
// clock of `Date`, and `Math.random`, which are the machine's at any other time. Invariant: equal
// pushes give equal values at module level, in every run and every function kind
// (`convex-compat.md` section 8.3). Files of tests have randomness of their own
// (`js/test/random.js`).
((prelude) => {
  'use strict';
  const { bootstrap, primordials } = prelude;
  const { install } = primordials;
  const { DateNow, MathRandom } = bootstrap.primordials;
  const { ops } = bootstrap.core;

  let frozen;
  let drawn;
  prelude.importPhase = {
    __proto__: null,
    begin({ nowMs, seed }) {
      frozen = { __proto__: null, nowMs, stream: prelude.chacha().start(seed) };
    },
    end() { frozen = undefined; },
    /** From now on all randomness is what `next` gives, 32 bits at a time. */
    drawFrom(next) {
      drawn = next;
      ops.op_crypto_fill = (bytes) => {
        for (let at = 0; at < bytes.length; at++) bytes[at] = next();
      };
    },
  };
  prelude.now = () => frozen === undefined ? DateNow() : frozen.nowMs;

  install(Math, {
    random() {
      if (frozen === undefined && drawn === undefined) return MathRandom();
      const next = drawn ?? (() => prelude.chacha().next(frozen.stream));
      const high = next() >>> 5;
      return (high * 67108864 + (next() >>> 6)) / 9007199254740992;
    },
  });
})(globalThis.__concave);
