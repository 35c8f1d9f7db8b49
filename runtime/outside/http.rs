//! HTTP actions: a request to the router of `http.ts` in a worker, its response back.
//!
//! In: requests from `server`. Out: responses. Invariant: bodies are handed on chunk by chunk; a
//! response that nobody reads any more ends its handler.

use std::sync::Arc;

use ::actions::pool::{Ended, Input, Job, ResponseHead, Running};
use ::actions::protocol::End;
use database::record::{FunctionError, FunctionPath};
use server::{Answering, HttpEnd, HttpFailure, HttpRequest, HttpResponse};
use tokio::sync::{mpsc, oneshot};

use super::calls::Calls;
use super::{Outside, Version, log_line};

/// The module and export that is the router.
const ROUTER: (&str, &str) = ("http.js", "default");

/// Hands a request to the router.
pub(super) fn fetch(outside: Option<Arc<Outside>>, request: HttpRequest) -> Answering {
    Box::pin(async move {
        let Some(outside) = outside else {
            let message = "The host is shutting down.".to_owned();
            return Err(HttpFailure::Threw(FunctionError { message, data: None }, Vec::new()));
        };
        let version = outside.version(&request.deployment);
        let (module, export) = ROUTER;
        let path = FunctionPath {
            component: "".into(),
            module: module.into(),
            export: format!("{} {}", request.method, request.routed_path).into(),
        };
        let calls = Arc::new(Calls::of_request(&outside, &request, path));
        let job = Job {
            code: Arc::clone(&version.code),
            environment: outside.environment(),
            module: module.to_owned(),
            export: export.to_owned(),
            request_id: request.request_id.to_string(),
            timeout: outside.timeout,
            input: Input::Http {
                url: request.url,
                routed_path: request.routed_path,
                method: request.method,
                headers: request.headers,
                body: request.body,
            },
        };
        match outside.pool.run(job, calls).await {
            Ok(running) => answer(version, running).await,
            Err(refused) => Err(failure(&version, refused)),
        }
    })
}

/// Waits for the head, or for an end without one.
async fn answer(version: Arc<Version>, mut running: Running) -> Result<HttpResponse, HttpFailure> {
    match (&mut running.head).await {
        Ok(head) => Ok(respond(version, running, head)),
        Err(_) => Err(failure(&version, running.end().await)),
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
    let (chunks, to_client) = mpsc::channel(1);
    let (tell, end) = oneshot::channel();
    tokio::spawn(async move {
        if let Some(mut body) = body {
            while let Some(chunk) = body.recv().await {
                if chunks.send(chunk).await.is_err() {
                    // The client is gone: dropping the run stops its handler.
                    return;
                }
            }
        }
        drop(chunks);
        let ended = running.end().await;
        let log_lines = ended.lines.iter().cloned().map(log_line).collect();
        let error = version.end(ended).result.err();
        // Nobody wants to know.
        let _ = tell.send(HttpEnd { route, error, log_lines });
    });
    HttpResponse { status, headers, body: to_client, end }
}
