// The test suites that ship inside npm packages of Convex components, run by `concave test`, and
// those of their files that need a page by vitest on the same engine:
// `node tests/suites.mjs [PACKAGE…]` runs them all, or some, and prints the count.
//
// In: the built program, the packages of tests/suites/package.json. Out: a table, exit code 1 if
// a test failed. Invariant: test files run as published, unchanged; how fast the machine is does
// not matter (no test has less than a minute).
import { spawn, spawnSync } from "node:child_process";
import {
  cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CONCAVE, ROOT } from "./host.mjs";

export const PACKAGES = [
  "workpool", "rate-limiter", "workflow", "aggregate", "migrations", "action-cache",
  "sharded-counter",
];

/** Test files that need a page, @vitest-environment jsdom: vitest runs them. */
export const PAGES = { "rate-limiter": ["src/react/index.test.ts"] };

const MODULES = join(ROOT, "tests/suites/node_modules");
const VITEST = join(MODULES, "vitest/vitest.mjs");

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
  return folder;
}

/** Runs a package's suite: what passed, what did not and why, which files were left out. */
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
  const skipped = files.flatMap(({ file, tests }) => tests
    .filter(({ name }) => name.startsWith("the whole file:"))
    .map((test) => `${file} > ${test.name}`));
  return { name, passed, failed, seconds, errors, skipped };
}

/** The package as npm would install it. */
export function install(folder) {
  cpSync(join(ROOT, "js/test"), folder, {
    recursive: true, filter: (path) => !path.includes("vendor"),
  });
}

/** Runs vitest in a folder whose `convex-test` is the package; states and messages by test. */
export function vitest(folder, alias, { program = CONCAVE, files = [] } = {}) {
  const options = { environment: "edge-runtime", alias: { "convex-test": alias } };
  const settings = { test: { ...options, testTimeout: 60_000, watch: false } };
  const config = join(folder, "vitest.config.mjs");
  writeFileSync(config, `export default ${JSON.stringify(settings)};\n`);
  const out = join(folder, "report.json");
  const args = [VITEST, "run", ...files, "--reporter", "json", "--outputFile", out];
  const env = { ...process.env, CONCAVE_BINARY: program };
  const done = spawnSync(process.execPath, args, { cwd: folder, env, encoding: "utf8" });
  const report = JSON.parse(readFileSync(out, "utf8"));
  const failures = report.testResults.flatMap(({ name, message, assertionResults }) => [
    ...(message ? [`${name}: ${message}`] : []),
    ...assertionResults.filter(({ status }) => status === "failed")
      .map((one) => `${one.fullName}: ${one.failureMessages.join("\n")}`),
  ]);
  return { code: done.status, passed: report.numPassedTests, failures };
}

/** Runs those files of a suite that need a page, with vitest on the engine. */
export function pages(name) {
  const folder = unpacked(name);
  const alias = join(folder, "../../concave-test/convex_test_vitest.js");
  install(join(folder, "../../concave-test"));
  const { passed, failures } = vitest(folder, alias, { files: PAGES[name] });
  return { passed, errors: failures };
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
    if (PAGES[name] !== undefined) {
      const inPages = pages(name);
      total.passed += inPages.passed;
      total.failed += inPages.errors.length;
      errors.push(...inPages.errors);
      console.log(`${"  with vitest, for a page".padEnd(36)} ${inPages.passed} passed`);
    }
    for (const error of errors) console.log(`  ${error.replaceAll("\n", "\n    ")}`);
    if (errors.length > 0) process.exitCode = 1;
  }
  console.log(`${total.passed} passed, ${total.failed} failed`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(process.argv.length > 2 ? process.argv.slice(2) : PACKAGES);
}
