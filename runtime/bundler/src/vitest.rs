//! What a project's vitest configuration asks of a run of its tests.
//!
//! In: the project's root. Out: [`VitestConfig`]. Invariant: the file is read and never run: what
//! it does not write as a literal, and what is for vitest alone, is not followed, and told where
//! tests may depend on it.

use std::fs;
use std::path::{Path, PathBuf};

use deno_ast::swc::ast::{
    CallExpr, Callee, Expr, ExprOrSpread, KeyValueProp, Lit, MemberExpr, MemberProp, ObjectLit,
    Prop, PropName, PropOrSpread, UnaryOp,
};
use deno_ast::swc::ecma_visit::{Visit, VisitWith};
use deno_ast::{ParsedSource, SourceRangedForSpanned};
use serde_json::{Map, Value};

use crate::compile::{Language, parse};
use crate::error::line_and_column;
use crate::glob::matches;

/// Names of the file.
const STEMS: [&str; 2] = ["vitest.config", "vite.config"];
const EXTENSIONS: [&str; 6] = ["ts", "mts", "cts", "js", "mjs", "cjs"];

/// Settings that vitest's runner takes as they are.
const FLAGS: [&str; 7] = [
    "globals",
    "clearMocks",
    "mockReset",
    "restoreMocks",
    "unstubEnvs",
    "unstubGlobals",
    "allowOnly",
];
const NUMBERS: [&str; 4] = ["testTimeout", "hookTimeout", "retry", "maxConcurrency"];
const OBJECTS: [&str; 6] =
    ["env", "expect", "provide", "snapshotFormat", "fakeTimers", "chaiConfig"];
/// Settings that tests may depend on, and that only vitest can follow.
const OF_VITEST: [&str; 7] = [
    "alias",
    "projects",
    "workspace",
    "globalSetup",
    "runner",
    "snapshotSerializers",
    "includeSource",
];
/// Such settings of Vite, outside of `test`: what is in `resolve`, and `define` itself.
const OF_RESOLVE: [&str; 5] = ["alias", "conditions", "extensions", "mainFields", "dedupe"];
/// Environments whose tests run here as they do there.
const ENVIRONMENTS: [&str; 2] = ["node", "edge-runtime"];
/// The alias by which vitest finds this engine.
const OURS: &str = "convex-test";

/// What a configuration asks for; everything is empty where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VitestConfig {
    /// Files that are imported before each file of tests, in their order.
    pub setup: Vec<PathBuf>,
    /// Settings of vitest's runner, by their names there.
    pub settings: Map<String, Value>,
    /// What is not followed, each with its place.
    pub notes: Vec<String>,
    root: PathBuf,
    include: Vec<String>,
    exclude: Vec<String>,
}

impl VitestConfig {
    /// Where the configuration of the project at `root` may be, the first that there is counts.
    pub fn places(root: &Path) -> impl Iterator<Item = PathBuf> {
        let names = STEMS.iter().flat_map(|stem| EXTENSIONS.map(|e| format!("{stem}.{e}")));
        names.map(|name| root.join(name))
    }

    /// Reads the configuration of the project at `root`.
    pub fn read(root: &Path) -> Self {
        let found = Self::places(root).find(|file| file.is_file());
        let mut config = Self { root: root.to_owned(), ..Self::default() };
        let Some(file) = found else { return config };
        let text = fs::read_to_string(&file).unwrap_or_default();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match parse(Language::TypeScript, &text, true) {
            Ok(parsed) => {
                Reading { config: &mut config, parsed: &parsed, text: &text, name }.read()
            }
            Err(issue) => config.notes.push(noted(&name, &text, issue.offset, &issue.message)),
        }
        config
    }

    /// Whether it says which files hold tests, whatever they are called.
    pub fn names_tests(&self) -> bool {
        !self.include.is_empty()
    }

    /// Whether a file, by its path from the root, is one of those that hold tests.
    pub fn holds(&self, path: &str) -> bool {
        let fits = |pattern: &String| matches(pattern.trim_start_matches("./"), path);
        (self.include.is_empty() || self.include.iter().any(fits)) && !self.exclude.iter().any(fits)
    }
}

/// One reading of a file.
struct Reading<'a> {
    config: &'a mut VitestConfig,
    parsed: &'a ParsedSource,
    text: &'a str,
    name: String,
}

