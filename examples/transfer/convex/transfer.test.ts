// Tests of this app: `concave test examples/transfer`.
import { convexTest } from "convex-test";
import { describe, expect, test } from "vitest";
import { api } from "./_generated/api";
import schema from "./schema";

const modules = import.meta.glob("./**/*.ts");

/** A database with `count` accounts that hold `initial` each. */
async function seeded(count: number, initial: number) {
  const t = convexTest(schema, modules);
  await t.mutation(api.seed.seed_range, { start: 0, count, initial });
  return t;
}

describe("transfer", () => {
  test("moves money and makes none", async () => {
    const t = await seeded(3, 100);
    await t.mutation(api.transfer.transfer, { amount: 30, from_id: 0, to_id: 2 });
    expect((await t.query(api.accounts.get_account, { id: 0 }))?.balance).toBe(70);
    expect((await t.query(api.accounts.get_account, { id: 2 }))?.balance).toBe(130);
    const stats = await t.query(api.accounts.get_stats, { initialBalance: 100 });
    expect(stats).toEqual({ count: 3, total: 300, changed: 2 });
  });

  test("writes nothing when it throws", async () => {
    const t = await seeded(2, 10);
    const transfer = t.mutation(api.transfer.transfer, { amount: 11, from_id: 0, to_id: 1 });
    await expect(transfer).rejects.toMatchObject({ data: { code: "InsufficientFunds", id: 0 } });
    await t.run(async (ctx) => {
      const accounts = await ctx.db.query("accounts").collect();
      expect(accounts.map((account) => account.balance)).toEqual([10, 10]);
    });
  });

  test.each([
    { amount: 0, to_id: 1 },
    { amount: -5, to_id: 1 },
    { amount: 5, to_id: 0 },
  ])("refuses $amount to account $to_id", async (args) => {
    const t = await seeded(2, 10);
    await expect(t.mutation(api.transfer.transfer, { from_id: 0, ...args })).rejects.toThrow(
      "InvalidTransfer",
    );
  });
});
