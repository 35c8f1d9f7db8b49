// Hosts for the Node drivers: starts the built program, waits until it serves, stops it.
//
// In: arguments of `concave`. Out: address, key, output. Invariant: a host that does not start
// fails the test with what it printed; nothing outlives the test process; no wait is without end,
// and one that is in vain says what it last saw.
import { spawn, spawnSync } from "node:child_process";
import {
  cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));
export const EXAMPLES = ["swaghaus", "transfer", "chat", "tasks-automerge", "components"];
export const KEY = `concave|${"ab".repeat(32)}`;

const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
export const CONCAVE = process.env.CONCAVE_BINARY ?? join(TARGET, "debug", "concave");
if (!existsSync(CONCAVE)) {
  throw new Error(`${CONCAVE} is not built. Run: cargo build, or name it in CONCAVE_BINARY.`);
}

// The tests decide which host is meant, not the shell that runs them.
const ENVIRONMENT = { ...process.env, NO_COLOR: "1" };
for (const name of Object.keys(ENVIRONMENT)) {
  if (name.startsWith("CONVEX_")) delete ENVIRONMENT[name];
}

/** How long anything may take: longer, and it hangs, or this machine is on its knees. */
const PATIENCE_MS = 60_000;
/** When a file of tests says what it waits for, and ends: the runner ends it without a word after
 * 10 minutes. Mostly a test has failed, and left a client open. */
const SILENCE_MS = 8 * 60_000;

const running = new Map();
process.on("exit", () => running.forEach((_, child) => child.kill("SIGKILL")));

/** What is waited for now. */
const waits = new Set();
const speak = () => {
  const hosts = [...running].map(([{ pid }, { output }]) => `${pid}: ${output.slice(-2_000)}`);
  const waiting = [...waits].map((says) => says());
  console.error("This file still runs.", { waiting, hosts });
  console.error(process.getActiveResourcesInfo());
  process.exit(1);
};
// A harness that is run by hand, for hours perhaps, is no file of tests.
if (process.env.NODE_TEST_CONTEXT !== undefined) setTimeout(speak, SILENCE_MS).unref();

/** Waits for a promise, but not for ever; `what` is a text, or gives one when it was in vain. */
export async function within(what, promise) {
  const says = typeof what === "function" ? what : () => what;
  let timer;
  const late = new Promise((_, reject) => {
    const fail = () => reject(new Error(`waited ${PATIENCE_MS} ms in vain: ${says()}`));
    timer = setTimeout(fail, PATIENCE_MS);
  });
  waits.add(says);
  return Promise.race([promise, late]).finally(() => {
    clearTimeout(timer);
    waits.delete(says);
  });
}

