// AsyncLocalStorage and AsyncResource.
//
// In: `host.continuationGet()` and `host.continuationSet(frame)` where the host offers V8's
// continuation-preserved data, which V8 itself carries across `await` and `then`. Out: the two
// globals, and `__concave.asyncContext` for other files. Invariant:
// with the host's pair a store follows every continuation; without it a store holds only while
// `run` is on the stack (after an `await` the store of whoever resumed is seen). A frame is never
// changed once made: each `run` makes a new one that points to its parent.
((prelude) => {
  'use strict';
  /**
   * `frame`: the innermost store of this context. `guard(run)`: runs `run` and puts the frame back,
   * for calls that may run other code; there only once a store can exist.
   */
  const context = { __proto__: null, frame: undefined, guard: undefined };
  prelude.asyncContext = context;
})(globalThis.__concave);

globalThis.__concave.later((prelude) => {
  'use strict';
  const { asyncContext: context, host, primordials } = prelude;
  const { apply, lazy, section } = primordials;

  lazy(['AsyncLocalStorage', 'AsyncResource'], section(() => {
    const { SymbolToStringTag, TypeError } = primordials;
    const NONE = {};

    const carried = typeof host.continuationGet === 'function';
    const current = () => (carried ? host.continuationGet() : context.frame);
    const enter = (frame) => {
      if (carried) host.continuationSet(frame);
      else context.frame = frame;
    };

    const within = (frame, run) => {
      const before = current();
      enter(frame);
      try {
        return run();
      } finally {
        enter(before);
      }
    };
    context.guard = (run) => within(current(), run);

    const find = (owner) => {
      for (let frame = current(); frame !== undefined; frame = frame.parent) {
        if (frame.owner === owner) return frame.store;
      }
      return NONE;
    };
    const extend = (owner, store) => ({ __proto__: null, owner, store, parent: current() });
    const need = (value, what) => {
      if (typeof value !== 'function') throw new TypeError(`${what} takes a function`);
    };

    class AsyncLocalStorage {
      #initial;

      constructor(options = undefined) { this.#initial = options?.defaultValue; }

      static bind(callback) {
        need(callback, 'AsyncLocalStorage.bind');
        const frame = current();
        return function bound(...parts) {
          return within(frame, () => apply(callback, this, parts));
        };
      }

      static snapshot() {
        const frame = current();
        return (callback, ...parts) => within(frame, () => apply(callback, undefined, parts));
      }

      getStore() {
        const store = find(this);
        return store === NONE ? this.#initial : store;
      }

      run(store, callback, ...parts) {
        need(callback, 'AsyncLocalStorage.run');
        return within(extend(this, store), () => apply(callback, undefined, parts));
      }

      exit(callback, ...parts) {
        need(callback, 'AsyncLocalStorage.exit');
        return within(extend(this, undefined), () => apply(callback, undefined, parts));
      }

      enterWith(store) { enter(extend(this, store)); }

      disable() { enter(extend(this, this.#initial)); }

      get [SymbolToStringTag]() { return 'AsyncLocalStorage'; }
    }

    class AsyncResource {
      #frame = current();
      #id = ++prelude.call.resources;
      #type;

      constructor(type) {
        if (typeof type !== 'string') throw new TypeError('AsyncResource needs a type, a string');
        this.#type = type;
      }

      static bind(callback, type = 'bound-anonymous-fn', receiver = undefined) {
        return new AsyncResource(type).bind(callback, receiver);
      }

      runInAsyncScope(callback, receiver, ...parts) {
        need(callback, 'AsyncResource.runInAsyncScope');
        return within(this.#frame, () => apply(callback, receiver, parts));
      }

      bind(callback, receiver = undefined) {
        need(callback, 'AsyncResource.bind');
        const frame = this.#frame;
        return function bound(...parts) {
          return within(frame, () => apply(callback, receiver ?? this, parts));
        };
      }

      asyncId() { return this.#id; }
      triggerAsyncId() { return 0; }
      emitDestroy() { return this; }
      get type() { return this.#type; }
      get [SymbolToStringTag]() { return 'AsyncResource'; }
    }
    return { __proto__: null, AsyncLocalStorage, AsyncResource };
  }));
});
