//! Classes that may put private fields into an object that is not new.
//!
//! In: the classes of a module. Out: the first whose parent may return another object from its
//! constructor. Invariant: freezing an object keeps nobody from giving it private fields, so where
//! the text does not show that every constructor above a class with private members gives a new
//! object, it is refused.

use std::collections::HashMap;

use deno_ast::swc::ast::*;
use deno_ast::swc::common::{BytePos, Spanned as _, SyntaxContext};
use deno_ast::swc::ecma_visit::{Visit, VisitWith as _};

/// What is known of the classes of a module.
#[derive(Default)]
pub(super) struct Stamps {
    known: HashMap<Id, Lineage>,
    /// Parents of classes with private members, and where they stand.
    heirs: Vec<(BytePos, Parent)>,
}

/// What a constructor gives.
#[derive(Clone)]
struct Lineage {
    /// Something else than the new object, perhaps.
    returns: bool,
    parent: Option<Parent>,
}

#[derive(Clone)]
enum Parent {
    /// A class of the module, by its own name or by that of the function that makes it.
    Named(Id),
    Unknown,
}

impl Stamps {
    /// A class is seen.
    pub(super) fn see(&mut self, class: &Class) {
        let Some(parent) = &class.super_class else { return };
        let is_private = |member: &ClassMember| match member {
            ClassMember::PrivateProp(field) => !field.is_static,
            ClassMember::PrivateMethod(method) => !method.is_static,
            _ => false,
        };
        if class.body.iter().any(is_private) {
            self.heirs.push((parent.span_lo(), Parent::of(parent)));
        }
    }

    /// A class has a name, or a function that makes it has.
    pub(super) fn name(&mut self, name: Id, class: &Class) {
        let parent = class.super_class.as_deref().map(Parent::of);
        let constructor = class.body.iter().find_map(|member| match member {
            ClassMember::Constructor(constructor) => constructor.body.as_ref(),
            _ => None,
        });
        let mut returns = Returns(false);
        constructor.iter().for_each(|body| body.visit_with(&mut returns));
        self.known.insert(name, Lineage { returns: returns.0, parent });
    }

    /// The first place that is not proved; `unresolved`: the mark of names of globals.
    pub(super) fn unproved(&self, unresolved: SyntaxContext) -> Option<BytePos> {
        let is_unproved = |parent: &Parent| {
            let mut next = Some(parent);
            // A chain has no more links than there are classes.
            for _ in 0..=self.known.len() {
                match next {
                    None => return false,
                    Some(Parent::Named(name)) if name.1 == unresolved => return false,
                    Some(Parent::Named(name)) => match self.known.get(name) {
                        Some(Lineage { returns: false, parent }) => next = parent.as_ref(),
                        _ => return true,
                    },
                    Some(Parent::Unknown) => return true,
                }
            }
            true
        };
        let unproved = self.heirs.iter().filter(|(_, parent)| is_unproved(parent));
        unproved.map(|(at, _)| *at).min()
    }
}

impl Parent {
    fn of(class: &Expr) -> Self {
        match class {
            Expr::Ident(name) => Self::Named(name.to_id()),
            Expr::Paren(inner) => Self::of(&inner.expr),
            Expr::Call(CallExpr { callee: Callee::Expr(callee), .. }) => match &**callee {
                Expr::Ident(name) => Self::Named(name.to_id()),
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

/// Whether a constructor returns a value, by itself.
struct Returns(bool);

impl Visit for Returns {
    fn visit_return_stmt(&mut self, returned: &ReturnStmt) {
        self.0 |= returned.arg.is_some();
    }

    fn visit_function(&mut self, _: &Function) {}
    fn visit_arrow_expr(&mut self, _: &ArrowExpr) {}
    fn visit_class(&mut self, _: &Class) {}
    fn visit_getter_prop(&mut self, _: &GetterProp) {}
    fn visit_setter_prop(&mut self, _: &SetterProp) {}
}
