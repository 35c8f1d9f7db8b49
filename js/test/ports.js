// `MessageChannel` and `MessagePort`, which Node has and vitest's fake timers use.
//
// In: messages, cloned as `structuredClone` does. Out: `message` events at the other port, each in
// a turn of its own. Invariant: messages arrive in their order, and none before its port started or
// after one of the two was closed.
const { Event, EventTarget, setTimeout, structuredClone } = globalThis;

/** What a port delivers. */
class Message extends Event {
  constructor(data) {
    super('message');
    Object.defineProperty(this, 'data', { value: data, enumerable: true });
  }
}

/** Whether somebody has called the constructor of ports. */
const OURS = Symbol('ours');

class MessagePort extends EventTarget {
  #other;
  #handler = null;
  #waiting = [];
  #isStarted = false;
  #isClosed = false;

  constructor(ours) {
    super();
    if (ours !== OURS) throw new TypeError('Illegal constructor: new MessageChannel() has ports.');
    this.addEventListener('message', (event) => this.#handler?.call(this, event));
  }

  /** Two ports that lead to each other. */
  static pair(ours) {
    const ports = [new MessagePort(ours), new MessagePort(ours)];
    [ports[0].#other, ports[1].#other] = [ports[1], ports[0]];
    return ports;
  }

  get onmessage() { return this.#handler; }

  set onmessage(handler) {
    this.#handler = typeof handler === 'function' ? handler : null;
    this.start();
  }

  postMessage(message, options) {
    const transfer = Array.isArray(options) ? options : options?.transfer ?? [];
    const data = structuredClone(message, { transfer });
    if (this.#isClosed || this.#other.#isClosed) return;
    this.#other.#waiting.push(data);
    this.#other.#deliver();
  }

  start() {
    if (this.#isStarted) return;
    this.#isStarted = true;
    this.#waiting.forEach(() => this.#deliver());
  }

  close() {
    this.#isClosed = true;
    this.#other.#isClosed = true;
  }

  #deliver() {
    if (!this.#isStarted) return;
    setTimeout(() => {
      if (!this.#isClosed) this.dispatchEvent(new Message(this.#waiting.shift()));
    }, 0);
  }
}

class MessageChannel {
  constructor() {
    const [port1, port2] = MessagePort.pair(OURS);
    Object.assign(this, { port1, port2 });
  }
}

for (const [name, value] of Object.entries({ MessageChannel, MessagePort })) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}
