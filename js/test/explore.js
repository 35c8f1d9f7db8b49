// Every order of the transactions that concurrent functions can interleave in.
//
// In: a world, functions that run side by side, an invariant. Out: how many orders there were and
// whether those are all, which functions threw in some, or an error that tells the shortest order
// that breaks the invariant. Invariant: each order begins with
// a fork of the same data, and between two choices every function waits at its next transaction or
// has ended. Transactions that one function has under way at once (`Promise.all`) take turns in the
// order in which it asked for them: then those are not all orders, and `complete` is false.
import { ask, current, pause, worlds } from './realm.js';

// A test may have replaced it.
const { clearTimeout } = globalThis;

/** Which of the functions runs now. */
const threads = new AsyncLocalStorage();

/** Milliseconds without progress after which whoever does not wait is taken to wait for time. */
const PATIENCE_MS = 1_000;

/** Orders after which a search fails that nobody has bounded. */
const DEFAULT_MOST = 5_000;

/** Transactions of one order after which it is taken to have no end. */
const MOST_TRANSACTIONS = 1_000;

/** What ends a function whose order is not run to its end. */
const GIVEN_UP = 'explore: this order is not run to its end; another one shows the same.';

/** The footprint of what was not measured: it meets everything. */
const UNKNOWN = { isAlone: true, reads: [], writes: [], inserts: [] };

/** An order that goes on and on. */
class Endless extends Error {
  constructor({ trace, names }) {
    const recent = trace.slice(-10).map(({ thread, label }) => `${names[thread]} ${label}`);
    const last = [...new Set(recent)].slice(-3);
    super(`t.explore: one order has run ${MOST_TRANSACTIONS} transactions and does not end; the `
      + `last ones: ${last.join(', ')}. While orders are explored time does not pass: a function `
      + 'that schedules itself again runs again, however much later that would be. Have it stop in '
      + 'this test, as by an argument that counts down.');
  }
}

/** One run of all functions, in one order. */
class Run {
  constructor(choose, step) {
    // Of each thread those that wait, the first of them next, and those that have a turn.
    Object.assign(this, { choose, step, waiting: new Map(), busy: new Set(), live: new Set() });
    Object.assign(this, { trace: [], names: [] });
    Object.assign(this, { requests: new Map(), made: new Map() });
    // What functions threw, by thread.
    this.thrown = new Map();
    // Whether a function had several transactions under way at once.
    this.hasSiblings = false;
  }

  /** Notes that a request is made by the thread that runs now; names it as every order does. */
  enter(request) {
    const thread = threads.getStore();
    this.requests.set(request, thread);
    const made = (this.made.get(thread) ?? 0) + 1;
    this.made.set(thread, made);
    return `${thread} ${made}`;
  }

  /** Runs `work` as part of the thread that made the request. */
  within(request, work) { return threads.run(this.requests.get(request), work); }

  /** Waits until somebody waits or ends; false when nobody does for long. */
  async progress() {
    let timer;
    const late = pause(PATIENCE_MS, (id) => { timer = id; }).then(() => false);
    const news = new Promise((resolve) => { this.wake = () => resolve(true); });
    const isNews = await Promise.race([news, late]);
    clearTimeout(timer);
    return isNews;
  }

  /** Starts a function as a thread; what it throws is part of its story. */
  start(name, work) {
    const thread = this.names.push(name) - 1;
    this.live.add(thread);
    threads.run(thread, async () => {
      try {
        await work();
      } catch (error) {
        // An expectation that fails is no outcome of a function.
        if (error?.name === 'AssertionError') this.violated ??= error;
        else if (!`${error?.message}`.includes(GIVEN_UP)) this.thrown.set(thread, error);
        this.trace.push({ thread, label: `throws ${error?.message ?? error}`, isNews: true });
      } finally {
        this.live.delete(thread);
        this.wake?.();
      }
    });
  }

