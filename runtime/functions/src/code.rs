//! The code of one deployment version, ready to run: bundle, analysis, snapshot, source maps.
//!
//! In: what a push analyzed. Out: what isolates are made from and errors are mapped with.
//! Invariant: immutable; a call holds it by `Arc` until it ends, whatever is pushed meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use database::components::{Binding, Unit};
use database::deployment::{Analysis, Bundle, CodeVersion, Environment, Position, Tier};
use database::record::{FunctionKind, Given};
use database::snapshot::Snapshot;
use sha2::Digest as _;

use crate::execution::Imported;
use crate::reuse::{Impure, Ran, Standings};
use crate::startup::FIRST_MODULE;

/// A deployment version, or one of the units that its components run.
pub(crate) struct Code {
    /// What was pushed.
    pub(crate) bundle: Arc<Bundle>,
    /// What it exports.
    pub(crate) analysis: Arc<Analysis>,
    /// Places of the modules that the snapshot holds for others to import.
    pub(crate) kept: Arc<BTreeMap<Arc<str>, usize>>,
    /// Compiled code of the modules that it does not hold.
    pub(crate) caches: Arc<Caches>,
    /// Which modules' contexts serve more than one call.
    pub(crate) standings: Standings,
    /// Which part of its version it is: 0 is the app, then come the units.
    pub(crate) part: usize,
    /// Of a version: what ran while each part was imported, once somebody wanted to know.
    pub(crate) ran: OnceLock<Vec<Ran>>,
    /// Of a version: what its author is still to be told, with the next call.
    news: Mutex<Option<Arc<str>>>,
    /// Of a version: its units, in the order of the analysis.
    pub(crate) units: Vec<Arc<Self>>,
    maps: BTreeMap<Arc<str>, OnceLock<Option<sourcemap::SourceMap>>>,
}

/// Where a context comes from: calls of modules with the same origin are served by equal contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Whose it is: [`Code::part`].
    pub(crate) part: usize,
    /// Number of the blob's context; `None`: the default one.
    pub(crate) context: Option<usize>,
    /// The entry that is evaluated in it, where the blob does not hold it.
    pub(crate) late: Option<Arc<str>>,
}

impl Code {
    /// Wraps an analyzed bundle.
    pub(crate) fn new(bundle: Arc<Bundle>, analysis: Arc<Analysis>) -> Self {
        let units = analysis.components.units.iter().enumerate().map(|(at, unit)| {
            let (bundle, analysis) = (Arc::clone(&unit.bundle), Arc::clone(&unit.analysis));
            Arc::new(Self { part: at + 1, ..Self::alone(bundle, analysis) })
        });
        let units = units.collect();
        Self { units, ..Self::alone(bundle, analysis) }
    }

    fn alone(bundle: Arc<Bundle>, analysis: Arc<Analysis>) -> Self {
        let extra = bundle.schema.iter().chain(&bundle.definition);
        let paths = bundle.modules.values().chain(extra).map(|module| Arc::clone(&module.path));
        let maps = paths.map(|path| (path, OnceLock::new())).collect();
        let kept = match &analysis.tier {
            Tier::Partial { kept, .. } => kept.iter().cloned().zip(FIRST_MODULE..).collect(),
            Tier::Snapshot(_) | Tier::Evaluate { .. } => BTreeMap::new(),
        };
        let (kept, caches) = (Arc::new(kept), Arc::default());
        let standings = Standings::of(&analysis);
        Self {
            bundle,
            analysis,
            kept,
            caches,
            standings,
            part: 0,
            ran: OnceLock::new(),
            news: Mutex::default(),
            units: Vec::new(),
            maps,
        }
    }

    /// The same version as its push left it, now that the snapshot was tried; says with its next
    /// call why there is none.
    pub(crate) fn completed(bundle: Arc<Bundle>, analysis: Arc<Analysis>) -> Self {
        let news = match &analysis.tier {
            Tier::Evaluate { reason: Some(why), .. } => Some(why.as_str().into()),
            _ => None,
        };
        Self { news: Mutex::new(news), ..Self::new(bundle, analysis) }
    }

