//! `vi.mock`: what a test file mocks, and its calls moved above its imports, as vitest does it.
//!
//! In: the program of a test file. Out: the same program in another order, whose imports are
//! requested when the mocks are there. Invariant: statements move whole, so their lines in the
//! source map stay true.
//!
//! ```text
//! import { send } from "./email";          vi.mock("./email", make, $import_0); // "./email?mock"
//! vi.mock("./email", make);         ──►    await …settle();
//! test(…);                                 const { send } = await import("./email");
//!                                          test(…);
//! ```
//!
//! Whatever else imports `./email` then finds a module (`Location::Mocked`) that exports what the
//! runner has for it when it is evaluated. `?mock` and `?actual` lead to the file itself. What
//! `import()` finds in the app's own files is fresh after `vi.resetModules()` ([`fresh`]).

use std::path::{Path, PathBuf};

use deno_ast::swc::ast::*;
use deno_ast::swc::common::{DUMMY_SP, Span};
use deno_ast::swc::ecma_visit::{VisitMut, VisitMutWith};

use crate::compile::{Name, RequestKind, Tables, quoted};
use crate::resolve::Location;

/// Ends of specifiers of what a test file mocks, and of what it imports beside its mocks.
pub(crate) const MOCK: &str = "?mock";
pub(crate) const ACTUAL: &str = "?actual";
/// The same of what its author has written to stand for a module, in a folder `__mocks__`.
pub(crate) const MANUAL: &str = "?manual";

/// The runner's side of it (`js/test/mocks.js`).
const MOCKS: &str = "globalThis[Symbol.for(\"concave.mocks\")]";

/// A statement of its own line, which the imports take the place of.
const MARK: &str = "$concave.imports";

/// What belongs to a test file that mocks, or whose setup files do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mocks {
    /// Files that import a mocked one, directly or not.
    pub reaching: Vec<PathBuf>,
    /// Its own modules of the setup files, in their order.
    pub setup: Vec<String>,
}

/// Whether a test file has calls that must come before its imports.
pub(crate) fn concern(text: &str) -> bool {
    const CALLS: [&str; 8] = [
        "mock(",
        "hoisted(",
        "importActual",
        "importMock",
        "unmock(",
        "doMock(",
        "doUnmock(",
        "resetModules(",
    ];
    let is_called = |of: &str| CALLS.iter().any(|call| text.contains(&format!("{of}.{call}")));
    is_called("vi") || is_called("vitest")
}

/// Gives each call that names a module the way to it.
pub(crate) fn give_modules(program: &mut Program) {
    program.visit_mut_with(&mut Calls);
}

struct Calls;

impl VisitMut for Calls {
    fn visit_mut_call_expr(&mut self, call: &mut CallExpr) {
        call.visit_mut_children_with(self);
        let (suffix, place) = match method(call) {
            Some("mock" | "doMock") => (MOCK, 2),
            Some("unmock" | "doUnmock" | "importMock") => (MOCK, 1),
            Some("importActual") => (ACTUAL, 1),
            _ => return,
        };
        let Some((specifier, span)) = call.args.first().and_then(|first| named(&first.expr)) else {
            return;
        };
        *call.args[0].expr = text(&specifier, span);
        while call.args.len() < place {
            call.args.push(argument(Expr::Ident(Ident::new_no_ctxt("undefined".into(), DUMMY_SP))));
        }
        let is_plain = call.args[1..].iter().all(|arg| is_undefined(&arg.expr));
        let takes_manual =
            is_plain && matches!(method(call), Some("mock" | "doMock" | "importMock"));
        call.args.truncate(place);
        call.args.push(argument(import(&format!("{specifier}{suffix}"), span)));
        if takes_manual {
            call.args.push(argument(import(&format!("{specifier}{MANUAL}"), span)));
        }
    }
}

fn is_undefined(expression: &Expr) -> bool {
    matches!(expression, Expr::Ident(name) if &*name.sym == "undefined")
}

/// Leaves of the imports that were given to calls what makes them: `$import_0` of `$import_0()`.
pub(crate) fn give_ways(program: &mut Program) {
    program.visit_mut_with(&mut Ways);
}

struct Ways;

impl VisitMut for Ways {
    fn visit_mut_call_expr(&mut self, call: &mut CallExpr) {
        call.visit_mut_children_with(self);
        let takes_one = matches!(
            method(call),
            Some("mock" | "doMock" | "unmock" | "doUnmock" | "importMock" | "importActual")
        );
        // The first one names the module.
        for given in call.args.iter_mut().skip(1).filter(|_| takes_one) {
            if let Some(way) = way_of(&given.expr) {
                given.expr = way;
            }
        }
    }
}

/// `$import_0` of `$import_0()`.
fn way_of(expression: &Expr) -> Option<Box<Expr>> {
    let Expr::Call(CallExpr { callee: Callee::Expr(way), args, .. }) = expression else {
        return None;
    };
    let is_way = matches!(&**way, Expr::Ident(name) if name.sym.starts_with("$import_"));
    (is_way && args.is_empty()).then(|| way.clone())
}

/// `m` of `vi.m(…)`.
fn method(call: &CallExpr) -> Option<&str> {
    let Callee::Expr(callee) = &call.callee else { return None };
    let Expr::Member(MemberExpr { obj, prop: MemberProp::Ident(name), .. }) = &**callee else {
        return None;
    };
    let is_vi = matches!(&**obj, Expr::Ident(of) if matches!(&*of.sym, "vi" | "vitest"));
    is_vi.then_some(&*name.sym)
}

