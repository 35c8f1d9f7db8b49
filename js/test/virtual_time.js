// `t.advance`: the clock of a test, moved to where something becomes due.
//
// In: a world, vitest's clock, the timers of actions. Out: time that has passed. Invariant: what is
// due runs at its time, one after another; what waits for a later time is in progress at the end.
import { JSON, ask, pause } from './realm.js';
import { settled, timersOf } from './timers.js';

const UNITS = {
  ms: 1, s: 1000, second: 1000, m: 60_000, min: 60_000, minute: 60_000, h: 3_600_000,
  hour: 3_600_000, d: 86_400_000, day: 86_400_000, w: 604_800_000, week: 604_800_000,
};

/** `"30 days"`, `"1.5h"`, or a number of milliseconds. */
const milliseconds = (duration) => {
  const [, number, unit = ''] = typeof duration === 'number' ? [duration, duration, 'ms']
    : /^\s*([\d.]+)\s*([a-z]+)\s*$/.exec(duration) ?? [];
  const time = Number(number) * (UNITS[unit] ?? UNITS[unit.replace(/s$/, '')]);
  if (!(time >= 0 && time < Infinity)) {
    throw new TypeError(`t.advance(${JSON.stringify(duration) ?? duration}): write "30 days", `
      + '"1.5 hours", "10 s", or a number of milliseconds; time does not go back.');
  }
  return time;
};

/** The time of a world. Until the first `advance` it is that of whatever clock there is. */
export class VirtualTime {
  /** Whether it stands where `advance` has left it. */
  isStanding = false;

  constructor(world, { vi, onTestFinished }) { Object.assign(this, { world, vi, onTestFinished }); }

  /** Whether it stands and no fake timers of the test move it. */
  get isHeld() { return this.isStanding && !this.vi.isFakeTimers(); }

  /** Whether only `advance` has timers of a request go off: those of what was scheduled. */
  isHeldFor(request) {
    const { running, exploring } = this.world;
    return this.isHeld && exploring === undefined
      && [...running.values()].some((run) => run.request === request);
  }

  /** Lets time pass: what becomes due goes on, each at its time. */
  async advance(duration) {
    const target = Date.now() + milliseconds(duration);
    const wrong = [];
    this.stand();
    for (;;) {
      await this.rest();
      const next = await this.next();
      if (next === undefined || next.due > target) break;
      await this.set(Math.max(next.due, Date.now()));
      next.begin()?.catch((error) => wrong.push(error));
    }
    await this.set(target);
    await this.rest();
    if (wrong.length > 0) throw wrong[0];
  }

  /** Moves on to the next timer, whenever that is. */
  async goOn() {
    await this.rest();
    const timer = this.nextTimer();
    if (timer === undefined) return;
    await this.set(Math.max(timer.due, Date.now()));
    timer.hasten();
  }

  /** From now on the clock stands where it was left; the next test has its own. */
  stand() {
    const { vi, world } = this;
    if (!this.isStanding && !vi.isFakeTimers()) {
      vi.setSystemTime(Date.now());
      this.onTestFinished(() => { vi.useRealTimers(); });
    }
    this.isStanding = true;
    for (const { timer, isFake } of world.jobs.values()) if (!isFake) clearTimeout(timer);
    timersOf(world).forEach((timer) => timer.hold());
  }

  async set(time) {
    const { vi } = this;
    if (vi.isFakeTimers()) await vi.advanceTimersByTimeAsync(Math.max(0, time - Date.now()));
    else vi.setSystemTime(time);
  }

  /** What comes next, when, and what has it begin: a job, a cron job, a timer of an action. */
  async next() {
    const { world } = this;
    const skip = [...world.running.keys()];
    const job = await ask('due', { world: world.id, now: Date.now(), skip });
    const timer = this.nextTimer();
    if (timer !== undefined && !(job?.due <= timer.due)) {
      return { due: timer.due, begin: () => timer.hasten() };
    }
    return job === null ? undefined
      : { due: job.due, begin: () => world.fire(job.id, job.kind === 'cron') };
  }

  nextTimer() { return timersOf(this.world).sort((a, b) => a.due - b.due)[0]; }

  /** Waits until what was scheduled and runs has ended, or waits for a time that is to come. */
  async rest() {
    for (;;) {
      await settled();
      if (this.world.fetching === 0 && this.isAsleep()) return;
      await pause();
    }
  }

  isAsleep() {
    const { vi, world } = this;
    const jobs = [...world.jobs.values()].filter(({ isFake }) => isFake).length;
    // Whose the others are is not known.
    if (vi.isFakeTimers() && vi.getTimerCount() > jobs) return true;
    const asleep = new Set(timersOf(world).map(({ action }) => action.request));
    return [...world.running.values()].every(({ request }) => asleep.has(request));
  }
}
