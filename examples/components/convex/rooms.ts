// presence: who is in a room now. A page that stops beating is gone after a while.
import { Presence } from "@convex-dev/presence";
import { v } from "convex/values";
import { components } from "./_generated/api";
import { mutation, query } from "./_generated/server";

const presence = new Presence(components.presence);

export const heartbeat = mutation({
  args: { room: v.string(), user: v.string(), session: v.string(), interval: v.number() },
  handler: (ctx, { room, user, session, interval }) =>
    presence.heartbeat(ctx, room, user, session, interval),
});

export const present = query({
  args: { roomToken: v.string() },
  handler: async (ctx, { roomToken }) => {
    const users = await presence.list(ctx, roomToken);
    return users.filter((user) => user.online).map((user) => user.userId);
  },
});

export const leave = mutation({
  args: { sessionToken: v.string() },
  handler: (ctx, { sessionToken }) => presence.disconnect(ctx, sessionToken),
});
