//! Packages: the `package.json` that governs a file, and what it says about type and side effects.
//!
//! In: file paths. Out: [`Package`]. Invariant: the nearest `package.json` upwards decides, as in
//! Node.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// What bundling needs to know of one `package.json`.
#[derive(Debug, Default)]
pub(crate) struct Package {
    /// Folder of the `package.json`.
    pub(crate) dir: PathBuf,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    /// `"type": "module"`.
    pub(crate) is_module: bool,
    side_effects: SideEffects,
    /// Folder that the patterns of `sideEffects` start from.
    side_effects_dir: PathBuf,
}

#[derive(Debug, Default)]
enum SideEffects {
    /// Nothing is said: every module may have some.
    #[default]
    Everywhere,
    Nowhere,
    /// Only files that match one of the patterns.
    In(Vec<String>),
}

impl Package {
    fn read(dir: &Path) -> Option<Self> {
        let text = fs::read_to_string(dir.join("package.json")).ok()?;
        let json: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()?;
        let string = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let side_effects = match json.get("sideEffects") {
            Some(Value::Bool(false)) => SideEffects::Nowhere,
            Some(Value::String(one)) => SideEffects::In(vec![one.clone()]),
            Some(Value::Array(list)) => {
                SideEffects::In(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            _ => SideEffects::Everywhere,
        };
        Some(Self {
            dir: dir.to_owned(),
            name: string("name"),
            version: string("version"),
            is_module: json.get("type").and_then(Value::as_str) == Some("module"),
            side_effects,
            side_effects_dir: dir.to_owned(),
        })
    }

    /// Whether importing this file may do something besides defining its exports.
    pub(crate) fn has_side_effects(&self, file: &Path) -> bool {
        let patterns = match &self.side_effects {
            SideEffects::Everywhere => return true,
            SideEffects::Nowhere => return false,
            SideEffects::In(patterns) => patterns,
        };
        let Ok(inside) = file.strip_prefix(&self.side_effects_dir) else { return true };
        let inside = inside.to_string_lossy().replace('\\', "/");
        patterns.iter().any(|pattern| {
            let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
            if pattern.contains('/') {
                matches_glob(pattern, &inside)
            } else {
                // As webpack does: a bare name matches in every folder.
                matches_glob(pattern, inside.rsplit('/').next().unwrap_or(&inside))
            }
        })
    }
}

/// `*` stands for characters but `/`, `**` for anything, `?` for one character.
fn matches_glob(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', b'/', rest @ ..] => {
                go(rest, text)
                    || (0..text.len()).any(|i| text[i] == b'/' && go(rest, &text[i + 1..]))
            }
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|i| go(rest, &text[i..])),
            [b'*', rest @ ..] => (0..=text.len())
                .take_while(|&i| i == 0 || text[i - 1] != b'/')
                .any(|i| go(rest, &text[i..])),
            [b'?', rest @ ..] => text.first().is_some_and(|&c| c != b'/') && go(rest, &text[1..]),
            [c, rest @ ..] => text.first() == Some(c) && go(rest, &text[1..]),
        }
    }
    go(pattern.as_bytes(), text.as_bytes())
}

/// Remembers the packages of one bundling run.
#[derive(Default)]
pub(crate) struct Packages {
    by_dir: Mutex<BTreeMap<PathBuf, Arc<Package>>>,
}

impl Packages {
    /// The package that governs `file`; an empty one where there is none.
    pub(crate) fn of(&self, file: &Path) -> Arc<Package> {
        let dir = file.parent().unwrap_or(file);
        if let Some(known) = self.known(dir) {
            return known;
        }
        let package = Arc::new(self.find(file, dir));
        let mut by_dir = self.by_dir.lock().unwrap_or_else(PoisonError::into_inner);
        by_dir.insert(dir.to_owned(), Arc::clone(&package));
        package
    }

    fn find(&self, file: &Path, dir: &Path) -> Package {
        let mut package = dir.ancestors().find_map(Package::read).unwrap_or_default();
        // Packages put a bare {"type": "module"} into subfolders; what they say of themselves
        // stands in the folder that was installed.
        if let Some((root, ..)) = in_node_modules(file)
            && root != package.dir
            && root != dir
            && package.name.is_none()
        {
            let outer = Package::read(&root).unwrap_or_default();
            package.name = outer.name;
            package.version = outer.version;
            if matches!(package.side_effects, SideEffects::Everywhere) {
                package.side_effects = outer.side_effects;
                package.side_effects_dir = outer.side_effects_dir;
            }
        }
        package
    }

    fn known(&self, dir: &Path) -> Option<Arc<Package>> {
        self.by_dir.lock().unwrap_or_else(PoisonError::into_inner).get(dir).cloned()
    }
}

/// The part of a path below the last `node_modules`: package folder, package name, rest.
pub(crate) fn in_node_modules(file: &Path) -> Option<(PathBuf, String, String)> {
    let parts: Vec<_> = file.components().collect();
    let at = parts.iter().rposition(|part| part.as_os_str() == "node_modules")?;
    let text = |i: usize| parts.get(i).map(|part| part.as_os_str().to_string_lossy().into_owned());
    let first = text(at + 1)?;
    let (name, used) = match first.starts_with('@') {
        true => (format!("{first}/{}", text(at + 2)?), 2),
        false => (first, 1),
    };
    let dir = parts.iter().take(at + 1 + used).collect();
    let rest = (at + 1 + used..parts.len()).filter_map(text).collect::<Vec<_>>().join("/");
    Some((dir, name, rest))
}

/// The version of an installed package as seen from a folder.
pub(crate) fn installed_version(from: &Path, name: &str) -> Option<String> {
    from.ancestors().find_map(|dir| {
        let package = Package::read(&dir.join("node_modules").join(name))?;
        package.version
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn side_effect_patterns_match_as_in_webpack() {
        for (pattern, text, expected) in [
            ("*.css", "a.css", true),
            ("src/*.js", "src/a.js", true),
            ("src/*.js", "src/deep/a.js", false),
            ("src/**/*.js", "src/a.js", true),
            ("src/**/*.js", "src/x/y/a.js", true),
            ("**/a.js", "x/a.js", true),
            ("a?.js", "ab.js", true),
        ] {
            assert_eq!(matches_glob(pattern, text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn scoped_packages_keep_their_scope() {
        let path = Path::new("/p/node_modules/.pnpm/x/node_modules/@s/n/lib/a.js");
        let (dir, name, rest) = in_node_modules(path).unwrap();
        assert_eq!(dir, Path::new("/p/node_modules/.pnpm/x/node_modules/@s/n"));
        assert_eq!((name.as_str(), rest.as_str()), ("@s/n", "lib/a.js"));
        assert_eq!(in_node_modules(Path::new("/p/convex/a.ts")), None);
    }
}
