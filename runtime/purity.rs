//! The proof that contexts of a module may serve many calls: swc's reading of the text, joined with
//! what V8 saw run while it was imported.
//!
//! In: entries of a bundle. Out: nothing, or the place that refuses. Invariant: a module that is
//! imported and cannot be found refuses too.

use std::collections::BTreeSet;
use std::sync::Arc;

use bundler::purity::{self, Impurity};
use database::deployment::Bundle;
use functions::reuse::{Impure, Purity, Ran};

/// Looks at the text of entries and of all that they import.
#[derive(Clone, Copy, Debug)]
pub struct Reader;

impl Purity for Reader {
    fn prove(&self, entries: &[Arc<str>], bundle: &Bundle, ran: &Ran) -> Result<(), Impure> {
        let mut unseen: Vec<String> = entries.iter().map(ToString::to_string).collect();
        let mut seen = BTreeSet::new();
        while let Some(path) = unseen.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            let Some(module) = bundle.modules.get(&*path) else {
                let why = "it is imported, and is no module of the deployment".to_owned();
                return Err(Impure { path, line: 0, column: 0, why });
            };
            let ends = ran.get(&*path).map_or(&[][..], Vec::as_slice);
            let imports = purity::verdict(&path, &module.source, ends).map_err(impure)?;
            unseen.extend(imports.iter().map(|specifier| functions::joined(&path, specifier)));
        }
        Ok(())
    }
}

fn impure(found: Impurity) -> Impure {
    let Impurity { path, line, column, reason } = found;
    Impure { path, line, column, why: reason.to_string() }
}
