// Which addresses are public: `is_public` of `runtime/actions/src/network.rs`, for Node.
//
// In: addresses as text, ports. Out: yes or no. Invariant: what is no plain address is not public;
// no function that a module can replace takes part in the answer.
const { apply } = Reflect;
const { charCodeAt } = String.prototype;

const COLON = 58;
const DOT = 46;
const ZERO = 48;
const NINE = 57;
const SMALL_A = 97;
const SMALL_F = 102;
/** What makes a letter small. */
const SMALL = 32;

/** The character at a place; NaN behind the end. */
const code = (text, at) => apply(charCodeAt, text, [at]);

function hex(character) {
  if (character >= ZERO && character <= NINE) return character - ZERO;
  const small = character | SMALL;
  return small >= SMALL_A && small <= SMALL_F ? small - SMALL_A + 10 : -1;
}

/** An address of version 4 from a place on, as a number; -1 for what is none. */
function parseV4(text, from) {
  let value = 0;
  let at = from;
  for (let part = 0; part < 4; part++) {
    if (part > 0 && code(text, at++) !== DOT) return -1;
    const start = at;
    let octet = 0;
    for (let found = code(text, at); found >= ZERO && found <= NINE; found = code(text, ++at)) {
      octet = octet * 10 + found - ZERO;
    }
    if (at === start || at - start > 3 || octet > 255) return -1;
    value = value * 256 + octet;
  }
  return at === text.length ? value : -1;
}

/** The eight parts of the address of version 6 that was read last. */
const parts = new Uint16Array(8);

/** Moves what came behind `::` to the end. */
function spread(count, gap) {
  for (let n = 1; n <= count - gap; n++) {
    const part = parts[count - n];
    parts[count - n] = 0;
    parts[8 - n] = part;
  }
}

/** Reads an address of version 6 into `parts`; false for what is none. */
function parseV6(text) {
  for (let at = 0; at < 8; at++) parts[at] = 0;
  let count = 0;
  let gap = -1;
  let at = 0;
  if (code(text, 0) === COLON) {
    if (code(text, 1) !== COLON) return false;
    gap = 0;
    at = 2;
  }
  while (at < text.length) {
    if (count === 8) return false;
    const start = at;
    let value = 0;
    for (let digit = hex(code(text, at)); digit >= 0; digit = hex(code(text, ++at))) {
      value = value * 16 + digit;
    }
    if (code(text, at) === DOT) {
      const low = parseV4(text, start);
      if (low < 0 || count > 6) return false;
      parts[count++] = low >>> 16;
      parts[count++] = low;
      break;
    }
    if (at === start || at - start > 4) return false;
    parts[count++] = value;
    if (at === text.length) break;
    if (code(text, at++) !== COLON || at === text.length) return false;
    if (code(text, at) === COLON) {
      if (gap >= 0) return false;
      gap = count;
      at++;
    }
  }
  if (gap < 0) return count === 8;
  if (count === 8) return false;
  spread(count, gap);
  return true;
}

function isPublicV4(value) {
  const a = value >>> 24;
  const b = value >>> 16 & 0xff;
  const c = value >>> 8 & 0xff;
  const special = a === 0 || a === 10 || a === 127 || a >= 224
    || (a === 100 && (b & 0xc0) === 64)
    || (a === 169 && b === 254)
    || (a === 172 && (b & 0xf0) === 16)
    || (a === 192 && (b === 168 || (b === 0 && (c === 0 || c === 2)) || (b === 88 && c === 99)))
    || (a === 198 && ((b & 0xfe) === 18 || (b === 51 && c === 100)))
    || (a === 203 && b === 0 && c === 113);
  return !special;
}

/** Whether the address in `parts` begins with these parts. */
function begins(...wanted) {
  for (let at = 0; at < wanted.length; at++) {
    if (parts[at] !== wanted[at]) return false;
  }
  return true;
}

const isMapped = () => begins(0, 0, 0, 0, 0, 0xffff);
const low = (at) => (parts[at] * 0x10000 + parts[at + 1]);

function isPublicV6() {
  // Addresses of IPv4 in a coat: mapped, translated (NAT64), 6to4.
  if (isMapped() || begins(0x64, 0xff9b, 0, 0, 0, 0)) return isPublicV4(low(6));
  if (begins(0x2002)) return isPublicV4(low(1));
  // Teredo, documentation, and the rest of 2001::/23.
  if (begins(0x2001) && (parts[1] < 0x200 || parts[1] === 0xdb8)) return false;
  if (begins(0x3fff) && parts[1] < 0x1000) return false;
  // All that is given out is in 2000::/3.
  return (parts[0] & 0xe000) === 0x2000;
}

/** What is to be known of an address; `undefined` for what is none. */
function look(text) {
  if (typeof text !== 'string') return undefined;
  const plain = parseV4(text, 0);
  if (plain < 0 && !parseV6(text)) return undefined;
  const value = plain < 0 && isMapped() ? low(6) : plain;
  if (value >= 0) {
    return { isPublic: isPublicV4(value), isLoopback: value >>> 24 === 127, name: `${value}` };
  }
  const isLoopback = begins(0, 0, 0, 0, 0, 0, 0, 1);
  let name = '';
  for (let at = 0; at < 8; at++) name += `:${parts[at]}`;
  return { isPublic: isPublicV6(), isLoopback, name };
}

/** Whether an address belongs to the internet at large. */
export const isPublic = (text) => look(text)?.isPublic === true;

/** What an operator allows (`Network` of `network.rs`) as a question about address and port. */
export function policy({ private: all = false, loopback = false, own = [] }) {
  const known = own.map((text) => {
    const end = text.lastIndexOf(':');
    const address = text.slice(0, end).replace(/^\[|\]$/g, '');
    return { name: look(address)?.name, port: Number(text.slice(end + 1)) };
  });
  return (address, port) => {
    const found = look(address);
    if (found === undefined) return false;
    if (all || found.isPublic || (loopback && found.isLoopback)) return true;
    for (let at = 0; at < known.length; at++) {
      if (known[at].name === found.name && known[at].port === port) return true;
    }
    return false;
  };
}
