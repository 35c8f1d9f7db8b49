//! The deploy protocol, step by step and going wrong (`convex-compat.md` sections 6.2 to 6.8).

use serde_json::json;

use super::*;

fn module(path: &str, source: &str) -> Value {
    json!({ "path": path, "source": source, "sourceMap": "{}", "environment": "isolate" })
}

/// A `start_push` body with these modules.
pub(super) fn push(modules: &[(&str, &str)]) -> Value {
    let modules: Vec<_> = modules.iter().map(|(path, source)| module(path, source)).collect();
    json!({
        "adminKey": KEY, "dryRun": false, "functions": "convex/",
        "appDefinition": {
            "definition": module("convex.config.js", "export default defineApp()"),
            "dependencies": [], "schema": null, "changedModules": modules,
            "unchangedModuleHashes": [], "udfServerVersion": "1.48.0",
        },
        "componentDefinitions": [], "nodeDependencies": [],
    })
}

pub(super) fn with_schema(mut push: Value, tables: Value) -> Value {
    let schema = json!({ "tables": tables, "schemaValidation": true }).to_string();
    push["appDefinition"]["schema"] = module("schema.js", &schema);
    push
}

/// A table of `{n: number}` documents with one index.
pub(super) fn numbers() -> Value {
    json!([{
        "tableName": "numbers",
        "indexes": [{ "indexDescriptor": "by_n", "fields": ["n"] }],
        "stagedDbIndexes": [], "searchIndexes": [], "stagedSearchIndexes": [],
        "vectorIndexes": [], "stagedVectorIndexes": [],
        "documentType": { "type": "object",
            "value": { "n": { "fieldType": { "type": "number" }, "optional": false } } },
    }])
}

pub(super) async fn start(bench: &Bench, push: Value) -> Value {
    let got = bench.admin("/api/deploy2/start_push", push).await;
    assert_eq!(got.status, 200, "{}", got.body);
    got.json()
}

pub(super) async fn finish(bench: &Bench, started: &Value, dry_run: bool) -> Got {
    let body = json!({ "adminKey": KEY, "startPush": started, "dryRun": dry_run, "message": null });
    bench.admin("/api/deploy2/finish_push", body).await
}

async fn deploy(bench: &Bench, push: Value) -> Value {
    let started = start(bench, push).await;
    let got = finish(bench, &started, false).await;
    assert_eq!(got.status, 200, "{}", got.body);
    got.json()
}

async fn hashes(bench: &Bench) -> Value {
    let body = json!({ "version": "1.48.0", "adminKey": KEY });
    bench.admin("/api/get_config_hashes", body).await.json()
}

pub(super) fn serving(bench: &Bench) -> Option<String> {
    let snapshot = bench.fake.database.snapshot();
    let deployment = snapshot.deployment.as_ref()?;
    let module = deployment.bundle.modules.values().next()?;
    Some(module.source.to_string())
}

