//! The deploy protocol (`convex-compat.md` sections 6.2 to 6.8): from modules to a running
//! deployment.
//!
//! ```text
//! get_config_hashes    which modules need not be sent again
//! evaluate_schema      what the new schema would do: evaluate.rs     ┐ assemble.rs: a bundle;
//! evaluate_push        the same for CLIs before 1.46                 │ analyzed, in the protocol's
//! start_push           for code generation: started.rs               ┘ words: definition.rs
//! wait_for_schema      do the documents that exist fit? staged.rs: those of a later push, too?
//! finish_push          make it the running deployment: finish.rs
//! report_push_completed
//! between two requests: pending.rs; what changes of the indexes: indexes.rs
//! ```
//!
//! In: brotli JSON from the CLI. Out: the JSON that it checks with zod.
//! Invariant: until `finish_push` has activated the analyzed bundle, nothing that serves changes;
//! when anything fails, what was serving goes on.

mod assemble;
mod definition;
mod evaluate;
mod finish;
mod indexes;
mod pending;
mod staged;
mod started;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;

pub(crate) use assemble::StartPush;
pub(crate) use pending::Pushes;

use super::json;
use crate::host::Host;
use crate::refusal::Failure;
use crate::request::{self, CALL_BODY, PUSH_BODY};
use database::deployment::Bundle;
use finish::FinishPush;
use pending::SchemaChange;

type Shared = State<Arc<Host>>;

/// `POST /api/get_config_hashes`
pub(crate) async fn get_config_hashes(
    State(host): Shared,
    request: Request,
) -> Result<Response, Failure> {
    /// Nothing but the key matters; every CLI that can push here sends 1.4x shapes.
    #[derive(Deserialize)]
    struct Asked {
        #[serde(rename = "adminKey")]
        admin_key: Option<String>,
    }
    impl Keyed for Asked {
        fn admin_key(&self) -> Option<&str> {
            self.admin_key.as_deref()
        }
    }
    on_a_worker(host, request, |host, _: Asked| Ok(assemble::hashes(host))).await
}

/// `POST /api/deploy2/start_push`: analysis, without any effect.
pub(crate) async fn start_push(State(host): Shared, request: Request) -> Result<Response, Failure> {
    on_a_worker(host, request, |host, asked: StartPush| {
        let watch = host.stopwatch();
        let response =
            pending::analyze(host, asked).and_then(|push| started::response(host, &push));
        // Success is told by `finish_push`; the evaluations before are only the CLI's questions.
        if let Err(failure) = &response {
            finish::tell_failure(host, watch, failure);
        }
        response
    })
    .await
}

/// `POST /api/deploy2/evaluate_push`: the schema's part of `start_push`.
pub(crate) async fn evaluate_push(
    State(host): Shared,
    request: Request,
) -> Result<Response, Failure> {
    on_a_worker(host, request, |host, asked: StartPush| {
        let push = pending::analyze(host, asked)?;
        started::evaluation(&push)
    })
    .await
}

/// `POST /api/deploy2/evaluate_schema`: what the push would do to tables and indexes.
pub(crate) async fn evaluate_schema(
    State(host): Shared,
    request: Request,
) -> Result<Response, Failure> {
    on_a_worker(host, request, |host, asked: StartPush| {
        let push = pending::analyze(host, asked)?;
        evaluate::response(host, &push)
    })
    .await
}

/// `POST /api/deploy2/wait_for_schema`
pub(crate) async fn wait_for_schema(
    State(host): Shared,
    request: Request,
) -> Result<Response, Failure> {
    /// `timeoutMs` is not needed: documents are in memory and the check is one pass over them.
    /// `dryRun` changes nothing either: checking has no effect, so a dry run learns the truth.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Asked {
        admin_key: Option<String>,
        schema_change: SchemaChange,
    }
    impl Keyed for Asked {
        fn admin_key(&self) -> Option<&str> {
            self.admin_key.as_deref()
        }
    }
    on_a_worker(host, request, |host, asked: Asked| {
        Ok(finish::schema_status(host, &asked.schema_change))
    })
    .await
}

/// `POST /api/deploy2/finish_push`: the deployment changes here and nowhere else.
pub(crate) async fn finish_push(
    State(host): Shared,
    request: Request,
) -> Result<Response, Failure> {
    on_a_worker(host, request, |host, asked: FinishPush| finish::response(host, &asked)).await
}

/// `POST /api/deploy2/report_push_completed`: the CLI's own timings, which nobody reads.
pub(crate) async fn report_push_completed(
    State(host): Shared,
    request: Request,
) -> Result<Response, Failure> {
    let (head, _) = request.into_parts();
    host.admin_key.require(&head, None)?;
    Ok(json("null"))
}

/// The bundle of a push that is not to be finished.
///
/// # Errors
/// What is wrong with the request.
pub(crate) fn bundle(host: &Host, asked: StartPush) -> Result<Bundle, Failure> {
    let base = pending::running(&host.database);
    assemble::bundle(host, asked, base.as_ref().map(|base| &*base.bundle))
}

/// A request that may carry the admin key in its body.
pub(crate) trait Keyed {
    /// The key, if the body has one.
    fn admin_key(&self) -> Option<&str>;
}

/// Reads, unpacks and parses a deploy request and answers it on a thread that may block: analysis
/// waits for a process, activation for indexes.
pub(crate) async fn on_a_worker<T, F>(
    host: Arc<Host>,
    request: Request,
    answer: F,
) -> Result<Response, Failure>
where
    T: Keyed + for<'de> Deserialize<'de>,
    F: FnOnce(&Host, T) -> Result<serde_json::Value, Failure> + Send + 'static,
{
    let (head, body) = request.into_parts();
    // Only who has shown the key in the head may send, or unpack, much.
    let limit = match host.admin_key.require(&head, None) {
        Ok(()) => PUSH_BODY,
        Err(failure) if failure.code == "MissingAdminKey" => CALL_BODY,
        Err(failure) => return Err(failure),
    };
    let body = request::read(body, limit).await?;
    let work = move || blocking(&host, &head, body, limit, answer);
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => Ok(json(answer?.to_string())),
        Err(error) => Err(Failure::broken(format!(
            "The push ended abruptly; what was serving goes on. Please report it: {error}"
        ))),
    }
}

fn blocking<T, F>(
    host: &Host,
    head: &Parts,
    body: Bytes,
    limit: usize,
    answer: F,
) -> Result<serde_json::Value, Failure>
where
    T: Keyed + for<'de> Deserialize<'de>,
    F: FnOnce(&Host, T) -> Result<serde_json::Value, Failure>,
{
    let body = request::plain(&head.headers, body, limit)?;
    let asked: T = request::parse(&body)?;
    drop(body);
    host.admin_key.require(head, asked.admin_key())?;
    answer(host, asked)
}
