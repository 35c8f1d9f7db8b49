//! From a bundle to an [`Analysis`]: the snapshot tier first, the fallback with its reason.
//!
//! In: a bundle. Out: what it exports and how its contexts are made. Invariant: a bundle is refused
//! only for what it does in the fallback tier too, where every language feature exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use database::components::{self, Binding, Bindings, Components, Unit};
use database::deployment::{
    Analysis, AnalyzedFunction, AnalyzedModule, Bundle, Environment, HttpRoute, INVARIANTS, Module,
    Position, Tier, Visibility,
};
use database::environment::Variables;
use database::error::PushError;
use database::record::{Actions, FunctionKind};
use database::schema::Schema;
use database::snapshot::Deployment;
use database::validate::Validator;

use crate::analyze::{AnalysisFailure, Found, FoundFunction, FoundModule};
use crate::builder::{self, BuildFailure, Built, BuiltPart, Defined, Helper, Mode, Source};
use crate::code::{self, Code};
use crate::execution::Imported;
use crate::{exception, wasm};

/// The official CLI recognises this code, and tells how to set the variable.
const MISSING_VARIABLE: &str = "AuthConfigMissingEnvironmentVariable";

/// What an analysis is made with, beside the bundle.
pub(crate) struct Circumstances<'a> {
    /// How to start the builder.
    pub(crate) helper: &'a Helper,
    /// What looks at Node modules.
    pub(crate) actions: &'a dyn Actions,
    /// The variables that modules may look at.
    pub(crate) environment: &'a Variables,
    /// What was deployed last.
    pub(crate) running: Option<&'a Deployment>,
    /// Whether the push waits for its snapshot; if not, [`complete`] makes it afterwards.
    pub(crate) pace: Pace,
}

/// When the snapshot of a push is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Before it is answered: whoever pushes is told if there can be none.
    Whole,
    /// After it was activated: until then the module that is called is evaluated for each call.
    AtOnce,
}

/// Analyses a bundle in child processes.
///
/// # Errors
/// What is wrong with it, in its author's terms.
pub(crate) fn analyze(
    given: &Circumstances<'_>,
    bundle: &Arc<Bundle>,
) -> Result<Arc<Analysis>, PushError> {
    if bundle.components.is_empty() {
        let source = Source { environment: whole(given.environment), definition: "", bundle };
        let mut parts = built(given, &[source])?;
        let part = parts.pop().expect("the builder answers for each part");
        let mut mounted = Components::default();
        if let Some(text) = &part.1.found.definition {
            // There is nothing mounted; what the app declares is checked all the same.
            let definitions = BTreeMap::from([("".into(), text.as_str().into())]);
            let tree = components::tree(&definitions, values(given, bundle))?;
            mounted.app_prefix = tree.app_prefix;
        }
        return analyzed(given, bundle, part, mounted).map(Arc::new);
    }
    let Defined { texts, mut read } = definitions(given, bundle)?;
    let tree = components::tree(&texts, values(given, bundle))?;
    let bundles: Vec<_> = tree.units.iter().map(|(path, _)| of_unit(bundle, path)).collect();
    let same: Vec<_> = tree.units.iter().map(|unit| served(given, bundle, unit)).collect();
    let app = Bundle { definition: None, ..Bundle::clone(bundle) };
    let mut sources =
        vec![Source { environment: whole(given.environment), definition: "", bundle: &app }];
    for (((definition, bindings), bundle), same) in tree.units.iter().zip(&bundles).zip(&same) {
        if same.is_none() {
            let environment = bound(bindings, given.environment);
            sources.push(Source { definition, bundle, environment });
        }
    }
    let mut parts = built(given, &sources)?.into_iter();
    let mut app = parts.next().expect("the builder answers for each part");
    app.1.found.definition = texts.get("").map(ToString::to_string);
    let mut units = Vec::new();
    for (((definition, environment), bundle), same) in tree.units.into_iter().zip(bundles).zip(same)
    {
        if let Some(unit) = same {
            read.extend(of_app(&environment, &unit.analysis.imported_environment));
            let analysis = Analysis { tier: app.0.clone(), ..Analysis::clone(&unit.analysis) };
            units.push(Unit { analysis: Arc::new(analysis), ..unit.clone() });
            continue;
        }
        let mut part = parts.next().expect("the builder answers for each part");
        part.1.found.definition = texts.get(&definition).map(ToString::to_string);
        read.extend(of_app(&environment, &part.1.filled.read));
        let analysis = analyzed(given, &bundle, part, Components::default());
        let analysis = analysis.map_err(|error| within(&definition, error))?;
        units.push(Unit { definition, environment, bundle, analysis: Arc::new(analysis) });
    }
    app.1.filled.read.extend(read);
    let (instances, mounts, app_prefix) = (tree.instances, tree.mounts, tree.app_prefix);
    let mounted = Components { units, instances, mounts, app_prefix, definitions: texts };
    analyzed(given, bundle, app, mounted).map(Arc::new)
}

