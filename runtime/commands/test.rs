//! `concave test`: runs the test files of a folder.
//!
//! In: a folder. Out: a report, and whether everything passed. Invariant: no Node is needed, nothing
//! is written but missing snapshots.

use std::path::PathBuf;
use std::time::Instant;

use bundler::Bundler;
use clap::Args;
use futures_util::StreamExt as _;
use thiserror::Error;

use super::terminal;
use crate::testing::report::{self, Reporter};
use crate::testing::suite::{FileReport, Options, Suite, SuiteError};

/// Run the *.test.ts files of an app on the real engine
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave test                            every *.test.ts below this folder
  concave test examples/transfer          of another one
  concave test --filter transfer          files whose path, or tests whose name contains it
  concave test --reporter junit > report.xml

Tests are vitest's (describe, test, expect, vi) and convex-test's (convexTest): existing ones run
unchanged, on the engine that serves.")]
pub struct Arguments {
    /// The app's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Only files whose path contains it; where there are none, tests whose name does
    #[arg(long, value_name = "PATTERN")]
    filter: Option<String>,
    /// Seed of all randomness in functions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    reporter: Reporter,
    /// Milliseconds that a test may take
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    timeout: u64,
    /// Write snapshots that differ
    #[arg(long, short)]
    update: bool,
}

/// Why the tests did not pass.
#[derive(Debug, Error)]
pub enum TestError {
    /// They could not be run.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// Some failed; the report says which.
    #[error("{failed} of {total} tests failed{}.", outside(*files, *failed))]
    Failed {
        /// Tests that failed.
        failed: usize,
        /// Tests that ran.
        total: usize,
        /// Files that failed.
        files: usize,
    },
}

fn outside(files: usize, failed: usize) -> String {
    if failed > 0 { String::new() } else { format!("; {files} files failed outside of tests") }
}

/// Runs the tests once.
///
/// # Errors
/// See [`TestError`].
pub async fn run(arguments: Arguments) -> Result<(), TestError> {
    let mut bundler = Bundler::new();
    let options = Options {
        dir: arguments.dir,
        filter: arguments.filter,
        seed: arguments.seed,
        timeout_ms: arguments.timeout,
        update: if arguments.update { "all" } else { "new" },
    };
    once(options, arguments.reporter, &mut bundler).await
}

async fn once(
    options: Options,
    reporter: Reporter,
    bundler: &mut Bundler,
) -> Result<(), TestError> {
    let started = Instant::now();
    let suite = tokio::task::block_in_place(|| Suite::prepare(options, bundler))?;
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
    let counts = report::count(&files);
    if counts.is_good() {
        return Ok(());
    }
    let total = counts.passed + counts.failed;
    Err(TestError::Failed { failed: counts.failed, total, files: counts.failed_files })
}
