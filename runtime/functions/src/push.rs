//! From a bundle to an [`Analysis`]: the snapshot tier first, the fallback with its reason.
//!
//! In: a bundle. Out: what it exports and how its contexts are made. Invariant: a bundle is refused
//! only for what it does in the fallback tier too, where every language feature exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use database::deployment::{
    Analysis, AnalyzedFunction, AnalyzedModule, Bundle, Environment, HttpRoute, Module, Tier,
    Visibility,
};
use database::environment::Variables;
use database::error::PushError;
use database::record::{Actions, FunctionKind};
use database::schema::Schema;
use database::validate::Validator;

use crate::analyze::{AnalysisFailure, Found, FoundFunction, FoundModule};
use crate::builder::{self, BuildFailure, Built, Helper, Mode};
use crate::code::{self, Code};
use crate::{exception, wasm};

/// The official CLI recognises this code, and tells how to set the variable.
const MISSING_VARIABLE: &str = "AuthConfigMissingEnvironmentVariable";

/// Analyses a bundle in child processes.
///
/// # Errors
/// What is wrong with it, in its author's terms.
pub(crate) fn analyze(
    helper: &Helper,
    actions: &dyn Actions,
    bundle: &Arc<Bundle>,
    environment: &Variables,
) -> Result<Arc<Analysis>, PushError> {
    let given = (&**bundle, environment);
    let (built, tier) = match build(helper, given) {
        Ok(built) => {
            let tier = built.tier();
            (built.found, tier)
        }
        Err(BuildFailure::TimedOut) => return Err(refused(BuildFailure::TimedOut)),
        Err(first) => {
            let Built { found, blob, .. } =
                builder::build(helper, given, Mode::Evaluate).map_err(refused)?;
            (found, Tier::Evaluate { reason: reason(&first), blob })
        }
    };
    let warnings = match &tier {
        Tier::Evaluate { reason, .. } => vec![reason.clone()],
        Tier::Snapshot(_) | Tier::Partial { .. } => Vec::new(),
    };
    let mut analysis = Analysis {
        version: code::version(bundle, &built.environment),
        modules: BTreeMap::new(),
        schema: None,
        definition_json: built.definition.clone(),
        auth_json: built.auth.clone(),
        imported_environment: built.environment.clone(),
        tier,
        warnings,
    };
    let positions = Code::new(Arc::clone(bundle), Arc::new(analysis.clone()));
    analysis.schema = schema(&built)?;
    let in_node = node_modules(&positions, actions, environment)?;
    for (path, module) in built.modules.into_iter().chain(in_node) {
        let module = analyzed_module(&positions, &path, module)?;
        analysis.modules.insert(path.into(), module);
    }
    Ok(Arc::new(analysis))
}

/// Builds a snapshot without the modules that touch WebAssembly, as far as each try finds them.
fn build(helper: &Helper, given: (&Bundle, &Variables)) -> Result<Built, BuildFailure> {
    let is_wasm = |module: &&Module| wasm::is_file(&module.source);
    let files = given.0.modules.values().filter(is_wasm);
    let mut absent: BTreeSet<Arc<str>> = files.map(|module| Arc::clone(&module.path)).collect();
    loop {
        match builder::build(helper, given, Mode::Snapshot(absent.clone())) {
            // What is absent is not evaluated, so nothing of it is found again: this ends.
            Err(BuildFailure::Touched(more)) if !more.is_subset(&absent) => absent.extend(more),
            built => return built,
        }
    }
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
        BuildFailure::TimedOut => {
            let seconds = database::limits::ANALYSIS_TIME_MS / 1000;
            stopped(&format!("they used {seconds} seconds of CPU"))
        }
        BuildFailure::NoChild(why) => PushError::new("AnalysisUnavailable", why),
        BuildFailure::Touched(_) => stopped("they do not find WebAssembly"),
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
        BuildFailure::TimedOut | BuildFailure::Touched(_) => slower.to_owned(),
        BuildFailure::Died(why) | BuildFailure::NoChild(why) => format!(
            "The modules cannot be kept in a startup snapshot: V8 gave up ({why}). {slower} Usual \
             causes at the top level of a file: an `Intl` object, a frozen `globalThis` or \
             `Error`, a FinalizationRegistry. Create them inside the function that uses them."
        ),
    }
}
