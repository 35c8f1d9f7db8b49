// The prelude (js/runtime) in a bare context of Node's, for tests of what functions see.
//
// In: the prelude's files, run in numeric order over a host made of Node's built-ins. Out:
// `world()` and `same()`. Invariant: nothing here depends on the Rust host, the clock or the time
// zone.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { types } from 'node:util';
import vm from 'node:vm';

const FOLDER = new URL('../js/runtime/', import.meta.url);
const FILES = readdirSync(FOLDER).filter((name) => /^\d\d_.*\.js$/.test(name)).sort();
const script = (name) => new vm.Script(sourceOf(name), { filename: `concave:/${name}` });
const SCRIPTS = FILES.map(script);

function sourceOf(name) {
  const source = readFileSync(new URL(name, FOLDER), 'utf8');
  if (name !== '50_crypto.js') return source;
  // The host puts this script before it, as a function of its bootstrap (startup.rs).
  const web = readFileSync(new URL('../web/crypto.js', FOLDER), 'utf8');
  return 'globalThis.__concave.later((prelude) => { prelude.webCrypto = (__bootstrap) => { '
    + `const made = ${web}\nreturn made; }; });${source}`;
}

export const NOW = 1_700_000_000_123;
const SEED = [1, 2, 3, 4, 5, 6, 7, 8];

// What V8 has in the host and this Node may not have yet.
const NEWER = `
  if (typeof Iterator === 'undefined') {
    globalThis.Iterator = function Iterator() {};
    Iterator.prototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));
    Object.defineProperty(globalThis, 'Iterator', { enumerable: false });
  }
  if (!ArrayBuffer.prototype.transfer) {
    const { transferBuffer, isDetached } = globalThis;
    const newer = {
      transfer() { return transferBuffer(this); },
      transferToFixedLength() { return transferBuffer(this); },
      get detached() { return isDetached(this); },
    };
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(newer))) {
      Object.defineProperty(ArrayBuffer.prototype, name, { ...property, enumerable: false });
    }
  }`;

/** A context with the prelude in it, after `begin`. */
export function world({ kind = 'query', seed = SEED, now = NOW, extra = {}, before = '' } = {}) {
  const context = vm.createContext(vm.constants?.DONT_CONTEXTIFY ?? {});
  const lines = [];
  const seen = [];
  const run = (code) => vm.runInContext(code, context, { filename: 'convex:/test.js' });
  const global = run('globalThis');
  const host = { ...fakeHost(global, lines, seen), ...extra };
  global.transferBuffer = (buffer) => structuredClone(buffer, { transfer: [buffer] });
  global.isDetached = (buffer) => {
    // Only a view of a detached buffer cannot be made.
    try { return new Uint8Array(buffer) === undefined; } catch { return true; }
  };
  run(NEWER);
  run(before);
  const own = run('({ host: {}, hooks: {} })');
  Object.assign(own.host, host, {
    lazy(target, names, part) {
      for (const name of names) {
        const kept = { writable: true, enumerable: false, configurable: true };
        const settle = (value) => Object.defineProperty(target, name, { ...kept, value })[name];
        Object.defineProperty(target, name, { get: () => settle(own.hooks.lazy(part, name)),
          set: settle, enumerable: false, configurable: true });
      }
    },
  });
  global.__concave = own;
  for (const script of SCRIPTS) script.runInContext(context);
  delete global.transferBuffer;
  delete global.isDetached;
  const begin = (state = {}) =>
    own.hooks.begin(state.seed ?? seed, state.now ?? now, state.kind ?? kind);
  begin();
  return { run, hooks: own.hooks, lines, seen, begin, global };
}

/** What the host tells apart by internal slots. */
const SLOTS = ['Map', 'Set', 'Date', 'RegExp', 'ArrayBuffer', 'NumberObject', 'StringObject',
  'BooleanObject', 'BigIntObject', 'SymbolObject'];

function fakeHost(global, lines, seen) {
  const parts = (url) => global.Array.of(url.href, url.protocol, url.username, url.password,
    url.host, url.hostname, url.port, url.pathname, url.search, url.hash, url.origin);
  const local = (bytes) => global.Uint8Array.from(bytes);
  const view = (bytes) => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const attempt = (use) => {
    try {
      return use();
    } catch {
      return null;
    }
  };
  return {
    syscall: (op, json) => `${op}:${json}`,
    asyncSyscall(op, json) {
      if (op !== 'fail') return `${op}:${json}`;
      throw Object.assign(new global.Error('refused'), JSON.parse(json));
    },
    observe: (flag) => { seen.push(flag); },
    log: (level, texts) => { lines.push([level].concat(Array.prototype.slice.call(texts))); },
    namedKeys: (value) =>
      Reflect.ownKeys(value).filter((key) => !/^(0|[1-9][0-9]*)$/.test(String(key))),
    slots: (value) => SLOTS.find((name) => types[`is${name}`](value))?.replace('Object', ''),
    env: (name) => new Map([['KEY', 'value'], ['EMPTY', '']]).get(name),
    urlParse: (href, base) => attempt(() => parts(new URL(href, base))),
    urlSet: (href, part, value) => attempt(() => {
      const url = new URL(href);
      url[part] = value;
      return parts(url);
    }),
    encodingLabel: (label) => attempt(() => new TextDecoder(label).encoding),
    textDecode(label, bytes, fatal, ignoreBOM) {
      try {
        return new TextDecoder(label, { fatal, ignoreBOM }).decode(view(bytes));
      } catch (error) {
        throw new global.TypeError(error.message);
      }
    },
    // "Not in order": the prelude's own steps are what is tested here; tests/wasm.rs has the rest.
    base64Decode: () => null,
    latin1Bytes(text) {
      if (/[^\0-\xff]/.test(text)) return null;
      seen.push('latin1Bytes');
      return local(Buffer.from(text, 'latin1'));
    },
    utf8Encode: (text) => local(new TextEncoder().encode(text)),
    // Node's: it knows nothing of platform objects. tests/web.test.mjs has them.
    structuredClone(value, _brand, _receive, fail) {
      try {
        return structuredClone(value);
      } catch (error) {
        if (error?.name !== 'DataCloneError') throw error;
        return fail(error.message);
      }
    },
    // Only digests: tests/crypto.test.mjs has the rest, over the real host.
    crypto(request, key, bytes) {
      const { operation, name } = JSON.parse(request);
      if (operation !== 'digest') return null;
      const hash = createHash(name.replace('-', '').toLowerCase());
      return local(hash.update(view(bytes)).digest());
    },
  };
}

/** The same source in the prelude's world and in Node; results compared as JSON. */
export function same(source, world_ = world()) {
  const here = vm.runInThisContext(`JSON.stringify((() => { ${source} })())`);
  const there = world_.run(`JSON.stringify((() => { ${source} })())`);
  assert.equal(there, here, source);
  assert.notEqual(here, undefined, `gives nothing: ${source}`);
}
