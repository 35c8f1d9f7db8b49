//! How one function names another: by name, by handle, by reference (`convex-compat.md` section
//! 1.10).
//!
//! In: the arguments of a syscall. Out: a path. Invariant: what points out of this deployment is
//! refused, never taken for a path in it.

use std::borrow::Cow;
use std::sync::Arc;

use database::components::child;
use database::deployment::{Analysis, Visibility};
use database::error::UserError;
use database::record::FunctionPath;
use database::snapshot::Snapshot;
use serde::Deserialize;

use crate::{check, elsewhere};

/// The fields of a syscall's arguments that name a function.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reference: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function_handle: Option<Cow<'a, str>>,
}

impl Address<'_> {
    /// The function that a function of `component` means. Of a child these are the public ones; a
    /// function that it names otherwise may not exist.
    ///
    /// # Errors
    /// No path, a handle of another deployment, a reference to what is not there.
    pub fn path(
        &self,
        snapshot: &Snapshot,
        component: &Arc<str>,
    ) -> Result<FunctionPath, UserError> {
        if let Some(name) = &self.name {
            return Ok(FunctionPath::parse(name)?.within(component));
        }
        if let Some(handle) = &self.function_handle {
            return match elsewhere::behind_name(snapshot, handle) {
                Some(path) => Ok(path),
                None => snapshot.behind_handle(handle),
            };
        }
        let reference = self.reference.as_deref().unwrap_or_default();
        if let Some(path) = reference.strip_prefix("_reference/function/") {
            return Ok(FunctionPath::parse(path)?.within(component));
        }
        let analysis = snapshot.deployment.as_ref().map(|deployment| &*deployment.analysis);
        match (reference.strip_prefix("_reference/childComponent/"), analysis) {
            (Some(rest), Some(analysis)) => of_child(analysis, component, rest),
            _ => Err(invalid(format!("{reference:?} is no reference to a function."))),
        }
    }

    /// JSON text of the function's handle.
    ///
    /// # Errors
    /// As [`Self::path`], or a function that does not exist.
    pub fn handle(&self, snapshot: &Snapshot, component: &Arc<str>) -> Result<String, UserError> {
        let path = self.path(snapshot, component)?;
        let exists = snapshot.deployment.as_ref().map(|now| now.analysis.function(&path));
        if exists.flatten().is_none() {
            return Err(check::missing(&path));
        }
        let handle = snapshot.handle(&path).ok_or_else(|| check::missing(&path))?;
        Ok(serde_json::json!(handle).to_string())
    }
}

/// `child/dir/module/function`, from `component`.
fn of_child(
    analysis: &Analysis,
    component: &Arc<str>,
    reference: &str,
) -> Result<FunctionPath, UserError> {
    let (name, attributes) = reference.split_once('/').unwrap_or((reference, ""));
    let instance = child(component, name);
    let Some((instance, _)) = analysis.components.instances.get_key_value(&*instance) else {
        let config = "`app.use(…)` it in convex.config.ts";
        return Err(invalid(format!(
            "Child component {name:?} does not exist{}. {config}, or look at the name that it is \
             used under.",
            whereabouts(component)
        )));
    };
    let Some((module, export)) = attributes.rsplit_once('/') else {
        return Err(invalid(format!(
            "components.{}: a function of a component is components.{name}.module.function.",
            reference.replace('/', ".")
        )));
    };
    let path = FunctionPath::parse(&format!("{module}:{export}"))?.within(instance);
    match analysis.function(&path).map(|function| function.visibility) {
        Some(Some(Visibility::Public)) => Ok(path),
        Some(_) => Err(invalid(format!(
            "Child component {name:?} does not export {path}: it is an internal function. Only \
             public functions of a component can be called from outside: make it a `query`, \
             `mutation` or `action`."
        ))),
        None => Err(invalid(format!(
            "Child component {name:?} does not export {path}: it has no such function. Did you \
             forget to run `npx convex dev`?"
        ))),
    }
}

fn whereabouts(component: &str) -> String {
    match component {
        "" => String::new(),
        component => format!(" in component {component:?}"),
    }
}

fn invalid(message: String) -> UserError {
    UserError::new("InvalidReference", message)
}
