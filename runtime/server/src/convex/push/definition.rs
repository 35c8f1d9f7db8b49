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

/// `analysis`: everything that code generation reads, by definition path; the app's is empty.
///
/// # Errors
/// JSON of ours or of the bundle's that is not what section 6.5 says.
pub(super) fn analysis(bundle: &Bundle, analysis: &Analysis) -> Result<Value, Failure> {
    let mut all = Map::new();
    all.insert(String::new(), evaluated("", bundle, analysis)?);
    for unit in &analysis.components.units {
        let path = unit.definition.to_string();
        if !all.contains_key(&path) {
            let evaluated = evaluated(&path, bundle, &unit.analysis)?;
            all.insert(path, evaluated);
        }
    }
    Ok(Value::Object(all))
}

/// `Evaluated`, of one definition; `pushed` says when modules were imported.
fn evaluated(path: &str, pushed: &Bundle, analysis: &Analysis) -> Result<Value, Failure> {
    let functions: Map<String, Value> =
        analysis.modules.iter().map(|(path, found)| (path.to_string(), module(found))).collect();
    let import_ns = pushed.import_time_ms.saturating_mul(1_000_000);
    Ok(json!({
        "definition": definition(path, analysis)?,
        "schema": schema(analysis)?,
        "functions": functions,
        "udfConfig": {
            "serverVersion": pushed.udf_server_version,
            "importPhaseRngSeed": { "$bytes": STANDARD.encode(pushed.import_seed) },
            "importPhaseUnixTimestamp": { "$integer": STANDARD.encode(import_ns.to_le_bytes()) },
        },
    }))
}

/// The tree of components, from the one at `path` on; the empty path is the app.
pub(super) fn tree(analysis: &Analysis, path: &str) -> Value {
    let components = &analysis.components;
    let definition = components.instances.get(path).map_or("", |found| &found.definition);
    let found = analysis.of(path);
    let children = components.instances.keys().filter_map(|instance| {
        let name = match path {
            "" => instance,
            path => instance.strip_prefix(path)?.strip_prefix('/')?,
        };
        (!name.contains('/')).then(|| (name.to_owned(), tree(analysis, instance)))
    });
    let http = found.into_iter().flat_map(|found| found.modules.values());
    let routes = http.filter_map(|module| module.http_routes.as_ref()).next().map(|routes| {
        let route = |route: &database::deployment::HttpRoute| {
            json!({ "method": route.method, "path": route.path })
        };
        routes.iter().map(route).collect::<Vec<_>>()
    });
    let mounts: Vec<&String> =
        components.mounts.get(path).into_iter().flatten().map(|m| m.0).collect();
    let exports = match (path, found) {
        ("", _) | (_, None) => Value::Object(Map::new()),
        (path, Some(found)) => Exports::of(found).checked(path),
    };
    json!({
        "definitionPath": definition,
        "componentPath": path,
        "args": {},
        "childComponents": children.collect::<Map<_, _>>(),
        "httpRoutes": { "httpModuleRoutes": routes, "mounts": mounts },
        "exports": exports,
    })
}

/// The public functions of a component by the parts of their paths.
#[derive(Default)]
struct Exports(BTreeMap<String, Export>);

enum Export {
    Branch(Exports),
    /// `dir/mod.js:fn`
    Leaf(String),
}

impl Exports {
    fn of(analysis: &Analysis) -> Self {
        let mut exports = Self::default();
        for (path, module) in &analysis.modules {
            let public = |f: &&AnalyzedFunction| f.visibility == Some(Visibility::Public);
            for function in module.functions.iter().filter(public) {
                let mut branch = &mut exports;
                for part in path.strip_suffix(".js").unwrap_or(path).split('/') {
                    let next = branch.0.entry(part.to_owned());
                    let next = next.or_insert_with(|| Export::Branch(Self::default()));
                    let Export::Branch(next) = next else { unreachable!("a module is no leaf") };
                    branch = next;
                }
                let leaf = Export::Leaf(format!("{path}:{}", function.name));
                // A folder and a module may share a name; of a function and a folder, the folder
                // stays, as the reference `a/b/c` cannot mean both.
                branch.0.entry(function.name.to_string()).or_insert(leaf);
            }
        }
        exports
    }

    /// As definitions have them.
    fn listed(&self) -> Value {
        let branch = self.0.iter().map(|(name, export)| match export {
            Export::Branch(exports) => json!([name, exports.listed()]),
            Export::Leaf(path) => {
                json!([name, { "type": "leaf", "leaf": format!("_reference/function/{path}") }])
            }
        });
        json!({ "type": "branch", "branch": branch.collect::<Vec<_>>() })
    }

    /// As instances have them.
    fn checked(&self, component: &str) -> Value {
        let children = self.0.iter().map(|(name, export)| {
            let export = match export {
                Export::Branch(exports) => {
                    json!({ "type": "branch", "children": exports.checked(component) })
                }
                Export::Leaf(path) => json!({ "type": "leaf", "resource": {
                    "type": "function",
                    "path": { "component": component, "udfPath": path },
                } }),
            };
            (name.clone(), export)
        });
        Value::Object(children.collect())
    }
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

fn definition(path: &str, analysis: &Analysis) -> Result<Value, Failure> {
    let mut definition = match &analysis.definition_json {
        Some(text) => object(text, "convex.config.ts")?,
        None => Map::new(),
    };
    definition.insert("path".into(), path.into());
    if !path.is_empty() {
        // What a component exports are its public functions, wherever they are.
        definition.insert("exports".into(), Exports::of(analysis).listed());
    }
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
