// A push of a project with five components: the official command line's, ours, and a save in dev.
//
// In: the built program (CONCAVE_BINARY), examples/components and its packages. Out: a table on
// standard output. Bounded: so many rounds of each, which take turns. Each push goes to a host
// that has just started, so that all of it is new there; the host's share is what a proxy between
// the two sees: from a request's last byte to the answer's last.
//
//   make modules && cargo build --profile fast
//   CONCAVE_BINARY=target/fast/concave node benches/push.mjs
import { spawn } from "node:child_process";
import { appendFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { join } from "node:path";
import { CONCAVE, copy, pointedAt, serve, start } from "../tests/host.mjs";

const ROUNDS = 7;
const SAVES = 20;
const CONFIG = `
import aggregate from "@convex-dev/aggregate/convex.config";
import crons from "@convex-dev/crons/convex.config";
import rateLimiter from "@convex-dev/rate-limiter/convex.config";
import shardedCounter from "@convex-dev/sharded-counter/convex.config";
import { defineApp } from "convex/server";
import audit from "./audit/convex.config";

const app = defineApp();
app.use(aggregate, { name: "lengths" });
app.use(audit);
app.use(crons);
app.use(rateLimiter);
app.use(shardedCounter);
export default app;
`;

/** The example, cut down to five components and the modules that use them. */
function project() {
  const folder = copy("components");
  for (const module of ["jobs", "orders", "players", "prices", "rooms", "scores"]) {
    rmSync(join(folder, "convex", `${module}.ts`));
  }
  writeFileSync(join(folder, "convex/convex.config.ts"), CONFIG);
  return folder;
}

/** Passes requests on to a host and adds up how long it worked on them. */
async function between(host) {
  const seen = { ms: 0, url: "", close: () => server.close() };
  const server = createServer((asked, answered) => {
    let sent;
    const { hostname, port } = new URL(host.url);
    const { method, url: path, headers } = asked;
    const onward = request({ hostname, port, method, path, headers }, (answer) => {
      answered.writeHead(answer.statusCode, answer.headers);
      answer.on("end", () => (seen.ms += performance.now() - sent)).pipe(answered);
    });
    asked.on("end", () => (sent = performance.now())).pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  seen.url = `http://127.0.0.1:${server.address().port}`;
  return seen;
}

/** Runs a pusher against a fresh host; gives its wall time and the host's part of it, in ms. */
async function push(folder, program, ...args) {
  const host = await serve();
  const seen = await between(host);
  const since = performance.now();
  const env = { ...pointedAt({ ...host, url: seen.url }), CI: "1" };
  const pusher = spawn(program, args, { cwd: folder, env });
  let said = "";
  for (const out of [pusher.stdout, pusher.stderr]) out.on("data", (text) => (said += text));
  const code = await new Promise((resolve) => pusher.on("close", resolve));
  const wall = performance.now() - since;
  if (code !== 0) throw new Error(`${program} ${args.join(" ")}:\n${said}`);
  seen.close();
  await host.stop();
  return { wall, host: seen.ms };
}

/** A save of one file under `concave dev`, until the new deployment serves. */
async function saves(folder) {
  const host = await start(["dev", folder, "--in-memory", "--port", "0", "--site-port", "0"]);
  await host.says(/push/);
  const times = [];
  const file = join(folder, "convex/visits.ts");
  const before = readFileSync(file, "utf8");
  for (let n = 0; n < SAVES; n++) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    const from = host.output.length;
    const since = performance.now();
    appendFileSync(file, `export const SAVE_${n} = ${n};\n`);
    await host.says(/push/, from);
    times.push(performance.now() - since);
  }
  writeFileSync(file, before);
  await host.stop();
  return times;
}

function spread(numbers, digits = 0) {
  const sorted = numbers.toSorted((a, b) => a - b);
  const [least, median, most] = [0, sorted.length >> 1, sorted.length - 1].map((n) => sorted[n]);
  return `${median.toFixed(digits)} (${least.toFixed(digits)} to ${most.toFixed(digits)})`;
}

const folder = project();
const [theirs, ours] = [[], []];
for (let round = 0; round < ROUNDS; round++) {
  theirs.push(await push(folder, "npx", "convex", "deploy", "--typecheck", "disable"));
  ours.push(await push(folder, CONCAVE, "push", "."));
}
const wall = ({ wall }) => wall;
const share = ({ wall, host }) => host / wall;
console.log(`npx convex deploy, five components: ${spread(theirs.map(wall))} ms`);
console.log(`  of that the host's: ${spread(theirs.map(({ host }) => host))} ms`);
console.log(`  its share: ${spread(theirs.map(share), 3)}`);
console.log(`concave push: ${spread(ours.map(wall))} ms`);
console.log(`  of that the host's: ${spread(ours.map(({ host }) => host))} ms`);
console.log(`  concave push / npx convex deploy: ${
  spread(ours.map(({ wall }, n) => wall / theirs[n].wall), 3)}`);
console.log(`concave dev, one file saved: ${spread(await saves(folder))} ms`);
