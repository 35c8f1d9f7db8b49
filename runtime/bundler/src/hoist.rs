//! One module out of many: the ES modules of packages without side effects share a scope.
//!
//! In: a [`Link`]. Out: [`Hoisted`], a module that holds the statements of its members in the order
//! ES would evaluate them. Invariant: a member reaches only members, so no import leads out of the
//! module and back; names that clash are renamed by swc's `hygiene`, which knows every scope.
//! Why: every ES module costs each fresh context a dozen heap objects besides those of its code.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use deno_ast::swc::ast::*;
use deno_ast::swc::atoms::Atom;
use deno_ast::swc::common::source_map::SourceMapGenConfig;
use deno_ast::swc::common::sync::Lrc;
use deno_ast::swc::common::{
    DUMMY_SP, FileName, GLOBALS, Globals, Mark, SourceMap, Span, SyntaxContext,
};
use deno_ast::swc::ecma_visit::{VisitMut, VisitMutWith};
use deno_ast::swc::transforms::{fixer, hygiene, resolver};
use deno_ast::swc::utils::find_pat_ids;
use deno_ast::swc::{codegen, parser};
use sha2::{Digest, Sha256};

use crate::compile::{Name, RequestKind};
use crate::define::Production;
use crate::emit::{shows_text, source_name};
use crate::family::defer;
use crate::graph::{Cache, ModuleId};
use crate::inline::{constant, default_declaration};
use crate::link::{Link, Origin, Place};
use crate::names::origin;
use crate::project::Project;
use crate::prune::prune;
use crate::resolve::Location;
use crate::same::merge;
use crate::tables::export_name;

/// An export, by the module that declares it and the name it has there.
pub(crate) type Home = (ModuleId, String);

/// The members of a bundle's one shared module.
pub(crate) struct Hoisted {
    members: BTreeSet<ModuleId>,
    /// Exports that modules outside use, each with its name in the shared module.
    exports: BTreeMap<Home, String>,
    pub(crate) chunk: Arc<Chunk>,
}

/// The shared module as text.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) source: String,
    pub(crate) source_map: String,
}

impl Hoisted {
    /// Joins what may be joined; `None` where that is less than two modules, or where a member is
    /// written in a way that cannot be joined.
    pub(crate) fn new(project: &Project, link: &Link<'_>, cache: &Cache) -> Option<Self> {
        let members = members(link);
        if members.len() < 2 {
            return None;
        }
        let order = order(link, &members);
        let exports = exports(link, &members)?;
        let hash = hash(project, link, &order, &exports);
        let make = || join(project, link, &order, &exports).map(Arc::new);
        let chunk = cache.chunk(hash, make)?;
        Some(Self { members, exports, chunk })
    }

    /// Whether `module` has become part of the shared module.
    pub(crate) fn holds(&self, module: ModuleId) -> bool {
        self.members.contains(&module)
    }

    /// The name under which the shared module exports `name` of the member `module`.
    pub(crate) fn export(&self, link: &Link<'_>, module: ModuleId, name: &str) -> Option<&str> {
        self.exports.get(&home(link, module, name)?).map(String::as_str)
    }
}

/// The modules that can share a scope: plain JavaScript without side effects that imports only
/// such, and that nobody needs as a whole.
fn members(link: &Link<'_>) -> BTreeSet<ModuleId> {
    let mut members: BTreeSet<ModuleId> = link.modules().filter(|&m| is_plain(link, m)).collect();
    for module in link.modules() {
        let compiled = &link.graph.modules[module].compiled;
        for (request, wanted) in compiled.tables.requests.iter().enumerate() {
            if wanted.kind != RequestKind::Import
                && let Some(target) = link.target(module, request)
            {
                members.remove(&target);
            }
        }
        for (request, name) in wanted(link, module) {
            let is_read_by_name = matches!(name, Name::Namespace(Some(_)));
            if let (Place::Namespace(target), false) =
                (link.locate(module, request, &name), is_read_by_name)
            {
                members.remove(&target);
            }
        }
    }
    loop {
        let whole = used_whole(link, &members);
        let stays = |m: &ModuleId| is_closed(link, &members, *m) && !whole.contains(m);
        let kept: BTreeSet<ModuleId> = members.iter().copied().filter(stays).collect();
        if kept.len() == members.len() {
            return kept;
        }
        members = kept;
    }
}

