//! The function endpoints (`convex-compat.md` section 4.1): request → [`Call`] → answer.
//!
//! In: heads and bodies. Out: `{"status":"success"|"error",…}` with status 200, or a failure.
//! Invariant: the body is parsed once and borrowed; nothing on this path blocks a thread, and a
//! call is handed to [`Functions`](database::record::Functions) before anything waits.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::error::{Refusal, UserError};
use database::json::Format;
use database::limits;
use database::record::{
    Arguments, Call, Caller, Expect, FunctionKind, FunctionPath, Identity, Outcome, Timestamp,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::answer::Style;
use super::{client, json, system};
use crate::event::{Told, identity_type, recorded};
use crate::host::Host;
use crate::refusal::Failure;
use crate::request::{self, CALL_BODY, Text};

type Shared = State<Arc<Host>>;

/// `POST /api/query`
pub(crate) async fn query(State(host): Shared, request: Request) -> Result<Response, Failure> {
    one(&host, request, Expect::Kind(FunctionKind::Query)).await
}

/// `POST /api/mutation`
pub(crate) async fn mutation(State(host): Shared, request: Request) -> Result<Response, Failure> {
    one(&host, request, Expect::Kind(FunctionKind::Mutation)).await
}

/// `POST /api/action`
pub(crate) async fn action(State(host): Shared, request: Request) -> Result<Response, Failure> {
    one(&host, request, Expect::Kind(FunctionKind::Action)).await
}

/// `POST /api/function`: any kind, for the operator (`convex run`).
pub(crate) async fn function(State(host): Shared, request: Request) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    host.admin_key.require(&head, None)?;
    let body = request::read(body, CALL_BODY).await?;
    let asked = request::parse(&body)?;
    let asker = Asker::read(&host, &head).await?;
    answer(&host, asker.start(&host, &asked, Target::newest(Expect::Any))?).await
}

/// `POST /api/query_ts`: the newest timestamp, for `query_at_ts`.
pub(crate) async fn query_ts(State(host): Shared) -> Response {
    let ts = STANDARD.encode(host.database.snapshot().ts.0.to_le_bytes());
    json(format!(r#"{{"ts":"{ts}"}}"#))
}

/// `POST /api/query_at_ts`: a query at a snapshot that the client has seen before.
pub(crate) async fn query_at_ts(
    State(host): Shared,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let asker = Asker::read(&host, &head).await?;
    let body = request::read(body, CALL_BODY).await?;
    let asked: Asked<'_> = request::parse(&body)?;
    let at = timestamp(asked.ts.as_ref().map(|ts| &*ts.0))?;
    refuse_future(&host, at)?;
    let target = Target { expect: Expect::Kind(FunctionKind::Query), at: Some(at) };
    answer(&host, asker.start(&host, &asked, target)?).await
}

/// `POST /api/query_batch`: many queries at one snapshot, run side by side.
pub(crate) async fn query_batch(
    State(host): Shared,
    request: Request,
) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        queries: Vec<Asked<'a>>,
    }
    let (head, body) = request.into_parts();
    let asker = Asker::read(&host, &head).await?;
    let body = request::read(body, CALL_BODY).await?;
    let batch: Batch<'_> = request::parse(&body)?;
    let at = Some(host.database.snapshot().ts);
    let target = Target { expect: Expect::Kind(FunctionKind::Query), at };
    let started: Vec<_> = batch
        .queries
        .iter()
        .map(|asked| asker.start(&host, asked, target))
        .collect::<Result<_, _>>()?;
    let mut results = br#"{"results":["#.to_vec();
    for (at, started) in started.into_iter().enumerate() {
        if at > 0 {
            results.push(b',');
        }
        results.extend_from_slice(&finish(&host, started).await?);
        if results.len() as u64 > limits::QUERY_BATCH_BYTES {
            let message = format!(
                "The results of the batch are larger than {} bytes together. Ask for fewer queries \
                 at once.",
                limits::QUERY_BATCH_BYTES
            );
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Failure::new(status, "QueryBatchTooLarge", message));
        }
    }
    results.extend_from_slice(b"]}");
    Ok(json(results))
}

/// `GET /api/query?path=&args=&format=`
pub(crate) async fn query_by_url(
    State(host): Shared,
    request: Request,
) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Parameters {
        path: String,
        args: Option<String>,
        format: Option<String>,
    }
    let (head, _) = request.into_parts();
    let asker = Asker::read(&host, &head).await?;
    let Parameters { path, args, format } = request::parameters(&head.uri)?;
    let asked = Asked {
        path: path.into(),
        args: args.as_deref().map(|args| request::parse(args.as_bytes())).transpose()?,
        format: format.map(|format| Text(format.into())),
        ts: None,
        component_path: None,
    };
    let target = Target::newest(Expect::Kind(FunctionKind::Query));
    answer(&host, asker.start(&host, &asked, target)?).await
}

