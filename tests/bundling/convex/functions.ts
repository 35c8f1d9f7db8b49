import { query, internal, api } from "./_generated/server.js";
import { cronJobs, defineSchema, defineTable, getFunctionName, httpRouter, paginationOptsValidator } from "convex/server";
import { ConvexError, convexToJson, jsonToConvex, v, compareValues } from "convex/values";
import schema from "./schema";

export const list = query({
  args: { paginationOpts: paginationOptsValidator, by: v.union(v.literal("a"), v.id("users")) },
  returns: v.array(v.string()),
  handler: async () => ["x"],
});

export default query(async () => 1);

export function run() {
  const crons = cronJobs();
  crons.daily("clean", { hourUTC: 1, minuteUTC: 2 }, internal.functions.list, { by: "a" } as never);
  const http = httpRouter();
  return {
    args: (list as any).exportArgs(),
    returns: (list as any).exportReturns(),
    flags: { ...(list as any) },
    schema: (schema as any).export(),
    other: (defineSchema({ t: defineTable({ a: v.any() }).index("by_a", ["a"]) }) as any).export(),
    name: getFunctionName(api.functions.list),
    values: convexToJson({ big: 5n, bytes: new Uint8Array([1, 2]).buffer, inf: Infinity }),
    back: compareValues(jsonToConvex({ $integer: "AQAAAAAAAAA=" }) as bigint, 1n),
    crons: (crons as any).export(),
    routes: http.getRoutes(),
    error: String(new ConvexError({ code: 1 })),
  };
}