fn is_plain(link: &Link<'_>, module: ModuleId) -> bool {
    let entry = link.graph.entries.contains(&module);
    let module = &link.graph.modules[module];
    let is_javascript = match &module.location {
        Location::File(path) => {
            matches!(path.extension().and_then(|e| e.to_str()), Some("js" | "mjs"))
        }
        Location::Supplied(_)
        | Location::Ignored(_)
        | Location::Mocked(_)
        | Location::Absent(_)
        | Location::Raw(_) => false,
    };
    let imports = module.compiled.tables.requests.iter();
    !entry
        && is_javascript
        && !module.has_side_effects
        && !module.compiled.is_commonjs
        && imports.clone().all(|request| request.kind == RequestKind::Import)
        && !module.text.contains("import.meta")
}

/// Whether every module it runs with is a member, and so is every module whose names it uses.
fn is_closed(link: &Link<'_>, members: &BTreeSet<ModuleId>, module: ModuleId) -> bool {
    let targets = 0..link.graph.modules[module].targets.len();
    let mut targets = targets.map(|request| link.target(module, request));
    let inside = |target: Option<ModuleId>| {
        target.is_some_and(|target| !link.includes(target) || members.contains(&target))
    };
    // A name may lead through modules that nobody needs to one that stays outside.
    let joined = |target: ModuleId, name: &str| {
        home(link, target, name).is_some_and(|(declarer, _)| members.contains(&declarer))
    };
    let mut wanted = wanted(link, module);
    let found = wanted.all(|(request, name)| match (link.target(module, request), name) {
        (Some(target), Name::Export(name)) => joined(target, &name),
        (Some(target), Name::Namespace(names)) => names.iter().flatten().all(|n| joined(target, n)),
        (None, _) => false,
    });
    targets.all(inside) && found
}

/// What modules outside use as `namespace.member`.
fn used_whole(link: &Link<'_>, members: &BTreeSet<ModuleId>) -> BTreeSet<ModuleId> {
    let outside = link.modules().filter(|m| !members.contains(m));
    let uses = outside.flat_map(|m| wanted(link, m).map(move |(request, name)| (m, request, name)));
    let whole = uses.filter(|(_, _, name)| matches!(name, Name::Namespace(_)));
    whole.filter_map(|(m, request, _)| link.target(m, request)).collect()
}

/// What a module takes from others: imports its code uses, and exports in use that it passes on.
fn wanted<'a>(link: &'a Link<'_>, module: ModuleId) -> impl Iterator<Item = (usize, Name)> + 'a {
    let imports = link.graph.modules[module].compiled.tables.imports.iter();
    let passed_on = link.used(module).filter_map(move |name| match link.origin(module, name) {
        Some(Origin::From(request, name)) => Some((request, name)),
        _ => None,
    });
    imports.map(|import| (import.request, import.name.clone())).chain(passed_on)
}

/// Where an export is declared.
fn home(link: &Link<'_>, module: ModuleId, name: &str) -> Option<Home> {
    let mut at = (module, name.to_owned());
    // A chain of re-exports visits no module twice, so it is no longer than the graph.
    for _ in 0..=link.graph.modules.len() {
        match link.origin(at.0, &at.1)? {
            Origin::Local => return Some(at),
            Origin::From(request, Name::Export(name)) => at = (link.target(at.0, request)?, name),
            Origin::From(_, Name::Namespace(_)) => return None,
        }
    }
    None
}

/// What modules outside import, with a name for each.
fn exports(link: &Link<'_>, members: &BTreeSet<ModuleId>) -> Option<BTreeMap<Home, String>> {
    let mut homes = BTreeSet::new();
    for module in link.modules().filter(|m| !members.contains(m)) {
        for (request, name) in wanted(link, module) {
            if let Place::Export(target, name) = link.locate(module, request, &name)
                && members.contains(&target)
            {
                homes.insert(home(link, target, &name)?);
            }
        }
    }
    let mut taken = BTreeSet::new();
    let named = homes.into_iter().map(|home| {
        let mut name = home.1.clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{}_{number}", home.1);
        }
        (home, name)
    });
    Some(named.collect())
}

