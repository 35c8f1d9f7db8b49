//! The seam to HTTP actions: a request out, a response back, bodies as they come.
//!
//! In: what `convex/site.rs` took off a socket. Out: what the root package's workers answered.
//! Invariant: bodies that are streams have a bounded buffer: neither side holds a whole one.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use database::error::{Refusal, UserError};
use database::record::{FunctionError, Identity, LogLine};
use database::snapshot::Deployment;
use tokio::sync::{mpsc, oneshot};

/// Chunks of a body; an error ends it, and says why it is not whole.
pub type Body = mpsc::Receiver<Result<Bytes, String>>;

/// Resolves when the client is not waiting any more: it has left, or has its whole answer.
pub type Gone = oneshot::Receiver<Infallible>;

/// A request for the router of `http.ts`.
#[derive(Debug)]
pub struct HttpRequest {
    /// The whole URL in its normal form, without `/http` where that names the app.
    pub url: String,
    /// The component whose router gets it; empty for the app's.
    pub component: Arc<str>,
    /// Its path for that router, as in the URL: percent-encoded.
    pub routed_path: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// Headers in order, names in lower case; one character a byte of the value.
    pub headers: Vec<(String, String)>,
    /// `None` for GET, HEAD and OPTIONS, and where the client sends none.
    pub body: Option<Body>,
    /// Who calls; with an error, `getUserIdentity()` throws it.
    pub identity: Result<Identity, UserError>,
    /// Names the request in logs and errors.
    pub request_id: Arc<str>,
    /// The code to run.
    pub deployment: Arc<Deployment>,
    /// Whether somebody waits for the answer.
    pub gone: Gone,
}

/// What the handler answered; console lines and a late error come when it has ended.
#[derive(Debug)]
pub struct HttpResponse {
    /// 200, 404, …
    pub status: u16,
    /// Headers in order; one character a byte of the value.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Content,
    /// Its end, after the last byte of the body.
    pub end: oneshot::Receiver<HttpEnd>,
}

/// The body of a response.
#[derive(Debug)]
pub enum Content {
    /// All of it; its client is told how long it is.
    Whole(Bytes),
    /// What the handler is still making. Dropped, it tells the handler that nobody reads on.
    Stream(Body),
}

/// How an HTTP action ended.
#[derive(Debug)]
pub struct HttpEnd {
    /// The route that answered, as `http.ts` names it: `/path` or `/prefix/*`.
    pub route: Option<String>,
    /// What went wrong after the head was sent.
    pub error: Option<FunctionError>,
    /// Console lines, in order.
    pub log_lines: Vec<LogLine>,
}

/// Why there is no response.
#[derive(Debug)]
pub enum HttpFailure {
    /// No route matches: 404 `No matching routes found`.
    NoRoute,
    /// The handler threw before it answered; with its console lines.
    Threw(FunctionError, Vec<LogLine>),
    /// It was not run.
    Refused(Refusal),
}

/// A response that is being made.
pub type Answering = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpFailure>> + Send>>;

/// Runs HTTP actions. The root package implements it with worker processes; tests implement it with
/// closures. A client that leaves does not end its handler: [`HttpRequest::gone`] resolves, the
/// body of the response is dropped, and what the handler has begun it may finish. The future is
/// dropped only when the host stops.
pub trait HttpActions: Send + Sync + 'static {
    /// Hands a request to the router of `http.ts`.
    fn fetch(&self, request: HttpRequest) -> Answering;
}
