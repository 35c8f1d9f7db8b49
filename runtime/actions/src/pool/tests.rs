//! The pool with processes that hear everything and say nothing.
//!
//! In: jobs of many tasks at once, pushes, shutdowns. Out: which process has which. Invariant: no
//! test depends on how fast a process starts.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::*;
use crate::node::Version;

/// Asks for nothing.
pub(crate) struct Silent;

impl Callbacks for Silent {
    fn syscall(&self, _: Syscall) -> Replying {
        Box::pin(std::future::pending())
    }
}

/// A pool whose processes hear everything and say nothing: their runs end when a test says so.
pub(crate) fn config(runs_per_process: usize, runs: usize) -> Config {
    let version = Version { major: 20, minor: 0 };
    let program = PathBuf::from("/bin/cat");
    let (heap_mib, process_bytes, file_bytes) = Default::default();
    // It is not started, as the code has no folder. With it there is no snapshot to be made.
    let node = Node { program: program.clone(), version, heap_mib, process_bytes, file_bytes };
    Config {
        program,
        arguments: Vec::new(),
        runtime: Handle::current(),
        limits: Limits::default(),
        calls: CallLimits { count: 8, bytes: 1 << 20 },
        runs_per_process,
        runs,
        retire_after: u64::MAX,
        idle: Duration::from_secs(3600),
        node: Some(node),
        network: Network::default(),
        residents: Residents::default(),
        keep: None,
    }
}

pub(crate) fn code(version: &str) -> Arc<Code> {
    Arc::new(Code { version: version.to_owned(), ..Code::default() })
}

pub(crate) fn job(code: &Arc<Code>) -> Job {
    Job {
        code: Arc::clone(code),
        environment: Arc::default(),
        module: "m.js".to_owned(),
        export: "f".to_owned(),
        request_id: String::new(),
        timeout: Duration::from_secs(3600),
        reuse: false,
        input: Input::Action { arguments: "[]".to_owned() },
    }
}

async fn run(pool: &Pool, code: &Arc<Code>) -> Result<Running, Ended> {
    pool.run(job(code), Arc::new(Silent)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn jobs_that_come_at_once_have_a_process_each_and_are_no_more_than_may_be() {
    let jobs = 32;
    for limit in [1, 2, 3, 16].into_iter().cycle().take(100) {
        let (pool, code) = (Pool::start(config(1, limit)), code("1"));
        let together = Arc::new(Barrier::new(jobs));
        let mut tasks = JoinSet::new();
        for _ in 0..jobs {
            let (pool, code) = (Arc::clone(&pool), Arc::clone(&code));
            let together = Arc::clone(&together);
            tasks.spawn(async move {
                together.wait().await;
                run(&pool, &code).await
            });
        }
        let running: Vec<_> = tasks.join_all().await.into_iter().filter_map(Result::ok).collect();
        let processes: HashSet<_> =
            running.iter().map(|run| run.guard.as_ref().unwrap().0.pid).collect();
        assert_eq!((running.len(), processes.len()), (limit, limit));
        pool.shut_down();
    }
}

#[tokio::test]
async fn runs_of_older_code_are_among_those_that_may_be() {
    let (pool, old) = (Pool::start(config(1, 2)), code("1"));
    let first = run(&pool, &old).await.unwrap();
    let new = code("2");
    pool.deployed(Arc::clone(&new));
    assert_eq!(first.guard.as_ref().unwrap().0.load(), None, "it is retired");
    let _second = run(&pool, &new).await.unwrap();
    let refused = run(&pool, &new).await.err().unwrap();
    assert!(matches!(refused.end, End::Threw(thrown) if thrown.message.contains("limited to 2")));
}

#[tokio::test]
async fn all_processes_can_be_found_while_those_of_older_code_are_retired() {
    let (pool, old) = (Pool::start(config(1, 1)), code("1"));
    let start = || Process::start(&pool.config, &[], Arc::clone(&old), |_| {}).unwrap();
    pool.state().processes = std::iter::repeat_with(start).take(16).collect();
    let is_over = AtomicBool::new(false);
    let fewest = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut fewest = usize::MAX;
            while !is_over.load(Ordering::Relaxed) {
                fewest = fewest.min(pool.live().len());
            }
            fewest
        });
        for push in 0..2000 {
            pool.deployed(code(&format!("later {push}")));
        }
        is_over.store(true, Ordering::Relaxed);
        looks.join().unwrap()
    });
    assert_eq!(fewest, 16, "a host that stops must find all of them");
    assert!(pool.state().processes.iter().all(|process| process.load().is_none()));
}

