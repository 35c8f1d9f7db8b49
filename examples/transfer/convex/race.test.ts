// `t.explore` finds what running the functions once does not: `concave test examples/transfer`.
import { convexTest } from "convex-test";
import { expect, test } from "vitest";
import { api } from "./_generated/api";
import schema from "./schema";

const modules = import.meta.glob("./**/*.ts");

/** Two deposits side by side, and what must hold after them. */
async function deposits() {
  const t = convexTest(schema, modules);
  await t.mutation(api.seed.seed_range, { start: 0, count: 1, initial: 100 });
  const deposit = (amount: number) => t.action(api.race.deposit, { id: 0, amount });
  const invariant = async () => {
    const account = await t.query(api.accounts.get_account, { id: 0 });
    expect(account?.balance).toBe(100 + 5 + 7);
  };
  const five = () => deposit(5);
  const seven = () => deposit(7);
  return { t, five, seven, invariant };
}

test("one after the other, deposits add up", async () => {
  const { five, seven, invariant } = await deposits();
  await five();
  await seven();
  await invariant();
});

test("explore finds the order in which one is lost", async () => {
  const { t, five, seven, invariant } = await deposits();
  const explored = t.explore([five, seven], { invariant });
  await expect(explored).rejects.toThrow(/five: query.*seven: query.*mutation.*mutation/s);
});

test("transfers are transactions: no order of them makes or loses money", async () => {
  const t = convexTest(schema, modules);
  await t.mutation(api.seed.seed_range, { start: 0, count: 3, initial: 10 });
  const move = (from_id: number, to_id: number) => async () => {
    await t.mutation(api.transfer.transfer, { amount: 10, from_id, to_id });
    await t.mutation(api.transfer.transfer, { amount: 3, from_id: to_id, to_id: from_id });
  };
  const invariant = async () => {
    const stats = await t.query(api.accounts.get_stats, { initialBalance: 10 });
    expect(stats.total).toBe(30);
  };
  const { orders } = await t.explore([move(0, 1), move(1, 2), move(2, 0)], { invariant });
  expect(orders).toBe(90);
  // Ninety runs, and after each commit of them the invariant.
}, 60_000);
