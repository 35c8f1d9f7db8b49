// `convex-test` on the real engine: `convexTest(schema, modules)` and what it gives.
//
// In: a schema, modules by `import.meta.glob`. Out: `t`, whose named queries and mutations run in
// isolates of the engine; inline functions, actions and functions of test files run here.
// Invariant: each `convexTest()` has a database of its own; time is the test's `Date.now()`, so
// fake timers move the engine too.
import {
  actionGeneric, getFunctionAddress, mutationGeneric, queryGeneric,
} from 'convex/server';
import { ConvexError, convexToJson, jsonToConvex } from 'convex/values';
import { onTestFinished, vi } from 'vitest';

const realm = globalThis[Symbol.for('concave.realm')];
const { JSON, scriptOf, scripted } = realm;
const DEFAULT_MODULES = realm.modules?.() ?? import.meta.glob('./**/*.*s');

/** The module of a deployment through which inline functions run; `deploy.rs` makes it. */
const INLINE = { query: 'concave_inline:query', mutation: 'concave_inline:mutation' };

/** Modules that the engine reads whole: it has no mocks and counts nothing, but must know them. */
const OF_ENGINE = ['crons', 'http', 'invariants'];

/** Statuses with which a host sends no body, whatever the handler put into it. */
const BODILESS = [204, 205, 304];

const KINDS = { isQuery: 'Query', isMutation: 'Mutation', isAction: 'Action' };
const kindOf = (value) => {
  try {
    return Object.keys(KINDS).find((flag) => value?.[flag] === true);
  } catch {
    // An export that a mock has forgotten throws when it is read: whoever uses it hears of that.
    return undefined;
  }
};

/** The folder that module paths begin at: the one that has `_generated`. */
const rootOf = (keys) => {
  const generated = keys.find((key) => key.includes('_generated/'));
  if (generated !== undefined) return generated.slice(0, generated.indexOf('_generated/'));
  const folders = keys.map((key) => key.slice(0, key.lastIndexOf('/') + 1));
  return folders.reduce((shared, folder) => {
    while (!folder.startsWith(shared)) {
      shared = shared.slice(0, shared.lastIndexOf('/', shared.length - 2) + 1);
    }
    return shared;
  }, folders[0] ?? '');
};

/** Functions of Convex that a test has put a spy on: only those of this process are seen by it. */
const spied = new Set();
const { spyOn } = vi;
vi.spyOn = (target, ...rest) => {
  if (kindOf(target) !== undefined) spied.add(target);
  return spyOn(target, ...rest);
};

/** Modules that tests have handed in, by name: mostly there is one such object in a file. */
const named = new WeakMap();

/** Whether an object holds what it held. In vitest what is in it may become mocked meanwhile. */
const isSame = (known, entries) => known !== undefined && realm.located === undefined
  && known.entries.length === entries.length
  && known.entries.every(([key, load], at) => key === entries[at][0] && load === entries[at][1]);

const namedOf = (given) => {
  const entries = Object.entries(given);
  const known = named.get(given);
  if (isSame(known, entries)) return known;
  const modules = new Map();
  const root = rootOf(Object.keys(given));
  for (const [key, load] of entries) {
    const name = key.slice(root.length).replace(/\.[^./]+$/, '');
    if (name.endsWith('.d') || modules.has(name)) continue;
    // The bundler says of each which file it is.
    modules.set(name, realm.located?.(load) ?? load);
  }
  // What nobody says the file of may be another module each time it is loaded, or for Node.
  const isFixed = [...modules.values()].every((load) => load.file !== undefined && !load.node);
  const made = { entries, modules, isFixed, divided: undefined };
  named.set(given, made);
  return made;
};

/** The app, or a component: a schema and modules by path. */
class Part {
  constructor(path, schema, modules) {
    this.named = namedOf(modules);
    Object.assign(this, { path, schema, modules: this.named.modules, here: new Set() });
    this.broken = new Map();
  }

  load(name) {
    const load = this.modules.get(name.replace(/\.js$/, ''));
    if (load === undefined) throw new Error(`There is no module ${JSON.stringify(name)}.`);
    return realm.underWay('', load);
  }

