//! From bytes to a typed request.
//!
//! In: a body and the type it should have. Out: the value, or a 400/413 that says which line and
//! column or which field is wrong.
//! Invariant: a body is read once, parsed once unless it is wrong (`strict.rs`), and never held
//! beyond its limit.

use std::borrow::Cow;
use std::error::Error as _;
use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use bytes::Bytes;
use database::limits;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;

use crate::refusal::Failure;
use crate::strict::{self, Wrong};

/// Largest body of a function endpoint, bytes.
pub(crate) const CALL_BODY: usize = limits::HTTP_BODY_BYTES as usize;

/// Largest push, compressed or not, bytes.
pub(crate) const PUSH_BODY: usize = limits::PUSH_BODY_BYTES as usize;

/// A string that borrows from the body where it can. `Option<Cow<str>>` would always copy.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Reads a whole body.
///
/// # Errors
/// 413 beyond `limit` bytes; 408 when the client went away or sends too slowly.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes, Failure> {
    let ended = |why| Failure::new(StatusCode::REQUEST_TIMEOUT, "ClientDisconnect", why);
    let patience = Duration::from_millis(limits::HTTP_CALL_MS);
    let collected = tokio::time::timeout(patience, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(error)) => Err(ended(format!("The request body ended early: {error}"))),
        Err(_) => {
            let seconds = patience.as_secs();
            Err(ended(format!("The request body did not arrive within {seconds} s.")))
        }
    }
}

/// Turns a body away that is encoded: a call's is not.
///
/// # Errors
/// 415 with the encoding.
pub(crate) fn refuse_encoded(headers: &HeaderMap) -> Result<(), Failure> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(encoding) = encodings.find(|name| !name.as_bytes().eq_ignore_ascii_case(b"identity"))
    else {
        return Ok(());
    };
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    Err(Failure::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UnsupportedContentEncoding",
        format!("Content-Encoding is {encoding:?}; send the JSON as it is, without that header."),
    ))
}

/// Undoes `Content-Encoding: br`, the only compression the CLI uses.
///
/// # Errors
/// 400 for another encoding or broken data, 413 beyond `limit` bytes of plain text.
pub(crate) fn plain(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, Failure> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(&b"identity"[..], |h| h.as_bytes());
    if encoding.eq_ignore_ascii_case(b"identity") {
        return Ok(body);
    }
    if !encoding.eq_ignore_ascii_case(b"br") {
        let encoding = String::from_utf8_lossy(encoding);
        return Err(Failure::bad(
            "BadContentEncoding",
            format!("Content-Encoding is {encoding:?}; send plain JSON or \"br\" (brotli)."),
        ));
    }
    let mut text = Vec::new();
    let bounded = brotli::Decompressor::new(&body[..], 64 * 1024);
    bounded.take(limit as u64 + 1).read_to_end(&mut text).map_err(|error| {
        Failure::bad("BadContentEncoding", format!("The body is not valid brotli: {error}"))
    })?;
    if text.len() > limit { Err(too_large(limit)) } else { Ok(text.into()) }
}

fn too_large(limit: usize) -> Failure {
    let message = format!("Request body is too large: the limit is {limit} bytes.");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", message)
}

/// Parses a JSON body. The `Content-Type` is not looked at: clients differ.
///
/// # Errors
/// 400 with line and column, and the field's name where a field has the wrong type.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    strict::from_slice(body).map_err(|wrong| {
        let message = match wrong {
            _ if body.is_empty() => "The request body is empty; send a JSON object.".to_owned(),
            Wrong::Syntax(why) => format!("The request body is not valid JSON: {why}"),
            Wrong::Shape { field, why } if field.is_empty() => {
                format!("The request body is wrong: {why}")
            }
            Wrong::Shape { field, why } => format!("The request body is wrong at `{field}`: {why}"),
        };
        Failure::bad("BadJsonBody", message)
    })
}

/// Reads the query string of a URL into named parameters.
///
/// # Errors
/// 400 when a parameter is missing or doubled.
pub(crate) fn parameters<T: serde::de::DeserializeOwned>(uri: &Uri) -> Result<T, Failure> {
    axum::extract::Query::try_from_uri(uri)
        .map(|axum::extract::Query(parameters)| parameters)
        .map_err(|error| {
            // Its own words begin with "Failed to deserialize".
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Failure::bad("BadQueryParameters", format!("The URL's query string is wrong: {why}."))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[derive(Debug, Deserialize)]
    struct Asked<'a> {
        #[serde(borrow)]
        path: Cow<'a, str>,
        #[serde(borrow)]
        args: Option<&'a RawValue>,
    }

    fn message(body: &str) -> String {
        let failure = parse::<Asked<'_>>(body.as_bytes()).expect_err("it is wrong");
        assert_eq!((failure.status.as_u16(), &*failure.code), (400, "BadJsonBody"));
        failure.message
    }

    #[test]
    fn borrows_and_keeps_text() {
        let asked: Asked<'_> = parse(br#"{"path":"a:b","args":[{"x": 1}],"new":2}"#).unwrap();
        assert!(matches!(asked.path, Cow::Borrowed("a:b")));
        assert_eq!(asked.args.unwrap().get(), r#"[{"x": 1}]"#);
    }

    #[test]
    fn says_where_it_is_wrong() {
        assert!(message("{\n \"path\" 1}").contains("line 2 column 9"));
        assert!(message("").contains("is empty"));
        assert!(message("{}").contains("missing field `path`"));
        let typed = message(r#"{"path":3}"#);
        assert!(typed.contains("at `path`") && typed.contains("expected a string"), "{typed}");
    }

    #[test]
    fn a_query_string_says_what_is_wrong_with_it() {
        #[derive(Debug, Deserialize)]
        struct Asked {
            #[expect(dead_code, reason = "only whether it is there counts")]
            path: String,
        }
        let failure = parameters::<Asked>(&Uri::from_static("/api/query?x=1")).unwrap_err();
        let told = "The URL's query string is wrong: missing field `path`.";
        assert_eq!((&*failure.code, &*failure.message), ("BadQueryParameters", told));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let mut packed = Vec::new();
        let mut zeros: &[u8] = &[b' '; 100_000];
        brotli::BrotliCompress(&mut zeros, &mut packed, &Default::default()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "BR".parse().unwrap());
        let packed = Bytes::from(packed);
        assert_eq!(plain(&headers, packed.clone(), 100_000).unwrap().len(), 100_000);
        assert_eq!(plain(&headers, packed, 99_999).unwrap_err().status, 413);
        let junk = Bytes::from_static(b"\xff\xff\xff");
        assert_eq!(&*plain(&headers, junk, 10).unwrap_err().code, "BadContentEncoding");
    }
}
