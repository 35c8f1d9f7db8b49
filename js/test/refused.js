// What queries and mutations cannot have, where they run in the process of the tests.
//
// In: which transaction runs now. Out: globals that throw in one what the engine's isolates throw.
// Invariant: whoever else looks finds what is there: the runtime's own, a stub, fake timers. What a
// transaction puts in their place only it finds.

/** As `js/runtime/60_timers.js` says it. */
const refusal = (what) => () => {
  throw new Error(`Can't use ${what} in queries and mutations. Please consider using an action. `
    + 'See https://docs.convex.dev/functions/actions for more details.');
};

const REFUSED = {
  fetch: refusal('fetch()'),
  setTimeout: refusal('setTimeout'),
  setInterval: refusal('setInterval'),
  // Isolates have none.
  setImmediate: undefined,
};

/** The getters that are ours. */
const ours = new WeakSet();

/** What is found of a global that is made when somebody wants it: looking would make it. */
export const lazily = (make) => {
  let made;
  return {
    enumerable: false,
    configurable: true,
    get() { return (made ??= { value: make() }).value; },
    set(value) { made = { value }; },
  };
};

/**
 * Has the globals refuse where `ownGlobals()` gives the map of a transaction's own. Tests put
 * others in their place, and back: to be called before each transaction. `known`: what is not to be
 * looked at.
 */
export const refuse = (ownGlobals, known = {}) => {
  for (const [name, refused] of Object.entries(REFUSED)) {
    const found = known[name] ?? Object.getOwnPropertyDescriptor(globalThis, name);
    if (found === undefined || !found.configurable || ours.has(found.get)) continue;
    const isData = 'value' in found;
    const get = () => {
      const own = ownGlobals();
      if (own !== undefined) return own.has(name) ? own.get(name) : refused;
      return isData ? found.value : Reflect.apply(found.get, globalThis, []);
    };
    const set = (value) => {
      const own = ownGlobals();
      if (own !== undefined) own.set(name, value);
      else if (isData) found.value = value;
      else Reflect.apply(found.set, globalThis, [value]);
    };
    const { enumerable } = found;
    // To define it anew would look at it, too.
    delete globalThis[name];
    Object.defineProperty(globalThis, name, { get, set, enumerable, configurable: true });
    ours.add(get);
  }
};
