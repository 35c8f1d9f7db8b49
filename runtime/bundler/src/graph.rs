//! The module graph: every file that the entries reach, compiled, with its requests resolved.
//!
//! In: the entries of one environment. Out: [`Graph`]. Invariant: modules are numbered breadth
//! first from the entries in their order, so that the same input gives the same numbers whatever
//! the threads do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::Environment;
use crate::compile::{
    Compiled, Language, RequestKind, Settings, Source, base64_of, compile, quoted,
};
use crate::glob::Globs;
use crate::hoist::Chunk;
use crate::mocks::{ACTUAL, MANUAL, MOCK, concern, missing, stand_in};
use crate::package::{Package, Packages, in_node_modules};
use crate::resolve::{
    Location, Missing, Resolved, Resolvers, Supplied, is_bare, manual_mock, nowhere, package_name,
};
use crate::tests::is_test_file;

/// Index of a module in its graph.
pub(crate) type ModuleId = usize;

/// One module of the graph.
pub(crate) struct Module {
    pub(crate) location: Location,
    pub(crate) text: Arc<str>,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) package: Arc<Package>,
    /// Whether importing it may do something besides defining its exports.
    pub(crate) has_side_effects: bool,
    /// Whether `import x from "commonjs"` gives `module.exports` whole, as in Node (for `.mjs` and
    /// `"type": "module"`), and not its `default` property.
    pub(crate) node_interop: bool,
    /// TypeScript: an export that its target lacks may be a type.
    pub(crate) is_typescript: bool,
    /// One per request.
    pub(crate) targets: Vec<Target>,
    /// Who asked for it first.
    pub(crate) importer: Option<ModuleId>,
    /// The file could not be read.
    pub(crate) unreadable: Option<String>,
}

impl Module {
    /// The folders where files are missing that it names by relative paths, if they are there.
    pub(crate) fn missing_in(&self) -> impl Iterator<Item = PathBuf> {
        let folder = match &self.location {
            Location::File(file) => file.parent(),
            _ => None,
        };
        let requests = self.compiled.tables.requests.iter().zip(&self.targets);
        let missing = requests.filter(|(request, target)| {
            request.specifier.starts_with('.') && matches!(target, Target::Missing(_))
        });
        let wanted = missing.filter_map(move |(request, _)| Some(folder?.join(&request.specifier)));
        wanted.filter_map(|path| path.parent()?.canonicalize().ok())
    }

    /// Where packages come to be that it names in vain: in which folders, under which name, and
    /// what says that an installation has come to its end.
    pub(crate) fn missing_packages(&self) -> impl Iterator<Item = PathBuf> {
        let folder = match &self.location {
            Location::File(file) => file.parent(),
            _ => None,
        };
        let requests = self.compiled.tables.requests.iter().zip(&self.targets);
        let missing = requests.filter(|(request, target)| {
            is_bare(&request.specifier) && matches!(target, Target::Missing(_))
        });
        missing.flat_map(move |(request, _)| {
            let above = folder.into_iter().flat_map(Path::ancestors);
            let places = above.map(|dir| dir.join("node_modules")).filter(|dir| dir.is_dir());
            let name = package_name(&request.specifier);
            let names = move |dir: PathBuf| {
                let files = INSTALLED.into_iter().chain([name]).map(|name| dir.join(name));
                files.chain([dir.clone()]).collect::<Vec<_>>()
            };
            places.flat_map(names)
        })
    }

    /// The package.json of packages that stay outside: nothing else of them is read, so nothing
    /// else shows that one has gone.
    pub(crate) fn outside_packages(&self) -> impl Iterator<Item = PathBuf> {
        let folder = match &self.location {
            Location::File(file) => file.parent(),
            _ => None,
        };
        let requests = self.compiled.tables.requests.iter().zip(&self.targets);
        let outside = requests.filter(|(_, target)| matches!(target, Target::External(_)));
        outside.filter_map(move |(request, _)| {
            let name = package_name(&request.specifier);
            let file = |dir: &Path| dir.join("node_modules").join(name).join("package.json");
            folder?.ancestors().map(file).find(|file| file.is_file())
        })
    }
}

