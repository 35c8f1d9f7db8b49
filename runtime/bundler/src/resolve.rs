//! Where a specifier leads: Node's resolution with Convex's conditions.
//!
//! In: a specifier, the file that wrote it and how. Out: [`Resolved`]. Invariant: the same file is
//! found as esbuild finds with `--conditions=convex,module` for the browser (default runtime) or
//! Node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oxc_resolver::{ResolveError, ResolveOptions, Resolver, TsConfig, TsconfigDiscovery};

use crate::Environment;
use crate::compile::RequestKind;
use crate::error::closest;
use crate::glob::tidy;
use crate::graph::file_of;
use crate::package::in_node_modules;
use crate::project::{Project, relative_path};

/// Where the text of a module comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Location {
    /// A file.
    File(PathBuf),
    /// A module that the bundler itself supplies.
    Supplied(Supplied),
    /// A file that the `browser` field of its package replaces with nothing.
    Ignored(PathBuf),
    /// What stands for a file that a test mocks.
    Mocked(PathBuf),
    /// The text of a file.
    Raw(PathBuf),
    /// A module that is there only as a test mocks it; the path is made up.
    Absent(PathBuf),
}

/// Modules that the bundler supplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Supplied {
    /// `async_hooks`, which the default runtime has as globals.
    AsyncHooks,
    /// `server-only`, which is a marker and does nothing.
    ServerOnly,
    /// The `convex.config.ts` that a project without one has.
    Definition,
    /// `convex-test`, in test files.
    ConvexTest,
    /// `concave/server`.
    ConcaveServer,
}

impl Supplied {
    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::AsyncHooks => {
                "export const AsyncLocalStorage = globalThis.AsyncLocalStorage;\n\
                 export const AsyncResource = globalThis.AsyncResource;\n\
                 export default { AsyncLocalStorage, AsyncResource };\n"
            }
            Self::ServerOnly => "export {};\n",
            Self::ConvexTest => include_str!("../../../js/test/convex_test.js"),
            Self::ConcaveServer => include_str!("../../../js/concave/server.js"),
            Self::Definition => {
                "import { defineApp } from \"convex/server\";\nexport default defineApp();\n"
            }
        }
    }

    /// File name, for paths and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AsyncHooks => "async_hooks.js",
            Self::ServerOnly => "server_only.js",
            Self::Definition => "convex.config.js",
            Self::ConvexTest => "convex_test.js",
            Self::ConcaveServer => "concave_server.js",
        }
    }
}

/// Where a specifier leads.
#[derive(Clone, Debug)]
pub(crate) enum Resolved {
    /// Into the bundle.
    Module(Location),
    /// Out of it: a Node built-in or an external package of a `"use node"` file.
    External(String),
    /// To the definition of another component: the file, and the specifier that the host knows
    /// it by.
    Component(PathBuf, String),
    /// Nowhere.
    Missing(Missing),
}

/// Why a specifier leads nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// The resolvers of one bundling run; they share one cache of the file system.
pub(crate) struct Resolvers {
    isolate: [Resolver; 2],
    /// As the first of `isolate`, for packages that bring WebAssembly.
    web_assembly: Resolver,
    node: [Resolver; 2],
    /// Packages that Node imports at run time; `*` is all.
    pub(crate) external_packages: Vec<String>,
    functions_dir: PathBuf,
    definition: PathBuf,
    /// Specifiers that lead out of the bundle, and where.
    pub(crate) aliases: BTreeMap<String, String>,
}

impl Resolvers {
    pub(crate) fn new(project: &Project) -> Self {
        let first = Resolver::new(options(Environment::Isolate, false));
        let more = |environment, require| first.clone_with_options(options(environment, require));
        let (browser_require, node_import, node_require) = (
            more(Environment::Isolate, true),
            more(Environment::Node, false),
            more(Environment::Node, true),
        );
        let mut workerd = options(Environment::Isolate, false);
        workerd.condition_names.insert(0, "workerd".to_owned());
        let web_assembly = first.clone_with_options(workerd);
        Self {
            isolate: [first, browser_require],
            web_assembly,
            node: [node_import, node_require],
            external_packages: project.external_packages.clone(),
            functions_dir: project.functions_dir.clone(),
            definition: project.functions_dir.join("convex.config.ts"),
            aliases: BTreeMap::new(),
        }
    }