/// Members in the order in which ES would evaluate them.
fn order(link: &Link<'_>, members: &BTreeSet<ModuleId>) -> Vec<ModuleId> {
    fn visit(
        link: &Link<'_>,
        module: ModuleId,
        seen: &mut BTreeSet<ModuleId>,
        out: &mut Vec<ModuleId>,
    ) {
        if !seen.insert(module) {
            return;
        }
        for request in 0..link.graph.modules[module].targets.len() {
            if let Some(target) = link.target(module, request) {
                visit(link, target, seen, out);
            }
        }
        out.push(module);
    }
    let mut out = vec![];
    let mut seen = BTreeSet::new();
    for &entry in &link.graph.entries {
        visit(link, entry, &mut seen, &mut out);
    }
    out.retain(|module| members.contains(module));
    out
}

fn hash(
    project: &Project,
    link: &Link<'_>,
    order: &[ModuleId],
    exports: &BTreeMap<Home, String>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    for &module in order {
        add(&origin(project, link.graph, module));
        add(&link.graph.modules[module].text);
    }
    for ((module, name), alias) in exports {
        add(&origin(project, link.graph, *module));
        add(name);
        add(alias);
    }
    hash.finalize().into()
}

/// Parses the members, connects imports with what they import, and prints one module.
fn join(
    project: &Project,
    link: &Link<'_>,
    order: &[ModuleId],
    exports: &BTreeMap<Home, String>,
) -> Option<Chunk> {
    let files: Lrc<SourceMap> = Lrc::default();
    GLOBALS.set(&Globals::new(), || {
        let mut joiner = Joiner {
            link,
            unresolved: Mark::new(),
            body: vec![],
            exports: HashMap::new(),
            imports: vec![],
        };
        for &module in order {
            let name = source_name(&origin(project, link.graph, module));
            let text = &link.graph.modules[module].text;
            let text = text.trim_start_matches('\u{feff}').to_owned();
            let file = files.new_source_file(Lrc::new(FileName::Custom(name)), text);
            let syntax = parser::Syntax::Es(parser::EsSyntax::default());
            let version = EsVersion::latest();
            let mut errors = vec![];
            let parsed =
                parser::parse_file_as_module(&file, syntax, version, None, &mut errors).ok()?;
            joiner.add(module, parsed)?;
        }
        let module = joiner.finish(exports)?;
        print(&files, &module)
    })
}

/// The module that grows.
struct Joiner<'a> {
    link: &'a Link<'a>,
    unresolved: Mark,
    body: Vec<ModuleItem>,
    /// What stands behind each export.
    exports: HashMap<Home, Id>,
    imports: Vec<Imported>,
}

/// A binding of an import statement.
struct Imported {
    id: Id,
    module: ModuleId,
    request: usize,
    /// `None`: the namespace.
    name: Option<String>,
}

