//! Push-time analysis: what each evaluated module exports.
//!
//! In: a context with the bundle evaluated. Out: a [`Found`] that the builder sends to its parent.
//! Invariant: reads only; analysing twice in two contexts gives equal results, or the snapshot is
//! not used.

use std::collections::BTreeMap;
use std::sync::Arc;

use database::deployment::Module;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::execution::{self, Imported};
use crate::natives::string;
use crate::startup::ImportFailure;
use crate::{define, exception, modules, startup};

/// What analysis found, in the shape that crosses the process boundary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) modules: BTreeMap<String, FoundModule>,
    pub(crate) schema: Option<String>,
    pub(crate) definition: Option<String>,
    pub(crate) auth: Option<String>,
}

/// One module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FoundModule {
    pub(crate) functions: Vec<FoundFunction>,
    pub(crate) http_routes: Option<Vec<(String, String)>>,
    pub(crate) crons: Option<String>,
    pub(crate) reuse_context: bool,
}

/// One function; flags as the object carries them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FoundFunction {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) is_public: bool,
    pub(crate) is_internal: bool,
    pub(crate) args: String,
    pub(crate) returns: String,
    /// What `invariant` of `concave/server` was told.
    pub(crate) invariant: Option<String>,
    /// Module path, line and column (from 1) of the handler in the bundled JavaScript.
    pub(crate) at: Option<(String, u32, u32)>,
}

/// Why analysis stopped: a module and what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AnalysisFailure {
    pub(crate) module: String,
    pub(crate) message: String,
    pub(crate) code: String,
}

impl From<ImportFailure> for AnalysisFailure {
    fn from(failure: ImportFailure) -> Self {
        Self {
            module: failure.module.to_string(),
            message: failure.error.message,
            code: "ModuleImportFailed".to_owned(),
        }
    }
}

pub(crate) type Hooks<'s> = v8::Local<'s, v8::Object>;

/// Analyses the bundle in the current context, whose entries are evaluated.
///
/// # Errors
/// The first module that cannot be analysed.
pub(crate) fn analyze<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    hooks: Hooks<'s>,
    code: &Code,
) -> Result<Found, AnalysisFailure> {
    let mut found = Found { modules: entries(scope, hooks, code)?, ..Found::default() };
    let bundle = &code.bundle;
    found.schema = special(scope, hooks, code, bundle.schema.as_ref(), schema)?;
    found.definition = special(scope, hooks, code, bundle.definition.as_ref(), define::exported)?;
    let auth_module = bundle.modules.get("auth.config.js");
    let before = execution::take_import_reads();
    let auth = special(scope, hooks, code, auth_module, stringify_default);
    let read = execution::take_import_reads();
    if let Some(failure) = missing_in_auth(&read) {
        return Err(failure);
    }
    found.auth = auth?;
    execution::restore_import_reads(before.into_iter().chain(read));
    Ok(found)
}

/// What the entries export that are evaluated in the current context.
///
/// # Errors
/// The first one that cannot be analysed.
pub(crate) fn entries<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    hooks: Hooks<'s>,
    code: &Code,
) -> Result<BTreeMap<String, FoundModule>, AnalysisFailure> {
    let registry = get(scope, hooks, "registry")
        .and_then(|value| v8::Local::<v8::Object>::try_from(value).ok())
        .unwrap_or_else(|| v8::Object::new(scope));
    let mut found = BTreeMap::new();
    for path in Code::entries(&code.bundle) {
        let Some(namespace) = get(scope, registry, path) else { continue };
        let Ok(namespace) = v8::Local::<v8::Object>::try_from(namespace) else { continue };
        let module = guarded(scope, hooks, code, path, |scope| module(scope, path, namespace))?;
        found.insert(path.to_string(), module);
    }
    Ok(found)
}

/// Users must not be checked against half a configuration: whatever `auth.config.ts` looks at is to
/// be set. The official CLI finds the variable by this text.
fn missing_in_auth(read: &Imported) -> Option<AnalysisFailure> {
    let (name, _) = read.iter().find(|(_, value)| value.is_none())?;
    Some(AnalysisFailure {
        module: "auth.config.js".to_owned(),
        message: format!(
            "Environment variable {name} is used in auth.config.ts but it is not set. Set it \
             first: `concave env set {name} <value>`, or `npx convex env set {name} <value>`."
        ),
        code: "AuthConfigMissingEnvironmentVariable".to_owned(),
    })
}

