//! Questions about the call itself: who calls, what it used, what it is called.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use database::error::UserError;
use database::record::{FunctionKind, Job};
use database::work::Metric;

use super::Answer;
use crate::execution::Execution;

/// Components do not see who calls: the app passes them what they may know.
pub(super) fn user_identity(execution: &mut Execution, _arguments: &str) -> Answer {
    if !execution.path().component.is_empty() {
        return Ok("null".to_owned());
    }
    execution.observed.identity = true;
    let attributes = execution.call.identity.attributes();
    Ok(attributes.map_or_else(|| "null".to_owned(), |text| text.to_string()))
}

/// Arguments of a component; the root has none.
pub(super) fn component_argument(_execution: &mut Execution, _arguments: &str) -> Answer {
    Ok("{}".to_owned())
}

pub(super) fn snapshot_timestamp(execution: &mut Execution, _arguments: &str) -> Answer {
    let bytes = execution.given.snapshot.0.to_le_bytes();
    Ok(format!("{{\"$integer\":\"{}\"}}", STANDARD.encode(bytes)))
}

pub(super) fn transaction_metrics(execution: &mut Execution, _arguments: &str) -> Answer {
    let metrics = execution.transaction.metrics();
    let metric = |m: Metric| serde_json::json!({ "used": m.used, "remaining": m.remaining });
    Ok(serde_json::json!({
        "bytesRead": metric(metrics.bytes_read),
        "bytesWritten": metric(metrics.bytes_written),
        "databaseQueries": metric(metrics.ranges),
        "documentsRead": metric(metrics.documents_read),
        "documentsWritten": metric(metrics.documents_written),
        "functionsScheduled": metric(metrics.functions_scheduled),
        "scheduledFunctionArgsBytes": metric(metrics.scheduled_bytes),
        "filesRead": metric(metrics.files_read),
        "fileReadBytes": metric(metrics.file_bytes_read),
        "filesWritten": metric(metrics.files_written),
        "fileWriteBytes": metric(metrics.file_bytes_written),
    })
    .to_string())
}

pub(super) fn function_metadata(execution: &mut Execution, _arguments: &str) -> Answer {
    let path = execution.path();
    Ok(serde_json::json!({ "name": path.identifier(), "componentPath": &*path.component })
        .to_string())
}

pub(super) fn deployment_metadata(_execution: &mut Execution, _arguments: &str) -> Answer {
    Ok(serde_json::json!({ "name": "concave", "region": null, "class": "selfHosted" }).to_string())
}

pub(super) fn request_metadata(execution: &mut Execution, _arguments: &str) -> Answer {
    if execution.kind() == FunctionKind::Query {
        return Err(UserError::new(
            "RequestMetadataNotAllowed",
            "Cannot get request metadata in a Query",
        ));
    }
    let scheduled = execution.call.job.and_then(Job::scheduled);
    Ok(serde_json::json!({
        "ip": null,
        "userAgent": null,
        "requestId": &*execution.call.request_id,
        "scheduledFunctionId": scheduled.map(|id| id.encode()),
        "authToken": null,
    })
    .to_string())
}
