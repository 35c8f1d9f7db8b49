//! `.env.local`: where `dev` writes how to reach its host, and the other commands look.
//!
//! In: a project folder. Out: the two variables that Convex's own command line reads too, and the
//! two that the app's page reads, under the names its framework passes on to browsers.
//! Invariant: lines that are not ours stay as they are, byte for byte.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The variable that holds the host's address.
pub const URL: &str = "CONVEX_SELF_HOSTED_URL";
/// The variable that holds the operator's secret.
pub const ADMIN_KEY: &str = "CONVEX_SELF_HOSTED_ADMIN_KEY";
/// The file's name.
pub const FILE: &str = ".env.local";

/// What the page of an app calls the host's address, and that of its HTTP actions, by the package
/// that shows how the page is built. The first that the app depends on counts.
/// Source: what `npx convex dev` writes.
const PAGE: [(&str, [&str; 2]); 7] = [
    ("react-scripts", ["REACT_APP_CONVEX_URL", "REACT_APP_CONVEX_SITE_URL"]),
    ("next", ["NEXT_PUBLIC_CONVEX_URL", "NEXT_PUBLIC_CONVEX_SITE_URL"]),
    ("expo", ["EXPO_PUBLIC_CONVEX_URL", "EXPO_PUBLIC_CONVEX_SITE_URL"]),
    ("@sveltejs/kit", ["PUBLIC_CONVEX_URL", "PUBLIC_CONVEX_SITE_URL"]),
    ("@tanstack/start", VITE),
    ("@tanstack/react-start", VITE),
    ("vite", VITE),
];
const VITE: [&str; 2] = ["VITE_CONVEX_URL", "VITE_CONVEX_SITE_URL"];
/// For every other app.
const PLAIN: [&str; 2] = ["CONVEX_URL", "CONVEX_SITE_URL"];

/// What a `.env.local` says about a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Address of the host.
    pub url: Option<String>,
    /// The operator's secret.
    pub admin_key: Option<String>,
}

/// Reads the file of a project folder; one that is not there says nothing.
pub fn read(folder: &Path) -> Recorded {
    let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    let value = |name| text.lines().rev().find_map(|line| value_of(line, name));
    Recorded { url: value(URL), admin_key: value(ADMIN_KEY) }
}

/// What is written about a host.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    /// Address of the host.
    pub url: &'a str,
    /// Address of its HTTP actions.
    pub site_url: &'a str,
    /// The operator's secret.
    pub admin_key: &'a str,
}

/// Writes the variables, where they are not there already. Gives the file's path.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write(folder: &Path, host: Reach<'_>) -> io::Result<PathBuf> {
    let path = folder.join(FILE);
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let [page_url, page_site_url] = page_names(folder, &before);
    let variables = [
        (URL, host.url),
        (ADMIN_KEY, host.admin_key),
        (page_url, host.url),
        (page_site_url, host.site_url),
    ];
    let after = with(&before, &variables);
    if after != before {
        // The key is a secret: for its owner's eyes, where the file is new.
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path)?.write_all(after.as_bytes())?;
    }
    Ok(path)
}

/// The names that the file has already, else those of the framework that package.json asks for.
fn page_names(folder: &Path, written: &str) -> [&'static str; 2] {
    let known = PAGE.iter().map(|(_, names)| *names).chain([PLAIN]);
    let is_there = |name| written.lines().any(|line| value_of(line, name).is_some());
    if let Some(names) = known.into_iter().find(|[url, _]| is_there(url)) {
        return names;
    }
    let text = fs::read_to_string(folder.join("package.json")).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let asks_for = |name| {
        ["dependencies", "devDependencies"].into_iter().any(|of| package[of].get(name).is_some())
    };
    PAGE.iter().find(|(name, _)| asks_for(name)).map_or(PLAIN, |(_, names)| *names)
}

