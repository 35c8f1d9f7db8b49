// `WebAssembly`: V8's own, with modules that the host keeps compiled.
//
// In: V8's object, which V8 adds to every context after the snapshot; `host.keepModule`. Out:
// `hooks.webAssembly(object)`, called when a context first reads the global. Invariant: what the
// standard says of it stays true; the promises it gives are settled without leaving the call.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { host, hooks, primordials } = prelude;
  const { lazy, section } = primordials;

  lazy(['webAssembly'], section(() => {
    const { Proxy, TypeError, apply, construct, defineProperty, getter, install, ownKeys } =
      primordials;

    /** `constructor`, telling `look` of everything it makes. */
    const watched = (constructor, look) => {
      const outer = new Proxy(constructor, {
        __proto__: null,
        construct(target, args, newTarget) {
          const made = construct(target, args, newTarget);
          look(made, args[0]);
          return made;
        },
      });
      defineProperty(constructor.prototype, 'constructor', { __proto__: null, value: outer });
      return outer;
    };

    /** What a `Response` of a wasm file holds (WebAssembly Web API, "streaming"). */
    const bytesOf = async (source) => {
      const response = await source;
      const { headers, ok } = response ?? {};
      if (headers === undefined || typeof response.arrayBuffer !== 'function') {
        throw new TypeError('WebAssembly: the argument must be a Response, or a promise for one.');
      }
      const type = headers.get('content-type');
      if (type === null || type.split(';')[0].trim().toLowerCase() !== 'application/wasm') {
        throw new TypeError('WebAssembly: the response must have the content type '
          + `application/wasm, and has ${type ?? 'none'}.`);
      }
      if (!ok) throw new TypeError(`WebAssembly: the response has the status ${response.status}.`);
      return response.arrayBuffer();
    };

    const webAssembly = (object) => {
      const { compile, instantiate, Instance, Memory, Module } = object;
      const exportsOf = getter(Instance.prototype, 'exports');

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

      const count = (instance, module) => {
        const exported = apply(exportsOf, instance, []);
        const names = ownKeys(exported);
        let memories = 0;
        for (let at = 0; at < names.length; at++) {
          const value = exported[names[at]];
          if (typeof value === 'object' && value instanceof Memory) {
            host.countMemory(value);
            memories++;
          }
        }
        host.countHidden(module, memories, instance);
      };

      install(object, {
        Module: watched(Module, host.keepModule),
        Instance: watched(Instance, count),
        Memory: watched(Memory, host.countMemory),
        async compile(bytes) { return compiled(bytes) ?? apply(compile, object, [bytes]); },
        async instantiate(source, imports = undefined) {
          const module = compiled(source);
          const instance = await apply(instantiate, object, [module ?? source, imports]);
          count(instance, module ?? source);
          return module === undefined ? instance : { module, instance };
        },
      });
      // Where V8 has them its embedder would have to feed it: here the body is read first.
      if (object.compileStreaming !== undefined) {
        const { compile: whole, instantiate: made } = object;
        install(object, {
          async compileStreaming(source) { return whole(await bytesOf(source)); },
          async instantiateStreaming(source, imports = undefined) {
            return made(await bytesOf(source), imports);
          },
        });
      }
      return object;
    };
    return { __proto__: null, webAssembly };
  }), hooks);
});
