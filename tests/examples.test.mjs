// The examples, each served by a host of its own and driven by its own smoke test through
// npm's unmodified ConvexHttpClient.
//
// In: the built program and examples/*. Out: the examples' checks, in this runner.
// Invariant: an example without a smoke test fails here.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { EXAMPLES, ROOT, serve } from "./host.mjs";

const found = readdirSync(join(ROOT, "examples"));
if (found.sort().join() !== [...EXAMPLES].sort().join()) {
  throw new Error(`tests/host.mjs lists ${EXAMPLES}, examples/ holds ${found}`);
}

for (const example of EXAMPLES) {
  // Not stopped in an `after`: the runner runs those whenever the tests it knows by then are done,
  // and it learns of the next example's after the next await. The host ends with this process.
  const host = await serve("--push", join("examples", example));
  // The smoke test reads its host when it is loaded.
  process.env.CONVEX_SELF_HOSTED_URL = host.url;
  process.env.CONVEX_SELF_HOSTED_ADMIN_KEY = host.key;
  await import(`../examples/${example}/smoke.test.mjs`);
}
