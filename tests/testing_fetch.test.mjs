// `concave test`: what `fetch` gives actions whose requests a test answers (`t.onFetch`).
//
// In: the built program, an app whose action fetches. Out: checks of what it gets. Invariant: a
// script is seen as a server would be: aborts, redirects, failures, addresses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { app } from "./app.mjs";
import { report } from "./verdicts.mjs";

const HEAD = `
import { convexTest } from "convex-test";
import { expect, test } from "vitest";
const open = () => convexTest(undefined, import.meta.glob("./**/*.ts"));
/** Fetches in an action. */
const ask = (t, ...given) => t.action(async () => {
  const response = await fetch(...given);
  const { status, url, redirected } = response;
  return { status, url, redirected, text: await response.text() };
});
`;

test("a request that is aborted rejects with the reason, before its answer and within it", () => {
  const { code, errors } = report(app("aborts", {
    "a.test.ts": `${HEAD}
const never = () => new Promise(() => {});
test("timeout", async () => {
  const t = open();
  t.onFetch("https://a.example/", never);
  const asked = ask(t, "https://a.example/", { signal: AbortSignal.timeout(1) });
  await expect(asked).rejects.toMatchObject({ name: "TimeoutError" });
});
test("abort", async () => {
  const t = open();
  const [controller, heard] = [new AbortController(), []];
  t.onFetch("https://a.example/", ({ signal }) => {
    signal.addEventListener("abort", () => heard.push("aborted"));
    controller.abort();
    return never();
  });
  const { signal } = controller;
  await expect(ask(t, "https://a.example/", { signal })).rejects.toThrow(/abort/i);
  const request = t.action(() => fetch(new Request("https://a.example/", { signal })));
  await expect(request).rejects.toMatchObject({ name: "AbortError" });
  expect(heard).toEqual(["aborted"]);
});
test("a reason", async () => {
  const t = open();
  t.onFetch("https://a.example/", never);
  const reason = new RangeError("enough");
  const asked = ask(t, "https://a.example/", { signal: AbortSignal.abort(reason) });
  await expect(asked).rejects.toThrow(reason);
});
test("the body", async () => {
  const t = open();
  const controller = new AbortController();
  const start = (stream) => { stream.enqueue(new TextEncoder().encode("part")); };
  t.onFetch("https://a.example/", () => new Response(new ReadableStream({ start })));
  await t.action(async () => {
    const { body } = await fetch("https://a.example/", { signal: controller.signal });
    const reader = body.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("part");
    controller.abort();
    await expect(reader.read()).rejects.toMatchObject({ name: "AbortError" });
  });
});
test("no abort", async () => {
  const t = open();
  t.onFetch("https://a.example/", () => Response.json({ a: 1 }));
  const { signal } = new AbortController();
  const { text, url } = await ask(t, "https://a.example/x?y#z", { signal });
  expect([text, url]).toEqual(['{"a":1}', "https://a.example/x?y"]);
});
`,
  }));
  assert.deepEqual({ code, errors }, { code: 0, errors: {} });
});

test("redirects are followed to scripts, as the request says", () => {
  const { code, errors } = report(app("redirects", {
    "r.test.ts": `${HEAD}
const told = async (request) => new Response([request.method, await request.text(),
  request.headers.get("authorization"), request.headers.get("content-type")].join(" "));
const send = { method: "POST", body: "b", headers: { authorization: "key" } };
test("follow", async () => {
  const t = open();
  t.onFetch("https://a.example/", told);
  t.onFetch("https://b.example/", told);
  for (const status of [301, 302, 303, 307, 308]) {
    t.onFetch("https://a.example/from", () => new Response(null, {
      status, headers: { location: "/to" } }));
    const body = status < 304 ? "GET  key " : "POST b key text/plain;charset=UTF-8";
    expect(await ask(t, "https://a.example/from", send)).toEqual(
      { status: 200, url: "https://a.example/to", redirected: true, text: body });
  }
  t.onFetch("https://a.example/from", () => Response.redirect("https://b.example/", 307));
  const { text } = await ask(t, "https://a.example/from", send);
  expect(text).toBe("POST b  text/plain;charset=UTF-8");
});
test("otherwise", async () => {
  const t = open();
  t.onFetch("https://a.example/", () => Response.redirect("https://a.example/again"));
  const manual = await ask(t, "https://a.example/", { redirect: "manual" });
  expect([manual.status, manual.redirected]).toEqual([302, false]);
  await expect(ask(t, "https://a.example/", { redirect: "error" })).rejects.toThrow(TypeError);
  await expect(ask(t, "https://a.example/")).rejects.toThrow("more than 20 redirects");
  t.onFetch("https://a.example/", () => Response.redirect("https://elsewhere.example/"));
  await expect(ask(t, "https://a.example/")).rejects.toThrow(/elsewhere.*is not scripted/);
});
`,
  }));
  assert.deepEqual({ code, errors }, { code: 0, errors: {} });
});

test("a script that is none is told; addresses are compared as requests write them", () => {
  const { code, errors } = report(app("scripts", {
    "s.test.ts": `${HEAD}
test("responses", async () => {
  const t = open();
  const asked = (handler) => { t.onFetch("https://a.example", handler);
    return ask(t, "https://a.example/"); };
  await expect(asked(() => Response.error())).rejects.toThrow(TypeError);
  for (const none of ["text", { status: 200 }, null, undefined]) {
    await expect(asked(() => none)).rejects.toThrow("must return a Response, not");
  }
  await expect(asked(() => { throw new RangeError("mine"); })).rejects.toThrow(RangeError);
  const once = new Response("once");
  await asked(() => once);
  await expect(asked(() => once)).rejects.toThrow("Make a new one for each request");
  const found = await asked(() => new Response("a", { status: 201 }));
  expect(found).toEqual({ status: 201, url: "https://a.example/", redirected: false, text: "a" });
  const copied = await t.action(async () => {
    const response = await fetch("https://a.example/");
    return [response.clone().url, await response.clone().text(), await response.text()];
  });
  expect(copied).toEqual(["https://a.example/", "a", "a"]);
});
test("addresses", async () => {
  const t = open();
  t.onFetch("https://API.example:443/Case", () => new Response("case"));
  t.onFetch(new URL("https://b.example"), () => new Response("b"));
  expect((await ask(t, "https://api.example/Case/1")).text).toBe("case");
  expect((await ask(t, "https://b.example/x")).text).toBe("b");
  await expect(ask(t, "https://api.example/case")).rejects.toThrow("is not scripted");
  await expect(ask(t, "https://b.example.com/")).rejects.toThrow("is not scripted");
  t.onFetch("https://", () => new Response("any"));
  expect((await ask(t, "https://b.example.com/")).text).toBe("any");
  for (const none of ["api.example/", "/path", "localhost:3000/", ""]) {
    expect(() => t.onFetch(none, () => new Response())).toThrow("write how the URL begins");
  }
  for (const none of [[undefined, () => {}], [{}, () => {}], ["https://a.example/", {}]]) {
    expect(() => t.onFetch(...none)).toThrow("t.onFetch takes how the URL begins");
  }
});
`,
  }));
  assert.deepEqual({ code, errors }, { code: 0, errors: {} });
});
