//! Which client asks, from the `Convex-Client` header (`convex-compat.md` sections 2.2, 4.3).
//!
//! In: `<name>-<semver>`. Out: the format of values that this client expects when it names none;
//! for a command line that is too old, the answer that makes it say so.
//! Invariant: no header is fine; a header that cannot be read is an error, never a guess.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use database::json::Format;

use crate::refusal::Failure;

/// Command lines before this one send a push in another shape.
const OLDEST_CLI: (u64, u64, u64) = (1, 30, 0);

/// The command line prints what is in it and stops.
const MESSAGE: HeaderName = HeaderName::from_static("x-convex-deprecation-message");

/// The format for a client that names none. Very old clients understood only the encoded form.
///
/// # Errors
/// 400 for a header that is not `<name>-<major>.<minor>.<patch>`.
pub(super) fn default_format(headers: &HeaderMap) -> Result<Format, Failure> {
    let Some(value) = headers.get("convex-client") else {
        return Ok(Format::Clean);
    };
    let (name, version) = value.to_str().ok().and_then(parse).ok_or_else(|| {
        Failure::bad(
            "InvalidClientVersion",
            format!(
                "The Convex-Client header is {value:?}; write \"<name>-<version>\", for example \
                 \"npm-1.48.0\", or leave it out."
            ),
        )
    })?;
    let encoded = match name {
        "npm" | "npm-cli" | "actions" => version <= (1, 4, 1),
        "python" => version <= (0, 5, 0),
        _ => false,
    };
    Ok(if encoded { Format::Encoded } else { Format::Clean })
}

/// Whether a client of the sync protocol puts a Transition together from chunks: the npm package
/// from 1.28.0 on, which names its version in the path and sends no header.
pub(crate) fn takes_chunks(path_version: Option<&str>, headers: &HeaderMap) -> bool {
    let named = headers.get("convex-client").and_then(|value| value.to_str().ok());
    let other = named.is_some_and(|name| !name.starts_with("npm"));
    let version = path_version.and_then(|version| parse(&format!("npm-{version}"))?.1.into());
    !other && version.is_some_and(|version: (u64, u64, u64)| version >= (1, 28, 0))
}

/// Turns away a command line whose deploy requests have another shape.
pub(crate) async fn supported(request: Request, next: Next) -> Response {
    let client = request.headers().get("convex-client").and_then(|value| value.to_str().ok());
    match client.and_then(parse) {
        Some(("npm-cli", version)) if version < OLDEST_CLI => outdated(version),
        _ => next.run(request).await,
    }
}

fn outdated((major, minor, patch): (u64, u64, u64)) -> Response {
    let message = format!(
        "The Convex CLI at version {major}.{minor}.{patch} is no longer supported. This \
         deployment needs version {}.{}.{} or newer: run `npm install convex@latest` and try \
         again.",
        OLDEST_CLI.0, OLDEST_CLI.1, OLDEST_CLI.2
    );
    let header = HeaderValue::from_str(&message);
    let mut response = Failure::bad("UpgradeRequired", message).into_response();
    let headers = response.headers_mut();
    headers.insert("x-convex-deprecation-state", HeaderValue::from_static("Deprecated"));
    headers.extend(header.map(|text| (MESSAGE, text)));
    response
}

/// Splits before the first digit that follows a `-`; a pre-release or build suffix is ignored.
fn parse(text: &str) -> Option<(&str, (u64, u64, u64))> {
    let starts_version =
        |&(at, _): &(usize, &str)| text[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    let (at, _) = text.match_indices('-').find(starts_version)?;
    let core = text[at + 1..].split(['-', '+']).next()?;
    let mut numbers = core.split('.').map(|number| number.parse::<u64>().ok());
    let version = (numbers.next()??, numbers.next()??, numbers.next()??);
    (at > 0 && numbers.next().is_none()).then_some((&text[..at], version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        assert_eq!(parse("npm-1.48.0"), Some(("npm", (1, 48, 0))));
        assert_eq!(parse("npm-cli-1.48.0-alpha.2"), Some(("npm-cli", (1, 48, 0))));
        assert_eq!(parse("python-0.5.0+x"), Some(("python", (0, 5, 0))));
        for wrong in ["", "npm", "npm-", "npm-1", "npm-1.2", "npm-1.2.3.4", "-1.2.3", "npm-1.b.3"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_very_old_clients_default_to_the_encoded_form() {
        let format = |client: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("convex-client", client.parse().unwrap());
            default_format(&headers)
        };
        assert!(matches!(format("npm-1.4.1"), Ok(Format::Encoded)));
        assert!(matches!(format("npm-1.4.2"), Ok(Format::Clean)));
        assert!(matches!(format("rust-0.1.0"), Ok(Format::Clean)));
        assert!(matches!(default_format(&HeaderMap::new()), Ok(Format::Clean)));
        assert_eq!(format("mine").err().unwrap().status, 400);
    }
}
