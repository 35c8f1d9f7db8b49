// Makes validators.jsonl: random validators, each with the type that the npm package's own
// generator writes for it, formatted by Prettier as that generator has it formatted.
//
// In: the packages of tests/. Out: validators.jsonl, with which the tests of
// `runtime/commands/codegen/validators.rs` compare. Invariant: the same packages give the same
// bytes (the random numbers are seeded).
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

const folder = import.meta.dirname ?? new URL(".", import.meta.url).pathname;
const packages = join(folder, "../node_modules");
const load = (path) => import(pathToFileURL(join(packages, path)).href);
const { default: prettier } = await load("prettier/index.mjs");

const bundled = await build({
  entryPoints: [join(packages, "convex/src/cli/codegen_templates/validator_helpers.ts")],
  bundle: true,
  format: "esm",
  write: false,
});
const source = Buffer.from(bundled.outputFiles[0].contents).toString("base64");
const { validatorToType } = await import(`data:text/javascript;base64,${source}`);

let state = 7;
const random = (below) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const pick = (list) => list[random(list.length)];
const NAMES = ["a", "name", "aLongerName", "aNameThatFillsHalfOfTheLine_____", "_id", "x$"];
const WORDS = ["null", "number", "bigint", "boolean", "string", "bytes", "any", "commitTs"];
const LITERALS = ["a", "some more words", "words that go on and on and on, and on", 1, -2.5, true];

function validator(depth) {
  const kind = random(depth > 0 ? 10 : 4);
  if (kind < 2) return { type: pick(WORDS) };
  if (kind === 2) return { type: "literal", value: pick(LITERALS) };
  if (kind === 3) return { type: "id", tableName: pick(NAMES) };
  const inner = () => validator(depth - 1);
  if (kind === 4) return { type: "array", value: inner() };
  if (kind === 5) {
    const keys = pick([{ type: "string" }, { type: "id", tableName: "t" }]);
    return { type: "record", keys, values: { fieldType: inner(), optional: false } };
  }
  const several = (make) => Array.from({ length: 1 + random(4) }, make);
  if (kind < 8) return { type: "union", value: several(inner) };
  const field = () => [pick(NAMES), { fieldType: inner(), optional: random(3) === 0 }];
  return { type: "object", value: Object.fromEntries(several(field)) };
}

const lines = [];
for (let i = 0; i < 400; i++) {
  const chosen = validator(1 + (i % 4));
  const type = validatorToType(chosen, true);
  const text = `type T = {\nfield: ${type}, argument: Argument<any, ${type}>, };`;
  const written = await prettier.format(text, { parser: "typescript" });
  lines.push(JSON.stringify({ validator: chosen, written }));
}
writeFileSync(join(folder, "validators.jsonl"), `${lines.join("\n")}\n`);
