// DOMException, Event, CustomEvent, EventTarget, AbortSignal, AbortController.
//
// In: nothing of the host. Out: the globals, `__concave.domException(message, name)` and
// `__concave.events()` for other files. Invariant: dispatch is synchronous and in order of
// registration; what a listener throws becomes an unhandled rejection, so it fails the function
// instead of vanishing.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { primordials } = prelude;
  const { apply, lazy, section } = primordials;

  const classes = section(() => {
    const DOMException = makeDOMException();

    function makeDOMException() {
      const { Error, create, defineProperty, SymbolToStringTag } = primordials;
      const codes = {
        __proto__: null,
        IndexSizeError: 1, HierarchyRequestError: 3, WrongDocumentError: 4,
        InvalidCharacterError: 5, NoModificationAllowedError: 7, NotFoundError: 8,
        NotSupportedError: 9, InUseAttributeError: 10, InvalidStateError: 11, SyntaxError: 12,
        InvalidModificationError: 13, NamespaceError: 14, InvalidAccessError: 15,
        TypeMismatchError: 17, SecurityError: 18, NetworkError: 19, AbortError: 20,
        URLMismatchError: 21, QuotaExceededError: 22, TimeoutError: 23, InvalidNodeTypeError: 24,
        DataCloneError: 25,
      };
      const constants = [
        'INDEX_SIZE_ERR', 'DOMSTRING_SIZE_ERR', 'HIERARCHY_REQUEST_ERR', 'WRONG_DOCUMENT_ERR',
        'INVALID_CHARACTER_ERR', 'NO_DATA_ALLOWED_ERR', 'NO_MODIFICATION_ALLOWED_ERR',
        'NOT_FOUND_ERR', 'NOT_SUPPORTED_ERR', 'INUSE_ATTRIBUTE_ERR', 'INVALID_STATE_ERR',
        'SYNTAX_ERR', 'INVALID_MODIFICATION_ERR', 'NAMESPACE_ERR', 'INVALID_ACCESS_ERR',
        'VALIDATION_ERR', 'TYPE_MISMATCH_ERR', 'SECURITY_ERR', 'NETWORK_ERR', 'ABORT_ERR',
        'URL_MISMATCH_ERR', 'QUOTA_EXCEEDED_ERR', 'TIMEOUT_ERR', 'INVALID_NODE_TYPE_ERR',
        'DATA_CLONE_ERR',
      ];

      class DOMException extends Error {
        #name;

        constructor(message = '', options = 'Error') {
          const detailed = primordials.isObject(options);
          super(`${message}`, detailed && 'cause' in options ? options : create(null));
          const name = detailed ? options.name : options;
          this.#name = name === undefined ? 'Error' : `${name}`;
        }

        static {
          // V8's serializer takes it for a plain Error.
          prelude.copyException = (value) => {
            if (!primordials.isObject(value) || !(#name in value)) return undefined;
            const copy = new DOMException(value.message, value.#name);
            return defineProperty(copy, 'stack', { __proto__: null, value: value.stack,
              writable: true, enumerable: false, configurable: true });
          };
        }

        get name() { return this.#name; }

        get code() { return codes[this.#name] ?? 0; }

        get [SymbolToStringTag]() { return 'DOMException'; }
      }
      for (let at = 0; at < constants.length; at++) {
        const descriptor = { __proto__: null, value: at + 1, enumerable: true };
        defineProperty(DOMException, constants[at], descriptor);
        defineProperty(DOMException.prototype, constants[at], descriptor);
      }
      return DOMException;
    }

    const events = section(() => {
      const { ArrayPush, ArraySlice, ArraySplice, TypeError, isObject } = primordials;
      const { Promise, PromiseReject, SymbolToStringTag, install } = primordials;
      const inner = { __proto__: null };

      class Event {
        #type;
        #init;
        #state = { __proto__: null, target: null, phase: 0, stopped: false, ended: false,
          prevented: false, busy: false, passive: false };

        static {
          inner.state = (event) => event.#state;
          inner.isEvent = (value) => isObject(value) && #state in value;
        }

        constructor(type, init = undefined) {
          if (arguments.length === 0) throw new TypeError('Event needs a type');
          this.#type = `${type}`;
          this.#init = { __proto__: null, bubbles: Boolean(init?.bubbles),
            cancelable: Boolean(init?.cancelable), composed: Boolean(init?.composed) };
        }

        get type() { return this.#type; }
        get target() { return this.#state.target; }
        get srcElement() { return this.#state.target; }
        get currentTarget() { return this.#state.busy ? this.#state.target : null; }
        get bubbles() { return this.#init.bubbles; }
        get cancelable() { return this.#init.cancelable; }
        get composed() { return this.#init.composed; }
        get defaultPrevented() { return this.#state.prevented; }
        get eventPhase() { return this.#state.phase; }
        get isTrusted() { return false; }
        // A clock would be an observed time; no time passes inside a function anyway.
        get timeStamp() { return 0; }
        get returnValue() { return !this.#state.prevented; }
        set returnValue(value) { if (!value) this.preventDefault(); }
        get cancelBubble() { return this.#state.stopped; }
        set cancelBubble(value) { if (value) this.#state.stopped = true; }
        composedPath() { return this.#state.busy ? [this.#state.target] : []; }
        stopPropagation() { this.#state.stopped = true; }
        stopImmediatePropagation() {
          this.#state.stopped = true;
          this.#state.ended = true;
        }
        preventDefault() {
          if (this.#init.cancelable && !this.#state.passive) this.#state.prevented = true;
        }
        get [SymbolToStringTag]() { return 'Event'; }
      }
      const phases = { __proto__: null, NONE: 0, CAPTURING_PHASE: 1, AT_TARGET: 2,
        BUBBLING_PHASE: 3 };
      install(Event, phases);
      install(Event.prototype, phases);

      class CustomEvent extends Event {
        #detail;

        constructor(type, init = undefined) {
          if (arguments.length === 0) throw new TypeError('CustomEvent needs a type');
          super(type, init);
          this.#detail = init?.detail ?? null;
        }

        get detail() { return this.#detail; }
        get [SymbolToStringTag]() { return 'CustomEvent'; }
      }

      const report = (error) => { apply(PromiseReject, Promise, [error]); };

      const callOne = (entry, target, event) => {
        const state = inner.state(event);
        state.passive = entry.passive;
        try {
          const { callback } = entry;
          if (typeof callback === 'function') apply(callback, target, [event]);
          else apply(callback.handleEvent, callback, [event]);
        } catch (error) {
          report(error);
        }
        state.passive = false;
      };

      class EventTarget {
        #listeners = [];

        static {
          inner.fire = (target, event) => target.#fire(event);
        }

        addEventListener(type, callback, options = undefined) {
          const flags = isObject(options) ? options : { __proto__: null, capture: options };
          const { signal } = flags;
          if (callback === null || callback === undefined || signal?.aborted) return;
          if (!isObject(callback)) throw new TypeError('An event listener is a function or object');
          const entry = { __proto__: null, type: `${type}`, callback, once: Boolean(flags.once),
            capture: Boolean(flags.capture), passive: Boolean(flags.passive), removed: false };
          if (this.#find(entry) >= 0) return;
          apply(ArrayPush, this.#listeners, [entry]);
          if (signal === undefined) return;
          inner.onAbort(signal, () => this.#remove(entry));
        }

        removeEventListener(type, callback, options = undefined) {
          const capture = Boolean(isObject(options) ? options.capture : options);
          this.#remove({ __proto__: null, type: `${type}`, callback, capture });
        }

        dispatchEvent(event) {
          if (!inner.isEvent(event)) throw new TypeError('dispatchEvent takes an Event');
          if (inner.state(event).busy) {
            throw prelude.domException('The event is being dispatched', 'InvalidStateError');
          }
          return this.#fire(event);
        }

        #find({ type, callback, capture }) {
          for (let at = 0; at < this.#listeners.length; at++) {
            const entry = this.#listeners[at];
            const same = entry.type === type && entry.callback === callback;
            if (same && entry.capture === capture) return at;
          }
          return -1;
        }

        #remove(entry) {
          const at = this.#find(entry);
          if (at < 0) return;
          this.#listeners[at].removed = true;
          apply(ArraySplice, this.#listeners, [at, 1]);
        }

        #fire(event) {
          const state = inner.state(event);
          state.target = this;
          state.phase = 2;
          state.busy = true;
          // One target has no path: capturing listeners come first, then the others.
          for (let pass = 0; pass < 2 && !state.stopped; pass++) {
            const capture = pass === 0;
            const entries = apply(ArraySlice, this.#listeners, []);
            for (let at = 0; at < entries.length && !state.ended; at++) {
              const entry = entries[at];
              if (entry.removed || entry.type !== event.type || entry.capture !== capture) continue;
              if (entry.once) this.#remove(entry);
              callOne(entry, this, event);
            }
          }
          state.phase = 0;
          state.busy = false;
          state.stopped = false;
          state.ended = false;
          return !state.prevented;
        }

        get [SymbolToStringTag]() { return 'EventTarget'; }
      }
      return { __proto__: null, Event, CustomEvent, EventTarget, inner };
    });

    const signals = section(() => {
      const { Event, EventTarget, inner } = events();
      const { ArrayIndexOf, ArrayPush, ArraySplice, TypeError, defineProperty, isObject } =
        primordials;
      const { SymbolIterator, SymbolToStringTag } = primordials;
      const key = {};
      const { Symbol } = primordials;
      const add = Symbol('add');
      const remove = Symbol('remove');
      const signalAbort = Symbol('signalAbort');

      class AbortSignal extends EventTarget {
        #aborted = false;
        #reason = undefined;
        #steps = [];
        #handler = null;

        static {
          inner.isSignal = (value) => isObject(value) && #steps in value;
          inner.onAbort = (signal, step) => {
            if (!inner.isSignal(signal)) throw new TypeError('signal must be an AbortSignal');
            apply(ArrayPush, signal.#steps, [step]);
          };
          inner.abort = (signal, reason) => {
            if (signal.#aborted) return;
            signal.#aborted = true;
            signal.#reason = reason === undefined ? aborted() : reason;
            const steps = signal.#steps;
            signal.#steps = [];
            for (let at = 0; at < steps.length; at++) steps[at](signal.#reason);
            inner.fire(signal, new Event('abort'));
          };
        }

        constructor(token) {
          if (token !== key) throw new TypeError('Illegal constructor');
          super();
        }

        static abort(reason = undefined) {
          const signal = new AbortSignal(key);
          signal.#aborted = true;
          signal.#reason = reason === undefined ? aborted() : reason;
          return signal;
        }

        static timeout() { return prelude.refuse('AbortSignal.timeout'); }

        static any(signals) {
          const list = [];
          const iterator = apply(signals[SymbolIterator], signals, []);
          for (let step = iterator.next(); !step.done; step = iterator.next()) {
            if (!inner.isSignal(step.value)) throw new TypeError('AbortSignal.any takes signals');
            apply(ArrayPush, list, [step.value]);
          }
          const result = new AbortSignal(key);
          for (let at = 0; at < list.length; at++) {
            if (list[at].#aborted) return AbortSignal.abort(list[at].#reason);
          }
          for (let at = 0; at < list.length; at++) {
            inner.onAbort(list[at], (reason) => inner.abort(result, reason));
          }
          return result;
        }

        get aborted() { return this.#aborted; }
        get reason() { return this.#reason; }
        get onabort() { return this.#handler?.original ?? null; }

        set onabort(callback) {
          if (this.#handler !== null) this.removeEventListener('abort', this.#handler);
          this.#handler = null;
          if (typeof callback !== 'function') return;
          const handler = (event) => apply(callback, this, [event]);
          handler.original = callback;
          this.#handler = handler;
          this.addEventListener('abort', handler);
        }

        throwIfAborted() { if (this.#aborted) throw this.#reason; }
        get [SymbolToStringTag]() { return 'AbortSignal'; }

        // What streams do with a signal.
        [add](step) { if (!this.#aborted) inner.onAbort(this, step); }

        [remove](step) {
          const at = apply(ArrayIndexOf, this.#steps, [step]);
          if (at >= 0) apply(ArraySplice, this.#steps, [at, 1]);
        }

        [signalAbort](reason) { inner.abort(this, reason); }
      }

      const aborted = () => prelude.domException('This operation was aborted', 'AbortError');

      class AbortController {
        #signal = new AbortSignal(key);

        get signal() { return this.#signal; }
        abort(reason = undefined) { inner.abort(this.#signal, reason); }
        get [SymbolToStringTag]() { return 'AbortController'; }
      }
      defineProperty(AbortSignal, 'length', { __proto__: null, value: 0, configurable: true });
      const internals = { __proto__: null, AbortSignal, AbortSignalPrototype: AbortSignal.prototype,
        add, remove, signalAbort, isSignal: inner.isSignal, newSignal: () => new AbortSignal(key) };
      return { __proto__: null, AbortSignal, AbortController, internals };
    });

    const { Event, CustomEvent, EventTarget } = events();
    const { AbortSignal, AbortController, internals } = signals();
    return prelude.platform().dress({ __proto__: null, DOMException, Event, CustomEvent,
      EventTarget, AbortSignal, AbortController, internals });
  });
  lazy(['DOMException', 'Event', 'CustomEvent', 'EventTarget', 'AbortSignal', 'AbortController'],
    classes);

  prelude.events = classes;
  prelude.domException = (message, name) => new (classes().DOMException)(message, name);
});