    /// The functions folder.
    pub(crate) fn functions_dir(&self) -> &Path {
        &self.functions_dir
    }

    /// The settings that govern a TypeScript file, if they can be read.
    pub(crate) fn tsconfig(&self, file: &Path) -> Option<Arc<TsConfig>> {
        self.isolate[0].find_tsconfig(file).ok().flatten()
    }

    /// More resolvers with the same view of the file system.
    pub(crate) fn share(&self) -> Self {
        let again = |resolver: &Resolver| resolver.clone_with_options(resolver.options().clone());
        Self {
            isolate: [again(&self.isolate[0]), again(&self.isolate[1])],
            web_assembly: again(&self.web_assembly),
            node: [again(&self.node[0]), again(&self.node[1])],
            external_packages: self.external_packages.clone(),
            functions_dir: self.functions_dir.clone(),
            definition: self.definition.clone(),
            aliases: self.aliases.clone(),
        }
    }

    /// The component that an import in a definition names; `None` where it names something else.
    /// Package exports may list the file with or without its extension, hence three attempts.
    pub(crate) fn component(&self, from: &Location, specifier: &str) -> Option<Resolved> {
        let last = specifier.rsplit('/').next().unwrap_or(specifier);
        if !last.starts_with("convex.config") {
            return None;
        }
        let mut candidates = vec![specifier.to_owned()];
        match specifier.strip_suffix(".js") {
            Some(stem) => candidates.push(format!("{stem}.ts")),
            None if specifier.ends_with(".ts") => {}
            None => candidates.extend([".js", ".ts"].map(|end| format!("{specifier}{end}"))),
        }
        let file = file_of(from).unwrap_or(&self.definition);
        let found =
            candidates.iter().find_map(|name| resolve_from(&self.isolate[0], file, name).ok());
        let folder = found?.into_path_buf().parent()?.to_owned();
        let definition = definition_in(&folder)?;
        let path = definition_path(&self.functions_dir, &folder);
        let name = URL_SAFE_NO_PAD.encode(path);
        Some(Resolved::Component(definition, format!("./_componentDeps/{name}")))
    }

    /// Resolves one specifier.
    pub(crate) fn resolve(
        &self,
        from: &Location,
        specifier: &str,
        kind: RequestKind,
        environment: Environment,
    ) -> Resolved {
        if let Some(resolved) = self.without_files(specifier, environment) {
            return resolved;
        }
        if environment == Environment::Node
            && self.is_external(specifier)
            && !self.is_alias(from, specifier)
        {
            return Resolved::External(specifier.to_owned());
        }
        let [import, require] = match environment {
            Environment::Isolate => &self.isolate,
            Environment::Node => &self.node,
        };
        let resolver = if kind == RequestKind::Require { require } else { import };
        let found = match from {
            Location::File(file) | Location::Ignored(file) | Location::Mocked(file) => {
                resolve_from(resolver, file, specifier)
            }
            Location::Supplied(_) | Location::Absent(_) | Location::Raw(_) => {
                resolver.resolve(&self.functions_dir, specifier)
            }
        };
        match found {
            Ok(found) => {
                let path = found.into_path_buf();
                let special = environment == Environment::Isolate
                    && kind != RequestKind::Require
                    && is_bare(specifier);
                let other = special.then(|| self.with_web_assembly(from, specifier, &path));
                Resolved::Module(Location::File(other.flatten().unwrap_or(path)))
            }
            Err(ResolveError::Ignored(path)) => Resolved::Module(Location::Ignored(path)),
            Err(_) if is_builtin(specifier) => Resolved::Missing(self.node_builtin(specifier)),
            Err(error) => Resolved::Missing(self.unresolved(from, specifier, &error)),
        }
    }

