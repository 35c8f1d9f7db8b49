// `WebAssembly`: V8's own, with modules that the host keeps compiled.
//
// In: V8's object, which V8 adds to every context after the snapshot; `host.keepModule`. Out:
// `hooks.webAssembly(object)`, called when a context first reads the global. Invariant: what the
// standard says of it stays true; the promises it gives are settled without leaving the call.
((prelude) => {
  'use strict';
  const { host, hooks, primordials } = prelude;
  const { section } = primordials;

  const watch = section(() => {
    const { Proxy, apply, construct, defineProperty, install } = primordials;
    const { PromiseResolve, PromiseThen } = primordials;

    /** `constructor`, telling `look` of everything it makes. */
    const watched = (constructor, look) => {
      const outer = new Proxy(constructor, {
        __proto__: null,
        construct(target, args, newTarget) {
          const made = construct(target, args, newTarget);
          look(made);
          return made;
        },
      });
      defineProperty(constructor.prototype, 'constructor', { __proto__: null, value: outer });
      return outer;
    };

    return (object) => {
      const { compile, instantiate, Instance, Memory, Module } = object;
      /** The module of these bytes; `undefined` where V8 must say what is wrong with them. */
      const compiled = (source) => {
        try {
          const module = new Module(source);
          host.keepModule(module);
          return module;
        } catch {
          return undefined;
        }
      };
      install(object, {
        Module: watched(Module, host.keepModule),
        Instance: watched(Instance, host.countMemory),
        Memory: watched(Memory, host.countMemory),
        compile(bytes) {
          const module = compiled(bytes);
          return module === undefined ? apply(compile, object, [bytes])
            : apply(PromiseResolve, primordials.Promise, [module]);
        },
        instantiate(source, imports = undefined) {
          const module = compiled(source);
          if (module === undefined) return apply(instantiate, object, [source, imports]);
          const started = apply(instantiate, object, [module, imports]);
          return apply(PromiseThen, started, [(instance) => ({ module, instance })]);
        },
      });
      return object;
    };
  });
  hooks.webAssembly = (object) => watch()(object);
})(globalThis.__concave);
