//! One run from folder to output, and what is kept between runs.
//!
//! In: a [`Project`]. Out: [`Output`] or every error found. Invariant: a run that fails leaves the
//! bundler as useful as before, its cache included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::check::check;
use crate::component::{self, Component, Folder};
use crate::emit::Emitter;
use crate::error::{BundleError, BundleErrors};
use crate::glob::Globs;
use crate::graph::{Cache, Graph, Loader, Module, ModuleId, Target, file_of};
use crate::hoist::Hoisted;
use crate::link::Link;
use crate::memo::Memo;
use crate::mocks::Mocks;
use crate::names::Names;
use crate::package::{Packages, in_node_modules, installed_version};
use crate::project::{Entries, Project};
use crate::resolve::{Location, Resolvers, is_builtin, package_name};
use crate::single::emit_single;

/// The most text that a deployment may have, in bytes (Convex's limit).
const SOURCE_BYTES_MAX: usize = 32 << 20;

/// Where a module runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Environment {
    /// The default runtime.
    Isolate,
    /// Files with `"use node"`.
    Node,
}

impl Environment {
    /// `isolate` or `node`, as the deploy protocol spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Isolate => "isolate",
            Self::Node => "node",
        }
    }
}

/// One ES module of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundledModule {
    /// `messages.js`, `_deps/zod_4.1.0/index.js`: within Convex's rule for module paths.
    pub path: String,
    /// JavaScript; its imports are relative paths.
    pub source: String,
    /// Source map, JSON text; `None` for modules that no file stands behind.
    pub source_map: Option<String>,
    /// `isolate` or `node`.
    pub environment: &'static str,
}

/// An entry: an output module whose exports are functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryModule {
    /// Path of the output module.
    pub path: String,
    /// The file it comes from, relative to the project's root.
    pub source: String,
}

/// Everything that a push sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Entries, dependencies and `auth.config.js`; not the schema, not the definition.
    pub modules: Vec<BundledModule>,
    /// `schema.js`, without imports.
    pub schema: Option<BundledModule>,
    /// `convex.config.js`, without imports but those of components; made up where the project has
    /// none.
    pub definition: Option<BundledModule>,
    /// Definition paths of the components that the definition imports, in its order.
    pub dependencies: Vec<String>,
    /// Every component that is reached, those that are imported before those that import them.
    pub components: Vec<Component>,
    /// Files and folders whose change calls for another run.
    pub watched: Vec<PathBuf>,
    /// Packages that `"use node"` files import at run time: name, installed version.
    pub external_dependencies: Vec<(String, String)>,
    /// Version of the installed `convex` package; empty where there is none.
    pub convex_version: String,
    /// The function modules.
    pub entries: Vec<EntryModule>,
    /// How many files this run had to compile; the rest came from the cache.
    pub compiled: usize,
    /// Of test files that mock, by the paths of their modules.
    pub mocks: BTreeMap<String, Mocks>,
}

/// Bundles projects; keeps compiled files in memory between runs.
#[derive(Default)]
pub struct Bundler {
    pub(crate) cache: Cache,
    memo: Memo,
    /// See [`Bundler::watched`].
    watched: BTreeSet<PathBuf>,
}

impl Bundler {
    /// A bundler with nothing cached.
    pub fn new() -> Self {
        Self::default()
    }

    /// Files and folders whose change calls for another run after the last one of a project, which
    /// may have failed: what it was to find in a file of another folder is repaired there.
    pub fn watched(&self) -> Vec<PathBuf> {
        self.watched.iter().cloned().collect()
    }

    /// Bundles a project.
    ///
    /// # Errors
    /// Everything that is wrong with the project, each with its place.
    pub fn bundle(&mut self, project: &Project) -> Result<Output, BundleErrors> {
        self.bundle_prepared(project, &|_| Ok(()))
    }

