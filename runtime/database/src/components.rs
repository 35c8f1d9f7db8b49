//! The tree of components of a deployment: which definition is mounted where, with which
//! environment, under which HTTP prefix (`convex-compat.md` sections 6.5 and 9.7).
//!
//! In: what `defineApp().export()` and `defineComponent().export()` gave, by definition path. Out:
//! instances by component path, and the units to evaluate: instances with the same definition and
//! the same environment share one.
//! Invariant: a tree is finite, every child has a definition, and no two children of one parent
//! share a name or a prefix.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::deployment::{Analysis, Bundle};
use crate::environment::{CLOUD_URL, SITE_URL, Variables};
use crate::error::PushError;
use crate::limits;
use crate::validate::Validator;
use crate::value::Value;

/// Where the value of a component's environment variable comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Binding {
    /// The parent wrote it into its `convex.config.ts`.
    Value(Arc<str>),
    /// It is this variable of the app.
    Variable(Arc<str>),
    /// It is the app's `CONVEX_SITE_URL` with this path: where the component is mounted.
    Site(Arc<str>),
}

impl Binding {
    /// The value now; `of_app` gives the app's variables.
    pub fn value(&self, of_app: impl FnOnce(&str) -> Option<Arc<str>>) -> Option<Arc<str>> {
        match self {
            Self::Value(value) => Some(Arc::clone(value)),
            Self::Variable(name) => of_app(name),
            Self::Site(path) => Some(format!("{}{path}", of_app(SITE_URL)?).into()),
        }
    }

    /// The app's variable and its value, where the component has seen `seen`; `None`: it depends
    /// on none.
    pub fn source<'a>(&'a self, seen: Option<&'a str>) -> Option<(&'a str, Option<&'a str>)> {
        match self {
            Self::Value(_) => None,
            Self::Variable(name) => Some((name, seen)),
            Self::Site(path) => Some((SITE_URL, seen.and_then(|url| url.strip_suffix(&**path)))),
        }
    }
}

/// A component's environment, by name; what is not here is not set.
pub type Bindings = BTreeMap<String, Binding>;

/// HTTP prefixes (`/name/`) of one component, with the paths of the components behind them.
pub type Mounts = BTreeMap<String, Arc<str>>;

/// One mounted component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Path of its definition, as the bundler names it.
    pub definition: Arc<str>,
    /// Which unit runs it.
    pub unit: usize,
}

/// A definition, evaluated with one environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unit {
    /// Path of the definition.
    pub definition: Arc<str>,
    /// Its environment.
    pub environment: Bindings,
    /// Its modules.
    pub bundle: Arc<Bundle>,
    /// What they export.
    pub analysis: Arc<Analysis>,
}

/// Everything mounted below an app.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Components {
    /// What is evaluated.
    pub units: Vec<Unit>,
    /// By component path; the app itself is not among them.
    pub instances: BTreeMap<Arc<str>, Instance>,
    /// By component path, the app's under the empty one.
    pub mounts: BTreeMap<Arc<str>, Mounts>,
    /// Where the app's own `http.ts` begins: `/prefix/`; `None`: at the root.
    pub app_prefix: Option<String>,
    /// JSON text of each definition, by its path.
    pub definitions: BTreeMap<Arc<str>, Arc<str>>,
}

impl Components {
    /// The unit that a mounted component runs.
    pub fn unit(&self, component: &str) -> Option<&Unit> {
        self.units.get(self.instances.get(component)?.unit)
    }
}

/// The path of a child.
pub fn child(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// Whether a component is `parent`, or inside of it.
pub fn is_within(component: &str, parent: &str) -> bool {
    let rest = component.strip_prefix(parent);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A tree whose definitions are not evaluated yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// By component path, without the app.
    pub instances: BTreeMap<Arc<str>, Instance>,
    /// By component path.
    pub mounts: BTreeMap<Arc<str>, Mounts>,
    /// Where the app's own `http.ts` begins.
    pub app_prefix: Option<String>,
    /// Definition and environment of each unit.
    pub units: Vec<(Arc<str>, Bindings)>,
}

/// What a `convex.config.ts` exports; more than this is for code generation.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    #[serde(default)]
    child_components: Vec<Child>,
    #[serde(default)]
    http_mounts: BTreeMap<String, String>,
    http_prefix: Option<String>,
    env_vars: Option<Vec<(String, Declared)>>,
}

