// npm's `deno`: a second opinion on what the web platform does.
//
// In: a program of tests/web, by its module and export. Out: the lines that it prints there.
// Invariant: the deno that benches/package-lock.json names, offline, with no folder of its own.
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ROOT } from "./host.mjs";

const FOLDER = join(ROOT, "benches/node_modules/@deno");
const [platform] = existsSync(FOLDER) ? readdirSync(FOLDER) : [];
if (platform === undefined) {
  throw new Error(`${FOLDER} is not there. Run: make modules, or npm ci --prefix benches.`);
}
const DENO = join(FOLDER, platform, "deno");

/** The lines that export `name` of tests/web/`module` prints, called with `rest` after `print`. */
export const linesInDeno = (module, name = "default", ...rest) =>
  inDeno("web/oracle.js", { module, name, rest });

/** What a script of tests/ makes of JSON on its standard input, as JSON. */
export async function inDeno(script, input) {
  const args = ["run", "--quiet", "--no-config", "--no-lock", "--cached-only", "--allow-all",
    join(ROOT, "tests", script)];
  const env = { PATH: process.env.PATH, NO_COLOR: "1", DENO_DIR: join(ROOT, "target/deno"),
    DENO_NO_UPDATE_CHECK: "1" };
  const child = spawn(DENO, args, { env, stdio: ["pipe", "pipe", "pipe"] });
  child.stdin.end(JSON.stringify(input));
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  if (output === "") throw new Error(`deno failed on ${script}: ${errors}`);
  return JSON.parse(output);
}