/// Files that npm, pnpm and Yarn write when all packages are there.
const INSTALLED: [&str; 4] =
    [".package-lock.json", ".modules.yaml", ".yarn-integrity", ".yarn-state.yml"];

/// Where a request leads.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Module(ModuleId),
    External(String),
    /// Another component's definition, a bundle of its own; and the specifier that the host knows
    /// it by.
    Component(ModuleId, String),
    Missing(Missing),
}

/// Everything reached from a list of entries.
pub(crate) struct Graph {
    pub(crate) modules: Vec<Module>,
    /// The entries, in the order given.
    pub(crate) entries: Vec<ModuleId>,
}

impl Graph {
    /// The files from `module` to the entry that reaches it.
    pub(crate) fn chain(&self, module: ModuleId) -> impl Iterator<Item = ModuleId> {
        std::iter::successors(Some(module), |&m| self.modules[m].importer)
    }
}

/// Compiled files by the hash of everything that went into them; outlives single runs.
#[derive(Default)]
pub(crate) struct Cache {
    compiled: Mutex<BTreeMap<[u8; 32], Arc<Compiled>>>,
    used: Mutex<BTreeSet<[u8; 32]>>,
    /// The shared modules, by the hash of everything that went into them.
    chunks: Mutex<BTreeMap<[u8; 32], Option<Arc<Chunk>>>>,
    misses: Mutex<usize>,
}

impl Cache {
    fn compile(&self, source: &Source) -> Arc<Compiled> {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}{:?}", source.language, source.settings));
        hash.update(&*source.text);
        let key: [u8; 32] = hash.finalize().into();
        lock(&self.used).insert(key);
        if let Some(known) = lock(&self.compiled).get(&key).cloned() {
            return known;
        }
        let compiled = Arc::new(compile(source));
        *lock(&self.misses) += 1;
        lock(&self.compiled).insert(key, Arc::clone(&compiled));
        compiled
    }

    /// The shared module with this hash, made if it is not there.
    pub(crate) fn chunk(
        &self,
        hash: [u8; 32],
        make: impl FnOnce() -> Option<Arc<Chunk>>,
    ) -> Option<Arc<Chunk>> {
        lock(&self.used).insert(hash);
        if let Some(known) = lock(&self.chunks).get(&hash) {
            return known.clone();
        }
        let made = make();
        lock(&self.chunks).insert(hash, made.clone());
        made
    }

    /// Forgets what the run that ends here did not use; gives how many files it had to compile.
    pub(crate) fn end_run(&self) -> usize {
        let used = std::mem::take(&mut *lock(&self.used));
        lock(&self.compiled).retain(|key, _| used.contains(key));
        lock(&self.chunks).retain(|key, _| used.contains(key));
        std::mem::take(&mut *lock(&self.misses))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every critical section here leaves the value whole, even if a thread dies elsewhere.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What loading needs.
pub(crate) struct Loader<'a> {
    pub(crate) resolvers: &'a Resolvers,
    pub(crate) packages: &'a Packages,
    pub(crate) cache: &'a Cache,
    pub(crate) environment: Environment,
    /// Whether to compile for self-contained output.
    pub(crate) inline: bool,
    /// Whether these are definitions, which import other components.
    pub(crate) definitions: bool,
    /// Whether these are test files, which import files by patterns.
    pub(crate) tests: bool,
    /// What test files import by patterns.
    pub(crate) globs: &'a Globs,
    /// Files that the test file or its setup files mock.
    pub(crate) mocks: &'a BTreeSet<PathBuf>,
    /// The test files, whatever they are called, and the files that are imported before them.
    pub(crate) heads: &'a BTreeSet<PathBuf>,
}

