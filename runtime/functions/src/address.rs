//! How one function names another: by name, by handle, by reference (`convex-compat.md` section
//! 1.10).
//!
//! In: the arguments of a syscall. Out: a path. Invariant: what points out of this deployment is
//! refused, never taken for a path in it.

use std::borrow::Cow;

use database::deployment::Analysis;
use database::error::UserError;
use database::record::FunctionPath;
use serde::Deserialize;

use crate::check;

/// Scheme of function handles.
const HANDLE: &str = "function://";

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
    /// Whose path that is.
    ///
    /// # Errors
    /// No path, a handle of another deployment, or a reference into a component.
    pub fn path(&self) -> Result<FunctionPath, UserError> {
        if let Some(name) = &self.name {
            return FunctionPath::parse(name);
        }
        if let Some(handle) = &self.function_handle {
            let path = handle.strip_prefix(HANDLE).and_then(|rest| rest.split_once('#'));
            let Some(("0", path)) = path else {
                let message = format!("{handle:?} is not a function handle of this deployment");
                return Err(UserError::new("InvalidFunctionHandle", message));
            };
            return FunctionPath::parse(path);
        }
        let reference = self.reference.as_deref().unwrap_or_default();
        match reference.strip_prefix("_reference/function/") {
            Some(path) => FunctionPath::parse(path),
            None => Err(UserError::new(
                "InvalidReference",
                format!(
                    "The reference {reference:?} points into a component; components are not \
                     supported by this version of concave yet."
                ),
            )),
        }
    }

    /// JSON text of the function's handle.
    ///
    /// # Errors
    /// As [`Self::path`], or a function that does not exist.
    pub fn handle(&self, analysis: &Analysis) -> Result<String, UserError> {
        let path = self.path()?;
        if analysis.function(&path).is_none() {
            return Err(check::missing(&path));
        }
        // The part before `#` names the component; the root is 0.
        Ok(serde_json::json!(format!("{HANDLE}0#{}", path.canonical())).to_string())
    }
}
