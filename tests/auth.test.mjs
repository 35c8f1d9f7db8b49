// Users' tokens through npm's unmodified clients: setAuth, refreshing, refusals, React.
//
// In: the built program, tests/live with an auth.config.ts of this run, a provider on loopback.
// Out: checks of who the functions believe to be called by. Invariant: keys are made here and
// live as long as the test.
import assert from "node:assert/strict";
import { generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { JSDOM } from "jsdom";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import WebSocket from "ws";
import { ROOT, serve } from "./host.mjs";
import { until, watch } from "./watch.mjs";

const { notes, people } = anyApi;
const CUSTOM = "https://custom.example";

/** A key pair, its public half as a JWK, and tokens signed with it. */
function signer(kind, options, kid) {
  const { privateKey, publicKey } = generateKeyPairSync(kind, options);
  const alg = kind === "ec" ? "ES256" : "RS256";
  const jwk = { ...publicKey.export({ format: "jwk" }), kid, alg, use: "sig" };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (claims) => {
    const iat = Math.floor(Date.now() / 1000);
    const text = `${part({ alg, kid, typ: "JWT" })}.${part({ iat, exp: iat + 3600, ...claims })}`;
    const key = { key: privateKey, dsaEncoding: "ieee-p1363" };
    return `${text}.${sign("sha256", Buffer.from(text), key).toString("base64url")}`;
  };
  return { jwk, token };
}

const custom = signer("ec", { namedCurve: "P-256" }, "custom-1");
const openId = signer("rsa", { modulusLength: 2048 }, "openid-1");
const stranger = signer("ec", { namedCurve: "P-256" }, "custom-1");

/** An OpenID Connect provider: discovery and keys. */
const provider = createServer((request, response) => {
  const issuer = `http://127.0.0.1:${provider.address().port}`;
  const found = {
    "/.well-known/openid-configuration": { issuer, jwks_uri: `${issuer}/keys` },
    "/keys": { keys: [openId.jwk] },
  }[request.url];
  response.writeHead(found ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(found ?? {}));
});
await new Promise((resolve) => provider.listen(0, "127.0.0.1", resolve));
provider.unref();
const ISSUER = `http://127.0.0.1:${provider.address().port}`;

const folder = mkdtempSync(join(tmpdir(), "concave-auth-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
cpSync(join(ROOT, "tests/live"), folder, { recursive: true });
symlinkSync(join(ROOT, "tests/node_modules"), join(folder, "node_modules"));
const jwks = `data:application/json;base64,${
  Buffer.from(JSON.stringify({ keys: [custom.jwk] })).toString("base64")}`;
const providers = [
  { type: "customJwt", issuer: CUSTOM, jwks, algorithm: "ES256", applicationID: "tests" },
  { domain: ISSUER, applicationID: "tests" },
];
writeFileSync(join(folder, "convex/auth.config.ts"),
  `export default ${JSON.stringify({ providers })};\n`);
const host = await serve("--push", folder);
after(() => host.stop());

const claims = { iss: CUSTOM, aud: "tests", sub: "ada" };
const clients = [];
after(() => Promise.all(clients.map((client) => client.close())));

function open(options = {}) {
  const client = new ConvexClient(host.url, { logger: false, ...options });
  clients.push(client);
  return client;
}

/** Signs a client in; `asked` and `told` grow with each question and each answer. */
function signIn(client, next) {
  const signed = { asked: [], told: [] };
  const fetch = async ({ forceRefreshToken }) => {
    signed.asked.push(forceRefreshToken);
    return next(signed.asked.length);
  };
  client.setAuth(fetch, (authenticated) => signed.told.push(authenticated));
  return signed;
}

for (const [name, token] of [
  ["custom JWT", () => custom.token(claims)],
  ["OpenID Connect", () => openId.token({ ...claims, iss: ISSUER })],
]) {
  test(`${name}: setAuth makes a client somebody, and only what looks at identity changes`,
    async () => {
      const client = open();
      const list = name;
      const subject = watch(client, people.subject, {});
      const count = watch(client, notes.count, { list });
      await Promise.all([subject.shows(null), count.shows(0)]);
      const signed = signIn(client, token);
      await subject.shows("ada");
      await until(() => signed.told.length > 0);
      assert.ok(signed.told.every(Boolean), `${signed.told}`);
      await client.mutation(notes.add, { list, body: "a" });
      assert.deepEqual([subject.seen, count.seen], [[null, "ada"], [0, 1]]);
      client.client.clearAuth();
      await subject.shows(null);
      assert.equal(client.connectionState().connectionCount, 1);
    });
}

test("one client's user is not another's", async () => {
  const users = ["ada", "bob", null, "cyd"];
  const watched = users.map((sub) => {
    const client = open();
    if (sub !== null) signIn(client, () => custom.token({ ...claims, sub }));
    return watch(client, people.subject, {});
  });
  await Promise.all(watched.map((each, n) => each.shows(users[n])));
  const http = new ConvexHttpClient(host.url, { logger: false });
  assert.equal(await http.query(people.subject, {}), null);
  http.setAuth(custom.token({ ...claims, sub: "dan" }));
  assert.equal(await http.query(people.subject, {}), "dan");
});

for (const [name, token] of [
  ["a wrong signature", () => stranger.token(claims)],
  ["another audience", () => custom.token({ ...claims, aud: "others" })],
  ["an unknown issuer", () => custom.token({ ...claims, iss: "https://nobody.example" })],
]) {
  test(`${name}: the client asks for a better token, then goes on as nobody`, async () => {
    const client = open();
    const subject = watch(client, people.subject, {});
    await subject.shows(null);
    const signed = signIn(client, token);
    await until(() => signed.told.includes(false));
    assert.ok(!signed.told.includes(true), `${signed.told}`);
    assert.ok(signed.asked.includes(true), "a fresh token was asked for");
    await client.mutation(notes.add, { list: name, body: "a" });
    assert.deepEqual(new Set(subject.seen), new Set([null]));
    const http = new ConvexHttpClient(host.url, { logger: false });
    http.setAuth(token());
    await assert.rejects(http.query(people.subject, {}), /401|auth|token/i);
  });
}

test("a second, better token is taken where the first was refused", async () => {
  const client = open();
  const subject = watch(client, people.subject, {});
  const signed = signIn(client, (time) => (time === 1 ? stranger : custom).token(claims));
  await subject.shows("ada");
  await until(() => signed.told.includes(true));
});

test("a token that ends is replaced in time, without a result in between", async () => {
  // It is replaced after a second or two, and one that was late for a minute would hold still.
  const client = open({ authRefreshTokenLeewaySeconds: 118 });
  const subject = watch(client, people.subject, {});
  await subject.shows(null);
  const exp = () => Math.floor(Date.now() / 1000) + 120;
  const signed = signIn(client, () => custom.token({ ...claims, exp: exp() }));
  await until(() => signed.asked.length >= 4);
  assert.deepEqual(subject.seen, [null, "ada"]);
  assert.deepEqual(new Set(signed.told), new Set([true]));
});

/** Signs in on a bare socket with a token that ends in so many seconds; what is heard until it is
 * taken or refused, and after it. */
async function shortLived(seconds) {
  const socket = new WebSocket(`${host.url.replace("http", "ws")}/api/1.48.0/sync`);
  const peer = { heard: [], closed: false };
  socket.on("message", (text) => peer.heard.push(JSON.parse(text)));
  socket.on("close", () => (peer.closed = true));
  await new Promise((resolve) => socket.on("open", resolve));
  const sessionId = randomUUID();
  const value = custom.token({ ...claims, exp: Math.floor(Date.now() / 1000) + seconds });
  for (const message of [
    { type: "Connect", sessionId, connectionCount: 0, lastCloseReason: null, clientTs: 0 },
    { type: "Authenticate", baseVersion: 0, tokenType: "User", value },
    { type: "ModifyQuerySet", baseVersion: 0, newVersion: 1, modifications: [] },
  ]) {
    socket.send(JSON.stringify(message));
  }
  await until(() => peer.heard.some((m) => m.endVersion?.identity === 1 || m.type === "AuthError"));
  return peer;
}

test("a token that has ended is told so, and the connection ends", async () => {
  let peer;
  // One that ended before the host saw it says nothing here: the next one lives longer.
  for (const seconds of [2, 8, 32]) {
    peer = await shortLived(seconds);
    if (peer.heard.some((m) => m.endVersion?.identity === 1)) break;
  }
  const { heard } = peer;
  assert.ok(heard.some((m) => m.endVersion?.identity === 1), JSON.stringify(heard));
  await until(() => heard.some(({ type }) => type === "AuthError") && peer.closed);
  const { error, ...rest } = heard.find(({ type }) => type === "AuthError");
  assert.deepEqual(rest, { type: "AuthError", baseVersion: 1, authUpdateAttempted: false });
  assert.match(error, /expired/);
});

test("ConvexProviderWithAuth shows who is signed in, and that nobody is any more", async () => {
  const { window } = new JSDOM("<!doctype html>", { url: "http://localhost/" });
  const { document, navigator } = window;
  Object.assign(globalThis, { window, document, navigator });
  const { createElement, useCallback, useState } = await import("react");
  const { createRoot } = await import("react-dom/client");
  const react = await import("convex/react");
  const options = { logger: false, webSocketConstructor: WebSocket, unsavedChangesWarning: false };
  const client = new react.ConvexReactClient(host.url, options);
  clients.push(client);
  let signOut;
  const useAuth = () => {
    const [isAuthenticated, set] = useState(true);
    signOut = () => set(false);
    const fetchAccessToken = useCallback(async () => custom.token(claims), []);
    return { isLoading: false, isAuthenticated, fetchAccessToken };
  };
  const Subject = () => `I am ${react.useQuery(people.subject)}`;
  const place = document.createElement("div");
  const root = createRoot(place);
  const page = [
    createElement(react.Authenticated, { key: 1 }, createElement(Subject)),
    createElement(react.Unauthenticated, { key: 2 }, "nobody"),
    createElement(react.AuthLoading, { key: 3 }, "wait"),
  ];
  root.render(createElement(react.ConvexProviderWithAuth, { client, useAuth }, page));
  const shows = (text) => until(() => place.textContent === text, () => place.textContent);
  await shows("I am ada");
  signOut();
  await shows("nobody");
  root.unmount();
});
