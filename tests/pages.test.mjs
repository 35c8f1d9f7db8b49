// The examples' pages in headless Chromium: what one window does appears in the other.
//
// In: examples/chat and examples/swaghaus, built with Vite; npm's unmodified React client.
// Out: checks of what people see. Invariant: no window is ever loaded twice.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, test } from "node:test";
import { ConvexHttpClient } from "convex/browser";
import { browser, developed, page } from "./browser.mjs";
import { CONCAVE, KEY, ROOT, concave, copy, pointedAt, serve, start } from "./host.mjs";
import { Proxy } from "./proxy.mjs";

let chromium;
const ends = [];
before(async () => {
  chromium = await browser();
});
after(async () => {
  await chromium?.close();
  for (const end of ends) await end();
});

/** A host, the example's page for it, and as many windows as there are people. */
async function windows(example, people, behind = (host) => host) {
  const host = await serve("--push", `${ROOT}examples/${example}`);
  const served = await page(example, await behind(host));
  ends.push(() => served.close(), () => host.stop());
  const entering = Array.from({ length: people }, () => chromium.window(served.url));
  const opened = await Promise.all(entering);
  return { host, opened };
}

/** Nothing was thrown, and what appeared did so without a reload. */
function unharmed(...opened) {
  for (const window of opened) {
    assert.deepEqual(window.thrown, []);
    assert.equal(window.loads.length, 1, "the page was loaded again");
  }
}

/** A copy whose node_modules is its own folder: Vite keeps there what it made of the packages. */
function copyForVite(example) {
  const folder = copy(example);
  const modules = join(folder, "node_modules");
  const packages = realpathSync(modules);
  rmSync(modules);
  mkdirSync(modules);
  for (const name of readdirSync(packages).filter((name) => !name.startsWith(".vite"))) {
    symlinkSync(join(packages, name), join(modules, name));
  }
  return folder;
}

/** A folder with nothing but `concave` in it, for a PATH. */
function named() {
  const folder = mkdtempSync(join(tmpdir(), "concave-path-"));
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(CONCAVE, join(folder, "concave"));
  return folder;
}

/** Checks of what a window shows, which can say what they wait for. */
const includes = (text) =>
  wanted(`${text} in it`, (seen) => seen.some((each) => each.includes(text)));
const equals = (...texts) => {
  const all = JSON.stringify(texts);
  return wanted(all, (seen) => JSON.stringify(seen) === all);
};
const wanted = (wish, passes) => Object.assign(passes, { wish });
const MESSAGES = ".messages li:not(.edge) span";

async function enters(window, name) {
  await window.types("input[name=name]", name);
  await window.clicks(".door button");
  await window.shows("nav p:last-child", equals(`You are ${name}.`));
}

async function says(window, body) {
  await window.types("textarea", body);
  await window.tab.keyboard.press("Enter");
}

test("chat: what one types appears in the other's window", async () => {
  const { opened: [ada, bob] } = await windows("chat", 2);
  await Promise.all([enters(ada, "ada"), enters(bob, "bob")]);
  await bob.shows("nav", includes("No channels yet."));

  await ada.types("input[name=channel]", "general");
  await ada.clicks("nav form button");
  await bob.shows("main h2", equals("# general"));
  await bob.shows(".edge", equals("Nothing was said here yet."));

  await says(ada, "hello from ada");
  await bob.shows(MESSAGES, equals("hello from ada"));
  await says(bob, "hello from bob");
  await ada.shows(MESSAGES, equals("hello from bob", "hello from ada"));
  await ada.shows(".messages strong", equals("bob", "ada"));
  await ada.shows("nav small", equals("2"));

  // What the function refuses is said, and what was typed is not lost.
  await ada.tab.$eval("textarea", (field) => field.focus());
  await ada.tab.keyboard.sendCharacter("x".repeat(501));
  await ada.tab.keyboard.press("Enter");
  await ada.shows(".failed", includes("InvalidLength (length: 501, longest: 500)"));
  assert.equal(await ada.tab.$eval("textarea", (field) => field.value.length), 501);
  await ada.shows(MESSAGES, equals("hello from bob", "hello from ada"));
  await ada.types("input[name=channel]", "No Such Name");
  await ada.clicks("nav form button");
  await ada.shows("nav .failed", includes("InvalidChannelName"));
  unharmed(ada, bob);
});