    /// Bundles a project whose components need something done to their folders (generated files)
    /// before their functions are read. `prepare` says why it could not be done.
    ///
    /// # Errors
    /// As [`Bundler::bundle`], and what `prepare` gives.
    pub fn bundle_prepared(
        &mut self,
        project: &Project,
        prepare: &(dyn Fn(&Folder) -> Result<(), String> + Sync),
    ) -> Result<Output, BundleErrors> {
        // Threads of its own: when they end, the memory that parsing took goes back with them.
        match rayon::ThreadPoolBuilder::new().build() {
            Ok(pool) => pool.install(|| self.bundle_here(project, prepare)),
            Err(_) => self.bundle_here(project, prepare),
        }
    }

    fn bundle_here(
        &mut self,
        project: &Project,
        prepare: &(dyn Fn(&Folder) -> Result<(), String> + Sync),
    ) -> Result<Output, BundleErrors> {
        let packages = Packages::default();
        let resolvers = Resolvers::new(project);
        let mut run = Run::new(project, resolvers, &packages, &self.cache);
        run.watched.insert(project.functions_dir.clone());
        let definitions = component::definitions(&mut run);
        for folder in definitions.iter().map(|definition| &definition.folder) {
            if let Err(message) = prepare(folder) {
                run.errors.push(BundleError::new(message));
            }
        }
        run.everything();
        component::implementations(&mut run, &self.memo, definitions);
        let Run { mut output, mut watched, files, errors, .. } = run;
        watched.extend(files);
        output.compiled = self.cache.end_run();
        watched.extend(project.settings());
        if !errors.is_empty() {
            // Not all was reached.
            self.watched.extend(watched);
            return Err(BundleErrors::collect(errors));
        }
        self.watched.clone_from(&watched);
        output.watched = watched.into_iter().collect();
        output.convex_version =
            installed_version(&project.functions_dir, "convex").unwrap_or_default();
        Ok(output)
    }
}

/// One folder's way from entries to output: the app's, or a component's.
pub(crate) struct Run<'a> {
    pub(crate) project: &'a Project,
    pub(crate) resolvers: Resolvers,
    pub(crate) packages: &'a Packages,
    pub(crate) cache: &'a Cache,
    pub(crate) output: Output,
    pub(crate) watched: BTreeSet<PathBuf>,
    /// Every file that was read, and where packages were looked for in vain.
    pub(crate) files: BTreeSet<PathBuf>,
    pub(crate) errors: Vec<BundleError>,
    /// What test files import by patterns.
    pub(crate) globs: Globs,
    /// Files that the test file at hand or its setup files mock.
    pub(crate) mocks: BTreeSet<PathBuf>,
    /// The test files, and the files that are imported before them.
    pub(crate) heads: BTreeSet<PathBuf>,
}

/// What a graph is loaded for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Modules that import each other.
    Functions(Environment),
    /// Modules that stand alone.
    Configuration,
    /// The same, and imports of other components stay.
    Definitions,
    /// Modules that import each other, and files by patterns.
    Tests,
}

impl<'a> Run<'a> {
    /// One that has not read anything yet.
    pub(crate) fn new(
        project: &'a Project,
        resolvers: Resolvers,
        packages: &'a Packages,
        cache: &'a Cache,
    ) -> Self {
        Self {
            project,
            resolvers,
            packages,
            cache,
            output: Output::default(),
            watched: BTreeSet::new(),
            files: BTreeSet::new(),
            errors: vec![],
            globs: Globs::new(&project.root),
            mocks: BTreeSet::new(),
            heads: BTreeSet::new(),
        }
    }

    /// Bundles all but the definition.
    pub(crate) fn everything(&mut self) {
        match self.project.entries() {
            Ok(entries) => {
                self.functions(&entries, Environment::Isolate);
                self.functions(&entries, Environment::Node);
                self.configuration(&entries);
            }
            Err(errors) => self.errors.extend(errors),
        }
        self.check_size();
        self.output.modules.sort_by(|a, b| a.path.cmp(&b.path));
    }

