//! `concave push`, and the push that `dev` and `serve` make: a folder becomes a running deployment.
//!
//! In: a project folder and a host. Out: the official deploy protocol over HTTP
//! (`convex-compat.md` sections 6.2 to 6.8), `convex/_generated`, and what changed.
//! Invariant: when any step fails, the host goes on serving what it served.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bundler::{
    BundleError, BundleErrors, BundledModule, Bundler, Component, EntryModule, Folder, Output,
    Project,
};
use clap::Args;
use data_encoding::HEXLOWER;
use hyper::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::client::{Client, ClientError};
use super::repair::TableOf;
use super::target::{Target, TargetError};
use super::{codegen, terminal};

/// Bundle a convex/ folder and make it the running deployment of a host
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave push                                     the host that `concave dev` wrote to .env.local
  concave push examples/chat --url http://127.0.0.1:3210 --admin-key 'concave|…'

The push is atomic: everything new runs (code, schema, indexes), or everything old goes on.")]
pub struct Arguments {
    /// The app: a folder with package.json, or its convex/ folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    target: Target,
}

/// Why a push failed.
#[derive(Debug, Error)]
pub enum PushError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The folder is not an app.
    #[error(transparent)]
    Project(Box<BundleError>),
    /// The packages that the app imports are not there.
    #[error(
        "The packages of {app} are not installed. Run: npm install --prefix {}",
        terminal::word(app)
    )]
    NotInstalled {
        /// The app's folder.
        app: String,
    },
    /// The sources do not bundle.
    #[error("{0}")]
    Bundle(BundleErrors),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// Documents in the database do not match the new schema.
    #[error(
        "Schema validation failed{}.\n{message}",
        if component.is_empty() { String::new() } else { format!(" in component {component:?}") }
    )]
    Schema {
        /// Whose schema and documents; the app's path is empty.
        component: String,
        /// The table whose documents they are, where the host says so.
        table: Option<String>,
        /// Which document, and why.
        message: String,
    },
    /// Other pushes came in between, again and again.
    #[error("Other pushes to this host keep coming in between. Push again.")]
    Race,
    /// The host's answer is not one to generate from.
    #[error(transparent)]
    Generate(#[from] codegen::Unusable),
    /// Generated files could not be written.
    #[error("Could not write {}: {cause}", folder.display())]
    Generated {
        /// The folder.
        folder: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
}

impl PushError {
    /// The table whose documents do not fit, where that is what is wrong.
    pub fn table(&self) -> Option<TableOf> {
        match self {
            Self::Schema { component, table, .. } => {
                Some(TableOf { component: component.clone(), table: table.clone()? })
            }
            _ => None,
        }
    }
}

/// What a push did.
#[derive(Clone, Debug, Default)]
pub struct Pushed {
    /// Code version, shortened.
    pub version: String,
    /// Registered functions.
    pub functions: usize,
    /// Entry modules.
    pub modules: usize,
    /// Instances of components, at any depth.
    pub components: usize,
    /// Modules that the host had not seen.
    pub sent: usize,
    /// Whether this was running already.
    pub unchanged: bool,
    /// What changed, a phrase each: `+ messages.js`, `- index users.by_name`.
    pub changes: Vec<String>,
    /// What the author should know.
    pub warnings: Vec<String>,
    /// Generated files that were written.
    pub generated: Vec<PathBuf>,
    /// Where the time went.
    pub timings: Timings,
}

/// Where a push's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Reading, compiling, resolving.
    pub bundle: Duration,
    /// The host evaluates the code.
    pub analyze: Duration,
    /// The host checks documents, fills indexes, switches over.
    pub activate: Duration,
}

/// Bundles a project again and again, keeping what did not change.
pub struct Pusher {
    /// As the author named it: `convex.json` may come to say otherwise what is in there.
    dir: PathBuf,
    project: Project,
    bundler: Bundler,
}

/// Races with other pushes that are tried again before giving up.
const ATTEMPTS: usize = 3;

/// Pushes once and says so.
///
/// # Errors
/// See [`PushError`].
pub async fn run(arguments: Arguments) -> Result<(), PushError> {
    let mut pusher = Pusher::new(&arguments.dir)?;
    let client = Client::new(arguments.target.resolve(&pusher.project.root)?)?;
    let pushed = pusher.push(&client).await?;
    for warning in &pushed.warnings {
        terminal::warning(warning);
    }
    terminal::news(format!("{} to {}", pushed.line(), client.url()));
    Ok(())
}