    /// What its author is still to be told, once.
    pub(crate) fn take_news(&self) -> Option<Arc<str>> {
        // Each holder takes it or leaves it.
        self.news.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The code that a mounted component runs; the empty path is the app.
    pub(crate) fn of<'a>(self: &'a Arc<Self>, component: &str) -> Option<&'a Arc<Self>> {
        if component.is_empty() {
            return Some(self);
        }
        self.units.get(self.analysis.components.instances.get(component)?.unit)
    }

    /// The parts of a version, by their numbers.
    pub(crate) fn parts(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::once(self).chain(&self.units)
    }

    /// The context with everything of this part that the blob holds evaluated.
    pub(crate) fn whole(&self) -> Origin {
        let context = match &self.analysis.tier {
            // The blob's default context is the app's.
            Tier::Snapshot(_) | Tier::Partial { .. } => self.part.checked_sub(1),
            // There is the prelude's context only.
            Tier::Evaluate { .. } => None,
        };
        Origin { part: self.part, context, late: None }
    }

    /// The startup snapshot: with the bundle evaluated, or the prelude alone.
    pub(crate) fn blob(&self) -> &Arc<[u8]> {
        match &self.analysis.tier {
            Tier::Snapshot(blob) | Tier::Partial { blob, .. } => &blob.bytes,
            Tier::Evaluate { blob, .. } => blob,
        }
    }

    /// Where contexts for functions of `module` come from.
    pub(crate) fn origin(&self, module: &Arc<str>) -> Origin {
        let own = match &self.analysis.tier {
            Tier::Snapshot(blob) | Tier::Partial { blob, .. } => blob.contexts.get(module).copied(),
            Tier::Evaluate { .. } => None,
        };
        let late = self.is_late(module).then(|| Arc::clone(module));
        let whole = self.whole();
        Origin { context: own.or(whole.context), late, ..whole }
    }

    /// The entries that the context for functions of `module` evaluates, itself among them: one of
    /// the others may have left something at import that its functions come upon.
    pub(crate) fn beside(&self, module: &Arc<str>) -> Vec<Arc<str>> {
        let whole = self.whole();
        let origin = self.origin(module);
        let is_there = |entry: &&Arc<str>| {
            origin.context == whole.context || self.origin(entry).context == origin.context
        };
        Self::entries(&self.bundle).filter(is_there).cloned().collect()
    }

    /// What an answer without an execution says it was given.
    pub(crate) fn given(&self, snapshot: &Snapshot) -> Given {
        Given { code: self.analysis.version, snapshot: snapshot.ts, ..Given::default() }
    }

    /// Whether a context must evaluate the entry at `path` before it can call its functions.
    pub(crate) fn is_late(&self, path: &str) -> bool {
        match &self.analysis.tier {
            Tier::Snapshot(_) => false,
            Tier::Partial { late, .. } => late.contains(path),
            Tier::Evaluate { .. } => true,
        }
    }

    /// The entries that the blob does not hold evaluated.
    pub(crate) fn late(&self) -> Vec<&Arc<str>> {
        Self::entries(&self.bundle).filter(|path| self.is_late(path)).collect()
    }

    /// Entries with functions that run in an isolate of this crate; those outside the blob first.
    pub(crate) fn with_functions(&self) -> Vec<&Arc<str>> {
        let runs_here = |path: &&Arc<str>| {
            let functions = self.analysis.modules.get(*path).map(|module| &module.functions);
            functions.into_iter().flatten().any(|f| f.kind != FunctionKind::Action)
        };
        let mut found: Vec<_> = Self::entries(&self.bundle).filter(runs_here).collect();
        found.sort_by_key(|path| !self.is_late(path));
        found
    }

    /// Modules that a context of this code evaluates: everything but chunks, Node modules and the
    /// files with a meaning of their own.
    pub(crate) fn entries(bundle: &Bundle) -> impl Iterator<Item = &Arc<str>> {
        bundle.modules.values().filter_map(|module| {
            let is_chunk = module.path.starts_with("_deps/") || module.path.contains("/_deps/");
            let runs_here = module.environment == Environment::Isolate;
            let special = &*module.path == "auth.config.js";
            (runs_here && !is_chunk && !special).then_some(&module.path)
        })
    }

    /// The TypeScript position behind a position (from 1) in a module's JavaScript.
    pub(crate) fn position(&self, path: &str, line: u32, column: u32) -> Option<Position> {
        let map = self.maps.get(path)?.get_or_init(|| parse_map(&self.bundle, path)).as_ref()?;
        position_in(map, line, column)
    }

    /// What keeps a context from being kept, with its place as its author knows it.
    pub(crate) fn place(&self, impure: &Impure) -> String {
        let Impure { path, line, column, why } = impure;
        match self.position(path, *line, *column) {
            Some(Position { path, line, column }) => format!("{path}:{line}:{column}: {why}"),
            None if *line == 0 => format!("{path}: {why}"),
            None => format!("{path}:{line}:{column}: {why}"),
        }
    }
}

