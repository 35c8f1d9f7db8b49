// The bridge between the process that runs tests and the host that has the engine.
//
// In: the worker's own `Convex`. Out: `realm`, which `convex_test.js` finds under a symbol; the
// global `Convex`, which sends what a function asks for to its own transaction or action.
// Invariant: a function that runs here has a store in `current`; the store, not the global, knows
// which transaction or action it belongs to.
import { lazily, refuse } from './refused.js';
import { scriptOf, scripted } from './scripts.js';

import { handed, takeTimers, underWay } from './timers.js';

/** The global one as it was: a test may replace its functions. */
export const JSON = { parse: globalThis.JSON.parse, stringify: globalThis.JSON.stringify };

const { toWellFormed } = globalThis.String.prototype;
const { apply } = globalThis.Reflect;

/** JSON text that the host can read: of half a character, which it cannot, U+FFFD is told. */
export const textOf = (value) => {
  const text = JSON.stringify(value);
  // Nothing else is written so, but behind a backslash.
  if (text === undefined || !text.includes('\\ud')) return text;
  return JSON.stringify(value, (_key, inside) => {
    if (typeof inside === 'string') return apply(toWellFormed, inside, []);
    if (inside === null || typeof inside !== 'object' || Array.isArray(inside)) return inside;
    return Object.fromEntries(Object.entries(inside)
      .map(([key, member]) => [apply(toWellFormed, key, []), member]));
  });
};

/** The worker's own way to its host. */
export const worker = globalThis.Convex;
const { clearTimeout, setTimeout } = globalThis;

/** What the function that runs now belongs to. */
export const current = new AsyncLocalStorage();

/** Test files that have been evaluated. */
export const evaluated = new Set();
globalThis[Symbol.for('concave.evaluated')] = evaluated;

const askedFor = async (op, value) =>
  JSON.parse(await worker.asyncSyscall(`test/${op}`, textOf(value)));

/** Asks the host, for a request; `value` and the answer are JSON. */
export const ask = (op, value = null, request = '') =>
  underWay(request, () => askedFor(op, value));

/** Tells the host something that nobody waits for. */
export const tell = (op, value) => {
  const told = ask(op, value).catch(() => {}).finally(() => { telling.delete(told); });
  telling.add(told);
};
const telling = new Set();

/** Waits until the host has heard everything. */
export const heard = () => Promise.all(telling);

const outside = (op) => {
  throw new Error('Functions of Convex can only be called with t.query, t.mutation, t.action or '
    + `inside of t.run (${op} was called outside of a function).`);
};

globalThis.Convex = {
  syscall(op, json) { return (current.getStore() ?? outside(op)).syscall(op, json); },
  async asyncSyscall(op, json) {
    return (current.getStore() ?? outside(op)).asyncSyscall(op, json);
  },
  jsSyscall(op, args) { return (current.getStore() ?? outside(op)).jsSyscall(op, args); },
};

// Actions of a world with scripts find those.
const makeFetch = worker.jsSyscall('concave/fetch', (fetch) => async (...given) => {
  const world = current.getStore()?.world;
  if (world?.isScripted) return world.scripted(given);
  return world === undefined ? fetch(...given) : world.outside(() => fetch(...given));
});

const BASE32 = '0123456789abcdefghjkmnpqrstvwxyz';

/** The table number in a document id; undefined for what is none. */
const tableNumber = (id) => {
  if (typeof id !== 'string' || id.length < 31 || id.length > 37) return undefined;
  const bytes = [];
  let bits = 0;
  let value = 0;
  for (const character of id) {
    const digit = BASE32.indexOf(character);
    if (digit < 0) return undefined;
    value = (value << 5) | digit;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push((value >> bits) & 0xff);
      value &= (1 << bits) - 1;
    }
  }
  let c0 = 0;
  let c1 = 0;
  for (const byte of bytes.slice(0, -2)) {
    c0 = (c0 + byte) & 0xff;
    c1 = (c1 + c0) & 0xff;
  }
  if (bytes.at(-2) !== c0 || bytes.at(-1) !== c1) return undefined;
  return bytes.slice(0, -18).reduceRight((number, byte) => number * 128 + (byte & 0x7f), 0);
};

/** What convex-test has one name for: tests look for it. */
const OF_VALIDATORS = new RegExp('^(?:Uncaught )?(?:Error: )?(?:ArgumentValidationError'
  + '|ReturnsValidationError|Failed to insert or update a document)');

/** A message of the engine, with what convex-test says in its place. */
export const asOfConvexTest = (message) => (OF_VALIDATORS.test(message)
  ? `${message}\n(Validator error)` : message);

/** What a query or mutation that runs here asks for: answered by the thread of its call. */
class Transaction {
  constructor({ visit, tables, world, requestId }) {
    Object.assign(this, { visit, tables, world, request: requestId });
    Object.assign(this, { streams: new Map(), globals: new Map() });
  }