/** Asks until an answer passes, and gives it; asks no more when that was in vain. */
export async function eventually(what, ask, passes = Boolean) {
  let [seen, over] = ["no answer", false];
  const look = async () => {
    while (!over) {
      seen = await ask();
      if (passes(seen)) return seen;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const says = () => `${what}; last seen: ${inspect(seen, { depth: 5 })}`;
  return within(says, look()).finally(() => (over = true));
}

/** Starts `concave …args` (or another `program`) and waits for its address. */
export async function start(args, options = {}) {
  const { program = CONCAVE, ...rest } = options;
  const child = spawn(program, args, { env: ENVIRONMENT, cwd: ROOT, ...rest });
  // A test that fails without stopping its host must not keep the runner waiting for it.
  for (const handle of [child, child.stdout, child.stderr]) handle.unref();
  const host = { child, output: "", key: KEY };
  running.set(child, host);
  const add = (text) => (host.output += text);
  child.stdout.setEncoding("utf8").on("data", add);
  child.stderr.setEncoding("utf8").on("data", add);
  child.on("exit", () => running.delete(child));
  // Not before its last words are here: pipes may be read after the process is gone.
  host.ended = new Promise((resolve) => child.on("close", resolve));
  /** Waits until the output matches. */
  host.says = async (pattern, from = 0) => {
    const ended = host.ended.then((code) => ({ code }));
    for (const since = Date.now(); ; ) {
      if (Date.now() - since > PATIENCE_MS) {
        throw new Error(`concave ${args.join(" ")} does not say ${pattern}:\n${host.output}`);
      }
      const match = host.output.slice(from).match(pattern);
      if (match) return match;
      const tick = new Promise((resolve) => setTimeout(resolve, 10));
      const end = await Promise.race([ended, tick]);
      if (end && !host.output.slice(from).match(pattern)) {
        throw new Error(`concave ${args.join(" ")} ended with ${end.code}:\n${host.output}`);
      }
    }
  };
  /** Sends it a signal, and gives its exit code. */
  host.endsBy = (signal) => {
    child.ref();
    child.kill(signal);
    return within(() => `${signal} ends ${args.join(" ")}:\n${host.output}`, host.ended);
  };
  /** Stops it as Ctrl-C does, and gives its exit code. */
  host.stop = () => host.endsBy("SIGINT");
  host.url = (await host.says(/(?:serving|at) (http:\/\/127\.0\.0\.1:\d+)/))[1];
  return host;
}

/** A host in memory on free ports. */
export function serve(...args) {
  const ports = ["--port", "0", "--site-port", "0", "--admin-key", KEY];
  return start(["serve", "--in-memory", ...ports, ...args]);
}

/** Runs a command (of another `program` perhaps) to its end, which is not far. */
export function concave(args, { program = CONCAVE, ...options } = {}) {
  const how = { env: ENVIRONMENT, encoding: "utf8", cwd: ROOT, timeout: 4 * PATIENCE_MS };
  const ended = spawnSync(program, args, { ...how, ...options });
  if (ended.error?.code !== "ETIMEDOUT") return ended;
  throw new Error(`concave ${args.join(" ")} does not end:\n${ended.stdout}${ended.stderr}`);
}

/** The environment that points any command at a host. */
export function pointedAt(host) {
  return {
    ...ENVIRONMENT,
    CONVEX_SELF_HOSTED_URL: host.url,
    CONVEX_SELF_HOSTED_ADMIN_KEY: host.key,
  };
}

/** A copy of an example that a test may change; its packages are shared with the original. */
export function copy(example) {
  const source = join(ROOT, "examples", example);
  const folder = mkdtempSync(join(tmpdir(), `concave-${example}-`));
  cpSync(source, folder, {
    recursive: true,
    filter: (path) => !path.includes("node_modules") && !path.endsWith(".env.local"),
  });
  symlinkSync(join(source, "node_modules"), join(folder, "node_modules"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Saves a file as editors do: whoever watches sees the old one or the new one, and never the
 * empty one in between, however long this process sleeps there. */
export function save(path, text) {
  const draft = join(mkdtempSync(join(tmpdir(), "concave-draft-")), "file");
  writeFileSync(draft, text);
  renameSync(draft, path);
  rmSync(join(draft, ".."), { recursive: true });
}

/** Processes that a host has started, by a thread of its own each. */
export function children({ pid }) {
  const tasks = readdirSync(`/proc/${pid}/task`);
  try {
    const found = tasks.map((task) => readFileSync(`/proc/${pid}/task/${task}/children`, "utf8"));
    return found.join(" ").trim().split(/\s+/).filter(Boolean).map(Number);
  } catch (error) {
    if (!["ENOENT", "ESRCH"].includes(error.code)) throw error;
    // A thread has ended since the listing: what it started is another one's now.
    return children({ pid });
  }
}

/** Kills the processes that a host has started, and gives their numbers. */
export function killChildren({ pid }) {
  const found = children({ pid });
  for (const child of found) {
    try {
      process.kill(child, "SIGKILL");
    } catch (error) {
      // One that has ended by itself since.
      if (error.code !== "ESRCH") throw error;
    }
  }
  return found;
}