  /** Waits for its turn, then does `work`; outside of the threads there is none to wait for. */
  async gate(label, work) {
    const thread = threads.getStore();
    if (thread === undefined || !this.live.has(thread)) return work();
    if (this.isGivenUp) throw new Error(GIVEN_UP);
    await new Promise((go, end) => {
      const others = this.waiting.get(thread) ?? [];
      this.hasSiblings ||= others.length > 0 || this.busy.has(thread);
      this.waiting.set(thread, [...others, { thread, label, go, end }]);
      this.wake?.();
    });
    try {
      return await work();
    } finally {
      this.busy.delete(thread);
      this.wake?.();
    }
  }

  /** Whether every function waits for its next turn, or has ended. */
  isSettled() {
    return [...this.live].every((thread) => this.waiting.has(thread) && !this.busy.has(thread));
  }

  /** Lets one have its turn. */
  admit(step) {
    const [, ...others] = this.waiting.get(step.thread);
    if (others.length > 0) this.waiting.set(step.thread, others);
    else this.waiting.delete(step.thread);
    this.trace.push(step);
    // It is under way until its transaction is over, and its thread waits again or ends.
    this.busy.add(step.thread);
    step.go();
  }

  /** Ends every thread at its next transaction: another order has shown what this one would. */
  giveUp() {
    this.isGivenUp = true;
    for (const { end } of [...this.waiting.values()].flat()) end(new Error(GIVEN_UP));
    this.waiting.clear();
  }

  /** Lets one transaction after another through until everything has ended. */
  async toEnd(always) {
    let footprint;
    for (let count = 0; ; count++) {
      while (!this.isSettled() && await this.progress()) { /* more waits */ }
      if (count > 0 && !this.isGivenUp) {
        footprint = await this.step();
        footprint.isWatched ||= always !== undefined;
        // What is checked here is no part of any order.
        if (footprint.writes.length > 0 && await always?.() === false) {
          throw new Error('What must always hold does not.');
        }
        await this.step();
      }
      if (this.live.size === 0) return;
      if (this.waiting.size === 0) {
        throw new Error('explore: a function waits for something that is neither a transaction nor '
          + 'settled. Timers do not pass while orders are explored; script fetch with t.onFetch.');
      }
      const enabled = [...this.waiting.values()].map(([first]) => first)
        .sort((a, b) => a.thread - b.thread);
      if (count >= MOST_TRANSACTIONS) throw new Endless(this);
      const step = this.choose(enabled, footprint);
      if (step === undefined) {
        this.giveUp();
        continue;
      }
      this.admit(step);
    }
  }
}

/** Whether a footprint writes what another has read. */
const isRead = ({ writes }, { reads }) => writes.some(([index, key]) => reads.some(
  ([of, start, end]) => of === index && start <= key && (end === null || key < end)));

const isWritten = ({ writes }, other) => writes.some(([index, key]) => other.writes.some(
  ([of, written]) => of === index && written === key));

/** Whether two steps have the same outcome in both orders. */
const areIndependent = (a, b) => !a.isAlone && !b.isAlone && !isRead(a, b) && !isRead(b, a)
  && !isWritten(a, b) && !a.inserts.some((table) => b.inserts.includes(table))
  // What must always hold looks at the data between the two.
  && !(a.isWatched && a.writes.length > 0 && b.writes.length > 0);

/** A depth-first walk over orders. What only swaps independent steps is one order (sleep sets). */
class Walk {
  constructor() { this.nodes = []; }

  /** How the next run chooses. */
  chooser() {
    let depth = 0;
    let last;
    this.isRepetition = false;
    return (enabled, footprint) => {
      const parent = this.nodes[depth - 1];
      // By the step that was just taken from there.
      parent?.footprints.set(parent.chosen, footprint);
      const node = this.nodes[depth] ?? this.grow(parent, enabled, last);
      if (this.isRepetition) return undefined;
      depth += 1;
      const chosen = enabled.find(({ thread }) => thread === node.chosen) ?? enabled[0];
      last = chosen.thread;
      return chosen;
    };
  }