impl Reading<'_> {
    fn read(&mut self) {
        let mut search = Search::default();
        self.parsed.program_ref().visit_with(&mut search);
        for member in search.found.iter().flat_map(|test| &test.props) {
            self.member(member);
        }
        for (name, value) in &search.elsewhere {
            self.elsewhere(name, value);
        }
    }

    fn member(&mut self, member: &PropOrSpread) {
        let member = match member {
            PropOrSpread::Spread(spread) => {
                return self.note(&spread.expr, "concave test does not follow what is spread here");
            }
            PropOrSpread::Prop(member) => &**member,
        };
        match member {
            Prop::KeyValue(KeyValueProp { key, value }) => {
                if let Some(key) = name_of(key) {
                    self.take(&key, value);
                }
            }
            Prop::Shorthand(name) => self.take(&name.sym, &Expr::Ident(name.clone())),
            _ => {}
        }
    }

    /// What stands beside `test`: a part of Vite's own configuration.
    fn elsewhere(&mut self, name: &str, value: &Expr) {
        let of_vite = |name: &str| format!("concave test does not follow {name:?}; vitest does");
        match (name, plain(value)) {
            ("resolve", Expr::Object(resolve)) => {
                for (key, value) in resolve.props.iter().filter_map(written) {
                    if OF_RESOLVE.contains(&&*key) && !is_ours(literal(value).as_ref()) {
                        self.note(value, &of_vite(&format!("resolve.{key}")));
                    }
                }
            }
            ("define", Expr::Object(define)) if define.props.is_empty() => {}
            ("test", _) => {
                self.note(
                    value,
                    "concave test reads \"test\" only where it is written as a literal",
                );
            }
            (name, _) => self.note(value, &of_vite(name)),
        }
    }

    fn take(&mut self, key: &str, value: &Expr) {
        let found = literal(value);
        if OF_VITEST.contains(&key) {
            if !is_ours(found.as_ref()) {
                self.note(value, &format!("concave test does not follow {key:?}; vitest does"));
            }
        } else if key == "environment" {
            let name = found.as_ref().and_then(Value::as_str).unwrap_or("environment");
            if !ENVIRONMENTS.contains(&name) {
                self.note(value, &format!("concave test has no {name:?}: files run without it"));
            }
        } else if key == "coverage" {
            let members = match plain(value) {
                Expr::Object(coverage) => coverage.props.iter().filter_map(written).collect(),
                _ => vec![],
            };
            for (_, value) in members.into_iter().filter(|(name, _)| name == "thresholds") {
                self.note(value, "concave test does not follow \"coverage.thresholds\"");
            }
        } else if !self.follow(key, found) {
            let what = format!("concave test reads {key:?} only where it is written as a literal");
            self.note(value, &what);
        }
    }

    /// Takes a setting; says whether it was one that can be taken.
    fn follow(&mut self, key: &str, value: Option<Value>) -> bool {
        let fits = match (key, &value) {
            ("setupFiles" | "include" | "exclude", value) => {
                let Some(list) = value.as_ref().and_then(texts) else { return false };
                let root = &self.config.root;
                // Of configurations that are merged all count.
                match key {
                    "include" => self.config.include.extend(list),
                    "exclude" => self.config.exclude.extend(list),
                    _ => self.config.setup.extend(list.iter().map(|file| root.join(file))),
                }
                return true;
            }
            (key, value) if OBJECTS.contains(&key) => matches!(value, Some(Value::Object(_))),
            (key, value) if FLAGS.contains(&key) => matches!(value, Some(Value::Bool(_))),
            (key, value) if NUMBERS.contains(&key) => matches!(value, Some(Value::Number(_))),
            // Of no concern to what a test comes to: reporters, pools, the environment's name.
            _ => return true,
        };
        if let Some(value) = value.filter(|_| fits) {
            self.config.settings.insert(key.to_owned(), value);
        }
        fits
    }

    fn note(&mut self, at: &Expr, what: &str) {
        let start = self.parsed.text_info_lazy().range().start;
        let offset = at.start().as_byte_index(start);
        self.config.notes.push(noted(&self.name, self.text, offset, &format!("{what}.")));
    }
}

/// What is told, with its place.
fn noted(name: &str, text: &str, offset: usize, what: &str) -> String {
    let (line, column) = line_and_column(text, offset);
    format!("{name}:{line}:{column}: {what}")
}

/// Looks for objects that are called `test`, wherever the configuration is put together, and for
/// what else tests may depend on.
#[derive(Default)]
struct Search {
    found: Vec<ObjectLit>,
    elsewhere: Vec<(String, Expr)>,
}

impl Visit for Search {
    fn visit_key_value_prop(&mut self, member: &KeyValueProp) {
        let name = name_of(&member.key).unwrap_or_default();
        match (&*name, plain(&member.value)) {
            ("test", Expr::Object(test)) => self.found.push(test.clone()),
            ("resolve" | "define", _) | ("test", Expr::Ident(_) | Expr::Member(_)) => {
                self.elsewhere.push((name, (*member.value).clone()));
            }
            _ => member.visit_children_with(self),
        }
    }

