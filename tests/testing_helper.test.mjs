// `ConvexTestingHelper` of convex-helpers, as Convex's guide to testing uses it.
//
// In: the built program, the convex-helpers package, an app with functions for tests. Out: checks
// of what a test sees. Invariant: helper and custom functions are the package's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConvexTestingHelper } from "convex-helpers/testing";
import { anyApi } from "convex/server";
import { app } from "./app.mjs";
import { concave, pointedAt, serve } from "./host.mjs";

const SCHEMA = `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({
  tasks: defineTable({ text: v.string(), author: v.string() }),
});
`;

const TASKS = `
import { mutation, query } from "./_generated/server";
import { internal } from "./_generated/api";
import { v } from "convex/values";
export const add = mutation({ args: { text: v.string() }, handler: async (ctx, { text }) => {
  const identity = await ctx.auth.getUserIdentity();
  if (identity === null) throw new Error("Who are you?");
  await ctx.storage.generateUploadUrl();
  await ctx.scheduler.runAfter(1_000_000, internal.tasks.add, { text });
  await ctx.db.insert("tasks", { text, author: identity.name ?? identity.tokenIdentifier });
} });
export const list = query({ args: {}, handler: async (ctx) => {
  const tasks = await ctx.db.query("tasks").collect();
  return tasks.map(({ text, author }) => [text, author]);
} });
export const waiting = query({ args: {}, handler: async (ctx) => {
  const jobs = await ctx.db.system.query("_scheduled_functions").collect();
  return jobs.map((job) => job.state.kind);
} });
`;

const TESTING = `
import { customMutation } from "convex-helpers/server/customFunctions";
import { mutation } from "./_generated/server";
import schema from "./schema";
const testingMutation = customMutation(mutation, {
  args: {},
  input: async () => {
    if (process.env.IS_TEST === undefined) throw new Error("Only for a deployment of tests");
    return { ctx: {}, args: {} };
  },
});
export const clearAll = testingMutation(async ({ db, scheduler, storage }) => {
  for (const table of Object.keys(schema.tables)) {
    const documents = await db.query(table).collect();
    await Promise.all(documents.map((document) => db.delete(document._id)));
  }
  const jobs = await db.system.query("_scheduled_functions").collect();
  await Promise.all(jobs.map((job) => scheduler.cancel(job._id)));
  const files = await db.system.query("_storage").collect();
  await Promise.all(files.map((file) => storage.delete(file._id)));
});
`;

test("ConvexTestingHelper: two people, and a database that is empty again", async () => {
  const sources = { "schema.ts": SCHEMA, "tasks.ts": TASKS, "testing.ts": TESTING };
  const host = await serve("--push", app("helper", sources));
  const { tasks, testing } = anyApi;
  const t = new ConvexTestingHelper({ adminKey: host.key, backendUrl: host.url });
  await assert.rejects(t.mutation(testing.clearAll, {}), /Only for a deployment of tests/);
  const set = concave(["env", "set", "IS_TEST", "true"], { env: pointedAt(host) });
  assert.equal(set.status, 0, set.stderr);

  const [ada, grace] = [t.newIdentity({ name: "Ada" }), t.newIdentity({})];
  await t.withIdentity(ada).mutation(tasks.add, { text: "one" });
  await t.withIdentity(grace).mutation(tasks.add, { text: "two" });
  const all = [["one", "Ada"], ["two", "test issuer|test subject 1"]];
  assert.deepEqual(await t.query(tasks.list, {}), all);
  assert.deepEqual(await t.withIdentity(ada).query(tasks.list, {}), all);
  await assert.rejects(t.mutation(tasks.add, { text: "three" }), /Who are you\?/);
  assert.deepEqual(await t.query(tasks.waiting, {}), ["pending", "pending"]);

  await t.mutation(testing.clearAll, {});
  assert.deepEqual(await t.query(tasks.list, {}), []);
  assert.deepEqual(await t.query(tasks.waiting, {}), ["canceled", "canceled"]);
  await t.close();
  await host.stop();
});
