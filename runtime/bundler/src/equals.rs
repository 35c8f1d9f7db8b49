//! `import x = require("y")` and `export = x`, TypeScript's words for CommonJS.
//!
//! In: a module without types. Out: the same with `const x = require("y")`; a script that assigns
//! `module.exports` where it has `export =`. Invariant: neither statement is left.

use deno_ast::swc::ast::*;
use deno_ast::swc::common::{DUMMY_SP, Spanned, SyntaxContext};

use crate::compile::Issue;
use crate::tables::offset;

/// Translates both.
///
/// # Errors
/// An `export =` beside other imports or exports: the file is no CommonJS module.
pub(crate) fn translate(program: Program) -> Result<Program, Issue> {
    let Program::Module(mut module) = program else { return Ok(program) };
    let body = std::mem::take(&mut module.body);
    module.body = body.into_iter().map(import).collect();
    let assigned = module.body.iter().find_map(|item| match item {
        ModuleItem::ModuleDecl(ModuleDecl::TsExportAssignment(export)) => Some(export.span),
        _ => None,
    });
    let Some(span) = assigned else { return Ok(Program::Module(module)) };
    let mut assignment = None;
    let mut stmts = vec![];
    for item in module.body {
        match item {
            ModuleItem::Stmt(stmt) => stmts.push(stmt),
            ModuleItem::ModuleDecl(ModuleDecl::TsExportAssignment(export)) => {
                assignment = Some(export);
            }
            ModuleItem::ModuleDecl(other) => {
                return Err(Issue {
                    message: "`export =` cannot stand beside import and export statements".into(),
                    offset: offset(span).or(offset(other.span())).unwrap_or(0),
                    help: Some("Write `export default`, or `import x = require(\"…\")`."),
                });
            }
        }
    }
    // What it names may be declared below it, so it comes last.
    stmts.extend(assignment.map(|export| assign(*export.expr)));
    Ok(Program::Script(Script { span: module.span, body: stmts, shebang: None }))
}

/// `import x = require("y")` as a declaration.
fn import(item: ModuleItem) -> ModuleItem {
    let ModuleItem::ModuleDecl(ModuleDecl::TsImportEquals(decl)) = item else { return item };
    let TsModuleRef::TsExternalModuleRef(external) = decl.module_ref else {
        return ModuleItem::ModuleDecl(ModuleDecl::TsImportEquals(decl));
    };
    let specifier = Expr::Lit(Lit::Str(external.expr));
    let call = CallExpr {
        span: decl.span,
        callee: Callee::Expr(Box::new(word("require"))),
        args: vec![ExprOrSpread { spread: None, expr: Box::new(specifier) }],
        ..CallExpr::default()
    };
    let declarator = VarDeclarator {
        span: decl.span,
        name: Pat::Ident(decl.id.into()),
        init: Some(Box::new(Expr::Call(call))),
        definite: false,
    };
    let var = VarDecl {
        span: decl.span,
        ctxt: SyntaxContext::empty(),
        kind: VarDeclKind::Const,
        declare: false,
        decls: vec![declarator],
    };
    let var = Decl::Var(Box::new(var));
    match decl.is_export {
        true => ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(ExportDecl {
            span: decl.span,
            decl: var,
        })),
        false => ModuleItem::Stmt(Stmt::Decl(var)),
    }
}

/// `module.exports = value`.
fn assign(value: Expr) -> Stmt {
    let exports = MemberExpr {
        span: DUMMY_SP,
        obj: Box::new(word("module")),
        prop: MemberProp::Ident(IdentName::new("exports".into(), DUMMY_SP)),
    };
    let span = value.span();
    let assignment =
        AssignExpr { span, op: AssignOp::Assign, left: exports.into(), right: Box::new(value) };
    Stmt::Expr(ExprStmt { span, expr: Box::new(Expr::Assign(assignment)) })
}

fn word(text: &str) -> Expr {
    Expr::Ident(Ident::new_no_ctxt(text.into(), DUMMY_SP))
}