/// The text with each variable set, in place where it was, else at the end.
fn with(text: &str, variables: &[(&str, &str)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (name, value) in variables {
        let line = format!("{name}='{value}'");
        let mut of_this = lines.iter_mut().filter(|line| value_of(line, name).is_some());
        match of_this.next_back() {
            Some(old) => *old = line,
            None => lines.push(line),
        }
    }
    lines.join("\n") + "\n"
}

/// The value, if the line sets this variable.
fn value_of(line: &str, name: &str) -> Option<String> {
    let line = line.trim_start();
    let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    if key.trim() != name {
        return None;
    }
    let value = value.trim();
    let unquoted = ['\'', '"']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.split_once(quote).map(|(inner, _)| inner));
    Some(unquoted.unwrap_or_else(|| value.split(" #").next().unwrap_or(value).trim()).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Reach<'_> = Reach {
        url: "http://127.0.0.1:1",
        site_url: "http://127.0.0.1:2",
        admin_key: "concave|ab",
    };

    #[test]
    fn a_page_finds_the_host_under_the_name_its_framework_passes_on() {
        let written = |package: &str, before: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("package.json"), package).unwrap();
            fs::write(folder.path().join(FILE), before).unwrap();
            fs::read_to_string(write(folder.path(), HOST).unwrap()).unwrap()
        };
        let vite = r#"{"devDependencies": {"vite": "8"}, "dependencies": {"convex": "1"}}"#;
        let text = written(vite, "A=1\n");
        assert!(text.starts_with("A=1\n"), "{text}");
        assert!(text.contains("\nVITE_CONVEX_URL='http://127.0.0.1:1'\n"), "{text}");
        assert!(text.contains("\nVITE_CONVEX_SITE_URL='http://127.0.0.1:2'\n"), "{text}");
        // Next.js counts before Vite, which many packages bring along.
        let next = r#"{"devDependencies": {"vite": "8"}, "dependencies": {"next": "16"}}"#;
        let text = written(next, "");
        assert!(text.contains("NEXT_PUBLIC_CONVEX_URL=") && !text.contains("VITE"), "{text}");
        // The name that is there stays the name.
        let text = written(vite, "CONVEX_URL=http://old\n");
        assert!(text.starts_with("CONVEX_URL='http://127.0.0.1:1'\n"), "{text}");
        assert!(!text.contains("VITE"), "{text}");
        assert!(written("no json", "").contains("\nCONVEX_URL='http://127.0.0.1:1'\n"));
    }

    #[test]
    fn other_lines_stay_and_ours_are_replaced_in_place() {
        let before = "# mine\nA=1\nCONVEX_SELF_HOSTED_URL=\"http://old\" # note\nB = 2";
        let after = with(before, &[(URL, "http://new"), (ADMIN_KEY, "k|1")]);
        let expected = "# mine\nA=1\nCONVEX_SELF_HOSTED_URL='http://new'\nB = 2\n\
                        CONVEX_SELF_HOSTED_ADMIN_KEY='k|1'\n";
        assert_eq!(after, expected);
        assert_eq!(with(&after, &[(URL, "http://new")]), after, "writing again changes nothing");
    }

    #[test]
    fn values_are_read_in_every_way_they_are_written() {
        let read = |line| value_of(line, URL);
        for line in [
            "CONVEX_SELF_HOSTED_URL=http://a",
            "CONVEX_SELF_HOSTED_URL = 'http://a'",
            "export CONVEX_SELF_HOSTED_URL=\"http://a\"  # here",
            "  CONVEX_SELF_HOSTED_URL=http://a # here",
        ] {
            assert_eq!(read(line).as_deref(), Some("http://a"), "{line}");
        }
        assert_eq!(read("# CONVEX_SELF_HOSTED_URL=http://a"), None);
        assert_eq!(read("CONVEX_SELF_HOSTED_URL_2=http://a"), None);
    }

    #[test]
    fn what_was_written_is_read_back_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), Recorded::default());
        let path = write(folder.path(), HOST).unwrap();
        let recorded = read(folder.path());
        assert_eq!(recorded.url.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(recorded.admin_key.as_deref(), Some("concave|ab"));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
    }
}