/// The TypeScript position behind one in the JavaScript of a module of `bundle`, for those who ask
/// once.
pub(crate) fn position_once(bundle: &Bundle, at: &Position) -> Option<Position> {
    position_in(&parse_map(bundle, &at.path)?, at.line, at.column)
}

fn parse_map(bundle: &Bundle, path: &str) -> Option<sourcemap::SourceMap> {
    let mut extra = bundle.schema.iter().chain(&bundle.definition);
    let found = bundle.modules.get(path).or_else(|| extra.find(|module| &*module.path == path))?;
    sourcemap::SourceMap::from_slice(found.source_map.as_ref()?.as_bytes()).ok()
}

fn position_in(map: &sourcemap::SourceMap, line: u32, column: u32) -> Option<Position> {
    let token = map.lookup_token(line.saturating_sub(1), column.saturating_sub(1))?;
    Some(Position {
        path: token.get_source()?.into(),
        line: token.get_src_line() + 1,
        column: token.get_src_col() + 1,
    })
}

/// The most that is kept of compiled code of one version, in bytes.
const CACHED_BYTES: usize = 32 << 20;

/// Compiled code by module path, shared by the isolates of one version.
#[derive(Default)]
pub(crate) struct Caches {
    by_path: Mutex<BTreeMap<Arc<str>, Cached>>,
}

/// One module's.
#[derive(Default)]
struct Cached {
    evaluations: u32,
    code: Option<Arc<[u8]>>,
}

impl Caches {
    /// The code of a module, if it is kept.
    pub(crate) fn find(&self, path: &str) -> Option<Arc<[u8]>> {
        self.lock().get(path)?.code.clone()
    }

    /// Counts an evaluation; says whether the code is worth keeping now: not the first time, when
    /// none of its functions has been called.
    pub(crate) fn is_due(&self, path: &Arc<str>) -> bool {
        let mut all = self.lock();
        let cached = all.entry(Arc::clone(path)).or_default();
        cached.evaluations += 1;
        cached.code.is_none() && cached.evaluations == EVALUATIONS_BEFORE_CODE
    }

    /// Keeps code, within the budget.
    pub(crate) fn keep(&self, path: &Arc<str>, code: &[u8]) {
        let mut all = self.lock();
        let total: usize = all.values().filter_map(|c| c.code.as_ref()).map(|c| c.len()).sum();
        if total + code.len() <= CACHED_BYTES {
            all.entry(Arc::clone(path)).or_default().code = Some(code.into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Cached>> {
        // Each change is a single assignment.
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At this evaluation of a module its code is kept.
const EVALUATIONS_BEFORE_CODE: u32 = 4;

/// Hash of everything that can change what a bundle's functions do: the bundle, and the environment
/// variables that its modules saw when they were evaluated; of the components below, the same.
pub(crate) fn version(bundle: &Bundle, imported: &Imported, units: &[Unit]) -> CodeVersion {
    let mut hash = sha2::Sha256::new();
    let mut feed = |text: &[u8]| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for module in bundle.modules.values().chain(&bundle.schema).chain(&bundle.definition) {
        feed(module.path.as_bytes());
        feed(match module.environment {
            Environment::Isolate => b"isolate",
            Environment::Node => b"node",
        });
        feed(module.source.as_bytes());
        feed(module.source_map.as_deref().unwrap_or_default().as_bytes());
    }
    for (name, version) in &bundle.node_packages {
        feed(name.as_bytes());
        feed(version.as_bytes());
    }
    for (name, value) in imported {
        feed(name.as_bytes());
        feed(if value.is_some() { b"is" } else { b"is not set" });
        feed(value.as_deref().unwrap_or_default().as_bytes());
    }
    for unit in units {
        feed(unit.definition.as_bytes());
        feed(&unit.analysis.version.0);
        for (name, binding) in &unit.environment {
            let (kind, text): (&[u8], _) = match binding {
                Binding::Value(value) => (b"value", value),
                Binding::Variable(name) => (b"variable", name),
                Binding::Site(path) => (b"site", path),
            };
            feed(name.as_bytes());
            feed(kind);
            feed(text.as_bytes());
        }
    }
    feed(bundle.udf_server_version.as_bytes());
    feed(&bundle.import_time_ms.to_le_bytes());
    feed(&bundle.import_seed);
    CodeVersion(hash.finalize().into())
}
