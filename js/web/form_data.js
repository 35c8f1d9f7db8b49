// FormData, of the XMLHttpRequest standard.
//
// In: `__bootstrap`. Out: `FormData`, and for other scripts `formOf(entries)`, `entriesOf(form)`,
// `isForm(value)`. Invariant: an entry's value is a string without lone surrogates, or a File.
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const {
    ArrayPrototypeFilter, ArrayPrototypeMap, ArrayPrototypePush, ObjectPrototypeIsPrototypeOf,
    Symbol, TypeError,
  } = primordials;
  const webidl = core.loadExtScript('ext:deno_webidl/00_webidl.js');
  const { File, FilePrototype, isBlob } = core.loadExtScript('ext:deno_web/09_file.js');

  const ENTRIES = Symbol('entries');

  class FormData {
    [ENTRIES] = [];

    constructor(form = undefined) {
      if (form !== undefined) {
        throw new TypeError("Failed to construct 'FormData': there are no HTML forms here");
      }
      this[webidl.brand] = webidl.brand;
    }

    append(name, value, filename = undefined) {
      const prefix = "Failed to execute 'append' on 'FormData'";
      const entry = toEntry(this, { name, value, filename, given: arguments.length }, prefix);
      ArrayPrototypePush(this[ENTRIES], entry);
    }

    delete(name) {
      const key = toKey(this, name, arguments.length, "Failed to execute 'delete' on 'FormData'");
      this[ENTRIES] = ArrayPrototypeFilter(this[ENTRIES], (entry) => entry.name !== key);
    }

    get(name) {
      const key = toKey(this, name, arguments.length, "Failed to execute 'get' on 'FormData'");
      return find(this, key)?.value ?? null;
    }

    getAll(name) {
      const key = toKey(this, name, arguments.length, "Failed to execute 'getAll' on 'FormData'");
      const found = ArrayPrototypeFilter(this[ENTRIES], (entry) => entry.name === key);
      return ArrayPrototypeMap(found, (entry) => entry.value);
    }

    has(name) {
      const key = toKey(this, name, arguments.length, "Failed to execute 'has' on 'FormData'");
      return find(this, key) !== undefined;
    }

    set(name, value, filename = undefined) {
      const prefix = "Failed to execute 'set' on 'FormData'";
      const entry = toEntry(this, { name, value, filename, given: arguments.length }, prefix);
      const first = find(this, entry.name);
      if (first === undefined) {
        ArrayPrototypePush(this[ENTRIES], entry);
        return;
      }
      first.value = entry.value;
      this[ENTRIES] = ArrayPrototypeFilter(this[ENTRIES], (other) =>
        other === first || other.name !== entry.name);
    }
  }
  const FormDataPrototype = FormData.prototype;
  webidl.mixinPairIterable('FormData', FormData, ENTRIES, 'name', 'value');
  webidl.configureInterface(FormData);

  function toKey(form, name, given, prefix) {
    webidl.assertBranded(form, FormDataPrototype);
    webidl.requiredArguments(given, 1, prefix);
    return webidl.converters.USVString(name, prefix, 'Argument 1');
  }

  function toEntry(form, { name, value, filename, given }, prefix) {
    webidl.assertBranded(form, FormDataPrototype);
    webidl.requiredArguments(given, 2, prefix);
    const key = webidl.converters.USVString(name, prefix, 'Argument 1');
    if (!isBlob(value)) {
      if (given > 2) throw new TypeError(`${prefix}: Argument 2 is not of type Blob`);
      return { name: key, value: webidl.converters.USVString(value, prefix, 'Argument 2') };
    }
    const isFile = ObjectPrototypeIsPrototypeOf(FilePrototype, value);
    if (filename === undefined && isFile) return { name: key, value };
    const called = filename === undefined ? 'blob'
      : webidl.converters.USVString(filename, prefix, 'Argument 3');
    const options = { type: value.type };
    if (isFile) options.lastModified = value.lastModified;
    return { name: key, value: new File([value], called, options) };
  }

  function find(form, key) {
    const entries = form[ENTRIES];
    for (let at = 0; at < entries.length; at++) {
      if (entries[at].name === key) return entries[at];
    }
    return undefined;
  }

  function formOf(entries) {
    const form = new FormData();
    form[ENTRIES] = entries;
    return form;
  }

  return {
    FormData,
    formOf,
    entriesOf: (form) => form[ENTRIES],
    isForm: (value) => ObjectPrototypeIsPrototypeOf(FormDataPrototype, value),
  };
})();
