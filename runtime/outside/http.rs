//! HTTP actions: a request to the router of `http.ts` in a worker, its response back.
//!
//! In: requests from `server`. Out: responses. Invariant: bodies are handed on chunk by chunk; a
//! handler whose client has left is told so, and what it has begun it may finish.

use std::sync::Arc;

use ::actions::pool::{self, Ended, Input, Job, ResponseHead, Running};
use ::actions::protocol::End;
use ::actions::streams::Body;
use bytes::Bytes;
use database::error::Refusal;
use database::record::{ActionEnd, FunctionError, FunctionPath};
use server::{Answering, Content, Gone, HttpEnd, HttpFailure, HttpRequest, HttpResponse};
use tokio::sync::{mpsc, oneshot};

use super::calls::Calls;
use super::{Outside, Version};

/// The module and export that is the router.
const ROUTER: (&str, &str) = ("http.js", "default");

/// Hands a request to the router.
pub(super) fn fetch(outside: Option<Arc<Outside>>, request: HttpRequest) -> Answering {
    Box::pin(async move {
        let Some(outside) = outside else {
            let message = "The host is shutting down.".to_owned();
            return Err(HttpFailure::Threw(FunctionError { message, data: None }, Vec::new()));
        };
        let component = Arc::clone(&request.component);
        let Some(version) = outside.version(&request.deployment, &component) else {
            return Err(HttpFailure::NoRoute);
        };
        let environment = outside.environment(&request.deployment, &component);
        let (module, export) = ROUTER;
        let path = FunctionPath {
            component,
            module: module.into(),
            export: format!("{} {}", request.method, request.routed_path).into(),
        };
        let calls = Arc::new(Calls::of_request(&outside, &request, path, &version));
        let job = Job {
            code: Arc::clone(&version.code),
            environment,
            module: module.to_owned(),
            export: export.to_owned(),
            request_id: request.request_id.to_string(),
            timeout: outside.timeout,
            reuse: version.reuses(module),
            input: Input::Http {
                url: request.url,
                routed_path: request.routed_path,
                method: request.method,
                headers: request.headers,
                body: request.body,
            },
        };
        match outside.pool.run(job, calls).await {
            Ok(running) => answer(version, running, request.gone).await,
            Err(refused) => Err(not_begun(failure(&version, refused))),
        }
    })
}

/// Waits for the head, or for an end without one.
async fn answer(
    version: Arc<Version>,
    mut running: Running,
    gone: Gone,
) -> Result<HttpResponse, HttpFailure> {
    let head = tokio::select! {
        head = &mut running.head => head,
        _ = gone => {
            running.client_left();
            (&mut running.head).await
        }
    };
    match head {
        Ok(head) => Ok(respond(version, running, head)),
        Err(_) => Err(failure(&version, running.end().await)),
    }
}

/// The host could not begin it.
fn not_begun(failure: HttpFailure) -> HttpFailure {
    match failure {
        HttpFailure::Threw(FunctionError { message, .. }, _) => {
            HttpFailure::Refused(Refusal::Overloaded { code: "ActionNotStarted", message })
        }
        failure => failure,
    }
}

fn failure(version: &Version, ended: Ended) -> HttpFailure {
    if ended.end == End::NoRoute {
        return HttpFailure::NoRoute;
    }
    let ended = version.end(ended);
    let error = ended.result.err().unwrap_or_else(|| FunctionError {
        message: "The handler ended without a response.".to_owned(),
        data: None,
    });
    HttpFailure::Threw(error, ended.log_lines)
}

fn respond(version: Arc<Version>, mut running: Running, head: ResponseHead) -> HttpResponse {
    let ResponseHead { status, headers, body, route } = head;
    let (tell, end) = oneshot::channel();
    let (body, to_send) = match body {
        pool::Content::Whole(bytes) => (Content::Whole(bytes), None),
        pool::Content::Stream(body) => {
            let (chunks, to_client) = mpsc::channel(1);
            (Content::Stream(to_client), Some((body, chunks)))
        }
    };
    tokio::spawn(async move {
        if let Some((body, chunks)) = to_send
            && !send(body, &chunks).await
        {
            running.client_left();
        }
        let ended = running.end().await;
        let ActionEnd { result, log_lines, .. } = version.end(ended);
        let error = result.err();
        // Nobody wants to know.
        let _ = tell.send(HttpEnd { route, error, log_lines });
    });
    HttpResponse { status, headers, body, end }
}

/// Hands on all of a body; false when nobody reads on.
async fn send(mut body: Body, chunks: &mpsc::Sender<Result<Bytes, String>>) -> bool {
    loop {
        let chunk = tokio::select! {
            chunk = body.recv() => chunk,
            () = chunks.closed() => return false,
        };
        let Some(chunk) = chunk else { return true };
        if chunks.send(chunk).await.is_err() {
            return false;
        }
    }
}
