// What the modules of a bundle export, found out in Node.
//
// In: paths of modules. Out: what `functions/src/analyze.rs` calls `FoundModule`, by path.
// Invariant: reads only; the first module that cannot be imported is named with its error.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const KINDS = { isQuery: 'Query', isMutation: 'Mutation', isAction: 'Action' };

/** Where a handler stands in its module: its own text, found in the module's. */
function finder(path, source) {
  const taken = new Map();
  return (handler) => {
    if (typeof handler !== 'function') return null;
    const text = Function.prototype.toString.call(handler);
    const at = source.indexOf(text, taken.get(text) ?? 0);
    if (at < 0) return null;
    taken.set(text, at + 1);
    const before = source.slice(0, at).split('\n');
    return [path, before.length, before.at(-1).length + 1];
  };
}

/** One export; `undefined` if it is no registered function. */
function functionOf(name, value, find) {
  if (Object(value) !== value) return undefined;
  const kinds = Object.keys(KINDS).filter((flag) => value[flag] === true);
  const [isPublic, isInternal] = [value.isPublic === true, value.isInternal === true];
  if (kinds.length !== 1 || (isPublic && isInternal)) return undefined;
  return {
    name,
    kind: KINDS[kinds[0]],
    is_public: isPublic,
    is_internal: isInternal,
    args: value.exportArgs?.() ?? '{"type":"any"}',
    returns: value.exportReturns?.() ?? 'null',
    at: find(value._handler),
  };
}

/** What a module exports, in the order of its text. */
function moduleOf(namespace, find) {
  const functions = Object.keys(namespace)
    .map((name) => functionOf(name, namespace[name], find))
    .filter((found) => found !== undefined);
  const place = ({ at }) => (at === null ? Infinity : at[1] * 2 ** 20 + at[2]);
  functions.sort((a, b) => place(a) - place(b) || (a.name < b.name ? -1 : 1));
  return { functions, http_routes: null, crons: null, reuse_context: false };
}

/** Imports modules one by one; throws `{ module, error }`. */
export async function analyze(load, folder, modules) {
  const found = {};
  for (const module of modules) {
    try {
      const source = readFileSync(join(folder, module), 'utf8');
      found[module] = moduleOf(await load(module), finder(module, source));
    } catch (error) {
      throw { module, error };
    }
  }
  return found;
}
