// The peer of the bench calls: a function of the bundle called by a bare V8, in one warm context,
// with a database that has its answers ready. For deno, whose V8 is of the same year as ours.
//
// In: the URL of a module of the bundle, how many calls. Out: microseconds a call.
// Invariant: the function runs whole: arguments checked, document read, result encoded.
const [module, count] = Deno.args;
const account = { _creationTime: 1, _id: "j57d0m9s0sdh2ygt6qfnfc7pt97gmx9e", balance: 1, id: 7 };
const answers = [{ value: account, done: false }, { value: null, done: true }];
const texts = answers.map((answer) => JSON.stringify(answer));
let asked = 0;
globalThis.Convex = {
  syscall: (op) => (op === "1.0/queryStream" ? '{"queryId":0}' : "{}"),
  asyncSyscall: async () => texts[asked++ % texts.length],
};
const { get_account: read } = await import(module);
const calls = async () => {
  const start = performance.now();
  for (let n = 0; n < Number(count); n++) {
    const result = JSON.parse(await read.invokeQuery('[{"id":7}]'));
    if (result.balance !== 1) throw new Error(`it read ${JSON.stringify(result)}`);
  }
  return 1000 * (performance.now() - start) / Number(count);
};
await calls();
console.log(await calls());
