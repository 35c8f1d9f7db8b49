//! The test files of a folder, each run in a worker.
//!
//! In: a folder and what to run of it. Out: reports as files end. Invariant: a file that hangs,
//! runs out of memory or cannot be loaded fails by itself; the others run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::actions::pool::{CallLimits, Code, Config as PoolConfig, Ended, Input, Job, Line, Pool};
use ::actions::protocol::{End, ImportPhase, Limits, Network, Residents};
use bundler::{BundledModule, Bundler, Mocks, Project, TestFiles, VitestConfig, is_test_file};
use data_encoding::HEXLOWER;
use database::commit::{Database, Options as DatabaseOptions};
use database::limits;
use database::record::{Action, ActionEnd, ActionReply, Actions, FunctionError, World as Seam};
use functions::Helper;
use keep::Shelf;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::coverage::Counted;
use super::deploy::{Deployer, Known};
use super::frames::Frames;
use super::realm::{Bench, News, Realm, Started};
use crate::commands::host::{self, WORKER_COMMAND, files_in_memory};
use crate::outside::limits_of_a_run;
use crate::world::SeededWorld;

/// The runner.
const MAIN: &str = "_test/main.js";
/// It and its modules, which the startup snapshot holds.
const RUNNER: [(&str, &str); 11] = [
    (MAIN, include_str!("../../js/test/main.js")),
    ("_test/explore.js", include_str!("../../js/test/explore.js")),
    ("_test/mocks.js", include_str!("../../js/test/mocks.js")),
    ("_test/ports.js", include_str!("../../js/test/ports.js")),
    ("_test/random.js", include_str!("../../js/test/random.js")),
    ("_test/realm.js", include_str!("../../js/test/realm.js")),
    ("_test/refused.js", include_str!("../../js/test/refused.js")),
    ("_test/scripts.js", include_str!("../../js/test/scripts.js")),
    ("_test/timers.js", include_str!("../../js/test/timers.js")),
    ("_test/virtual_time.js", include_str!("../../js/test/virtual_time.js")),
    ("_test/vitest.js", include_str!("../../js/test/vendor/vitest.js")),
];
/// Seed of what the engine's modules draw at import.
const IMPORT_SEED: u64 = 1;
/// Threads that run functions: an inline function holds one while it waits for its test.
const THREADS: usize = 4;
/// Snapshots that are kept from run to run, of each kind.
const KEPT: usize = 32;
/// How long a test may go on silently after its own time.
const GRACE: Duration = Duration::from_secs(3);
/// How often that is looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// How long a test may take where nobody says otherwise, in milliseconds, as in vitest.
const TIMEOUT_MS: u64 = 5_000;
/// The longest that one file may take.
const FILE_TIMEOUT: Duration = Duration::from_secs(3600);
/// The longest that its import may take: before its first test, for what its top level awaits.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder.
    pub dir: PathBuf,
    /// The one file of it that is meant.
    pub only: Option<PathBuf>,
    /// Files whose path contains it, and tests whose name does.
    pub filter: Option<String>,
    /// Seed of all randomness.
    pub seed: u64,
    /// Milliseconds that a test may take, where the user says.
    pub timeout_ms: Option<u64>,
    /// Whether to count which lines run; functions then run where the tests do.
    pub coverage: bool,
    /// Whether `.only` may stand in a test file, where the user says.
    pub allow_only: Option<bool>,
    /// Whether this is a CI system.
    pub ci: bool,
    /// `new`: snapshots that are missing are written; `all`: those that differ too; `none`.
    pub update: &'static str,
}

/// Why nothing could be run.
#[derive(Debug, Error)]
pub enum SuiteError {
    /// The folder.
    #[error("Could not open {}: {cause}.", dir.display())]
    Folder {
        /// Which.
        dir: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// No test files.
    #[error(
        "There are no test files in {}{}. Test files are called *.test.ts.",
        dir.display(),
        filter.as_ref().map_or(String::new(), |filter| format!(" that fit {filter:?}"))
    )]
    NoFiles {
        /// Where.
        dir: PathBuf,
        /// Of which.
        filter: Option<String>,
    },
    /// The system gives no threads.
    #[error("Could not start the threads that run functions: {0}.")]
    Threads(std::io::Error),
}

