// React apps as they are written: npm's unmodified ConvexReactClient and hooks, in jsdom.
//
// In: the built program and tests/live. Out: checks of what React puts into the page.
// Invariant: every text that a page ever showed is kept, so a wrong one in between is found.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { JSDOM } from "jsdom";
import { anyApi } from "convex/server";
import WebSocket from "ws";
import { serve } from "./host.mjs";
import { until } from "./watch.mjs";

// React looks for a page when it is loaded.
const { window } = new JSDOM("<!doctype html>", { url: "http://localhost/" });
const { document, navigator } = window;
Object.assign(globalThis, { window, document, navigator });
const { createElement, useEffect } = await import("react");
const { createRoot } = await import("react-dom/client");
const { ConvexProvider, ConvexReactClient, useConvexConnectionState, useMutation, usePaginatedQuery,
  useQueries, useQuery } = await import("convex/react");

const { boxes, notes } = anyApi;
const host = await serve("--push", "tests/live");
after(() => host.stop());

let lists = 0;
const list = () => `list-${lists++}`;

/** Shows a component in a page of its own. `shown` is everything that it ever rendered. */
function show(component, props = {}) {
  const options = { logger: false, webSocketConstructor: WebSocket, unsavedChangesWarning: false };
  const client = new ConvexReactClient(host.url, options);
  const page = { client, shown: [], handle: {} };
  const place = document.createElement("div");
  const root = createRoot(place);
  const Kept = () => {
    const value = component(props, page.handle);
    const text = JSON.stringify(value) ?? "loading";
    useEffect(() => void page.shown.push(text), [text]);
    return text;
  };
  root.render(createElement(ConvexProvider, { client }, createElement(Kept)));
  page.text = () => place.textContent;
  page.shows = (value) =>
    until(() => page.text() === JSON.stringify(value), () => `${value} for ${page.text()}`);
  page.close = async () => {
    root.unmount();
    await client.close();
  };
  after(page.close);
  return page;
}

/** Component: the bodies of a list. */
const Bodies = ({ list }, handle) => {
  handle.add = useMutation(notes.add).withOptimisticUpdate((store, { body }) => {
    const before = store.getQuery(notes.bodies, { list });
    if (before) store.setQuery(notes.bodies, { list }, [...before, `${body}?`]);
  });
  return useQuery(notes.bodies, { list });
};

test("useQuery shows what another window's useMutation writes", async () => {
  const props = { list: list() };
  const [one, other] = [show(Bodies, props), show(Bodies, props)];
  await Promise.all([one.shows([]), other.shows([])]);
  await other.handle.add({ ...props, body: "a" });
  await one.shows(["a"]);
  await one.handle.add({ ...props, body: "b" });
  await other.shows(["a", "b"]);
  assert.equal(one.client.connectionState().connectionCount, 1);
});

test("an optimistic update is shown, then replaced, in one window only", async () => {
  const props = { list: list() };
  const [one, other] = [show(Bodies, props), show(Bodies, props)];
  await Promise.all([one.shows([]), other.shows([])]);
  // Were the host quick and this process slow, React would render the answer only.
  host.child.kill("SIGSTOP");
  const added = one.handle.add({ ...props, body: "a" });
  const rendered = until(() => one.shown.length === 3, () => one.shown);
  await rendered.finally(() => host.child.kill("SIGCONT"));
  await added;
  await Promise.all([one.shows(["a"]), other.shows(["a"])]);
  await until(() => one.shown.length === 4, () => one.shown);
  assert.deepEqual(one.shown, ["loading", "[]", '["a?"]', '["a"]']);
  assert.deepEqual(other.shown, ["loading", "[]", '["a"]']);
});