  /** What the host needs to deploy it. */
  async described() {
    const schema = this.schema?.export?.() ?? null;
    const { isFixed, divided } = this.named;
    const now = `${spied.size} ${realm.mocking.size} ${realm.evaluated.size}`;
    if (divided?.now === now) {
      this.here = divided.here;
      return { path: this.path, schema, ...divided.modules };
    }
    const modules = await this.divided();
    if (isFixed) this.named.divided = { now, modules, here: this.here };
    return { path: this.path, schema, ...modules };
  }

  /** Which modules are deployed, and the functions of those that run here. */
  async divided() {
    const files = {};
    const elsewhere = {};
    this.here = new Set();
    for (const [name, load] of this.modules) {
      const isOwn = !name.startsWith('_generated/') && name !== 'schema';
      const isDeployed = isOwn && load.file !== undefined && !name.split('/').at(-1).includes('.');
      const isHere = !isDeployed || (!OF_ENGINE.includes(name)
        && (load.node || realm.isCounting || realm.mocking.has(load.file)
          || (spied.size > 0 && await isSpied(load))));
      if (!isHere) files[`${name}.js`] = load.file;
      // Other test files are not for this one to run.
      else if (isOwn && (isDeployed || load.file === undefined || realm.evaluated.has(load.file))) {
        try {
          elsewhere[`${name}.js`] = functionsOf(await load());
          this.here.add(name);
        } catch (error) {
          // One for Node that needs Node fails the tests that call it.
          if (!load.node) throw error;
          this.broken.set(name, error);
        }
      }
    }
    return { files, elsewhere };
  }
}

/** A function whose handler is the spy, which the function itself does not know of. */
const observed = (found) => {
  const make = { isQuery: queryGeneric, isMutation: mutationGeneric, isAction: actionGeneric };
  return make[kindOf(found)]({ handler: (...given) => found._handler(...given) });
};

/** Whether a test spies on a function of a module, which then runs here. */
const isSpied = async (load) => {
  // One that cannot be imported is for the engine to refuse.
  const module = await load().catch(() => ({}));
  return Object.values(module).some((value) => spied.has(value));
};

/** The functions of a module that is not deployed. */
const functionsOf = (module) => Object.entries(module).flatMap(([name, value]) => {
  const flag = kindOf(value);
  if (flag === undefined) return [];
  return [{
    name,
    kind: KINDS[flag],
    visibility: value.isInternal === true ? 'isInternal' : 'isPublic',
    args: value.exportArgs?.() ?? '{"type":"any"}',
    returns: value.exportReturns?.() ?? 'null',
  }];
});