/// One file's end.
#[derive(Debug)]
pub struct FileReport {
    /// Relative to the folder.
    pub file: String,
    /// What `main.js` reports: state, errors, tasks.
    pub report: Value,
    /// What it logged.
    pub lines: Vec<String>,
    /// What of the modules ran, where that is counted.
    pub counted: Vec<Counted>,
}

/// What runs suites, one after another.
pub struct Engine {
    host: Arc<functions::Host>,
    pool: Arc<Pool>,
    import: (u64, [u8; 32]),
    known: Arc<Known>,
    bundler: Mutex<Bundler>,
}

impl Engine {
    /// Starts it. Must be called inside of tokio.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(coverage: bool) -> Result<Self, SuiteError> {
        // What modules draw at import belongs to their code, as on a host, and not to one run: what
        // an earlier run has made of them is found again.
        let seam = Arc::new(SeededWorld::new(IMPORT_SEED));
        let import = (seam.now() / 1_000_000, seam.seed());
        let host = start_host(seam).map_err(SuiteError::Threads)?;
        let (known, bundler) = (Arc::default(), Mutex::new(Bundler::new()));
        let pool = start_pool(coverage, phase(import));
        Ok(Self { host, pool, import, known, bundler })
    }

    /// What runs of tests below a folder share; `modules` are the tests' own.
    pub fn bench(&self, root: PathBuf, modules: Vec<BundledModule>, seed: u64) -> Bench {
        let (host, known) = (Arc::clone(&self.host), Arc::clone(&self.known));
        let deployer = Deployer::new(Arc::clone(&host), root.clone(), self.import, known);
        Bench { host, deployer, frames: Frames::new(root, modules), seed }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.pool.shut_down();
        self.host.shutdown();
    }
}

/// A suite that is ready to run.
pub struct Suite {
    options: Options,
    root: PathBuf,
    files: BTreeMap<String, PathBuf>,
    /// What is told of files that cannot run here, by their names.
    elsewhere: BTreeMap<String, String>,
    code: Arc<Code>,
    bench: Arc<Bench>,
    pool: Arc<Pool>,
    mocks: BTreeMap<String, Mocks>,
    /// What belongs to the test files that mock nothing.
    shared: Mocks,
    config: VitestConfig,
    /// Files and folders whose change calls for another run.
    pub watched: Vec<PathBuf>,
}

