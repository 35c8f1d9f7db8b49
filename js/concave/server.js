// `concave/server`: what functions import from concave.
//
// In: a name and a registered query. Out: the same query, marked. Invariant: nothing here needs
// concave: where another host runs the app, an invariant is a query like any other.

/** Declares that a query says `true`, or nothing, after every commit. */
export const invariant = (name, query) => {
  if (typeof name !== 'string' || name === '') {
    throw new TypeError(`invariant(name, query): the name is ${String(name) || 'empty'}. Say in `
      + 'it what always holds: invariant("no account is overdrawn", internalQuery({ … })).');
  }
  if (query?.isQuery !== true) {
    throw new TypeError(`invariant(${JSON.stringify(name)}, query): the second argument must be `
      + 'what query({ … }) or internalQuery({ … }) gives.');
  }
  return Object.assign(query, { invariant: name });
};