test("chat: pages have no gaps and no repeats while messages are written", async () => {
  const { host, opened: [ada, bob] } = await windows("chat", 2);
  const client = new ConvexHttpClient(host.url, { logger: false });
  const channel = await client.mutation("channels:open", { name: "long" });
  const author = await client.mutation("users:enter", { name: "eve" });
  const spoken = [];
  const speak = async (body) => {
    await client.mutation("messages:send", { channel, author, body });
    spoken.unshift(body);
  };
  for (let i = 0; i < 50; i++) await speak(`message ${i}`);
  await Promise.all([enters(ada, "ada"), enters(bob, "bob")]);
  await bob.shows(MESSAGES, equals(...spoken.slice(0, 20)));

  // Each message that comes makes the first page longer: the pages after it keep their places.
  await speak("after the first page");
  await bob.shows(MESSAGES, equals(...spoken.slice(0, 21)));
  await bob.clicks(".edge button");
  await bob.shows(MESSAGES, equals(...spoken.slice(0, 41)));
  await says(ada, "from a window");
  spoken.unshift("from a window");
  await bob.shows(MESSAGES, equals(...spoken.slice(0, 42)));
  await bob.clicks(".edge button");
  await bob.shows(MESSAGES, equals(...spoken));
  await bob.shows(".edge", equals("This is where it began."));
  await speak("after the last page");
  await bob.shows(MESSAGES, equals(...spoken));

  await client.mutation("channels:clear", { channel });
  await Promise.all([ada, bob].map((window) => window.shows(MESSAGES, equals())));
  await says(bob, "a new beginning");
  await ada.shows(MESSAGES, equals("a new beginning"));
  unharmed(ada, bob);
});

test("chat: one's own message shows at once, paler until the host has answered", async () => {
  const { host, opened: [ada, bob] } = await windows("chat", 2);
  await Promise.all([enters(ada, "ada"), enters(bob, "bob")]);
  await ada.types("input[name=channel]", "general");
  await ada.clicks("nav form button");
  await Promise.all([ada, bob].map((each) => each.shows(".edge", includes("Nothing was said"))));

  host.child.kill("SIGSTOP");
  await says(ada, "not there yet");
  await ada.shows(".pending span", equals("not there yet"));
  assert.deepEqual(await bob.texts(MESSAGES), []);
  host.child.kill("SIGCONT");
  await bob.shows(MESSAGES, equals("not there yet"));
  await ada.shows(".pending", equals());
  assert.deepEqual(await ada.texts(MESSAGES), ["not there yet"]);
  unharmed(ada, bob);
});

const stock = (name) => `[data-item="${name}"] .left`;

test("swaghaus: what one puts into the cart leaves the other's shelf", async () => {
  const { host, opened: [ada, bob] } = await windows("swaghaus", 2);
  await Promise.all([ada, bob].map((each) => each.shows("main", includes("The shelf is empty."))));
  const refilled = concave(["run", "stock:refill"], { env: pointedAt(host) });
  assert.equal(refilled.status, 0, refilled.stderr);
  const names = equals("Cap", "Mug", "Sticker", "T-shirt");
  await Promise.all([ada, bob].map((each) => each.shows(".shelf h2", names)));

  for (let left = 11; left >= 0; left--) {
    await ada.clicks('[data-item="Cap"] button');
    await bob.shows(stock("Cap"), left === 0 ? equals() : equals(`${left}`));
  }
  await ada.shows(".cart li", includes("12 × Cap"));
  await ada.shows(".total", equals("€ 228"));
  await bob.shows(".cart", includes("Nothing in it yet."));
  await bob.clicks('[data-item="Mug"] button');
  await Promise.all([ada, bob].map((each) => each.shows(stock("Mug"), equals("29"))));

  // The page shows both changes before the host has answered.
  host.child.kill("SIGSTOP");
  await ada.clicks('[data-item="Mug"] button');
  await ada.shows(stock("Mug"), equals("28"));
  await ada.shows(".cart li", includes("1 × Mug"));
  assert.deepEqual(await bob.texts(stock("Mug")), ["29"]);
  host.child.kill("SIGCONT");
  await bob.shows(stock("Mug"), equals("28"));
  unharmed(ada, bob);
});

