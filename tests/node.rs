//! The pool of Node processes: what a function does to its process, and when it is stopped.
//!
//! In: functions in plain JavaScript. Out: an end for each. Invariant: a function that loops is
//! stopped at its time limit, though its process hears nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actions::node::{Node, Version};
use actions::node_folder::Folder;
use actions::node_packages::{Packages, PackagesError};
use actions::pool::{Callbacks, Code, Config, Ended, Input, Job, Pool, Reply, Replying, Syscall};
use actions::protocol::{End, Network, Residents};
use database::limits;
use tokio::runtime::Handle;

const MODULE: &str = r#"
const action = (handler) => ({
    isAction: true, isPublic: true, _handler: handler,
    invokeAction: async (id, args) => JSON.stringify(await handler(JSON.parse(args)[0]) ?? null),
});
export const one = action(() => 1);
export const loops = action(() => { for (;;) {} });
export const sleeps = action(() => new Promise((resolve) => setTimeout(resolve, 600_000)));
export const logs = action(() => { for (let n = 0; n < 1000; n += 1) console.log(n); });
export const aborts = action(() => process.abort());
export const crashes = action(() => {
    const socket = new Socket();
    socket.connect({ host: "1.1.1.1", port: 1 });
    // Not as Node itself calls it, whose native half insists.
    socket._handle.connect({}, "1.1.1.1");
});
export const asks = action(() => Convex.asyncSyscall("hangs", "{}"));
export const writes = action((at) => {
    const file = openSync(`${tmpdir()}/${at}`, "w");
    // What lies before it takes no room.
    return writeSync(file, "x", at);
});
import { openSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
"#;

struct Silent;

impl Callbacks for Silent {
    fn syscall(&self, _: Syscall) -> Replying {
        Box::pin(std::future::pending::<Reply>())
    }
}

struct Tested {
    pool: Arc<Pool>,
    code: Arc<Code>,
}

impl Tested {
    async fn new() -> Self {
        Self::with(usize::try_from(limits::NODE_ACTIONS_AT_ONCE).unwrap()).await
    }

    async fn with(runs: usize) -> Self {
        let heap = limits::NODE_HEAP_BYTES >> 20;
        let (memory, file) = (limits::ACTION_PROCESS_BYTES, limits::NODE_FILE_BYTES);
        let node = Node::find(None, heap, memory, file).await.unwrap();
        let entries = ["m.js".to_owned()];
        let folder = Folder::write([("m.js", MODULE)].into_iter(), &entries, None).unwrap();
        let code = Code { folder: Some(Arc::new(folder)), ..Code::default() };
        let pool = Pool::start(Config {
            program: node.program.clone(),
            arguments: Vec::new(),
            runtime: Handle::current(),
            limits: concave::outside::limits_of_a_run(),
            calls: concave::outside::calls_of_a_run(),
            runs_per_process: 1,
            runs,
            retire_after: limits::ACTIONS_OF_A_PROCESS,
            idle: Duration::from_millis(limits::ACTION_PROCESS_IDLE_MS),
            network: Network::default(),
            node: Some(node),
            residents: Residents::default(),
            keep: None,
        });
        Self { pool, code: Arc::new(code) }
    }

    fn job(&self, input: Input, export: &str, timeout_ms: u64) -> Job {
        Job {
            code: Arc::clone(&self.code),
            environment: Arc::new(BTreeMap::new()),
            module: "m.js".to_owned(),
            export: export.to_owned(),
            request_id: "0123456789abcdef".to_owned(),
            timeout: Duration::from_millis(timeout_ms),
            reuse: false,
            input,
        }
    }

    async fn run(&self, job: Job) -> Ended {
        match self.pool.run(job, Arc::new(Silent)).await {
            Ok(mut running) => running.end().await,
            Err(refused) => refused,
        }
    }

    async fn action(&self, export: &str, timeout_ms: u64) -> Ended {
        let input = Input::Action { arguments: "[{}]".to_owned() };
        self.run(self.job(input, export, timeout_ms)).await
    }

    /// The text of an error.
    async fn error(&self, export: &str, timeout_ms: u64) -> String {
        match self.action(export, timeout_ms).await.end {
            End::Threw(thrown) => thrown.message,
            other => panic!("{export} ended with {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_is_stopped_at_its_time_limit() {
    let tested = Tested::new().await;
    for export in ["loops", "sleeps", "asks"] {
        let text = tested.error(export, 400).await;
        assert_eq!(text, "Function execution timed out (maximum duration: 1s)", "{export}");
        let next = tested.action("one", limits::NODE_ACTION_TIME_MS).await;
        assert_eq!((next.end, next.result.as_str()), (End::Returned, "1"), "after {export}");
    }
    let text = tested.error("aborts", limits::NODE_ACTION_TIME_MS).await;
    assert!(
        text.starts_with("m:aborts called process.abort(), which ended its process."),
        "{text}"
    );
    let text = tested.error("crashes", limits::NODE_ACTION_TIME_MS).await;
    assert!(text.starts_with("The process that ran m:crashes ended: signal: 6"), "{text}");
    assert!(!text.contains("0x") && !text.contains("----"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_bounded_and_modules_can_be_looked_at() {
    let tested = Tested::new().await;
    let ended = tested.action("logs", limits::NODE_ACTION_TIME_MS).await;
    assert_eq!(ended.lines.len() as u64, limits::LOG_LINES + 1);
    let input = Input::Analysis { modules: vec!["m.js".to_owned()] };
    let ended = tested.run(tested.job(input, "default", limits::NODE_ANALYSIS_MS)).await;
    let found: serde_json::Value = serde_json::from_str(&ended.result).unwrap();
    let functions = found["m.js"]["functions"].as_array().unwrap();
    assert_eq!(functions[0]["name"], "one", "in the order of the text");
    assert_eq!(functions[0]["at"], serde_json::json!(["m.js", 6, 27]));
    assert_eq!(functions.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_have_a_bound_and_go_with_their_run() {
    let tested = Tested::new().await;
    let write = async |at: u64| {
        let input = Input::Action { arguments: format!("[{at}]") };
        tested.run(tested.job(input, "writes", limits::NODE_ACTION_TIME_MS)).await
    };
    let last = write(limits::NODE_FILE_BYTES - 1).await;
    assert_eq!((last.end, last.result.as_str()), (End::Returned, "1"));
    let End::Threw(beyond) = write(limits::NODE_FILE_BYTES).await.end else { panic!("no bound") };
    assert!(beyond.message.contains("EFBIG: file too large"), "{}", beyond.message);
    let root = tested.code.folder.as_ref().unwrap().root();
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let is_temporary = |path: &Path| path.to_string_lossy().contains("/tmp-");
    for folder in entries.filter(|path| is_temporary(path)) {
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{folder:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_run_at_once_than_the_limit() {
    let tested = Tested::with(2).await;
    let mut running = Vec::new();
    for _ in 0..2 {
        let input = Input::Action { arguments: "[{}]".to_owned() };
        let job = tested.job(input, "asks", limits::NODE_ACTION_TIME_MS);
        running.push(tested.pool.run(job, Arc::new(Silent)).await.unwrap());
    }
    let text = tested.error("one", limits::NODE_ACTION_TIME_MS).await;
    assert!(text.contains("limited to 2 concurrent"), "{text}");
    drop(running);
}

/// A Node whose npm is a script.
fn node_with_npm(folder: &Path, script: &str) -> Node {
    use std::os::unix::fs::PermissionsExt as _;
    let npm = folder.join("npm");
    fs::write(&npm, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&npm, fs::Permissions::from_mode(0o755)).unwrap();
    let version = Version { major: 20, minor: 20 };
    Node { program: folder.join("node"), version, heap_mib: 1, process_bytes: 1, file_bytes: 1 }
}

#[tokio::test]
async fn packages_are_installed_once_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let install = r#"
        case "$*" in *--ignore-scripts*) ;; *) exit 1;; esac
        echo "$1" >> ../calls
        case "$1" in install) echo {} > package-lock.json;; ci) mkdir -p node_modules/a;; esac"#;
    let node = node_with_npm(folder.path(), install);
    let patience = Duration::from_millis(limits::NODE_INSTALL_MS);
    let packages = Packages::in_folder(folder.path().join("p"), patience, Arc::new(|_| {}));
    let wanted = BTreeMap::from([("a".to_owned(), "1.0.0".to_owned())]);
    let (one, two) = tokio::join!(packages.folder(&node, &wanted), packages.folder(&node, &wanted));
    let place = one.unwrap();
    assert_eq!(place, two.unwrap());
    assert!(place.join("node_modules/a").is_dir());
    let calls = || fs::read_to_string(folder.path().join("p/calls")).unwrap();
    assert_eq!(calls(), "install\nci\n");
    fs::remove_dir_all(place.join("node_modules")).unwrap();
    packages.folder(&node, &wanted).await.unwrap();
    assert_eq!(calls(), "install\nci\nci\n", "the lock file decides what is installed again");

    let node = node_with_npm(folder.path(), "mkdir node_modules; exec sleep 600");
    let short = Duration::from_millis(200);
    let packages = Packages::in_folder(folder.path().join("q"), short, Arc::new(|_| {}));
    let late = packages.folder(&node, &wanted).await.unwrap_err();
    assert!(matches!(late, PackagesError::TooLong { .. }), "{late}");
    assert_eq!(fs::read_dir(folder.path().join("q")).unwrap().count(), 0, "nothing half is left");
}