    /// What a package gives under the condition `workerd`, if that imports a `.wasm` file as a
    /// module: a browser's entry fetches the file or starts it by an instance that a bundler
    /// makes, which this runtime does not. Other packages mean Cloudflare by the name.
    fn with_web_assembly(&self, from: &Location, specifier: &str, plain: &Path) -> Option<PathBuf> {
        let file = file_of(from)?;
        let found = resolve_from(&self.web_assembly, file, specifier).ok()?.into_path_buf();
        if found == plain {
            return None;
        }
        let text = std::fs::read_to_string(&found).ok()?;
        let imports = |line: &str| {
            let line = line.trim_end_matches(';');
            line.starts_with("import ") && line.trim_end_matches(['"', '\'']).ends_with(".wasm")
        };
        text.lines().any(imports).then_some(found)
    }

    /// Specifiers that are decided by their text alone.
    fn without_files(&self, specifier: &str, environment: Environment) -> Option<Resolved> {
        if let Some(elsewhere) = self.aliases.get(specifier) {
            return Some(Resolved::External(elsewhere.clone()));
        }
        if specifier == "convex-test" && !self.aliases.is_empty() {
            return Some(Resolved::Module(Location::Supplied(Supplied::ConvexTest)));
        }
        if specifier == "concave/server" {
            // Ours, whichever the app has installed for its editor.
            return Some(Resolved::Module(Location::Supplied(Supplied::ConcaveServer)));
        }
        if specifier == "server-only" {
            return Some(Resolved::Module(Location::Supplied(Supplied::ServerOnly)));
        }
        if environment == Environment::Node {
            return is_builtin(specifier).then(|| Resolved::External(specifier.to_owned()));
        }
        match specifier {
            "async_hooks" | "node:async_hooks" => {
                Some(Resolved::Module(Location::Supplied(Supplied::AsyncHooks)))
            }
            _ if specifier.starts_with("node:") => {
                Some(Resolved::Missing(self.node_builtin(specifier)))
            }
            _ => None,
        }
    }

    /// Whether a specifier means one of the packages that Node imports at run time. `#name` is what
    /// package.json says, never a package.
    fn is_external(&self, specifier: &str) -> bool {
        let name = package_name(specifier);
        let listed = |external: &String| external == name || external == "*";
        is_bare(specifier)
            && !specifier.starts_with('#')
            && self.external_packages.iter().any(listed)
    }

    /// Whether the path aliases of the tsconfig.json that governs a file lead a specifier to a file
    /// of the app: as esbuild does, they are asked before anybody looks for a package.
    fn is_alias(&self, from: &Location, specifier: &str) -> bool {
        let Some(file) = file_of(from).filter(|file| in_node_modules(file).is_none()) else {
            return false;
        };
        let Some(tsconfig) = self.tsconfig(file) else { return false };
        let folder = file.parent().unwrap_or(file);
        let leads = |path: PathBuf| {
            let found = self.node[0].resolve(folder, &path.to_string_lossy());
            found.is_ok_and(|found| in_node_modules(found.path()).is_none())
        };
        tsconfig.resolve_path_alias_or_base_url(specifier).into_iter().any(leads)
    }

    fn node_builtin(&self, specifier: &str) -> Missing {
        let missing = node_builtin(specifier);
        if self.aliases.is_empty() {
            return missing;
        }
        let help = "Tests of `concave test` run in V8, without Node: import what you need as a \
                    module, or run this file with vitest and the alias of js/test/README.md, \
                    where \"use node\" is Node.";
        Missing { help: Some(help.to_owned()), ..missing }
    }

    fn unresolved(&self, from: &Location, specifier: &str, error: &ResolveError) -> Missing {
        let dir = match from {
            Location::File(file) | Location::Ignored(file) | Location::Mocked(file) => {
                file.parent().unwrap_or(file)
            }
            Location::Supplied(_) | Location::Absent(_) | Location::Raw(_) => {
                self.definition.parent().unwrap_or(&self.definition)
            }
        };
        let help = if is_bare(specifier) {
            let name = package_name(specifier);
            let installed = dir.ancestors().any(|d| d.join("node_modules").join(name).is_dir());
            match (installed, closest_package(dir, name)) {
                (true, _) => match error {
                    ResolveError::PackagePathNotExported { .. } => {
                        Some(format!("The package {name} does not export this path: {error}"))
                    }
                    _ => None,
                },
                (false, near) => {
                    let near = near.map(|near| format!("Did you mean \"{near}\"?"));
                    // These may be aliases.
                    let install = (!specifier.starts_with(['@', '~', '#']))
                        .then(|| format!("Is it installed? Try: npm install {name}"));
                    let both: Vec<String> = install.into_iter().chain(near).collect();
                    (!both.is_empty()).then(|| both.join("\n"))
                }
            }
        } else if specifier.split('/').any(|part| part == "_generated") {
            let help = "It is written by a push: run `concave dev --once`, or `concave push`.";
            Some(help.to_owned())
        } else {
            closest_file(dir, specifier).map(|near| format!("Did you mean \"{near}\"?"))
        };
        Missing { message: format!("Could not resolve \"{specifier}\""), help }
    }
}