#[derive(Debug, Deserialize)]
struct Child {
    name: String,
    path: Arc<str>,
    env: Option<Vec<(String, Given)>>,
}

/// A variable that a definition declares.
#[derive(Debug, Deserialize)]
struct Declared {
    /// JSON text of its validator.
    value: String,
    #[serde(default)]
    optional: bool,
}

/// What a parent gives for one.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Given {
    Value { value: String },
    EnvVar { name: String },
}

/// Builds the tree below the app, whose definition is the one at the empty path. Without an
/// environment nothing needs to be set or given: code generation asks so.
///
/// # Errors
/// A child without a definition, a cycle, a name or prefix that is malformed or there twice, an
/// environment that is not the declared one, too many components.
pub fn tree(
    definitions: &BTreeMap<Arc<str>, Arc<str>>,
    environment: Option<&Variables>,
) -> Result<Tree, PushError> {
    let read = |(path, text): (&Arc<str>, &Arc<str>)| {
        let definition: Definition = serde_json::from_str(text).map_err(|error| {
            let config = config(path);
            invalid(format!("{config} exports something that is no definition: {error}"))
        })?;
        Ok::<_, PushError>((Arc::clone(path), definition))
    };
    let definitions: BTreeMap<_, _> = definitions.iter().map(read).collect::<Result<_, _>>()?;
    let complete = environment.is_some();
    let mut growing = Growing { definitions: &definitions, complete, tree: Tree::default() };
    if let Some(app) = definitions.get("") {
        let mut bindings = app_environment(app, environment)?;
        bindings.insert(SITE_URL.to_owned(), Binding::Site("".into()));
        growing.grow("", "", &bindings, &mut Vec::new())?;
        growing.tree.app_prefix = app.http_prefix.clone().filter(|prefix| prefix != "/");
    }
    // One that is imported and not used is code all the same, and has types.
    for path in definitions.keys().filter(|path| !path.is_empty()) {
        if !growing.tree.units.iter().any(|(known, _)| known == path) {
            growing.tree.units.push((Arc::clone(path), Bindings::new()));
        }
    }
    Ok(growing.tree)
}

/// The app's declared variables, as its children may be given them.
fn app_environment(
    app: &Definition,
    environment: Option<&Variables>,
) -> Result<Bindings, PushError> {
    let mut bindings = Bindings::new();
    for (name, declared) in app.env_vars.iter().flatten() {
        match environment.and_then(|variables| variables.get(name)) {
            Some(value) => check_value(name, value, declared, "")?,
            None if declared.optional || environment.is_none() => {}
            None => {
                let text = format!(
                    "Environment variable {name} is declared in convex.config.ts, and it is not \
                     set. Set it first: `npx convex env set {name} <value>`, or make it optional: \
                     `{name}: v.optional(v.string())`."
                );
                return Err(PushError::new("MissingEnvironmentVariables", text));
            }
        }
        bindings.insert(name.clone(), Binding::Variable(name.as_str().into()));
    }
    Ok(bindings)
}

/// A tree on its way.
struct Growing<'a> {
    definitions: &'a BTreeMap<Arc<str>, Definition>,
    /// Whether children are given all that they need.
    complete: bool,
    tree: Tree,
}

