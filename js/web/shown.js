// How the console shows objects of the web platform.
//
// In: a class, its name, and the key under which the console looks for a method. Out: `show`, which
// adds the method. Invariant: showing an object reads nothing that would use it up.
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const { Map, MapPrototypeSet, ObjectDefineProperty } = primordials;

  const STREAM = ['locked'];
  const KEYS = {
    __proto__: null,
    Blob: ['size', 'type'],
    File: ['size', 'type', 'name', 'lastModified'],
    ReadableStream: STREAM,
    Request: ['method', 'url', 'headers', 'redirect', 'bodyUsed'],
    Response: ['status', 'statusText', 'headers', 'ok', 'url', 'redirected', 'type', 'bodyUsed'],
    URLPattern: ['protocol', 'username', 'password', 'hostname', 'port', 'pathname', 'search',
      'hash'],
    WritableStream: STREAM,
  };
  const pairs = (object) => {
    const shown = new Map();
    object.forEach((value, name) => { MapPrototypeSet(shown, name, value); });
    return shown;
  };
  const MAPS = { __proto__: null, FormData: pairs, Headers: pairs };

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