impl Pusher {
    /// A pusher of the app in `dir`.
    ///
    /// # Errors
    /// A folder that is not an app, or one whose packages are not installed.
    pub fn new(dir: &Path) -> Result<Self, PushError> {
        let project = found(dir)?;
        if needs_install(&project.root) {
            return Err(PushError::NotInstalled { app: dir.display().to_string() });
        }
        Ok(Self { dir: dir.to_owned(), project, bundler: Bundler::new() })
    }

    /// The app.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Sources to look at for the next change, whether the last push went well or not.
    pub fn watched(&self) -> Vec<PathBuf> {
        self.bundler.watched()
    }

    /// Bundles, generates, pushes.
    ///
    /// # Errors
    /// See [`PushError`]; what the host served before, it goes on serving.
    pub async fn push(&mut self, client: &Client) -> Result<Pushed, PushError> {
        self.project = found(&self.dir)?;
        let folder = &self.project.functions_dir;
        let settings = codegen::Settings::read(&self.project.root);
        let app = codegen::Part { has_schema: has_schema(folder), ..codegen::Part::default() };
        let mut early = vec![];
        if let Some(modules) = self.project.modules() {
            // Whatever fails from here on, a type checker knows the modules that are there.
            let app = codegen::Part { modules, ..app.clone() };
            let wrote = codegen::write_early(folder, &settings, &app);
            early = wrote.map_err(|cause| unwritable(folder, cause))?;
        }
        let wrote = codegen::write_missing(folder, &settings, &app);
        early.extend(wrote.map_err(|cause| unwritable(folder, cause))?);
        let started = Instant::now();
        let prepare = |component: &Folder| {
            let Folder { path, dir, has_schema, is_published, .. } = component;
            if *is_published {
                return Ok(());
            }
            let part = codegen::Part { path, has_schema: *has_schema, modules: vec![] };
            let written = codegen::write_missing(dir, &settings, &part);
            written.map(drop).map_err(|cause| unwritable(dir, cause).to_string())
        };
        // Compiling takes a core for milliseconds: other tasks of this thread move elsewhere.
        let output =
            tokio::task::block_in_place(|| self.bundler.bundle_prepared(&self.project, &prepare));
        let output = output.map_err(PushError::Bundle)?;
        let bundle = started.elapsed();
        for _ in 0..ATTEMPTS {
            let attempt = self.attempt(client, &output).await;
            match attempt {
                Err(error) if is_race(&error) => {}
                other => {
                    let mut pushed = other?;
                    pushed.timings.bundle = bundle;
                    pushed.generated.extend(early);
                    pushed.generated.sort_unstable();
                    pushed.generated.dedup();
                    pushed.modules = output.entries.len();
                    return Ok(pushed);
                }
            }
        }
        Err(PushError::Race)
    }

    /// Bundles, and gives what a push would send: for a host that is to run the code without
    /// deploying it. Writes nothing.
    ///
    /// # Errors
    /// Sources that do not bundle.
    pub fn request(&mut self, admin_key: &str) -> Result<Value, PushError> {
        let output = tokio::task::block_in_place(|| self.bundler.bundle(&self.project));
        let output = output.map_err(PushError::Bundle)?;
        Ok(start_push(admin_key, &output, &BTreeMap::new()).0)
    }

    async fn attempt(&self, client: &Client, output: &Output) -> Result<Pushed, PushError> {
        let started = Instant::now();
        let key = client.admin_key();
        let asked = json!({ "version": output.convex_version, "adminKey": key });
        let known: Value = client.post("/api/get_config_hashes", &asked).await?;
        let (request, sent) = start_push(key, output, &hashes(&known));
        let start: Value = client.post_compressed("/api/deploy2/start_push", &request).await?;
        let analyze = started.elapsed();

        let generated = self.generate(output, &start["analysis"])?;
        let activation = Instant::now();
        wait_for_schema(client, &start["schemaChange"]).await?;
        let finish = json!({
            "adminKey": key, "startPush": start, "dryRun": false, "message": null,
        });
        let finished: Value = client.post_compressed("/api/deploy2/finish_push", &finish).await?;
        let report = json!({ "adminKey": key, "spans": [] });
        let _: Value = client.post("/api/deploy2/report_push_completed", &report).await?;

        let mut pushed = summary(&start, &finished);
        (pushed.sent, pushed.generated) = (sent, generated);
        (pushed.timings.analyze, pushed.timings.activate) = (analyze, activation.elapsed());
        Ok(pushed)
    }