impl Suite {
    /// Finds and bundles test files.
    ///
    /// # Errors
    /// See [`SuiteError`].
    pub fn prepare(options: Options, engine: &Engine) -> Result<Self, SuiteError> {
        let dir = options.dir.clone();
        let inside = std::fs::canonicalize(&dir)
            .map_err(|cause| SuiteError::Folder { dir: dir.clone(), cause })?;
        let project = project(&inside);
        // What is printed names files from where the bundler names them.
        let root = project.root.clone();
        let config = VitestConfig::read(&root);
        let held = |file: &Path| {
            let name = file.strip_prefix(&root).ok()?.to_string_lossy().into_owned();
            let is_one = config.names_tests() || is_test_file(file);
            (is_one && config.holds(&name)).then_some(name)
        };
        let files = asked_for(test_files(&inside, held), &options);
        if files.is_empty() {
            let (place, filter) = match options.only {
                Some(file) => (file, None),
                None => (dir, options.filter),
            };
            return Err(SuiteError::NoFiles { dir: place, filter });
        }
        let told = |(name, path): (&String, &PathBuf)| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            Some((name.clone(), needs_vitest(name, environment(&text)?)))
        };
        let elsewhere: BTreeMap<_, _> = files.iter().filter_map(told).collect();
        let here = files.iter().filter(|(name, _)| !elsewhere.contains_key(*name));
        let here = here.map(|(name, path)| (module_of(name), path.clone()));
        let aliases = [("vitest".to_owned(), "convex:/_test/vitest.js".to_owned())].into();
        let tests = TestFiles { entries: here.collect(), setup: config.setup.clone(), aliases };
        let mut bundler = engine.bundler.lock().unwrap_or_else(PoisonError::into_inner);
        let output = bundler.bundle_tests(&project, &tests);
        drop(bundler);
        let bundled = output.modules.iter();
        let modules: BTreeMap<Arc<str>, Arc<str>> =
            bundled.map(|m| (m.path.as_str().into(), m.source.as_str().into())).collect();
        let import = phase(engine.import);
        // Equal code may run in the process of an earlier run.
        let hash = Sha256::digest(format!("{modules:?}"));
        let version = HEXLOWER.encode(&hash);
        let code = Code { version, modules, import, ..Code::default() };
        let bench = Arc::new(engine.bench(root.clone(), output.modules, options.seed));
        let (pool, mut watched, code) = (Arc::clone(&engine.pool), output.watched, Arc::new(code));
        watched.extend(VitestConfig::places(&root));
        pool.deployed(Arc::clone(&code));
        let mocks = output.mocks;
        let setup = tests.setup_modules("").map(|(module, _)| module).collect();
        let shared = Mocks { setup, reaching: vec![] };
        Ok(Self {
            options,
            root,
            files,
            elsewhere,
            code,
            bench,
            pool,
            mocks,
            shared,
            config,
            watched,
        })
    }

    /// What of vitest's configuration is not followed, each with its place.
    pub fn notes(&self) -> &[String] {
        &self.config.notes
    }

    /// The files, by their names.
    pub fn files(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// How many files may run side by side: more than there are cores, as a file waits while what
    /// it calls runs in the host, and the other way round.
    pub fn at_once(&self) -> usize {
        cores() + cores().div_ceil(2)
    }

    /// Source maps of the tests.
    pub fn frames(&self) -> &Frames {
        &self.bench.frames
    }

    /// Runs one file to its end.
    pub async fn run(&self, file: &str) -> FileReport {
        let mut told: Vec<Value> = Vec::new();
        let (mut lines, mut counted) = (Vec::new(), Vec::new());
        if let Some(why) = self.elsewhere.get(file) {
            let report = json!({ "tasks": [{ "name": why, "state": "skip", "errors": [] }] });
            return FileReport { file: file.to_owned(), report, lines, counted };
        }
        loop {
            let skip: Vec<_> = told.iter().map(|test| test["id"].clone()).collect();
            let (ended, stuck, heard) = self.attempt(file, &skip).await;
            counted.extend(heard.counted);
            let readable = |line: &Line| self.bench.frames.readable(&line.messages.join(" "));
            lines.extend(ended.lines.iter().map(readable));
            let report = match (&ended.end, stuck) {
                (End::Returned, _) => match serde_json::from_str::<Value>(&ended.result) {
                    Ok(report) if report["tasks"].is_array() => with_told(report, &told),
                    _ => failed("The report of this file cannot be read.", None, &heard.ended),
                },
                (End::Threw(_), Some(Stuck::Outside(why))) => failed(&why, None, &heard.ended),
                // The tests after it still run: in another run, without it.
                (End::Threw(thrown), Some(Stuck::In(test))) => {
                    let name = test.names.last().map_or("", String::as_str);
                    let place = self.bench.frames.test_in(file, name);
                    told.extend(heard.ended);
                    told.push(never_ended(&test, &thrown.message, place));
                    continue;
                }
                (End::Threw(thrown), None) => {
                    failed(&thrown.message, thrown.stack.as_deref(), &heard.ended)
                }
                (End::NoRoute, _) => failed("The worker took it for a router.", None, &[]),
            };
            return FileReport { file: file.to_owned(), report, lines, counted };
        }
    }

    /// Runs a file without some of its tests. Gives also where it hung, and what the file told.
    async fn attempt(&self, file: &str, skip: &[Value]) -> (Ended, Option<Stuck>, Watch) {
        let (news, mut heard) = unbounded_channel();
        let realm = Realm::new(Arc::clone(&self.bench), news);
        let started = Instant::now();
        let running = self.pool.run(self.job(file, skip), realm.clone()).await;
        let mut watch = Watch::default();
        let mut stuck = None;
        let ended = match running {
            Err(refused) => refused,
            Ok(mut running) => loop {
                let waited = tokio::time::timeout(PERIOD, running.end()).await;
                watch.hear(&mut heard);
                match waited {
                    Ok(ended) => break ended,
                    Err(_) => {
                        stuck = watch.hangs(&realm, self.patience());
                        if stuck.is_some() || started.elapsed() > FILE_TIMEOUT {
                            drop(running);
                            break gone("");
                        }
                    }
                }
            },
        };
        realm.close();
        watch.hear(&mut heard);
        if !matches!(ended.end, End::Returned) && stuck.is_none() {
            // It ran out of memory, or its process died: that is the test that ran then.
            stuck = watch.open.values().next().map(|(test, _)| Stuck::In(test.clone()));
        }
        (ended, stuck, watch)
    }

    /// How long a file may be silent outside of its tests: as long as a hook of it may take.
    fn patience(&self) -> Duration {
        let hook = self.config.settings.get("hookTimeout").and_then(Value::as_f64);
        let hook = hook.or_else(|| Some(self.timeout_ms().as_f64()? * 2.0)).unwrap_or_default();
        Duration::from_secs_f64((hook / 1000.0).clamp(0.0, 3600.0)) + GRACE
    }

    /// Milliseconds that a test may take.
    fn timeout_ms(&self) -> Value {
        let configured = || self.config.settings.get("testTimeout").cloned();
        let asked = self.options.timeout_ms.map(Value::from);
        asked.or_else(configured).unwrap_or_else(|| TIMEOUT_MS.into())
    }

    /// Whether a file in which `.only` was left passes: as in vitest, not in CI.
    fn allows_only(&self) -> bool {
        let configured = || self.config.settings.get("allowOnly").and_then(Value::as_bool);
        self.options.allow_only.or_else(configured).unwrap_or(!self.options.ci)
    }

    fn job(&self, file: &str, skip: &[Value]) -> Job {
        let Options { only, filter, .. } = &self.options;
        // Of a file that was chosen by its path all tests run.
        let pattern = filter.as_ref().filter(|filter| only.is_some() || !file.contains(*filter));
        let module = module_of(file);
        let mocks = self.mocks.get(&module).unwrap_or(&self.shared);
        let text = std::fs::read_to_string(&self.files[file]).unwrap_or_default();
        // Vitest writes those into the test file itself.
        let is_inline = text.contains("InlineSnapshot(");
        let asked = json!([{
            "map": self.frames().map_text(&module).filter(|_| is_inline),
            "mocking": mocks.reaching, "setup": mocks.setup,
            "file": self.files[file], "module": module, "root": self.root, "skip": skip,
            "seed": self.options.seed, "timeout": self.timeout_ms(),
            "settings": self.config.settings, "allowOnly": self.allows_only(),
            "update": self.options.update, "coverage": self.options.coverage,
            "pattern": pattern.map(|text| escaped(text)),
            "env": {
                "CONVEX_CLOUD_URL": "https://some.convex.cloud",
                "CONVEX_SITE_URL": "https://some.convex.site",
            },
        }]);
        Job {
            code: Arc::clone(&self.code),
            environment: Arc::default(),
            module: MAIN.to_owned(),
            export: "main".to_owned(),
            request_id: "test".to_owned(),
            timeout: FILE_TIMEOUT,
            reuse: false,
            input: Input::Action { arguments: asked.to_string() },
        }
    }
}

