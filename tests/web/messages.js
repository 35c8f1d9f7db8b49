// Request and Response besides their bodies: construction, members, refusals.
//
// In: `print`. Out: lines. Invariant: the same lines wherever there are web classes.
import { attempt, settled } from "./print.js";

export default async function messages(print) {
  await requests(print);
  await copies(print);
  responses(print);
}

async function requests(print) {
  const request = new Request("http://Example.com:80/a/../b?c#d", { method: "post",
    headers: { A: "b" }, body: "text", redirect: "manual", keepalive: true });
  print(request.method, request.url, [...request.headers], request.redirect, request.keepalive);
  print(request.destination, request.mode, request.credentials, request.cache, request.integrity,
    request.referrerPolicy, request.signal instanceof AbortSignal, request.signal.aborted);
  print(await request.text(), request.bodyUsed, Object.prototype.toString.call(request));
  const controller = new AbortController();
  const signalled = new Request("http://a", { signal: controller.signal });
  controller.abort(new RangeError("why"));
  print(signalled.signal.aborted, signalled.signal.reason.name);
  for (const method of ["get", "Patch", "patch", "dElEtE", "x"]) {
    print(new Request("http://a", { method }).method);
  }
  for (const [input, init] of [
    ["/relative"], ["nonsense"], ["http://u:p@a"], ["http://a", { method: "TRACE" }],
    ["http://a", { method: "a b" }], ["http://a", { body: "x" }],
    ["http://a", { method: "HEAD", body: "x" }], ["http://a", { redirect: "never" }],
    ["http://a", { signal: {} }], ["http://a", { headers: { "": "" } }], ["http://a", 7],
    ["http://a", null], [undefined],
  ]) attempt(print, () => new Request(input, init));
  attempt(print, () => new Request());
  print((() => {
    const url = new URL("http://a/?q=1");
    return new Request(url).url;
  })());
}

async function copies(print) {
  const first = new Request("http://a/", { method: "PUT", body: "once", headers: { x: "1" } });
  const second = new Request(first, { headers: { y: "2" } });
  print(first.bodyUsed, second.method, [...second.headers], await second.text());
  attempt(print, () => new Request(first));
  print(new Request(first, { body: "other" }).method);
  const third = new Request("http://a/", { method: "POST", body: "twice" });
  const copy = third.clone();
  print(await third.text(), await copy.text(), copy.headers.get("content-type"));
  attempt(print, () => third.clone());
  await settled(print, new Request("http://a").text());
  print(new Request("http://a").body, new Request(new Request("http://b", { method: "POST" })).url);
}

function responses(print) {
  const response = new Response(null, { status: 404, statusText: "Gone Away" });
  print(response.status, response.statusText, response.ok, response.url, response.redirected,
    response.type, response.body, Object.prototype.toString.call(response));
  const json = Response.json({ a: [1] }, { status: 201 });
  print(json.status, json.headers.get("content-type"), json.ok);
  const redirect = Response.redirect("http://a/b", 307);
  print(redirect.status, redirect.headers.get("location"), Response.error().type,
    Response.error().status);
  for (const use of [
    () => new Response("", { status: 199 }), () => new Response("", { status: 600 }),
    () => new Response(null, { status: 204 }),
    () => new Response("", { statusText: "a\n" }), () => new Response("", 1),
    () => Response.redirect("http://a", 200), () => Response.redirect("no url"),
    () => Response.json(undefined), () => Response.json(1n),
    () => Response.error().headers.set("a", "b"),
    () => Response.redirect("http://a").headers.set("a", "b"), () => Response("x"),
    () => Object.getOwnPropertyDescriptor(Response.prototype, "status").get.call({}),
  ]) attempt(print, use);
  print(Response.length, Request.length, typeof Response.prototype.text, new Response("").status);
}
