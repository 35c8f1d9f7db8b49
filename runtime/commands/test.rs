//! `concave test`: runs the test files of a folder.
//!
//! In: a folder. Out: a report, and whether everything passed. Invariant: no Node is needed;
//! nothing is written but missing snapshots and, into the user's cache folder, what a later run
//! need not make again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use database::record::World as _;
use futures_util::StreamExt as _;
use thiserror::Error;

use super::host::asked_to_stop;
use super::terminal;
use super::watch::{Watch, WatchError};
use crate::testing::coverage::Coverage;
use crate::testing::report::{self, Reporter};
use crate::testing::suite::{Engine, FileReport, Options, Suite, SuiteError};
use crate::world::RealWorld;

/// Run the *.test.ts files of an app on the real engine
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave test                            every *.test.ts below this folder
  concave test examples/transfer          of another one
  concave test convex/shop.test.ts        one file
  concave test --filter transfer          files whose path, or tests whose name contains it
  concave test convex/shop.test.ts --filter \"is empty\"    tests of one file
  concave test --watch                    again at every save
  concave test --reporter junit > report.xml

Tests are vitest's (describe, test, expect, vi) and convex-test's (convexTest): existing ones run
unchanged, on the engine that serves. Actions run beside the test, as with convex-test; those with
\"use node\" too, in V8 without Node: one that needs a module of Node fails and says so. Files that
ask for @vitest-environment jsdom are left to vitest, which runs on the same engine with the package
of js/test. Of vitest.config.ts these are followed, where they are literals: globals, setupFiles,
include, exclude, env, expect, timeouts, retry, allowOnly, and what resets mocks and stubs.")]
pub struct Arguments {
    /// The app's folder, or one test file
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Only files whose path contains it; where there are none, or one file is given, tests whose
    /// name does
    #[arg(long, value_name = "PATTERN")]
    filter: Option<String>,
    /// Seed of all randomness, of functions and of tests: where tests fail, they name theirs.
    /// Without it every run has another
    #[arg(long)]
    seed: Option<u64>,
    /// Run again at every save
    #[arg(long)]
    watch: bool,
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    reporter: Reporter,
    /// Milliseconds that a test may take: 5000 where vitest's configuration says nothing else
    #[arg(long, value_name = "MS")]
    timeout: Option<u64>,
    /// Say which lines ran, and write coverage/lcov.info; functions then run where the tests do,
    /// and not in the engine's isolates
    #[arg(long)]
    coverage: bool,
    /// Write snapshots that differ
    #[arg(long, short)]
    update: bool,
    /// Let files pass in which `.only` was left, also in CI
    #[arg(long, alias = "allowOnly")]
    allow_only: bool,
}

/// Why the tests did not pass.
#[derive(Debug, Error)]
pub enum TestError {
    /// They could not be run.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// Files cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Nobody can read which lines ran.
    #[error("Could not write {}: {cause}.", file.display())]
    Coverage {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// There is no seed.
    #[error("Could not read the system's random device: {0}. Name a seed: concave test --seed 1.")]
    Seed(std::io::Error),
    /// Some failed; the report says which.
    #[error("{}. Again with the same randomness: --seed {seed}.", told(*failed, *total, broken))]
    Failed {
        /// Tests that failed.
        failed: usize,
        /// Tests that ran.
        total: usize,
        /// Files that failed outside of their tests.
        broken: Vec<String>,
        /// What their randomness was a function of.
        seed: u64,
    },
}

fn told(failed: usize, total: usize, broken: &[String]) -> String {
    let tests = format!("{failed} of {total} tests failed");
    let files = terminal::count(broken.len(), "file");
    let outside = format!("{files} failed outside of tests: {}", broken.join(", "));
    match (total, broken) {
        (_, []) => tests,
        (0, _) => outside,
        _ => format!("{tests}; {outside}"),
    }
}

/// Runs the tests, with `--watch` again and again.
///
/// # Errors
/// See [`TestError`].
pub async fn run(arguments: Arguments) -> Result<(), TestError> {
    let Arguments { dir, watch, filter, seed, reporter, timeout, update, coverage, allow_only } =
        arguments;
    let ci = is_ci();
    let update = match update {
        true => "all",
        // As vitest: what nobody has looked at is not written where nobody looks.
        false if ci => "none",
        false => "new",
    };
    let (dir, only) = where_and_which(dir);
    let seed = seed.map_or_else(drawn_seed, Ok).map_err(TestError::Seed)?;
    let allow_only = allow_only.then_some(true);
    let timeout_ms = timeout;
    let options = Options { dir, only, filter, seed, timeout_ms, coverage, allow_only, ci, update };
    let engine = Arc::new(Engine::start(coverage)?);
    if !watch {
        return once(options, reporter, &engine, &mut Vec::new()).await;
    }
    let watched = Watch::for_tests(&options.dir)?;
    again_and_again(options, reporter, engine, watched).await
}

/// A seed that is short enough to be typed.
fn drawn_seed() -> std::io::Result<u64> {
    let [a, b, c, ..] = RealWorld::new()?.seed();
    Ok(u32::from_le_bytes([a, b, c, 0]).into())
}

/// Whether this is a CI system, which says so in `CI`.
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(&*value, "" | "0" | "false"))
}

