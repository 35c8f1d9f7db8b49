//! What JavaScript in a worker may ask for: deno_core's ops of one run.
//!
//! In: calls from `js/actions`. Out: messages to the host, and their answers. Invariant: an op
//! touches only the state of its own run.

use std::cell::RefCell;
use std::rc::Rc;

use deno_core::{Extension, JsBuffer, OpState, ToJsBuffer, op2, v8};
use deno_error::JsErrorBox;
use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::lazy::{self, op_lazy, op_lazy_hooks};
use crate::linear_memory::{op_wasm_hidden, op_wasm_memory};
use crate::protocol::{CHUNK_BYTES, End, Stream, StreamId, Thrown, ToHost};
use crate::run_state::{Answered, RunState};
use crate::scripts::{op_script, op_script_touched};

deno_core::extension!(
    concave_actions,
    deps = [deno_web],
    ops = [
        op_action_log,
        op_action_report,
        op_clone,
        op_action_env,
        op_action_syscall,
        op_action_async_syscall,
        op_action_ask_with_body,
        op_action_body_open,
        op_action_body_read,
        op_action_body_stop,
        op_action_body_write,
        op_action_body_end,
        op_action_http_head,
        op_action_http_text,
        op_action_http_bytes,
        op_action_gone,
        op_action_linger,
        op_action_no_route,
        op_action_done,
        op_action_coverage,
        op_wasm_memory,
        op_wasm_hidden,
        op_lazy,
        op_lazy_hooks,
        op_script,
        op_script_touched,
    ],
);

/// The extension.
pub(crate) fn extension() -> Extension {
    let external_references = lazy::references().into();
    Extension { external_references, ..concave_actions::init() }
}

/// An answer as JavaScript sees it: `host.unwrap` in `js/actions/00_host.js` takes it apart.
#[derive(Serialize)]
struct AnswerJs {
    json: String,
    body: Option<StreamId>,
    error: Option<Thrown>,
}

/// A thrown value as `formatError` describes it.
#[derive(Deserialize)]
struct Described {
    text: String,
    stack: Option<String>,
    data: Option<String>,
}

/// The run on this thread.
fn run(state: &Rc<RefCell<OpState>>) -> Rc<RunState> {
    Rc::clone(state.borrow().borrow::<Rc<RunState>>())
}

/// A copy of a value: [`web::clone`]. Getters and platform objects run JavaScript meanwhile.
#[op2(reentrant)]
fn op_clone<'s, 'i>(
    scope: &mut v8::PinScope<'s, 'i>,
    value: v8::Local<'s, v8::Value>,
    brand: v8::Local<'s, v8::Symbol>,
    receive: v8::Local<'s, v8::Function>,
    fail: v8::Local<'s, v8::Function>,
) -> v8::Local<'s, v8::Value> {
    let platform = web::clone::Platform { brand, receive, fail };
    web::clone::structured_clone(scope, value, platform)
        // What was thrown is pending.
        .unwrap_or_else(|| v8::undefined(scope).into())
}

#[op2]
fn op_action_log(state: &mut OpState, #[string] level: &str, #[serde] parts: Vec<String>) {
    state.borrow::<Rc<RunState>>().log(level, parts);
}

#[op2(fast)]
fn op_action_report(state: &mut OpState, #[string] op: &str, #[string] json: &str) {
    state.borrow::<Rc<RunState>>().report(op, json);
}

#[op2]
#[string]
fn op_action_env(state: &mut OpState, #[string] name: &str) -> Option<String> {
    state.borrow::<Rc<RunState>>().environment.get(name).cloned()
}

#[op2(fast)]
fn op_action_syscall(#[string] op: &str) -> Result<(), JsErrorBox> {
    Err(JsErrorBox::generic(format!("Unknown operation {op}")))
}

