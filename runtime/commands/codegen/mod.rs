//! `_generated`: what editors and bundlers read to know an app's functions and tables, and those of
//! its components.
//!
//! ```text
//! api          api.js, api.d.ts, api.ts, component.ts: functions   validators  as types
//! server       server.js, server.d.ts, server.ts: builders         layout      lines of 80 columns
//! data_model   dataModel.d.ts, dataModel.ts: tables                order       of names
//! ```
//!
//! In: what is bundled and what the host found in it. Out: files, byte for byte those that
//! `npx convex codegen` writes: a project may use both commands and see no change. Hence the
//! comments in them are the words of the npm package `convex` (Apache-2.0).
//! Invariant: equal apps give equal bytes; a file that would not change is not written, so that
//! watchers and type checkers stay asleep.

mod api;
mod data_model;
mod layout;
mod order;
mod server;
mod validators;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// Name of the folder inside the functions folder.
pub const FOLDER: &str = "_generated";

/// What `convex.json` says about generated files.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct Settings {
    codegen: CodegenSettings,
    #[serde(rename = "generateCommonJSApi")]
    commonjs: bool,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
struct CodegenSettings {
    /// Types of functions are written out, not inferred from the sources.
    static_api: bool,
    /// The same for tables.
    static_data_model: bool,
    /// `ts`, or `js/dts`.
    file_type: Option<String>,
    /// Types of components are written out, not imported from them.
    legacy_component_api: bool,
}

impl Settings {
    /// The settings of the project in `root`; a `convex.json` that does not parse is told by the
    /// bundler.
    pub fn read(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("convex.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// The app, or one of its components.
#[derive(Clone, Debug, Default)]
pub struct Part<'a> {
    /// Definition path; empty for the app.
    pub path: &'a str,
    /// Function files relative to the part's folder: `dir/mod.ts`.
    pub modules: Vec<String>,
    /// Whether there is a schema.
    pub has_schema: bool,
}

/// What the host found, and how components are imported.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// `analysis` of `start_push` (`convex-compat.md` section 6.4), by definition path.
    pub analysis: &'a Value,
    /// The specifier that a component was imported by, by definition path.
    pub specifiers: &'a BTreeMap<String, String>,
}

/// An answer of the host from which nothing can be generated.
#[derive(Debug, Error)]
#[error(
    "The host's answer to start_push cannot be used: {0}. Is it the same version as this command?"
)]
pub struct Unusable(String);

/// One file: its name and its text.
pub type Generated = (&'static str, String);

impl Part<'_> {
    fn is_app(&self) -> bool {
        self.path.is_empty()
    }

    /// One `.ts` file instead of `.js` and `.d.ts`: components always have them.
    fn is_typescript(&self, settings: &Settings) -> bool {
        !self.is_app() || settings.codegen.file_type.as_deref() == Some("ts")
    }
}

/// The files of one part, in the order in which they refer to each other.
///
/// # Errors
/// An answer without what section 6.4 promises.
pub fn files(
    settings: &Settings,
    part: &Part<'_>,
    push: Push<'_>,
) -> Result<Vec<Generated>, Unusable> {
    let typescript = part.is_typescript(settings);
    let analysis = analysis(push, part.path)?;
    let schema = settings.codegen.static_data_model.then(|| &analysis["schema"]);
    let model = match (part.has_schema, schema) {
        (false, _) | (true, Some(Value::Null)) => data_model::without_schema(),
        (true, None) => data_model::inferred(),
        (true, Some(schema)) => data_model::written_out(schema),
    };
    let mut files = vec![(if typescript { "dataModel.ts" } else { "dataModel.d.ts" }, model)];
    if !part.is_app() {
        files.push(("component.ts", api::component(analysis)?));
    }
    let variables = server::Variables::declared(&analysis["definition"]);
    files.extend(server::files(part.is_app(), typescript, &variables));
    files.extend(api::files(settings, part, push)?);
    Ok(files)
}

/// The files that sources import before anything is known of the functions in them.
fn first_files(settings: &Settings, part: &Part<'_>) -> Vec<Generated> {
    let typescript = part.is_typescript(settings);
    let model = if part.has_schema { data_model::inferred() } else { data_model::without_schema() };
    let mut files = vec![(if typescript { "dataModel.ts" } else { "dataModel.d.ts" }, model)];
    files.extend(server::files(part.is_app(), typescript, &server::Variables::Unknown));
    files.extend(api::stubs(settings, typescript));
    files
}

fn analysis<'a>(push: Push<'a>, path: &str) -> Result<&'a Value, Unusable> {
    match &push.analysis[path] {
        Value::Null => Err(Unusable(format!("there is no analysis of component {path:?}"))),
        found => Ok(found),
    }
}

/// Writes what the names of an app's files say, before anything is known of what is in them. What
/// they do not say stays as it is; where the author wants types written out, that is all. Says
/// which files it wrote.
///
/// # Errors
/// A folder or file that cannot be read or written.
pub fn write_early(dir: &Path, settings: &Settings, part: &Part<'_>) -> io::Result<Vec<PathBuf>> {
    let typescript = part.is_typescript(settings);
    let mut files = vec![];
    if !settings.codegen.static_data_model {
        let inferred = part.has_schema;
        let model = if inferred { data_model::inferred() } else { data_model::without_schema() };
        files.push((if typescript { "dataModel.ts" } else { "dataModel.d.ts" }, model));
    }
    if !settings.codegen.static_api {
        let before = match ["convex.config.ts", "convex.config.js"].map(|name| dir.join(name)) {
            [ts, js] if !ts.exists() && !js.exists() => None,
            _ => {
                let name = if typescript { "api.ts" } else { "api.d.ts" };
                Some(fs::read_to_string(dir.join(FOLDER).join(name)).unwrap_or_default())
            }
        };
        files.extend(api::early(settings, part, before.as_deref()));
    }
    write(dir, &files)
}

