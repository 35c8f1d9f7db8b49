// What the author of a function reads of a thrown value, in a Node process.
//
// In: anything that was thrown. Out: its text, V8's stack with positions in modules, a
// ConvexError's data. Invariant: never throws; names no folder of the host.
import { types } from 'node:util';
import { pathToFileURL } from 'node:url';
import { explanation } from './fetch.mjs';

/** Where these files are. */
const OURS = new URL('.', import.meta.url).href;

const SYMBOL = Symbol.for('ConvexError');

/** Reads a property, whatever it does. */
function quietly(read) {
  try {
    return read();
  } catch {
    return undefined;
  }
}

const asText = (value) => quietly(() => String(value)) ?? 'a value without text';

/** JSON text of a ConvexError's data. */
function convexData(error) {
  return quietly(() => {
    const symbol = error.ConvexErrorSymbol ?? SYMBOL;
    return error[symbol] === true && typeof error.data === 'string' ? error.data : undefined;
  });
}

/** Positions in a bundle's modules instead of files; frames of ours and of Node left out. */
export function place(stack, folder) {
  if (typeof stack !== 'string') return undefined;
  const lines = [];
  for (const line of hide(stack, folder).split('\n')) {
    if (!/^ +at /.test(line) || !/node:|concave:|\(native\)/.test(line)) lines.push(line);
    // What an error has besides its stack follows its last frame.
    else if (line.endsWith(' {') && lines.length > 0) lines.push(`${lines.pop()} {`);
  }
  return lines.join('\n');
}

/** `text` with the names that an author knows instead of the host's folders. */
function hide(text, folder) {
  if (folder === undefined) return text;
  return text.replaceAll(OURS, 'concave:/')
    .replaceAll(`${pathToFileURL(folder).href}/`, 'convex:/')
    .replaceAll(`${folder}/`, 'convex:/')
    .replaceAll(/(?:file:\/\/)?\/[^\s'"()]*\/(?=node_modules\/)/g, '');
}

/** What to do about errors of Node that have a cure in the deployment. */
function cure(code, message) {
  if (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND') {
    const name = /(?:package|module) '([^']+)'/.exec(message)?.[1] ?? 'it';
    return `\n${name} is not part of the deployment: install it (npm install), import it by its `
      + 'plain name or list it in node.externalPackages of convex.json, and push again.';
  }
  if (code === 'ERR_ACCESS_DENIED') {
    return '\nA "use node" function may read its own modules and packages, read and write files in '
      + 'os.tmpdir() and use the network; it writes no other files and starts no processes or '
      + 'threads. Use ctx.storage for files that are to last.';
  }
  if (/^kill EPERM$|: uv_os_setpriority returned EPERM/.test(message)) {
    return '\nA "use node" function may do this to its own process (process.pid) only: other '
      + 'processes of this machine, such as the one that serves its calls, are out of its reach.';
  }
  return '';
}

/** Describes a thrown value. */
export function describe(error, folder) {
  const data = convexData(error);
  if (!types.isNativeError(error) && !quietly(() => error instanceof Error) && data === undefined) {
    return { text: `Uncaught ${asText(error)}` };
  }
  const read = (key) => quietly(() => error[key]);
  const [name, message] = ['name', 'message'].map((key) => {
    const value = read(key);
    return value === undefined ? undefined : asText(value);
  });
  // Flags of Node are the host's business.
  const plain = (message ?? '').replace(/ Use --allow-\S+ to manage permissions\.$/, '');
  const reason = quietly(() => explanation(error));
  const said = hide(plain, folder) + (reason === undefined ? '' : `: ${hide(`${reason}`, folder)}`)
    + cure(read('code'), plain);
  const joined = [name ?? 'Error', said].filter((part) => part !== '').join(': ');
  return { text: `Uncaught ${joined}`, stack: place(read('stack'), folder), data };
}
