// Appends to registers and reads them: a history of such calls tells the order they ran in.
import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

const find = (ctx: any, name: string) =>
  ctx.db.query("registers").withIndex("by_name", (q: any) => q.eq("name", name)).unique();

async function contents(ctx: any, names: string[]) {
  const found: [string, number[]][] = [];
  for (const name of names) found.push([name, (await find(ctx, name))?.values ?? []]);
  return found;
}

/** What some registers hold, as pairs of a name and a list. `turn` makes a read a new one. */
export const read = query({
  args: { registers: v.array(v.string()), turn: v.optional(v.number()) },
  handler: async (ctx, { registers }) => contents(ctx, registers),
});

/** Appends to a register; tells what it holds then, and what the `also` hold. */
export const append = mutation({
  args: { register: v.string(), value: v.number(), also: v.array(v.string()) },
  handler: async (ctx, { register, value, also }) => {
    const found = await find(ctx, register);
    if (found === null) {
      await ctx.db.insert("registers", { name: register, values: [value] });
    } else {
      await ctx.db.patch(found._id, { values: [...found.values, value] });
    }
    return contents(ctx, [register, ...also]);
  },
});
