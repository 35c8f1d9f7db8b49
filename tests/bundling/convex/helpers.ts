import { customQuery } from "convex-helpers/server/customFunctions";
import { zCustomQuery } from "convex-helpers/server/zod4";
import { literals, nullable, partial } from "convex-helpers/validators";
import { asyncMap, pick } from "convex-helpers";
import { Triggers } from "convex-helpers/server/triggers";
import { queryGeneric } from "convex/server";
import { v } from "convex/values";
import { z } from "zod";

const withUser = customQuery(queryGeneric, {
  args: { session: v.string() },
  input: async (_ctx, { session }) => ({ ctx: { session }, args: {} }),
});

export const whoami = withUser({
  args: { more: v.optional(v.number()) },
  handler: async (ctx) => ctx.session,
});

export const checked = zCustomQuery(queryGeneric, { args: {}, input: async () => ({ ctx: {}, args: {} }) })({
  args: { email: z.email() },
  handler: async (_ctx, { email }) => email,
});

export async function run() {
  return {
    literals: literals("a", "b"),
    nullable: nullable(v.string()),
    partial: partial({ a: v.string() }),
    mapped: await asyncMap([1, 2], async (x) => x + 1),
    picked: pick({ a: 1, b: 2 }, ["a"]),
    args: (whoami as any).exportArgs(),
    zod: (checked as any).exportArgs(),
    result: await (whoami as any)._handler({}, { session: "s1" }),
    triggers: new Triggers() instanceof Triggers,
  };
}
