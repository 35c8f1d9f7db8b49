// `fetch` in a Node process: Node's own, with errors that say what to do.
//
// In: a request. Out: Node's response. Invariant: only the texts of failed exchanges differ, and
// they are those of the default runtime (`explanation.rs`); a URL in them is without its query.
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
function explain(error) {
  // One for each address that was tried.
  const cause = error?.errors?.[0] ?? error;
  if (isRefusal(cause)) return cause.message;
  const known = KNOWN.find(([code]) => code.test(String(cause?.code ?? '')));
  return known === undefined ? `${cause?.message ?? 'no cause is known'}.` : known[1](cause);
}

/** Puts it in the place of Node's. */
export function explainFetch() {
  const fetchOfNode = globalThis.fetch;
  globalThis.fetch = async function fetch(input, init = undefined) {
    try {
      return await fetchOfNode(input, init);
    } catch (error) {
      // Aborts, and mistakes in the arguments, say all there is.
      if (error?.message !== 'fetch failed' || error.cause === undefined) throw error;
      const { cause } = error;
      throw new TypeError(`Could not fetch ${named(input)}: ${explain(cause)}`, { cause });
    }
  };
}
