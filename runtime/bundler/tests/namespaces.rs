//! Namespaces of modules that packages without side effects pass on under a name.
//!
//! In: a small package and the ways to reach a namespace in it. Out: assertions that every module
//! that is imported is there, and that what only names reach still shares one module.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its files must stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bundler::{Bundler, Project};

/// What a package `lib` of these files becomes for a function file that begins with `import`.
fn bundled(import: &str, package: &[(&str, &str)]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let settings = r#""version":"1.0.0","type":"module","main":"index.js","sideEffects":false"#;
    write("package.json", r#"{"name":"app"}"#);
    write("node_modules/convex/package.json", r#"{"name":"convex","exports":"./server.js"}"#);
    write("node_modules/convex/server.js", "");
    write("node_modules/lib/package.json", &format!("{{\"name\":\"lib\",{settings}}}"));
    write("convex/zz.ts", import);
    for (path, text) in package {
        write(&format!("node_modules/lib/{path}"), text);
    }
    write("convex/convex.config.ts", "export default { export: () => 1 };\n");
    let project = Project::find(folder.path()).unwrap();
    let output = Bundler::new().bundle(&project).unwrap_or_else(|errors| panic!("{errors}"));
    output.modules.into_iter().map(|module| (module.path, module.source)).collect()
}

/// Imports that lead to no module.
fn dangling(modules: &BTreeMap<String, String>) -> Vec<String> {
    let mut dangling = vec![];
    for (path, source) in modules {
        let folder = Path::new(path).parent().unwrap();
        for text in
            source.split('"').filter(|text| text.starts_with("./") || text.starts_with("../"))
        {
            let mut target = folder.to_owned();
            for part in text.split('/') {
                match part {
                    "." => {}
                    ".." => drop(target.pop()),
                    part => target.push(part),
                }
            }
            if !modules.contains_key(target.to_str().unwrap()) {
                dangling.push(format!("{path} imports {text}"));
            }
        }
    }
    dangling
}

/// Every import leads to a module, and the namespace has its names.
fn assert_whole(import: &str, package: &[(&str, &str)]) {
    let ends = [
        ("ext.js", "export * from './a.js';\n"),
        ("a.js", "export const a = 1;\nexport const b = 2;\n"),
        ("other.js", "export const other = 1;\nexport const more = 2;\n"),
    ];
    let files: BTreeMap<&str, &str> = ends.iter().chain(package).copied().collect();
    let modules = bundled(import, &files.into_iter().collect::<Vec<_>>());
    assert_eq!(dangling(&modules), Vec::<String>::new(), "{package:?}: {modules:#?}");
    let all = modules.values().map(String::as_str).collect::<String>();
    assert!(all.contains("const a = 1"), "{package:?}: {modules:#?}");
}

#[test]
fn what_a_package_passes_on_as_a_namespace_is_there() {
    let import = "import { z } from 'lib';\nexport const a = z.a;\n";
    assert_whole(import, &[("index.js", "export * as z from './ext.js';\n")]);
    assert_whole(import, &[("index.js", "import * as z from './ext.js';\nexport { z };\n")]);
    let through_stars = [
        ("index.js", "export * from './two.js';\n"),
        ("two.js", "export * from './three.js';\nexport * from './other.js';\n"),
        ("three.js", "export * as z from './ext.js';\n"),
    ];
    assert_whole(import, &through_stars);
    let under_another_name = [
        ("index.js", "export { inner as z } from './two.js';\n"),
        ("two.js", "import * as inner from './ext.js';\nexport { inner };\n"),
    ];
    assert_whole(import, &under_another_name);
    let in_a_circle = [
        ("index.js", "export * as z from './ext.js';\n"),
        (
            "ext.js",
            "export * as back from './index.js';\nexport * as self from './ext.js';\n\
             export * from './a.js';\n",
        ),
    ];
    assert_whole(import, &in_a_circle);
}

#[test]
fn a_namespace_is_there_however_it_is_imported() {
    let index = [("index.js", "export * as z from './ext.js';\n")];
    assert_whole("import * as lib from 'lib';\nexport const a = lib.z.a;\n", &index);
    assert_whole("export const a = async () => (await import('lib')).z.a;\n", &index);
    assert_whole("export { z } from 'lib';\n", &index);
    let import = "import z from 'lib';\nexport const a = z.a;\n";
    let as_default = "import * as z from './ext.js';\nexport { z as default };\n";
    assert_whole(import, &[("index.js", as_default)]);
    let as_value = "import * as z from './ext.js';\nexport default z;\n";
    assert_whole(import, &[("index.js", as_value)]);
    let beside_names = "export * as z from './ext.js';\nexport * from './ext.js';\n\
                        export { other } from './other.js';\n";
    assert_whole(
        "import { z, a, other } from 'lib';\nexport const all = [z.a, a, other];\n",
        &[("index.js", beside_names)],
    );
}

#[test]
fn a_namespace_does_not_keep_the_rest_from_sharing_a_module() {
    let modules = bundled(
        "import { f, g } from 'lib';\nexport const all = [f, g];\n",
        &[
            (
                "index.js",
                "export { f } from './f.js';\nexport { g } from './g.js';\n\
                 export * as z from './ext.js';\n",
            ),
            ("ext.js", "export const a = 1;\n"),
            ("f.js", "import { z } from './index.js';\nexport const f = () => z;\n"),
            ("g.js", "import { other } from './other.js';\nexport const g = () => other;\n"),
            ("other.js", "export const other = 1;\n"),
        ],
    );
    let paths: Vec<_> = modules.keys().map(String::as_str).collect();
    let expected = ["_deps/lib_1.0.0/ext.js", "_deps/lib_1.0.0/f.js", "_deps/shared.js", "zz.js"];
    assert_eq!(paths, expected);
}