#[tokio::test]
async fn from_nothing_to_running() {
    let bench = echo();
    let before = hashes(&bench).await;
    assert_eq!(before["config"], json!({ "functions": "convex/" }));
    assert_eq!(before["moduleHashes"], json!([]));
    assert_eq!(before["udfServerVersion"], json!(null));

    let sent = with_schema(push(&[("messages.js", "one"), ("http.js", "httpRouter")]), numbers());
    let evaluated = bench.admin("/api/deploy2/evaluate_schema", sent.clone()).await.json();
    let root = &evaluated["componentSchemaEvaluations"][""];
    assert_eq!(root["tables"][0]["outcome"], "supersetOfShape");
    assert_eq!(root["indexes"][0]["change"], "added");
    assert_eq!(root["indexes"][0]["name"], "numbers.by_n");
    let evaluated = bench.admin("/api/deploy2/evaluate_push", sent.clone()).await.json();
    let started = start(&bench, sent).await;
    assert_eq!(evaluated["schemaChange"], started["schemaChange"]);
    assert_eq!(bench.fake.analyzed.lock().unwrap().len(), 1, "the same sources: analyzed once");
    assert!(serving(&bench).is_none(), "starting has no effect");

    let root = &started["analysis"][""];
    assert_eq!(root["definition"]["definitionType"]["type"], "app");
    assert_eq!(root["definition"]["path"], "");
    assert_eq!(root["schema"]["tables"][0]["tableName"], "numbers");
    let function = &root["functions"]["messages.js"]["functions"][0];
    assert_eq!(
        *function,
        json!({ "name": "list", "pos": null, "udfType": "Query",
                "visibility": { "kind": "public" }, "args": "{\"type\":\"any\"}",
                "returns": "null" })
    );
    assert_eq!(started["externalDepsId"], json!(null));
    assert_eq!(started["app"]["httpRoutes"]["httpModuleRoutes"], json!([]));
    assert_eq!(started["concave"]["warnings"], json!(["a fake warns"]));

    let wait = json!({ "adminKey": KEY, "schemaChange": started["schemaChange"],
                       "timeoutMs": 10000, "dryRun": false });
    let waited = bench.admin("/api/deploy2/wait_for_schema", wait).await.json();
    assert_eq!(waited, json!({ "type": "complete" }));
    let diff = finish(&bench, &started, false).await.json();
    let root = &diff["componentDiffs"][""];
    assert_eq!(root["diffType"]["type"], "create");
    assert_eq!(root["moduleDiff"]["added"], json!(["http.js", "messages.js"]));
    assert_eq!(root["indexDiff"]["added_indexes"][0]["name"], "numbers.by_n");
    assert!(root["schemaDiff"]["next_schema"].is_string());
    let report = json!({ "adminKey": KEY, "spans": [] });
    let got = bench.admin("/api/deploy2/report_push_completed", report).await;
    assert_eq!(got.body, "null");
    let spec = json!({ "path": "_system/cli/modules:apiSpec", "args": {}, "format": "json" });
    let spec = bench.admin("/api/query", spec).await.json();
    assert_eq!(spec["value"][1]["identifier"], "messages.js:list");
    let got = bench.get("/http/x").await;
    assert_eq!((got.status.as_u16(), &*got.body), (404, "No matching routes found"));
}

#[tokio::test]
async fn unchanged_modules_are_kept_or_conflict() {
    let bench = echo();
    deploy(&bench, push(&[("a.js", "one"), ("b.js", "two")])).await;
    let known = hashes(&bench).await["moduleHashes"].clone();
    let digest: String = Sha256::digest("one{}").iter().map(|b| format!("{b:02x}")).collect();
    let kept = json!({ "path": "a.js", "hash": digest, "environment": "isolate" });
    assert_eq!(known[0], kept);

    let keep = |path: &str, sha256: &Value, environment: &str| {
        let mut push = push(&[("b.js", "three")]);
        push["appDefinition"]["unchangedModuleHashes"] =
            json!([{ "path": path, "sha256": sha256, "environment": environment }]);
        push
    };
    let code = async |push| bench.admin("/api/deploy2/start_push", push).await.failure();
    let (hash, other) = (&known[0]["hash"], &known[1]["hash"]);
    assert_eq!(code(keep("c.js", hash, "isolate")).await, (409, "MissingExistingModule".into()));
    let conflict = code(keep("a.js", other, "isolate")).await;
    assert_eq!(conflict, (409, "ExistingModuleHashConflict".into()));
    let conflict = code(keep("a.js", hash, "node")).await;
    assert_eq!(conflict, (409, "ExistingModuleEnvConflict".into()));
    let diff = deploy(&bench, keep("a.js", hash, "isolate")).await;
    assert_eq!(diff["componentDiffs"][""]["moduleDiff"], json!({ "added": [], "removed": [] }));
    let snapshot = bench.fake.database.snapshot();
    let modules = &snapshot.deployment.as_ref().unwrap().bundle.modules;
    assert_eq!((&*modules["a.js"].source, &*modules["b.js"].source), ("one", "three"));
}

