// Where CommonJS modules and ES modules meet in a bundle.
//
// In: `module.exports` values and namespace objects. Out: each in the shape the other side expects,
// by the rules that esbuild and Node agree on. Invariant: properties are read when they are used,
// so that modules that import each other in a circle see each other's later exports.

/** `module.exports` as the namespace object that `import * as` gives. */
export function toESM(exports, isNode) {
  const target = exports == null ? {} : Object.create(Object.getPrototypeOf(exports));
  if (isNode || !exports || !exports.__esModule) {
    Object.defineProperty(target, "default", { value: exports, enumerable: true });
  }
  if (exports !== null && (typeof exports === "object" || typeof exports === "function")) {
    for (const key of Object.getOwnPropertyNames(exports)) {
      if (Object.hasOwn(target, key)) continue;
      const enumerable = Object.prototype.propertyIsEnumerable.call(exports, key);
      Object.defineProperty(target, key, { get: () => exports[key], enumerable });
    }
  }
  return target;
}

/** The namespace object of an ES module as `require` gives it; the same object each time. */
export function toCommonJS(namespace) {
  let target = converted.get(namespace);
  if (target === undefined) {
    target = Object.defineProperty({}, "__esModule", { value: true });
    converted.set(namespace, target);
    for (const key of Object.getOwnPropertyNames(namespace)) {
      // Not every binding has a value yet while modules load: look at none of them.
      Object.defineProperty(target, key, { get: () => namespace[key], enumerable: true });
    }
  }
  return target;
}

const converted = new WeakMap();

/** What is thrown for a module that was not found and that the code is prepared to miss. */
export function missing(specifier) {
  const error = new Error(`Cannot find module '${specifier}'`);
  return Object.assign(error, { code: "MODULE_NOT_FOUND" });
}

/** The `require` of CommonJS modules; calls with a literal were resolved when bundling. */
export function dynamicRequire(specifier) {
  const error = new Error(
    `Dynamic require of "${specifier}" is not supported: ` +
      `only require("...") with a literal string can be bundled`,
  );
  throw Object.assign(error, { code: "MODULE_NOT_FOUND" });
}
