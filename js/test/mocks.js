// `vi.mock` and what belongs to it. The bundler has moved the calls above the imports and given
// each the way to its module (`runtime/bundler/src/mocks.rs`).
//
// In: which specifier of the test file is which file. Out: the exports that stand for a mocked
// file. Invariant: what cannot be done throws where it is asked for.
import { createMockInstance, mockObject, vi } from './vitest.js';

const { Array, Function, Map, Object, RegExp } = globalThis;

/** Files by the test file's specifiers, from the host. */
let files = {};

/** What stands for a file, by its path. */
const mocks = new Map();

/** Takes what the host knows of the test file. */
export const begin = (given) => { files = given; };

/** A module with every function replaced, or only watched. */
const automatic = (module, type) => mockObject({
  type, createMockInstance, spyOn: vi.spyOn,
  globalConstructors: { Array, Function, Map, Object, RegExp },
}, module);

const refused = (call, why) => {
  throw new Error(`${call}: ${why}`);
};

vi.mock = (specifier, factory, load) => {
  const call = `vi.mock(${JSON.stringify(specifier)})`;
  const file = files[specifier];
  if (load === undefined || file === undefined) {
    refused(call, 'only a test file itself (*.test.ts) can mock, and only a module that is named '
      + 'by a literal: the call is moved above the imports of the file.');
  }
  const make = {
    function: () => factory(load),
    undefined: async () => automatic(await load(), 'automock'),
    object: async () => automatic(await load(), factory?.spy === true ? 'autospy' : 'automock'),
  }[typeof factory];
  mocks.set(file, { call, make, made: undefined });
};

const notSupported = (name, instead) => () => refused(`vi.${name}`, `this is not supported by \
concave test: modules are linked before tests run. ${instead}`);
vi.doMock = notSupported('doMock', 'Use vi.mock, with a vi.fn() that each test sets.');
vi.unmock = notSupported('unmock', 'Leave vi.mock out, or use vi.importActual.');
vi.doUnmock = vi.unmock;
vi.resetModules = notSupported('resetModules', 'What must be fresh goes into a file of its own.');
vi.importMock = notSupported('importMock', 'Use vi.mock without a factory, and import it.');
vi.importActual = async (specifier, load) => (load === undefined
  ? refused(`vi.importActual(${JSON.stringify(specifier)})`, 'name the module by a literal, in the '
    + 'test file itself.') : load());

/** The exports that a factory made. */
const exportsOf = (made, call) => {
  if (made === null || typeof made !== 'object') {
    refused(call, 'the factory must return an object: the exports of the module. Did you mean '
      + '{ default: … }?');
  }
  return Object.defineProperties(Object.create(null), {
    ...Object.getOwnPropertyDescriptors(made), __esModule: { value: true },
  });
};

/** What the bundled modules ask. */
globalThis[Symbol.for('concave.mocks')] = {
  /** Makes what is to be mocked, before the imports. */
  async settle() {
    for (const mock of mocks.values()) {
      try {
        mock.made = exportsOf(await mock.make(), mock.call);
      } catch (error) {
        // It uses a variable that is not there yet: later, when somebody imports it.
        if (!(error instanceof ReferenceError)) throw error;
        mock.error = error;
      }
    }
  },
  get(file) {
    const mock = mocks.get(file);
    if (mock === undefined) refused('vi.mock', `${file} is imported before it is mocked.`);
    if (mock.made === undefined) {
      const made = mock.make();
      if (typeof made?.then === 'function') throw mock.error;
      mock.made = exportsOf(made, mock.call);
    }
    return mock.made;
  },
};