const BUILT_IN = { EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

/** An error of the engine as a test sees it. */
const rebuilt = ({ message, data }) => {
  const at = message.search(/\n {4}at /);
  const text = realm.asOfConvexTest((at < 0 ? message : message.slice(0, at)).trimEnd());
  const frames = at < 0 ? '' : message.slice(at).trimEnd();
  const [, name, rest] = /^Uncaught (?:(\w*Error): )?([^]*)$/.exec(text) ?? [text, undefined, text];
  const Native = BUILT_IN[name] ?? Error;
  const error = data === null || data === undefined ? new Native(rest)
    : new ConvexError(jsonToConvex(JSON.parse(data)));
  if (name !== undefined && error.name === 'Error') error.name = name;
  // The frames of the function stand for those of the call, which say nothing.
  error.stack = `${error.name}: ${error.message}${frames}\n${
    (error.stack ?? '').split('\n').slice(1).join('\n')}`;
  return error;
};

/** A query that is kept fresh. */
class Watch {
  /** Every result, oldest first. */
  results = [];
  error = undefined;
  #times = [];
  #newest = 0;

  /** The newest result; throws what the query threw last. */
  get current() {
    if (this.error !== undefined) throw this.error;
    return this.results.at(-1);
  }

  /** Answers to calls side by side may overtake each other: `at` is the order of results. */
  take({ value, error, at }) {
    if (error === undefined) {
      const place = this.#times.findLastIndex((time) => time < at) + 1;
      this.#times.splice(place, 0, at);
      this.results.splice(place, 0, jsonToConvex(value));
    }
    if (at < this.#newest) return;
    this.#newest = at;
    this.error = error === undefined ? undefined : rebuilt(error);
  }
}

let requests = 0;
let inlines = 0;

/** One `convexTest()`: a database, and what runs here for it. */
class World {
  constructor(options) {
    const modules = options.modules ?? DEFAULT_MODULES;
    this.parts = new Map([['', new Part('', options.schema, modules)]]);
    this.limits = options.transactionLimits ?? false;
    this.inline = new Map();
    this.jobs = new Map();
    this.running = new Map();
    this.fetching = 0;
    this.transactions = 0;
    this.starting = new Map();
    this.inLine = 0;
    this.isHeld = false;
    this.line = Promise.resolve();
    this.thrown = new Map();
    this.failures = new Map();
    this.watches = [];
    this.fetches = [];
    this.time = new realm.VirtualTime(this, { vi, onTestFinished });
  }

  registerComponent(path, schema, modules) {
    if (this.opening !== undefined) {
      throw new Error('t.registerComponent must come before the first call of a function.');
    }
    this.parts.set(path, new Part(path, schema, modules));
  }

  /** The world at the host, opened by the first call; a new spy calls for another deployment. */
  open() {
    if (this.opening === undefined || this.spies !== spied.size) {
      const before = this.opening;
      this.spies = spied.size;
      this.opening = realm.underWay('', async () => {
        await before;
        const parts = await Promise.all([...this.parts.values()].map((part) => part.described()));
        if (this.id !== undefined) {
          await realm.ask('deploy', { world: this.id, parts });
          return;
        }
        const { limits } = this;
        const isGiven = typeof limits === 'object' && limits !== null;
        const text = isGiven ? JSON.stringify(limits) : null;
        this.id = await realm.open(this, { parts, limits: text });
      });
    }
    return this.opening;
  }

  /**
   * Runs a transaction, which nothing that timers start comes into the middle of: on convex-test
   * a transaction is over before the next timer, and tests are written for that.
   */
  async transaction(work) {
    this.transactions += 1;
    try {
      return await work();
    } finally {
      this.transactions -= 1;
      if (this.transactions === 0) this.wake?.();
    }
  }

  /** What was started is here, or over. */
  begun(request) {
    this.starting.get(request)?.();
    if (this.starting.delete(request)) this.wake?.();
  }

  /** Whether nothing is under way that would be over before the next timer on convex-test. */
  isQuiet() { return this.transactions + this.starting.size + this.inLine === 0; }

  /** Lets jobs begin one after another, as their timers were, and none within a transaction. */
  async turn(request) {
    if (this.exploring !== undefined) return;
    const before = this.line;
    let next;
    this.line = new Promise((resolve) => { next = resolve; });
    this.inLine += 1;
    await before;
    this.isHeld = true;
    await this.until(() => this.transactions === 0);
    this.isHeld = false;
    this.inLine -= 1;
    this.starting.set(request, next);
  }

  /** Waits until `isOver`, looking when transactions end and whoever waits for them has gone on. */
  async until(isOver) {
    // A test that asks again and again without a pause shall see an end.
    for (let round = 0; round < 10_000 && this.exploring === undefined && !isOver(); round++) {
      this.news ??= new Promise((resolve) => {
        this.wake = () => { this.news = undefined; resolve(); };
      });
      await this.news;
      await realm.underWay('', () => realm.pause());
    }
  }

  /** Runs what the host cannot: a closure of the test's, or a function of its modules. */
  async run({ component, asked, requestId }) {
    const { token, module, name, args } = asked;
    const closure = this.inline.get(token);
    if (closure !== undefined) return closure();
    const part = this.parts.get(component);
    if (part === undefined) throw new Error(`There is no component ${JSON.stringify(component)}.`);
    const found = (await part.load(module))[name];
    const value = spied.has(found) ? observed(found) : found;
    switch (kindOf(value)) {
      case 'isQuery': return value.invokeQuery(args);
      case 'isMutation': return value.invokeMutation(args);
      case 'isAction': return value.invokeAction(requestId, args);
      default: throw new Error(`${module} exports no function ${JSON.stringify(name)}.`);
    }
  }

  /** Whether a function belongs to the test, and not to a deployed module. */
  isOwn({ component, asked: { token, module } }) {
    if (token !== undefined) return true;
    const part = this.parts.get(component);
    const name = module.replace(/\.js$/, '');
    return part === undefined || part.here.has(name) || !part.modules.has(name);
  }

  /** Notes what a function threw here, for whoever called it. */
  threw({ asked, requestId }, error) {
    const { data } = error ?? {};
    if (error instanceof ConvexError && typeof data === 'string') {
      // The convex package made text of it, for the engine.
      error.data = jsonToConvex(JSON.parse(data));
    }
    if (this.inline.has(asked.token)) this.thrown.set(asked.token, error);
    else {
      // What a request ends with its outermost function has thrown, which is the last one.
      this.failures.set(requestId, { error });
      if (error instanceof Error) this.lastThrown = error;
    }
  }

  /**
   * What comes with an answer: jobs that are new, results of watched queries. Each job has a timer
   * of the test's clock, whichever that is now.
   */
  heard({ jobs, changes, violations }) {
    for (const violation of violations ?? []) this.violated(violation);
    for (const { id, due } of jobs ?? []) {
      if (this.jobs.has(id)) continue;
      if (this.exploring !== undefined) {
        // While orders are explored time does not pass: it may run at once, or after anything.
        this.jobs.set(id, undefined);
        this.exploring.start(`scheduled #${this.jobs.size}`, () => this.fire(id));
        continue;
      }
      const wait = Math.max(0, due - Date.now());
      const isFake = vi.isFakeTimers();
      // It is no timer of the action that has scheduled it.
      const start = () => realm.exit(() => setTimeout(() => this.fire(id), wait));
      this.jobs.set(id, { isFake, timer: this.time.isStanding && !isFake ? undefined : start() });
    }
    for (const change of changes ?? []) this.watches[change.watch]?.take(change);
  }

  /**
   * An invariant does not hold, or a call came out otherwise when it was executed again: the test
   * that runs fails, whatever it makes of its calls.
   */
  violated({ name, message }) {
    const error = Object.assign(new Error(message), { name });
    if (this.exploring !== undefined) {
      this.exploring.violated ??= error;
      return;
    }
    try {
      onTestFinished(() => { throw error; });
    } catch {
      // No test runs, but a hook.
      throw error;
    }
  }

  /** Runs a job, or a cron job, now; what goes wrong with it is in its row. */
  fire(id, isCron = false) {
    if (this.running.has(id)) return this.running.get(id).over;
    clearTimeout(this.jobs.get(id)?.timer);
    this.jobs.set(id, {});
    const request = this.request();
    const over = (async () => {
      await this.gated('runs', () => {});
      await this.turn(request);
      // A mutation is under way until it ends, an action until it is here.
      try {
        const fire = { world: this.id, job: id, isCron, now: Date.now(), request };
        this.heard(await realm.ask('fire', fire, request));
      } finally {
        this.begun(request);
      }
    })().catch((error) => {
      // What is still to run when its file has ended never runs.
      if (!realm.hasEnded()) throw error;
    }).finally(() => {
      this.jobs.delete(id);
      this.running.delete(id);
    });
    this.running.set(id, { request, over });
    return over;
  }

  /** Does a real request of an action, which no clock of a test knows the time of. */
  async outside(work) {
    this.fetching += 1;
    try {
      return await work();
    } finally {
      this.fetching -= 1;
    }
  }

  /** Keeps the results of a query, as they change. */
  async watch(target, args, { identity }) {
    await this.open();
    const watch = new Watch();
    // An answer to another call may have its first result.
    const number = this.watches.push(watch) - 1;
    const asking = this.asking('query', addressOf(target), convexToJson(args ?? {}), '', identity);
    this.heard(await realm.ask('watch', { ...asking, watch: number }, asking.request));
    return watch;
  }

  /** Answers `fetch` of this world's actions. */
  onFetch(pattern, handler) {
    this.fetches.unshift(scriptOf(pattern, handler));
  }

  /** Whether requests of this world's actions are answered by scripts. */
  get isScripted() { return this.fetches.length > 0; }

  /** What answers `fetch` in an action of this world. */
  scripted(given) { return scripted(this.fetches, given); }

  asking(kind, address, args, component, identity) {
    return {
      world: this.id, kind, address: JSON.stringify(address), args: JSON.stringify(args), component,
      identity, now: Date.now(), env: realm.environment?.() ?? { ...process.env },
      request: this.request(),
    };
  }

  /** Names a request to the host. */
  request() {
    requests += 1;
    const request = requests.toString(16).padStart(16, '0');
    realm.requested(request, this.exploring?.enter(request));
    return request;
  }

  async call(kind, address, args, { component = '', identity = null }) {
    await this.open();
    if (kind === 'action') return this.ask(kind, address, args, { component, identity });
    const name = address.name ?? address.reference ?? address.functionHandle;
    return this.gated(`${kind} ${name}`,
      () => this.ask(kind, address, args, { component, identity }));
  }

  /** Does `work` when it has its turn, where orders are explored. */
  async gated(label, work) {
    return this.exploring === undefined ? work() : this.exploring.gate(label, work);
  }

  async ask(kind, address, args, { component, identity }) {
    // Jobs that have begun come first; one that waits for the test's own transactions does not.
    await this.until(() => this.starting.size === 0 && (this.isHeld || this.inLine === 0));
    const asking = this.asking(kind, address, args, component, identity);
    const ask = () => realm.ask('call', asking, asking.request);
    const isTransaction = kind === 'query' || kind === 'mutation';
    const answer = await (isTransaction ? this.transaction(ask) : ask());
    const { value, error } = answer;
    const failure = this.failures.get(asking.request);
    this.failures.delete(asking.request);
    this.heard(answer);
    if (error !== undefined) {
      // What was thrown here stays what it was: its class, its cause. What came from a function
      // that it called has that one's frames in its message.
      const text = `${failure?.error?.message ?? failure?.error}`;
      const isOfHere = failure !== undefined && error.message.includes(text);
      if (isOfHere && !text.includes('\n    at ')) throw failure.error;
      throw this.original(error) ?? rebuilt(error);
    }
    return jsonToConvex(value);
  }

  /** The error that was thrown here, where an answer is about that. */
  original({ message }) {
    const { lastThrown } = this;
    const missing = /Could not find function for '([^':]+)/.exec(message)?.[1];
    for (const { broken } of this.parts.values()) {
      if (!broken.has(missing)) continue;
      return new Error(`${missing} ("use node") runs in the process of this test, and cannot be `
        + `loaded there. ${broken.get(missing).message}`);
    }
    return lastThrown !== undefined && message === lastThrown.message ? lastThrown : undefined;
  }

  /** Runs a closure as a query or mutation: a call of the module that hands it back to us. */
  async runInline(kind, handler, args, who) {
    inlines += 1;
    const token = `${inlines}`;
    const make = kind === 'query' ? queryGeneric : mutationGeneric;
    const made = make({ handler: (ctx) => handler(ctx, args) });
    const invoke = kind === 'query' ? 'invokeQuery' : 'invokeMutation';
    this.inline.set(token, () => made[invoke]('[{}]'));
    try {
      return await this.call(kind, { name: INLINE[kind] }, { token }, who);
    } catch (error) {
      if (!this.thrown.has(token)) throw error;
      throw this.thrown.get(token);
    } finally {
      this.inline.delete(token);
      this.thrown.delete(token);
    }
  }

  async runAction(handler, args, who) {
    await this.open();
    const made = actionGeneric({ handler: (ctx) => handler(ctx, args) });
    const text = await realm.inAction(this, { component: '', identity: null, ...who },
      (end) => made.invokeAction('inline', '[{}]').finally(end));
    return jsonToConvex(JSON.parse(text));
  }

  /** `ctx` of `t.run`: a mutation's, with an action's storage. */
  async runWithStorage(handler, who) {
    return this.runInline('mutation', async (ctx) => {
      let storage;
      await actionGeneric({ handler: (action) => { ({ storage } = action); } })
        .invokeAction('inline', '[{}]');
      return handler({ ...ctx, storage });
    }, {}, who);
  }

  async fetch(path, init, who) {
    if (!path.startsWith('/')) throw new Error('Path given to `t.fetch` must start with a `/`');
    const url = new URL(`https://some.convex.site${path}`);
    const router = (await this.parts.get('').load('http')).default;
    const found = router.lookup(url.pathname, init?.method ?? 'GET');
    if (!found) return new Response(`No HttpAction routed for ${url.pathname}`, { status: 404 });
    await this.open();
    const [action] = found;
    return realm.inAction(this, { component: '', identity: null, ...who }, async (end) => {
      const answer = await action.invokeHttpAction(new Request(url, init));
      if (!BODILESS.includes(answer?.status)) return realm.followed(answer, end);
      const { status, statusText, headers } = answer;
      return realm.followed(new Response(null, { status, statusText, headers }), end);
    });
  }

  async finishInProgress() {
    while (this.running.size > 0) {
      if (this.time.isHeld) await this.time.goOn();
      else await Promise.all([...this.running.values()].map(({ over }) => over));
    }
  }

  async finishAll(advanceTimers, maxIterations = 100) {
    let idle = 0;
    for (let round = 0; round < maxIterations; round++) {
      advanceTimers();
      if (this.running.size > 0) {
        idle = 0;
        // What runs may schedule more: time goes on meanwhile.
        let isOver = false;
        const over = this.finishInProgress().finally(() => { isOver = true; });
        while (!isOver) {
          await Promise.race([over, realm.pause()]);
          if (this.isQuiet()) advanceTimers();
        }
        await over;
      } else if (this.jobs.size === 0 || idle >= 20) {
        return;
      } else {
        idle += 1;
        await realm.pause();
      }
    }
    throw new Error('finishAllScheduledFunctions: too many iterations. Check for infinitely '
      + 'recursive scheduled functions, or increase maxIterations.');
  }
}