test("useQueries of one invariant never disagree, and hooks tell the connection", async () => {
  const group = list();
  const amount = (name) => ({ query: boxes.amount, args: { group, name } });
  const queries = { a: amount("a"), b: amount("b") };
  const Sum = (_, handle) => {
    handle.fill = useMutation(boxes.fill);
    handle.move = useMutation(boxes.move);
    handle.connected = useConvexConnectionState().isWebSocketConnected;
    const { a, b } = useQueries(queries);
    return a === undefined || b === undefined ? undefined : a + b;
  };
  const page = show(Sum);
  await page.shows(0);
  await page.handle.fill({ group, names: ["a", "b"], amount: 50 });
  for (let n = 1; n <= 20; n++) await page.handle.move({ group, from: "a", to: "b", amount: n });
  await page.shows(100);
  assert.equal(page.handle.connected, true);
  assert.deepEqual(page.shown, ["loading", "0", "100"]);
});

/** Component: the places of a list's notes, page by page. */
const Places = ({ list }, handle) => {
  handle.edit = useMutation(notes.edit);
  const { results, status, loadMore } = usePaginatedQuery(
    notes.page, { list }, { initialNumItems: 5 },
  );
  Object.assign(handle, { status, loadMore });
  return results;
};

/** Component: the places of those notes of a list that have a body, however few can be read. */
const Found = ({ list, body }, handle) => {
  handle.edit = useMutation(notes.edit);
  const { results, status, loadMore } = usePaginatedQuery(
    notes.found, { list, body }, { initialNumItems: 3 },
  );
  Object.assign(handle, { status, loadMore });
  return results;
};

test("a page that could not read enough is shown once its halves are there", async () => {
  const props = { list: list(), body: "17" };
  const page = show(Found, props);
  await until(() => page.handle.status === "Exhausted", () => page.handle.status);
  await page.handle.edit({ list: props.list, add: [...Array(20).keys()], remove: [] });
  const again = show(Found, props);
  const exhausted = () => {
    if (again.handle.status === "CanLoadMore") again.handle.loadMore(3);
    return again.handle.status === "Exhausted";
  };
  await until(exhausted, () => again.handle.status);
  await Promise.all([page, again].map((page) => page.shows([17])));
});

/** A small random stream, so that a failure can be had again. */
function random(seed) {
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
}

for (const seed of [1, 2, 3]) {
  test(`pages stay without gaps and repeats while notes come and go, seed ${seed}`, async () => {
    const props = { list: list() };
    const page = show(Places, props);
    const below = random(seed);
    const model = new Set(Array.from({ length: 30 }, (_, n) => n * 100));
    await until(() => page.handle.status === "Exhausted", () => page.handle.status);
    await page.handle.edit({ ...props, add: [...model], remove: [] });
    const sorted = () => [...model].sort((a, b) => a - b);
    const states = [[], sorted()];

    for (let round = 0; round < 30; round++) {
      const places = sorted();
      const remove = Array.from({ length: below(4) }, () => places[below(places.length)]);
      const fresh = new Set(Array.from({ length: below(6) }, () => below(3_000)));
      const add = [...fresh].filter((place) => !model.has(place));
      for (const place of remove) model.delete(place);
      for (const place of add) model.add(place);
      if (round % 4 === 1 && page.handle.status === "CanLoadMore") page.handle.loadMore(5);
      states.push(sorted());
      await page.handle.edit({ ...props, add, remove });
    }
    await until(() => {
      if (page.handle.status === "CanLoadMore") page.handle.loadMore(7);
      return page.handle.status === "Exhausted" && page.text() === JSON.stringify(sorted());
    }, () => `${JSON.stringify(sorted())} for ${page.handle.status} ${page.text()}`);
    // Everything that was shown on the way is where some state of the list begins.
    const starts = states.map((state) => `[${state.join()},`.replace("[,", "["));
    for (const text of page.shown.filter((text) => text !== "loading")) {
      const start = text === "[]" ? "[" : text.replace("]", ",");
      assert.ok(starts.some((state) => state.startsWith(start)), `${text} in ${states.join("\n")}`);
    }
  });
}