  /** A row of `_scheduled_functions` as convex-test shows it: `dir/module:function`, no `.js`. */
  shown(value) {
    const isJob = typeof value?.name === 'string' && value.name.includes('.js:')
      && tableNumber(value._id) === this.tables._scheduled_functions;
    return isJob ? { ...value, name: value.name.replace('.js:', ':') } : value;
  }

  async turn(op, json, isSync = false) {
    const turn = { visit: this.visit, op, json, isSync };
    try {
      const value = await ask('turn', turn, this.request);
      const text = JSON.stringify(value);
      if (!text.includes('.js:')) return text;
      return JSON.stringify(value, (_key, inside) => this.shown(inside));
    } catch (error) {
      error.message = asOfConvexTest(error.message);
      throw error;
    }
  }

  syscall(op, json) {
    switch (op) {
      case '1.0/queryStream': {
        // Opened by its first page: nothing here can wait.
        const queryId = this.streams.size;
        this.streams.set(queryId, { json, opened: undefined });
        return JSON.stringify({ queryId });
      }
      case '1.0/queryCleanup': {
        const { queryId } = JSON.parse(json);
        const stream = this.streams.get(queryId);
        stream?.opened?.then((queryId) => this.turn(op, JSON.stringify({ queryId }), true))
          .catch(() => {});
        return '{}';
      }
      case '1.0/db/normalizeId': {
        const { table, idString } = JSON.parse(json);
        const number = tableNumber(idString);
        const isIn = number !== undefined && this.tables[table] === number;
        return JSON.stringify({ id: isIn ? idString : null });
      }
      default:
        throw new Error(`${op} cannot be used by functions of a test: use a function of a module.`);
    }
  }

  async asyncSyscall(op, json) {
    if (op !== '1.0/queryStreamNext') return this.turn(op, json);
    const { queryId, ...rest } = JSON.parse(json);
    const stream = this.streams.get(queryId);
    stream.opened ??= this.turn('1.0/queryStream', stream.json, true)
      .then((answer) => JSON.parse(answer).queryId);
    return this.turn(op, JSON.stringify({ ...rest, queryId: await stream.opened }));
  }

  /** Files are part of the transaction: it sees those that it stores, and takes them back. */
  async jsSyscall(op, { blob, options, ...args }) {
    switch (op) {
      case 'storage/storeBlob': {
        if (typeof blob?.arrayBuffer !== 'function') {
          throw new TypeError('storage.store: the argument must be a Blob or a File.');
        }
        const bytes = new Uint8Array(await blob.arrayBuffer());
        const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
        const file = { blob: text, contentType: blob.type, sha256: options?.sha256 };
        const stored = await this.turn('1.0/storageStore', JSON.stringify({ ...args, ...file }));
        return JSON.parse(stored);
      }
      case 'storage/getBlob': {
        const found = JSON.parse(await this.turn('1.0/storageGet', JSON.stringify(args)));
        if (found === null) return null;
        const bytes = Uint8Array.from(atob(found.blob), (letter) => letter.charCodeAt(0));
        return new Blob([bytes], { type: found.contentType ?? '' });
      }
      default: throw new Error(`Unknown JS syscall: ${op}`);
    }
  }
}

/** What an action that runs here asks for. */
class Action {
  constructor({ action, world, requestId }) {
    Object.assign(this, { action, world, request: requestId });
  }

  /** Whether nothing but `t.advance` has its timers go off. */
  get isClockHeld() { return this.world.time.isHeldFor(this.request); }

  syscall(op) { throw new Error(`${op} cannot be used in actions.`); }

  async asyncSyscall(op, json) {
    const { action, request } = this;
    const asked = () => ask('ask', { action, op, json, now: Date.now() }, request);
    if (op === '1.0/actions/query' || op === '1.0/actions/mutation') {
      const { name, reference, functionHandle } = JSON.parse(json);
      const label = `${op.slice('1.0/actions/'.length)} ${name ?? reference ?? functionHandle}`;
      const answer = await this.world.gated(label, () => this.world.transaction(asked));
      this.world.heard(answer);
      return JSON.stringify(answer.value);
    }
    const answer = await (op === '1.0/actions/action' ? asked() : this.world.transaction(asked));
    this.world.heard(answer);
    return JSON.stringify(answer.value);
  }

  jsSyscall(op, args) {
    return underWay(this.request, () => worker.jsSyscall(op, { ...args, action: this.action }));
  }
}

/** What the transaction that runs now has put in the place of globals. */
const ownGlobals = () => {
  const store = current.getStore();
  return store instanceof Transaction ? store.globals : undefined;
};
/** Has timers of actions known to their worlds. */
export const ownTimers = () => takeTimers(() => {
  const store = current.getStore();
  return store instanceof Action ? store : undefined;
});

/** Worlds by number: one for each `convexTest()`. */
export const worlds = new Map();

