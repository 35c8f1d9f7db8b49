// The half of a Node process that is ours: runs functions of `"use node"` modules for the host.
//
// In: frames of `runtime/actions/src/protocol.rs` on descriptor 3, modules as files in a folder.
// Out: frames. Invariant: one run at a time, and each gets exactly one end, whatever its function
// does to its process; a process that may still be busy with an old run takes no new one.
import { readFileSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { analyze } from './analyze.mjs';
import { logTo } from './console.mjs';
import { describe, place } from './errors.mjs';
import { explainFetch } from './fetch.mjs';
import { confine } from './network.mjs';
import { Streams } from './streams.mjs';

const STDERR = 2;
const SOCKET = 3;
/** Frames of ours that the host does not read yet: looked at again after so many milliseconds. */
const BUSY_MS = 2;
/** The longest timer of Node, in milliseconds. */
const TIMER_MS = 2 ** 31 - 1;

const { reallyExit } = process;
/** The folder for files of a run; `os.tmpdir()` of whatever the run imports. */
const { TMPDIR } = process.env;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Sends a message, in this moment: the process may be about to end. */
function send(head, tail = '') {
  const text = Buffer.from(JSON.stringify(head));
  const bytes = typeof tail === 'string' ? Buffer.from(tail) : tail;
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32LE(4 + text.length + bytes.length, 0);
  lengths.writeUInt32LE(text.length, 4);
  const frame = Buffer.concat([lengths, text, bytes]);
  for (let at = 0; at < frame.length;) {
    try {
      at += writeSync(SOCKET, frame, at);
    } catch (error) {
      // Nobody is left to work for, unless the host is only slow.
      if (error.code !== 'EAGAIN') reallyExit.call(process, 0);
      Atomics.wait(sleeper, 0, 0, BUSY_MS);
    }
  }
}

/** What a run has: its name, its questions, its streams. */
class Run {
  constructor({ run, module, export: name, timeout_ms: timeout }) {
    this.number = run;
    const stem = module.replace(/\.js$/, '');
    this.path = name === 'default' ? stem : `${stem}:${name}`;
    this.calls = new Map();
    this.nextCall = 0;
    this.streams = new Streams(run, (about, bytes) => send({ type: 'stream', ...about }, bytes));
    this.end = undefined;
    const seconds = Math.ceil(timeout / 1000);
    this.timer = setTimeout(() => {
      die(threw(`Function execution timed out (maximum duration: ${seconds}s)`));
    }, Math.min(timeout, TIMER_MS)).unref();
  }

  /** Asks the host. */
  ask(op, json, body) {
    return new Promise((resolve, reject) => {
      const call = this.nextCall++;
      this.calls.set(call, { op, resolve, reject });
      socket.ref();
      send({ type: 'syscall', run: this.number, call, op, body }, json);
    });
  }

  /** Takes in the host's answer. */
  answer({ call, error: thrown, body }, json) {
    const asked = this.calls.get(call);
    if (asked === undefined) return;
    this.calls.delete(call);
    if (body !== undefined) this.streams.expect(body);
    this.rest();
    if (!thrown) {
      asked.resolve({ json, body });
      return;
    }
    const error = new Error(thrown.message);
    // The convex package makes a ConvexError of an error with data.
    if (typeof thrown.data === 'string') error.data = JSON.parse(thrown.data);
    asked.reject(error);
  }

  /** While it waits for nothing of the host, the host does not keep the event loop alive. */
  rest() {
    if (this.calls.size === 0 && !this.streams.isBusy()) socket.unref();
  }
}

/** The run that is under way. */
let current;
/** Where the modules are. */
let folder;
let limits = { log_lines: 0, log_line_bytes: 0 };
let variables = {};
/** What keeps an idle process alive: our socket, and what modules started at import. */
let idleResources = [];
/** Modules that were imported. */
const loaded = new Set();
/** What modules have put into the temporary folder as they were imported. */
let lasting = new Set();

const threw = (message, stack, data) => ({ how: 'threw', message, stack, data });

/** Ends the current run; what it returns ends it once nothing of it is left to throw. */
function finish(end, result = '') {
  const run = current;
  if (run === undefined || run.end !== undefined) return;
  run.end = { end, result };
  setImmediate(() => setImmediate(() => {
    if (current !== run) return;
    const isClean = run.calls.size === 0 && !run.streams.isBusy() && isIdle() && removeFiles();
    warn(run);
    say(run, isClean);
  }));
}

/** Names in the temporary folder; none where a function has made away with it. */
function files() {
  try {
    return readdirSync(TMPDIR);
  } catch {
    return [];
  }
}

/** Takes a run's files away from the next one; says whether it could. */
function removeFiles() {
  try {
    for (const name of readdirSync(TMPDIR)) {
      if (!lasting.has(name)) rmSync(join(TMPDIR, name), { recursive: true, force: true });
    }
    return true;
  } catch {
    // They go with the process.
    return false;
  }
}

/** The last words about a run. */
function say(run, isClean) {
  endLog();
  current = undefined;
  clearTimeout(run.timer);
  run.streams.end();
  if (!isClean) send({ type: 'retire' });
  send({ type: 'done', run: run.number, end: run.end.end }, run.end.result);
  socket.ref();
  if (isClean) preload();
}

/** Whether nothing but the socket keeps the process alive. */
function isIdle() {
  const known = [...idleResources];
  return process.getActiveResourcesInfo().every((name) => {
    const at = known.indexOf(name);
    if (at >= 0) known.splice(at, 1);
    return at >= 0 || name === 'Immediate' || name === 'CloseReq';
  });
}

/** Ends the current run at once, and the process with it. */
function die(end, code = 1) {
  const run = current;
  if (run !== undefined) {
    run.end = { end, result: '' };
    say(run, false);
  }
  reallyExit.call(process, code);
}

/** A warning about what nobody awaited (`convex-compat.md` section 8.5). */
function warn(run) {
  if (run.end.end.how !== 'returned' || run.calls.size === 0) return;
  const names = [...run.calls.values()].map(({ op }) => NAMES[op] ?? 'operation');
  const text = `${names.length} unawaited operation${names.length === 1 ? '' : 's'}: `
    + `[${names.join(', ')}]. Async operations should be awaited or they might not run. See `
    + 'https://docs.convex.dev/functions/actions#dangling-promises for more information.';
  send({ type: 'log', run: run.number, level: 'WARN', messages: [text] });
}

/** What a warning calls an operation: as its author wrote it. */
const NAMES = {
  '1.0/actions/query': 'runQuery',
  '1.0/actions/mutation': 'runMutation',
  '1.0/actions/action': 'runAction',
  '1.0/actions/schedule': 'scheduler.runAfter',
  '1.0/actions/cancel_job': 'scheduler.cancel',
  '1.0/actions/vectorSearch': 'vectorSearch',
  '1.0/getUserIdentity': 'auth.getUserIdentity',
  '1.0/storageGetUrl': 'storage.getUrl',
  '1.0/storageGetMetadata': 'storage.getMetadata',
  '1.0/storageGenerateUploadUrl': 'storage.generateUploadUrl',
  '1.0/storageDelete': 'storage.delete',
  'storage/storeBlob': 'storage.store',
  'storage/getBlob': 'storage.get',
};

/** The end that an error makes; `note` is a line about how it came. */
function failure(error, note) {
  const { text, stack, data } = describe(error, folder);
  return threw(note === undefined ? text : `${text}\n${note}`, stack, data);
}

/** The run that a call of `Convex` belongs to. */
function running(what) {
  if (current !== undefined) return current;
  throw new Error(`Convex.${what} was called when no function ran: not while a module is `
    + 'imported, and not after the function has ended.');
}

const jsSyscalls = {
  async 'storage/storeBlob'({ blob, options, ...rest }) {
    const run = running('jsSyscall');
    const body = run.streams.open();
    const json = JSON.stringify({ ...rest, contentType: blob.type, size: blob.size,
      sha256: options?.sha256 });
    const asked = run.ask('storage/storeBlob', json, body);
    const sent = run.streams.send(body, blob.stream());
    const [{ json: id }] = await Promise.all([asked, sent]);
    return JSON.parse(id);
  },
  async 'storage/getBlob'(args) {
    const run = running('jsSyscall');
    const { json, body } = await run.ask('storage/getBlob', JSON.stringify(args));
    const described = JSON.parse(json);
    if (described === null) return null;
    const parts = await run.streams.read(body);
    run.rest();
    return new Blob(parts, { type: described.contentType ?? '' });
  },
};

const Convex = Object.freeze({
  syscall(op) { throw new Error(`Unknown operation ${op}`); },
  async asyncSyscall(op, json) {
    if (typeof op !== 'string' || typeof json !== 'string') {
      throw new TypeError('Convex.asyncSyscall takes strings');
    }
    return (await running('asyncSyscall').ask(op, json)).json;
  },
  jsSyscall(op, args) {
    const syscall = jsSyscalls[op];
    if (syscall === undefined) throw new Error(`Unknown JS syscall: ${op}`);
    return syscall(args);
  },
});

/** Imports a module; what it leaves running is there to stay. */
async function load(module) {
  const namespace = await import(pathToFileURL(join(folder, module)).href);
  if (!loaded.has(module)) {
    loaded.add(module);
    idleResources = process.getActiveResourcesInfo();
    lasting = new Set(files());
  }
  return namespace;
}

/** The import that is under way while nothing runs. */
let preloading = Promise.resolve();

/** Imports everything while there is nothing else to do. */
async function preload() {
  const entries = readFileSync(new URL('entries.json', import.meta.url), 'utf8');
  for (const module of JSON.parse(entries)) {
    if (current !== undefined) return;
    // Whoever calls a function of it hears what is wrong.
    preloading = load(module).catch(() => {});
    await preloading;
  }
}

/** Runs an action. */
async function run(head, args) {
  const { module, export: name } = head;
  try {
    // What an import has under way would be taken for the run's, and the other way round.
    await preloading;
    const namespace = await load(module);
    const action = namespace[name];
    if (action === undefined || action === null) {
      finish(threw(`Couldn't find "${name}" in module "${module}".`));
    } else if (typeof action.invokeAction !== 'function') {
      finish(threw(`Function ${current.path} is not an action. Did you forget to wrap it with `
        + '`action`?'));
    } else {
      const text = await action.invokeAction(head.request_id, args);
      if (typeof text === 'string') finish({ how: 'returned' }, text);
      else {
        finish(threw(`Function ${current.path} failed. Could not parse return value as json: it `
          + 'is no text'));
      }
    }
  } catch (error) {
    finish(failure(error));
  }
}

/** Says what modules export. */
async function look(modules) {
  try {
    finish({ how: 'returned' }, JSON.stringify(await analyze(load, folder, modules)));
  } catch ({ module, error }) {
    const end = failure(error);
    finish({ ...end, message: `Failed to analyze ${module}: ${end.message}` });
  }
}

/** Ends the process, whose last words the host gives to whoever waits for its runs. */
function broken(what) {
  writeSync(STDERR, `the host broke the protocol: it said ${what}\n`);
  reallyExit.call(process, 1);
}

/** Begins a run. */
function begin(head, work) {
  // One of the two would be given the other's result, and ask in its name.
  if (current !== undefined) broken(`${head.type} while ${current.path} was running`);
  current = new Run(head);
  process.env = { TMPDIR, ...variables };
  socket.unref();
  work();
}

/** Acts on a message of the host. */
function act(head, tail) {
  switch (head.type) {
    case 'deploy':
      ({ folder, limits } = head);
      confine(head.network);
      send({ type: 'ready' });
      break;
    case 'environment':
      variables = head.variables;
      process.env = { TMPDIR, ...variables };
      if (current === undefined) preload();
      break;
    case 'run':
      begin(head, () => run(head, tail.toString()));
      break;
    case 'analyze':
      begin({ ...head, module: 'the modules', export: 'default' }, () => look(head.modules));
      break;
    case 'answer':
      if (current?.number === head.run) current.answer(head, tail.toString());
      break;
    case 'stream':
      current?.streams.takeIn(head, tail);
      current?.rest();
      break;
    case 'cancel':
      if (current?.number === head.run) {
        die(threw(`${current.path} was cancelled: nobody waits for it.`));
      }
      break;
    case 'shutdown':
      reallyExit.call(process, 0);
      break;
    default:
      broken(`${head.type}, which is not for Node`);
  }
}

/** Bytes of the host that are no whole frame yet. */
let pieces = [];
let length = 0;

/** Takes the next frame out of what has come; `undefined` while it is not whole. */
function nextFrame() {
  if (length < 4) return undefined;
  if (pieces[0].length < 4) pieces = [Buffer.concat(pieces)];
  const size = 4 + pieces[0].readUInt32LE(0);
  if (length < size) return undefined;
  const all = pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
  pieces = all.length === size ? [] : [all.subarray(size)];
  length -= size;
  return all.subarray(4, size);
}

const socket = new Socket({ fd: SOCKET, readable: true, writable: false });
socket.on('data', (bytes) => {
  pieces.push(bytes);
  length += bytes.length;
  for (let frame = nextFrame(); frame !== undefined; frame = nextFrame()) {
    const end = 4 + frame.readUInt32LE(0);
    act(JSON.parse(frame.subarray(4, end)), frame.subarray(end));
  }
});
socket.on('error', () => reallyExit.call(process, 0));
socket.on('close', () => reallyExit.call(process, 0));

/** What a function reads that ended its process. */
function left(call, code) {
  if (current === undefined) reallyExit.call(process, code);
  const { stack } = new Error();
  die(threw(`${current.path} called ${call}, which ended its process. Return from the function, or `
    + 'throw an error, instead.', place(stack, folder)), code);
}
process.exit = (code) => {
  const given = code ?? process.exitCode ?? 0;
  left(`process.exit(${given})`, given);
};
process.abort = () => left('process.abort()', 1);
process.on('uncaughtException', (error) => {
  if (current === undefined) reallyExit.call(process, 1);
  die(failure(error, `Nothing caught this error: it was thrown outside of ${current.path}'s own `
    + 'calls, in a timer or an event. Catch it there.'));
});
process.on('unhandledRejection', (error) => {
  if (current === undefined) reallyExit.call(process, 1);
  die(failure(error, `Nothing awaits the promise of ${current.path} that was rejected with this. `
    + 'Await it, or give it a `catch`.'));
});
process.on('beforeExit', () => {
  if (current === undefined || current.end !== undefined) return;
  socket.ref();
  finish(threw(`Returned promise will never resolve: ${current.path} awaits something that nothing `
    + 'will ever settle. No timer, request or call is under way; look for a `new Promise(…)` '
    + 'whose resolve is never called.'));
});

explainFetch();
Object.defineProperty(globalThis, 'Convex', { value: Convex });
const endLog = logTo((level, messages, truncated) => {
  if (current === undefined) return false;
  send({ type: 'log', run: current.number, level, messages, truncated });
  return true;
}, () => limits, (text) => place(text, folder));
