//! The origin of HTTP actions, and `/http/` on the other one (`convex-compat.md` sections 1.4,
//! 4.6).
//!
//! In: any request. Out: what the app's `http.ts` answers, byte for byte as it comes; in its place
//! 404 as text where nothing matches, 500 as JSON where the handler threw.
//! Invariant: nobody is turned away for who they are: a header that proves nothing may be the app's
//! own, and only `getUserIdentity()` throws what is wrong with it.
//!
//! ```text
//! address.rs  the URL that the handler sees
//! route.rs    the component whose router it is for
//! upload.rs   the request's body on its way in
//! waiting.rs  the time until the handler answers, with its client or without
//! answer.rs   the response's body on its way out, and the event at its end
//! ```

mod address;
mod answer;
mod route;
mod upload;
mod waiting;

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use database::error::{Refusal, UserError};
use database::json::{self, Format};
use database::record::{FunctionError, Identity};
use database::snapshot::Deployment;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::answer::error_text;
use crate::host::Host;
use crate::refusal::Failure;
use crate::{Content, HttpFailure, HttpRequest, HttpResponse};
use address::Address;
use answer::{Answer, Here, Told};
use waiting::Waiting;

/// Upstream's words for an app without `http.ts`.
const NO_HTTP: &str = "This Convex deployment does not have HTTP actions enabled.";
/// Upstream's words for a path that no route takes.
const NO_ROUTE: &str = "No matching routes found";
/// Headers about the connection between client and host: theirs, not the app's.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
    header::TE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// Statuses whose responses end with their head, whatever the handler put into them.
const BODILESS: [StatusCode; 3] =
    [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];

/// Any method, any path of the origin that is the app's own.
pub(crate) async fn request(State(host): State<Arc<Host>>, request: Request) -> Response {
    serve(host, request, "").await
}

/// Any method, any path below `/http` of the other origin.
pub(crate) async fn mounted(State(host): State<Arc<Host>>, request: Request) -> Response {
    serve(host, request, "/http").await
}

async fn serve(host: Arc<Host>, request: Request, mount: &str) -> Response {
    let Some(deployment) = routed(&host) else {
        return (StatusCode::NOT_FOUND, NO_HTTP).into_response();
    };
    let (head, body) = request.into_parts();
    let address = match Address::of(&head, mount, &host.config.site_origin) {
        Ok(address) => address,
        Err(failure) => return failure.into_response(),
    };
    let request_id = host.request_id();
    let Some((component, routed_path)) = route::find(&deployment, &head.method, &address.path)
    else {
        return (StatusCode::NOT_FOUND, NO_ROUTE).into_response();
    };
    let told = Told::new(&host, &request_id, &head.method, &address.path);
    let (here, gone) = oneshot::channel();
    let request = HttpRequest {
        url: address.url,
        component,
        routed_path,
        method: head.method.as_str().to_owned(),
        headers: headers(&head.headers),
        body: bodied(&head.method).then(|| upload::receive(body)).flatten(),
        identity: identity(&host, &head).await,
        request_id: request_id.clone(),
        deployment,
        gone,
    };
    let answering = host.http_actions.fetch(request);
    let (answer, told, here) = Waiting::new(answering, told, here).await;
    match answer {
        Ok(response) => respond(response, told, here, &request_id),
        Err(failure) => failed(failure, told, &request_id, host.config.redact),
    }
}

/// What is running, if it has an `http.ts`, or a component under a prefix.
fn routed(host: &Host) -> Option<Arc<Deployment>> {
    let deployment = host.database.snapshot().deployment.clone()?;
    let has_mounts = deployment.analysis.components.mounts.contains_key("");
    (has_mounts || route::has_router(&deployment.analysis)).then_some(deployment)
}