#[tokio::test]
async fn the_same_sources_are_the_same_code() {
    let bench = echo();
    let sent = push(&[("a.js", "one"), ("crons.js", "cronJobs")]);
    let first = start(&bench, sent.clone()).await;
    finish(&bench, &first, false).await;
    let ts = bench.fake.database.snapshot().ts;
    let again = start(&bench, sent).await;
    assert_eq!(again["analysis"], first["analysis"], "import time and seed included");
    assert_eq!(again["concave"]["version"], first["concave"]["version"]);
    assert_eq!(again["concave"]["unchanged"], true);
    assert_eq!(finish(&bench, &again, false).await.status, 200);
    assert_eq!(bench.fake.database.snapshot().ts, ts, "nothing to activate");
    let diff = deploy(&bench, push(&[("a.js", "two")])).await;
    let root = &diff["componentDiffs"][""];
    assert_eq!(root["moduleDiff"]["removed"], json!(["crons.js"]));
    assert_eq!(root["cronDiff"]["deleted"], json!(["tick"]));
    assert_eq!(root["diffType"]["type"], "modify");
}

#[tokio::test]
async fn a_failed_push_leaves_what_was_serving() {
    let bench = echo();
    deploy(&bench, push(&[("a.js", "good")])).await;
    let broken = push(&[("a.js", "SYNTAX ERROR")]);
    let got = bench.admin("/api/deploy2/evaluate_schema", broken.clone()).await;
    assert_eq!(got.failure(), (400, "BadModule".into()));
    let got = bench.admin("/api/deploy2/start_push", broken).await;
    assert_eq!(got.failure(), (400, "BadModule".into()));
    assert_eq!(got.json()["message"], "Hit an error while pushing:\na.js: syntax error");
    assert_eq!(serving(&bench).as_deref(), Some("good"));
    let events = bench.events.lock().unwrap();
    let [Event::Push(good), Event::Push(bad)] = &events[..] else {
        panic!("two pushes, got {events:?}");
    };
    assert_eq!((good.functions, good.result.is_ok()), (1, true));
    assert!(bad.result.as_ref().unwrap_err().contains("syntax error"));
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let bench = echo();
    let started = start(&bench, push(&[("a.js", "one")])).await;
    let got = finish(&bench, &started, true).await;
    assert_eq!(got.json()["componentDiffs"][""]["moduleDiff"]["added"], json!(["a.js"]));
    assert!(serving(&bench).is_none());
    assert_eq!(hashes(&bench).await["moduleHashes"], json!([]));
}

#[tokio::test]
async fn the_slower_of_two_pushes_starts_again() {
    let bench = echo();
    let slow = start(&bench, push(&[("a.js", "slow")])).await;
    deploy(&bench, push(&[("a.js", "fast")])).await;
    let got = finish(&bench, &slow, false).await;
    assert_eq!(got.failure(), (400, "RaceDetected".into()));
    assert_eq!(serving(&bench).as_deref(), Some("fast"));
    let wait = json!({ "adminKey": KEY, "schemaChange": slow["schemaChange"] });
    let waited = bench.admin("/api/deploy2/wait_for_schema", wait).await.json();
    assert_eq!(waited, json!({ "type": "raceDetected" }));
    let unknown = json!({ "schemaChange": { "pushId": "gone" } });
    let got = finish(&bench, &unknown, false).await;
    assert_eq!(got.failure(), (400, "RaceDetected".into()));
    assert!(got.body.contains("not known any more"), "{}", got.body);
}

#[tokio::test]
async fn only_the_newest_few_pushes_are_held() {
    let bench = echo();
    let first = start(&bench, push(&[("a.js", "0")])).await;
    for number in 1..=4 {
        start(&bench, push(&[("a.js", &number.to_string())])).await;
    }
    assert!(finish(&bench, &first, false).await.body.contains("not known any more"));
}

