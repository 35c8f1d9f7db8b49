//! `POST /api/run_test_function`: `convex run --inline-query` (`convex-compat.md` section 6.10).
//!
//! In: one module that is not deployed, and arguments. Out: what its default query gives, in the
//! shape of any other call.
//! Invariant: only the operator runs it; it writes nothing, and what is deployed stays.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use database::deployment::{Environment, Module};
use database::error::{Refusal, UserError};
use database::json::Format;
use database::record::{
    Arguments, Call, Caller, Expect, FunctionKind, FunctionPath, Identity, Outcome,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::Style;
use super::api::named_component;
use super::json;
use crate::event::Told;
use crate::host::Host;
use crate::refusal::Failure;
use crate::request::{self, CALL_BODY, Text};

/// Where an inline module finds `query`: the command line writes the import.
const WRAPPERS_PATH: &str = "_system/repl/wrappers.js";

const WRAPPERS: &str = include_str!("../../../../js/system/wrappers.js");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    #[serde(borrow)]
    admin_key: Option<Text<'a>>,
    #[serde(borrow)]
    bundle: Inline<'a>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    format: Option<Text<'a>>,
    #[serde(borrow)]
    component_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Inline<'a> {
    #[serde(borrow)]
    path: Text<'a>,
    #[serde(borrow)]
    source: Text<'a>,
}

/// `POST /api/run_test_function`
pub(crate) async fn run(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let body = request::read(body, CALL_BODY).await?;
    // Who has not shown the key learns nothing about the body either.
    let asked = request::parse::<Asked<'_>>(&body);
    let in_body = asked.as_ref().ok().and_then(|asked| asked.admin_key.as_ref());
    host.admin_key.require(&head, in_body.map(|key| &*key.0))?;
    let asked = asked?;
    let format = asked.format.as_ref().map_or(Ok(Format::Clean), |name| Format::parse(&name.0))?;
    let call = call(&host, &asked)?;
    let modules = [(WRAPPERS_PATH, WRAPPERS), (&*call.path.module, &*asked.bundle.source.0)];
    let modules = modules.map(|(path, source)| Module {
        path: path.into(),
        source: source.into(),
        source_map: None,
        environment: Environment::Isolate,
    });
    let request_id = Arc::clone(&call.request_id);
    let style = Style { format, request_id: &request_id, redact: host.config.redact };
    match evaluate(&host, modules.into(), call).await {
        Ok(outcome) => Ok(json(style.outcome(&outcome)?)),
        Err(Refusal::Bad(error)) => Ok(json(style.wrong(error))),
        Err(refusal) => Err(Failure::refused(refusal, host.config.redact)),
    }
}

fn call(host: &Host, asked: &Asked<'_>) -> Result<Call, UserError> {
    let component = asked.component_id.as_ref().map_or("", |id| &*id.0);
    let component = named_component(host, component, &Identity::Admin)?;
    let path = FunctionPath::parse(&asked.bundle.path.0)?.within(&component);
    Ok(Call {
        args: Arguments::parse(&path, asked.args.map_or("{}", RawValue::get))?,
        path,
        expect: Expect::Kind(FunctionKind::Query),
        identity: Identity::Admin,
        caller: Caller::Tester,
        request_id: host.request_id(),
        at: None,
        journal: None,
        once: None,
        job: None,
    })
}

/// Evaluation waits for a process, so it has a thread of its own.
async fn evaluate(host: &Arc<Host>, modules: Vec<Module>, call: Call) -> Result<Outcome, Refusal> {
    // Its code is nowhere to be found again.
    let told = Told { record: None, ..Told::of(host, &call) };
    let functions = Arc::clone(&host.functions);
    let work = move || functions.inline(modules, &call);
    let ended = tokio::task::spawn_blocking(work).await;
    let outcome = ended.unwrap_or_else(|error| Err(Refusal::Broken(error.to_string())));
    told.tell(host, &outcome);
    outcome
}