#[op2]
#[serde]
async fn op_action_async_syscall(
    state: Rc<RefCell<OpState>>,
    #[string] op: String,
    #[string] json: String,
) -> Result<AnswerJs, JsErrorBox> {
    ask(run(&state), &op, &json, None).await
}

#[op2]
#[serde]
async fn op_action_ask_with_body(
    state: Rc<RefCell<OpState>>,
    #[string] op: String,
    #[string] json: String,
    #[number] body: u64,
) -> Result<AnswerJs, JsErrorBox> {
    ask(run(&state), &op, &json, Some(StreamId(body))).await
}

async fn ask(
    run: Rc<RunState>,
    op: &str,
    json: &str,
    body: Option<StreamId>,
) -> Result<AnswerJs, JsErrorBox> {
    let _under_way = run.under_way(name_of(op));
    let answer = run.ask(op, json, body).await;
    let Answered { result, body } =
        answer.map_err(|_| JsErrorBox::generic("The host gave no answer."))?;
    Ok(match result {
        Ok(json) => AnswerJs { json, body, error: None },
        Err(error) => AnswerJs { json: String::new(), body, error: Some(error) },
    })
}

/// What a warning calls an operation: as its author wrote it.
fn name_of(op: &str) -> &'static str {
    match op {
        "1.0/actions/query" => "runQuery",
        "1.0/actions/mutation" => "runMutation",
        "1.0/actions/action" => "runAction",
        "1.0/actions/schedule" => "scheduler.runAfter",
        "1.0/actions/cancel_job" => "scheduler.cancel",
        "1.0/actions/vectorSearch" => "vectorSearch",
        "1.0/getUserIdentity" => "auth.getUserIdentity",
        "1.0/storageGetUrl" => "storage.getUrl",
        "1.0/storageGetMetadata" => "storage.getMetadata",
        "1.0/storageGenerateUploadUrl" => "storage.generateUploadUrl",
        "1.0/storageDelete" => "storage.delete",
        "storage/storeBlob" => "storage.store",
        "storage/getBlob" => "storage.get",
        _ => "operation",
    }
}

#[op2(fast)]
#[number]
fn op_action_body_open(state: &mut OpState, is_response: bool) -> Result<u64, JsErrorBox> {
    let run = state.borrow::<Rc<RunState>>();
    let opened = run.open(if is_response { run.limits.response_bytes } else { u64::MAX });
    opened.map(|stream| stream.0).map_err(JsErrorBox::generic)
}

#[op2]
#[serde]
async fn op_action_body_read(
    state: Rc<RefCell<OpState>>,
    #[number] stream: u64,
) -> Result<Option<ToJsBuffer>, JsErrorBox> {
    let (run, stream) = (run(&state), StreamId(stream));
    let Some(incoming) = run.incoming(stream) else { return Ok(None) };
    match incoming.next().await {
        Ok(Some(chunk)) => {
            let bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            run.say(&ToHost::Stream(Stream::Credit { stream, bytes }), &[]);
            Ok(Some(chunk.into()))
        }
        Ok(None) => {
            run.forget(stream);
            Ok(None)
        }
        Err(why) => {
            run.forget(stream);
            Err(JsErrorBox::type_error(why))
        }
    }
}

#[op2(fast)]
fn op_action_body_stop(state: &mut OpState, #[number] stream: u64) {
    state.borrow::<Rc<RunState>>().forget(StreamId(stream));
}

/// Sends bytes in pieces, as credit allows; false when nobody wants more.
#[op2]
async fn op_action_body_write(
    state: Rc<RefCell<OpState>>,
    #[number] stream: u64,
    #[buffer] bytes: JsBuffer,
) -> Result<bool, JsErrorBox> {
    let (run, stream) = (run(&state), StreamId(stream));
    let Some(outgoing) = run.outgoing(stream) else { return Ok(false) };
    if !outgoing.count(bytes.len()) {
        return Err(too_large(&run));
    }
    let mut rest: &[u8] = &bytes;
    while !rest.is_empty() {
        let length = outgoing.take_credit(rest.len().min(CHUNK_BYTES)).await;
        if length == 0 {
            return Ok(false);
        }
        let (piece, after) = rest.split_at(length);
        run.say(&ToHost::Stream(Stream::Chunk { stream }), piece);
        rest = after;
    }
    Ok(true)
}

