//! ES modules of the deployed code, for deno_core.
//!
//! In: a module's URL. Out: its JavaScript. Invariant: a module URL is `convex:/<path>`, in tests
//! with an ending that makes a module of the app another one; nothing outside of the deployed code
//! can be imported, statically or dynamically.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use deno_core::{
    ModuleLoadOptions, ModuleLoadReferrer, ModuleLoadResponse, ModuleLoader, ModuleResolveResponse,
    ModuleSource, ModuleSourceCode, ModuleSpecifier, ModuleType, ResolutionKind,
    SourceCodeCacheInfo,
};
use deno_error::JsErrorBox;

use crate::protocol::ImportPhase;

/// Scheme of module URLs.
pub(crate) const SCHEME: &str = "convex:/";

/// Test files: each of them runs once, and nobody needs what V8 has compiled of it.
const TEST_FILES: &str = "_tests/";

/// Runs of a function after which what V8 has compiled is kept: more was called by then.
const KEPT_AFTER: [u64; 3] = [1, 8, 64];

/// The deployed code, and what V8 has compiled of it.
#[derive(Default)]
pub(crate) struct Code {
    /// JavaScript by path.
    pub(crate) modules: BTreeMap<String, Arc<str>>,
    /// What they see while they are evaluated.
    pub(crate) import: ImportPhase,
    compiled: Mutex<HashMap<String, Arc<[u8]>>>,
    /// Runs of each function.
    runs: Mutex<HashMap<String, u64>>,
    /// Scripts of the platform that the last run of each function needed.
    scripts: Mutex<HashMap<String, BTreeSet<String>>>,
}

impl Code {
    fn compiled(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<[u8]>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What V8 has compiled of a module or a script of the platform.
    pub(crate) fn compiled_of(&self, name: &str) -> Option<Arc<[u8]>> {
        self.compiled().get(name).cloned()
    }

    /// Keeps what V8 has compiled of a module or a script, if it is more than there was.
    pub(crate) fn keep(&self, name: &str, compiled: &[u8]) {
        let mut kept = self.compiled();
        if kept.get(name).is_none_or(|known| known.len() < compiled.len()) {
            kept.insert(name.to_owned(), compiled.into());
        }
    }

    /// The code, with nothing compiled.
    pub(crate) fn new(modules: BTreeMap<String, Arc<str>>, import: ImportPhase) -> Self {
        Self { modules, import, ..Self::default() }
    }

    fn scripts(&self) -> std::sync::MutexGuard<'_, HashMap<String, BTreeSet<String>>> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next run of `dir/mod:fn` will probably need of the platform.
    pub(crate) fn scripts_of(&self, function: &str) -> BTreeSet<String> {
        self.scripts().get(function).cloned().unwrap_or_default()
    }

    /// Keeps what a run of `dir/mod:fn` needed of the platform.
    pub(crate) fn keep_scripts(&self, function: String, names: BTreeSet<String>) {
        self.scripts().insert(function, names);
    }

    /// Counts a run of `dir/mod:fn`; says whether what V8 has compiled by its end is worth keeping.
    pub(crate) fn count_run(&self, function: &str) -> bool {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let count = runs.entry(function.to_owned()).or_default();
        *count += 1;
        KEPT_AFTER.contains(count)
    }
}

/// One run's view of the code.
pub(crate) struct Loader {
    code: Arc<Code>,
    /// Modules that were imported, and may be by later runs.
    loaded: RefCell<BTreeSet<String>>,
}

impl Loader {
    pub(crate) fn new(code: Arc<Code>) -> Self {
        Self { code, loaded: RefCell::default() }
    }

    /// Keeps what V8 has compiled of a module.
    pub(crate) fn keep(&self, path: &str, compiled: &[u8]) {
        self.code.keep(path, compiled);
    }

    /// Paths and sources of the modules that were imported, and may be by later runs.
    pub(crate) fn loaded(&self) -> Vec<(String, Arc<str>)> {
        let source = |path: &String| Some((path.clone(), self.code.modules.get(path)?.clone()));
        self.loaded.borrow().iter().filter_map(source).collect()
    }
}

impl ModuleLoader for Loader {
    fn resolve(
        &self,
        specifier: &str,
        referrer: &str,
        _kind: ResolutionKind,
    ) -> ModuleResolveResponse {
        resolve(specifier, referrer).ok_or_else(|| {
            JsErrorBox::type_error(format!(
                "Cannot import {specifier:?} from {referrer}: only modules that were pushed can be \
                 imported. Import it statically, so that the bundler finds it."
            ))
        })
    }