impl Loader<'_> {
    /// Loads everything that `entries` reach.
    pub(crate) fn load(&self, entries: &[Location]) -> Graph {
        let mut graph = Graph { modules: vec![], entries: vec![] };
        let mut numbers: HashMap<Location, ModuleId> = HashMap::new();
        let mut wave: Vec<(Location, Option<ModuleId>)> = vec![];
        for entry in entries {
            let next = numbers.len();
            let number = *numbers.entry(entry.clone()).or_insert(next);
            graph.entries.push(number);
            if number == next {
                wave.push((entry.clone(), None));
            }
        }
        while !wave.is_empty() {
            let is_entry = graph.modules.is_empty();
            let loaded: Vec<(Module, Vec<Resolved>)> = wave
                .into_par_iter()
                .map(|(location, importer)| self.module(location, importer, is_entry))
                .collect();
            let first = graph.modules.len();
            wave = vec![];
            for (offset, (mut module, resolved)) in loaded.into_iter().enumerate() {
                let mut number = |location: Location| {
                    let next = numbers.len();
                    let number = *numbers.entry(location.clone()).or_insert(next);
                    if number == next {
                        wave.push((location, Some(first + offset)));
                    }
                    number
                };
                let targets = resolved.into_iter().map(|target| match target {
                    Resolved::External(specifier) => Target::External(specifier),
                    Resolved::Missing(missing) => Target::Missing(missing),
                    Resolved::Module(location) => Target::Module(number(location)),
                    Resolved::Component(file, specifier) => {
                        Target::Component(number(Location::File(file)), specifier)
                    }
                });
                module.targets = targets.collect();
                graph.modules.push(module);
            }
        }
        assert_eq!(graph.modules.len(), numbers.len(), "every number has its module");
        graph
    }

    fn module(
        &self,
        location: Location,
        importer: Option<ModuleId>,
        is_entry: bool,
    ) -> (Module, Vec<Resolved>) {
        let package = match &location {
            Location::File(path) => self.packages.of(path),
            _ => Arc::default(),
        };
        let (source, unreadable) = match self.source(&location, &package, is_entry) {
            Ok(source) => (source, None),
            Err(message) => (self.empty_source(), Some(message)),
        };
        let compiled = self.cache.compile(&source);
        let resolve = |r: &crate::compile::Request| {
            let is_import = self.definitions && r.kind == RequestKind::Import;
            let component =
                is_import.then(|| self.resolvers.component(&location, &r.specifier)).flatten();
            component.unwrap_or_else(|| self.resolve(&location, r))
        };
        let resolved = compiled.tables.requests.iter().map(resolve).collect();
        let extension = extension(&location);
        // A file that is broken must not go unnoticed because nothing of it could be found used.
        let is_broken = unreadable.is_some() || !compiled.issues.is_empty();
        let module = Module {
            has_side_effects: match &location {
                _ if is_broken => true,
                Location::File(path) => {
                    !matches!(source.language, Language::Json | Language::Text)
                        && package.has_side_effects(path)
                }
                Location::Supplied(supplied) => *supplied == Supplied::ConvexTest,
                Location::Mocked(_) | Location::Absent(_) => true,
                Location::Ignored(_) | Location::Raw(_) => false,
            },
            node_interop: package.is_module || matches!(extension, "mjs" | "mts"),
            is_typescript: matches!(source.language, Language::TypeScript | Language::Tsx),
            text: authors(source.text),
            location,
            compiled,
            package,
            targets: vec![],
            importer,
            unreadable,
        };
        (module, resolved)
    }

    /// Where a request leads: of a mocked file to what stands for it.
    fn resolve(&self, from: &Location, request: &crate::compile::Request) -> Resolved {
        let to = |specifier: &str| {
            self.resolvers.resolve(from, specifier, request.kind, self.environment)
        };
        let specifier = request.specifier.as_str();
        if self.tests
            && let Some(specifier) = specifier.strip_suffix(ACTUAL)
        {
            return to(specifier);
        }
        if self.tests
            && let Some(specifier) = specifier.strip_suffix(MOCK)
        {
            return match to(specifier) {
                Resolved::Missing(_) => {
                    Resolved::Module(Location::Absent(self.nowhere(from, specifier)))
                }
                other => other,
            };
        }
        if self.tests
            && let Some(specifier) = specifier.strip_suffix(MANUAL)
        {
            let found = manual_mock(&self.globs.root, &to(specifier), specifier);
            let none = || Location::Absent(self.nowhere(from, specifier));
            return Resolved::Module(found.map_or_else(none, Location::File));
        }
        if self.tests
            && let Some((plain, query)) = specifier.split_once('?')
        {
            return match (query, to(plain)) {
                ("raw", Resolved::Module(Location::File(file))) => {
                    Resolved::Module(Location::Raw(file))
                }
                ("raw", other) => other,
                _ => Resolved::Missing(query_of_vite(specifier)),
            };
        }
        match to(specifier) {
            Resolved::Module(Location::File(file)) if self.mocks.contains(&file) => {
                Resolved::Module(Location::Mocked(file))
            }
            Resolved::Missing(_) if self.mocks.contains(&self.nowhere(from, specifier)) => {
                Resolved::Module(Location::Mocked(self.nowhere(from, specifier)))
            }
            other => other,
        }
    }

    fn nowhere(&self, from: &Location, specifier: &str) -> PathBuf {
        nowhere(&self.globs.root, from, specifier)
    }

    /// The files that a test file or setup file mocks.
    pub(crate) fn mocked(&self, file: &Path) -> BTreeSet<PathBuf> {
        if !std::fs::read_to_string(file).is_ok_and(|text| concern(&text)) {
            return BTreeSet::new();
        }
        let location = Location::File(file.to_owned());
        let package = self.packages.of(file);
        let Ok(source) = self.source(&location, &package, true) else { return BTreeSet::new() };
        let compiled = self.cache.compile(&source);
        let of = |request: &crate::compile::Request| match self.resolve(&location, request) {
            Resolved::Module(Location::File(file) | Location::Absent(file))
                if request.specifier.ends_with(MOCK) =>
            {
                Some(file)
            }
            _ => None,
        };
        compiled.tables.requests.iter().filter_map(of).collect()
    }

    fn source(
        &self,
        location: &Location,
        package: &Package,
        is_entry: bool,
    ) -> Result<Source, String> {
        let path = match location {
            Location::File(path) => path,
            Location::Supplied(supplied) => {
                let settings = self.settings(None, true);
                let language = Language::JavaScript;
                let file = self.resolvers.functions_dir().join(supplied.name());
                let text = self.globs.expand(supplied.source(), &file);
                let text = text.map_or_else(
                    || supplied.source().to_owned(),
                    |(text, more)| text + more.as_str(),
                );
                return Ok(Source { text: text.into(), language, settings });
            }
            // As esbuild: an ignored file is an empty CommonJS module.
            Location::Ignored(_) => return Ok(self.empty_source()),
            Location::Mocked(path) => {
                return Ok(Source { text: stand_in(path).into(), ..self.empty_source() });
            }
            Location::Raw(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|e| format!("Cannot read the file: {e}"))?;
                let (language, settings) = (Language::Text, self.settings(None, true));
                return Ok(Source { text: text.into(), language, settings });
            }
            Location::Absent(path) => {
                return Ok(Source { text: missing(path).into(), ..self.empty_source() });
            }
        };
        let extension = extension(location);
        let Some(language) = Language::of(extension) else {
            return Err(format!("Files that end in .{extension} cannot be bundled"));
        };
        let bytes = std::fs::read(path).map_err(|e| format!("Cannot read the file: {e}"))?;
        let text = match language {
            Language::WebAssembly => base64_of(&bytes),
            _ => String::from_utf8(bytes).map_err(|_| "The file is not UTF-8".to_owned())?,
        };
        let data = matches!(language, Language::Text | Language::WebAssembly);
        let text = if self.tests && !data { self.for_tests(text, path) } else { text };
        let prefer_esm = data
            || matches!(extension, "mjs" | "mts")
            || ((package.is_module || is_entry) && !looks_like_commonjs(&text, extension));
        let mut settings = self.settings(Some(path), prefer_esm);
        settings.keeps_node_env = self.tests && self.is_head(path);
        settings.mocks = settings.keeps_node_env && concern(&text);
        let knows_place = self.tests && !data && text.contains("import.meta.");
        settings.place =
            Some(path.clone()).filter(|path| knows_place && in_node_modules(path).is_none());
        Ok(Source { text: text.into(), language, settings })
    }

    fn is_head(&self, path: &Path) -> bool {
        is_test_file(path) || self.heads.contains(path)
    }

    /// A file as the runner of tests wants it: with the calls of `import.meta.glob` expanded,
    /// Vite's `import.meta.env` where the runner keeps it, and a test file says when it has been
    /// evaluated.
    fn for_tests(&self, text: String, path: &Path) -> String {
        let (text, imports) = self.globs.expand(&text, path).unwrap_or((text, String::new()));
        let env = "globalThis.__vitest_worker__?.metaEnv";
        let text = text.replace("import.meta.env", env).replace("(import.meta as any).env", env);
        if !self.is_head(path) {
            return text + imports.as_str();
        }
        format!("{text}{EVALUATED}{});{imports}\n", quoted(&path.to_string_lossy()))
    }

    fn empty_source(&self) -> Source {
        let settings = self.settings(None, false);
        Source { text: "".into(), language: Language::JavaScript, settings }
    }

    fn settings(&self, file: Option<&Path>, prefer_esm: bool) -> Settings {
        let tsconfig = file.and_then(|file| self.resolvers.tsconfig(file));
        let options = tsconfig.as_deref().map(|config| &config.compiler_options);
        let classic = options.filter(|o| o.jsx.as_deref() == Some("react")).map(|o| {
            let or = |name: &Option<String>, default: &str| name.clone().unwrap_or(default.into());
            (
                or(&o.jsx_factory, "React.createElement"),
                or(&o.jsx_fragment_factory, "React.Fragment"),
            )
        });
        Settings {
            inline: self.inline,
            prefer_esm,
            jsx_classic: classic,
            jsx_import_source: options.and_then(|o| o.jsx_import_source.clone()),
            legacy_decorators: options.and_then(|o| o.experimental_decorators).unwrap_or(false),
            mocks: false,
            keeps_node_env: false,
            place: None,
        }
    }
}

