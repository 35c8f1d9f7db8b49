// What a test answers the `fetch` of its actions with (`t.onFetch`), as `fetch` gives it.
//
// In: scripts, newest first, and what `fetch` was called with. Out: its response, or what it
// rejects with. Invariant: aborts, redirects and failures are those of the Fetch standard; a
// request that fits no script does not leave the process.
const REDIRECTS = [301, 302, 303, 307, 308];
const MOST_REDIRECTS = 20;

const OF_A_BODY = ['content-encoding', 'content-language', 'content-length', 'content-location',
  'content-type'];
const OF_AN_ORIGIN = ['authorization', 'cookie', 'host', 'proxy-authorization'];

/** What a value is, of whichever realm its class is. */
const tagOf = (value) => Object.prototype.toString.call(value).slice('[object '.length, -1);

const isWeb = (protocol) => protocol === 'http:' || protocol === 'https:';

const urlOf = (text, base) => {
  try {
    return new URL(text, base);
  } catch {
    return undefined;
  }
};

/** How a URL begins that fits a pattern: as a request would write it. */
const beginning = (pattern) => {
  const url = urlOf(pattern);
  if (url !== undefined && isWeb(url.protocol)) return url.href;
  // Any host: "https://".
  if (url === undefined && /^https?:/i.test(pattern)) return pattern;
  throw new TypeError(`t.onFetch(${JSON.stringify(pattern)}, …): write how the URL begins, with `
    + '"https://" or "http://" and the whole host, or a RegExp.');
};

/** Which requests a handler answers. */
export const scriptOf = (pattern, handler) => {
  const kind = tagOf(pattern);
  if (!['String', 'URL', 'RegExp'].includes(kind) || typeof handler !== 'function') {
    throw new TypeError('t.onFetch takes how the URL begins, or a RegExp, and a function: '
      + 't.onFetch("https://example.com/", (request) => new Response("…")).');
  }
  // A RegExp with `g` would go on from where it was.
  if (kind === 'RegExp') return { pattern, handler, fits: (url) => url.search(pattern) >= 0 };
  const start = beginning(`${pattern}`);
  return { pattern: start, handler, fits: (url) => url.startsWith(start) };
};

const failed = (url, why) => new TypeError(`Could not fetch ${url}: ${why}`);

/** What the script of a request answers. */
const answerTo = async (scripts, request) => {
  const { url } = request;
  const found = scripts.find(({ fits }) => fits(url));
  if (found === undefined) {
    throw new TypeError(`fetch(${JSON.stringify(url)}) is not scripted in this test: `
      + `t.onFetch(${JSON.stringify(url)}, () => new Response(…)).`);
  }
  const response = await found.handler(request);
  if (tagOf(response) !== 'Response') {
    throw new TypeError(`t.onFetch(${found.pattern}, …): its function must return a Response, not `
      + `${response === null ? 'null' : typeof response}: new Response("text"), or `
      + 'Response.json(value).');
  }
  if (response.type === 'error') {
    throw failed(url, 'its script answered Response.error(), a network error.');
  }
  if (response.bodyUsed) {
    throw failed(url, 'its script answered with a Response that was read before. Make a new one '
      + 'for each request.');
  }
  return response;
};

/** What `work` comes to, unless the signal aborts it first. */
const unlessAborted = (signal, work) => new Promise((resolve, reject) => {
  const abort = () => reject(signal.reason);
  if (signal?.aborted) {
    abort();
    return;
  }
  signal?.addEventListener('abort', abort, { once: true });
  work().then(resolve, reject).finally(() => signal?.removeEventListener('abort', abort));
});

/** The request that a redirect leads to; `spare` has the body of the one before. */
const followed = async (request, spare, { status, location }, signal) => {
  const { url, method, redirect } = request;
  const next = urlOf(location, url);
  if (next === undefined || !isWeb(next.protocol)) {
    throw failed(url, `it redirects to ${location}, which is no http: or https: address.`);
  }
  next.hash = '';
  const headers = new Headers(request.headers);
  const drop = (names) => { names.forEach((name) => headers.delete(name)); };
  if (next.origin !== new URL(url).origin) drop(OF_AN_ORIGIN);
  const isGet = method === 'GET' || method === 'HEAD';
  if (status === 303 ? !isGet : status < 303 && method === 'POST') {
    drop(OF_A_BODY);
    return new Request(next, { method: 'GET', headers, redirect, signal });
  }
  if (!isGet && spare === undefined) {
    throw failed(url, `it redirects with status ${status}, and the request's body is a stream, `
      + 'which cannot be sent twice. Send it as a string, bytes or a Blob.');
  }
  const body = isGet ? undefined : await spare.arrayBuffer();
  return new Request(next, { method, headers, redirect, signal, body });
};

/** A response that knows where it comes from, as its copies do. */
const placed = (response, url, redirected) => {
  const copy = () => placed(Object.getPrototypeOf(response).clone.call(response), url, redirected);
  const own = (value) => ({ value, configurable: true, writable: true });
  const members = { url: own(url), redirected: own(redirected), clone: own(copy) };
  return Object.defineProperties(response, members);
};

/** A script's response as `fetch` gives it: none of a body for HEAD, and one that ends when the
 * signal aborts. */
const received = (response, { method, url }, signal, redirected) => {
  const { status, statusText, headers } = response;
  const [source] = url.split('#');
  const isRead = method !== 'HEAD' && response.body !== null;
  const isPlain = signal === undefined || signal === null;
  if (method !== 'HEAD' && (isPlain || !isRead)) return placed(response, source, redirected);
  const body = isRead ? response.body.pipeThrough(new TransformStream(), { signal }) : null;
  return placed(new Response(body, { status, statusText, headers }), source, redirected);
};

/** `fetch` where scripts answer. */
export const scripted = async (scripts, [input, init]) => {
  let request = new Request(input, init);
  const signal = init?.signal === undefined ? input?.signal : init.signal;
  const isStream = tagOf(init?.body) === 'ReadableStream';
  for (let redirects = 0; ; redirects++) {
    const { method, redirect, url } = request;
    const isGet = method === 'GET' || method === 'HEAD';
    // The script may read the request.
    const spare = isGet || isStream ? undefined : request.clone();
    const asked = request;
    const response = await unlessAborted(signal, () => answerTo(scripts, asked));
    const { status } = response;
    const location = REDIRECTS.includes(status) ? response.headers.get('location') : null;
    if (location === null || redirect === 'manual') {
      return received(response, request, signal, redirects > 0);
    }
    if (redirect === 'error') {
      throw failed(url, `it redirects to ${location}, and the request's redirect is "error".`);
    }
    if (redirects >= MOST_REDIRECTS) {
      throw failed(url, `there were more than ${MOST_REDIRECTS} redirects, the last one to `
        + `${location}.`);
    }
    request = await followed(request, spare, { status, location }, signal);
  }
};
