// The commands as a user types them: dev, run, data, limits, serve.
//
// In: the built program and copies of examples/*. Out: checks of output, exit codes and files.
// Invariant: every failure that is provoked here names its cure.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { app } from "./app.mjs";
import { CONCAVE, KEY, ROOT, concave, copy, pointedAt, save, serve, start } from "./host.mjs";
import { until } from "./watch.mjs";

const SHOP = "examples/swaghaus/convex/shop.ts";
const FREE_PORTS = ["--port", "0", "--site-port", "0"];

test("dev pushes, tells each call, pushes at a save, and survives a broken save", async () => {
  const folder = copy("swaghaus");
  writeFileSync(join(folder, ".env.local"), "# mine\nOTHER=1\n");
  const host = await start(["dev", folder, ...FREE_PORTS]);
  await host.says(/push +pushed \d+ functions?/);
  const variables = readFileSync(join(folder, ".env.local"), "utf8");
  assert.match(variables, /^# mine\nOTHER=1\n/);
  assert.ok(variables.includes(`CONVEX_SELF_HOSTED_URL='${host.url}'`), variables);

  // Another terminal, in the app's folder: nothing has to be said twice.
  const refilled = concave(["run", "stock:refill"], { cwd: folder });
  assert.equal(refilled.status, 0, refilled.stderr);
  assert.equal(refilled.stdout, "4\n");
  assert.match(refilled.stderr, /\[LOG\] 'put 4 kinds of things on the shelf'/);
  await host.says(/mutation stock:refill \d/);

  const client = new ConvexHttpClient(host.url, { logger: false });
  await client.query("shop:getItems", {});
  await client.query("shop:getItems", {});
  await host.says(/query +shop:getItems .* cached/);
  await assert.rejects(client.mutation("shop:addCart", { buyer: "a", item: "nonsense" }));
  await host.says(/mutation shop:addCart[^\n]*\n +.*ArgumentValidationError/);

  const source = join(folder, "convex/shop.ts");
  const before = readFileSync(source, "utf8");
  let seen = host.output.length;
  const late = `\nexport const late = query({ args: {}, handler: async () => "now" });\n`;
  save(source, before + late);
  await host.says(/push +pushed/, seen);
  assert.equal(await client.query("shop:late", {}), "now");

  seen = host.output.length;
  save(source, before + late + "export const = 1;\n");
  await host.says(/what was running goes on/, seen);
  assert.match(host.output.slice(seen), /shop\.ts/);
  assert.equal(await client.query("shop:late", {}), "now");

  seen = host.output.length;
  save(source, before + late);
  await host.says(/push +unchanged/, seen);
  seen = host.output.length;
  save(source, before);
  await host.says(/push +pushed/, seen);
  await assert.rejects(client.query("shop:late", {}), /Could not find public function/);
  assert.equal(await host.stop(), 0);

  // The key stays the same over restarts.
  const key = variables.match(/ADMIN_KEY='(.*)'/)[1];
  const again = await start(["dev", folder, ...FREE_PORTS]);
  assert.ok(readFileSync(join(folder, ".env.local"), "utf8").includes(key));
  await again.stop();
});

test("data that cannot be written is a failure, unless nobody reads it", async () => {
  const host = await serve("--push", app("full", {
    "m.ts": `import { mutation } from "./_generated/server";
export const add = mutation(async ({ db }) => await db.insert("items", { name: "a" }));
`,
  }));
  const env = pointedAt(host);
  assert.equal(concave(["run", "m:add"], { env }).status, 0);
  for (const args of [
    ["limits"], ["limits", "--json"], ["stats", "--json"], ["data", "items", "--jsonl"],
    ["run", "m:add"],
  ]) {
    const full = openSync("/dev/full", "w");
    const { status, stderr } = concave(args, { env, stdio: ["ignore", full, "pipe"] });
    closeSync(full);
    assert.equal(status, 1, args.join(" "));
    assert.match(stderr, /error: Could not write to standard output: No space left.*not whole/);
    // `true` reads nothing, and goes.
    const line = `"$0" "$@" | true; exit "\${PIPESTATUS[0]}"`;
    const gone = spawnSync("bash", ["-c", line, CONCAVE, ...args], { env, encoding: "utf8" });
    assert.deepEqual([gone.status, gone.stderr.includes("error")], [0, false], gone.stderr);
  }
  await host.stop();
});

test("dev pushes when what failed is repaired outside of the functions folder", async () => {
  const folder = app("outside", {
    "m.ts": `import { query } from "./_generated/server";
import { x } from "../src/x";
export const a = query(async () => x);
`,
  });
  const [convex, src] = ["convex", "src"].map((name) => join(folder, name));
  mkdirSync(src);
  writeFileSync(join(src, "x.ts"), "export const x = {");
  const host = await start(["dev", folder, ...FREE_PORTS, "--in-memory"]);
  await host.says(/src\/x\.ts:1:/);
  writeFileSync(join(src, "x.ts"), "export const x = 1;");
  await host.says(/push +pushed 1 function /);
  const from = host.output.length;
  writeFileSync(join(convex, "m.ts"), `import { query } from "./_generated/server";
import { y } from "../src/y";
export const a = query(async () => y);
`);
  await host.says(/Could not resolve "\.\.\/src\/y"/, from);
  writeFileSync(join(src, "y.ts"), "export const y = 2;");
  await host.says(/push +pushed 1 function /, from);
  await host.stop();
});

test("dev pushes what was saved outside of the functions folder during a push", async () => {
  const of = (file) => `import { query } from "./_generated/server";
import { x } from "../src/${file}";
export const a = query(async () => x);
`;
  const folder = app("meanwhile", {
    "m.ts": of("x"),
    "n.ts": `"use node";
import { action } from "./_generated/server";
export const b = action(async () => 1);
`,
  });
  const [source, other, asked, go, node] = ["src/x.ts", "src/y.ts", "asked", "go", "node"].map(
    (name) => join(folder, name));
  mkdirSync(join(folder, "src"));
  writeFileSync(source, "export const x = 1;");
  writeFileSync(other, "export const x = 3;");
  // The first push has read the sources when it asks for Node's version, and is held there.
  writeFileSync(node, `#!/bin/sh
if [ "$1" = --version ]; then
  : > '${asked}'
  until [ -e '${go}' ]; do sleep 0.01; done
fi
exec '${process.execPath}' "$@"
`, { mode: 0o755 });
  const host = await start(["dev", folder, ...FREE_PORTS, "--in-memory", "--node", node]);
  await until(() => existsSync(asked));
  writeFileSync(source, "export const x = 2;");
  writeFileSync(go, "");
  await host.says(/push +pushed 2 functions[^]*push +pushed 2 functions/);
  assert.equal(await new ConvexHttpClient(host.url).query("m:a"), 2);
  // The new source was not watched; the push that makes sure changes nothing, and is not told.
  let from = host.output.length;
  writeFileSync(join(folder, "convex/m.ts"), of("y"));
  await host.says(/push +pushed 2 functions/, from);
  from = host.output.length;
  writeFileSync(other, "export const x = 4;");
  await host.says(/push +pushed 2 functions/, from);
  assert.equal(await new ConvexHttpClient(host.url).query("m:a"), 4);
  assert.equal(host.output.match(/push +(pushed|unchanged)/g).length, 4, host.output);
  await host.stop();
});

test("dev follows convex.json, and a functions folder that goes and comes back", async () => {
  const answer = (value) => `import { query } from "./_generated/server";
export const a = query(async () => ${value});
`;
  const folder = app("moving", { "m.ts": answer(1) });
  const place = (...path) => join(folder, ...path);
  const host = await start(["dev", folder, ...FREE_PORTS, "--in-memory"]);
  const pushed = (from) => host.says(/push +pushed 1 function /, from);
  await pushed(0);
  let from = host.output.length;
  renameSync(place("convex"), place("elsewhere"));
  await host.says(/There is no functions folder at .*convex/, from);
  from = host.output.length;
  writeFileSync(place("convex.json"), '{ "functions": "elsewhere/" }');
  await pushed(from);
  from = host.output.length;
  writeFileSync(place("elsewhere/m.ts"), answer(2));
  await pushed(from);
  from = host.output.length;
  renameSync(place("elsewhere"), place("away"));
  await host.says(/There is no functions folder at .*elsewhere/, from);
  from = host.output.length;
  renameSync(place("away"), place("elsewhere"));
  await host.says(/push +unchanged 1 function /, from);
  writeFileSync(place("elsewhere/m.ts"), answer(3));
  await pushed(from);
  assert.equal(await new ConvexHttpClient(host.url).query("m:a"), 3);
  await host.stop();
});

test("dev --once tells by its exit code whether the app runs", () => {
  const folder = copy("chat");
  assert.equal(concave(["dev", folder, "--once", ...FREE_PORTS]).status, 0);
  writeFileSync(join(folder, "convex/broken.ts"), "export const x = (;\n");
  const broken = concave(["dev", folder, "--once", ...FREE_PORTS]);
  assert.equal(broken.status, 1);
  assert.match(broken.stderr, /broken\.ts/);
  const throws = 'export const x = (() => { throw new Error("not yet"); })();\n';
  writeFileSync(join(folder, "convex/broken.ts"), throws);
  const refused = concave(["dev", folder, "--once", ...FREE_PORTS]);
  assert.equal(refused.status, 1);
  assert.equal(refused.stderr.split("not yet").length, 2, `told once: ${refused.stderr}`);
  assert.match(refused.stderr, /convex\/broken\.ts:1:\d+/);
});

test("an app whose packages are not installed is told the command", () => {
  const folder = copy("chat");
  rmSync(join(folder, "node_modules"));
  const ended = concave(["dev", folder, ...FREE_PORTS]);
  assert.equal(ended.status, 1);
  assert.ok(ended.stderr.includes(`npm install --prefix ${folder}`), ended.stderr);
});

test("run and data show what is there, in JSON where asked", async () => {
  const host = await serve("--push", "examples/chat");
  const env = pointedAt(host);
  const ask = (...args) => concave(args, { env });
  const read = (...args) => JSON.parse(ask(...args).stdout);

  const ada = read("run", "users:enter", '{"name": "ada"}');
  assert.equal(typeof ada, "string");
  for (const name of ["bob", "cyd"]) ask("run", "api.users.enter", JSON.stringify({ name }));
  assert.deepEqual(read("data", "--json"), [
    { name: "channels", documents: 0 },
    { name: "messages", documents: 0 },
    { name: "users", documents: 3 },
  ]);
  const names = (...flags) => read("data", "users", "--json", ...flags).map((user) => user.name);
  assert.deepEqual(names(), ["cyd", "bob", "ada"]);
  assert.deepEqual(names("--order", "asc", "--limit", "2"), ["ada", "bob"]);
  const lines = ask("data", "users", "--jsonl", "--limit", "1").stdout.trim().split("\n");
  assert.deepEqual(lines.map((line) => JSON.parse(line).name), ["cyd"]);

  const missing = ask("data", "nothing");
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /There is no table "nothing".*users/);

  const unknown = ask("run", "users:nobody");
  assert.equal(unknown.status, 1);
  assert.match(unknown.stderr, /Could not find/);
  assert.match(unknown.stderr, /users:enter/);

  const failed = ask("run", "users:enter", '{"name": " "}');
  assert.equal(failed.status, 1);
  assert.match(failed.stderr, /convex\/users\.ts:\d+:\d+/);
  assert.match(failed.stderr, /"code": "EmptyName"/);
  assert.equal(failed.stdout, "");

  assert.equal(ask("run", "users:enter", "{name: ").status, 2);
  assert.equal(ask("run", "users:enter", "{}", "--identity", "{}").status, 2);
  await host.stop();
});

