// Platform objects: what the console shows of them, and what structuredClone makes of them.
//
// In: classes of the web platform: the prelude's, deno_web's and those of `js/web`. Out:
// `__concave.platform()`: `dress(exports)`, `brand`, `cloneable(name, make)`, `receive(parts)`.
// Invariant: showing an object uses nothing of it up and shows no key of the host's own; an object
// that the platform does not clone throws DataCloneError wherever it is in a value, and never
// becomes an empty object.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { host, primordials } = prelude;
  const { apply, defineProperty, section } = primordials;

  const STREAM = ['locked'];
  /** What is shown of a class beside its own properties; of others it is nothing. */
  const KEYS = {
    __proto__: null,
    AbortController: ['signal'],
    AbortSignal: ['aborted'],
    Blob: ['size', 'type'],
    CryptoKey: ['type', 'extractable', 'algorithm', 'usages'],
    CustomEvent: ['type', 'defaultPrevented', 'cancelable', 'timeStamp', 'detail'],
    Event: ['type', 'defaultPrevented', 'cancelable', 'timeStamp'],
    File: ['size', 'type', 'name', 'lastModified'],
    PerformanceEntry: ['name', 'entryType', 'startTime', 'duration'],
    PerformanceMark: ['name', 'entryType', 'startTime', 'duration', 'detail'],
    PerformanceMeasure: ['name', 'entryType', 'startTime', 'duration', 'detail'],
    ReadableStream: STREAM,
    Request: ['method', 'url', 'headers', 'redirect', 'bodyUsed'],
    Response: ['status', 'statusText', 'headers', 'ok', 'url', 'redirected', 'type', 'bodyUsed'],
    TextDecoder: ['encoding', 'fatal', 'ignoreBOM'],
    TextDecoderStream: ['encoding', 'fatal', 'ignoreBOM', 'readable', 'writable'],
    TextEncoder: ['encoding'],
    TextEncoderStream: ['encoding', 'readable', 'writable'],
    TransformStream: ['readable', 'writable'],
    URL: ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port',
      'pathname', 'search', 'searchParams', 'hash'],
    URLPattern: ['protocol', 'username', 'password', 'hostname', 'port', 'pathname', 'search',
      'hash'],
    WritableStream: STREAM,
  };

  prelude.platform = section(() => {
    const { MapGet, MapSet, ObjectHasOwn, ObjectKeys, getOwnPropertyDescriptor } = primordials;
    const brand = host.cloneBrand ?? primordials.Symbol('host object');
    const makers = host.cloneMakers ?? { __proto__: null };
    const cloneError = (message) => prelude.domException(message, 'DataCloneError');

    const pairs = (object) => {
      const shown = new primordials.Map();
      object.forEach((value, name) => { apply(MapSet, shown, [name, value]); });
      return shown;
    };
    /** As `pairs`, where a name may come more than once. */
    const joined = (object) => {
      const shown = new primordials.Map();
      object.forEach((value, name) => {
        const known = apply(MapGet, shown, [name]);
        apply(MapSet, shown, [name, known === undefined ? value : `${known}, ${value}`]);
      });
      return shown;
    };
    const maps = { __proto__: null, FormData: pairs, Headers: pairs, URLSearchParams: joined };

    const picked = (keys) => (object) => {
      const shown = {};
      for (let at = 0; at < keys.length; at++) shown[keys[at]] = object[keys[at]];
      // What a subclass adds; the host's own members are under symbols.
      const own = ObjectKeys(object);
      for (let at = 0; at < own.length; at++) {
        const descriptor = getOwnPropertyDescriptor(object, own[at]);
        defineProperty(shown, own[at], { __proto__: null, ...descriptor });
      }
      return shown;
    };

    const hidden = (value) =>
      ({ __proto__: null, value, enumerable: false, writable: true, configurable: true });

    const dressOne = (name, { prototype }) => {
      // A DOMException is shown as an error.
      if (name !== 'DOMException' && !ObjectHasOwn(prototype, prelude.shown)) {
        const pick = maps[name] ?? picked(KEYS[name] ?? []);
        defineProperty(prototype, prelude.shown, hidden(function shown() { return pick(this); }));
      }
      if (name !== 'DOMException' && !ObjectHasOwn(prototype, brand)) {
        defineProperty(prototype, brand, hidden(() => {
          throw cloneError(`#<${name}> could not be cloned.`);
        }));
      }
    };

    return {
      __proto__: null,
      /** The key of the method that gives what is cloned of a platform object, or throws. */
      brand,
      cloneable(name, make) { makers[name] = make; },
      /** A platform object of the parts that such a method has given. */
      receive(parts) {
        const make = primordials.isObject(parts) ? makers[`${parts.type}`] : undefined;
        if (make === undefined) throw cloneError('The object could not be cloned.');
        return make(parts);
      },
      /** Makes platform classes of the classes among what a script exports. */
      dress(exports) {
        const names = ObjectKeys(exports);
        for (let at = 0; at < names.length; at++) {
          const name = names[at];
          const Class = exports[name];
          const first = apply(primordials.StringCharCodeAt, name, [0]);
          const isClass = typeof Class === 'function' && first >= 0x41 && first <= 0x5a
            && primordials.isObject(Class.prototype);
          if (isClass) dressOne(name, Class);
        }
        return exports;
      },
    };
  });
});
