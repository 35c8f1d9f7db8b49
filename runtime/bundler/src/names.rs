//! Paths of output modules, within Convex's rule for module paths.
//!
//! In: the included modules of a graph. Out: one path each, below `_deps/` for all but the entries.
//! Invariant: no two modules share a path, and no path depends on where the project lies on this
//! machine or on the order in which threads finished.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::graph::{Graph, ModuleId};
use crate::link::Link;
use crate::package::in_node_modules;
use crate::project::Project;
use crate::resolve::Location;

/// Convex's limit for one component of a path.
const COMPONENT_LENGTH_MAX: usize = 64;

/// Where each included module goes.
pub(crate) struct Names {
    /// ES modules, and the ES interfaces of CommonJS modules.
    paths: BTreeMap<ModuleId, String>,
    /// The code of CommonJS modules.
    bodies: BTreeMap<ModuleId, String>,
    /// The module with the conversions between the two.
    pub(crate) commonjs: String,
    /// The module of everything that was joined.
    pub(crate) shared: String,
}

impl Names {
    /// Assigns paths. `entries` have theirs; the rest goes below `folder` (which ends in `/`).
    pub(crate) fn assign(
        project: &Project,
        link: &Link<'_>,
        entries: &BTreeMap<ModuleId, String>,
        folder: &str,
    ) -> Self {
        let commonjs = format!("{folder}commonjs.js");
        let mut taken: BTreeSet<String> = entries.values().cloned().collect();
        let shared = format!("{folder}shared.js");
        taken.extend([commonjs.clone(), shared.clone()]);
        let (paths, bodies) = (BTreeMap::new(), BTreeMap::new());
        let mut names = Self { paths, bodies, commonjs, shared };
        let mut order: Vec<(String, ModuleId)> =
            link.modules().map(|m| (origin(project, link.graph, m), m)).collect();
        order.sort();
        for (origin, module) in order {
            let parts = components(project, link.graph, module);
            if link.is_commonjs(module) {
                let path = free(&mut taken, folder, &parts, ".cjs.js", &origin);
                names.bodies.insert(module, path);
            }
            let path = match entries.get(&module) {
                Some(path) => path.clone(),
                None => free(&mut taken, folder, &parts, ".js", &origin),
            };
            names.paths.insert(module, path);
        }
        names
    }

    /// Path of an ES module, or of the ES interface of a CommonJS module.
    pub(crate) fn path(&self, module: ModuleId) -> &str {
        self.paths.get(&module).map_or("", String::as_str)
    }

    /// Path of the code of a CommonJS module.
    pub(crate) fn body(&self, module: ModuleId) -> &str {
        self.bodies.get(&module).map_or("", String::as_str)
    }
}

/// A specifier that leads from one output module to another.
pub(crate) fn relative(from: &str, to: &str) -> String {
    let from: Vec<&str> = from.split('/').collect();
    let to: Vec<&str> = to.split('/').collect();
    let folders = from.len() - 1;
    let shared = (0..folders.min(to.len() - 1)).take_while(|&i| from[i] == to[i]).count();
    let up = "../".repeat(folders - shared);
    let up = if up.is_empty() { "./" } else { &up };
    format!("{up}{}", to[shared..].join("/"))
}

/// What a module is called in messages and source maps.
pub(crate) fn origin(project: &Project, graph: &Graph, module: ModuleId) -> String {
    match &graph.modules[module].location {
        Location::File(path) => project.display(path),
        Location::Supplied(supplied) => supplied.name().to_owned(),
        Location::Ignored(path) => format!("{} (replaced with nothing)", project.display(path)),
        Location::Mocked(path) => format!("{} (mocked)", project.display(path)),
        Location::Absent(path) => format!("{} (missing)", project.display(path)),
        Location::Raw(path) => format!("{}?raw", project.display(path)),
    }
}

