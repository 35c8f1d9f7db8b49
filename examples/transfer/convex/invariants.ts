// What must hold after every commit: `concave dev` and `concave test` see to it.
import { invariant } from "concave/server";
import { internalQuery } from "./_generated/server";

export const money = invariant(
  "money is neither made nor lost",
  internalQuery({
    args: {},
    handler: async (ctx) => {
      const accounts = await ctx.db.query("accounts").collect();
      const supply = await ctx.db.query("supply").collect();
      const held = accounts.reduce((sum, { balance }) => sum + balance, 0);
      const put = supply.reduce((sum, { amount }) => sum + amount, 0);
      return held === put || `${put} were put in, and the accounts hold ${held}`;
    },
  }),
);