    pub(crate) fn loader(&self, purpose: Purpose) -> Loader<'_> {
        let environment = match purpose {
            Purpose::Functions(environment) => environment,
            Purpose::Configuration | Purpose::Definitions | Purpose::Tests => Environment::Isolate,
        };
        Loader {
            resolvers: &self.resolvers,
            packages: self.packages,
            cache: self.cache,
            environment,
            globs: &self.globs,
            mocks: &self.mocks,
            heads: &self.heads,
            inline: !matches!(purpose, Purpose::Functions(_) | Purpose::Tests),
            tests: purpose == Purpose::Tests,
            definitions: purpose == Purpose::Definitions,
        }
    }

    pub(crate) fn load(&mut self, entries: &[Location], purpose: Purpose) -> Graph {
        let graph = self.loader(purpose).load(entries);
        for file in graph.modules.iter().filter_map(|module| file_of(&module.location)) {
            self.files.insert(file.clone());
            if in_node_modules(file).is_none() {
                self.watched.insert(file.clone());
            }
        }
        let packages = graph.modules.iter().flat_map(Module::missing_packages);
        let packages: BTreeSet<PathBuf> = packages.collect();
        if !packages.is_empty() {
            self.files.insert(self.project.root.join("node_modules"));
        }
        self.files.extend(packages);
        self.files.extend(graph.modules.iter().flat_map(Module::outside_packages));
        let missing_in = graph.modules.iter().flat_map(Module::missing_in);
        self.watched.extend(missing_in.filter(|folder| in_node_modules(folder).is_none()));
        graph
    }

    /// The function modules of one environment, with everything they import.
    pub(crate) fn functions(&mut self, entries: &Entries, environment: Environment) {
        let node = environment == Environment::Node;
        let chosen: Vec<_> = entries.functions.iter().filter(|(_, e)| e.node == node).collect();
        if chosen.is_empty() {
            return;
        }
        let files: Vec<_> = chosen.iter().map(|(_, e)| Location::File(e.file.clone())).collect();
        let mut graph = self.load(&files, Purpose::Functions(environment));
        while node && self.leave_outside(&graph) {
            graph = self.load(&files, Purpose::Functions(environment));
        }
        let link = Link::new(&graph, &graph.entries);
        let errors = check(self.project, &link);
        for (path, entry) in &chosen {
            let source = self.project.display(&entry.file);
            self.output.entries.push(EntryModule { path: (*path).clone(), source });
        }
        if errors.is_empty() {
            let paths: BTreeMap<ModuleId, String> = graph
                .entries
                .iter()
                .copied()
                .zip(chosen.iter().map(|(p, _)| (*p).clone()))
                .collect();
            let folder = if node { "_deps/node/" } else { "_deps/" };
            let names = Names::assign(self.project, &link, &paths, folder);
            // Node's modules stay as they are: no context is copied there.
            let hoisted = (!node).then(|| Hoisted::new(self.project, &link, self.cache)).flatten();
            let project = self.project;
            let (names, tests) = (&names, false);
            let emitter = Emitter { project, link: &link, names, environment, hoisted, tests };
            self.output.modules.extend(emitter.emit());
        }
        if node {
            self.external_dependencies(&link);
        }
        self.errors.extend(errors);
    }

    /// Packages that find files of theirs by where they lie (native code, data) do not
    /// work in a bundle: they become external, as if `convex.json` had named them. Says whether
    /// there are new ones.
    fn leave_outside(&mut self, graph: &Graph) -> bool {
        let is_tied = |file: &Path, text: &str| {
            let words = ["__dirname", "__filename", "import.meta.url"];
            file.extension().is_some_and(|extension| extension == "node")
                || words.iter().any(|word| text.contains(word))
        };
        let tied = graph.modules.iter().filter_map(|module| {
            let file = file_of(&module.location).filter(|file| is_tied(file, &module.text))?;
            Some(in_node_modules(file)?.1)
        });
        let known = &self.resolvers.external_packages;
        let is_new = |name: &String| {
            let from = &self.project.functions_dir;
            !known.contains(name) && installed_version(from, name).is_some()
        };
        let new: BTreeSet<String> = tied.filter(is_new).collect();
        let found = !new.is_empty();
        self.resolvers.external_packages.extend(new);
        found
    }

    fn external_dependencies(&mut self, link: &Link<'_>) {
        let targets = link.modules().flat_map(|m| &link.graph.modules[m].targets);
        let names: BTreeSet<&str> = targets
            .filter_map(|target| match target {
                Target::External(specifier) if !is_builtin(specifier) => {
                    Some(package_name(specifier))
                }
                _ => None,
            })
            .collect();
        for name in names {
            match installed_version(&self.project.functions_dir, name) {
                Some(version) => {
                    self.output.external_dependencies.push((name.to_owned(), version));
                }
                None => self.errors.push(
                    BundleError::in_file(
                        "convex.json",
                        format!("The external package \"{name}\" is not installed"),
                    )
                    .help(format!("Try: npm install {name}")),
                ),
            }
        }
    }

    /// Schema and auth config: self-contained modules.
    fn configuration(&mut self, entries: &Entries) {
        let wanted = [("schema.js", &entries.schema), ("auth.config.js", &entries.auth_config)];
        let wanted: Vec<_> =
            wanted.into_iter().filter_map(|(p, l)| Some((p, l.clone()?))).collect();
        let locations: Vec<_> =
            wanted.iter().map(|(_, file)| Location::File(file.clone())).collect();
        let graph = self.load(&locations, Purpose::Configuration);
        for ((path, _), &root) in wanted.iter().zip(&graph.entries) {
            let Some(module) = self.single(&graph, root, path) else { continue };
            match *path {
                "schema.js" => self.output.schema = Some(module),
                _ => self.output.modules.push(module),
            }
        }
    }

    /// One self-contained module, if nothing is wrong with it.
    pub(crate) fn single(
        &mut self,
        graph: &Graph,
        root: ModuleId,
        path: &str,
    ) -> Option<BundledModule> {
        let link = Link::new(graph, &[root]);
        let errors = check(self.project, &link);
        let is_right = errors.is_empty();
        self.errors.extend(errors);
        is_right.then(|| emit_single(self.project, &link, root, path))
    }

    /// The limit on the size of a deployment, with a list of what fills it.
    fn check_size(&mut self) {
        let total: usize = self.output.modules.iter().map(|module| module.source.len()).sum();
        if total <= SOURCE_BYTES_MAX {
            return;
        }
        self.errors.push(
            BundleError::new(format!(
                "The bundle has {}, the limit is {}",
                mebibytes(total),
                mebibytes(SOURCE_BYTES_MAX)
            ))
            .help(largest(&self.output.modules)),
        );
    }
}

