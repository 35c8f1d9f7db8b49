// Where a Node process may connect to: what `fetch` of the default runtime may reach, and no more.
//
// In: what the operator allows. Out: the handles under Node's sockets, which refuse the rest with
// EACCES, and errors that say why. Invariant: the wall stands where addresses are final, below
// look-ups and every client (net, tls, http, dgram, fetch, packages); nothing that a module does
// later moves it, so what it is made of was taken before the first module is imported.
import dgram from 'node:dgram';
import dns from 'node:dns';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { policy } from './addresses.mjs';

const { apply, defineProperty, getPrototypeOf } = Reflect;
const REFUSED = -constants.errno.EACCES;
const CURE = 'Actions reach public addresses only, so that nobody can use them to look into a '
  + 'private network. Where that is what you want, start the host with --allow-private-network.';

const refusals = new WeakSet();

/** Whether this error is ours, and says all. */
export const isRefusal = (error) => refusals.has(error);

/** The error of a connection that is not allowed, with the properties of Node's own. */
function refusal(host, address, details) {
  const what = details.port === undefined && details.syscall === 'connect'
    ? `${address} is a socket of this machine, which is not a public address`
    : `${host ?? address} is ${address}, which is not a public address`;
  const error = Object.assign(new Error(`${what}. ${CURE}`), { errno: REFUSED, code: 'EACCES',
    address, ...details });
  refusals.add(error);
  return error;
}

/** Replaces a method for good. */
function guard(prototype, name, make) {
  const value = make(prototype[name]);
  defineProperty(prototype, name, { __proto__: null, value, writable: false, configurable: false });
}

/** The prototypes of the handles under sockets. Nothing is opened for it. */
function handles() {
  const under = (options) => {
    const socket = new Socket();
    socket.connect(options);
    const { _handle: handle } = socket;
    socket.destroy();
    return getPrototypeOf(handle);
  };
  const datagrams = dgram.createSocket('udp4');
  const state = Object.getOwnPropertySymbols(datagrams)
    .find(({ description }) => description === 'state symbol');
  const udp = getPrototypeOf(datagrams[state].handle);
  datagrams.close();
  const resolver = getPrototypeOf(new dns.Resolver()._handle);
  return { tcp: under({ host: '127.0.0.1', port: 1 }), pipe: under({ path: '/' }), udp, resolver };
}

function guardStreams({ tcp, pipe }, allows, allowsPaths) {
  for (const name of ['connect', 'connect6']) {
    guard(tcp, name, (connect) => function (request, address, port) {
      if (!allows(address, port)) return REFUSED;
      return apply(connect, this, [request, address, port]);
    });
  }
  guard(pipe, 'connect', (connect) => function (request, path) {
    return allowsPaths ? apply(connect, this, [request, path]) : REFUSED;
  });
}

/** Addresses of datagrams are known when they are sent, or when their socket is connected. */
function guardDatagrams({ udp }, allows) {
  for (const name of ['send', 'send6']) {
    guard(udp, name, (send) => function (request, list, count, port, address, more) {
      if (arguments.length < 6) return apply(send, this, [request, list, count, port]);
      if (!allows(address, port)) return REFUSED;
      return apply(send, this, [request, list, count, port, address, more]);
    });
  }
  for (const name of ['connect', 'connect6']) {
    guard(udp, name, (connect) => function (address, port) {
      return allows(address, port) ? apply(connect, this, [address, port]) : REFUSED;
    });
  }
}

/** Servers of names: those that the system asks, or public ones. */
function guardResolvers({ resolver }, allows) {
  const known = dns.getServers();
  guard(resolver, 'setServers', (setServers) => function (servers) {
    const checked = [];
    for (let at = 0; at < servers.length; at++) {
      const { 0: family, 1: address, 2: port } = servers[at];
      let isKnown = false;
      for (let n = 0; n < known.length; n++) isKnown ||= known[n] === address;
      if (typeof address !== 'string' || !(isKnown || allows(address, port))) {
        throw refusal(undefined, String(address), { syscall: 'setServers', port });
      }
      const value = [family, address, port];
      defineProperty(checked, at, { __proto__: null, value, enumerable: true });
    }
    return apply(setServers, this, [checked]);
  });
}

/** Has sockets say why there is no connection, where the wall is why. */
function explain(allows, allowsPaths) {
  const isOurs = (error) => error?.code === 'EACCES'
    && (error.syscall === 'connect' || error.syscall === 'send')
    && !(error.port === undefined ? allowsPaths : allows(error.address, error.port));
  const explained = (error, host) => {
    const [first, ...others] = Array.isArray(error?.errors) ? error.errors : [error];
    if (!isOurs(first) || !others.every(isOurs)) return error;
    const { address, port, syscall } = first;
    return refusal(host, address, { syscall, port });
  };
  const { destroy } = Socket.prototype;
  Socket.prototype.destroy = function (error, done) {
    return apply(destroy, this, [explained(error, this._host), done]);
  };
  const datagrams = dgram.Socket.prototype;
  const { emit, send } = datagrams;
  datagrams.emit = function (event, ...values) {
    if (event === 'error') values[0] = explained(values[0]);
    return apply(emit, this, [event, ...values]);
  };
  datagrams.send = function (...given) {
    const last = given.at(-1);
    const done = typeof last === 'function' ? given.pop() : undefined;
    return apply(send, this, [...given, (error, bytes) => {
      const said = explained(error);
      if (done !== undefined) done(said, bytes);
      // Node tells nobody, and the author would wait for an answer.
      else if (isRefusal(said)) this.emit('error', said);
    }]);
  };
}

/** Builds the wall. Once: it cannot be built again, or taken down. */
export function confine(network) {
  const found = handles();
  const allows = policy(network);
  const allowsPaths = network.private === true || network.loopback === true;
  guardStreams(found, allows, allowsPaths);
  guardDatagrams(found, allows);
  guardResolvers(found, allows);
  explain(allows, allowsPaths);
}
