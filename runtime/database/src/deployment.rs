//! What a push brings: the bundle as it arrived, and what analysis found in it.
//!
//! In: modules from the deploy protocol. Out: the tables of functions that a call is checked
//! against.
//! Invariant: an [`Analysis`] belongs to exactly one [`CodeVersion`], the hash of the bundle it
//! came from. Every type has one serde form, in which the log store keeps deployments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::components::Components;
use crate::record::{FunctionKind, FunctionPath};
use crate::schema::Schema;
use crate::validate::Validator;

/// SHA-256 over everything in a bundle that can change what a function does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CodeVersion(pub [u8; 32]);

impl fmt::Display for CodeVersion {
    /// The first 12 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where a module runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Environment {
    /// The default runtime.
    Isolate,
    /// `"use node"`.
    Node,
}

/// One ES module of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Canonical path: `dir/mod.js`, `_deps/HASH.js`, `schema.js`, …
    pub path: Arc<str>,
    /// JavaScript.
    pub source: Arc<str>,
    /// Source map, JSON text.
    pub source_map: Option<Arc<str>>,
    /// Where it runs.
    pub environment: Environment,
}

/// Everything one push sent: for the app, or for the definition of a component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Function modules, chunks, `http.js`, `crons.js`, `auth.config.js`, by path.
    pub modules: BTreeMap<Arc<str>, Module>,
    /// `schema.js`.
    pub schema: Option<Module>,
    /// `convex.config.js`.
    pub definition: Option<Module>,
    /// The definitions of components, by their paths; of a definition itself there are none.
    pub components: BTreeMap<Arc<str>, Arc<Self>>,
    /// Whether only code generation asks: a component by itself, without an environment.
    pub for_codegen: bool,
    /// Packages that Node modules import and the bundle does not have: name and exact version.
    pub node_packages: BTreeMap<String, String>,
    /// Version of the `convex` package that bundled it.
    pub udf_server_version: String,
    /// Frozen `Date.now()` while modules are evaluated, milliseconds since the Unix epoch.
    pub import_time_ms: u64,
    /// Seed of `Math.random()` while modules are evaluated.
    pub import_seed: [u8; 32],
}

/// A position in the author's source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// `../convex/file.ts`, as the source map names it.
    pub path: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// Who may call a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Other functions and the operator.
    Internal,
}

/// One registered function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnalyzedFunction {
    /// Export name.
    pub name: Arc<str>,
    /// Kind.
    pub kind: FunctionKind,
    /// Visibility; `None` where the object carries neither flag.
    pub visibility: Option<Visibility>,
    /// JSON text of the args validator, as `exportArgs()` gave it.
    pub args_json: Arc<str>,
    /// The args validator.
    pub args: Validator,
    /// JSON text of the returns validator (or `null`), as `exportReturns()` gave it.
    pub returns_json: Arc<str>,
    /// The returns validator.
    pub returns: Option<Validator>,
    /// Where the handler stands.
    pub position: Option<Position>,
    /// The name of the invariant that it is.
    #[serde(default)]
    pub invariant: Option<Arc<str>>,
}

/// The module of the app whose invariants are checked.
pub const INVARIANTS: &str = "invariants.js";

/// One HTTP route of `http.js`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// Path, prefixes written `prefix*`.
    pub path: String,
    /// Method.
    pub method: String,
}

/// What analysis found in one module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnalyzedModule {
    /// Its functions, in source order.
    pub functions: Vec<AnalyzedFunction>,
    /// `http.js`: its routes.
    pub http_routes: Option<Vec<HttpRoute>>,
    /// `crons.js`: JSON text of its specs.
    pub crons_json: Option<String>,
    /// Whether it asked for context reuse (`experimental_reuseContext`).
    pub reuse_context: bool,
}

/// A V8 startup snapshot of modules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// What V8 wrote; empty where it is [`Tier::is_missing`].
    #[serde(skip)]
    pub bytes: Arc<[u8]>,
    /// It has a context with all modules of the app, and one for each unit of its components;
    /// these entries of the part at hand have one of their own beside it, by number, in which
    /// nothing was evaluated but they (a few may share one) and what they import.
    pub contexts: BTreeMap<Arc<str>, usize>,
}

