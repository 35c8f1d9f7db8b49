// Users' tokens as an app sees them: auth.config.ts, the npm client's setAuth, ctx.auth.
//
// In: the built program, a copy of an example with a provider whose keys are in its config.
// Out: checks of getUserIdentity() and of refusals. Invariant: keys are made fresh in every run.
import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { concave, copy, pointedAt, serve } from "./host.mjs";

const ISSUER = "https://issuer.example";
const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });

function part(value) {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

function token(claims) {
  const now = Math.floor(Date.now() / 1000);
  const whole = { iss: ISSUER, sub: "u1", aud: "app", iat: now, exp: now + 600, ...claims };
  const message = `${part({ alg: "ES256", kid: "k1", typ: "JWT" })}.${part(whole)}`;
  const key = { key: privateKey, dsaEncoding: "ieee-p1363" };
  return `${message}.${sign("sha256", Buffer.from(message), key).toString("base64url")}`;
}

/** The text of an auth.config.ts with this provider's keys in it. */
function config(fields) {
  const keys = JSON.stringify({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "k1" }] });
  const jwks = `data:application/json;base64,${Buffer.from(keys).toString("base64")}`;
  const provider = { type: "customJwt", issuer: ISSUER, applicationID: "app", jwks };
  const entry = { ...provider, algorithm: "ES256", ...fields };
  return `export default { providers: [${JSON.stringify(entry)}] };\n`;
}

const WHOAMI = `
import { query } from "./_generated/server";
export const whoami = query({
  args: {},
  handler: async (ctx) => await ctx.auth.getUserIdentity(),
});
`;

test("a function sees who calls, and a wrong token is refused with its reason", async () => {
  const folder = copy("chat");
  writeFileSync(join(folder, "convex/auth.config.ts"), config({}));
  writeFileSync(join(folder, "convex/me.ts"), WHOAMI);
  const host = await serve("--push", folder);
  const client = new ConvexHttpClient(host.url, { logger: false });
  assert.equal(await client.query("me:whoami", {}), null);

  client.setAuth(token({ email: "ada@example.com", roles: ["admin"], org: { id: 7 } }));
  const ada = {
    tokenIdentifier: `${ISSUER}|u1`,
    issuer: ISSUER,
    subject: "u1",
    email: "ada@example.com",
    roles: ["admin"],
    "org.id": 7,
  };
  assert.deepEqual(await client.query("me:whoami", {}), ada);
  client.setAuth(token({ sub: "u2" }));
  assert.equal((await client.query("me:whoami", {})).subject, "u2");
  client.clearAuth();
  assert.equal(await client.query("me:whoami", {}), null);

  client.setAuth(token({ exp: 1_000_000_000 }));
  await assert.rejects(client.query("me:whoami", {}), /Unauthenticated.*expired \d+ s ago/);
  client.setAuth(token({ aud: "another" }));
  await assert.rejects(client.query("me:whoami", {}), /NoAuthProvider.*its aud is .*another/);
  client.setAdminAuth(host.key, { issuer: ISSUER, subject: "u3" });
  assert.equal((await client.query("me:whoami", {})).subject, "u3");

  // A config that cannot work fails its push; who could sign in still can.
  writeFileSync(join(folder, "convex/auth.config.ts"), config({ issuer: "ftp://issuer.example" }));
  const pushed = concave(["push", folder], { env: pointedAt(host) });
  assert.notEqual(pushed.status, 0);
  assert.match(pushed.stderr, /providers\[0\]\.issuer "ftp:.*write http:\/\/ or https:\/\//);
  client.setAuth(token({}));
  assert.equal((await client.query("me:whoami", {})).subject, "u1");
  await host.stop();
});
