//! Drops what a joined module never uses.
//!
//! In: a module whose scopes are resolved. Out: the same, without functions, classes and constants
//! that nothing left in it mentions. Invariant: only declarations whose evaluation can be seen by
//! nobody go; everything else is a root, and so is every export.

use std::collections::{HashMap, HashSet};

use deno_ast::swc::ast::*;
use deno_ast::swc::ecma_visit::{Visit, VisitWith};

/// Drops unused declarations.
pub(crate) fn prune(module: &mut Module) {
    let mut pieces: Vec<Piece> = vec![];
    for item in std::mem::take(&mut module.body) {
        pieces.extend(split(item).into_iter().map(Piece::new));
    }
    let mut declared: HashMap<Id, Vec<usize>> = HashMap::new();
    for (at, piece) in pieces.iter().enumerate() {
        for id in &piece.declares {
            declared.entry(id.clone()).or_default().push(at);
        }
    }
    let mut work: Vec<usize> = (0..pieces.len()).filter(|&at| pieces[at].is_root()).collect();
    let mut kept = vec![false; pieces.len()];
    while let Some(at) = work.pop() {
        if std::mem::replace(&mut kept[at], true) {
            continue;
        }
        for id in &pieces[at].mentions {
            work.extend(declared.get(id).into_iter().flatten());
        }
    }
    let left = pieces.into_iter().zip(kept).filter(|(_, kept)| *kept);
    module.body = left.map(|(piece, _)| piece.item).collect();
}

/// One statement that stays or goes as a whole.
struct Piece {
    item: ModuleItem,
    /// What it declares, if evaluating it does nothing else.
    declares: Vec<Id>,
    mentions: HashSet<Id>,
}

impl Piece {
    fn new(item: ModuleItem) -> Self {
        let declares = match &item {
            ModuleItem::Stmt(Stmt::Decl(decl)) => silent(decl),
            _ => None,
        };
        let mut mentions = Mentions::default();
        item.visit_with(&mut mentions);
        Self { item, declares: declares.unwrap_or_default(), mentions: mentions.ids }
    }

    fn is_root(&self) -> bool {
        self.declares.is_empty()
    }
}

/// `var a = 1, b = 2` as two statements.
fn split(item: ModuleItem) -> Vec<ModuleItem> {
    match item {
        ModuleItem::Stmt(Stmt::Decl(Decl::Var(var))) if var.decls.len() > 1 => {
            let VarDecl { span, ctxt, kind, declare, decls } = *var;
            let one = |decl| {
                let decls = vec![decl];
                let var = VarDecl { span, ctxt, kind, declare, decls };
                ModuleItem::Stmt(Stmt::Decl(Decl::Var(Box::new(var))))
            };
            decls.into_iter().map(one).collect()
        }
        item => vec![item],
    }
}

/// The names of a declaration that nobody can see being evaluated.
fn silent(decl: &Decl) -> Option<Vec<Id>> {
    match decl {
        Decl::Fn(function) => Some(vec![function.ident.to_id()]),
        Decl::Class(class) => is_silent_class(&class.class).then(|| vec![class.ident.to_id()]),
        Decl::Var(var) => match &var.decls[..] {
            [VarDeclarator { name: Pat::Ident(name), init, .. }] => {
                let silent = init.as_deref().is_none_or(is_silent);
                silent.then(|| vec![name.to_id()])
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_silent(expr: &Expr) -> bool {
    match expr {
        Expr::Lit(_) | Expr::Fn(_) | Expr::Arrow(_) => true,
        Expr::Class(class) => is_silent_class(&class.class),
        Expr::Paren(inner) => is_silent(&inner.expr),
        _ => false,
    }
}

/// Methods and constructors only: no field, no computed name, and a parent that is just named.
fn is_silent_class(class: &Class) -> bool {
    // A parent that is undefined or no constructor would throw; one that the module declares as a
    // class is neither, and any other name stays a root through the pieces that mention it.
    class.super_class.is_none() && has_silent_members(class)
}

/// Whether nothing but the parent can be seen when the class is made.
pub(crate) fn has_silent_members(class: &Class) -> bool {
    let plain = |name: &PropName| !matches!(name, PropName::Computed(_));
    class.decorators.is_empty()
        && class.body.iter().all(|member| match member {
            ClassMember::Constructor(_) | ClassMember::Empty(_) => true,
            ClassMember::Method(method) => {
                plain(&method.key) && method.function.decorators.is_empty()
            }
            ClassMember::PrivateMethod(_) => true,
            _ => false,
        })
}

#[derive(Default)]
struct Mentions {
    ids: HashSet<Id>,
}

impl Visit for Mentions {
    fn visit_ident(&mut self, ident: &Ident) {
        self.ids.insert(ident.to_id());
    }
}