/// Whether a request of this method has a body for the handler.
fn bodied(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

async fn identity(host: &Host, head: &Parts) -> Result<Identity, UserError> {
    let identified = host.identify_by_header(head).await;
    identified.map(|authenticated| authenticated.identity).map_err(|failure| {
        let code = match failure.code {
            Cow::Borrowed(code) => code,
            Cow::Owned(_) => "Unauthenticated",
        };
        UserError::new(code, failure.message)
    })
}

/// Names and values as JavaScript holds them: one character a byte.
fn headers(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| match value.to_str() {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    };
    map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// The head of a response; its body follows by itself.
fn respond(response: HttpResponse, mut told: Told, here: Here, request_id: &str) -> Response {
    let HttpResponse { status, headers, body, end } = response;
    match head(status, &headers) {
        Ok(mut answer) => {
            told.answered(answer.status());
            if BODILESS.contains(&answer.status()) {
                answer.headers_mut().remove(header::CONTENT_LENGTH);
                match body {
                    // Its handler is told that nobody reads, as where a client has gone.
                    Content::Stream(chunks) => drop(Answer::new(chunks, end, told, here)),
                    Content::Whole(_) => told.end_with(end),
                }
                return answer;
            }
            *answer.body_mut() = match body {
                Content::Stream(chunks) => {
                    let promised = answer.headers().get(header::CONTENT_LENGTH);
                    let promised = promised.and_then(|length| length.to_str().ok()?.parse().ok());
                    Body::from_stream(Answer::new(chunks, end, told, here).promised(promised))
                }
                Content::Whole(bytes) => {
                    // What is there is what counts; a handler may have copied another's headers.
                    answer.headers_mut().remove(header::CONTENT_LENGTH);
                    told.end_with(end);
                    Body::from(bytes)
                }
            };
            answer
        }
        Err(why) => {
            let error = FunctionError { message: format!("Uncaught TypeError: {why}"), data: None };
            let redact = told.redacts();
            failed(HttpFailure::Threw(error, Vec::new()), told, request_id, redact)
        }
    }
}

/// Status and headers, where HTTP can carry them.
fn head(status: u16, headers: &[(String, String)]) -> Result<Response, String> {
    let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status.ok_or("The response's status is no final HTTP status.")?;
    for (name, value) in headers {
        let broken = || format!("The response's header {name:?} cannot be sent.");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken())?;
        if HOP_BY_HOP.contains(&name) {
            continue;
        }
        let is_length = name == header::CONTENT_LENGTH;
        if is_length && (value.parse::<u64>().is_err() || answer.headers().contains_key(&name)) {
            return Err(broken());
        }
        let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        let value = value.ok_or_else(broken)?;
        if answer.headers_mut().try_append(name, value).is_err() {
            return Err("The response has too many headers to be sent.".to_owned());
        }
    }
    Ok(answer)
}

/// The host's answer in place of a response.
fn failed(failure: HttpFailure, mut told: Told, request_id: &str, redact: bool) -> Response {
    match failure {
        HttpFailure::NoRoute => {
            told.finish(StatusCode::NOT_FOUND, None, Vec::new());
            (StatusCode::NOT_FOUND, NO_ROUTE).into_response()
        }
        HttpFailure::Threw(error, log_lines) => {
            let body = thrown(&error, request_id, redact);
            told.finish(StatusCode::INTERNAL_SERVER_ERROR, Some(error.message), log_lines);
            let mut response = super::json(body);
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
        HttpFailure::Refused(refusal) => refused(refusal, told, redact),
    }
}

fn refused(refusal: Refusal, mut told: Told, redact: bool) -> Response {
    let why = refusal.to_string();
    let failure = Failure::refused(refusal, redact);
    told.finish(failure.status, Some(why), Vec::new());
    failure.into_response()
}

/// `{"code":"[Request ID: …] Server Error: …","trace":"…","data":…}`; redacted, the trace and what
/// follows `Server Error` stay on this side. What a ConvexError says is always for the client.
fn thrown(error: &FunctionError, request_id: &str, redact: bool) -> String {
    let whole = error_text(request_id, error, true);
    let mut body = Map::new();
    if redact {
        body.insert("code".into(), whole.into());
    } else {
        let message = error.message.split("\n    at ").next().unwrap_or_default().trim_end();
        body.insert("code".into(), format!("{whole}: {message}").into());
        body.insert("trace".into(), error.message.clone().into());
    }
    let mut text = Value::Object(body).to_string();
    let data = error.data.as_deref().and_then(|data| json::decode(data).ok());
    let data = data.map(|data| json::export(&data, Format::Clean));
    // The exported text is JSON; RawValue makes sure of it, since it is pasted in.
    if let Some(data) = data.and_then(|data| RawValue::from_string(data).ok()) {
        text.pop();
        text.push_str(&format!(r#","data":{data}}}"#));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_as_far_as_it_may_be() {
        let message = "Uncaught ConvexError: {\"n\":1}\n    at handler (../convex/http.ts:3:9)\n";
        let data = Some(r#"{"n":{"$integer":"AQAAAAAAAAA="}}"#.to_owned());
        let error = FunctionError { message: message.into(), data };
        let told: Value = serde_json::from_str(&thrown(&error, "7", false)).unwrap();
        assert_eq!(
            told["code"], "[Request ID: 7] Server Error: Uncaught ConvexError: {\"n\":1}",
            "{told}"
        );
        assert_eq!((&told["trace"], &told["data"]["n"]), (&message.into(), &"1".into()));
        let redacted = thrown(&error, "7", true);
        assert_eq!(redacted, r#"{"code":"[Request ID: 7] Server Error","data":{"n":"1"}}"#);
        let plain = thrown(&FunctionError { data: None, ..error }, "7", true);
        assert_eq!(plain, r#"{"code":"[Request ID: 7] Server Error"}"#);
    }

    #[test]
    fn a_head_that_http_cannot_carry_says_which_part() {
        let pair = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
        assert!(head(101, &[]).unwrap_err().contains("status"));
        assert!(head(200, &pair("x y", "1")).unwrap_err().contains("\"x y\""));
        assert!(head(200, &pair("x", "\u{100}")).unwrap_err().contains("\"x\""));
        assert!(head(200, &pair("x", "a\nb")).is_err());
        let many: Vec<_> = (0..40_000).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
        assert!(head(200, &many).unwrap_err().contains("too many headers"));
        let latin = head(200, &pair("x", "\u{e9}")).unwrap();
        assert_eq!(latin.headers()["x"].as_bytes(), b"\xe9");
        assert!(head(200, &pair("transfer-encoding", "chunked")).unwrap().headers().is_empty());
    }
}
