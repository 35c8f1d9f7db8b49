// `console`: log lines of a function.
//
// In: any values. Out: `host.log(level, parts)`, one call a line; groups, counts and timers live in
// `__concave.call.console`, which `begin` empties. Invariant: logging never throws, runs no
// getter but an error's `stack`, and its cost is bounded whatever is logged (depth, items, length);
// everything is printed much as Node's `inspect` prints it, strings at top level too, as by Convex:
// `1` and `'1'` differ. Tests see their own strings as they are.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { host, primordials } = prelude;
  const { apply, install, lazy, section } = primordials;

  lazy(['console'], section(() => {
    const { ArrayPush, ArraySlice, StringRepeat } = primordials;

    const opened = () => (prelude.call.console ??= { __proto__: null, indent: 0,
      timers: undefined, counts: undefined });

    const inspect = (value) => inspector()(value);

    /** Adds values, as texts, to `parts`. */
    const shown = (values, parts = []) => {
      for (let at = 0; at < values.length; at++) {
        const value = values[at];
        const isPlain = typeof value === 'string' && prelude.isPlainLog?.();
        apply(ArrayPush, parts, [isPlain ? value : inspect(value)]);
      }
      return parts;
    };

    const write = (level, parts) => {
      const { indent } = opened();
      if (indent > 0) {
        const margin = apply(StringRepeat, '  ', [indent]);
        parts[0] = margin + (parts[0] ?? '');
      }
      host.log(level, parts);
    };

    const named = (label) => (label === undefined ? 'default' : `${label}`);

    // Time stands still inside a function, so the difference is 0 unless a host moves the clock.
    const elapsed = (label, values) => {
      const { timers } = opened();
      const start = timers && apply(primordials.MapGet, timers, [label]);
      if (start === undefined) write('WARN', [`Timer '${label}' does not exist`]);
      else {
        write('INFO', shown(values, [`${label}: ${prelude.call.nowMs - start}ms`]));
      }
      return start !== undefined;
    };

    const console = install({}, {
      debug(...values) { write('DEBUG', shown(values)); },
      error(...values) { write('ERROR', shown(values)); },
      info(...values) { write('INFO', shown(values)); },
      log(...values) { write('LOG', shown(values)); },
      warn(...values) { write('WARN', shown(values)); },
      trace(...values) {
        const parts = shown(values);
        apply(ArrayPush, parts, [stackHere('Trace')]);
        write('LOG', parts);
      },
      assert(condition, ...values) {
        if (condition) return;
        const first = values.length === 0 ? 'Assertion failed' : 'Assertion failed:';
        write('ERROR', shown(values, [first]));
      },
      dir(value) { write('LOG', [inspect(value)]); },
      dirxml(...values) { write('LOG', shown(values)); },
      table(data) { write('LOG', [table()(data)]); },
      group(...values) {
        if (values.length > 0) write('LOG', shown(values));
        opened().indent++;
      },
      groupCollapsed(...values) {
        if (values.length > 0) write('LOG', shown(values));
        opened().indent++;
      },
      groupEnd() { if (opened().indent > 0) opened().indent--; },
      count(label) {
        const name = named(label);
        const counts = (opened().counts ??= new primordials.Map());
        const count = (apply(primordials.MapGet, counts, [name]) ?? 0) + 1;
        apply(primordials.MapSet, counts, [name, count]);
        write('LOG', [`${name}: ${count}`]);
      },
      countReset(label) {
        const { counts } = opened();
        if (counts) apply(primordials.MapDelete, counts, [named(label)]);
      },
      time(label) {
        const name = named(label);
        const timers = (opened().timers ??= new primordials.Map());
        if (apply(primordials.MapHas, timers, [name])) {
          write('WARN', [`Timer '${name}' already exists`]);
        } else apply(primordials.MapSet, timers, [name, prelude.call.nowMs]);
      },
      timeLog(label, ...values) { elapsed(named(label), values); },
      timeEnd(label) {
        const name = named(label);
        if (elapsed(name, [])) apply(primordials.MapDelete, opened().timers, [name]);
      },
    });
    primordials.defineProperty(console, primordials.SymbolToStringTag, {
      __proto__: null, value: 'console', configurable: true,
    });

    /** V8's stack text of `error` without the frames of the prelude; never throws. */
    const userStack = (stack) => {
      const { StringIncludes, StringIndexOf, StringSlice } = primordials;
      let result = '';
      let from = 0;
      while (from <= stack.length) {
        const found = apply(StringIndexOf, stack, ['\n', from]);
        const end = found < 0 ? stack.length : found;
        const line = apply(StringSlice, stack, [from, end]);
        if (!apply(StringIncludes, line, ['concave:/'])) result += from === 0 ? line : `\n${line}`;
        from = end + 1;
      }
      return result;
    };

    const stackHere = (name) => {
      try {
        const { stack } = new primordials.Error();
        const text = userStack(`${stack}`);
        const frames = apply(primordials.StringIndexOf, text, ['\n']);
        return frames < 0 ? name : name + apply(primordials.StringSlice, text, [frames]);
      } catch {
        return name;
      }
    };

    const isIndex = (key) => typeof key === 'string'
      && apply(primordials.RegExpExec, /^(0|[1-9][0-9]*)$/, [key]) !== null;

    const inspector = section(() => {
      const { StringIncludes, StringSlice, StringIndexOf, getOwnPropertyDescriptor } = primordials;
      const { ObjectToString, ObjectHasOwn, SymbolToStringTag, getPrototypeOf } = primordials;
      const push = (list, item) => { apply(ArrayPush, list, [item]); };
      const slice = primordials.uncurry(StringSlice);
      const includes = primordials.uncurry(StringIncludes);
      const builtin = makeBuiltins();

      const MAX_DEPTH = 5, MAX_ITEMS = 100, MAX_STRING = 10000, MAX_TOTAL = 65536, WIDTH = 76;
      // More than a line of the log may have.
      const MAX_LINE = 65536;
      // Levels of nesting on one line.
      const MAX_INLINE = 3;

      const inspect = (value) => {
        const run = { __proto__: null, seen: [], circular: [], spent: 0, depth: 0, deepest: 0,
          indent: 0 };
        try {
          return typeof value === 'string' ? quote(value, MAX_LINE) : format(run, value);
        } catch (error) {
          return `[cannot be shown: ${reason(error)}]`;
        }
      };

      const reason = (error) => {
        try {
          return `${error}`;
        } catch {
          return 'its traps throw';
        }
      };

      const format = (run, value) => {
        const text = primitive(value);
        if (text !== undefined) {
          run.spent += text.length;
          return text;
        }
        for (let at = 0; at < run.seen.length; at++) {
          if (run.seen[at] !== value) continue;
          let mark = 0;
          while (mark < run.circular.length && run.circular[mark] !== value) mark++;
          if (mark === run.circular.length) push(run.circular, value);
          return `[Circular *${mark + 1}]`;
        }
        push(run.seen, value);
        const shown = object(run, value);
        run.seen.length--;
        for (let mark = 0; mark < run.circular.length; mark++) {
          if (run.circular[mark] === value) return `<ref *${mark + 1}> ${shown}`;
        }
        return shown;
      };

      // What cannot stand between quotes as it is, or may not.
      const SPECIAL = /[\0-\x1f'\\\x7f-\x9f\ud800-\udfff]/;

      const primitive = (value) => {
        if (typeof value === 'string') return quote(value);
        if (typeof value === 'number') return primordials.is(value, -0) ? '-0' : `${value}`;
        if (typeof value === 'bigint') return `${value}n`;
        if (typeof value === 'symbol') return apply(primordials.SymbolToString, value, []);
        if (value === null || typeof value !== 'object' && typeof value !== 'function') {
          return `${value}`;
        }
        return undefined;
      };

      const quote = (text, most = MAX_STRING) => {
        let cut = '';
        if (text.length > most) {
          const more = text.length - most;
          cut = `... ${more} more character${more > 1 ? 's' : ''}`;
          text = slice(text, 0, most);
        }
        if (apply(primordials.RegExpExec, SPECIAL, [text]) === null) return `'${text}'${cut}`;
        const mark = !includes(text, "'") ? "'" : !includes(text, '"') ? '"'
          : !includes(text, '`') && !includes(text, '${') ? '`' : "'";
        let result = mark;
        for (let at = 0; at < text.length; at++) result += escape(text, at, mark);
        return result + mark + cut;
      };

      const escape = (text, at, mark) => {
        const unit = text[at];
        const code = apply(primordials.StringCharCodeAt, unit, [0]);
        if (unit === mark || unit === '\\') return `\\${unit}`;
        if (code === 10) return '\\n';
        if (code === 9) return '\\t';
        if (code === 13) return '\\r';
        if (code === 8) return '\\b';
        if (code === 12) return '\\f';
        if (code === 11) return '\\v';
        if (code < 32 || (code >= 127 && code < 160)) return `\\x${hex(code, 2)}`;
        return lone(text, at, code) ? `\\u${apply(primordials.NumberToString, code, [16])}` : unit;
      };

      const lone = (text, at, code) => {
        const unit = (place) => apply(primordials.StringCharCodeAt, text, [place]) & 0xfc00;
        if ((code & 0xfc00) === 0xd800) return unit(at + 1) !== 0xdc00;
        return (code & 0xfc00) === 0xdc00 && unit(at - 1) !== 0xd800;
      };

      const hex = (code, width) => apply(primordials.StringPadStart,
        apply(primordials.StringToUpperCase, apply(primordials.NumberToString, code, [16]), []),
        [width, '0']);

      /** Name of the nearest constructor, without running user code; null for null prototypes. */
      const constructorName = (value) => {
        for (let owner = value; owner !== null; owner = getPrototypeOf(owner)) {
          const descriptor = getOwnPropertyDescriptor(owner, 'constructor');
          if (typeof descriptor?.value !== 'function') continue;
          const name = getOwnPropertyDescriptor(descriptor.value, 'name')?.value;
          if (typeof name === 'string' && name !== '') return name;
        }
        return null;
      };

      const prefix = (value, fallback, size = '') => {
        const name = constructorName(value);
        const tag = tagOf(value);
        const base = name === null ? `[${fallback}${size}: null prototype] ` : `${name}${size} `;
        return tag !== '' && tag !== name && tag !== fallback ? `${base}[${tag}] ` : base;
      };

      const tagOf = (value) => {
        for (let owner = value; owner !== null; owner = getPrototypeOf(owner)) {
          const descriptor = getOwnPropertyDescriptor(owner, SymbolToStringTag);
          if (descriptor === undefined) continue;
          const hidden = owner === value && descriptor.enumerable;
          return typeof descriptor.value === 'string' && !hidden ? descriptor.value : '';
        }
        return '';
      };

      const object = (run, value) => {
        if (run.spent > MAX_TOTAL) return '[...]';
        run.deepest = run.depth;
        if (typeof value === 'function') return plain(run, value, functionBase(value));
        const show = value[prelude.shown];
        const tag = apply(ObjectToString, value, []);
        if (typeof show === 'function' && tag !== '[object Object]') {
          const name = constructorName(value);
          const shown = apply(show, value, []);
          if (run.depth > MAX_DEPTH) return `[${name}]`;
          const base = primordials.getPrototypeOf(shown) === primordials.ObjectPrototype;
          return base ? `${name} ${format(run, shown)}`
            : collection(run, shown, ' => ', `${name} `);
        }
        if (primordials.isArray(value)) return array(run, value);
        const known = tag === '[object Object]' ? undefined : builtin(value, tag);
        if (known === undefined) return plain(run, value, undefined);
        const size = `(${known.size})`;
        if (known.map) return collection(run, value, ' => ', prefix(value, 'Map', size));
        if (known.set) return collection(run, value, '', prefix(value, 'Set', size));
        if (known.typed) return array(run, value, known);
        if (known.error) return error(run, value);
        if (known.items !== undefined) {
          const own = members(run, value, undefined);
          return braces(run, prefix(value, known.name), known.items, own);
        }
        return plain(run, value, known.text, known.skip);
      };

      const functionBase = (value) => {
        const source = apply(primordials.FunctionToString, value, []);
        const own = getOwnPropertyDescriptor(value, 'name')?.value;
        const name = typeof own === 'string' && own !== '' ? own : undefined;
        if (apply(primordials.StringStartsWith, source, ['class']) && includes(source, '{')) {
          const parent = getPrototypeOf(value);
          const from = parent && getOwnPropertyDescriptor(parent, 'name')?.value;
          return `[class ${name ?? '(anonymous)'}${from ? ` extends ${from}` : ''}]`;
        }
        const kind = constructorName(value) ?? 'Function';
        return name === undefined ? `[${kind} (anonymous)]` : `[${kind}: ${name}]`;
      };

      /** Own members as `key: value` texts; without those that `skip` names. */
      const members = (run, value, skip) => {
        const out = [];
        // There may be millions of indices.
        const keys = skip === isIndex ? host.namedKeys(value) : primordials.ownKeys(value);
        run.depth++;
        run.indent += 2;
        for (let at = 0; at < keys.length; at++) {
          const key = keys[at];
          if (skip !== undefined && skip(key)) continue;
          const descriptor = getOwnPropertyDescriptor(value, key);
          if (!descriptor?.enumerable) continue;
          if (run.spent > MAX_TOTAL) {
            push(out, `... ${keys.length - at} more`);
            break;
          }
          push(out, `${keyText(key)}: ${member(run, descriptor)}`);
        }
        run.indent -= 2;
        run.depth--;
        return out;
      };

      const member = (run, descriptor) => {
        if (ObjectHasOwn(descriptor, 'value')) {
          return format(run, descriptor.value);
        }
        if (descriptor.get === undefined) return '[Setter]';
        return descriptor.set === undefined ? '[Getter]' : '[Getter/Setter]';
      };

      const keyText = (key) => {
        if (typeof key === 'symbol') return `[${apply(primordials.SymbolToString, key, [])}]`;
        return apply(primordials.RegExpExec, /^[a-zA-Z_][a-zA-Z_0-9]*$/, [key]) ? key : quote(key);
      };

      const plain = (run, value, base, skip = undefined) => {
        const bare = base !== undefined;
        const name = bare ? base : prefix(value, 'Object');
        if (run.depth > MAX_DEPTH && !bare) return `[${slice(name, 0, -1)}]`;
        const out = members(run, value, skip);
        if (bare) return out.length === 0 ? base : braces(run, `${base} `, out, []);
        return braces(run, name === 'Object ' ? '' : name, out, []);
      };

      const array = (run, value, known = undefined) => {
        const size = known?.size ?? value.length;
        const name = prefix(value, known?.name ?? 'Array', `(${size})`);
        const start = name === `Array(${size}) ` ? '' : name;
        if (run.depth > MAX_DEPTH) return `[${constructorName(value) ?? 'Array'}]`;
        const out = items(run, value, size);
        const large = size > 1000 && known !== undefined;
        return brackets(run, start, out, large ? [] : members(run, value, isIndex));
      };

      const items = (run, value, size) => {
        const out = [];
        let holes = 0;
        const flush = () => {
          if (holes > 0) push(out, `<${holes} empty item${holes > 1 ? 's' : ''}>`);
          holes = 0;
        };
        run.depth++;
        run.indent += 2;
        let at = 0;
        for (; at < size && out.length < MAX_ITEMS && run.spent <= MAX_TOTAL; at++) {
          const descriptor = getOwnPropertyDescriptor(value, at);
          if (descriptor === undefined) holes++;
          else {
            flush();
            push(out, member(run, descriptor));
          }
          if (holes > 1e6) break;
        }
        flush();
        if (at < size) push(out, `... ${size - at} more item${size - at > 1 ? 's' : ''}`);
        run.indent -= 2;
        run.depth--;
        return out;
      };

      const collection = (run, value, arrow, name) => {
        if (run.depth > MAX_DEPTH) return `[${constructorName(value)}]`;
        const out = [];
        let left = MAX_ITEMS;
        let more = 0;
        run.depth++;
        run.indent += 2;
        const each = (item, key) => {
          if (left-- <= 0 || run.spent > MAX_TOTAL) more++;
          else push(out, arrow === '' ? format(run, item)
            : `${format(run, key)}${arrow}${format(run, item)}`);
        };
        apply(arrow === '' ? primordials.SetForEach : primordials.MapForEach, value, [each]);
        if (more > 0) push(out, `... ${more} more item${more > 1 ? 's' : ''}`);
        run.indent -= 2;
        run.depth--;
        return braces(run, name, out, members(run, value, undefined));
      };

      const error = (run, value) => {
        const own = getOwnPropertyDescriptor(value, 'stack');
        const stack = own?.get === undefined ? own?.value : value.stack;
        const head = typeof stack === 'string' && stack !== '' ? userStack(stack)
          : `[${apply(primordials.ErrorToString, value, [])}]`;
        const out = members(run, value,
          (key) => key === 'stack' || key === 'message' || prelude.isHidden?.(key));
        const cause = getOwnPropertyDescriptor(value, 'cause');
        if (cause !== undefined && !cause.enumerable) {
          run.depth++;
          run.indent += 2;
          push(out, `[cause]: ${member(run, cause)}`);
          run.indent -= 2;
          run.depth--;
        }
        const margin = `\n${apply(StringRepeat, ' ', [run.indent])}`;
        let text = head;
        if (run.indent > 0) text = relined(head, margin);
        return out.length === 0 ? text : braces(run, `${text} `, out, []);
      };

      const relined = (text, margin) => {
        let result = '';
        let from = 0;
        for (;;) {
          const end = apply(StringIndexOf, text, ['\n', from]);
          if (end < 0) return result + slice(text, from);
          result += slice(text, from, end) + margin;
          from = end + 1;
        }
      };

      const braces = (run, base, first, second) => wrap(run, base, '{}', { first, second });
      const brackets = (run, base, first, second) => {
        const grouped = first.length > 6 ? fill(run, first) : first;
        return wrap(run, base, '[]', { first: grouped, second, grouped: grouped !== first });
      };

      /** One line where it fits, else an entry a line. */
      const wrap = (run, base, marks, { first, second, grouped = false }) => {
        const out = apply(ArraySlice, first, []);
        for (let at = 0; at < second.length; at++) push(out, second[at]);
        if (out.length === 0) return base + marks;
        let total = base.length + run.indent + 10;
        let lines = grouped || run.deepest - run.depth >= MAX_INLINE;
        for (let at = 0; at < out.length; at++) {
          total += out[at].length + 2;
          if (includes(out[at], '\n')) lines = true;
        }
        if (!lines && total <= WIDTH + 4 && !includes(base, '\n')) {
          return `${base}${marks[0]} ${apply(primordials.ArrayJoin, out, [', '])} ${marks[1]}`;
        }
        const margin = `\n${apply(StringRepeat, ' ', [run.indent])}`;
        const inner = apply(primordials.ArrayJoin, out, [`,${margin}  `]);
        return `${base}${marks[0]}${margin}  ${inner}${margin}${marks[1]}`;
      };

      /** Many short items: as many a line as fit. */
      const fill = (run, list) => {
        const out = [];
        let line = '';
        for (let at = 0; at < list.length; at++) {
          if (includes(list[at], '\n')) return list;
          if (line !== '' && line.length + list[at].length + run.indent > WIDTH - 4) {
            push(out, line);
            line = '';
          }
          line += line === '' ? list[at] : `, ${list[at]}`;
        }
        push(out, line);
        return out.length === 1 ? list : out;
      };

      return inspect;
    });

    /**
     * Recognises built-in objects by their internal slots. The host says which those are: a getter
     * of a class throws for others, and a context in which anything is thrown serves no more calls.
     */
    function makeBuiltins() {
      const p = primordials;
      const unboxed = { __proto__: null, Number: p.NumberValueOf, String: p.StringValueOf,
        Boolean: p.BooleanValueOf, BigInt: p.BigIntValueOf, Symbol: p.SymbolValueOf };

      // Reads `flags` and `source`, which may be the author's.
      const pattern = (value) => {
        try {
          return { text: apply(p.RegExpToString, value, []) };
        } catch {
          return { text: undefined };
        }
      };

      const bytes = (value, size) => {
        const view = new p.Uint8Array(value);
        let text = '';
        for (let at = 0; at < size && at < 50; at++) {
          const digits = apply(p.NumberToString, view[at], [16]);
          text += (at > 0 ? ' ' : '') + apply(p.StringPadStart, digits, [2, '0']);
        }
        const more = size - 50;
        return `<${text}${more > 0 ? ` ... ${more} more byte${more > 1 ? 's' : ''}` : ''}>`;
      };

      const buffer = (value) => {
        const size = apply(p.ArrayBufferByteLength, value, []);
        const contents = `[Uint8Contents]: ${bytes(value, size)}`;
        return { name: 'ArrayBuffer', items: [contents, `byteLength: ${size}`] };
      };

      const dated = (value) => {
        const time = apply(p.DateGetTime, value, []);
        return { text: time === time ? apply(p.DateToISOString, value, []) : 'Invalid Date' };
      };

      const boxed = (value, name) => {
        const inner = apply(unboxed[name], value, []);
        const skip = typeof inner === 'string' ? isIndex : undefined;
        return { text: `[${name}: ${inspect(inner)}]`, skip };
      };

      const slotted = (value, name) => {
        if (name === 'Map') return { map: true, size: apply(p.MapSize, value, []) };
        if (name === 'Set') return { set: true, size: apply(p.SetSize, value, []) };
        if (name === 'Date') return dated(value);
        if (name === 'ArrayBuffer') return buffer(value);
        return boxed(value, name);
      };

      return (value, tag) => {
        if (tag === '[object Error]' || prelude.errors().isError(value)) return { error: true };
        if (tag === '[object Arguments]') return { text: '[Arguments]' };
        const name = host.slots(value);
        if (name === 'RegExp') return tag === '[object RegExp]' ? pattern(value) : undefined;
        if (name !== undefined) return slotted(value, name);
        if (tag === '[object WeakMap]' || tag === '[object WeakSet]') {
          return { name: tag === '[object WeakMap]' ? 'WeakMap' : 'WeakSet',
            items: ['<items unknown>'] };
        }
        const typed = apply(p.TypedArrayTag, value, []);
        return typed === undefined ? undefined
          : { typed: true, name: typed, size: apply(p.TypedArrayLength, value, []) };
      };
    }

    /** `console.table`: rows and columns, plain ASCII; anything that is no table is inspected. */
    const table = section(() => {
      const { StringPadEnd, isObject, ownKeys } = primordials;
      const push = (list, item) => { apply(ArrayPush, list, [item]); };

      const cell = (owner, key) => {
        const descriptor = primordials.getOwnPropertyDescriptor(owner, key);
        return descriptor === undefined ? '' : inspect(descriptor.value);
      };

      const MAX_KEYS = 1000;

      /** Its own keys; of very many indices the first ones. */
      const keysOf = (owner) => {
        const size = primordials.isArray(owner) ? owner.length
          : primordials.isView(owner) ? apply(primordials.TypedArrayLength, owner, []) : 0;
        if (size <= 100 * MAX_KEYS) return ownKeys(owner);
        const keys = [];
        for (let at = 0; at < MAX_KEYS; at++) push(keys, `${at}`);
        const named = host.namedKeys(owner);
        for (let at = 0; at < named.length; at++) push(keys, named[at]);
        return keys;
      };

      const enumerable = (owner) => {
        const keys = keysOf(owner);
        const out = [];
        for (let at = 0; at < keys.length && out.length < MAX_KEYS; at++) {
          const own = typeof keys[at] === 'string'
            && primordials.getOwnPropertyDescriptor(owner, keys[at])?.enumerable;
          if (own) push(out, keys[at]);
        }
        return out;
      };

      const indexOf = (columns, name) => {
        for (let at = 0; at < columns.length; at++) if (columns[at] === name) return at;
        push(columns, name);
        return columns.length - 1;
      };

      const line = (row, widths) => {
        let text = '|';
        for (let at = 0; at < widths.length; at++) {
          text += ` ${apply(StringPadEnd, row[at] ?? '', [widths[at]])} |`;
        }
        return text;
      };

      const grid = (data) => {
        const columns = ['(index)'];
        const rows = [columns];
        const values = [];
        const indices = enumerable(data);
        for (let at = 0; at < indices.length; at++) {
          const item = primordials.getOwnPropertyDescriptor(data, indices[at]).value;
          const row = [indices[at]];
          if (isObject(item)) {
            const keys = enumerable(item);
            for (let k = 0; k < keys.length; k++) {
              row[indexOf(columns, keys[k])] = cell(item, keys[k]);
            }
          } else values[rows.length] = inspect(item);
          push(rows, row);
        }
        if (values.length > 0) {
          push(columns, 'Values');
          for (let at = 1; at < values.length; at++) {
            rows[at][columns.length - 1] = values[at] ?? '';
          }
        }
        return rows;
      };

      return (data) => {
        try {
          if (!isObject(data)) return inspect(data);
          const rows = grid(data);
          const widths = [];
          for (let r = 0; r < rows.length; r++) {
            for (let c = 0; c < rows[0].length; c++) {
              const size = (rows[r][c] ?? '').length;
              if (widths[c] === undefined || widths[c] < size) widths[c] = size;
            }
          }
          let text = line(rows[0], widths);
          const rule = [];
          for (let c = 0; c < widths.length; c++) rule[c] = apply(StringRepeat, '-', [widths[c]]);
          text += `\n${line(rule, widths)}`;
          for (let r = 1; r < rows.length; r++) text += `\n${line(rows[r], widths)}`;
          return text;
        } catch {
          return inspect(data);
        }
      };
    });

    return { __proto__: null, console };
  }));
});
