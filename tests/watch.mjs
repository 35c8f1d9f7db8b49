// Watches what real clients are told, and waits for it.
//
// In: clients of npm `convex`. Out: everything that their callbacks were given, in order.
// Invariant: a wait ends when its condition holds; one that never does says what was waited for.
import { inspect } from "node:util";

/** How long a wait may take before the test is given up: not a figure that anything must meet. */
const PATIENCE_MS = 60_000;

/** Waits until `condition` gives something true, and gives that. */
export async function until(condition, what = condition) {
  for (const since = Date.now(); ; ) {
    const found = condition();
    if (found) return found;
    if (Date.now() - since > PATIENCE_MS) {
      throw new Error(`waited in vain: ${typeof what === "function" ? what() : what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}

/** Subscribes to a query; `seen` and `errors` grow with each delivery. */
export function watch(client, query, args) {
  const watched = { seen: [], errors: [] };
  const onError = (error) => watched.errors.push(error);
  watched.stop = client.onUpdate(query, args, (value) => watched.seen.push(value), onError);
  watched.last = () => watched.seen.at(-1);
  /** Waits until the newest value is this one. */
  watched.shows = (value) => {
    const wanted = inspect(value);
    const now = () => inspect(watched.last());
    return until(() => now() === wanted, () => `${wanted} for ${now()}`);
  };
  return watched;
}

/** Lets a client that was cut off come back at once instead of after its back-off. */
export function hurry(base) {
  const sockets = base.webSocketManager;
  const timer = setInterval(() => {
    if (sockets.socketState() === "disconnected") sockets.tryReconnectImmediately();
    if (sockets.socketState() === "terminated") clearInterval(timer);
  }, 10);
  timer.unref();
}
