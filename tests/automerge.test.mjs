// Automerge: its WebAssembly in queries, mutations and actions, loaded in each of the ways that its
// users have; and examples/tasks-automerge, whose peers are cut off at random and converge.
//
// In: the built program, the npm package in two versions. Out: documents. Invariant: a document is
// the same in every peer and in every function, to the last bit of its history.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as Automerge from "@automerge/automerge";
import { next as Automerge2 } from "automerge-2";
import { ConvexHttpClient } from "convex/browser";
import { Peer } from "../examples/tasks-automerge/src/peer.mjs";
import { ROOT, concave, pointedAt, serve } from "./host.mjs";

const http = (host) => new ConvexHttpClient(host.url, { logger: false });

/** Waits until `look` gives something true. */
async function until(look, what) {
  for (const end = Date.now() + 60_000; ; ) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// What runs in Node and in functions alike: two actors who edit apart and merge. The hashes of its
// changes, which the heads are, depend on every byte.
const SCRIPT = `
export function run(A, size) {
  let one = A.change(A.init({ actor: "aa" }), { time: 0 }, (doc) => {
    doc.tasks = [];
    doc.note = "";
    doc.count = new A.Counter(0);
  });
  let two = A.clone(one, { actor: "bb" });
  for (let at = 0; at < size; at++) {
    one = A.change(one, { time: at }, (doc) => {
      doc.tasks.push({ id: at, text: "task " + at, done: false, at: new Date(at), ratio: at / 3 });
      doc.count.increment(1);
    });
    two = A.change(two, { time: at }, (doc) => {
      A.splice(doc, ["note"], at, 0, "é");
      doc.count.increment(2);
    });
  }
  const merged = A.merge(A.clone(one, { actor: "cc" }), two);
  const loaded = A.loadIncremental(A.init({ actor: "dd" }), A.save(merged));
  const { tasks, note, count } = A.toJS(loaded);
  return { heads: A.getHeads(loaded), tasks: tasks.length, last: tasks.at(-1).text, note,
    count: Number(count), saved: A.save(merged).length };
}
`;

/** How the package gets its WebAssembly: the lines above the functions. */
const WAYS = {
  bare: (name, next) => `import ${next ? "{ next as A }" : "* as A"} from "${name}";
    const ready = undefined;`,
  file: (name, next) => `import * as A from "${name}/slim${next}";
    import wasm from "${name}/automerge.wasm";
    const ready = A.initializeWasm(wasm);`,
  base64: (name, next) => `import * as A from "${name}/slim${next}";
    import { automergeWasmBase64 } from "${name}/automerge.wasm.base64${next ? ".js" : ""}";
    const ready = A.initializeBase64Wasm(automergeWasmBase64);`,
};

const FUNCTIONS = `
import { action, mutation, query } from "./_generated/server";
import { run } from "../script.mjs";
const args = { size: v.number(), round: v.optional(v.number()) };
const handler = async (ctx: unknown, { size }: { size: number }) => {
  await ready;
  return run(A, size);
};
export const q = query({ args, handler });
export const m = mutation({ args, handler });
export const a = action({ args, handler });
/** The actor is drawn from the call's seed. */
export const actor = query({ args: { round: v.number() }, handler: async () => {
  await ready;
  return A.getActorId(A.init());
} });
`;

/** An app with a module a way; \`plain\` has none of it. */
function app(name, next) {
  const folder = mkdtempSync(join(tmpdir(), "concave-automerge-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(join(ROOT, "tests/node_modules"), join(folder, "node_modules"));
  mkdirSync(join(folder, "convex"));
  const dependencies = { convex: "1.48.0", [name]: "*" };
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", dependencies }));
  writeFileSync(join(folder, "script.mjs"), SCRIPT);
  for (const [way, imports] of Object.entries(WAYS)) {
    const text = `import { v } from "convex/values";\n${imports(name, next)}${FUNCTIONS}`;
    writeFileSync(join(folder, `convex/${way}.ts`), text);
  }
  const plain = `import { query } from "./_generated/server";
    export const hello = query({ args: {}, handler: async () => "hello" });`;
  writeFileSync(join(folder, "convex/plain.ts"), plain);
  return folder;
}

for (const [name, next, local] of [
  ["@automerge/automerge", "", Automerge],
  ["automerge-2", "/next", Automerge2],
]) {
  test(`${name}: loaded in any way, in any function, it gives what Node gives`, async () => {
    const folder = app(name, next);
    const host = await serve("--push", folder);
    const { run } = await import(join(folder, "script.mjs"));
    // Far from a query's second also where that is a third of what it is elsewhere.
    for (const size of [1, 10]) {
      const expected = run(local, size);
      for (const way of Object.keys(WAYS)) {
        const args = { size };
        assert.deepEqual(await http(host).query(`${way}:q`, args), expected, `${way} query`);
        assert.deepEqual(await http(host).mutation(`${way}:m`, args), expected, `${way} mutation`);
        assert.deepEqual(await http(host).action(`${way}:a`, args), expected, `${way} action`);
        const again = await http(host).query(`${way}:q`, { size, round: 1 });
        assert.deepEqual(again, expected, `${way} query again`);
      }
    }
    const actors = await Promise.all(
      [1, 2, 3].map((round) => http(host).query("bare:actor", { round })),
    );
    assert.equal(new Set(actors).size, 3, `one actor for several calls: ${actors}`);
    assert.equal(await http(host).query("plain:hello", {}), "hello");
    await host.stop();
  });
}

/** Numbers that look random, the same for the same seed. */
function random(seed) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, below: (n) => Math.floor(next() * n) };
}

/** One random edit. */
function edit(dice, number) {
  return (doc) => {
    const at = dice.below(doc.tasks.length);
    const kind = doc.tasks.length === 0 ? 0 : dice.below(5);
    if (kind < 2) doc.tasks.push({ id: `${number}`, text: `task ${number}`, done: false });
    else if (kind === 2) doc.tasks[at].done = !doc.tasks[at].done;
    else if (kind === 3) doc.tasks[at].text += `, ${number}`;
    else doc.tasks.splice(at, 1);
  };
}

test("tasks-automerge: peers that are cut off at random end with one document", async (t) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 32));
  t.diagnostic(`SEED=${seed}`);
  const dice = random(seed);
  const host = await serve("--push", join(ROOT, "examples/tasks-automerge"));
  const documentId = `document ${seed}`;
  const client = http(host);
  const peers = Array.from({ length: 4 }, () => new Peer(host.url, documentId));
  const background = [];
  for (let step = 0; step < 200; step++) {
    const peer = peers[dice.below(peers.length)];
    const kind = dice.below(20);
    if (kind < 12) peer.edit(edit(dice, step));
    else if (kind < 15) peer.connect();
    else if (kind < 17) background.push(peer.disconnect());
    else if (kind === 17) {
      background.push(client.mutation("documents:addTask", { documentId, text: `${step}` }));
    } else if (kind === 18) background.push(client.action("documents:compact", { documentId }));
    else if (peer.isOnline) background.push(peer.submitSnapshot().catch(() => "was cut off"));
    await new Promise((resolve) => setTimeout(resolve, dice.below(30)));
  }
  await Promise.all(background);
  peers.push(new Peer(host.url, documentId));
  for (const peer of peers) peer.connect();
  const heads = (doc) => Automerge.getHeads(doc).join();
  await until(
    () => peers.every((p) => p.outbox.length === 0 && heads(p.doc) === heads(peers[0].doc)),
    `peers to converge (SEED=${seed})`,
  );

  const [document] = peers.map((peer) => Automerge.toJS(peer.doc));
  for (const peer of peers) assert.deepEqual(Automerge.toJS(peer.doc), document);
  const served = async () => [
    await client.query("documents:doc", { documentId }),
    (await client.query("documents:heads", { documentId })).join(),
  ];
  assert.deepEqual(await served(), [document, heads(peers[0].doc)]);

  // One snapshot says the same, to functions and to who comes late.
  await client.action("documents:compact", { documentId });
  const paginationOpts = { numItems: 10, cursor: null };
  const { page } = await client.query("sync:pullChanges", { documentId, paginationOpts });
  assert.deepEqual(page.map((row) => row.type), ["snapshot"]);
  assert.deepEqual(await served(), [document, heads(peers[0].doc)]);
  const late = new Peer(host.url, documentId);
  late.connect();
  await until(() => heads(late.doc) === heads(peers[0].doc), "the late peer");
  await Promise.all([...peers, late].map((peer) => peer.disconnect()));
  await host.stop();
});

test("pushing a file that is no WebAssembly says so, with the file that imports it", async () => {
  const folder = app("@automerge/automerge", "");
  writeFileSync(join(folder, "convex/broken.wasm"), "not a module");
  const text = `import wasm from "./broken.wasm";\nexport const broken = wasm;\n`;
  writeFileSync(join(folder, "convex/broken.ts"), text);
  const host = await serve();
  const pushed = concave(["push", folder], { env: pointedAt(host) });
  assert.equal(pushed.status, 1, pushed.stdout);
  assert.match(pushed.stderr, /Failed to analyze broken\.js/);
  assert.match(pushed.stderr, /convex\/broken\.wasm is not a WebAssembly module: .*magic word/);
  await host.stop();
});
