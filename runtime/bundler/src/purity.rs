//! Whether a module keeps anything of a call in its variables: if not, a context may serve many.
//!
//! In: a module as it is deployed, and which of its functions ran while it was imported. Out:
//! nothing, or the first [`Impurity`]. Invariant: where the text does not prove it, it is refused.
//! Objects are frozen by whoever keeps the context, so that an assignment to a property throws, and
//! the call is made again in a fresh one; where a function is seen to assign one of the module's or
//! of the global object, it is refused as well: what it throws may be caught.

mod globals;
mod stamps;
mod walk;

use std::collections::HashSet;

use deno_ast::swc::ast::{EsVersion, Module, ModuleDecl, ModuleItem, Program};
use deno_ast::swc::common::sync::Lrc;
use deno_ast::swc::common::{
    BytePos, FileName, GLOBALS, Globals, Mark, SourceFile, SourceMap, SyntaxContext,
};
use deno_ast::swc::ecma_visit::VisitWith;
use deno_ast::swc::parser;
use deno_ast::swc::transforms::resolver;
use thiserror::Error;

use crate::error::line_and_column;
use walk::Walk;

/// Bytes of stack that any module gets, and for each byte of its text: the deepest nesting takes
/// one byte of text a level.
const STACK_BYTES: usize = 64 << 20;
const STACK_BYTES_EACH: usize = 128;

/// Longer modules are not looked at, in bytes.
const SOURCE_BYTES_MAX: usize = 8 << 20;

/// Why calls could see each other in a context that serves many.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{path}:{line}:{column}: {reason}")]
pub struct Impurity {
    /// The module.
    pub path: String,
    /// Line of the JavaScript, from 1; 0 where the module as a whole is meant.
    pub line: u32,
    /// Column in characters, from 1; 0 as above.
    pub column: u32,
    /// What stands there.
    pub reason: Reason,
}

