// Request, of the Fetch standard.
//
// In: `__bootstrap`. Out: `Request`, for `fetch.js` `partsOf(request)`, for HTTP actions
// `requestOf(parts)`. Invariant: a request's URL is absolute and holds no credentials; its body
// belongs to it alone.
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const {
    ArrayPrototypeIncludes, ArrayPrototypeSlice, ObjectPrototypeIsPrototypeOf,
    RegExpPrototypeTest, StringPrototypeToUpperCase, TypeError,
  } = primordials;
  const webidl = core.loadExtScript('ext:deno_webidl/00_webidl.js');
  const { HTTP_TOKEN_CODE_POINT_RE } = core.loadExtScript('ext:deno_web/00_infra.js');
  const { URL } = core.loadExtScript('ext:deno_web/00_url.js');
  const { combined, fill, headersOf, listOf } = core.loadExtScript('ext:concave_web/headers.js');
  const { extract, mixBody } = core.loadExtScript('ext:concave_web/body.js');
  // Few requests have a signal.
  const signals = () => core.loadExtScript('ext:deno_web/03_abort_signal.js');

  const NORMALIZED = ['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT'];
  const FORBIDDEN = ['CONNECT', 'TRACE', 'TRACK'];
  /** Members that are kept for whoever looks at them; nothing here acts on most of them. */
  const SETTINGS = {
    __proto__: null,
    referrer: 'about:client', referrerPolicy: '', mode: 'cors', credentials: 'same-origin',
    cache: 'default', redirect: 'follow', integrity: '', keepalive: false,
  };
  const CHOICES = {
    __proto__: null,
    mode: ['navigate', 'same-origin', 'no-cors', 'cors'],
    credentials: ['omit', 'same-origin', 'include'],
    cache: ['default', 'no-store', 'reload', 'no-cache', 'force-cache', 'only-if-cached'],
    redirect: ['follow', 'error', 'manual'],
  };
  const PREFIX = "Failed to construct 'Request'";
  let partsOf;
  /** The first argument of a constructor that is called by `requestOf`. */
  const OURS = { __proto__: null };

  class Request {
    #parts;
    #headers;
    #signal;
    /** Makes the signal, for whoever looks at it; undefined once it was made. */
    #makeSignal;

    static {
      partsOf = (request) => {
        webidl.assertBranded(request, RequestPrototype);
        return { ...request.#parts, headers: request.#headers, signal: request.#known() };
      };
    }

    constructor(input, init = undefined) {
      webidl.requiredArguments(arguments.length, 1, PREFIX);
      if (input === OURS) {
        const { url, method, list, content, makeSignal } = init;
        this[webidl.brand] = webidl.brand;
        this.#parts = { __proto__: null, ...SETTINGS, method, url, content };
        this.#headers = headersOf(list, true);
        this.#makeSignal = makeSignal;
        return;
      }
      const options = toOptions(init);
      const source = ObjectPrototypeIsPrototypeOf(RequestPrototype, input) ? input : undefined;
      const base = source === undefined ? { __proto__: null, ...SETTINGS, method: 'GET',
        url: toUrl(input), content: null } : source.#parts;
      this[webidl.brand] = webidl.brand;
      this.#parts = settings(base, options);
      if (options.method !== undefined) this.#parts.method = toMethod(options.method);
      this.#signal = options.signal === undefined ? source?.#known() : toSignal(options.signal);
      this.#headers = headersOf(
        source === undefined || options.headers !== undefined ? []
          : ArrayPrototypeSlice(listOf(source.#headers)), false);
      if (options.headers !== undefined) {
        fill(this.#headers, webidl.converters.HeadersInit(options.headers, PREFIX, "'headers'"));
      }
      this.#setBody(options, source);
    }

    #setBody({ body: init, duplex }, source) {
      const parts = this.#parts;
      const inherited = init === undefined || init === null ? source?.#parts.content ?? null : null;
      const given = init !== undefined && init !== null;
      parts.content = null;
      if ((given || inherited !== null) && (parts.method === 'GET' || parts.method === 'HEAD')) {
        throw new TypeError(`${PREFIX}: a request with method ${parts.method} has no body`);
      }
      if (given) {
        const { content, type } = extract(init);
        parts.content = content;
        // What has no known end is sent while the answer comes, and whoever sends it has to know.
        if (content.source === undefined && duplex === undefined) {
          throw new TypeError(`${PREFIX}: a body that is a stream needs duplex: 'half'`);
        }
        if (type !== null && !this.#headers.has('content-type')) {
          this.#headers.append('content-type', type);
        }
      } else if (inherited !== null) {
        if (inherited.isUnusable) {
          throw new TypeError(`${PREFIX}: the body of the request has been read already`);
        }
        parts.content = inherited.move();
      }
    }

    get method() { return this.#get().method; }
    get url() { return this.#get().url; }
    get headers() {
      this.#get();
      return this.#headers;
    }
    get destination() {
      this.#get();
      return '';
    }
    get referrer() { return this.#get().referrer; }
    get referrerPolicy() { return this.#get().referrerPolicy; }
    get mode() { return this.#get().mode; }
    get credentials() { return this.#get().credentials; }
    get cache() { return this.#get().cache; }
    get redirect() { return this.#get().redirect; }
    get integrity() { return this.#get().integrity; }
    get keepalive() { return this.#get().keepalive; }
    get duplex() {
      this.#get();
      return 'half';
    }

    get signal() {
      this.#get();
      return this.#known() ?? (this.#signal = signals().newSignal());
    }

    /** The signal, where it is one that can abort or that somebody has seen. */
    #known() {
      if (this.#makeSignal !== undefined) {
        this.#signal = this.#makeSignal();
        this.#makeSignal = undefined;
      }
      return this.#signal;
    }

    clone() {
      const parts = this.#get();
      if (parts.content?.isUnusable) {
        throw new TypeError('A request whose body has been read or is locked cannot be cloned');
      }
      const copy = new Request(parts.url);
      copy.#parts = { ...parts, content: parts.content?.copy() ?? null };
      copy.#headers = headersOf(ArrayPrototypeSlice(listOf(this.#headers)), false);
      copy.#signal = this.#known();
      return copy;
    }

    #get() {
      webidl.assertBranded(this, RequestPrototype);
      return this.#parts;
    }
  }
  const RequestPrototype = Request.prototype;
  /** A request that came from elsewhere: `url` is normal, `list` is what Headers hold. */
  const requestOf = (parts) => new Request(OURS, parts);
  mixBody(Request, (request) => partsOf(request).content,
    (request) => combined(listOf(request.headers), 'content-type'));
  webidl.configureInterface(Request);

  function toOptions(init) {
    if (init === undefined || init === null) return { __proto__: null };
    if (webidl.type(init) !== 'Object') {
      throw new TypeError(`${PREFIX}: Argument 2 can not be converted to a dictionary`);
    }
    return init;
  }

  function toUrl(input) {
    const text = webidl.converters.USVString(input, PREFIX, 'Argument 1');
    let url;
    try {
      url = new URL(text);
    } catch {
      throw new TypeError(`${PREFIX}: ${primordials.JSONStringify(text)} is not an absolute URL`);
    }
    if (url.username !== '' || url.password !== '') {
      throw new TypeError(`${PREFIX}: the URL has a user name or password; send an Authorization `
        + 'header instead');
    }
    return url.href;
  }

  function toMethod(given) {
    const method = webidl.converters.ByteString(given, PREFIX, "'method'");
    const upper = StringPrototypeToUpperCase(method);
    const isToken = RegExpPrototypeTest(HTTP_TOKEN_CODE_POINT_RE, method);
    if (!isToken || ArrayPrototypeIncludes(FORBIDDEN, upper)) {
      throw new TypeError(`${PREFIX}: ${primordials.JSONStringify(method)} is no method that can `
        + 'be sent');
    }
    return ArrayPrototypeIncludes(NORMALIZED, upper) ? upper : method;
  }

  function toSignal(signal) {
    if (signal === null) return undefined;
    const { AbortSignal } = signals();
    // A signal of its own, which follows the one that was given.
    return AbortSignal.any([webidl.converters.AbortSignal(signal, PREFIX, "'signal'")]);
  }

  function settings(base, options) {
    const parts = { __proto__: null, ...base };
    for (const name in SETTINGS) {
      const value = options[name];
      if (value === undefined) continue;
      const text = name === 'keepalive' ? Boolean(value) : webidl.converters.DOMString(value);
      if (CHOICES[name] !== undefined && !ArrayPrototypeIncludes(CHOICES[name], text)) {
        throw new TypeError(`${PREFIX}: '${name}' cannot be ${primordials.JSONStringify(text)}`);
      }
      parts[name] = text;
    }
    if (options.mode !== undefined && parts.mode === 'navigate') {
      throw new TypeError(`${PREFIX}: 'mode' cannot be "navigate"`);
    }
    if (parts.cache === 'only-if-cached' && parts.mode !== 'same-origin') {
      throw new TypeError(`${PREFIX}: 'cache' is "only-if-cached" with mode "same-origin" only`);
    }
    const { duplex } = options;
    if (duplex !== undefined && webidl.converters.DOMString(duplex) !== 'half') {
      throw new TypeError(`${PREFIX}: 'duplex' can only be "half"`);
    }
    return parts;
  }

  return { Request, RequestPrototype, partsOf, requestOf };
})();
