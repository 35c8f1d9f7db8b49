//! The code of one deployment version, ready to run: bundle, analysis, snapshot, source maps.
//!
//! In: what a push analyzed. Out: what isolates are made from and errors are mapped with.
//! Invariant: immutable; a call holds it by `Arc` until it ends, whatever is pushed meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use database::deployment::{Analysis, Bundle, CodeVersion, Environment, Position, Tier};
use database::record::Given;
use database::snapshot::Snapshot;
use sha2::Digest as _;

/// A deployment version.
pub(crate) struct Code {
    /// What was pushed.
    pub(crate) bundle: Arc<Bundle>,
    /// What it exports.
    pub(crate) analysis: Arc<Analysis>,
    maps: BTreeMap<Arc<str>, OnceLock<Option<sourcemap::SourceMap>>>,
}

impl Code {
    /// Wraps an analyzed bundle.
    pub(crate) fn new(bundle: Arc<Bundle>, analysis: Arc<Analysis>) -> Self {
        let extra = bundle.schema.iter().chain(&bundle.definition);
        let paths = bundle.modules.values().chain(extra).map(|module| Arc::clone(&module.path));
        let maps = paths.map(|path| (path, OnceLock::new())).collect();
        Self { bundle, analysis, maps }
    }

    /// The startup snapshot: with the bundle evaluated, or the prelude alone.
    pub(crate) fn blob(&self) -> &Arc<[u8]> {
        match &self.analysis.tier {
            Tier::Snapshot(blob) | Tier::Evaluate { blob, .. } => blob,
        }
    }

    /// What an answer without an execution says it was given.
    pub(crate) fn given(&self, snapshot: &Snapshot) -> Given {
        Given { code: self.analysis.version, snapshot: snapshot.ts, ..Given::default() }
    }

    /// Whether the blob already holds the evaluated bundle.
    pub(crate) fn is_evaluated(&self) -> bool {
        matches!(self.analysis.tier, Tier::Snapshot(_))
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
        let map = self.maps.get(path)?.get_or_init(|| self.parse_map(path)).as_ref()?;
        let token = map.lookup_token(line.saturating_sub(1), column.saturating_sub(1))?;
        let source = token.get_source()?;
        Some(Position {
            path: source.into(),
            line: token.get_src_line() + 1,
            column: token.get_src_col() + 1,
        })
    }

    fn parse_map(&self, path: &str) -> Option<sourcemap::SourceMap> {
        let extra = self.bundle.schema.iter().chain(&self.bundle.definition);
        let module = self
            .bundle
            .modules
            .get(path)
            .or_else(|| extra.into_iter().find(|module| &*module.path == path))?;
        sourcemap::SourceMap::from_slice(module.source_map.as_ref()?.as_bytes()).ok()
    }
}

/// Hash of everything in a bundle that can change what its functions do.
pub(crate) fn version(bundle: &Bundle) -> CodeVersion {
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
    for (name, value) in &bundle.environment {
        feed(name.as_bytes());
        feed(value.as_bytes());
    }
    feed(bundle.udf_server_version.as_bytes());
    feed(&bundle.import_time_ms.to_le_bytes());
    feed(&bundle.import_seed);
    CodeVersion(hash.finalize().into())
}
