// `concave test`: what Vite gives a file of its place, of files beside it and of their text.
//
// In: the built program, apps with test files. Out: checks of what each file finds. Invariant: what
// is not followed is refused, with the reason.
import assert from "node:assert/strict";
import { realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { app } from "./app.mjs";
import { report } from "./verdicts.mjs";

test("a file knows where it is, also one that is made anew or imported", () => {
  const folder = app("places", {
    "lib/x.ts": "export const here = [import.meta.url, import.meta.dirname];",
    "p.test.ts": `
import { expect, test, vi } from "vitest";
import { here } from "./lib/x";
test("where", async () => {
  const told = "import.meta.url";
  console.log(JSON.stringify(
    [import.meta.url, import.meta.dirname, import.meta.filename, ...here, told]));
  expect(new URL("./data.txt", import.meta.url).pathname).toMatch(/convex\\/data\\.txt$/);
  expect([import.meta.env.VITEST, process.env.VITEST, typeof import.meta.env.MODE])
    .toEqual(["true", "true", "string"]);
  vi.resetModules();
  expect((await import("./lib/x")).here).toEqual(here);
});
`,
  });
  const { states, errors, files } = report(folder);
  assert.deepEqual(states, { "p > where": "pass" }, JSON.stringify(errors));
  const file = join(realpathSync(folder), "convex/p.test.ts");
  const lib = join(dirname(file), "lib");
  assert.deepEqual(JSON.parse(files[0].log.join("").replace(/^.*?\[/, "[")), [
    pathToFileURL(file).href, dirname(file), file, pathToFileURL(join(lib, "x.ts")).href, lib,
    "import.meta.url",
  ]);
});

test("import.meta.glob begins at its base, may be eager, and ?raw is a file's text", () => {
  const { states, errors } = report(app("globs", {
    "lib/x.ts": "export default 'x';\nexport const n = 1;",
    "lib/y.ts": "export default 'y';\nexport const n = 2;",
    "lib/words.md": "# Words\n",
    "globs.test.ts": `
import { expect, test } from "vitest";
import words from "./lib/words.md?raw";
const eager = import.meta.glob("./lib/*.ts", { eager: true });
const numbers = import.meta.glob("./*.ts", { base: "./lib", eager: true, import: "n" });
const texts = import.meta.glob("./*.ts", { base: "/convex/lib", query: "?raw", import: "default" });
test("globs", async () => {
  expect(Object.keys(import.meta.glob("./*.ts", { base: "./lib" }))).toEqual(["./x.ts", "./y.ts"]);
  expect(Object.entries(eager).map(([key, module]) => [key, { ...module as object }])).toEqual([
    ["./lib/x.ts", { default: "x", n: 1 }], ["./lib/y.ts", { default: "y", n: 2 }],
  ]);
  expect(numbers).toEqual({ "./x.ts": 1, "./y.ts": 2 });
  expect(await texts["./y.ts"]()).toBe("export default 'y';\\nexport const n = 2;");
  expect(words).toBe("# Words\\n");
  expect((await import("./lib/x.ts?raw")).default).toMatch("export default 'x'");
});
`,
    "query.test.ts": 'import { test } from "vitest";\n'
      + 'test("x", async () => { await import("./lib/x.ts?url"); });',
    "refused.test.ts": 'import { test } from "vitest";\nconst base = "./lib";\n'
      + 'test("x", () => { import.meta.glob("./*.ts", { base: base }); });',
  }));
  assert.equal(states["globs > globs"], "pass", JSON.stringify(errors));
  assert.match(errors.query, /Could not resolve "\.\/lib\/x\.ts\?url"[^]*\?raw, and no other/);
  assert.match(errors["refused > x"], /import\.meta\.glob: write `base` as a string literal/);
});