impl Growing<'_> {
    /// Adds the children of `component`, and theirs.
    fn grow(
        &mut self,
        component: &str,
        path: &str,
        environment: &Bindings,
        above: &mut Vec<Arc<str>>,
    ) -> Result<(), PushError> {
        let config = config(path);
        let definition = &self.definitions[path];
        let mut names = Vec::new();
        for Child { name, path: found, env } in &definition.child_components {
            check_name(name, &config)?;
            if names.contains(&name) {
                return Err(invalid(format!(
                    "{config} uses two components under the name {name:?}. Give one of them \
                     another: `app.use(component, {{ name: \"…\" }})`."
                )));
            }
            names.push(name);
            let Some((found, declared)) = self.definitions.get_key_value(found) else {
                return Err(invalid(format!(
                    "{config} uses the component {name:?} of {found:?}, which was not pushed. \
                     Push again; import it from its `convex.config`."
                )));
            };
            if above.contains(found) || **found == *path {
                return Err(invalid(format!(
                    "Components use each other in a circle: {config} uses {name:?} \
                     ({found}), which leads back to it. Take one of the `use(…)` away."
                )));
            }
            let mut bound = bind(declared, env.as_deref(), environment, (name, &config))?;
            let site = site(environment, definition, name);
            bound.entry(SITE_URL.to_owned()).or_insert(site);
            let cloud = Binding::Variable(CLOUD_URL.into());
            bound.entry(CLOUD_URL.to_owned()).or_insert(cloud);
            if self.complete {
                check_complete(declared, env.as_deref(), (name, &config))?;
            }
            let instance: Arc<str> = child(component, name).into();
            let unit = self.unit(found, &bound);
            let made = Instance { definition: Arc::clone(found), unit };
            self.tree.instances.insert(Arc::clone(&instance), made);
            if self.tree.instances.len() as u64 > limits::COMPONENTS {
                let most = limits::COMPONENTS;
                let text = format!("Too many components: the limit is {most} in one deployment.");
                return Err(PushError::new("TooManyComponents", text));
            }
            above.push(path.into());
            self.grow(&instance, found, &bound, above)?;
            above.pop();
        }
        let mounts = mounts(component, &definition.http_mounts, &names, &config)?;
        if !mounts.is_empty() {
            self.tree.mounts.insert(component.into(), mounts);
        }
        Ok(())
    }

    fn unit(&mut self, definition: &Arc<str>, environment: &Bindings) -> usize {
        let units = &mut self.tree.units;
        let same =
            |(other, bound): &(Arc<str>, Bindings)| other == definition && bound == environment;
        units.iter().position(same).unwrap_or_else(|| {
            units.push((Arc::clone(definition), environment.clone()));
            units.len() - 1
        })
    }
}

/// Where the HTTP actions of a child begin, which every component may know
/// (`convex-compat.md` section 8.1): the app's origin, unless each parent up to it is mounted.
fn site(parent: &Bindings, definition: &Definition, child: &str) -> Binding {
    let reference = format!("_reference/childComponent/{child}");
    let prefix = definition.http_mounts.iter().find(|(_, mounted)| **mounted == reference);
    match (parent.get(SITE_URL), prefix) {
        (Some(Binding::Site(above)), Some((prefix, _))) => {
            Binding::Site(format!("{above}{}", prefix.trim_end_matches('/')).into())
        }
        _ => Binding::Variable(SITE_URL.into()),
    }
}

/// The environment of a child, against what its definition declares.
fn bind(
    declared: &Definition,
    given: Option<&[(String, Given)]>,
    parent: &Bindings,
    (component, config): (&str, &str),
) -> Result<Bindings, PushError> {
    let declared: BTreeMap<&str, &Declared> =
        declared.env_vars.iter().flatten().map(|(name, one)| (name.as_str(), one)).collect();
    let mut bindings = Bindings::new();
    for (name, value) in given.into_iter().flatten() {
        let Some(declared) = declared.get(name.as_str()) else {
            return Err(invalid(format!(
                "{config} gives the component {component:?} the environment variable {name}, \
                 which it does not declare. Take it out of `env`, or declare it: \
                 `defineComponent({component:?}, {{ env: {{ {name}: v.string() }} }})`."
            )));
        };
        match value {
            Given::Value { value } => {
                check_value(name, value, declared, component)?;
                bindings.insert(name.clone(), Binding::Value(value.as_str().into()));
            }
            Given::EnvVar { name: of_parent } => {
                // One that the parent declares and does not have is not set here either.
                if let Some(bound) = parent.get(of_parent) {
                    bindings.insert(name.clone(), bound.clone());
                }
            }
        }
    }
    Ok(bindings)
}

/// A child is given every variable that it needs.
fn check_complete(
    declared: &Definition,
    given: Option<&[(String, Given)]>,
    (component, config): (&str, &str),
) -> Result<(), PushError> {
    let missing = declared.env_vars.iter().flatten().find(|(name, one)| {
        !one.optional && !given.into_iter().flatten().any(|(given, _)| given == name)
    });
    if let Some((name, _)) = missing {
        return Err(invalid(format!(
            "{config} does not give the component {component:?} the environment variable {name}, \
             which it needs: `use(component, {{ env: {{ {name}: … }} }})`."
        )));
    }
    Ok(())
}