/// The module that `"./a"` or `import("./a")` names.
fn named(expression: &Expr) -> Option<(String, Span)> {
    match expression {
        Expr::Lit(Lit::Str(text)) => Some((text.value.to_string_lossy().into_owned(), text.span)),
        Expr::Call(CallExpr { callee: Callee::Import(_), args, .. }) => named(&args.first()?.expr),
        _ => None,
    }
}

fn text(value: &str, span: Span) -> Expr {
    Expr::Lit(Lit::Str(Str { span, value: value.into(), raw: None }))
}

fn argument(expression: Expr) -> ExprOrSpread {
    ExprOrSpread { spread: None, expr: Box::new(expression) }
}

/// `import("…")`.
fn import(specifier: &str, span: Span) -> Expr {
    Expr::Call(CallExpr {
        callee: Callee::Import(Import { span: DUMMY_SP, phase: ImportPhase::Evaluation }),
        args: vec![argument(text(specifier, span))],
        ..CallExpr::default()
    })
}

/// Puts the calls first, and a mark where the imports are to be.
pub(crate) fn hoist(program: &mut Program) {
    let Program::Module(module) = program else { return };
    let (first, rest): (Vec<_>, Vec<_>) =
        std::mem::take(&mut module.body).into_iter().partition(comes_first);
    let mark = Stmt::Expr(ExprStmt { span: DUMMY_SP, expr: Box::new(text(MARK, DUMMY_SP)) });
    module.body.extend(first);
    module.body.push(ModuleItem::Stmt(mark));
    module.body.extend(rest);
}

fn comes_first(item: &ModuleItem) -> bool {
    let is_call = |expression: &Expr| {
        let inner = match expression {
            Expr::Await(awaited) => &*awaited.arg,
            other => other,
        };
        let Expr::Call(call) = inner else { return false };
        matches!(method(call), Some("mock" | "unmock" | "hoisted"))
    };
    match item {
        ModuleItem::Stmt(Stmt::Expr(statement)) => is_call(&statement.expr),
        ModuleItem::Stmt(Stmt::Decl(Decl::Var(variables))) => {
            variables.decls.iter().all(|one| one.init.as_deref().is_some_and(is_call))
        }
        _ => false,
    }
}

/// Writes the imports where the mark is: all but those of vitest itself, which the calls need.
pub(crate) fn import_late(code: &str, tables: &mut Tables) -> String {
    let mut line = String::new();
    for (index, request) in tables.requests.iter().enumerate() {
        if request.specifier.ends_with(MOCK) {
            line.push_str(&format!("{MOCKS}.know($import_{index}); "));
        }
    }
    line.push_str(&format!("await {MOCKS}.settle();"));
    let passed_on: Vec<usize> =
        tables.reexports.iter().map(|r| r.request).chain(tables.stars.iter().copied()).collect();
    for (index, request) in tables.requests.iter_mut().enumerate() {
        let is_early = request.specifier == "vitest" || passed_on.contains(&index);
        if request.kind != RequestKind::Import || is_early {
            continue;
        }
        request.kind = RequestKind::Dynamic;
        let mut names = Vec::new();
        for import in tables.imports.iter().filter(|import| import.request == index) {
            match &import.name {
                Name::Export(name) => names.push(format!("{}: {}", quoted(name), import.local)),
                Name::Namespace(_) => {
                    line.push_str(&format!(" const {} = await $import_{index}();", import.local));
                }
            }
        }
        let target = if names.is_empty() {
            String::new()
        } else {
            format!("const {{ {} }} = ", names.join(", "))
        };
        line.push_str(&format!(" {target}await $import_{index}();"));
    }
    let requests = &tables.requests;
    tables.imports.retain(|import| requests[import.request].kind == RequestKind::Import);
    code.replacen(&format!("{};", quoted(MARK)), &line, 1)
}

/// The text of the module that stands for a mocked file: CommonJS, of which anything can be
/// imported.
pub(crate) fn stand_in(file: &Path) -> String {
    let file = quoted(&file.to_string_lossy());
    format!("module.exports = {MOCKS}.get({file});\n")
}

/// The text of the module that is there only as it is mocked, for who wants it as it is.
pub(crate) fn missing(file: &Path) -> String {
    let shown = file.to_string_lossy();
    let name = shown.rsplit_once("/node_modules/").map_or(&*shown, |(_, name)| name);
    let why = format!(
        "Could not resolve {name:?}: it is there only as vi.mock() makes it, with a factory that \
         does not import it."
    );
    format!("throw new Error({});\n", quoted(&why))
}

/// What tells the runner where a way leads that a call of `vi` was given: to which mocked file, or
/// to what stands for one.
pub(crate) fn after_way(index: usize, specifier: &str, to: &Location) -> String {
    match to {
        Location::File(file) | Location::Absent(file) if specifier.ends_with(MOCK) => {
            format!(" $import_{index}.file = {};", quoted(&file.to_string_lossy()))
        }
        Location::File(_) if specifier.ends_with(MANUAL) => {
            format!(" $import_{index}.isManual = true;")
        }
        _ => String::new(),
    }
}

/// The expression for the promise of what a mocked file exports now.
pub(crate) fn exports_now(file: &Path) -> String {
    format!("{MOCKS}.now({})", quoted(&file.to_string_lossy()))
}

/// The expression for what a module that stands for a mocked file exports.
pub(crate) fn exports_for_good(file: &Path) -> String {
    format!("await {MOCKS}.forGood({})", quoted(&file.to_string_lossy()))
}

/// The expression for the URL of one of the app's modules: another one after `vi.resetModules()`.
/// Modules that it imports have the same ending (`actions/src/loader.rs`).
pub(crate) fn fresh(specifier: &str) -> String {
    format!("{} + (globalThis[Symbol.for(\"concave.generation\")] ?? \"\")", quoted(specifier))
}