/// How fresh contexts of a deployment are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// From a V8 startup snapshot that holds the evaluated bundle.
    Snapshot(Blob),
    /// From a snapshot that holds the modules that do not touch WebAssembly while they are
    /// imported. A context for a call of one of the others evaluates that one.
    Partial {
        /// The snapshot.
        blob: Blob,
        /// The modules in it that the others may import, in the order of its data.
        kept: Arc<[Arc<str>]>,
        /// The entries that are not in it.
        late: BTreeSet<Arc<str>>,
    },
    /// From the base snapshot, the called module evaluated in each.
    Evaluate {
        /// Why, in one sentence for the author that names the module and the cure; `None`: only
        /// until the snapshot is made, which the push did not wait for.
        reason: Option<String>,
        /// The base snapshot: the prelude alone.
        #[serde(skip)]
        blob: Arc<[u8]>,
    },
}

impl Tier {
    /// Whether a snapshot is still to come.
    pub fn is_provisional(&self) -> bool {
        matches!(self, Self::Evaluate { reason: None, .. })
    }

    /// Whether what V8 wrote is not there, as in a deployment that a store gave back. It is as
    /// large as everything that the modules import, good for one build of this program only, and
    /// can be made again of the bundle: so nothing keeps it with the commits.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Snapshot(blob) | Self::Partial { blob, .. } => blob.bytes.is_empty(),
            Self::Evaluate { blob, .. } => blob.is_empty(),
        }
    }
}

/// What analysis found in a bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Analysis {
    /// Hash of the bundle.
    pub version: CodeVersion,
    /// By canonical module path; chunks are absent.
    pub modules: BTreeMap<Arc<str>, AnalyzedModule>,
    /// The schema; `None` without `schema.ts`.
    pub schema: Option<Arc<Schema>>,
    /// JSON text of `defineApp().export()`, `path` not yet filled in; `None` without a definition
    /// module.
    pub definition_json: Option<String>,
    /// JSON text of the default export of `auth.config.js`.
    pub auth_json: Option<String>,
    /// The environment variables that modules looked at while they were evaluated, with the values
    /// they saw; `None`: it was not set.
    pub imported_environment: BTreeMap<String, Option<String>>,
    /// How contexts are made.
    pub tier: Tier,
    /// What is mounted below; of a component's own analysis nothing.
    pub components: Components,
    /// Things the author should know that did not fail the push.
    pub warnings: Vec<String>,
}

impl Analysis {
    /// The function at `path`, if its component has it.
    pub fn function(&self, path: &FunctionPath) -> Option<&AnalyzedFunction> {
        let module = self.of(&path.component)?.modules.get(&path.module)?;
        module.functions.iter().find(|function| function.name == path.export)
    }

    /// The part that belongs to a mounted component; the empty path is the app.
    pub fn of(&self, component: &str) -> Option<&Self> {
        if component.is_empty() {
            return Some(self);
        }
        self.components.unit(component).map(|unit| &*unit.analysis)
    }

    /// The app, then everything mounted, by component path.
    pub fn each(&self) -> impl Iterator<Item = (&str, &Self)> {
        let mounted = self.components.instances.iter();
        let mounted =
            mounted.map(|(path, found)| (&**path, &*self.components.units[found.unit].analysis));
        std::iter::once(("", self)).chain(mounted)
    }

    /// The same with other ways to make contexts: `tier` is asked for the app's, then for that of
    /// each unit of its components, in their order.
    #[must_use]
    pub fn with_tiers(&self, mut tier: impl FnMut(&Self) -> Tier) -> Self {
        let mut with = |analysis: &Self| Self { tier: tier(analysis), ..analysis.clone() };
        let mut changed = with(self);
        for unit in &mut changed.components.units {
            unit.analysis = Arc::new(with(&unit.analysis));
        }
        changed
    }
}