const addressOf = (reference) => getFunctionAddress(reference);

/** Whether it is a closure of the test's, and names no function. */
const isInline = (target) => typeof target === 'function' && kindOf(target) === undefined
  && target[Symbol.for('functionName')] === undefined;

/** What a caller with an identity may do. */
const accessor = (world, identity) => {
  const who = { identity };
  const runner = (kind) => async (target, args) => (isInline(target)
    ? kind === 'action' ? world.runAction(target, args ?? {}, who)
      : world.runInline(kind, target, args ?? {}, who)
    : world.call(kind, addressOf(target), convexToJson(args ?? {}), who));
  return {
    query: runner('query'),
    mutation: runner('mutation'),
    action: runner('action'),
    /** Runs functions side by side in every order of their transactions. */
    async explore(functions, options) {
      await world.open();
      return realm.explore(world, functions, options);
    },
    async advance(duration) {
      await world.open();
      return world.time.advance(duration);
    },
    async watch(target, args) {
      if (isInline(target)) {
        throw new TypeError('t.watch takes a query of a module and its arguments: '
          + 't.watch(api.tasks.list, {}). An inline function cannot be watched.');
      }
      return world.watch(target, args, who);
    },
    onFetch: (pattern, handler) => world.onFetch(pattern, handler),
    fun: (target, args) => world.call('any', addressOf(target), convexToJson(args ?? {}), who),
    run: (handler) => world.runWithStorage(handler, who),
    runInComponent: (component, handler) => world.runWithStorage(handler, { ...who, component }),
    fetch: (path, init) => world.fetch(path, init, who),
    finishInProgressScheduledFunctions: () => world.finishInProgress(),
    finishAllScheduledFunctions: (advance, most) => world.finishAll(advance, most),
    withIdentity(given) {
      const subject = given.subject ?? `${hash(JSON.stringify(given))}`;
      const issuer = given.issuer ?? 'https://convex.test';
      const tokenIdentifier = given.tokenIdentifier ?? `${issuer}|${subject}`;
      return accessor(world, { ...given, subject, issuer, tokenIdentifier });
    },
    withRequestMetadata(given) {
      const named = Object.keys(given ?? {}).filter((name) => given[name] !== undefined);
      if (named.length === 0) return accessor(world, identity);
      throw new Error(`t.withRequestMetadata: the engine gives functions no ${named.join(' and ')} `
        + 'of a request yet, in tests as over HTTP: they are null.');
    },
    registerComponent: (...component) => world.registerComponent(...component),
  };
};

/** A number that depends on a text. */
const hash = (text) => {
  let value = 0;
  for (const character of text) value = (value * 31 + character.codePointAt(0)) >>> 0;
  return value;
};

/** Opens a database with a schema and the functions of modules. */
export const convexTest = (schemaOrOptions, modules) => {
  const isSchema = typeof schemaOrOptions?.tables === 'object';
  const options = schemaOrOptions === undefined || isSchema
    ? { schema: schemaOrOptions, modules } : schemaOrOptions;
  return accessor(new World(options), null);
};

export default convexTest;
