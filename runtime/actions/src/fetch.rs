//! The ops of `js/web/fetch.js`: one HTTP exchange each, over hyper and rustls.
//!
//! In: a method, a URL, headers, a body. Out: a status, headers, a body, streaming both ways.
//! Invariant: connections go only where the operator allows it (`network.rs`); bodies are bounded
//! and never held whole; a cancelled exchange answers everyone who waits for it, and is gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deno_core::{Extension, JsBuffer, OpState, ToJsBuffer, op2};
use deno_error::JsErrorBox;
use http_body_util::BodyExt as _;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};

use crate::decoding::{Decoding, PIECE_BYTES};
use crate::explanation::{code, explain, is_refusal, named};
use crate::network::Connector;
use crate::outgoing::{Outgoing, Writer};
use crate::run_state::RunState;
use crate::tls;

deno_core::extension!(
    concave_web,
    deps = [deno_web],
    ops = [
        op_fetch_start,
        op_fetch_response,
        op_fetch_write,
        op_fetch_end,
        op_fetch_read,
        op_fetch_cancel,
        op_fetch_redirects,
        op_fetch_whole_body,
    ],
    lazy_loaded_js = [
        dir "../../js/web",
        "body.js",
        "fetch.js",
        "form_data.js",
        "headers.js",
        "multipart.js",
        "request.js",
        "response.js",
    ],
);

/// The extension, with the scripts of `js/web` as `ext:concave_web/….js`.
pub(crate) fn extension() -> Extension {
    concave_web::init()
}

/// What exchanges may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchLimits {
    /// Redirects that are followed.
    pub redirects: u32,
    /// The body of one response, decoded, in bytes.
    pub body_bytes: u64,
    /// The body of one response that is read at once, in bytes.
    pub whole_body_bytes: u32,
    /// How long an address may take to answer, in milliseconds.
    pub connect_ms: u64,
}

type Https = hyper_rustls::HttpsConnector<Connector>;
type Http = Client<Https, Outgoing>;

/// The exchanges of one run, and the connections that they share.
#[derive(Default)]
struct Exchanges {
    client: Option<Http>,
    next: u32,
    open: HashMap<u32, Rc<Exchange>>,
}

/// One request and its response.
struct Exchange {
    url: String,
    limit: u64,
    head_only: bool,
    cancelled: Notify,
    request: RefCell<Option<(Http, Request<Outgoing>)>>,
    writer: RefCell<Option<Writer>>,
    body: Mutex<Option<Incoming>>,
}

/// A response's body as far as it was read.
struct Incoming {
    body: hyper::body::Incoming,
    decoding: Decoding,
    /// A chunk that came in and is to be decoded, piece by piece.
    coded: Bytes,
    left: u64,
}

#[derive(Deserialize)]
struct Head {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    streams: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: u16,
    status_text: String,
    headers: Vec<(String, String)>,
}

/// What an exchange came to, where it is not an error of the request itself.
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome<T> {
    Came(T),
    Broke { failure: Failure },
}

/// What the network did. The script throws it, with whoever waits on the stack.
#[derive(Serialize)]
struct Failure {
    reason: String,
    code: Option<&'static str>,
}

fn failed(url: &str, why: impl std::fmt::Display) -> JsErrorBox {
    JsErrorBox::type_error(format!("Could not fetch {}: {why}", named(url)))
}

fn exchanges(state: &mut OpState) -> &mut Exchanges {
    if !state.has::<Exchanges>() {
        state.put(Exchanges::default());
    }
    state.borrow_mut()
}

fn exchange(state: &Rc<RefCell<OpState>>, id: u32) -> Result<Rc<Exchange>, JsErrorBox> {
    let mut state = state.borrow_mut();
    let found = exchanges(&mut state).open.get(&id).cloned();
    found.ok_or_else(|| JsErrorBox::type_error("The request was cancelled"))
}

#[op2]
fn op_fetch_start(
    state: &mut OpState,
    #[serde] head: Head,
    #[buffer] bytes: Option<JsBuffer>,
) -> Result<u32, JsErrorBox> {
    let run = Rc::clone(state.borrow::<Rc<RunState>>());
    let client = client_of(state, &run).map_err(|why| failed(&head.url, why))?;
    let (body, writer) = if head.streams {
        let (body, writer) = Outgoing::streamed();
        (body, Some(writer))
    } else {
        (Outgoing::Whole(bytes.map(|bytes| Bytes::copy_from_slice(&bytes))), None)
    };
    let request = request_of(&head, body).map_err(|why| failed(&head.url, why))?;
    let all = exchanges(state);
    all.next += 1;
    let exchange = Exchange {
        limit: run.limits.fetch.body_bytes,
        head_only: head.method == "HEAD",
        url: head.url,
        cancelled: Notify::new(),
        request: RefCell::new(Some((client, request))),
        writer: RefCell::new(writer),
        body: Mutex::new(None),
    };
    all.open.insert(all.next, Rc::new(exchange));
    Ok(all.next)
}

