// Windows of a headless Chromium, each a person of their own, and the pages they look at.
//
// In: an example's folder, a host, what to type. Out: what the windows show. Invariant: every page
// is the one that Vite builds; what a page throws fails the test; nothing outlives the test.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { stripVTControlCharacters } from "node:util";
import puppeteer from "puppeteer-core";
import { ROOT } from "./host.mjs";

/** How long a window may take to show something: it never will, or this machine is on its knees. */
const PATIENCE_MS = 60_000;

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Where Chromium is. A machine without it fails the tests: it does not skip them. */
function chromium() {
  const named = process.env.CHROMIUM;
  const found = (named ? [named] : PLACES).find((path) => existsSync(path));
  if (found === undefined) {
    throw new Error(
      `No Chromium at ${named ?? PLACES.join(", ")}: the examples' pages cannot be tested. ` +
        "Run: apt-get install chromium, or name one in CHROMIUM.",
    );
  }
  return found;
}

const folders = new Set();
const browsers = new Set();
const servers = new Set();
process.on("exit", () => {
  servers.forEach((stop) => stop());
  browsers.forEach((browser) => browser.process()?.kill("SIGKILL"));
  folders.forEach((folder) => rmSync(folder, { recursive: true, force: true }));
});

function temporary(name) {
  const folder = mkdtempSync(join(tmpdir(), `concave-${name}-`));
  folders.add(folder);
  return folder;
}

/** Builds an example's page for one host, as a user's `vite build` would, and serves it. */
export async function page(example, host) {
  const root = join(ROOT, "examples", example);
  const manifest = createRequire(join(root, "package.json")).resolve("vite/package.json");
  const entry = join(manifest, "..", "dist/node/index.js");
  const vite = await import(pathToFileURL(entry));
  const outDir = temporary(`page-${example}`);
  const settings = {
    root,
    logLevel: "error",
    define: { "import.meta.env.VITE_CONVEX_URL": JSON.stringify(host.url) },
  };
  await vite.build({ ...settings, build: { outDir, emptyOutDir: true } });
  const preview = { host: "127.0.0.1", port: 0 };
  const server = await vite.preview({ ...settings, build: { outDir }, preview });
  return { url: server.resolvedUrls.local[0], close: () => server.close() };
}

/** Serves an example's page as its README says, from a folder that `concave dev` runs in. */
export async function developed(folder, command) {
  // A process group of its own: npm starts Vite, and both must end.
  const child = spawn(command, { cwd: folder, shell: true, detached: true });
  const stop = () => {
    servers.delete(stop);
    process.kill(-child.pid, "SIGTERM");
    return ended;
  };
  servers.add(stop);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => (output += text));
  }
  const ended = new Promise((resolve) => child.on("exit", resolve)).then((code) => ({ code }));
  for (const since = Date.now(); ; ) {
    const address = stripVTControlCharacters(output).match(/http:\/\/127\.0\.0\.1:\d+\//);
    if (address) return { url: address[0], close: stop };
    const tick = new Promise((resolve) => setTimeout(resolve, 20));
    const end = await Promise.race([ended, tick]);
    if (end) servers.delete(stop);
    if (end || Date.now() - since > PATIENCE_MS) {
      throw new Error(`${command} serves nothing (exit code ${end?.code}):\n${output}`);
    }
  }
}

/** Starts Chromium with a profile of its own. */
export async function browser() {
  const userDataDir = temporary("chromium");
  const args = ["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];
  // Chromium's sandbox refuses root, which is who containers run as.
  if (process.getuid() === 0) args.push("--no-sandbox");
  const executablePath = chromium();
  const started = await puppeteer.launch({ executablePath, userDataDir, args });
  browsers.add(started);
  return {
    /** A window that shares nothing with the others but the host. */
    window: async (url) => {
      const context = await started.createBrowserContext();
      return open(await context.newPage(), url);
    },
    close: async () => {
      await started.close();
      browsers.delete(started);
      rmSync(userDataDir, { recursive: true, force: true });
      folders.delete(userDataDir);
    },
  };
}

/** A window at an address: what is seen there, and what can be done. */
async function open(tab, url) {
  tab.setDefaultTimeout(PATIENCE_MS);
  const thrown = [];
  tab.on("pageerror", (error) => thrown.push(error));
  const loads = [];
  tab.on("load", () => loads.push(Date.now()));
  await tab.goto(url);
  const texts = (selector) =>
    tab.$$eval(selector, (found) => found.map((element) => element.innerText.trim()));
  const window = { tab, thrown, loads, texts };
  /** Waits until the texts of what the selector finds pass, and gives them. */
  window.shows = async (selector, passes) => {
    for (const since = Date.now(); ; ) {
      const seen = await texts(selector);
      if (passes(seen)) return seen;
      if (thrown.length > 0) throw thrown[0];
      if (Date.now() - since > PATIENCE_MS) {
        const all = await tab.$eval("body", (body) => body.innerText);
        const wish = passes.wish ?? passes;
        throw new Error(`${selector} shows ${JSON.stringify(seen)}, not ${wish}:\n${all}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  /** Types into a field, over what stands there. */
  window.types = async (selector, text) => {
    const field = await tab.waitForSelector(selector);
    await field.click({ count: 3 });
    await field.type(text);
  };
  /** Clicks on what the selector finds, once it is there. */
  window.clicks = async (selector) => {
    await (await tab.waitForSelector(`${selector}:not(:disabled)`)).click();
  };
  return window;
}
