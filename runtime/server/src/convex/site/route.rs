//! Which component's router a request is for (`convex-compat.md` section 9.7).
//!
//! In: a method and a path. Out: a component and the path as its router sees it.
//! Invariant: an exact route of `http.ts` comes first, then the longest prefix, of `http.ts` or of
//! a component; what is mounted sees nothing of the prefix that it is mounted at.

use std::sync::Arc;

use axum::http::Method;
use database::deployment::Analysis;
use database::snapshot::Deployment;

/// The component, and the path for its `http.ts`; `None`: nothing is there.
pub(super) fn find(
    deployment: &Deployment,
    method: &Method,
    path: &str,
) -> Option<(Arc<str>, String)> {
    let analysis = &deployment.analysis;
    let (mut component, mut path): (Arc<str>, String) = ("".into(), path.to_owned());
    loop {
        let found = analysis.of(&component)?;
        let own = match (&*component, &analysis.components.app_prefix) {
            ("", Some(prefix)) => below(prefix, &path),
            _ => Some(path.clone()),
        };
        let exact = own.as_deref().is_some_and(|own| has_exact(found, method, own));
        let longest = own.as_deref().map_or(0, |own| longest_prefix(found, method, own));
        let mounts = analysis.components.mounts.get(&component);
        let mounts = mounts.into_iter().flatten().filter(|(prefix, _)| path.starts_with(*prefix));
        match mounts.max_by_key(|(prefix, _)| prefix.len()) {
            Some((prefix, child)) if !exact && prefix.len() > longest => {
                path = below(prefix, &path)?;
                component = Arc::clone(child);
            }
            // Routers of other packages know more routes than they list: they decide themselves.
            _ => return own.filter(|_| has_router(found)).map(|own| (component, own)),
        }
    }
}

/// Whether there is an `http.ts`.
pub(super) fn has_router(analysis: &Analysis) -> bool {
    analysis.modules.values().any(|module| module.http_routes.is_some())
}

/// What is left of a path below `/prefix/`.
fn below(prefix: &str, path: &str) -> Option<String> {
    path.strip_prefix(prefix).map(|rest| format!("/{rest}"))
}

fn routes<'a>(analysis: &'a Analysis, method: &'a Method) -> impl Iterator<Item = &'a str> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let all = analysis.modules.values().filter_map(|module| module.http_routes.as_ref()).flatten();
    all.filter(move |route| route.method == method.as_str()).map(|route| route.path.as_str())
}

fn has_exact(analysis: &Analysis, method: &Method, path: &str) -> bool {
    routes(analysis, method).any(|route| route == path)
}

/// The length of the longest prefix that `http.ts` routes.
fn longest_prefix(analysis: &Analysis, method: &Method, path: &str) -> usize {
    let prefixes = routes(analysis, method).filter_map(|route| route.strip_suffix('*'));
    prefixes.filter(|prefix| path.starts_with(prefix)).map(str::len).max().unwrap_or(0)
}
