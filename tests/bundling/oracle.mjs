// The bundler against esbuild: the same functions, bundled by both, must give the same results.
//
// In: the project in this folder and the one in commonjs/. Out: one line per entry, exit code 1
// on any difference. Invariant: esbuild runs with the settings of Convex's own command line.
//
//   npm ci && node oracle.mjs            (needs cargo; or BUNDLE=path/of/the/bundle/example)

import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import esbuild from "esbuild";

Object.assign(globalThis, { AsyncLocalStorage, AsyncResource });

const here = path.dirname(fileURLToPath(import.meta.url));
const work = fs.mkdtempSync(path.join(os.tmpdir(), "oracle-"));
let failures = 0;

for (const project of [here, path.join(here, "commonjs")]) {
  const name = path.relative(here, project) || "module";
  const ours = path.join(work, name, "ours");
  console.log(`${name}: ${bundle(project, ours)}`);
  const theirs = path.join(work, name, "theirs");
  const entries = entryPoints(path.join(project, "convex"));
  for (const platform of ["browser", "node"]) {
    const chosen = entries.filter((file) => isNode(file) === (platform === "node"));
    await withEsbuild(project, chosen, platform, theirs);
  }
  for (const out of [ours, theirs]) {
    fs.writeFileSync(path.join(out, "package.json"), '{ "type": "module" }');
  }
  for (const file of entries) {
    const module = path.relative(path.join(project, "convex"), file).replace(/\.\w+$/, ".js");
    await compare(`${name}/${module}`, path.join(ours, module), path.join(theirs, module));
  }
  if (fs.existsSync(path.join(project, "convex/schema.ts"))) {
    await withEsbuild(project, [path.join(project, "convex/schema.ts")], "browser", theirs);
  }
  await configuration(name, ours, theirs);
}
fs.rmSync(work, { recursive: true });
console.log(failures === 0 ? "all equal" : `${failures} different`);
process.exit(failures === 0 ? 0 : 1);

function bundle(project, out) {
  const command = process.env.BUNDLE ?? "cargo";
  const head = process.env.BUNDLE ? [] : "run -q -p bundler --example bundle --".split(" ");
  return execFileSync(command, [...head, project, out], { encoding: "utf8", cwd: here }).trim();
}

function entryPoints(dir) {
  return fs
    .readdirSync(dir, { recursive: true })
    .filter((file) => /^[^.]+\.tsx?$/.test(file) && !/^(_generated|schema)/.test(file))
    .map((file) => path.join(dir, file))
    .sort();
}

function isNode(file) {
  return fs.readFileSync(file, "utf8").startsWith('"use node"');
}

async function withEsbuild(project, entryPoints, platform, outdir) {
  if (entryPoints.length === 0) return;
  const shim = {
    name: "convex-shims",
    setup(build) {
      const load = (contents) => ({ contents, loader: "js" });
      build.onResolve({ filter: /^server-only$/ }, (a) => ({ path: a.path, namespace: "empty" }));
      build.onLoad({ filter: /.*/, namespace: "empty" }, () => load(""));
      if (platform === "node") return;
      const filter = /^(node:)?async_hooks$/;
      build.onResolve({ filter }, (a) => ({ path: a.path, namespace: "hooks" }));
      build.onLoad({ filter: /.*/, namespace: "hooks" }, () =>
        load("export const { AsyncLocalStorage, AsyncResource } = globalThis;"),
      );
    },
  };
  await esbuild.build({
    absWorkingDir: project,
    entryPoints,
    bundle: true,
    platform,
    format: "esm",
    target: "esnext",
    jsx: "automatic",
    outdir,
    outbase: path.join(project, "convex"),
    conditions: ["convex", "module"],
    splitting: true,
    chunkNames: "_deps/[hash]",
    treeShaking: true,
    minifySyntax: true,
    minifyIdentifiers: true,
    keepNames: true,
    define: { "process.env.NODE_ENV": '"production"' },
    plugins: [shim],
    logLevel: "error",
  });
}

async function compare(name, ours, theirs) {
  let result;
  try {
    const [a, b] = [await import(pathToFileURL(ours)), await import(pathToFileURL(theirs))];
    // `export *` of a CommonJS module: ours has the names that can be told, esbuild's has none.
    const exportsEqual = Object.keys(b).every((key) => key in a);
    const results = [await a.run?.(), await b.run?.()];
    const values = results.map((value) => JSON.stringify(value, null, 1));
    if (values[0] !== values[1]) result = difference(values[0], values[1]);
    else if (!exportsEqual) result = `exports ${Object.keys(a)} and not ${Object.keys(b)}`;
  } catch (error) {
    result = error.stack;
  }
  if (result) failures += 1;
  console.log(result ? `FAIL ${name}\n${result}` : `ok   ${name}`);
}

function difference(ours, theirs) {
  const [a, b] = [String(ours).split("\n"), String(theirs).split("\n")];
  const at = a.findIndex((line, i) => line !== b[i]);
  const [left, right] = [a, b].map((lines) => lines.slice(at, at + 5).join("\n"));
  return `line ${at}: ours\n${left}\nesbuild's\n${right}`;
}

// Schema, definition and auth config must stand alone, and say the same as their sources.
async function configuration(name, ours, theirs) {
  for (const file of ["convex.config.js", "schema.js", "auth.config.js"]) {
    const at = path.join(ours, file);
    if (!fs.existsSync(at)) continue;
    const alone = path.join(work, name, `alone-${file}`.replace(".js", ".mjs"));
    fs.copyFileSync(at, alone);
    const module = await import(pathToFileURL(alone)).catch((error) => ({ error }));
    const value = module.default?.export?.() ?? module.default;
    let result;
    if (module.error) {
      result = module.error.stack;
    } else if (file === "schema.js") {
      const other = await import(pathToFileURL(path.join(theirs, file)));
      if (value !== other.default.export()) result = difference(value, other.default.export());
    } else if (
      file === "auth.config.js"
        ? value.providers.length !== 1
        : value.definitionType.type !== "app"
    ) {
      result = JSON.stringify(value);
    }
    if (result) failures += 1;
    console.log(result ? `FAIL ${name}/${file}\n${result}` : `ok   ${name}/${file}`);
  }
}
