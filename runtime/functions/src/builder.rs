//! The builder: a child process that evaluates a pushed bundle, analyses it and makes its snapshot.
//!
//! In: a bundle on standard input. Out: what it exports and a startup blob on standard output.
//! Invariant: whatever the bundle does (abort V8, loop, eat memory), only the child dies; a blob
//! that the child has not itself loaded twice, with equal analyses, never reaches the host.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use database::deployment::{Analysis, Blob, Bundle, CodeVersion, Environment, Module, Tier};
use database::environment::Variables;
use database::limits;
use database::record::LogLine;
use serde::{Deserialize, Serialize};

use crate::analyze::{self, AnalysisFailure, Found};
use crate::code::{Code, Origin};
use crate::context::Purpose;
use crate::engine::Engine;
use crate::execution::Imported;
use crate::startup::{Content, Made};
use crate::{execution, platform, startup};

/// How to start the builder: the program (usually this one) and the arguments that make it build.
#[derive(Clone, Debug)]
pub struct Helper {
    /// Path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// In which tier to build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// The evaluated bundle inside the snapshot, except these modules and what imports them.
    Snapshot(BTreeSet<Arc<str>>),
    /// The prelude's snapshot, the bundle evaluated in each context.
    Evaluate,
}

/// What a build gave.
pub(crate) struct Built {
    pub(crate) found: Found,
    pub(crate) blob: Arc<[u8]>,
    /// Modules in the blob that those outside it may import, in the order of its data.
    pub(crate) kept: Vec<Arc<str>>,
    /// Entries outside it.
    pub(crate) late: BTreeSet<Arc<str>>,
    /// Entries with a context of their own, and its number.
    pub(crate) contexts: BTreeMap<Arc<str>, usize>,
}

impl Built {
    /// The tier of a blob that holds modules.
    pub(crate) fn tier(&self) -> Tier {
        tier((Arc::clone(&self.blob), self.contexts.clone()), self.kept.clone(), self.late.clone())
    }
}

/// Why there is no build.
#[derive(Debug)]
pub(crate) enum BuildFailure {
    /// The bundle is at fault, and says where.
    Bundle(AnalysisFailure),
    /// These modules touch WebAssembly at import: they cannot be in the snapshot.
    Touched(BTreeSet<Arc<str>>),
    /// The child died; its last words.
    Died(String),
    /// The child used up its CPU time: so it would in the other tier.
    TimedOut,
    /// The child could not be started.
    NoChild(String),
}