impl Joiner<'_> {
    fn add(&mut self, id: ModuleId, module: Module) -> Option<()> {
        let top_level = Mark::new();
        let mut program = Program::Module(module);
        program.mutate(resolver(self.unresolved, top_level, false));
        let unresolved = SyntaxContext::empty().apply_mark(self.unresolved);
        program.visit_mut_with(&mut Production { unresolved });
        let Program::Module(module) = program else { return None };
        let context = SyntaxContext::empty().apply_mark(top_level);
        for item in module.body {
            match item {
                ModuleItem::Stmt(stmt) => self.body.push(ModuleItem::Stmt(stmt)),
                ModuleItem::ModuleDecl(decl) => self.declaration(id, decl, context)?,
            }
        }
        Some(())
    }

    fn declaration(
        &mut self,
        id: ModuleId,
        decl: ModuleDecl,
        context: SyntaxContext,
    ) -> Option<()> {
        let mut export =
            |name: &str, local: Id| drop(self.exports.insert((id, name.to_owned()), local));
        let stmt = match decl {
            ModuleDecl::Import(import) => return self.import(id, &import),
            ModuleDecl::ExportAll(_)
            | ModuleDecl::ExportNamed(NamedExport { src: Some(_), .. }) => {
                return Some(());
            }
            ModuleDecl::ExportNamed(named) => {
                for specifier in named.specifiers {
                    let ExportSpecifier::Named(named) = specifier else { return None };
                    let ModuleExportName::Ident(local) = &named.orig else { return None };
                    export(
                        &export_name(named.exported.as_ref().unwrap_or(&named.orig)),
                        local.to_id(),
                    );
                }
                return Some(());
            }
            ModuleDecl::ExportDecl(declared) => {
                declared_ids(&declared.decl)?.into_iter().for_each(|id| export(&id.0.clone(), id));
                declared.decl
            }
            ModuleDecl::ExportDefaultExpr(value) => {
                export("default", ("$default".into(), context));
                constant("$default", value.expr, context)
            }
            ModuleDecl::ExportDefaultDecl(declared) => {
                let (decl, name) = default_declaration(declared.decl, context);
                export("default", (name.into(), context));
                decl?
            }
            _ => return None,
        };
        self.body.push(ModuleItem::Stmt(Stmt::Decl(stmt)));
        Some(())
    }

    fn import(&mut self, module: ModuleId, import: &ImportDecl) -> Option<()> {
        let specifier = import.src.value.to_string_lossy();
        let mut requests = self.link.graph.modules[module].compiled.tables.requests.iter();
        let request =
            requests.position(|r| r.kind == RequestKind::Import && r.specifier == specifier)?;
        for specifier in &import.specifiers {
            let name = match specifier {
                ImportSpecifier::Namespace(_) => None,
                ImportSpecifier::Default(_) => Some("default".to_owned()),
                ImportSpecifier::Named(named) => Some(match &named.imported {
                    Some(name) => export_name(name),
                    None => named.local.sym.to_string(),
                }),
            };
            self.imports.push(Imported { id: specifier.local().to_id(), module, request, name });
        }
        Some(())
    }

    /// What stands behind a name of another member.
    fn behind(&self, import: &Imported, name: &str) -> Option<Id> {
        let target = self.link.target(import.module, import.request)?;
        self.exports.get(&home(self.link, target, name)?).cloned()
    }

    fn finish(mut self, exports: &BTreeMap<Home, String>) -> Option<Module> {
        let mut connect = Connect::default();
        for import in &self.imports {
            match &import.name {
                // A name that only a re-export uses stands nowhere in the code.
                Some(name) => {
                    if let Some(id) = self.behind(import, name) {
                        connect.names.insert(import.id.clone(), id);
                    }
                }
                None => drop(connect.namespaces.insert(import.id.clone(), HashMap::new())),
            }
        }
        for import in self.imports.iter().filter(|import| import.name.is_none()) {
            let tables = &self.link.graph.modules[import.module].compiled.tables;
            let uses = tables.imports.iter().filter(|i| i.local == *import.id.0);
            for used in uses {
                let Name::Namespace(Some(members)) = &used.name else { return None };
                for member in members {
                    let id = self.behind(import, member)?;
                    connect.namespaces.get_mut(&import.id)?.insert(member.clone(), id);
                }
            }
        }
        connect.unknown.extend(self.imports.iter().map(|import| import.id.clone()));
        let specifiers = exports
            .iter()
            .map(|(home, alias)| self.exports.get(home).map(|id| specifier(id, alias)))
            .collect::<Option<Vec<_>>>()?;
        let mut module =
            Module { span: DUMMY_SP, body: std::mem::take(&mut self.body), shebang: None };
        module.visit_mut_with(&mut connect);
        if connect.is_stuck {
            return None;
        }
        module.body.push(ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(NamedExport {
            span: DUMMY_SP,
            specifiers,
            src: None,
            type_only: false,
            with: None,
        })));
        merge(&mut module, SyntaxContext::empty().apply_mark(self.unresolved));
        defer(&mut module);
        prune(&mut module);
        let names = names(&module);
        let mut program = Program::Module(module);
        program.mutate(hygiene());
        if let Program::Module(module) = &mut program {
            keep_names(module, &names);
        }
        program.mutate(fixer(None));
        program.module()
    }
}

