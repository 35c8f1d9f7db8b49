//! The project on disk: where its functions are, which files are entries, where each one runs.
//!
//! In: a folder. Out: [`Project`] and its [`Entries`]. Invariant: the same files are entries, and
//! run in the same environment, as with Convex's own command line (`runtime.md` section 4.1).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::BundleError;

/// A project: the folder with `package.json` and the folder with the functions in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Folder with `package.json`.
    pub root: PathBuf,
    /// Folder with the functions, `convex` unless `convex.json` says otherwise.
    pub functions_dir: PathBuf,
    /// Packages that `"use node"` files import at run time instead of carrying them; `*` is all.
    pub external_packages: Vec<String>,
}

/// The part of `convex.json` that bundling reads.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ConvexJson {
    functions: Option<String>,
    node: NodeSettings,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeSettings {
    external_packages: Vec<String>,
}

impl Project {
    /// Finds the project that `dir` is, or is the functions folder of.
    ///
    /// # Errors
    /// A folder that does not exist, a `convex.json` that does not parse, no functions folder.
    #[expect(clippy::result_large_err, reason = "once per run")]
    pub fn find(dir: &Path) -> Result<Self, BundleError> {
        let dir = fs::canonicalize(dir).map_err(|e| {
            BundleError::new(format!("Cannot open the folder {}: {e}", dir.display()))
        })?;
        let is_root =
            |d: &Path| d.join("convex.json").is_file() || d.join("package.json").is_file();
        let root = dir.ancestors().find(|d| is_root(d)).unwrap_or(&dir).to_owned();
        let config = read_convex_json(&root)?;
        let functions_dir = root.join(config.functions.as_deref().unwrap_or("convex"));
        let functions_dir = match fs::canonicalize(&functions_dir) {
            Ok(found) if found.is_dir() => found,
            // A bare folder of functions without package.json around it.
            _ if root == dir && dir.file_name().is_some_and(|n| n == "convex") => {
                let parent = dir.parent().unwrap_or(&dir).to_owned();
                return Ok(Self { root: parent, functions_dir: dir, external_packages: vec![] });
            }
            _ => {
                return Err(BundleError::new(format!(
                    "There is no functions folder at {}",
                    functions_dir.display()
                ))
                .help(
                    "Create it, or name another one in convex.json: \
                     {\"functions\": \"src/convex\"}",
                ));
            }
        };
        Ok(Self { root, functions_dir, external_packages: config.node.external_packages })
    }

    /// Files of the root that say how to bundle, whether they are there or not.
    pub fn settings(&self) -> [PathBuf; 3] {
        ["package.json", "convex.json", "tsconfig.json"].map(|name| self.root.join(name))
    }

    /// A path as messages and source maps show it: relative to the root, with `/`.
    pub(crate) fn display(&self, path: &Path) -> String {
        let shown = match path.strip_prefix(&self.root) {
            Ok(inside) => inside.to_owned(),
            Err(_) => relative_path(&self.root, path),
        };
        shown.to_string_lossy().replace('\\', "/")
    }

    /// The function files, relative to their folder: `dir/messages.ts`. `None` where they cannot be
    /// listed; bundling says why.
    pub fn modules(&self) -> Option<Vec<String>> {
        let entries = self.entries().ok()?;
        let path = |entry: Entry| {
            let path = relative_path(&self.functions_dir, &entry.file);
            path.to_string_lossy().replace('\\', "/")
        };
        Some(entries.functions.into_values().map(path).collect())
    }

    /// Lists what to bundle.
    ///
    /// # Errors
    /// Folders that cannot be read, and files where Convex forbids them.
    pub(crate) fn entries(&self) -> Result<Entries, Vec<BundleError>> {
        let mut walk = Walk { project: self, entries: Entries::default(), errors: vec![] };
        walk.folder(&self.functions_dir, "");
        let mut entries = walk.entries;
        let mut errors = walk.errors;
        entries.schema = self.first_of(&["schema.ts", "schema.js"]);
        entries.auth_config = self.first_of(&["auth.config.ts", "auth.config.js"]);
        if self.functions_dir.join("auth.config.ts").exists()
            && self.functions_dir.join("auth.config.js").exists()
        {
            errors.push(BundleError::new(
                "Found both auth.config.js and auth.config.ts, choose one.",
            ));
        }
        if errors.is_empty() { Ok(entries) } else { Err(errors) }
    }