/// What may keep something of a call.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Reason {
    /// A function assigns a variable of the module.
    #[error("a function assigns `{0}`, a variable of the module, which outlives the call")]
    ModuleVariable(String),
    /// A function assigns a variable of the function around it, which ran at import.
    #[error(
        "a function assigns `{0}`, a variable of the function around it; that ran at import, so \
         its variables outlive the call"
    )]
    CapturedVariable(String),
    /// A function assigns a property of an object that outlives the call.
    #[error(
        "a function assigns a property of `{0}`, which outlives the call: where it is frozen, the \
         function comes to something else"
    )]
    Property(String),
    /// A private field is assigned outside its constructor.
    #[error("`#{0}` is assigned in an object that import may have made, and cannot be frozen")]
    PrivateField(String),
    /// A class may give private fields to an object that is not new.
    #[error(
        "this class has private members, and what it extends may return an object that is not new: \
         one that outlives the call would keep them"
    )]
    Stamp,
    /// A function asks whether an object is frozen, or is told so instead of an error.
    #[error("`{0}` shows a function whether an object is frozen, as those that outlive a call are")]
    Shown(String),
    /// Import makes an object without a prototype, which no search for live objects finds.
    #[error("`{0}` at import may make an object without a prototype, which cannot be frozen")]
    NullPrototype(&'static str),
    /// `import.meta` is such an object.
    #[error("`import.meta` is an object without a prototype, which cannot be frozen")]
    ImportMeta,
    /// Code that is not in the text.
    #[error("`{0}` runs code that is not in the module's text, so nobody can know what it assigns")]
    Code(&'static str),
    /// A generator function ran at import.
    #[error("this generator function ran at import: what it suspends outlives the call")]
    Generator,
    /// A built-in whose state freezing does not reach.
    #[error("`{0}` has a state that cannot be frozen")]
    Stateful(String),
    /// The text does not parse as an ES module.
    #[error("it does not parse: {0}")]
    Unparsed(String),
    /// It is not known what ran at import.
    #[error("nobody watched which of its functions ran at import")]
    Unwatched,
    /// Some function that is not in the text ran at import.
    #[error("a function ran at import that ends where none does in the text")]
    Unknown,
    /// The module is too large to look at.
    #[error("it is too large to prove anything of it")]
    TooLarge,
}

/// Looks at one module; gives what it imports, as it names it. `ran`: where the functions end that
/// ran while it was imported, as UTF-16 offsets in `source`; the module itself is one of them.
///
/// # Errors
/// The first place that may keep something of a call.
pub fn verdict(path: &str, source: &str, ran: &[u32]) -> Result<Vec<String>, Impurity> {
    let whole = |reason| Impurity { path: path.to_owned(), line: 0, column: 0, reason };
    if source.len() > SOURCE_BYTES_MAX {
        return Err(whole(Reason::TooLarge));
    }
    let Some(ran) = Ends::new(source, ran) else { return Err(whole(Reason::Unknown)) };
    let looked = std::thread::scope(|scope| {
        let stack = STACK_BYTES + STACK_BYTES_EACH * source.len();
        let thread = std::thread::Builder::new().stack_size(stack);
        let thread = thread.spawn_scoped(scope, || look(source, &ran));
        thread.ok().and_then(|thread| thread.join().ok())
    });
    match looked {
        None => Err(whole(Reason::TooLarge)),
        Some(Ok(imports)) => Ok(imports),
        Some(Err(Fault { at: None, reason })) => Err(whole(reason)),
        Some(Err(Fault { at: Some(offset), reason })) => {
            let (line, column) = line_and_column(source, offset);
            Err(Impurity { line, column, ..whole(reason) })
        }
    }
}

/// A reason and where it stands: byte offset in the text.
struct Fault {
    at: Option<usize>,
    reason: Reason,
}

fn look(source: &str, ran: &Ends) -> Result<Vec<String>, Fault> {
    let files: Lrc<SourceMap> = Lrc::default();
    GLOBALS.set(&Globals::new(), || {
        let name = Lrc::new(FileName::Custom(String::new()));
        let file = files.new_source_file(name, source.to_owned());
        let (module, unresolved) = resolved(&file)?;
        let mut walk = Walk::new(ran, file.start_pos, unresolved);
        module.visit_with(&mut walk);
        let offset = |at: BytePos| (at.0.saturating_sub(file.start_pos.0)) as usize;
        match walk.finish() {
            Some((at, reason)) => Err(Fault { at: at.map(offset), reason }),
            None => Ok(imports(&module)),
        }
    })
}

/// What a module imports; functions cannot import.
fn imports(module: &Module) -> Vec<String> {
    let name = |item: &ModuleItem| {
        let source = match item {
            ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => Some(&import.src),
            ModuleItem::ModuleDecl(ModuleDecl::ExportAll(export)) => Some(&export.src),
            ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(export)) => export.src.as_ref(),
            _ => None,
        };
        source.map(|source| source.value.to_string_lossy().into_owned())
    };
    module.body.iter().filter_map(name).collect()
}

/// The module with its scopes resolved, and the mark of names that none of them declares.
fn resolved(file: &SourceFile) -> Result<(Module, SyntaxContext), Fault> {
    let syntax = parser::Syntax::Es(parser::EsSyntax::default());
    let mut errors = vec![];
    let parsed = parser::parse_file_as_module(file, syntax, EsVersion::latest(), None, &mut errors);
    let unparsed = |error: &parser::error::Error| Fault {
        at: None,
        reason: Reason::Unparsed(error.kind().msg().into_owned()),
    };
    let module = parsed.map_err(|error| unparsed(&error))?;
    if let Some(error) = errors.first() {
        return Err(unparsed(error));
    }
    let unresolved = Mark::new();
    let mut program = Program::Module(module);
    program.mutate(resolver(unresolved, Mark::new(), false));
    Ok((program.expect_module(), SyntaxContext::empty().apply_mark(unresolved)))
}

/// Where the functions end that ran at import: byte offsets.
struct Ends {
    all: HashSet<u32>,
    /// Where the module ends.
    module: u32,
}

