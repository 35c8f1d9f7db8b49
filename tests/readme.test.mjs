// README.md tells the truth: its commands run, its files exist.
//
// In: README.md, the Makefile, the built program. Out: checks. Invariant: every `sh` block of the
// README is either make targets or runs here, line by line, against a host.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CONCAVE, ROOT, concave, copy, start } from "./host.mjs";

const README = readFileSync(join(ROOT, "README.md"), "utf8");
const BLOCKS = [...README.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block.trim());
const isMake = (block) => block.split("\n").every((line) => line.startsWith("make "));

test("the make targets of the README exist", () => {
  const makefile = readFileSync(join(ROOT, "Makefile"), "utf8");
  const targets = BLOCKS.filter(isMake).flatMap((block) => block.split("\n"));
  assert.ok(targets.includes("make run") && targets.includes("make test"));
  for (const line of targets) {
    assert.match(makefile, new RegExp(`^${line.split(" ")[1]}:`, "m"), line);
  }
});

test("the other blocks run, while the host of `make run` serves", async () => {
  const root = mkdtempSync(join(tmpdir(), "concave-readme-"));
  process.on("exit", () => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, "examples"));
  const folder = copy("swaghaus");
  symlinkSync(folder, join(root, "examples/swaghaus"));
  mkdirSync(join(root, "target/fast"), { recursive: true });
  symlinkSync(CONCAVE, join(root, "target/fast/concave"));
  const host = await start(["dev", folder, "--port", "0", "--site-port", "0"]);
  await host.says(/push +pushed/);
  const blocks = BLOCKS.filter((block) => !isMake(block));
  assert.equal(blocks.length, 1);
  for (const block of blocks) {
    const script = block.replaceAll("http://127.0.0.1:3210", host.url);
    const options = { cwd: root, encoding: "utf8", timeout: 60_000 };
    const ended = spawnSync("bash", ["-euo", "pipefail", "-c", script], options);
    assert.equal(ended.status, 0, `${script}\n${ended.stdout}${ended.stderr}`);
    assert.match(ended.stdout, /"status":\s*"success"/);
    assert.match(ended.stdout, /T-shirt/);
  }
  await host.stop();
});

test("the commands of the README's table are commands, with these flags", () => {
  const rows = [...README.matchAll(/^\| `concave ([a-z]+)([^`]*)` \|/gm)];
  assert.ok(rows.length >= 6);
  for (const [, name, rest] of rows) {
    const help = concave(["help", name]);
    assert.equal(help.status, 0, name);
    for (const [flag] of rest.matchAll(/--[a-z-]+/g)) {
      assert.ok(help.stdout.includes(flag), `${name} ${flag}`);
    }
  }
});

test("the files and folders that the README names exist", () => {
  const named = README.matchAll(/`((?:[a-z]+\/)+[a-z_.-]+|LICENSE-[A-Z]+)`/g);
  const missing = [...named].map(([, path]) => path).filter((path) => !path.startsWith("convex/"))
    .filter((path) => !existsSync(join(ROOT, path)));
  assert.deepEqual(missing, []);
});