    // What a plugin is called with is its own.
    fn visit_call_expr(&mut self, call: &CallExpr) {
        if let Callee::Expr(callee) = &call.callee
            && let Expr::Ident(name) = &**callee
            && (name.sym.starts_with("define") || &*name.sym == "mergeConfig")
        {
            call.visit_children_with(self);
        } else {
            call.callee.visit_with(self);
            let mut inside = Self::default();
            call.args.visit_with(&mut inside);
            self.found.extend(inside.found);
        }
    }

    fn visit_prop(&mut self, member: &Prop) {
        match member {
            Prop::Shorthand(name) if matches!(&*name.sym, "test" | "resolve" | "define") => {
                self.elsewhere.push((name.sym.to_string(), Expr::Ident(name.clone())));
            }
            _ => member.visit_children_with(self),
        }
    }
}

/// A member that is written out, with its name.
fn written(member: &PropOrSpread) -> Option<(String, &Expr)> {
    let PropOrSpread::Prop(member) = member else { return None };
    match &**member {
        Prop::KeyValue(KeyValueProp { key, value }) => Some((name_of(key)?, &**value)),
        _ => None,
    }
}

/// Whether of modules only that is replaced by which vitest finds this engine.
fn is_ours(alias: Option<&Value>) -> bool {
    let alias = alias.and_then(Value::as_object);
    alias.is_some_and(|alias| alias.keys().all(|name| name == OURS))
}

fn name_of(key: &PropName) -> Option<String> {
    match key {
        PropName::Ident(name) => Some(name.sym.to_string()),
        PropName::Str(text) => Some(text.value.to_string_lossy().into_owned()),
        _ => None,
    }
}

/// An expression without the types and parentheses around it.
fn plain(expression: &Expr) -> &Expr {
    match expression {
        Expr::Paren(inner) => plain(&inner.expr),
        Expr::TsAs(inner) => plain(&inner.expr),
        Expr::TsConstAssertion(inner) => plain(&inner.expr),
        Expr::TsSatisfies(inner) => plain(&inner.expr),
        other => other,
    }
}

/// The value of an expression that is made of literals.
fn literal(expression: &Expr) -> Option<Value> {
    match plain(expression) {
        Expr::Lit(Lit::Str(text)) => Some(text.value.to_string_lossy().into_owned().into()),
        Expr::Lit(Lit::Bool(flag)) => Some(flag.value.into()),
        Expr::Lit(Lit::Num(number)) => Some(number.value.into()),
        Expr::Unary(unary) if unary.op == UnaryOp::Minus => {
            Some((-literal(&unary.arg)?.as_f64()?).into())
        }
        Expr::Tpl(text) if text.exprs.is_empty() => {
            Some(text.quasis.first()?.raw.to_string().into())
        }
        Expr::Array(list) => {
            let element = |element: &Option<ExprOrSpread>| match element {
                Some(ExprOrSpread { spread: None, expr }) => literal(expr),
                _ => None,
            };
            list.elems.iter().filter(|element| !is_left_out_anyway(element)).map(element).collect()
        }
        Expr::Object(object) => {
            let member = |member: &PropOrSpread| match member {
                PropOrSpread::Prop(member) => match &**member {
                    Prop::KeyValue(member) => {
                        Some((name_of(&member.key)?, literal(&member.value)?))
                    }
                    _ => None,
                },
                PropOrSpread::Spread(_) => None,
            };
            let members: Option<Map<_, _>> = object.props.iter().map(member).collect();
            members.map(Value::Object)
        }
        _ => None,
    }
}

/// `...configDefaults.exclude`: packages and what git keeps, which hold no tests here either.
fn is_left_out_anyway(element: &Option<ExprOrSpread>) -> bool {
    let Some(ExprOrSpread { spread: Some(_), expr }) = element else { return false };
    let Expr::Member(MemberExpr { obj, prop: MemberProp::Ident(member), .. }) = &**expr else {
        return false;
    };
    &*member.sym == "exclude" && matches!(&**obj, Expr::Ident(of) if &*of.sym == "configDefaults")
}

