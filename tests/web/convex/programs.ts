// The programs of tests/web, run by functions.
import { actionGeneric as action, queryGeneric as query } from "convex/server";
import { v } from "convex/values";
import blobs from "../blobs.js";
import bodies from "../bodies.js";
import clones from "../clones.js";
import errors from "../errors.js";
import forms, { outside } from "../forms.js";
import headers from "../headers.js";
import messages from "../messages.js";
import platform, { uncloneable } from "../platform.js";
import { printed } from "../print.js";
import streams from "../streams.js";
import timing from "../timing.js";

const PROGRAMS: Record<string, (print: any) => unknown> = {
  blobs, bodies, clones, errors, forms, headers, messages, platform, streams, timing, uncloneable,
  formsOutside: outside,
};

/** What a program prints in a query. */
export const inQuery = query({
  args: { name: v.string() },
  handler: (_ctx, { name }) => printed(PROGRAMS[name]),
});

/** Shows URLs on the console, and says what URL has. */
export const urls = action(async () => {
  console.log(new URL("http://u:p@a.b:81/c?d=1&e=2&d=3#f"), new URLSearchParams("x=1"));
  return Object.getOwnPropertyNames(URL).filter((name) => name.includes("Object"));
});

/** What it prints in an action. */
export const inAction = action({
  args: { name: v.string() },
  handler: (_ctx, { name }) => printed(PROGRAMS[name]),
});
