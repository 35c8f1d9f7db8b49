// Actions as clients call them.
import {
  actionGeneric as action,
  anyApi,
  internalActionGeneric as internalAction,
  queryGeneric as query,
} from "convex/server";
import { ConvexError, v } from "convex/values";
import { waitFor } from "./notes";

const { calls, notes } = anyApi;

export const typed = action({
  args: { n: v.number(), big: v.int64(), bytes: v.bytes() },
  returns: v.object({ n: v.number(), big: v.int64(), bytes: v.bytes() }),
  handler: async (_ctx, args) => args,
});

export const wrongResult = action({
  args: {},
  returns: v.object({ n: v.number() }),
  handler: async () => ({ n: "one" }) as any,
});

export const hidden = internalAction({ args: {}, handler: async () => "internal" });
export const throughTheDoor = action({
  args: {},
  handler: async (ctx): Promise<string> => await ctx.runAction(calls.hidden, {}),
});

export const throwsData = action({
  args: {},
  handler: async () => {
    throw new ConvexError({ code: "full", left: 0n });
  },
});

const name = async (ctx: any) => (await ctx.auth.getUserIdentity())?.tokenIdentifier ?? null;
export const whoQuery = query({ args: {}, handler: name });
export const whoInside = internalAction({ args: {}, handler: name });
/** Who calls: the action itself, a query of it, an action of it. */
export const who = action({
  args: {},
  handler: async (ctx): Promise<(string | null)[]> => [
    await name(ctx),
    await ctx.runQuery(calls.whoQuery, {}),
    await ctx.runAction(calls.whoInside, {}),
  ],
});

/** Says that it began, waits for its note, says that it ended. */
export const waits = action({
  args: { name: v.string(), until: v.string() },
  handler: async (ctx, args) => {
    await ctx.runMutation(notes.add, { text: `${args.name} began` });
    await waitFor(ctx, args.until);
    await ctx.runMutation(notes.add, { text: `${args.name} ended` });
    return args.name;
  },
});