/// The packages with the most text, one a line.
fn largest(modules: &[BundledModule]) -> String {
    const SHOWN_MAX: usize = 10;
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for module in modules {
        let inside =
            module.path.strip_prefix("_deps/").map(|p| p.strip_prefix("node/").unwrap_or(p));
        let owner = inside.map_or("your functions", |p| p.split('/').next().unwrap_or(p));
        *sizes.entry(owner).or_default() += module.source.len();
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|&(name, size)| (std::cmp::Reverse(size), name));
    let lines = sizes.iter().take(SHOWN_MAX);
    let lines: Vec<_> =
        lines.map(|(name, size)| format!("    {:>10}  {name}", mebibytes(*size))).collect();
    format!("The largest parts are:\n{}", lines.join("\n"))
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn mebibytes(bytes: usize) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_packages_come_first() {
        let module = |path: &str, size: usize| BundledModule {
            path: path.to_owned(),
            source: "x".repeat(size),
            source_map: None,
            environment: "isolate",
        };
        let text = largest(&[
            module("a.js", 10),
            module("_deps/zod_4.1.0/a.js", 2 << 20),
            module("_deps/node/big_1.0.0/a.js", 3 << 20),
            module("_deps/zod_4.1.0/b.js", 2 << 20),
        ]);
        let order: Vec<_> = text.lines().skip(1).map(|l| l.split_whitespace().last()).collect();
        assert_eq!(order, [Some("zod_4.1.0"), Some("big_1.0.0"), Some("functions")]);
    }
}
