//! An HTTP client of a running host: the same endpoints that Convex's own command line uses.
//!
//! In: an endpoint and JSON. Out: JSON, or an error that names the host and what to do.
//! Invariant: the admin key leaves the process in the `Authorization` header and in the body fields
//! of the deploy protocol, and appears in no message.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::http::{self, request::Builder};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::client::legacy::Client as Connections;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::target::Address;

/// Longest wait for one answer: pushes evaluate code and fill indexes.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How this client names itself, in the form that hosts check.
const NAME: &str = concat!("concave-", env!("CARGO_PKG_VERSION"));

/// A host, over HTTP.
pub struct Client {
    address: Address,
    identity: Option<String>,
    connections: Connections<HttpConnector, Full<Bytes>>,
}

/// Why an exchange with the host failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Not an address this client can use.
    #[error("{url:?} is not the address of a host. Write it as http://127.0.0.1:3210.")]
    Address {
        /// What was given.
        url: String,
    },
    /// `https:`.
    #[error(
        "concave's commands speak plain HTTP, and {url} is not. Give the address of the host \
         itself, behind its proxy, or use the npm package's command line: npx convex."
    )]
    Encrypted {
        /// What was given.
        url: String,
    },
    /// Nothing answers.
    #[error(
        "Nothing answers at {url} ({cause}). Is the host running? Start it with `concave dev`, or \
         name another with --url."
    )]
    Unreachable {
        /// The host.
        url: String,
        /// The system's words.
        cause: String,
    },
    /// No answer in time.
    #[error("{url} did not answer within {} seconds.", TIMEOUT.as_secs())]
    TimedOut {
        /// The host.
        url: String,
    },
    /// An answer that ended early.
    #[error(
        "What {url} sent ended early ({cause}): it is not whole, and nothing of it was kept. If \
         the host has cut it, its log says why; else try again."
    )]
    Cut {
        /// The host.
        url: String,
        /// The system's words.
        cause: String,
    },
    /// The host said no.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Short CamelCase code.
        code: String,
        /// Why, in the host's words.
        message: String,
    },
    /// Something else than a host answered.
    #[error("What answers at {url}{endpoint} is not a concave host: {cause}. Check the address.")]
    Foreign {
        /// The host.
        url: String,
        /// The endpoint.
        endpoint: String,
        /// What is wrong with the answer.
        cause: String,
    },
}

impl Client {
    /// A client of the host at `address`.
    ///
    /// # Errors
    /// An address that is not `http://host:port`.
    pub fn new(mut address: Address) -> Result<Self, ClientError> {
        let url = address.url.trim_end_matches('/').to_owned();
        let parsed: Option<Uri> = url.parse().ok();
        match parsed.as_ref().and_then(Uri::scheme_str) {
            Some("http") if parsed.as_ref().is_some_and(|uri| uri.host().is_some()) => {}
            Some("https") => return Err(ClientError::Encrypted { url }),
            _ => return Err(ClientError::Address { url }),
        }
        address.url = url;
        let connections = Connections::builder(TokioExecutor::new()).build_http();
        Ok(Self { address, identity: None, connections })
    }

    /// Calls as this user (JSON text of an identity) from now on.
    pub fn act_as(&mut self, identity: &str) {
        self.identity = Some(STANDARD.encode(identity));
    }

    /// The host's address.
    pub fn url(&self) -> &str {
        &self.address.url
    }

    /// The operator's secret, for the bodies of the deploy protocol.
    pub(crate) fn admin_key(&self) -> &str {
        &self.address.admin_key
    }

