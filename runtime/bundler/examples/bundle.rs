//! Bundles a project into a folder, to look at or to run in Node.
//!
//! In: `DIR OUTDIR`. Out: the modules as files, and a line with counts and times. Invariant:
//! `OUTDIR` holds what a push would send, nothing else.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command")]

use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs, process};

use bundler::{Bundler, Project};

fn main() {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [dir, out] = &arguments[..] else {
        eprintln!("usage: bundle DIR OUTDIR");
        process::exit(2);
    };
    if let Err(message) = run(dir, out) {
        eprintln!("{message}");
        process::exit(1);
    }
}

fn run(dir: &Path, out: &Path) -> Result<(), String> {
    let project = Project::find(dir).map_err(|e| e.to_string())?;
    let mut bundler = Bundler::new();
    let start = Instant::now();
    let output = bundler.bundle(&project).map_err(|e| e.to_string())?;
    let cold = start.elapsed();
    let start = Instant::now();
    let again = bundler.bundle(&project).map_err(|e| e.to_string())?;
    let warm = start.elapsed();
    assert_eq!(output.modules, again.modules, "the same input gives the same bytes");
    let modules = output.modules.iter().chain(&output.schema).chain(&output.definition);
    let mut bytes = 0;
    for module in modules {
        let path = out.join(&module.path);
        let folder = path.parent().unwrap_or(out);
        let write = |path: &Path, text: &str| fs::write(path, text).map_err(|e| e.to_string());
        fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        write(&path, &module.source)?;
        if let Some(map) = &module.source_map {
            write(&path.with_extension("js.map"), map)?;
        }
        bytes += module.source.len();
    }
    println!(
        "{} modules, {bytes} bytes, {} files compiled; cold {cold:?}, again {warm:?}",
        output.modules.len(),
        output.compiled
    );
    Ok(())
}