    fn load(
        &self,
        specifier: &ModuleSpecifier,
        _referrer: Option<&ModuleLoadReferrer>,
        _options: ModuleLoadOptions,
    ) -> ModuleLoadResponse {
        let path = specifier.path().trim_start_matches('/');
        let Some(source) = self.code.modules.get(path) else {
            return ModuleLoadResponse::Sync(Err(JsErrorBox::generic(format!(
                "Couldn't find JavaScript module '{path}'. Did you forget to run `npx convex dev`?"
            ))));
        };
        let is_run_once = path.starts_with(TEST_FILES);
        if !is_run_once {
            self.loaded.borrow_mut().insert(path.to_owned());
        }
        // The code never changes while the process lives, so its path stands for its content.
        let cache = || SourceCodeCacheInfo {
            hash: 0,
            data: self.code.compiled_of(path).map(|bytes| bytes.to_vec().into()),
        };
        let code = ModuleSourceCode::String(Arc::clone(source).into());
        ModuleLoadResponse::Sync(Ok(ModuleSource::new(
            ModuleType::JavaScript,
            code,
            specifier,
            (!is_run_once).then(cache),
        )))
    }

    fn code_cache_ready(
        &self,
        specifier: ModuleSpecifier,
        _hash: u64,
        code_cache: &[u8],
    ) -> Pin<Box<dyn Future<Output = ()>>> {
        self.code.keep(specifier.path().trim_start_matches('/'), code_cache);
        Box::pin(std::future::ready(()))
    }
}

/// The URL that `specifier` names when `referrer` imports it; a missing `.js` is added.
fn resolve(specifier: &str, referrer: &str) -> Option<ModuleSpecifier> {
    let mut url = if specifier.starts_with(SCHEME) {
        ModuleSpecifier::parse(specifier).ok()?
    } else if specifier.starts_with(['.', '/']) && referrer.starts_with(SCHEME) {
        ModuleSpecifier::parse(referrer).ok()?.join(specifier).ok()?
    } else {
        return None;
    };
    let has_extension = [".js", ".wasm"].iter().any(|extension| url.path().ends_with(extension));
    if !has_extension {
        let path = format!("{}.js", url.path());
        url.set_path(&path);
    }
    if url.query().is_none() && is_of_app(url.path()) {
        let above = ModuleSpecifier::parse(referrer).ok();
        url.set_query(above.as_ref().and_then(|above| above.query()));
    }
    Some(url)
}

/// Whether a path is where the bundler puts a test's modules that are of no package: those are made
/// again after `vi.resetModules()`, with all of them that they import.
fn is_of_app(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match parts.next() {
        Some("_deps") => parts.next() == Some("app"),
        Some("_mocked") => parts.nth(1) == Some("app"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn specifiers_resolve_inside_of_the_code_only() {
        let join = |specifier, referrer| resolve(specifier, referrer).map(String::from);
        assert_eq!(join("./c.js", "convex:/a/b.js").unwrap(), "convex:/a/c.js");
        assert_eq!(join("../c", "convex:/a/b.js").unwrap(), "convex:/c.js");
        assert_eq!(join("../../../c.js", "convex:/b.js").unwrap(), "convex:/c.js");
        assert_eq!(join("convex:/x.js", "concave:/start.js").unwrap(), "convex:/x.js");
        let again = "convex:/_deps/app/a.js?1";
        assert_eq!(join("./b.js", again).unwrap(), "convex:/_deps/app/b.js?1");
        assert_eq!(join("../zod_3/b.js", again).unwrap(), "convex:/_deps/zod_3/b.js");
        assert_eq!(
            join("./b", "convex:/_mocked/0/app/a.js?2").unwrap(),
            "convex:/_mocked/0/app/b.js?2"
        );
        assert_eq!(join("convex:/_test/vitest.js", again).unwrap(), "convex:/_test/vitest.js");
        for outside in ["lodash", "node:fs", "file:///etc/passwd", "ext:core/ops", "https://a.b/c"]
        {
            assert_eq!(join(outside, "convex:/a.js"), None, "{outside}");
        }
    }
}