/** A thrown value as the host passes it on, also one that throws when it is looked at. */
const described = (error) => {
  try {
    return shown(error);
  } catch {
    const message = 'Uncaught a value that throws when it is looked at: a Proxy, or a getter';
    return { message, data: null, stack: '' };
  }
};

const shown = (error) => {
  const symbol = error?.ConvexErrorSymbol;
  // The convex package has turned the data of a ConvexError into text already.
  const isConvex = symbol !== undefined && error[symbol] === true;
  const data = isConvex && typeof error.data === 'string' ? error.data : null;
  const text = error instanceof Error || data !== null ? `${error.name}: ${error.message}` : error;
  const stack = String(error?.stack ?? '');
  // The message of a nested call's error ends with frames: not to be told twice.
  const message = String(error?.message ?? '');
  const top = message === '' ? -1 : stack.indexOf(message);
  const below = stack.slice(top < 0 ? 0 : top + message.length);
  return { message: `Uncaught ${text}`, data, stack: below };
};

/** Runs what the host asks for, and tells it the end. */
const serve = async (event) => {
  const world = worlds.get(event.world);
  const isAction = event.type === 'action';
  const over = handed(event.requestId);
  const tellEnd = (value) => {
    const told = ask('end', { ...end, ...value }, event.requestId);
    over();
    return told;
  };
  if (isAction) world.begun(event.requestId);
  else refuse(ownGlobals);
  const store = isAction ? new Action({ ...event, world }) : new Transaction({ ...event, world });
  const end = isAction ? { action: event.action } : { visit: event.visit };
  try {
    const work = () => current.run(store, () => world.run(event));
    const { exploring } = world;
    const result = await (exploring?.within(event.requestId, work) ?? work());
    await tellEnd({ result });
  } catch (error) {
    const told = { ...described(error), isOwn: world.isOwn(event) };
    world.threw(event, error);
    await tellEnd({ error: told });
  }
};

/** Has `fetch` made only when somebody fetches; before anybody can have replaced it. */
export const begin = () => refuse(ownGlobals, { fetch: lazily(makeFetch) });

/** Whether the file's tests are over. */
let ended = false;

/** Says that the file's tests are over: what they have scheduled never runs. */
export const close = () => {
  ended = true;
  return ask('close');
};

/** Serves the host until it has no more. */
export const listen = async () => {
  for (;;) {
    const events = await askedFor('next', null);
    if (events === null) return;
    for (const event of events) serve(event).catch(() => {});
  }
};

/** Calls `tick` each second as long as whatever runs gives it a turn; gives what ends that. */
export const beat = (tick) => {
  let timer;
  const next = () => { timer = setTimeout(() => { tick(); next(); }, 1_000); };
  next();
  return () => clearTimeout(timer);
};

/** Lets what the real clock holds come first. */
export const pause = (ms = 0, take = () => {}) =>
  new Promise((resolve) => { take(setTimeout(resolve, ms)); });

/** A response during whose body the action that made it goes on; `end` is the end of that. */
const followed = (response, end) => {
  const { body, bodyUsed } = response ?? {};
  if (!body || body.locked || bodyUsed) {
    end();
    return response;
  }
  const reader = body.getReader();
  const stream = new ReadableStream({
    async pull(controller) {
      const { done, value } = await reader.read().catch((error) => {
        end();
        throw error;
      });
      if (!done) {
        controller.enqueue(value);
        return;
      }
      end();
      controller.close();
    },
    // As over HTTP: what the action has begun goes on when its client leaves.
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
  return new Response(stream, response);
};

/** What `convex_test.js` uses. */
export const realm = globalThis[Symbol.for('concave.realm')] = {
  JSON,
  pause,
  followed,
  exit: (work) => current.exit(work),
  underWay,
  ask,
  asOfConvexTest,
  scriptOf,
  scripted,
  evaluated,
  /** Files whose functions reach a mocked module: the engine has no mocks, so they run here. */
  mocking: new Set(),
  /** What is told of each request, and the number of each database: `random.js` needs them. */
  requested() {},
  salt() { return worlds.size; },
  /** Whether what runs is counted, so that everything runs here. */
  isCounting: false,
  hasEnded: () => ended,
  /** Opens a world at the host. */
  async open(world, described) {
    const asked = { ...described, now: Date.now(), salt: realm.salt() };
    const { id } = await ask('open', asked);
    worlds.set(id, world);
    return id;
  },
  /** Runs `work` as an action of nobody's module, which ends when `work` says so. */
  async inAction(world, { component, identity }, work) {
    const requestId = world.request();
    const begun = { world: world.id, component, identity, request: requestId };
    const action = await ask('begin', begun, requestId);
    const end = () => tell('end', { action, result: 'null' });
    try {
      return await current.run(new Action({ action, world, requestId }), () => work(end));
    } catch (error) {
      end();
      throw error;
    }
  },
};
