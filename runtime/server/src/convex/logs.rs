//! `GET /api/stream_function_logs`: what functions did, for `convex logs` and the tail of
//! `convex dev` (`convex-compat.md` section 6.11).
//!
//! In: a cursor. Out: `{entries, newCursor}`, at once where there are some, else when there are,
//! else after a while without any.
//! Invariant: only the operator reads logs; every key that the CLI's types demand is there.

use std::sync::Arc;

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use database::commit::Conflict;
use database::record::{Caller, LogLine, Logged};
use database::work::Usage;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json as answer;
use crate::event::{CallEvent, Event, HttpActionEvent, ProgressEvent};
use crate::host::Host;
use crate::logs::{Batch, Entry};
use crate::refusal::Failure;
use crate::request;

const NS_PER_S: f64 = 1e9;

/// `GET /api/stream_function_logs?cursor=`, and its older name `/api/stream_udf_execution`.
pub(crate) async fn stream(
    State(host): State<Arc<Host>>,
    head: Parts,
) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Asked {
        cursor: Option<f64>,
        session_id: Option<String>,
    }
    host.admin_key.require(&head, None)?;
    let Asked { cursor, session_id } = request::parameters(&head.uri)?;
    if session_id.is_some() {
        // Only Convex's dashboard asks so.
        return Err(Failure::unsupported("Following the logs of one request (`sessionId`)"));
    }
    let cursor = cursor.unwrap_or(0.0);
    let Batch { entries, cursor } = host.logs.after(cursor, host.config.world.now()).await;
    let entries: Vec<Value> = entries.iter().filter_map(|entry| told(entry)).collect();
    Ok(answer(json!({ "entries": entries, "newCursor": cursor }).to_string()))
}

/// What the CLI is told of an event.
fn told(entry: &Entry) -> Option<Value> {
    let Entry { ended, event, .. } = entry;
    let mut shown = match event {
        Event::Call(call) => of_call(call, *ended),
        Event::HttpAction(action) => of_http_action(action, *ended),
        Event::Progress(progress) => return Some(of_progress(progress, *ended)),
        Event::Push(_) | Event::Invariant(_) => return None,
    };
    shown["kind"] = "Completion".into();
    shown["timestamp"] = (*ended as f64 / NS_PER_S).into();
    shown["environment"] = "isolate".into();
    shown["willRetry"] = false.into();
    Some(shown)
}

/// An entry of kind `Progress`.
fn of_progress(progress: &ProgressEvent, at: u64) -> Value {
    let ProgressEvent { request_id, path, component, is_http, line } = progress;
    json!({
        "kind": "Progress",
        "udfType": if *is_http { "HttpAction" } else { "Action" },
        "componentPath": (!component.is_empty()).then_some(&**component),
        "identifier": path,
        "timestamp": at as f64 / NS_PER_S,
        "logLines": [shown(line, at)],
        "requestId": &**request_id,
        "executionId": &**request_id,
    })
}

fn of_call(call: &CallEvent, ended: u64) -> Value {
    let began = ended.saturating_sub(call.duration_ns);
    json!({
        "udfType": call.kind.map(database::record::FunctionKind::name),
        "componentPath": (!call.component.is_empty()).then_some(&*call.component),
        "identifier": call.path,
        "logLines": lines(&call.log_lines, began),
        "cachedResult": call.cached,
        "caller": caller(call.caller),
        "executionTime": call.duration_ns as f64 / NS_PER_S,
        "executionTimestamp": began as f64 / NS_PER_S,
        "success": null,
        "error": call.error,
        "requestId": &*call.request_id,
        "executionId": &*call.request_id,
        "usageStats": usage(&call.usage),
        "occInfo": call.conflicts.last().map(|last| conflict(last, call.conflicts.len())),
        "identityType": call.identity_type,
    })
}

fn of_http_action(action: &HttpActionEvent, ended: u64) -> Value {
    let began = ended.saturating_sub(action.duration_ns);
    let path = action.route.as_deref().unwrap_or(&action.path);
    let success = action.status.filter(|_| action.error.is_none());
    json!({
        "udfType": "HttpAction",
        "componentPath": null,
        "identifier": format!("{} {path}", action.method),
        "logLines": lines(&action.log_lines, began),
        "cachedResult": false,
        "caller": "HttpEndpoint",
        "executionTime": action.duration_ns as f64 / NS_PER_S,
        "executionTimestamp": began as f64 / NS_PER_S,
        "success": success.map(|status| json!({ "status": status.to_string() })),
        "error": action.error,
        "requestId": &*action.request_id,
        "executionId": &*action.request_id,
        "usageStats": usage(&Usage::default()),
        "occInfo": null,
        "identityType": "unknown",
    })
}

/// Console lines that have no entry yet; the clock of a query or mutation stands, so they all have
/// its beginning.
fn lines(lines: &[LogLine], began: u64) -> Vec<Value> {
    let left = lines.iter().filter(|line| line.logged == Logged::AtEnd);
    left.map(|line| shown(line, began)).collect()
}

fn shown(line: &LogLine, at: u64) -> Value {
    json!({
        "messages": line.messages,
        "level": line.level.name(),
        "timestamp": at / 1_000_000,
        "isTruncated": line.truncated,
    })
}

fn caller(caller: Caller) -> &'static str {
    match caller {
        Caller::HttpApi => "HttpApi",
        Caller::SyncWorker => "SyncWorker",
        Caller::Function { .. } => "Action",
        Caller::Scheduler => "Scheduler",
        Caller::Cron => "Cron",
        Caller::Tester => "Tester",
    }
}

fn conflict(last: &Conflict, retries: usize) -> Value {
    json!({
        "tableName": &*last.table,
        "documentId": last.document,
        "writeSource": last.writer.function,
        "retryCount": retries,
    })
}

/// What is counted here; Convex bills for more.
fn usage(usage: &Usage) -> Value {
    json!({
        "databaseReadBytes": usage.bytes_read,
        "databaseReadDocuments": usage.documents_read,
        "databaseWriteBytes": usage.bytes_written,
        "databaseWriteDocuments": usage.documents_written,
        "databaseWriteIndexRows": 0,
        "databaseIoReadBytes": usage.bytes_read,
        "databaseIoWriteBytes": usage.bytes_written,
        "storageReadBytes": usage.file_bytes_read,
        "storageWriteBytes": usage.file_bytes_written,
        "vectorIndexReadBytes": 0,
        "vectorIndexWriteBytes": 0,
        "vectorIndexReadQueryBytes": 0,
        "vectorIndexWriteQueryBytes": 0,
        "textIndexQueryBytes": 0,
        "textIndexWriteQueryBytes": 0,
        "networkEgressBytes": 0,
        "memoryUsedMb": 0,
    })
}
