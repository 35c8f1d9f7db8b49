//! One file at a time: TypeScript, JSX, JSON, text or WebAssembly in; plain JavaScript and a table
//! of what it imports and exports out.
//!
//! In: a [`Source`]. Out: [`Compiled`]. Invariant: the result is a function of the source alone (so
//! it is cached by content), and knows nothing of the graph: imports and re-exports are taken out
//! of the code and put into tables, which the emitter turns into lines above it. That is also why a
//! source map needs no more than a shift by whole lines.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use deno_ast::swc::ast::Program;
use deno_ast::swc::common::SyntaxContext;
use deno_ast::swc::ecma_visit::VisitMutWith;
use deno_ast::swc::transforms::resolver;
use deno_ast::{
    DecoratorsTranspileOption, EmitOptions, FoldProgramError, Globals, JsxAutomaticOptions,
    JsxClassicOptions, JsxRuntime, MediaType, ModuleSpecifier, ParseDiagnostic, ParseParams,
    ParsedSource, SourceMapOption, SourceRanged, TranspileOptions,
};

use crate::define::Production;
use crate::mocks;
use crate::tables::take_tables;
use crate::{early, equals, place};

/// One file to compile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) text: Arc<str>,
    pub(crate) language: Language,
    pub(crate) settings: Settings,
}

/// What the text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Language {
    JavaScript,
    Jsx,
    TypeScript,
    Tsx,
    Json,
    Text,
    /// The text is the base64 of the bytes.
    WebAssembly,
}

impl Language {
    /// By extension; `None` for files that cannot be bundled.
    pub(crate) fn of(extension: &str) -> Option<Self> {
        Some(match extension {
            "js" | "mjs" | "cjs" => Self::JavaScript,
            "jsx" => Self::Jsx,
            "ts" | "mts" | "cts" => Self::TypeScript,
            "tsx" => Self::Tsx,
            "json" => Self::Json,
            "txt" => Self::Text,
            "wasm" => Self::WebAssembly,
            _ => return None,
        })
    }
}

/// Everything besides the text that a compilation depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Settings {
    /// Whether imports are rewritten to member accesses, for self-contained output.
    pub(crate) inline: bool,
    /// Whether a file without import and export statements is an ES module all the same.
    pub(crate) prefer_esm: bool,
    /// `jsxImportSource` of tsconfig.json.
    pub(crate) jsx_import_source: Option<String>,
    /// `jsxFactory` and `jsxFragmentFactory`, where `jsx` of tsconfig.json is `react`.
    pub(crate) jsx_classic: Option<(String, String)>,
    /// `experimentalDecorators` of tsconfig.json.
    pub(crate) legacy_decorators: bool,
    /// Whether the calls of `vi.mock` come before the imports.
    pub(crate) mocks: bool,
    /// Whether `process.env.NODE_ENV` is what it is when the code runs: files of tests.
    pub(crate) keeps_node_env: bool,
    /// Where the file is, for those that know it: the app's own in a run of tests.
    pub(crate) place: Option<PathBuf>,
}

/// A compiled file.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// CommonJS: the code is the body of a function of `exports`, `module` and `require`.
    pub(crate) is_commonjs: bool,
    pub(crate) code: String,
    /// `mappings` and `names` (JSON text) of the source map; `None` for data files.
    pub(crate) map: Option<(String, String)>,
    pub(crate) tables: Tables,
    /// CommonJS: names that the code seems to put on `exports`.
    pub(crate) names: BTreeSet<String>,
    /// CommonJS: specifiers whose exports the code seems to pass on.
    pub(crate) passed_on: Vec<String>,
    /// Syntax errors.
    pub(crate) issues: Vec<Issue>,
}

/// A syntax error.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Issue {
    pub(crate) message: String,
    /// Byte offset in the text.
    pub(crate) offset: usize,
    /// What to do about it.
    pub(crate) help: Option<&'static str>,
}