/// The declared functions and classes, by place.
fn declared(item: &ModuleItem) -> Option<(&Ident, bool)> {
    let is_static_name = |member: &ClassMember| match member {
        ClassMember::Method(method) => method.is_static && is_name(&method.key),
        ClassMember::ClassProp(property) => property.is_static && is_name(&property.key),
        _ => false,
    };
    match item {
        ModuleItem::Stmt(Stmt::Decl(Decl::Fn(function))) => Some((&function.ident, false)),
        ModuleItem::Stmt(Stmt::Decl(Decl::Class(class))) => {
            Some((&class.ident, class.class.body.iter().any(is_static_name)))
        }
        _ => None,
    }
}

fn is_name(key: &PropName) -> bool {
    matches!(key, PropName::Ident(name) if name.sym == *"name") || key.is_computed()
}

fn names(module: &Module) -> HashMap<Span, Atom> {
    let declared = module.body.iter().filter_map(declared);
    declared.map(|(ident, _)| (ident.span, ident.sym.clone())).collect()
}

/// What was renamed shows its own name all the same: `Object.defineProperty(f, "name", …)`.
fn keep_names(module: &mut Module, names: &HashMap<Span, Atom>) {
    for item in std::mem::take(&mut module.body) {
        let renamed = declared(&item).and_then(|(ident, has_name)| {
            let name = names.get(&ident.span)?;
            (*name != ident.sym && !has_name).then(|| name_statement(ident, name))
        });
        module.body.push(item);
        module.body.extend(renamed);
    }
}

fn name_statement(ident: &Ident, name: &Atom) -> ModuleItem {
    let word = |text: &str| Ident::new_no_ctxt(text.into(), DUMMY_SP);
    let argument = |expr: Expr| ExprOrSpread { spread: None, expr: Box::new(expr) };
    let property = |key: &str, value: Expr| {
        let key = PropName::Ident(IdentName::new(key.into(), DUMMY_SP));
        PropOrSpread::Prop(Box::new(Prop::KeyValue(KeyValueProp { key, value: Box::new(value) })))
    };
    let text = |text: &str| Expr::Lit(Lit::Str(text.into()));
    let yes = Expr::Lit(Lit::Bool(true.into()));
    let descriptor = Expr::Object(ObjectLit {
        span: DUMMY_SP,
        props: vec![property("value", text(name)), property("configurable", yes)],
    });
    let callee = MemberExpr {
        span: DUMMY_SP,
        obj: Box::new(Expr::Ident(word("Object"))),
        prop: MemberProp::Ident(IdentName::new("defineProperty".into(), DUMMY_SP)),
    };
    let args =
        vec![argument(Expr::Ident(ident.clone())), argument(text("name")), argument(descriptor)];
    let callee = Callee::Expr(Box::new(Expr::Member(callee)));
    let call = CallExpr { span: DUMMY_SP, callee, args, ..CallExpr::default() };
    ModuleItem::Stmt(Stmt::Expr(ExprStmt { span: DUMMY_SP, expr: Box::new(Expr::Call(call)) }))
}

fn declared_ids(decl: &Decl) -> Option<Vec<Id>> {
    Some(match decl {
        Decl::Class(class) => vec![class.ident.to_id()],
        Decl::Fn(function) => vec![function.ident.to_id()],
        Decl::Var(var) => var.decls.iter().flat_map(|decl| find_pat_ids(&decl.name)).collect(),
        _ => return None,
    })
}

fn specifier(id: &Id, alias: &str) -> ExportSpecifier {
    let alias = match Ident::verify_symbol(alias) {
        Ok(()) => ModuleExportName::Ident(Ident::new_no_ctxt(alias.into(), DUMMY_SP)),
        Err(_) => ModuleExportName::Str(alias.into()),
    };
    ExportSpecifier::Named(ExportNamedSpecifier {
        span: DUMMY_SP,
        orig: ModuleExportName::Ident(Ident::from(id.clone())),
        exported: Some(alias),
        is_type_only: false,
    })
}

/// Puts the declared name in the place of each imported one.
#[derive(Default)]
struct Connect {
    names: HashMap<Id, Id>,
    /// By binding and property.
    namespaces: HashMap<Id, HashMap<String, Id>>,
    /// Every import: none may stay.
    unknown: BTreeSet<Id>,
    is_stuck: bool,
}

