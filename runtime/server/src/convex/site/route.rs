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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use database::components::{Components, Instance, Unit};
    use database::deployment::{AnalyzedModule, Bundle, HttpRoute, Tier};

    use super::*;

    fn analysis(routes: &[(&str, &str)]) -> Analysis {
        let route = |(method, path): &(&str, &str)| HttpRoute {
            path: (*path).to_owned(),
            method: (*method).to_owned(),
        };
        let http_routes = Some(routes.iter().map(route).collect());
        let http = AnalyzedModule { http_routes, ..AnalyzedModule::default() };
        Analysis {
            version: Default::default(),
            modules: if routes.is_empty() {
                BTreeMap::new()
            } else {
                [("http.js".into(), http)].into()
            },
            schema: None,
            definition_json: None,
            auth_json: None,
            imported_environment: Default::default(),
            components: Components::default(),
            tier: Tier::Evaluate { reason: None, blob: [].into() },
            warnings: Vec::new(),
        }
    }

    /// An app with these routes, whose components `c` and `c/d` have one each.
    fn deployment(routes: &[(&str, &str)], app_prefix: Option<&str>) -> Deployment {
        let unit = |routes: &[(&str, &str)]| Unit {
            definition: "def".into(),
            environment: Default::default(),
            bundle: Arc::default(),
            analysis: Arc::new(analysis(routes)),
        };
        let instance = |unit| Instance { definition: "def".into(), unit };
        let mount = |prefix: &str, to: &str| BTreeMap::from([(prefix.to_owned(), to.into())]);
        let components = Components {
            units: vec![unit(&[("GET", "/own")]), unit(&[("GET", "/*")])],
            instances: [("c".into(), instance(0)), ("c/d".into(), instance(1))].into(),
            mounts: [("".into(), mount("/c/", "c")), ("c".into(), mount("/d/", "c/d"))].into(),
            app_prefix: app_prefix.map(str::to_owned),
            definitions: BTreeMap::new(),
        };
        let analysis = Arc::new(Analysis { components, ..analysis(routes) });
        Deployment { bundle: Arc::new(Bundle::default()), analysis }
    }

    fn found(deployment: &Deployment, method: Method, path: &str) -> Option<(String, String)> {
        find(deployment, &method, path).map(|(component, path)| (component.to_string(), path))
    }

    fn at(component: &str, path: &str) -> Option<(String, String)> {
        Some((component.to_owned(), path.to_owned()))
    }

    #[test]
    fn exact_routes_first_then_the_longest_prefix() {
        let app =
            deployment(&[("GET", "/c/exact"), ("GET", "/c/d/longer/*"), ("POST", "/*")], None);
        assert_eq!(found(&app, Method::GET, "/c/exact"), at("", "/c/exact"));
        assert_eq!(found(&app, Method::HEAD, "/c/exact"), at("", "/c/exact"));
        assert_eq!(found(&app, Method::POST, "/c/exact"), at("c", "/exact"));
        assert_eq!(found(&app, Method::GET, "/c/own"), at("c", "/own"));
        assert_eq!(found(&app, Method::GET, "/c/d/longer/x"), at("", "/c/d/longer/x"));
        assert_eq!(found(&app, Method::GET, "/c/d/long"), at("c/d", "/long"));
        assert_eq!(found(&app, Method::GET, "/c/d/"), at("c/d", "/"));
        // What no mount takes is for the app's own router to refuse.
        assert_eq!(found(&app, Method::GET, "/cc"), at("", "/cc"));
        assert_eq!(found(&app, Method::GET, "/c"), at("", "/c"));
    }

    #[test]
    fn the_apps_prefix_is_its_own_routers() {
        let app = deployment(&[("GET", "/exact")], Some("/app/"));
        assert_eq!(found(&app, Method::GET, "/app/exact"), at("", "/exact"));
        assert_eq!(found(&app, Method::GET, "/exact"), None);
        assert_eq!(found(&app, Method::GET, "/c/own"), at("c", "/own"));
        let no_router = deployment(&[], None);
        assert_eq!(found(&no_router, Method::GET, "/x"), None);
    }
}