test("why names the range, both calls and both lines of a retry", async () => {
  const host = await serve("--push", "examples/swaghaus");
  const env = pointedAt(host);
  const ask = (...args) => concave(["why", ...args], { env });
  assert.deepEqual(JSON.parse(ask("--json").stdout), []);
  assert.match(ask().stderr, /Nothing re-ran yet/);

  const add = ["run", "stock:add", '{"name": "Pen", "price": 1, "stock": 1000000}'];
  const item = JSON.parse(concave(add, { env }).stdout);
  const client = new ConvexHttpClient(host.url, { logger: false });
  const buy = (_, buyer) => client.mutation("shop:addCart", { buyer: `${buyer}`, item },
    { skipQueue: true });
  let causes = [];
  for (let round = 0; causes.length === 0 && round < 200; round++) {
    await Promise.all(Array.from({ length: 16 }, buy));
    causes = JSON.parse(ask("--json", "-n", "1").stdout);
  }
  assert.equal(causes.length, 1, "three thousand writers of one document meet somewhere");
  const [{ kind, at, reader, index, table, range, key, document, writer, text }] = causes;
  const id = `[_id="${item}"]`;
  assert.deepEqual({ kind, index, table, range, key, document },
    { kind: "conflict", index: "items.by_id", table: "items", range: id, key: id, document: item });
  assert.match(at, /^\d{19}$/);
  const expected = `addCart re-ran: another addCart wrote items${id} inside the range it read`;
  assert.equal(text, expected);
  const shop = readFileSync(join(ROOT, SHOP), "utf8").split("\n");
  const lineOf = (code, from = 0) => shop.findIndex((l, at) => at >= from && l.includes(code)) + 1;
  const mutation = lineOf("export const addCart");
  for (const [party, code] of [[reader, 'get("items", id)'], [writer, 'patch("items", id']]) {
    assert.equal(party.function, "shop:addCart");
    assert.equal(party.args.item, item);
    assert.match(party.requestId, /^[0-9a-f]{16}$/);
    const line = lineOf(code, mutation);
    const column = shop[line - 1].indexOf(code) + 1;
    assert.deepEqual(party.site,
      { file: "convex/shop.ts", line, column, function: "handler", exact: true });
  }
  assert.notEqual(reader.requestId, writer.requestId);

  const lines = ask("-n", "1").stdout.trimEnd().split("\n");
  assert.deepEqual(lines.slice(0, 2), [expected, `  range items.by_id${id}`]);
  assert.match(lines[2], /^  read at convex\/shop\.ts:\d+:\d+ \(request [0-9a-f]{16}\)$/);
  assert.match(lines[3], /^  written at convex\/shop\.ts:\d+:\d+ \(request [0-9a-f]{16}\)$/);
  assert.equal(ask("-n", "0").status, 2);
  await host.stop();
});