/// The values that must fit what is declared.
fn values<'a>(given: &Circumstances<'a>, bundle: &Bundle) -> Option<&'a Variables> {
    (!bundle.for_codegen).then_some(given.environment)
}

/// What the definitions export: evaluated, unless those that serve are the same.
fn definitions(given: &Circumstances<'_>, bundle: &Bundle) -> Result<Defined, PushError> {
    let same = |running: &&Deployment| {
        let (old, new) = (&running.bundle, bundle);
        let of = |bundle: &Bundle| {
            let parts = bundle.components.iter();
            parts.map(|(path, part)| (path.clone(), part.definition.clone())).collect::<Vec<_>>()
        };
        old.definition == new.definition
            && of(old) == of(new)
            && given.environment.agrees(&running.analysis.imported_environment)
    };
    if let Some(running) = given.running.filter(same) {
        let texts = running.analysis.components.definitions.clone();
        return Ok(Defined { texts, read: running.analysis.imported_environment.clone() });
    }
    let app = Source { definition: "", bundle, environment: whole(given.environment) };
    let parts = bundle.components.iter().map(|(definition, bundle)| Source {
        definition,
        bundle,
        environment: Imported::new(),
    });
    let sources: Vec<_> = std::iter::once(app).chain(parts).collect();
    builder::define(given.helper, &sources).map_err(refused)
}

/// A component's bundle with what the whole push was given.
fn of_unit(bundle: &Bundle, definition: &str) -> Arc<Bundle> {
    let part = bundle.components.get(definition).expect("a tree has only what was pushed");
    let (import_time_ms, import_seed) = (bundle.import_time_ms, bundle.import_seed);
    // Its definition was evaluated already, and cannot be where its imports are missing.
    Arc::new(Bundle { import_time_ms, import_seed, definition: None, ..Bundle::clone(part) })
}

/// Every variable, as the app's modules see them.
fn whole(environment: &Variables) -> Imported {
    let variables = environment.iter();
    variables.map(|(name, found)| (name.to_string(), Some(found.value.to_string()))).collect()
}

/// What a component's modules see.
fn bound(bindings: &Bindings, environment: &Variables) -> Imported {
    let value = |binding: &Binding| {
        let value = binding.value(|of_app| environment.get(of_app).cloned());
        value.map(|value| value.to_string())
    };
    bindings.iter().map(|(name, binding)| (name.clone(), value(binding))).collect()
}

/// What a component's modules saw, in terms of the app's variables.
fn of_app<'a>(
    bindings: &'a Bindings,
    read: &'a Imported,
) -> impl Iterator<Item = (String, Option<String>)> + 'a {
    read.iter().filter_map(|(name, seen)| {
        let (of_app, seen) = bindings.get(name)?.source(seen.as_deref())?;
        Some((of_app.to_owned(), seen.map(str::to_owned)))
    })
}

