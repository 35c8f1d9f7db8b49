// What the shared parts of `js/runtime` find in a worker: `__concave` over deno_core's ops.
//
// In: `__bootstrap.core.ops`. Out: `__concave = { host, hooks, call }`, as `js/README.md` says.
// Invariant: nothing of it is left on the global object when user code runs (`90_run.js`).
((bootstrap) => {
  'use strict';
  const { core, primordials } = bootstrap;
  const { ops } = core;
  const { DateNow, ObjectDefineProperty } = primordials;

  const hooks = { __proto__: null };
  ops.op_lazy_hooks(hooks);
  const host = {
    __proto__: null,
    /** Data properties whose values are made when they are first read. */
    lazy(target, names, part) { ops.op_lazy(target, names, part); },
    log(level, parts) { ops.op_action_log(level, parts); },
    namedKeys(value) { return ops.op_get_non_index_property_names(value, 0); },
    /** The built-in class whose internal slots a value has. */
    slots(value) {
      if (ops.op_is_map(value)) return 'Map';
      if (ops.op_is_set(value)) return 'Set';
      if (ops.op_is_date(value)) return 'Date';
      if (ops.op_is_reg_exp(value)) return 'RegExp';
      if (ops.op_is_array_buffer(value)) return 'ArrayBuffer';
      if (ops.op_is_number_object(value)) return 'Number';
      if (ops.op_is_string_object(value)) return 'String';
      if (ops.op_is_boolean_object(value)) return 'Boolean';
      if (ops.op_is_big_int_object(value)) return 'BigInt';
      return ops.op_is_symbol_object(value) ? 'Symbol' : undefined;
    },
    env(name) { return ops.op_action_env(name) ?? undefined; },
    syscall(op) { return ops.op_action_syscall(op); },
    async asyncSyscall(op, json) {
      return host.unwrap(await ops.op_action_async_syscall(op, json));
    },
    /** The JSON text of an answer, or its error thrown. */
    unwrap({ json, error: thrown }) {
      if (thrown === null) return json;
      const error = new Error(thrown.message);
      // The convex package makes a ConvexError of an error with data.
      if (typeof thrown.data === 'string') error.data = JSON.parse(thrown.data);
      throw error;
    },
    // What deno_web's classes know.
    cloneBrand: core.hostObjectBrand,
    cloneMakers: core.getCloneableDeserializers(),
    structuredClone(value, brand, receive, fail) {
      return ops.op_clone(value, brand, receive, fail);
    },
    // A worker's modules live as long as their run.
    keepModule() {},
    countMemory(memory) { ops.op_wasm_memory(memory); },
    countHidden(module, exported, instance) { ops.op_wasm_hidden(instance, module, exported); },
    // `90_run.js` fills it in.
    jsSyscall: undefined,
    continuationGet() { return core.getAsyncContext(); },
    continuationSet(frame) { core.setAsyncContext(frame); },
  };
  // `begin` makes a new one for each query or mutation; a worker's context has one run.
  const call = { __proto__: null, console: undefined };
  ObjectDefineProperty(call, 'nowMs', { __proto__: null, get: DateNow, enumerable: true });

  globalThis.__concave = { __proto__: null, host, hooks, call, bootstrap };
})(globalThis.__bootstrap);