    /// Writes the generated files of the app and of those components that are its own.
    fn generate(&self, output: &Output, analysis: &Value) -> Result<Vec<PathBuf>, PushError> {
        let settings = codegen::Settings::read(&self.project.root);
        let components = &output.components;
        let specifier = |c: &Component| (c.folder.path.clone(), c.folder.specifier.clone());
        let specifiers = components.iter().map(specifier).collect();
        let push = codegen::Push { analysis, specifiers: &specifiers };
        let app = (self.project.functions_dir.as_path(), "", output);
        let own = components.iter().filter(|component| !component.folder.is_published);
        let own = own.map(|c| (c.folder.dir.as_path(), c.folder.path.as_str(), &c.output));
        let mut written = vec![];
        for (dir, path, output) in std::iter::once(app).chain(own) {
            let part =
                codegen::Part { path, modules: modules(output), has_schema: has_schema(dir) };
            let files = codegen::files(&settings, &part, push)?;
            let wrote = codegen::write(dir, &files).and_then(|wrote| {
                codegen::remove_stale(dir, &files)?;
                Ok(wrote)
            });
            written.extend(wrote.map_err(|cause| unwritable(dir, cause))?);
        }
        Ok(written)
    }
}

fn found(dir: &Path) -> Result<Project, PushError> {
    Project::find(dir).map_err(|error| PushError::Project(Box::new(error)))
}

/// Function files relative to their folder, with the extensions that they have there.
fn modules(output: &Output) -> Vec<String> {
    let path = |entry: &EntryModule| {
        let stem = entry.path.strip_suffix(".js").unwrap_or(&entry.path);
        let extension = entry.source.rsplit_once('.').map_or("js", |(_, extension)| extension);
        format!("{stem}.{extension}")
    };
    output.entries.iter().map(path).collect()
}

impl Pushed {
    /// One line: what runs now, what changed, how long it took.
    pub fn line(&self) -> String {
        let Timings { bundle, analyze, activate } = self.timings;
        let ms = |time: Duration| time.as_millis();
        let what = if self.unchanged { "unchanged" } else { "pushed" };
        let changes = match self.changes.as_slice() {
            [] => String::new(),
            changes => format!(" ({})", changes.join(", ")),
        };
        let components = match self.components {
            0 => String::new(),
            some => format!(" and {}", terminal::count(some, "component")),
        };
        format!(
            "{what} {} in {}{components} as {}{changes} in {} ms: bundle {}, analyze {}, \
             activate {}",
            terminal::count(self.functions, "function"),
            terminal::count(self.modules, "module"),
            self.version,
            ms(bundle + analyze + activate),
            ms(bundle),
            ms(analyze),
            ms(activate),
        )
    }
}

fn unwritable(functions_dir: &Path, cause: std::io::Error) -> PushError {
    PushError::Generated { folder: functions_dir.join(codegen::FOLDER), cause }
}

fn has_schema(dir: &Path) -> bool {
    ["schema.ts", "schema.js"].iter().any(|name| dir.join(name).exists())
}

/// Whether package.json asks for packages that are not there.
fn needs_install(root: &Path) -> bool {
    let text = std::fs::read_to_string(root.join("package.json")).unwrap_or_default();
    let package: Value = serde_json::from_str(&text).unwrap_or_default();
    let wanted = package["dependencies"].as_object().map(|wanted| wanted.keys());
    let installed = |name: &String| {
        root.ancestors().any(|folder| folder.join("node_modules").join(name).exists())
    };
    !wanted.into_iter().flatten().all(installed)
}

/// `path → (hash, environment)` of what the host has.
fn hashes(known: &Value) -> BTreeMap<String, (String, String)> {
    let entry = |module: &Value| {
        let text = |field: &str| module[field].as_str().map(str::to_owned);
        Some((text("path")?, (text("hash")?, text("environment")?)))
    };
    known["moduleHashes"].as_array().into_iter().flatten().filter_map(entry).collect()
}

