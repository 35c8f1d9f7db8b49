//! Uploads and downloads over HTTP (`convex-compat.md` section 4.5).
//!
//! In: a token and a stream of bytes; the UUID of a blob. Out: an id; a stream of bytes, or one
//! range of it.
//! Invariant: who has a token may store, who has a UUID may read; both are unguessable, and nothing
//! else is asked for. A body that ends early is an error, and leaves nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use database::durability::NOT_DURABLE;
use database::files::StoredFile;
use database::limits;
use futures_util::stream;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::json;
use storage::{BlobError, BlobId};

use super::json as answer;
use crate::files::{FileError, Promised, check_size, parse_sha256, stalled};
use crate::host::Host;
use crate::reading::Reading;
use crate::refusal::Failure;
use crate::request;

/// How a `Digest` header begins (RFC 3230).
const DIGEST: &str = "sha-256=";

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// `POST /api/storage/upload?token=…`
pub(crate) async fn upload(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let Token { token } = request::parameters(&head.uri).map_err(|_| {
        unauthorized("The upload URL has no token. Take it from `storage.generateUploadUrl()`.")
    })?;
    let component = host.files.granted(&token).map_err(|error| {
        unauthorized(format!(
            "The upload URL cannot be used: {error}. Ask `storage.generateUploadUrl()` for a new \
             one right before each upload."
        ))
    })?;
    let promised = promised(&head.headers)?;
    if let Some(length) = length(&head.headers) {
        check_size(length).map_err(FileError::from)?;
    }
    let mut incoming = host.files.receive().await?;
    let mut body = body;
    let patience = Duration::from_millis(limits::UPLOAD_STALL_MS);
    loop {
        let frame = tokio::time::timeout(patience, body.frame()).await.map_err(|_| stalled())?;
        match frame {
            // Trailers say nothing about the file.
            Some(Ok(frame)) => {
                incoming = incoming.push(frame.into_data().unwrap_or_default()).await?
            }
            Some(Err(error)) => return Err(FileError::Cut(error.to_string()).into()),
            None => break,
        }
    }
    let id = incoming.finish(component, promised).await?;
    Ok(answer(json!({ "storageId": id }).to_string()))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What the headers say about the file.
fn promised(headers: &HeaderMap) -> Result<Promised, Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = text("content-type").map(str::to_owned);
    let Some(digest) = text("digest") else {
        return Ok(Promised { content_type, sha256: None });
    };
    // A list of algorithms; others than SHA-256 are not for us.
    let hashes = digest.split(',').map(str::trim);
    let mut ours = hashes.filter_map(|hash| {
        let (name, value) = hash.split_at_checked(DIGEST.len())?;
        name.eq_ignore_ascii_case(DIGEST).then_some(value)
    });
    let Some(ours) = ours.next() else { return Ok(Promised { content_type, sha256: None }) };
    let sha256 = parse_sha256(ours).ok_or_else(|| {
        Failure::bad(
            "InvalidDigestHeader",
            format!("The header Digest is {digest:?}; write it as \"sha-256=<base64>\"."),
        )
    })?;
    Ok(Promised { content_type, sha256: Some(sha256) })
}

fn unauthorized(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, "StorageTokenInvalid", message)
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let message = error.to_string();
        let new = |status, code: &'static str| Self::new(status, code, message.clone());
        match error {
            FileError::User(error) if error.code == "FileTooLarge" => {
                new(StatusCode::PAYLOAD_TOO_LARGE, error.code)
            }
            FileError::User(error) => error.into(),
            FileError::Cut(_) => new(StatusCode::REQUEST_TIMEOUT, "ClientDisconnect"),
            FileError::Store(BlobError::Full { .. }) => {
                new(StatusCode::INSUFFICIENT_STORAGE, "FileStorageFull")
            }
            FileError::Store(BlobError::Io(_)) | FileError::Damaged(_) | FileError::Missing(_) => {
                Self::broken(message)
            }
            FileError::Undone(_) => new(StatusCode::SERVICE_UNAVAILABLE, NOT_DURABLE),
        }
    }
}

#[derive(Deserialize)]
struct Of {
    #[serde(default)]
    component: String,
}