    /// Posts JSON and reads JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        body: &serde_json::Value,
    ) -> Result<T, ClientError> {
        self.send(endpoint, body.to_string().into(), None).await
    }

    /// Gets JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, endpoint: &str) -> Result<T, ClientError> {
        self.exchange(endpoint, self.request(Method::GET, endpoint).body(Bytes::new().into())).await
    }

    /// The same with a body compressed as the deploy protocol wants it, unless it stays on this
    /// machine.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post_compressed<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        body: &serde_json::Value,
    ) -> Result<T, ClientError> {
        let text = body.to_string();
        if is_here(&self.address.url) {
            return self.send(endpoint, text.into(), None).await;
        }
        self.send(endpoint, compress(text.as_bytes()).into(), Some("br")).await
    }

    /// Posts bytes and reads JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post_bytes<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let request = self.request(Method::POST, endpoint);
        let request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        self.exchange(endpoint, request.body(Full::new(body))).await
    }

    /// Gets bytes, piece by piece.
    ///
    /// # Errors
    /// See [`ClientError`], [`ClientError::Cut`] where they end early; `take`'s own.
    pub async fn download<E: From<ClientError>>(
        &self,
        endpoint: &str,
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pieces(self.request(Method::GET, endpoint), endpoint, take).await
    }

    /// Posts nothing, and hears what the host says for as long as it says something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn follow(
        &self,
        endpoint: &str,
        mut hear: impl FnMut(&[u8]),
    ) -> Result<(), ClientError> {
        let hear = |bytes: &[u8]| {
            hear(bytes);
            Ok(())
        };
        self.pieces(self.request(Method::POST, endpoint), endpoint, hear).await
    }

    async fn pieces<E: From<ClientError>>(
        &self,
        request: Builder,
        endpoint: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let url = || self.address.url.clone();
        let request = request.body(Full::new(Bytes::new()));
        let request = request.map_err(|_| ClientError::Address { url: url() })?;
        let unreachable = |cause: String| ClientError::Unreachable { url: url(), cause };
        let response = self.connections.request(request).await.map_err(|error| {
            let (cause, url) = (root_cause(&error), url());
            match ends_early(&error) {
                true => ClientError::Cut { url, cause },
                false => ClientError::Unreachable { url, cause },
            }
        })?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let said = body.collect().await.map_err(|error| unreachable(error.to_string()))?;
            return Err(self.refusal(endpoint, status, &said.to_bytes()).into());
        }
        let cut = |error: hyper::Error| ClientError::Cut { url: url(), cause: root_cause(&error) };
        while let Some(frame) = body.frame().await {
            take(&frame.map_err(cut)?.into_data().unwrap_or_default())?;
        }
        Ok(())
    }

    async fn send<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        body: Bytes,
        encoding: Option<&str>,
    ) -> Result<T, ClientError> {
        let mut request = self.request(Method::POST, endpoint);
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(encoding) = encoding {
            request = request.header(header::CONTENT_ENCODING, encoding);
        }
        self.exchange(endpoint, request.body(Full::new(body))).await
    }

    fn request(&self, method: Method, endpoint: &str) -> Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{endpoint}", self.address.url))
            .header(header::AUTHORIZATION, self.authorization())
            .header("Convex-Client", NAME)
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Result<T, ClientError> {
        let url = || self.address.url.clone();
        let request = request.map_err(|_| ClientError::Address { url: url() })?;
        let exchange = async {
            let unreachable = |cause: String| ClientError::Unreachable { url: url(), cause };
            let response =
                self.connections.request(request).await.map_err(|e| unreachable(root_cause(&e)))?;
            let status = response.status();
            let body = response.into_body().collect().await;
            let body = body.map_err(|e| unreachable(e.to_string()))?.to_bytes();
            Ok((status, body))
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange).await;
        let (status, body) = answer.map_err(|_| ClientError::TimedOut { url: url() })??;
        if !status.is_success() {
            return Err(self.refusal(endpoint, status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| self.foreign(endpoint, error.to_string()))
    }

    fn authorization(&self) -> String {
        match &self.identity {
            Some(identity) => format!("Convex {}:{identity}", self.address.admin_key),
            None => format!("Convex {}", self.address.admin_key),
        }
    }

    fn refusal(&self, endpoint: &str, status: StatusCode, body: &[u8]) -> ClientError {
        #[derive(serde::Deserialize)]
        struct Said {
            code: String,
            message: String,
        }
        match serde_json::from_slice(body) {
            Ok(Said { code, message }) => ClientError::Refused { status, code, message },
            Err(_) => self.foreign(endpoint, format!("it says {status}")),
        }
    }

    fn foreign(&self, endpoint: &str, cause: String) -> ClientError {
        ClientError::Foreign { url: self.address.url.clone(), endpoint: endpoint.into(), cause }
    }
}

/// Whether an address is this machine's own, to which bytes go faster than they are packed.
fn is_here(url: &str) -> bool {
    let url = url.parse::<Uri>().ok().filter(|url| url.scheme().is_some());
    let host = url.and_then(|url| Some(url.host()?.to_owned()));
    matches!(host.as_deref(), Some("127.0.0.1" | "localhost" | "[::1]"))
}

/// A text as the value of a URL's parameter, every byte escaped.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Brotli at a level where packing costs less time than it saves on a slow line, and almost none
/// over loopback.
fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(bytes.len() / 4);
    let parameters =
        brotli::enc::BrotliEncoderParams { quality: 2, lgwin: 22, ..Default::default() };
    brotli::BrotliCompress(&mut &bytes[..], &mut packed, &parameters)
        .expect("reading from and writing to memory cannot fail");
    packed
}

/// Whether the host has begun an exchange and cut it before it said anything.
fn ends_early(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_incomplete_message))
}

/// The innermost reason: `Connection refused`, not `client error (Connect)`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client, ClientError> {
        Client::new(Address { url: url.into(), admin_key: "secret|key".into() })
    }

    #[test]
    fn only_http_origins_are_addresses() {
        assert_eq!(client("http://127.0.0.1:3210/").unwrap().url(), "http://127.0.0.1:3210");
        assert!(matches!(client("127.0.0.1:3210"), Err(ClientError::Address { .. })));
        assert!(matches!(client("ftp://x"), Err(ClientError::Address { .. })));
        assert!(matches!(client("https://x"), Err(ClientError::Encrypted { .. })));
    }

    #[test]
    fn only_what_leaves_the_machine_is_packed() {
        for url in ["http://127.0.0.1:3210", "http://localhost:1", "http://[::1]:3210/"] {
            assert!(is_here(url), "{url}");
        }
        for url in ["http://10.0.0.1:3210", "https://127.0.0.1.example.org"] {
            assert!(!is_here(url), "{url}");
        }
    }

    #[test]
    fn what_is_compressed_unpacks_to_the_same() {
        let text = "the same words, the same words, the same words".repeat(50);
        let packed = compress(text.as_bytes());
        assert!(packed.len() < text.len() / 4);
        let mut unpacked = Vec::new();
        brotli::BrotliDecompress(&mut &packed[..], &mut unpacked).unwrap();
        assert_eq!(unpacked, text.as_bytes());
    }

    #[tokio::test]
    async fn a_host_that_is_not_there_is_named_with_the_cure_and_without_the_key() {
        // A port that was free a moment ago and that nothing listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = client(&format!("http://127.0.0.1:{port}")).unwrap();
        let error = client.post::<serde_json::Value>("/x", &serde_json::json!({})).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains(&port.to_string()) && text.contains("concave dev"), "{text}");
        assert!(text.contains("refused") && !text.contains("secret"), "{text}");
    }
}
