//! Tests of functions: 500 small ones beside vitest with convex-test, in few files and in many, one
//! after a save, all orders of three actions, and what a `convexTest()` costs.
//!
//! In: the built program, npm's vitest and convex-test in `tests/suites/`. Out: figures on standard
//! output. Bounded by counts; the two runners take turns, so that both see the same machine.
//!
//!   make modules && cargo bench --profile fast --bench suites
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and dies when it fails"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Rounds of each; the median counts.
const ROUNDS: usize = 3;
/// The tests of a suite.
const TESTS: usize = 500;
/// How many files they are in. The seven component packages of `tests/suites` have 10 in a file.
const FILES: [usize; 3] = [25, 50, 100];

const SCHEMA: &str = r#"
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({
  tasks: defineTable({ text: v.string(), done: v.boolean() }).index("by_done", ["done"]),
});
"#;

const TASKS: &str = r#"
import { actionGeneric as action, makeFunctionReference as ref, mutationGeneric as mutation,
  queryGeneric as query } from "convex/server";
import { v } from "convex/values";
export const add = mutation({ args: { text: v.string() }, handler: (ctx, { text }) =>
  ctx.db.insert("tasks", { text, done: false }) });
export const finish = mutation({ args: { id: v.id("tasks") }, handler: (ctx, { id }) =>
  ctx.db.patch(id, { done: true }) });
export const extend = mutation({ args: { id: v.id("tasks") }, handler: async (ctx, { id }) =>
  ctx.db.patch(id, { text: `${(await ctx.db.get(id)).text}!` }) });
export const open = query({ args: {}, handler: async (ctx) => (await ctx.db.query("tasks")
  .withIndex("by_done", (q) => q.eq("done", false)).collect()).map((task) => task.text) });
export const look = query({ args: { id: v.id("tasks") }, handler: (ctx, { id }) =>
  ctx.db.get(id) });
export const work = action({ args: { id: v.id("tasks") }, handler: async (ctx, { id }) => {
  await ctx.runQuery(ref("tasks:look"), { id });
  await ctx.runQuery(ref("tasks:look"), { id });
  await ctx.runMutation(ref("tasks:extend"), { id });
} });
"#;

const HEAD: &str = r#"
import { convexTest } from "convex-test";
import { anyApi as api } from "convex/server";
import { expect, test } from "vitest";
import schema from "./schema";
const modules = import.meta.glob("./**/*.*s");
"#;

fn main() {
    let mut app = App::new();
    for files in FILES {
        app = App::new();
        let tests = TESTS / files;
        for file in 0..files {
            let tests = (0..tests).map(|n| small(file * tests + n)).collect::<String>();
            app.write(&format!("small{file}.test.ts"), &format!("{HEAD}{tests}"));
        }
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(app.concave());
            times[1].push(app.vitest());
        }
        let [ours, theirs] = times.map(median);
        let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
        println!(
            "{TESTS} tests in {files} files: concave test {ours:.2?}, vitest + convex-test \
             {theirs:.2?}: {ratio:.1} times as fast"
        );
    }
    println!("one file of tests, from its save to its verdict: {:.0?}", app.watched());
    println!("every order of three actions with three transactions: {}", app.explored());
    println!("the database of a convexTest() opens {}", app.opened());
}

fn small(n: usize) -> String {
    format!(
        "test(\"{n}\", async () => {{\n  const t = convexTest(schema, modules);\n  \
         const id = await t.mutation(api.tasks.add, {{ text: \"a{n}\" }});\n  \
         await t.mutation(api.tasks.add, {{ text: \"b{n}\" }});\n  \
         await t.mutation(api.tasks.finish, {{ id }});\n  \
         expect(await t.query(api.tasks.open)).toEqual([\"b{n}\"]);\n}});\n"
    )
}

/// A folder with functions and tests, which both runners read.
struct App {
    folder: tempfile::TempDir,
}