/// Components of the path below the folder of dependencies, without `.js`.
fn components(project: &Project, graph: &Graph, module: ModuleId) -> Vec<String> {
    let module = &graph.modules[module];
    let (path, suffix) = match &module.location {
        Location::File(path) => (path.as_path(), ""),
        Location::Ignored(path) => (path.as_path(), ".ignored"),
        Location::Mocked(path) => (path.as_path(), ".mocked"),
        Location::Absent(path) => (path.as_path(), ".missing"),
        Location::Raw(path) => (path.as_path(), ".raw"),
        Location::Supplied(supplied) => {
            return vec![supplied.name().trim_end_matches(".js").to_owned()];
        }
    };
    let (folder, rest) = if let Some((_, name, rest)) = in_node_modules(path) {
        let version = module.package.version.as_deref();
        (package_folder(&name, version), rest)
    } else if let Ok(inside) = path.strip_prefix(&project.root) {
        ("app".to_owned(), slashed(inside))
    } else {
        let package = &module.package;
        let name = package.name.as_deref().unwrap_or("outside");
        let inside = path.strip_prefix(&package.dir).unwrap_or(path);
        (package_folder(name, package.version.as_deref()), slashed(inside))
    };
    let stem = match rest.rsplit_once('.') {
        Some((stem, "js" | "mjs" | "cjs" | "jsx" | "ts" | "mts" | "cts" | "tsx")) => stem,
        _ => &rest,
    };
    let rest = format!("{stem}{suffix}");
    std::iter::once(folder).chain(rest.split('/').map(str::to_owned)).collect()
}

fn package_folder(name: &str, version: Option<&str>) -> String {
    format!("{name}_{}", version.unwrap_or("0"))
}

fn slashed(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/").trim_start_matches('/').to_owned()
}

/// The path made of these parts; with a hash of the origin in it if another module has it already.
fn free(
    taken: &mut BTreeSet<String>,
    folder: &str,
    parts: &[String],
    extension: &str,
    origin: &str,
) -> String {
    let make = |suffix: &str| {
        let last = parts.len() - 1;
        let legal = parts.iter().enumerate().map(|(i, part)| match i == last {
            true => component(part, &format!("{suffix}{extension}")),
            false => component(part, ""),
        });
        format!("{folder}{}", legal.collect::<Vec<_>>().join("/"))
    };
    let mut path = make("");
    let mut attempt = 0;
    while !taken.insert(path.clone()) {
        path = make(&format!("_{}", short_hash(&format!("{attempt}{origin}"))));
        attempt += 1;
    }
    path
}

/// One component within the rule: legal characters, one of them alphanumeric, not too long.
fn component(part: &str, suffix: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '_' };
    let mut text: String = part.trim_start_matches('@').chars().map(legal).collect();
    if !text.chars().any(|c| c.is_ascii_alphanumeric()) || text.starts_with('.') {
        text.insert(0, 'x');
    }
    if text.len() + suffix.len() > COMPONENT_LENGTH_MAX {
        let hash = short_hash(part);
        text.truncate(COMPONENT_LENGTH_MAX - suffix.len() - hash.len() - 1);
        text = format!("{text}_{hash}");
    }
    format!("{text}{suffix}")
}

/// 12 hex digits.
fn short_hash(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes())[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_legal_and_short() {
        assert_eq!(component("@scope/name_1.0.0-beta+x", ""), "scope_name_1.0.0_beta_x");
        assert_eq!(component("--", ".js"), "x__.js");
        let long = component(&"y".repeat(100), ".cjs.js");
        assert_eq!(long.len(), 64);
        assert_ne!(long, component(&"y".repeat(101), ".cjs.js"), "hashed, so still distinct");
    }

    #[test]
    fn equal_paths_are_told_apart() {
        let mut taken = BTreeSet::new();
        let parts = ["a".to_owned()];
        let first = free(&mut taken, "_deps/", &parts, ".js", "a-b.js");
        let second = free(&mut taken, "_deps/", &parts, ".js", "a_b.js");
        let third = free(&mut taken, "_deps/", &parts, ".js", "a_b.js");
        assert_eq!(first, "_deps/a.js");
        assert!(second != first && third != second && second.starts_with("_deps/a_"));
    }

    #[test]
    fn specifiers_are_relative() {
        assert_eq!(relative("a.js", "_deps/x/y.js"), "./_deps/x/y.js");
        assert_eq!(relative("_deps/x/y.js", "_deps/x/z.js"), "./z.js");
        assert_eq!(relative("_deps/x/y.js", "a.js"), "../../a.js");
        assert_eq!(relative("dir/a.js", "dir.js"), "../dir.js");
    }
}
