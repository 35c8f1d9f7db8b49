//! Makes the classes of a large family when they are first needed.
//!
//! In: a module whose scopes are resolved. Out: the same, where a class that extends a class with
//! many children is the value of a function that makes it once. Invariant: only classes whose
//! making nobody can see, and that the module does not export: fields, static members and computed
//! names keep a class where it stands. Why: of such a family (the validators of `convex/values`) a
//! deployment names a few, and each class is a dozen heap objects of every fresh context.

use std::collections::{HashMap, HashSet};

use deno_ast::swc::ast::*;
use deno_ast::swc::common::{DUMMY_SP, SyntaxContext};
use deno_ast::swc::ecma_visit::{Visit, VisitMut, VisitMutWith, VisitWith};
use deno_ast::swc::utils::private_ident;

use crate::prune::has_silent_members;

/// Children that make a family.
const MANY: usize = 4;

/// Moves the classes of families into functions.
pub(crate) fn defer(module: &mut Module) {
    let mut children: HashMap<Id, usize> = HashMap::new();
    let parents = module.body.iter().filter_map(class_of).filter_map(parent_of);
    parents.for_each(|parent| *children.entry(parent).or_default() += 1);
    children.retain(|_, count| *count >= MANY);
    let is_declared = |parent: &Id| {
        module.body.iter().filter_map(class_of).any(|class| class.ident.to_id() == *parent)
    };
    children.retain(|parent, _| is_declared(parent));
    if children.is_empty() {
        return;
    }
    let mut fixed = Fixed::default();
    module.visit_with(&mut fixed);
    // Of two that have a name, one is renamed; as a class of its own it would show the new name.
    let has_own_name = |class: &ClassDecl| {
        let named = |other: &&ClassDecl| other.ident.sym == class.ident.sym;
        module.body.iter().filter_map(class_of).filter(named).count() == 1
    };
    let is_deferred = |class: &&ClassDecl| {
        has_silent_members(&class.class)
            && has_own_name(class)
            && !fixed.names.contains(&class.ident.to_id())
            && parent_of(class).is_some_and(|parent| {
                children.contains_key(&parent) && !fixed.names.contains(&parent)
            })
    };
    let deferred = module.body.iter().filter_map(class_of).filter(is_deferred);
    let maker_of = |class: &ClassDecl| {
        let name = private_ident!(class.ident.span, format!("make{}", class.ident.sym));
        (class.ident.to_id(), name)
    };
    let makers: HashMap<Id, Ident> = deferred.map(maker_of).collect();
    for item in std::mem::take(&mut module.body) {
        match item {
            ModuleItem::Stmt(Stmt::Decl(Decl::Class(class)))
                if makers.contains_key(&class.ident.to_id()) =>
            {
                module.body.extend(maker(class, &makers));
            }
            item => module.body.push(item),
        }
    }
    module.visit_mut_with(&mut Call { makers: &makers });
}

fn class_of(item: &ModuleItem) -> Option<&ClassDecl> {
    match item {
        ModuleItem::Stmt(Stmt::Decl(Decl::Class(class))) => Some(class),
        _ => None,
    }
}

fn parent_of(class: &ClassDecl) -> Option<Id> {
    Some(class.class.super_class.as_ref()?.as_ident()?.to_id())
}