  grow(parent, enabled, last) {
    const sleep = new Map();
    if (parent !== undefined) {
      const taken = parent.footprints.get(parent.chosen);
      for (const [thread, footprint] of [...parent.sleep, ...parent.tried]) {
        if (areIndependent(footprint, taken)) sleep.set(thread, footprint);
      }
    }
    const awake = enabled.filter(({ thread }) => !sleep.has(thread));
    // Whatever comes now was run in another order that comes to the same.
    this.isRepetition = awake.length === 0;
    if (this.isRepetition) return undefined;
    // Few switches first: such orders are the easiest to read.
    const next = awake.find(({ thread }) => thread === last) ?? awake[0];
    const node = {
      enabled, sleep, tried: new Map(), footprints: new Map(), chosen: next.thread,
    };
    this.nodes.push(node);
    return node;
  }

  /** Moves on to the next order; false when there is none. */
  next() {
    while (this.nodes.length > 0) {
      const node = this.nodes.at(-1);
      node.tried.set(node.chosen, node.footprints.get(node.chosen) ?? UNKNOWN);
      const free = ({ thread }) => !node.tried.has(thread) && !node.sleep.has(thread);
      const other = node.enabled.find(free);
      if (other !== undefined) {
        node.chosen = other.thread;
        return true;
      }
      this.nodes.pop();
    }
    return false;
  }
}

/** Follows the order that an earlier failure told. */
const replayer = (text) => {
  const order = String(text).split(/\s+/).filter(Boolean).map(Number);
  if (!order.every(Number.isInteger)) {
    throw new TypeError(`t.explore: replay must be the line that a failure has told, like "0 1 0", `
      + `not ${JSON.stringify(text)}.`);
  }
  return (enabled) => {
    const wanted = order.shift();
    return enabled.find(({ thread }) => thread === wanted) ?? enabled[0];
  };
};

const steps = (trace) => trace.filter(({ isNews }) => !isNews);
const switches = (trace) => steps(trace)
  .filter(({ thread }, at, all) => at > 0 && all[at - 1].thread !== thread).length;

const story = ({ trace, names }, error, ran) => {
  const lines = trace.map(({ thread, label }, at) => `  ${at + 1}. ${names[thread]}: ${label}`);
  const order = steps(trace).map(({ thread }) => thread).join(' ');
  return `${error?.message ?? error}\n\nThis order of transactions leads to it (the shortest of `
    + `${ran}):\n\n${lines.join('\n')}\n\nAgain, only this one: `
    + `t.explore([…], { invariant, replay: ${JSON.stringify(order)} })`;
};

/** What the story calls each function: where several have one name, each has a number too. */
const namesOf = (functions) => functions.map(({ name }, at) => {
  const isOnly = functions.filter((other) => other.name === name).length === 1;
  return isOnly && name !== '' ? name : `${name} #${at + 1}`.trim();
});

/** Runs the functions once on a fork; gives what broke the invariant, if anything. */
const once = async (world, base, { functions, invariant, always, choose }) => {
  const { id } = await ask('fork', { world: base, now: Date.now() });
  worlds.set(id, world);
  const run = new Run(choose, () => ask('step', { world: id, now: Date.now() }));
  Object.assign(world, { id, exploring: run, jobs: new Map() });
  let error;
  try {
    const names = namesOf(functions);
    functions.forEach((work, at) => run.start(names[at], work));
    await run.toEnd(always);
    world.exploring = undefined;
    if (run.violated !== undefined) throw run.violated;
    if (!run.isGivenUp && await invariant?.() === false) {
      error = new Error('The invariant does not hold.');
    }
  } catch (thrown) {
    error = thrown ?? new Error('The invariant threw.');
  } finally {
    world.exploring = undefined;
    run.giveUp();
    worlds.delete(id);
    await ask('forget', { world: id, now: Date.now() });
  }
  return { ...run, error };
};

/** What becomes of each function, over all orders. */
class Outcomes {
  constructor() { this.failures = new Map(); }

  add({ names, thrown }, count) {
    for (const [thread, error] of thrown) {
      if (thread >= count) continue;
      const { orders = 0, first = error } = this.failures.get(thread) ?? {};
      this.failures.set(thread, { name: names[thread], orders: orders + 1, first });
    }
  }

  /** For the result: who threw in some of the orders, in how many, and what. */
  told() {
    return [...this.failures.values()].map(({ name, orders, first }) => (
      { name, orders, message: `${first?.message ?? first}` }));
  }

