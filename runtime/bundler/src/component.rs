//! Components: the definitions that an app's definition imports, and theirs, to any depth.
//!
//! In: the app's run. Out: the app's definition and one [`Component`] for each definition reached.
//! Invariant: as with Convex's own command line, a component is the folder of a `convex.config.ts`
//! (or `.js`), bundled as a root of its own however often it is used, and named by the way to that
//! folder from the app's functions folder.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::SystemTime;

use rayon::prelude::*;

use crate::bundle::{Purpose, Run};
use crate::error::BundleError;
use crate::graph::{Graph, ModuleId, Target, file_of};
use crate::memo::Memo;
use crate::project::Project;
use crate::resolve::{Location, Supplied, definition_in, definition_path};
use crate::{BundledModule, Output};

/// One component definition, as `start_push` sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Where it is.
    pub folder: Folder,
    /// `convex.config.js`, without imports but those of components.
    pub definition: BundledModule,
    /// Definition paths of the components that it imports.
    pub dependencies: Vec<String>,
    /// Functions and schema; `definition`, `dependencies` and `components` in it are empty.
    pub output: Output,
}

/// Where a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The way there from the app's functions folder:
    /// `../node_modules/@convex-dev/crons/dist/component`.
    pub path: String,
    /// The folder on this machine.
    pub dir: PathBuf,
    /// How the last import of it named it, without `/convex.config`: `@convex-dev/crons`.
    pub specifier: String,
    /// Whether it was installed as it is, so that nothing is generated in it.
    pub is_published: bool,
    /// Whether it has a schema.
    pub has_schema: bool,
}

/// A definition whose functions are still to be bundled.
pub(crate) struct Definition {
    pub(crate) folder: Folder,
    module: BundledModule,
    dependencies: Vec<String>,
}

/// Bundles the app's definition into the run's output, and gives those of its components.
pub(crate) fn definitions(run: &mut Run<'_>) -> Vec<Definition> {
    const PATH: &str = "convex.config.js";
    let file = definition_in(&run.project.functions_dir);
    let location = file.map_or(Location::Supplied(Supplied::Definition), Location::File);
    let graph = run.load(&[location], Purpose::Definitions);
    let mut reached = Reached { graph: &graph, seen: BTreeSet::new(), found: vec![] };
    reached.visit(graph.entries[0]);
    let found = reached.found;
    let mut definitions = vec![];
    for root in found {
        let Some(file) = file_of(&graph.modules[root].location) else { continue };
        let dependencies = dependencies(run, &graph, root);
        let folder = folder(run, &graph, root, file);
        if let Some(module) = run.single(&graph, root, PATH) {
            definitions.push(Definition { folder, module, dependencies });
        }
    }
    run.output.dependencies = dependencies(run, &graph, graph.entries[0]);
    run.output.definition = run.single(&graph, graph.entries[0], PATH);
    definitions
}

/// Bundles the components' functions and schemas into the run's output.
pub(crate) fn implementations(run: &mut Run<'_>, memo: &Memo, definitions: Vec<Definition>) {
    let folders = definitions.iter().map(|definition| &definition.folder);
    memo.retain(&folders.filter(|f| f.is_published).map(|f| f.dir.as_path()).collect());
    let shared = &*run;
    let bundled: Vec<_> = definitions
        .into_par_iter()
        .map(|definition| {
            let Definition { folder, module, dependencies } = definition;
            let (output, watched, errors) = implementation(shared, memo, &folder);
            (Component { folder, definition: module, dependencies, output }, watched, errors)
        })
        .collect();
    for (component, watched, errors) in bundled {
        if !component.folder.is_published {
            run.watched.insert(component.folder.dir.clone());
        }
        run.watched.extend(watched);
        run.errors.extend(errors);
        run.output.components.push(component);
    }
}

/// Functions and schema of one component, what to watch, and what is wrong.
fn implementation(
    shared: &Run<'_>,
    memo: &Memo,
    folder: &Folder,
) -> (Output, BTreeSet<PathBuf>, Vec<BundleError>) {
    if let Some((known, files)) = memo.get(&folder.dir) {
        return (Output::clone(&known), files, vec![]);
    }
    let began = SystemTime::now();
    let project = Project {
        root: shared.project.root.clone(),
        functions_dir: folder.dir.clone(),
        external_packages: vec![],
    };
    let resolvers = shared.resolvers.share();
    let mut own = Run::new(&project, resolvers, shared.packages, shared.cache);
    own.everything();
    let Run { mut output, mut watched, files, mut errors, .. } = own;
    // Only the app says whom it trusts.
    output.modules.retain(|module| module.path != "auth.config.js");
    errors.extend(node_error(folder, &output));
    if folder.is_published && errors.is_empty() && watched.is_empty() {
        memo.keep((&folder.dir, &project.root), &files, began, &output);
    }
    watched.extend(files);
    (output, watched, errors)
}

/// Definitions other than the app's, imported before importing: the order in which the official
/// bundler reaches them.
struct Reached<'a> {
    graph: &'a Graph,
    seen: BTreeSet<ModuleId>,
    found: Vec<ModuleId>,
}

impl Reached<'_> {
    fn visit(&mut self, module: ModuleId) {
        if !self.seen.insert(module) {
            return;
        }
        for target in &self.graph.modules[module].targets {
            match target {
                Target::Module(target) => self.visit(*target),
                Target::Component(target, _) => {
                    self.visit(*target);
                    // The app itself is no component of its own: the host tells that cycle.
                    if !self.found.contains(target) && !self.graph.entries.contains(target) {
                        self.found.push(*target);
                    }
                }
                Target::External(_) | Target::Missing(_) => {}
            }
        }
    }
}

/// Definition paths that one definition imports, in its order, as often as it does.
fn dependencies(run: &Run<'_>, graph: &Graph, root: ModuleId) -> Vec<String> {
    let targets = graph.modules[root].targets.iter();
    let components = targets.filter_map(|target| match target {
        Target::Component(target, _) => file_of(&graph.modules[*target].location)?.parent(),
        _ => None,
    });
    components.map(|folder| definition_path(&run.project.functions_dir, folder)).collect()
}

fn folder(run: &Run<'_>, graph: &Graph, root: ModuleId, file: &std::path::Path) -> Folder {
    let dir = file.parent().unwrap_or(file).to_owned();
    let mut specifier = String::new();
    for module in &graph.modules {
        for (request, target) in module.compiled.tables.requests.iter().zip(&module.targets) {
            if matches!(target, Target::Component(target, _) if *target == root) {
                let end = request.specifier.find("/convex.config");
                specifier = request.specifier[..end.unwrap_or(request.specifier.len())].to_owned();
            }
        }
    }
    Folder {
        path: definition_path(&run.project.functions_dir, &dir),
        specifier,
        is_published: file.extension().is_some_and(|extension| extension == "js"),
        has_schema: ["schema.ts", "schema.js"].iter().any(|name| dir.join(name).is_file()),
        dir,
    }
}

/// Components run in the default runtime only.
fn node_error(folder: &Folder, output: &Output) -> Option<BundleError> {
    let module = output.modules.iter().find(|module| module.environment == "node")?;
    let entry = output.entries.iter().find(|entry| entry.path == module.path);
    let message = format!(
        "\"use node\" directive is not supported in components. Remove it from the component at: \
         {}.",
        folder.dir.display()
    );
    Some(match entry {
        Some(entry) => BundleError::in_file(&*entry.source, message),
        None => BundleError::new(message),
    })
}