#[tokio::test]
async fn a_process_of_older_code_counts_until_it_is_dead() {
    let (pool, old) = (Pool::start(config(1, 8)), code("1"));
    let long = run(&pool, &old).await.unwrap();
    let process = Arc::clone(&long.guard.as_ref().unwrap().0);
    pool.deployed(code("2"));
    let pid = process.pid.unwrap();
    assert!(pool.processes().iter().all(|(taking, _)| *taking != pid), "it takes no more jobs");
    assert!(pool.live().contains(&pid), "and its run has its memory still");
    process.kill("this test has seen enough".to_owned());
    while pool.live().contains(&pid) {
        tokio::task::yield_now().await;
    }
}

/// A runtime in which a process is started only when the test says so.
fn slow() -> (tokio::runtime::Runtime, mpsc::Sender<()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).max_blocking_threads(1).enable_all().build();
    let (runtime, (go, wait)) = (runtime.unwrap(), mpsc::channel());
    runtime.spawn_blocking(move || wait.recv());
    (runtime, go)
}

fn within_a_minute(runtime: &tokio::runtime::Runtime, test: impl Future<Output = ()>) {
    let limit = Duration::from_mins(1);
    runtime.block_on(async { tokio::time::timeout(limit, test).await }).unwrap();
}

/// Asks for runs, each in a task of its own.
fn ask(pool: &Arc<Pool>, code: &Arc<Code>, count: usize) -> JoinSet<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (pool, code) = (Arc::clone(pool), Arc::clone(code));
        tasks.spawn(async move { run(&pool, &code).await });
    }
    tasks
}

/// Waits until so many jobs wait for their process.
async fn until_waiting(pool: &Pool, count: usize) {
    while pool.state().starting.iter().map(|one| one.jobs.len()).sum::<usize>() < count {
        assert!(pool.live().is_empty(), "it is started when the test says so");
        tokio::task::yield_now().await;
    }
}

type Outcome = Result<Running, Ended>;

fn process(run: &Outcome) -> &Arc<Process> {
    &run.as_ref().ok().and_then(|run| run.guard.as_ref()).unwrap().0
}

#[test]
fn jobs_that_wait_for_a_process_are_counted_and_share_it() {
    let (runtime, go) = slow();
    within_a_minute(&runtime, async {
        let (pool, code) = (Pool::start(config(2, 3)), code("1"));
        let tasks = ask(&pool, &code, 3);
        until_waiting(&pool, 3).await;
        let refused = run(&pool, &code).await.err().unwrap();
        assert!(
            matches!(refused.end, End::Threw(thrown) if thrown.message.contains("limited to 3"))
        );
        go.send(()).unwrap();
        let running = tasks.join_all().await;
        let mut loads: Vec<_> = pool.processes().iter().map(|(_, load)| *load).collect();
        loads.sort_unstable();
        assert_eq!((running.len(), loads), (3, vec![1, 2]));
        pool.shut_down();
    });
}

#[test]
fn a_process_of_older_code_that_is_being_started_runs_what_waits_and_nothing_else() {
    let (runtime, go) = slow();
    within_a_minute(&runtime, async {
        let (pool, old) = (Pool::start(config(2, 8)), code("1"));
        let first = ask(&pool, &old, 1);
        until_waiting(&pool, 1).await;
        pool.deployed(code("2"));
        let later = ask(&pool, &old, 1);
        until_waiting(&pool, 2).await;
        go.send(()).unwrap();
        let first = first.join_all().await.remove(0);
        let later = later.join_all().await.remove(0);
        assert!(process(&first).load().is_none(), "it is retired");
        assert!(!Arc::ptr_eq(process(&first), process(&later)));
        pool.shut_down();
    });
}

#[test]
fn a_process_that_is_being_started_does_not_outlive_its_pool() {
    let (runtime, go) = slow();
    within_a_minute(&runtime, async {
        let (pool, code) = (Pool::start(config(1, 8)), code("1"));
        let tasks = ask(&pool, &code, 1);
        until_waiting(&pool, 1).await;
        pool.shut_down();
        go.send(()).unwrap();
        let refused = tasks.join_all().await.remove(0).err().unwrap();
        assert!(matches!(refused.end, End::Threw(thrown) if thrown.message == SHUTTING_DOWN));
        while !pool.live().is_empty() {
            tokio::task::yield_now().await;
        }
    });
}

#[tokio::test]
async fn a_snapshot_that_could_not_be_made_is_tried_again() {
    let mark = std::env::temp_dir().join(format!("concave-snapshot-{}", std::process::id()));
    let script = "cat > /dev/null; if mkdir \"$0\"; then exit 1; fi; echo made";
    let config = Config {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into(), mark.clone().into()],
        node: None,
        ..config(1, 1)
    };
    let pool = Pool::start(config);
    // The pool tries by itself as it starts: one of the two tries fails, whichever comes first.
    let _ = pool.snapshot().await;
    let then = pool.snapshot().await.map(<[u8]>::to_vec);
    std::fs::remove_dir(&mark).unwrap();
    assert_eq!(then.as_deref(), Ok(&b"made\n"[..]));
}