test("commands that know no host, or find none, say what to do", () => {
  const cwd = copy("transfer");
  const nowhere = concave(["run", "accounts:get_account"], { cwd });
  assert.equal(nowhere.status, 2);
  assert.match(nowhere.stderr, /concave dev/);
  const silent = ["--url", "http://127.0.0.1:9", "--admin-key", KEY];
  const unreachable = concave(["data", ...silent], { cwd });
  assert.equal(unreachable.status, 1);
  assert.match(unreachable.stderr, /Nothing answers at http:\/\/127\.0\.0\.1:9/);
});

test("serve says what it cannot do, and what it will lose", async () => {
  const nowhere = concave(["serve", "--data", "/proc/nowhere", ...FREE_PORTS]);
  assert.equal(nowhere.status, 1);
  assert.match(nowhere.stderr, /Could not use the data folder \/proc\/nowhere/);
  assert.equal(concave(["serve", "--data", "x", "--in-memory"]).status, 2);
  assert.equal(concave(["serve", "--admin-key", "a:b", ...FREE_PORTS]).status, 1);

  const host = await start(["serve", ...FREE_PORTS]);
  await host.says(/memory only/);
  const [, key] = await host.says(/admin key (concave\|[0-9a-f]{64})/);
  const taken = concave(["serve", "--in-memory", "--port", new URL(host.url).port]);
  assert.equal(taken.status, 1);
  assert.match(taken.stderr, /in use.*--port/);
  const data = join(mkdtempSync(join(tmpdir(), "concave-")), "data");
  assert.equal(concave(["serve", "--data", data, "--port", new URL(host.url).port]).status, 1);
  assert.ok(!existsSync(data), "a host that cannot listen makes no folder");
  const empty = concave(["data", "--json", "--url", host.url, "--admin-key", key]);
  assert.deepEqual(JSON.parse(empty.stdout), []);
  assert.equal(await host.stop(), 0);
});

