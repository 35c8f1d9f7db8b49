// `vi.mock` and what belongs to it. The bundler has moved the calls above the imports and given
// each the way to its module (`runtime/bundler/src/mocks.rs`).
//
// In: ways to modules, which name the files that they lead to. Out: the exports that stand for a
// mocked file. Invariant: what cannot be done throws where it is asked for.
import { createMockInstance, mockObject, vi } from './vitest.js';

const { Array, Function, Map, Object, RegExp } = globalThis;

/** What stands for a file, by its path. */
const mocks = new Map();

/** The ways to files that may be mocked. */
const actuals = new Map();

/** Files of whose exports other modules have taken their share since the modules are so old. */
const settled = new Set();

let generation = 0;

/** From now on `import()` makes modules of the app anew. */
const renew = () => {
  generation += 1;
  globalThis[Symbol.for('concave.generation')] = `?${generation}`;
  settled.clear();
};

/** A module with every function replaced, or only watched. */
const automatic = (module, type) => mockObject({
  type, createMockInstance, spyOn: vi.spyOn,
  globalConstructors: { Array, Function, Map, Object, RegExp },
}, module);

const refused = (call, why) => {
  throw new Error(`${call}: ${why}`);
};

const fileOf = (call, load) => {
  if (load?.file === undefined) {
    refused(call, 'only a test file itself (*.test.ts) and a setup file can mock, and only a '
      + 'module that is named by a literal: the bundler looks for it before tests run.');
  }
  return load.file;
};

const { spyOn } = vi;
vi.spyOn = (target, key, ...rest) => {
  const isModule = Object.prototype.toString.call(target) === '[object Module]';
  if (isModule && Object.isSealed(target)) {
    refused(`vi.spyOn(…, ${JSON.stringify(key)})`, 'exports of a module cannot be replaced. Write '
      + 'vi.mock("./the/module", { spy: true }) at the top of this test file: then all of its '
      + 'exports are spies that call what is there, for the functions that are tested too.');
  }
  return spyOn(target, key, ...rest);
};

/** Replaces the functions of an object, as `vi.mock` does those of a module. */
vi.mockObject = (value, options) =>
  automatic({ value }, options?.spy ? 'autospy' : 'automock').value;

/** What stands for a module that has no factory: what is in `__mocks__`, or one made of it. */
const without = (load, manual) => async () => (manual?.isManual
  ? manual() : automatic(await load(), 'automock'));

const mocked = (name) => (specifier, factory, load, manual) => {
  const call = `vi.${name}(${JSON.stringify(specifier)})`;
  const file = fileOf(call, load);
  const make = {
    function: () => factory(load),
    undefined: without(load, manual),
    object: async () => automatic(await load(), factory?.spy === true ? 'autospy' : 'automock'),
  }[typeof factory];
  const complete = typeof factory === 'function' ? lacking(name, specifier) : null;
  mocks.set(file, { call, make, made: undefined, complete });
  // Who has the other one already keeps it.
  if (settled.has(file)) renew();
  return vi;
};

const unmocked = (name) => (specifier, load) => {
  const file = fileOf(`vi.${name}(${JSON.stringify(specifier)})`, load);
  mocks.delete(file);
  if (settled.has(file)) renew();
  return vi;
};

vi.mock = mocked('mock');
vi.doMock = mocked('doMock');
vi.unmock = unmocked('unmock');
vi.doUnmock = unmocked('doUnmock');
vi.resetModules = () => {
  renew();
  return vi;
};
vi.importMock = async (specifier, load, manual) => {
  const file = fileOf(`vi.importMock(${JSON.stringify(specifier)})`, load);
  return mocks.has(file) ? exportsNow(file) : without(load, manual)();
};
vi.importActual = async (specifier, load) => (load === undefined
  ? refused(`vi.importActual(${JSON.stringify(specifier)})`, 'name the module by a literal, in the '
    + 'test file itself.') : load());

/** What importers find of exports that a factory has not made: whatever is done with one of them
 * throws. An import itself must not, for the module may have another use for it. */
const lacking = (name, specifier) => new Proxy(Object.create(null), {
  get(_none, key) {
    if (typeof key !== 'string' || key === 'then' || key in Object.prototype) return undefined;
    const throws = () => {
      throw new Error(`[vitest] No "${key}" export is defined on the ${JSON.stringify(specifier)} `
        + `mock. Did you forget to return it from "vi.${name}"?\nIf you need to partially mock a `
        + `module, you can use "importOriginal" helper inside:\n\nvi.${name}(import(`
        + `${JSON.stringify(specifier)}), async (importOriginal) => {\n  const actual = await `
        + 'importOriginal()\n  return {\n    ...actual,\n    // your mocked methods\n  }\n})');
    };
    return new Proxy(throws, Object.fromEntries(TRAPS.map((trap) => [trap, throws])));
  },
});
const TRAPS = Object.getOwnPropertyNames(Reflect);

/** The exports that a factory made; of what they lack, `complete` has something. */
const exportsOf = (made, call, complete = null) => {
  if (made === null || typeof made !== 'object') {
    refused(call, 'the factory must return an object: the exports of the module. Did you mean '
      + '{ default: … }?');
  }
  return Object.defineProperties(Object.create(complete), {
    ...Object.getOwnPropertyDescriptors(made), __esModule: { value: true },
  });
};

/** What a file exports now: its mock, made when it is wanted first, or what is in it. */
const exportsNow = async (file) => {
  const mock = mocks.get(file);
  if (mock === undefined) return actuals.get(file)();
  mock.made ??= exportsOf(await mock.make(), mock.call, mock.complete);
  return mock.made;
};

/** What the bundled modules ask. */
globalThis[Symbol.for('concave.mocks')] = {
  /** Notes the way to a file that may be mocked. */
  know(load) { actuals.set(load.file, load); },
  /** Makes what is to be mocked, before the imports. */
  async settle() {
    for (const [file, mock] of mocks) {
      try {
        await exportsNow(file);
      } catch (error) {
        // It uses a variable that is not there yet: later, when somebody imports it.
        if (!(error instanceof ReferenceError)) throw error;
        mock.error = error;
      }
    }
  },
  now: exportsNow,
  /** The same for a module that takes them once. */
  async forGood(file) {
    settled.add(file);
    const exports = await exportsNow(file);
    return mocks.has(file) ? exports : exportsOf(exports, file);
  },
  /** The same for `require`, which cannot wait. */
  get(file) {
    const mock = mocks.get(file);
    if (mock === undefined) refused('vi.mock', `${file} is required before it is mocked.`);
    if (mock.made === undefined) {
      const made = mock.make();
      if (typeof made?.then === 'function') throw mock.error;
      mock.made = exportsOf(made, mock.call, mock.complete);
    }
    return mock.made;
  },
};
