// Is a history of appends and reads strictly serializable, with read-your-own-writes?
//
// In: operations, each with what it appended, what it read and when it began and ended. Out: what
// is wrong with it, as sentences; an empty list for a good one. Invariant: an operation comes
// before another because of a value (written over, read, not yet read), of time (one ended before
// the other began) or of its client's order; a history is good if and only if nothing comes, over
// such steps, before itself.
//
// operation: { name, client, appends: [[register, value]], reads: [[register, values]],
//              begin, end }
// `begin` is null for what a subscription showed: it may be old, but never older than what its
// client saw before. `end` is null where no answer ever came: it may have run, once, or not.

/** Everything that is wrong with a history. `final` holds each register's contents at its end. */
export function check(operations, final) {
  const writers = new Map();
  const wrong = [];
  for (const operation of operations) {
    for (const [register, value] of operation.appends) {
      writers.set(`${register}=${value}`, operation);
    }
  }
  wrong.push(...checkValues(operations, final, writers));
  if (wrong.length > 0) return wrong;
  const graph = new Graph(operations);
  addValueEdges(graph, operations, final, writers);
  addTimeEdges(graph, operations);
  addClientEdges(graph, operations);
  return graph.components().filter((nodes) => nodes.length > 1).map((nodes) => graph.cycle(nodes));
}

/** Nothing lost, nothing twice, and every list that was read is how the final one begins. */
function checkValues(operations, final, writers) {
  const wrong = [];
  for (const [register, values] of final) {
    const twice = values.filter((value, at) => values.indexOf(value) !== at);
    if (twice.length > 0) wrong.push(`${register} holds ${twice} more than once`);
    for (const value of values) {
      if (!writers.has(`${register}=${value}`)) wrong.push(`nobody appended ${register}=${value}`);
    }
  }
  for (const { name, appends, reads, end } of operations) {
    for (const [register, value] of appends) {
      const kept = final.get(register)?.includes(value);
      if (!kept && end !== null) wrong.push(`${name}: ${register}=${value} is lost`);
    }
    for (const [register, values] of reads) {
      const all = final.get(register) ?? [];
      if (values.some((value, at) => value !== all[at])) {
        wrong.push(`${name} read ${register}=[${values}], which [${all}] never was`);
      }
    }
  }
  return wrong;
}

/** Writer → next writer, writer → reader, reader → writer of what it did not see yet. */
function addValueEdges(graph, operations, final, writers) {
  const writer = (register, at) => writers.get(`${register}=${final.get(register)?.[at]}`);
  for (const [register, values] of final) {
    for (let at = 1; at < values.length; at++) {
      graph.add(writer(register, at - 1), writer(register, at), `${register} written over`);
    }
  }
  for (const operation of operations) {
    for (const [register, values] of operation.reads) {
      const seen = values.length;
      graph.add(writer(register, seen - 1), operation, `${register} read`);
      graph.add(operation, writer(register, seen), `${register} read before`);
    }
  }
}

/** What ended before another began comes before it: a chain of moments stands between them. */
function addTimeEdges(graph, operations) {
  const moments = [];
  for (const operation of operations) {
    if (operation.begin !== null) moments.push({ at: operation.begin, begins: operation });
    if (operation.end !== null) moments.push({ at: operation.end, ends: operation });
  }
  // Where two fall together, the beginning counts as first: that claims less.
  moments.sort((a, b) => a.at - b.at || Boolean(a.ends) - Boolean(b.ends));
  let chain = null;
  for (const { at, begins, ends } of moments) {
    if (begins) graph.add(chain, begins, "began later");
    if (!ends) continue;
    const moment = { name: `time ${at}` };
    graph.add(chain, moment, "time");
    graph.add(ends, moment, "ended");
    chain = moment;
  }
}

/** What a client knew it goes on knowing, in what its subscriptions show too. */
function addClientEdges(graph, operations) {
  const clients = Map.groupBy?.(operations, ({ client }) => client) ?? group(operations);
  for (const own of clients.values()) {
    const ended = own.filter(({ end }) => end !== null).sort((a, b) => a.end - b.end);
    let shown = null;
    let known = 0;
    for (const operation of ended.filter(({ begin }) => begin === null)) {
      graph.add(shown, operation, "shown later to the same client");
      for (; ended[known].end < operation.end; known++) {
        graph.add(ended[known], operation, "known to the same client");
      }
      shown = operation;
    }
  }
}

function group(operations) {
  const groups = new Map();
  for (const operation of operations) {
    if (!groups.has(operation.client)) groups.set(operation.client, []);
    groups.get(operation.client).push(operation);
  }
  return groups;
}

class Graph {
  /** node → Map(node → why). */
  edges = new Map();

  constructor(nodes) {
    for (const node of nodes) this.edges.set(node, new Map());
  }

  add(from, to, why) {
    if (!from || !to || from === to) return;
    for (const node of [from, to]) if (!this.edges.has(node)) this.edges.set(node, new Map());
    if (!this.edges.get(from).has(to)) this.edges.get(from).set(to, why);
  }

  /** Strongly connected components, by Tarjan's algorithm without recursion. */
  components() {
    const state = { index: new Map(), low: new Map(), stack: [], onStack: new Set(), found: [] };
    for (const root of this.edges.keys()) if (!state.index.has(root)) this.#visit(root, state);
    return state.found;
  }

  #visit(root, { index, low, stack, onStack, found }) {
    const enter = (node) => {
      index.set(node, index.size);
      low.set(node, index.get(node));
      stack.push(node);
      onStack.add(node);
      return { node, rest: this.edges.get(node).keys() };
    };
    const work = [enter(root)];
    while (work.length > 0) {
      const { node, rest } = work.at(-1);
      const { value: next, done } = rest.next();
      if (!done) {
        if (!index.has(next)) work.push(enter(next));
        else if (onStack.has(next)) low.set(node, Math.min(low.get(node), index.get(next)));
        continue;
      }
      work.pop();
      const parent = work.at(-1)?.node;
      if (parent) low.set(parent, Math.min(low.get(parent), low.get(node)));
      if (low.get(node) !== index.get(node)) continue;
      const component = stack.splice(stack.indexOf(node));
      for (const each of component) onStack.delete(each);
      found.push(component);
    }
  }

  /** A shortest cycle among nodes that all reach each other, as a sentence. */
  cycle(nodes) {
    const inside = new Set(nodes);
    const start = nodes.find(({ appends }) => appends) ?? nodes[0];
    const before = new Map();
    for (const queue = [start]; queue.length > 0; ) {
      const node = queue.shift();
      for (const next of this.edges.get(node).keys()) {
        if (!inside.has(next) || before.has(next)) continue;
        before.set(next, node);
        queue.push(next);
      }
      if (before.has(start)) break;
    }
    const steps = [];
    for (let node = start; steps.length === 0 || node !== start; node = before.get(node)) {
      const from = before.get(node);
      steps.unshift(`${from.name} → ${node.name} (${this.edges.get(from).get(node)})`);
    }
    return `${nodes.length} operations come before themselves: ${steps.join(", ")}`;
  }
}
