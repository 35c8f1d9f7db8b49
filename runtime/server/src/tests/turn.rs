//! What waits for the right to commit, or for the disk: it holds nobody up, and believes nobody's
//! silence.
//!
//! In: requests to a host with one thread, whose turn to commit somebody has taken. Out: assertions
//! on what is answered meanwhile. Invariant: time decides nothing but how long a failure takes.

use std::sync::mpsc;
use std::thread::JoinHandle;

use database::backup_rows::Backups;
use database::durability::Journal;
use database::log::LogEntry;
use serde_json::json;
use tokio::task::yield_now;

use super::*;
use crate::FileError;

/// Requests beside one that waits: more than it takes to get to where it waits.
const BESIDE: usize = 1_000;

/// The turn, taken by a thread as by a function that runs patiently.
struct Taken {
    give_back: mpsc::Sender<()>,
    /// Whether it was asked to give it back.
    thread: JoinHandle<bool>,
}

impl Taken {
    fn of(database: &Arc<Database>) -> Self {
        let database = Arc::clone(database);
        let (give_back, wanted) = mpsc::channel();
        let (taken, waiting) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _turn = database.turn();
            taken.send(()).unwrap();
            wanted.recv_timeout(Duration::from_secs(20)).is_ok()
        });
        waiting.recv().unwrap();
        Self { give_back, thread }
    }
}

/// Sends a request as the operator while the turn is taken; others are answered until `waits`.
async fn beside(bench: &Bench, path: &str, body: Value, waits: impl Fn() -> bool) -> Got {
    let turn = Taken::of(&bench.fake.database);
    let others = async {
        while !waits() {
            yield_now().await;
        }
        for _ in 0..BESIDE {
            assert_eq!(bench.get("/health").await.status, 200);
            yield_now().await;
        }
        // If the thread has given up, it says so below.
        let _ = turn.give_back.send(());
    };
    let (got, ()) = tokio::join!(bench.admin(path, body), others);
    assert!(turn.thread.join().unwrap(), "{path} held the only thread while it waited");
    got
}

fn bench_with_files() -> (Bench, Arc<MemoryStore>, Arc<Files>) {
    let (mut server, fake, events) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    let (blobs, files) = files(&fake.database, &fake.world);
    server.files = files.clone();
    let Routes { cloud, site } = Routes::new(server);
    (Bench { fake, cloud, site, events }, blobs, files)
}

#[tokio::test]
async fn an_upload_that_waits_for_its_turn_holds_nobody_up() {
    let (bench, blobs, files) = bench_with_files();
    let url = files.generate_upload_url("");
    let path = url.strip_prefix("http://127.0.0.1:3210").unwrap();
    // Its bytes are kept before its row.
    let waits = || !blobs.list().unwrap().is_empty();
    let got = beside(&bench, path, json!("bytes"), waits).await;
    assert_eq!(got.status, 200, "{}", got.body);
}

#[tokio::test]
async fn an_export_that_waits_for_its_turn_holds_nobody_up() {
    let (bench, ..) = bench_with_files();
    let got = beside(&bench, "/api/export/request/zip", json!({}), || true).await;
    assert_eq!(got.status, 200, "{}", got.body);
    let row = bench.fake.database.snapshot().backups(Backups::Exports).next().unwrap().id.encode();
    let path = format!("/api/export/cancel/{row}");
    let got = beside(&bench, &path, json!({}), || true).await;
    assert_eq!(got.status, 200, "{}", got.body);
}

#[tokio::test]
async fn an_import_that_waits_for_its_turn_holds_nobody_up() {
    let (bench, ..) = bench_with_files();
    let token = bench.admin("/api/import/start_upload", json!({})).await.json();
    let token = token["uploadToken"].as_str().unwrap();
    let path = format!("/api/import/upload_part?uploadToken={token}&partNumber=1");
    let part = bench.admin(&path, json!({})).await.json();
    let wanted = json!({ "mode": "append", "format": "jsonLines", "tableName": "t" });
    let finish = json!({ "import": wanted, "uploadToken": token, "partTokens": [part] });
    let got = beside(&bench, "/api/import/finish_upload", finish, || true).await;
    assert_eq!(got.status, 200, "{}", got.body);
}

/// Keeps commits for the test.
#[derive(Default)]
struct Slow(Mutex<Vec<Arc<LogEntry>>>);

impl Journal for Slow {
    fn append(&self, entry: &Arc<LogEntry>) {
        self.0.lock().unwrap().push(Arc::clone(entry));
    }

    fn forget(&self) {
        self.0.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn what_nobody_says_is_durable_is_not_taken_for_durable() {
    let (bench, _, files) = bench_with_files();
    let (database, slow) = (&bench.fake.database, Arc::new(Slow::default()));
    database.keep_in(slow.clone());
    let change = Change { name: "NAME".to_owned(), value: Some("value".to_owned()) };
    let ts = database.change_environment(&[change], bench.fake.world.now()).unwrap();
    // A bug of ours in between: whoever comes after it is never told.
    database.when_durable(ts, Box::new(|_| panic!("a bug")));
    let told = tokio::spawn(async move { files.durable(ts).await });
    yield_now().await;
    let entry = slow.0.lock().unwrap().pop().unwrap();
    let keeper = Arc::clone(database);
    std::thread::spawn(move || keeper.made_durable(&entry)).join().unwrap_err();
    let why = told.await.unwrap().unwrap_err();
    assert!(matches!(&why, FileError::Undone(_)), "{why}");
    assert!(why.to_string().contains("the host is shutting down"), "{why}");
}