/// A mistake in a component says in which.
fn within(definition: &str, error: PushError) -> PushError {
    let PushError { code, message } = error;
    PushError { code, message: format!("{message}\nIn the component at {definition}.") }
}

/// A unit as it is served already, where the same is pushed again and the push does not wait: its
/// modules need not be looked at.
fn served<'a>(
    given: &Circumstances<'a>,
    bundle: &Bundle,
    (definition, bindings): &(Arc<str>, Bindings),
) -> Option<&'a Unit> {
    let units =
        (given.pace == Pace::AtOnce).then_some(given.running?)?.analysis.components.units.iter();
    let pushed = bundle.components.get(definition)?;
    let environment = bound(bindings, given.environment);
    let is_same = |unit: &&Unit| {
        let saw = |(name, seen): (&String, &Option<String>)| {
            environment.get(name).cloned().flatten() == *seen
        };
        unit.definition == *definition
            && unit.environment == *bindings
            && unit.bundle.modules == pushed.modules
            && unit.bundle.schema == pushed.schema
            && unit.analysis.imported_environment.iter().all(saw)
    };
    units.into_iter().find(is_same)
}

/// Builds every part: in the snapshot if they can be, else evaluated anew for each call.
fn built(
    given: &Circumstances<'_>,
    sources: &[Source<'_>],
) -> Result<Vec<(Tier, BuiltPart)>, PushError> {
    let helper = given.helper;
    if given.pace == Pace::AtOnce {
        match builder::build(helper, sources, Mode::Alone) {
            Ok(built) => return Ok(evaluated(built, None)),
            // In the snapshot it has what it needs.
            Err(BuildFailure::NotAlone) => {}
            Err(failure) => return Err(refused(failure)),
        }
    }
    built_whole(helper, sources)
}

/// Builds every part in the snapshot if they can be; else says why in the tier.
fn built_whole(
    helper: &Helper,
    sources: &[Source<'_>],
) -> Result<Vec<(Tier, BuiltPart)>, PushError> {
    match in_snapshot(helper, sources) {
        Ok(Built { parts, blob }) => {
            let tier = |part: BuiltPart| (builder::tier(&blob, &part.filled), part);
            Ok(parts.into_iter().map(tier).collect())
        }
        Err(failure @ BuildFailure::TimedOut(_)) => Err(refused(failure)),
        Err(first) => {
            let built = builder::build(helper, sources, Mode::Evaluate).map_err(refused)?;
            Ok(evaluated(built, Some(&reason(&first))))
        }
    }
}

/// Parts whose modules are evaluated anew for each call.
fn evaluated(Built { parts, blob }: Built, reason: Option<&str>) -> Vec<(Tier, BuiltPart)> {
    let reason = reason.map(str::to_owned);
    let tier = |part| (Tier::Evaluate { reason: reason.clone(), blob: Arc::clone(&blob) }, part);
    parts.into_iter().map(tier).collect()
}

/// The analysis of a deployment that came without its startup snapshot, with one that is made anew.
///
/// # Errors
/// Its modules cannot be evaluated any more.
pub(crate) fn remade(
    helper: &Helper,
    environment: &Variables,
    deployment: &Deployment,
) -> Result<Arc<Analysis>, PushError> {
    let built = with_sources(environment, deployment, |sources| built_whole(helper, sources))?;
    let mut tiers = built.into_iter().map(|(tier, _)| tier);
    let next = |_: &Analysis| tiers.next().expect("the builder answers for each part");
    Ok(Arc::new(deployment.analysis.with_tiers(next)))
}

/// What a deployment is built of: the app, then the units of its components.
fn with_sources<R>(
    environment: &Variables,
    Deployment { bundle, analysis }: &Deployment,
    build: impl FnOnce(&[Source<'_>]) -> R,
) -> R {
    // With components the definition was evaluated by itself.
    let definition = bundle.definition.clone().filter(|_| bundle.components.is_empty());
    let app = Bundle { definition, ..Bundle::clone(bundle) };
    let units = analysis.components.units.iter().map(|unit| Source {
        definition: &unit.definition,
        bundle: &unit.bundle,
        environment: bound(&unit.environment, environment),
    });
    let app = Source { environment: whole(environment), definition: "", bundle: &app };
    build(&std::iter::once(app).chain(units).collect::<Vec<_>>())
}

/// The analysis of a deployment that was activated before its snapshot was made, with the snapshot;
/// where there can be none, with the reason.
pub(crate) fn complete(
    helper: &Helper,
    environment: &Variables,
    deployment: &Deployment,
) -> Arc<Analysis> {
    let Deployment { bundle, analysis } = deployment;
    let units = &analysis.components.units;
    let made = with_sources(environment, deployment, |sources| in_snapshot(helper, sources));
    let made = made.map_err(|failure| reason(&failure));
    let made = made.and_then(|built| {
        let known = std::iter::once((bundle, &**analysis))
            .chain(units.iter().map(|unit| (&unit.bundle, &*unit.analysis)));
        let is_same = built.parts.iter().zip(known).all(|(part, known)| is_same(part, known));
        is_same.then_some(built).ok_or_else(|| DIFFERENT.to_owned())
    });
    let mut made = made.map(|Built { parts, blob }| (parts.into_iter(), blob));
    let tier = |analysis: &Analysis| match (&mut made, &analysis.tier) {
        (Ok((parts, blob)), _) => {
            let part = parts.next().expect("the builder answers for each part");
            builder::tier(blob, &part.filled)
        }
        (Err(why), Tier::Evaluate { blob, .. }) => {
            Tier::Evaluate { reason: Some(why.clone()), blob: Arc::clone(blob) }
        }
        (Err(_), made) => made.clone(),
    };
    Arc::new(analysis.with_tiers(tier))
}

/// Why there is no snapshot of modules that are other modules in one.
const DIFFERENT: &str = "In a startup snapshot the modules export other things than without one, \
    so they are evaluated anew for each call, which is slower. Do they look at the clock or at \
    random numbers while they are imported?";

/// Whether a part was found to be in a snapshot what it is known to be without one.
fn is_same(part: &BuiltPart, (bundle, known): (&Arc<Bundle>, &Analysis)) -> bool {
    let positions = Code::new(Arc::clone(bundle), Arc::new(known.clone()));
    let as_known = |(path, found): (&String, &FoundModule)| {
        let found = analyzed_module(&positions, path, found.clone());
        found.is_ok_and(|found| known.modules.get(path.as_str()) == Some(&found))
    };
    let saw = |(name, seen): (&String, &Option<String>)| {
        known.imported_environment.get(name) == Some(seen)
    };
    part.found.modules.iter().all(as_known) && part.filled.read.iter().all(saw)
}

/// Builds a snapshot without the modules that touch WebAssembly, as far as each try finds them.
fn in_snapshot(helper: &Helper, sources: &[Source<'_>]) -> Result<Built, BuildFailure> {
    let files = |source: &Source<'_>| {
        let is_wasm = |module: &&Module| wasm::is_file(&module.source);
        let files = source.bundle.modules.values().filter(is_wasm);
        files.map(|module| Arc::clone(&module.path)).collect()
    };
    let mut absent: Vec<BTreeSet<Arc<str>>> = sources.iter().map(files).collect();
    loop {
        match builder::build(helper, sources, Mode::Snapshot(absent.clone())) {
            // What is absent is not evaluated, so nothing of it is found again: this ends.
            Err(BuildFailure::Touched(more))
                if more.iter().zip(&absent).any(|(more, absent)| !more.is_subset(absent)) =>
            {
                absent.iter_mut().zip(more).for_each(|(absent, more)| absent.extend(more));
            }
            built => return built,
        }
    }
}

/// What was found in one part, checked.
fn analyzed(
    given: &Circumstances<'_>,
    bundle: &Arc<Bundle>,
    (tier, BuiltPart { found, filled }): (Tier, BuiltPart),
    components: Components,
) -> Result<Analysis, PushError> {
    let warnings = match &tier {
        Tier::Evaluate { reason, .. } => reason.iter().cloned().collect(),
        Tier::Snapshot(_) | Tier::Partial { .. } => Vec::new(),
    };
    let mut analysis = Analysis {
        version: code::version(bundle, &filled.read, &components.units),
        modules: BTreeMap::new(),
        schema: schema(&found)?,
        definition_json: found.definition,
        auth_json: found.auth,
        imported_environment: filled.read,
        tier,
        components,
        warnings,
    };
    let positions = Code::new(Arc::clone(bundle), Arc::new(analysis.clone()));
    let in_node = node_modules(&positions, given.actions, given.environment)?;
    for (path, module) in found.modules.into_iter().chain(in_node) {
        let module = analyzed_module(&positions, &path, module)?;
        let mut declared = module.functions.iter().filter_map(|f| f.invariant.as_ref());
        if path != INVARIANTS
            && let Some(name) = declared.next()
        {
            analysis.warnings.push(format!(
                "The invariant {name:?} in {path} is not checked: invariants are declared in \
                 convex/invariants.ts of the app."
            ));
        }
        analysis.modules.insert(path.into(), module);
    }
    Ok(analysis)
}

/// What the Node modules export, which Node itself finds out.
fn node_modules(
    code: &Code,
    actions: &dyn Actions,
    environment: &Variables,
) -> Result<BTreeMap<String, FoundModule>, PushError> {
    if !code.bundle.modules.values().any(|module| module.environment == Environment::Node) {
        return Ok(BTreeMap::new());
    }
    let json = actions.analyze(&code.bundle, environment).map_err(|why| {
        let text = exception::full_text(Some(code), why.message, &why.stack);
        PushError::new(why.code, text)
    })?;
    let found: BTreeMap<String, FoundModule> = serde_json::from_str(&json).map_err(|e| {
        PushError::new("AnalysisUnavailable", format!("Node gave no analysis: {e}"))
    })?;
    for (path, module) in &found {
        let other = module.functions.iter().find(|function| function.kind != "Action");
        if let Some(FoundFunction { name, kind, .. }) = other {
            let message = format!(
                "`{name}` defined in `{path}` is a {kind} function. Only actions can be defined in \
                 Node.js: move it to a file without \"use node\". See \
                 https://docs.convex.dev/functions/actions for more details."
            );
            return Err(PushError::new("InvalidNodeModule", message));
        }
    }
    Ok(found)
}

fn schema(found: &Found) -> Result<Option<Arc<Schema>>, PushError> {
    let Some(text) = &found.schema else { return Ok(None) };
    let schema = Schema::from_json(text).map_err(|e| PushError::new(e.code, e.message))?;
    Ok(Some(Arc::new(schema)))
}

fn analyzed_module(
    code: &Code,
    path: &str,
    found: FoundModule,
) -> Result<AnalyzedModule, PushError> {
    let functions = found.functions.into_iter();
    let functions = functions.map(|function| analyzed_function(code, path, function));
    let routes = found.http_routes.map(|routes| {
        routes.into_iter().map(|(path, method)| HttpRoute { path, method }).collect()
    });
    Ok(AnalyzedModule {
        functions: functions.collect::<Result<_, _>>()?,
        http_routes: routes,
        crons_json: found.crons,
        reuse_context: found.reuse_context,
    })
}

fn analyzed_function(
    code: &Code,
    module: &str,
    found: FoundFunction,
) -> Result<AnalyzedFunction, PushError> {
    let failed = |what: &str, why: String| {
        let name = &found.name;
        let message = format!("Failed to analyze {module}: {what} of `{name}`: {why}");
        PushError::new("InvalidValidator", message)
    };
    let args = Validator::from_json(&found.args).map_err(|e| failed("the args", e.message))?;
    if !matches!(args, Validator::Object(_) | Validator::Any) {
        let why = "Args validator must be an object or any".to_owned();
        return Err(failed("the args", why));
    }
    let returns = match found.returns.as_str() {
        "null" => None,
        text => Some(Validator::from_json(text).map_err(|e| failed("the returns", e.message))?),
    };
    let kind = match found.kind.as_str() {
        "Query" => FunctionKind::Query,
        "Mutation" => FunctionKind::Mutation,
        _ => FunctionKind::Action,
    };
    let visibility = match (found.is_public, found.is_internal) {
        (true, _) => Some(Visibility::Public),
        (_, true) => Some(Visibility::Internal),
        _ => None,
    };
    let position = found.at.and_then(|(path, line, column)| code.position(&path, line, column));
    Ok(AnalyzedFunction {
        name: found.name.into(),
        kind,
        visibility,
        args_json: found.args.into(),
        args,
        returns_json: found.returns.into(),
        returns,
        position,
        invariant: found.invariant.map(Arc::from),
    })
}

/// Why a bundle is refused.
fn refused(failure: BuildFailure) -> PushError {
    match failure {
        BuildFailure::Bundle(AnalysisFailure { module, message, code }) => {
            let code = match code.as_str() {
                "MissingSchemaExportError" => "MissingSchemaExportError",
                "InvalidSchemaExport" => "InvalidSchemaExport",
                "InvalidHttpRouter" => "InvalidHttpRouter",
                "InvalidCrons" => "InvalidCrons",
                "InvalidDefinition" => "InvalidDefinition",
                "InvalidAuthConfig" => "InvalidAuthConfig",
                MISSING_VARIABLE => MISSING_VARIABLE,
                _ => "ModuleAnalyzeError",
            };
            PushError::new(code, format!("Failed to analyze {module}: {message}"))
        }
        BuildFailure::Died(why) => stopped(&why),
        BuildFailure::TimedOut(place) => {
            let seconds = database::limits::ANALYSIS_TIME_MS / 1000;
            let used = format!("they used {seconds} seconds of CPU");
            stopped(&place.map_or(used.clone(), |Position { path, line, column }| {
                format!("{used}, and were running at {path}:{line}:{column} then")
            }))
        }
        BuildFailure::NoChild(why) => PushError::new("AnalysisUnavailable", why),
        BuildFailure::Touched(_) => stopped("they do not find WebAssembly"),
        BuildFailure::NotAlone => stopped("they need each other"),
    }
}

fn stopped(why: &str) -> PushError {
    PushError::new(
        "AnalysisStopped",
        format!(
            "Evaluating your modules was stopped: {why}. A module must finish importing within a \
             few seconds and 64 MB: look for a loop or a large table at the top level of a file."
        ),
    )
}

/// Why there is no snapshot, and the cure.
fn reason(failure: &BuildFailure) -> String {
    let slower = "The module that is called is evaluated anew for each call, which is slower.";
    match failure {
        BuildFailure::Bundle(AnalysisFailure { module, message, .. }) => {
            let first = message.lines().next().unwrap_or_default();
            let cure = "Move what it does at import into the function that needs it.";
            format!("{module} cannot be kept in a startup snapshot ({first}). {slower} {cure}")
        }
        BuildFailure::TimedOut(_) | BuildFailure::Touched(_) | BuildFailure::NotAlone => {
            slower.to_owned()
        }
        BuildFailure::Died(why) | BuildFailure::NoChild(why) => format!(
            "The modules cannot be kept in a startup snapshot: V8 gave up ({why}). {slower} Usual \
             causes at the top level of a file: an `Intl` object, a frozen `globalThis` or \
             `Error`, a FinalizationRegistry. Create them inside the function that uses them."
        ),
    }
}