/// `POST /api/run/a/b/fn` runs `a/b:fn`, of whatever kind.
pub(crate) async fn run(
    State(host): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Given<'a> {
        #[serde(borrow)]
        args: Option<&'a RawValue>,
        #[serde(borrow)]
        format: Option<Text<'a>>,
    }
    let (head, body) = request.into_parts();
    let mut asker = Asker::read(&host, &head).await?;
    asker.format = Format::Clean;
    let body = request::read(body, CALL_BODY).await?;
    let Given { args, format } = request::parse(&body)?;
    let path = match id.rsplit_once('/') {
        Some((module, export)) if !id.contains(':') => format!("{module}:{export}"),
        _ => id,
    };
    let asked = Asked { path: path.into(), args, format, ts: None, component_path: None };
    answer(&host, asker.start(&host, &asked, Target::newest(Expect::Any))?).await
}

async fn one(host: &Arc<Host>, request: Request, expect: Expect) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let asker = Asker::read(host, &head).await?;
    let body = request::read(body, CALL_BODY).await?;
    let asked = request::parse(&body)?;
    answer(host, asker.start(host, &asked, Target::newest(expect))?).await
}

async fn answer(host: &Host, started: Started) -> Result<Response, Failure> {
    Ok(json(finish(host, started).await?))
}

/// What a body asks for.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    format: Option<Text<'a>>,
    #[serde(borrow)]
    ts: Option<Text<'a>>,
    #[serde(borrow, rename = "componentPath")]
    component_path: Option<Text<'a>>,
}

/// What the endpoint decides.
#[derive(Clone, Copy)]
struct Target {
    expect: Expect,
    at: Option<Timestamp>,
}

impl Target {
    fn newest(expect: Expect) -> Self {
        Self { expect, at: None }
    }
}

/// What the head decides, for every call of a request.
struct Asker {
    identity: Identity,
    format: Format,
    /// The client's own id for the request, if it sent one.
    request_id: Option<Arc<str>>,
}

/// A call under way, or its answer where none was needed.
enum Started {
    Answered(Vec<u8>),
    Running(Box<Running>),
}

struct Running {
    outcome: oneshot::Receiver<Result<Outcome, Refusal>>,
    format: Format,
    request_id: Arc<str>,
}

impl Asker {
    async fn read(host: &Host, head: &Parts) -> Result<Self, Failure> {
        let id = head.headers.get("convex-request-id").and_then(|id| id.to_str().ok());
        let plain = |id: &&str| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        Ok(Self {
            identity: host.identify(head).await?.identity,
            format: client::default_format(&head.headers)?,
            request_id: id.filter(plain).map(Into::into),
        })
    }

    /// Hands the call over; returns before it has run.
    fn start(
        &self,
        host: &Arc<Host>,
        asked: &Asked<'_>,
        target: Target,
    ) -> Result<Started, Failure> {
        let format = match &asked.format {
            Some(Text(name)) => Format::parse(name)?,
            None => self.format,
        };
        let component = asked.component_path.as_ref().map_or("", |path| &*path.0);
        let component = named_component(host, component, &self.identity).map_err(|error| {
            let status = match error.code {
                "Forbidden" => StatusCode::FORBIDDEN,
                _ => StatusCode::BAD_REQUEST,
            };
            Failure::new(status, error.code, error.message)
        })?;
        let path = FunctionPath::parse(&asked.path)?.within(&component);
        let request_id = self.request_id.clone().unwrap_or_else(|| host.request_id());
        let redact = host.config.redact;
        let style = Style { format, request_id: &request_id, redact };
        let mut told = Told {
            request_id: request_id.clone(),
            caller: Caller::HttpApi,
            rerun: false,
            cause: None,
            record: None,
            identity_type: identity_type(&self.identity),
            begun: host.stopwatch(),
            path: path.identifier(),
            component: Arc::clone(&path.component),
        };
        let args = match Arguments::parse(&path, asked.args.map_or("{}", RawValue::get)) {
            Ok(args) => args,
            Err(error) => {
                told.tell(host, &Err(Refusal::Bad(error.clone())));
                return Ok(Started::Answered(style.wrong(error)));
            }
        };
        if path.module.starts_with("_system/") {
            let result = system::run(host, &self.identity, &path, &args.value);
            return Ok(Started::Answered(match result {
                Ok(answered) => style.result(&answered.value)?,
                Err(error) => style.wrong(error),
            }));
        }
        let (sender, outcome) = oneshot::channel();
        let call = Call {
            path,
            args,
            expect: target.expect,
            identity: self.identity.clone(),
            caller: Caller::HttpApi,
            request_id: request_id.clone(),
            at: target.at,
            journal: None,
            once: None,
            job: None,
        };
        told.record = Some(recorded(&call));
        let teller = Arc::clone(host);
        let reply = move |outcome| {
            told.tell(&teller, &outcome);
            // A client that left no longer waits at the other end; its answer goes nowhere.
            drop(sender.send(outcome));
        };
        host.functions.call(call, Box::new(reply));
        Ok(Started::Running(Box::new(Running { outcome, format, request_id })))
    }
}