    fn first_of(&self, names: &[&str]) -> Option<PathBuf> {
        names.iter().map(|name| self.functions_dir.join(name)).find(|path| path.is_file())
    }
}

#[expect(clippy::result_large_err, reason = "once per run")]
fn read_convex_json(root: &Path) -> Result<ConvexJson, BundleError> {
    let path = root.join("convex.json");
    match fs::read_to_string(&path) {
        Err(_) => Ok(ConvexJson::default()),
        Ok(text) => serde_json::from_str(&text).map_err(|e| {
            BundleError::in_file("convex.json", format!("This file does not parse: {e}"))
        }),
    }
}

/// `to` as seen from the folder `from`; both absolute.
pub(crate) fn relative_path(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| PathBuf::from(".."));
    up.chain(to.components().skip(shared).map(|c| PathBuf::from(c.as_os_str()))).collect()
}

/// What a project asks to have bundled.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Function files by module path (`dir/messages.js`).
    pub(crate) functions: BTreeMap<String, Entry>,
    pub(crate) schema: Option<PathBuf>,
    pub(crate) auth_config: Option<PathBuf>,
}

/// One function file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) file: PathBuf,
    /// `"use node"`.
    pub(crate) node: bool,
}

struct Walk<'a> {
    project: &'a Project,
    entries: Entries,
    errors: Vec<BundleError>,
}

impl Walk<'_> {
    /// Visits one folder; `prefix` is its path below the functions folder, empty or ending in `/`.
    fn folder(&mut self, dir: &Path, prefix: &str) {
        let mut names = match fs::read_dir(dir) {
            Ok(list) => list.filter_map(Result::ok).collect::<Vec<_>>(),
            Err(e) => {
                let shown = self.project.display(dir);
                self.errors.push(BundleError::new(format!("Cannot read the folder {shown}: {e}")));
                return;
            }
        };
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            let path = entry.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()).map(str::to_owned) else {
                continue;
            };
            if path.is_dir() {
                // A nested component is bundled as itself, never as part of the app.
                let skipped = (prefix.is_empty() && name == "_generated")
                    || name == "node_modules"
                    || path.join("convex.config.ts").exists();
                if !skipped {
                    self.folder(&path, &format!("{prefix}{name}/"));
                }
            } else if path.is_file() {
                self.file(&path, prefix, &name);
            }
        }
    }

    fn file(&mut self, path: &Path, prefix: &str, name: &str) {
        const EXTENSIONS: [&str; 8] = ["js", "mjs", "cjs", "ts", "tsx", "mts", "cts", "jsx"];
        let shown = self.project.display(path);
        let Some((stem, extension)) = name.rsplit_once('.') else { return };
        if prefix.starts_with("_deps/") {
            self.errors.push(BundleError::in_file(
                shown,
                "The \"_deps\" directory is reserved for dependencies. \
                 Please move your code to another directory.",
            ));
            return;
        }
        let skipped = !EXTENSIONS.contains(&extension)
            || stem.is_empty()
            || name.starts_with(['.', '#'])
            || matches!(name, "schema.ts" | "schema.js")
            || stem.contains('.')
            || format!("{prefix}{name}").contains(' ');
        if skipped {
            return;
        }
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => {
                self.errors.push(BundleError::in_file(shown, format!("Cannot read the file: {e}")));
                return;
            }
        };
        if matches!(extension, "ts" | "tsx") && !has_module_line(&text) {
            return;
        }
        self.entry(path, &format!("{prefix}{stem}"), has_use_node(&text));
    }

    fn entry(&mut self, path: &Path, stem: &str, node: bool) {
        let shown = self.project.display(path);
        if node && matches!(stem, "http" | "crons" | "schema" | "auth.config") {
            let message = "\"use node\" directive is not allowed in this file.";
            self.errors.push(BundleError::in_file(shown, message));
            return;
        }
        if !node && stem.starts_with("actions/") {
            self.errors.push(
                BundleError::in_file(
                    shown,
                    "This file is in the actions/ folder but has no \"use node\" directive.",
                )
                .help("Add \"use node\"; as its first line, or move it to another folder."),
            );
            return;
        }
        if let Some(bad) = stem.split('/').find(|part| !is_legal_component(part)) {
            self.errors.push(
                BundleError::in_file(
                    shown,
                    format!("{bad} is not a valid path component of a Convex module."),
                )
                .help(
                    "Names of function files have at most 64 characters, all of them letters, \
                     digits, underscores or periods.",
                ),
            );
            return;
        }
        let module = format!("{stem}.js");
        if let Some(other) = self.entries.functions.get(&module) {
            let other = self.project.display(&other.file);
            self.errors.push(BundleError::in_file(
                shown,
                format!("Both this file and {other} would become the module {module}."),
            ));
            return;
        }
        self.entries.functions.insert(module, Entry { file: path.to_owned(), node });
    }
}