/// What a module takes from others and gives to others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// Every module asked for; imports and re-exports first, in evaluation order.
    pub(crate) requests: Vec<Request>,
    /// Bindings of import statements that the code uses.
    pub(crate) imports: Vec<Import>,
    /// `export { a as b } from`, and exports of imported bindings.
    pub(crate) reexports: Vec<Reexport>,
    /// `export * from`: indexes of requests.
    pub(crate) stars: Vec<usize>,
    /// Exports that the code itself declares: exported name, local name.
    pub(crate) locals: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RequestKind {
    /// `import` and `export from`.
    Import,
    /// `require("…")`.
    Require,
    /// `import("…")`.
    Dynamic,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) specifier: String,
    pub(crate) kind: RequestKind,
    /// Inside `try` or followed by `.catch`: may fail at run time.
    pub(crate) optional: bool,
    /// Byte offset in the text; `None` where a transform made it (JSX).
    pub(crate) offset: Option<usize>,
}

/// What is asked of another module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// One export, `default` included.
    Export(String),
    /// All of them as one object. With the properties that are read of it, if that is all that
    /// happens to it.
    Namespace(Option<BTreeSet<String>>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) request: usize,
    pub(crate) name: Name,
    /// Name of the binding in the code.
    pub(crate) local: String,
    /// Where the import statement names it: byte offset in the text.
    pub(crate) offset: Option<usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reexport {
    pub(crate) request: usize,
    pub(crate) name: Name,
    pub(crate) exported: String,
}

/// Compiles one file. Syntax errors are in [`Compiled::issues`].
pub(crate) fn compile(source: &Source) -> Compiled {
    let text = source.text.trim_start_matches('\u{feff}');
    let script = match source.language {
        Language::Json => return json(text),
        Language::Text => format!("export default {};\n", quoted(text)),
        Language::WebAssembly => web_assembly(text),
        _ => return script(source, text),
    };
    let language = Language::JavaScript;
    let inner = Source { text: script.as_str().into(), language, ..source.clone() };
    Compiled { map: None, ..self::script(&inner, &script) }
}

/// A JSON file is a CommonJS module whose `exports` are the value.
fn json(text: &str) -> Compiled {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => Compiled {
            is_commonjs: true,
            // JSON.parse and not a literal: a literal `__proto__` key would set the prototype.
            code: format!("module.exports = JSON.parse({});\n", quoted(&value.to_string())),
            names: value.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect(),
            ..Compiled::default()
        },
        Err(e) => {
            let start: usize = text.lines().take(e.line().max(1) - 1).map(|l| l.len() + 1).sum();
            let offset = start + e.column().max(1) - 1;
            let message = format!("This JSON does not parse: {e}");
            Compiled { issues: vec![Issue { message, offset, help: None }], ..Compiled::default() }
        }
    }
}

/// A module that runs everywhere. The host knows this text (`functions/src/wasm.rs`): it decodes
/// and compiles once what every evaluation would decode and compile again.
fn web_assembly(base64: &str) -> String {
    format!(
        "const webAssembly = {};\n\
         const bytes = Uint8Array.fromBase64\n  \
           ? Uint8Array.fromBase64(webAssembly)\n  \
           : globalThis.Buffer\n  \
           ? Buffer.from(webAssembly, \"base64\")\n  \
           : Uint8Array.from(atob(webAssembly), (character) => character.charCodeAt(0));\n\
         export default new WebAssembly.Module(bytes);\n",
        quoted(base64)
    )
}

