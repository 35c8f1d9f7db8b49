// `console` in a Node process: Convex's lines, formatted as Node formats.
//
// In: arguments of `console.…`. Out: a level and rendered texts. Invariant: no line is longer and
// no more of them are sent than the limits say; the host tells of the first that is too many.
import { Console } from 'node:console';
import { Writable } from 'node:stream';
import { inspect } from 'node:util';

const LEVELS = { debug: 'DEBUG', error: 'ERROR', info: 'INFO', log: 'LOG', warn: 'WARN' };

const render = (value) => (typeof value === 'string' ? value : inspect(value));

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

/**
 * A console whose lines go to `line(level, messages, truncated)`; `place(text)` names positions as
 * an author knows them.
 */
export function makeConsole(line, limits, place) {
  const write = (level, given) => {
    const messages = given.map(place);
    const truncated = cut(messages, limits().log_line_bytes);
    line(level, messages, truncated);
  };
  const sink = (level) => new Writable({
    decodeStrings: false,
    write(text, _encoding, done) {
      write(level, [String(text).replace(/\n$/, '')]);
      done();
    },
  });
  // `table`, `time`, `count` and the like make text out of what they are given and log that.
  const console = new Console({ stdout: sink('LOG'), stderr: sink('WARN') });
  for (const [method, level] of Object.entries(LEVELS)) {
    console[method] = (...values) => write(level, values.map(render));
  }
  console.trace = (...values) => {
    const [, , ...stack] = new Error().stack.split('\n');
    write('LOG', [...values.map(render), ['Trace', ...stack].join('\n')]);
  };
  return console;
}
