// What functions of each kind find on the global object.
import {
  actionGeneric as action, httpActionGeneric as httpAction, mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";

const all = globalThis as any;

const names = () => Reflect.ownKeys(globalThis).map(String).sort();
// While a module is imported.
const early = names();

/** What a name is here, and what the global object says of it. */
const described = () => {
  const { time, zone } = { time: new Date(0).getHours(), zone: new Date().getTimezoneOffset() };
  const refused = (use: () => unknown) => {
    try {
      return typeof use();
    } catch (error: any) {
      return error.name;
    }
  };
  return {
    names: names(),
    enumerable: Object.keys(globalThis),
    crypto: ["getRandomValues", "randomUUID", "subtle"].map((name) => typeof all.crypto[name]),
    console: ["debug", "error", "info", "log", "warn", "trace", "time", "timeLog", "timeEnd"]
      .map((name) => typeof all.console[name]),
    process: [Reflect.ownKeys(process), Object.keys(process.env), typeof process.env.NOT_SET,
      "NOT_SET" in process.env, typeof process.env.CONVEX_CLOUD_URL,
      typeof process.env.CONVEX_SITE_URL, refused(() => { (process.env as any).A = "b"; }),
      refused(() => delete process.env.CONVEX_CLOUD_URL)],
    self: all.self === globalThis,
    clock: [time, zone, Intl.DateTimeFormat().resolvedOptions().timeZone],
    locale: [new Intl.NumberFormat("de").format(1234.5),
      new Intl.DateTimeFormat("ja", { dateStyle: "long" }).format(0)],
    code: [refused(() => (0, eval)("1")), refused(() => new Function("return 1")()),
      refused(() => new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])))],
    base64: [all.Uint8Array.fromBase64("aGk=").length, new Uint8Array([104]).toBase64()],
    weak: [new WeakRef({}).deref() !== undefined,
      refused(() => new FinalizationRegistry(() => {}).register({}, 1))],
  };
};
declare global {
  interface Uint8Array { toBase64(): string }
}

export const inQuery = query(async () => ({ early, ...described() }));
export const inMutation = mutation(async () => ({ early, ...described() }));
export const inAction = action(async () => ({ early, ...described() }));
export const inHttpAction = httpAction(async () => Response.json({ early, ...described() }));

/** Objects of every class of the platform, on the console. */
const shows = () => {
  const at = { startTime: 1 };
  console.log(new Event("e"), new CustomEvent("c", { detail: [1] }), new EventTarget());
  console.log(new (class Own extends EventTarget { mine = 1; })(), new AbortController(),
    AbortSignal.abort("why"));
  console.log(new TextEncoder(), new TextDecoder("latin1"), new TextEncoderStream(),
    new TextDecoderStream());
  console.log(new ReadableStream(), new WritableStream(), new TransformStream(),
    new ReadableStream().getReader(), new WritableStream().getWriter());
  console.log(new Blob(["a"]), new File(["b"], "n", { lastModified: 1 }), new FormData(),
    new Headers({ a: "b" }));
  console.log(new Request("http://a/", { headers: { a: "b" } }), new Response("x"));
  console.log(new URL("http://a/?b=c"), new URLSearchParams("a=b"), new URLPattern({}));
  console.log(performance, performance.mark("m", at), performance.measure("l", "m", "m"));
  console.log(crypto, crypto.subtle);
  console.log({ nested: [new Headers({ a: "b" }), new Response("x").body] });
};
export const showsInQuery = query(async () => shows());
export const showsInAction = action(async () => shows());
/** A DOMException without its frames, which differ. */
export const showsError = action(async () => console.log([new DOMException("m", "AbortError")]));

/** Statuses with a body that Convex takes, and what no response may be. */
const responses = async () => {
  const seen: unknown[] = [];
  for (const status of [200, 204, 205, 304, 599]) {
    const [empty, full] = [new Response("", { status }), Response.json([1], { status })];
    seen.push([empty.status, await empty.text(), full.clone().status, await full.text()]);
  }
  for (const init of [{ status: 199 }, { status: 600 }, { statusText: "a\n" }]) {
    try {
      seen.push(new Response("", init).status);
    } catch (error: any) {
      seen.push(error.name);
    }
  }
  return seen;
};
export const responsesInQuery = query(responses);
export const responsesInMutation = mutation(responses);
export const responsesInAction = action(responses);

/** Names that nobody has touched: what reflection says, and what writing and deleting do. */
const untouched = () => {
  const lazy = ["URL", "fetch", "setTimeout", "crypto", "WebAssembly", "performance", "Headers",
    "console", "process", "structuredClone", "AsyncLocalStorage"];
  const seen = lazy.map((name) => {
    const { value, ...rest } = Object.getOwnPropertyDescriptor(globalThis, name)!;
    return [name, typeof value, rest.writable, rest.enumerable, rest.configurable, "get" in rest];
  });
  all.Blob = "mine";
  const deleted = delete all.FormData;
  const copied = (() => {
    try {
      // Its class is one that nobody has named.
      return String(structuredClone(new Request("http://a/").signal));
    } catch (error: any) {
      return error.name;
    }
  })();
  console.log(new Request("http://a/", { headers: { a: "b" } }).headers);
  return { seen, blob: all.Blob, deleted, form: typeof all.FormData, copied };
};
export const untouchedInQuery = query(async () => untouched());
export const untouchedInAction = action(async () => untouched());
