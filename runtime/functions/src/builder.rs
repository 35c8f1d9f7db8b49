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
use std::time::Duration;

use database::components::{Bindings, Components, Unit};
use database::deployment::{
    Analysis, Blob, Bundle, CodeVersion, Environment, Module, Position, Tier,
};
use database::limits;
use database::record::LogLine;
use keep::{Keep, Shelf};
use serde::{Deserialize, Serialize};

use crate::analyze::{self, AnalysisFailure, Found};
use crate::code::{self, Code, Origin};
use crate::context::Purpose;
use crate::coverage::{self, Ran};
use crate::engine::Engine;
use crate::execution::Imported;
use crate::startup::{Content, Filled, Made, Part};
use crate::{define, execution, overtime, platform, startup};

/// How to start the builder: the program (usually this one) and the arguments that make it build.
#[derive(Clone, Debug)]
pub struct Helper {
    /// Path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where what it has built is kept for the next start of the program.
    pub keep: Option<Shelf>,
}

/// In which tier to build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// The evaluated bundles inside the snapshot, except these modules of each part and what
    /// imports them.
    Snapshot(Vec<BTreeSet<Arc<str>>>),
    /// The prelude's snapshot, the bundle evaluated in each context.
    Evaluate,
    /// The same, for modules that do not need each other's imports: each exports alone what it
    /// exports beside the others.
    Alone,
    /// Only the definitions, `convex.config.js`.
    Definitions,
    /// Only what runs while the bundle is imported.
    Watch,
}

/// What is evaluated together: the app, or one unit of its components.
pub(crate) struct Source<'a> {
    /// Path of its definition; empty for the app.
    pub(crate) definition: &'a str,
    /// Its modules.
    pub(crate) bundle: &'a Bundle,
    /// What `process.env` shows them.
    pub(crate) environment: Imported,
}

/// What a build gave.
pub(crate) struct Built {
    /// By part.
    pub(crate) parts: Vec<BuiltPart>,
    pub(crate) blob: Arc<[u8]>,
}

/// What it gave of one part.
#[derive(Serialize, Deserialize)]
pub(crate) struct BuiltPart {
    pub(crate) found: Found,
    pub(crate) filled: Filled,
}

/// Why there is no build.
#[derive(Debug)]
pub(crate) enum BuildFailure {
    /// The bundle is at fault, and says where.
    Bundle(AnalysisFailure),
    /// These modules of each part touch WebAssembly at import: they cannot be in the snapshot.
    Touched(Vec<BTreeSet<Arc<str>>>),
    /// The child died; its last words.
    Died(String),
    /// The child used up its CPU time: so it would in the other tier. What it was running, where
    /// that is known.
    TimedOut(Option<Position>),
    /// A module imports alone otherwise than beside the others.
    NotAlone,
    /// The child could not be started.
    NoChild(String),
}

