// The servers that fetch is tested against.
//
// In: a handler of requests. Out: an address. Invariant: every path says in one line what it does;
// nothing waits for a time.
import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from "node:zlib";

const LONG = "0123456789 ".repeat(20_000);
const CODINGS = {
  gzip: ["gzip", gzipSync], deflate: ["deflate", deflateSync], br: ["br", brotliCompressSync],
  raw: ["deflate", deflateRawSync], none: ["identity", (text) => Buffer.from(text)],
  broken: ["gzip", (text) => gzipSync(text).subarray(0, 300)],
};

/** Starts a server; `stop()` ends it with whatever is open. */
export async function listen(create = createServer) {
  const state = { steps: undefined, seen: new Map(), ended: new Map(), waiting: [] };
  const server = create((request, response) => {
    const url = new URL(request.url, "http://host");
    const path = Object.keys(PATHS).find((known) => url.pathname.startsWith(known));
    count(state, state.seen, url.pathname);
    response.on("close", () => count(state, state.ended, url.pathname));
    if (path === undefined) response.writeHead(404).end("no such path");
    else PATHS[path]({ request, response, url, state, rest: url.pathname.slice(path.length) });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${port}`, port, state, stop };
}

/** An address where nobody listens, and nobody else will: it is this end of a connection that stays
 * open until `stop()`. */
export async function deaf() {
  const { port, stop } = await listen();
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  socket.on("error", () => {});
  return { url: `http://127.0.0.1:${socket.localPort}`, stop: () => (socket.destroy(), stop()) };
}

function count(state, counts, path) {
  counts.set(path, (counts.get(path) ?? 0) + 1);
  state.waiting.forEach((look) => look());
}

/** Waits until `test` holds. */
export function until(state, test) {
  return new Promise((resolve) => {
    const look = () => {
      if (!test()) return;
      state.waiting = state.waiting.filter((other) => other !== look);
      resolve();
    };
    state.waiting.push(look);
    look();
  });
}

/** Headers that say nothing of the client's make. */
const OWN = ["accept", "authorization", "content-type", "x-own", "x-two", "x-latin", "x-kept"];

const PATHS = {
  async "/echo"({ request, response, url }) {
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return;
    }
    const text = Buffer.concat(chunks).toString();
    const headers = OWN.filter((name) => request.headers[name] !== undefined)
      .map((name) => [name, request.headers[name]]);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ method: request.method, path: `${url.pathname}${url.search}`,
      host: request.headers.host, headers, type: request.headers["content-type"],
      length: request.headers["content-length"], text }));
  },
  "/redirect/"({ response, url, rest }) {
    const to = url.searchParams.get("to");
    response.writeHead(Number(rest), to === null ? {} : { location: to }).end("moved");
  },
  "/loop"({ response }) { response.writeHead(302, { location: "/loop" }).end(); },
  "/status/"({ response, rest }) {
    response.writeHead(Number(rest));
    response.end(rest === "204" || rest === "304" ? undefined : "text");
  },
  "/cookies"({ response }) {
    response.setHeader("set-cookie", ["a=1", "b=2"]);
    response.setHeader("x-twice", ["1", "2"]);
    response.end("[1]");
  },
  "/bytes"({ response }) {
    response.setHeader("content-type", "image/PNG");
    response.end(Buffer.from([0, 255, 128]));
  },
  "/form"({ response }) {
    response.setHeader("content-type", "application/x-www-form-urlencoded");
    response.end("a=1&b=%C3%A9");
  },
  /** Promises more than it sends. */
  "/cut"({ response }) {
    response.writeHead(200, { "content-length": "100" });
    response.write("some", () => response.destroy());
  },
  "/coded/"({ response, rest }) {
    const [header, encode] = CODINGS[rest];
    response.setHeader("content-encoding", header);
    response.end(encode(LONG));
  },
  /** Takes the request and says nothing. */
  "/silent"() {},
  "/endless"({ response }) {
    const more = () => {
      while (!response.destroyed && response.write(LONG));
    };
    response.on("drain", more);
    more();
  },
  /** Answers when the path has been asked for. */
  async "/wait"({ response, url, state }) {
    await until(state, () => state.seen.has(url.searchParams.get("for")));
    response.end();
  },
  /** Answers when responses of the path have ended, on whichever side. */
  async "/ended"({ response, url, state }) {
    const [path, wanted] = [url.searchParams.get("path"), Number(url.searchParams.get("count"))];
    await until(state, () => (state.ended.get(path) ?? 0) >= wanted);
    response.end("ended");
  },
  "/steps"({ response, state }) {
    let step = 1;
    state.steps = () => {
      if (step > 3) response.end();
      else response.write(`step ${step++}`);
    };
    state.steps();
  },
  "/next"({ response, state }) {
    state.steps();
    response.end();
  },
  "/mirror"({ request, response }) {
    response.flushHeaders();
    request.pipe(response);
  },
  /** Says that it has 2 GB. */
  "/huge"({ response }) {
    response.writeHead(200, { "content-length": String(2 * 1024 ** 3) });
    response.flushHeaders();
  },
};
