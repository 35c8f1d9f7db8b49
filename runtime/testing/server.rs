//! The engine for tests that another runner runs: `concave test-server`, for vitest.
//!
//! In: one question a line, `{"id", "op", "json", "body"}`, `body` as base64 where bytes belong to
//! it. Out: one answer a line, `{"id", "result", "body"}` or `{"id", "error": {"message",
//! "data"}}`, in the order in which they are ready. Invariant: what is asked for is what the
//! workers of `concave test` ask for; the end of the input is the end of all worlds.

use std::sync::Arc;

use ::actions::pool::{Callbacks as _, Reply, Syscall};
use ::actions::protocol::Thrown;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{Receiver, channel, unbounded_channel};

use super::realm::{Bench, Realm};

/// A question.
#[derive(Deserialize)]
struct Asked {
    id: u64,
    op: String,
    json: String,
    body: Option<String>,
}

/// Its answer.
#[derive(Serialize)]
struct Answered {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Thrown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// Answers until nobody asks any more.
///
/// # Errors
/// Pipes that break, a line that is no question.
pub async fn serve(
    bench: Arc<Bench>,
    input: impl AsyncBufRead + Unpin,
    mut output: impl AsyncWrite + Unpin + Send + 'static,
) -> std::io::Result<()> {
    // Whoever runs the tests knows when they begin and end.
    let (news, _) = unbounded_channel();
    let realm = Realm::new(bench, news);
    let (answers, mut ready) = unbounded_channel::<String>();
    let writer = tokio::spawn(async move {
        while let Some(line) = ready.recv().await {
            if output.write_all(line.as_bytes()).await.is_err() || output.flush().await.is_err() {
                return;
            }
        }
    });
    let mut lines = input.lines();
    while let Some(line) = lines.next_line().await? {
        let asked: Asked = serde_json::from_str(&line)?;
        let (realm, answers) = (Arc::clone(&realm), answers.clone());
        tokio::spawn(async move {
            let answer = answer(&realm, asked).await;
            let line = serde_json::to_string(&answer).unwrap_or_default();
            // Nobody reads it: the tests have ended.
            let _ = answers.send(line + "\n");
        });
    }
    realm.close();
    drop(answers);
    // What still runs has nobody to tell.
    writer.abort();
    Ok(())
}

async fn answer(realm: &Realm, asked: Asked) -> Answered {
    let Asked { id, op, json, body } = asked;
    let body = body.map(|text| {
        let (sender, receiver) = channel(1);
        let bytes = BASE64.decode(text).map_err(|error| error.to_string());
        // There is room for one.
        let _ = sender.try_send(bytes.map(Into::into));
        receiver
    });
    let Reply { result, body, .. } = realm.syscall(Syscall { op, json, body }).await;
    let (result, error) = match result {
        Ok(text) => (Some(text), None),
        Err(thrown) => (None, Some(thrown)),
    };
    match body.map(whole) {
        None => Answered { id, result, error, body: None },
        Some(bytes) => match bytes.await {
            Ok(bytes) => Answered { id, result, error, body: Some(BASE64.encode(bytes)) },
            Err(message) => {
                let error = Some(Thrown { message, ..Thrown::default() });
                Answered { id, result: None, error, body: None }
            }
        },
    }
}

async fn whole(mut body: Receiver<Result<bytes::Bytes, String>>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.recv().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}
