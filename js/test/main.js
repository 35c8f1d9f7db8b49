// One test file, run by vitest's own runner and matchers.
//
// In: the file's module and settings, from the host. Out: events as tests start and end, and at the
// end everything about the file. Invariant: whatever a file does, its run ends with one report.
import {
  DecodedMap, TestRunner, beforeEach, describe, expect, getOriginalPosition, processError,
  setSafeTimers, startTests, test,
} from './vitest.js';
import * as vitest from './vitest.js';
import { explore } from './explore.js';
import './mocks.js';
import './ports.js';
import {
  JSON, ask, beat, begin, close, current, heard, listen, ownTimers, realm, tell, textOf, worker,
} from './realm.js';
import { seeded } from './random.js';
import { slowDown, turnBy } from './timers.js';
import { VirtualTime } from './virtual_time.js';

Object.assign(realm, { explore, VirtualTime });

/** The host, as a run of vitest sees it. */
const host = {
  ask,
  tell,
  begin() { slowDown(vitest.vi); },
  /** Tells how far the file is. */
  report(op, value) {
    worker.jsSyscall('concave/report', { op: `test/${op}`, json: textOf(value) });
  },
};

/** What Vite says of a test run. */
const VITE = { __proto__: null, BASE_URL: '/', MODE: 'test', DEV: true, PROD: false, SSR: true };

/** `import.meta.env`: Vite's constants over the variables of the process. */
const metaEnv = (constants) => new Proxy(constants, {
  get: (own, name) => (name in own ? own[name] : globalThis.process.env[name]),
  has: (own, name) => name in own || name in globalThis.process.env,
  set(own, name, value) {
    // The constants that are true or false stay so: vi.stubEnv writes '1' and ''.
    if (name in own) own[name] = typeof own[name] === 'boolean' ? Boolean(value) : value;
    else globalThis.process.env[name] = value;
    return true;
  },
  deleteProperty: (own, name) => delete own[name] && delete globalThis.process.env[name],
  ownKeys(own) {
    return [...new Set([...Reflect.ownKeys(globalThis.process.env), ...Reflect.ownKeys(own)])];
  },
  getOwnPropertyDescriptor(own, name) {
    if (!(name in own || name in globalThis.process.env)) return undefined;
    return { value: this.get(own, name), writable: true, enumerable: true, configurable: true };
  },
});

/** What vitest's modules find of the process around them. */
const workerState = (config, file, { tell }) => ({
  ctx: { pool: 'threads' },
  config,
  filepath: file,
  environment: { name: 'edge-runtime' },
  metaEnv: metaEnv(VITE),
  providedContext: config.provide ?? {},
  durations: {},
  current: undefined,
  evaluatedModules: { idToModuleMap: new Map(), getModuleById() {}, invalidateModule() {} },
  resolvingModules: new Set(),
  moduleExecutionInfo: new Map(),
  onCleanup() {},
  rpc: { async snapshotSaved(result) { tell('snapshot', result); } },
});

/** Snapshot files, which the host reads and writes; `map` is that of a file with inline ones. */
const snapshots = ({ file: testFile, module, map }, { ask }) => ({
  getVersion: () => '1',
  getHeader: () => '// Vitest Snapshot v1, https://vitest.dev/guide/snapshot.html',
  async resolvePath(file) {
    const at = file.lastIndexOf('/');
    return `${file.slice(0, at)}/__snapshots__/${file.slice(at + 1)}.snap`;
  },
  async resolveRawPath(file, raw) {
    return raw.startsWith('/') ? raw : `${file.slice(0, file.lastIndexOf('/'))}/${raw}`;
  },
  saveSnapshotFile: (file, text) => ask('write', { file, text }),
  readSnapshotFile: (file) => ask('read', { file }),
  removeSnapshotFile: (file) => ask('remove', { file }),
  processStackTrace(stack) {
    if (map === null || !stack.file.endsWith(`convex:/${module}`)) return stack;
    const found = getOriginalPosition(new DecodedMap(JSON.parse(map), testFile),
      { line: stack.line, column: stack.column - 1 });
    if (found === null) return stack;
    return { ...stack, file: testFile, line: found.line, column: found.column + 1 };
  },
});

