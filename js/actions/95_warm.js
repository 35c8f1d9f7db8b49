// What every run calls, called once while the snapshot is made: V8 keeps it compiled there.
//
// In: `hooks.run`, and stand-ins for the ops that ask a host. Out: nothing. Invariant: what a run
// leaves behind is undone; no module is named ''.
((prelude) => {
  'use strict';
  const { bootstrap, hooks } = prelude;
  const { ops } = bootstrap.core;
  const { op_action_async_syscall: asyncSyscall, op_action_done: done } = ops;
  ops.op_action_async_syscall = async () => ({ json: 'null', body: null, error: null });
  ops.op_action_done = () => {
    ops.op_action_async_syscall = asyncSyscall;
    ops.op_action_done = done;
    hooks.forget('');
  };
  const warm = {
    async invokeAction(_requestId, args) {
      await Convex.asyncSyscall('', args);
      return `${[Math.random(), Date.now(), new Date()].length}`;
    },
  };
  const target = { module: '', export: 'warm', path: '',
    import: { nowMs: 0, seed: [0, 0, 0, 0, 0, 0, 0, 0] } };
  const load = () => {
    Math.random();
    warm.invokeAction('', '[]');
    return Promise.resolve({ warm });
  };
  ops.op_void_async_deferred();
  hooks.prepare(load, target);
  hooks.run(load, target, '', '[]');
})(globalThis.__concave);