/// A file that is named where a folder is wanted: its app, and of that this file.
fn where_and_which(dir: PathBuf) -> (PathBuf, Option<PathBuf>) {
    let file = std::path::absolute(&dir).ok().filter(|file| file.is_file());
    let Some(app) = file.as_deref().and_then(|file| {
        let mut above = file.ancestors().skip(1);
        above.find(|folder| folder.join("package.json").is_file()).or(file.parent())
    }) else {
        return (dir, None);
    };
    (app.to_owned(), Some(dir))
}

async fn again_and_again(
    options: Options,
    reporter: Reporter,
    engine: Arc<Engine>,
    mut watch: Watch,
) -> Result<(), TestError> {
    loop {
        watch.renew(&options.dir)?;
        let mut sources = Vec::new();
        match once(options.clone(), reporter, &engine, &mut sources).await {
            Ok(()) | Err(TestError::Failed { .. }) => {}
            Err(error) => terminal::problem(error),
        }
        watch.also(&sources);
        terminal::news("waiting for changes");
        tokio::select! {
            changed = watch.changed() => {
                let name = changed.file_name().unwrap_or_default();
                terminal::news(format!("{} changed", name.display()));
            }
            () = asked_to_stop() => return Ok(()),
        }
    }
}

/// Tells which lines ran, where people read, and writes it down.
fn covered(
    files: &[FileReport],
    suite: &Suite,
    reporter: Reporter,
    lcov: &Path,
) -> Result<(), TestError> {
    let mut coverage = Coverage::default();
    for counted in files.iter().flat_map(|file| &file.counted) {
        coverage.add(counted, suite.frames());
    }
    if reporter == Reporter::Pretty {
        terminal::data(coverage.table());
    }
    let folder = lcov.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = folder.and_then(|()| std::fs::write(lcov, coverage.lcov()));
    written.map_err(|cause| TestError::Coverage { file: lcov.to_owned(), cause })
}

async fn once(
    options: Options,
    reporter: Reporter,
    engine: &Arc<Engine>,
    sources: &mut Vec<PathBuf>,
) -> Result<(), TestError> {
    let (started, seed) = (Instant::now(), options.seed);
    let lcov = options.coverage.then(|| options.dir.join("coverage/lcov.info"));
    let engine = Arc::clone(engine);
    let prepared = tokio::task::spawn_blocking(move || Suite::prepare(options, &engine)).await;
    let suite = prepared.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()))?;
    sources.clone_from(&suite.watched);
    suite.notes().iter().for_each(terminal::warning);
    let running = suite.files().map(|file| suite.run(file));
    let mut running = futures_util::stream::iter(running).buffer_unordered(suite.at_once());
    let mut files: Vec<FileReport> = Vec::new();
    while let Some(file) = running.next().await {
        if reporter == Reporter::Pretty {
            terminal::data(report::of_file(&file));
        }
        files.push(file);
    }
    drop(running);
    files.sort_by(|a, b| a.file.cmp(&b.file));
    let time = started.elapsed();
    match reporter {
        Reporter::Pretty => terminal::data(report::summary(&files, suite.frames(), time)),
        Reporter::Json => terminal::data(report::json(&files, time)),
        Reporter::Junit => terminal::data(report::junit(&files, suite.frames(), time)),
    }
    if let Some(lcov) = lcov {
        covered(&files, &suite, reporter, &lcov)?;
    }
    let counts = report::count(&files);
    if counts.is_good() {
        return Ok(());
    }
    let total = counts.passed + counts.failed;
    let broken = report::broken(&files).map(|file| file.file.clone()).collect();
    Err(TestError::Failed { failed: counts.failed, total, broken, seed })
}