impl Ends {
    /// `None` where one of them is no place in the text.
    fn new(source: &str, ran: &[u32]) -> Option<Self> {
        let mut sorted = ran.to_vec();
        sorted.sort_unstable();
        let mut wanted = sorted.into_iter().peekable();
        let mut all = HashSet::new();
        let mut utf16 = 0;
        let past = (source.len(), '\0');
        for (byte, character) in source.char_indices().chain(std::iter::once(past)) {
            while wanted.next_if_eq(&utf16).is_some() {
                all.insert(u32::try_from(byte).ok()?);
            }
            utf16 += u32::try_from(character.len_utf16()).ok()?;
        }
        // One in the middle of a character or past the end belongs to another text.
        let module = u32::try_from(source.len()).ok()?;
        wanted.next().is_none().then_some(Self { all, module })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a module of which the functions ran that end right before a `§`.
    fn said(marked: &str) -> String {
        let mut source = String::new();
        let mut ran = Vec::new();
        for part in marked.split_inclusive('§') {
            source.push_str(part.trim_end_matches('§'));
            if part.ends_with('§') {
                ran.push(utf16(&source));
            }
        }
        source.push('\n');
        ran.push(utf16(&source));
        match verdict("m.js", &source, &ran) {
            Ok(_) => "pure".to_owned(),
            Err(Impurity { line, column, reason, .. }) => format!("{line}:{column} {reason:?}"),
        }
    }

    fn utf16(text: &str) -> u32 {
        u32::try_from(text.encode_utf16().count()).unwrap_or_default()
    }

    #[test]
    fn a_variable_of_the_module_is_assigned_at_import_only() {
        let refused = |at: &str, name: &str| format!("{at} ModuleVariable(\"{name}\")");
        for pure in [
            "let n = 0; n += 1; for (let i = 0; i < 3; i++) n = i; [n] = [2]; export { n };",
            "let n; class C { static { n = 1; } static x = (n = 2); [n = 'a']() {} }",
            "let n; function f(n) { n = 1; { let n; n++; } var m; ({ m } = {}); return n; }",
            "let n; export const f = ({ n }) => { for (n of []) n.x = 1; };",
            "const o = {}; o.x = 1; delete o.x; export function f(o) { o.x = 1; delete o.y; }",
            "export function f() { const o = {}; o.x = 1; o.list.push(2); g().x = 3; }",
            "const list = [1]; export const f = () => list.map((n) => n + 1).push(2);",
        ] {
            assert_eq!(said(pure), "pure", "{pure}");
        }
        for (impure, expected) in [
            ("let n;\nfunction f() {\n  n = 1; }", refused("3:3", "n")),
            ("let n; const f = () => n++;", refused("1:24", "n")),
            ("let n; const f = () => { ({ a: [n = 2] } = {}); };", refused("1:33", "n")),
            ("let n; const f = () => { ({ n = 3, ...n } = {}); };", refused("1:29", "n")),
            ("let n; const f = () => { for (n in {}); };", refused("1:31", "n")),
            ("let n; class C { x = n++; }", refused("1:22", "n")),
            ("let n; class C { m() { (n) ||= 1; } }", refused("1:25", "n")),
            ("let n; const o = { get a() { return n ??= 1; } };", refused("1:37", "n")),
            ("let n; const o = { set a(v) { n = v; } };", refused("1:31", "n")),
            ("let n; const f = (a = (n = 1)) => a;", refused("1:24", "n")),
            ("for (let i = 0; i < 1; i++) { f(() => i--); }", refused("1:39", "i")),
            ("function f() { f = 1; }", refused("1:16", "f")),
            ("class C { m() { return () => { C = 1; }; } }", refused("1:32", "C")),
            ("export default function () { nowhere = 1; }", refused("1:30", "nowhere")),
        ] {
            assert_eq!(said(impure), expected, "{impure}");
        }
    }

    #[test]
    fn a_property_of_what_import_made_is_assigned_at_import_only() {
        for (impure, expected) in [
            ("const o = {};\nconst f = () => {\n  o.x = 1; };", "3:3 Property(\"o\")"),
            ("const f = () => { globalThis.x ??= 1; };", "1:19 Property(\"globalThis\")"),
            ("const o = {}; function f() { delete o.a['b'].c; }", "1:37 Property(\"o\")"),
            ("import o from 'o'; const f = () => o[1]++;", "1:36 Property(\"o\")"),
            ("const o = {}; const f = () => { [o.x] = [1]; };", "1:34 Property(\"o\")"),
            ("const o = {}; const f = () => { for (o.x of []); };", "1:38 Property(\"o\")"),
            ("const list = []; const f = () => list.push(1);", "1:34 Property(\"list\")"),
        ] {
            assert_eq!(said(impure), expected, "{impure}");
        }
        let captured = "const f = (o) => { return () => { o.x = 1; }; }§;";
        assert_eq!(said(captured), "1:35 Property(\"o\")");
        assert_eq!(said(&captured.replace('§', "")), "pure", "it is made in a call");
    }

    #[test]
    fn a_variable_of_a_function_is_assigned_inside_it_if_it_did_not_run_at_import() {
        let inside = "function f(a) { let b; return { g() { b = a++; }, h: () => { a = 1; } }; }";
        assert_eq!(said(inside), "pure");
        assert_eq!(said(&format!("{inside}§")), "1:39 CapturedVariable(\"b\")");
        assert_eq!(
            said("const f = (a, b = () => { a = 1; }) => (b)§;"),
            "1:27 CapturedVariable(\"a\")"
        );
        assert_eq!(said("const f = () => { let a; a = 1; return () => a; }§;"), "pure", "its own");
        assert_eq!(said("/* 😀 */ const f = (a) => () => a++§;"), "1:32 CapturedVariable(\"a\")");
        assert_eq!(said("const f = (a) => { try {} catch (e) { return () => e++; } };"), "pure");
    }

    #[test]
    fn what_the_bundler_makes_on_demand_is_always_the_same() {
        let maker = "class P {}\nvar madeA;\nfunction makeA() { return madeA ??= class A extends P \
                     { m() {} }; }";
        assert_eq!(said(maker), "pure");
        let child = "var madeB; function makeB() { return madeB ??= class B extends makeA() {} }";
        assert_eq!(said(&format!("{maker} {child}")), "pure");
        let inside = format!("function f(P) {{ var madeA; {maker} }}");
        assert_eq!(said(&inside), "pure", "f did not run at import, so madeA is of a call");
        for other in [
            "let a; function P() { return class {}; } function make() { return a ??= class extends \
             P() {}; }",
            "let a; function make(x) { return a ??= class { m() { return x; } }; }",
            "let a; function make() { return a ??= class extends a {}; }",
            "let a; function f(x) { function make() { return a ??= class { m() { x; } }; } }",
        ] {
            let refused = said(other);
            assert!(refused.ends_with("ModuleVariable(\"a\")"), "{other}: {refused}");
        }
        let other = maker.replace("extends P", "extends P(arguments)");
        assert_eq!(said(&other), "3:27 ModuleVariable(\"madeA\")");
        let other = maker.replace("m() {}", "static n = 1;");
        assert_eq!(said(&other), "3:27 ModuleVariable(\"madeA\")");
        let other = maker.replace("??=", "=");
        assert_eq!(said(&other), "3:27 ModuleVariable(\"madeA\")");
    }

    #[test]
    fn a_private_field_is_assigned_while_its_object_is_made() {
        let class = "class C { #a = 1; constructor() { this.#a = 2; } inc() { this.#a++; } }";
        assert_eq!(said(class), "pure", "import makes none");
        let refused = "1:63 PrivateField(\"a\")";
        assert_eq!(said(&format!("{class}§")), refused, "the initializer of its fields ran");
        assert_eq!(said(&class.replace("2; }", "2; }§")), refused, "its constructor ran");
        let only_new = "class C { #a; #b = (this.#a = 1); constructor() { this.#a = 2; } }§";
        assert_eq!(said(only_new), "pure");
        let later = "class C { #a; constructor() { this.f = () => { this.#a = 2; }; } }§";
        assert_eq!(said(later), "1:53 PrivateField(\"a\")");
        let other = "class C { #a; constructor(o) { o.#a = 2; } }§";
        assert_eq!(said(other), "1:34 PrivateField(\"a\")");
        let shared = "class C { static #a; static f() { [C.#a] = [1]; } static { C.#a = 1; } }";
        assert_eq!(said(shared), "1:38 PrivateField(\"a\")");
        assert_eq!(said(&format!("function f() {{ {shared} }}")), "pure");
        assert_eq!(said("class C { set #a(v) {} f() { this.#a = 1; } }§"), "pure", "a setter");
    }

    #[test]
    fn private_members_are_given_to_new_objects_only() {
        let returns = "class Return { constructor(o) { return o; } }";
        let tag = "class Tag extends Return { #who = 1; }";
        assert_eq!(said(&format!("{returns} {tag}")), "1:65 Stamp");
        assert_eq!(said(&format!("{tag} {returns}")), "1:19 Stamp", "in any order");
        let between = format!("{returns} class Plain extends Return {{}}");
        assert!(said(&format!("{between} {}", tag.replace("Return", "Plain"))).ends_with(" Stamp"));
        let method = tag.replace("#who = 1;", "#who() {}");
        assert!(said(&format!("{returns} {method}")).ends_with(" Stamp"));
        for unknown in [
            "import { Return } from './a.js';",
            "function Return(o) { return o; }",
            "const Return = f();",
        ] {
            assert!(said(&format!("{unknown} {tag}")).ends_with(" Stamp"), "{unknown}");
        }
        for pure in [
            "class Base { constructor() { [].map(() => { return 1; }); return; } } class A extends \
             Base { #a = 1; }",
            "class A extends Error { #a = 1; } const B = class extends A { #b = 2; };",
            "class A extends Array { static #a = 1; } class B { #b; constructor(o) { return o; } }",
        ] {
            assert_eq!(said(pure), "pure", "{pure}");
        }
    }

    #[test]
    fn functions_do_not_ask_what_is_frozen() {
        for (code, what) in [
            ("Object.isFrozen(a)", "Object.isFrozen"),
            ("globalThis.Object.isSealed(a)", "Object.isSealed"),
            ("Object['getOwnPropertyDescriptor'](a, 'b')", "Object.getOwnPropertyDescriptor"),
            ("Reflect.set(a, 'b', 1)", "Reflect.set"),
            ("Reflect[a](1)", "Reflect.[…]"),
            ("[Reflect.deleteProperty]", "Reflect.deleteProperty"),
        ] {
            let refused = said(&format!("const f = (a) => {{ g({code}); }};"));
            assert!(refused.ends_with(&format!(" Shown({what:?})")), "{code}: {refused}");
        }
        let alias = said("const f = () => { const { isFrozen } = Object; };");
        assert_eq!(alias, "1:40 Shown(\"Object.[…]\")");
        let kept = said("const isFrozen = Object.isFrozen; const f = (a) => isFrozen(a);");
        assert_eq!(kept, "1:18 Shown(\"Object.isFrozen\")");
        let statics = said("const f = () => /a/.constructor.lastMatch;");
        assert_eq!(statics, "1:17 Stateful(\"RegExp.lastMatch\")");
        for pure in [
            "const d = Object.getOwnPropertyDescriptor(o, 'a');",
            "const f = () => Object.getOwnPropertyDescriptor(globalThis, 'window');",
            "const f = (a) => Object.keys(a).concat(Reflect.ownKeys(a), Reflect.get(a, 'b'));",
        ] {
            assert_eq!(said(pure), "pure", "{pure}");
        }
    }

    #[test]
    fn import_makes_no_object_that_a_search_misses() {
        for (code, what) in [
            ("Object.create(null)", "Object.create"),
            ("Object.create(x)", "Object.create"),
            ("globalThis.Object.create(null)", "Object.create"),
            ("x.create(null)", "Object.create"),
            ("[Object.create]", "Object.create"),
            ("({ create: x } = Object)", "Object"),
            ("Object['setPrototypeOf'](x, null)", "setPrototypeOf"),
            ("Reflect.setPrototypeOf(x, x.y)", "setPrototypeOf"),
            ("x.__proto__ = null", "__proto__"),
            ("({ __proto__: null })", "__proto__"),
            ("Object.groupBy([], String)", "Object.groupBy"),
            ("Object[x]()", "Object.groupBy"),
            ("class extends null {}", "extends null"),
            ("/(?<year>.)/.exec(x).groups", "groups"),
        ] {
            let refused = said(&format!("let x; f({code});"));
            assert!(refused.ends_with(&format!(" NullPrototype({what:?})")), "{code}: {refused}");
            let in_call = said(&format!("let x; const g = (x) => {{ f({code}); }}"));
            let is_shown = code.starts_with("Reflect.") || code.starts_with("Object[x]");
            assert_eq!(in_call.contains("Shown"), is_shown, "{code}: {in_call}");
            assert_eq!(in_call == "pure", !is_shown, "{code}: {in_call}");
            let ran = said(&format!("let x; const g = (x) => {{ f({code}); }}§"));
            // Of two reasons at one place the first is told.
            assert!(ran.contains("NullPrototype") || is_shown, "{code}: {ran}");
            assert_ne!(ran, "pure", "{code}");
        }
        for pure in [
            "f(Object.create(F.prototype), Object.keys(o), new Object(), Object(1));",
            "f(Object.setPrototypeOf(o, { a: 1 }), o.constructor === Object);",
            "f(Object.prototype.hasOwnProperty.call(o, 'a'), o.create(1), o.groups, /(?<=a)/);",
        ] {
            assert_eq!(said(pure), "pure", "{pure}");
        }
    }

    #[test]
    fn what_the_text_does_not_show_is_refused() {
        for (code, reason) in [
            ("const f = () => import.meta.url;", "1:17 ImportMeta"),
            ("const meta = import.meta;", "1:14 ImportMeta"),
            ("const f = (a) => eval(a);", "1:18 Code(\"eval\")"),
            ("const f = (a) => globalThis.eval(a);", "1:18 Code(\"eval\")"),
            ("const f = new Function('return 1');", "1:15 Code(\"Function\")"),
            ("const f = [Function];", "1:12 Code(\"Function\")"),
            ("const f = import('./a.js');", "1:11 Code(\"import()\")"),
            ("const f = (a) => new WeakRef(a);", "1:22 Stateful(\"WeakRef\")"),
            ("const f = () => RegExp.$1;", "1:17 Stateful(\"RegExp.$1\")"),
            ("const f = () => RegExp['lastMatch'];", "1:17 Stateful(\"RegExp.lastMatch\")"),
            ("const f = (a) => RegExp[a];", "1:18 Stateful(\"RegExp.[…]\")"),
            ("const f = Proxy.revocable({}, {});", "1:11 Stateful(\"Proxy.revocable\")"),
            ("const f = function* () {}§;", "1:11 Generator"),
            ("with (a) {}", "0:0 Unparsed"),
            ("const a = 1§, f = () => 1;", "1:12 Unknown"),
        ] {
            let said = said(code);
            assert!(said.starts_with(reason), "{code}: {said}");
        }
        for pure in [
            "const f = (a) => a instanceof Function && typeof WeakRef + new RegExp(a).source;",
            "const f = function* () {}; const url = import.meta.url; RegExp.prototype.test.call();",
            "export const f = async () => await import('./a.js');",
            "function Box(Function, RegExp) { return Function(RegExp); }",
        ] {
            assert_eq!(said(pure), "pure", "{pure}");
        }
        let unwatched =
            verdict("m.js", "export const f = () => 1;\n", &[]).map_err(|found| found.to_string());
        assert_eq!(verdict("m.js", "export {};\n", &[]), Ok(Vec::new()), "it has no functions");
        assert_eq!(
            unwatched,
            Err("m.js:0:0: nobody watched which of its functions ran at import".to_owned())
        );
    }

    #[test]
    fn a_long_chain_needs_no_more_stack_than_there_is() {
        let chain = "1+".repeat(200_000);
        assert_eq!(said(&format!("const a = {chain}1;")), "pure");
    }
}
