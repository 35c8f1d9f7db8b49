//! Exports and imports over HTTP: what is under way is bounded, and goes when nobody goes on.

use database::backup_rows::Backups;
use database::commit::Writer;
use database::limits;
use database::value::Value as Row;
use serde_json::json;

use super::*;

const MILLISECOND: u64 = 1_000_000;

impl Bench {
    async fn operator(&self, method: Method, path: &str) -> Got {
        let auth = format!("Convex {KEY}");
        self.authorized(method, path, (&auth, "part".to_owned())).await
    }

    async fn upload(&self) -> Got {
        self.operator(Method::POST, "/api/import/start_upload").await
    }

    async fn part(&self, token: &str, number: u64) -> Got {
        let path = "/api/import/upload_part";
        let path = format!("{path}?uploadToken={token}&partNumber={number}");
        self.operator(Method::POST, &path).await
    }
}

#[tokio::test]
async fn uploads_are_few_and_end_when_nobody_goes_on() {
    let (mut server, fake, events) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    let (blobs, files) = files(&fake.database, &fake.world);
    server.files = files;
    let Routes { cloud, site } = Routes::new(server);
    let bench = Bench { fake, cloud, site, events };
    let mut token = String::new();
    for _ in 0..limits::IMPORTS_AT_ONCE {
        token = bench.upload().await.json()["uploadToken"].as_str().unwrap().to_owned();
    }
    assert_eq!(bench.upload().await.failure(), (400, "TooManyImports".into()));
    for number in [0, limits::IMPORT_PARTS] {
        let refused = bench.part(&token, number).await.failure();
        assert_eq!(refused, (400, "InvalidPartNumber".into()));
    }
    let last = limits::IMPORT_PARTS - 1;
    assert_eq!(bench.part(&token, last).await.status, 200);
    assert_eq!(bench.part(&token, last).await.failure(), (400, "InvalidPartNumber".into()));
    let wanted = json!({ "mode": "append", "format": "csv", "tableName": "t" });
    let finish = json!({ "import": wanted, "uploadToken": token, "partTokens": ["x"] });
    let refused = bench.admin("/api/import/finish_upload", finish).await.failure();
    assert_eq!(refused, (400, "InvalidParts".into()));
    assert_eq!(blobs.used(), 4, "the part waits");
    bench.fake.world.0.fetch_add((limits::IMPORT_WAIT_MS + 1) * MILLISECOND, Ordering::Relaxed);
    assert_eq!(bench.upload().await.status, 200);
    assert_eq!(bench.part(&token, 1).await.failure(), (404, "ImportNotFound".into()));
    while blobs.used() > 0 {
        tokio::task::yield_now().await;
    }
    let bare = bench.post("/api/import/start_upload", "").await;
    assert!(matches!(bare.status.as_u16(), 401 | 403), "{}", bare.status);
}

#[tokio::test(start_paused = true)]
async fn an_export_is_held_for_its_time_and_its_rows_stay_few() {
    let bench = echo();
    let mut at = String::new();
    for _ in 0..limits::BACKUP_ROWS + 3 {
        let asked = bench.operator(Method::POST, "/api/export/request/zip").await;
        at = asked.json()["startTs"].as_str().unwrap().to_owned();
    }
    let rows = bench.fake.database.snapshot().backups(Backups::Exports).count();
    assert_eq!(rows as u64, limits::BACKUP_ROWS);
    let path = format!("/api/export/zip/{at}");
    let request = |path: &str| {
        let auth = format!("Convex {KEY}");
        let request = Request::get(path).header(header::AUTHORIZATION, auth);
        bench.cloud.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    assert_eq!(request(&path).await.unwrap().status(), 200);
    tokio::time::sleep(Duration::from_millis(limits::EXPORT_KEPT_MS + 1)).await;
    assert_eq!(request(&path).await.unwrap().status(), 404);
}

#[tokio::test]
async fn an_import_has_failed_when_its_host_ended_and_not_while_it_ends_by_itself() {
    let (server, fake, events) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    let add = |state: &str| {
        let given = Given { now: fake.world.now(), ..Given::default() };
        let mut now = fake.database.begin(fake.database.newest(), &given, false);
        let state = Row::Object([("state".to_owned(), Row::String(state.to_owned()))].into());
        let id = now.add_backup(Backups::Imports, [("state".to_owned(), state)].into());
        fake.database.commit(now, given.now, Writer::new("import", "")).unwrap();
        id.encode()
    };
    let left = add("in_progress");
    let over = add("completed");
    let Routes { cloud, site } = Routes::new(server);
    // What reads this one's row may learn a moment later only that nobody is at it any more.
    let fresh = add("in_progress");
    let bench = Bench { fake: fake.clone(), cloud, site, events };
    let mut shown = Vec::new();
    for import_id in [&left, &over, &fresh] {
        let asked = json!({
            "path": "_system/cli/queryImport", "args": { "importId": import_id }, "format": "json"
        });
        let row = bench.admin("/api/query", asked).await.json();
        shown.push(row["value"]["state"].clone());
    }
    assert_eq!(shown[0]["state"], "failed");
    let why = shown[0]["error_message"].as_str().unwrap();
    assert!(why.contains("started again before the import was done"), "{why}");
    assert_eq!(shown[1]["state"], "completed");
    assert_eq!(shown[2]["state"], "in_progress");
}