/// `GET /api/storage/{uuid}`
pub(crate) async fn download(
    State(host): State<Arc<Host>>,
    Path(uuid): Path<String>,
    head: Parts,
) -> Result<Response, Failure> {
    let id: BlobId = uuid.parse().map_err(|error| {
        let message = format!("{uuid:?} names no file: {error}. Take the URL from `getUrl()`.");
        Failure::bad("InvalidStoragePath", message)
    })?;
    let Of { component } = request::parameters(&head.uri)?;
    let found = host.files.download(&component, id).await.map_err(|(file, why)| {
        host.unreadable(&file, &why);
        why
    });
    let Some((file, blob)) = found? else {
        let message = "There is no such file: it was deleted, or it never existed.";
        return Err(Failure::new(StatusCode::NOT_FOUND, "FileNotFound", message));
    };
    let asked = head.headers.get(header::RANGE).map(|range| range.to_str().unwrap_or(""));
    let part = match part(asked, file.size) {
        Ok(part) => part,
        Err(error) => return Ok(unsatisfiable(file.size, error)),
    };
    let (start, end) = part.unwrap_or((0, file.size));
    let body = match head.method {
        Method::HEAD => Body::empty(),
        _ => stream(Arc::clone(&host), &file, Reading::new(&file, blob, (start, end))),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let mut set = |name: header::HeaderName, text: &str| {
        // A content type came in as a header, so it can go out as one.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    if let Some(content_type) = &file.content_type {
        set(header::CONTENT_TYPE, content_type);
    }
    set(header::CONTENT_LENGTH, &(end - start).to_string());
    let digest = format!("{DIGEST}{}", STANDARD.encode(file.sha256));
    set(header::HeaderName::from_static("digest"), &digest);
    set(header::CACHE_CONTROL, "private, max-age=2592000");
    set(header::ACCEPT_RANGES, "bytes");
    if part.is_some() {
        set(header::CONTENT_RANGE, &format!("bytes {start}-{}/{}", end - 1, file.size));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// The bytes that a `Range` header asks for, as a half-open interval; `None`: all of them.
///
/// # Errors
/// A range that the file does not have, or more than one.
fn part(asked: Option<&str>, size: u64) -> Result<Option<(u64, u64)>, &'static str> {
    // Units that nobody knows are to be ignored (RFC 9110, section 14.2).
    let Some(ranges) = asked.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Ok(None);
    };
    if ranges.contains(',') {
        return Err("Only one range can be asked for at a time.");
    }
    let Some((first, last)) = ranges.trim().split_once('-') else { return Ok(None) };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What does not fit is beyond every file.
        true if !text.is_empty() => Some(text.parse().unwrap_or(u64::MAX)),
        _ => None,
    };
    let (start, end) = match (number(first.trim()), number(last.trim())) {
        (Some(first), Some(last)) if first <= last => (first, size.min(last.saturating_add(1))),
        (Some(first), None) if last.trim().is_empty() => (first, size),
        (None, Some(last)) if first.trim().is_empty() => (size - size.min(last), size),
        // A range that is none is to be ignored too.
        _ => return Ok(None),
    };
    if start < end { Ok(Some((start, end))) } else { Err("The file does not have these bytes.") }
}

fn unsatisfiable(size: u64, message: &str) -> Response {
    let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "RangeNotSatisfiable", message);
    let mut response = failure.into_response();
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}

/// Bytes of a file, read as the client takes them. An error cuts the response, which cannot say
/// why any more: the operator is told.
fn stream(host: Arc<Host>, file: &StoredFile, bytes: Reading) -> Body {
    let sending = (host, file.clone(), bytes);
    Body::from_stream(stream::unfold(sending, |(host, file, mut bytes)| async {
        let step = bytes.next().await?;
        if let Err(why) = &step {
            host.unreadable(&file, why);
        }
        Some((step, (host, file, bytes)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_single_and_within_the_file() {
        let ok = |asked: &str| part(Some(asked), 10).unwrap();
        assert_eq!(ok("bytes=0-3"), Some((0, 4)));
        assert_eq!(ok("bytes=4-"), Some((4, 10)));
        assert_eq!(ok("bytes=-3"), Some((7, 10)));
        assert_eq!(ok("bytes=-99"), Some((0, 10)));
        assert_eq!(ok("bytes=8-99999999999999999999999"), Some((8, 10)));
        for ignored in ["lines=1-2", "bytes=", "bytes=5", "bytes=5-2", "bytes=a-b", "bytes=-"] {
            assert_eq!(ok(ignored), None, "{ignored}");
        }
        for wrong in ["bytes=10-", "bytes=0-1,3-4", "bytes=-0", "bytes=99999999999999999999-"] {
            assert!(part(Some(wrong), 10).is_err(), "{wrong}");
        }
        assert!(part(Some("bytes=0-0"), 0).is_err());
        assert_eq!(part(None, 10), Ok(None));
    }

    #[test]
    fn digests_are_read_among_others() {
        let of = |digest: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("digest", digest.parse().unwrap());
            promised(&headers).map(|promised| promised.sha256)
        };
        let text = STANDARD.encode([5; 32]);
        assert_eq!(of(&format!("md5=x, SHA-256={text}")).unwrap(), Some([5; 32]));
        assert_eq!(of("md5=x").unwrap(), None);
        assert_eq!(of("sha-256=x").unwrap_err().code, "InvalidDigestHeader");
    }
}
