//! Tests of functions: `concave test`.
//!
//! In: a folder with test files. Out: what came of each test. Invariant: tests run on the engine
//! that serves; of it only clock, randomness and who runs actions are theirs.
//!
//! ```text
//! concave test                                        a worker process (crate `actions`)
//!   suite.rs    the files, one run each  ── code ──►    js/test/main.js: vitest's runner
//!   realm.rs    one file's run           ◄─ calls ──    js/test/convex_test.js: convexTest()
//!   world.rs    one convexTest(): database, clock       inline functions, actions
//!   deploy.rs   modules and schema → deployment
//!   functions/src/elsewhere.rs: a query or mutation of the worker's, on an isolate's transaction
//!   frames.rs   positions → TypeScript    report.rs    what the user reads
//!   footprints.rs what transactions read and write, for explore
//!   coverage.rs which lines ran          server.rs    the same for vitest (js/test/node.js)
//! ```

pub mod coverage;
pub mod deploy;
pub mod footprints;
pub mod frames;
pub mod realm;
pub mod report;
pub mod server;
pub mod suite;
pub mod world;
