//! `concave test-server`: the engine for tests that vitest runs.
//!
//! In: questions on standard input, from the npm package in `js/test`. Out: answers on standard
//! output. Invariant: it ends when its input does, so it outlives no test runner.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use thiserror::Error;
use tokio::io::{BufReader, stdin, stdout};

use crate::testing::server;
use crate::testing::suite::{Engine, SuiteError};

/// The engine for tests that vitest runs; the package `concave-test` starts it
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder that vitest runs in
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Seed of all randomness in functions
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Why it ended early.
#[derive(Debug, Error)]
pub enum TestServerError {
    /// It could not start.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// The pipes.
    #[error(
        "concave test-server is started by the npm package concave-test and talks through pipes: \
         {0}. To run tests without vitest: concave test."
    )]
    Pipes(#[from] std::io::Error),
}

/// Serves until the input ends.
///
/// # Errors
/// See [`TestServerError`].
pub async fn run(Arguments { dir, seed }: Arguments) -> Result<(), TestServerError> {
    let root = std::fs::canonicalize(&dir).map_err(|cause| SuiteError::Folder { dir, cause })?;
    let engine = Engine::start(false)?;
    let bench = Arc::new(engine.bench(root, Vec::new(), seed));
    server::serve(bench, BufReader::new(stdin()), stdout()).await?;
    Ok(())
}
