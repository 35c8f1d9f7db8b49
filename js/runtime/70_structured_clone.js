// structuredClone, and the DataCloneError of V8's serializer.
//
// In: a value, and buffers to transfer; `host.structuredClone(value, brand, receive, fail)`; what
// is cloned of platform objects (`68_platform.js`). Out: its copy. Invariant: whatever cannot be
// copied throws a DOMException named DataCloneError; what the value's own getters throw passes
// through as it is.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { host, hooks, primordials } = prelude;
  const { apply, lazy, section } = primordials;

  prelude.cloning = section(() => {
    const cloneError = (message) => prelude.domException(message, 'DataCloneError');

    // Called by the host with V8's text.
    const fail = (message) => {
      const isStream = message === 'Unsupported object type';
      throw cloneError(isStream ? 'A stream could not be cloned.' : message);
    };

    const listed = (transfer) => {
      const { ArrayBufferByteLength, ArrayPush, SymbolIterator } = primordials;
      const buffers = [];
      const iterator = apply(transfer[SymbolIterator], transfer, []);
      for (let step = iterator.next(); !step.done; step = iterator.next()) {
        try {
          apply(ArrayBufferByteLength, step.value, []);
        } catch {
          throw cloneError('Only an ArrayBuffer can be transferred');
        }
        for (let at = 0; at < buffers.length; at++) {
          if (buffers[at] === step.value) throw cloneError('A buffer is transferred twice');
        }
        apply(ArrayPush, buffers, [step.value]);
      }
      return buffers;
    };

    const { structuredClone } = {
      structuredClone(value, options) {
        if (arguments.length === 0) {
          throw new primordials.TypeError('structuredClone needs 1 argument');
        }
        const transfer = options?.transfer;
        const buffers = transfer === undefined || transfer === null ? [] : listed(transfer);
        const { brand, receive } = prelude.platform();
        const copy = prelude.copyException?.(value)
          ?? host.structuredClone(value, brand, receive, fail);
        // Copied, then taken away from the sender: what it sees is what a transfer does.
        for (let at = 0; at < buffers.length; at++) {
          apply(primordials.ArrayBufferTransfer, buffers[at], []);
        }
        return copy;
      },
    };
    primordials.defineProperty(structuredClone, 'length', {
      __proto__: null, value: 1, configurable: true,
    });
    return { __proto__: null, structuredClone };
  });
  lazy(['structuredClone'], prelude.cloning);

  // Makes the error of a serializer that failed; for hosts that throw it themselves.
  lazy(['dataCloneError'], () => ({
    dataCloneError: (message) => prelude.domException(`${message}`, 'DataCloneError'),
  }), hooks);
});
