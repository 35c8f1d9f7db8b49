//! Imports beside each other and beside the app: whose stored files go, and who is told what.
//!
//! In: zips of an export over HTTP; a store that calls the test in the middle. Out: assertions on
//! rows and files. Invariant: the order of what happens is made by the test, never by a clock.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::response::Response;
use database::backup_rows::Backups;
use database::commit::Writer;
use database::limits;
use database::value::Value as Row;
use serde_json::json;
use storage::{Blob, BlobError, BlobId, BlobStore, Draft};
use tokio::sync::mpsc;

use super::*;
use crate::convex::import;

/// What a test does in the middle of a step.
type Then = Box<dyn FnOnce() + Send>;

/// A store that calls the test when a blob of a name was opened, or any was kept.
struct Watched {
    own: Arc<MemoryStore>,
    opened: Mutex<BTreeMap<BlobId, Then>>,
    kept: Arc<Mutex<Option<Then>>>,
}

/// One of its drafts.
struct WatchedDraft(Box<dyn Draft>, Arc<Mutex<Option<Then>>>);

impl BlobStore for Watched {
    fn create(&self) -> Result<Box<dyn Draft>, BlobError> {
        Ok(Box::new(WatchedDraft(self.own.create()?, Arc::clone(&self.kept))))
    }

    fn open(&self, id: BlobId) -> Result<Option<Box<dyn Blob>>, BlobError> {
        let opened = self.own.open(id);
        let then = self.opened.lock().unwrap().remove(&id);
        then.into_iter().for_each(|then| then());
        opened
    }

    fn delete(&self, id: BlobId) -> Result<(), BlobError> {
        self.own.delete(id)
    }

    fn list(&self) -> Result<Vec<BlobId>, BlobError> {
        self.own.list()
    }
}

impl Draft for WatchedDraft {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.0.write(bytes)
    }

    fn keep(self: Box<Self>, id: BlobId) -> Result<(), BlobError> {
        self.0.keep(id)?;
        let then = self.1.lock().unwrap().take();
        then.into_iter().for_each(|then| then());
        Ok(())
    }
}

/// A server with files.
struct Yard {
    bench: Bench,
    host: Arc<Host>,
    files: Arc<Files>,
    blobs: Arc<Watched>,
}

fn yard() -> Yard {
    let (mut server, fake, events) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    let own = Arc::new(MemoryStore::new(MEMORY));
    let blobs = Arc::new(Watched { own, opened: Mutex::default(), kept: Arc::default() });
    let storage = storage_of(blobs.clone());
    server.files = Files::new(fake.database.clone(), storage, fake.world.clone());
    let files = server.files.clone();
    let host = Arc::new(Host::new(server));
    let Routes { cloud, site } = Routes::of(&host);
    Yard { bench: Bench { fake, cloud, site, events }, host, files, blobs }
}

