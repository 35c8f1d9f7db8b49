// WebCrypto: `crypto`, `Crypto`, `SubtleCrypto`, `CryptoKey`, from one source for all functions.
//
// In: `__bootstrap` with deno_core's `primordials` and
//   core.ops.op_crypto(request, key, data, first, second) -> Uint8Array of its own buffer.
//     `request`: JSON text of runtime/web/src/crypto.rs `Request`; the rest: Uint8Arrays, empty
//     where the operation has none. Throws an Error whose message is `NAME: text`, NAME being that
//     of a DOMException, or any other error, which is passed on.
//   core.ops.op_crypto_slow(request, [key, data, first, second]): optional; the same, as a promise,
//     for what takes long.
//   core.ops.op_crypto_fill(bytes): fills a Uint8Array with random bytes, or throws.
//   core.encode, core.decode: UTF-8. core.hostObjectBrand, core.registerCloneableResource.
//   core.loadExtScript('ext:deno_web/01_dom_exception.js').DOMException.
// Out: the four. Invariant: this file converts arguments, keeps keys and checks what they may be
// used for, in the order of the Web Cryptography specification; it computes nothing itself. Key
// material never leaves a CryptoKey but through exportKey and wrapKey.
// deno_core takes scripts in ASCII only.
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const {
    ArrayBufferIsView, ArrayBufferPrototypeGetByteLength, ArrayPrototypeIncludes,
    ArrayPrototypePush, DataViewPrototypeGetBuffer, DataViewPrototypeGetByteLength,
    DataViewPrototypeGetByteOffset, JSONParse, JSONStringify,
    MathTrunc, Number, NumberPrototypeToString, ObjectDefineProperty, ObjectKeys,
    StringPrototypePadEnd, StringPrototypePadStart, StringPrototypeSlice, StringPrototypeStartsWith,
    StringPrototypeToUpperCase, SymbolToStringTag, TypeError, TypedArrayPrototypeGetBuffer,
    TypedArrayPrototypeGetByteLength, TypedArrayPrototypeGetByteOffset,
    TypedArrayPrototypeGetSymbolToStringTag, Uint8Array,
  } = primordials;
  const { op_crypto, op_crypto_fill, op_crypto_slow } = core.ops;
  const { DOMException } = core.loadExtScript('ext:deno_web/01_dom_exception.js');

  const SECRET = {};
  const NOTHING = new Uint8Array(0);
  const isObject = (value) =>
    (typeof value === 'object' && value !== null) || typeof value === 'function';
  const fail = (name, message) => new DOMException(message, name);
  const requireArguments = (given, wanted, method) => {
    if (given >= wanted) return;
    throw new TypeError(`${method} takes ${wanted} arguments, not ${given}`);
  };
  const requireToken = (token) => {
    if (token !== SECRET) throw new TypeError('Illegal constructor');
  };

  class Crypto {
    #subtle = new SubtleCrypto(SECRET);

    constructor(token) { requireToken(token); }

    get subtle() { return this.#subtle; }

    getRandomValues(array) {
      if (!(#subtle in this)) throw new TypeError('Illegal invocation');
      requireArguments(arguments.length, 1, 'crypto.getRandomValues');
      const tag = ArrayBufferIsView(array) ? TypedArrayPrototypeGetSymbolToStringTag(array) : '';
      if (!ArrayPrototypeIncludes(INTEGER_ARRAYS, tag)) {
        throw fail('TypeMismatchError', 'getRandomValues takes an array of integers');
      }
      const bytes = bytesOf(array);
      if (bytes.length > 65536) {
        const text = `getRandomValues gives at most 65536 bytes, not ${bytes.length}`;
        throw fail('QuotaExceededError', text);
      }
      op_crypto_fill(bytes);
      return array;
    }

    randomUUID() {
      if (!(#subtle in this)) throw new TypeError('Illegal invocation');
      return uuid();
    }

    get [SymbolToStringTag]() { return 'Crypto'; }
  }

  const INTEGER_ARRAYS = ['Int8Array', 'Uint8Array', 'Uint8ClampedArray', 'Int16Array',
    'Uint16Array', 'Int32Array', 'Uint32Array', 'BigInt64Array', 'BigUint64Array'];

  /** RFC 9562, version 4. */
  function uuid() {
    const bytes = new Uint8Array(16);
    op_crypto_fill(bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = '';
    for (let at = 0; at < 16; at++) {
      if (at === 4 || at === 6 || at === 8 || at === 10) text += '-';
      text += StringPrototypePadStart(NumberPrototypeToString(bytes[at], 16), 2, '0');
    }
    return text;
  }

  /** What a CryptoKey keeps, for this file; `undefined` for anything else. */
  let innerOf;

  class CryptoKey {
    #inner;

    constructor(token, inner) {
      requireToken(token);
      this.#inner = inner;
    }

    static {
      innerOf = (value) => (isObject(value) && #inner in value ? value.#inner : undefined);
    }

    get type() { return this.#inner.type; }

    get extractable() { return this.#inner.extractable; }

    get algorithm() { return this.#inner.algorithm; }

    get usages() { return this.#inner.shownUsages; }

    get [SymbolToStringTag]() { return 'CryptoKey'; }
  }

  // A clone goes by its place here: no part of a key passes through the serializer.
  const cloned = [];
  ObjectDefineProperty(CryptoKey.prototype, core.hostObjectBrand, {
    __proto__: null,
    value() {
      ArrayPrototypePush(cloned, innerOf(this));
      return { type: 'CryptoKey', at: cloned.length - 1 };
    },
  });
  core.registerCloneableResource('CryptoKey', ({ at }) => {
    const inner = cloned[at];
    if (inner === undefined) throw fail('DataCloneError', 'The key could not be cloned.');
    cloned[at] = undefined;
    const { usages } = inner;
    return new CryptoKey(SECRET,
      { __proto__: null, ...inner, shownUsages: intersect(usages, usages) });
  });

  // Every method is async, so whatever it throws rejects its promise.
  class SubtleCrypto {
    #brand = true;

    constructor(token) { requireToken(token); }

    async digest(algorithm, data) {
      this.#enter(arguments.length, 2, 'digest');
      const { name } = normalize(algorithm, 'digest');
      return bufferOf(ask({ __proto__: null, operation: 'digest', name }, NOTHING, copyOf(data)));
    }

    async encrypt(algorithm, key, data) {
      this.#enter(arguments.length, 3, 'encrypt');
      return bufferOf(cipher('encrypt', algorithm, key, data));
    }

    async decrypt(algorithm, key, data) {
      this.#enter(arguments.length, 3, 'decrypt');
      return bufferOf(cipher('decrypt', algorithm, key, data));
    }

    async sign(algorithm, key, data) {
      this.#enter(arguments.length, 3, 'sign');
      const normal = normalize(algorithm, 'sign');
      const inner = usable(key, normal, 'sign');
      return bufferOf(ask(requestOf('sign', normal, inner), inner.material, copyOf(data)));
    }

    async verify(algorithm, key, signature, data) {
      this.#enter(arguments.length, 4, 'verify');
      const normal = normalize(algorithm, 'verify');
      const given = copyOf(signature);
      const inner = usable(key, normal, 'verify');
      const request = requestOf('verify', normal, inner);
      return ask(request, inner.material, copyOf(data), given)[0] === 1;
    }

    async generateKey(algorithm, extractable, keyUsages) {
      this.#enter(arguments.length, 3, 'generateKey');
      return generate(normalize(algorithm, 'generateKey'), !!extractable, usagesOf(keyUsages));
    }

    async deriveBits(algorithm, baseKey, length = null) {
      this.#enter(arguments.length, 2, 'deriveBits');
      const normal = normalize(algorithm, 'deriveBits');
      const bits = length === null ? null : toInteger32(length, 'length');
      return bufferOf(await derive(normal, usable(baseKey, normal, 'deriveBits'), bits));
    }

    async deriveKey(algorithm, baseKey, derivedKeyType, extractable, keyUsages) {
      this.#enter(arguments.length, 5, 'deriveKey');
      const normal = normalize(algorithm, 'deriveBits');
      const target = normalize(derivedKeyType, 'importKey');
      const length = keyLength(normalize(derivedKeyType, 'keyLength'));
      const usages = usagesOf(keyUsages);
      const secret = await derive(normal, usable(baseKey, normal, 'deriveKey'), length);
      return importInto('raw', secret, target, !!extractable, usages);
    }

    async importKey(format, keyData, algorithm, extractable, keyUsages) {
      this.#enter(arguments.length, 5, 'importKey');
      const form = formatOf(format);
      const data = form === 'jwk' ? jwkOf(keyData) : copyOf(keyData);
      const normal = normalize(algorithm, 'importKey');
      return importInto(form, data, normal, !!extractable, usagesOf(keyUsages));
    }

    async exportKey(format, key) {
      this.#enter(arguments.length, 2, 'exportKey');
      const form = formatOf(format);
      const exported = exportFrom(form, requireKey(key));
      return form === 'jwk' ? exported : bufferOf(exported);
    }

    async wrapKey(format, key, wrappingKey, wrapAlgorithm) {
      this.#enter(arguments.length, 4, 'wrapKey');
      const form = formatOf(format);
      const inner = requireKey(key);
      const { operation, normal } = normalizeEither(wrapAlgorithm, 'wrapKey', 'encrypt');
      const wrapping = usable(wrappingKey, normal, 'wrapKey');
      let data = exportFrom(form, inner);
      if (form === 'jwk') {
        const text = JSONStringify(data);
        // AES-KW wraps whole parts of 8 bytes; JSON may end in spaces.
        const whole = text.length + ((8 - (text.length % 8)) % 8);
        data = core.encode(operation === 'wrapKey' ? StringPrototypePadEnd(text, whole) : text);
      }
      return bufferOf(encipher(operation, normal, wrapping, data));
    }

    async unwrapKey(format, wrappedKey, unwrappingKey, unwrapAlgorithm, unwrappedKeyAlgorithm,
      extractable, keyUsages) {
      this.#enter(arguments.length, 7, 'unwrapKey');
      const form = formatOf(format);
      const wrapped = copyOf(wrappedKey);
      const { operation, normal } = normalizeEither(unwrapAlgorithm, 'unwrapKey', 'decrypt');
      const target = normalize(unwrappedKeyAlgorithm, 'importKey');
      const usages = usagesOf(keyUsages);
      const unwrapping = usable(unwrappingKey, normal, 'unwrapKey');
      const bytes = encipher(operation, normal, unwrapping, wrapped);
      const data = form === 'jwk' ? jwkOf(parseJwk(bytes)) : bytes;
      return importInto(form, data, target, !!extractable, usages);
    }

    get [SymbolToStringTag]() { return 'SubtleCrypto'; }

    #enter(given, wanted, method) { requireArguments(given, wanted, `crypto.subtle.${method}`); }
  }

  // --- operations ---

  /** Asks the host; turns its `NAME: text` into a DOMException. */
  function ask(request, key, data = NOTHING, first = NOTHING, second = NOTHING) {
    try {
      return op_crypto(JSONStringify(request), key, data, first, second);
    } catch (error) {
      throw translated(error);
    }
  }

  /** The same, away from this thread where the host can do that. */
  async function askSlow(request, key, data = NOTHING, first = NOTHING, second = NOTHING) {
    if (op_crypto_slow === undefined) return ask(request, key, data, first, second);
    try {
      return await op_crypto_slow(JSONStringify(request), [key, data, first, second]);
    } catch (error) {
      throw translated(error);
    }
  }

  const NAMES = ['OperationError', 'DataError', 'NotSupportedError'];

  function translated(error) {
    const message = `${error.message}`;
    for (let at = 0; at < NAMES.length; at++) {
      const prefix = `${NAMES[at]}: `;
      if (StringPrototypeStartsWith(message, prefix)) {
        return fail(NAMES[at], StringPrototypeSlice(message, prefix.length));
      }
    }
    return error;
  }

  /** `Request` of an operation: parameters of the call, then of the key. */
  function requestOf(operation, normal, inner) {
    return {
      __proto__: null,
      operation,
      name: normal.name,
      hash: normal.hash ?? inner?.hash,
      namedCurve: normal.namedCurve ?? inner?.namedCurve,
      length: normal.length,
      saltLength: normal.saltLength,
      tagLength: normal.tagLength,
      iterations: normal.iterations,
      modulusLength: normal.modulusLength,
    };
  }

  function cipher(operation, algorithm, key, data) {
    const normal = normalize(algorithm, operation);
    const bytes = copyOf(data);
    return encipher(operation, normal, usable(key, normal, operation), bytes);
  }

  /** encrypt, decrypt, wrapKey or unwrapKey, with all checks done. */
  function encipher(operation, normal, inner, data) {
    const first = normal.iv ?? normal.counter ?? normal.label;
    const request = requestOf(operation, normal, inner);
    return ask(request, inner.material, data, first, normal.additionalData);
  }

  /** Secret bytes; `length` in bits, `null` for as many as there are. */
  async function derive(normal, inner, length) {
    const { name } = normal;
    const request = requestOf('deriveBits', normal, inner);
    request.length = length ?? undefined;
    if (name === 'HKDF') return ask(request, inner.material, NOTHING, normal.salt, normal.info);
    if (name === 'PBKDF2') return askSlow(request, inner.material, NOTHING, normal.salt);
    const peer = normal.public;
    if (peer.type !== 'public') throw fail('InvalidAccessError', 'public is not a public key');
    if (peer.name !== name || peer.namedCurve !== inner.namedCurve) {
      throw fail('InvalidAccessError', 'public is a key of another algorithm or curve');
    }
    return ask(request, inner.material, peer.material);
  }

  async function generate(normal, extractable, usages) {
    const { name } = normal;
    const { uses } = TRAITS[name];
    const pair = uses.secret === undefined;
    checkUsages(usages, pair ? uses.pair : uses.secret);
    checkCurve(normal);
    if (pair) requireUsages(intersect(usages, uses.private));
    else requireUsages(usages);
    const request = requestOf('generateKey', normal);
    if (!pair) {
      request.length = keyLength(normal);
      if (request.length === 0) throw fail('OperationError', 'The length is 0');
      const material = ask(request, NOTHING);
      return makeKey(describe(normal, material), 'secret', extractable, usages, material);
    }
    const exponent = normal.publicExponent;
    const material = await (exponent === undefined ? ask : askSlow)(request, NOTHING, NOTHING,
      exponent);
    const publicMaterial = ask(requestOf('publicKey', normal), material);
    const about = describe(normal, publicMaterial);
    const publicUsages = intersect(usages, uses.public);
    const privateUsages = intersect(usages, uses.private);
    return {
      publicKey: makeKey(about, 'public', true, publicUsages, publicMaterial),
      privateKey: makeKey(about, 'private', extractable, privateUsages, material),
    };
  }

  /** Bits that a secret key of this algorithm takes; `null` where it takes any. */
  function keyLength({ name, length, hash }) {
    if (name === 'HKDF' || name === 'PBKDF2') return null;
    if (name === 'HMAC') {
      if (length === 0) throw new TypeError('The length of an HMAC key is not 0');
      return length ?? (hash === 'SHA-1' || hash === 'SHA-256' ? 512 : 1024);
    }
    if (length === 128 || length === 192 || length === 256) return length;
    throw fail('OperationError', 'AES keys have 128, 192 or 256 bits');
  }

  // --- keys in and out ---

  /** A key from bytes, or from a JWK's members. */
  function importInto(format, data, normal, extractable, usages) {
    const { name } = normal;
    const { uses, formats } = TRAITS[name];
    if (!ArrayPrototypeIncludes(formats, format)) {
      throw fail('NotSupportedError', `${name} keys do not have the format ${format}`);
    }
    const type = typeOf(uses, format, data);
    checkUsages(usages, uses[type]);
    checkCurve(normal);
    const derives = name === 'HKDF' || name === 'PBKDF2';
    if (derives && extractable) throw fail('SyntaxError', `${name} keys are not extractable`);
    const request = requestOf('importKey', normal);
    request.format = format;
    if (format === 'jwk') {
      checkJwk(data, name, extractable, usages);
      request.jwk = data;
    }
    let material = ask(request, NOTHING, format === 'jwk' ? NOTHING : data);
    if (name === 'HMAC') material = cutHmac(material, normal.length);
    const about = describe(normal, material, true);
    if (format === 'jwk') checkAlg(data.alg, about);
    if (type !== 'public') requireUsages(usages);
    return makeKey(about, type, extractable, usages, material);
  }

  function typeOf(uses, format, data) {
    if (uses.secret !== undefined) return 'secret';
    if (format === 'jwk') return data.d === undefined ? 'public' : 'private';
    return format === 'pkcs8' ? 'private' : 'public';
  }

  /** An HMAC key of `length` bits: the bits beyond it become zero. */
  function cutHmac(material, length) {
    const bits = material.length * 8;
    if (bits === 0) throw fail('DataError', 'The key is empty');
    if (length === undefined || length === bits) return material;
    if (length > bits || length <= bits - 8) {
      throw fail('DataError', `The key has ${bits} bits, not ${length}`);
    }
    material[material.length - 1] &= 0xff << (bits - length);
    return material;
  }

  /** What a key is, for requests (`name`, ...) and as its `algorithm` shows it. */
  function describe(normal, material, imported = false) {
    const { name, hash, namedCurve } = normal;
    const about = { __proto__: null, name, hash, namedCurve };
    const shown = { name };
    if (name === 'HMAC') {
      about.length = normal.length ?? material.length * 8;
      shown.hash = { name: hash };
      shown.length = about.length;
    } else if (TRAITS[name].suffix !== undefined) {
      about.length = shown.length = material.length * 8;
      if (imported && !ArrayPrototypeIncludes([128, 192, 256], about.length)) {
        throw fail('DataError', `AES keys have 128, 192 or 256 bits, not ${about.length}`);
      }
    } else if (namedCurve !== undefined) {
      shown.namedCurve = namedCurve;
    } else if (StringPrototypeStartsWith(name, 'RSA')) {
      const details = ask(requestOf('details', normal), material);
      const exponent = new Uint8Array(details.length - 4);
      for (let at = 0; at < exponent.length; at++) exponent[at] = details[at + 4];
      shown.modulusLength = (details[2] << 8) + details[3];
      shown.publicExponent = exponent;
      shown.hash = { name: hash };
    }
    about.algorithm = shown;
    return about;
  }

  function makeKey(about, type, extractable, usages, material) {
    const shownUsages = intersect(usages, usages);
    return new CryptoKey(SECRET,
      { __proto__: null, ...about, type, extractable, usages, shownUsages, material });
  }

  function exportFrom(format, inner) {
    const { name, type } = inner;
    const { formats, uses } = TRAITS[name];
    if (uses.secret === DERIVE) throw fail('NotSupportedError', `${name} keys are not exported`);
    if (!inner.extractable) throw fail('InvalidAccessError', 'The key is not extractable');
    if (!ArrayPrototypeIncludes(formats, format)) {
      throw fail('NotSupportedError', `${name} keys do not have the format ${format}`);
    }
    const wanted = format === 'pkcs8' ? 'private' : 'public';
    if (format !== 'jwk' && type !== 'secret' && type !== wanted) {
      throw fail('InvalidAccessError', `A ${type} key does not have the format ${format}`);
    }
    const request = requestOf('exportKey', inner);
    request.length = undefined;
    request.format = format;
    request.type = type;
    const bytes = ask(request, inner.material);
    if (format !== 'jwk') return bytes;
    const jwk = JSONParse(core.decode(bytes));
    if (TRAITS[name].namesAlg) jwk.alg = algsOf(inner)[0];
    jwk.key_ops = intersect(inner.usages, inner.usages);
    jwk.ext = true;
    return jwk;
  }

  const JWK_TEXTS = ['alg', 'crv', 'd', 'dp', 'dq', 'e', 'k', 'kty', 'n', 'p', 'q', 'qi', 'use',
    'x', 'y'];

  /** The members of a JsonWebKey that are there. */
  function jwkOf(given) {
    if (!isObject(given) || maybeBytesOf(given) !== undefined) {
      throw new TypeError('A key in the format jwk is an object');
    }
    const jwk = { __proto__: null };
    for (let at = 0; at < JWK_TEXTS.length; at++) {
      const value = given[JWK_TEXTS[at]];
      if (value !== undefined) jwk[JWK_TEXTS[at]] = `${value}`;
    }
    if (given.ext !== undefined) jwk.ext = !!given.ext;
    if (given.oth !== undefined) jwk.oth = true;
    if (given.key_ops !== undefined) {
      jwk.key_ops = [];
      for (const operation of given.key_ops) ArrayPrototypePush(jwk.key_ops, `${operation}`);
    }
    return jwk;
  }

  function parseJwk(bytes) {
    let jwk;
    try {
      jwk = JSONParse(core.decode(bytes));
    } catch {
      throw fail('DataError', 'The unwrapped key is not JSON');
    }
    if (isObject(jwk)) return jwk;
    throw fail('DataError', 'The unwrapped key is not a JSON object');
  }

  /** What RFC 7517 says of `use`, `key_ops` and `ext`. */
  function checkJwk(jwk, name, extractable, usages) {
    if (jwk.oth !== undefined) throw fail('NotSupportedError', 'RSA keys have two primes');
    const { use } = TRAITS[name];
    if (usages.length > 0 && jwk.use !== undefined && jwk.use !== use) {
      throw fail('DataError', `The JWK's use is ${jwk.use}, not ${use}`);
    }
    if (jwk.ext === false && extractable) throw fail('DataError', 'The JWK is not extractable');
    const operations = jwk.key_ops;
    if (operations === undefined) return;
    for (let at = 0; at < operations.length; at++) {
      if (ArrayPrototypeIncludes(operations, operations[at], at + 1)) {
        throw fail('DataError', `The JWK's key_ops has ${operations[at]} twice`);
      }
    }
    for (let at = 0; at < usages.length; at++) {
      if (!ArrayPrototypeIncludes(operations, usages[at])) {
        throw fail('DataError', `The JWK's key_ops does not have ${usages[at]}`);
      }
    }
  }

  function checkAlg(alg, about) {
    const algs = algsOf(about);
    if (alg === undefined || algs.length === 0 || ArrayPrototypeIncludes(algs, alg)) return;
    throw fail('DataError', `The JWK's alg is ${alg}, not ${algs[0]}`);
  }

  /** The JWK names of an algorithm with its parameters (RFC 7518, 8037). */
  function algsOf({ name, hash, namedCurve, length }) {
    const bits = hash === undefined ? '' : StringPrototypeSlice(hash, 4);
    const { suffix } = TRAITS[name];
    if (suffix !== undefined) return [`A${length}${suffix}`];
    switch (name) {
      case 'HMAC': return [`HS${bits}`];
      case 'RSASSA-PKCS1-v1_5': return [`RS${bits}`];
      case 'RSA-PSS': return [`PS${bits}`];
      case 'RSA-OAEP': return [hash === 'SHA-1' ? 'RSA-OAEP' : `RSA-OAEP-${bits}`];
      case 'ECDSA': return [namedCurve === 'P-521' ? 'ES512'
        : `ES${StringPrototypeSlice(namedCurve, 2)}`];
      case 'Ed25519': return ['Ed25519', 'EdDSA'];
      default: return [];
    }
  }

  // --- checks ---

  function requireKey(key) {
    const inner = innerOf(key);
    if (inner === undefined) throw new TypeError('The key is not a CryptoKey');
    return inner;
  }

  function usable(key, normal, usage) {
    const inner = requireKey(key);
    if (inner.name !== normal.name) {
      throw fail('InvalidAccessError', `The key is one of ${inner.name}, not ${normal.name}`);
    }
    if (!ArrayPrototypeIncludes(inner.usages, usage)) {
      throw fail('InvalidAccessError', `The key's usages do not have ${usage}`);
    }
    return inner;
  }

  function checkCurve({ namedCurve }) {
    if (namedCurve === undefined || ArrayPrototypeIncludes(CURVES, namedCurve)) return;
    throw fail('NotSupportedError', `Unrecognized curve ${namedCurve}: P-256, P-384, P-521`);
  }

  function checkUsages(usages, allowed) {
    for (let at = 0; at < usages.length; at++) {
      if (!ArrayPrototypeIncludes(allowed, usages[at])) {
        throw fail('SyntaxError', `The key cannot have the usage ${usages[at]}`);
      }
    }
  }

  function requireUsages(usages) {
    if (usages.length === 0) throw fail('SyntaxError', 'The key has no usages');
  }

  function intersect(usages, allowed) {
    const both = [];
    for (let at = 0; at < usages.length; at++) {
      if (ArrayPrototypeIncludes(allowed, usages[at])) ArrayPrototypePush(both, usages[at]);
    }
    return both;
  }

  // --- arguments ---

  /** An AlgorithmIdentifier as the operation has it: `name` and the dictionary's members. */
  function normalize(given, operation) {
    const source = isObject(given) ? given : { __proto__: null, name: given };
    if (source.name === undefined) throw new TypeError('The algorithm has no name');
    const text = `${source.name}`;
    const name = canonical()[StringPrototypeToUpperCase(text)];
    const layout = name === undefined ? undefined : ALGORITHMS[name][operation];
    if (layout === undefined) {
      const what = operation === 'keyLength' ? 'deriveKey' : operation;
      throw fail('NotSupportedError', `Unrecognized algorithm ${text} for ${what}`);
    }
    const normal = { __proto__: null, name };
    for (let at = 0; at < layout.length; at++) {
      const { member, convert, optional } = layout[at];
      const value = source[member];
      if (value !== undefined) normal[member] = convert(value, member);
      else if (!optional) throw new TypeError(`The algorithm ${name} needs the member ${member}`);
    }
    return normal;
  }

  /** Wrapping falls back to encrypting. */
  function normalizeEither(given, operation, fallback) {
    const { name } = normalize(given, 'anything');
    const chosen = ALGORITHMS[name][operation] === undefined ? fallback : operation;
    return { operation: chosen, normal: normalize(given, chosen) };
  }

  let names;

  /** Names as the specification writes them, by their upper case. */
  function canonical() {
    if (names !== undefined) return names;
    names = { __proto__: null };
    const all = ObjectKeys(ALGORITHMS);
    for (let at = 0; at < all.length; at++) names[StringPrototypeToUpperCase(all[at])] = all[at];
    return names;
  }

  function maybeBytesOf(value) {
    if (ArrayBufferIsView(value)) {
      const typed = TypedArrayPrototypeGetSymbolToStringTag(value) !== undefined;
      return typed
        ? new Uint8Array(TypedArrayPrototypeGetBuffer(value),
          TypedArrayPrototypeGetByteOffset(value), TypedArrayPrototypeGetByteLength(value))
        : new Uint8Array(DataViewPrototypeGetBuffer(value), DataViewPrototypeGetByteOffset(value),
          DataViewPrototypeGetByteLength(value));
    }
    try {
      return new Uint8Array(value, 0, ArrayBufferPrototypeGetByteLength(value));
    } catch {
      return undefined;
    }
  }

  /** The bytes of a BufferSource, not copied. */
  function bytesOf(value, what = 'The data') {
    const bytes = maybeBytesOf(value);
    if (bytes === undefined) throw new TypeError(`${what} is not an ArrayBuffer or a view of one`);
    return bytes;
  }

  const copyOf = (value, what) => new Uint8Array(bytesOf(value, what));
  const bufferOf = (bytes) => TypedArrayPrototypeGetBuffer(bytes);

  function formatOf(given) {
    const format = `${given}`;
    if (ArrayPrototypeIncludes(['raw', 'spki', 'pkcs8', 'jwk'], format)) return format;
    throw new TypeError(`${format} is not a key format: raw, spki, pkcs8, jwk`);
  }

  const USAGES = ['encrypt', 'decrypt', 'sign', 'verify', 'deriveKey', 'deriveBits', 'wrapKey',
    'unwrapKey'];

  /** A sequence of key usages, each once, in the specification's order. */
  function usagesOf(given) {
    if (!isObject(given)) throw new TypeError('The usages are not a sequence');
    const found = [];
    for (const usage of given) {
      const text = `${usage}`;
      if (!ArrayPrototypeIncludes(USAGES, text)) throw new TypeError(`${text} is not a key usage`);
      ArrayPrototypePush(found, text);
    }
    return intersect(USAGES, found);
  }

  /** WebIDL's [EnforceRange] for unsigned integers. */
  const integer = (most) => (value, what) => {
    if (typeof value === 'bigint') throw new TypeError(`${what} is a BigInt`);
    const whole = MathTrunc(Number(value));
    if (whole >= 0 && whole <= most) return whole;
    throw new TypeError(`${what} is not an integer from 0 to ${most}`);
  };
  const toInteger32 = integer(0xffffffff);

  function toExponent(value, what) {
    const tag = ArrayBufferIsView(value) ? TypedArrayPrototypeGetSymbolToStringTag(value) : '';
    if (tag === 'Uint8Array') return copyOf(value);
    throw new TypeError(`${what} is not a Uint8Array`);
  }

  // --- tables ---

  const need = (member, convert) => ({ __proto__: null, member, convert, optional: false });
  const may = (member, convert) => ({ __proto__: null, member, convert, optional: true });
  const toText = (value) => `${value}`;
  const CURVES = ['P-256', 'P-384', 'P-521'];
  const HASH = need('hash', (value) => normalize(value, 'digest').name);
  const CURVE = need('namedCurve', toText);
  const IV = need('iv', copyOf);
  const LENGTH = need('length', integer(0xffff));
  const HMAC_KEY = [HASH, may('length', toInteger32)];

  // No spreading of lists: whoever changed how arrays iterate gets the same tables.
  const all = (layout, operations) => {
    const table = { __proto__: null, anything: [] };
    for (let at = 0; at < operations.length; at++) table[operations[at]] = layout;
    return table;
  };
  const SIGNATURE = ['sign', 'verify'];
  const CIPHER = ['encrypt', 'decrypt'];
  const MAKE = ['generateKey', 'importKey'];
  const IN = ['importKey', 'keyLength'];
  const GCM = [may('additionalData', copyOf), IV, may('tagLength', integer(0xff))];
  const HKDF = [HASH, need('info', copyOf), need('salt', copyOf)];
  const PBKDF2 = [HASH, need('iterations', toInteger32), need('salt', copyOf)];
  const aes = (layout, operations = CIPHER) => ({
    ...all(layout, operations), generateKey: [LENGTH], keyLength: [LENGTH], importKey: [],
  });
  const rsa = (layout, operations) => ({
    ...all(layout, operations),
    generateKey: [HASH, need('modulusLength', toInteger32), need('publicExponent', toExponent)],
    importKey: [HASH],
  });
  const agree = (key) =>
    ({ ...all([need('public', requireKey)], ['deriveBits']), ...all(key, MAKE) });

  /** Algorithm, operation, members of its dictionary in the order WebIDL reads them. */
  const ALGORITHMS = {
    __proto__: null,
    'SHA-1': all([], ['digest']),
    'SHA-256': all([], ['digest']),
    'SHA-384': all([], ['digest']),
    'SHA-512': all([], ['digest']),
    HMAC: { ...all(HMAC_KEY, MAKE), ...all([], SIGNATURE), keyLength: HMAC_KEY },
    'AES-CBC': aes([IV]),
    'AES-CTR': aes([need('counter', copyOf), need('length', integer(0xff))]),
    'AES-GCM': aes(GCM),
    'AES-KW': aes([], ['wrapKey', 'unwrapKey']),
    'RSASSA-PKCS1-v1_5': rsa([], SIGNATURE),
    'RSA-PSS': rsa([need('saltLength', toInteger32)], SIGNATURE),
    'RSA-OAEP': rsa([may('label', copyOf)], CIPHER),
    ECDSA: { ...all([HASH], SIGNATURE), ...all([CURVE], MAKE) },
    ECDH: agree([CURVE]),
    Ed25519: { ...all([], SIGNATURE), ...all([], MAKE) },
    X25519: agree([]),
    HKDF: { ...all(HKDF, ['deriveBits']), ...all([], IN) },
    PBKDF2: { ...all(PBKDF2, ['deriveBits']), ...all([], IN) },
  };

  const DERIVE = ['deriveKey', 'deriveBits'];
  const WRAP = ['wrapKey', 'unwrapKey'];
  const SIGN = { secret: undefined, private: ['sign'], public: ['verify'], pair: SIGNATURE };
  const AGREE = { secret: undefined, private: DERIVE, public: [], pair: DERIVE };
  const BLOCK = { secret: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] };
  const OAEP = { secret: undefined, private: ['decrypt', 'unwrapKey'],
    public: ['encrypt', 'wrapKey'], pair: BLOCK.secret };
  const BYTES = ['raw', 'jwk'];
  const DER = ['spki', 'pkcs8', 'jwk'];
  const POINT = ['raw', 'spki', 'pkcs8', 'jwk'];
  const traits = (uses, formats, use, namesAlg = true, suffix = undefined) =>
    ({ __proto__: null, uses, formats, use, namesAlg, suffix });

  /** What keys are used for, how they are written, and how a JWK says so. */
  const TRAITS = {
    __proto__: null,
    HMAC: traits({ secret: SIGNATURE }, BYTES, 'sig'),
    'AES-CBC': traits(BLOCK, BYTES, 'enc', true, 'CBC'),
    'AES-CTR': traits(BLOCK, BYTES, 'enc', true, 'CTR'),
    'AES-GCM': traits(BLOCK, BYTES, 'enc', true, 'GCM'),
    'AES-KW': traits({ secret: WRAP }, BYTES, 'enc', true, 'KW'),
    'RSASSA-PKCS1-v1_5': traits(SIGN, DER, 'sig'),
    'RSA-PSS': traits(SIGN, DER, 'sig'),
    'RSA-OAEP': traits(OAEP, DER, 'enc'),
    ECDSA: traits(SIGN, POINT, 'sig', false),
    ECDH: traits(AGREE, POINT, 'enc', false),
    Ed25519: traits(SIGN, POINT, 'sig'),
    X25519: traits(AGREE, POINT, 'enc', false),
    HKDF: traits({ secret: DERIVE }, ['raw'], undefined),
    PBKDF2: traits({ secret: DERIVE }, ['raw'], undefined),
  };

  return { crypto: new Crypto(SECRET), Crypto, SubtleCrypto, CryptoKey };
})();
