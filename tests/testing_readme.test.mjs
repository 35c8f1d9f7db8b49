// js/test/README.md tells the truth: its tests pass, and its types are those that tests have.
//
// In: the README, the built program, vitest, TypeScript. Out: checks. Invariant: what is written
// there is what runs, in `concave test` and in vitest.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KEY, ROOT, concave, serve } from "./host.mjs";
import { install, vitest } from "./suites.mjs";
import { report } from "./verdicts.mjs";

const README = readFileSync(join(ROOT, "js/test/README.md"), "utf8");
const blocks = (wanted) => [...README.matchAll(/^```(\w+)\n([^]*?)^```$/gm)]
  .filter(([, language]) => language === wanted).map(([, , text]) => text);
const MODULES = join(ROOT, "tests/suites/node_modules");

const SHOP = `
import { v } from "convex/values";
import { api, internal } from "./_generated/api";
import { action, internalMutation, mutation, query } from "./_generated/server";
const by = { by: v.string() };
export const reserve = mutation({ args: by, handler: async (ctx, { by }) => {
  const id = await ctx.db.insert("reserved", { by });
  await ctx.scheduler.runAfter(30 * 24 * 3_600_000, internal.shop.free, { id });
} });
export const free = internalMutation({ args: { id: v.id("reserved") },
  handler: async (ctx, { id }) => { await ctx.db.delete(id); } });
export const reserved = query({ args: {}, handler: async (ctx) =>
  (await ctx.db.query("reserved").collect()).map(({ by }) => by) });
export const sold = query({ args: {}, handler: async (ctx) =>
  (await ctx.db.query("sold").collect()).map(({ by }) => by) });
export const sell = internalMutation({ args: by, handler: async (ctx, { by }) => {
  if (await ctx.db.query("sold").first() !== null) throw new Error("sold out");
  await ctx.db.insert("sold", { by });
} });
export const pay = action({ args: by, handler: async (ctx, { by }): Promise<null> => {
  const { status } = await fetch("https://bank.example/pay", { method: "POST", body: by });
  if (status !== 200) throw new Error("The bank said " + status);
  await ctx.runQuery(api.shop.sold, {});
  return ctx.runMutation(internal.shop.sell, { by });
} });
`;

const SCHEMA = `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({
  reserved: defineTable({ by: v.string() }), sold: defineTable({ by: v.string() }),
});
`;

/** Types that fit, and some that do not. */
const TYPES = `
import { convexTest, type TestConvex } from "convex-test";
import { api } from "./_generated/api";
import schema from "./schema";
export async function types() {
  const t: TestConvex<typeof schema> = convexTest({ schema, transactionLimits: true });
  for (const duration of [5, "10 s", "5 min", "1.5 hours", "30 days", "2w"] as const) {
    await t.advance(duration);
  }
  const watch = await t.withIdentity({ name: "Ada" }).watch(api.shop.sold, {});
  const names: string[][] = watch.results;
  const current: string[] = watch.current;
  t.onFetch(/example/, async (request) => new Response(await request.text()));
  t.onFetch(new URL("https://a.example"), () => Response.json({}));
  const { orders, complete, failed } = await t.explore([() => t.query(api.shop.sold)], {
    invariant: () => {}, always: async () => true, most: 3, replay: "0" });
  const all: [number, boolean, string[]] = [orders, complete, failed.map(({ name }) => name)];
  const found = await t.run(async (ctx) => ctx.db.query("sold").first());
  const by: string | undefined = found?.by;
  await t.mutation(api.shop.reserve, { by: "Ada" });
  const count: number = await t.query(async (ctx) => (await ctx.db.query("sold").collect()).length);
  // @ts-expect-error no such unit
  await t.advance("3 fortnights");
  // @ts-expect-error a Response is wanted
  t.onFetch("https://a.example/", () => "text");
  // @ts-expect-error no such option
  await t.explore([], { invarient: () => {} });
  // @ts-expect-error a query of a module is wanted
  await t.watch(async () => 1);
  // @ts-expect-error arguments are checked
  await t.mutation(api.shop.reserve, {});
  return { names, current, all, by, count };
}
`;

/** The app of the README, with what npm would install. */
function shop() {
  const folder = mkdtempSync(join(tmpdir(), "concave-told-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, "node_modules"));
  for (const name of readdirSync(MODULES)) {
    symlinkSync(join(MODULES, name), join(folder, "node_modules", name));
  }
  install(join(folder, "node_modules/concave-test"));
  mkdirSync(join(folder, "convex"));
  const [told] = blocks("ts");
  const files = {
    "package.json": '{ "type": "module", "dependencies": { "convex": "1.48.0" } }',
    // The README's is extended by what every project says.
    "paths.json": blocks("json")[0],
    "tsconfig.json": JSON.stringify({
      extends: "./paths.json", include: ["convex"],
      compilerOptions: {
        target: "esnext", lib: ["esnext", "dom", "dom.iterable"], module: "esnext", noEmit: true,
        moduleResolution: "bundler", strict: true, skipLibCheck: true, types: ["vite/client"],
      },
    }),
    "convex/schema.ts": SCHEMA, "convex/shop.ts": SHOP, "convex/told.test.ts": told,
    "convex/types.ts": TYPES,
  };
  for (const [path, text] of Object.entries(files)) writeFileSync(join(folder, path), text);
  return folder;
}

test("the tests of the README pass in concave test and in vitest, and have types", async () => {
  const folder = shop();
  const host = await serve();
  const pushed = concave(["push", folder, "--url", host.url, "--admin-key", KEY]);
  await host.stop();
  assert.equal(pushed.status, 0, pushed.stderr);
  const tsc = join(ROOT, "tests/node_modules/.bin/tsc");
  const checked = spawnSync(tsc, ["-p", "."], { cwd: folder, encoding: "utf8" });
  assert.equal(checked.status, 0, checked.stdout);
  rmSync(join(folder, "convex/types.ts"));
  const here = report(folder);
  assert.deepEqual([here.code, here.errors, here.passed], [0, {}, 3]);
  const there = vitest(folder, "concave-test");
  assert.deepEqual([there.code, there.failures, there.passed], [0, [], 3]);
});
