//! From what a test hands to `convexTest` to a deployment.
//!
//! In: for the app and for each registered component: a schema, files of modules, and functions of
//! modules that run in the worker. Out: a bundle and its analysis, made once for equal input.
//! Invariant: files are bundled and analysed as a push would; what runs in the worker is a function
//! like any other to everybody but itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bundler::{Bundler, Output, Project};
use database::components::child;
use database::deployment::{Bundle, Environment, Module};
use database::error::UserError;
use database::record::Functions as _;
use database::snapshot::{Deployment, Snapshot};
use functions::INLINE;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// The app or a component, as a test hands it in.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Part {
    /// `a/b`; the app's is empty.
    path: String,
    /// What `schema.export()` gave.
    schema: Option<String>,
    /// Module path (`dir/mod.js`) to file.
    files: BTreeMap<String, PathBuf>,
    /// Functions of modules that run in the worker, by module path.
    elsewhere: BTreeMap<String, Vec<Foreign>>,
}

/// A function that runs in the worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Foreign {
    name: String,
    /// `Query`, `Mutation` or `Action`.
    kind: String,
    /// `isPublic` or `isInternal`.
    visibility: String,
    /// JSON text of its args validator.
    args: String,
    /// JSON text of its returns validator.
    returns: String,
}

/// Makes deployments.
pub struct Deployer {
    functions: Arc<functions::Host>,
    root: PathBuf,
    /// Clock and randomness at import.
    import: (u64, [u8; 32]),
    known: Arc<Known>,
    made: Mutex<Made>,
}

/// What one run of the tests has made: files do not change while it lasts.
#[derive(Default)]
struct Made {
    bundled: BTreeMap<BTreeMap<String, PathBuf>, Arc<Output>>,
    deployments: BTreeMap<[u8; 32], Arc<Ready>>,
}

/// A deployment, and the database of the first world that it was opened in: others are copies.
pub struct Ready {
    /// The functions.
    pub deployment: Arc<Deployment>,
    first: OnceLock<Arc<Snapshot>>,
}

impl Ready {
    /// One that has run in no world yet.
    pub fn of(deployment: Arc<Deployment>) -> Self {
        Self { deployment, first: OnceLock::new() }
    }

    /// An empty database in which the deployment runs, for a world whose clock shows `now`, in
    /// nanoseconds; `None` while there is none from before that.
    pub fn copy(&self, now: u64) -> Option<Arc<Snapshot>> {
        self.first.get().filter(|first| first.ts.0 <= now).map(Arc::clone)
    }

    /// Keeps a database in which nothing but the push has happened.
    pub fn keep(&self, pushed: Arc<Snapshot>) {
        // Of two worlds that were opened at once either will do.
        let _ = self.first.set(pushed);
    }
}

/// What is good for later runs too.
#[derive(Default)]
pub struct Known {
    bundler: Mutex<Bundler>,
    /// By the hash of all sources.
    analysed: Mutex<BTreeMap<[u8; 32], Arc<Deployment>>>,
}

/// Deployments that are kept for later runs.
const KEPT: usize = 64;

impl Deployer {
    /// One for the projects below a folder; `functions` analyses.
    pub fn new(
        functions: Arc<functions::Host>,
        root: PathBuf,
        import: (u64, [u8; 32]),
        known: Arc<Known>,
    ) -> Self {
        Self { functions, root, import, known, made: Mutex::default() }
    }

    /// Whether the deployment of these parts is there already. Does not block.
    pub fn knows(&self, parts: &[Part]) -> bool {
        // Locked: one is being made.
        let made = self.made.try_lock();
        made.is_ok_and(|made| made.deployments.contains_key(&key(parts)))
    }

    /// The deployment of these parts. Blocks while it is made the first time.
    ///
    /// # Errors
    /// What is wrong with the modules, in their author's terms.
    pub fn deployment(&self, parts: &[Part]) -> Result<Arc<Ready>, UserError> {
        let key = key(parts);
        // Held while one is made: equal ones are asked for together.
        let mut made = lock(&self.made);
        if let Some(known) = made.deployments.get(&key) {
            return Ok(Arc::clone(known));
        }
        let bundle = Arc::new(self.bundle(&mut made, parts)?);
        let ready = Ready::of(self.analysed(bundle)?);
        Ok(Arc::clone(made.deployments.entry(key).or_insert(Arc::new(ready))))
    }

    /// The deployment of a bundle.
    fn analysed(&self, bundle: Arc<Bundle>) -> Result<Arc<Deployment>, UserError> {
        let text = serde_json::to_vec(&*bundle).unwrap_or_default();
        let hash: [u8; 32] = Sha256::digest(text).into();
        if let Some(known) = lock(&self.known.analysed).get(&hash) {
            return Ok(Arc::clone(known));
        }
        let analysis = self.functions.analyze(Arc::clone(&bundle));
        let analysis = analysis.map_err(|error| UserError::new(error.code, error.message))?;
        let deployment = Arc::new(Deployment { bundle, analysis });
        let mut analysed = lock(&self.known.analysed);
        if analysed.len() >= KEPT {
            analysed.clear();
        }
        analysed.insert(hash, Arc::clone(&deployment));
        Ok(deployment)
    }

    fn bundle(&self, made: &mut Made, parts: &[Part]) -> Result<Bundle, UserError> {
        let (import_time_ms, import_seed) = self.import;
        let mut app = Bundle { import_time_ms, import_seed, ..Bundle::default() };
        for part in parts {
            let definition = (parts.len() > 1).then(|| definition(part, parts));
            let bundle = Bundle {
                modules: self.modules(made, part)?,
                schema: part.schema.as_deref().map(schema),
                definition,
                ..Bundle::default()
            };
            if part.path.is_empty() {
                app = Bundle { import_time_ms, import_seed, components: app.components, ..bundle };
            } else {
                has_parent(part, parts)?;
                app.components.insert(part.path.as_str().into(), Arc::new(bundle));
            }
        }
        Ok(app)
    }

