// convex-test for vitest, on the engine of `concave test-server`: what `realm.js` expects of its
// worker, in a Node process.
//
// In: the program `concave` (in CONCAVE_BINARY, or on PATH). Out: the globals that `realm.js`
// begins with. Invariant: there is one server a process, and it ends with the process.
import { AsyncLocalStorage } from 'node:async_hooks';
import { spawn } from 'node:child_process';

const PROGRAM = process.env.CONCAVE_BINARY ?? 'concave';

/** Questions without answer, by number. */
const waiting = new Map();
let questions = 0;
let server;
let gone;

const fail = (why) => {
  gone = new Error(`concave test-server ${why}`);
  for (const { reject } of waiting.values()) reject(gone);
  waiting.clear();
};

const answered = ({ id, result, error, body }) => {
  const { resolve, reject } = waiting.get(id) ?? {};
  waiting.delete(id);
  if (error === undefined) {
    resolve?.({ result, body });
    return;
  }
  const thrown = new Error(error.message);
  if (typeof error.data === 'string') thrown.data = JSON.parse(error.data);
  reject?.(thrown);
};

/** Starts the server; it must not keep a process that has nothing else to do. */
const start = () => {
  const root = globalThis.__vitest_worker__?.config?.root ?? process.cwd();
  const stdio = ['pipe', 'pipe', 'inherit'];
  const child = spawn(PROGRAM, ['test-server', root], { stdio });
  child.on('error', ({ message }) => fail(`could not be started (${message}). Install concave, or `
    + 'name the program in CONCAVE_BINARY.'));
  child.on('exit', (code, signal) => fail(`has ended (${signal ?? `exit code ${code}`}).`));
  child.stdin.on('error', () => {});
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) answered(JSON.parse(line));
  });
  for (const handle of [child, child.stdin, child.stdout]) handle.unref();
  return child;
};

/** Asks the server; gives the answer's JSON text, and its bytes in base64. */
const ask = (op, json, body) => new Promise((resolve, reject) => {
  server ??= start();
  if (gone !== undefined) {
    reject(gone);
    return;
  }
  const id = questions++;
  waiting.set(id, { resolve, reject });
  server.stdin.write(`${JSON.stringify({ id, op, json, body })}\n`);
});

const syscalls = {
  'concave/fetch'(dress) { globalThis.fetch = dress(globalThis.fetch); },
  // Files go with their questions.
  async 'storage/storeBlob'({ blob, options, ...rest }) {
    const bytes = Buffer.from(await blob.arrayBuffer()).toString('base64');
    const described = { ...rest, contentType: blob.type, size: blob.size, sha256: options?.sha256 };
    return JSON.parse((await ask('storage/storeBlob', JSON.stringify(described), bytes)).result);
  },
  async 'storage/getBlob'(args) {
    const { result, body } = await ask('storage/getBlob', JSON.stringify(args));
    const described = JSON.parse(result);
    if (described === null) return null;
    return new Blob([Buffer.from(body, 'base64')], { type: described.contentType ?? '' });
  },
};

globalThis.AsyncLocalStorage ??= AsyncLocalStorage;
globalThis.Convex = {
  async asyncSyscall(op, json) { return (await ask(op, json)).result; },
  jsSyscall(op, args) {
    const syscall = syscalls[op];
    if (syscall === undefined) throw new Error(`Unknown JS syscall: ${op}`);
    return syscall(args);
  },
};
