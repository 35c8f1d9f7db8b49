// A client of the Chrome DevTools Protocol, and `concave replay --inspect` that it connects to.
//
// In: an address. Out: answers, and every event in order. Invariant: a wait ends when its message
// comes; one that never does says what was waited for.
import { spawn } from "node:child_process";
import { WebSocket } from "ws";
import { CONCAVE } from "./host.mjs";
import { until } from "./watch.mjs";

/** A command that goes on until it has what it waits for. */
export class Command {
  output = "";

  constructor(args, options) {
    this.child = spawn(CONCAVE, args, options);
    process.on("exit", () => this.child.kill("SIGKILL"));
    const add = (text) => (this.output += text);
    this.child.stdout.setEncoding("utf8").on("data", add);
    this.child.stderr.setEncoding("utf8").on("data", add);
    this.ended = new Promise((resolve) => this.child.on("close", resolve));
  }

  /** Waits until the output matches. */
  says(pattern) {
    return until(() => this.output.match(pattern), () => `${pattern} in ${this.output}`);
  }
}

/** A debugger. */
export class Debugger {
  heard = [];
  #asked = 0;

  static async at(address) {
    const client = new Debugger();
    client.socket = new WebSocket(address);
    client.socket.on("message", (text) => client.heard.push(JSON.parse(text)));
    await new Promise((resolve, reject) => {
      client.socket.on("open", resolve).on("error", reject);
    });
    return client;
  }

  /** Waits for a message, among those after the first so many. */
  hears(wanted, after = 0) {
    const found = () => this.heard.slice(after).find(wanted);
    return until(found, () => `${wanted} among ${JSON.stringify(this.heard).slice(0, 2000)}`);
  }

  /** Asks, and waits for the answer. */
  async ask(method, params = {}) {
    const id = ++this.#asked;
    this.socket.send(JSON.stringify({ id, method, params }));
    return this.hears((message) => message.id === id);
  }

  /** Waits until it is stopped somewhere, after the first so many messages; the innermost frame. */
  async stops(after = 0) {
    const { params } = await this.hears(({ method }) => method === "Debugger.paused", after);
    return params.callFrames[0];
  }

  /** What an expression gives in a frame. */
  async evaluates({ callFrameId }, expression) {
    const { result } = await this.ask("Debugger.evaluateOnCallFrame", { callFrameId, expression });
    return result.result.value ?? result;
  }
}
