//! What analysis found, in the words of the deploy protocol (`convex-compat.md` sections 6.4, 6.5).
//!
//! In: an [`Analysis`]. Out: the JSON of `Evaluated`, of `appAuth` and of crons.
//! Invariant: every key that the CLI's zod schemas demand is there, null where it may be null.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::deployment::{Analysis, AnalyzedFunction, AnalyzedModule, Bundle, Visibility};
use serde_json::{Map, Value, json};

use crate::auth::provider::{self, Provider};
use crate::refusal::Failure;

/// `Evaluated`: everything that code generation reads.
///
/// # Errors
/// JSON of ours or of the bundle's that is not what section 6.5 says.
pub(super) fn evaluated(bundle: &Bundle, analysis: &Analysis) -> Result<Value, Failure> {
    let functions: Map<String, Value> =
        analysis.modules.iter().map(|(path, found)| (path.to_string(), module(found))).collect();
    let import_ns = bundle.import_time_ms.saturating_mul(1_000_000);
    Ok(json!({
        "definition": definition(analysis)?,
        "schema": schema(analysis)?,
        "functions": functions,
        "udfConfig": {
            "serverVersion": bundle.udf_server_version,
            "importPhaseRngSeed": { "$bytes": STANDARD.encode(bundle.import_seed) },
            "importPhaseUnixTimestamp": { "$integer": STANDARD.encode(import_ns.to_le_bytes()) },
        },
    }))
}

/// The root of the tree of components: an app without children.
pub(super) fn root_component(analysis: &Analysis) -> Value {
    let http = analysis.modules.values().find_map(|module| module.http_routes.as_ref());
    let routes = http.map(|routes| {
        let route = |route: &database::deployment::HttpRoute| {
            json!({ "method": route.method, "path": route.path })
        };
        routes.iter().map(route).collect::<Vec<_>>()
    });
    json!({
        "definitionPath": "",
        "componentPath": "",
        "args": {},
        "childComponents": {},
        "httpRoutes": { "httpModuleRoutes": routes, "mounts": [] },
        "exports": {},
    })
}

/// `appAuth`: the providers of `auth.config.ts`.
///
/// # Errors
/// 400 naming the provider that is wrong.
pub(super) fn providers(analysis: &Analysis) -> Result<Vec<Value>, Failure> {
    let providers = provider::parse(analysis.auth_json.as_deref()).map_err(Failure::push)?;
    Ok(providers.iter().map(Provider::json).collect())
}

/// Crons by name, in any order the author wrote them.
pub(super) fn crons(analysis: &Analysis) -> BTreeMap<String, Value> {
    analysis.modules.values().flat_map(module_crons).collect()
}

fn module_crons(module: &AnalyzedModule) -> BTreeMap<String, Value> {
    let text = module.crons_json.as_deref().unwrap_or("{}");
    serde_json::from_str(text).unwrap_or_default()
}

fn definition(analysis: &Analysis) -> Result<Value, Failure> {
    let mut definition = match &analysis.definition_json {
        Some(text) => object(text, "convex.config.ts")?,
        None => Map::new(),
    };
    definition.insert("path".into(), "".into());
    let absent = json!({
        "definitionType": { "type": "app" },
        "childComponents": [],
        "httpMounts": {},
        "exports": { "type": "branch", "branch": [] },
    });
    if let Value::Object(absent) = absent {
        for (key, value) in absent {
            definition.entry(key).or_insert(value);
        }
    }
    Ok(Value::Object(definition))
}

fn schema(analysis: &Analysis) -> Result<Value, Failure> {
    match &analysis.schema {
        Some(schema) => Ok(Value::Object(object(&schema.json, "schema.ts")?)),
        None => Ok(Value::Null),
    }
}

fn object(text: &str, whose: &str) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::broken(format!("{whose} was exported as something that is no object: {error}"))
    })
}

fn module(module: &AnalyzedModule) -> Value {
    let routes = module.http_routes.as_ref().map(|routes| {
        let route = |route: &database::deployment::HttpRoute| {
            json!({ "route": { "path": route.path, "method": route.method }, "pos": null })
        };
        routes.iter().map(route).collect::<Vec<_>>()
    });
    let crons = module.crons_json.as_ref().map(|_| {
        let crons = module_crons(module).into_iter();
        crons
            .map(|(identifier, spec)| json!({ "identifier": identifier, "spec": spec }))
            .collect::<Vec<_>>()
    });
    json!({
        "functions": module.functions.iter().map(function).collect::<Vec<_>>(),
        "httpRoutes": routes,
        "cronSpecs": crons,
        "sourceMapped": null,
    })
}

fn function(function: &AnalyzedFunction) -> Value {
    let visibility = function.visibility.map(|visibility| match visibility {
        Visibility::Public => json!({ "kind": "public" }),
        Visibility::Internal => json!({ "kind": "internal" }),
    });
    let position = function.position.as_ref().map(|position| {
        json!({
            "path": &*position.path,
            "start_lineno": position.line,
            "start_col": position.column,
        })
    });
    json!({
        "name": &*function.name,
        "pos": position,
        "udfType": function.kind.name(),
        "visibility": visibility,
        "args": &*function.args_json,
        "returns": &*function.returns_json,
    })
}
