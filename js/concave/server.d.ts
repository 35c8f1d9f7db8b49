import type { FunctionVisibility, RegisteredQuery } from "convex/server";

/**
 * Declares what must hold after every commit. Export it from `convex/invariants.ts`:
 *
 * ```ts
 * export const solvent = invariant("nobody is overdrawn", internalQuery({
 *   args: {},
 *   handler: async (ctx) =>
 *     (await ctx.db.query("accounts").collect()).every((account) => account.balance >= 0),
 * }));
 * ```
 *
 * `concave dev` and `concave test` run the query after each commit that writes into what it read.
 * It holds while the query gives `true` or nothing; `false`, a text that says why not, or an error
 * is a violation, and is told with the commit that brought it about.
 */
export declare function invariant<Query extends RegisteredQuery<FunctionVisibility, any, any>>(
  name: string,
  query: Query,
): Query;
