//! Linking: which modules run, which of their exports are used, and where each import really leads.
//!
//! In: a [`Graph`] and its roots. Out: [`Link`]. Invariant: every module that is included has
//! everything included that its code can reach; a module of a package without side effects is
//! included only if something of its own is used (`runtime.md` section 4.3, step 5).

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::{Name, RequestKind};
use crate::graph::{Graph, ModuleId, Target};
use crate::resolve::Location;

/// Name under which a CommonJS module's interface gives `module.exports` to Node-style importers.
pub(crate) const NODE_DEFAULT: &str = "$node_default";
/// The namespace object that `import * as ns` of a CommonJS module gives.
pub(crate) const NAMESPACE: &str = "$namespace";
/// The same for Node-style importers.
pub(crate) const NODE_NAMESPACE: &str = "$node_namespace";

/// Where an import leads, once the modules that only pass it on are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An export of an included module. For CommonJS, an export of its interface.
    Export(ModuleId, String),
    /// The namespace object of an included ES module.
    Namespace(ModuleId),
    /// An export of a module outside the bundle.
    External(String, Name),
    /// Nowhere: the target has no such export.
    Missing,
}

/// How a module comes to have an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Local,
    /// From another module: request and name there.
    From(usize, Name),
}

/// The result of linking some roots of a graph.
pub(crate) struct Link<'g> {
    pub(crate) graph: &'g Graph,
    included: BTreeSet<ModuleId>,
    /// Used exports of ES modules.
    used: BTreeMap<ModuleId, BTreeSet<String>>,
    /// CommonJS modules that ES modules import, with the names their interfaces need.
    pub(crate) interfaces: BTreeMap<ModuleId, BTreeSet<String>>,
    complete: BTreeSet<ModuleId>,
    work: Vec<ModuleId>,
}

impl<'g> Link<'g> {
    /// Links `roots`, all of whose exports count as used.
    pub(crate) fn new(graph: &'g Graph, roots: &[ModuleId]) -> Self {
        let mut link = Link {
            graph,
            included: BTreeSet::new(),
            used: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            complete: BTreeSet::new(),
            work: vec![],
        };
        for &root in roots {
            link.use_root(root);
        }
        while let Some(module) = link.work.pop() {
            link.follow(module);
        }
        link
    }

    pub(crate) fn includes(&self, module: ModuleId) -> bool {
        self.included.contains(&module)
    }

