//! `POST /api/concave/replay`: a recorded call, run again.
//!
//! In: a recording, and perhaps code that is not deployed. Out: what it comes to, in the fields of
//! a recording. Invariant: only the operator asks; nothing is written.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use database::error::Refusal;
use database::record::FunctionKind;
use database::recording::{Replay, Replayed};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::convex::push::{self, Keyed, StartPush};
use crate::host::Host;
use crate::recording::{Again, ended};
use crate::refusal::Failure;

/// What is to be run again.
#[derive(Deserialize)]
pub(crate) struct Asked {
    /// As `GET /api/concave/calls` gave it.
    recording: Value,
    /// The code to run, as a push sends it; none: what was deployed then.
    push: Option<StartPush>,
}

impl Keyed for Asked {
    fn admin_key(&self) -> Option<&str> {
        self.push.as_ref().and_then(Keyed::admin_key)
    }
}

/// Handles the request.
pub(crate) async fn replay(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    push::on_a_worker(host, request, |host, asked: Asked| {
        let replay = asked.replay(host)?;
        let replayed = host.functions.replay(replay).map_err(failure)?;
        Ok(shown(replayed))
    })
    .await
}

impl Asked {
    /// What functions are asked for.
    ///
    /// # Errors
    /// A recording that cannot be run again, or code that is none.
    pub(crate) fn replay(self, host: &Host) -> Result<Replay, Failure> {
        let unusable = |why: String| {
            let text = format!("The recording cannot be run again: {why}.");
            Failure::bad("InvalidRecording", text)
        };
        let Again { record, committed } = Again::read(&self.recording).map_err(unusable)?;
        let is_repeat = self.recording["cached"] == true
            && self.recording["kind"] == FunctionKind::Mutation.lower_name();
        if is_repeat {
            return Err(unusable(
                "it is a repeated delivery of a mutation that had committed, so nothing ran. Look \
                 for the first delivery with `concave calls --function`"
                    .to_owned(),
            ));
        }
        let call = record.call()?;
        let bundle = self.push.map(|push| push::bundle(host, push)).transpose()?;
        let given = record.given.clone();
        Ok(Replay { call, given, committed, bundle, debugger: None })
    }
}

/// Why nothing ran.
pub(crate) fn failure(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::OutOfRetention(_) => Failure::bad("OutOfRetention", refusal.to_string()),
        other => Failure::refused(other, false),
    }
}

/// What it came to.
pub(crate) fn shown(replayed: Replayed) -> Value {
    let Replayed { outcome, touched, code } = replayed;
    let mut shown: Map<String, Value> = Map::new();
    shown.insert("code".to_owned(), json!(code.to_string()));
    shown.insert("kind".to_owned(), json!(outcome.kind.lower_name()));
    let fields = ended(&outcome, touched.into());
    shown.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(shown)
}
