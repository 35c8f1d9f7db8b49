//! Errors of a module that the parser lets pass and V8 refuses without saying where.
//!
//! In: a module without types. Out: [`Issue`]s. Invariant: what V8 runs has none; what V8 refuses
//! may have none, for only the slips that people make are looked for.

use std::collections::BTreeSet;

use deno_ast::swc::ast::*;
use deno_ast::swc::atoms::Atom;
use deno_ast::swc::common::{Span, Spanned};
use deno_ast::swc::ecma_visit::{Visit, VisitWith};
use deno_ast::swc::parser::error::SyntaxError;
use deno_ast::swc::utils::find_pat_ids;

use crate::compile::Issue;
use crate::tables::{export_name, offset};

/// Finds the errors of a module; a script has other rules.
pub(crate) fn errors(program: &Program) -> Vec<Issue> {
    let Program::Module(module) = program else { return vec![] };
    let mut early = Early::default();
    early.within(Kind::Module, |early| {
        module.visit_children_with(early);
        early.exports(module);
    });
    early.issues
}

/// What to do about an error that the parser found; `None` if it is none in JavaScript.
pub(crate) fn cure(error: &SyntaxError) -> Option<Option<&'static str>> {
    use SyntaxError::*;
    match error {
        AwaitInFunction => Some(Some(AWAIT)),
        AwaitParamInAsync
        | ConstDeclarationsRequireInitialization
        | ConstructorAccessor
        | DuplicateConstructor
        | DuplicateLabel(_)
        | DuplicatedRegExpFlags(_)
        | IllegalLanguageModeDirective
        | InvalidIdentInStrict(_)
        | InvalidNewTarget
        | LabelledFunctionInStrict
        | TS1102
        | TS1105
        | TS1115
        | TS1116
        | VarInitializerInForInHead
        | WithInStrict => Some(None),
        _ => None,
    }
}

const AWAIT: &str = "Make the function around it async: `async function` or `async () =>`.";

/// What a scope is the body of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Module,
    Function { is_async: bool },
    Block,
}

#[derive(Default)]
struct Scope {
    /// `let`, `const`, classes, imports, and functions of blocks.
    lexical: BTreeSet<Atom>,
    /// `var` here or further inside.
    vars: BTreeSet<Atom>,
    /// Parameters, or what `catch` catches.
    parameters: BTreeSet<Atom>,
}

#[derive(Default)]
struct Early {
    issues: Vec<Issue>,
    scopes: Vec<(Kind, Scope)>,
    /// Private names of the classes around.
    private: Vec<BTreeSet<Atom>>,
}

impl Early {
    fn issue(&mut self, span: Span, message: String, help: Option<&'static str>) {
        // What a transform made up is not the author's.
        if let Some(offset) = offset(span) {
            self.issues.push(Issue { message, offset, help });
        }
    }

    fn within(&mut self, kind: Kind, visit: impl FnOnce(&mut Self)) {
        self.scopes.push((kind, Scope::default()));
        visit(self);
        self.scopes.pop();
    }

    fn function(&mut self, is_async: bool, parameters: &[&Pat], visit: impl FnOnce(&mut Self)) {
        self.within(Kind::Function { is_async }, |early| {
            for parameter in parameters {
                for ident in find_pat_ids::<_, Ident>(*parameter) {
                    early.parameter(&ident);
                }
            }
            visit(early);
        });
    }

    fn parameter(&mut self, ident: &Ident) {
        let Some((_, scope)) = self.scopes.last_mut() else { return };
        if !scope.parameters.insert(ident.sym.clone()) {
            self.declared_before(ident);
        }
    }

    fn declared_before(&mut self, ident: &Ident) {
        let message = format!("The symbol \"{}\" has already been declared", ident.sym);
        self.issue(ident.span, message, None);
    }

    fn lexical(&mut self, ident: &Ident) {
        let Some((_, scope)) = self.scopes.last_mut() else { return };
        let before = scope.vars.contains(&ident.sym) || scope.parameters.contains(&ident.sym);
        if !scope.lexical.insert(ident.sym.clone()) || before {
            self.declared_before(ident);
        }
    }

    fn var(&mut self, ident: &Ident) {
        let mut before = false;
        for (kind, scope) in self.scopes.iter_mut().rev() {
            before |= scope.lexical.contains(&ident.sym);
            scope.vars.insert(ident.sym.clone());
            if *kind != Kind::Block {
                break;
            }
        }
        if before {
            self.declared_before(ident);
        }
    }