#[tokio::test]
async fn what_cannot_run_yet_is_refused_at_once() {
    let bench = echo();
    let module =
        |path: &str, place: &str| json!({ "path": path, "source": "", "environment": place });
    let component = |path: &str, place: &str| {
        json!({
            "definitionPath": path,
            "definition": module("convex.config.js", "isolate"),
            "dependencies": [],
            "schema": null,
            "functions": [module("a.js", place)],
            "udfServerVersion": "1.48.0",
        })
    };
    for (components, code) in [
        (json!([component("x", "node")]), "UseNodeInComponent"),
        (json!([component("x", "isolate"), component("x", "isolate")]), "DuplicateComponent"),
        (json!([component("", "isolate")]), "DuplicateComponent"),
    ] {
        let mut pushed = push(&[]);
        pushed["componentDefinitions"] = components;
        let got = bench.admin("/api/deploy2/start_push", pushed).await;
        assert_eq!(got.failure(), (400, code.into()));
    }
    for (name, version) in [("--global", "1.0.0"), ("a", "file:../x"), ("../a", "1"), ("a", "")] {
        let mut external = push(&[]);
        external["nodeDependencies"] = json!([{ "name": name, "version": version }]);
        let got = bench.admin("/api/deploy2/start_push", external).await;
        assert_eq!(got.failure(), (400, "InvalidNodeDependency".into()), "{name} {version}");
    }
    for path in ["../a.js", "/a.js", "a.ts", "a//b.js", "_system/a.js"] {
        let got = bench.admin("/api/deploy2/start_push", push(&[(path, "")])).await;
        assert_eq!(got.failure(), (400, "InvalidModulePath".into()), "{path}");
    }
    for path in ["user-profile.js", "we-ird/mod.js", "a b.js", "é.js"] {
        let got = bench.admin("/api/deploy2/start_push", push(&[(path, "")])).await;
        assert_eq!(got.failure(), (400, "InvalidConfig".into()), "{path}");
        assert!(got.body.contains("is not a valid path to a Convex module"), "{}", got.body);
    }
    let large = "x".repeat(database::limits::BUNDLE_BYTES as usize / 2 + 1);
    let got = bench.admin("/api/deploy2/start_push", push(&[("a.js", &large)])).await;
    assert_eq!(got.status, 200, "half is fine: {}", got.body);
    let sent = push(&[("a.js", &large), ("b.js", &large)]);
    let got = bench.admin("/api/deploy2/start_push", sent).await;
    assert_eq!(got.failure(), (400, "BundleTooLarge".into()));
    let twice = push(&[("a.js", "1"), ("a.js", "2")]);
    let got = bench.admin("/api/deploy2/start_push", twice).await;
    assert_eq!(got.failure(), (400, "DuplicateModule".into()));
}

#[tokio::test]
async fn the_key_may_stand_in_the_body_and_the_body_may_be_packed() {
    let bench = echo();
    let text = push(&[("a.js", "one")]).to_string();
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut text.as_bytes(), &mut packed, &Default::default()).unwrap();
    let request = |body: Vec<u8>| {
        let request = Request::post("/api/deploy2/start_push").header("content-encoding", "br");
        request.body(Body::from(body)).unwrap()
    };
    let got = bench.send(request(packed)).await;
    assert_eq!(got.status, 200, "{}", got.body);
    let got = bench.send(request(b"no brotli".to_vec())).await;
    assert_eq!(got.failure(), (400, "BadContentEncoding".into()));
    let wrong = text.replace(KEY, "other");
    let got = bench.post("/api/deploy2/start_push", wrong).await;
    assert_eq!(got.failure(), (403, "BadDeployKey".into()));
    let keyless = text.replace("adminKey", "nobodyKey");
    let got = bench.post("/api/deploy2/start_push", keyless).await;
    assert_eq!(got.failure(), (401, "MissingAdminKey".into()));
    let typed = text.replace("\"one\"", "1");
    let got = bench.post("/api/deploy2/start_push", typed).await;
    assert!(got.body.contains("appDefinition.changedModules[0].source"), "{}", got.body);
}

/// A few kilobytes that unpack to more than a push may hold are refused by their unpacked size.
#[tokio::test]
async fn a_body_that_unpacks_beyond_the_limit_is_refused() {
    let bench = echo();
    let limit = usize::try_from(database::limits::PUSH_BODY_BYTES).unwrap();
    let mut packed = Vec::new();
    let quick = brotli::enc::BrotliEncoderParams { quality: 1, ..Default::default() };
    let blanks = vec![b' '; limit + 1];
    brotli::BrotliCompress(&mut &blanks[..], &mut packed, &quick).unwrap();
    assert!(packed.len() < limit / 100);
    let request = Request::post("/api/deploy2/start_push").header("content-encoding", "br");
    let got = bench.send(request.body(Body::from(packed)).unwrap()).await;
    assert_eq!(got.failure(), (413, "RequestBodyTooLarge".into()));
}
