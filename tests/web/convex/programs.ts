// The programs of tests/web, run by functions.
import { actionGeneric as action, queryGeneric as query } from "convex/server";
import { v } from "convex/values";
import blobs from "../blobs.js";
import bodies from "../bodies.js";
import forms, { outside } from "../forms.js";
import headers from "../headers.js";
import messages from "../messages.js";
import { printed } from "../print.js";
import streams from "../streams.js";

const PROGRAMS: Record<string, (print: any) => unknown> = {
  blobs, bodies, forms, headers, messages, streams, formsOutside: outside,
};

/** What a program prints in a query. */
export const inQuery = query({
  args: { name: v.string() },
  handler: (_ctx, { name }) => printed(PROGRAMS[name]),
});

/** What it prints in an action. */
export const inAction = action({
  args: { name: v.string() },
  handler: (_ctx, { name }) => printed(PROGRAMS[name]),
});
