// Time as tests move it: what is under way, and the timers of actions.
//
// In: questions to the host, functions that it hands back, timers that actions set. Out: `settled`,
// for which vitest's asynchronous fake timers wait before each timer; `timersOf`, for `t.advance`.
// Invariant: no fake clock moves on while anything is under way that waits for no timer.
const { clearInterval, clearTimeout, setInterval, setTimeout } = globalThis;
const soon = globalThis.setImmediate ?? ((work) => setTimeout(work, 0));

/** Turns without news after which nothing comes any more that needs no time. */
const QUIET_TURNS = 3;

/** Of each request: how much of it waits for an answer, how many functions of it run here. */
const requests = new Map();
let wake;
let news;
let isUsed = false;

const count = (request, change) => {
  const now = requests.get(request) ?? { asked: 0, here: 0 };
  change(now);
  if (now.asked === 0 && now.here === 0) requests.delete(request);
  else requests.set(request, now);
  wake?.();
};

/** Counts one more of a request; gives what takes it away again, once. */
const one = (request, kind) => {
  let isOver = false;
  count(request, (now) => { now[kind] += 1; });
  return () => {
    if (!isOver) count(request, (now) => { now[kind] -= 1; });
    isOver = true;
  };
};

/** Notes that something of a request is under way; gives what says that it is over. */
export const begin = (request = '') => {
  isUsed = true;
  return one(request, 'asked');
};

/** Does `work`, which is under way until it has ended. */
export const underWay = async (request, work) => {
  const over = begin(request);
  try {
    return await work();
  } finally {
    over();
  }
};

/** The host has handed back a function of a request: until it ends here, one that asked waits. */
export const handed = (request) => one(request, 'here');

/** Whether an answer is to come. A function that runs here and asks for nothing waits for time. */
const isBusy = () => [...requests.values()].some(({ asked, here }) => asked > here);

/** Lets everything else have its turn. */
let turn = () => new Promise((resolve) => { soon(resolve); });

/** Has turns be what `next` gives, where a timer of the machine would take too long. */
export const turnBy = (next) => { turn = next; };

/** Waits until all that is under way is over, or waits for a timer. */
export const settled = async () => {
  let quiet = 0;
  do {
    await turn();
    quiet += 1;
    while (isBusy()) {
      quiet = 0;
      news ??= new Promise((resolve) => {
        wake = () => { [news, wake] = []; resolve(); };
      });
      await news;
    }
    // Tests without Convex have the turns that vitest gives them.
  } while (isUsed && quiet < QUIET_TURNS);
};

/** What vitest's fake timers call before each timer, whichever of us is there by then. */
const SETTLED = Symbol.for('concave.settled');

/** Has vitest's asynchronous fake timers wait for what is under way. */
export const slowDown = (vi) => {
  globalThis[SETTLED] = settled;
  const before = Object.getOwnPropertyDescriptor(globalThis, 'setImmediate');
  Object.defineProperty(globalThis, 'setImmediate', {
    value: (work) => { globalThis[SETTLED]().then(work); }, configurable: true, writable: true,
  });
  // They are made at their first use, and take for their pauses what is there then.
  vi.isFakeTimers();
  if (before === undefined) delete globalThis.setImmediate;
  else Object.defineProperty(globalThis, 'setImmediate', before);
};

/** Timers of actions that have not gone off, by what stands for each. */
const timers = new Map();

/** A timer of an action. The machine's clock has it go off, or before that `t.advance`. */
class Timer {
  constructor(action, work, ms, repeats) {
    Object.assign(this, { action, ms: Math.max(0, Number(ms)) || 0, repeats });
    this.work = AsyncLocalStorage.bind(work);
    this.id = this.start();
    timers.set(this.id, this);
  }

  start() {
    this.due = Date.now() + this.ms;
    this.machine = setTimeout(() => this.goOff(), this.ms);
    this.hold();
    return this.machine;
  }

  /** Leaves it to `t.advance` alone, where the clock stands for its action. */
  hold() {
    if (this.action.isClockHeld) clearTimeout(this.machine);
  }

  goOff() {
    this.stop();
    if (this.repeats) this.start();
    else timers.delete(this.id);
    this.work();
  }

  /** Has it go off now, as if the machine's clock had come so far. */
  hasten() {
    if (timers.get(this.id) !== this) return;
    this.stop();
    this.due = Infinity;
    this.over = begin();
    this.machine = setTimeout(() => this.goOff(), 0);
  }

  stop() {
    clearTimeout(this.machine);
    this.over?.();
    this.over = undefined;
  }
}

/** The timers of a world's actions. */
export const timersOf = (world) => [...timers.values()]
  .filter(({ action }) => action.world === world);

/** Takes the timers that actions set; `action` gives the one that runs. */
export const takeTimers = (action) => {
  const setting = (set, repeats) => (work, ms, ...given) => {
    const owner = action();
    if (owner === undefined || typeof work !== 'function') return set(work, ms, ...given);
    return new Timer(owner, () => work(...given), ms, repeats).id;
  };
  const clearing = (clear) => (id) => {
    timers.get(id)?.stop();
    timers.delete(id);
    clear(id);
  };
  const own = {
    setTimeout: setting(setTimeout, false), setInterval: setting(setInterval, true),
    clearTimeout: clearing(clearTimeout), clearInterval: clearing(clearInterval),
  };
  for (const [name, take] of Object.entries(own)) {
    const { value } = Object.getOwnPropertyDescriptor(globalThis, name) ?? {};
    // What Node has on them, like the way to a promise.
    Object.defineProperties(take, Object.getOwnPropertyDescriptors(value ?? {}));
    globalThis[name] = take;
  }
};