  /** Throws where a function never did what it is there for. */
  check(all) {
    const never = [...this.failures.values()].find(({ orders }) => orders === all);
    if (never === undefined) return;
    const { name, first } = never;
    const when = all === 1 ? 'the only order' : `each of the ${all} orders`;
    throw Object.assign(new Error(`${first?.message ?? first}\n\n${name} throws this in ${when} `
      + 'that t.explore ran, so nothing of it was explored. If it should throw, catch that in the '
      + 'function: () => t.mutation(…).catch(() => {}).'), { cause: first });
  }
}

/** What a search takes. */
const checked = (functions, given) => {
  const areFunctions = Array.isArray(functions) && functions.length > 0
    && functions.every((one) => typeof one === 'function');
  if (!areFunctions) {
    throw new TypeError('t.explore takes an array of functions, which it calls once for each '
      + 'order: [() => t.mutation(…), () => t.action(…)].');
  }
  const { invariant, always, replay, most, ...others } = given;
  const [unknown] = Object.keys(others);
  const [wrong] = Object.entries({ invariant, always })
    .find(([, check]) => check !== undefined && typeof check !== 'function') ?? [unknown];
  if (wrong !== undefined || !(most === undefined || most >= 1)) {
    throw new TypeError(`t.explore: ${wrong ?? 'most'} is none of its options, or not what it `
      + 'takes: { invariant: () => …, always: () => …, most: 20_000, replay: "0 1 0" }.');
  }
};

/** Runs one order after another; gives what was found, and the worst order. */
const search = async (world, functions, { invariant, always, replay, most = DEFAULT_MOST }) => {
  const { id: base, jobs } = world;
  const [walk, outcomes] = [new Walk(), new Outcomes()];
  const found = {
    orders: 0, isComplete: false, hasSiblings: false, outcomes, worst: undefined,
  };
  try {
    do {
      const choose = replay === undefined ? walk.chooser() : replayer(replay);
      const run = await once(world, base, { functions, invariant, always, choose });
      if (run.error instanceof Endless) throw run.error;
      if (walk.isRepetition) continue;
      // That there is another one is known only now.
      if (found.orders >= most) return found;
      found.orders += 1;
      outcomes.add(run, functions.length);
      found.hasSiblings ||= run.hasSiblings;
      const isShorter = found.worst === undefined
        || switches(run.trace) < switches(found.worst.trace);
      if (run.error !== undefined && isShorter) found.worst = run;
      if (replay !== undefined) return found;
    } while (walk.next());
    found.isComplete = true;
    return found;
  } finally {
    Object.assign(world, { id: base, jobs });
  }
};

/** Tells that there are more orders than were run: a search that nobody has bounded fails. */
const unfinished = (orders, most) => {
  if (most === undefined) {
    throw new Error(`t.explore ran ${orders} orders, and there are more: none of these breaks what `
      + 'must hold, but not every order was run. Explore fewer functions, or fewer transactions of '
      + 'them; or say in its options how many to run: { most: 20_000 }, { most: Infinity } for all '
      + `of them, or { most: ${orders} } if these will do.`);
  }
  globalThis.console.warn(`t.explore ran ${orders} orders, as \`most\` says, and there are more: `
    + 'its result is { complete: false }.');
};

/**
 * Runs `functions` in every order that their transactions can have, as far as it can make a
 * difference; throws the shortest story in which `invariant`, at the end, or `always`, after each
 * transaction that writes, throws or gives false.
 */
export const explore = (world, functions, options = {}) => current.exit(async () => {
  checked(functions, options);
  const { most, replay } = options;
  const isReplay = replay !== undefined;
  const found = await search(world, functions, options);
  const { orders, isComplete, hasSiblings, outcomes, worst } = found;
  if (worst !== undefined) {
    const more = isComplete || isReplay ? '' : '; there are more';
    const told = story(worst, worst.error, `${orders} that were run${more}`);
    throw Object.assign(new Error(told), { cause: worst.error });
  }
  if (!isReplay) outcomes.check(orders);
  if (!isComplete && !isReplay) unfinished(orders, most);
  return { orders, complete: isComplete && !hasSiblings, failed: outcomes.told() };
});
