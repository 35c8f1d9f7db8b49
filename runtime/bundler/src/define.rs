//! `process.env.NODE_ENV` is `"production"`: replaces it and drops the branches that it decides.
//!
//! In: a parsed program whose scopes are resolved. Out: the same program, shorter. Invariant: only
//! code that could never run goes, and `var`s declared in it stay declared.

use deno_ast::swc::ast::*;
use deno_ast::swc::atoms::Atom;
use deno_ast::swc::common::{DUMMY_SP, SyntaxContext};
use deno_ast::swc::ecma_visit::{Visit, VisitMut, VisitMutWith, VisitWith};
use deno_ast::swc::utils::find_pat_ids;

/// The pass.
pub(crate) struct Production {
    /// Context of identifiers that no scope of the file declares.
    pub(crate) unresolved: SyntaxContext,
}

impl VisitMut for Production {
    fn visit_mut_expr(&mut self, expr: &mut Expr) {
        if self.is_node_env(expr) {
            *expr = Expr::Lit(Lit::Str("production".into()));
            return;
        }
        expr.visit_mut_children_with(self);
        fold(expr);
    }

    fn visit_mut_stmt(&mut self, stmt: &mut Stmt) {
        stmt.visit_mut_children_with(self);
        let Stmt::If(branch) = stmt else { return };
        let Some(taken) = truth(&branch.test) else { return };
        let nothing = || Box::new(Stmt::Empty(EmptyStmt { span: DUMMY_SP }));
        let alternative = branch.alt.take().unwrap_or_else(nothing);
        let consequent = std::mem::replace(&mut branch.cons, nothing());
        let (kept, dropped) =
            if taken { (consequent, alternative) } else { (alternative, consequent) };
        *stmt = match hoisted(&dropped) {
            None => *kept,
            // A block would be wrong for a function declaration only, and an `if` has none in
            // strict code.
            Some(declared) => Stmt::Block(BlockStmt {
                span: DUMMY_SP,
                ctxt: SyntaxContext::empty(),
                stmts: vec![declared, *kept],
            }),
        };
    }
}

impl Production {
    /// `process.env.NODE_ENV`, with dots, brackets or `?.`.
    fn is_node_env(&self, expr: &Expr) -> bool {
        let Some((env, "NODE_ENV")) = member(expr) else { return false };
        let Some((process, "env")) = member(env) else { return false };
        matches!(process, Expr::Ident(id) if id.ctxt == self.unresolved && id.sym == *"process")
    }
}

/// Object and property of a member expression whose property is known.
fn member(expr: &Expr) -> Option<(&Expr, &str)> {
    let member = match expr {
        Expr::Member(member) => member,
        Expr::OptChain(chain) => match &*chain.base {
            OptChainBase::Member(member) => member,
            OptChainBase::Call(_) => return None,
        },
        Expr::Paren(inner) => return member(&inner.expr),
        _ => return None,
    };
    let name = match &member.prop {
        MemberProp::Ident(name) => &*name.sym,
        MemberProp::Computed(ComputedPropName { expr, .. }) => match &**expr {
            Expr::Lit(Lit::Str(text)) => text.value.as_str()?,
            _ => return None,
        },
        MemberProp::PrivateName(_) => return None,
    };
    Some((&member.obj, name))
}

/// Replaces an operator whose outcome is known by that outcome.
fn fold(expr: &mut Expr) {
    let boolean = |value: bool| Expr::Lit(Lit::Bool(Bool { span: DUMMY_SP, value }));
    let folded = match expr {
        Expr::Bin(bin) => match (bin.op, text(&bin.left), text(&bin.right)) {
            (BinaryOp::EqEq | BinaryOp::EqEqEq, Some(a), Some(b)) => boolean(a == b),
            (BinaryOp::NotEq | BinaryOp::NotEqEq, Some(a), Some(b)) => boolean(a != b),
            (BinaryOp::LogicalAnd | BinaryOp::LogicalOr, ..) => {
                let Some(left) = truth(&bin.left) else { return };
                let right_decides = left == (bin.op == BinaryOp::LogicalAnd);
                let side = if right_decides { &mut bin.right } else { &mut bin.left };
                std::mem::replace(&mut **side, Expr::Invalid(Invalid { span: DUMMY_SP }))
            }
            _ => return,
        },
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang, arg, .. }) => match truth(arg) {
            Some(value) => boolean(!value),
            None => return,
        },
        Expr::Cond(cond) => {
            let Some(taken) = truth(&cond.test) else { return };
            let side = if taken { &mut cond.cons } else { &mut cond.alt };
            std::mem::replace(&mut **side, Expr::Invalid(Invalid { span: DUMMY_SP }))
        }
        _ => return,
    };
    *expr = folded;
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Lit(Lit::Str(text)) => text.value.as_str(),
        Expr::Paren(inner) => text(&inner.expr),
        _ => None,
    }
}

/// Whether a literal counts as true; `None` where that is decided at run time.
fn truth(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::Lit(Lit::Bool(literal)) => Some(literal.value),
        Expr::Lit(Lit::Str(literal)) => Some(!literal.value.is_empty()),
        Expr::Paren(inner) => truth(&inner.expr),
        _ => None,
    }
}

/// A declaration of every `var` inside a statement that is about to go.
fn hoisted(dropped: &Stmt) -> Option<Stmt> {
    let mut vars = Vars(vec![]);
    dropped.visit_with(&mut vars);
    let decls: Vec<_> = vars
        .0
        .into_iter()
        .map(|(sym, ctxt)| VarDeclarator {
            span: DUMMY_SP,
            name: Pat::Ident(Ident::new(sym, DUMMY_SP, ctxt).into()),
            init: None,
            definite: false,
        })
        .collect();
    if decls.is_empty() {
        return None;
    }
    let var = VarDecl {
        span: DUMMY_SP,
        ctxt: SyntaxContext::empty(),
        kind: VarDeclKind::Var,
        declare: false,
        decls,
    };
    Some(Stmt::Decl(Decl::Var(Box::new(var))))
}

struct Vars(Vec<(Atom, SyntaxContext)>);

impl Visit for Vars {
    fn visit_var_decl(&mut self, decl: &VarDecl) {
        if decl.kind == VarDeclKind::Var {
            self.0.extend(decl.decls.iter().flat_map(|d| find_pat_ids::<_, Id>(&d.name)));
        }
    }

    // A `var` belongs to the function around it.
    fn visit_function(&mut self, _: &Function) {}
    fn visit_arrow_expr(&mut self, _: &ArrowExpr) {}
    fn visit_class(&mut self, _: &Class) {}
}