/// Runs `read`, turning an exception into a failure of `path`.
pub(crate) fn guarded<'s, R>(
    scope: &mut v8::PinScope<'s, '_>,
    hooks: Hooks<'s>,
    code: &Code,
    path: &str,
    read: impl FnOnce(&mut v8::PinScope<'s, '_>) -> Result<R, Problem>,
) -> Result<R, AnalysisFailure> {
    v8::tc_scope!(let scope, scope);
    let problem = match read(scope) {
        Ok(value) => return Ok(value),
        Err(problem) => problem,
    };
    let failure = |code: &str, message: String| AnalysisFailure {
        module: path.to_owned(),
        message,
        code: code.to_owned(),
    };
    match (problem, scope.exception()) {
        (Problem::Says(code, message), _) => Err(failure(code, message)),
        (Problem::Threw, Some(thrown)) => {
            scope.reset();
            let error = exception::describe(scope, hooks, Some(code), thrown);
            Err(failure("ModuleImportFailed", error.message))
        }
        (Problem::Threw, None) => Err(failure("AnalysisStopped", "it was stopped".to_owned())),
    }
}

/// Why reading a module failed: it threw, or it has the wrong shape.
pub(crate) enum Problem {
    Threw,
    Says(&'static str, String),
}

fn module<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    path: &str,
    namespace: v8::Local<'s, v8::Object>,
) -> Result<FoundModule, Problem> {
    let mut found = FoundModule::default();
    let names = namespace
        .get_own_property_names(scope, v8::GetPropertyNamesArgs::default())
        .ok_or(Problem::Threw)?;
    for at in 0..names.length() {
        let name = names.get_index(scope, at).ok_or(Problem::Threw)?;
        let value = namespace.get(scope, name).ok_or(Problem::Threw)?;
        let name = name.to_rust_string_lossy(scope);
        if name == "experimental_reuseContext" {
            found.reuse_context = value.is_true();
        }
        let Ok(object) = v8::Local::<v8::Object>::try_from(value) else { continue };
        if let Some(function) = function(scope, name, object)? {
            found.functions.push(function);
        }
    }
    found.functions.sort_by(|a, b| (&a.at, &a.name).cmp(&(&b.at, &b.name)));
    match path {
        "http.js" => found.http_routes = Some(http_routes(scope, namespace)?),
        "crons.js" => found.crons = Some(crons(scope, namespace)?),
        _ => {}
    }
    Ok(found)
}

/// Reads one export; `None` if it is no registered function.
fn function<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    name: String,
    object: v8::Local<'s, v8::Object>,
) -> Result<Option<FoundFunction>, Problem> {
    let mut flag = |key| get(scope, object, key).is_some_and(|value| value.is_true());
    let kinds = [("isQuery", "Query"), ("isMutation", "Mutation"), ("isAction", "Action")];
    let found: Vec<&str> =
        kinds.iter().filter(|(key, _)| flag(key)).map(|(_, kind)| *kind).collect();
    let (is_public, is_internal) = (flag("isPublic"), flag("isInternal"));
    let [kind] = found[..] else { return Ok(None) };
    if is_public && is_internal {
        return Ok(None);
    }
    let args =
        call_text(scope, object, "exportArgs")?.unwrap_or_else(|| "{\"type\":\"any\"}".into());
    let returns = call_text(scope, object, "exportReturns")?.unwrap_or_else(|| "null".into());
    let handler = get(scope, object, "_handler")
        .and_then(|value| v8::Local::<v8::Function>::try_from(value).ok());
    let at = handler.and_then(|handler| handler_position(scope, handler));
    let invariant = get(scope, object, "invariant").filter(|name| name.is_string());
    let invariant = invariant.map(|name| name.to_rust_string_lossy(scope));
    Ok(Some(FoundFunction {
        name,
        kind: kind.to_owned(),
        is_public,
        is_internal,
        args,
        returns,
        invariant,
        at,
    }))
}

fn handler_position(
    scope: &mut v8::PinScope<'_, '_>,
    handler: v8::Local<'_, v8::Function>,
) -> Option<(String, u32, u32)> {
    let origin = handler.get_script_origin(scope);
    let name = origin.resource_name()?.to_rust_string_lossy(scope);
    let path = name.strip_prefix(modules::SCHEME)?.to_owned();
    Some((path, handler.get_script_line_number()? + 1, handler.get_script_column_number()? + 1))
}

