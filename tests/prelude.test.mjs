// The prelude (js/runtime) in a bare context, against Node's own implementations.
//
// In: the prelude's files, run in numeric order over a host made of Node's built-ins. Out: checks
// of what functions see. Invariant: no test depends on the Rust host, the clock or the time zone;
// where Node has the same feature, Node is the oracle.
import assert from 'node:assert/strict';
import { AsyncLocalStorage as NodeStorage } from 'node:async_hooks';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { inspect } from 'node:util';
import vm from 'node:vm';
import { NOW, world, same } from './world.mjs';

test('the host is sealed away and the prelude leaves only known globals', () => {
  const { run } = world();
  assert.equal(run('typeof __concave'), 'undefined');
  for (const name of ['window', 'require', 'Buffer', 'navigator', 'SharedArrayBuffer', 'Atomics',
    'setImmediate']) {
    assert.equal(run(`typeof ${name}`), 'undefined', name);
  }
  assert.equal(run('self === globalThis'), true);
  assert.equal(run('JSON.stringify(Object.keys(globalThis))'), '[]');
});

test('strings are logged in quotes, as everywhere, with their level', () => {
  const { run, lines } = world();
  run(`console.log("it's", 'a "b"\\n', 1); console.error('e'); console.warn({a: 'x'});
       console.debug(); console.info(null, undefined)`);
  assert.deepEqual(lines, [['LOG', `"it's"`, `'a "b"\\n'`, '1'], ['ERROR', "'e'"],
    ['WARN', "{ a: 'x' }"], ['DEBUG'], ['INFO', 'null', 'undefined']]);
});

const INSPECTED = [
  '-0', '1n', 'Symbol("s")', '[1, 2, 3]', '[]', '({})', '[1,,3]', '[,,]', '({a:{b:{c:1}}})',
  '({ "a-b": 1, c: [1, "x"], [Symbol("k")]: true })', 'new Map([["a", 1], [{b: 2}, [3]]])',
  'new Set(["a", 2])', 'new Map()', 'new Date(0)', 'new Date(NaN)', '/a+/gi',
  'new Uint8Array([1, 2])', 'new Float64Array(0)', 'new Uint8Array([1, 255]).buffer',
  'class A {} new A', 'class A { x = 1 } new A', 'class B extends Array {} new B(1, 2)',
  'class A {} A', 'class C extends Map {} C', '(function f() {})', '(() => {})', 'async () => {}',
  '(function* g() {})', 'Object.assign(function f() {}, { x: 1 })', 'Object.create(null)',
  'Object.assign(Object.create(null), { a: 1 })', '({ get a() { throw 1 }, set b(v) {} })',
  '({ get a() { return 1 }, set a(v) {} })', 'new Number(3)', 'Object("ab")',
  'Object(1n)', 'Object(Symbol("q"))', 'const o = {}; o.o = o; o',
  'const a = []; a.push(a, { a }); a', '({ s: "it\'s" })', '({ s: "it\'s \\"q\\"" })',
  '["\\n\\t\\x00\\u{1F600}\\ud800"]', 'new WeakMap()', 'new WeakSet()',
  '(function () { return arguments })(1, 2)', '({ [Symbol.toStringTag]: "T", a: 1 })',
  '({ u: undefined, n: null, b: true })', 'Object.assign([1], { x: 2 })',
  '({ a: "x".repeat(50), b: "y".repeat(50) })', 'new Map([["k", { a: "z".repeat(90) }]])',
  '[["a", ["b", ["c", ["d"]]]]]', 'Array.from({ length: 3 }, () => ({ a: "x".repeat(30) }))',
  '({ f() {}, C: class {} })', 'Math', 'JSON', '({ a: { s: new Set([[1]]) } })',
];

for (const code of INSPECTED) {
  test(`shown as Node shows it: ${code.slice(0, 60)}`, () => {
    const { lines, run } = world();
    const value = `(() => { ${lastAsReturn(code)} })()`;
    run(`console.log(${value})`);
    assert.equal(lines[0][1], inspect(vm.runInThisContext(value), { depth: 5 }));
  });
}

function lastAsReturn(code) {
  const at = code.lastIndexOf('; ');
  if (/^(const|let)/.test(code)) return `${code.slice(0, at)}; return ${code.slice(at + 2)}`;
  const body = /^(class .*\}) (new .*|[A-Z])$/.exec(code);
  return body ? `${body[1]}; return ${body[2]}` : `return ${code}`;
}

test('large and hostile values are logged without harm', () => {
  const { run, lines } = world();
  run(`console.log(Array.from({ length: 250 }, (_, i) => i));
       console.log({ s: 'x'.repeat(20000) });
       const wide = () => ({ a: Array.from({ length: 200 }, () => 'y'.repeat(500)) });
       console.log(Object.fromEntries(Object.entries(Array.from({ length: 5000 }, wide))));
       console.log(new Proxy({}, { ownKeys() { throw new Error('trap') } }));
       let deep = {}; for (let i = 0; i < 1e5; i++) deep = { deep }; console.log(deep);
       Array.prototype.push = () => { throw 1 }; String.prototype.slice = null;
       Object.prototype.get = () => 5; console.log({ a: [1] })`);
  assert.match(lines[0][1], /99,?\s*\.\.\. 150 more items\s*\]$/);
  assert.match(lines[1][1], /x'\.\.\. 10000 more characters\n\}$/);
  assert.ok(lines[2][1].length < 100_000);
  assert.match(lines[3][1], /cannot be shown: Error: trap/);
  assert.match(lines[4][1], /\[Object\]/);
  assert.equal(lines[5][1], '{ a: [ 1 ] }');
});

test('errors are logged with their stack, cause and own members', () => {
  const { run, lines } = world();
  run(`const e = new TypeError('bad', { cause: 'why' }); e.code = 7; console.log(e);
       console.log({ inner: new RangeError('low') })`);
  assert.match(lines[0][1], /^TypeError: bad\n {4}at convex:\/test.js/);
  assert.match(lines[0][1], /code: 7/);
  assert.match(lines[0][1], /\[cause\]: 'why'/);
  assert.match(lines[1][1], /inner: RangeError: low\n {6}at /);
  assert.doesNotMatch(lines.join(), /concave:/);
});