/// What stands for a module that leads nowhere, so that whoever means it means the same.
pub(crate) fn nowhere(root: &Path, from: &Location, specifier: &str) -> PathBuf {
    let name = match specifier.strip_prefix("node:") {
        None if is_builtin(specifier) => format!("node:{specifier}"),
        _ => specifier.to_owned(),
    };
    let folder = file_of(from).and_then(|file| file.parent()).unwrap_or(root);
    if is_bare(&name) { root.join("node_modules").join(name) } else { tidy(&folder.join(name)) }
}

/// The file that vitest takes for a mocked module that has no factory, if there is one:
/// `__mocks__/x.ts` beside `x.ts`, or in the project's root for what is no file of it.
pub(crate) fn manual_mock(root: &Path, found: &Resolved, specifier: &str) -> Option<PathBuf> {
    if let Resolved::Module(Location::File(file)) = found
        && in_node_modules(file).is_none()
    {
        let beside = file.parent()?.join("__mocks__").join(file.file_name()?);
        return beside.is_file().then_some(beside);
    }
    let stem = root.join("__mocks__").join(specifier.trim_start_matches("node:"));
    let endings = ["", "/index"].into_iter().flat_map(|index| {
        let codes = ["ts", "tsx", "mts", "cts", "js", "jsx", "mjs", "cjs"];
        codes.map(|code| format!("{index}.{code}"))
    });
    let files = endings.map(|ending| PathBuf::from(format!("{}{ending}", stem.display())));
    files.into_iter().find(|file| is_bare(specifier) && file.is_file())
}

