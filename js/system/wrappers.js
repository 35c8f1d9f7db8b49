// `convex:/_system/repl/wrappers.js`: what the module of `convex run --inline-query` imports.
//
// In: a handler, or `{handler}`. Out: `query` and `internalQuery`, which make of it a function that
// the host can call, with the context that npm's `convex/server` gives to queries. Such a module is
// bundled by nobody, so it cannot bring that package with it. Invariant: only what a query may do
// is here; values cross as the package's encoded JSON.

const FUNCTION_NAME = Symbol.for('functionName');
const REFERENCE_PATH = Symbol.for('toReferencePath');
const CONVEX_ERROR = Symbol.for('ConvexError');

/** The eight bytes of a number that JSON cannot hold, in base64. */
const eightBytes = (write) => {
  const view = new DataView(new ArrayBuffer(8));
  write(view);
  return new Uint8Array(view.buffer).toBase64();
};

const viewOf = (base64) => new DataView(Uint8Array.fromBase64(base64).buffer);

/** A value as encoded JSON. */
const encode = (value) => {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number') {
    if (Number.isFinite(value) && !Object.is(value, -0)) return value;
    return { $float: eightBytes((view) => view.setFloat64(0, value, true)) };
  }
  if (typeof value === 'bigint') {
    if (BigInt.asIntN(64, value) !== value) throw new Error(`${value}n does not fit an int64`);
    return { $integer: eightBytes((view) => view.setBigInt64(0, value, true)) };
  }
  if (value instanceof ArrayBuffer) return { $bytes: new Uint8Array(value).toBase64() };
  if (Array.isArray(value)) return value.map(encode);
  if (typeof value !== 'object') throw new Error(`${String(value)} is not a Convex value`);
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) {
    const name = value.constructor?.name ?? 'an object';
    throw new Error(`${name} is not a Convex value: return plain objects, arrays and values`);
  }
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  for (const [name] of fields) {
    if (name.startsWith('$')) throw new Error(`Field name ${name} starts with a '$'`);
  }
  return Object.fromEntries(fields.map(([name, field]) => [name, encode(field)]));
};

/** The value that encoded JSON stands for. */
const decode = (json) => {
  if (typeof json !== 'object' || json === null) return json;
  if (Array.isArray(json)) return json.map(decode);
  if ('$integer' in json) return viewOf(json.$integer).getBigInt64(0, true);
  if ('$float' in json) return viewOf(json.$float).getFloat64(0, true);
  if ('$bytes' in json) return Uint8Array.fromBase64(json.$bytes).buffer;
  return Object.fromEntries(Object.entries(json).map(([name, field]) => [name, decode(field)]));
};

/** In ranges and filters a field may be compared with `undefined`. */
const encodeOperand = (value) => (value === undefined ? { $undefined: null } : encode(value));

const syscall = (op, args) => JSON.parse(Convex.syscall(`1.0/${op}`, JSON.stringify(args)));

const asyncSyscall = async (op, args) => {
  try {
    return JSON.parse(await Convex.asyncSyscall(`1.0/${op}`, JSON.stringify(args)));
  } catch (error) {
    if (error.data === undefined) throw new Error(error.message);
    const data = decode(error.data);
    const message = typeof data === 'string' ? data : JSON.stringify(error.data);
    const thrown = Object.assign(new Error(message), { name: 'ConvexError', data });
    thrown[CONVEX_ERROR] = true;
    throw thrown;
  }
};

/** A filter's expression, or a plain value in its place. */
class Expression {
  constructor(json) {
    this.json = json;
  }
}

const operand = (value) =>
  (value instanceof Expression ? value.json : { $literal: encodeOperand(value) });

const binary = (name) => (l, r) => new Expression({ [name]: [operand(l), operand(r)] });
const unary = (name) => (x) => new Expression({ [name]: operand(x) });
const many = (name) => (...xs) => new Expression({ [name]: xs.map(operand) });

/** What `.filter((q) => …)` is given. */
const filters = {
  eq: binary('$eq'),
  neq: binary('$neq'),
  lt: binary('$lt'),
  lte: binary('$lte'),
  gt: binary('$gt'),
  gte: binary('$gte'),
  add: binary('$add'),
  sub: binary('$sub'),
  mul: binary('$mul'),
  div: binary('$div'),
  mod: binary('$mod'),
  neg: unary('$neg'),
  not: unary('$not'),
  and: many('$and'),
  or: many('$or'),
  field: (path) => new Expression({ $field: path }),
};

/** What `.withIndex(name, (q) => …)` and `.withSearchIndex(name, (q) => …)` are given. */
const ranges = (parts) => {
  const part = (type) => (fieldPath, value) =>
    ranges([...parts, { type, fieldPath, value: encodeOperand(value) }]);
  const search = (fieldPath, value) => ranges([...parts, { type: 'Search', fieldPath, value }]);
  const bounds = { gt: part('Gt'), gte: part('Gte'), lt: part('Lt'), lte: part('Lte') };
  return { parts, eq: part('Eq'), search, ...bounds };
};