/// The run's client: its connections live as long as the run.
fn client_of(state: &mut OpState, run: &RunState) -> Result<Http, String> {
    if let Some(client) = &exchanges(state).client {
        return Ok(client.clone());
    }
    let connector = Connector {
        network: Arc::clone(&run.network),
        patience: Duration::from_millis(run.limits.fetch.connect_ms),
    };
    let https = Https::from((connector, tls::configuration()?));
    let client = Client::builder(TokioExecutor::new()).build(https);
    exchanges(state).client = Some(client.clone());
    Ok(client)
}

const TOO_MANY_HEADERS: &str = "it has too many headers to be sent.";

fn request_of(head: &Head, body: Outgoing) -> Result<Request<Outgoing>, String> {
    let uri: Uri = head.url.parse().map_err(|e| format!("it is no URL for HTTP: {e}."))?;
    let method = Method::from_bytes(head.method.as_bytes()).map_err(|e| format!("{e}."))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        let bad = || format!("the header {name} cannot be sent.");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        // The characters of a header are bytes, as JavaScript gives them.
        let bytes: Option<Vec<u8>> =
            value.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).ok_or_else(bad)?;
        // How long the body is and how it is sent is up to the connection.
        if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING {
            headers.try_append(name, value).map_err(|_| TOO_MANY_HEADERS)?;
        }
    }
    let accepted =
        if headers.contains_key(header::RANGE) { "identity" } else { "gzip, deflate, br" };
    let agent = concat!("concave/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        (header::ACCEPT, "*/*"),
        (header::ACCEPT_LANGUAGE, "*"),
        (header::ACCEPT_ENCODING, accepted),
        (header::USER_AGENT, agent),
    ] {
        let entry = headers.try_entry(name).map_err(|_| TOO_MANY_HEADERS)?;
        entry.or_insert(HeaderValue::from_static(value));
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

#[op2]
#[serde]
async fn op_fetch_response(
    state: Rc<RefCell<OpState>>,
    #[smi] id: u32,
) -> Result<Outcome<Answer>, JsErrorBox> {
    let run = Rc::clone(state.borrow().borrow::<Rc<RunState>>());
    let _under_way = run.under_way("fetch");
    let exchange = exchange(&state, id)?;
    let Some((client, request)) = exchange.request.take() else {
        return Err(failed(&exchange.url, "its response was taken already."));
    };
    let answered = tokio::select! {
        answered = client.request(request) => answered,
        () = exchange.cancelled.notified() => {
            return Err(failed(&exchange.url, "it was cancelled."));
        }
    };
    let response = match answered {
        Ok(response) => response,
        Err(error) => {
            exchanges(&mut state.borrow_mut()).open.remove(&id);
            let reason = explain(&error);
            if is_refusal(&error) {
                return Err(failed(&exchange.url, reason));
            }
            return Ok(Outcome::Broke { failure: Failure { reason, code: code(&error) } });
        }
    };
    let coding = response.headers().get(header::CONTENT_ENCODING);
    let coding = coding.and_then(|coding| coding.to_str().ok());
    let decoding = coding.map(Decoding::of).unwrap_or_default();
    let answer = answer_of(&response, &decoding);
    exchange.receive(response, decoding).await?;
    Ok(Outcome::Came(answer))
}

fn answer_of(response: &Response<hyper::body::Incoming>, decoding: &Decoding) -> Answer {
    let text =
        |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    // What is read is decoded; its coding and length are not those of what was sent.
    let is_coded = !decoding.is_identity();
    let of_the_coded = [header::CONTENT_ENCODING, header::CONTENT_LENGTH];
    let headers = response.headers().iter();
    let headers = headers.filter(|(name, _)| !(is_coded && of_the_coded.contains(name)));
    let status = response.status();
    let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
    Answer {
        status: status.as_u16(),
        status_text: match reason {
            Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
            None => status.canonical_reason().unwrap_or_default().to_owned(),
        },
        headers: headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
    }
}

impl Exchange {
    async fn receive(
        &self,
        response: Response<hyper::body::Incoming>,
        decoding: Decoding,
    ) -> Result<(), JsErrorBox> {
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if !self.head_only && length.is_some_and(|length| length > self.limit) {
            return Err(self.too_large());
        }
        let body = response.into_body();
        let incoming = Incoming { body, decoding, coded: Bytes::new(), left: self.limit };
        *self.body.lock().await = Some(incoming);
        Ok(())
    }

    fn too_large(&self) -> JsErrorBox {
        let mebibytes = self.limit >> 20;
        failed(
            &self.url,
            format!(
                "the response is larger than {mebibytes} MiB, the most that an action takes. Ask \
                 the server for a part of it with a Range header."
            ),
        )
    }

    /// The next chunk; `None` at the end.
    async fn next(&self) -> Result<Outcome<Option<Vec<u8>>>, JsErrorBox> {
        let mut held = self.body.lock().await;
        let Some(incoming) = held.as_mut() else { return Ok(Outcome::Came(None)) };
        let found = incoming.next(&self.url).await?;
        if let Outcome::Came(Some(chunk)) = &found {
            let left = incoming.left.checked_sub(chunk.len() as u64);
            incoming.left = left.ok_or_else(|| self.too_large())?;
        } else {
            *held = None;
        }
        Ok(found)
    }
}

impl Incoming {
    async fn next(&mut self, url: &str) -> Result<Outcome<Option<Vec<u8>>>, JsErrorBox> {
        let undecodable = |error: std::io::Error| {
            failed(url, format!("its body is not what its Content-Encoding says ({error})."))
        };
        loop {
            while !self.coded.is_empty() {
                let piece = self.coded.split_to(self.coded.len().min(PIECE_BYTES));
                let bytes = self.decoding.decode(&piece).map_err(undecodable)?;
                if !bytes.is_empty() {
                    return Ok(Outcome::Came(Some(bytes)));
                }
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if self.decoding.is_identity() && !data.is_empty() => {
                        return Ok(Outcome::Came(Some(data.into())));
                    }
                    Ok(data) => self.coded = data,
                    // Trailers: nobody can ask for them.
                    Err(_) => {}
                },
                Some(Err(error)) => {
                    let reason = format!("its body broke off: {}", explain(&error));
                    return Ok(Outcome::Broke { failure: Failure { reason, code: code(&error) } });
                }
                None => {
                    let last = self.decoding.finish().map_err(undecodable)?;
                    self.decoding = Decoding::default();
                    return Ok(Outcome::Came((!last.is_empty()).then_some(last)));
                }
            }
        }
    }
}

/// Hands a chunk to the connection; false when nobody wants more.
#[op2]
async fn op_fetch_write(
    state: Rc<RefCell<OpState>>,
    #[smi] id: u32,
    #[buffer] bytes: JsBuffer,
) -> Result<bool, JsErrorBox> {
    let Ok(exchange) = exchange(&state, id) else { return Ok(false) };
    let Some(writer) = exchange.writer.borrow().clone() else { return Ok(false) };
    Ok(writer.write(Bytes::copy_from_slice(&bytes)).await)
}

/// Ends the request's body.
#[op2(fast)]
fn op_fetch_end(state: &mut OpState, #[smi] id: u32) {
    if let Some(exchange) = exchanges(state).open.get(&id)
        && let Some(writer) = exchange.writer.take()
    {
        writer.end();
    }
}

#[op2]
#[serde]
async fn op_fetch_read(
    state: Rc<RefCell<OpState>>,
    #[smi] id: u32,
) -> Result<Outcome<Option<ToJsBuffer>>, JsErrorBox> {
    let run = Rc::clone(state.borrow().borrow::<Rc<RunState>>());
    let _under_way = run.under_way("fetch");
    let exchange = exchange(&state, id)?;
    let read = tokio::select! {
        read = exchange.next() => read,
        () = exchange.cancelled.notified() => Err(failed(&exchange.url, "it was cancelled.")),
    };
    if !matches!(read, Ok(Outcome::Came(Some(_)))) {
        exchanges(&mut state.borrow_mut()).open.remove(&id);
    }
    Ok(match read? {
        Outcome::Came(bytes) => Outcome::Came(bytes.map(ToJsBuffer::from)),
        Outcome::Broke { failure } => Outcome::Broke { failure },
    })
}

#[op2(fast)]
fn op_fetch_cancel(state: &mut OpState, #[smi] id: u32) {
    if let Some(exchange) = exchanges(state).open.remove(&id) {
        exchange.writer.take();
        exchange.request.take();
        exchange.cancelled.notify_waiters();
    }
}

#[op2(fast)]
fn op_fetch_redirects(state: &mut OpState) -> u32 {
    state.borrow::<Rc<RunState>>().limits.fetch.redirects
}

#[op2(fast)]
fn op_fetch_whole_body(state: &mut OpState) -> u32 {
    state.borrow::<Rc<RunState>>().limits.fetch.whole_body_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_headers_than_can_be_sent_are_an_error() {
        let given = |count: usize| Head {
            method: "GET".to_owned(),
            url: "https://a.b/".to_owned(),
            headers: (0..count).map(|n| (format!("x-{n}"), "v".to_owned())).collect(),
            streams: false,
        };
        assert!(request_of(&given(1_000), Outgoing::streamed().0).is_ok());
        let refused = request_of(&given(40_000), Outgoing::streamed().0);
        assert_eq!(refused.err().as_deref(), Some(TOO_MANY_HEADERS));
    }
}