    /// The function whose statements these are.
    fn around(&self) -> Kind {
        let mut kinds = self.scopes.iter().rev().map(|(kind, _)| *kind);
        kinds.find(|kind| *kind != Kind::Block).unwrap_or(Kind::Module)
    }

    /// Statements of a body whose scope is there.
    fn body(&mut self, body: Option<&BlockStmt>) {
        body.into_iter().flat_map(|body| &body.stmts).for_each(|stmt| stmt.visit_with(self));
    }

    /// Each name is exported once, and is there.
    fn exports(&mut self, module: &Module) {
        let mut seen = BTreeSet::new();
        let mut exported = vec![];
        for decl in module.body.iter().filter_map(ModuleItem::as_module_decl) {
            match decl {
                ModuleDecl::ExportDecl(export) => exported.extend(declared(&export.decl)),
                ModuleDecl::ExportDefaultDecl(_) | ModuleDecl::ExportDefaultExpr(_) => {
                    exported.push(("default".to_owned(), decl.span()));
                }
                ModuleDecl::ExportNamed(named) => {
                    exported.extend(named.specifiers.iter().map(specified));
                    if named.src.is_none() {
                        named.specifiers.iter().for_each(|specifier| self.is_there(specifier));
                    }
                }
                _ => {}
            }
        }
        for (name, span) in exported {
            if !seen.insert(name.clone()) {
                self.issue(span, format!("Multiple exports with the same name \"{name}\""), None);
            }
        }
    }

    fn is_there(&mut self, specifier: &ExportSpecifier) {
        let ExportSpecifier::Named(named) = specifier else { return };
        let ModuleExportName::Ident(local) = &named.orig else { return };
        let Some((_, scope)) = self.scopes.last() else { return };
        if !scope.lexical.contains(&local.sym) && !scope.vars.contains(&local.sym) {
            let message = format!("\"{}\" is not declared in this file", local.sym);
            self.issue(local.span, message, None);
        }
    }
}

fn declared(decl: &Decl) -> Vec<(String, Span)> {
    let named = |ident: &Ident| (ident.sym.to_string(), ident.span);
    match decl {
        Decl::Class(class) => vec![named(&class.ident)],
        Decl::Fn(function) => vec![named(&function.ident)],
        Decl::Var(var) => find_pat_ids::<_, Ident>(&var.decls).iter().map(named).collect(),
        _ => vec![],
    }
}

fn specified(specifier: &ExportSpecifier) -> (String, Span) {
    let name = match specifier {
        ExportSpecifier::Namespace(namespace) => export_name(&namespace.name),
        ExportSpecifier::Default(default) => default.exported.sym.to_string(),
        ExportSpecifier::Named(named) => {
            export_name(named.exported.as_ref().unwrap_or(&named.orig))
        }
    };
    (name, specifier.span())
}

impl Visit for Early {
    fn visit_import_decl(&mut self, import: &ImportDecl) {
        import.specifiers.iter().for_each(|specifier| self.lexical(specifier.local()));
    }

    fn visit_var_decl(&mut self, var: &VarDecl) {
        for ident in find_pat_ids::<_, Ident>(&var.decls) {
            match var.kind {
                VarDeclKind::Var => self.var(&ident),
                VarDeclKind::Let | VarDeclKind::Const => self.lexical(&ident),
            }
        }
        var.visit_children_with(self);
    }

    fn visit_using_decl(&mut self, using: &UsingDecl) {
        let declared = find_pat_ids::<_, Ident>(&using.decls);
        declared.iter().for_each(|ident| self.lexical(ident));
        using.visit_children_with(self);
    }

    fn visit_fn_decl(&mut self, function: &FnDecl) {
        match self.scopes.last() {
            Some((Kind::Function { .. }, _)) => self.var(&function.ident),
            _ => self.lexical(&function.ident),
        }
        function.function.visit_with(self);
    }

    fn visit_export_default_decl(&mut self, export: &ExportDefaultDecl) {
        match &export.decl {
            DefaultDecl::Class(ClassExpr { ident: Some(ident), .. })
            | DefaultDecl::Fn(FnExpr { ident: Some(ident), .. }) => self.lexical(ident),
            _ => {}
        }
        export.visit_children_with(self);
    }

    fn visit_class_decl(&mut self, class: &ClassDecl) {
        self.lexical(&class.ident);
        class.class.visit_with(self);
    }