/// Builds in a child process.
///
/// # Errors
/// See [`BuildFailure`].
pub(crate) fn build(
    helper: &Helper,
    (bundle, environment): (&Bundle, &Variables),
    mode: Mode,
) -> Result<Built, BuildFailure> {
    let variables = environment.iter();
    let environment =
        variables.map(|(name, found)| (name.to_string(), Some(found.value.to_string()))).collect();
    let request = Request { mode, environment, bundle: WireBundle::from(bundle) };
    let request = serde_json::to_vec(&request).expect("plain text and numbers serialise");
    let no_child = |e: std::io::Error| {
        BuildFailure::NoChild(format!("cannot start {}: {e}", helper.program.display()))
    };
    let mut child = Command::new(&helper.program)
        .args(&helper.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(no_child)?;
    let mut input = child.stdin.take().expect("stdin was asked for");
    // A writer of its own: a bundle larger than a pipe must not wait for the child's answer.
    let writer = std::thread::spawn(move || input.write_all(&request));
    let output = child.wait_with_output().map_err(no_child)?;
    let _ = writer.join();
    if output.status.signal() == Some(libc::SIGXCPU) {
        return Err(BuildFailure::TimedOut);
    }
    let died = || {
        // V8 frames its last words with lines of `#`.
        let words = String::from_utf8_lossy(&output.stderr);
        let lines = words.lines().map(|line| line.trim_matches(['#', ' ']));
        let mut lines = lines.filter(|line| !line.is_empty());
        let why = lines.clone().find(|line| line.contains("heck failed") || line.contains("error"));
        let why = why.or_else(|| lines.next()).unwrap_or("no message");
        BuildFailure::Died(format!("{}: {why}", output.status))
    };
    let (header, blob) = split_answer(&output.stdout).ok_or_else(died)?;
    match serde_json::from_slice::<Answer>(header).map_err(|_| died())? {
        Answer::Found { found, kept, late, contexts } => {
            Ok(Built { found, blob: blob.into(), kept, late, contexts })
        }
        Answer::Touched(modules) => Err(BuildFailure::Touched(modules)),
        Answer::Failed(failure) => Err(BuildFailure::Bundle(failure)),
    }
}

fn split_answer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// The child's main: reads a request, writes an answer, ends.
///
/// # Errors
/// Standard input or output that cannot be read or written.
pub fn main() -> std::io::Result<()> {
    limit_cpu_time();
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    let request: Request = serde_json::from_slice(&text)?;
    let (answer, blob) = match answer(&request) {
        Ok((answer, blob)) => (answer, blob),
        Err(failure) => (Answer::Failed(with_log(failure)), Vec::new()),
    };
    let header = serde_json::to_vec(&answer)?;
    let mut out = std::io::stdout().lock();
    let length = u32::try_from(header.len()).map_err(std::io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&header)?;
    out.write_all(&blob)?;
    out.flush()
}

/// Adds what the modules logged while they were imported: it is shown only with a failure.
fn with_log(mut failure: AnalysisFailure) -> AnalysisFailure {
    let lines = execution::take_import_log();
    if !lines.is_empty() {
        let lines: Vec<String> = lines.iter().map(LogLine::client_text).collect();
        failure.message = format!("{}\n{}", failure.message.trim_end(), lines.join("\n"));
    }
    failure
}

/// CPU seconds of the whole build: a module that loops at import ends here, however busy the
/// machine.
fn limit_cpu_time() {
    let seconds = limits::ANALYSIS_TIME_MS / 1000;
    let limit = libc::rlimit { rlim_cur: seconds, rlim_max: seconds + 2 };
    // SAFETY: a plain system call on a value that lives here.
    unsafe { libc::setrlimit(libc::RLIMIT_CPU, &raw const limit) };
}

fn answer(request: &Request) -> Result<(Answer, Vec<u8>), AnalysisFailure> {
    platform::initialize();
    let bundle = Arc::new(request.bundle.to_bundle());
    execution::set_import_environment(&request.environment);
    let made = startup::make_blob(&match &request.mode {
        Mode::Snapshot(absent) => Content::Modules(&bundle, absent),
        Mode::Evaluate => Content::Prelude,
    })?;
    let (bytes, kept, late, mut contexts) = match made {
        Made::Blob { bytes, kept, late, contexts } => (bytes, kept, late, contexts),
        Made::Touched(modules) => return Ok((Answer::Touched(modules), Vec::new())),
    };
    let blob = bytes.as_slice().into();
    let tier = match request.mode {
        Mode::Snapshot(_) => tier((blob, contexts.clone()), kept.clone(), late.clone()),
        Mode::Evaluate => Tier::Evaluate { reason: String::new(), blob },
    };
    let analysis = Analysis {
        version: CodeVersion::default(),
        modules: BTreeMap::new(),
        schema: None,
        definition_json: None,
        auth_json: None,
        imported_environment: request.environment.clone(),
        tier,
        warnings: Vec::new(),
    };
    let code = Arc::new(Code::new(bundle, Arc::new(analysis)));
    let mut engine = Engine::new(code);
    let mut first = look(&mut engine)?;
    if look(&mut engine)? != first {
        return Err(AnalysisFailure {
            module: "convex".to_owned(),
            message: "two evaluations of the same modules export different things".to_owned(),
            code: "NondeterministicAnalysis".to_owned(),
        });
    }
    let differs = differing(&mut engine, &first, &contexts);
    contexts.retain(|_, number| !differs.contains(number));
    first.environment = execution::take_import_reads();
    Ok((Answer::Found { found: first, kept, late, contexts }, bytes))
}

/// The contexts of entries in which they do not export what they export in the default one.
fn differing(
    engine: &mut Engine,
    found: &Found,
    contexts: &BTreeMap<Arc<str>, usize>,
) -> BTreeSet<usize> {
    let numbers: BTreeSet<usize> = contexts.values().copied().collect();
    let is_other = |number: &usize| {
        let origin = Origin { context: Some(*number), late: None };
        let looked = engine.in_context(Purpose::Calls(&origin), analyze::entries);
        let Ok(Ok(alone)) = looked else { return true };
        let mut entries = contexts.iter().filter(|(_, other)| *other == number);
        !entries.all(|(entry, _)| alone.get(&**entry) == found.modules.get(&**entry))
    };
    numbers.into_iter().filter(is_other).collect()
}

fn tier(
    (bytes, contexts): (Arc<[u8]>, BTreeMap<Arc<str>, usize>),
    kept: Vec<Arc<str>>,
    late: BTreeSet<Arc<str>>,
) -> Tier {
    let blob = Blob { bytes, contexts };
    match late.is_empty() {
        true => Tier::Snapshot(blob),
        false => Tier::Partial { blob, kept: kept.into(), late },
    }
}

fn look(engine: &mut Engine) -> Result<Found, AnalysisFailure> {
    let stop = engine.stop_switch();
    let looked = engine.in_context(Purpose::Everything, analyze::analyze).unwrap_or_else(|error| {
        let module = error.message.strip_prefix("Failed to import ");
        let (module, message) =
            module.and_then(|m| m.split_once(": ")).unwrap_or(("convex", &error.message));
        Err(AnalysisFailure {
            module: module.to_owned(),
            message: message.to_owned(),
            code: "ModuleImportFailed".to_owned(),
        })
    });
    match (stop.reason(), looked) {
        (Some(why), Err(failure)) => {
            Err(AnalysisFailure { message: why.message(&failure.module), ..failure })
        }
        (_, looked) => looked,
    }
}

#[derive(Serialize, Deserialize)]
struct Request {
    mode: Mode,
    /// Every variable that modules may look at.
    environment: Imported,
    bundle: WireBundle,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Found {
        found: Found,
        kept: Vec<Arc<str>>,
        late: BTreeSet<Arc<str>>,
        contexts: BTreeMap<Arc<str>, usize>,
    },
    Touched(BTreeSet<Arc<str>>),
    Failed(AnalysisFailure),
}

#[derive(Serialize, Deserialize)]
struct WireBundle {
    modules: Vec<WireModule>,
    schema: Option<WireModule>,
    definition: Option<WireModule>,
    udf_server_version: String,
    import_time_ms: u64,
    import_seed: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct WireModule {
    path: Arc<str>,
    source: Arc<str>,
    source_map: Option<Arc<str>>,
    is_node: bool,
}

impl From<&Bundle> for WireBundle {
    fn from(bundle: &Bundle) -> Self {
        Self {
            modules: bundle.modules.values().map(WireModule::from).collect(),
            schema: bundle.schema.as_ref().map(WireModule::from),
            definition: bundle.definition.as_ref().map(WireModule::from),
            udf_server_version: bundle.udf_server_version.clone(),
            import_time_ms: bundle.import_time_ms,
            import_seed: bundle.import_seed,
        }
    }
}

impl WireBundle {
    fn to_bundle(&self) -> Bundle {
        let modules = self.modules.iter().map(WireModule::to_module);
        Bundle {
            modules: modules.map(|module| (Arc::clone(&module.path), module)).collect(),
            schema: self.schema.as_ref().map(WireModule::to_module),
            definition: self.definition.as_ref().map(WireModule::to_module),
            udf_server_version: self.udf_server_version.clone(),
            import_time_ms: self.import_time_ms,
            import_seed: self.import_seed,
            // The builder evaluates what runs in V8.
            node_packages: BTreeMap::new(),
        }
    }
}

impl From<&Module> for WireModule {
    fn from(module: &Module) -> Self {
        Self {
            path: Arc::clone(&module.path),
            source: Arc::clone(&module.source),
            source_map: module.source_map.clone(),
            is_node: module.environment == Environment::Node,
        }
    }
}

impl WireModule {
    fn to_module(&self) -> Module {
        Module {
            path: Arc::clone(&self.path),
            source: Arc::clone(&self.source),
            source_map: self.source_map.clone(),
            environment: if self.is_node { Environment::Node } else { Environment::Isolate },
        }
    }
}