impl App {
    fn new() -> Self {
        let app = Self { folder: tempfile::tempdir().unwrap() };
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites/node_modules");
        symlink(modules, app.path("node_modules")).unwrap();
        // convex-test finds the functions by it.
        fs::create_dir_all(app.path("convex/_generated")).unwrap();
        app.write("_generated/api.js", "export {};\n");
        fs::write(app.path("package.json"), "{\"name\":\"app\",\"type\":\"module\"}").unwrap();
        // As convex-test's guide says.
        let config = "export default { test: { environment: \"edge-runtime\", \
                      server: { deps: { inline: [\"convex-test\"] } } } };\n";
        fs::write(app.path("vitest.config.mjs"), config).unwrap();
        app.write("schema.ts", SCHEMA);
        app.write("tasks.ts", TASKS);
        app
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path("convex").join(name), text).unwrap();
    }

    /// Runs all tests with concave.
    fn concave(&self) -> Duration {
        let mut command = Command::new(env!("CARGO_BIN_EXE_concave"));
        timed(command.arg("test").arg(self.folder.path()))
    }

    /// Runs all tests with vitest.
    fn vitest(&self) -> Duration {
        let mut command = Command::new("node");
        let program = self.path("node_modules/vitest/vitest.mjs");
        timed(command.arg(program).arg("run").current_dir(self.folder.path()))
    }

    /// The median time from a save of a file that is watched alone to its verdict.
    fn watched(&self) -> Duration {
        let mut child = Command::new(env!("CARGO_BIN_EXE_concave"))
            .args(["test", "--watch", "--filter", "small7."])
            .arg(self.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut verdict = || lines.find(|line| line.as_ref().unwrap().contains("Time  ")).unwrap();
        let file = self.path("convex/small7.test.ts");
        let text = fs::read_to_string(&file).unwrap();
        verdict().unwrap();
        let mut times = Vec::new();
        for round in 0..ROUNDS * 3 {
            // The watch begins when the verdict is out.
            std::thread::sleep(Duration::from_millis(300));
            let saved = Instant::now();
            fs::write(&file, format!("{text}// {round}\n")).unwrap();
            verdict().unwrap();
            times.push(saved.elapsed());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        median(times)
    }

    /// How many orders there were, and how long they took, as the test that explored them says.
    fn explored(&self) -> String {
        let test = "test(\"orders\", async () => {\n  const t = convexTest(schema, modules);\n  \
             const id = await t.mutation(api.tasks.add, { text: \"a\" });\n  \
             const work = () => t.action(api.tasks.work, { id });\n  \
             const start = Date.now();\n  \
             const { orders } = await t.explore([work, work, work]);\n  \
             console.log(`EXPLORED ${orders} orders in ${Date.now() - start} ms`);\n}, 60_000);\n";
        self.says("orders", test, "EXPLORED ")
    }

    /// What the first query of a test takes longer than its second one: it opens the database.
    fn opened(&self) -> String {
        let test = "test(\"opening\", async () => {\n  const costs = [];\n  \
             for (let i = 0; i < 100; i++) {\n    const start = performance.now();\n    \
             const t = convexTest(schema, modules);\n    await t.query(api.tasks.open);\n    \
             const opened = performance.now();\n    \
             await t.mutation(api.tasks.add, { text: \"a\" });\n    \
             const added = performance.now();\n    await t.query(api.tasks.open);\n    \
             costs.push(opened - start - (performance.now() - added));\n  }\n  \
             costs.sort((a, b) => a - b);\n  \
             console.log(`OPENED in ${costs[50].toFixed(2)} ms`);\n}, 60_000);\n";
        self.says("opening", test, "OPENED ")
    }

    /// What a test prints after a word.
    fn says(&self, name: &str, test: &str, word: &str) -> String {
        self.write(&format!("{name}.test.ts"), &format!("{HEAD}{test}"));
        let done = Command::new(env!("CARGO_BIN_EXE_concave"))
            .args(["test", "--filter", &format!("{name}.")])
            .arg(self.folder.path())
            .output()
            .unwrap();
        let out = String::from_utf8(done.stdout).unwrap();
        out.split_once(word).unwrap().1.lines().next().unwrap().to_owned()
    }
}

fn timed(command: &mut Command) -> Duration {
    let start = Instant::now();
    let done = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
