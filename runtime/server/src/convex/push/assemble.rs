//! From a push request to a bundle: what was sent, plus what was kept from the running deployment.
//!
//! In: `start_push` requests (`convex-compat.md` section 6.4). Out: a [`Bundle`].
//! Invariant: a bundle is complete; a module that was neither sent nor kept is a conflict, never a
//! hole. Pushing what is running gives a bundle equal to the running one, import time and seed
//! included, hence the same code version.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use data_encoding::HEXLOWER;
use database::deployment::{Bundle, Environment, Module};
use database::limits;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Keyed;
use crate::host::Host;
use crate::refusal::Failure;

/// The body of `start_push`, `evaluate_push` and `evaluate_schema`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartPush {
    admin_key: Option<String>,
    app_definition: AppDefinition,
    #[serde(default)]
    component_definitions: Vec<ComponentDefinition>,
    #[serde(default)]
    node_dependencies: Vec<NodeDependency>,
    #[serde(default)]
    for_codegen: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppDefinition {
    definition: Option<SentModule>,
    schema: Option<SentModule>,
    /// `functions` in the words of the CLI before 1.32, which sends everything.
    #[serde(alias = "functions")]
    changed_modules: Vec<SentModule>,
    #[serde(default)]
    unchanged_module_hashes: Vec<KeptModule>,
    udf_server_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentModule {
    path: String,
    source: String,
    source_map: Option<String>,
    environment: Place,
}

/// A module that the deployment has already.
#[derive(Deserialize)]
struct KeptModule {
    path: String,
    environment: Place,
    sha256: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    Isolate,
    Node,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComponentDefinition {
    definition_path: String,
    definition: SentModule,
    schema: Option<SentModule>,
    functions: Vec<SentModule>,
    udf_server_version: String,
}

#[derive(Deserialize)]
struct NodeDependency {
    name: String,
    version: String,
}

impl Keyed for StartPush {
    fn admin_key(&self) -> Option<&str> {
        self.admin_key.as_deref()
    }
}

/// The answer of `get_config_hashes`: what is running, module by module.
pub(super) fn hashes(host: &Host) -> Value {
    let snapshot = host.database.snapshot();
    let bundle = snapshot.deployment.as_ref().map(|deployment| &deployment.bundle);
    let hash = |module: &Module| {
        let environment = match module.environment {
            Environment::Isolate => "isolate",
            Environment::Node => "node",
        };
        json!({ "path": &*module.path, "hash": sha256(module), "environment": environment })
    };
    // `nodeVersion` stays out, here and inside `config`: the CLI takes a string or nothing.
    json!({
        "config": { "functions": "convex/" },
        "moduleHashes":
            bundle.iter().flat_map(|b| b.modules.values()).map(hash).collect::<Vec<_>>(),
        "udfServerVersion": bundle.map(|bundle| &bundle.udf_server_version),
    })
}

/// Builds the bundle of a push.
///
/// # Errors
/// What concave cannot run yet, module paths that are not paths, and 409 for modules that the CLI
/// believes to be here and that are not.
pub(super) fn bundle(
    host: &Host,
    asked: StartPush,
    running: Option<&Bundle>,
) -> Result<Bundle, Failure> {
    let for_codegen = asked.for_codegen;
    let StartPush { app_definition: app, component_definitions, node_dependencies, .. } = asked;
    let mut modules = BTreeMap::new();
    let kept = app.unchanged_module_hashes.iter().map(|module| kept(module, running));
    for module in app.changed_modules.into_iter().map(sent).chain(kept) {
        let module = module?;
        if let Some(twin) = modules.insert(module.path.clone(), module) {
            let path = twin.path;
            return Err(Failure::bad("DuplicateModule", format!("Module {path} came twice.")));
        }
    }
    let components = components(component_definitions)?;
    let of_components = components.values().flat_map(|part| part.modules.values());
    within_limit(modules.values().chain(of_components))?;
    let world = &host.config.world;
    let mut bundle = Bundle {
        modules,
        schema: app.schema.map(sent).transpose()?,
        definition: app.definition.map(sent).transpose()?,
        components,
        for_codegen,
        node_packages: node_packages(node_dependencies)?,
        udf_server_version: app.udf_server_version,
        import_time_ms: world.now() / 1_000_000,
        import_seed: world.seed(),
    };
    if let Some(running) = running {
        adopt(&mut bundle, running);
    }
    Ok(bundle)
}

/// The definitions of components, by their paths. Import time and seed are the push's.
fn components(
    sent_definitions: Vec<ComponentDefinition>,
) -> Result<BTreeMap<Arc<str>, Arc<Bundle>>, Failure> {
    let mut components = BTreeMap::new();
    for found in sent_definitions {
        let ComponentDefinition { definition_path: path, definition, schema, functions, .. } =
            found;
        let mut modules = BTreeMap::new();
        for module in functions.into_iter().map(sent) {
            let module = module?;
            if module.environment == Environment::Node {
                return Err(Failure::bad(
                    "UseNodeInComponent",
                    format!(
                        "\"use node\" directive is not supported in components. Remove it from the \
                         component at: {path} ({}).",
                        module.path
                    ),
                ));
            }
            modules.insert(Arc::clone(&module.path), module);
        }
        let part = Bundle {
            modules,
            schema: schema.map(sent).transpose()?,
            definition: Some(sent(definition)?),
            udf_server_version: found.udf_server_version,
            ..Bundle::default()
        };
        if path.is_empty() || components.insert(Arc::from(path.as_str()), Arc::new(part)).is_some()
        {
            let text = format!("The component at {path:?} came twice, or has no path. Push again.");
            return Err(Failure::bad("DuplicateComponent", text));
        }
    }
    Ok(components)
}

/// npm is asked for these: a name is a name and a version a version, not another of its options.
fn node_packages(sent: Vec<NodeDependency>) -> Result<BTreeMap<String, String>, Failure> {
    let plain = |text: &str, more: &[char]| {
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@');
        starts && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
    };
    let checked = sent.into_iter().map(|NodeDependency { name, version }| {
        if plain(&name, &['@', '/', '.', '-', '_', '~'])
            && !name.contains("..")
            && plain(&version, &['.', '-', '+'])
        {
            return Ok((name, version));
        }
        Err(Failure::bad(
            "InvalidNodeDependency",
            format!(
                "{name:?} at version {version:?} cannot be installed as a package: it must be a \
                 name in the npm registry and an exact version."
            ),
        ))
    });
    checked.collect()
}

fn within_limit<'a>(modules: impl Iterator<Item = &'a Module>) -> Result<(), Failure> {
    let bytes: u64 = modules.map(|module| module.source.len() as u64).sum();
    if bytes <= limits::BUNDLE_BYTES {
        return Ok(());
    }
    let limit = limits::BUNDLE_BYTES;
    let message =
        format!("The bundle is too large: {bytes} bytes of JavaScript, and the limit is {limit}.");
    Err(Failure::bad("BundleTooLarge", message))
}

/// Takes over import time and seed from a bundle with the same sources. Says whether it did.
pub(super) fn adopt(bundle: &mut Bundle, other: &Bundle) -> bool {
    let same = bundle.modules == other.modules
        && bundle.schema == other.schema
        && bundle.definition == other.definition
        && bundle.components == other.components
        && bundle.for_codegen == other.for_codegen
        && bundle.node_packages == other.node_packages
        && bundle.udf_server_version == other.udf_server_version;
    if same {
        bundle.import_time_ms = other.import_time_ms;
        bundle.import_seed = other.import_seed;
    }
    same
}

fn sent(module: SentModule) -> Result<Module, Failure> {
    let SentModule { path, source, source_map, environment } = module;
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    if !path.ends_with(".js") || !path.split('/').all(plain) || path.starts_with("_system/") {
        return Err(Failure::bad(
            "InvalidModulePath",
            format!(
                "{path:?} is not a module path: it must be relative to the functions folder, \
                 without \"..\", and end with \".js\"."
            ),
        ));
    }
    let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if let Some(bad) = path.split('/').find(|part| !part.chars().all(is_legal)) {
        // Its functions would be deployed, and no path of a function could name them.
        return Err(Failure::bad(
            "InvalidConfig",
            format!(
                "{path} is not a valid path to a Convex module. Path component {bad} can only \
                 contain alphanumeric characters, underscores, or periods."
            ),
        ));
    }
    Ok(Module {
        path: path.into(),
        source: source.into(),
        source_map: source_map.map(Arc::from),
        environment: environment.into(),
    })
}

fn kept(module: &KeptModule, running: Option<&Bundle>) -> Result<Module, Failure> {
    let KeptModule { path, environment, sha256: hash } = module;
    let conflict = |code: &'static str, why: &str| {
        let message = format!("Module {path} was not sent, {why}. Push again.");
        Failure::new(StatusCode::CONFLICT, code, message)
    };
    let found = running
        .and_then(|bundle| bundle.modules.get(path.as_str()))
        .ok_or_else(|| conflict("MissingExistingModule", "but the deployment does not have it"))?;
    if sha256(found) != *hash {
        return Err(conflict("ExistingModuleHashConflict", "but the deployment's is another one"));
    }
    if found.environment != (*environment).into() {
        return Err(conflict(
            "ExistingModuleEnvConflict",
            "but the deployment's is for another environment",
        ));
    }
    Ok(found.clone())
}

/// The CLI's hash of a module: source, then source map.
fn sha256(module: &Module) -> String {
    let mut hash = Sha256::new();
    hash.update(module.source.as_bytes());
    hash.update(module.source_map.as_deref().unwrap_or("").as_bytes());
    HEXLOWER.encode(&hash.finalize())
}

impl From<Place> for Environment {
    fn from(place: Place) -> Self {
        match place {
            Place::Isolate => Self::Isolate,
            Place::Node => Self::Node,
        }
    }
}
