//! Makes one of declarations that are equal in every member of a joined module.
//!
//! In: a module whose scopes are resolved. Out: the same, where helpers that a compiler put into
//! each file (`__publicField` of esbuild, `__awaiter` of TypeScript) are declared once. Invariant:
//! only functions that are nothing but called, and names of a built-in, are merged: nobody can see
//! that two of them are one. Why: each is two heap objects of every fresh context.

use std::collections::{HashMap, HashSet};

use deno_ast::swc::ast::*;
use deno_ast::swc::codegen;
use deno_ast::swc::common::sync::Lrc;
use deno_ast::swc::common::{SourceMap, SyntaxContext};
use deno_ast::swc::ecma_visit::{Visit, VisitMut, VisitMutWith, VisitWith};

/// Merges equal declarations. `unresolved`: the context of names that the module does not declare.
pub(crate) fn merge(module: &mut Module, unresolved: SyntaxContext) {
    let mut by_name: HashMap<_, usize> = HashMap::new();
    let found = module.body.iter().filter_map(candidate);
    found.for_each(|(id, _)| *by_name.entry(id.0.clone()).or_default() += 1);
    let mut uses = Uses::default();
    module.visit_with(&mut uses);
    let mut first: HashMap<(_, String), Id> = HashMap::new();
    let mut same: HashMap<Id, Id> = HashMap::new();
    let mut declared = HashSet::new();
    module.visit_with(&mut TopLevel(&mut declared));
    module.body.retain(|item| {
        let Some((id, init)) = candidate(item) else { return true };
        if by_name[&id.0] < 2 || !uses.only_called(&id) || !is_mergeable(init, unresolved) {
            return true;
        }
        let mut init = init.clone();
        init.visit_mut_with(&mut Qualify { declared: &declared, same: &same, unresolved });
        let Some(text) = printed(&init) else { return true };
        match first.get(&(id.0.clone(), text.clone())) {
            Some(other) => drop(same.insert(id, other.clone())),
            None => drop(first.insert((id.0.clone(), text), id)),
        }
        // What has become another's name goes.
        !candidate(item).is_some_and(|(id, _)| same.contains_key(&id))
    });
    module.visit_mut_with(&mut Rename(&same));
}

/// `var a = …` at the top level.
fn candidate(item: &ModuleItem) -> Option<(Id, &Expr)> {
    let ModuleItem::Stmt(Stmt::Decl(Decl::Var(var))) = item else { return None };
    match &var.decls[..] {
        [VarDeclarator { name: Pat::Ident(name), init: Some(init), .. }] => {
            Some((name.to_id(), init))
        }
        _ => None,
    }
}

/// A function, or `Object.defineProperty` and the like.
fn is_mergeable(init: &Expr, unresolved: SyntaxContext) -> bool {
    match init {
        Expr::Arrow(_) | Expr::Fn(_) => true,
        Expr::Member(MemberExpr { obj, prop: MemberProp::Ident(_), .. }) => {
            let object = obj.as_ident().filter(|object| object.ctxt == unresolved);
            object.is_some_and(|object| matches!(object.sym.as_str(), "Object" | "Reflect"))
        }
        _ => false,
    }
}

/// How often a name stands in the code, and how often as the callee of a call.
#[derive(Default)]
struct Uses {
    all: HashMap<Id, usize>,
    called: HashMap<Id, usize>,
}

impl Uses {
    fn only_called(&self, id: &Id) -> bool {
        // One more for its declaration.
        self.all.get(id).copied() == self.called.get(id).map(|called| called + 1)
    }
}

impl Visit for Uses {
    fn visit_ident(&mut self, ident: &Ident) {
        *self.all.entry(ident.to_id()).or_default() += 1;
    }

    fn visit_call_expr(&mut self, call: &CallExpr) {
        if let Callee::Expr(callee) = &call.callee
            && let Expr::Ident(ident) = &**callee
        {
            *self.called.entry(ident.to_id()).or_default() += 1;
        }
        call.visit_children_with(self);
    }
}

/// Names that statements of the module declare, outside functions.
struct TopLevel<'a>(&'a mut HashSet<Id>);

impl Visit for TopLevel<'_> {
    fn visit_fn_decl(&mut self, function: &FnDecl) {
        self.0.insert(function.ident.to_id());
    }

    fn visit_class_decl(&mut self, class: &ClassDecl) {
        self.0.insert(class.ident.to_id());
    }

    fn visit_binding_ident(&mut self, ident: &BindingIdent) {
        self.0.insert(ident.to_id());
    }

    fn visit_function(&mut self, _: &Function) {}

    fn visit_arrow_expr(&mut self, _: &ArrowExpr) {}
}

/// Gives every name that is not local to the expression a text of its own.
struct Qualify<'a> {
    declared: &'a HashSet<Id>,
    same: &'a HashMap<Id, Id>,
    unresolved: SyntaxContext,
}

impl VisitMut for Qualify<'_> {
    fn visit_mut_ident(&mut self, ident: &mut Ident) {
        let id = ident.to_id();
        let (sym, context) = self.same.get(&id).unwrap_or(&id);
        if self.declared.contains(&id) || *context == self.unresolved {
            ident.sym = format!("{sym}${}", context.as_u32()).into();
        }
    }
}

/// Puts one name in the place of its equals.
struct Rename<'a>(&'a HashMap<Id, Id>);

impl VisitMut for Rename<'_> {
    fn visit_mut_ident(&mut self, ident: &mut Ident) {
        if let Some((sym, context)) = self.0.get(&ident.to_id()) {
            ident.sym = sym.clone();
            ident.ctxt = *context;
        }
    }
}

fn printed(expr: &Expr) -> Option<String> {
    use codegen::Node as _;
    let files: Lrc<SourceMap> = Lrc::default();
    let mut text = vec![];
    let writer = codegen::text_writer::JsWriter::new(Lrc::clone(&files), "\n", &mut text, None);
    let mut emitter = codegen::Emitter {
        cfg: codegen::Config::default().with_target(EsVersion::latest()),
        comments: None,
        cm: files,
        wr: Box::new(writer),
    };
    expr.emit_with(&mut emitter).ok()?;
    drop(emitter);
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hoist::tests::changed;

    #[test]
    fn helpers_that_every_file_has_are_declared_once() {
        let helpers = "var def = Object.defineProperty;\n\
            var field = (o, k, v) => def(o, k, { value: v });\n";
        let [a, b] = ["a", "b"].map(|name| {
            format!("{helpers}const {name} = () => field({{}}, \"{name}\", def(1));\n")
        });
        let merged = changed(&[&a, &b], merge);
        assert_eq!(merged.matches("Object.defineProperty").count(), 1, "{merged}");
        assert_eq!(merged.matches("field = ").count(), 1, "{merged}");
        assert!(merged.contains("field({}, \"b\", def(1))"), "{merged}");
    }

    #[test]
    fn what_could_be_told_apart_stays() {
        let of = |name: &str| {
            format!(
                "let state{name} = 0; var same = () => 1; var used = () => 2;\n\
                 var count = () => state{name}++; var other = () => \"{name}\";\n\
                 const {name} = () => [used, same(), count(), other()];\n"
            )
        };
        let merged = changed(&[&of("a"), &of("b")], merge);
        for (name, times) in [("same", 1), ("used", 2), ("count", 2), ("other", 2)] {
            let declared = merged.matches(&format!("var {name}")).count();
            assert_eq!(declared, times, "{name}: {merged}");
        }
    }
}