/// The request of section 6.4, and how many modules it carries in full.
fn start_push(
    admin_key: &str,
    output: &Output,
    known: &BTreeMap<String, (String, String)>,
) -> (Value, usize) {
    let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
    for module in &output.modules {
        let hash = module_hash(module);
        match known.get(&module.path) {
            Some((had, place)) if *had == hash && place == module.environment => {
                unchanged.push(json!({
                    "path": module.path, "environment": module.environment, "sha256": hash,
                }));
            }
            _ => changed.push(sent(module)),
        }
    }
    let count = changed.len();
    let packages: Vec<_> = output
        .external_dependencies
        .iter()
        .map(|(name, version)| json!({ "name": name, "version": version }))
        .collect();
    let components: Vec<_> =
        output.components.iter().map(|part| component(part, &output.convex_version)).collect();
    let request = json!({
        "adminKey": admin_key,
        "dryRun": false,
        "functions": "convex/",
        "appDefinition": {
            "definition": output.definition.as_ref().map(sent),
            "dependencies": output.dependencies,
            "schema": output.schema.as_ref().map(sent),
            "changedModules": changed,
            "unchangedModuleHashes": unchanged,
            "udfServerVersion": output.convex_version,
        },
        "componentDefinitions": components,
        "nodeDependencies": packages,
    });
    (request, count)
}

/// Components are sent whole: the host tells hashes of the app's modules only.
fn component(part: &Component, convex_version: &str) -> Value {
    json!({
        "definitionPath": part.folder.path,
        "definition": sent(&part.definition),
        "dependencies": part.dependencies,
        "schema": part.output.schema.as_ref().map(sent),
        "functions": part.output.modules.iter().map(sent).collect::<Vec<_>>(),
        "udfServerVersion": convex_version,
    })
}

fn sent(module: &BundledModule) -> Value {
    let mut sent = json!({
        "path": module.path, "source": module.source, "environment": module.environment,
    });
    if let Some(map) = &module.source_map {
        sent["sourceMap"] = json!(map);
    }
    sent
}

/// Section 6.3: the source, then the source map.
fn module_hash(module: &BundledModule) -> String {
    let map = module.source_map.as_deref().unwrap_or_default();
    let hash = Sha256::new().chain_update(&module.source).chain_update(map).finalize();
    HEXLOWER.encode(&hash)
}

async fn wait_for_schema(client: &Client, change: &Value) -> Result<(), PushError> {
    loop {
        let asked = json!({
            "adminKey": client.admin_key(), "schemaChange": change, "timeoutMs": 10_000,
            "dryRun": false,
        });
        let state: Value = client.post("/api/deploy2/wait_for_schema", &asked).await?;
        match state["type"].as_str() {
            Some("complete") => return Ok(()),
            // The host holds the request for as long as it can, so this does not spin.
            Some("inProgress") => {}
            Some("raceDetected") => return Err(PushError::Race),
            _ => {
                let text = |field: &str| state[field].as_str().map(str::to_owned);
                let component = text("componentPath").unwrap_or_default();
                let message = text("error").unwrap_or_else(|| "The schema does not fit.".into());
                let table = text("tableName");
                return Err(PushError::Schema { component, table, message });
            }
        }
    }
}

fn is_race(error: &PushError) -> bool {
    match error {
        PushError::Race => true,
        PushError::Host(ClientError::Refused { status, code, .. }) => {
            code == "RaceDetected" || *status == StatusCode::CONFLICT
        }
        _ => false,
    }
}

/// What the answers of the first and the last request say together.
fn summary(start: &Value, finished: &Value) -> Pushed {
    let host = &start["concave"];
    let functions = start["analysis"][""]["functions"].as_object();
    let functions = functions.into_iter().flat_map(|modules| modules.values());
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|t| t.as_str()).map(Into::into).collect()
    };
    let mut warnings = texts(&host["warnings"]);
    warnings.extend(host["withoutSnapshot"].as_str().map(str::to_owned));
    Pushed {
        version: host["version"].as_str().unwrap_or_default().to_owned(),
        functions: functions.map(|module| module["functions"].as_array().map_or(0, Vec::len)).sum(),
        unchanged: host["unchanged"] == Value::Bool(true),
        changes: all_changes(&finished["componentDiffs"]),
        components: instances(&start["app"]),
        warnings,
        ..Pushed::default()
    }
}