/// Writes the files that are not there at all, for a part that is bundled for the first time: its
/// sources import them. The push that follows knows the part and writes the true ones. Says which
/// files it wrote.
///
/// # Errors
/// A folder or file that cannot be read or written.
pub fn write_missing(dir: &Path, settings: &Settings, part: &Part<'_>) -> io::Result<Vec<PathBuf>> {
    let folder = dir.join(FOLDER);
    let mut missing = first_files(settings, part);
    missing.retain(|(name, _)| !folder.join(name).exists());
    if missing.is_empty() { Ok(vec![]) } else { write(dir, &missing) }
}

/// Writes what changed below `dir`, and says which files those were.
///
/// # Errors
/// A folder or file that cannot be read or written.
pub fn write(dir: &Path, files: &[Generated]) -> io::Result<Vec<PathBuf>> {
    let folder = dir.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let mut written = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|before| before == text.as_bytes()) {
            continue;
        }
        // Renamed into place: a type checker that looks now sees the old file or the new one.
        let draft = folder.join(format!(".{name}.new"));
        fs::write(&draft, text)?;
        fs::rename(&draft, &path)?;
        written.push(path);
    }
    Ok(written)
}

/// Removes what other settings had generated: `api.js` would hide `api.ts`.
///
/// # Errors
/// A file that cannot be removed.
pub fn remove_stale(dir: &Path, files: &[Generated]) -> io::Result<()> {
    const ALL: [&str; 11] = [
        "api.d.ts",
        "api.js",
        "api.ts",
        "api_cjs.cjs",
        "api_cjs.d.cts",
        "component.ts",
        "dataModel.d.ts",
        "dataModel.ts",
        "server.d.ts",
        "server.js",
        "server.ts",
    ];
    let kept = |name: &&str| files.iter().any(|(kept, _)| kept == name);
    for name in ALL.iter().filter(|name| !kept(name)) {
        match fs::remove_file(dir.join(FOLDER).join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn header(what: &str) -> String {
    format!(
        "/* eslint-disable */\n/**\n * {what}\n *\n * THIS CODE IS AUTOMATICALLY GENERATED.\n *\n \
         * To regenerate, run `npx convex dev`.\n * @module\n */\n\n"
    )
}

/// The comment on one export, with its line break; see `comments.txt`.
fn comment(of: &str) -> &'static str {
    const ALL: &str = include_str!("comments.txt");
    let section = ALL.split("# ").find_map(|section| section.strip_prefix(of)?.strip_prefix('\n'));
    section.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn app(modules: &[&str]) -> Vec<Generated> {
        let modules = modules.iter().map(ToString::to_string).collect();
        let part = Part { path: "", modules, has_schema: true };
        let definition = json!({ "childComponents": [] });
        let analysis = json!({ "": { "definition": definition, "functions": {} } });
        let push = Push { analysis: &analysis, specifiers: &BTreeMap::new() };
        files(&Settings::default(), &part, push).unwrap()
    }

    #[test]
    fn only_what_changed_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let names = |written: Vec<PathBuf>| -> Vec<String> {
            let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            written.into_iter().map(name).collect()
        };
        let all = ["dataModel.d.ts", "server.js", "server.d.ts", "api.js", "api.d.ts"];
        assert_eq!(names(write(folder.path(), &app(&["a.ts"])).unwrap()), all);
        assert!(write(folder.path(), &app(&["a.ts"])).unwrap().is_empty());
        let two = app(&["a.ts", "b.ts"]);
        assert_eq!(names(write(folder.path(), &two).unwrap()), ["api.d.ts"]);
        fs::remove_file(folder.path().join(FOLDER).join("api.js")).unwrap();
        let part = Part { has_schema: true, ..Part::default() };
        write_missing(folder.path(), &Settings::default(), &part).unwrap();
        assert!(write(folder.path(), &two).unwrap().is_empty(), "what was there stayed");
        let left = fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
        assert_eq!(left, all.len(), "no drafts stay");
        fs::write(folder.path().join(FOLDER).join("api.ts"), "").unwrap();
        remove_stale(folder.path(), &two).unwrap();
        assert!(!folder.path().join(FOLDER).join("api.ts").exists());
        assert!(write(folder.path(), &two).unwrap().is_empty(), "nothing else went");
    }

    #[test]
    fn every_comment_is_found_whole() {
        for name in ["Env", "env", "query", "component QueryCtx", "noSchema notice"] {
            let text = comment(name);
            assert!(text.starts_with("/**\n") && text.ends_with(" */\n"), "{name}: {text}");
        }
    }

    #[test]
    fn a_host_that_knows_no_component_is_named() {
        let push = Push { analysis: &json!({}), specifiers: &BTreeMap::new() };
        let part = Part { path: "../x", ..Part::default() };
        let error = files(&Settings::default(), &part, push).unwrap_err();
        assert!(error.to_string().contains("no analysis of component \"../x\""), "{error}");
    }
}
