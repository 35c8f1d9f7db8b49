//! The bundler and the isolates together: npm packages, bundled by us and by esbuild, must give the
//! same results in the same isolates; errors must name the TypeScript that threw.
//!
//! In: the project in `tests/bundling` with its npm packages. Out: equal JSON, entry by entry.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bundler::{Bundler, Project};
use database::deployment::{Bundle, Environment, Module};

use crate::deployed::{ABI, Deployed};

/// Entries of the project that run in the default runtime; the others import dynamically, or need
/// Node or a plugin of esbuild's, and are compared in Node by `tests/bundling/oracle.mjs`.
const ENTRIES: [&str; 6] = ["dates", "functions", "ids", "lodash", "page", "zod"];

pub fn project() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundling");
    let packages = project.join("node_modules");
    assert!(packages.is_dir(), "{} is missing: run `make modules`", packages.display());
    project
}

fn module(path: &str, source: &str, map: Option<&str>) -> (Arc<str>, Module) {
    let path: Arc<str> = path.into();
    let module = Module {
        path: Arc::clone(&path),
        source: source.into(),
        source_map: map.map(Into::into),
        environment: Environment::Isolate,
    };
    (path, module)
}

/// A bundle of these modules, with one query per entry that runs it.
fn runnable(mut modules: BTreeMap<Arc<str>, Module>) -> Bundle {
    let mut runner = String::from("import { query } from \"./abi.js\";\n");
    for entry in ENTRIES {
        runner += &format!("import {{ run as run_{entry} }} from \"./{entry}.js\";\n");
        // As text: a result may have field names that values may not.
        runner += &format!("export const {entry} = query(() => JSON.stringify(run_{entry}()));\n");
    }
    modules.extend([module("abi.js", ABI, None), module("runner.js", &runner, None)]);
    Bundle { modules, import_time_ms: 1_600_000_000_000, ..Bundle::default() }
}

pub fn ours(project: &Path) -> BTreeMap<Arc<str>, Module> {
    let project = Project::find(project).unwrap();
    let output = Bundler::new().bundle(&project).unwrap_or_else(|errors| panic!("{errors}"));
    let isolate = output.modules.iter().filter(|module| module.environment == "isolate");
    isolate.map(|m| module(&m.path, &m.source, m.source_map.as_deref())).collect()
}

/// What esbuild makes of these entries, with the options of the official CLI and shorter names.
pub fn esbuilds(folder: &Path, entries: &[&str]) -> BTreeMap<Arc<str>, Module> {
    let out = tempfile::tempdir().unwrap();
    let entries = entries.iter().map(|entry| {
        let typed = format!("convex/{entry}.ts");
        if folder.join(&typed).exists() { typed } else { format!("{typed}x") }
    });
    let status = Command::new(project().join("node_modules/@esbuild/linux-x64/bin/esbuild"))
        .current_dir(folder)
        .args(entries)
        .args(["--bundle", "--format=esm", "--platform=browser", "--target=esnext", "--splitting"])
        .args(["--conditions=convex,module", "--jsx=automatic", "--chunk-names=_deps/[hash]"])
        .args(["--minify-syntax", "--minify-identifiers", "--keep-names", "--outbase=convex"])
        .args(["--define:process.env.NODE_ENV=\"production\"", "--log-level=error"])
        .args(["--alias:async_hooks=./lib/hooks.mjs", "--alias:node:async_hooks=./lib/hooks.mjs"])
        .args(["--alias:server-only=./lib/nothing.mjs"])
        .arg(format!("--outdir={}", out.path().display()))
        .status()
        .unwrap();
    assert!(status.success(), "esbuild failed");
    let mut modules = BTreeMap::new();
    // One entry alone shares nothing: there is no second folder.
    for folder in [out.path().to_owned(), out.path().join("_deps")] {
        for file in fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path()) {
            if file.is_file() {
                let path = file.strip_prefix(out.path()).unwrap().to_str().unwrap().to_owned();
                modules.extend([module(&path, &fs::read_to_string(&file).unwrap(), None)]);
            }
        }
    }
    modules
}

#[test]
fn packages_run_as_when_bundled_by_esbuild() {
    let project = project();
    let (mine, theirs) = (Deployed::empty(), Deployed::empty());
    mine.push_bundle(runnable(ours(&project))).unwrap();
    theirs.push_bundle(runnable(esbuilds(&project, &ENTRIES))).unwrap();
    for entry in ENTRIES {
        let path = format!("runner:{entry}");
        let (a, b) = (mine.value(&path, "{}"), theirs.value(&path, "{}"));
        assert!(a.len() > 20, "{entry} says too little to compare: {a}");
        assert_eq!(a, b, "{entry}");
    }
}

#[test]
fn errors_name_the_typescript_that_threw() {
    let folder = tempfile::tempdir().unwrap();
    let convex = folder.path().join("convex");
    fs::create_dir(&convex).unwrap();
    fs::write(folder.path().join("package.json"), r#"{"name":"boom"}"#).unwrap();
    std::os::unix::fs::symlink(project().join("node_modules"), folder.path().join("node_modules"))
        .unwrap();
    let source = r#"import { queryGeneric as query } from "convex/server";
import { v } from "convex/values";

interface Wide<T> { value: T }

function inner(wide: Wide<number>): never {
  throw new Error(`too wide: ${wide.value}`);
}

export const boom = query({
  args: { n: v.number() },
  handler: async (_ctx, { n }) => inner({ value: n }),
});
"#;
    fs::write(convex.join("boom.ts"), source).unwrap();
    let deployed = Deployed::empty();
    let bundle = Bundle { modules: ours(folder.path()), ..Bundle::default() };
    deployed.push_bundle(bundle).unwrap();
    let error = deployed.error("boom:boom", r#"{"n":7}"#);
    let expected = "Uncaught Error: too wide: 7\n    at inner (../convex/boom.ts:7:9)\n    \
                    at handler (../convex/boom.ts:12:";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(error.trim_end().lines().count(), 3, "the library's frames are left out: {error}");
    let error = deployed.error("boom:boom", r#"{"n":"x"}"#);
    assert!(
        error.starts_with(
            "ArgumentValidationError: Value does not match validator.\nPath: .n\nValue: \"x\"\n\
             Validator: v.float64()"
        ),
        "{error}"
    );
    let function = deployed.database.snapshot().deployment.clone().unwrap();
    let position = function.analysis.modules["boom.js"].functions[0].position.clone().unwrap();
    assert_eq!((&*position.path, position.line), ("../convex/boom.ts", 12));
}