    fn modules(
        &self,
        made: &mut Made,
        part: &Part,
    ) -> Result<BTreeMap<Arc<str>, Module>, UserError> {
        let output = match made.bundled.get(&part.files) {
            Some(known) => Arc::clone(known),
            None => {
                let project = project(&self.root, &part.files);
                let output = lock(&self.known.bundler).bundle_functions(&project, &part.files);
                let output = output.map_err(|errors| {
                    UserError::new("InvalidModules", format!("Could not bundle.\n{errors}"))
                })?;
                let output = Arc::new(output);
                made.bundled.insert(part.files.clone(), Arc::clone(&output));
                output
            }
        };
        let mut modules: BTreeMap<Arc<str>, Module> = BTreeMap::new();
        // What needs Node cannot run in the worker yet, and says so when it is called.
        for module in output.modules.iter().filter(|module| module.environment == "isolate") {
            let path: Arc<str> = module.path.as_str().into();
            let map = module.source_map.as_deref().map(Arc::from);
            modules.insert(path, plain(&module.path, &module.source, map));
        }
        for (path, functions) in &part.elsewhere {
            modules.insert(path.as_str().into(), plain(path, &elsewhere(path, functions), None));
        }
        modules.insert(INLINE.into(), plain(INLINE, &inline(), None));
        Ok(modules)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in them is whole between two insertions.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(parts: &[Part]) -> [u8; 32] {
    Sha256::digest(serde_json::to_string(parts).unwrap_or_default()).into()
}

/// The project that files of a folder belong to.
fn project(root: &Path, files: &BTreeMap<String, PathBuf>) -> Project {
    let folder = files.iter().next().and_then(|(path, file)| {
        let depth = path.split('/').count();
        file.ancestors().nth(depth).map(Path::to_owned)
    });
    Project {
        root: root.to_owned(),
        functions_dir: folder.unwrap_or_else(|| root.to_owned()),
        external_packages: vec![],
    }
}

fn plain(path: &str, source: &str, source_map: Option<Arc<str>>) -> Module {
    let environment = Environment::Isolate;
    Module { path: path.into(), source: source.into(), source_map, environment }
}

fn schema(exported: &str) -> Module {
    let source = format!("export default {{ export() {{ return {}; }} }};\n", json!(exported));
    plain("schema.js", &source, None)
}

/// The `convex.config.ts` that a component's author would have written.
fn definition(part: &Part, parts: &[Part]) -> Module {
    let child = |other: &&Part| {
        let (parent, name) = other.path.rsplit_once('/').unwrap_or(("", &other.path));
        (parent == part.path && !name.is_empty())
            .then(|| json!({ "name": name, "path": other.path, "args": [] }))
    };
    let children: Vec<_> = parts.iter().filter_map(|other| child(&other)).collect();
    let exported = json!({
        "name": part.path, "path": part.path, "childComponents": children, "httpMounts": {},
        "exports": { "type": "branch", "branch": [] },
        "definitionType": { "type": "childComponent", "name": part.path, "args": [] },
    });
    let source = format!("export default {{ export() {{ return {exported}; }} }};\n");
    plain("convex.config.js", &source, None)
}

fn has_parent(part: &Part, parts: &[Part]) -> Result<(), UserError> {
    let (parent, name) = part.path.rsplit_once('/').unwrap_or(("", &part.path));
    if parts.iter().any(|other| other.path == parent) {
        return Ok(());
    }
    let text = format!(
        "The component {:?} is registered and {parent:?}, which it is in, is not: call \
         t.registerComponent({parent:?}, …) too, or register it as {:?}.",
        child(parent, name),
        name
    );
    Err(UserError::new("NoParentComponent", text))
}

/// What every function is that runs in the worker.
const SEND: &str = "\
const send = async (value) => {
  try {
    return await Convex.asyncSyscall('concave/elsewhere', JSON.stringify(value));
  } catch (error) {
    if (error.data !== undefined) error[Symbol.for('ConvexError')] = true;
    throw error;
  }
};
";

fn inline() -> String {
    let function = |name: &str, kind: &str| {
        format!(
            "export const {name} = {{ isConvexFunction: true, is{kind}: true, isInternal: true,\n  \
             invoke{kind}: (args) => send({{ token: JSON.parse(args)[0].token }}),\n  \
             exportArgs: () => '{{\"type\":\"any\"}}', exportReturns: () => 'null' }};\n"
        )
    };
    format!("{SEND}{}{}", function("query", "Query"), function("mutation", "Mutation"))
}

fn elsewhere(path: &str, functions: &[Foreign]) -> String {
    let function = |(at, function): (usize, &Foreign)| {
        let Foreign { name, kind, visibility, args, returns } = function;
        format!(
            "const f{at} = {{ isConvexFunction: true, is{kind}: true, {visibility}: true,\n  \
             invoke{kind}: (args) => send({{ module: {}, name: {}, args }}),\n  \
             exportArgs: () => {}, exportReturns: () => {} }};\nexport {{ f{at} as {} }};\n",
            json!(path),
            json!(name),
            json!(args),
            json!(returns),
            json!(name),
        )
    };
    functions
        .iter()
        .enumerate()
        .map(function)
        .fold(SEND.to_owned(), |text, one| text + one.as_str())
}
