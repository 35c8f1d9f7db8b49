//! Bundles for tests: test files for the process that runs them, and a list of function files for
//! the deployment that they test.
//!
//! In: files by name instead of the rules for a functions folder. Out: ES modules.
//! Invariant: of test files one that is wrong does not keep the others from running: it becomes a
//! module that throws what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bundle::{Purpose, Run};
use crate::check::faults;
use crate::compile::{Compiled, quoted};
use crate::emit::Emitter;
use crate::error::{BundleError, BundleErrors};
use crate::graph::{Graph, ModuleId, Target, file_of};
use crate::link::Link;
use crate::mocks::{MOCK, Mocks};
use crate::names::Names;
use crate::package::{Packages, in_node_modules, installed_version};
use crate::project::{Entries, Entry, Project, has_use_node, is_legal_component};
use crate::resolve::{Location, Resolved, Resolvers};
use crate::{Bundler, Environment, Output};

/// What a bundle of test files is made of.
#[derive(Clone, Debug, Default)]
pub struct TestFiles {
    /// The files, with the paths of their modules.
    pub entries: BTreeMap<String, PathBuf>,
    /// Files that are imported before each of them, in this order.
    pub setup: Vec<PathBuf>,
    /// Specifiers that lead out of the bundle, and where.
    pub aliases: BTreeMap<String, String>,
}

impl TestFiles {
    /// The setup files, with the paths of their modules in a folder; without one, those of the
    /// test files that mock nothing.
    pub fn setup_modules(&self, folder: &str) -> impl Iterator<Item = (String, PathBuf)> {
        let files = self.setup.iter().enumerate();
        files.map(move |(at, file)| (format!("{folder}_setup/{at}.js"), file.clone()))
    }
}

/// Whether a file holds tests, by its name; of a functions folder it is no module then.
pub fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut parts = name.rsplit('.');
    let extension = parts.next().unwrap_or_default();
    matches!(extension, "ts" | "tsx" | "mts" | "cts" | "js" | "jsx" | "mjs" | "cjs")
        && matches!(parts.next(), Some("test" | "spec"))
        && parts.next().is_some()
}

impl Bundler {
    /// Bundles test files; what is wrong with one is thrown when it is imported.
    pub fn bundle_tests(&mut self, project: &Project, tests: &TestFiles) -> Output {
        let packages = Packages::default();
        let mut resolvers = Resolvers::new(project);
        resolvers.aliases.clone_from(&tests.aliases);
        let mut run = Run::new(project, resolvers, &packages, &self.cache);
        run.tests(tests);
        let Run { mut output, watched, .. } = run;
        output.compiled = self.cache.end_run();
        output.watched = watched.into_iter().collect();
        output
    }

    /// Bundles files of a functions folder, by module path, as a push would.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn bundle_functions(
        &mut self,
        project: &Project,
        files: &BTreeMap<String, PathBuf>,
    ) -> Result<Output, BundleErrors> {
        let packages = Packages::default();
        let resolvers = Resolvers::new(project);
        let mut run = Run::new(project, resolvers, &packages, &self.cache);
        let entry = |(path, file): (&String, &PathBuf)| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let is_legal = path.split('/').all(is_legal_component);
            let entry = Entry { node: has_use_node(&text), file: file.clone() };
            is_legal.then(|| (path.clone(), entry))
        };
        let functions = files.iter().filter_map(entry).collect();
        let entries = Entries { functions, ..Entries::default() };
        run.functions(&entries, Environment::Isolate);
        run.functions(&entries, Environment::Node);
        let Run { mut output, errors, .. } = run;
        output.compiled = self.cache.end_run();
        if !errors.is_empty() {
            return Err(BundleErrors::collect(errors));
        }
        output.convex_version =
            installed_version(&project.functions_dir, "convex").unwrap_or_default();
        Ok(output)
    }
}

