// The built-ins that the prelude uses, captured before any user code runs.
//
// In: the context's own globals. Out: `__concave.primordials`: raw built-ins and four tools
// (`uncurry`, `section`, `lazy`, `install`); `later` and `open`, for the parts of the prelude that
// a call may never need; `pack`. Invariant: the rest of the prelude reaches built-ins only through
// the table, so a function that patches `Array.prototype.push` or pollutes `Object.prototype`
// breaks itself and never the host. A fresh context is copied from the snapshot for every call, so
// what is not needed at once is kept as small as it goes.
((prelude) => {
  'use strict';

  const { host, hooks } = prelude;
  const { apply, construct, getPrototypeOf, ownKeys, setPrototypeOf } = Reflect;
  const { defineProperty, getOwnPropertyDescriptor, keys, values } = Object;
  const { bind, call } = Function.prototype;
  const { indexOf, slice } = String.prototype;
  const TypedArray = getPrototypeOf(Uint8Array);
  const TypedArrayPrototype = TypedArray.prototype;
  const getter = (owner, name) => getOwnPropertyDescriptor(owner, name).get;

  /** `(self, ...args)` from a method: `uncurry(ArrayPush)(list, item)`. */
  const uncurry = (method) => apply(bind, call, [method]);

  /** A part of the prelude that runs on first use; the snapshot holds only its uncompiled text. */
  const section = (make) => {
    let made;
    return () => {
      if (made === undefined) made = make();
      return made;
    };
  };

  /** Files that run when a context first needs one of them; afterwards undefined. */
  let files = [];
  /** What `lazy` was given by them, in the order of its calls; until they run only their number. */
  const parts = [];
  let known = 0;
  /** What it was given by other files. */
  const early = [];
  let rehearses = false;

  /**
   * `file(prelude)`, run by `open`. It runs at once too, over a prelude that is thrown away, so
   * that its lazy names are known: until they are touched nothing of it but its text is there.
   */
  prelude.later = (file) => {
    files[files.length] = file;
    rehearses = true;
    file({ __proto__: prelude });
    rehearses = false;
  };

  /** The prelude with all its parts. */
  prelude.open = () => {
    if (files !== undefined) {
      const waiting = files;
      files = undefined;
      prelude.primordials ??= unpack();
      for (let at = 0; at < waiting.length; at++) waiting[at](prelude);
    }
    return prelude;
  };

  /** Opens everything; gives the objects of the prelude that change from call to call. */
  hooks.own = () => {
    prelude.open();
    return [prelude, hooks, host];
  };

  /**
   * Data properties of `target` that `part()` makes, by name, when one is first touched in a
   * context. Until then they cost a slot each; so nothing that a call seldom uses is made at once.
   */
  const lazy = (names, part, target = globalThis) => {
    if (files === undefined) parts[parts.length] = part;
    else if (rehearses) host.lazy(target, names, known++);
    else {
      early[early.length] = part;
      host.lazy(target, names, -early.length);
    }
  };
  hooks.lazy = (at, name) => {
    if (at < 0) return early[-at - 1]()[name];
    prelude.open();
    return parts[at]()[name];
  };

  /** Defines the members of `source` on `target` as built-ins have them: not enumerable. */
  const install = (target, source) => {
    const names = ownKeys(source);
    for (let at = 0; at < names.length; at++) {
      const descriptor = getOwnPropertyDescriptor(source, names[at]);
      defineProperty(target, names[at], { __proto__: null, ...descriptor, enumerable: false });
    }
    return target;
  };

  /** Key of the method that says what the console shows of an object of the prelude. */
  prelude.shown = Symbol('shown');

  prelude.primordials = {
    __proto__: null,
    apply, construct, getPrototypeOf, setPrototypeOf, ownKeys, defineProperty,
    getOwnPropertyDescriptor, getter, uncurry, section, lazy, install,
    create: Object.create,
    freeze: Object.freeze,
    is: Object.is,
    isArray: Array.isArray,
    isInteger: Number.isInteger,
    isView: ArrayBuffer.isView,
    isObject: (value) =>
      (typeof value === 'object' && value !== null) || typeof value === 'function',
    decodeURIComponent, encodeURIComponent, Array, ArrayBuffer, BigInt, BigInt64Array,
    BigUint64Array, DataView, Date, Error, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Iterator, Map, Math, Number, Promise, Proxy, RangeError, RegExp, Set, String,
    Symbol, SyntaxError, TypeError, Uint8Array, Uint8ClampedArray, Uint16Array, Uint32Array,
    WeakMap, WeakSet,
    ArrayFilter: Array.prototype.filter,
    ArrayForEach: Array.prototype.forEach,
    ArrayIncludes: Array.prototype.includes,
    ArrayIndexOf: Array.prototype.indexOf,
    ArrayJoin: Array.prototype.join,
    ArrayMap: Array.prototype.map,
    ArrayPush: Array.prototype.push,
    ArraySlice: Array.prototype.slice,
    ArraySort: Array.prototype.sort,
    ArraySplice: Array.prototype.splice,
    ArrayBufferByteLength: getter(ArrayBuffer.prototype, 'byteLength'),
    ArrayBufferDetached: getter(ArrayBuffer.prototype, 'detached'),
    ArrayBufferSlice: ArrayBuffer.prototype.slice,
    ArrayBufferTransfer: ArrayBuffer.prototype.transfer,
    ArrayBufferTransferToFixedLength: ArrayBuffer.prototype.transferToFixedLength,
    BigIntAsIntN: BigInt.asIntN,
    BigIntAsUintN: BigInt.asUintN,
    BigIntToString: BigInt.prototype.toString,
    BigIntValueOf: BigInt.prototype.valueOf,
    BooleanValueOf: Boolean.prototype.valueOf,
    DataViewByteLength: getter(DataView.prototype, 'byteLength'),
    DataViewByteOffset: getter(DataView.prototype, 'byteOffset'),
    DataViewBuffer: getter(DataView.prototype, 'buffer'),
    DateGetTime: Date.prototype.getTime,
    DateToISOString: Date.prototype.toISOString,
    DateToString: Date.prototype.toString,
    ErrorPrototype: Error.prototype,
    ErrorToString: Error.prototype.toString,
    FunctionBind: bind,
    FunctionCall: call,
    FunctionToString: Function.prototype.toString,
    IteratorPrototype: getPrototypeOf(getPrototypeOf([][Symbol.iterator]())),
    JSONParse: JSON.parse,
    JSONStringify: JSON.stringify,
    MapDelete: Map.prototype.delete,
    MapForEach: Map.prototype.forEach,
    MapGet: Map.prototype.get,
    MapHas: Map.prototype.has,
    MapSet: Map.prototype.set,
    MapSize: getter(Map.prototype, 'size'),
    MathFloor: Math.floor,
    MathFround: Math.fround,
    MathMax: Math.max,
    MathMin: Math.min,
    MathPow: Math.pow,
    MathRound: Math.round,
    MathTrunc: Math.trunc,
    NumberIsFinite: Number.isFinite,
    NumberIsNaN: Number.isNaN,
    NumberToString: Number.prototype.toString,
    NumberValueOf: Number.prototype.valueOf,
    ObjectAssign: Object.assign,
    ObjectDefineProperties: Object.defineProperties,
    ObjectGetOwnPropertyDescriptors: Object.getOwnPropertyDescriptors,
    ObjectHasOwn: Object.hasOwn,
    ObjectIsEnumerable: Object.prototype.propertyIsEnumerable,
    ObjectIsPrototypeOf: Object.prototype.isPrototypeOf,
    ObjectKeys: Object.keys,
    ObjectPrototype: Object.prototype,
    ObjectToString: Object.prototype.toString,
    PromiseAll: Promise.all,
    PromiseReject: Promise.reject,
    PromiseResolve: Promise.resolve,
    PromiseThen: Promise.prototype.then,
    PromiseWithResolvers: Promise.withResolvers,
    ReflectHas: Reflect.has,
    RegExpExec: RegExp.prototype.exec,
    RegExpSource: getter(RegExp.prototype, 'source'),
    RegExpTest: RegExp.prototype.test,
    RegExpToString: RegExp.prototype.toString,
    SetAdd: Set.prototype.add,
    SetClear: Set.prototype.clear,
    SetDelete: Set.prototype.delete,
    SetEntries: Set.prototype.entries,
    SetForEach: Set.prototype.forEach,
    SetHas: Set.prototype.has,
    SetKeys: Set.prototype.keys,
    SetSize: getter(Set.prototype, 'size'),
    SetValues: Set.prototype.values,
    StringCharAt: String.prototype.charAt,
    StringCharCodeAt: String.prototype.charCodeAt,
    StringEndsWith: String.prototype.endsWith,
    StringFromCharCode: String.fromCharCode,
    StringIterate: String.prototype[Symbol.iterator],
    StringIteratorPrototype: getPrototypeOf(''[Symbol.iterator]()),
    StringIteratorNext: getPrototypeOf(''[Symbol.iterator]()).next,
    StringIncludes: String.prototype.includes,
    StringIndexOf: String.prototype.indexOf,
    StringMatch: String.prototype.match,
    StringPadEnd: String.prototype.padEnd,
    StringPadStart: String.prototype.padStart,
    StringRepeat: String.prototype.repeat,
    StringReplace: String.prototype.replace,
    StringReplaceAll: String.prototype.replaceAll,
    StringSlice: String.prototype.slice,
    StringStartsWith: String.prototype.startsWith,
    StringSubstring: String.prototype.substring,
    StringToLowerCase: String.prototype.toLowerCase,
    StringToUpperCase: String.prototype.toUpperCase,
    StringToWellFormed: String.prototype.toWellFormed,
    StringValueOf: String.prototype.valueOf,
    SymbolAsyncIterator: Symbol.asyncIterator,
    SymbolFor: Symbol.for,
    SymbolIterator: Symbol.iterator,
    SymbolKeyFor: Symbol.keyFor,
    SymbolToString: Symbol.prototype.toString,
    SymbolToStringTag: Symbol.toStringTag,
    SymbolValueOf: Symbol.prototype.valueOf,
    TypedArrayBuffer: getter(TypedArrayPrototype, 'buffer'),
    TypedArrayByteLength: getter(TypedArrayPrototype, 'byteLength'),
    TypedArrayByteOffset: getter(TypedArrayPrototype, 'byteOffset'),
    TypedArrayIncludes: TypedArrayPrototype.includes,
    TypedArrayFrom: TypedArray.from,
    TypedArrayLength: getter(TypedArrayPrototype, 'length'),
    TypedArraySet: TypedArrayPrototype.set,
    TypedArraySlice: TypedArrayPrototype.slice,
    TypedArraySubarray: TypedArrayPrototype.subarray,
    TypedArrayTag: getter(TypedArrayPrototype, Symbol.toStringTag),
    WeakMapGet: WeakMap.prototype.get,
    WeakMapHas: WeakMap.prototype.has,
    WeakMapSet: WeakMap.prototype.set,
    WeakSetAdd: WeakSet.prototype.add,
    WeakSetDelete: WeakSet.prototype.delete,
  };

  let names = '';
  let packed = [];

  /** Keeps the table as a list and a text: as a table it is six times as large in a context. */
  prelude.pack = () => {
    names = `${apply(Array.prototype.join, keys(prelude.primordials), [' '])} `;
    packed = values(prelude.primordials);
    prelude.primordials = undefined;
  };

  const unpack = () => {
    const table = { __proto__: null };
    let from = 0;
    for (let at = 0; at < packed.length; at++) {
      const end = apply(indexOf, names, [' ', from]);
      table[apply(slice, names, [from, end])] = packed[at];
      from = end + 1;
    }
    return table;
  };
})(globalThis.__concave);