/// Where a file hangs.
enum Stuck {
    /// In a test.
    In(Started),
    /// Elsewhere, and why that is known.
    Outside(String),
}

/// What is known of the tests of a run.
#[derive(Default)]
struct Watch {
    /// Whether the file has been imported.
    is_collected: bool,
    open: BTreeMap<String, (Started, Instant)>,
    ended: Vec<Value>,
    counted: Vec<Counted>,
}

impl Watch {
    fn hear(&mut self, news: &mut UnboundedReceiver<News>) {
        while let Ok(news) = news.try_recv() {
            match news {
                News::Started(test) => {
                    self.open.insert(test.id.clone(), (test, Instant::now()));
                }
                News::Ended(test) => {
                    self.open.remove(test["id"].as_str().unwrap_or_default());
                    self.ended.push(test);
                }
                News::Collected => self.is_collected = true,
                News::Counted(counted) => self.counted.push(counted),
            }
        }
    }

    /// The test that neither ends nor lets the worker say anything, or what does so outside.
    fn hangs(&self, realm: &Realm, patience: Duration) -> Option<Stuck> {
        let (first, last) = realm.heard()?;
        let silence = last.elapsed();
        if self.open.is_empty() && silence > patience {
            return Some(Stuck::Outside(self.loops(silence)));
        }
        if !self.is_collected && first.elapsed() > IMPORT_TIMEOUT {
            return Some(Stuck::Outside(format!(
                "This file was not imported after {} s: its top level, or that of a module that it \
                 imports, waits for something that does not come. Look for an await outside of \
                 tests and hooks.",
                IMPORT_TIMEOUT.as_secs()
            )));
        }
        let is_over = |(test, begun): &&(Started, Instant)| {
            let timeout = Duration::from_secs_f64((test.timeout / 1000.0).clamp(0.0, 3600.0));
            begun.elapsed() > timeout + GRACE && silence > GRACE
        };
        self.open.values().find(is_over).map(|(test, _)| Stuck::In(test.clone()))
    }

