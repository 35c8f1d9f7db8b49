//! The URL that an HTTP action sees.
//!
//! In: a request's head, as proxies in between left it. Out: the URL that the client wrote, and the
//! path that routes are looked up by.
//! Invariant: on both origins the same path names the same route, and it is the path of
//! `request.url`: no route is reached by a path that its handler does not see.

use axum::http::header::{FORWARDED, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use url::Url;

use crate::refusal::Failure;

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Address {
    /// Scheme, host, path and query, in the normal form of the URL standard.
    pub(super) url: String,
    /// The path, as `new URL(request.url).pathname` has it.
    pub(super) path: String,
}

impl Address {
    /// Reads the head; `mount` is taken off the path, `origin` serves where no host is named.
    ///
    /// # Errors
    /// 400 for a host or a target that makes no URL.
    pub(super) fn of(head: &Parts, mount: &str, origin: &str) -> Result<Self, Failure> {
        let host = head.headers.get(HOST).map_or_else(
            || Ok(head.uri.authority().map(|authority| authority.as_str())),
            |host| host.to_str().map(Some),
        );
        let host = host.map_err(|_| no_url("the Host header is not ASCII"))?;
        let mut url = match host {
            Some(host) => format!("{}://{host}", scheme(&head.headers)),
            None => origin.to_owned(),
        };
        let path = head.uri.path();
        let path = path.strip_prefix(mount).unwrap_or(path);
        if path.is_empty() {
            url.push('/');
        }
        url.push_str(path);
        if let Some(query) = head.uri.query() {
            url.push('?');
            url.push_str(query);
        }
        // A host with a path or a question mark in it would move the request elsewhere.
        let moves = |host: &str| host.is_empty() || host.contains(['/', '?', '#', '@', '\\']);
        match Url::parse(&url) {
            Ok(url) if !host.is_some_and(moves) => {
                Ok(Self { path: url.path().to_owned(), url: url.into() })
            }
            Ok(_) => Err(no_url(&format!("the Host header is {:?}", host.unwrap_or_default()))),
            Err(error) => Err(no_url(&format!("{url:?}: {error}"))),
        }
    }
}

fn no_url(why: &str) -> Failure {
    Failure::bad("InvalidUrl", format!("The request's head makes no URL: {why}."))
}

/// `https` where the proxy nearest to the client says so.
fn scheme(headers: &HeaderMap) -> &'static str {
    let first = |name: &HeaderName| -> Option<&str> {
        headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim)
    };
    let forwarded = || {
        let mut pairs = first(&FORWARDED)?.split(';').filter_map(|pair| pair.split_once('='));
        let (_, proto) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("proto"))?;
        Some(proto.trim().trim_matches('"'))
    };
    let named = first(&HeaderName::from_static("x-forwarded-proto")).or_else(forwarded);
    if named.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) { "https" } else { "http" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn address(target: &str, headers: &[(&str, &str)]) -> Result<(String, String), String> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let address = Address::of(&head, "/http", "http://127.0.0.1:3211");
        address.map(|address| (address.url, address.path)).map_err(|failure| failure.message)
    }

    #[test]
    fn the_url_is_the_one_that_the_client_wrote() {
        let app = ("host", "app.example");
        let seen = |target: &str, more: &[(&str, &str)]| {
            let headers: Vec<_> = std::iter::once(&app).chain(more).copied().collect();
            address(target, &headers).unwrap().0
        };
        assert_eq!(seen("/http/a%20b?c=%2f", &[]), "http://app.example/a%20b?c=%2f");
        assert_eq!(seen("/a", &[("x-forwarded-proto", "https, http")]), "https://app.example/a");
        assert_eq!(seen("/a", &[("x-forwarded-proto", "gopher")]), "http://app.example/a");
        let proxy = ("forwarded", "for=1;Proto=\"https\", proto=http");
        assert_eq!(seen("/a", &[proxy]), "https://app.example/a");
        assert_eq!(seen("/a", &[proxy, ("x-forwarded-proto", "http")]), "http://app.example/a");
        assert_eq!(address("/a", &[]).unwrap().0, "http://127.0.0.1:3211/a");
        assert_eq!(address("/http", &[("host", "[::1]:81")]).unwrap().0, "http://[::1]:81/");
        assert_eq!(address("/http/a%20b?c", &[app]).unwrap().1, "/a%20b");
        // What a handler reads off its URL is what its route was looked up by.
        let climbs = address("/http/open/../%2e%2e/secret|", &[app]).unwrap();
        assert_eq!(climbs, ("http://app.example/secret|".to_owned(), "/secret|".to_owned()));
        // HTTP/2 names the host in the target.
        assert_eq!(address("http://other.example/a", &[]).unwrap().0, "http://other.example/a");
    }

    #[test]
    fn a_host_that_would_move_the_request_is_refused() {
        for host in ["a/b", "a?b", "user@a", "a b", "", "a#", "a\\b"] {
            let refused = address("/secret", &[("host", host)]);
            assert!(
                refused.as_ref().is_err_and(|why| why.contains("no URL")),
                "{host} {refused:?}"
            );
        }
    }
}
