//! Documents of identity providers, over HTTP.
//!
//! In: a URL. Out: the bytes of a JSON document, or why there are none.
//! Invariant: bounded in time and in size; redirects are not followed, so keys come from the
//! address that was configured.

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use axum::http::{Response, StatusCode, Uri, header};
use bytes::Bytes;
use database::limits::{AUTH_FETCH_BYTES, AUTH_FETCH_MS};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Why a document could not be had.
#[derive(Clone, Debug)]
pub(super) struct Unavailable {
    /// Whether it may well be there a moment later: the network, a time-out, a 5xx.
    pub(super) passing: bool,
    /// Which address, and what happened.
    pub(super) message: String,
}

impl Unavailable {
    /// What the provider says is wrong.
    pub(super) fn wrong(message: String) -> Self {
        Self { passing: false, message }
    }

    fn passing(message: String) -> Self {
        Self { passing: true, message }
    }
}

/// The HTTP client, made when the first document is needed: reading the certificates takes
/// milliseconds that most hosts never need.
pub(super) struct Fetch {
    client: OnceLock<Result<Https, String>>,
    /// Longest wait for one document.
    patience: Duration,
}

impl Default for Fetch {
    fn default() -> Self {
        Self { client: OnceLock::new(), patience: Duration::from_millis(AUTH_FETCH_MS) }
    }
}

impl Fetch {
    /// GETs a JSON document.
    ///
    /// # Errors
    /// No connection, no answer in time, another status than 200, another type, or too long.
    pub(super) async fn json(&self, url: &str) -> Result<Bytes, Unavailable> {
        tokio::time::timeout(self.patience, self.get(url)).await.unwrap_or_else(|_| {
            let text = format!("{url}: there was no answer within {:?}", self.patience);
            Err(Unavailable::passing(text))
        })
    }

    async fn get(&self, url: &str) -> Result<Bytes, Unavailable> {
        let says = |why: &str| format!("{url}: {why}");
        let uri: Uri = url
            .parse()
            .map_err(|error| Unavailable::wrong(says(&format!("it is no URL: {error}"))))?;
        let client = self.client.get_or_init(client).as_ref();
        let client = client.map_err(|error| Unavailable::wrong(error.clone()))?;
        let response = client
            .get(uri)
            .await
            .map_err(|error| Unavailable::passing(says(&with_causes(&error))))?;
        expect_json(&response)
            .map_err(|(passing, why)| Unavailable { passing, message: says(&why) })?;
        match Limited::new(response.into_body(), AUTH_FETCH_BYTES as usize).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                let text = format!("the answer is longer than {AUTH_FETCH_BYTES} bytes");
                Err(Unavailable::wrong(says(&text)))
            }
            Err(error) => Err(Unavailable::passing(says(&with_causes(&*error)))),
        }
    }
}

/// Trusts what the system trusts; where that is nothing (a bare container), Mozilla's list.
fn client() -> Result<Https, String> {
    let crypto = || rustls::crypto::aws_lc_rs::default_provider();
    let https = HttpsConnectorBuilder::new();
    let https = match https.with_provider_and_native_roots(crypto()) {
        Ok(https) => https,
        Err(_) => HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(crypto())
            .map_err(|error| format!("TLS cannot be used: {error}"))?,
    };
    let https = https.https_or_http().enable_http1().build();
    // A fetch in minutes is no reason to hold a connection open.
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https))
}

/// Whether it failed for now only, and why.
fn expect_json<B>(response: &Response<B>) -> Result<(), (bool, String)> {
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if status.is_redirection() {
        let to = header(header::LOCATION).unwrap_or("nowhere");
        return Err((false, format!("it answered {status} to {to}, which is not followed")));
    }
    if status != StatusCode::OK {
        let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        return Err((passing, format!("it answered {status}")));
    }
    let content = header(header::CONTENT_TYPE).unwrap_or("none");
    let media = content.split(';').next().unwrap_or("").trim();
    let known = ["application/json", "application/jwk-set+json"];
    if known.iter().any(|known| media.eq_ignore_ascii_case(known)) {
        Ok(())
    } else {
        let wanted = known.join(" or ");
        Err((false, format!("its Content-Type is {content:?}; it must be {wanted}")))
    }
}

/// "client error (Connect): tcp connect error: Connection refused".
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_provider_that_says_nothing_is_not_waited_for_forever() {
        assert_eq!(Fetch::default().patience.as_millis(), u128::from(AUTH_FETCH_MS));
        // Connections reach its backlog and stay there.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", silent.local_addr().unwrap());
        let fetch = Fetch { client: OnceLock::new(), patience: Duration::from_millis(50) };
        let error = fetch.json(&url).await.unwrap_err();
        assert!(error.passing && error.message.contains("no answer within 50ms"), "{error:?}");
    }

    #[test]
    fn https_can_be_spoken() {
        assert!(client().is_ok());
    }
}
