//! A call as a recording: JSON that people read, and that `concave replay` runs again.
//!
//! In: a call that was kept, and what the history still says of its commit. Out: its recording; of
//! an execution, the same fields.
//! Invariant: `call` and `committed` alone decide a replay; everything else is there to be read and
//! to be compared with. No number in it has more digits than a double keeps.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use database::commit::Database;
use database::record::{
    CallRecord, FunctionError, FunctionKind, Identity, LogLine, Observed, Outcome, Timestamp,
};
use database::recording::{Touched, Wrote, ranges};
use database::work::Usage;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::calls::Recorded;
use crate::host::Host;

/// The version of this shape.
pub(crate) const FORMAT: u64 = 1;

/// The recording of a call.
pub(crate) fn of(host: &Host, call: &Recorded) -> Value {
    let Recorded { number, record, outcome, begun, duration_ns, omitted, .. } = call;
    let record = CallRecord { given: outcome.given.clone(), ..CallRecord::clone(record) };
    let mut shown = json!({
        "format": FORMAT,
        "id": number.to_string(),
        "function": record.path.identifier(),
        "component": &*record.path.component,
        "kind": outcome.kind.lower_name(),
        "args": argument(&record.args),
        "identity": identity(&record.identity),
        "caller": caller(&record),
        "requestId": &*record.request_id,
        "begun": begun.to_string(),
        "milliseconds": *duration_ns as f64 / 1e6,
        "snapshot": record.given.snapshot.to_string(),
        "committed": outcome.ts.to_string(),
        "code": record.given.code.to_string(),
        "seed": HEXLOWER.encode(&record.given.seed),
        "now": record.given.now.to_string(),
        "cached": outcome.cached,
        "retries": outcome.retries.len(),
    });
    match omitted {
        Some(bytes) => shown["omitted"] = (*bytes).into(),
        // A text, because of what programs do to large numbers.
        None => shown["call"] = serde_json::to_string(&record).unwrap_or_default().into(),
    }
    let touched = touched(&host.database, outcome, &record);
    for (name, value) in ended(outcome, touched) {
        shown[name] = value;
    }
    shown
}

/// What an execution came to, field by field.
pub(crate) fn ended(outcome: &Outcome, touched: Known) -> Vec<(&'static str, Value)> {
    let (result, error) = match &outcome.result {
        Ok(text) => (json!(raw(text)), Value::Null),
        Err(FunctionError { message, data }) => {
            let data = data.as_ref().map(|data| raw(data));
            (Value::Null, json!({ "message": message, "data": data }))
        }
    };
    let logs: Vec<_> = outcome.log_lines.iter().map(LogLine::client_text).collect();
    vec![
        ("result", result),
        ("error", error),
        ("reads", json!(touched.reads)),
        ("writes", json!(touched.writes.map(|all| all.iter().map(wrote).collect::<Vec<_>>()))),
        ("writesDigest", HEXLOWER.encode(&outcome.writes_digest).into()),
        ("logs", json!(logs)),
        ("looked", json!(looked(outcome.observed))),
        ("usage", usage(&outcome.usage)),
    ]
}

/// What is known of what a call read and wrote.
pub(crate) struct Known {
    reads: Vec<String>,
    /// `None`: the history no longer says.
    writes: Option<Vec<Wrote>>,
}

impl From<Touched> for Known {
    fn from(Touched { reads, writes }: Touched) -> Self {
        Self { reads, writes: Some(writes) }
    }
}

fn touched(database: &Database, outcome: &Outcome, record: &CallRecord) -> Known {
    let snapshot = database.snapshot_at(outcome.ts).unwrap_or_else(|_| database.snapshot());
    let reads = ranges(&snapshot, &outcome.reads);
    // Without writes nothing was committed.
    let has_written = outcome.kind == FunctionKind::Mutation
        && outcome.result.is_ok()
        && outcome.ts > outcome.given.snapshot;
    if !has_written {
        return Known { reads, writes: Some(Vec::new()) };
    }
    let commit = database.commit_at(outcome.ts);
    let own = commit.filter(|commit| commit.writer.request_id == record.request_id);
    Known { reads, writes: own.map(|commit| Wrote::by(&commit)) }
}

fn wrote(wrote: &Wrote) -> Value {
    let Wrote { component, table, id, before, after } = wrote;
    json!({
        "component": &**component,
        "table": &**table,
        "id": id,
        "before": before.as_ref().map(|document| raw(document.json())),
        "after": after.as_ref().map(|document| raw(document.json())),
    })
}

fn looked(observed: Observed) -> Vec<&'static str> {
    let Observed { time, randomness, identity } = observed;
    let all = [(time, "time"), (randomness, "randomness"), (identity, "identity")];
    all.into_iter().filter(|(did, _)| *did).map(|(_, at)| at).collect()
}

fn usage(usage: &Usage) -> Value {
    json!({
        "documentsRead": usage.documents_read,
        "bytesRead": usage.bytes_read,
        "ranges": usage.ranges,
        "documentsWritten": usage.documents_written,
        "bytesWritten": usage.bytes_written,
        "functionsScheduled": usage.functions_scheduled,
    })
}

/// Who called, for people.
pub(crate) fn identity(identity: &Identity) -> String {
    match identity {
        Identity::User(user) | Identity::ActingAs(user) => user.token_identifier.clone(),
        Identity::Admin => "the operator".to_owned(),
        Identity::Anonymous => "nobody in particular".to_owned(),
        Identity::System => "the host".to_owned(),
    }
}

fn caller(record: &CallRecord) -> &'static str {
    use database::record::Caller;
    match record.caller {
        Caller::HttpApi => "HTTP",
        Caller::SyncWorker => "WebSocket",
        Caller::Function { .. } => "an action",
        Caller::Scheduler => "the scheduler",
        Caller::Cron => "a cron job",
        Caller::Tester => "a test",
    }
}

/// The one object of an argument array.
pub(crate) fn argument(args: &str) -> Option<&RawValue> {
    let object = args.strip_prefix('[')?.strip_suffix(']')?;
    serde_json::from_str(object).ok()
}

fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}

/// What decides a replay.
pub(crate) struct Again {
    /// The call, with what the host decided then.
    pub(crate) record: Arc<CallRecord>,
    /// When it committed, or its snapshot.
    pub(crate) committed: Timestamp,
}

impl Again {
    /// Reads a recording.
    ///
    /// # Errors
    /// Why it cannot be run again.
    pub(crate) fn read(recording: &Value) -> Result<Self, String> {
        if recording["format"] != FORMAT {
            return Err("it is no recording of this version of concave".to_owned());
        }
        if let Some(bytes) = recording["omitted"].as_u64() {
            return Err(format!(
                "its arguments, result and log lines have {bytes} bytes, and were not kept \
                 (CALL_RECORD_BYTES of `concave limits`)"
            ));
        }
        let call = recording["call"].as_str().unwrap_or_default();
        let record: CallRecord = serde_json::from_str(call).map_err(|e| format!("`call`: {e}"))?;
        let committed = recording["committed"].as_str().and_then(|text| text.parse().ok());
        let committed = Timestamp(committed.ok_or("`committed` is no timestamp")?);
        Ok(Self { record: Arc::new(record), committed })
    }
}