impl Connect {
    fn member(&self, expr: &Expr) -> Option<Ident> {
        let member = expr.as_member()?;
        let members = self.namespaces.get(&member.obj.as_ident()?.to_id())?;
        let (name, context) = members.get(member.prop.as_ident()?.sym.as_str())?.clone();
        Some(Ident::new(name, member.span, context))
    }
}

impl VisitMut for Connect {
    fn visit_mut_expr(&mut self, expr: &mut Expr) {
        match self.member(expr) {
            Some(ident) => *expr = Expr::Ident(ident),
            None => expr.visit_mut_children_with(self),
        }
    }

    fn visit_mut_prop(&mut self, prop: &mut Prop) {
        if let Prop::Shorthand(ident) = prop
            && let Some((name, context)) = self.names.get(&ident.to_id())
        {
            let key = PropName::Ident(IdentName::new(ident.sym.clone(), ident.span));
            let value = Ident::new(name.clone(), ident.span, *context);
            *prop = Prop::KeyValue(KeyValueProp { key, value: Box::new(Expr::Ident(value)) });
            return;
        }
        prop.visit_mut_children_with(self);
    }

    fn visit_mut_ident(&mut self, ident: &mut Ident) {
        match self.names.get(&ident.to_id()) {
            Some((name, context)) => {
                ident.sym = name.clone();
                ident.ctxt = *context;
            }
            None => self.is_stuck |= self.unknown.contains(&ident.to_id()),
        }
    }
}

/// How source maps name the files: as they are called already.
struct Plain;

impl SourceMapGenConfig for Plain {
    fn file_name_to_source(&self, file: &FileName) -> String {
        match file {
            FileName::Custom(name) => name.clone(),
            other => other.to_string(),
        }
    }

    fn inline_sources_content(&self, file: &FileName) -> bool {
        shows_text(&self.file_name_to_source(file))
    }
}

fn print(files: &Lrc<SourceMap>, module: &Module) -> Option<Chunk> {
    use codegen::Node as _;
    let (mut text, mut mappings) = (vec![], vec![]);
    let mut writer = codegen::text_writer::JsWriter::new(
        Lrc::clone(files),
        "\n",
        &mut text,
        Some(&mut mappings),
    );
    writer.set_indent_str("  ");
    let mut emitter = codegen::Emitter {
        cfg: codegen::Config::default().with_target(EsVersion::latest()),
        comments: None,
        cm: Lrc::clone(files),
        wr: Box::new(writer),
    };
    module.emit_with(&mut emitter).ok()?;
    drop(emitter);
    let mut map = vec![];
    files.build_source_map(&mappings, None, Plain).to_writer(&mut map).ok()?;
    Some(Chunk { source: String::from_utf8(text).ok()?, source_map: String::from_utf8(map).ok()? })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The text of files joined in one scope, after a change.
    pub(crate) fn changed(
        sources: &[&str],
        change: impl FnOnce(&mut Module, SyntaxContext),
    ) -> String {
        let files: Lrc<SourceMap> = Lrc::default();
        GLOBALS.set(&Globals::new(), || {
            let unresolved = Mark::new();
            let mut module = Module { span: DUMMY_SP, body: vec![], shebang: None };
            for (number, source) in sources.iter().enumerate() {
                let name = FileName::Custom(number.to_string());
                let file = files.new_source_file(Lrc::new(name), (*source).to_owned());
                let syntax = parser::Syntax::Es(parser::EsSyntax::default());
                let version = EsVersion::latest();
                let parsed =
                    parser::parse_file_as_module(&file, syntax, version, None, &mut vec![]);
                let mut program = Program::Module(parsed.expect("it parses"));
                program.mutate(resolver(unresolved, Mark::new(), false));
                module.body.extend(program.expect_module().body);
            }
            change(&mut module, SyntaxContext::empty().apply_mark(unresolved));
            let mut program = Program::Module(module);
            program.mutate(hygiene());
            program.mutate(fixer(None));
            print(&files, &program.expect_module()).expect("it prints").source
        })
    }
}