/// What is said of a file that is to be imported in a way which only Vite knows.
fn query_of_vite(specifier: &str) -> Missing {
    Missing {
        message: format!("Could not resolve \"{specifier}\""),
        help: Some("`concave test` knows the query ?raw, and no other of Vite's.".to_owned()),
    }
}

/// The end of a test file, which its author has not written.
const EVALUATED: &str = "\n;globalThis[Symbol.for(\"concave.evaluated\")]?.add(";

/// What of a file's text is its author's.
fn authors(text: Arc<str>) -> Arc<str> {
    text.rfind(EVALUATED).map_or_else(|| Arc::clone(&text), |end| text[..end].into())
}

/// Whether a file without import and export statements is CommonJS even in an ES package.
fn looks_like_commonjs(text: &str, extension: &str) -> bool {
    matches!(extension, "cjs" | "cts")
        || ["module.exports", "exports.", "require("].iter().any(|mark| text.contains(mark))
}

fn extension(location: &Location) -> &str {
    match location {
        Location::File(path) => path.extension().and_then(|e| e.to_str()).unwrap_or(""),
        Location::Supplied(_)
        | Location::Ignored(_)
        | Location::Mocked(_)
        | Location::Absent(_)
        | Location::Raw(_) => "js",
    }
}

/// The file of a location, if it has one.
pub(crate) fn file_of(location: &Location) -> Option<&PathBuf> {
    match location {
        Location::File(path) | Location::Raw(path) => Some(path),
        Location::Supplied(_)
        | Location::Ignored(_)
        | Location::Mocked(_)
        | Location::Absent(_) => None,
    }
}
