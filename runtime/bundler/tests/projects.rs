//! Small projects from end to end: what is emitted, what is pruned, what is refused and how it
//! reads.
//!
//! In: files written to a temporary folder. Out: assertions on the output's paths and text. What
//! the output does when it runs is tested against esbuild, in `tests/bundling`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its files must stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bundler::{BundleErrors, Bundler, Output, Project};
use tempfile::TempDir;

struct Files {
    dir: TempDir,
    bundler: Bundler,
}

/// A project with a stand-in for the `convex` package.
fn project(files: &[(&str, &str)]) -> Files {
    let project = Files { dir: tempfile::tempdir().unwrap(), bundler: Bundler::new() };
    project.write("package.json", r#"{"name":"app"}"#);
    package(&project, "convex", r#""version":"1.48.0","exports":{"./server":"./server.js"}"#);
    project.write(
        "node_modules/convex/server.js",
        "export const defineApp = () => ({ export: () => 1 });\nexport const query = (f) => f;\n",
    );
    for (path, text) in files {
        project.write(path, text);
    }
    project
}

fn package(project: &Files, name: &str, more: &str) {
    let text = format!("{{\"name\":\"{name}\",{more}}}");
    project.write(&format!("node_modules/{name}/package.json"), &text);
}

impl Files {
    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn bundle(&mut self) -> Result<Output, BundleErrors> {
        self.bundler.bundle(&Project::find(self.dir.path()).unwrap())
    }

    fn output(&mut self) -> Output {
        self.bundle().unwrap_or_else(|e| panic!("{e}"))
    }

    fn sources(&mut self) -> BTreeMap<String, String> {
        self.output().modules.into_iter().map(|m| (m.path, m.source)).collect()
    }

    fn refusal(&mut self) -> String {
        self.bundle().expect_err("this project is wrong").to_string()
    }
}

#[test]
fn functions_import_each_other_and_shared_code_by_relative_paths() {
    let mut files = project(&[
        ("convex/a.ts", "import { b } from './dir/b';\nexport const a: number = b;\n"),
        ("convex/dir/b.ts", "import { s } from '../../shared/my-s';\nexport const b = s;\n"),
        ("shared/my-s.ts", "export const s = 1;\n"),
    ]);
    let output = files.output();
    let paths: Vec<_> = output.modules.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(paths, ["_deps/app/shared/my_s.js", "a.js", "dir/b.js"]);
    assert_eq!(
        output.modules[1].source,
        "import { b } from \"./dir/b.js\";\nexport const a = b;\n"
    );
    assert!(output.modules[2].source.contains("from \"../_deps/app/shared/my_s.js\""));
    let entries: Vec<_> = output.entries.iter().map(|e| (&*e.path, &*e.source)).collect();
    assert_eq!(entries, [("a.js", "convex/a.ts"), ("dir/b.js", "convex/dir/b.ts")]);
    assert_eq!(output.convex_version, "1.48.0");
    assert!(output.watched.iter().any(|path| path.ends_with("shared/my-s.ts")));
}

#[test]
fn source_maps_move_down_with_the_import_lines() {
    let mut files = project(&[
        ("convex/a.ts", "import { b } from './b';\n\nexport function f() {\n  throw b;\n}\n"),
        ("convex/b.ts", "export const b = 1;\n"),
    ]);
    let output = files.output();
    let module = &output.modules[0];
    let map =
        sourcemap::SourceMap::from_slice(module.source_map.as_ref().unwrap().as_bytes()).unwrap();
    let line = module.source.lines().position(|line| line.contains("throw b")).unwrap();
    let token = map.lookup_token(u32::try_from(line).unwrap(), 2).unwrap();
    assert_eq!((token.get_source(), token.get_src_line()), (Some("../convex/a.ts"), 3));
    assert!(map.get_source_contents(0).unwrap().starts_with("import { b }"));
}

#[test]
fn types_vanish_and_so_do_imports_that_are_only_types() {
    let mut files = project(&[
        (
            "convex/a.ts",
            "import { T } from './types';\nimport type { U } from './nowhere';\n\
             export { T } from './types';\nexport const a = (t: T, u: U) => [t, u];\n",
        ),
        ("convex/types.ts", "export interface T { x: 1 }\n"),
    ]);
    let sources = files.sources();
    assert!(sources["a.js"].contains("export const a = (t, u)=>["), "{}", sources["a.js"]);
    assert!(!sources["a.js"].contains('T'), "{}", sources["a.js"]);
}

#[test]
fn barrels_without_side_effects_are_skipped() {
    let mut files = project(&[
        ("convex/a.ts", "import { one, deep } from 'lib';\nexport const a = [one, deep];\n"),
        (
            "node_modules/lib/index.js",
            "export { one } from './one.js';\nexport * from './more.js';\n",
        ),
        ("node_modules/lib/one.js", "export const one = 1;\n"),
        (
            "node_modules/lib/more.js",
            "export { deep } from './deep.js';\nexport { u } from './u.js';\n",
        ),
        ("node_modules/lib/deep.js", "export const deep = 1;\n"),
        ("node_modules/lib/u.js", "import 'fs';\nexport const u = 1;\n"),
    ]);
    package(
        &files,
        "lib",
        r#""version":"1.0.0","type":"module","main":"index.js","sideEffects":false"#,
    );
    let sources = files.sources();
    let paths: Vec<_> = sources.keys().map(String::as_str).collect();
    assert_eq!(paths, ["_deps/shared.js", "a.js"]);
    assert!(!sources["_deps/shared.js"].contains("u = 1"), "{sources:?}");

    package(&files, "lib", r#""version":"1.0.0","type":"module","main":"index.js""#);
    let refusal = files.refusal();
    assert!(
        refusal.contains("u.js:1:8: Could not resolve \"fs\""),
        "it may have effects: {refusal}"
    );
}

#[test]
fn joined_modules_keep_their_places_in_the_source_map() {
    let mut files = project(&[
        ("convex/a.ts", "import { one, two } from 'lib';\nexport const a = [one, two];\n"),
        ("node_modules/lib/index.js", "export * from './one.js';\nexport * from './two.js';\n"),
        (
            "node_modules/lib/one.js",
            "const local = 1;\n\nexport const one = () => marker(local);\n",
        ),
        ("node_modules/lib/two.js", "\n\n\nconst local = 2; export const two = marker(local);\n"),
    ]);
    package(&files, "lib", r#""type":"module","main":"index.js","sideEffects":false"#);
    let output = files.output();
    let shared = output.modules.iter().find(|m| m.path == "_deps/shared.js").unwrap();
    let map = shared.source_map.as_ref().unwrap();
    let map = sourcemap::SourceMap::from_slice(map.as_bytes()).unwrap();
    let lines = shared.source.lines().enumerate().filter(|(_, text)| text.contains("marker("));
    let found = lines.map(|(line, text)| {
        let column = u32::try_from(text.find("marker(").unwrap()).unwrap();
        let token = map.lookup_token(u32::try_from(line).unwrap(), column).unwrap();
        (token.get_source().unwrap().to_owned(), token.get_src_line(), token.get_src_col())
    });
    let expected = [("one.js", 2, 25), ("two.js", 3, 36)];
    let expected = expected.map(|(f, l, c)| (format!("../node_modules/lib/{f}"), l, c));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(map.get_source_contents(0), None, "nobody edits a package");
}

#[test]
fn conditions_and_browser_fields_choose_the_file() {
    let exports =
        r#""type":"module","exports":{"convex":"./c.js","node":"./n.js","default":"./d.js"}"#;
    let mut files = project(&[
        ("convex/a.ts", "import x from 'lib';\nimport y from 'old';\nexport const a = [x, y];\n"),
        ("convex/n.ts", "'use node';\nimport x from 'plain';\nexport const n = x;\n"),
        ("node_modules/lib/c.js", "export default 'convex';\n"),
        ("node_modules/old/main.js", "module.exports = 'main' + require('./dep.js');\n"),
        ("node_modules/old/browser.js", "module.exports = 'browser' + require('./dep.js');\n"),
        ("node_modules/old/dep.js", "throw 1;\n"),
        ("node_modules/plain/b.js", "export default 'browser';\n"),
        ("node_modules/plain/n.js", "export default 'node';\n"),
    ]);
    package(&files, "lib", exports);
    let field = r#""main":"main.js","browser":{"./main.js":"./browser.js","./dep.js":false}"#;
    package(&files, "old", field);
    package(&files, "plain", r#""exports":{"browser":"./b.js","node":"./n.js"}"#);
    let sources = files.sources();
    assert!(sources.contains_key("_deps/lib_0/c.js"));
    assert!(sources.contains_key("_deps/node/plain_0/n.js"));
    assert!(sources.contains_key("_deps/old_0/browser.cjs.js"));
    assert!(sources.keys().any(|path| path.contains("dep.ignored")), "{:?}", sources.keys());
}

#[test]
fn tsconfig_paths_and_package_imports_resolve() {
    let mut files = project(&[
        ("tsconfig.json", r#"{"compilerOptions":{"paths":{"@/*":["./src/*"]}}}"#),
        ("package.json", r##"{"name":"app","imports":{"#x":"./src/x.js"}}"##),
        (
            "convex/a.ts",
            "import { x } from '@/x';\nimport { x as y } from '#x';\nexport const a = x === y;\n",
        ),
        ("src/x.ts", "export const x = {};\n"),
    ]);
    let sources = files.sources();
    for import in ["import { x } from", "import { x as y } from"] {
        assert!(
            sources["a.js"].contains(&format!("{import} \"./_deps/app/src/x.js\"")),
            "{sources:?}"
        );
    }
}

#[test]
fn decided_branches_and_their_requires_vanish() {
    let mut files = project(&[
        ("convex/a.ts", "import lib from 'lib';\nexport const a = lib;\n"),
        (
            "node_modules/lib/index.js",
            "if (process.env.NODE_ENV === 'production') { module.exports = require('./min.js'); }\n\
             else { var dev = require('./dev.js'); module.exports = dev; }\n\
             process.env.NODE_ENV !== 'production' && require('./check.js');\n\
             function local(process) { return process.env.NODE_ENV; }\n",
        ),
        ("node_modules/lib/min.js", "exports.min = 1;\n"),
    ]);
    package(&files, "lib", r#""version":"1.0.0""#);
    let sources = files.sources();
    let body = &sources["_deps/lib_1.0.0/index.cjs.js"];
    assert!(body.contains("var dev") && !body.contains("check"), "{body}");
    assert!(body.contains("return process.env.NODE_ENV"), "a local is not the global: {body}");
}

#[test]
fn node_builtins_need_use_node() {
    let mut files = project(&[
        ("convex/a.ts", "import { lib } from 'lib';\nexport const a = lib;\n"),
        ("convex/ok.ts", "\"use node\";\nimport fs from 'fs';\nexport const a = fs;\n"),
        ("node_modules/lib/index.js", "export { lib } from './inner.js';\n"),
        (
            "node_modules/lib/inner.js",
            "import { readFile } from 'node:fs';\n\nexport const lib = readFile;\n",
        ),
    ]);
    package(&files, "lib", r#""type":"module""#);
    let refusal = files.refusal();
    for part in [
        "node_modules/lib/inner.js:1:26: Could not resolve \"node:fs\": it is built into Node.js",
        "> 1 | import { readFile } from 'node:fs';",
        "node_modules/lib/inner.js\n    is imported by node_modules/lib/index.js\n    \
         is imported by convex/a.ts",
        "that uses \"use node\" so these actions",
        "1 error",
    ] {
        assert!(refusal.contains(part), "{part:?} is missing in\n{refusal}");
    }
}

#[test]
fn every_error_is_reported_with_its_place() {
    let mut files = project(&[
        ("convex/syntax.ts", "export const a = 1;\nexport const b = ;\n"),
        ("convex/slip.ts", "import { x } from './mesages';\nexport const a = x;\n"),
        ("convex/messages.ts", "export const list = 1;\n"),
        ("convex/name.ts", "import { lsit } from './messages';\nexport const a = lsit;\n"),
        ("convex/package.ts", "import z from 'zodd';\nexport const a = z;\n"),
        ("convex/data.ts", "import d from './d.json';\nexport const a = d;\n"),
        ("convex/d.json", "{\n  \"a\": oops\n}\n"),
        ("convex/style.ts", "import './a.scss';\nexport {};\n"),
        ("convex/a.scss", ""),
        ("node_modules/zod/package.json", "{}"),
    ]);
    let refusal = files.refusal();
    for part in [
        "convex/syntax.ts:2:18:",
        "> 2 | export const b = ;\n    |                  ^",
        "convex/slip.ts:1:19: Could not resolve \"./mesages\"",
        "Did you mean \"./messages\"?",
        "convex/name.ts:1:10: No matching export in \"convex/messages.ts\" for import \"lsit\"",
        "Did you mean to import \"list\" instead?",
        "Did you mean \"zod\"?",
        "convex/d.json:2:",
        "Files that end in .scss cannot be bundled",
        "6 errors",
    ] {
        assert!(refusal.contains(part), "{part:?} is missing in\n{refusal}");
    }
}

#[test]
fn what_may_fail_at_run_time_does_not_fail_the_bundle() {
    let mut files = project(&[(
        "convex/a.ts",
        "export const a = async () => {\n  try { await import('./gone'); } catch {}\n  \
         return import('gone').catch(() => 1);\n};\n",
    )]);
    let source = &files.sources()["a.js"];
    assert!(source.contains("throw $missing_0(\"./gone\")"), "{source}");
    files.write("convex/b.ts", "export const b = () => import('./gone');\n");
    assert!(files.refusal().contains("convex/b.ts:1:31: Could not resolve \"./gone\""));
}

#[test]
fn schema_definition_and_auth_config_stand_alone() {
    let mut files = project(&[
        (
            "convex/schema.ts",
            "import { x } from '../shared/x';\nexport default { export: () => x() };\n",
        ),
        ("convex/auth.config.ts", "import { x } from '../shared/x';\nexport default x();\n"),
        ("shared/x.ts", "export const x = () => 'x';\n"),
    ]);
    let output = files.output();
    let auth = output.modules.iter().find(|m| m.path == "auth.config.js");
    for module in [output.schema.as_ref(), output.definition.as_ref(), auth] {
        let module = module.unwrap();
        assert!(!module.source.contains("import"), "{}", module.source);
        assert!(module.source.contains("as default }"), "{}", module.source);
        assert!(module.source_map.is_some());
    }
}

#[test]
fn node_files_leave_builtins_and_external_packages_outside() {
    let mut files = project(&[
        ("convex.json", r#"{"node":{"externalPackages":["big"]}}"#),
        (
            "convex/n.ts",
            "'use node';\nimport fs from 'fs';\nimport { big } from 'big/x';\n\
             export const n = [fs, big];\n",
        ),
    ]);
    package(&files, "big", r#""version":"2.3.4""#);
    let output = files.output();
    assert_eq!(output.external_dependencies, [("big".to_owned(), "2.3.4".to_owned())]);
    let module = output.modules.iter().find(|m| m.path == "n.js").unwrap();
    assert_eq!(module.environment, "node");
    assert!(module.source.contains("import { default as fs } from \"fs\";"), "{}", module.source);
    assert!(module.source.contains("from \"big/x\""));
    let watched = files.dir.path().canonicalize().unwrap().join("node_modules/big/package.json");
    assert!(output.watched.contains(&watched), "none of its files is read: {:?}", output.watched);
}

#[test]
fn path_aliases_win_over_external_packages() {
    let mut files = project(&[
        ("convex.json", r#"{"node":{"externalPackages":["*"]}}"#),
        (
            "tsconfig.json",
            r##"{"compilerOptions":{"baseUrl":".","paths":{
                "@/*":["./lib/*"],"~one":["./lib/one.ts"],"big":["./node_modules/big"]}}}"##,
        ),
        ("lib/one.ts", "export const one = 'its own text';\n"),
        (
            "convex/n.ts",
            "'use node';\nimport { one } from '@/one';\nimport { one as same } from '~one';\n\
             import { one as based } from 'lib/one';\nimport { inner } from '#inner';\n\
             import { big } from 'big/x';\nimport { big as whole } from 'big';\n\
             export const n = [one, same, based, inner, big, whole];\n",
        ),
        ("lib/inner.ts", "export const inner = 'inner text';\n"),
        ("package.json", r##"{"imports":{"#inner":"./lib/inner.ts"},"dependencies":{"big":"1"}}"##),
    ]);
    package(&files, "big", r#""version":"2.3.4""#);
    let output = files.output();
    assert_eq!(output.external_dependencies, [("big".to_owned(), "2.3.4".to_owned())]);
    let sources: String = output.modules.iter().map(|module| module.source.as_str()).collect();
    for text in ["its own text", "inner text", "from \"big/x\"", "from \"big\""] {
        assert!(sources.contains(text), "{text} in {sources}");
    }
}

#[test]
fn node_packages_that_look_for_files_beside_them_stay_outside() {
    let mut files = project(&[
        ("convex/n.ts", "'use node';\nimport { a } from 'outer';\nexport const n = a;\n"),
        ("node_modules/outer/index.js", "export { a } from 'tied/sub';\n"),
        ("node_modules/tied/sub.js", "exports.a = require('./deep.js');\n"),
        ("node_modules/tied/deep.js", "module.exports = __dirname + '/data.wasm';\n"),
    ]);
    package(&files, "outer", r#""version":"1.0.0","type":"module""#);
    package(&files, "tied", r#""version":"2.0.0""#);
    let output = files.output();
    assert_eq!(output.external_dependencies, [("tied".to_owned(), "2.0.0".to_owned())]);
    let paths: Vec<_> = output.modules.iter().map(|module| module.path.as_str()).collect();
    assert!(paths.iter().any(|path| path.contains("outer")), "{paths:?}");
    assert!(!paths.iter().any(|path| path.contains("tied")), "{paths:?}");
}

#[test]
fn only_changed_files_are_compiled_again_and_the_bytes_do_not_depend_on_history() {
    let mut files = project(&[
        ("convex/a.ts", "import './b';\nexport const a = 1;\n"),
        ("convex/b.ts", "export const b = 1;\n"),
    ]);
    assert!(files.output().compiled >= 2);
    assert_eq!(files.output().compiled, 0);
    files.write("convex/b.ts", "export const b = 2;\n");
    let changed = files.output();
    assert_eq!(changed.compiled, 1);
    let fresh = Bundler::new().bundle(&Project::find(files.dir.path()).unwrap()).unwrap();
    assert_eq!(changed.modules, fresh.modules);
    assert_eq!(changed.definition, fresh.definition);
}

#[test]
fn output_does_not_depend_on_where_the_project_lies() {
    let list = [
        ("convex/a.ts", "import x from '@s/lib';\nexport const a = x;\n"),
        ("node_modules/@s/lib/package.json", r#"{"version":"1.0.0-rc.1","main":"my-lib.js"}"#),
        ("node_modules/@s/lib/my-lib.js", "module.exports = require('./my_lib.js');\n"),
        ("node_modules/@s/lib/my_lib.js", "module.exports = 1;\n"),
    ];
    let (mut one, mut two) = (project(&list), project(&list));
    let output = one.output();
    assert_eq!(output.modules, two.output().modules);
    for module in &output.modules {
        for part in module.path.split('/') {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            assert!(part.len() <= 64 && part.chars().all(legal), "{}", module.path);
        }
    }
    let found = output.modules.iter().filter(|m| m.path.contains("my_lib")).count();
    assert_eq!(found, 3, "my-lib and my_lib keep apart, one of them with an interface");
}

#[test]
fn wasm_and_text_are_modules() {
    let mut files = project(&[
        (
            "convex/a.ts",
            "import w from './x.wasm';\nimport t from './x.txt';\nexport const a = [w, t];\n",
        ),
        ("convex/x.txt", "line\u{2028}end"),
    ]);
    fs::write(files.dir.path().join("convex/x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let sources = files.sources();
    // The host knows this text by heart: functions/src/wasm.rs has the same test.
    let wasm = "const webAssembly = \"AGFzbQEAAAA=\";\n\
        const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(webAssembly) : \
        globalThis.Buffer ? Buffer.from(webAssembly, \"base64\") : \
        Uint8Array.from(atob(webAssembly), (character)=>character.charCodeAt(0));\n\
        export default new WebAssembly.Module(bytes);\n";
    assert_eq!(sources["_deps/app/convex/x.wasm.js"], wasm);
    assert!(sources["_deps/app/convex/x.txt.js"].contains("export default \"line"));
}

#[test]
fn a_missing_functions_folder_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("package.json"), "{}").unwrap();
    let message = Project::find(dir.path()).unwrap_err().to_string();
    assert!(message.contains("There is no functions folder at"), "{message}");
    assert!(Project::find(Path::new("/nowhere/at/all")).is_err());
}

#[test]
fn source_maps_of_commonjs_and_self_contained_code_name_the_line() {
    let mut files = project(&[
        ("convex/a.ts", "import x from 'lib';\nexport const a = x;\n"),
        ("convex/schema.ts", "import x from 'lib';\n\n\nexport default marker(x);\n"),
        ("node_modules/lib/index.js", "\n\nmodule.exports = marker();\n"),
    ]);
    package(&files, "lib", r#""version":"1.0.0""#);
    let output = files.output();
    let body = output.modules.iter().find(|m| m.path.ends_with("index.cjs.js")).unwrap();
    let schema = output.schema.as_ref().unwrap();
    let lib = "../node_modules/lib/index.js";
    for (module, nth, file, expected) in
        [(body, 0, lib, 2), (schema, 0, lib, 2), (schema, 1, "../convex/schema.ts", 3)]
    {
        let lines = module.source.lines().enumerate();
        let (line, text) = lines.filter(|(_, text)| text.contains("marker(")).nth(nth).unwrap();
        let column = u32::try_from(text.find("marker(").unwrap()).unwrap();
        let map = module.source_map.as_ref().unwrap();
        let map = sourcemap::SourceMap::from_slice(map.as_bytes()).unwrap();
        let token = map.lookup_token(u32::try_from(line).unwrap(), column).unwrap();
        assert_eq!((token.get_source(), token.get_src_line()), (Some(file), expected));
    }
}

/// What is said of a file `lib/x.ts` of this text, which a function file imports.
fn said_of(text: &str) -> String {
    let mut files = project(&[
        ("convex/a.ts", "import * as x from '../lib/x';\nexport const a = x;\n"),
        ("lib/x.ts", text),
    ]);
    files.bundle().err().map(|errors| errors.to_string()).unwrap_or_default()
}

#[test]
fn what_v8_would_refuse_has_its_place() {
    let refused = said_of("export function load(id: string) {\n  return await fetch(id);\n}\n");
    assert_eq!(
        refused,
        "lib/x.ts:2:10: await isn't allowed in non-async function\n\n  \
           1 | export function load(id: string) {\n\
         > 2 |   return await fetch(id);\n    \
             |          ^\n  \
           3 | }\n\n  \
           lib/x.ts\n    is imported by convex/a.ts\n\n  \
           Make the function around it async: `async function` or `async () =>`.\n\n1 error"
    );
    let cases = [
        ("export function f() { for await (const x of []) {} }", ":1:23: await isn't allowed"),
        ("export const x = 1; const x: number = 2;", ":1:27: The symbol \"x\" has already been"),
        ("let x = 1; { var x = 2; }", ":1:18: The symbol \"x\""),
        ("export function f(a: number) { let a = 1; return a; }", ":1:36: The symbol \"a\""),
        ("export const f = (a: number, a: number) => a;", ":1:30: The symbol \"a\""),
        ("switch (1) { case 1: let a; case 2: let a; }", ":1:41: The symbol \"a\""),
        ("function f() {} function f() {}", ":1:26: The symbol \"f\""),
        ("try {} catch (e) { let e; }", ":1:24: The symbol \"e\""),
        ("export const a = 1; export { a };", ":1:30: Multiple exports with the same name \"a\""),
        ("export default 1; export default 2;", ":1:19: Multiple exports"),
        ("export { nope };", ":1:10: \"nope\" is not declared in this file"),
        ("export const a = 1; return a;", ":1:21: A return statement stands only"),
        ("export function f() { break; }", ":1:23: A 'break' statement"),
        ("export function f() { continue; }", ":1:23: A 'continue' statement"),
        ("export const a = new.target;", ":1:18: 'new.target' is only allowed"),
        ("export class A { m() { return this.#p; } }", ":1:36: Private name \"#p\""),
        ("export const r = /a/gg;", ":1:18: Duplicated regular expression flag"),
        ("export const a = 1; delete a;", ":1:28: 'delete' cannot be called"),
        ("export function f() { a: a: for (;;) {} }", ": Label a is already declared"),
        ("export function f(o) { with (o) { x; } }", ": With statement"),
        ("export class A { constructor() {} constructor() {} }", ": A class can only have one"),
    ];
    for (text, expected) in cases {
        let said = said_of(&format!("{text}\nexport {{}};\n"));
        assert!(said.starts_with("lib/x.ts:"), "{text}: {said}");
        assert!(said.lines().next().is_some_and(|l| l.contains(expected)), "{text}: {said}");
    }
}

#[test]
fn what_v8_runs_is_not_refused() {
    let right = [
        "export function f(a?: string): void; export function f(a?: number) { var a; var a; }",
        "interface X { x: 1 } export const X = 1; export type { X as Y }",
        "export enum E { A } export enum E { B = 1 }",
        "export namespace N { export const a = 1 } export namespace N { export const b = 2 }",
        "export class C {} export namespace C { export const a = 1 }",
        "import type { Z } from './z'; export const Z = 1;",
        "export default interface Foo {} export default function f() {}",
        "export function f() { function g() {} function g() {} return g; }",
        "export function f(x) { { let x = 1; } for (const x of []) {} try {} catch (x) { var x } }",
        "try {} catch (e) { var e; }",
        "export class A { #p = 1; static is(a) { class B { m = () => a.#p } return #p in a } }",
        "export class A { accessor #p = 1; get x() { return this.#p } }",
        "export const a = async () => { for await (const x of []) { await x; } }; await a();",
        "for await (const x of []) {}",
        "export class A { static { var a; { let a; } } m(m) { return () => (m) => m } }",
        "export const f = function f(f) { return f; }; export const g = class g { g = f };",
        "export const o = { get a() { return 1 }, set a(a) { var a; } };",
        "export var v = 1; var v = 2; export { v as w };",
        "export class A { constructor(private a: string, public b = a) {} }",
        "export abstract class A { abstract m(): void; n(): void; n() {} }",
    ];
    for text in right {
        assert_eq!(said_of(&format!("{text}\nexport {{}};\n")), "", "{text}");
    }
}

#[test]
fn typescripts_words_for_commonjs_are_translated() {
    let mut files = project(&[
        (
            "convex/a.ts",
            "import old = require('old');\nimport unused = require('nowhere');\n\
             import type kind = require('nowhere');\nimport whole from '../lib/whole';\n\
             export const a: unused.T = old.b + whole.c;\n",
        ),
        (
            "lib/whole.ts",
            "import old = require('old');\nexport = whole;\nconst whole = { c: old.b };\n",
        ),
        ("lib/mixed.ts", "import old from 'old';\nexport const a = 1;\nexport = old;\n"),
        ("node_modules/old/index.js", "exports.b = 1;\n"),
    ]);
    let sources = files.sources();
    assert!(sources["a.js"].contains("const old = $require_"), "{}", sources["a.js"]);
    let whole = &sources["_deps/app/lib/whole.cjs.js"];
    assert!(whole.contains("module.exports = whole;"), "{whole}");
    files.write("convex/b.ts", "export * from '../lib/mixed';\n");
    let refused = files.refusal();
    assert!(refused.starts_with("lib/mixed.ts:3:1: `export =` cannot stand beside"), "{refused}");
}

#[test]
fn jsx_is_what_the_settings_and_the_file_say() {
    let page = "import { h, Fragment } from './h';\nexport const a = <><p>x</p></>;\n";
    let h = "export const h = () => 1;\nexport const Fragment = 2;\nexport const React = 3;\n";
    let element = |pragma: &str, options: &str| {
        let text = format!("{pragma}{page}");
        let tsconfig = format!("{{\"compilerOptions\":{{{options}}}}}");
        let mut files = project(&[
            ("convex/a.tsx", &text),
            ("convex/h.ts", h),
            ("tsconfig.json", &tsconfig),
            ("node_modules/react/jsx-runtime.js", "exports.jsx = () => 1; exports.Fragment = 2;"),
            ("node_modules/preact/jsx-runtime.js", "exports.jsx = () => 1; exports.Fragment = 2;"),
        ]);
        let sources = files.sources();
        sources["a.js"].clone()
    };
    let automatic = element("", "");
    assert!(automatic.contains("_deps/react_0/jsx_runtime.js"), "{automatic}");
    let classic = r#""jsx":"react","jsxFactory":"h","jsxFragmentFactory":"Fragment""#;
    let expected = "h(Fragment, null, /*#__PURE__*/ h(\"p\", null, \"x\"))";
    let plain = |text: String| text.replace("/*#__PURE__*/ ", "");
    let expected = plain(expected.to_owned());
    for (pragma, options) in [
        ("", classic),
        ("/** @jsxRuntime classic */\n/** @jsx h */\n/** @jsxFrag Fragment */\n", ""),
        ("/** @jsx h */\n/** @jsxFrag Fragment */\n", r#""jsx":"react""#),
        ("/** @jsx h @jsxFrag Fragment */\n", ""),
    ] {
        let source = plain(element(pragma, options));
        assert!(source.contains(&expected), "{pragma}{options}: {source}");
        assert!(source.contains("import { Fragment, h } from \"./h.js\""), "{source}");
    }
    let react = plain(element("", r#""jsx":"react""#));
    assert!(react.contains("React.createElement(React.Fragment, null"), "{react}");
    let source = element("/** @jsxImportSource preact */\n", "");
    assert!(source.contains("_deps/preact_0/jsx_runtime.js"), "{source}");
}