#[op2]
fn op_action_body_end(state: &mut OpState, #[number] stream: u64, #[string] error: Option<String>) {
    state.borrow::<Rc<RunState>>().close(StreamId(stream), error);
}

fn too_large(run: &RunState) -> JsErrorBox {
    JsErrorBox::generic(format!(
        "HttpResponseTooLarge: HTTP actions support responses up to {} MiB. Store larger data with \
         ctx.storage and answer with its URL.",
        run.limits.response_bytes >> 20
    ))
}

/// Begins a response whose body is a stream.
#[op2]
fn op_action_http_head(
    state: &mut OpState,
    #[smi] status: u16,
    #[serde] headers: Vec<(String, String)>,
    #[number] body: u64,
    #[string] route: String,
) {
    let run = state.borrow::<Rc<RunState>>();
    let (body, route) = (Some(StreamId(body)), Some(route));
    run.say(&ToHost::HttpHead { run: run.run, status, headers, body, route }, &[]);
}

/// Sends a response whose body is a string.
#[op2]
fn op_action_http_text(
    state: &mut OpState,
    #[smi] status: u16,
    #[serde] headers: Vec<(String, String)>,
    #[string] body: &str,
    #[string] route: String,
) -> Result<(), JsErrorBox> {
    respond(state, (status, headers, route), body.as_bytes())
}

/// Sends a response whose body is bytes.
#[op2]
fn op_action_http_bytes(
    state: &mut OpState,
    #[smi] status: u16,
    #[serde] headers: Vec<(String, String)>,
    #[buffer] body: &[u8],
    #[string] route: String,
) -> Result<(), JsErrorBox> {
    respond(state, (status, headers, route), body)
}

fn respond(
    state: &OpState,
    (status, headers, route): (u16, Vec<(String, String)>, String),
    body: &[u8],
) -> Result<(), JsErrorBox> {
    let run = state.borrow::<Rc<RunState>>();
    if body.len() as u64 > run.limits.response_bytes {
        return Err(too_large(run));
    }
    let route = Some(route);
    run.respond(ToHost::HttpHead { run: run.run, status, headers, body: None, route }, body);
    Ok(())
}

/// Waits until nobody waits for the response; false when the run has ended before.
#[op2]
async fn op_action_gone(state: Rc<RefCell<OpState>>) -> bool {
    run(&state).gone().await
}

/// What of its modules ran until now; see [`Coverage`].
#[op2(reentrant)]
#[string]
fn op_action_coverage(state: Rc<RefCell<OpState>>) -> String {
    // Not borrowed while V8 looks: it may call back.
    let coverage = state.borrow().try_borrow::<Rc<Coverage>>().map(Rc::clone);
    coverage.map_or_else(|| "{}".to_owned(), |coverage| coverage.take())
}

/// Lets the run end when nothing of it is under way any more.
#[op2(fast)]
fn op_action_linger(state: &mut OpState) {
    state.borrow::<Rc<RunState>>().linger();
}

#[op2(fast)]
fn op_action_no_route(state: &mut OpState) {
    state.borrow::<Rc<RunState>>().set_end(End::NoRoute, String::new());
}

#[op2]
fn op_action_done(
    state: &mut OpState,
    #[serde] thrown: Option<Described>,
    #[string] result: String,
) {
    let run = state.borrow::<Rc<RunState>>();
    match thrown {
        None => run.set_end(End::Returned, result),
        Some(Described { text, stack, data }) => run.fail(Thrown { message: text, stack, data }),
    }
}
