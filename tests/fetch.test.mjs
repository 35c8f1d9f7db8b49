// fetch in actions, against real servers on this machine.
//
// In: the programs of tests/web/fetches.js, run here and in an action; addresses that fail. Out:
// lines, error texts. Invariant: an action prints what Node and npm's deno print; whatever fails
// says which address, why, and what to do; an address that is not public is reached only where it
// is allowed.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer as createSecureServer } from "node:https";
import { createServer as createRawServer } from "node:net";
import { after, before, test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { linesInDeno } from "./deno.mjs";
import { ROOT, serve, start } from "./host.mjs";
import { PROGRAMS } from "./web/fetches.js";
import { printed } from "./web/print.js";
import { deaf, listen, until } from "./web/server.js";

const APP = `${ROOT}tests/web`;
const { fetching } = anyApi;
const read = (name) => readFileSync(`${APP}/${name}`);
const certificate = { cert: read("certificate.pem"), key: read("key.pem") };

const secure = (handler) => createSecureServer(certificate, handler);

let open;
let shut;
let servers;
before(async () => {
  servers = await Promise.all([listen(), listen(), listen(secure)]);
  const environment = { ...process.env, SSL_CERT_FILE: `${APP}/certificate.pem`, NO_COLOR: "1" };
  const ports = ["--port", "0", "--site-port", "0"];
  [open, shut] = await Promise.all([
    start(["serve", "--in-memory", ...ports, "--allow-private-network", "--push", APP],
      { env: environment }),
    serve("--push", APP),
  ]);
});
after(async () => {
  servers?.forEach((server) => server.stop());
  await Promise.all([open?.stop(), shut?.stop()]);
});

const client = (host) => new ConvexHttpClient(host.url, { logger: false });
const get = (host, url, init) => client(host).action(fetching.get, { url, init });

/** Where deno is no oracle: which line of which program, and why. */
const DENO_IS_WRONG = {
  "sending 5": "a body of parts ends with an end of line",
  "coded 1": "it does not decode deflate",
  "coded 3": "nor deflate without its head, which every browser takes",
};

for (const [name, program] of Object.entries(PROGRAMS)) {
  test(`${name}: an action prints what Node and deno print`, async () => {
    // Servers of their own: what one of them did is not seen by the others.
    const [first, second, third, other] = await Promise.all([listen(), listen(), listen(),
      listen()]);
    try {
      const wanted = await printed((print) => program(print, first.url, other.url));
      const given = { name, url: second.url, other: other.url };
      assert.deepEqual(await client(open).action(fetching.program, given), wanted);
      const lines = await linesInDeno("./fetches.js", `PROGRAMS.${name}`, third.url, other.url);
      assert.equal(lines.length, wanted.length);
      for (const [at, line] of lines.entries()) {
        const differs = `${name} ${at}` in DENO_IS_WRONG;
        (differs ? assert.notEqual : assert.equal)(line, wanted[at], `${name} ${at}`);
      }
    } finally {
      [first, second, third, other].forEach((server) => server.stop());
    }
  });
}

/** The text has these parts, in this order, from its beginning to its end. */
function says(text, ...parts) {
  let from = 0;
  for (const part of parts) {
    const at = text.indexOf(part, from);
    assert.notEqual(at, -1, `no ${JSON.stringify(part)} in ${text}`);
    from = at + part.length;
  }
  if (parts[0].startsWith("TypeError")) assert.ok(text.startsWith(parts[0]), text);
  assert.equal(text.length, from, text);
}

test("an address that cannot be reached: which, why, what to do", async () => {
  const closed = await deaf();
  const raw = createRawServer((socket) => socket.destroy());
  raw.listen(0, "127.0.0.1");
  await once(raw, "listening");
  const [plain, , encrypted] = servers;
  const cases = [
    [closed.url, `TypeError: error sending request for url (${closed.url}/): 127.0.0.1:`,
      ": Connection refused", ". Nothing listens there: check the port, or start the server."],
    ["http://nowhere.invalid/a?secret",
      "TypeError: error sending request for url (http://nowhere.invalid/a?...): ",
      "nowhere.invalid could not be found: ",
      ". Check the name, and that this machine has a network."],
    [`http://127.0.0.1:${raw.address().port}/`, "error sending request for url (http:",
      "): the server closed the connection ", " Try again later."],
    [`https://127.0.0.1:${plain.port}/`, "error sending request for url (https:",
      "): TLS failed: ",
      " Check that the server speaks HTTPS on this port."],
    [`${plain.url}/loop?a`, "Could not fetch ",
      "/loop?...: there were more than 20 redirects, the last one to /loop. ",
      "If they go round in a circle, ", " a cookie or a header."],
    ["ftp://127.0.0.1/", "Could not fetch ftp://127.0.0.1/: ",
      "ftp: addresses cannot be fetched; http: and https: can."],
    [`${plain.url}/coded/broken`, "Could not fetch ",
      ": its body is not what its Content-Encoding says (", ")."],
  ];
  for (const [url, ...parts] of cases) says(await get(open, url), ...parts);
  // Another host does not trust the certificate.
  const strict = await start(["serve", "--in-memory", "--port", "0", "--site-port", "0",
    "--allow-private-network", "--push", APP]);
  const untrusted = await get(strict, `https://localhost:${encrypted.port}/echo`);
  says(untrusted, "TLS failed: invalid peer certificate: ",
    ". Its certificate is not one that this machine trusts: renew it, ",
    "or add its authority to the certificates of the system (or SSL_CERT_FILE).");
  assert.match(await get(open, `https://localhost:${encrypted.port}/echo`), /"method":"GET"/);
  await strict.stop();
  raw.close();
  closed.stop();
});

test("what the network does is known as that, with its code", async () => {
  const closed = await deaf();
  const hangup = createRawServer((socket) => socket.destroy());
  hangup.listen(0, "127.0.0.1");
  await once(hangup, "listening");
  for (const [url, why, code] of [
    [`${closed.url}/`, /^127\.0\.0\.1:\d+: Connection refused .*start the server\.$/,
      "ECONNREFUSED"],
    ["http://nowhere.invalid/", /^nowhere\.invalid could not be found: /, "ENOTFOUND"],
    [`http://127.0.0.1:${hangup.address().port}/`, /^the server closed the connection /,
      "ECONNRESET"],
    [`${servers[0].url}/cut`, /^its body broke off: end of file /, "ECONNRESET"],
  ]) {
    const [isTypeError, message, isError, reason, found] = await client(open)
      .action(fetching.cause, { url });
    // By these words is-network-error knows an error of Deno's, and p-retry tries again.
    assert.equal(message, `error sending request for url (${url}): ${reason}`);
    assert.match(reason, why);
    assert.deepEqual([isTypeError, isError, found], [true, true, code], url);
  }
  hangup.close();
  closed.stop();
});

test("a body that breaks off names the line that reads it", async () => {
  const source = read("convex/fetching.ts").toString().split("\n");
  const line = source.findIndex((text) => text.includes("await response[how]()")) + 1;
  for (const how of ["text", "json", "arrayBuffer", "bytes", "blob"]) {
    const given = { url: `${servers[0].url}/cut`, how };
    await assert.rejects(client(open).action(fetching.breaksOff, given), ({ message }) => {
      const [, first, frame] = message.split("\n");
      assert.match(first, /^Uncaught TypeError: .*\/cut\): its body broke off: end of file/, how);
      return new RegExp(`^    at .*\\(../convex/fetching.ts:${line}:\\d+\\)$`).test(frame);
    });
  }
});