const unescaped = (text) => text.replace(/\\([`\\]|\$\{)/g, '$1');

/** What vitest reads a file of snapshots with: there is no `Function` in this runtime. */
function ReadSnapshots(_parameter, text) {
  return (data) => {
    const entry = /^exports\[`((?:\\.|[^`\\])*)`\] = `((?:\\.|[^`\\])*)`;$/gm;
    for (const [, key, value] of text.matchAll(entry)) data[unescaped(key)] = unescaped(value);
  };
}

const configOf = ({
  root, seed, timeout, pattern, update, settings, setup, allowOnly, ...file
}, way) => ({
  root,
  retry: 0,
  maxConcurrency: 5,
  hookTimeout: timeout * 2,
  ...settings,
  testTimeout: timeout,
  name: undefined,
  setupFiles: setup,
  passWithNoTests: false,
  testNamePattern: pattern === null ? undefined : new RegExp(pattern, 'u'),
  allowOnly,
  sequence: { shuffle: false, concurrent: false, seed, hooks: 'stack', setupFiles: 'parallel' },
  chaiConfig: settings.chaiConfig,
  includeTaskLocation: false,
  tags: [],
  tagsFilter: undefined,
  strictTags: false,
  expect: settings.expect ?? {},
  experimental: { importDurations: { limit: 0 } },
  fakeTimers: { loopLimit: 10_000, shouldClearNativeTimers: true, ...settings.fakeTimers },
  snapshotOptions: {
    updateSnapshot: update, snapshotEnvironment: snapshots(file, way), expand: false,
    snapshotFormat: {
      printBasicPrototype: false, escapeString: false, ...settings.snapshotFormat,
    },
  },
});

/** What was thrown and is no error, in words. */
const inWords = (thrown) => {
  try {
    return vitest.chai.util.inspect(thrown);
  } catch {
    return 'a value that throws when it is looked at';
  }
};

/** An error without what JSON cannot carry; of causes that lead back to it, some. */
const plain = (error, depth = 0) => {
  const { name, message, stack, diff, cause } = processError(error);
  const isNone = message === undefined || (message === '' && stack === undefined);
  const below = cause === undefined || cause === null || depth > 8 ? undefined
    : plain(typeof cause === 'object' ? cause : { message: String(cause) }, depth + 1);
  return { name, message: isNone ? inWords(error) : message, stack, diff, cause: below };
};

const resultOf = (task) => ({
  id: task.id,
  name: task.name,
  state: task.result?.state ?? (task.mode === 'run' ? 'skip' : task.mode),
  ms: task.result?.duration ?? 0,
  errors: (task.result?.errors ?? []).map((error) => plain(error)),
});

const namesOf = (task) => {
  const names = [];
  for (let at = task; at !== undefined && at.filepath === undefined; at = at.suite) {
    names.unshift(at.name);
  }
  return names;
};

/** Intervals that nobody has cleared, and the tests that they were begun in. */
class Intervals {
  constructor() {
    this.running = new Map();
    const { clearInterval, clearTimeout, setInterval } = globalThis;
    globalThis.setInterval = (...given) => {
      const id = setInterval(...given);
      this.running.set(id, { test: this.test, error: this.leak() });
      return id;
    };
    // Each of them clears both.
    const clearing = (clear) => (id) => {
      this.running.delete(id);
      clear(id);
    };
    globalThis.clearInterval = clearing(clearInterval);
    globalThis.clearTimeout = clearing(clearTimeout);
  }

  leak() {
    const message = 'This test leaves a timer running: setInterval. Clear it with clearInterval, '
      + 'in the test or in afterEach.';
    return Object.assign(new Error(message), { name: 'TimerLeak' });
  }

  /** Fails the tests that have left one; gives the errors of those of no test. */
  end() {
    const outside = [];
    for (const { test, error } of this.running.values()) {
      if (test === undefined) {
        outside.push(error);
        continue;
      }
      test.result.state = 'fail';
      test.result.errors = [...test.result.errors ?? [], error];
    }
    return outside;
  }
}

/** vitest's runner, told to us. */
class Runner extends TestRunner {
  constructor(config, { load, skip, intervals, report, isRunning }) {
    super(config);
    Object.assign(this, { importFile: load, intervals, report, isRunning });
    this.skip = new Set(skip);
    this.__setTraces({ $: (_name, _options, work) => work({}) });
  }

  async onBeforeRunSuite(suite) {
    const { Function } = globalThis;
    globalThis.Function = ReadSnapshots;
    try {
      await super.onBeforeRunSuite(suite);
    } finally {
      globalThis.Function = Function;
    }
  }

  async onBeforeRunTask(test) {
    if (this.skip.has(test.id)) test.mode = 'skip';
    this.intervals.test = test;
    this.isRunning(namesOf(test));
    await super.onBeforeRunTask(test);
    if (test.mode === 'run' || test.mode === 'queued') {
      this.report('started', { id: test.id, names: namesOf(test), timeout: test.timeout });
    }
  }

  onCollected() { this.report('collected', null); }

  onTestAnnotate(_test, annotation) { return annotation; }

  onAfterRunTask(test) {
    super.onAfterRunTask(test);
    this.intervals.test = undefined;
    this.isRunning(undefined);
    this.report('ended', { ...resultOf(test), names: namesOf(test) });
  }
}

/** A test, or a suite with what is below it, as the report has them. A file is a suite. */
const tree = (task) => (task.type === 'suite'
  ? { ...resultOf(task), tasks: task.tasks.map(tree) } : resultOf(task));

/**
 * `process` as tests may use it: variables can be set, and functions of the engine see them. Beside
 * it, what the environments that vitest has for Convex make global.
 */
const openProcess = (given, root) => {
  const { process: before, setTimeout } = globalThis;
  const texts = Object.entries(given).map(([name, value]) => [name, String(value)]);
  const env = { NODE_ENV: 'test', VITEST: 'true', TEST: 'true', ...Object.fromEntries(texts) };
  const nextTick = (work, ...args) => { queueMicrotask(() => work(...args)); };
  const cwd = () => root;
  globalThis.process = { ...before, env, argv: [], platform: 'linux', cwd, nextTick };
  globalThis.global = globalThis;
  globalThis.setImmediate = (work, ...args) => setTimeout(work, 0, ...args);
};

/** Runs the tests that `load` registers. */
const run = async ({ file, skip, ...options }, load, intervals, way) => {
  const config = configOf({ file, ...options }, way);
  globalThis.__vitest_worker__ = workerState(config, file, way);
  way.begin();
  const runner = new Runner(config, { load, skip, intervals, ...way });
  const [ran] = await startTests([{ filepath: file }], runner);
  return ran;
};

/** What most files of tests call, called once while the snapshot is made: V8 keeps it compiled. */
const warm = async () => {
  const deaf = { async ask() { return null; }, tell() {}, begin() {}, report() {}, isRunning() {} };
  const before = expect.getState();
  // No timer may be left: those of tests are none.
  const { setTimeout, clearTimeout } = globalThis;
  Object.assign(globalThis, { setTimeout: () => ({}), clearTimeout() {} });
  setSafeTimers();
  Object.assign(globalThis, { setTimeout, clearTimeout });
  const file = await run({ file: '/warm', root: '/', seed: 0, timeout: 2 ** 31, pattern: null,
    update: 'none', skip: [], module: '', map: null, settings: {}, setup: [], allowOnly: true,
  }, async () => {
    describe('', () => {
      beforeEach(() => {});
      test('', async () => {
        expect([{ a: [1], b: 'b' }]).toEqual([{ a: [1], b: 'b' }]);
        expect({ a: 1, b: 2 }).toMatchObject({ a: 1 });
        expect(1).toBe(1);
        expect(null).toBeNull();
        expect(1).not.toBeNull();
        expect([1]).toHaveLength(1);
        expect(['a']).toContain('a');
        await expect(Promise.reject(new Error('a'))).rejects.toThrow('a');
      });
    });
    test('', () => {});
  }, {}, deaf);
  const ended = tree(file);
  if (ended.state !== 'pass') throw new Error(`warming up: ${JSON.stringify(ended)}`);
  // The runner's own ends after 100 ms; deno_core forgets those that are over when one goes off.
  await new Promise((resolve) => { setTimeout(resolve, 101); });
  expect.setState(before);
  delete globalThis.__vitest_worker__;
  // V8 adds it to each context, and ends the process where it is there already.
  delete Error.stackTraceLimit;
};
await warm();

/** What `globals: true` of vitest's configuration makes global. */
const GLOBALS = ['suite', 'test', 'describe', 'it', 'chai', 'expect', 'assert', 'expectTypeOf',
  'assertType', 'vitest', 'vi', 'beforeAll', 'afterAll', 'beforeEach', 'afterEach', 'aroundAll',
  'aroundEach', 'onTestFinished', 'onTestFailed'];

/** Called by the worker, as if it were an action. */
export const main = {
  async invokeAction(_requestId, json) {
    const [options] = JSON.parse(json);
    const unhandled = [];
    worker.jsSyscall('concave/unhandled', (error) => { unhandled.push(plain(error)); });
    realm.isCounting = options.coverage;
    options.mocking.forEach((file) => realm.mocking.add(file));
    openProcess({ ...options.env, ...options.settings.env }, options.root);
    if (options.settings.globals) {
      GLOBALS.forEach((name) => { globalThis[name] = vitest[name]; });
    }
    setSafeTimers();
    ownTimers();
    begin();
    turnBy(() => worker.jsSyscall('concave/turn'));
    // Functions log as they do on a host.
    worker.jsSyscall('concave/plainLog', () => current.getStore() === undefined);
    const listening = listen();
    const alive = () => host.report('alive', null);
    const still = beat(alive);
    const intervals = new Intervals();
    const way = { ...host, isRunning: seeded(options.seed) };
    alive();
    const load = (module, why) => import(`../${why === 'setup' ? module : options.module}`);
    const file = await run(options, load, intervals, way);
    unhandled.push(...intervals.end().map((error) => plain(error)));
    await heard();
    if (options.coverage) {
      await ask('coverage', JSON.parse(worker.jsSyscall('concave/coverage')));
    }
    await close();
    await listening;
    still();
    return textOf({ ...tree(file), unhandled });
  },
};