test("serve --push serves the app, or ends with what is wrong with it", async () => {
  const host = await serve("--push", "examples/transfer");
  await host.says(/pushed 8 functions/);
  const stats = ["run", "accounts:get_stats", '{"initialBalance": 1}'];
  const run = concave(stats, { env: pointedAt(host) });
  assert.deepEqual(JSON.parse(run.stdout), { changed: 0, count: 0, total: 0 });
  // As the official command line takes arguments.
  const loose = concave(["run", "seed:seed_range", "{ start: 0, count: 2, initial: 5, }"],
    { env: pointedAt(host) });
  assert.equal(loose.status, 0, loose.stderr);
  const wrong = concave(["run", "seed:seed_range", "{ start: "], { env: pointedAt(host) });
  assert.match(wrong.stderr, /The arguments are not a JSON object: .*line 1 column/);
  const past = concave(["run", "seed:clear_accounts", "--at", String(Date.now())],
    { env: pointedAt(host) });
  assert.match(past.stderr, /defined as Mutation.*\nOnly queries can be called as of an earlier/);
  const future = concave(["run", ...stats.slice(1), "--at", "9000000000000"],
    { env: pointedAt(host) });
  assert.match(future.stderr, /is in the future/);
  assert.equal(await host.stop(), 0);

  const folder = copy("transfer");
  writeFileSync(join(folder, "convex", "broken.ts"), "export const x = ;\n");
  const broken = concave(["serve", "--in-memory", "--push", folder, ...FREE_PORTS]);
  assert.equal(broken.status, 1);
  assert.match(broken.stderr, /convex\/broken\.ts:1:18/);
  assert.match(broken.stderr, /was not pushed/);
});

test("limits are printed as text and as JSON", () => {
  const limits = JSON.parse(concave(["limits", "--json"]).stdout);
  const text = concave(["limits"]).stdout;
  assert.ok(limits.length > 20);
  for (const { name, value, reason } of limits) {
    assert.ok(Number.isSafeInteger(value) && value > 0, name);
    assert.ok(text.includes(name) && text.includes(reason), name);
  }
});

test("help teaches, mistakes are usage errors", () => {
  assert.match(concave(["--help"]).stdout, /concave dev/);
  assert.match(concave(["help", "run"]).stdout, /Examples:/);
  assert.doesNotMatch(concave(["--help"]).stdout, /snapshot-builder/);
  const mistakes = [["frobnicate"], [], ["data", "x", "--limit", "0"], ["serve", "--port", "x"]];
  for (const args of mistakes) {
    assert.equal(concave(args).status, 2, args.join(" "));
  }
});