test("an answer that is too large: 2 GB, and one without an end", async () => {
  const [{ url, state }] = servers;
  const huge = await get(open, `${url}/huge`);
  says(huge, "TypeError: Could not fetch http:",
    "/huge: the response is larger than 1024 MiB, the most that an action takes. ",
    "Ask the server for a part of it with a Range header.");
  const endless = await get(open, `${url}/endless`);
  says(endless, "TypeError: The response of http:",
    "/endless is too large to read at once: more than 30 MiB. ",
    "Read it in parts from response.body, or ask for a range.");
  // Nothing of either goes on.
  await until(state, () => state.ended.get("/huge") === 1 && state.ended.get("/endless") === 1);
});

test("a request that nobody waits for is told, and ends with its action", async () => {
  const { url, state, stop } = await listen();
  const response = await fetch(`${open.url}/api/action`, { method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ path: "fetching:careless", args: { url }, format: "json" }) });
  const { status, logLines } = await response.json();
  assert.equal(status, "success");
  assert.match(logLines.join("\n"), /\[WARN\] '?1 unawaited operation: \[fetch\]\./);
  await until(state, () => state.ended.get("/silent") === 1);
  stop();
});

test("addresses that are not public are refused, however they are written", async () => {
  const [{ port, state }] = servers;
  const before = state.seen.get("/echo") ?? 0;
  const forms = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1",
    "0177.0.0.1", "127.1", "0.0.0.0", "[::]", "[::ffff:7f00:1]"];
  for (const form of forms) {
    const said = await get(shut, `http://${form}:${port}/echo`);
    const address = "(127\\.0\\.0\\.1|0\\.0\\.0\\.0|::1|::|::ffff:127\\.0\\.0\\.1)";
    assert.match(said, new RegExp(` ${address}(, which)? is not a public`), form);
    says(said, "TypeError: Could not fetch ", " is not a public address. ",
      "Actions reach public addresses only, ", "start the host with --allow-private-network.");
  }
  for (const address of ["169.254.169.254", "10.0.0.1", "192.168.1.1", "[fe80::1]", "[fd00::1]"]) {
    assert.match(await get(shut, `http://${address}/`), /is not a public address/, address);
  }
  // The host's own HTTP actions may be fetched; where they send one to, may not.
  const site = await siteOf(shut);
  const on = (to) => get(shut, `${site}/on?to=${encodeURIComponent(to)}`);
  assert.match(await on(`http://127.0.0.1:${port}/echo`), /is not a public address/);
  assert.match(await on(`${site}/nothing`), /No matching routes found/);
  assert.equal(state.seen.get("/echo") ?? 0, before);
  // With the flag, all of it is reached.
  assert.match(await get(open, `http://localhost:${port}/echo`), /"method":"GET"/);
});

async function siteOf(host) {
  return (await host.says(/HTTP actions (http:\/\/127\.0\.0\.1:\d+)/))[1];
}
