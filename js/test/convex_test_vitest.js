// What vitest's alias for `convex-test` leads to: the same tests, on the real engine.
//
// In: the globals of `node.js`, vitest's worker. Out: `convexTest`. Invariant: a module of
// functions runs in the engine, unless this process has something that the engine has not: mocks,
// spies, Node's built-ins, the test file itself.
import './node.js';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { vi } from 'vitest';
import { explore } from './explore.js';
import { listen, ownTimers, realm } from './realm.js';
import { slowDown } from './timers.js';
import { VirtualTime } from './virtual_time.js';

const worker = () => globalThis.__vitest_worker__;
const root = () => worker()?.config?.root ?? process.cwd();

/** The file that a function of `import.meta.glob` imports: Vite has put it into its text. */
const fileOf = (load) => {
  const [, , path] = /import\w*\(\s*(["'`])(.*?)\1/.exec(`${load}`) ?? [];
  if (path === undefined) return undefined;
  if (path.startsWith('file:')) return fileURLToPath(path);
  const bare = path.replace(/[?#].*$/, '');
  const places = bare.startsWith('/@fs/') ? [bare.slice(4)] : [join(root(), bare), bare];
  return places.find((place) => existsSync(place));
};

const USE_NODE = /^(?:\s|;|\/\/.*\n|\/\*[^]*?\*\/)*(["'])use node\1/;

/** Whether a test file mocks: what its mocks reach only vitest knows, so all functions stay. */
const hasMocks = () => [...globalThis.__vitest_mocker__?.registries?.values() ?? []]
  .some(({ registryByUrl }) => registryByUrl?.size > 0);

Object.assign(realm, {
  explore,
  VirtualTime,
  located(load) {
    const file = fileOf(load);
    if (file === undefined) return load;
    const node = USE_NODE.test(readFileSync(file, 'utf8')) || hasMocks();
    return Object.assign(() => load(), { file, node });
  },
  /** Files of tests that are there already. */
  evaluated: {
    has: (file) => /\.(?:test|spec)\.\w+$/.test(file) && [
      ...worker()?.evaluatedModules?.fileToModulesMap?.get(file) ?? [],
    ].some(({ evaluated }) => evaluated),
  },
  /** The functions of a test that names none. */
  modules() {
    const folder = join(root(), 'convex');
    if (!existsSync(folder)) return {};
    const found = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.[^.]*s$/.test(entry.name))
      .map(({ parentPath, name }) => join(parentPath, name));
    return Object.fromEntries(found.map((file) => [
      `.${file.slice(root().length)}`, Object.assign(() => vi.importActual(file), { file }),
    ]));
  },
  /** Variables that functions can have; a shell has others too. */
  environment: () => Object.fromEntries(Object.entries(process.env).filter(([name, value]) =>
    /^[A-Za-z][A-Za-z0-9_]{0,39}$/.test(name) && value.length < 8_000
    && !/^(?:VITEST|npm_|NODE_)/.test(name))),
});
process.env.CONVEX_CLOUD_URL ??= 'https://some.convex.cloud';
process.env.CONVEX_SITE_URL ??= 'https://some.convex.site';
ownTimers();
slowDown(vi);
listen().catch(() => {});

export const { convexTest, default: byDefault } = await import('./convex_test.js');
export default byDefault;
