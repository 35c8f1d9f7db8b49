// A TCP proxy on loopback that cuts connections when it is told to.
//
// In: a host's address. Out: an address of its own that stays, whatever happens behind it.
// Invariant: a link that is cut is reset on both sides, or closed where it was ending, and what was
// held back never arrives.
import { connect, createServer } from "node:net";

export class Proxy {
  /** Where to go on to; may be changed while it runs. */
  target;
  /** Called for each new link. */
  onLink = () => {};
  /** Asked for each piece of bytes before it goes on, as "up" or "down": false cuts the link. */
  passes = () => true;
  links = new Set();

  static async to(url) {
    const proxy = new Proxy();
    proxy.target = url;
    proxy.server = createServer((socket) => proxy.#accept(socket));
    proxy.server.unref();
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  #accept(near) {
    const { hostname, port } = new URL(this.target);
    const far = connect(Number(port), hostname);
    const link = { near, far, up: 0, down: 0 };
    link.cut = () => {
      this.links.delete(link);
      for (const socket of [near, far]) {
        // A reset of one that ends fails, and Node then waits for it for ever when it exits.
        if (socket.writableEnded) socket.destroy();
        else socket.resetAndDestroy();
      }
    };
    this.links.add(link);
    const sides = [[near, far, "up"], [far, near, "down"]];
    for (const [from, to, direction] of sides) {
      from.setNoDelay(true).unref();
      from.on("error", link.cut);
      from.on("data", (bytes) => {
        link[direction] += bytes.length;
        if (this.passes(direction, bytes, link) === false) link.cut();
        else if (!to.destroyed) to.write(bytes);
      });
      from.on("end", () => to.end());
      from.on("close", () => this.links.delete(link));
    }
    this.onLink(link);
  }

  /** Cuts every link there is now. */
  cut() {
    for (const link of [...this.links]) link.cut();
  }

  close() {
    this.server.close();
    this.cut();
  }
}
