// Small apps that a test writes itself: a folder with convex/, npm's package and a package.json.
//
// In: sources by path. Out: the folder. Invariant: it goes when the test process ends.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ROOT } from "./host.mjs";

/** Writes an app; `sources` are files under convex/. */
export function app(name, sources) {
  const folder = mkdtempSync(join(tmpdir(), `concave-${name}-`));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(join(ROOT, "tests/node_modules"), join(folder, "node_modules"));
  const description = { name, private: true, type: "module", dependencies: { convex: "1.48.0" } };
  writeFileSync(join(folder, "package.json"), JSON.stringify(description));
  for (const [path, source] of Object.entries(sources)) {
    const file = join(folder, "convex", path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, source);
  }
  return folder;
}
