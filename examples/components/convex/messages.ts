// rate-limiter, aggregate and a component of the app's own in one transaction: who writes too fast
// writes nothing.
import { MINUTE, RateLimiter } from "@convex-dev/rate-limiter";
import { DirectAggregate } from "@convex-dev/aggregate";
import { v } from "convex/values";
import { components } from "./_generated/api";
import { mutation, query } from "./_generated/server";

const limiter = new RateLimiter(components.rateLimiter, {
  send: { kind: "token bucket", rate: 1, period: MINUTE, capacity: 3 },
});

const lengths = new DirectAggregate<{ Key: number; Id: string }>(components.lengths);

export const send = mutation({
  args: { user: v.string(), text: v.string() },
  handler: async (ctx, { user, text }) => {
    await limiter.limit(ctx, "send", { key: user, throws: true });
    const id = await ctx.db.insert("messages", { user, text });
    await lengths.insert(ctx, { key: text.length, id, sumValue: text.length });
    await ctx.runMutation(components.audit.log.record, { who: user, what: "sent a message" });
  },
});

/** How much everybody has written: without reading what. */
export const statistics = query({
  args: {},
  handler: async (ctx) => ({
    messages: await lengths.count(ctx),
    characters: await lengths.sum(ctx),
    longest: (await lengths.max(ctx))?.key ?? 0,
  }),
});

/** Whether a user may write, without writing. */
export const mayWrite = query({
  args: { user: v.string() },
  handler: async (ctx, { user }) => (await limiter.check(ctx, "send", { key: user })).ok,
});

export const history = query({
  args: { who: v.string() },
  handler: (ctx, args) => ctx.runQuery(components.audit.log.of, args),
});