fn check_value(
    name: &str,
    value: &str,
    declared: &Declared,
    component: &str,
) -> Result<(), PushError> {
    let whose = match component {
        "" => "the app".to_owned(),
        component => format!("the component {component:?}"),
    };
    let validator = Validator::from_json(&declared.value).map_err(|error| {
        invalid(format!("The environment variable {name} of {whose}: {}", error.message))
    })?;
    validator.check(&Value::String(value.to_owned()), &|_| None).map_err(|error| {
        invalid(format!(
            "The value of the environment variable {name} is not what {whose} declares: {error}"
        ))
    })
}

fn mounts(
    component: &str,
    exported: &BTreeMap<String, String>,
    children: &[&String],
    config: &str,
) -> Result<Mounts, PushError> {
    let mount = |(prefix, reference): (&String, &String)| {
        let name = reference.strip_prefix("_reference/childComponent/");
        let Some(name) = name.filter(|name| children.iter().any(|child| *child == name)) else {
            return Err(invalid(format!(
                "{config} mounts {reference:?} at {prefix:?}, which is none of its components."
            )));
        };
        let plain = prefix.starts_with('/') && prefix.ends_with('/') && !prefix.contains("//");
        if !plain || prefix == "/.files/" {
            return Err(invalid(format!(
                "{config} mounts the component {name:?} at the httpPrefix {prefix:?}, which \
                 cannot be used: write it as \"/name/\"."
            )));
        }
        Ok((prefix.clone(), child(component, name).into()))
    };
    exported.iter().map(mount).collect()
}

/// Whether a component can be called so: 1 to 64 letters, digits and underscores, a letter first.
pub fn is_component_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    begins && plain && name.len() <= 64
}

fn check_name(name: &str, config: &str) -> Result<(), PushError> {
    if is_component_name(name) {
        return Ok(());
    }
    Err(invalid(format!(
        "{config} uses a component under the name {name:?}, which cannot be one: 1 to 64 letters, \
         digits and underscores, the first a letter. Give it another: \
         `use(component, {{ name: \"…\" }})`."
    )))
}

/// How an author finds a definition's file.
fn config(definition: &str) -> String {
    match definition {
        "" => "convex.config.ts".to_owned(),
        path => format!("{path}/convex.config.ts"),
    }
}

