// Clock and randomness: frozen and seeded, per call.
//
// In: `hooks.begin(seed, nowMs, kind)` before every call and before module evaluation: eight
// 32-bit words of seed, milliseconds since the epoch, 'import', 'query', 'mutation' or 'action'.
// Out: `Math.random`, `Intl.DateTimeFormat` without arguments, `WeakRef`, `FinalizationRegistry`,
// and `__concave.{call,now,random}` for other files. Invariant: equal inputs give equal results;
// what a call looked at is told to the host once (1 time, 2 randomness), and nothing while modules
// are imported, where both are fixed by the push.
((prelude) => {
  'use strict';
  const { host, hooks } = prelude;
  const { apply, defineProperty, getter, install } = prelude.primordials;
  const { RegExpExec, WeakMapGet, WeakMapSet } = prelude.primordials;

  const call = { __proto__: null, kind: 'import', nowMs: 0, seed: undefined, stream: undefined,
    timeSeen: false, randomnessSeen: false, console: undefined, resources: 0,
    marked: false, forget: undefined };
  prelude.call = call;

  hooks.begin = (seed, nowMs, kind) => {
    call.kind = kind;
    call.nowMs = nowMs;
    call.seed = seed;
    call.stream = undefined;
    call.timeSeen = kind === 'import';
    call.randomnessSeen = kind === 'import';
    call.console = undefined;
    call.resources = 0;
    if (call.marked) call.forget?.();
    call.marked = false;
    // `RegExp.lastMatch` and the like say what the prelude or an import has matched.
    apply(RegExpExec, /(?:)/, ['']);
    // A frame of an earlier call in this isolate, where the host carries frames.
    host.continuationSet?.(undefined);
    prelude.asyncContext.frame = undefined;
  };

  const now = () => {
    if (!call.timeSeen) {
      call.timeSeen = true;
      host.observe(1);
    }
    return call.nowMs;
  };

  /** The next 32 bits of the call's stream. */
  const random = () => {
    if (!call.randomnessSeen) {
      call.randomnessSeen = true;
      host.observe(2);
    }
    call.stream ??= prelude.chacha().start(call.seed);
    return prelude.chacha().next(call.stream);
  };
  prelude.random = random;

  install(Math, {
    random() {
      const high = random() >>> 5;
      return (high * 67108864 + (random() >>> 6)) / 9007199254740992;
    },
  });

  // V8 reads the machine's clock where these two get no date.
  const FormatPrototype = Intl.DateTimeFormat.prototype;
  const nativeFormat = getter(FormatPrototype, 'format');
  const nativeParts = FormatPrototype.formatToParts;
  install(FormatPrototype, {
    get format() {
      const native = apply(nativeFormat, this, []);
      const { formats } = prelude.open().rare();
      let wrapper = apply(WeakMapGet, formats, [native]);
      if (wrapper === undefined) {
        wrapper = (date) => native(date === undefined ? now() : date);
        defineProperty(wrapper, 'name', { __proto__: null, value: '' });
        apply(WeakMapSet, formats, [native, wrapper]);
      }
      return wrapper;
    },
    formatToParts(date) {
      return apply(nativeParts, this, [date === undefined ? now() : date]);
    },
  });

  // Absent by V8's flags, or needing threads that functions do not have.
  delete globalThis.SharedArrayBuffer;
  delete globalThis.Atomics;

  prelude.now = now;
})(globalThis.__concave);

globalThis.__concave.later((prelude) => {
  'use strict';
  const { primordials } = prelude;
  const { apply, defineProperty, lazy, section } = primordials;

  prelude.rare = section(() => {
    function makeWeak() {
      const { SymbolKeyFor, SymbolToStringTag, TypeError, WeakSet, isObject } = primordials;
      const canBeHeld = (value) =>
        isObject(value) || (typeof value === 'symbol' && SymbolKeyFor(value) === undefined);
      const need = (value, what) => {
        if (!canBeHeld(value)) throw new TypeError(`${what} must be an object or a unique symbol`);
      };

      class WeakRef {
        #target;

        constructor(target) {
          need(target, 'WeakRef: target');
          this.#target = target;
        }

        deref() { return this.#target; }
      }

      class FinalizationRegistry {
        #tokens = new WeakSet();

        constructor(cleanup) {
          if (typeof cleanup !== 'function') {
            throw new TypeError('FinalizationRegistry: cleanup must be callable');
          }
        }

        register(target, held, token = undefined) {
          need(target, 'FinalizationRegistry.register: target');
          if (target === held) throw new TypeError('The target cannot be its own held value');
          if (token === undefined) return;
          need(token, 'FinalizationRegistry.register: token');
          apply(primordials.WeakSetAdd, this.#tokens, [token]);
        }

        unregister(token) {
          need(token, 'FinalizationRegistry.unregister: token');
          return apply(primordials.WeakSetDelete, this.#tokens, [token]);
        }
      }
      const tag = (made, value) => defineProperty(made.prototype, SymbolToStringTag, {
        __proto__: null, value, configurable: true,
      });
      tag(WeakRef, 'WeakRef');
      tag(FinalizationRegistry, 'FinalizationRegistry');
      defineProperty(FinalizationRegistry.prototype.register, 'length', {
        __proto__: null, value: 2, configurable: true,
      });
      return prelude.platform().dress({ __proto__: null, WeakRef, FinalizationRegistry });
    }

    return { __proto__: null, formats: new primordials.WeakMap(), ...makeWeak() };
  });
  // V8's own let a function see the garbage collector.
  lazy(['WeakRef', 'FinalizationRegistry'], prelude.rare);
});