/// One text, or a list of them.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(list) => list.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(name: &str, text: &str) -> VitestConfig {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), text).unwrap();
        let config = VitestConfig::read(dir.path());
        let setup =
            config.setup.iter().map(|file| file.strip_prefix(dir.path()).unwrap().to_owned());
        VitestConfig { setup: setup.collect(), ..config }
    }

    #[test]
    fn settings_are_found_however_the_file_is_put_together() {
        for text in [
            "export default { test: { globals: true, testTimeout: 9_000 } };",
            "import { defineConfig } from 'vitest/config';\n\
             export default defineConfig({ 'test': { globals: true, testTimeout: 9e3 } });",
            "export default defineConfig(async () => ({ plugins: [x({ test: /a/ })],\n  \
             test: { globals: true, testTimeout: 9000 } as const } satisfies Y));",
        ] {
            let config = read("vitest.config.mts", text);
            let settings = json!({ "globals": true, "testTimeout": 9000.0 });
            assert_eq!(Value::Object(config.settings), settings, "{text}");
            assert_eq!(config.notes, Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn files_are_chosen_as_vitest_does() {
        let config = read(
            "vite.config.js",
            "export default { test: { setupFiles: './setup.ts', include: ['convex/**/*.test.ts'],\n\
             exclude: [...configDefaults.exclude, `**/slow.*`],\n\
             env: { A: 'b' }, environment: 'edge-runtime' } };",
        );
        assert_eq!(config.setup, [PathBuf::from("setup.ts")]);
        assert_eq!(Value::Object(config.settings.clone()), json!({ "env": { "A": "b" } }));
        let held = ["convex/a/b.test.ts", "convex/slow.test.ts", "src/a.test.ts"];
        assert_eq!(held.map(|path| config.holds(path)), [true, false, false]);
        assert!(VitestConfig::default().holds("src/a.test.ts"));
        let merged = read(
            "vitest.config.ts",
            "export default mergeConfig({ test: { include: ['a/**'] } }, defineConfig({ test: {\n\
             include: ['b/**'], retry: 2 } }));",
        );
        assert!(merged.holds("a/x.check.ts") && merged.holds("b/y.ts") && !merged.holds("c.ts"));
        assert_eq!(Value::Object(merged.settings.clone()), json!({ "retry": 2.0 }));
    }

    #[test]
    fn what_tests_may_depend_on_is_told_wherever_it_stands() {
        let config = read(
            "vitest.config.ts",
            "export default defineConfig({\n  plugins: [react({ define: 1, resolve: {} })],\n  \
             resolve: { alias: { '@': './src' }, conditions: [] },\n  define: { A: '1' },\n  \
             test: {\n    environment: 'jsdom',\n    includeSource: ['x'],\n    env,\n    \
             coverage: { thresholds: { lines: 1 } },\n    allowOnly: false,\n    \
             expect: { requireAssertions: true },\n    provide: { a: 1 },\n  },\n});",
        );
        let told: Vec<_> =
            config.notes.iter().map(|note| &note["vitest.config.ts:".len()..]).collect();
        let not = |place: &str, name: &str| {
            format!("{place}: concave test does not follow {name:?}; vitest does.")
        };
        assert_eq!(
            told,
            [
                "6:18: concave test has no \"jsdom\": files run without it.",
                &*not("7:20", "includeSource"),
                "8:5: concave test reads \"env\" only where it is written as a literal.",
                "9:29: concave test does not follow \"coverage.thresholds\".",
                &*not("3:21", "resolve.alias"),
                &*not("3:51", "resolve.conditions"),
                &*not("4:11", "define"),
            ]
        );
        let followed = json!({
            "allowOnly": false, "expect": { "requireAssertions": true }, "provide": { "a": 1.0 },
        });
        assert_eq!(Value::Object(config.settings), followed);
        let apart = "const test = {};\nexport default { test, resolve: { alias: { \
                     'convex-test': 'x' } } };";
        let literal = "concave test reads \"test\" only where it is written as a literal.";
        assert_eq!(
            read("vitest.config.ts", apart).notes,
            [format!("vitest.config.ts:2:18: {literal}")]
        );
    }

    #[test]
    fn what_is_not_followed_is_told_with_its_place() {
        let config = read(
            "vitest.config.ts",
            "const on = true;\nexport default { test: {\n  globals: on,\n  alias: { a: 'b' },\n  \
             setupFiles: [on],\n  testTimeout: '5',\n  pool: on,\n} };",
        );
        let literal =
            |key| format!("concave test reads {key:?} only where it is written as a literal.");
        assert_eq!(
            config.notes,
            [
                format!("vitest.config.ts:3:12: {}", literal("globals")),
                "vitest.config.ts:4:10: concave test does not follow \"alias\"; vitest does."
                    .to_owned(),
                format!("vitest.config.ts:5:15: {}", literal("setupFiles")),
                format!("vitest.config.ts:6:16: {}", literal("testTimeout")),
            ]
        );
        let spread = "export default { test: {\n  ...common, globals: true } };";
        let spread = read("vitest.config.ts", spread).notes;
        assert_eq!(
            spread,
            ["vitest.config.ts:2:6: concave test does not follow what is spread here."]
        );
        let ours =
            read("vitest.config.ts", "export default { test: { alias: { 'convex-test': 'x' } } }");
        assert_eq!(ours.notes, Vec::<String>::new());
        let broken = read("vitest.config.ts", "export default {\n  test: { globals: };\n");
        assert!(broken.notes[0].starts_with("vitest.config.ts:2:20: "), "{:?}", broken.notes);
    }
}
