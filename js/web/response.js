// Response, of the Fetch standard.
//
// In: `__bootstrap`. Out: `Response`, for `fetch.js` `responseOf(parts)`, for HTTP actions
// `contentOf(response)`. Invariant: the status is 200 to 599, and each may have a body, as in
// Convex's runtime: published packages answer 204 and 205 with ''. What sends one leaves it out.
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const {
    ArrayPrototypeIncludes, ArrayPrototypeSlice, JSONStringify, RangeError, RegExpPrototypeTest,
    SafeRegExp, TypeError,
  } = primordials;
  const webidl = core.loadExtScript('ext:deno_webidl/00_webidl.js');
  const { URL } = core.loadExtScript('ext:deno_web/00_url.js');
  const { combined, fill, headersOf, listOf } = core.loadExtScript('ext:concave_web/headers.js');
  const { extract, mixBody } = core.loadExtScript('ext:concave_web/body.js');

  const NO_BODY = [101, 103, 204, 205, 304];
  const REDIRECTS = [301, 302, 303, 307, 308];
  const REASON = new SafeRegExp('^[\\t\\x20-\\x7e\\x80-\\xff]*$');
  const PREFIX = "Failed to construct 'Response'";
  let contentOf;
  let responseOf;

  class Response {
    #parts = { __proto__: null, type: 'default', url: '', redirected: false, status: 200,
      statusText: '', content: null };
    #headers;

    static {
      contentOf = (response) => response.#get().content;
      /** A response that came from elsewhere; its headers cannot be changed. */
      responseOf = (parts, list) => {
        const response = new Response();
        response.#parts = { __proto__: null, ...response.#parts, ...parts };
        response.#headers = headersOf(list, true);
        return response;
      };
    }

    static error() { return responseOf({ type: 'error', status: 0 }, []); }

    static json(data, init = undefined) {
      const prefix = "Failed to execute 'json' on 'Response'";
      webidl.requiredArguments(arguments.length, 1, prefix);
      const text = JSONStringify(data);
      if (text === undefined) throw new TypeError(`${prefix}: the value cannot be written as JSON`);
      const response = new Response();
      response.#init(init, { ...extract(text), type: 'application/json' });
      return response;
    }

    static redirect(url, status = 302) {
      const prefix = "Failed to execute 'redirect' on 'Response'";
      webidl.requiredArguments(arguments.length, 1, prefix);
      const { href } = new URL(webidl.converters.USVString(url, prefix, 'Argument 1'));
      const code = webidl.converters['unsigned short'](status, prefix, 'Argument 2');
      if (!ArrayPrototypeIncludes(REDIRECTS, code)) {
        throw new RangeError(`${prefix}: ${code} is not a redirect status`);
      }
      return responseOf({ status: code }, [['location', href]]);
    }

    constructor(body = undefined, init = undefined) {
      this[webidl.brand] = webidl.brand;
      const given = body === undefined || body === null ? undefined : extract(body);
      this.#init(init, given);
    }

    #init(init, body) {
      const options = init ?? { __proto__: null };
      if (webidl.type(options) !== 'Object') {
        throw new TypeError(`${PREFIX}: Argument 2 can not be converted to a dictionary`);
      }
      const { headers, status = 200, statusText = '' } = options;
      const code = webidl.converters['unsigned short'](status, PREFIX, "'status'");
      if (code < 200 || code > 599) {
        throw new RangeError(`${PREFIX}: the status ${code} is outside of 200 to 599`);
      }
      const reason = webidl.converters.ByteString(statusText, PREFIX, "'statusText'");
      if (!RegExpPrototypeTest(REASON, reason)) {
        throw new TypeError(`${PREFIX}: 'statusText' has a line end or control character`);
      }
      this.#parts.status = code;
      this.#parts.statusText = reason;
      this.#headers = headersOf([], false);
      if (headers !== undefined) {
        fill(this.#headers, webidl.converters.HeadersInit(headers, PREFIX, "'headers'"));
      }
      if (body === undefined) return;
      this.#parts.content = body.content;
      if (body.type !== null && !this.#headers.has('content-type')) {
        this.#headers.append('content-type', body.type);
      }
    }

    get type() { return this.#get().type; }
    get url() { return this.#get().url; }
    get redirected() { return this.#get().redirected; }
    get status() { return this.#get().status; }
    get ok() { return this.#get().status >= 200 && this.#get().status <= 299; }
    get statusText() { return this.#get().statusText; }
    get headers() {
      this.#get();
      return this.#headers;
    }

    clone() {
      const parts = this.#get();
      if (parts.content?.isUnusable) {
        throw new TypeError('A response whose body has been read or is locked cannot be cloned');
      }
      const copy = new Response();
      copy.#parts = { ...parts, content: parts.content?.copy() ?? null };
      copy.#headers = headersOf(ArrayPrototypeSlice(listOf(this.#headers)), false);
      return copy;
    }

    #get() {
      webidl.assertBranded(this, ResponsePrototype);
      return this.#parts;
    }
  }
  const ResponsePrototype = Response.prototype;
  mixBody(Response, contentOf, (response) => combined(listOf(response.headers), 'content-type'));
  webidl.configureInterface(Response);

  return { Response, ResponsePrototype, contentOf, responseOf, NO_BODY, REDIRECTS };
})();
