// `fetch` in a Node process: Node's own, with errors that say what to do.
//
// In: a request. Out: Node's response; `explanation(error)`, what the author of a function reads
// besides Node's text. Invariant: an error of the network is Node's own, by which code that tries
// again knows it, and only its cause's text is ours, as the default runtime has it
// (`explanation.rs`); a URL in it is without its query.
import { types } from 'node:util';
import { isRefusal } from './network.mjs';

const NETWORK = 'Check the address, and that this machine has a network.';
const CLOSED = 'Try again later.';

/** Codes of causes: what happened, and the cure. */
const KNOWN = [
  [/^(?:ENOTFOUND|EAI_\w+)$/, ({ hostname, message }) => `${hostname} could not be found: `
    + `${message}. Check the name, and that this machine has a network.`],
  [/^ECONNREFUSED$/, (cause) => `${at(cause)}: connection refused. Nothing listens there: check `
    + 'the port, or start the server.'],
  [/^(?:UND_ERR_(?:\w+_)?TIMEOUT|ETIMEDOUT)$/, ({ message }) => `it did not answer in time `
    + `(${message}). Check the address, and that no firewall is in between.`],
  [/^(?:UND_ERR_SOCKET|ECONNRESET|EPIPE)$/, ({ message }) => 'the server closed the connection '
    + `(${message}). ${CLOSED}`],
  [/^HPE_/, ({ message }) => `what came back is no HTTP (${message}). Check that a web server `
    + 'listens there.'],
  [/CERT|^UNABLE_TO_/, ({ message }) => `TLS failed: ${message}. Its certificate is not one that `
    + 'this machine trusts: renew it, or add its authority to the certificates of the system (or '
    + 'SSL_CERT_FILE).'],
  [/^(?:EPROTO|ERR_SSL_\w+|ERR_TLS_\w+)$/, ({ message }) => `TLS failed: ${message}. Check that `
    + 'the server speaks HTTPS on this port.'],
  [/^E[A-Z]+$/, (cause) => `${cause.message}. ${NETWORK}`],
];

const at = ({ address, port }) => `${address}:${port}`;

/** A URL as messages name it. */
function named(input) {
  const url = String(typeof input === 'object' && 'url' in input ? input.url : input);
  const query = url.indexOf('?');
  return query < 0 ? url : `${url.slice(0, query)}?...`;
}

/** Cause and cure. */
function explain(cause) {
  const known = KNOWN.find(([code]) => code.test(String(cause.code ?? '')));
  return known === undefined ? `${cause.message || 'no cause is known'}.` : known[1](cause);
}

/** Has an error say more, where it and its stack are read. */
function retell(error, message) {
  const { message: old, stack } = error;
  Object.defineProperty(error, 'message', { value: message, writable: true, configurable: true });
  // V8 wrote the old message into it.
  if (typeof stack === 'string') {
    error.stack = old === '' ? stack.replace(/:? *$/m, () => `: ${message}`)
      : stack.replace(old, () => message);
  }
}

/** Causes that say all there is. */
const explained = new WeakSet();

/** What an error that nobody caught has to say besides its own text; `undefined` for most. */
export function explanation(error) {
  const { message, cause } = error;
  if (typeof cause !== 'object' || cause === null) return undefined;
  if (message === 'fetch failed' && explained.has(cause)) return cause.message;
  // Node's word for a body that breaks off.
  return message === 'terminated' ? `The body broke off: ${explain(cause)}` : undefined;
}

/** Puts it in the place of Node's. */
export function explainFetch() {
  const fetchOfNode = globalThis.fetch;
  globalThis.fetch = async function fetch(input, init = undefined) {
    try {
      return await fetchOfNode(input, init);
    } catch (error) {
      // Aborts, and mistakes in the arguments, say all there is.
      const { message, cause } = error ?? {};
      if (message !== 'fetch failed' || !types.isNativeError(cause)) throw error;
      // One for each address that was tried.
      const first = cause.errors?.[0] ?? cause;
      const failed = (why) => `Could not fetch ${named(input)}: ${why}`;
      // Trying again is in vain.
      if (isRefusal(first)) throw new TypeError(failed(first.message), { cause });
      retell(cause, failed(explain(first)));
      explained.add(cause);
      throw error;
    }
  };
}