/// The file that makes a folder a component.
pub(crate) fn definition_in(folder: &Path) -> Option<PathBuf> {
    let names = ["convex.config.ts", "convex.config.js"];
    names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// What the deploy protocol calls the component in `folder`: the way there from the app's functions
/// folder, with `/`; empty for the app itself.
pub(crate) fn definition_path(functions_dir: &Path, folder: &Path) -> String {
    relative_path(functions_dir, folder).to_string_lossy().replace('\\', "/")
}

fn resolve_from(
    resolver: &Resolver,
    file: &Path,
    specifier: &str,
) -> Result<oxc_resolver::Resolution, ResolveError> {
    let dir = file.parent().unwrap_or(file);
    if in_node_modules(file).is_some() {
        return resolver.resolve(dir, specifier);
    }
    match resolver.resolve_file(file, specifier) {
        // A tsconfig.json that does not load takes its path aliases with it, nothing more.
        Err(
            ResolveError::TsconfigNotFound(_)
            | ResolveError::TsconfigLoadFailed { .. }
            | ResolveError::TsconfigSelfReference(_)
            | ResolveError::TsconfigCircularExtend(_),
        ) => resolver.resolve(dir, specifier),
        other => other,
    }
}

fn options(environment: Environment, require: bool) -> ResolveOptions {
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let node = environment == Environment::Node;
    let mut conditions = list(&["convex", "module"]);
    conditions.push(if require { "require" } else { "import" }.to_owned());
    conditions.push(if node { "node" } else { "browser" }.to_owned());
    conditions.push("default".to_owned());
    // A `require` takes `main` before `module`, else a package that asks for its own CommonJS half
    // would get the ES half (esbuild does the same).
    let main_fields = match (node, require) {
        (true, _) => list(&["main", "module"]),
        (false, true) => list(&["browser", "main", "module"]),
        (false, false) => list(&["browser", "module", "main"]),
    };
    let alias = |from: &str, to: &[&str]| (from.to_owned(), list(to));
    ResolveOptions {
        tsconfig: Some(TsconfigDiscovery::Auto),
        condition_names: conditions,
        main_fields,
        alias_fields: if node { vec![] } else { vec![list(&["browser"])] },
        extensions: list(&[".tsx", ".ts", ".jsx", ".js", ".mts", ".mjs", ".cts", ".cjs", ".json"]),
        extension_alias: vec![
            alias(".js", &[".js", ".ts", ".tsx"]),
            alias(".jsx", &[".jsx", ".tsx"]),
            alias(".mjs", &[".mjs", ".mts"]),
            alias(".cjs", &[".cjs", ".cts"]),
        ],
        node_path: false,
        ..ResolveOptions::default()
    }
}

fn node_builtin(specifier: &str) -> Missing {
    Missing {
        message: format!(
            "Could not resolve \"{specifier}\": it is built into Node.js and does not exist in the \
             default runtime"
        ),
        help: Some(
            "It looks like you are using Node APIs from a file without the \"use node\" directive. \
             Split out actions using Node.js APIs like this into a new file only containing \
             actions that uses \"use node\" so these actions will run in a Node.js environment."
                .to_owned(),
        ),
    }
}

/// Whether a specifier names a package rather than a file.
pub(crate) fn is_bare(specifier: &str) -> bool {
    !specifier.starts_with(['.', '/'])
}

/// `@scope/name` or `name` of a bare specifier.
pub(crate) fn package_name(specifier: &str) -> &str {
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    match specifier.match_indices('/').nth(parts - 1) {
        Some((at, _)) => &specifier[..at],
        None => specifier,
    }
}

fn closest_package(dir: &Path, name: &str) -> Option<String> {
    let names = dir.ancestors().flat_map(|d| file_names(&d.join("node_modules")));
    let names: Vec<String> = names.collect();
    closest(name, names.iter().map(String::as_str)).map(str::to_owned)
}

fn closest_file(dir: &Path, specifier: &str) -> Option<String> {
    let (folder, name) = specifier.rsplit_once('/').unwrap_or(("", specifier));
    let names = file_names(&dir.join(folder));
    let stem = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let wanted = stem(name);
    let stems: Vec<String> = names.iter().map(|name| stem(name)).collect();
    let near = closest(&wanted, stems.iter().map(String::as_str))?;
    Some(format!("{folder}/{near}"))
}

fn file_names(dir: &Path) -> Vec<String> {
    let list = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<_> = list.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Modules that Node.js brings along, by their first path segment.
const BUILTINS: &str = "\
    _http_agent _http_client _http_common _http_server _stream_readable _stream_writable \
    _tls_common assert async_hooks buffer child_process cluster console constants crypto \
    dgram diagnostics_channel dns domain events fs http http2 https inspector module net os \
    path perf_hooks process punycode querystring readline repl stream string_decoder sys \
    timers tls trace_events tty url util v8 vm wasi worker_threads zlib";

/// Those of them that have paths of their own.
const BUILTIN_PATHS: &str = "assert/strict dns/promises fs/promises inspector/promises path/posix \
    path/win32 readline/promises stream/consumers stream/promises stream/web timers/promises \
    util/types";

/// Whether Node.js brings this module along.
pub(crate) fn is_builtin(specifier: &str) -> bool {
    let list = if specifier.contains('/') { BUILTIN_PATHS } else { BUILTINS };
    specifier.starts_with("node:") || list.split_whitespace().any(|name| name == specifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_split_into_package_and_path() {
        assert_eq!(package_name("@a/b/c"), "@a/b");
        assert_eq!(package_name("lodash/fp"), "lodash");
        assert_eq!(package_name("zod"), "zod");
    }

    #[test]
    fn builtins_are_known_by_name_and_by_scheme() {
        for yes in ["fs", "node:sqlite", "fs/promises", "worker_threads"] {
            assert!(is_builtin(yes), "{yes}");
        }
        for no in ["fs-extra", "buffer/", "events/x", "lodash"] {
            assert!(!is_builtin(no), "{no}");
        }
    }
}