impl Run<'_> {
    /// Files that mock nothing share their modules; one that mocks has its own.
    fn tests(&mut self, tests: &TestFiles) {
        let mut shared = BTreeMap::new();
        self.heads = tests.entries.values().chain(&tests.setup).cloned().collect();
        let by_setup: BTreeSet<_> =
            tests.setup.iter().flat_map(|file| self.loader(Purpose::Tests).mocked(file)).collect();
        for (at, (path, file)) in tests.entries.iter().enumerate() {
            let mut files = self.loader(Purpose::Tests).mocked(file);
            files.extend(by_setup.iter().cloned());
            if files.is_empty() {
                shared.insert(path.clone(), file.clone());
                continue;
            }
            self.mocks = files;
            let folder = format!("_mocked/{at}/");
            let setup: Vec<_> = tests.setup_modules(&folder).collect();
            let mut entries: BTreeMap<_, _> = setup.iter().cloned().collect();
            entries.insert(path.clone(), file.clone());
            let reaching = self.test_files(&entries, &folder);
            let setup = setup.into_iter().map(|(module, _)| module).collect();
            self.output.mocks.insert(path.clone(), Mocks { reaching, setup });
            self.mocks.clear();
        }
        if !shared.is_empty() {
            shared.extend(tests.setup_modules(""));
            self.test_files(&shared, "_deps/");
        }
        self.output.modules.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// Bundles some; gives the files that reach a mocked one.
    fn test_files(&mut self, entries: &BTreeMap<String, PathBuf>, folder: &str) -> Vec<PathBuf> {
        let files: Vec<_> = entries.values().cloned().map(Location::File).collect();
        let mut graph = self.load(&files, Purpose::Tests);
        self.refuse_slips(&mut graph);
        // What is wrong with a module may be that another one is wrong.
        loop {
            let link = Link::new(&graph, &graph.entries);
            let found = faults(self.project, &link);
            if found.is_empty() {
                break;
            }
            for (module, errors) in found {
                break_module(&mut graph, module, errors);
            }
        }
        let link = Link::new(&graph, &graph.entries);
        let paths: BTreeMap<ModuleId, String> =
            graph.entries.iter().copied().zip(entries.keys().cloned()).collect();
        let names = Names::assign(self.project, &link, &paths, folder);
        let (project, environment) = (self.project, Environment::Isolate);
        let (names, hoisted) = (&names, None);
        let emitter = Emitter { project, link: &link, names, environment, hoisted, tests: true };
        self.output.modules.extend(emitter.emit());
        reaching(&graph)
    }

    /// A mock of a file that is not there, and that nobody imports either, is one of another file
    /// whose name was misspelt: it is told as what cannot be resolved.
    fn refuse_slips(&self, graph: &mut Graph) {
        let is_wanted = |graph: &Graph, absent: &PathBuf| {
            in_node_modules(absent).is_some()
                || graph.modules.iter().any(
                    |module| matches!(&module.location, Location::Mocked(file) if file == absent),
                )
        };
        for at in 0..graph.modules.len() {
            let module = &graph.modules[at];
            let requests = module.compiled.tables.requests.iter().zip(&module.targets).enumerate();
            let slips: Vec<_> = requests
                .filter_map(|(index, (request, target))| {
                    let Target::Module(to) = target else { return None };
                    let specifier = request.specifier.strip_suffix(MOCK)?;
                    let Location::Absent(absent) = &graph.modules[*to].location else {
                        return None;
                    };
                    let environment = Environment::Isolate;
                    let resolve = || {
                        let from = &module.location;
                        self.resolvers.resolve(from, specifier, request.kind, environment)
                    };
                    match (!is_wanted(graph, absent)).then(resolve)? {
                        Resolved::Missing(missing) => Some((index, missing)),
                        _ => None,
                    }
                })
                .collect();
            for (index, missing) in slips {
                graph.modules[at].targets[index] = Target::Missing(missing);
            }
        }
    }
}

/// The files that import something mocked, directly or not.
fn reaching(graph: &Graph) -> Vec<PathBuf> {
    let is_mocked = |m: &ModuleId| matches!(graph.modules[*m].location, Location::Mocked(_));
    let mut found: BTreeSet<ModuleId> = (0..graph.modules.len()).filter(is_mocked).collect();
    loop {
        let leads = |target: &Target| matches!(target, Target::Module(to) if found.contains(to));
        let is_new =
            |m: &ModuleId| !found.contains(m) && graph.modules[*m].targets.iter().any(leads);
        let new: Vec<_> = (0..graph.modules.len()).filter(is_new).collect();
        if new.is_empty() {
            break;
        }
        found.extend(new);
    }
    found.iter().filter_map(|m| file_of(&graph.modules[*m].location).cloned()).collect()
}

/// Makes a module throw what is wrong with it.
fn break_module(graph: &mut Graph, module: ModuleId, errors: Vec<BundleError>) {
    let text = BundleErrors::collect(errors).0;
    let text: Vec<_> = text.iter().map(ToString::to_string).collect();
    let broken = &mut graph.modules[module];
    // Of a CommonJS module anything can be imported, so nobody complains before it is evaluated.
    broken.compiled = Arc::new(Compiled {
        is_commonjs: true,
        code: format!("throw new SyntaxError({});\n", quoted(&text.join("\n\n"))),
        ..Compiled::default()
    });
    broken.has_side_effects = true;
    broken.unreadable = None;
    broken.targets = vec![];
}