test("swaghaus: two windows want the last piece; one gets it, the other is told", async () => {
  const { host, opened } = await windows("swaghaus", 2);
  const keeper = new ConvexHttpClient(host.url, { logger: false });
  keeper.setAdminAuth(KEY);
  await keeper.mutation("stock:add", { name: "Pin", price: 3, stock: 1 });
  await Promise.all(opened.map((window) => window.shows(stock("Pin"), equals("1"))));
  host.child.kill("SIGSTOP");
  for (const window of opened) {
    await window.clicks('[data-item="Pin"] button');
    await window.shows(".cart li", includes("1 × Pin"));
  }
  host.child.kill("SIGCONT");
  const told = ([text]) => text === "SoldOut (name: Pin)";
  const failing = opened.map((window) => window.shows(".failed", told).then(() => window));
  const loser = await Promise.any(failing);
  await loser.shows(".cart", includes("Nothing in it yet."));
  const winner = opened.find((window) => window !== loser);
  await winner.shows(".cart li", includes("1 × Pin"));
  assert.deepEqual(await winner.texts(".failed"), []);
  unharmed(...opened);
});

test("swaghaus: a host that goes away is missed, and found again", async () => {
  // An address that stays: the port of a host that has ended may be anybody's.
  let proxy;
  const behind = async (host) => (proxy = await Proxy.to(host.url));
  const { host, opened: [window] } = await windows("swaghaus", 1, behind);
  ends.push(() => proxy.close());
  await window.shows("main", includes("The shelf is empty."));
  await window.shows(".connection", equals());
  await host.stop();
  await window.shows(".connection", includes("Reconnecting"));
  const folder = `${ROOT}examples/swaghaus`;
  const again = await serve();
  ends.push(() => again.stop());
  proxy.target = again.url;
  await window.shows(".connection", equals());
  // It has no functions yet: that is said, and gone once it has them.
  await window.shows(".problem", includes("Nothing is deployed yet"));
  const pushed = concave(["push", folder], { env: pointedAt(again) });
  assert.equal(pushed.status, 0, pushed.stderr);
  await window.shows("main", includes("The shelf is empty."));
  concave(["run", "stock:refill"], { env: pointedAt(again) });
  await window.shows(stock("Cap"), equals("12"));
  unharmed(window);
});

for (const example of ["chat", "swaghaus"]) {
  test(`${example}: the commands of its README run, in their order`, async () => {
    const folder = copyForVite(example);
    const readme = readFileSync(join(folder, "README.md"), "utf8");
    const lines = [...readme.matchAll(/^ {4}(\S.*?)(?: {2,}.*)?$/gm)].map(([, command]) => command);
    assert.deepEqual(lines.splice(0, 2), ["concave dev", "npm run page"]);
    assert.ok(lines.length >= 3);
    const host = await start(["dev", folder, "--port", "0", "--site-port", "0"]);
    ends.push(() => host.stop());
    await host.says(/push +pushed/);
    const served = await developed(folder, "npm run page");
    ends.push(() => served.close());
    const window = await chromium.window(served.url);
    await window.shows("h1", equals(example));
    // The host has a port of its own, so it is .env.local that told the page.
    await window.shows(".connection", equals());
    const env = { ...process.env, PATH: named() + delimiter + process.env.PATH };
    for (const command of lines) {
      const ended = spawnSync(command, { cwd: folder, shell: true, encoding: "utf8", env });
      assert.equal(ended.status, 0, `${command}\n${ended.stdout}${ended.stderr}`);
    }
    if (example === "swaghaus") await window.shows(stock("Mug"), equals("30"));
    assert.deepEqual(window.thrown, []);
  });
}
