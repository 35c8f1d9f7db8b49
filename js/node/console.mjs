// `console` and the standard streams in a Node process: Convex's lines, formatted as Node formats.
//
// In: arguments of `console.…`, what is written to `process.stdout` and `process.stderr`. Out: a
// level and rendered texts. Invariant: groups, counts and timers are those of the default runtime
// (`js/runtime/10_console.js`) and end with their run; no line is longer and no more of them are
// sent than the limits say; the host tells of the first that is too many.
import { Console } from 'node:console';
import { writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { inspect } from 'node:util';

const LEVELS = { debug: 'DEBUG', error: 'ERROR', info: 'INFO', log: 'LOG', warn: 'WARN' };
/** The descriptor of a process's last words, which the host reads when it dies. */
const WORDS = 2;

/** More than a line of the log may have. */
const MAX_LINE = 65_536;

/** As Convex logs values: strings have their quotes. */
const shown = (values) => values.map((value) => (typeof value === 'string'
  ? inspect(value.slice(0, MAX_LINE), { maxStringLength: null }) : inspect(value)));

/** Cuts texts to `limit` bytes together, at a character; says whether it did. */
function cut(messages, limit) {
  let left = limit;
  for (const [at, message] of messages.entries()) {
    const bytes = Buffer.from(message);
    if (bytes.length > left) {
      let end = left;
      while (end > 0 && (bytes[end] & 0xc0) === 0x80) end -= 1;
      messages[at] = bytes.subarray(0, end).toString();
      messages.length = at + 1;
      return true;
    }
    left = Math.max(0, left - bytes.length - 1);
  }
  return false;
}

/** The members that keep something: until `forget`, which ends the run. */
function keeping(write) {
  let indent = 0;
  const counts = new Map();
  const timers = new Map();
  const named = (label) => (label === undefined ? 'default' : `${label}`);
  const group = (...values) => {
    if (values.length > 0) indented('LOG', shown(values));
    indent += 1;
  };
  const indented = (level, texts) => {
    const [first = '', ...rest] = texts;
    write(level, indent > 0 || texts.length > 0 ? ['  '.repeat(indent) + first, ...rest] : []);
  };
  const elapsed = (name, values) => {
    const start = timers.get(name);
    if (start === undefined) indented('WARN', [`Timer '${name}' does not exist`]);
    else indented('INFO', [`${name}: ${Date.now() - start}ms`, ...shown(values)]);
  };
  const members = {
    group,
    groupCollapsed: group,
    groupEnd() { indent = Math.max(0, indent - 1); },
    count(label) {
      const name = named(label);
      counts.set(name, (counts.get(name) ?? 0) + 1);
      indented('LOG', [`${name}: ${counts.get(name)}`]);
    },
    countReset(label) { counts.delete(named(label)); },
    time(label) {
      const name = named(label);
      if (timers.has(name)) indented('WARN', [`Timer '${name}' already exists`]);
      else timers.set(name, Date.now());
    },
    timeLog(label, ...values) { elapsed(named(label), values); },
    timeEnd(label) {
      elapsed(named(label), []);
      timers.delete(named(label));
    },
    assert(condition, ...values) {
      if (condition) return;
      const first = values.length === 0 ? 'Assertion failed' : 'Assertion failed:';
      indented('ERROR', [first, ...shown(values)]);
    },
    trace(...values) {
      const [, , ...stack] = new Error().stack.split('\n');
      indented('LOG', [...shown(values), ['Trace', ...stack].join('\n')]);
    },
  };
  for (const [method, level] of Object.entries(LEVELS)) {
    members[method] = (...values) => indented(level, shown(values));
  }
  const forget = () => {
    indent = 0;
    counts.clear();
    timers.clear();
  };
  return { members, indented, forget };
}

/** A standard stream whose lines are logged. Nobody can end it: modules of later runs have it. */
class Lines extends Writable {
  #line;
  #limit;
  #decoder = new StringDecoder('utf8');
  #begun = '';

  constructor(fd, line, limit) {
    super({ decodeStrings: true });
    this.fd = fd;
    this.#line = line;
    this.#limit = limit;
  }

  _write(bytes, _encoding, done) {
    const lines = (this.#begun + this.#decoder.write(bytes)).split('\n');
    this.#begun = lines.pop();
    for (const line of lines) this.#line(line.replace(/\r$/, ''));
    // Nothing shows more of it.
    if (this.#begun.length > this.#limit()) this.finish();
    done();
  }

  end(...given) {
    const done = given.find((value) => typeof value === 'function');
    const [chunk, encoding] = given.filter((value) => value !== done);
    if (chunk !== undefined && chunk !== null) this.write(chunk, encoding);
    if (done !== undefined) process.nextTick(done);
    return this;
  }

  destroy() { return this; }

  /** A line that has no end yet is one. */
  finish() {
    const line = this.#begun + this.#decoder.end();
    this.#begun = '';
    if (line !== '') this.#line(line);
  }
}

/**
 * Puts a console and standard streams in the place of Node's. Their lines go to `line(level,
 * messages, truncated)`, which says whether a run took them; `place(text)` names positions as an
 * author knows them. The result ends a run's: what it has begun is told, and forgotten.
 */
export function logTo(line, limits, place) {
  const write = (level, given) => {
    const messages = given.map(place);
    const truncated = cut(messages, limits().log_line_bytes);
    return line(level, messages, truncated);
  };
  const { members, indented, forget } = keeping(write);
  const sink = (level) => new Writable({
    decodeStrings: false,
    write(text, _encoding, done) {
      indented(level, [String(text).replace(/\n$/, '')]);
      done();
    },
  });
  // `table`, `dir` and the like make text out of what they are given and log that.
  const made = () => new Console({ stdout: sink('LOG'), stderr: sink('WARN') });
  const plain = made();
  const table = (...given) => plain.table(...given);
  globalThis.console = Object.assign(made(), members, { table });
  const limit = () => limits().log_line_bytes;
  const out = new Lines(1, (text) => write('LOG', [text]), limit);
  const error = new Lines(WORDS, (text) => {
    if (!write('ERROR', [text])) writeSync(WORDS, `${text}\n`);
  }, limit);
  for (const [name, stream] of [['stdout', out], ['stderr', error]]) {
    Object.defineProperty(process, name, { get: () => stream, enumerable: true });
  }
  return () => {
    out.finish();
    error.finish();
    forget();
  };
}
