// What the host asks of a function and takes from it, beyond what npm's `query`, `mutation` and
// `action` let authors do (convex-compat.md sections 1.4 and 1.8).
//
// In: an app whose functions answer wrongly, leave promises behind and call the ABI themselves.
// Out: what callers are told. Invariant: whatever a function does, its caller gets Convex's text,
// and the next call works.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { app } from "./app.mjs";
import { answers } from "./answers.mjs";
import { serve } from "./host.mjs";

const SOURCE = `
import { actionGeneric as action, mutationGeneric as mutation, queryGeneric as query }
  from "convex/server";
declare const Convex: any;

/** What npm would make, but for what it answers. */
const handMade = (kind: string, answer: () => unknown) => Object.assign(() => {}, {
  ["is" + kind]: true, isPublic: true, isRegistered: true,
  ["invoke" + kind]: async () => answer(),
  exportArgs: () => '{"type":"any"}', exportReturns: () => '{"type":"any"}',
});
export const noText: any = handMade("Query", () => 7);
export const noJson: any = handMade("Mutation", () => "{");
export const noValue: any = handMade("Query", () => '{"$odd": 1}');
export const noTextOfAction: any = handMade("Action", () => ({}));
export const noJsonOfAction: any = handMade("Action", () => "{");
export const good: any = handMade("Query", () => "[1,null]");

export const count = query(async (ctx) => (await ctx.db.query("rows").collect()).length);
/** Nobody awaits it; it happens. */
export const careless = mutation(async (ctx) => {
  void ctx.db.insert("rows", { n: 1 });
  ctx.db.insert("rows", { n: 2 }).then((id) => ctx.db.patch(id, { n: 3 }));
});
export const rejects = mutation(async (ctx) => {
  void ctx.db.insert("rows", { n: 4 });
  void Promise.reject(new RangeError("nobody caught it"));
  return "returned";
});
export const stuck = query(async () => new Promise(() => {}));
export const late = query(async () => {
  const name = "./other" + "";
  return (await import(name)).value;
});

const told = async (use: () => any) => {
  try {
    return await use();
  } catch (error: any) {
    return error.name + ": " + error.message;
  }
};
/** Each operation that there is not, in the words of its caller. */
export const unknownInAction = action(async (ctx: any) => [
  await told(() => Convex.asyncSyscall("1.0/nothing", "{}")),
  await told(() => Convex.syscall("1.0/nothing", "{}")),
  await told(() => Convex.jsSyscall("nothing", {})),
  await told(() => Convex.asyncSyscall("1.0/getUserIdentity")),
  await told(() => ctx.vectorSearch("rows", "by_vector", { vector: [1] })),
  await told(() => Convex.asyncSyscall("1.0/actions/query", "no json")),
  await told(() => Convex.op("x")),
]);
export const unknownInQuery = query(async () => [
  await told(() => Convex.asyncSyscall("1.0/nothing", "{}")),
  await told(() => Convex.syscall("1.0/nothing", "{}")),
  await told(() => Convex.jsSyscall("nothing", {})),
  await told(() => Convex.asyncSyscall("1.0/actions/query", "{}")),
]);
/** What is scheduled, stored and asked is there at once; metadata says who runs. */
export const metadata = action(async () => [
  JSON.parse(await Convex.asyncSyscall("1.0/getFunctionMetadata", "{}")),
  JSON.parse(await Convex.asyncSyscall("1.0/getDeploymentMetadata", "{}")).class,
  Object.keys(JSON.parse(await Convex.asyncSyscall("1.0/getRequestMetadata", "{}"))).sort(),
  JSON.parse(await Convex.asyncSyscall("1.0/getUserIdentity", "{}")),
]);
`;

let host;
let client;
let action;
const { odd } = anyApi;
before(async () => {
  const other = "export const value = 1;\n";
  host = await serve("--push", app("abi", { "odd.ts": SOURCE, "other.ts": other }));
  client = new ConvexHttpClient(host.url, { logger: false });
  action = answers(host, "odd");
});
after(() => host?.stop());

const bare = (text) => text.replace(/^\[Request ID: [0-9a-f]{16}\] Server Error\n/, "").trim();
const error = async (call) => bare(await call.then(() => "no error", ({ message }) => message));

test("an answer that is no value", async () => {
  const said = {
    noText: await error(client.query(odd.noText, {})),
    noJson: await error(client.mutation(odd.noJson, {})),
    noValue: await error(client.query(odd.noValue, {})),
    noTextOfAction: await action.error("noTextOfAction"),
    noJsonOfAction: await action.error("noJsonOfAction"),
  };
  assert.match(said.noText, /^Function odd:noText failed. Could not parse return value as json: /);
  assert.match(said.noJson, /^Function odd:noJson failed. Could not parse return value as json: /);
  assert.match(said.noValue, /^Function odd:noValue return value invalid: .*\$odd/);
  assert.match(said.noTextOfAction, /^Function odd:noTextOfAction failed. Could not parse return /);
  assert.match(said.noJsonOfAction, /^Function odd:noJsonOfAction failed. Could not parse return /);
  assert.deepEqual(await client.query(odd.good, {}), [1, null]);
});

test("what is not awaited is done, unless something fails", async () => {
  await client.mutation(odd.careless, {});
  assert.equal(await client.query(odd.count, {}), 2);
  assert.match(await error(client.mutation(odd.rejects, {})),
    /^Uncaught RangeError: nobody caught it\n    at .*\(\.\.\/convex\/odd\.ts:\d+:\d+\)/);
  assert.equal(await client.query(odd.count, {}), 2);
  assert.match(await error(client.query(odd.stuck, {})), /^Returned promise will never resolve/);
});

test("a module is not imported when the function runs already", async () => {
  assert.match(await error(client.query(odd.late, {})), /import/);
});

test("a function is called as what it is", async () => {
  assert.match(await error(client.mutation(odd.count, {})),
    /^Trying to execute odd(\.js)?:count as Mutation, but it is defined as Query\.$/);
  assert.equal(await error(client.query(odd.nothing, {})),
    "Could not find public function for 'odd:nothing'.");
});

test("operations that there are not are named", async () => {
  const [first, second, third, arguments_, search, json, op] =
    await client.action(odd.unknownInAction, {});
  assert.match(first, /Unknown async operation 1\.0\/nothing/);
  assert.match(second, /Unknown operation 1\.0\/nothing/);
  assert.match(third, /Unknown JS syscall: nothing/);
  assert.match(arguments_, /^TypeError: Convex\.asyncSyscall takes strings/);
  assert.match(search, /ctx\.vectorSearch is not supported by this version of concave yet/);
  assert.match(json, /Invalid arguments of an action's call: /);
  assert.match(op, /Convex\.op\("x"\) is not supported by this host/);
  const inQuery = await client.query(odd.unknownInQuery, {});
  assert.match(inQuery[0], /Unknown async operation 1\.0\/nothing/);
  assert.match(inQuery[1], /Unknown operation 1\.0\/nothing/);
  assert.match(inQuery[2], /Convex\.jsSyscall\("nothing"\) is not supported by this host/);
  assert.match(inQuery[3], /1\.0\/actions\/query/);
});

test("an action knows what it is", async () => {
  assert.deepEqual(await client.action(odd.metadata, {}), [
    { name: "odd:metadata", componentPath: "" }, "selfHosted",
    ["authToken", "ip", "requestId", "scheduledFunctionId", "userAgent"], null,
  ]);
});
