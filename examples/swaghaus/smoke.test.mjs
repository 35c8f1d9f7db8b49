// Drives the shop through npm's unmodified ConvexHttpClient. Needs a host that serves this folder:
// its address and admin key come from CONVEX_SELF_HOSTED_URL and CONVEX_SELF_HOSTED_ADMIN_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { ConvexError } from "convex/values";
import { api, internal } from "./convex/_generated/api.js";

const { CONVEX_SELF_HOSTED_URL: url, CONVEX_SELF_HOSTED_ADMIN_KEY: key } = process.env;
const shopper = () => new ConvexHttpClient(url, { logger: false });
const shopkeeper = shopper();
shopkeeper.setAdminAuth(key);

test("swaghaus: the shelf is in alphabetical order and hides what is sold out", async () => {
  assert.equal(await shopkeeper.mutation(internal.stock.refill, {}), 4);
  await shopkeeper.mutation(internal.stock.add, { name: "Ghost", price: 1, stock: 0 });
  const items = await shopper().query(api.shop.getItems, {});
  assert.deepEqual(items.map((item) => item.name), ["Cap", "Mug", "Sticker", "T-shirt"]);
});

test("swaghaus: internal functions do not exist for shoppers", async () => {
  const refill = shopper().mutation(internal.stock.refill, {});
  await assert.rejects(refill, /Could not find public function/);
});

test("swaghaus: 20 buyers race for 7 pieces; 7 get one, nobody oversells", async () => {
  const item = await shopkeeper.mutation(internal.stock.add, { name: "Pin", price: 3, stock: 7 });
  const buyers = Array.from({ length: 20 }, (_, i) => `racer-${i}`);
  const races = buyers.map((buyer) => shopper().mutation(api.shop.addCart, { buyer, item }));
  const ends = await Promise.allSettled(races);

  const lefts = ends.filter((end) => end.status === "fulfilled").map((end) => end.value.left);
  assert.deepEqual(lefts.sort(), [0, 1, 2, 3, 4, 5, 6], "each winner saw another stock");
  for (const { reason } of ends.filter((end) => end.status === "rejected")) {
    assert.ok(reason instanceof ConvexError, String(reason));
    assert.deepEqual(reason.data, { code: "SoldOut", name: "Pin" });
  }
  assert.equal((await shopper().query(api.shop.getItem, { item })).stock, 0);
  const carts = buyers.map((buyer) => shopper().query(api.shop.getCart, { buyer }));
  const pieces = (await Promise.all(carts)).flat();
  assert.equal(pieces.reduce((sum, line) => sum + line.quantity, 0), 7);
});

test("swaghaus: a second piece of the same item raises the quantity", async () => {
  const item = await shopkeeper.mutation(internal.stock.add, { name: "Pen", price: 4, stock: 5 });
  await shopper().mutation(api.shop.addCart, { buyer: "ada", item });
  await shopper().mutation(api.shop.addCart, { buyer: "ada", item });
  const cart = await shopper().query(api.shop.getCart, { buyer: "ada" });
  assert.deepEqual(cart, [{ name: "Pen", price: 4, quantity: 2 }]);
});

test("swaghaus: arguments of the wrong type are refused and nothing is written", async () => {
  const add = shopper().mutation(api.shop.addCart, { buyer: 42, item: "x" });
  await assert.rejects(add, /ArgumentValidationError/);
});
