// TypeScript that V8 does not know: it is compiled to what V8 knows.
//
// In: the built program. Out: checks of what functions return.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { app } from "./app.mjs";
import { serve } from "./host.mjs";

test("accessor fields and decorators", async () => {
  const host = await serve("--push", app("syntax", {
    "fields.ts": `
import { queryGeneric as query } from "convex/server";
class Point { accessor x = 4; static accessor made = 1; }
export const read = query(async () => {
  const point = new Point();
  point.x += Point.made;
  return [point.x, Object.keys(point).length];
});
`,
    "decorated.ts": `
import { queryGeneric as query } from "convex/server";
type Method = (this: unknown) => string;
const loud = (method: Method, _context: ClassMethodDecoratorContext): Method =>
  function () { return method.call(this).toUpperCase(); };
class Greeter { @loud greet() { return "hi"; } }
export const greet = query(async () => new Greeter().greet());
`,
  }));
  const client = new ConvexHttpClient(host.url, { logger: false });
  assert.deepEqual(await client.query("fields:read", {}), [5, 0]);
  assert.equal(await client.query("decorated:greet", {}), "HI");
  await host.stop();
});