test('the rest of the console', () => {
  const { run, lines } = world();
  run(`console.group('g'); console.log('in', 1); console.groupEnd(); console.log('out');
       console.count(); console.count(); console.countReset(); console.count('default');
       console.assert(true, 'no'); console.assert(false, 'yes', 2);
       console.time('t'); console.timeLog('t', 5); console.timeEnd('t'); console.timeEnd('t');
       console.table([{ a: 1, b: 'x' }, { b: 2 }]); console.dir('d');
       (function here() { console.trace('t') })()`);
  const trace = lines.pop();
  assert.match(trace[2], /^Trace\n {4}at here \(convex:\/test.js/);
  assert.doesNotMatch(trace[2], /concave:/);
  assert.deepEqual(lines, [['LOG', "'g'"], ['LOG', "  'in'", '1'], ['LOG', "'out'"],
    ['LOG', 'default: 1'], ['LOG', 'default: 2'], ['LOG', 'default: 1'],
    ['ERROR', 'Assertion failed:', "'yes'", '2'], ['INFO', 't: 0ms', '5'], ['INFO', 't: 0ms'],
    ['WARN', "Timer 't' does not exist"],
    ['LOG', "| (index) | a | b   |\n| ------- | - | --- |\n| 0       | 1 | 'x' |\n"
      + '| 1       |   | 2   |'], ['LOG', "'d'"]]);
});

test('begin resets the console and does not observe', () => {
  const { run, lines, begin, seen } = world();
  run('console.group(); console.count(); console.time("a")');
  begin();
  run('console.log("x"); console.count(); console.time("a")');
  assert.deepEqual(lines.slice(1), [['LOG', "'x'"], ['LOG', 'default: 1']]);
  assert.deepEqual(seen, []);
});

test('TextEncoder and TextDecoder', () => {
  for (const text of ['', 'abc', 'é€😀', '\\ud800x\\udc00', '\\ufeffx']) {
    same(`return [...new TextEncoder().encode('${text}')]`);
    for (const room of [0, 1, 2, 3, 4, 5, 6, 9, 30]) {
      same(`const b = new Uint8Array(${room});
            return [new TextEncoder().encodeInto('${text}', b), [...b]]`);
    }
  }
  same(`return ['utf8', 'UTF-8 ', 'latin1', 'utf-16le', 'UTF-16BE', 'shift_jis', 'gbk'].map((l) =>
    new TextDecoder(l).encoding)`);
  same(`return new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x41]).buffer)`);
  same(`return new TextDecoder('utf-8', { ignoreBOM: true })
    .decode(new DataView(new Uint8Array([0xef, 0xbb, 0xbf, 0x41]).buffer, 0, 4))`);
  same(`return new TextDecoder('windows-1252').decode(new Uint8Array([0x80, 0xff]))`);
  const { run } = world();
  assert.throws(() => run(`new TextDecoder('utf-8', { fatal: true })
    .decode(new Uint8Array([0xff]))`), { name: 'TypeError' });
  assert.throws(() => run("new TextDecoder('nonsense')"), { name: 'RangeError' });
  assert.throws(() => run('new TextDecoder().decode("x")'), { name: 'TypeError' });
  assert.throws(() => run(`new TextDecoder('gbk').decode(new Uint8Array(1), { stream: true })`),
    /cannot stream gbk/);
});

test('TextDecoder streams like Node, for every split', () => {
  const there = world();
  const inputs = [
    ['utf-8', [0xef, 0xbb, 0xbf, 0x41, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80]],
    ['utf-8', [0xe0, 0x80, 0x80, 0xed, 0xa0, 0x80, 0xf4, 0x90, 0x80, 0x80, 0xf0, 0x9f, 0x41, 0xc3]],
    ['utf-8', [0xc0, 0x80, 0xf5, 0x80, 0xe2, 0x82, 0x28, 0xff]],
    ['utf-8', [0x41, 0xef, 0xbb, 0xbf, 0xef, 0xbb, 0xbf]],
    ['utf-16le', [0xff, 0xfe, 0x41, 0, 0x3d, 0xd8, 0x00, 0xde, 0x42, 0, 0x3d, 0xd8, 0x43]],
    ['utf-16be', [0, 0x41, 0xd8, 0x3d, 0xde, 0x00, 0, 0x42]],
  ];
  for (const [label, bytes] of inputs) {
    for (let one = 0; one <= bytes.length; one++) {
      for (let two = one; two <= bytes.length; two++) {
        same(`const b = new Uint8Array(${JSON.stringify(bytes)});
          const d = new TextDecoder('${label}');
          return [d.decode(b.subarray(0, ${one}), { stream: true }),
            d.decode(b.subarray(${one}, ${two}), { stream: true }),
            d.decode(b.subarray(${two})), d.decode(b)]`, there);
      }
    }
  }
});

test('typed arrays from strings, and when the short way is taken', () => {
  const short = (source) => {
    const there = world();
    same(`return Array.from(${source})`, there);
    return there.seen.includes('latin1Bytes');
  };
  for (const callback of ['c => c.charCodeAt(0)', '(x)=>x.charCodeAt(0)', '$_1 => $_1.charCodeAt()',
    'function (e) { return e.charCodeAt(0); }', 'function f(e){return e.charCodeAt(0)}',
    '(c, i) => c.charCodeAt(0) + i', 'c => Number(c) * 2', 'c => "d".charCodeAt(0)',
    'function (c) { return this.x + c }, {x: 1}', '() => -1', 'c => c + "7"']) {
    assert.equal(short(`Uint8Array.from('09az\\0\\xff1', ${callback})`), true, callback);
  }
  assert.equal(short("Uint8Array.from('aé🙂x', (c, i) => c.codePointAt(0) + i)"), false);
  assert.equal(short("Uint16Array.from('ab', (c) => c.charCodeAt(0) << 8)"), false);
  assert.equal(short("Uint8Array.from('123')"), false);
  assert.equal(short('Uint8Array.from([1, 2], (n) => n + 1)'), false);
  assert.equal(short('Uint8Array.from(new Set([1, 2]))'), false);

  // Whoever replaces what the standard calls is called.
  const patched = (patch) => {
    const there = world();
    there.run(patch);
    const made = there.run("Array.from(Uint8Array.from('abc', (c) => c.charCodeAt(0))).join()");
    return [made, there.seen.includes('latin1Bytes')];
  };
  const char = 'String.prototype.charCodeAt = () => 7;';
  assert.deepEqual(patched(char), ['7,7,7', false]);
  const iterator = 'String.prototype[Symbol.iterator] = function* () { yield "z"; };';
  assert.deepEqual(patched(iterator), ['122', false]);
  const next = `const owner = Object.getPrototypeOf(''[Symbol.iterator]());
    let left = 2; owner.next = () => ({ done: left-- === 0, value: 'y' });`;
  assert.deepEqual(patched(next), ['121,121', false]);

  same(`const { from } = Object.getPrototypeOf(Uint8Array);
    try { from.call(Object, 'ab', (c) => c); }
    catch (e) { return [e.name, from.length, from.name]; }`);
  same(`let order = [];
    try { Uint8Array.from('abc', (c) => { order.push(c); if (c === 'b') throw c }); }
    catch (e) { order.push(e); } return order`);
});

test('atob and btoa', () => {
  const there = world();
  for (const text of ['', 'ab', 'ab=', 'ab==', 'abc', 'abc=', 'abcd', 'abcd=', 'abcde', '=', '====',
    'a b\\tc\\nd', 'ab= =', '+/+/', '-_', 'YQ==YQ==', 'ab===', 'é', 'AAECAwQ', '/x']) {
    same(`try { return atob('${text}') } catch (e) { return [e.name, e.code] }`, there);
  }
  same(`let s = ''; for (let i = 0; i < 256; i++) s += String.fromCharCode(i);
    return [btoa(s), atob(btoa(s)) === s, btoa(''), btoa('a'), btoa('ab'), btoa('abc')]`, there);
  same(`try { btoa('€') } catch (e) { return [e.name, e.code] }`, there);
});

test('DOMException is an Error with a code', () => {
  same(`const e = new DOMException('m', 'AbortError');
    return [e instanceof Error, e.name, e.message, e.code, DOMException.ABORT_ERR, e.ABORT_ERR,
    String(e), new DOMException().name,
    new DOMException('x', 'Odd').code, Object.prototype.toString.call(e), DOMException.length]`);
  assert.match(world().run(`new DOMException('m', 'AbortError').stack`), /^AbortError: m\n/);
});

test('events', () => {
  const there = world();
  same(`const log = []; const t = new EventTarget();
    const f = (e) => log.push(['f', e.type, e.target === t, e.eventPhase]);
    t.addEventListener('a', f); t.addEventListener('a', f);
    t.addEventListener('a', { handleEvent(e) { log.push(['o', this.handleEvent !== undefined]) } });
    t.addEventListener('a', () => log.push('once'), { once: true });
    t.addEventListener('a', () => log.push('last'));
    t.dispatchEvent(new Event('a')); t.removeEventListener('a', f);
    log.push(t.dispatchEvent(new Event('a')));
    t.addEventListener('b', (e) => { e.preventDefault(); e.stopImmediatePropagation() });
    t.addEventListener('b', () => log.push('never'));
    log.push(t.dispatchEvent(new Event('b', { cancelable: true })),
      t.dispatchEvent(new Event('b')));
    const c = new AbortController(); t.addEventListener('d', () => log.push('d'),
      { signal: c.signal }); c.abort(); t.dispatchEvent(new Event('d'));
    return log`, there);
  assert.equal(there.run(`const order = []; const et = new EventTarget();
    et.addEventListener('x', () => order.push('bubble'));
    et.addEventListener('x', () => order.push('capture'), { capture: true });
    et.dispatchEvent(new Event('x')); order.join()`), 'capture,bubble');
  assert.equal(there.run(`const passive = new EventTarget();
    passive.addEventListener('c', (e) => e.preventDefault(), { passive: true });
    passive.dispatchEvent(new Event('c', { cancelable: true }))`), true);
  assert.equal(there.run(`const ev = new CustomEvent('x', { detail: { a: 1 }, bubbles: true });
    [ev.detail.a, ev instanceof Event, ev.bubbles, ev.type, ev.isTrusted].join()`),
  '1,true,true,x,false');
  assert.throws(() => there.run('new EventTarget().dispatchEvent({})'), { name: 'TypeError' });
  assert.equal(there.run(`let twice; const re = new EventTarget(); re.addEventListener('x', (e) => {
    try { re.dispatchEvent(e) } catch (error) { twice = error.name } });
    re.dispatchEvent(new Event('x')); twice`), 'InvalidStateError');
});

test('what a listener throws becomes a rejection, and the others still run', () => {
  const { run } = world({ before: `globalThis.rejected = [];
    Promise.reject = (error) => { rejected.push(error.message) }` });
  assert.equal(run(`let ran = 0; const t = new EventTarget();
    t.addEventListener('a', () => { throw new Error('listener') });
    t.addEventListener('a', () => ran++); t.dispatchEvent(new Event('a')); ran + rejected.join()`),
  '1listener');
});

test('abort signals', () => {
  const there = world();
  same(`const c = new AbortController(); const log = [];
    c.signal.onabort = (e) => log.push(['on', e.type]);
    c.signal.addEventListener('abort', () => log.push('listener'));
    const any = AbortSignal.any([c.signal, new AbortController().signal]);
    any.addEventListener('abort', () => log.push('any'));
    log.push(c.signal.aborted, c.signal.reason === undefined); c.abort(); c.abort('again');
    log.push(c.signal.aborted, c.signal.reason.name, any.aborted, any.reason === c.signal.reason);
    try { c.signal.throwIfAborted() } catch (e) { log.push(e.name, e.code) }
    log.push(AbortSignal.abort('r').reason, AbortSignal.any([AbortSignal.abort(5)]).reason);
    try { new AbortSignal() } catch (e) { log.push(e.constructor.name) }
    return log.filter((x) => x !== 'any')`, there);
  assert.equal(there.run(`const ac = new AbortController(); let heard = 0;
    AbortSignal.any([ac.signal]).onabort = () => heard++; ac.abort(); heard`), 1);
  assert.throws(() => there.run('AbortSignal.timeout(1)'),
    /^Error: Can't use AbortSignal.timeout in queries and mutations\. Please consider/);
});

const URLS = ['https://user:pa%20ss@Example.COM:8080/a/../b?x=1&y=2#h', 'http://a', 'mailto:x@y',
  'data:text/plain,hi', 'https://ex.com/?q=é#ü', 'file:///a/b', 'https://[::1]:443/', 'blob:x',
  'https://例え.jp/', 'not a url', '', '//x', 'https://a:99999/'];

test('URL parses as Node does', () => {
  const there = world();
  const parts = ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port',
    'pathname', 'search', 'hash'];
  for (const url of URLS) {
    same(`try { const u = new URL('${url}'); return ${JSON.stringify(parts)}.map((p) => u[p])
      .concat(String(u), JSON.stringify(u)) } catch (e) { return e.name }`, there);
    same(`return URL.canParse('${url}')`, there);
    same(`try { return new URL('${url}', 'https://base.dev/x/y?z#w').href }
      catch (e) { return e.name }`, there);
  }
  assert.equal(there.run("URL.parse('nope')"), null);
  assert.equal(there.run("URL.parse('x', 'http://a').href"), 'http://a/x');
});

test('URL setters, and searchParams live', () => {
  const there = world();
  const sets = [['href', 'http://z/q?r#s'], ['protocol', 'http'], ['protocol', 'bad:scheme'],
    ['username', 'ü'], ['password', ''], ['host', 'h:1'], ['hostname', 'n'], ['port', '77'],
    ['port', 'x'], ['pathname', 'p q'], ['search', 'a=b'], ['search', ''], ['hash', 'f'],
    ['hash', '']];
  for (const [part, value] of sets) {
    same(`const u = new URL('https://me:pw@ex.com:81/p?q=1#h'); const p = u.searchParams;
      u['${part}'] = '${value}'; return [u.href, p.toString(), u.searchParams === p]`, there);
  }
  same(`const u = new URL('https://e.com/?a=1'); const p = u.searchParams; p.append('b', 'x y');
    const first = u.href; p.delete('a'); p.delete('b'); const second = u.href; p.set('é', '€');
    return [first, second, u.href, u.search]`, there);
  same(`const u = new URL('https://e.com'); try { u.href = 'bad' } catch (e) { return e.name }`,
    there);
});

test('URLSearchParams', () => {
  const there = world();
  const inits = ["'?a=1&b=2&a=3'", "'a=%41+b&c'", "'%zz=%E2%82%AC&%FF=x&&=&=v&k='", '[["a", "b"]]',
    '{ a: 1, b: "c d" }', 'new URLSearchParams("x=y")', 'undefined', "''",
    'new Map([["m", "n"]])', '[["a"]]', '[1]', '5', '{ s: "!\'()~*-._ \\ud800" }'];
  for (const init of inits) {
    same(`try { const p = new URLSearchParams(${init});
      return [[...p], p.toString(), p.size, [...p.keys()], [...p.values()]] }
      catch (e) { return e.name }`, there);
  }
  same(`const p = new URLSearchParams('b=2&a=1&b=3&a=0'); const seen = [];
    p.forEach(function (v, k, o) { seen.push([v, k, o === p, this.t]) }, { t: 1 });
    const before = [p.get('b'), p.get('z'), p.getAll('b'), p.has('a'), p.has('a', '9')];
    p.sort(); const sorted = p.toString(); p.set('b', 'x'); p.delete('a', '0');
    return [seen, before, sorted, p.toString()]`, there);
  same(`return Object.prototype.toString.call(new URLSearchParams('').entries())`, there);
  assert.throws(() => there.run("new URLSearchParams().append('a')"), { name: 'TypeError' });
  // The standard's answer; Node gives an empty list.
  assert.equal(there.run('new URLSearchParams(null).toString()'), 'null=');
  there.run("console.log(new URLSearchParams('a=1&b=2'), new URL('http://h/p').host)");
  assert.deepEqual(there.lines[0], ['LOG', "URLSearchParams { 'a' => '1', 'b' => '2' }", "'h'"]);
});

test('the clock is frozen and told to the host once', () => {
  const { run, seen } = world();
  const fixed = '[new Date(5).getTime(), Date.UTC(2020, 1), Date.parse("2020-01-01")].join()';
  assert.equal(run(fixed), vm.runInThisContext(fixed));
  assert.deepEqual(seen, []);
  assert.equal(run('Date.now()'), NOW);
  assert.equal(run('new Date().getTime() === Date.now()'), true);
  assert.equal(run('Date()'), run(`new Date(${NOW}).toString()`));
  assert.deepEqual(seen, [1]);
});

test('Date is subclassable and looks like Date', () => {
  const { run } = world();
  assert.equal(run(`class X extends Date { twice() { return this.getTime() * 2 } }
    const x = new X(21); [x.twice(), x instanceof X, x instanceof Date, new X().getTime(),
    x.constructor === X].join()`), `42,true,true,${NOW},true`);
  assert.equal(run(`[Date.length, Date.name, new Date(0).constructor === Date,
    new Date(2020, 1, 2, 3, 4, 5, 6).getTime() === Date.UTC(2020, 1, 2, 3, 4, 5, 6)
      + new Date(2020, 1, 2).getTimezoneOffset() * 60000,
    new Date(new Date(7)).getTime(), isNaN(new Date(undefined)), Object.keys(Date).length].join()`),
  '7,Date,true,true,7,true,0');
  assert.equal(run('Reflect.construct(Date, [], class {}) instanceof Date'), false);
});

test('Intl.DateTimeFormat without a date uses the frozen clock', () => {
  const { run, seen } = world({ now: 86_400_000 * 365 });
  const format = `new Intl.DateTimeFormat('en-US', { timeZone: 'UTC', dateStyle: 'short',
    timeStyle: 'long' })`;
  assert.equal(run(`${format}.format(0)`),
    new Intl.DateTimeFormat('en-US', { timeZone: 'UTC', dateStyle: 'short', timeStyle: 'long' })
      .format(0));
  assert.deepEqual(seen, []);
  assert.match(run(`${format}.format()`), /^1\/1\/71/);
  assert.match(run(`${format}.format(undefined)`), /^1\/1\/71/);
  assert.equal(run(`${format}.formatToParts().find((p) => p.type === 'year').value`), '71');
  assert.equal(run(`const f = ${format}; f.format === f.format && [0].map(f.format)[0]`),
    run(`${format}.format(0)`));
  assert.deepEqual(seen, [1]);
});

test('randomness is a function of the seed', () => {
  const draw = `JSON.stringify([Math.random(), crypto.randomUUID(), Math.random(),
    [...crypto.getRandomValues(new Uint8Array(5))]])`;
  const one = world();
  const first = one.run(draw);
  assert.equal(world().run(draw), first);
  assert.notEqual(world({ seed: [1, 2, 3, 4, 5, 6, 7, 9] }).run(draw), first);
  assert.notEqual(one.run(draw), first);
  one.begin();
  assert.equal(one.run(draw), first);
  assert.deepEqual(one.seen, [2, 2]);
  const many = one.run('Array.from({ length: 20000 }, Math.random)');
  const mean = many.reduce((a, b) => a + b, 0) / many.length;
  assert.ok(Math.abs(mean - 0.5) < 0.01 && many.every((x) => x >= 0 && x < 1));
  assert.ok(new Set(many).size === many.length);
  assert.match(one.run('crypto.randomUUID()'),
    /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('the stream is ChaCha12 (published vector, all-zero key)', () => {
  const { run } = world({ seed: [0, 0, 0, 0, 0, 0, 0, 0] });
  const bytes = run('crypto.getRandomValues(new Uint8Array(64))');
  assert.equal(Buffer.from(bytes).toString('hex'),
    '9bf49a6a0755f953811fce125f2683d50429c3bb49e074147e0089a52eae155f'
    + '0564f879d27ae3c02ce82834acfa8c793a629f2ca0de6919610be82f411326be');
});

test('importing neither observes nor may wait', () => {
  const { run, seen } = world({ kind: 'import' });
  run('Date.now(); Math.random()');
  assert.deepEqual(seen, []);
  const refused = /^Error: Cannot use cryptographic randomness at import time$/;
  assert.throws(() => run('crypto.randomUUID()'), refused);
  assert.throws(() => run('crypto.getRandomValues(new Uint8Array(1))'), refused);
  assert.throws(() => run('setTimeout(() => {}, 1)'), /^Error: setTimeout unsupported at import/);
  assert.throws(() => run('fetch("http://x")'), /^Error: fetch\(\) unsupported at import time$/);
});

// The rest of WebCrypto: tests/crypto.test.mjs.
test('crypto.subtle digests, and makes no keys', async () => {
  const { run } = world();
  const hash = await run("crypto.subtle.digest('sha-256', new TextEncoder().encode('abc'))");
  assert.equal(Buffer.from(hash).toString('hex'), createHash('sha256').update('abc').digest('hex'));
  const make = "crypto.subtle.generateKey({ name: 'AES-GCM', length: 128 }, true, ['encrypt'])";
  await assert.rejects(run(make), /^Error: Can't use cryptographic randomness in queries and mut/);
  const refused = /^Error: Cannot use crypto.* at import time$/;
  await assert.rejects(world({ kind: 'import' }).run(make), refused);
});

test('timers and fetch throw Convex\'s text; microtasks run', async () => {
  const { run } = world({ kind: 'mutation' });
  for (const [code, what] of [['setTimeout(f, 1)', 'setTimeout'], ['setInterval(f)', 'setInterval'],
    ['fetch("x")', 'fetch()']]) {
    assert.throws(() => run(`var f = () => {}; ${code}`), { message: `Can't use ${what} in queries `
      + 'and mutations. Please consider using an action. See '
      + 'https://docs.convex.dev/functions/actions for more details.' });
  }
  assert.equal(run('clearTimeout(1); clearInterval(undefined)'), undefined);
  assert.equal(await run('new Promise((r) => queueMicrotask(() => r(7)))'), 7);
  assert.throws(() => run('queueMicrotask(1)'), { name: 'TypeError' });
});

test('structuredClone', () => {
  const { run } = world();
  assert.equal(run(`const o = { a: [1, new Map([[1, 2]])] }; const c = structuredClone(o);
    c !== o && c.a[1].get(1)`), 2);
  assert.equal(run(`try { structuredClone(() => 1) } catch (e) { [e.name, e.code,
    e instanceof DOMException].join() }`), 'DataCloneError,25,true');
  assert.equal(run(`try { structuredClone({ get a() { throw new Error('own') } }) }
    catch (e) { e.message }`), 'own');
  assert.equal(run(`const b = new Uint8Array([1, 2]).buffer;
    const t = structuredClone(b, { transfer: [b] }); [b.byteLength, t.byteLength].join()`), '0,2');
  assert.equal(run(`try { structuredClone(1, { transfer: [{}] }) } catch (e) { e.name }`),
    'DataCloneError');
  assert.throws(() => run('structuredClone()'), { name: 'TypeError' });
  assert.equal(world().hooks.dataCloneError('m').name, 'DataCloneError');
});

test('WeakRef is strong and FinalizationRegistry does nothing', () => {
  const { run } = world();
  assert.equal(run(`const target = {}; new WeakRef(target).deref() === target`), true);
  assert.equal(run(`const token = {}; const r = new FinalizationRegistry(() => {});
    r.register({}, 1, token); [r.unregister(token), r.unregister(token)].join()`), 'true,false');
  for (const code of ['new WeakRef(1)', 'new WeakRef(Symbol.for("x"))', 'WeakRef({})',
    'new FinalizationRegistry()',
    'const o = {}; new FinalizationRegistry(() => {}).register(o, o)']) {
    assert.throws(() => run(`(() => { ${code} })()`), { name: 'TypeError' }, code);
  }
});

test('AsyncLocalStorage nests, and leaves nothing behind', () => {
  const { run, begin } = world();
  assert.equal(run(`const a = new AsyncLocalStorage(); const b = new AsyncLocalStorage();
    const log = [a.getStore()];
    a.run(1, () => {
      log.push(a.getStore());
      b.run(2, () => {
        log.push(a.getStore(), b.getStore());
        a.run(3, (x) => log.push(a.getStore(), x), 'arg');
      });
      a.exit(() => log.push(a.getStore()));
      log.push(a.getStore(), b.getStore());
    });
    try { a.run(9, () => { throw 1 }) } catch {}
    log.push(a.getStore());
    const bound = a.run(4, () => AsyncLocalStorage.bind(() => a.getStore()));
    const snapshot = a.run(5, () => AsyncLocalStorage.snapshot());
    const resource = a.run(6, () => new AsyncResource('r'));
    log.push(bound(), snapshot(() => a.getStore()),
      resource.runInAsyncScope(() => a.getStore()), a.getStore());
    JSON.stringify(log)`), JSON.stringify([undefined, 1, 1, 2, 3, 'arg', undefined, 1, undefined,
    undefined, 4, 5, 6, undefined]));
  run('a.enterWith(8)');
  assert.equal(run('a.getStore()'), 8);
  begin();
  assert.equal(run('a.getStore()'), undefined);
});

test('AsyncLocalStorage follows awaits where the host carries continuations', async () => {
  const carrier = new NodeStorage();
  const { run } = world({ extra: { continuationGet: () => carrier.getStore(),
    continuationSet: (frame) => { carrier.enterWith(frame); },
    // A nested call leaves the isolate without a frame.
    asyncSyscall: () => { carrier.enterWith(undefined); return '1'; } } });
  assert.equal(await run(`const s = new AsyncLocalStorage();
    const work = async (n) => { await null; await new Promise((r) => queueMicrotask(r));
      const answer = Convex.asyncSyscall('op', '1'); const kept = s.getStore() === n;
      await answer; return kept && s.getStore() === n };
    Promise.all([s.run(1, work, 1), s.run(2, work, 2)]).then((all) =>
      all.join() + s.getStore())`), 'true,trueundefined');
});

test('late features', () => {
  const { run } = world();
  const shapes = `[[Promise, 'try', 1], [Uint8Array, 'fromBase64', 1], [Uint8Array, 'fromHex', 1],
    [Uint8Array.prototype, 'toBase64', 0], [Uint8Array.prototype, 'toHex', 0],
    [Uint8Array.prototype, 'setFromBase64', 1], [Uint8Array.prototype, 'setFromHex', 1],
    [RegExp, 'escape', 1], [Error, 'isError', 1], [Map.prototype, 'getOrInsert', 2],
    [Map.prototype, 'getOrInsertComputed', 2], [WeakMap.prototype, 'getOrInsert', 2],
    [WeakMap.prototype, 'getOrInsertComputed', 2], [Iterator, 'concat', 0],
    [Math, 'sumPrecise', 1], [Math, 'random', 0]]`;
  assert.equal(run(`${shapes}.filter(([owner, name, length]) => {
    void owner[name];
    const d = Object.getOwnPropertyDescriptor(owner, name);
    return !(d.writable && d.configurable && !d.enumerable && d.value.length === length
      && d.value.name === name && !('prototype' in d.value)) }).map((s) => s[1]).join()`), '');
});

test('Promise.try, RegExp.escape, Error.isError, getOrInsert, Iterator.concat', async () => {
  const { run } = world();
  assert.equal(await run('Promise.try((a, b) => a + b, 1, 2)'), 3);
  await assert.rejects(run('Promise.try(() => { throw new Error("x") })'), /x/);
  assert.throws(() => run('Promise.try.call(1, () => 1)'), { name: 'TypeError' });
  assert.equal(run(`RegExp.escape('foo.bar-[\\n] é\\u2028\\ud800')`),
    '\\x66oo\\.bar\\x2d\\[\\n\\]\\x20é\\u2028\\ud800');
  assert.equal(run(`const t = '1a/b(c)*'; new RegExp('^' + RegExp.escape(t) + '$').test(t)`), true);
  assert.equal(run(`[new Error, new (class extends TypeError {}), new DOMException('x'),
    { __proto__: Error.prototype }, {}, 1, null, new Proxy(new Error, {})]
    .map(Error.isError).join()`), 'true,true,true,false,false,false,false,false');
  assert.equal(run(`const m = new Map([[1, 'a']]); const w = new WeakMap(); const k = {};
    [m.getOrInsert(1, 'z'), m.getOrInsert(2, 'b'), m.getOrInsertComputed(-0, (k) => 1 / k),
     m.get(0), w.getOrInsert(k, 5), w.getOrInsertComputed(k, () => 6), m.size].join()`),
  'a,b,Infinity,Infinity,5,5,3');
  assert.throws(() => run('new WeakMap().getOrInsertComputed(1, () => {})'), { name: 'TypeError' });
  assert.throws(() => run('Map.prototype.getOrInsert.call({}, 1, 2)'), { name: 'TypeError' });
  assert.equal(run(`[...Iterator.concat([1, 2], new Set([3]),
    (function* () { yield 4 })())].join()`), '1,2,3,4');
  assert.equal(run(`let closed = 0; const src = { [Symbol.iterator]() { return {
    next: () => ({ value: 1, done: false }), return() { closed++; return {} } } } };
    for (const x of Iterator.concat(src)) break; const it = Iterator.concat(src); it.return();
    closed + ',' + it.next().done`), '1,true');
  assert.throws(() => run('Iterator.concat(1)'), { name: 'TypeError' });
});

test('Math.sumPrecise is exact', () => {
  const { run } = world();
  const sum = (list) => run(`Math.sumPrecise(${list})`);
  assert.equal(sum('[1e20, 0.1, -1e20]'), 0.1);
  assert.equal(sum('[0.1, 0.2, 0.3]'), 0.6);
  assert.equal(sum('[1e308, 1e308, -1e308]'), 1e308);
  assert.equal(sum('[1e308, 1e308]'), Infinity);
  assert.equal(sum('[Number.MAX_VALUE, 2 ** 969]'), Number.MAX_VALUE);
  assert.equal(sum('[Number.MAX_VALUE, 2 ** 970]'), Infinity);
  assert.equal(sum('[5e-324, 5e-324]'), 1e-323);
  assert.equal(sum('[2 ** 53, 1, 2 ** -1074]'), 2 ** 53 + 2);
  assert.equal(sum('[2 ** 53, 1]'), 2 ** 53);
  assert.ok(Object.is(sum('[]'), -0) && Object.is(sum('[-0, -0]'), -0));
  assert.ok(Object.is(sum('[-0, 0]'), 0) && Object.is(sum('[1, -1]'), 0));
  assert.ok(Number.isNaN(sum('[Infinity, -Infinity]')) && sum('[1, -Infinity]') === -Infinity);
  assert.throws(() => sum('[1n]'), { name: 'TypeError' });
  let state = 12345;
  for (let round = 0; round < 300; round++) {
    const draw = () => { state = (state * 1103515245 + 12345) % 2147483648; return state; };
    const list = Array.from({ length: 1 + (draw() % 3) },
      () => (draw() - 2 ** 30) * 2 ** (draw() % 40));
    // At most three terms below 2^71 with 31 bits each: BigInt is an oracle.
    assert.equal(sum(JSON.stringify(list)), Number(list.reduce((a, b) => a + BigInt(b), 0n)));
  }
});

test('base64 and hex of Uint8Array', () => {
  const { run } = world();
  for (let size = 0; size < 20; size++) {
    const bytes = Buffer.from(Array.from({ length: size }, (_, i) => (i * 97 + 200) % 256));
    const literal = `new Uint8Array([${[...bytes]}])`;
    assert.equal(run(`${literal}.toBase64()`), bytes.toString('base64'));
    assert.equal(run(`${literal}.toBase64({ alphabet: 'base64url', omitPadding: true })`),
      bytes.toString('base64url'));
    assert.equal(run(`${literal}.toHex()`), bytes.toString('hex'));
    assert.equal(run(`Uint8Array.fromBase64('${bytes.toString('base64')}').join()`), bytes.join());
    assert.equal(run(`Uint8Array.fromHex('${bytes.toString('hex').toUpperCase()}').join()`),
      bytes.join());
  }
  const read = (text, options = '{}') => {
    try {
      return run(`Uint8Array.fromBase64(${JSON.stringify(text)}, ${options}).join()`);
    } catch (error) {
      return error.name;
    }
  };
  assert.deepEqual(['aGk', 'aG k=', 'aGk==', 'aG=', 'a', 'aGk*', 'aGl'].map((t) => read(t)),
    ['104,105', '104,105', 'SyntaxError', 'SyntaxError', 'SyntaxError', 'SyntaxError', '104,105']);
  assert.deepEqual(['aGk', 'aGk=', 'aGl=', 'aGlq'].map((t) =>
    read(t, '{ lastChunkHandling: "strict" }')), ['SyntaxError', '104,105', 'SyntaxError',
    '104,105,106']);
  assert.deepEqual(['aGlqa', 'aGlqaG=', 'aGlqaGk='].map((t) =>
    read(t, '{ lastChunkHandling: "stop-before-partial" }')), ['104,105,106', '104,105,106',
    '104,105,106,104,105']);
  assert.equal(read('-_8', '{ alphabet: "base64url" }'), '251,255');
  assert.equal(read('+/8', '{ alphabet: "base64url" }'), 'SyntaxError');
  assert.equal(read('aa', '{ alphabet: "x" }'), 'TypeError');
  assert.equal(run(`const into = new Uint8Array(4); const r = into.setFromBase64('aGlqaGlq');
    [r.read, r.written, into.join()].join('|')`), '4|3|104,105,106,0');
  assert.equal(run(`const hex = new Uint8Array(2); const h = hex.setFromHex('0aff01');
    [h.read, h.written, hex.join()].join('|')`), '4|2|10,255');
  for (const code of ["Uint8Array.fromHex('abc')", "Uint8Array.fromHex('zz')"]) {
    assert.throws(() => run(code), { name: 'SyntaxError' });
  }
  assert.throws(() => run('Uint8Array.fromBase64(5)'), { name: 'TypeError' });
  assert.throws(() => run('Uint8Array.prototype.toHex.call([])'), { name: 'TypeError' });
});

test('syscalls', async () => {
  const { run, global } = world();
  assert.equal(run('Convex.syscall("a", "{}")'), 'a:{}');
  const promise = run('Convex.asyncSyscall("b", "1")');
  assert.ok(promise instanceof global.Promise);
  assert.match(inspect(promise), /'b:1'/, 'the promise is settled when it is returned');
  assert.equal(await promise, 'b:1');
  await assert.rejects(run(`Convex.asyncSyscall('fail', '{"data":{"k":1}}')`),
    (error) => error.message === 'refused' && error.data.k === 1);
  await assert.rejects(run('Convex.asyncSyscall(1, {})'), { name: 'TypeError' });
  assert.throws(() => run('Convex.syscall("a", {})'), { name: 'TypeError' });
  assert.throws(() => run('Convex.jsSyscall("storage/getBlob", {})'),
    /Convex\.jsSyscall\("storage\/getBlob"\) is not supported by this host yet/);
  assert.equal(run('Promise.prototype.then = null; Promise.resolve = null; typeof '
    + 'Convex.asyncSyscall("b", "1")'), 'object');
});

test('process.env', () => {
  const { run } = world();
  assert.equal(run(`[process.env.KEY, process.env.NONE, process.env.EMPTY, 'KEY' in process.env,
    'NONE' in process.env, Object.keys(process.env).length, process.env[Symbol.iterator],
    process.env.toString, JSON.stringify(process.env)].join('|')`),
  'value|||true|false|0|||{}');
  assert.throws(() => run('process.env.KEY = "x"'), /process\.env\.KEY cannot be changed/);
  assert.throws(() => run('delete process.env.KEY'), { name: 'TypeError' });
});

test('uncaught values are described, whatever they are', () => {
  const { run, hooks } = world();
  const text = (code) => hooks.formatError(run(code)).text;
  assert.deepEqual(['new Error("msg")', 'new TypeError()', '"plain"'].map(text),
    ['Uncaught Error: msg', 'Uncaught TypeError', 'Uncaught plain']);
  assert.equal(text('Object.assign(new Error("m"), { name: "" })'), 'Uncaught m');
  assert.equal(text('new DOMException("m", "AbortError")'), 'Uncaught AbortError: m');
  assert.deepEqual(['undefined', 'null', 'Symbol("s")', '({})'].map(text), ['Uncaught undefined',
    'Uncaught null', 'Uncaught Symbol(s)', 'Uncaught [object Object]']);
  assert.equal(text('Object.create(null)'), 'Uncaught an object that cannot be shown');
  assert.match(hooks.formatError(run('new Error("x")')).stack, /^Error: x\n {4}at convex:/);
});

test('ConvexErrors carry their data', () => {
  const { run, hooks } = world();
  const thrown = `Object.assign(new Error('{"a":1}'), { name: 'ConvexError', data: '{"a":1}',
    ConvexErrorSymbol: Symbol.for('ConvexError'), [Symbol.for('ConvexError')]: true })`;
  const described = hooks.formatError(run(thrown));
  assert.equal(described.data, '{"a":1}');
  assert.equal(described.isConvexError, true);
  assert.equal(described.text, 'Uncaught ConvexError: {"a":1}');
  const raw = `Object.assign(new Error('x'),
    { data: { b: 2 }, [Symbol.for('ConvexError')]: true })`;
  assert.equal(hooks.formatError(run(raw)).data, '{"b":2}');
  assert.equal(hooks.formatError(run('new Error("x")')).data, undefined);
});

test('formatError never throws', () => {
  const { run, hooks } = world();
  const bomb = '() => { throw new Error("bomb") }';
  for (const code of [
    `new Proxy({}, { get: ${bomb}, has: ${bomb}, getPrototypeOf: ${bomb}, ownKeys: ${bomb} })`,
    `new Proxy(new Error('x'), { get: ${bomb} })`,
    `Object.defineProperty(new Error('x'), 'message', { get: ${bomb} })`,
    `Object.defineProperties(new Error('x'), { stack: { get: ${bomb} }, name: { get: ${bomb} } })`,
    `({ toString: ${bomb}, [Symbol.toPrimitive]: ${bomb} })`,
    `Object.assign(new Error('x'), { name: { toString: ${bomb} }, message: Symbol('m') })`,
    `({ ConvexErrorSymbol: { toString: ${bomb} } })`,
    `(() => { const p = Proxy.revocable({}, {}); p.revoke(); return p.proxy })()`,
    `({ [Symbol.for('ConvexError')]: true, get data() { throw 1 } })`,
    `(() => { const d = {}; d.d = d;
      return { [Symbol.for('ConvexError')]: true, data: d, name: 5, message: null } })()`,
  ]) {
    const described = hooks.formatError(run(code));
    assert.match(described.text, /^Uncaught /, code);
    assert.ok(described.data === undefined || typeof described.data === 'string', code);
  }
});

test('a polluted Object.prototype and patched built-ins do not reach the prelude', async () => {
  const { run, lines } = world();
  run(`const boom = () => { throw new Error('patched') };
    Object.prototype.value = 1; Object.prototype.writable = 1; Object.prototype.set = boom;
    Array.prototype[Symbol.iterator] = boom; Array.prototype.push = boom;
    Array.prototype.slice = boom; Array.prototype.join = boom; String.prototype.slice = boom;
    String.prototype.indexOf = boom; RegExp.prototype.exec = boom; Map.prototype.get = boom;
    Function.prototype.call = boom; Function.prototype.apply = boom;
    Reflect.apply = boom; Object.defineProperty = boom; Promise.prototype.then = boom;
    Math.max = boom; Number.prototype.toString = boom; Promise.resolve = boom;`);
  run(`console.log({ a: [1, new Map().set(1, 2)] }, new Error('e').message);
    globalThis.results = [new URL('http://a/?x=1#y').searchParams.get('x'), btoa('hi'),
      new TextDecoder().decode(new TextEncoder().encode('é')), typeof crypto.randomUUID(),
      new URLSearchParams('a=b c').toString(), new Date().getTime()]`);
  assert.deepEqual(lines, [['LOG', '{ a: [ 1, Map(1) { 1 => 2 } ] }', "'e'"]]);
  assert.deepEqual(Array.from({ length: 6 }, (_, i) => run(`results[${i}]`)),
    ['1', 'aGk=', 'é', 'string', 'a=b+c', NOW]);
});
