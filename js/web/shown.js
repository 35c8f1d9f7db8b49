// How the console shows objects of the web platform.
//
// In: a class, its name, and the key under which the console looks for a method. Out: `show`, which
// adds the method. Invariant: showing an object reads nothing that would use it up.
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const { Map, MapPrototypeGet, MapPrototypeSet, ObjectDefineProperty } = primordials;

  const STREAM = ['locked'];
  const KEYS = {
    __proto__: null,
    Blob: ['size', 'type'],
    File: ['size', 'type', 'name', 'lastModified'],
    ReadableStream: STREAM,
    Request: ['method', 'url', 'headers', 'redirect', 'bodyUsed'],
    Response: ['status', 'statusText', 'headers', 'ok', 'url', 'redirected', 'type', 'bodyUsed'],
    URL: ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port',
      'pathname', 'search', 'searchParams', 'hash'],
    URLPattern: ['protocol', 'username', 'password', 'hostname', 'port', 'pathname', 'search',
      'hash'],
    WritableStream: STREAM,
  };
  const pairs = (object) => {
    const shown = new Map();
    object.forEach((value, name) => { MapPrototypeSet(shown, name, value); });
    return shown;
  };
  /** As `pairs`, where a name may come more than once. */
  const joined = (object) => {
    const shown = new Map();
    object.forEach((value, name) => {
      const known = MapPrototypeGet(shown, name);
      MapPrototypeSet(shown, name, known === undefined ? value : `${known}, ${value}`);
    });
    return shown;
  };
  const MAPS = { __proto__: null, FormData: pairs, Headers: pairs, URLSearchParams: joined };

  function show(key, name, Class) {
    const keys = KEYS[name];
    const pick = MAPS[name] ?? (keys && ((object) => {
      const shown = {};
      for (let at = 0; at < keys.length; at++) shown[keys[at]] = object[keys[at]];
      return shown;
    }));
    if (pick === undefined || Class === undefined) return;
    ObjectDefineProperty(Class.prototype, key, {
      __proto__: null, value() { return pick(this); }, configurable: true, writable: true,
    });
  }

  return { show };
})();