/** A query that is being put together; awaited by `collect()` and its kin. */
class Query {
  constructor(source, operators = []) {
    this.source = source;
    this.operators = operators;
  }

  with(source) {
    return new Query({ ...this.source, ...source }, this.operators);
  }

  add(operator) {
    return new Query(this.source, [...this.operators, operator]);
  }

  fullTableScan() {
    return this;
  }

  withIndex(name, range) {
    const { tableName, order } = this.source;
    const { parts } = range === undefined ? ranges([]) : range(ranges([]));
    const indexName = `${tableName}.${name}`;
    return new Query({ type: 'IndexRange', indexName, range: parts, order }, this.operators);
  }

  withSearchIndex(name, search) {
    const { parts } = search(ranges([]));
    const indexName = `${this.source.tableName}.${name}`;
    return new Query({ type: 'Search', indexName, filters: parts }, this.operators);
  }

  order(order) {
    return this.with({ order });
  }

  filter(predicate) {
    return this.add({ filter: operand(predicate(filters)) });
  }

  limit(count) {
    return this.add({ limit: count });
  }

  async *[Symbol.asyncIterator]() {
    const { source, operators } = this;
    const { queryId } = syscall('queryStream', { query: { source, operators } });
    try {
      for (;;) {
        const { value, done } = await asyncSyscall('queryStreamNext', { queryId });
        if (done) return;
        yield decode(value);
      }
    } finally {
      syscall('queryCleanup', { queryId });
    }
  }

  async collect() {
    const all = [];
    for await (const document of this) all.push(document);
    return all;
  }

  take(count) {
    return this.limit(count).collect();
  }

  async first() {
    return (await this.take(1))[0] ?? null;
  }

  async unique() {
    const found = await this.take(2);
    if (found.length === 2) {
      const { tableName, indexName } = this.source;
      const table = tableName ?? indexName.split('.')[0];
      const ids = found.map((document) => document._id).join(', ');
      throw new Error(
        `unique() query returned more than one result from table ${table}:\n [${ids}, ...]`,
      );
    }
    return found[0] ?? null;
  }

  async paginate({ cursor, numItems: pageSize, endCursor = null, maximumRowsRead = null }) {
    const { source, operators } = this;
    const query = { source, operators };
    const asked = { query, cursor, endCursor, pageSize, maximumRowsRead };
    const page = await asyncSyscall('queryPage', asked);
    return { ...page, page: page.page.map(decode) };
  }
}

const reader = (isSystem) => ({
  get: async (first, second) => {
    const [table, id] = second === undefined ? [undefined, first] : [first, second];
    return decode(await asyncSyscall('get', { id, isSystem, table }));
  },
  query: (tableName) => new Query({ type: 'FullTableScan', tableName, order: null }),
  normalizeId: (table, idString) => syscall('db/normalizeId', { table, idString }).id,
});

const addressOf = (target) => {
  if (typeof target === 'string') {
    return target.startsWith('function://') ? { functionHandle: target } : { name: target };
  }
  const name = target?.[FUNCTION_NAME];
  if (name !== undefined) return { name };
  const reference = target?.[REFERENCE_PATH];
  if (reference === undefined) throw new Error('ctx.runQuery takes a path such as "mod:fn"');
  return { reference };
};

const storageCall = (op) => async (storageId) => asyncSyscall(op, { requestId: '', storageId });

const context = () => ({
  db: { ...reader(false), system: reader(true) },
  auth: { getUserIdentity: () => asyncSyscall('getUserIdentity', { requestId: '' }) },
  storage: {
    getUrl: storageCall('storageGetUrl'),
    getMetadata: storageCall('storageGetMetadata'),
  },
  runQuery: async (target, args = {}) => {
    const asked = { udfType: 'query', args: encode(args), ...addressOf(target) };
    return decode(await asyncSyscall('runUdf', asked));
  },
});

const registered = (definition, visibility) => {
  const handler = typeof definition === 'function' ? definition : definition.handler;
  const invokeQuery = async (argsJson) => {
    try {
      const result = await handler(context(), ...decode(JSON.parse(argsJson)));
      if (result instanceof Query) {
        throw new Error('Return value is a Query. Results must be retrieved with `.collect()`, '
          + '`.take(n), `.unique()`, or `.first()`.');
      }
      return JSON.stringify(encode(result === undefined ? null : result));
    } catch (error) {
      if (typeof error === 'object' && error !== null && CONVEX_ERROR in error) {
        error.data = JSON.stringify(encode(error.data ?? null));
        error.ConvexErrorSymbol = CONVEX_ERROR;
      }
      throw error;
    }
  };
  const made = (...args) => handler(...args);
  const flags = { isQuery: true, isConvexFunction: true, [visibility]: true };
  const exported = { exportArgs: () => '{"type":"any"}', exportReturns: () => 'null' };
  return Object.assign(made, flags, exported, { invokeQuery, _handler: handler });
};

/** A query as `convex/server` makes it. */
export const query = (definition) => registered(definition, 'isPublic');

/** The same for the operator alone, who asks here. */
export const internalQuery = (definition) => registered(definition, 'isInternal');
