//! Takes imports, re-exports, `require` and `import()` out of a program and writes them down.
//!
//! In: a program whose scopes are resolved. Out: [`Tables`], and the program without import
//! statements: `require("x")` has become a call of `$require_N`, `import("x")` one of `$import_N`,
//! N an index into [`Tables::requests`]. In self-contained output imported names become
//! `$from_N.name`, and exports lose their `export`. Invariant: every module that the code can reach
//! by a literal specifier has a request.

use std::collections::{BTreeSet, HashMap};

use deno_ast::swc::ast::*;
use deno_ast::swc::atoms::Atom;
use deno_ast::swc::common::{DUMMY_SP, Span, Spanned, SyntaxContext};
use deno_ast::swc::ecma_visit::{Visit, VisitMut, VisitMutWith, VisitWith};
use deno_ast::swc::utils::find_pat_ids;

use crate::compile::{Import, Name, Reexport, Request, RequestKind, Tables};
use crate::inline::{Inlined, strip_exports};

/// The property of `$from_N` that holds a namespace object.
pub(crate) const NAMESPACE: &str = "$namespace";

/// Writes down and takes out.
pub(crate) fn take_tables(
    program: &mut Program,
    inline: bool,
    unresolved: SyntaxContext,
) -> Tables {
    let mut tables = Tables::default();
    if let Program::Module(module) = program {
        module.shebang = None;
        let bindings = bindings(module, &mut tables);
        let mut uses = Uses { bindings: &bindings, seen: HashMap::new() };
        module.visit_with(&mut uses);
        let seen = uses.seen;
        for binding in bindings.values() {
            if let Some(usage) = seen.get(&binding.id) {
                tables.imports.push(binding.import(usage));
            }
        }
        tables.imports.sort_by(|a, b| (a.request, &a.local).cmp(&(b.request, &b.local)));
        take_declarations(module, &bindings, &mut tables);
        if inline {
            let names = bindings.iter().map(|(id, b)| (id.clone(), (b.request, b.name.clone())));
            module.visit_mut_with(&mut Inlined { names: names.collect() });
            strip_exports(module, &mut tables);
        }
    } else if let Program::Script(script) = program {
        script.shebang = None;
    }
    program.visit_mut_with(&mut Calls { tables: &mut tables, unresolved, protected: 0 });
    tables
}

/// A binding of an import statement.
pub(crate) struct Binding {
    id: Id,
    request: usize,
    /// `None` is the namespace.
    name: Option<String>,
    span: Span,
}

impl Binding {
    fn import(&self, usage: &Usage) -> Import {
        let name = match (&self.name, usage) {
            (Some(name), _) => Name::Export(name.clone()),
            (None, Usage::Members(members)) => Name::Namespace(Some(members.clone())),
            (None, Usage::Opaque) => Name::Namespace(None),
        };
        Import {
            request: self.request,
            name,
            local: self.id.0.to_string(),
            offset: offset(self.span),
        }
    }

    fn reexport(&self, exported: String) -> Reexport {
        let name = self.name.clone().map_or(Name::Namespace(None), Name::Export);
        Reexport { request: self.request, name, exported }
    }
}

impl Tables {
    /// Index of the request, made if it is new.
    fn request(&mut self, kind: RequestKind, specifier: &Str, optional: bool) -> usize {
        let specifier_text = specifier.value.to_string_lossy().into_owned();
        let same = |r: &Request| r.kind == kind && r.specifier == specifier_text;
        if let Some(index) = self.requests.iter().position(same) {
            self.requests[index].optional &= optional;
            return index;
        }
        let offset = offset(specifier.span);
        self.requests.push(Request { specifier: specifier_text, kind, optional, offset });
        self.requests.len() - 1
    }
}

/// Byte offset of a span in the text; positions of the parser start at 1, 0 is "made up".
pub(crate) fn offset(span: Span) -> Option<usize> {
    (span.lo.0 as usize).checked_sub(1)
}