/// The instances below one in the tree of `start_push`.
fn instances(parent: &Value) -> usize {
    let children = parent["childComponents"].as_object().into_iter().flatten();
    children.map(|(_, child)| 1 + instances(child)).sum()
}

/// What changed in the app, and which components came and went.
fn all_changes(differences: &Value) -> Vec<String> {
    let mut all = changes(&differences[""]);
    for (path, difference) in differences.as_object().into_iter().flatten() {
        let sign = match difference["diffType"]["type"].as_str() {
            _ if path.is_empty() => continue,
            Some("create" | "remount") => "+ ",
            Some("unmount") => "- ",
            _ => "",
        };
        let inside = changes(difference);
        match (sign, inside.as_slice()) {
            ("", []) => {}
            ("", inside) => all.push(format!("component {path}: {}", inside.join(", "))),
            (sign, _) => all.push(format!("{sign}component {path}")),
        }
    }
    all
}

/// Added and removed modules and indexes, and whether the schema is another.
fn changes(difference: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    let (modules, indexes) = (&difference["moduleDiff"], &difference["indexDiff"]);
    let lists = [
        (&modules["added"], '+', ""),
        (&modules["removed"], '-', ""),
        (&indexes["added_indexes"], '+', "index "),
        (&indexes["removed_indexes"], '-', "index "),
    ];
    for (list, sign, kind) in lists {
        for item in list.as_array().into_iter().flatten() {
            let name = item.as_str().or_else(|| item["name"].as_str()).unwrap_or("?");
            if !name.starts_with("_deps/") {
                changes.push(format!("{sign} {kind}{name}"));
            }
        }
    }
    if difference["schemaDiff"].is_object() {
        changes.push("schema".to_owned());
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, source: &str) -> BundledModule {
        BundledModule {
            path: path.into(),
            source: source.into(),
            source_map: Some("{}".into()),
            environment: "isolate",
        }
    }

    #[test]
    fn a_module_is_hashed_with_its_map() {
        // printf 'a{}' | sha256sum
        let expected = "5f546eb4606b5c2b7d2a449a5cc2bbb477ed5a246c7051ce871b12f2dbfc8419";
        let hash = module_hash(&module("a.js", "a"));
        assert_eq!(hash, expected);
        assert_ne!(hash, module_hash(&BundledModule { source_map: None, ..module("a.js", "a") }));
    }

    #[test]
    fn changes_are_told_in_phrases_without_chunks() {
        let difference = json!({
            "moduleDiff": { "added": ["a.js", "_deps/X.js"], "removed": ["b.js"] },
            "indexDiff": { "added_indexes": [{ "name": "users.by_name" }], "removed_indexes": [] },
            "schemaDiff": { "previous_schema": null, "next_schema": "{}" },
        });
        assert_eq!(changes(&difference), ["+ a.js", "- b.js", "+ index users.by_name", "schema"]);
        assert!(changes(&Value::Null).is_empty());
    }

    #[test]
    fn components_are_counted_and_told() {
        let tree = json!({ "childComponents": {
            "a": { "childComponents": { "b": { "childComponents": {} } } },
            "c": { "childComponents": {} },
        } });
        assert_eq!(instances(&tree), 3);
        let diff = |kind: &str, added: &[&str]| {
            let modules = json!({ "added": added });
            json!({ "diffType": { "type": kind }, "moduleDiff": modules })
        };
        let differences = json!({
            "": diff("modify", &["a.js"]), "new": diff("create", &["lib.js"]),
            "old": diff("unmount", &[]), "same": diff("modify", &[]),
            "other": diff("modify", &["lib.js"]),
        });
        let told = ["+ a.js", "+ component new", "- component old", "component other: + lib.js"];
        assert_eq!(all_changes(&differences), told);
    }

    #[test]
    fn packages_may_be_installed_in_a_folder_above() {
        let root = tempfile::tempdir().unwrap();
        let app = root.path().join("app");
        std::fs::create_dir(&app).unwrap();
        assert!(!needs_install(&app), "nothing is asked for");
        std::fs::write(app.join("package.json"), r#"{"dependencies":{"convex":"1"}}"#).unwrap();
        assert!(needs_install(&app));
        std::fs::create_dir_all(root.path().join("node_modules/convex")).unwrap();
        assert!(!needs_install(&app));
    }
}
