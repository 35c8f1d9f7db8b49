//! Where npm's `deno` is. A module of the benches, not a bench.

use std::path::{Path, PathBuf};

/// The program itself: npm's wrapper would outlive its kill. `None`: it is not installed.
pub fn program() -> Option<PathBuf> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/node_modules/@deno");
    let mut packages = std::fs::read_dir(packages).ok()?;
    packages
        .find_map(|package| Some(package.ok()?.path().join("deno")).filter(|file| file.exists()))
}
