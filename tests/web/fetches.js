// fetch against the servers of tests/fetch.test.mjs: what is sent, what comes back.
//
// In: `print`, the address of a server, that of another origin. Out: lines. Invariant: the same
// lines wherever there is a fetch that reaches those servers.
import { settled } from "./print.js";

export const PROGRAMS = { requests, sending, redirects, answers, coded, aborts, steps, duplex };

const shown = (url, text) => text.replaceAll(new URL(url).host, "HOST");

async function requests(print, url) {
  const echo = async (init, path = "/echo?q=1#hash") => {
    const response = await fetch(`${url}${path}`, init);
    return shown(url, await response.text());
  };
  print(await echo());
  print(await echo({ method: "post", headers: { "X-Own": "a", "Accept": "text/x" } }));
  print(await echo({ method: "PUT", headers: [["x-two", "1"], ["X-Two", "2"]] }));
  print(await echo({ method: "DELETE", headers: { "x-latin": "\u00e9" } }));
  print(await echo({ method: "OPTIONS" }), await echo({ method: "PATCH", body: "p" }));
  print(await echo(new Request(`${url}/echo`), ""));
  const response = await fetch(new URL(`${url}/echo`));
  print(response.status, response.ok, response.statusText, response.redirected, response.type,
    shown(url, response.url), response.headers.get("content-type"), response.bodyUsed);
  const request = new Request(`${url}/echo`, { method: "POST", body: "from a request" });
  print(shown(url, await (await fetch(request)).text()), request.bodyUsed);
  await settled(print, fetch(request));
}

async function sending(print, url) {
  const send = async (body, headers = {}) => {
    const response = await fetch(`${url}/echo`, { method: "POST", body, headers, duplex: "half" });
    const { type, length, text } = await response.json();
    const boundary = /boundary=(.*)$/.exec(type ?? "")?.[1] ?? "no boundary";
    print(type?.replace(boundary, "BOUNDARY"), boundary === "no boundary" ? length : "",
      text.replaceAll(boundary, "BOUNDARY"));
  };
  await send("t\u00e9xt");
  await send(new Uint8Array([104, 105]));
  await send(new URLSearchParams({ a: "b c" }));
  await send(new Blob(["blob"], { type: "a/b" }));
  await send("{}", { "Content-Type": "application/json" });
  const form = new FormData();
  form.append("name", "value");
  form.append("file", new File(["in it"], "f.txt", { type: "text/plain" }));
  await send(form);
  const parts = ["one ", "two ", "three"].map((part) => new TextEncoder().encode(part));
  const stream = () => new ReadableStream({
    pull(controller) {
      const part = parts.shift();
      if (part === undefined) controller.close();
      else controller.enqueue(part);
    },
  });
  await send(stream());
  const failing = new ReadableStream({ pull() { throw new RangeError("no more"); } });
  const init = { method: "POST", body: failing, duplex: "half" };
  print(await fetch(`${url}/echo`, init).then(() => "sent", () => "not sent"));
}

async function redirects(print, url, other) {
  const headers = { authorization: "secret", "x-kept": "yes", "content-type": "text/x" };
  for (const status of [301, 302, 303, 307, 308]) {
    const response = await fetch(`${url}/redirect/${status}?to=/echo`, { method: "POST",
      body: "body", headers });
    print(status, response.redirected, shown(url, response.url));
    print(shown(url, await response.text()));
  }
  const away = await fetch(`${url}/redirect/307?to=${encodeURIComponent(`${other}/echo`)}`,
    { headers });
  print(shown(other, await away.text()));
  const manual = await fetch(`${url}/redirect/302?to=/echo`, { redirect: "manual" });
  print(manual.status, manual.redirected, manual.headers.get("location"));
  await settled(print, fetch(`${url}/redirect/302?to=/echo`, { redirect: "error" }));
  await settled(print, fetch(`${url}/loop`));
  await settled(print, fetch(`${url}/redirect/302?to=${encodeURIComponent("file:///etc/passwd")}`));
  const none = await fetch(`${url}/redirect/302`);
  print(none.status, none.redirected);
  const second = encodeURIComponent("/redirect/301?to=/echo");
  const twice = await fetch(`${url}/redirect/302?to=${second}`);
  print(shown(url, twice.url));
}

async function answers(print, url) {
  const head = await fetch(`${url}/echo`, { method: "HEAD" });
  print(head.status, head.body, await head.text());
  for (const status of [204, 304, 404, 500]) {
    const response = await fetch(`${url}/status/${status}`);
    print(response.status, response.ok, response.body !== null, await response.text());
  }
  const cookies = await fetch(`${url}/cookies`);
  print(cookies.headers.getSetCookie(), cookies.headers.get("x-twice"));
  try {
    cookies.headers.set("a", "b");
  } catch (error) {
    print(error.name);
  }
  const copy = cookies.clone();
  print(await cookies.json(), await copy.json());
  print(await (await fetch(`${url}/bytes`)).arrayBuffer());
  const blob = await (await fetch(`${url}/bytes`)).blob();
  print(blob.size, blob.type);
  const form = await (await fetch(`${url}/form`)).formData();
  print([...form]);
  await settled(print, (await fetch(`${url}/cut`)).text());
  const many = await Promise.all(Array.from({ length: 20 }, async (_, at) =>
    (await fetch(`${url}/echo?${at}`)).status));
  print(many.length, new Set(many).size);
}

async function coded(print, url) {
  for (const name of ["gzip", "deflate", "br", "raw", "none"]) {
    const response = await fetch(`${url}/coded/${name}`);
    const text = await response.text();
    // Whether the coding is still told differs: here it is not, as in deno, but it is in Node.
    print(name, text.length, text.slice(0, 12));
  }
}

async function aborts(print, url) {
  await settled(print, fetch(`${url}/echo`, { signal: AbortSignal.abort() }));
  await settled(print, fetch(`${url}/echo`, { signal: AbortSignal.abort(new RangeError("own")) }));
  const waiting = new AbortController();
  const silent = fetch(`${url}/silent`, { signal: waiting.signal });
  await fetch(`${url}/wait?for=/silent`);
  waiting.abort();
  await settled(print, silent);
  await settled(print, fetch(`${url}/silent`, { signal: AbortSignal.timeout(20) }));
  const reading = new AbortController();
  const endless = await fetch(`${url}/endless`, { signal: reading.signal });
  const reader = endless.body.getReader();
  print((await reader.read()).done);
  reading.abort();
  await settled(print, (async () => { while (!(await reader.read()).done); })());
  const left = await fetch(`${url}/endless`);
  await left.body.cancel();
  print(await (await fetch(`${url}/ended?path=/endless&count=2`)).text());
}

async function steps(print, url) {
  const response = await fetch(`${url}/steps`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (const _ of [1, 2, 3]) {
    print((await reader.read()).value);
    // The server sends the next part when it is told to.
    await fetch(`${url}/next`);
  }
  print((await reader.read()).done);
}

async function duplex(print, url) {
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const send = (text) => writer.write(new TextEncoder().encode(text));
  const first = send("a");
  const response = await fetch(`${url}/mirror`, { method: "POST", body: readable, duplex: "half" });
  await first;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  print((await reader.read()).value);
  await send("b");
  print((await reader.read()).value);
  await writer.close();
  print((await reader.read()).done);
}
