//! File storage over HTTP and for actions: what is whole is kept, what is not leaves nothing.

use axum::body::Bytes;
use database::import::{Import, ImportFile, ImportFiles, Mode};
use database::limits;
use futures_util::stream;
use serde_json::json;
use storage::BlobStore as _;
use tokio::sync::mpsc;

use super::*;
use crate::files::check_size;
use crate::{FileError, Promised};

const HOUR: u64 = 3_600_000_000_000;

/// A server with files.
struct Shelf {
    bench: Bench,
    files: Arc<Files>,
    blobs: Arc<MemoryStore>,
}

fn shelf() -> Shelf {
    let (mut server, fake, events) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    let (blobs, files) = files(&fake.database, &fake.world);
    server.files = files.clone();
    let Routes { cloud, site } = Routes::new(server);
    Shelf { bench: Bench { fake, cloud, site, events }, files, blobs }
}

/// The path of a URL of this server.
fn path(url: &str) -> &str {
    url.strip_prefix("http://127.0.0.1:3210").expect("URLs begin with the origin")
}

impl Shelf {
    async fn upload(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Got {
        let url = self.files.generate_upload_url("");
        let mut request = Request::post(path(&url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.bench.send(request.body(body.into()).unwrap()).await
    }

    /// Stores bytes and gives the id.
    async fn put(&self, bytes: impl Into<Body>) -> String {
        let got = self.upload(&[("content-type", "text/plain")], bytes).await;
        assert_eq!(got.status, 200, "{}", got.body);
        got.json()["storageId"].as_str().unwrap().to_owned()
    }

    fn url(&self, id: &str) -> String {
        self.files.url("", id).unwrap().expect("the file is there")
    }

    async fn range(&self, id: &str, range: &str) -> Got {
        let request = Request::get(path(&self.url(id))).header("range", range);
        self.bench.send(request.body(Body::empty()).unwrap()).await
    }

    /// Nothing was stored.
    fn is_empty(&self) -> bool {
        let snapshot = self.bench.fake.database.snapshot();
        let rows = snapshot.count(snapshot.table("", "_storage").unwrap());
        (rows, self.blobs.used(), self.blobs.list().unwrap().len()) == (0, 0, 0)
    }
}

#[tokio::test]
async fn what_is_uploaded_can_be_downloaded_whole_and_in_ranges() {
    let shelf = shelf();
    // Longer than a step, so that both ways go in several.
    let text: String = (0..100_000).map(|n| format!("{n:06} ")).collect();
    let id = shelf.put(text.clone()).await;
    let url = shelf.url(&id);
    let got = shelf.bench.get(path(&url)).await;
    assert!(got.status == 200 && got.body == text);
    let header = |name: &str| got.headers[name].to_str().unwrap().to_owned();
    use base64::Engine as _;
    let sha256 = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&text));
    assert_eq!(header("content-type"), "text/plain");
    assert_eq!(header("content-length"), "700000");
    assert_eq!(header("digest"), format!("sha-256={sha256}"));
    assert_eq!(header("cache-control"), "private, max-age=2592000");
    assert_eq!(header("accept-ranges"), "bytes");

    let part = shelf.range(&id, "bytes=262140-262150").await;
    assert_eq!((part.status.as_u16(), part.body.as_str()), (206, &text[262_140..=262_150]));
    assert_eq!(part.headers["content-range"], "bytes 262140-262150/700000");
    assert_eq!(part.headers["content-length"], "11");
    assert_eq!(shelf.range(&id, "bytes=-7").await.body, "099999 ");
    let beyond = shelf.range(&id, "bytes=700000-").await;
    assert_eq!(beyond.failure(), (416, "RangeNotSatisfiable".to_owned()));
    assert_eq!(beyond.headers["content-range"], "bytes */700000");
    assert_eq!(shelf.range(&id, "bytes=0-1,3-4").await.status, 416);

    let head = Request::head(path(&url)).body(Body::empty()).unwrap();
    let head = shelf.bench.send(head).await;
    assert_eq!((head.headers["content-length"].to_str().unwrap(), head.body.len()), ("700000", 0));
    let empty = shelf.put("").await;
    let got = shelf.bench.get(path(&shelf.url(&empty))).await;
    assert_eq!((got.status.as_u16(), got.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_hash_that_was_promised_is_checked() {
    let shelf = shelf();
    use base64::Engine as _;
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest("right"));
    let digest = format!("sha-256={hash}");
    let wrong = shelf.upload(&[("digest", &digest)], "wrong").await;
    assert_eq!(wrong.failure(), (400, "Sha256Mismatch".to_owned()));
    assert!(shelf.is_empty());
    assert_eq!(shelf.upload(&[("digest", &digest)], "right").await.status, 200);
}

#[tokio::test]
async fn an_upload_url_works_for_an_hour_and_only_as_it_was_made() {
    let shelf = shelf();
    let url = shelf.files.generate_upload_url("");
    let forged = url.replace("token=", "token=A");
    let refused = (401, "StorageTokenInvalid".to_owned());
    for wrong in [path(&forged), "/api/storage/upload?token=", "/api/storage/upload"] {
        assert_eq!(shelf.bench.post(wrong, "x").await.failure(), refused, "{wrong}");
    }
    assert_eq!(limits::UPLOAD_URL_MS * 1_000_000, HOUR);
    shelf.bench.fake.world.0.fetch_add(HOUR - 1_000_000, Ordering::Relaxed);
    assert_eq!(shelf.bench.post(path(&url), "in time").await.status, 200);
    shelf.bench.fake.world.0.fetch_add(1_000_000, Ordering::Relaxed);
    let late = shelf.bench.post(path(&url), "too late").await;
    assert_eq!(late.failure(), refused);
    assert!(late.body.contains("it has expired"), "{}", late.body);
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing() {
    let shelf = shelf();
    let chunks = [Ok(Bytes::from(vec![0; 300 << 10])), Err(std::io::Error::other("cut"))];
    let cut = shelf.upload(&[], Body::from_stream(stream::iter(chunks))).await;
    assert_eq!(cut.failure(), (408, "ClientDisconnect".to_owned()));
    assert!(shelf.is_empty());
    // A client that is gone altogether: its handler is dropped.
    let (sender, body) = mpsc::channel(1);
    sender.send(Ok(Bytes::from(vec![0; 300 << 10]))).await.unwrap();
    let files = shelf.files.clone();
    let upload = tokio::spawn(async move { files.store("", body, Promised::default()).await });
    while shelf.blobs.used() == 0 {
        tokio::task::yield_now().await;
    }
    upload.abort();
    assert!(upload.await.unwrap_err().is_cancelled());
    // The thread that was writing ends first.
    while !shelf.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stops_is_given_up() {
    let shelf = shelf();
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![0; 300 << 10]))]);
    let silent = futures_util::StreamExt::chain(first, stream::pending());
    let got = shelf.upload(&[], Body::from_stream(silent)).await;
    assert_eq!(got.failure(), (408, "ClientDisconnect".to_owned()));
    assert!(got.body.contains("no byte came for 60 seconds"), "{}", got.body);
    assert_eq!(limits::UPLOAD_STALL_MS, 60_000);
    assert!(shelf.is_empty());
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let shelf = shelf();
    let length = (limits::FILE_BYTES + 1).to_string();
    let got = shelf.upload(&[("content-length", &length)], "x").await;
    assert_eq!(got.failure(), (413, "FileTooLarge".to_owned()));
    assert!(check_size(limits::FILE_BYTES).is_ok());
    let room = limits::FILES_MEMORY_BYTES;
    assert!(room > limits::FILE_BYTES, "the largest file finds room");
    assert!(shelf.is_empty());
}

#[tokio::test]
async fn a_full_store_says_so_and_deleted_files_make_room() {
    let shelf = shelf();
    let large = || vec![b'x'; 3 << 20];
    let id = shelf.put(large()).await;
    let full = shelf.upload(&[], large()).await;
    assert_eq!(full.failure(), (507, "FileStorageFull".to_owned()));
    assert!(full.body.contains("Delete files first"), "{}", full.body);
    assert_eq!(shelf.blobs.used(), 3 << 20);
    shelf.files.delete("", &id).unwrap();
    assert_eq!(shelf.blobs.used(), 3 << 20, "the history shows it still");
    shelf.put(large()).await;
    assert_eq!((shelf.blobs.used(), shelf.blobs.list().unwrap().len()), (3 << 20, 1));
}

#[tokio::test(start_paused = true)]
async fn deleted_files_that_the_past_shows_are_bounded_the_oldest_deletions_go() {
    let Shelf { bench, files: unbounded, blobs } = shelf();
    let (database, world) = (bench.fake.database.clone(), bench.fake.world.clone());
    let storage = Storage { past: Some(10), ..storage_of(blobs.clone()) };
    let bounded = Files::new(database, storage, world);
    let shelf = Shelf { bench, files: unbounded, blobs };
    let mut names = Vec::new();
    for text in ["the first", "a second", "3rd"] {
        let id = shelf.put(text).await;
        names.push(shelf.blobs.list().unwrap().into_iter().find(|n| !names.contains(n)).unwrap());
        shelf.files.delete("", &id).unwrap();
    }
    let kept = shelf.put("nobody deletes this").await;
    let tending = tokio::spawn(bounded.tend());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left = shelf.blobs.list().unwrap();
    assert_eq!(
        names.iter().map(|name| left.contains(name)).collect::<Vec<_>>(),
        [false, false, true]
    );
    assert_eq!(left.len(), 2);
    assert!(shelf.files.url("", &kept).unwrap().is_some());
    tending.abort();
}

#[tokio::test(start_paused = true)]
async fn the_blob_of_a_deleted_file_goes_with_the_last_snapshot_that_shows_it() {
    let shelf = shelf();
    let id = shelf.put("soon gone").await;
    shelf.files.delete("", &id).unwrap();
    let tending = tokio::spawn(shelf.files.clone().tend());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(shelf.blobs.list().unwrap().len(), 1, "the history shows it");
    // Other variables, until the history has forgotten the deletion.
    let database = &shelf.bench.fake.database;
    let deleted = database.snapshot().ts;
    let mut value = 0_u64;
    while database.history().oldest <= deleted {
        let name = format!("V{}", value % 2);
        let change = Change { name, value: Some(format!("{value:08000}")) };
        database.change_environment(&[change], 0).unwrap();
        value += 1;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(shelf.blobs.list().unwrap().len(), 0);
    tending.abort();
}

#[tokio::test]
async fn a_deleted_file_is_gone_for_all_but_those_who_read_it() {
    let shelf = shelf();
    let id = shelf.put(vec![b'x'; 1 << 20]).await;
    let url = shelf.url(&id);
    let reading = shelf.files.get("", &id).await.unwrap().unwrap();
    shelf.files.delete("", &id).unwrap();
    let gone = shelf.bench.get(path(&url)).await;
    assert_eq!(gone.failure(), (404, "FileNotFound".to_owned()));
    assert_eq!(shelf.files.url("", &id).unwrap(), None);
    assert!(shelf.files.get("", &id).await.unwrap().is_none());
    assert_eq!(shelf.files.delete("", &id).unwrap_err().code, "StorageIdNotFound");
    let (mut body, mut read) = (reading.body, 0);
    while let Some(bytes) = body.recv().await {
        read += bytes.unwrap().len();
    }
    assert_eq!(read, 1 << 20);
    let none = shelf.bench.get("/api/storage/not-a-uuid").await;
    assert_eq!(none.failure(), (400, "InvalidStoragePath".to_owned()));
}

#[tokio::test]
async fn actions_store_and_read_streams() {
    let shelf = shelf();
    let send = |items: Vec<Result<Bytes, String>>| {
        let (sender, body) = mpsc::channel(items.len().max(1));
        items.into_iter().for_each(|item| sender.try_send(item).unwrap());
        body
    };
    let promised = Promised {
        content_type: Some("text/html".into()),
        sha256: crate::parse_sha256(
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
    };
    let body = send(vec![Ok("a".into()), Ok("bc".into())]);
    let id = shelf.files.store("", body, promised.clone()).await.unwrap();
    let file = shelf.files.metadata("", &id).unwrap().unwrap();
    assert_eq!((file.size, file.content_type.as_deref()), (3, Some("text/html")));
    let mut out = shelf.files.get("", &id).await.unwrap().unwrap();
    assert_eq!(out.body.recv().await.unwrap().unwrap(), "abc");
    assert!(out.body.recv().await.is_none());
    let cut = send(vec![Ok("a".into()), Err("the worker died".into())]);
    let error = shelf.files.store("", cut, Promised::default()).await.unwrap_err();
    assert!(matches!(error, FileError::Cut(why) if why == "the worker died"));
    let other = shelf.files.store("", send(vec![Ok("abd".into())]), promised).await;
    assert!(matches!(other, Err(FileError::User(error)) if error.code == "Sha256Mismatch"));
    assert_eq!(shelf.blobs.list().unwrap().len(), 1);
}

#[tokio::test]
async fn the_operator_sets_lists_and_deletes_environment_variables() {
    let bench = echo();
    let update = "/api/update_environment_variables";
    let set = |changes: Value| bench.admin(update, json!({ "changes": changes }));
    let list = async || {
        let auth = format!("Convex {KEY}");
        let path = "/api/v1/list_environment_variables";
        let got = bench.authorized(Method::GET, path, (&auth, String::new())).await;
        got.json()["environmentVariables"].clone()
    };
    assert_eq!(list().await, json!({}));
    let both = json!([{ "name": "B", "value": "2" }, { "name": "A", "value": "" }]);
    assert_eq!(set(both).await.status, 200);
    assert_eq!(list().await, json!({ "A": "", "B": "2" }));
    let half = json!([{ "name": "C", "value": "3" }, { "name": "1", "value": "" }]);
    assert_eq!(set(half).await.failure(), (400, "EnvironmentVariableNameInvalid".to_owned()));
    assert_eq!(list().await, json!({ "A": "", "B": "2" }));
    assert_eq!(set(json!([{ "name": "A", "value": null }])).await.status, 200);
    assert_eq!(list().await, json!({ "B": "2" }));

    let ask = |name: &str, args: Value| {
        let path = format!("_system/cli/{name}");
        bench.admin("/api/query", json!({ "path": path, "args": args }))
    };
    let all = ask("queryEnvironmentVariables", json!({})).await.json();
    assert_eq!(all["value"][0]["name"], "B");
    assert_eq!(all["value"].as_array().unwrap().len(), 1);
    let one = ask("queryEnvironmentVariables:get", json!({ "name": "B" })).await.json();
    assert_eq!(one["value"]["value"], "2");
    let none = ask("queryEnvironmentVariables:get", json!({ "name": "A" })).await.json();
    assert_eq!(none["value"], Value::Null);

    let stranger = bench.post(update, json!({ "changes": [] }).to_string()).await;
    assert_eq!(stranger.status, 401, "{}", stranger.body);
    assert_eq!(bench.get("/api/v1/list_environment_variables").await.status, 401);
}

#[tokio::test]
async fn a_file_that_somebody_holds_or_brought_back_outlives_its_deletion() {
    let shelf = shelf();
    let id = shelf.put("held").await;
    let database = &shelf.bench.fake.database;
    let blob = || shelf.blobs.list().unwrap();
    let (file, creation_time) = database.snapshot().files("").next().unwrap();
    let (held, name) = (shelf.files.pin(), blob());
    shelf.files.delete("", &id).unwrap();
    shelf.files.collect_history().await;
    assert_eq!(blob(), name, "an export shows it");
    let again = ImportFile {
        id: Some(file.id),
        creation_time: Some(creation_time),
        blob: file.blob.clone(),
        sha256: file.sha256,
        size: file.size,
        content_type: None,
    };
    let files = vec![ImportFiles { component: "".into(), files: vec![again] }];
    let (mode, tables) = (Mode::Append, Vec::new());
    let import = Import { mode, component: "".into(), tables, files };
    shelf.files.commit_blocking("import", |now| now.import(&import)).unwrap();
    drop(held);
    shelf.files.collect_history().await;
    assert_eq!(blob(), name, "it was brought back");
    assert_eq!(shelf.bench.get(path(&shelf.url(&id))).await.body, "held");
    let held = shelf.files.pin();
    shelf.files.delete("", &id).unwrap();
    shelf.files.collect_history().await;
    drop(held);
    shelf.files.collect_history().await;
    assert!(shelf.is_empty());
}