/// Convex's rule for one component of a module path, the `.js` of the last one included.
pub(crate) fn is_legal_component(part: &str) -> bool {
    part.len() <= 61
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
        && part.chars().any(|c| c.is_ascii_alphanumeric())
}

/// Whether a line starts with `import` or `export`: what makes a TypeScript file a module.
fn has_module_line(text: &str) -> bool {
    text.lines().map(str::trim_start).any(|l| l.starts_with("import") || l.starts_with("export"))
}

/// Whether the directives at the head of a file contain `"use node"`.
pub(crate) fn has_use_node(text: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        if rest.starts_with("//") || rest.starts_with("#!") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, after)| after);
        } else if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
            let Some((directive, after)) = rest[1..].split_once(quote) else { return false };
            if directive == "use node" {
                return true;
            }
            rest = after;
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_node_is_a_directive_not_a_string() {
        assert!(has_use_node("// hi\n/* x */ 'use strict'; \"use node\";\nimport 'a'"));
        assert!(has_use_node("'use node'"));
        assert!(!has_use_node("import 'a';\n\"use node\""));
        assert!(!has_use_node("const x = 'use node'"));
    }

    #[test]
    fn entries_follow_convex_rules() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("package.json", "{}");
        write("convex.json", r#"{"functions":"src/fns","node":{"externalPackages":["sharp"]}}"#);
        for name in ["a.ts", "b.test.ts", ".c.ts", "#d.ts", "schema.ts", "deep/e.js", "f.json"] {
            write(&format!("src/fns/{name}"), "export {}");
        }
        write("src/fns/_generated/api.js", "export {}");
        write("src/fns/auth.config.ts", "export default {}");
        write("src/fns/notes.ts", "const x = 1;");
        write("src/fns/node.ts", "'use node';\nexport {}");
        write("src/fns/part/convex.config.ts", "export {}");
        write("src/fns/part/inner.ts", "export {}");
        let project = Project::find(dir.path()).unwrap();
        assert_eq!(project.external_packages, ["sharp"]);
        let entries = project.entries().unwrap();
        let listed: Vec<_> = entries.functions.iter().map(|(m, e)| (m.as_str(), e.node)).collect();
        assert_eq!(listed, [("a.js", false), ("deep/e.js", false), ("node.js", true)]);
        assert!(entries.schema.is_some() && entries.auth_config.is_some());
        assert_eq!(Project::find(&dir.path().join("src/fns")).unwrap(), project);
    }

    #[test]
    fn illegal_names_and_places_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let convex = dir.path().join("convex");
        fs::create_dir_all(convex.join("_deps")).unwrap();
        for name in ["my-file.ts", "_deps/x.ts", "a.ts", "a.js"] {
            fs::write(convex.join(name), "export {}").unwrap();
        }
        fs::write(convex.join("http.ts"), "'use node'; export {}\nexport {}").unwrap();
        fs::write(dir.path().join("package.json"), "{}").unwrap();
        let errors = Project::find(dir.path()).unwrap().entries().unwrap_err();
        let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for part in ["my-file is not", "reserved", "would become the module a.js", "not allowed"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