    fn loops(&self, silence: Duration) -> String {
        let last = self.ended.last().and_then(|test| test["name"].as_str());
        let whence = match (self.is_collected, last) {
            (false, _) => {
                "at its top level, in describe() or in a module that it imports".to_owned()
            }
            (true, None) => "in beforeAll()".to_owned(),
            (true, Some(test)) => format!("in afterAll() or beforeAll(), after the test {test:?}"),
        };
        format!(
            "This file never ended: for {} s it gave nothing else a turn, {whence}. Look for a \
             loop that does not end.",
            silence.as_secs()
        )
    }
}

/// Of test files the one that is meant, or those whose path the filter chooses, if it does.
fn asked_for(mut files: BTreeMap<String, PathBuf>, asked: &Options) -> BTreeMap<String, PathBuf> {
    if let Some(only) = &asked.only {
        let only = std::fs::canonicalize(only).ok();
        files.retain(|_, path| std::fs::canonicalize(path).ok() == only);
    } else if let Some(filter) = &asked.filter
        && files.keys().any(|name| name.contains(filter))
    {
        files.retain(|name, _| name.contains(filter));
    }
    files
}

/// Whether a folder is one where nobody looks for tests, by its name.
pub fn is_left_out(name: &str) -> bool {
    const SKIPPED: [&str; 5] = ["node_modules", "dist", "target", "build", "_generated"];
    SKIPPED.contains(&name) || name.starts_with('.')
}

/// Files with tests in a folder, by the names that `held` gives them.
fn test_files(inside: &Path, held: impl Fn(&Path) -> Option<String>) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![inside.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !is_left_out(name) {
                    folders.push(path);
                }
            } else if let Some(name) = held(&path) {
                found.insert(name, path);
            }
        }
    }
    // Node's own tests are not for vitest's runner.
    found.retain(|_, path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        !text.contains("\"node:test\"") && !text.contains("'node:test'")
    });
    found
}

/// The environment that a test file asks for as vitest's users do, unless it is this one.
fn environment(text: &str) -> Option<&str> {
    let mark = ["@vitest-environment ", "@jest-environment "];
    let at = mark.iter().find_map(|mark| Some(text.find(mark)? + mark.len()))?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = text[at..].trim_start_matches(' ');
    let name = &name[..name.find(|c| !is_part(c)).unwrap_or(name.len())];
    (!matches!(name, "" | "node" | "edge-runtime")).then_some(name)
}

/// What is told of a file that asks for another environment.
fn needs_vitest(file: &str, environment: &str) -> String {
    format!(
        "the whole file: it asks for @vitest-environment {environment}, and concave test has no \
         pages. Run it with vitest, on the same engine: npx vitest run {file}, with \
         alias: {{ \"convex-test\": \"concave-test\" }}"
    )
}

/// The path of a test file's module.
fn module_of(file: &str) -> String {
    format!("_tests/{file}.js")
}

fn project(root: &Path) -> Project {
    Project::find(root).unwrap_or_else(|_| Project {
        root: root.to_owned(),
        functions_dir: root.to_owned(),
        external_packages: vec![],
    })
}

/// A text as a regular expression that finds it.
/// Between suite and test may stand what we print between them.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        c if c.is_alphanumeric() || c == ' ' || c == '_' => c.to_string(),
        c => format!("\\u{{{:x}}}", c as u32),
    };
    let parts = text.split(" > ").map(|part| part.chars().map(escape).collect::<String>());
    parts.collect::<Vec<_>>().join("(?: > | )")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get)
}

/// Clock and randomness of modules in workers.
fn phase((now_ms, _): (u64, [u8; 32])) -> ImportPhase {
    ImportPhase { now_ms, seed: [0; 8] }
}

/// Where what one run of the program makes is kept for the next.
fn kept(what: &str) -> Option<Shelf> {
    keep::cache().map(|cache| Shelf { path: cache.join(what), most: KEPT })
}

/// What runs the functions of every world; its own database stays empty.
fn start_host(seam: Arc<dyn Seam>) -> std::io::Result<Arc<functions::Host>> {
    let config = functions::Config {
        threads: cores().min(THREADS),
        spare_threads: THREADS.saturating_sub(cores()),
        helper: Helper { keep: kept("deployments"), ..host::helper() },
        actions: Arc::new(NoActions),
        storage: files_in_memory("test", None),
        purity: None,
        answers_at_once: false,
    };
    let database = Arc::new(Database::new(DatabaseOptions::at(seam.now())));
    functions::Host::start(config, database, seam)
}

