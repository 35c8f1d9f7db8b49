//! Projects with components: which ones there are, what is sent of them, what is refused.
//!
//! In: files written to a temporary folder. Out: assertions on the output. That the official
//! command line sends the same is tested with it, in `tests/components_push.test.mjs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its files must stop")]

use std::fs;
use std::path::Path;

use bundler::{Bundler, Output, Project};
use tempfile::TempDir;

const SERVER: &str = "export const defineApp = () => ({ use() {} });\n\
                      export const defineComponent = (name) => ({ name, use() {} });\n";

/// An app with a component of its own that uses an installed one, which brings another.
fn project() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("package.json", "{}"),
        ("node_modules/convex/package.json", r#"{"exports":{"./server":"./server.js"}}"#),
        ("node_modules/convex/server.js", SERVER),
        (
            "node_modules/@x/pool/package.json",
            r#"{"exports":{"./convex.config":"./dist/convex.config.js"}}"#,
        ),
        (
            "node_modules/@x/pool/dist/convex.config.js",
            "import { defineComponent } from 'convex/server';\n\
             import inner from './inner/convex.config';\n\
             const pool = defineComponent('pool');\npool.use(inner);\nexport default pool;\n",
        ),
        ("node_modules/@x/pool/dist/lib.js", "export const work = 'pool';\n"),
        ("node_modules/@x/pool/dist/lib.d.ts", "export declare const work: string;\n"),
        ("node_modules/@x/pool/dist/inner/convex.config.ts", "export default 'inner';\n"),
        ("node_modules/@x/pool/dist/inner/deep/lib.ts", "export const deep: number = 1;\n"),
        (
            "convex/convex.config.ts",
            "import { defineApp } from 'convex/server';\n\
             import part from './part/convex.config.js';\n\
             import pool from '@x/pool/convex.config';\n\
             const app = defineApp();\napp.use(part);\napp.use(pool);\nexport default app;\n",
        ),
        ("convex/a.ts", "export const a = 1;\n"),
        (
            "convex/part/convex.config.ts",
            "import { defineComponent } from 'convex/server';\n\
             import pool from '@x/pool/convex.config';\n\
             const part = defineComponent('part');\npart.use(pool);\nexport default part;\n",
        ),
        ("convex/part/lib.ts", "export const part = 1;\n"),
        ("convex/part/auth.config.ts", "export default {};\n"),
        ("convex/part/schema.ts", "export default { export: () => '{}' };\n"),
    ] {
        write(&dir, path, text);
    }
    dir
}