/// Bytes as the text of a [`Language::WebAssembly`] source.
pub(crate) fn base64_of(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A JavaScript string literal.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn script(source: &Source, text: &str) -> Compiled {
    match parse(source.language, text, !source.settings.keeps_node_env) {
        Ok(parsed) => transform(source, text, &parsed)
            .unwrap_or_else(|issues| Compiled { issues, ..Compiled::default() }),
        Err(issue) => Compiled { issues: vec![issue], ..Compiled::default() },
    }
}

fn specifier() -> ModuleSpecifier {
    ModuleSpecifier::parse("file:///source").expect("the URL is well formed")
}

/// Parses, and where asked folds `process.env.NODE_ENV` while at it: the analysis of CommonJS
/// exports that follows must not see the development half of a package.
pub(crate) fn parse(language: Language, text: &str, folds: bool) -> Result<ParsedSource, Issue> {
    let media_type = match language {
        Language::Jsx => MediaType::Jsx,
        Language::TypeScript => MediaType::TypeScript,
        Language::Tsx => MediaType::Tsx,
        _ => MediaType::JavaScript,
    };
    let params = ParseParams {
        specifier: specifier(),
        text: text.into(),
        media_type,
        capture_tokens: false,
        scope_analysis: false,
        maybe_syntax: None,
    };
    let fold = |mut program: Program, globals: &Globals| {
        if folds && text.contains("NODE_ENV") {
            globals.with(|marks| {
                let typescript = matches!(language, Language::TypeScript | Language::Tsx);
                program.mutate(resolver(marks.unresolved, marks.top_level, typescript));
                let unresolved = SyntaxContext::empty().apply_mark(marks.unresolved);
                program.visit_mut_with(&mut Production { unresolved });
            });
        }
        program
    };
    deno_ast::parse_program_with_post_process(params, fold).map_err(|d| issue(&d, text))
}

fn issue(diagnostic: &ParseDiagnostic, text: &str) -> Issue {
    let start = SourceRanged::start(&diagnostic.range());
    let offset =
        start.as_byte_index(deno_ast::SourceTextInfo::from_string(text.into()).range().start);
    let help = early::cure(diagnostic.kind()).flatten();
    Issue { message: diagnostic.kind().msg().into_owned(), offset, help }
}

/// What V8 would refuse of a module, in the parser's words and ours.
fn early_errors(program: &Program, parsed: &ParsedSource, text: &str) -> Vec<Issue> {
    if !matches!(program, Program::Module(_)) {
        return vec![];
    }
    let mut found = early::errors(program);
    let refused = parsed.diagnostics().iter().filter(|d| early::cure(d.kind()).is_some());
    found.extend(refused.map(|d| issue(d, text)));
    found.sort_by_key(|issue| issue.offset);
    found
}

fn transform(source: &Source, text: &str, parsed: &ParsedSource) -> Result<Compiled, Vec<Issue>> {
    let is_module = parsed
        .program_ref()
        .body()
        .any(|item| matches!(item, deno_ast::ModuleItemRef::ModuleDecl(_)));
    let is_script = matches!(parsed.program_ref(), deno_ast::ProgramRef::Script(_));
    let is_commonjs = !is_module && !source.settings.prefer_esm && is_script;
    let source_map = deno_ast::SourceMap::single(specifier(), text.to_owned());
    let comments = parsed.comments().as_single_threaded();
    let options = options(source, text);
    let mut compiled = Compiled { is_commonjs, ..Compiled::default() };
    if is_commonjs {
        let analysis = parsed.analyze_cjs();
        compiled.names = analysis.exports.into_iter().filter(|n| n != "default").collect();
        compiled.passed_on = analysis.reexports;
    }
    let emitted = parsed.globals().with(|marks| {
        let program = (*parsed.program()).clone();
        let program = if is_commonjs { program } else { as_module(program) };
        let diagnostics = Box::new(parsed.diagnostics().iter());
        let mut program =
            deno_ast::fold_program(program, &options, &source_map, &comments, marks, diagnostics)
                .map_err(|e| issues_of(&e, text))?;
        program = equals::translate(program).map_err(|issue| vec![issue])?;
        compiled.is_commonjs |= !is_commonjs && matches!(program, Program::Script(_));
        let refused = early_errors(&program, parsed, text);
        if !refused.is_empty() {
            return Err(refused);
        }
        // The fold ends with names instead of scopes; find the scopes again.
        program.mutate(resolver(marks.unresolved, marks.top_level, false));
        let unresolved = SyntaxContext::empty().apply_mark(marks.unresolved);
        if source.settings.mocks {
            mocks::give_modules(&mut program);
        }
        if let Some(file) = &source.settings.place {
            place::tell(&mut program, file);
        }
        compiled.tables = take_tables(&mut program, source.settings.inline, unresolved);
        if source.settings.mocks {
            mocks::give_ways(&mut program);
            mocks::hoist(&mut program);
        }
        let options = EmitOptions {
            source_map: SourceMapOption::Separate,
            source_map_base: None,
            source_map_file: None,
            inline_sources: false,
            remove_comments: true,
        };
        deno_ast::emit((&program).into(), &comments, &source_map, &options)
            .map_err(|e| vec![Issue { message: e.to_string(), ..Issue::default() }])
    })?;
    compiled.code = match source.settings.mocks {
        true => mocks::import_late(&emitted.text, &mut compiled.tables),
        false => emitted.text,
    };
    compiled.map = emitted.source_map.as_deref().map(mappings);
    Ok(compiled)
}

/// A script as a module of the same statements.
fn as_module(program: Program) -> Program {
    use deno_ast::swc::ast::{Module, ModuleItem};
    match program {
        Program::Script(script) => Program::Module(Module {
            span: script.span,
            body: script.body.into_iter().map(ModuleItem::Stmt).collect(),
            shebang: None,
        }),
        module @ Program::Module(_) => module,
    }
}

fn options(source: &Source, text: &str) -> TranspileOptions {
    let settings = &source.settings;
    let jsx = matches!(source.language, Language::Jsx | Language::Tsx).then(|| {
        match classic_jsx(settings, text) {
            Some((factory, fragment_factory)) => {
                JsxRuntime::Classic(JsxClassicOptions { factory, fragment_factory })
            }
            None => JsxRuntime::Automatic(JsxAutomaticOptions {
                development: false,
                import_source: settings.jsx_import_source.clone(),
            }),
        }
    });
    // V8 knows neither decorators nor `accessor` fields.
    let (decorated, accessors) = (text.contains('@'), text.contains("accessor "));
    let decorators = if !decorated && !accessors {
        DecoratorsTranspileOption::None
    } else if source.settings.legacy_decorators && decorated {
        DecoratorsTranspileOption::LegacyTypeScript { emit_metadata: false }
    } else {
        DecoratorsTranspileOption::Ecma
    };
    TranspileOptions {
        decorators,
        // In TypeScript an import that is never used as a value is a type; in JavaScript every
        // import is what it says.
        verbatim_module_syntax: matches!(source.language, Language::JavaScript | Language::Jsx),
        jsx,
        ..TranspileOptions::default()
    }
}

/// The functions that JSX calls, if a comment of the file or tsconfig.json wants it to call any.
/// The names in such comments are for the transform to find.
fn classic_jsx(settings: &Settings, text: &str) -> Option<(String, String)> {
    let comments = || text.lines().map(str::trim_start).filter(|line| line.starts_with(['/', '*']));
    let says = |word: &str| comments().any(|line| line.contains(word));
    if says("@jsxRuntime automatic") || says("@jsxImportSource ") {
        return None;
    }
    if says("@jsx ") || says("@jsxRuntime classic") {
        let usual = || ("React.createElement".to_owned(), "React.Fragment".to_owned());
        return Some(settings.jsx_classic.clone().unwrap_or_else(usual));
    }
    settings.jsx_classic.clone()
}

fn issues_of(error: &FoldProgramError, text: &str) -> Vec<Issue> {
    match error {
        FoldProgramError::ParseDiagnostics(all) => all.0.iter().map(|d| issue(d, text)).collect(),
        FoldProgramError::Swc(e) => vec![Issue { message: e.to_string(), ..Issue::default() }],
    }
}

/// `mappings` and `names` of a source map.
fn mappings(json: &str) -> (String, String) {
    let map: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let mappings = map.get("mappings").and_then(|m| m.as_str()).unwrap_or_default();
    let names = map.get("names").map_or_else(|| "[]".to_owned(), ToString::to_string);
    (mappings.to_owned(), names)
}