fn start_pool(coverage: bool, import: ImportPhase) -> Arc<Pool> {
    Pool::start(PoolConfig {
        program: host::helper().program,
        arguments: vec![OsString::from(WORKER_COMMAND)],
        runtime: Handle::current(),
        limits: Limits {
            heap_bytes: limits::TEST_HEAP_BYTES,
            process_bytes: limits::TEST_PROCESS_BYTES,
            log_lines: limits::TEST_LOG_LINES,
            coverage,
            ..limits_of_a_run()
        },
        calls: CallLimits { count: usize::from(u16::MAX), bytes: usize::MAX },
        // A file that takes its process down takes no other file with it.
        runs_per_process: 1,
        // Whoever starts them bounds them; one that is being stopped counts for a moment more.
        runs: usize::MAX,
        retire_after: u64::MAX,
        idle: Duration::from_secs(60),
        node: None,
        network: Network { private: true, loopback: true, own: Vec::new() },
        residents: Residents {
            modules: RUNNER.map(|(path, text)| (path.into(), text.into())).into(),
            entry: MAIN.to_owned(),
            import,
        },
        keep: kept("snapshots"),
    })
}

/// Worlds have their own.
struct NoActions;

impl Actions for NoActions {
    fn run(&self, _: Action, reply: ActionReply) {
        let message = "Actions run in a world of a test.".to_owned();
        let result = Err(FunctionError { message, data: None });
        reply(ActionEnd { result, log_lines: Vec::new(), refused: false });
    }
}

fn gone(message: &str) -> Ended {
    let thrown = ::actions::protocol::Thrown { message: message.to_owned(), ..Default::default() };
    Ended { end: End::Threw(thrown), result: String::new(), lines: Vec::new() }
}

/// The report of a file that gave none: what is wrong, and the tests that had ended.
fn failed(message: &str, stack: Option<&str>, ended: &[Value]) -> Value {
    let error = json!({ "message": message.trim_start_matches("Uncaught "), "stack": stack });
    let task = |test: &Value| {
        let names = test["names"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut task = test.clone();
        task["name"] = names.collect::<Vec<_>>().join(" > ").into();
        task
    };
    let tasks: Vec<_> = ended.iter().map(task).collect();
    json!({ "state": "fail", "errors": [error], "tasks": tasks })
}

fn never_ended(test: &Started, why: &str, place: Option<String>) -> Value {
    let message = match why {
        "" => format!(
            "This test never ended: it ran for {} ms and {} s more without giving anything else a \
             turn. Look for a loop that does not end.",
            test.timeout,
            GRACE.as_secs()
        ),
        why => why.trim_start_matches("Uncaught ").to_owned(),
    };
    json!({
        "id": test.id, "name": test.names.last(), "names": test.names, "state": "fail", "ms": 0,
        "errors": [{ "message": message, "stack": place }],
    })
}

/// A report with what earlier runs of the file said of tests that the last one left out.
fn with_told(mut report: Value, told: &[Value]) -> Value {
    fn replace(tasks: &mut Value, told: &[Value]) -> bool {
        let mut has_failed = false;
        for task in tasks.as_array_mut().into_iter().flatten() {
            if let Some(known) = told.iter().find(|known| known["id"] == task["id"]) {
                task["state"] = known["state"].clone();
                task["errors"] = known["errors"].clone();
                task["ms"] = known["ms"].clone();
            }
            has_failed |= replace(&mut task["tasks"], told) || task["state"] == "fail";
        }
        has_failed
    }
    if replace(&mut report["tasks"], told) {
        report["state"] = json!("fail");
    }
    report
}

#[cfg(test)]
mod tests {
    use super::environment;

    #[test]
    fn a_file_names_the_environment_that_it_needs() {
        assert_eq!(environment("/**\n * @vitest-environment jsdom\n */\n"), Some("jsdom"));
        assert_eq!(environment("// @vitest-environment  happy-dom"), Some("happy-dom"));
        assert_eq!(environment("// @jest-environment jsdom\r\n"), Some("jsdom"));
        for here in ["// @vitest-environment node", "// @vitest-environment edge-runtime", ""] {
            assert_eq!(environment(here), None, "{here}");
        }
    }
}
