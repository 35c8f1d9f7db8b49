// What of vitest runs inside of V8: bundled into `vendor/vitest.js` by `npm run vendor`.
//
// In: the published package. Out: what test files import from "vitest", and what `main.js` needs.
// Invariant: nothing of it is rewritten; functions keep their names, by which vitest finds the
// place of an inline snapshot in a stack.
export * from 'vitest';
export { startTests } from '@vitest/runner';
export { processError } from '@vitest/utils/error';
export { setSafeTimers } from '@vitest/utils/timers';
export { mockObject } from '@vitest/mocker';
export { createMockInstance } from '@vitest/spy';
export { DecodedMap, getOriginalPosition } from '@vitest/utils/source-map';
