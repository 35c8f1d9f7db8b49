// Actions through npm's unmodified clients: what they are given, refused, and left alone with.
//
// In: the built program, tests/site with an auth.config.ts of this run. Out: checks of answers, and
// of what the actions wrote down. Invariant: what waits, waits for a note that the test adds, so
// that no test depends on how fast anything is.
import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ConvexError } from "convex/values";
import WebSocket from "ws";
import { ROOT, concave, pointedAt, serve } from "./host.mjs";
import { Proxy } from "./proxy.mjs";
import { hurry, until, watch } from "./watch.mjs";

const ISSUER = "https://issuer.example";
const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function token(sub) {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { iss: ISSUER, aud: "app", sub, iat, exp: iat + 3600 };
  const text = `${part({ alg: "ES256", kid: "k1", typ: "JWT" })}.${part(claims)}`;
  const key = { key: privateKey, dsaEncoding: "ieee-p1363" };
  return `${text}.${sign("sha256", Buffer.from(text), key).toString("base64url")}`;
}

const folder = mkdtempSync(join(tmpdir(), "concave-calls-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
cpSync(join(ROOT, "tests/site"), folder, { recursive: true });
symlinkSync(join(ROOT, "tests/node_modules"), join(folder, "node_modules"));
const keys = { keys: [{ ...publicKey.export({ format: "jwk" }), kid: "k1" }] };
const jwks = `data:application/json;base64,${Buffer.from(JSON.stringify(keys)).toString("base64")}`;
const providers = [
  { type: "customJwt", issuer: ISSUER, jwks, algorithm: "ES256", applicationID: "app" },
];
writeFileSync(join(folder, "convex/auth.config.ts"),
  `export default ${JSON.stringify({ providers })};\n`);

const host = await serve("--push", folder);
after(() => host.stop());
const { calls, notes } = anyApi;
const http = new ConvexHttpClient(host.url, { logger: false });
const socket = new ConvexClient(host.url, { logger: false, webSocketConstructor: WebSocket });
after(() => socket.close());
const list = watch(socket, notes.list, {});
const noted = (text, count = 1) =>
  until(() => list.last()?.filter((note) => note === text).length >= count, text);
const note = (text) => http.mutation(notes.add, { text });

/** Both doors: what holds for one holds for the other. */
const doors = { HTTP: http, WebSocket: socket };

for (const [door, client] of Object.entries(doors)) {
  test(`${door}: arguments and results are checked, and keep their types`, async () => {
    const args = { n: 1.5, big: 2n ** 60n, bytes: new Uint8Array([1, 2]).buffer };
    assert.deepEqual(await client.action(calls.typed, args), args);
    const wrong = client.action(calls.typed, { ...args, n: "one" });
    await assert.rejects(wrong, /ArgumentValidationError: [^]*Path: \.n[^]*"one"/);
    await assert.rejects(client.action(calls.wrongResult, {}), /ReturnsValidationError[^]*\.n/);
    const nothing = /find public function for 'calls:nothing'/;
    await assert.rejects(client.action(calls.nothing, {}), nothing);
    await assert.rejects(client.action(notes.list, {}), /Trying to execute notes.*Query/s);
    await assert.rejects(client.mutation(calls.typed, args), /Trying to execute calls.*Action/s);
  });

  test(`${door}: a ConvexError arrives with its data`, async () => {
    await assert.rejects(client.action(calls.throwsData, {}), (error) => {
      assert.ok(error instanceof ConvexError);
      assert.deepEqual(error.data, { code: "full", left: 0n });
      return true;
    });
  });

  test(`${door}: internal actions are for functions and the operator alone`, async () => {
    const hidden = /find public function for 'calls:hidden'/;
    await assert.rejects(client.action(calls.hidden, {}), hidden);
    assert.equal(await client.action(calls.throughTheDoor, {}), "internal");
    const ran = concave(["run", "calls:hidden", "{}"], { env: pointedAt(host) });
    assert.match(ran.stdout, /internal/, ran.stderr);
  });

  test(`${door}: a client that leaves leaves its action to finish, once`, async () => {
    const name = `left ${door}`;
    let leave;
    if (client === http) {
      const controller = new AbortController();
      leave = () => controller.abort();
      const body = JSON.stringify({ path: "calls:waits", args: { name, until: `go ${door}` } });
      const options = { method: "POST", body, signal: controller.signal };
      fetch(`${host.url}/api/action`, options).catch(() => {});
    } else {
      const other = new ConvexClient(host.url, { logger: false, webSocketConstructor: WebSocket });
      leave = () => other.close();
      other.action(calls.waits, { name, until: `go ${door}` }).catch(() => {});
    }
    await noted(`${name} began`);
    await leave();
    await note(`go ${door}`);
    await noted(`${name} ended`);
    assert.equal(list.last().filter((text) => text === `${name} began`).length, 1);
  });
}

test("an action and everything it calls see who called it", async () => {
  const ada = `${ISSUER}|ada`;
  assert.deepEqual(await http.action(calls.who, {}), [null, null, null]);
  const signed = new ConvexHttpClient(host.url, { logger: false, auth: token("ada") });
  assert.deepEqual(await signed.action(calls.who, {}), [ada, ada, ada]);
  const client = new ConvexClient(host.url, { logger: false, webSocketConstructor: WebSocket });
  assert.deepEqual(await client.action(calls.who, {}), [null, null, null]);
  let known;
  client.setAuth(async () => token("ada"), (authenticated) => (known = authenticated));
  await until(() => known);
  assert.deepEqual(await client.action(calls.who, {}), [ada, ada, ada]);
  await client.close();
});

test("100 actions wait at once, and nothing else waits for them", async () => {
  const names = Array.from({ length: 100 }, (_, n) => `waiter ${n}`);
  const start = (name, n) => (n % 2 ? http : socket).action(calls.waits, { name, until: "all go" });
  const all = Promise.all(names.map(start));
  for (const name of names) await noted(`${name} began`);
  // Mutations and actions of the same two clients go on beside them.
  await socket.mutation(notes.add, { text: "beside" });
  assert.equal(await socket.action(calls.throughTheDoor, {}), "internal");
  assert.equal(await http.action(calls.throughTheDoor, {}), "internal");
  assert.ok(!list.last().some((text) => text.startsWith("waiter") && text.endsWith("ended")));
  await socket.mutation(notes.add, { text: "all go" });
  assert.deepEqual(await all, names);
});

test("when an action's answer is there, so is what it wrote", async () => {
  await note("already");
  await socket.action(calls.waits, { name: "writer", until: "already" });
  // The client shows a Transition that covers the action's writes before or soon after its answer;
  // the host owes it one in any case.
  await noted("writer ended");
});

test("a connection that is lost ends the promise; the action is not sent again", async () => {
  const proxy = await Proxy.to(host.url);
  const client = new ConvexClient(proxy.url, { logger: false, webSocketConstructor: WebSocket });
  hurry(client.client);
  const lost = client.action(calls.waits, { name: "cut", until: "cut go" });
  const mutated = until(() => list.last()?.includes("cut began")).then(() => {
    proxy.cut();
    return client.mutation(notes.add, { text: "after the cut" });
  });
  await assert.rejects(lost, /Connection lost while action was in flight/);
  await mutated;
  await note("cut go");
  await noted("cut ended");
  await client.action(calls.throughTheDoor, {});
  assert.equal(list.last().filter((text) => text === "cut began").length, 1);
  assert.equal(list.last().filter((text) => text === "after the cut").length, 1);
  await client.close();
  proxy.close();
});
