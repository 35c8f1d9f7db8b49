//! URLPattern's parsers, as plain functions over JSON text.
//!
//! In: what `ext:deno_web/01_urlpattern.js` passes to its ops. Out: JSON text of their results.
//! Invariant: pure; the syntax is that of the `urlpattern` crate, as in actions.

use serde::{Deserialize, Serialize};
use urlpattern::quirks::{self, StringOrInit};

/// A pattern that has a mistake, or an input that is no URL where one must be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl From<urlpattern::Error> for PatternError {
    fn from(error: urlpattern::Error) -> Self {
        Self(error.to_string())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    input: StringOrInit,
    #[serde(default)]
    base: Option<String>,
    #[serde(default)]
    ignore_case: bool,
}

impl Request {
    fn read(json: &str) -> Result<Self, PatternError> {
        serde_json::from_str(json).map_err(|e| PatternError(format!("not a pattern: {e}")))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    pattern_string: String,
    regexp_string: String,
    group_name_list: Vec<String>,
}

impl From<quirks::UrlPatternComponent> for Component {
    fn from(part: quirks::UrlPatternComponent) -> Self {
        Self {
            pattern_string: part.pattern_string,
            regexp_string: part.regexp_string,
            group_name_list: part.group_name_list,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pattern {
    protocol: Component,
    username: Component,
    password: Component,
    hostname: Component,
    port: Component,
    pathname: Component,
    search: Component,
    hash: Component,
    has_regexp_groups: bool,
}

/// `{input, base?, ignoreCase?}` → the eight components as regular expressions, each
/// `{patternString, regexpString, groupNameList}`, and `hasRegexpGroups`.
///
/// # Errors
/// See [`PatternError`].
pub fn parse(json: &str) -> Result<String, PatternError> {
    let request = Request::read(json)?;
    let init = quirks::process_construct_pattern_input(request.input, request.base.as_deref())?;
    let options = urlpattern::UrlPatternOptions { ignore_case: request.ignore_case };
    let found = quirks::parse_pattern(init, options)?;
    let pattern = Pattern {
        protocol: found.protocol.into(),
        username: found.username.into(),
        password: found.password.into(),
        hostname: found.hostname.into(),
        port: found.port.into(),
        pathname: found.pathname.into(),
        search: found.search.into(),
        hash: found.hash.into(),
        has_regexp_groups: found.has_regexp_groups,
    };
    Ok(serde_json::to_string(&pattern).expect("strings and lists of them serialise"))
}

/// `{input, base?}` → a list of the eight parts that a pattern is matched with, or `null` where the
/// input is no URL.
///
/// # Errors
/// A base together with an object.
pub fn match_input(json: &str) -> Result<String, PatternError> {
    let request = Request::read(json)?;
    let input = quirks::process_match_input(request.input, request.base.as_deref())?;
    let parts = input.and_then(|(input, _)| quirks::parse_match_input(input)).map(|found| {
        [
            found.protocol,
            found.username,
            found.password,
            found.hostname,
            found.port,
            found.pathname,
            found.search,
            found.hash,
        ]
    });
    Ok(serde_json::to_string(&parts).expect("strings and lists of them serialise"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_regular_expressions() {
        let text = parse(r#"{"input": {"pathname": "/a/:b"}}"#).unwrap();
        assert!(text.contains(r#""patternString":"/a/:b""#), "{text}");
        assert!(text.contains(r#""groupNameList":["b"]"#), "{text}");
        let error = parse(r#"{"input": {"pathname": "/a/:"}}"#).unwrap_err();
        assert!(!error.to_string().is_empty());
    }

    #[test]
    fn what_is_no_url_matches_nothing() {
        let parts = match_input(r#"{"input": "https://x/a?b"}"#).unwrap();
        assert_eq!(parts, r#"["https","","","x","","/a","b",""]"#);
        assert_eq!(match_input(r#"{"input": "no url"}"#).unwrap(), "null");
    }
}
