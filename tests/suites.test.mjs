// Suites of published components, as their authors wrote them for convex-test, pass here.
//
// In: what tests/suites.mjs runs; the rest of its packages by hand. Out: checks of the count.
// Invariant: a suite that loses tests on its way is a failure too.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PAGES, pages, suite } from "./suites.mjs";

/** Of each suite: what it is good for, and how many tests it has. */
const SUITES = [
  // Scheduled functions, batches, fake timers.
  ["rate-limiter", 114],
  // Function handles, spies, components in components.
  ["workflow", 97],
  // Functions of test files, pagination.
  ["migrations", 20],
];

for (const [name, count] of SUITES) {
  test(`the tests of @convex-dev/${name} pass`, async () => {
    const { passed, skipped, errors } = await suite(name);
    assert.deepEqual(errors, []);
    assert.equal(passed, count);
    const told = (PAGES[name] ?? []).map((file) => `${file} > the whole file: it asks for`);
    assert.deepEqual(skipped.map((text) => text.slice(0, told[0]?.length)), told);
  });
}

test("tests of React hooks, which need a page, run in vitest", () => {
  const { passed, errors } = pages("rate-limiter");
  assert.deepEqual(errors, []);
  assert.equal(passed, 4);
});
