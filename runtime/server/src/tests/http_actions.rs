//! HTTP actions without V8: a handler written in Rust behind the seam, clients on real sockets.
//!
//! In: requests as bytes. Out: assertions on what the handler got and what the client read.
//! Invariant: a test waits for what must happen; none asserts how long it took.

use std::future::Future;

use bytes::Bytes;
use database::deployment::{Environment, Module};
use database::error::UserError;
use database::limits::{HTTP_DISCARD_BYTES, HTTP_RESPONSE_BYTES};
use database::record::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{Content, HttpActionEvent, HttpEnd, HttpResponse, Listeners, serve};

/// What a test does with a request.
struct Handler<F>(F);

impl<F, R> HttpActions for Handler<F>
where
    F: Fn(HttpRequest) -> R + Send + Sync + 'static,
    R: Future<Output = Result<HttpResponse, HttpFailure>> + Send + 'static,
{
    fn fetch(&self, request: HttpRequest) -> Answering {
        Box::pin((self.0)(request))
    }
}

/// A server on sockets, with an app that has an `http.ts`.
struct Site {
    cloud: String,
    site: String,
    events: Arc<Mutex<Vec<Event>>>,
    _stop: oneshot::Sender<()>,
}

impl Site {
    async fn with<F, R>(redact: bool, handler: F) -> Self
    where
        F: Fn(HttpRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<HttpResponse, HttpFailure>> + Send + 'static,
    {
        let (mut server, fake, events) = server(redact, Box::new(|_| Ok(Ok("null".into()))));
        server.http_actions = Arc::new(Handler(handler));
        let module = Module {
            path: "http.js".into(),
            source: "httpRouter".into(),
            source_map: None,
            environment: Environment::Isolate,
        };
        let mut bundle = Bundle::default();
        bundle.modules.insert("http.js".into(), module);
        let bundle = Arc::new(bundle);
        let analysis = fake.analyze(bundle.clone()).unwrap();
        fake.activate(bundle, analysis).unwrap();
        let cloud = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let (cloud_address, site_address) = (address(&cloud), address(&site));
        let (stop, stopped) = oneshot::channel::<()>();
        let listeners = Listeners { cloud, site: Some(site), gate: None };
        tokio::spawn(serve(server, listeners, async move { drop(stopped.await) }));
        Self { cloud: cloud_address, site: site_address, events, _stop: stop }
    }

    /// A connection to the app's origin on which these bytes were sent.
    async fn open(&self, bytes: &str) -> TcpStream {
        let mut socket = TcpStream::connect(&self.site).await.unwrap();
        socket.write_all(bytes.as_bytes()).await.unwrap();
        socket
    }

    /// Everything that is answered to these bytes, until the host closes the connection.
    async fn ask(&self, bytes: &str) -> String {
        let mut socket = self.open(bytes).await;
        let mut answer = Vec::new();
        // A response that is cut may end in a reset; what came before it counts.
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The events, once there are so many.
    async fn told(&self, count: usize) -> Vec<HttpActionEvent> {
        until(|| self.events.lock().unwrap().len() >= count).await;
        let events = self.events.lock().unwrap();
        let http = |event: &Event| match event {
            Event::HttpAction(event) => Some(event.clone()),
            Event::Call(_) | Event::Progress(_) | Event::Push(_) | Event::Invariant(_) => None,
        };
        events.iter().filter_map(http).collect()
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a count no longer grows, and gives it.
async fn settled(count: &AtomicU64) -> u64 {
    loop {
        let before = count.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
        if before > 0 && before == count.load(Ordering::Relaxed) {
            return before;
        }
    }
}

/// Bytes of a raw request that asks to be the last.
fn last(method: &str, target: &str, rest: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n{rest}\r\n")
}

/// A response whose body and end are sent by the test.
fn response(
    headers: &[(&str, &str)],
) -> (HttpResponse, mpsc::Sender<Result<Bytes, String>>, oneshot::Sender<HttpEnd>) {
    let (chunks, body) = mpsc::channel(1);
    let (ended, end) = oneshot::channel();
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    (HttpResponse { status: 200, headers, body: Content::Stream(body), end }, chunks, ended)
}

fn whole() -> HttpEnd {
    let log_lines = vec![log_line("handled")];
    HttpEnd { route: Some("/a/*".into()), error: None, log_lines }
}

/// A response of one text.
fn text(body: &str) -> HttpResponse {
    let (response, _, ended) = response(&[("content-type", "text/plain")]);
    ended.send(whole()).unwrap();
    HttpResponse { body: Content::Whole(body.to_owned().into()), ..response }
}

/// The whole body, or why it is not whole.
async fn collect(body: Option<crate::Body>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let Some(mut body) = body else { return Ok(bytes) };
    while let Some(chunk) = body.recv().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_on_both_origins() {
    let site = Site::with(false, |mut request| async move {
        let has_body = request.body.is_some();
        let body = collect(request.body.take()).await.unwrap();
        let HttpRequest { url, routed_path, method, headers, identity, .. } = request;
        let header = headers.into_iter().find(|(name, _)| name == "x-latin").map(|(_, v)| v);
        let body = String::from_utf8(body).unwrap();
        Ok(text(&format!("{method} {url} {routed_path} {header:?} {has_body} {body} {identity:?}")))
    })
    .await;
    let chunked = "transfer-encoding: chunked\r\nX-Latin: caf";
    let mut socket = site.open(last("PATCH", "/a%20b/c?d=%2F", chunked).trim_end()).await;
    socket.write_all(b"\xe9\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let expected = "PATCH http://app.example/a%20b/c?d=%2F /a%20b/c Some(\"café\") true abcdefg \
                    Ok(Anonymous)";
    assert!(answer.contains(expected), "{answer}");
    // GET and OPTIONS have no body even where one is sent; POST has none where none is.
    let with_body = "content-length: 2\r\n\r\nhi";
    for request in [last("GET", "/", with_body), last("OPTIONS", "/", with_body)] {
        assert!(site.ask(&request).await.contains(" / None false  Ok("), "{request}");
    }
    assert!(site.ask(&last("POST", "/", "content-length: 0\r\n")).await.contains(" / None false "));
    // CORS belongs to the app: no header of ours on either origin.
    let mut cloud = TcpStream::connect(&site.cloud).await.unwrap();
    let preflight = last("OPTIONS", "/http/a?b", "origin: http://other.example\r\n");
    cloud.write_all(preflight.as_bytes()).await.unwrap();
    let mut answer = String::new();
    cloud.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("OPTIONS http://app.example/a?b /a None false"), "{answer}");
    assert!(!answer.contains("access-control"), "{answer}");
}

#[tokio::test]
async fn a_response_leaves_chunk_by_chunk() {
    let (hand, mut handed) = mpsc::channel(1);
    let site = Site::with(false, move |_| {
        let (response, chunks, ended) =
            response(&[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("transfer-encoding", "x")]);
        hand.try_send((chunks, ended)).unwrap();
        async { Ok(response) }
    })
    .await;
    let mut client = site.open(&last("GET", "/a/1", "")).await;
    let (chunks, ended) = handed.recv().await.unwrap();
    let mut seen = Vec::new();
    for chunk in ["first", "second"] {
        chunks.send(Ok(chunk.into())).await.unwrap();
        // The next is not sent before this one was read.
        while !String::from_utf8_lossy(&seen).contains(chunk) {
            client.read_buf(&mut seen).await.unwrap();
        }
    }
    let head = String::from_utf8_lossy(&seen).into_owned();
    assert!(head.contains("set-cookie: a=1\r\nset-cookie: b=2\r\n"), "{head}");
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    drop(chunks);
    ended.send(whole()).unwrap();
    client.read_to_end(&mut seen).await.unwrap();
    assert!(seen.ends_with(b"\r\nsecond\r\n0\r\n\r\n"));
    let [event] = &site.told(1).await[..] else { panic!() };
    let got = (event.method.as_str(), event.path.as_str(), event.route.as_deref(), event.status);
    assert_eq!(got, ("GET", "/a/1", Some("/a/*"), Some(200)));
    assert_eq!(
        (event.error.as_deref(), event.log_lines.as_ref()),
        (None, &[log_line("handled")][..])
    );
}

#[tokio::test]
async fn a_client_that_reads_slowly_slows_the_handler() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    const CHUNK: usize = 64 << 10;
    let whole_size = HTTP_RESPONSE_BYTES as usize / CHUNK * CHUNK;
    let site = Site::with(false, move |_| {
        let (response, chunks, ended) = response(&[]);
        let count = count.clone();
        tokio::spawn(async move {
            for _ in 0..whole_size / CHUNK {
                chunks.send(Ok(Bytes::from_static(&[7; CHUNK]))).await.unwrap();
                count.fetch_add(CHUNK as u64, Ordering::Relaxed);
            }
            ended.send(whole()).unwrap();
        });
        async { Ok(response) }
    })
    .await;
    let mut client = site.open(&last("GET", "/", "")).await;
    let waiting = settled(&sent).await;
    assert!(waiting < HTTP_RESPONSE_BYTES * 3 / 4, "{waiting} bytes left for nobody");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    // The largest response that there may be arrives whole.
    assert_eq!(answer.iter().filter(|byte| **byte == 7).count(), whole_size);
    assert_eq!(site.told(1).await[0].error, None);
}

#[tokio::test]
async fn a_handler_that_reads_slowly_slows_the_client() {
    let (hand, mut handed) = mpsc::channel(1);
    let site = Site::with(false, move |request| {
        let (answer, answered) = oneshot::channel::<String>();
        hand.try_send((request.body.unwrap(), answer)).unwrap();
        async move { Ok(text(&answered.await.unwrap())) }
    })
    .await;
    const SIZE: usize = 48 << 20;
    let head = last("POST", "/", &format!("content-length: {SIZE}\r\n"));
    let (mut reading, mut writing) = site.open(&head).await.into_split();
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    tokio::spawn(async move {
        for _ in 0..SIZE >> 16 {
            writing.write_all(&[7; 1 << 16]).await.unwrap();
            count.fetch_add(1 << 16, Ordering::Relaxed);
        }
        // Dropped, it would tell the host that the client has gone.
        writing.forget();
    });
    let (body, answer) = handed.recv().await.unwrap();
    let waiting = settled(&sent).await;
    assert!(waiting < SIZE as u64 * 3 / 4, "{waiting} bytes taken for nobody");
    let body = collect(Some(body)).await.unwrap();
    answer.send(body.len().to_string()).unwrap();
    let mut answer = String::new();
    reading.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(&SIZE.to_string()), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_body_and_what_was_logged_is_told() {
    let (hand, mut handed) = mpsc::channel(1);
    let site = Site::with(false, move |_| {
        let (response, chunks, ended) = response(&[]);
        hand.try_send((chunks, ended)).unwrap();
        async { Ok(response) }
    })
    .await;
    let mut client = site.open("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (chunks, ended) = handed.recv().await.unwrap();
    chunks.send(Ok("first".into())).await.unwrap();
    client.read_u8().await.unwrap();
    drop(client);
    while chunks.send(Ok("more".into())).await.is_ok() {}
    assert!(site.events.lock().unwrap().is_empty(), "its handler has not ended");
    ended.send(whole()).unwrap();
    let [event] = &site.told(1).await[..] else { panic!() };
    assert_eq!((event.status, event.log_lines.len()), (Some(200), 1));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_leaves_its_handler_to_finish() {
    let (starts, mut started) = mpsc::channel(1);
    let site = Site::with(false, move |request| {
        let starts = starts.clone();
        async move {
            starts.send(()).await.unwrap();
            request.gone.await.unwrap_err();
            // Only now that nobody waits it answers.
            match &*request.routed_path {
                "/throws" => {
                    let error = FunctionError { message: "late".into(), data: None };
                    Err(HttpFailure::Threw(error, vec![log_line("before")]))
                }
                _ => Ok(text("to nobody")),
            }
        }
    })
    .await;
    for (at, (path, error)) in [("/answers", None), ("/throws", Some("late"))].iter().enumerate() {
        let client = site.open(&last("GET", path, "")).await;
        started.recv().await.unwrap();
        assert_eq!(site.events.lock().unwrap().len(), at, "its handler has not ended");
        drop(client);
        let event = &site.told(at + 1).await[at];
        assert_eq!((event.path.as_str(), event.status), (*path, None));
        assert_eq!((event.error.as_deref(), event.log_lines.len()), (*error, 1));
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_is_an_error_for_who_reads_it() {
    let (hand, mut handed) = mpsc::channel(1);
    let site = Site::with(false, move |request| {
        hand.try_send(request.body).unwrap();
        std::future::pending()
    })
    .await;
    for rest in ["content-length: 9\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let request = last("POST", "/", rest);
        let client = site.open(request.trim_end_matches("\r\n")).await;
        let mut body = handed.recv().await.unwrap().unwrap();
        assert_eq!(body.recv().await.unwrap().unwrap(), "abc");
        drop(client);
        let why = body.recv().await.expect("a cut body does not just end").unwrap_err();
        assert!(why.contains("ended early"), "{why}");
    }
}

#[tokio::test]
async fn an_answer_before_the_upload_is_over_reaches_the_client() {
    let site = Site::with(false, |_| async { Ok(text("enough")) }).await;
    let size = HTTP_DISCARD_BYTES as usize - 1;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n");
    let mut client = site.open(&head).await;
    client.write_all(&vec![7; size]).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"enough") {
        client.read_buf(&mut answer).await.unwrap();
    }
    // And the connection serves on.
    client.write_all(last("GET", "/", "").as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("enough"), "{answer}");
    // Nobody sends for ever.
    let endless = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n";
    let mut client = site.open(endless).await;
    while client.write_all(&[7; 1 << 16]).await.is_ok() {}
}

#[tokio::test]
async fn a_response_that_is_not_whole_is_cut() {
    let site = Site::with(false, |request| async move {
        let promise = [("content-length", "8")];
        let is_promised = ["/longer", "/shorter"].contains(&&*request.routed_path);
        let (response, chunks, ended) = response(&promise[usize::from(!is_promised)..]);
        tokio::spawn(async move {
            match &*request.routed_path {
                "/longer" | "/shorter" => {
                    let is_longer = &*request.routed_path == "/longer";
                    for _ in 0..1 + 2 * usize::from(is_longer) {
                        drop(chunks.send(Ok("four".into())).await);
                    }
                    drop(chunks);
                    ended.send(whole()).unwrap();
                }
                "/large" => {
                    let chunk = Bytes::from_static(&[b'x'; 1 << 20]);
                    while chunks.send(Ok(chunk.clone())).await.is_ok() {}
                    ended.send(whole()).unwrap();
                }
                "/throws" => {
                    chunks.send(Ok("begun".into())).await.unwrap();
                    chunks.send(Err("the stream errored".into())).await.unwrap();
                    ended.send(whole()).unwrap();
                }
                "/late" => {
                    chunks.send(Ok("begun".into())).await.unwrap();
                    drop(chunks);
                    let error = FunctionError { message: "late".into(), data: None };
                    ended.send(HttpEnd { error: Some(error), ..whole() }).unwrap();
                }
                _ => chunks.send(Ok("begun".into())).await.unwrap(),
            }
        });
        Ok(response)
    })
    .await;
    let cases = [
        ("/large", "HTTP actions support responses up to 20 MiB", 1),
        ("/throws", "the stream errored", 1),
        ("/late", "late", 1),
        ("/longer", "body is longer than its Content-Length header says (8 bytes)", 1),
        ("/shorter", "body is shorter than its Content-Length header says (8 bytes)", 1),
        ("/dies", "the handler's process ended", 0),
    ];
    for (at, (path, error, lines)) in cases.into_iter().enumerate() {
        let answer = site.ask(&last("GET", path, "")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{path}");
        assert!(!answer.ends_with("\r\n0\r\n\r\n"), "{path} looks whole");
        // With its head, and the sizes of its pieces.
        assert!(answer.len() as u64 <= HTTP_RESPONSE_BYTES + 16_384, "{path}");
        let event = &site.told(at + 1).await[at];
        assert!(event.error.as_ref().is_some_and(|why| why.contains(error)), "{event:?}");
        assert_eq!((event.status, event.log_lines.len()), (Some(200), lines), "{path}");
    }
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let (hand, mut handed) = mpsc::channel(1);
    let site = Site::with(false, move |request| {
        assert_eq!(request.method, "HEAD");
        let (response, chunks, ended) = response(&[("content-length", "5"), ("x-a", "1")]);
        hand.try_send((chunks, ended)).unwrap();
        async { Ok(response) }
    })
    .await;
    let request = last("HEAD", "/", "");
    let (answer, ()) = tokio::join!(site.ask(&request), async {
        let (chunks, ended) = handed.recv().await.unwrap();
        chunks.closed().await;
        ended.send(whole()).unwrap();
    });
    assert!(answer.contains("content-length: 5\r\n") && answer.contains("x-a: 1\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    let [event] = &site.told(1).await[..] else { panic!() };
    assert_eq!((event.error.as_deref(), event.log_lines.len()), (None, 1));
}

#[tokio::test]
async fn what_the_host_answers_in_place_of_the_handler() {
    let threw = || {
        let message = "Uncaught Error: boom\n    at handler (../convex/http.ts:3:9)\n".to_owned();
        HttpFailure::Threw(FunctionError { message, data: None }, vec![log_line("before")])
    };
    let handler = move |request: HttpRequest| {
        let id = request.request_id.clone();
        let result = match &*request.routed_path {
            "/none" => Err(HttpFailure::NoRoute),
            "/throws" => Err(threw()),
            "/busy" => Err(HttpFailure::Refused(Refusal::Overloaded {
                code: "TooManyConcurrentRequests",
                message: "64 run already".into(),
            })),
            "/id" => Ok(text(&id)),
            _ => {
                let (mut response, ..) = response(&[("x y", "1")]);
                response.status = 200;
                Ok(response)
            }
        };
        async { result }
    };
    let site = Site::with(false, handler).await;
    let missing = site.ask(&last("GET", "/none", "")).await;
    assert!(missing.starts_with("HTTP/1.1 404 ") && missing.contains("text/plain"), "{missing}");
    assert!(missing.ends_with("\r\n\r\nNo matching routes found"), "{missing}");
    let threw = site.ask(&last("GET", "/throws", "")).await;
    assert!(threw.starts_with("HTTP/1.1 500 ") && threw.contains("application/json"), "{threw}");
    let body: Value = serde_json::from_str(threw.split_once("\r\n\r\n").unwrap().1).unwrap();
    let code = body["code"].as_str().unwrap();
    assert!(code.ends_with("] Server Error: Uncaught Error: boom"), "{code}");
    assert!(body["trace"].as_str().unwrap().contains("http.ts:3:9"), "{body}");
    let busy = site.ask(&last("GET", "/busy", "")).await;
    assert!(busy.starts_with("HTTP/1.1 429 ") && busy.contains("64 run already"), "{busy}");
    let broken = site.ask(&last("GET", "/header", "")).await;
    assert!(broken.starts_with("HTTP/1.1 500 ") && broken.contains("x y"), "{broken}");
    let statuses: Vec<_> = site.told(4).await.iter().map(|event| event.status).collect();
    assert_eq!(statuses, [Some(404), Some(500), Some(429), Some(500)]);
    assert_eq!(site.told(4).await[1].log_lines.len(), 1);
    let moved = site.ask("GET /id HTTP/1.1\r\nhost: a/b\r\nconnection: close\r\n\r\n").await;
    assert!(moved.starts_with("HTTP/1.1 400 ") && moved.contains("InvalidUrl"), "{moved}");

    let site = Site::with(true, handler).await;
    let redacted = site.ask(&last("GET", "/throws", "")).await;
    assert!(redacted.ends_with(" Server Error\"}") && !redacted.contains("boom"), "{redacted}");
}

#[tokio::test]
async fn a_header_that_proves_nothing_turns_nobody_away() {
    let site = Site::with(false, |request| async move {
        Ok(text(&match request.identity {
            Ok(identity) => format!("is {identity:?}"),
            Err(UserError { code, message, .. }) => format!("throws {code}: {message}"),
        }))
    })
    .await;
    let who = async |header: &str, target: &str| site.ask(&last("GET", target, header)).await;
    assert!(who("", "/").await.contains("is Anonymous"));
    // A parameter of the URL is the app's, whatever it is called.
    assert!(who("", "/?adminKey=wrong").await.contains("is Anonymous"));
    let operator = format!("authorization: Convex {KEY}\r\n");
    assert!(who(&operator, "/").await.contains(&format!("is {:?}", Identity::Admin)));
    for (header, code) in [
        ("Basic dXNlcjpwYXNz", "InvalidHeaderFailure"),
        ("whsec_1", "InvalidHeaderFailure"),
        ("Bearer sk_live_1", "InvalidAuthHeader"),
        ("Convex wrong", "BadDeployKey"),
    ] {
        let answer = who(&format!("authorization: {header}\r\n"), "/").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(&format!("throws {code}: ")), "{header}: {answer}");
    }
}
