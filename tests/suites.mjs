// The test suites that ship inside npm packages of Convex components, run by `concave test`:
// `node tests/suites.mjs [PACKAGE…]` runs them all, or some, and prints the count.
//
// In: the built program, the packages of tests/suites/package.json. Out: a table, exit code 1 if
// a test failed. Invariant: test files run as published, unchanged; how fast the machine is does
// not matter (no test has less than a minute).
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CONCAVE, ROOT } from "./host.mjs";

export const PACKAGES = [
  "workpool", "rate-limiter", "workflow", "aggregate", "migrations", "action-cache",
  "sharded-counter",
];

/** Test files that need what no runtime of functions has. */
const ELSEWHERE = {
  // React's hooks are tested in a page: @vitest-environment jsdom.
  "rate-limiter": ["src/react/index.test.ts"],
};

const MODULES = join(ROOT, "tests/suites/node_modules");

/** A package as its author has it: sources outside of node_modules. */
export function unpacked(name) {
  const source = join(MODULES, "@convex-dev", name);
  if (!existsSync(source)) throw new Error(`${source} is not there. Run: make modules`);
  const root = mkdtempSync(join(tmpdir(), `concave-suite-${name}-`));
  process.on("exit", () => rmSync(root, { recursive: true, force: true }));
  const folder = join(root, "packages", name);
  for (const part of ["src", "package.json"]) {
    cpSync(join(source, part), join(folder, part), { recursive: true });
  }
  symlinkSync(MODULES, join(root, "node_modules"));
  // Some tests name files of packages by their place in it.
  const own = join(source, "node_modules");
  symlinkSync(existsSync(own) ? own : MODULES, join(folder, "node_modules"));
  for (const file of ELSEWHERE[name] ?? []) rmSync(join(folder, file));
  return folder;
}

/** Runs a package's suite: what passed, what did not and why. */
export async function suite(name) {
  const args = ["test", unpacked(name), "--reporter", "json", "--timeout", "60000"];
  const child = spawn(CONCAVE, args, { stdio: ["ignore", "pipe", "pipe"] });
  const [out, told, code] = await Promise.all([
    text(child.stdout), text(child.stderr), new Promise((done) => child.on("exit", done)),
  ]);
  if (out === "") throw new Error(`concave test ended with ${code}: ${told}`);
  const { passed, failed, seconds, files } = JSON.parse(out);
  const errors = files.flatMap(({ file, tests, errors: outside }) => [
    ...outside.map((error) => `${file}: ${error}`),
    ...tests.filter(({ state }) => state === "fail")
      .map((test) => `${file} > ${test.name}: ${test.errors.join("\n")}`),
  ]);
  return { name, passed, failed, seconds, errors };
}

async function text(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

const version = (name) =>
  JSON.parse(readFileSync(join(MODULES, "@convex-dev", name, "package.json"), "utf8")).version;

async function main(names) {
  const total = { passed: 0, failed: 0 };
  for (const name of names) {
    const { passed, failed, seconds, errors } = await suite(name);
    total.passed += passed;
    total.failed += failed;
    const title = `@convex-dev/${name} ${version(name)}`.padEnd(36);
    console.log(`${title} ${passed} passed, ${failed} failed, ${seconds.toFixed(1)} s`);
    for (const error of errors) console.log(`  ${error.replaceAll("\n", "\n    ")}`);
    if (errors.length > 0) process.exitCode = 1;
  }
  console.log(`${total.passed} passed, ${total.failed} failed`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(process.argv.length > 2 ? process.argv.slice(2) : PACKAGES);
}