    fn visit_class(&mut self, class: &Class) {
        class.super_class.visit_with(self);
        let names = class.body.iter().filter_map(|member| match member {
            ClassMember::PrivateMethod(method) => Some(method.key.name.clone()),
            ClassMember::PrivateProp(property) => Some(property.key.name.clone()),
            ClassMember::AutoAccessor(AutoAccessor { key: Key::Private(name), .. }) => {
                Some(name.name.clone())
            }
            _ => None,
        });
        self.private.push(names.collect());
        class.decorators.visit_with(self);
        class.body.visit_with(self);
        self.private.pop();
    }

    fn visit_private_name(&mut self, name: &PrivateName) {
        if !self.private.iter().any(|names| names.contains(&name.name)) {
            let message = format!("Private name \"#{}\" must be declared in its class", name.name);
            self.issue(name.span, message, None);
        }
    }

    fn visit_function(&mut self, function: &Function) {
        function.decorators.visit_with(self);
        let parameters: Vec<&Pat> = function.params.iter().map(|p| &p.pat).collect();
        self.function(function.is_async, &parameters, |early| {
            function.params.visit_with(early);
            early.body(function.body.as_ref());
        });
    }

    fn visit_constructor(&mut self, constructor: &Constructor) {
        constructor.key.visit_with(self);
        let parameters = constructor.params.iter().filter_map(|parameter| match parameter {
            ParamOrTsParamProp::Param(parameter) => Some(&parameter.pat),
            ParamOrTsParamProp::TsParamProp(_) => None,
        });
        let parameters: Vec<&Pat> = parameters.collect();
        self.function(false, &parameters, |early| {
            constructor.params.visit_with(early);
            early.body(constructor.body.as_ref());
        });
    }

    fn visit_arrow_expr(&mut self, arrow: &ArrowExpr) {
        let parameters: Vec<&Pat> = arrow.params.iter().collect();
        self.function(arrow.is_async, &parameters, |early| {
            arrow.params.visit_with(early);
            match &*arrow.body {
                BlockStmtOrExpr::BlockStmt(body) => early.body(Some(body)),
                BlockStmtOrExpr::Expr(value) => value.visit_with(early),
            }
        });
    }

    fn visit_getter_prop(&mut self, getter: &GetterProp) {
        getter.key.visit_with(self);
        self.function(false, &[], |early| early.body(getter.body.as_ref()));
    }

    fn visit_setter_prop(&mut self, setter: &SetterProp) {
        setter.key.visit_with(self);
        self.function(false, &[&setter.param], |early| {
            setter.param.visit_with(early);
            early.body(setter.body.as_ref());
        });
    }

    fn visit_static_block(&mut self, block: &StaticBlock) {
        self.function(false, &[], |early| early.body(Some(&block.body)));
    }

    fn visit_block_stmt(&mut self, block: &BlockStmt) {
        self.within(Kind::Block, |early| early.body(Some(block)));
    }

    fn visit_switch_stmt(&mut self, switch: &SwitchStmt) {
        switch.discriminant.visit_with(self);
        self.within(Kind::Block, |early| switch.cases.visit_with(early));
    }

    fn visit_for_stmt(&mut self, stmt: &ForStmt) {
        self.within(Kind::Block, |early| stmt.visit_children_with(early));
    }

    fn visit_for_in_stmt(&mut self, stmt: &ForInStmt) {
        self.within(Kind::Block, |early| stmt.visit_children_with(early));
    }

    fn visit_for_of_stmt(&mut self, stmt: &ForOfStmt) {
        if stmt.is_await && self.around() == (Kind::Function { is_async: false }) {
            let message = "await isn't allowed in non-async function".to_owned();
            self.issue(stmt.span, message, Some(AWAIT));
        }
        self.within(Kind::Block, |early| stmt.visit_children_with(early));
    }

    fn visit_catch_clause(&mut self, clause: &CatchClause) {
        self.within(Kind::Block, |early| {
            if let Some(caught) = &clause.param {
                find_pat_ids::<_, Ident>(caught).iter().for_each(|ident| early.parameter(ident));
                caught.visit_with(early);
            }
            early.body(Some(&clause.body));
        });
    }

    fn visit_return_stmt(&mut self, stmt: &ReturnStmt) {
        if self.around() == Kind::Module {
            let message = "A return statement stands only in a function".to_owned();
            self.issue(stmt.span, message, None);
        }
        stmt.visit_children_with(self);
    }
}
