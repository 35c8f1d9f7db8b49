//! What a project's vitest configuration asks of a run of its tests.
//!
//! In: the project's root. Out: [`VitestConfig`]. Invariant: the file is read and never run: what
//! it does not write as a literal, and what is for vitest alone, is not followed, and told where
//! tests may depend on it.

use std::fs;
use std::path::{Path, PathBuf};

use deno_ast::swc::ast::{
    Expr, ExprOrSpread, KeyValueProp, Lit, MemberExpr, MemberProp, ObjectLit, Prop, PropName,
    PropOrSpread, UnaryOp,
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
const FLAGS: [&str; 6] =
    ["globals", "clearMocks", "mockReset", "restoreMocks", "unstubEnvs", "unstubGlobals"];
const NUMBERS: [&str; 4] = ["testTimeout", "hookTimeout", "retry", "maxConcurrency"];
/// Settings that tests may depend on, and that only vitest can follow.
const OF_VITEST: [&str; 5] = ["alias", "projects", "globalSetup", "runner", "snapshotSerializers"];
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
            match member {
                PropOrSpread::Spread(spread) => {
                    self.note(&spread.expr, "concave test does not follow what is spread here");
                }
                PropOrSpread::Prop(member) => {
                    if let Prop::KeyValue(KeyValueProp { key, value }) = &**member
                        && let Some(key) = name_of(key)
                    {
                        self.take(&key, value);
                    }
                }
            }
        }
    }

    fn take(&mut self, key: &str, value: &Expr) {
        let found = literal(value);
        if OF_VITEST.contains(&key) {
            let alias = found.as_ref().and_then(Value::as_object);
            if !alias.is_some_and(|alias| alias.keys().all(|name| name == OURS)) {
                self.note(value, &format!("concave test does not follow {key:?}; vitest does"));
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
            ("env", value) => matches!(value, Some(Value::Object(_))),
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

/// Looks for objects that are called `test`, wherever the configuration is put together.
#[derive(Default)]
struct Search {
    found: Vec<ObjectLit>,
}

impl Visit for Search {
    fn visit_key_value_prop(&mut self, member: &KeyValueProp) {
        match (name_of(&member.key), plain(&member.value)) {
            (Some(name), Expr::Object(test)) if name == "test" => self.found.push(test.clone()),
            _ => member.visit_children_with(self),
        }
    }
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