impl Yard {
    async fn operator(&self, method: Method, path: &str, body: impl Into<Body>) -> Response<Body> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, format!("Convex {KEY}"));
        self.bench.cloud.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
    }

    /// Stores bytes; gives the file's id.
    async fn put(&self, bytes: &'static str) -> String {
        let (sender, body) = mpsc::channel(1);
        sender.try_send(Ok(Bytes::from(bytes))).unwrap();
        drop(sender);
        self.files.store("", body, Default::default()).await.unwrap()
    }

    /// A zip of everything.
    async fn zip(&self) -> Bytes {
        let ask = "/api/export/request/zip?includeStorage=true";
        let asked = self.operator(Method::POST, ask, "").await;
        let asked = to_bytes(asked.into_body(), usize::MAX).await.unwrap();
        let asked: Value = serde_json::from_slice(&asked).unwrap();
        let path = format!("/api/export/zip/{}", asked["startTs"].as_str().unwrap());
        let zip = self.operator(Method::GET, &path, "").await;
        let zip = to_bytes(zip.into_body(), usize::MAX).await.unwrap();
        // It is held no more.
        let row =
            self.bench.fake.database.snapshot().backups(Backups::Exports).next_back().cloned();
        let path = format!("/api/export/cancel/{}", row.unwrap().id.encode());
        assert_eq!(self.operator(Method::POST, &path, "").await.status(), 200);
        zip
    }

    /// Deletes a file and its blob, which nobody holds, or will not for long.
    async fn forget(&self, id: &str) {
        self.files.delete("", id).unwrap();
        while self.used() > 0 {
            self.files.collect_history().await;
        }
    }

    async fn begin(&self) -> Got {
        self.bench.admin("/api/import/start_upload", json!({})).await
    }

    /// Uploads a zip; gives the import, which is being read.
    async fn import(&self, zip: &Bytes, mode: &str) -> String {
        let token = self.begin().await.json()["uploadToken"].as_str().unwrap().to_owned();
        let path = format!("/api/import/upload_part?uploadToken={token}&partNumber=1");
        let part = self.operator(Method::POST, &path, zip.clone()).await;
        let part = to_bytes(part.into_body(), usize::MAX).await.unwrap();
        let part: Value = serde_json::from_slice(&part).unwrap();
        let import = json!({ "mode": mode, "format": "zip" });
        let finish = json!({ "import": import, "uploadToken": token, "partTokens": [part] });
        let got = self.bench.admin("/api/import/finish_upload", finish).await;
        got.json()["importId"].as_str().unwrap().to_owned()
    }

    async fn state(&self, import: &str) -> Value {
        let args = json!({ "importId": import });
        let asked = json!({ "path": "_system/cli/queryImport", "args": args, "format": "json" });
        self.bench.admin("/api/query", asked).await.json()["value"]["state"].clone()
    }

    /// Follows an import until it is in another state.
    async fn after(&self, import: &str, states: &[&str]) -> Value {
        loop {
            let state = self.state(import).await;
            if !states.contains(&state["state"].as_str().unwrap()) {
                return state;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn prepared(&self, zip: &Bytes, mode: &str) -> String {
        let import = self.import(zip, mode).await;
        let state = self.after(&import, &["uploaded"]).await;
        assert_eq!(state["state"], "waiting_for_confirmation", "{state}");
        import
    }

    async fn perform(&self, import: &str) -> Value {
        let confirmed = self.bench.admin("/api/perform_import", json!({ "importId": import }));
        assert_eq!(confirmed.await.status, 200);
        self.after(import, &["waiting_for_confirmation", "in_progress"]).await
    }

    async fn download(&self, id: &str) -> (u16, String) {
        let url = self.files.url("", id).unwrap().expect("the file has a row");
        let got = self.bench.get(url.strip_prefix("http://127.0.0.1:3210").unwrap()).await;
        (got.status.as_u16(), got.body)
    }

    fn used(&self) -> u64 {
        self.blobs.own.used()
    }
}

#[tokio::test]
async fn an_import_that_fails_leaves_the_files_of_one_that_succeeded() {
    let yard = yard();
    let id = yard.put("precious").await;
    let url = yard.files.url("", &id).unwrap();
    let zip = yard.zip().await;
    yard.forget(&id).await;
    let first = yard.prepared(&zip, "append").await;
    let second = yard.prepared(&zip, "append").await;
    let third = yard.prepared(&zip, "replace").await;
    assert_eq!(yard.perform(&first).await["state"], "completed");
    let failed = yard.perform(&second).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    assert_eq!(yard.download(&id).await, (200, "precious".to_owned()));
    // What is there by now is as it would be put there.
    assert_eq!(yard.perform(&third).await["state"], "completed");
    assert_eq!(yard.download(&id).await, (200, "precious".to_owned()));
    assert_eq!(yard.files.url("", &id).unwrap(), url);
    assert_eq!(yard.blobs.list().unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_that_an_import_found_stays_until_it_is_the_imports() {
    let yard = yard();
    let id = yard.put("found").await;
    let zip = yard.zip().await;
    yard.forget(&id).await;
    let first = yard.prepared(&zip, "append").await;
    assert_eq!(yard.perform(&first).await["state"], "completed");
    // When what was uploaded is gone, that import holds nothing any more.
    while yard.used() > "found".len() as u64 {
        tokio::task::yield_now().await;
    }
    let [blob] = yard.blobs.list().unwrap()[..] else { panic!("there is one blob") };
    let (files, runtime, of) = (yard.files.clone(), tokio::runtime::Handle::current(), id.clone());
    let then = move || {
        files.delete("", &of).unwrap();
        runtime.block_on(files.collect_history());
    };
    yard.blobs.opened.lock().unwrap().insert(blob, Box::new(then));
    let import = yard.prepared(&zip, "append").await;
    let done = yard.perform(&import).await;
    assert_eq!(done["state"], "completed", "{done}");
    assert!(yard.blobs.opened.lock().unwrap().is_empty(), "the blob was looked for");
    assert_eq!(yard.download(&id).await, (200, "found".to_owned()));
    assert_eq!(yard.blobs.list().unwrap().len(), 1);
}

/// Stops who keeps a blob next, right after it; gives how to hear of it, and how to let it go on.
fn stop_when_kept(yard: &Yard) -> (mpsc::UnboundedReceiver<()>, std::sync::mpsc::Sender<()>) {
    let (kept, keeping) = mpsc::unbounded_channel();
    let (go_on, gate) = std::sync::mpsc::channel();
    let then = move || {
        kept.send(()).unwrap();
        // An error means that it may go on too.
        let _ = gate.recv();
    };
    *yard.blobs.kept.lock().unwrap() = Some(Box::new(then));
    (keeping, go_on)
}

/// A client that leaves when its bytes are kept, but nobody has answered yet.
async fn leave_when_kept(yard: &Yard, path: &str, body: Bytes) {
    let (mut keeping, go_on) = stop_when_kept(yard);
    tokio::select! {
        biased;
        Some(()) = keeping.recv() => {}
        _ = yard.operator(Method::POST, path, body) => panic!("nothing is kept yet"),
    }
    drop(go_on);
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing_that_nobody_owns() {
    let yard = yard();
    let row = Bytes::from("{\"a\":1}\n");
    let path = "/api/import?tableName=t&format=jsonLines&mode=append";
    // In the middle of its bytes.
    for _ in 0..=limits::IMPORTS_AT_ONCE {
        let (sender, body) = mpsc::unbounded_channel();
        sender.send(Ok::<_, std::io::Error>(row.clone())).unwrap();
        let bytes = futures_util::stream::unfold(body, |mut body| async {
            let bytes = body.recv().await?;
            Some((bytes, body))
        });
        tokio::select! {
            biased;
            got = yard.operator(Method::POST, path, Body::from_stream(bytes)) => {
                panic!("it is not whole: {}", got.status())
            }
            () = tokio::task::yield_now() => {}
        }
        drop(sender);
    }
    // When they are all there: the import is done without it.
    for _ in 0..=limits::IMPORTS_AT_ONCE {
        leave_when_kept(&yard, path, row.clone()).await;
        let newest =
            || yard.bench.fake.database.snapshot().backups(Backups::Imports).next_back().cloned();
        while yard.used() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let row = newest().expect("it has a row").id.encode();
        assert_eq!(yard.state(&row).await["state"], "completed");
    }
    // A part is the upload's.
    let token = yard.begin().await.json()["uploadToken"].as_str().unwrap().to_owned();
    let path = format!("/api/import/upload_part?uploadToken={token}&partNumber=1");
    leave_when_kept(&yard, &path, row.clone()).await;
    let import = json!({ "mode": "append", "format": "zip" });
    let finish = json!({ "import": import, "uploadToken": token, "partTokens": ["x"] });
    loop {
        let got = yard.bench.admin("/api/import/finish_upload", finish.clone()).await;
        if got.body.contains("has 1 parts") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn two_imports_at_the_same_time_have_blobs_of_their_own() {
    let yard = yard();
    let id = yard.put("precious").await;
    let url = yard.files.url("", &id).unwrap();
    let zip = yard.zip().await;
    yard.forget(&id).await;
    let slow = yard.prepared(&zip, "append").await;
    let quick = yard.prepared(&zip, "append").await;
    let (mut keeping, go_on) = stop_when_kept(&yard);
    let confirmed = yard.bench.admin("/api/perform_import", json!({ "importId": slow }));
    assert_eq!(confirmed.await.status, 200);
    keeping.recv().await.unwrap();
    assert_eq!(yard.perform(&quick).await["state"], "completed");
    assert_ne!(yard.files.url("", &id).unwrap(), url, "the other one has that name");
    drop(go_on);
    let failed = yard.after(&slow, &["in_progress"]).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    assert_eq!(yard.download(&id).await, (200, "precious".to_owned()));
    assert_eq!(yard.blobs.list().unwrap().len(), 1, "the one that failed left nothing");
}

#[tokio::test]
async fn an_import_that_panics_has_failed_and_left_nothing() {
    let yard = yard();
    let id = yard.put("precious").await;
    let zip = yard.zip().await;
    yard.forget(&id).await;
    let import = yard.prepared(&zip, "append").await;
    *yard.blobs.kept.lock().unwrap() = Some(Box::new(|| panic!("a test wants it")));
    let failed = yard.perform(&import).await;
    assert_eq!(failed["state"], "failed");
    let why = failed["error_message"].as_str().unwrap();
    assert!(why.contains("ended in the middle") && why.contains("Nothing was imported"), "{why}");
    while yard.used() > 0 {
        tokio::task::yield_now().await;
    }
    let again = yard.bench.admin("/api/cancel_import", json!({ "importId": import })).await;
    assert_eq!(again.failure(), (404, "ImportNotFound".into()));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_goes_on_with_ends_by_itself() {
    let yard = yard();
    yard.put("precious").await;
    let zip = yard.zip().await;
    let kept = yard.used();
    let import = yard.prepared(&zip, "replace").await;
    assert!(yard.used() > kept, "the zip waits too");
    let late = (limits::IMPORT_WAIT_MS + 1) * 1_000_000;
    yard.bench.fake.world.0.fetch_add(late, Ordering::Relaxed);
    let tending = tokio::spawn(import::tend(yard.host.clone()));
    while yard.used() > kept {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let failed = yard.state(&import).await;
    assert_eq!(failed["state"], "failed");
    assert!(failed["error_message"].as_str().unwrap().contains("not confirmed in time"));
    tending.abort();
}

#[tokio::test(start_paused = true)]
async fn a_row_that_could_not_say_how_its_import_ended_says_it_later() {
    let (server, fake, _) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    let given = Given { now: fake.world.now(), ..Given::default() };
    let mut now = fake.database.begin(fake.database.newest(), &given, false);
    let text = |text: &str| Row::String(text.to_owned());
    let state = Row::Object([("state".to_owned(), text("uploaded"))].into());
    now.add_backup(Backups::Imports, [("state".to_owned(), state)].into());
    fake.database.commit(now, given.now, Writer::new("import", "")).unwrap();
    let tending = tokio::spawn(import::tend(Arc::new(Host::new(server))));
    let state = || {
        let snapshot = fake.database.snapshot();
        let row = snapshot.backups(Backups::Imports).next_back().unwrap().value();
        row.field("state.state").cloned()
    };
    while state() != Some(text("failed")) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tending.abort();
}
