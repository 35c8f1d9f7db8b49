// Routes of every shape; what waits, waits for a note that the test adds.
import { anyApi, httpActionGeneric as httpAction, httpRouter } from "convex/server";
import { ConvexError } from "convex/values";
import { waitFor } from "./notes";

const { calls, notes } = anyApi;
const http = httpRouter();
const encoder = new TextEncoder();
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const;

function get(path: string, handler: (ctx: any, request: Request) => Promise<any>) {
  http.route({ path, method: "GET", handler: httpAction(handler) });
}

function post(path: string, handler: (ctx: any, request: Request) => Promise<any>) {
  http.route({ path, method: "POST", handler: httpAction(handler) });
}

const parameter = (request: Request, name: string) => new URL(request.url).searchParams.get(name)!;
const add = (ctx: any, text: string) => ctx.runMutation(notes.add, { text });

get("/hello", async () => new Response("hello"));

// Routing.
get("/tree/exact", async () => new Response("exact"));
for (const prefix of ["/tree/", "/tree/deep/"]) {
  const handler = httpAction(async () => new Response(`prefix ${prefix}`));
  http.route({ pathPrefix: prefix, method: "GET", handler });
}
for (const method of METHODS) {
  const handler = httpAction(async (_ctx, request) => {
    return new Response(`${method} ${request.body === null} ${await request.text()}`);
  });
  http.route({ path: "/method", method, handler });
}

// Lengths that a handler claims.
const pieces = (...texts: string[]) => new ReadableStream({
  start(controller) {
    for (const text of texts) controller.enqueue(encoder.encode(text));
    controller.close();
  },
});
get("/length", async (_ctx, request) => {
  const body = parameter(request, "body");
  const headers = { "content-length": parameter(request, "claimed") };
  const isWhole = parameter(request, "whole") === "1";
  return new Response(isWhole ? body : pieces(...body), { headers });
});
get("/proxy", async (_ctx, request) => {
  const response = await fetch(parameter(request, "url"));
  const isCopied = parameter(request, "copied") === "1";
  return isCopied ? new Response(await response.text(), response) : response;
});

// What a handler sees.
get("/seen", async (ctx, request) => {
  const identity = await ctx.auth.getUserIdentity().catch((error: Error) => `threw ${error.message}`);
  const url = new URL(request.url);
  const query = Object.fromEntries(url.searchParams);
  const headers = Object.fromEntries(request.headers);
  return Response.json({ url: request.url, path: url.pathname, query, headers, identity,
    method: request.method, body: request.body, site: process.env.CONVEX_SITE_URL });
});

// Bodies in.
post("/form", async (_ctx, request) => {
  const form = await request.formData();
  const file = form.get("file") as File;
  const bytes = [...new Uint8Array(await file.arrayBuffer())];
  return Response.json({ name: form.get("name"), file: file.name, type: file.type, bytes });
});
post("/json", async (_ctx, request) => Response.json({ got: await request.json() }));
/** Counts without holding. */
post("/count", async (_ctx, request) => {
  let bytes = 0;
  let sum = 0;
  for (const reader = request.body!.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.length;
    sum = (sum + value[0] + value[value.length - 1]) % 65_536;
  }
  return Response.json({ bytes, sum });
});
/** Says what it thinks of a body before it has seen much of it. */
post("/refuse", async () => new Response("no, thank you", { status: 413 }));
post("/broken-upload", async (ctx, request) => {
  await add(ctx, "upload began");
  try {
    await request.arrayBuffer();
    await add(ctx, "upload whole");
  } catch (error) {
    await add(ctx, `upload broken: ${(error as Error).name}`);
  }
  return new Response();
});
/** Both ways at once: every chunk comes back before the next one is sent. */
post("/echo", async (_ctx, request) => new Response(request.body, {
  headers: { "content-type": "application/octet-stream" },
}));

