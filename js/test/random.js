// Randomness of a file of tests: a function of the seed and of what draws it.
//
// In: the seed, the test and the functions that run now. Out: what `Math.random` and `crypto` draw.
// Invariant: each test and each call of a function has a stream of its own, so that a test draws
// the same alone and among others.
import { JSON, current, realm, worker } from './realm.js';

/** Eight 32-bit words that a text decides: FNV-1a, from eight beginnings. */
const words = (text) => Array.from({ length: 8 }, (_, at) => {
  let hash = Math.imul(at + 1, 0x9e3779b9) ^ 0x811c9dc5;
  for (let place = 0; place < text.length; place++) {
    hash = Math.imul(hash ^ text.charCodeAt(place), 0x01000193);
  }
  return hash >>> 0;
});

/** Whatever draws outside of functions: a test, or what is around the tests of a file. */
class Scope {
  constructor(name) { Object.assign(this, { name, made: 0 }); }

  /** The name of one more thing that is made here. */
  next() {
    this.made += 1;
    return `${this.name} ${this.made}`;
  }
}

/** Makes randomness that of a seed; gives what says which test runs, `undefined` for none. */
export const seeded = (seed) => {
  const file = new Scope(JSON.stringify([seed]));
  let scope = file;
  const streams = new WeakMap();
  const requests = new Map();
  const nameOf = (drawing) => {
    if (drawing instanceof Scope) return drawing.name;
    // A request may run several functions.
    const request = requests.get(drawing.request) ?? new Scope(drawing.request);
    return request.next();
  };
  worker.jsSyscall('concave/random', () => {
    const drawing = current.getStore() ?? scope;
    if (!streams.has(drawing)) {
      streams.set(drawing, worker.jsSyscall('concave/stream', words(nameOf(drawing))));
    }
    return streams.get(drawing)();
  });
  Object.assign(realm, {
    /** Names a request by the order in which tests make them. */
    requested(request, name = scope.next()) {
      requests.set(request, new Scope(`${scope.name} ${name}`));
    },
    /** What the randomness of one more database comes from. */
    salt: () => words(scope.next())[0],
  });
  return (names) => {
    scope = names === undefined ? file : new Scope(JSON.stringify([seed, ...names]));
  };
};
