// What functions and the host call on each other: `Convex`, `process.env`, `self`, `formatError`.
//
// In: `host.syscall`, `host.asyncSyscall`, `host.env`. Out: the globals the convex package expects,
// and `hooks.formatError`, which says of any thrown value what its author should read. Invariant:
// async syscalls are answered before they return (their promises are already settled), so a call is
// one uninterrupted run; `formatError` never throws, whatever proxy or getter it is given.
((prelude) => {
  'use strict';
  const { host } = prelude;
  const { Error, Proxy, TypeError, freeze, install, lazy } = prelude.primordials;

  const text = (value, what) => {
    if (typeof value !== 'string') throw new TypeError(`Convex.${what} takes strings`);
    return value;
  };

  const refuse = (what) => { throw new Error(`${what} is not supported by this host yet`); };

  const Convex = install({}, {
    syscall(op, json) { return host.syscall(text(op, 'syscall'), text(json, 'syscall')); },
    // `async` makes the settled promise; it works on V8's own Promise, whatever a user patched.
    async asyncSyscall(op, json) {
      text(op, 'asyncSyscall');
      text(json, 'asyncSyscall');
      const { guard } = prelude.asyncContext;
      return guard === undefined ? host.asyncSyscall(op, json)
        : guard(() => host.asyncSyscall(op, json));
    },
    jsSyscall(op, args) {
      // Only a worker of actions has it.
      if (host.jsSyscall === undefined) refuse(`Convex.jsSyscall("${op}")`);
      return host.jsSyscall(op, args);
    },
    op(name) { refuse(`Convex.op("${name}")`); },
    asyncOp(name) { refuse(`Convex.asyncOp("${name}")`); },
  });

  install(globalThis, { Convex: freeze(Convex), self: globalThis });

  // Generated code reads `process.env` in every app: this must not open the rest.
  lazy(['process'], () => {
    const readOnly = (_target, key) => {
      const name = prelude.open().errors().asText(key);
      throw new TypeError(`process.env.${name} cannot be changed by a function; `
        + 'set environment variables on the deployment');
    };
    const env = (key) => (typeof key === 'string' ? host.env(key) : undefined);
    // Not enumerable: a variable is seen only by naming it, which is a recorded read.
    const variables = new Proxy({ __proto__: null }, {
      __proto__: null,
      get(_target, key) { return env(key); },
      has(_target, key) { return env(key) !== undefined; },
      set: readOnly,
      defineProperty: readOnly,
      deleteProperty: readOnly,
      setPrototypeOf: readOnly,
      preventExtensions: readOnly,
    });

    return { __proto__: null, process: install({}, { env: variables }) };
  });
})(globalThis.__concave);

globalThis.__concave.later((prelude) => {
  'use strict';
  const { hooks, primordials } = prelude;
  const { apply, lazy, section } = primordials;

  prelude.errors = section(() => {
    /** Whether `value` was made by an Error constructor, as well as JavaScript can tell. */
    const isError = (value) => {
      const { ErrorPrototype, ObjectToString, SymbolToStringTag, getPrototypeOf } = primordials;
      if (typeof value !== 'object' || value === null) return false;
      if (!(SymbolToStringTag in value)) {
        return apply(ObjectToString, value, []) === '[object Error]';
      }
      for (let owner = getPrototypeOf(value); owner !== null; owner = getPrototypeOf(owner)) {
        if (owner === ErrorPrototype) return true;
      }
      return false;
    };

    /** `use(value)`, or `undefined` where a getter or a trap throws. */
    const quietly = (use, value) => {
      try {
        return use(value);
      } catch {
        return undefined;
      }
    };

    const asText = (value) => {
      if (typeof value === 'symbol') return apply(primordials.SymbolToString, value, []);
      return quietly((given) => `${given}`, value) ?? 'an object that cannot be shown';
    };

    const convexData = (error) => {
      const { JSONStringify, SymbolFor, isObject } = primordials;
      if (!isObject(error)) return undefined;
      const symbol = quietly((given) => given.ConvexErrorSymbol, error);
      // The convex package has turned `data` into JSON text already.
      if (symbol !== undefined && quietly((given) => given[symbol], error) === true) {
        const data = quietly((given) => given.data, error);
        return typeof data === 'string' ? data : 'null';
      }
      if (quietly((given) => SymbolFor('ConvexError') in given, error) !== true) return undefined;
      return quietly((given) => JSONStringify(given.data), error) ?? 'null';
    };

    const formatError = (error) => {
      const described = { __proto__: null, name: undefined, message: undefined, stack: undefined,
        data: convexData(error), isConvexError: false, text: '' };
      described.isConvexError = described.data !== undefined;
      if (quietly(isError, error) !== true && !described.isConvexError) {
        described.text = `Uncaught ${asText(error)}`;
        return described;
      }
      const read = (key) => quietly((given) => {
        const value = given[key];
        return value === undefined ? undefined : asText(value);
      }, error);
      const name = read('name') ?? 'Error';
      const message = read('message') ?? '';
      const stack = quietly((given) => given.stack, error);
      described.name = name;
      described.message = message;
      described.stack = typeof stack === 'string' ? stack : undefined;
      const joined = name === '' ? message : message === '' ? name : `${name}: ${message}`;
      described.text = `Uncaught ${joined}`;
      return described;
    };

    return { __proto__: null, isError, asText, formatError };
  });
  lazy(['formatError'], prelude.errors, hooks);
});
