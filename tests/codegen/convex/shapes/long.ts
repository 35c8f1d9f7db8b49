// Types that do not fit on a line, in every way in which they may not.
import { v } from "convex/values";
import { action, query } from "./_generated/server.js";

const long = v.object({
  aRatherLongNameOfAField: v.string(),
  anotherRatherLongNameOfAField: v.optional(v.number()),
});
const words = ["one", "two", "three", "four", "five"];
const literals = v.union(...words.map((word) => v.literal(`the word that is ${word}`)));

export const objects = query({
  args: { inside: long, maybe: v.union(long, v.null()), either: v.union(v.null(), long, long) },
  returns: v.union(v.null(), long),
  handler: async () => null,
});
export const arrays = query({
  args: {
    plain: v.array(long),
    nested: v.array(v.array(long)),
    literals: v.array(literals),
    maybe: v.array(v.union(long, v.null())),
    wrapped: v.union(v.array(long), v.null()),
    ids: v.array(v.array(v.array(v.id("aTableWithAVeryLongNameThatFillsMostOfALineOfCode")))),
  },
  returns: v.array(long),
  handler: async () => [],
});
export const records = action({
  args: { plain: v.record(v.string(), long), keyed: v.record(v.id("things"), v.array(long)) },
  returns: v.record(v.string(), literals),
  handler: async () => ({}),
});
export const scalars = query({
  args: {
    a: v.null(),
    b: v.number(),
    c: v.int64(),
    d: v.boolean(),
    e: v.bytes(),
    f: v.any(),
    g: v.literal(12345678901234567890123),
    h: v.literal(-0.5),
    i: v.literal(7n),
    j: v.literal(false),
    k: v.object({}),
    l: v.literal("it's"),
    m: v.union(v.literal("a")),
  },
  returns: literals,
  handler: async () => "the word that is one",
});