fn http_routes<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    namespace: v8::Local<'s, v8::Object>,
) -> Result<Vec<(String, String)>, Problem> {
    let router = default_object(scope, namespace)
        .filter(|router| get(scope, *router, "isRouter").is_some_and(|flag| flag.is_true()));
    let Some(router) = router else {
        return Err(Problem::Says(
            "InvalidHttpRouter",
            "The default export of `convex/http.ts` must be a Router: write `const http = \
             httpRouter(); … export default http;`"
                .to_owned(),
        ));
    };
    let routes = call(scope, router, "getRoutes")?.ok_or(Problem::Threw)?;
    let Ok(routes) = v8::Local::<v8::Array>::try_from(routes) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for at in 0..routes.length() {
        let Some(route) = routes.get_index(scope, at) else { continue };
        let Ok(route) = v8::Local::<v8::Object>::try_from(route) else { continue };
        let part =
            |index| route.get_index(scope, index).map(|value| value.to_rust_string_lossy(scope));
        if let (Some(path), Some(method)) = (part(0), part(1)) {
            found.push((path, method));
        }
    }
    Ok(found)
}

fn crons<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    namespace: v8::Local<'s, v8::Object>,
) -> Result<String, Problem> {
    let crons = default_object(scope, namespace)
        .filter(|crons| get(scope, *crons, "isCrons").is_some_and(|flag| flag.is_true()));
    let says = || {
        Problem::Says(
            "InvalidCrons",
            "The default export of `convex/crons.ts` must be a Crons object: write `const crons = \
             cronJobs(); … export default crons;`"
                .to_owned(),
        )
    };
    call_text(scope, crons.ok_or_else(says)?, "export")?.ok_or_else(says)
}

/// Loads a special module on its own and reads its default export as text.
fn special<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    hooks: Hooks<'s>,
    code: &Code,
    module: Option<&Module>,
    read: fn(&mut v8::PinScope<'s, '_>, v8::Local<'s, v8::Object>) -> Result<String, Problem>,
) -> Result<Option<String>, AnalysisFailure> {
    let Some(module) = module else { return Ok(None) };
    startup::begin_import(scope, hooks, &code.bundle);
    modules::begin(Arc::clone(&code.bundle), Some(module.clone()));
    let text = guarded(scope, hooks, code, &module.path, |scope| {
        let namespace = modules::load(scope, &module.path).ok_or(Problem::Threw)?;
        read(scope, namespace)
    });
    modules::end();
    text.map(Some)
}

fn schema<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    namespace: v8::Local<'s, v8::Object>,
) -> Result<String, Problem> {
    let Some(schema) = default_object(scope, namespace) else {
        return Err(Problem::Says(
            "MissingSchemaExportError",
            "Schema file missing default export. To learn more about schemas, see \
             https://docs.convex.dev/database/schemas: write `export default defineSchema({…});`"
                .to_owned(),
        ));
    };
    call_text(scope, schema, "export")?.ok_or_else(|| {
        Problem::Says(
            "InvalidSchemaExport",
            "The default export of the schema file must be what `defineSchema(…)` returns".into(),
        )
    })
}

fn stringify_default<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    namespace: v8::Local<'s, v8::Object>,
) -> Result<String, Problem> {
    let Some(default) = get(scope, namespace, "default") else {
        return Err(Problem::Says(
            "InvalidAuthConfig",
            "auth.config.ts has no default export".into(),
        ));
    };
    stringify(scope, default)
}

pub(crate) fn stringify<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    value: v8::Local<'s, v8::Value>,
) -> Result<String, Problem> {
    let text = v8::json::stringify(scope, value).ok_or(Problem::Threw)?;
    Ok(text.to_rust_string_lossy(scope))
}

pub(crate) fn default_object<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    namespace: v8::Local<'s, v8::Object>,
) -> Option<v8::Local<'s, v8::Object>> {
    v8::Local::<v8::Object>::try_from(get(scope, namespace, "default")?).ok()
}

/// A property that is neither undefined nor unreadable.
pub(crate) fn get<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    key: &str,
) -> Option<v8::Local<'s, v8::Value>> {
    let key = string(scope, key);
    object.get(scope, key.into()).filter(|value| !value.is_undefined())
}

/// Calls a method without arguments; `Ok(None)` where there is no such method.
pub(crate) fn call<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    name: &str,
) -> Result<Option<v8::Local<'s, v8::Value>>, Problem> {
    let method = get(scope, object, name)
        .and_then(|method| v8::Local::<v8::Function>::try_from(method).ok());
    let Some(method) = method else { return Ok(None) };
    method.call(scope, object.into(), &[]).map(Some).ok_or(Problem::Threw)
}

/// Calls a method that gives JSON text.
fn call_text<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    name: &str,
) -> Result<Option<String>, Problem> {
    let value = call(scope, object, name)?;
    Ok(value.filter(|value| value.is_string()).map(|value| value.to_rust_string_lossy(scope)))
}