// Bodies out.
get("/bytes", async () => new Response(Uint8Array.from({ length: 256 }, (_, n) => n)));
get("/blob", async () => new Response(new Blob(["<p>", "é"], { type: "text/html" })));
get("/form", async () => {
  const form = new FormData();
  form.append("a", "1");
  form.append("file", new File(["two"], "two.txt", { type: "text/plain" }));
  return new Response(form);
});
get("/empty", async () => new Response(null, { status: 204, headers: { "x-empty": "yes" } }));
/** The status that is asked for, with a body that no client may see. */
get("/bodiless", async (_ctx, request) => {
  const [status, kind] = [Number(parameter(request, "status")), parameter(request, "kind")];
  const body = kind === "stream" ? new Blob(["unsent"]).stream() : kind === "text" ? "unsent" : "";
  return new Response(body, { status, headers: { "content-length": "6" } });
});
get("/cookies", async () => {
  const headers = new Headers([["set-cookie", "a=1"], ["set-cookie", "b=2"], ["x-latin", "caf\u00e9"]]);
  return new Response("cookies", { status: 418, headers });
});
get("/away", async () => Response.redirect("https://example.com/there", 307));
get("/large", async (_ctx, request) => {
  let left = Number(parameter(request, "bytes"));
  const chunk = new Uint8Array(64 * 1024).fill(7);
  return new Response(new ReadableStream({
    pull(controller) {
      if (left === 0) return controller.close();
      const size = Math.min(left, chunk.length);
      left -= size;
      controller.enqueue(chunk.slice(0, size));
    },
  }));
});
/** Three chunks, each when its note is there. */
get("/steps", async (ctx, request) => {
  const name = parameter(request, "name");
  let step = 0;
  return new Response(new ReadableStream({
    async pull(controller) {
      step += 1;
      if (step > 3) return controller.close();
      await waitFor(ctx, `${name} ${step}`);
      controller.enqueue(encoder.encode(`step ${step};`));
    },
  }), { headers: { "content-type": "text/event-stream" } });
});

// CORS is the app's.
const ALLOW = { "access-control-allow-origin": "https://app.example" };
http.route({
  path: "/cors",
  method: "OPTIONS",
  handler: httpAction(async (_ctx, request) => new Response(null, {
    status: 204,
    headers: { ...ALLOW, "access-control-allow-headers": request.headers.get("access-control-request-headers")! },
  })),
});
post("/cors", async () => new Response("allowed", { headers: ALLOW }));

// Errors.
get("/throws", async () => {
  console.log("before it");
  throw new Error("boom");
});
get("/throws-data", async () => {
  throw new ConvexError({ code: "full", left: 1n });
});
get("/nothing", async () => "no Response");
get("/throws-late", async () => new Response(new ReadableStream({
  start(controller) {
    controller.enqueue(encoder.encode("begun"));
  },
  async pull(controller) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    controller.error(new Error("too late"));
  },
})));

// Calls back.
post("/calls", async (ctx, request) => {
  const text = await request.text();
  const length = await ctx.runMutation(notes.add, { text });
  const has = await ctx.runQuery(notes.has, { text });
  const inside = await ctx.runAction(calls.throughTheDoor, {});
  return Response.json({ length, has, inside });
});
post("/store", async (ctx, request) => {
  const id = await ctx.storage.store(await request.blob());
  return Response.json({ id, url: await ctx.storage.getUrl(id) });
});
get("/stored", async (ctx, request) => {
  const blob = await ctx.storage.get(parameter(request, "id"));
  return blob === null ? new Response("gone", { status: 404 }) : new Response(blob);
});

// Clients that leave.
/** Works on in the background while it streams, as a chat that keeps what it says does. */
get("/leave", async (ctx, request) => {
  const name = parameter(request, "name");
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const work = async () => {
    for (let n = 0; ; n++) {
      try {
        await writer.write(encoder.encode(`${n};`));
      } catch {
        await add(ctx, `${name} nobody reads`);
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await waitFor(ctx, `${name} go on`);
    await add(ctx, `${name} finished`);
  };
  void work();
  return new Response(readable);
});
/** Learns of it by the request's signal. */
get("/signal", async (ctx, request) => {
  const name = parameter(request, "name");
  await add(ctx, `${name} began`);
  await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
  await add(ctx, `${name} aborted`);
  return new Response("to nobody");
});
/** A stream that only its cancellation ends. */
get("/endless", async (ctx, request) => {
  const name = parameter(request, "name");
  let timer: ReturnType<typeof setInterval>;
  return new Response(new ReadableStream({
    start(controller) {
      timer = setInterval(() => controller.enqueue(encoder.encode("tick;")), 20);
    },
    async cancel() {
      clearInterval(timer);
      await add(ctx, `${name} cancelled`);
    },
  }));
});

export default http;