/// Requests of all import and export-from statements, and the bindings of the imports.
fn bindings(module: &Module, tables: &mut Tables) -> HashMap<Id, Binding> {
    let mut bindings = HashMap::new();
    for item in &module.body {
        let ModuleItem::ModuleDecl(decl) = item else { continue };
        let source = match decl {
            ModuleDecl::Import(import) => &import.src,
            ModuleDecl::ExportAll(star) => &star.src,
            ModuleDecl::ExportNamed(NamedExport { src: Some(source), .. }) => source,
            _ => continue,
        };
        let request = tables.request(RequestKind::Import, source, false);
        let ModuleDecl::Import(import) = decl else { continue };
        for specifier in &import.specifiers {
            let id = specifier.local().to_id();
            let name = match specifier {
                ImportSpecifier::Namespace(_) => None,
                ImportSpecifier::Default(_) => Some("default".to_owned()),
                ImportSpecifier::Named(named) => Some(match &named.imported {
                    Some(name) => export_name(name),
                    None => named.local.sym.to_string(),
                }),
            };
            bindings.insert(id.clone(), Binding { id, request, name, span: specifier.span() });
        }
    }
    bindings
}

pub(crate) fn export_name(name: &ModuleExportName) -> String {
    match name {
        ModuleExportName::Ident(ident) => ident.sym.to_string(),
        ModuleExportName::Str(text) => text.value.to_string_lossy().into_owned(),
    }
}

/// How an imported binding is used.
enum Usage {
    /// Only as `binding.property`.
    Members(BTreeSet<String>),
    Opaque,
}

struct Uses<'a> {
    bindings: &'a HashMap<Id, Binding>,
    seen: HashMap<Id, Usage>,
}

impl Visit for Uses<'_> {
    fn visit_import_decl(&mut self, _: &ImportDecl) {}

    fn visit_named_export(&mut self, export: &NamedExport) {
        // `export { imported }` is a re-export and uses nothing here.
        debug_assert!(export.specifiers.iter().all(|s| !matches!(s, ExportSpecifier::Default(_))));
    }

    fn visit_ident(&mut self, ident: &Ident) {
        let id = ident.to_id();
        if self.bindings.contains_key(&id) {
            self.seen.insert(id, Usage::Opaque);
        }
    }

    fn visit_member_expr(&mut self, member: &MemberExpr) {
        let namespace = match &*member.obj {
            Expr::Ident(ident) => self.bindings.get(&ident.to_id()).filter(|b| b.name.is_none()),
            _ => None,
        };
        let property = match &member.prop {
            MemberProp::Ident(name) => Some(name.sym.to_string()),
            _ => None,
        };
        let (Some(binding), Some(property)) = (namespace, property) else {
            return member.visit_children_with(self);
        };
        let none = || Usage::Members(BTreeSet::new());
        if let Usage::Members(m) = self.seen.entry(binding.id.clone()).or_insert_with(none) {
            m.insert(property);
        }
    }
}

/// Removes import statements and everything that re-exports; lists the exports that stay.
fn take_declarations(module: &mut Module, bindings: &HashMap<Id, Binding>, tables: &mut Tables) {
    for item in std::mem::take(&mut module.body) {
        match item {
            ModuleItem::ModuleDecl(ModuleDecl::Import(_)) => {}
            ModuleItem::ModuleDecl(ModuleDecl::ExportAll(star)) => {
                let request = tables.request(RequestKind::Import, &star.src, false);
                tables.stars.push(request);
            }
            ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(export)) => {
                if let Some(rest) = take_named_export(export, bindings, tables) {
                    module.body.push(ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(rest)));
                }
            }
            ModuleItem::ModuleDecl(decl) => {
                list_declaration(&decl, tables);
                module.body.push(ModuleItem::ModuleDecl(decl));
            }
            stmt @ ModuleItem::Stmt(_) => module.body.push(stmt),
        }
    }
}

/// What remains of `export { … }` once re-exports are in the table.
fn take_named_export(
    mut export: NamedExport,
    bindings: &HashMap<Id, Binding>,
    tables: &mut Tables,
) -> Option<NamedExport> {
    let request =
        export.src.as_ref().map(|source| tables.request(RequestKind::Import, source, false));
    export.specifiers.retain(|specifier| match (specifier, request) {
        (ExportSpecifier::Namespace(namespace), Some(request)) => {
            let exported = export_name(&namespace.name);
            tables.reexports.push(Reexport { request, name: Name::Namespace(None), exported });
            false
        }
        (ExportSpecifier::Named(named), Some(request)) => {
            let name = Name::Export(export_name(&named.orig));
            let exported = export_name(named.exported.as_ref().unwrap_or(&named.orig));
            tables.reexports.push(Reexport { request, name, exported });
            false
        }
        (ExportSpecifier::Named(named), None) => {
            let exported = export_name(named.exported.as_ref().unwrap_or(&named.orig));
            let ModuleExportName::Ident(local) = &named.orig else { return true };
            match bindings.get(&local.to_id()) {
                Some(binding) => {
                    tables.reexports.push(binding.reexport(exported));
                    false
                }
                None => {
                    tables.locals.push((exported, local.sym.to_string()));
                    true
                }
            }
        }
        (ExportSpecifier::Default(_) | ExportSpecifier::Namespace(_), _) => false,
    });
    (export.src.is_none() && !export.specifiers.is_empty()).then_some(export)
}