/// `var made; function make() { return made ??= class … }`.
fn maker(class: ClassDecl, makers: &HashMap<Id, Ident>) -> [ModuleItem; 2] {
    let make = makers[&class.ident.to_id()].clone();
    let made = private_ident!(format!("made{}", class.ident.sym));
    let name = VarDeclarator {
        span: DUMMY_SP,
        name: Pat::Ident(made.clone().into()),
        init: None,
        definite: false,
    };
    let variable = VarDecl { kind: VarDeclKind::Var, decls: vec![name], ..VarDecl::default() };
    let value = ClassExpr { ident: Some(class.ident), class: class.class };
    let assign = AssignExpr {
        span: DUMMY_SP,
        op: AssignOp::NullishAssign,
        left: AssignTarget::from(BindingIdent::from(made)),
        right: Box::new(Expr::Class(value)),
    };
    let back = ReturnStmt { span: DUMMY_SP, arg: Some(Box::new(Expr::Assign(assign))) };
    let body = BlockStmt { stmts: vec![Stmt::Return(back)], ..BlockStmt::default() };
    let function = Function { body: Some(body), ..Function::default() };
    let function = FnDecl { ident: make, declare: false, function: Box::new(function) };
    [Decl::Var(Box::new(variable)), Decl::Fn(function)]
        .map(|decl| ModuleItem::Stmt(Stmt::Decl(decl)))
}

/// Names that are more than read: assigned, exported, or written as `{ name }`.
#[derive(Default)]
struct Fixed {
    names: HashSet<Id>,
}

impl Visit for Fixed {
    fn visit_assign_target(&mut self, target: &AssignTarget) {
        let mut names = Names(&mut self.names);
        target.visit_with(&mut names);
    }

    fn visit_update_expr(&mut self, update: &UpdateExpr) {
        update.visit_with(&mut Names(&mut self.names));
    }

    fn visit_for_head(&mut self, head: &ForHead) {
        head.visit_with(&mut Names(&mut self.names));
    }

    fn visit_export_specifier(&mut self, specifier: &ExportSpecifier) {
        specifier.visit_with(&mut Names(&mut self.names));
    }

    fn visit_prop(&mut self, prop: &Prop) {
        match prop {
            Prop::Shorthand(ident) => drop(self.names.insert(ident.to_id())),
            other => other.visit_children_with(self),
        }
    }
}

struct Names<'a>(&'a mut HashSet<Id>);

impl Visit for Names<'_> {
    fn visit_ident(&mut self, ident: &Ident) {
        self.0.insert(ident.to_id());
    }
}

/// `new C()` becomes `new (makeC())()`.
struct Call<'a> {
    makers: &'a HashMap<Id, Ident>,
}

impl VisitMut for Call<'_> {
    fn visit_mut_expr(&mut self, expr: &mut Expr) {
        expr.visit_mut_children_with(self);
        if let Expr::Ident(ident) = expr
            && let Some(make) = self.makers.get(&ident.to_id())
        {
            let make = Ident { span: ident.span, ..make.clone() };
            let callee = Callee::Expr(Box::new(Expr::Ident(make)));
            let ctxt = SyntaxContext::empty();
            *expr = Expr::Call(CallExpr { span: ident.span, ctxt, callee, ..CallExpr::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hoist::tests::changed;

    #[test]
    fn classes_of_a_large_family_are_made_on_demand() {
        let source = "class P {} class A extends P { m() { return B; } } class B extends P {}\n\
            class C extends P {} class D extends P { static x = 1; } class E extends P {}\n\
            let F = class {}; class G extends F {}\n\
            const use = (x) => x instanceof A ? new C() : [D, { E }];";
        let expected = "class P { }\n\
            var madeA; function makeA() { return madeA ??= class A extends P {\n\
            m() { return makeB(); } }; }\n\
            var madeB; function makeB() { return madeB ??= class B extends P { }; }\n\
            var madeC; function makeC() { return madeC ??= class C extends P { }; }\n\
            class D extends P { static x = 1; } class E extends P { }\n\
            let F = class { }; class G extends F { }\n\
            const use = (x)=>x instanceof makeA() ? new (makeC())() : [ D, { E } ];";
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&changed(&[source], |module, _| defer(module))), words(expected));
    }

    #[test]
    fn a_small_family_stays() {
        let source = "class P {}\nclass A extends P {\n}\nclass B extends P {\n}\n";
        let changed = changed(&[source], |module, _| defer(module));
        assert!(changed.contains("class A extends P") && !changed.contains("makeA"), "{changed}");
    }
}
