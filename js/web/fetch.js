// fetch, of the Fetch standard, without what only browsers have: cookies, caches, CORS.
//
// In: `__bootstrap` with core.ops of runtime/actions/src/fetch.rs:
//   op_fetch_start({method, url, headers, streams}, bytes) -> number of an exchange, or throws.
//     `streams`: the body follows in op_fetch_write; else it is `bytes`, or nothing for null.
//   op_fetch_response(exchange) -> promise of {status, statusText, headers}, or of {failure}: why
//     the network has no answer, as {reason, code}.
//   op_fetch_write(exchange, bytes) -> promise of whether more is wanted; op_fetch_end(exchange).
//   op_fetch_read(exchange) -> promise of bytes, of null at the end, or of {failure}.
//   op_fetch_cancel(exchange): whatever waits for it rejects.
//   op_fetch_redirects() -> how many are followed.
// Out: `fetch`. Invariant: whatever fails rejects with an error that names the URL and says what to
// do; an abort rejects with the signal's reason, and nothing of the exchange goes on.
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const {
    ArrayBufferIsView, ArrayPrototypeFilter, ArrayPrototypeIncludes, ArrayPrototypePush, Error,
    ObjectDefineProperty, PromisePrototypeCatch, StringPrototypeIndexOf, StringPrototypeSlice,
    TypeError,
  } = primordials;
  const { ops } = core;
  const { URL } = core.loadExtScript('ext:deno_web/00_url.js');
  const { add, remove } = core.loadExtScript('ext:deno_web/03_abort_signal.js');
  const { ReadableStream } = core.loadExtScript('ext:deno_web/06_streams.js');
  const { listOf } = core.loadExtScript('ext:concave_web/headers.js');
  const { Content, markUnplaced } = core.loadExtScript('ext:concave_web/body.js');
  const { Request, partsOf } = core.loadExtScript('ext:concave_web/request.js');
  const { NO_BODY, REDIRECTS, responseOf } = core.loadExtScript('ext:concave_web/response.js');

  const OF_A_BODY = ['content-encoding', 'content-language', 'content-length', 'content-location',
    'content-type'];
  const OF_AN_ORIGIN = ['authorization', 'cookie', 'host', 'proxy-authorization'];

  /** A URL in an error: without what may be secret. */
  const named = (url) => {
    const at = StringPrototypeIndexOf(url, '?');
    return at < 0 ? url : `${StringPrototypeSlice(url, 0, at)}?...`;
  };
  const failed = (url, why) => new TypeError(`Could not fetch ${named(url)}: ${why}`);

  /** What the network did. It begins as Deno's: code that tries again knows such errors by that. */
  const broken = (url, { reason, code }) => {
    const cause = new Error(reason);
    if (code !== null) cause.code = code;
    return new TypeError(`error sending request for url (${named(url)}): ${reason}`, { cause });
  };

  const { fetch } = {
    async fetch(input, init = undefined) {
      if (arguments.length === 0) throw new TypeError('fetch takes a URL or a Request');
      const request = new Request(input, init);
      const hop = await firstHop(partsOf(request));
      const { signal } = hop;
      for (let redirects = 0; ; redirects++) {
        signal?.throwIfAborted();
        const exchange = begin(hop);
        const head = await exchange.head();
        const location = redirectOf(head);
        if (location === undefined || hop.redirect === 'manual') {
          return answer(hop, exchange, head, redirects > 0);
        }
        exchange.cancel();
        if (hop.redirect === 'error') {
          throw failed(hop.url, `it redirects to ${named(location)}, and the request's redirect is `
            + '"error". Fetch that address, or leave `redirect` out.');
        }
        if (redirects >= ops.op_fetch_redirects()) {
          throw failed(hop.first, `there were more than ${redirects} redirects, the last one to `
            + `${named(location)}. If they go round in a circle, the server expects something that `
            + 'the request does not have, as a cookie or a header.');
        }
        follow(hop, head.status, location);
      }
    },
  };
  ObjectDefineProperty(fetch, 'length', { __proto__: null, value: 1, configurable: true });

  /** What is sent, and changes with each redirect. */
  async function firstHop({ method, url, headers, content, redirect, signal }) {
    const { protocol } = new URL(url);
    if (protocol !== 'http:' && protocol !== 'https:') {
      throw failed(url, `${protocol} addresses cannot be fetched; http: and https: can.`);
    }
    const hash = StringPrototypeIndexOf(url, '#');
    const hop = { __proto__: null, method, redirect, signal, list: [], bytes: null, stream: null,
      url: hash < 0 ? url : StringPrototypeSlice(url, 0, hash), first: url };
    const list = listOf(headers);
    for (let at = 0; at < list.length; at++) ArrayPrototypePush(hop.list, list[at]);
    if (content !== null) {
      if (content.source === undefined) hop.stream = content.stream;
      else hop.bytes = await content.take();
    } else if (method === 'POST' || method === 'PUT') {
      hop.bytes = core.encode('');
    }
    return hop;
  }

  /** Sends a hop. */
  function begin(hop) {
    const { method, url, list, signal, stream } = hop;
    const head = { method, url, headers: list, streams: stream !== null };
    const id = ops.op_fetch_start(head, hop.bytes);
    const exchange = { __proto__: null, id, failure: undefined };
    const abort = () => { ops.op_fetch_cancel(id); };
    signal?.[add](abort);
    exchange.cancel = () => {
      signal?.[remove](abort);
      ops.op_fetch_cancel(id);
    };
    exchange.done = () => { signal?.[remove](abort); };
    /** The reason of an abort, or why the body could not be sent, is the error that counts. */
    exchange.guard = async (promise) => {
      try {
        const answered = await promise;
        if (answered?.failure !== undefined) throw broken(url, answered.failure);
        return answered;
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        throw exchange.failure === undefined ? markUnplaced(error) : exchange.failure.error;
      }
    };
    exchange.head = () => exchange.guard(ops.op_fetch_response(id));
    if (stream !== null) PromisePrototypeCatch(send(exchange, stream), () => {});
    return exchange;
  }

  /** Sends a stream's chunks; what it throws becomes the error of the exchange. */
  async function send(exchange, stream) {
    const reader = stream.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (!ArrayBufferIsView(value)) throw new TypeError('A body is a stream of Uint8Arrays');
        if (!(await ops.op_fetch_write(exchange.id, value))) {
          await reader.cancel('nobody reads it any more');
          return;
        }
      }
      ops.op_fetch_end(exchange.id);
    } catch (error) {
      exchange.failure = { error };
      ops.op_fetch_cancel(exchange.id);
      throw error;
    }
  }

  function redirectOf({ status, headers }) {
    if (!ArrayPrototypeIncludes(REDIRECTS, status)) return undefined;
    for (let at = 0; at < headers.length; at++) {
      if (headers[at][0] === 'location') return headers[at][1];
    }
    return undefined;
  }

  function follow(hop, status, location) {
    let next;
    try {
      next = new URL(location, hop.url);
    } catch {
      throw failed(hop.url, `it redirects to ${location}, which is no URL.`);
    }
    if (next.protocol !== 'http:' && next.protocol !== 'https:') {
      throw failed(hop.url, `it redirects to a ${next.protocol} address, which cannot be fetched.`);
    }
    const drop = (names) => {
      hop.list = ArrayPrototypeFilter(hop.list, (pair) => !ArrayPrototypeIncludes(names, pair[0]));
    };
    const toGet = status === 303 ? hop.method !== 'GET' && hop.method !== 'HEAD'
      : (status === 301 || status === 302) && hop.method === 'POST';
    if (toGet) {
      hop.method = 'GET';
      hop.bytes = null;
      hop.stream = null;
      drop(OF_A_BODY);
    } else if (hop.stream !== null) {
      throw failed(hop.url, `it redirects with status ${status}, and the request's body is a `
        + 'stream, which cannot be sent twice. Send it as a string, bytes or a Blob.');
    }
    if (next.origin !== new URL(hop.url).origin) drop(OF_AN_ORIGIN);
    next.hash = '';
    hop.url = next.href;
  }

  function answer(hop, exchange, { status, statusText, headers }, redirected) {
    const parts = { type: 'basic', url: hop.url, redirected, status, statusText, content: null };
    if (hop.method === 'HEAD' || ArrayPrototypeIncludes(NO_BODY, status)) exchange.cancel();
    else parts.content = new Content(undefined, incoming(exchange), named(hop.url));
    return responseOf(parts, headers);
  }

  function incoming(exchange) {
    return new ReadableStream({
      type: 'bytes',
      async pull(controller) {
        const chunk = await exchange.guard(ops.op_fetch_read(exchange.id));
        if (chunk !== null) {
          controller.enqueue(chunk);
          return;
        }
        exchange.done();
        controller.close();
        // A pending BYOB read is answered only now.
        controller.byobRequest?.respond(0);
      },
      cancel() { exchange.cancel(); },
    });
  }

  return { fetch };
})();