    /// Included modules, by number.
    pub(crate) fn modules(&self) -> impl Iterator<Item = ModuleId> + '_ {
        self.included.iter().copied()
    }

    pub(crate) fn is_commonjs(&self, module: ModuleId) -> bool {
        self.graph.modules[module].compiled.is_commonjs
    }

    /// The module that a request leads to, if it leads into the bundle.
    pub(crate) fn target(&self, module: ModuleId, request: usize) -> Option<ModuleId> {
        match self.graph.modules[module].targets.get(request)? {
            Target::Module(target) => Some(*target),
            Target::External(_) | Target::Component(..) | Target::Missing(_) => None,
        }
    }

    /// Exports of an included ES module that others use.
    pub(crate) fn used(&self, module: ModuleId) -> impl Iterator<Item = &str> {
        self.used.get(&module).into_iter().flatten().map(String::as_str)
    }

    fn use_root(&mut self, root: ModuleId) {
        self.include(root);
        if self.is_commonjs(root) {
            let mut names = self.names(root);
            names.insert("default".to_owned());
            self.interfaces.entry(root).or_default().append(&mut names);
        } else {
            self.use_all(root);
        }
    }

    fn include(&mut self, module: ModuleId) {
        if self.included.insert(module) {
            self.work.push(module);
        }
    }

    /// Includes what an included module reaches.
    fn follow(&mut self, module: ModuleId) {
        let graph = self.graph;
        let tables = &graph.modules[module].compiled.tables;
        for (index, request) in tables.requests.iter().enumerate() {
            let Some(target) = self.target(module, index) else { continue };
            match request.kind {
                RequestKind::Import if graph.modules[target].has_side_effects => {
                    self.include(target);
                    if self.is_commonjs(target) {
                        self.interfaces.entry(target).or_default();
                    }
                }
                RequestKind::Import => {}
                RequestKind::Require if self.is_commonjs(target) => self.include(target),
                RequestKind::Require => self.use_all(target),
                RequestKind::Dynamic => self.use_name(module, index, &Name::Namespace(None)),
            }
        }
        for import in &tables.imports {
            self.use_name(module, import.request, &import.name);
        }
    }

    /// Marks what `name` of a request needs.
    fn use_name(&mut self, module: ModuleId, request: usize, name: &Name) {
        let Some(target) = self.target(module, request) else { return };
        if self.is_commonjs(target) {
            self.include(target);
            let name = interface_name(name, self.has_interop(module, target));
            self.interfaces.entry(target).or_default().insert(name);
            return;
        }
        match name {
            Name::Export(name) => self.use_export(target, name),
            Name::Namespace(None) => self.use_all(target),
            Name::Namespace(Some(members)) => {
                self.include(target);
                for member in members {
                    self.use_export(target, member);
                }
            }
        }
    }

    /// Whether `default` of a CommonJS module is the whole: what stands for a mocked ES module has
    /// its own.
    fn has_interop(&self, module: ModuleId, target: ModuleId) -> bool {
        let is_mocked = matches!(self.graph.modules[target].location, Location::Mocked(_));
        self.graph.modules[module].node_interop && !is_mocked
    }

    fn use_export(&mut self, module: ModuleId, name: &str) {
        if !self.used.entry(module).or_default().insert(name.to_owned()) {
            return;
        }
        match self.origin(module, name) {
            None => {}
            Some(Origin::Local) => self.include(module),
            Some(Origin::From(request, name)) => {
                if self.graph.modules[module].has_side_effects {
                    self.include(module);
                }
                self.use_name(module, request, &name);
            }
        }
    }

    fn use_all(&mut self, module: ModuleId) {
        self.include(module);
        if self.complete.insert(module) {
            for name in self.names(module) {
                self.use_export(module, &name);
            }
        }
    }

    /// How an ES module comes to export `name`.
    pub(crate) fn origin(&self, module: ModuleId, name: &str) -> Option<Origin> {
        self.origin_within(module, name, &mut BTreeSet::new())
    }

    fn origin_within(
        &self,
        module: ModuleId,
        name: &str,
        seen: &mut BTreeSet<ModuleId>,
    ) -> Option<Origin> {
        let tables = &self.graph.modules[module].compiled.tables;
        if tables.locals.iter().any(|(exported, _)| exported == name) {
            return Some(Origin::Local);
        }
        if let Some(found) = tables.reexports.iter().find(|r| r.exported == name) {
            return Some(Origin::From(found.request, found.name.clone()));
        }
        if name == "default" || !seen.insert(module) {
            return None;
        }
        let mut uncertain = None;
        for &star in &tables.stars {
            let found = Origin::From(star, Name::Export(name.to_owned()));
            match self.target(module, star) {
                // What CommonJS exports is known for certain only at run time, so such stars are
                // asked last.
                Some(target) if self.is_commonjs(target) => {
                    if self.commonjs_names(target, &mut BTreeSet::new()).contains(name) {
                        return Some(found);
                    }
                    uncertain = uncertain.or(Some(found));
                }
                Some(target) => {
                    if self.origin_within(target, name, seen).is_some() {
                        return Some(found);
                    }
                }
                None => {
                    let external = matches!(
                        self.graph.modules[module].targets.get(star),
                        Some(Target::External(_) | Target::Component(..))
                    );
                    if external {
                        uncertain = uncertain.or(Some(found));
                    }
                }
            }
        }
        uncertain
    }

    /// Names that a module exports, as far as its text tells.
    pub(crate) fn names(&self, module: ModuleId) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.collect_names(module, &mut names, &mut BTreeSet::new());
        names
    }

    fn collect_names(
        &self,
        module: ModuleId,
        names: &mut BTreeSet<String>,
        seen: &mut BTreeSet<ModuleId>,
    ) {
        if self.is_commonjs(module) {
            names.append(&mut self.commonjs_names(module, &mut BTreeSet::new()));
            return;
        }
        if !seen.insert(module) {
            return;
        }
        let tables = &self.graph.modules[module].compiled.tables;
        names.extend(tables.locals.iter().map(|(exported, _)| exported.clone()));
        names.extend(tables.reexports.iter().map(|r| r.exported.clone()));
        for &star in &tables.stars {
            let Some(target) = self.target(module, star) else { continue };
            let mut more = BTreeSet::new();
            self.collect_names(target, &mut more, seen);
            more.remove("default");
            names.append(&mut more);
        }
    }

    /// Names that a CommonJS module puts on `exports`, those it passes on included.
    fn commonjs_names(&self, module: ModuleId, seen: &mut BTreeSet<ModuleId>) -> BTreeSet<String> {
        let compiled = &self.graph.modules[module].compiled;
        let mut names = compiled.names.clone();
        if seen.insert(module) {
            for specifier in &compiled.passed_on {
                let mut requests = compiled.tables.requests.iter();
                let index = requests
                    .position(|r| r.kind == RequestKind::Require && r.specifier == *specifier);
                let Some(target) = index.and_then(|i| self.target(module, i)) else { continue };
                if self.is_commonjs(target) {
                    names.append(&mut self.commonjs_names(target, seen));
                } else {
                    names.append(&mut self.names(target));
                }
            }
        }
        names.remove("__esModule");
        names.remove("default");
        names
    }

    /// Where `name` of a request of an included module leads.
    pub(crate) fn locate(&self, module: ModuleId, request: usize, name: &Name) -> Place {
        self.locate_within(module, request, name, &mut BTreeSet::new())
    }

    fn locate_within(
        &self,
        module: ModuleId,
        request: usize,
        name: &Name,
        seen: &mut BTreeSet<(ModuleId, String)>,
    ) -> Place {
        let target = match &self.graph.modules[module].targets[request] {
            Target::Module(target) => *target,
            Target::External(specifier) | Target::Component(_, specifier) => {
                return Place::External(specifier.clone(), name.clone());
            }
            Target::Missing(_) => return Place::Missing,
        };
        if self.is_commonjs(target) {
            let interop = self.has_interop(module, target);
            return Place::Export(target, interface_name(name, interop));
        }
        let Name::Export(exported) = name else { return Place::Namespace(target) };
        if !seen.insert((target, exported.clone())) {
            return Place::Missing;
        }
        match self.origin(target, exported) {
            None => Place::Missing,
            Some(Origin::Local) => Place::Export(target, exported.clone()),
            Some(Origin::From(request, name)) => {
                let further = self.locate_within(target, request, &name, seen);
                if self.includes(target) && further != Place::Missing {
                    // The target runs anyway, and runs before what it passes on would be used.
                    Place::Export(target, exported.clone())
                } else {
                    further
                }
            }
        }
    }
}

/// The export of a CommonJS module's interface that stands for what an importer asked for.
fn interface_name(name: &Name, node_interop: bool) -> String {
    match (name, node_interop) {
        (Name::Export(name), true) if name == "default" => NODE_DEFAULT.to_owned(),
        (Name::Export(name), _) => name.clone(),
        (Name::Namespace(_), true) => NODE_NAMESPACE.to_owned(),
        (Name::Namespace(_), false) => NAMESPACE.to_owned(),
    }
}
