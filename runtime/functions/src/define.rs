//! Definitions: what `convex.config.js` of the app and of each component exports.
//!
//! In: the definition modules, each in a context of its own. Out: JSON text of each
//! (`convex-compat.md` section 6.5). Invariant: a definition is evaluated after those that it uses;
//! what it imports of them is their path and their name, nothing that runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::analyze::{
    AnalysisFailure, Hooks, Problem, call, default_object, get, guarded, stringify,
};
use crate::builder::{self, Defined};
use crate::code::Code;
use crate::engine::Engine;
use crate::execution::{self, Imported, Importing};
use crate::modules::{self, Definitions};
use crate::startup::{self, Part};

/// Evaluates the definitions of `parts`; `code` has the same parts.
///
/// # Errors
/// The first that is none, or a circle of them.
pub(crate) fn all(
    engine: &mut Engine,
    code: &Arc<Code>,
    parts: &[Part],
) -> Result<Defined, AnalysisFailure> {
    let codes = code.parts().cloned().zip(parts);
    let codes = codes.map(|(code, part)| (part.definition.as_str().into(), (code, part))).collect();
    let mut defining = Defining {
        engine,
        codes: &codes,
        above: Vec::new(),
        defined: Defined { texts: BTreeMap::new(), read: Imported::new() },
    };
    for path in codes.keys() {
        defining.evaluate(path)?;
    }
    Ok(defining.defined)
}

/// Definitions on their way.
struct Defining<'a> {
    engine: &'a mut Engine,
    codes: &'a BTreeMap<Arc<str>, (Arc<Code>, &'a Part)>,
    /// Those that wait for what they use.
    above: Vec<Arc<str>>,
    defined: Defined,
}

impl Defining<'_> {
    fn evaluate(&mut self, path: &Arc<str>) -> Result<(), AnalysisFailure> {
        if self.defined.texts.contains_key(path) {
            return Ok(());
        }
        let (code, part) = &self.codes[path];
        let failed = |failure| builder::named(failure, part);
        if self.above.contains(path) {
            return Err(failed(circle(&self.above, path)));
        }
        for used in builder::look(self.engine, code, used).map_err(failed)? {
            if self.codes.contains_key(&used) {
                self.above.push(Arc::clone(path));
                self.evaluate(&used)?;
                self.above.pop();
            }
        }
        let known: Arc<Definitions> = Arc::new(self.known());
        execution::take_import_reads();
        let text = builder::look(self.engine, code, |scope, hooks, code| {
            in_definition(scope, hooks, code, known, exported)
        });
        if path.is_empty() {
            self.defined.read = execution::take_import_reads();
        }
        self.defined.texts.insert(Arc::clone(path), text.map_err(failed)?.into());
        Ok(())
    }

    /// What later ones may import.
    fn known(&self) -> Definitions {
        let known = self.defined.texts.iter().map(|(path, text)| {
            let definition: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            let name = definition["definitionType"]["name"].as_str().unwrap_or_default();
            (modules::definition_import(path), (Arc::clone(path), name.to_owned()))
        });
        known.collect()
    }
}

fn circle(above: &[Arc<str>], path: &Arc<str>) -> AnalysisFailure {
    let start = above.iter().position(|other| other == path).unwrap_or_default();
    let names: Vec<&str> = above[start..].iter().chain([path]).map(|path| &**path).collect();
    AnalysisFailure {
        module: "convex.config.js".to_owned(),
        message: format!(
            "Components use each other in a circle: {}. Take one of the `use(…)` away.",
            names.join(" uses ")
        ),
        code: "InvalidDefinition".to_owned(),
    }
}

/// The definitions that this one imports.
fn used<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    hooks: Hooks<'s>,
    code: &Code,
) -> Result<Vec<Arc<str>>, AnalysisFailure> {
    let Some(module) = &code.bundle.definition else { return Ok(Vec::new()) };
    modules::begin_definition(Arc::clone(&code.bundle), Arc::default());
    let requests = guarded(scope, hooks, code, &module.path, |scope| {
        modules::requests(scope, &module.path).ok_or(Problem::Threw)
    });
    modules::end();
    Ok(requests?.iter().filter_map(|path| modules::definition_of(path)).collect())
}

/// Evaluates the definition of `code` and reads its namespace.
fn in_definition<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    hooks: Hooks<'s>,
    code: &Code,
    known: Arc<Definitions>,
    read: fn(&mut v8::PinScope<'s, '_>, v8::Local<'s, v8::Object>) -> Result<String, Problem>,
) -> Result<String, AnalysisFailure> {
    let Some(module) = &code.bundle.definition else {
        return Err(AnalysisFailure {
            module: "convex.config.js".to_owned(),
            message: "it was not pushed".to_owned(),
            code: "InvalidDefinition".to_owned(),
        });
    };
    let _importing = Importing::begin(None);
    startup::begin_import(scope, hooks, &code.bundle);
    modules::begin_definition(Arc::clone(&code.bundle), known);
    let text = guarded(scope, hooks, code, &module.path, |scope| {
        let namespace = modules::load(scope, &module.path).ok_or(Problem::Threw)?;
        read(scope, namespace)
    });
    modules::end();
    text
}

/// JSON text of what the default export's `export()` gives.
pub(crate) fn exported<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    namespace: v8::Local<'s, v8::Object>,
) -> Result<String, Problem> {
    let says = || {
        Problem::Says(
            "InvalidDefinition",
            "convex.config.ts must export one default: `export default defineApp();`, in a \
             component `export default defineComponent(\"name\");`"
                .into(),
        )
    };
    let definition = default_object(scope, namespace).ok_or_else(says)?;
    let exported = call(scope, definition, "export")?.ok_or_else(says)?;
    one_component_a_prefix(scope, definition)?;
    stringify(scope, exported)
}

/// Two components at one `httpPrefix`: of those, `export()` keeps the last.
fn one_component_a_prefix<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    definition: v8::Local<'s, v8::Object>,
) -> Result<(), Problem> {
    let used = get(scope, definition, "_childComponents")
        .and_then(|used| v8::Local::<v8::Array>::try_from(used).ok());
    let Some(used) = used else { return Ok(()) };
    let mut prefixes: BTreeMap<String, String> = BTreeMap::new();
    for at in 0..used.length() {
        let one = used.get_index(scope, at).map(v8::Local::<v8::Array>::try_from);
        let Some(Ok(one)) = one else { continue };
        let text = |at| one.get_index(scope, at).filter(|value| value.is_string());
        let (Some(name), Some(prefix)) = (text(0), text(3)) else { continue };
        let name = name.to_rust_string_lossy(scope);
        let prefix = prefix.to_rust_string_lossy(scope);
        let key = prefix.trim_end_matches('/').to_owned();
        if let Some(other) = prefixes.insert(key, name.clone()) {
            return Err(Problem::Says(
                "InvalidDefinition",
                format!(
                    "Two components are mounted at the httpPrefix {prefix:?}: {other:?} and \
                     {name:?}. Give one of them another: `app.use(component, {{ httpPrefix: \
                     \"/other/\" }})`."
                ),
            ));
        }
    }
    Ok(())
}
