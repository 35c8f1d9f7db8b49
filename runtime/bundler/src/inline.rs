//! For self-contained output: imported names become properties, exports become plain declarations.
//!
//! In: a module without import statements. Out: statements that can be the body of a function.
//! Invariant: an imported name is read anew each time (bindings are live), and called without a
//! `this`.

use std::collections::HashMap;

use deno_ast::swc::ast::*;
use deno_ast::swc::common::SyntaxContext;
use deno_ast::swc::ecma_visit::{VisitMut, VisitMutWith};

use crate::compile::Tables;
use crate::tables::{NAMESPACE, NOWHERE};

/// Replaces imported names by `$from_N.name`.
pub(crate) struct Inlined {
    /// Request and exported name (`None`: the namespace) by imported binding.
    pub(crate) names: HashMap<Id, (usize, Option<String>)>,
}

impl Inlined {
    fn member(&self, ident: &Ident) -> Option<Expr> {
        let (request, name) = self.names.get(&ident.to_id())?;
        let object = Ident::new_no_ctxt(format!("$from_{request}").into(), NOWHERE);
        let name = name.as_deref().unwrap_or(NAMESPACE);
        let text = Str { span: NOWHERE, value: name.into(), raw: None };
        Some(Expr::Member(MemberExpr {
            span: ident.span,
            obj: Box::new(Expr::Ident(object)),
            // In brackets, because an export's name need not be an identifier.
            prop: MemberProp::Computed(ComputedPropName {
                span: NOWHERE,
                expr: Box::new(Expr::Lit(Lit::Str(text))),
            }),
        }))
    }

    /// `(0, $from_N.name)`: as a callee this has no `this`, like the plain name before.
    fn callee(&self, expr: &Expr) -> Option<Expr> {
        let Expr::Ident(ident) = expr else { return None };
        let member = self.member(ident)?;
        let zero = Expr::Lit(Lit::Num(Number { span: NOWHERE, value: 0.0, raw: None }));
        let exprs = vec![Box::new(zero), Box::new(member)];
        let sequence = Expr::Seq(SeqExpr { span: ident.span, exprs });
        Some(Expr::Paren(ParenExpr { span: ident.span, expr: Box::new(sequence) }))
    }
}

impl VisitMut for Inlined {
    fn visit_mut_expr(&mut self, expr: &mut Expr) {
        if let Expr::Ident(ident) = expr {
            if let Some(member) = self.member(ident) {
                *expr = member;
            }
            return;
        }
        expr.visit_mut_children_with(self);
    }

    fn visit_mut_call_expr(&mut self, call: &mut CallExpr) {
        if let Callee::Expr(callee) = &mut call.callee
            && let Some(replaced) = self.callee(callee)
        {
            **callee = replaced;
            call.args.visit_mut_with(self);
            return;
        }
        call.visit_mut_children_with(self);
    }

    fn visit_mut_opt_call(&mut self, call: &mut OptCall) {
        if let Some(replaced) = self.callee(&call.callee) {
            *call.callee = replaced;
        }
        call.visit_mut_children_with(self);
    }

    fn visit_mut_tagged_tpl(&mut self, template: &mut TaggedTpl) {
        if let Some(replaced) = self.callee(&template.tag) {
            *template.tag = replaced;
        }
        template.visit_mut_children_with(self);
    }

    fn visit_mut_prop(&mut self, prop: &mut Prop) {
        if let Prop::Shorthand(ident) = prop {
            if let Some(value) = self.member(ident) {
                let key = PropName::Ident(IdentName::new(ident.sym.clone(), ident.span));
                *prop = Prop::KeyValue(KeyValueProp { key, value: Box::new(value) });
            }
            return;
        }
        prop.visit_mut_children_with(self);
    }
}

/// Turns exports into declarations and puts the names of the declarations into the table.
pub(crate) fn strip_exports(module: &mut Module, tables: &mut Tables) {
    let mut default_name = None;
    for item in std::mem::take(&mut module.body) {
        let stmt = match item {
            ModuleItem::Stmt(stmt) => stmt,
            ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => Stmt::Decl(export.decl),
            ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(export)) => {
                Stmt::Decl(constant("$default", export.expr, SyntaxContext::empty()))
            }
            ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(export)) => {
                let (decl, name) = default_declaration(export.decl, SyntaxContext::empty());
                default_name = Some(name);
                match decl {
                    Some(decl) => Stmt::Decl(decl),
                    None => continue,
                }
            }
            ModuleItem::ModuleDecl(_) => continue,
        };
        module.body.push(ModuleItem::Stmt(stmt));
    }
    if let Some(name) = default_name {
        for (exported, local) in &mut tables.locals {
            if exported == "default" && local == "$default" {
                local.clone_from(&name);
            }
        }
    }
}

/// `export default function/class` as a declaration, and its name.
pub(crate) fn default_declaration(
    decl: DefaultDecl,
    context: SyntaxContext,
) -> (Option<Decl>, String) {
    let unnamed = || Ident::new("$default".into(), NOWHERE, context);
    match decl {
        DefaultDecl::Fn(function) => {
            let ident = function.ident.unwrap_or_else(unnamed);
            let name = ident.sym.to_string();
            let decl = FnDecl { ident, declare: false, function: function.function };
            (Some(Decl::Fn(decl)), name)
        }
        DefaultDecl::Class(class) => {
            let ident = class.ident.unwrap_or_else(unnamed);
            let name = ident.sym.to_string();
            (Some(Decl::Class(ClassDecl { ident, declare: false, class: class.class })), name)
        }
        DefaultDecl::TsInterfaceDecl(_) => (None, "$default".to_owned()),
    }
}

/// `const name = value`.
pub(crate) fn constant(name: &str, value: Box<Expr>, context: SyntaxContext) -> Decl {
    Decl::Var(Box::new(VarDecl {
        span: NOWHERE,
        ctxt: SyntaxContext::empty(),
        kind: VarDeclKind::Const,
        declare: false,
        decls: vec![VarDeclarator {
            span: NOWHERE,
            name: Pat::Ident(Ident::new(name.into(), NOWHERE, context).into()),
            init: Some(value),
            definite: false,
        }],
    }))
}