fn list_declaration(decl: &ModuleDecl, tables: &mut Tables) {
    let mut add = |name: &Atom| tables.locals.push((name.to_string(), name.to_string()));
    match decl {
        ModuleDecl::ExportDecl(export) => match &export.decl {
            Decl::Class(class) => add(&class.ident.sym),
            Decl::Fn(function) => add(&function.ident.sym),
            Decl::Var(var) => {
                for decl in &var.decls {
                    find_pat_ids::<_, Id>(&decl.name).iter().for_each(|(name, _)| add(name));
                }
            }
            _ => {}
        },
        ModuleDecl::ExportDefaultDecl(_) | ModuleDecl::ExportDefaultExpr(_) => {
            tables.locals.push(("default".to_owned(), "$default".to_owned()));
        }
        _ => {}
    }
}

/// Rewrites `require("…")` and `import("…")`.
struct Calls<'a> {
    tables: &'a mut Tables,
    unresolved: SyntaxContext,
    /// How many `try` blocks and `.catch` calls are around.
    protected: usize,
}

impl VisitMut for Calls<'_> {
    fn visit_mut_try_stmt(&mut self, stmt: &mut TryStmt) {
        let caught = usize::from(stmt.handler.is_some());
        self.protected += caught;
        stmt.block.visit_mut_with(self);
        self.protected -= caught;
        stmt.handler.visit_mut_with(self);
        stmt.finalizer.visit_mut_with(self);
    }

    fn visit_mut_call_expr(&mut self, call: &mut CallExpr) {
        let caught = usize::from(is_catch(call));
        self.protected += caught;
        call.callee.visit_mut_with(self);
        self.protected -= caught;
        call.args.visit_mut_with(self);
        let kind = match &call.callee {
            Callee::Import(_) => RequestKind::Dynamic,
            Callee::Expr(callee) => match &**callee {
                Expr::Ident(i) if i.sym == *"require" && i.ctxt == self.unresolved => {
                    RequestKind::Require
                }
                _ => return,
            },
            Callee::Super(_) => return,
        };
        let Some(specifier) = call.args.first().and_then(literal) else { return };
        if kind == RequestKind::Require && call.args.len() != 1 {
            return;
        }
        let index = self.tables.request(kind, &specifier, self.protected > 0);
        let prefix = if kind == RequestKind::Require { "require" } else { "import" };
        let callee = Ident::new(
            format!("${prefix}_{index}").into(),
            call.callee.span(),
            SyntaxContext::empty(),
        );
        call.callee = Callee::Expr(Box::new(Expr::Ident(callee)));
        call.args.clear();
    }
}

/// `….catch(…)`.
fn is_catch(call: &CallExpr) -> bool {
    let Callee::Expr(callee) = &call.callee else { return false };
    let Expr::Member(member) = &**callee else { return false };
    matches!(&member.prop, MemberProp::Ident(name) if name.sym == *"catch")
}

/// A string literal, or a template without holes.
fn literal(argument: &ExprOrSpread) -> Option<Str> {
    match (&argument.spread, &*argument.expr) {
        (None, Expr::Lit(Lit::Str(text))) => Some(text.clone()),
        (None, Expr::Tpl(template)) => match (&template.quasis[..], template.exprs.is_empty()) {
            ([quasi], true) => {
                Some(Str { span: template.span, value: quasi.cooked.clone()?, raw: None })
            }
            _ => None,
        },
        _ => None,
    }
}

/// A made-up span, for nodes that no text stands behind.
pub(crate) const NOWHERE: Span = DUMMY_SP;