fn write(dir: &TempDir, path: &str, text: &str) {
    let path = dir.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn bundle(bundler: &mut Bundler, dir: &TempDir) -> Result<Output, String> {
    let project = Project::find(dir.path()).unwrap();
    bundler.bundle(&project).map_err(|errors| errors.to_string())
}

fn refusal(dir: &TempDir) -> String {
    bundle(&mut Bundler::new(), dir).expect_err("this project is wrong")
}

#[test]
fn each_definition_is_a_bundle_of_its_own_named_by_its_folder() {
    let output = bundle(&mut Bundler::new(), &project()).unwrap();
    let modules = |output: &Output| {
        output.modules.iter().map(|module| module.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(modules(&output), ["a.js"]);
    let pool = "../node_modules/@x/pool/dist";
    assert_eq!(output.dependencies, ["part", pool]);
    let found: Vec<_> = output
        .components
        .iter()
        .map(|c| (&*c.folder.path, &*c.folder.specifier, c.folder.is_published, &c.dependencies))
        .collect();
    let inner = format!("{pool}/inner");
    let none: Vec<String> = vec![];
    let [on_pool, on_inner] = [vec![pool.to_owned()], vec![inner.clone()]];
    assert_eq!(
        found,
        [
            (&*inner, "./inner", false, &none),
            (pool, "@x/pool", true, &on_inner),
            ("part", "./part", false, &on_pool),
        ],
        "once however often it is used, and before who uses it"
    );
    let [inner, pool, part] = &output.components[..] else { unreachable!() };
    assert_eq!(modules(&inner.output), ["deep/lib.js"]);
    assert_eq!(modules(&pool.output), ["lib.js"], "no types, nothing of the inner component");
    assert_eq!(modules(&part.output), ["lib.js"], "only the app has an auth.config.ts");
    assert!(part.output.schema.is_some() && pool.output.schema.is_none());
}

#[test]
fn a_definition_imports_components_by_the_names_of_the_host() {
    let output = bundle(&mut Bundler::new(), &project()).unwrap();
    let source = output.definition.unwrap().source;
    // printf part | base64
    assert!(source.contains("from \"./_componentDeps/cGFydA\""), "{source}");
    assert!(!source.contains("defineComponent(\"part\")"), "the component is not in it: {source}");
}

#[test]
fn components_that_cannot_be_are_refused_with_place_and_cure() {
    let dir = project();
    write(&dir, "convex/part/heavy.ts", "'use node';\nexport const x = 1;\n");
    let text = refusal(&dir);
    assert!(
        text.contains("convex/part/heavy.ts: \"use node\" directive is not supported"),
        "{text}"
    );

    let dir = project();
    let path = dir.path().join("convex/convex.config.ts");
    let config = fs::read_to_string(&path).unwrap().replace("@x/pool", "@x/pol");
    fs::write(&path, config).unwrap();
    let text = refusal(&dir);
    let expected = "convex/convex.config.ts:3:18: Could not resolve \"@x/pol/convex.config\"";
    assert!(text.contains(expected), "{text}");

    let dir = project();
    write(&dir, "convex/part/lib.ts", "import fs from 'fs';\nexport const part = fs;\n");
    let text = refusal(&dir);
    assert!(text.contains("convex/part/lib.ts:1:16: Could not resolve \"fs\""), "{text}");
}

#[test]
fn what_is_installed_is_bundled_again_only_when_it_changes() {
    let dir = project();
    let mut bundler = Bundler::new();
    let mut sources = || {
        let output = bundle(&mut bundler, &dir).unwrap();
        let pool = output.components.iter().find(|c| c.folder.specifier == "@x/pool").unwrap();
        let modules = &pool.output.modules;
        modules.iter().map(|m| (m.path.clone(), m.source.clone())).collect::<Vec<_>>()
    };
    let first = sources();
    // Files must be older than the run that keeps them.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(sources(), first);
    assert_eq!(sources(), first);
    write(&dir, "node_modules/@x/pool/dist/lib.js", "export const work = 'loop';\n");
    assert!(sources()[0].1.contains("'loop'"), "a file of the same length");
    std::thread::sleep(std::time::Duration::from_millis(300));
    sources();
    write(&dir, "node_modules/@x/pool/dist/more.js", "export const more = 1;\n");
    assert_eq!(sources().len(), 2, "a file that is new");
}

#[test]
fn folders_are_prepared_before_their_functions_are_read() {
    let dir = project();
    write(&dir, "convex/part/lib.ts", "import { x } from './_generated/x';\nexport const y = x;\n");
    let project = Project::find(dir.path()).unwrap();
    let prepare = |folder: &bundler::Folder| {
        if folder.path != "part" {
            return Ok(());
        }
        let generated = Path::new(&folder.dir).join("_generated");
        fs::create_dir_all(&generated).map_err(|e| e.to_string())?;
        fs::write(generated.join("x.ts"), "export const x = 1;\n").map_err(|e| e.to_string())
    };
    assert!(Bundler::new().bundle(&project).is_err());
    Bundler::new().bundle_prepared(&project, &prepare).unwrap();
    let failed = Bundler::new().bundle_prepared(&project, &|_| Err("no room".to_owned()));
    assert!(failed.unwrap_err().to_string().contains("no room"));
}
