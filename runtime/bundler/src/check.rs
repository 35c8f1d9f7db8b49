//! What is wrong with the included part of a graph.
//!
//! In: a [`Link`]. Out: errors with file, frame, import chain and cure. Invariant: modules that
//! were pruned cannot fail a bundle; of the rest every fault is reported.

use crate::compile::{Name, RequestKind};
use crate::error::{BundleError, closest};
use crate::graph::{ModuleId, Target};
use crate::link::{Link, Origin, Place};
use crate::names::origin;
use crate::project::Project;

/// Finds the faults of every included module.
pub(crate) fn check(project: &Project, link: &Link<'_>) -> Vec<BundleError> {
    faults(project, link).into_iter().flat_map(|(_, errors)| errors).collect()
}

/// The included modules that have faults, and those.
pub(crate) fn faults(project: &Project, link: &Link<'_>) -> Vec<(ModuleId, Vec<BundleError>)> {
    let faults = |module| (module, Checker { project, link, module }.errors());
    link.modules().map(faults).filter(|(_, errors)| !errors.is_empty()).collect()
}

struct Checker<'a> {
    project: &'a Project,
    link: &'a Link<'a>,
    module: ModuleId,
}

impl Checker<'_> {
    fn errors(&self) -> Vec<BundleError> {
        let module = &self.link.graph.modules[self.module];
        if let Some(message) = &module.unreadable {
            return vec![self.error(message.clone(), None)];
        }
        let issues = module.compiled.issues.iter().map(|issue| {
            let mut error = self.error(issue.message.clone(), Some(issue.offset));
            error.help = issue.help.map(str::to_owned);
            error
        });
        let mut errors: Vec<_> = issues.collect();
        let requests = &module.compiled.tables.requests;
        for (request, target) in requests.iter().zip(&module.targets) {
            let Target::Missing(missing) = target else { continue };
            if request.optional && request.kind != RequestKind::Import {
                continue; // It throws at run time, and the code is prepared for that.
            }
            let mut error = self.error(missing.message.clone(), request.offset);
            error.help.clone_from(&missing.help);
            errors.push(error);
        }
        errors.extend(self.missing_exports());
        errors
    }

    fn missing_exports(&self) -> Vec<BundleError> {
        let module = &self.link.graph.modules[self.module];
        let mut wanted: Vec<(usize, &Name, Option<usize>)> =
            module.compiled.tables.imports.iter().map(|i| (i.request, &i.name, i.offset)).collect();
        let requests = &module.compiled.tables.requests;
        // In TypeScript a re-exported name without a value behind it is a type.
        if !module.is_typescript {
            let reexports = module.compiled.tables.reexports.iter();
            let used: Vec<&str> = self.link.used(self.module).collect();
            wanted.extend(
                reexports
                    .filter(|r| used.contains(&r.exported.as_str()))
                    .map(|r| (r.request, &r.name, requests[r.request].offset)),
            );
        }
        let found = wanted.into_iter().filter_map(|(request, name, offset)| {
            let Name::Export(exported) = name else { return None };
            let target = self.link.target(self.module, request)?;
            let place = self.link.locate(self.module, request, name);
            let broken = !self.link.graph.modules[target].compiled.issues.is_empty()
                || self.link.graph.modules[target].unreadable.is_some();
            // A type that is imported and re-exported somewhere on the way looks like a value.
            let passed_on = matches!(
                self.link.origin(target, exported),
                Some(Origin::From(..)) if self.link.graph.modules[target].is_typescript
            );
            (place == Place::Missing && !broken && !passed_on)
                .then(|| self.no_export(offset, target, exported))
        });
        found.collect()
    }

    fn no_export(&self, offset: Option<usize>, target: ModuleId, name: &str) -> BundleError {
        let file = origin(self.project, self.link.graph, target);
        let error =
            self.error(format!("No matching export in \"{file}\" for import \"{name}\""), offset);
        let names = self.link.names(target);
        match closest(name, names.iter().map(String::as_str)) {
            Some(near) => error.help(format!("Did you mean to import \"{near}\" instead?")),
            None => error,
        }
    }

    fn error(&self, message: String, offset: Option<usize>) -> BundleError {
        let graph = self.link.graph;
        let mut error = BundleError::in_file(origin(self.project, graph, self.module), message);
        if let Some(offset) = offset {
            let text = graph.modules[self.module].text.trim_start_matches('\u{feff}');
            error = error.at(text, offset);
        }
        let chain: Vec<_> =
            graph.chain(self.module).map(|m| origin(self.project, graph, m)).collect();
        if chain.len() > 1 {
            error.import_chain = chain;
        }
        error
    }
}
