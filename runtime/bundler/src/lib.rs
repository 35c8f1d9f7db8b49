//! From a project folder to the modules of a deployment.
//!
//! In: a [`Project`]. Out: [`Output`], ES modules that import each other by relative paths; V8
//! links them. Invariant: the same files give the same bytes.
//!
//! ```text
//! bundle   one run, and what is kept between runs           error    what can be wrong
//! package  the `package.json` that governs a file
//! project  what is an entry                    resolve  where a specifier leads
//! component  which components there are; each is bundled as a project of its own
//! memo     which of them need not be bundled again
//! graph    every file that is reached    ---  compile  one file: strip types, take imports out
//! tables   what a file takes from others, and gives      (cached by content)
//! define   `process.env.NODE_ENV`              link     what runs, what is used
//! equals   `import x = require()`, `export =`
//! early    what V8 would refuse to compile and the parser lets pass
//! check    what is wrong, with place and cure
//! names    paths of output modules
//! hoist    one module of all that packages without side effects declare and somebody uses (prune),
//!          what several of them declare alike once (same), families of classes on demand
//!          (family)
//! purity   whether a module of the output keeps anything of a call in its variables
//! emit     ES modules, source maps             single   schema and definition: one module each
//! inline   for those: imports become properties         place    where in a file
//! tests    test files, and lists of function files      glob     `import.meta.glob`
//! mocks    `vi.mock` of test files                          vitest   their configuration
//! ```

#![forbid(unsafe_code)]

mod bundle;
mod check;
mod compile;
mod component;
mod define;
mod early;
mod emit;
mod equals;
mod error;
mod family;
mod glob;
mod graph;
mod hoist;
mod inline;
mod link;
mod memo;
mod mocks;
mod names;
mod package;
mod place;
mod project;
mod prune;
pub mod purity;
mod resolve;
mod same;
mod single;
mod tables;
mod tests;
mod vitest;

pub use bundle::{BundledModule, Bundler, EntryModule, Environment, Output};
pub use component::{Component, Folder};
pub use error::{BundleError, BundleErrors};
pub use mocks::Mocks;
pub use project::Project;
pub use tests::{TestFiles, is_test_file};
pub use vitest::VitestConfig;