/// Waits for a call and writes its answer.
async fn finish(host: &Host, started: Started) -> Result<Vec<u8>, Failure> {
    let Running { outcome, format, request_id } = match started {
        Started::Answered(body) => return Ok(body),
        Started::Running(running) => *running,
    };
    let patience = Duration::from_millis(limits::HTTP_CALL_MS);
    let outcome = tokio::time::timeout(patience, outcome).await.map_err(|_| no_answer())?;
    let outcome = outcome.unwrap_or_else(|_| {
        Err(Refusal::Broken("the call was dropped without an answer".to_owned()))
    });
    let redact = host.config.redact;
    let style = Style { format, request_id: &request_id, redact };
    match outcome {
        Ok(outcome) => style
            .outcome(&outcome)
            .map_err(|error| Failure::refused(Refusal::Broken(error.message), redact)),
        Err(refusal) => Err(Failure::refused(refusal, redact)),
    }
}

fn no_answer() -> Failure {
    let message = format!(
        "There was no answer within {} s, and nobody waits for it any longer; the function may \
         still be running. Schedule what takes long, and let clients watch its result.",
        limits::HTTP_CALL_MS / 1000
    );
    Failure::new(StatusCode::GATEWAY_TIMEOUT, "NoAnswer", message)
}

/// The component that a request names, for the operator alone.
///
/// # Errors
/// 403 for others; 400: it is not mounted.
pub(crate) fn named_component(
    host: &Host,
    path: &str,
    identity: &Identity,
) -> Result<Arc<str>, UserError> {
    if path.is_empty() {
        return Ok("".into());
    }
    if !identity.is_admin() {
        let text = "Naming a component needs the admin key.";
        return Err(UserError::new("Forbidden", text));
    }
    let deployment = host.database.snapshot().deployment.clone();
    let components = deployment.as_ref().map(|now| &now.analysis.components.instances);
    match components.and_then(|components| components.get_key_value(path)) {
        Some((path, _)) => Ok(Arc::clone(path)),
        None => {
            let known = components.into_iter().flat_map(|components| components.keys());
            let known: Vec<_> = known.filter(|path| !path.is_empty()).map(|path| &**path).collect();
            let known = match known.join(", ") {
                none if none.is_empty() => "None is mounted here".to_owned(),
                known => format!("Mounted here: {known}"),
            };
            let text = format!(
                "There is no component {path:?}. {known}. A component's path is the names joined \
                 by \"/\"."
            );
            Err(UserError::new("ComponentPathNotFound", text))
        }
    }
}

/// A moment that is yet to come has no snapshot.
fn refuse_future(host: &Host, at: Timestamp) -> Result<(), Failure> {
    let newest = host.database.snapshot().ts;
    if at <= newest || at.0 <= host.stopwatch() {
        return Ok(());
    }
    let message = format!(
        "The timestamp {at} is in the future, so there is no snapshot of it yet: the newest one is \
         at {newest}."
    );
    Err(Failure::new(StatusCode::BAD_REQUEST, "InvalidTimestamp", &message))
}

fn timestamp(text: Option<&str>) -> Result<Timestamp, Failure> {
    let bytes = text.and_then(|text| STANDARD.decode(text).ok());
    let bytes: Option<[u8; 8]> = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(|bytes| Timestamp(u64::from_le_bytes(bytes))).ok_or_else(|| {
        Failure::new(
            StatusCode::BAD_REQUEST,
            "InvalidTimestamp",
            "`ts` must be what /api/query_ts answered: base64 of 8 bytes.",
        )
    })
}
