//! `import.meta.url`, `dirname` and `filename` of files that `concave test` runs: where they are
//! on disk, as Vite's runner has it, and not where their modules are.
//!
//! In: the program of one file, and its path. Out: the same program with literals in their place.
//! Invariant: nothing else of `import.meta` changes.

use std::path::Path;

use deno_ast::ModuleSpecifier;
use deno_ast::swc::ast::{Expr, Lit, MemberExpr, MemberProp, MetaPropKind, Program};
use deno_ast::swc::ecma_visit::{VisitMut, VisitMutWith};

/// Writes the place of a file into its program.
pub(crate) fn tell(program: &mut Program, file: &Path) {
    program.visit_mut_with(&mut Place { file });
}

struct Place<'a> {
    file: &'a Path,
}

impl Place<'_> {
    fn text(&self, expression: &Expr) -> Option<String> {
        let Expr::Member(MemberExpr { obj, prop, .. }) = expression else { return None };
        let MemberProp::Ident(name) = prop else { return None };
        if !matches!(&**obj, Expr::MetaProp(meta) if meta.kind == MetaPropKind::ImportMeta) {
            return None;
        }
        match &*name.sym {
            "url" => Some(ModuleSpecifier::from_file_path(self.file).ok()?.to_string()),
            "dirname" => Some(self.file.parent()?.to_string_lossy().into_owned()),
            "filename" => Some(self.file.to_string_lossy().into_owned()),
            _ => None,
        }
    }
}

impl VisitMut for Place<'_> {
    fn visit_mut_expr(&mut self, expression: &mut Expr) {
        match self.text(expression) {
            Some(text) => *expression = Expr::Lit(Lit::Str(text.into())),
            None => expression.visit_mut_children_with(self),
        }
    }
}