/// Builds in a child process.
///
/// # Errors
/// See [`BuildFailure`].
pub(crate) fn build(
    helper: &Helper,
    sources: &[Source<'_>],
    mode: Mode,
) -> Result<Built, BuildFailure> {
    let parts = sources.iter().map(WirePart::from).collect();
    let asked = ask(helper, &Request { mode, parts });
    let (answer, blob) = asked.map_err(|failure| located(failure, sources))?;
    match answer {
        Answer::Found(parts) => Ok(Built { parts, blob: blob.into() }),
        Answer::Touched(modules) => Err(BuildFailure::Touched(modules)),
        Answer::NotAlone => Err(BuildFailure::NotAlone),
        Answer::Failed(failure) => Err(BuildFailure::Bundle(failure)),
        Answer::Defined { .. } | Answer::Ran(_) => {
            Err(BuildFailure::NoChild("it was not asked for that".into()))
        }
    }
}

/// The same failure, with the place as the author knows it.
fn located(failure: BuildFailure, sources: &[Source<'_>]) -> BuildFailure {
    let BuildFailure::TimedOut(Some(at)) = &failure else { return failure };
    let found = sources.iter().find_map(|source| code::position_once(source.bundle, at));
    found.map_or(failure, |at| BuildFailure::TimedOut(Some(at)))
}

/// Finds out in a child process which functions run while each part is imported; nothing where that
/// fails or takes long.
pub(crate) fn watch(helper: &Helper, sources: &[Source<'_>]) -> Vec<Ran> {
    let parts = sources.iter().map(WirePart::from).collect();
    let mut ran = match ask(helper, &Request { mode: Mode::Watch, parts }) {
        Ok((Answer::Ran(ran), _)) => ran,
        _ => Vec::new(),
    };
    ran.resize_with(sources.len(), || None);
    ran.into_iter().map(Option::unwrap_or_default).collect()
}

/// What the definitions say.
pub(crate) struct Defined {
    /// JSON text of each, by path.
    pub(crate) texts: BTreeMap<Arc<str>, Arc<str>>,
    /// What the app's saw of the environment.
    pub(crate) read: Imported,
}

/// Evaluates the definitions alone in a child process; the app's comes first.
///
/// # Errors
/// See [`BuildFailure`].
pub(crate) fn define(helper: &Helper, sources: &[Source<'_>]) -> Result<Defined, BuildFailure> {
    let parts = sources.iter().map(WirePart::definition).collect();
    match ask(helper, &Request { mode: Mode::Definitions, parts })?.0 {
        Answer::Defined { texts, read } => Ok(Defined { texts, read }),
        Answer::Failed(failure) => Err(BuildFailure::Bundle(failure)),
        Answer::Found(_) | Answer::Touched(_) | Answer::NotAlone | Answer::Ran(_) => {
            Err(BuildFailure::NoChild("it was not asked for that".into()))
        }
    }
}

/// What was built of the same before, else what the child says now; what went wrong is not kept.
fn ask(helper: &Helper, request: &Request) -> Result<(Answer, Vec<u8>), BuildFailure> {
    let request = serde_json::to_vec(request).expect("plain text and numbers serialise");
    // V8 loads no blob that was made under other flags.
    let folder = helper.keep.as_ref().filter(|_| !platform::has_extra_flags());
    let keep = folder.and_then(|folder| Keep::of(folder, &helper.program, &request));
    let kept = keep.as_ref().and_then(Keep::read);
    if let Some((header, blob)) = kept.as_deref().and_then(split_answer)
        && let Ok(answer) = serde_json::from_slice(header)
    {
        return Ok((answer, blob.to_vec()));
    }
    let (answer, bytes) = ask_child(helper, request)?;
    if !matches!(answer, Answer::Failed(_)) {
        // Without it the next start asks its child, as this one did.
        let _ = keep.map_or(Ok(()), |keep| keep.write(&bytes));
    }
    let blob = split_answer(&bytes).map_or_else(Vec::new, |(_, blob)| blob.to_vec());
    Ok((answer, blob))
}

/// The child's answer, and all that it has written.
fn ask_child(helper: &Helper, request: Vec<u8>) -> Result<(Answer, Vec<u8>), BuildFailure> {
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
    if output.status.code() == Some(overtime::EXIT_CODE) {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(BuildFailure::TimedOut(overtime::place(&words)));
    }
    if output.status.signal() == Some(libc::SIGXCPU) {
        return Err(BuildFailure::TimedOut(None));
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
    let (header, _) = split_answer(&output.stdout).ok_or_else(died)?;
    let answer = serde_json::from_slice(header).map_err(|_| died())?;
    Ok((answer, output.stdout))
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
    overtime::begin(Duration::from_millis(limits::ANALYSIS_TIME_MS));
    limit_cpu_time(limits::ANALYSIS_TIME_MS / 1000 + OVERTIME_SECONDS);
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

/// CPU seconds after which the system ends what V8 could not interrupt.
const OVERTIME_SECONDS: u64 = 1;

/// CPU seconds for watching imports: V8 optimises nothing then, and what takes longer goes unseen.
const WATCH_SECONDS: u64 = 2;

/// CPU seconds of the child: a module that loops at import ends here, however busy the machine.
fn limit_cpu_time(seconds: u64) {
    let limit = libc::rlimit { rlim_cur: seconds, rlim_max: seconds + 2 };
    // SAFETY: a plain system call on a value that lives here.
    unsafe { libc::setrlimit(libc::RLIMIT_CPU, &raw const limit) };
}

fn answer(request: &Request) -> Result<(Answer, Vec<u8>), AnalysisFailure> {
    platform::initialize();
    let parts = request.to_parts();
    let made = startup::make_blob(&match &request.mode {
        Mode::Snapshot(_) => Content::Modules(&parts),
        Mode::Evaluate | Mode::Alone | Mode::Definitions | Mode::Watch => Content::Prelude,
    })?;
    let (bytes, filled) = match made {
        Made::Blob { bytes, filled } => (bytes, filled),
        Made::Touched(modules) => return Ok((Answer::Touched(modules), Vec::new())),
    };
    let blob: Arc<[u8]> = bytes.as_slice().into();
    let tier_of = |at: usize| match request.mode {
        Mode::Snapshot(_) => tier(&blob, &filled[at]),
        Mode::Evaluate | Mode::Alone | Mode::Definitions | Mode::Watch => {
            Tier::Evaluate { reason: None, blob: Arc::clone(&blob) }
        }
    };
    let code = unanalyzed(&parts, tier_of);
    let mut engine = Engine::new(Arc::clone(&code));
    if request.mode == Mode::Definitions {
        let Defined { texts, read } = define::all(&mut engine, &code, &parts)?;
        return Ok((Answer::Defined { texts, read }, Vec::new()));
    }
    if request.mode == Mode::Watch {
        limit_cpu_time(WATCH_SECONDS);
        return Ok((Answer::Ran(coverage::watch(&mut engine, &code)), Vec::new()));
    }
    let mut built = Vec::new();
    for (at, (part, code)) in parts.iter().zip(code.parts()).enumerate() {
        let mut filled = filled.get(at).cloned().unwrap_or_default();
        let looked = match request.mode {
            Mode::Alone => look_alone(&mut engine, code),
            _ => look_twice(&mut engine, code).map(Some),
        };
        let Some(found) = looked.map_err(|failure| named(failure, part))? else {
            return Ok((Answer::NotAlone, Vec::new()));
        };
        let differs = differing(&mut engine, code, &found, &filled.contexts);
        filled.contexts.retain(|_, number| !differs.contains(number));
        filled.read.append(&mut execution::take_import_reads());
        built.push(BuiltPart { found, filled });
    }
    Ok((Answer::Found(built), bytes))
}

/// The code of parts that nobody has looked at yet.
fn unanalyzed(parts: &[Part], tier: impl Fn(usize) -> Tier) -> Arc<Code> {
    let analysis = |at: usize, part: &Part| Analysis {
        version: CodeVersion::default(),
        modules: BTreeMap::new(),
        schema: None,
        definition_json: None,
        auth_json: None,
        imported_environment: part.environment.clone(),
        tier: tier(at),
        components: Components::default(),
        warnings: Vec::new(),
    };
    let unit = |(at, part): (usize, &Part)| Unit {
        definition: part.definition.as_str().into(),
        environment: Bindings::new(),
        bundle: Arc::clone(&part.bundle),
        analysis: Arc::new(analysis(at, part)),
    };
    let app = &parts[0];
    let units = parts.iter().enumerate().skip(1).map(unit).collect();
    let components = Components { units, ..Components::default() };
    let analysis = Analysis { components, ..analysis(0, app) };
    Arc::new(Code::new(Arc::clone(&app.bundle), Arc::new(analysis)))
}

/// The tier of a part that the blob holds.
pub(crate) fn tier(blob: &Arc<[u8]>, filled: &Filled) -> Tier {
    let blob = Blob { bytes: Arc::clone(blob), contexts: filled.contexts.clone() };
    match filled.late.is_empty() {
        true => Tier::Snapshot(blob),
        false => {
            Tier::Partial { blob, kept: filled.kept.clone().into(), late: filled.late.clone() }
        }
    }
}

fn look_twice(engine: &mut Engine, code: &Code) -> Result<Found, AnalysisFailure> {
    let first = look(engine, code, analyze::analyze)?;
    if look(engine, code, analyze::analyze)? == first {
        return Ok(first);
    }
    Err(AnalysisFailure {
        module: "convex".to_owned(),
        message: "two evaluations of the same modules export different things".to_owned(),
        code: "NondeterministicAnalysis".to_owned(),
    })
}

/// What a part exports; `None` if one of its entries with functions exports anything else when
/// nothing is imported but it.
fn look_alone(engine: &mut Engine, code: &Code) -> Result<Option<Found>, AnalysisFailure> {
    let found = look(engine, code, analyze::analyze)?;
    let is_same = |entry: &Arc<str>| {
        let origin = Origin { late: Some(Arc::clone(entry)), ..code.whole() };
        let looked = engine.in_context(code, Purpose::Calls(&origin), analyze::entries);
        matches!(looked, Ok(Ok(alone)) if alone.get(&**entry) == found.modules.get(&**entry))
    };
    let with_functions = |entry: &&Arc<str>| {
        found.modules.get(&***entry).is_some_and(|module| !module.functions.is_empty())
    };
    let all = Code::entries(&code.bundle).filter(with_functions).all(is_same);
    Ok(all.then_some(found))
}

/// The contexts of entries in which they do not export what they export in their part's own.
fn differing(
    engine: &mut Engine,
    code: &Code,
    found: &Found,
    contexts: &BTreeMap<Arc<str>, usize>,
) -> BTreeSet<usize> {
    let numbers: BTreeSet<usize> = contexts.values().copied().collect();
    let is_other = |number: &usize| {
        let origin = Origin { context: Some(*number), ..code.whole() };
        let looked = engine.in_context(code, Purpose::Calls(&origin), analyze::entries);
        let Ok(Ok(alone)) = looked else { return true };
        let mut entries = contexts.iter().filter(|(_, other)| *other == number);
        !entries.all(|(entry, _)| alone.get(&**entry) == found.modules.get(&**entry))
    };
    numbers.into_iter().filter(is_other).collect()
}

/// Calls `look` in a fresh context; what stopped it is its failure.
pub(crate) fn look<R>(
    engine: &mut Engine,
    code: &Code,
    look: impl for<'s, 'i> FnOnce(
        &mut v8::PinScope<'s, 'i>,
        v8::Local<'s, v8::Object>,
        &Code,
    ) -> Result<R, AnalysisFailure>,
) -> Result<R, AnalysisFailure> {
    let stop = engine.stop_switch();
    let looked = engine.in_context(code, Purpose::Everything, look).unwrap_or_else(|error| {
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

/// A failure of a module of a component says of which.
pub(crate) fn named(failure: AnalysisFailure, part: &Part) -> AnalysisFailure {
    match part.definition.as_str() {
        "" => failure,
        definition => {
            AnalysisFailure { module: format!("{definition}/{}", failure.module), ..failure }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Request {
    mode: Mode,
    /// The app, then the units of its components.
    parts: Vec<WirePart>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Found(Vec<BuiltPart>),
    Touched(Vec<BTreeSet<Arc<str>>>),
    NotAlone,
    Defined {
        texts: BTreeMap<Arc<str>, Arc<str>>,
        read: Imported,
    },
    /// By part; `None` where an import failed.
    Ran(Vec<Option<Ran>>),
    Failed(AnalysisFailure),
}

#[derive(Serialize, Deserialize)]
struct WirePart {
    definition: String,
    /// Every variable that modules may look at.
    environment: Imported,
    bundle: WireBundle,
}

impl Request {
    fn to_parts(&self) -> Vec<Part> {
        let absent = match &self.mode {
            Mode::Snapshot(absent) => &absent[..],
            Mode::Evaluate | Mode::Alone | Mode::Definitions | Mode::Watch => &[],
        };
        let parts = self.parts.iter().enumerate();
        let part = |(at, part): (usize, &WirePart)| Part {
            definition: part.definition.clone(),
            bundle: Arc::new(part.bundle.to_bundle()),
            environment: part.environment.clone(),
            absent: absent.get(at).cloned().unwrap_or_default(),
        };
        parts.map(part).collect()
    }
}

impl WirePart {
    /// Only what a definition is evaluated from.
    fn definition(source: &Source<'_>) -> Self {
        let Source { definition, bundle, environment } = source;
        let bundle = WireBundle {
            modules: Vec::new(),
            schema: None,
            definition: bundle.definition.as_ref().map(WireModule::from),
            udf_server_version: bundle.udf_server_version.clone(),
            import_time_ms: bundle.import_time_ms,
            import_seed: bundle.import_seed,
        };
        Self { definition: (*definition).to_owned(), environment: environment.clone(), bundle }
    }
}

impl From<&Source<'_>> for WirePart {
    fn from(source: &Source<'_>) -> Self {
        let Source { definition, bundle, environment } = source;
        let bundle = WireBundle::from(*bundle);
        Self { definition: (*definition).to_owned(), environment: environment.clone(), bundle }
    }
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
            // Each component is a part of its own, and the builder evaluates what runs in V8.
            components: BTreeMap::new(),
            for_codegen: false,
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
