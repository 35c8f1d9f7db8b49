// Headers: what they take, keep, refuse and give.
//
// In: `print`. Out: lines. Invariant: the same lines wherever there are web classes.
import { attempt } from "./print.js";

export default function headers(print) {
  const headers = new Headers([["Accept", " text/html "], ["x-a", "1"], ["X-A", "2"]]);
  headers.append("Set-Cookie", "a=1");
  headers.append("set-cookie", "b=2; Path=/");
  print([...headers], headers.get("X-a"), headers.get("set-cookie"), headers.getSetCookie());
  headers.set("x-A", "3");
  headers.delete("ACCEPT");
  print([...headers.keys()], [...headers.values()], headers.has("accept"), headers.get("none"));
  headers.forEach((value, name, self) => print(name, value, self === headers));
  print([...new Headers({ b: "2", a: "1" })], [...new Headers(headers)].length);
  print(Object.prototype.toString.call(headers), Headers.length, Headers.name,
    Object.prototype.toString.call(headers.entries()));
  print(Object.keys(Headers.prototype).sort());
  for (const init of [null, 1, "a", [["a"]], [["a", "b", "c"]], { "a b": "c" }, { a: "b\nc" },
    { a: "\u0100" }, { "": "a" }, [["a", "b\0"]]]) {
    attempt(print, () => new Headers(init));
  }
  attempt(print, () => headers.append("a"));
  attempt(print, () => Headers.prototype.get.call({}, "a"));
  attempt(print, () => Headers());
  // Iteration is live.
  const live = new Headers({ a: "1", c: "3" });
  const seen = [];
  for (const [name] of live) {
    seen.push(name);
    if (name === "a") live.append("b", "2");
  }
  print(seen, [...new Headers({ a: "" })], new Headers({ a: "\t b \r\n" }).get("a"));
}
