// Actions that fetch.
import { actionGeneric as action, httpActionGeneric as httpAction } from "convex/server";
import { v } from "convex/values";
import { PROGRAMS } from "../fetches.js";
import { printed } from "../print.js";

/** What a program prints. */
export const program = action({
  args: { name: v.string(), url: v.string(), other: v.string() },
  handler: (_ctx, { name, url, other }) =>
    printed((print: any) => (PROGRAMS as any)[name](print, url, other)),
});

/** The text of an address, or what is thrown. */
export const get = action({
  args: { url: v.string(), init: v.optional(v.any()) },
  handler: async (_ctx, { url, init }) => {
    try {
      return await (await fetch(url, init)).text();
    } catch (error: any) {
      return `${error.name}: ${error.message}`;
    }
  },
});

/** Why the network did not give an answer, or all of one. */
export const cause = action({
  args: { url: v.string() },
  handler: async (_ctx, { url }) => {
    try {
      return await (await fetch(url)).text();
    } catch (error: any) {
      const { message, cause } = error;
      return [error instanceof TypeError, message, cause instanceof Error, cause.message, cause.code];
    }
  },
});

/** Fails in the middle of a body, read in one of the ways. */
export const breaksOff = action({
  args: { url: v.string(), how: v.string() },
  handler: async (_ctx, { url, how }) => {
    const response: any = await fetch(url);
    await response[how]();
  },
});

/** How many bytes of an endless answer come before it is said that they are too many. */
export const stream = action({
  args: { url: v.string() },
  handler: async (_ctx, { url }) => {
    let bytes = 0;
    for await (const chunk of (await fetch(url)).body as any) bytes += chunk.length;
    return bytes;
  },
});

/** Does not wait for its request. */
export const careless = action({
  args: { url: v.string() },
  handler: async (_ctx, { url }) => {
    void fetch(`${url}/silent`);
    await fetch(`${url}/wait?for=/silent`);
  },
});

/** Sends whoever asks on to the address that the query names. */
export const sendOn = httpAction(async (_ctx, request) =>
  Response.redirect(new URL(request.url).searchParams.get("to")!));