fn invalid(message: String) -> PushError {
    PushError::new("InvalidDefinition", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Change;
    use crate::record::Timestamp;
    use serde_json::json;

    fn definitions(all: &[(&str, serde_json::Value)]) -> BTreeMap<Arc<str>, Arc<str>> {
        all.iter().map(|(path, json)| (Arc::from(*path), json.to_string().into())).collect()
    }

    fn using(children: serde_json::Value) -> serde_json::Value {
        json!({ "childComponents": children })
    }

    fn grown(all: &[(&str, serde_json::Value)]) -> Result<Tree, String> {
        tree(&definitions(all), Some(&Variables::default())).map_err(|error| error.message)
    }

    #[test]
    fn instances_with_the_same_environment_share_a_unit() {
        let declares = json!([["A", { "type": "value", "value": r#"{"type":"string"}"#,
                                      "optional": true }]]);
        let leaf = json!({ "envVars": declares });
        let a = |value: &str| json!([["A", { "type": "value", "value": value }]]);
        let tree = grown(&[
            (
                "",
                using(json!([
                    { "name": "x", "path": "leaf", "env": [] },
                    { "name": "y", "path": "leaf", "env": a("1") },
                    { "name": "mid", "path": "mid", "env": null },
                ])),
            ),
            ("mid", using(json!([{ "name": "z", "path": "leaf", "env": a("1") }]))),
            ("leaf", leaf),
        ])
        .unwrap();
        let unit = |path: &str| tree.instances[path].unit;
        assert_eq!(tree.instances.len(), 4);
        assert_eq!(unit("y"), unit("mid/z"));
        assert_ne!(unit("x"), unit("y"));
        assert_eq!(tree.units.len(), 3);
    }

    #[test]
    fn a_reference_leads_through_the_parents_to_the_apps_variable() {
        let declares =
            |name: &str| json!([[name, { "type": "value", "value": r#"{"type":"string"}"# }]]);
        let passes = |to: &str, from: &str| json!([[to, { "type": "envVar", "name": from }]]);
        let all = definitions(&[
            (
                "",
                json!({ "envVars": declares("KEY"), "childComponents": [
                { "name": "mid", "path": "mid", "env": passes("MID", "KEY") } ] }),
            ),
            (
                "mid",
                json!({ "envVars": declares("MID"), "childComponents": [
                { "name": "leaf", "path": "leaf", "env": passes("LEAF", "MID") } ] }),
            ),
            ("leaf", json!({ "envVars": declares("LEAF") })),
        ]);
        let missing = tree(&all, Some(&Variables::default())).unwrap_err();
        assert_eq!(missing.code, "MissingEnvironmentVariables");
        assert!(tree(&all, None).is_ok(), "code generation needs no values");
        let set = Change { name: "KEY".into(), value: Some("1".into()) };
        let variables = Variables::default().after(&[set], Timestamp(1));
        let tree = tree(&all, Some(&variables)).unwrap();
        let leaf = &tree.units[tree.instances["mid/leaf"].unit];
        assert_eq!(leaf.1["LEAF"], Binding::Variable("KEY".into()));
    }

    #[test]
    fn each_component_knows_where_its_http_actions_begin() {
        let child = |name: &str, path: &str| json!({ "name": name, "path": path, "env": null });
        let mount = |name: &str| format!("_reference/childComponent/{name}");
        let tree = grown(&[
            (
                "",
                json!({ "childComponents": [child("a", "mid"), child("b", "mid")],
                        "httpMounts": { "/of/a/": mount("a") } }),
            ),
            (
                "mid",
                json!({ "childComponents": [child("in", "leaf")],
                        "httpMounts": { "/in/": mount("in") } }),
            ),
            ("leaf", json!({})),
        ])
        .unwrap();
        let site = |path: &str| {
            let bindings = &tree.units[tree.instances[path].unit].1;
            bindings[SITE_URL].value(|name| (name == SITE_URL).then(|| "http://x".into())).unwrap()
        };
        assert_eq!([&*site("a"), &*site("a/in")], ["http://x/of/a", "http://x/of/a/in"]);
        assert_eq!([&*site("b"), &*site("b/in")], ["http://x", "http://x"]);
        let seen = Binding::Site("/of/a".into());
        assert_eq!(seen.source(Some("http://x/of/a")), Some((SITE_URL, Some("http://x"))));
    }

    #[test]
    fn what_cannot_be_mounted_is_named() {
        let child = |name: &str, path: &str| json!({ "name": name, "path": path, "env": [] });
        let many = |count: u64| {
            let all = (0..count).map(|n| child(&format!("c{n}"), "c"));
            grown(&[("", using(all.collect())), ("c", json!({}))]).is_ok()
        };
        assert!(many(limits::COMPONENTS) && !many(limits::COMPONENTS + 1));
        let fails = |all: &[(&str, serde_json::Value)], text: &str| {
            let error = grown(all).unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        fails(&[("", using(json!([child("x", "gone")])))], "which was not pushed");
        let twice = using(json!([child("x", "c"), child("x", "c")]));
        fails(&[("", twice), ("c", json!({}))], "two components under the name \"x\"");
        let circle = [
            ("", using(json!([child("a", "a")]))),
            ("a", using(json!([child("b", "b")]))),
            ("b", using(json!([child("a", "a")]))),
        ];
        fails(&circle, "in a circle");
        fails(&[("", using(json!([child("a-b", "c")]))), ("c", json!({}))], "cannot be one");
        let needs = json!({ "envVars": [["A", { "value": r#"{"type":"string"}"# }]] });
        fails(&[("", using(json!([child("x", "c")]))), ("c", needs)], "which it needs");
        let env = json!([["B", { "type": "value", "value": "1" }]]);
        let extra = using(json!([{ "name": "x", "path": "c", "env": env }]));
        fails(&[("", extra), ("c", json!({}))], "which it does not declare");
        let one = json!([["A", { "value": r#"{"type":"literal","value":"on"}"# }]]);
        let env = json!([["A", { "type": "value", "value": "off" }]]);
        let wrong = using(json!([{ "name": "x", "path": "c", "env": env }]));
        fails(&[("", wrong), ("c", json!({ "envVars": one }))], "is not what");
        let mounted = json!({ "childComponents": [child("x", "c")],
            "httpMounts": { "//": "_reference/childComponent/x" } });
        fails(&[("", mounted), ("c", json!({}))], "cannot be used");
    }
}
