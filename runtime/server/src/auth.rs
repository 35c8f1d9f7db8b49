//! Who calls: the `Authorization` header, the admin key and users' tokens (`convex-compat.md`
//! sections 4.3, 5.6, 6.1, 9.6).
//!
//! In: request heads, tokens of sessions, and the `adminKey` that deploy bodies repeat. Out: an
//! [`Identity`], or 400, 401, 403 or 503 with a text that says what to change.
//! Invariant: whether a key is right is decided by comparing hashes, so the time it takes tells
//! nothing about the key.
//!
//! ```text
//! provider.rs   auth.config.ts → providers; which of them a token belongs to
//! token.rs      a JWT → a user, or what is wrong with it
//! keys.rs       public keys of providers, and how long they are believed
//! fetch.rs      HTTP to providers
//! claims.rs     claims → what getUserIdentity() returns
//! ```

mod claims;
mod fetch;
mod keys;
pub(crate) mod provider;
mod token;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::record::{Identity, UserIdentity, World};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::host::Host;
use crate::refusal::Failure;
use crate::request;
use provider::Provider;

/// Who it is, and until when that may be believed.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    /// Who calls.
    pub(crate) identity: Identity,
    /// Nanoseconds since the Unix epoch; `None`: it never ends.
    pub(crate) expires: Option<u64>,
}

impl Authenticated {
    fn forever(identity: Identity) -> Self {
        Self { identity, expires: None }
    }
}

impl Host {
    /// Who sends this request head.
    ///
    /// # Errors
    /// A header that cannot be read (400), a wrong key (403), or as [`user`](Self::user).
    pub(crate) async fn identify(&self, head: &Parts) -> Result<Authenticated, Failure> {
        self.believe(Credentials::of(head)?).await
    }

    /// As [`identify`](Self::identify), by the header alone: a parameter of the URL is the app's.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn identify_by_header(&self, head: &Parts) -> Result<Authenticated, Failure> {
        self.believe(Credentials::in_header(head)?).await
    }

    async fn believe(&self, credentials: Credentials<'_>) -> Result<Authenticated, Failure> {
        match credentials {
            Credentials::None => Ok(Authenticated::forever(Identity::Anonymous)),
            Credentials::Key(key) => self.admin_key.read(&key).map(Authenticated::forever),
            Credentials::Token(token) => self.user(token).await,
        }
    }

    /// Whose token it is, by the providers of the running deployment.
    ///
    /// # Errors
    /// 401 `NoAuthProvider`, `InvalidAuthHeader` or `Unauthenticated`: it is not to be believed.
    /// `AuthProviderDiscoveryFailed`: its provider's keys cannot be had; 503 where that may pass.
    pub(crate) async fn user(&self, token: &str) -> Result<Authenticated, Failure> {
        let deployment = self.database.snapshot().deployment.clone();
        let config = deployment.as_ref().and_then(|now| now.analysis.auth_json.as_deref());
        let providers = self.auth.providers(config)?;
        token::verify(&self.auth.outside, &providers, token).await
    }

    /// The operator, by the key of a session; `acting_as` are the attributes of the user to be.
    ///
    /// # Errors
    /// A wrong key (403), attributes that name nobody (400).
    pub(crate) fn admin(
        &self,
        key: &str,
        acting_as: Option<&RawValue>,
    ) -> Result<Identity, Failure> {
        let identity = self.admin_key.read(key)?;
        match acting_as.map(RawValue::get) {
            None | Some("null") => Ok(identity),
            Some(json) => acting_user(json.as_bytes()).map(Identity::ActingAs),
        }
    }
}

/// What verifying users needs between two requests.
pub(crate) struct Auth {
    outside: keys::Outside,
    /// The text of the newest configuration that a token was checked against, and its providers.
    newest: Mutex<(Option<String>, Arc<Vec<Provider>>)>,
}

impl Auth {
    /// Knows nobody yet.
    pub(crate) fn new(world: Arc<dyn World>) -> Self {
        let outside = keys::Outside { world, fetch: fetch::Fetch::default() };
        Self { outside, newest: Mutex::default() }
    }

    /// The providers of a configuration. Code may change without the configuration, and then the
    /// keys stay.
    fn providers(&self, config: Option<&str>) -> Result<Arc<Vec<Provider>>, Failure> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.0.as_deref() != config {
            let providers = provider::parse(config).map_err(|error| {
                Failure::broken(format!("The push should have failed: {}", error.message))
            })?;
            *newest = (config.map(str::to_owned), Arc::new(providers));
        }
        Ok(newest.1.clone())
    }
}

/// The operator's secret, hashed.
pub(crate) struct AdminKey {
    hash: [u8; 32],
    /// Named to whoever has another key.
    deployment: String,
}

impl AdminKey {
    /// Hashes the configured key of a deployment.
    pub(crate) fn new(key: &str, deployment: &str) -> Self {
        Self { hash: Sha256::digest(bare(key)).into(), deployment: deployment.to_owned() }
    }

    /// Demands the operator. `in_body` is the `adminKey` of a deploy request.
    ///
    /// # Errors
    /// 401 without a key, 403 with a wrong one or with a user's token.
    pub(crate) fn require(&self, head: &Parts, in_body: Option<&str>) -> Result<(), Failure> {
        match (Credentials::of(head)?, in_body) {
            (Credentials::Key(key), _) => self.read(&key).map(drop),
            (Credentials::None, Some(key)) => self.read(key).map(drop),
            (Credentials::None, None) => Err(Failure::new(
                StatusCode::UNAUTHORIZED,
                "MissingAdminKey",
                "This endpoint is the operator's: send the header \
                 \"Authorization: Convex <admin key>\".",
            )),
            (Credentials::Token(_), _) => Err(Failure::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "You do not have permission to perform this operation: it needs the admin key, \
                 not a user's token.",
            )),
        }
    }

    /// Whether an `Authorization` header is the operator's.
    pub(crate) fn is_in(&self, header: Option<&HeaderValue>) -> bool {
        let Some(Ok(Credentials::Key(key))) = header.map(Credentials::in_value) else {
            return false;
        };
        self.read(&key).is_ok()
    }

    /// `key`, or `key:base64(identity)` to act as a user.
    fn read(&self, token: &str) -> Result<Identity, Failure> {
        let token = bare(token);
        let (key, acting_as) = match token.split_once(':') {
            Some((key, encoded)) => (key, Some(encoded)),
            None => (token, None),
        };
        let digest: [u8; 32] = Sha256::digest(key).into();
        if digest != self.hash {
            let name = &self.deployment;
            let message = format!(
                "The provided deploy key was invalid for deployment '{name}'. Double check that \
                 the environment this key was generated for matches the desired deployment. \
                 Take the admin key that the server printed or was started with."
            );
            return Err(Failure::new(StatusCode::FORBIDDEN, "BadDeployKey", message));
        }
        let Some(encoded) = acting_as else {
            return Ok(Identity::Admin);
        };
        let json = STANDARD.decode(encoded).map_err(|error| {
            bad_user(format!("What follows ':' in the key is not base64: {error}"))
        })?;
        acting_user(&json).map(Identity::ActingAs)
    }
}

/// What a request head shows.
enum Credentials<'a> {
    None,
    Key(Cow<'a, str>),
    Token(&'a str),
}

impl<'a> Credentials<'a> {
    fn of(head: &'a Parts) -> Result<Self, Failure> {
        match Self::in_header(head)? {
            Self::None => {
                let key = key_parameter(head)?;
                Ok(key.map_or(Self::None, |key| Self::Key(key.into())))
            }
            shown => Ok(shown),
        }
    }

    fn in_header(head: &'a Parts) -> Result<Self, Failure> {
        head.headers.get(header::AUTHORIZATION).map_or(Ok(Self::None), Self::in_value)
    }

    fn in_value(value: &'a HeaderValue) -> Result<Self, Failure> {
        let value = value.to_str().map_err(|_| malformed("it is not ASCII"))?;
        let (scheme, rest) =
            value.trim().split_once(' ').ok_or_else(|| malformed("there is no scheme"))?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("convex") {
            Ok(Self::Key(rest.into()))
        } else if scheme.eq_ignore_ascii_case("bearer") {
            Ok(Self::Token(rest))
        } else {
            Err(malformed("its scheme is neither \"Convex\" nor \"Bearer\""))
        }
    }
}

/// Deploy keys of Convex's cloud carry a type in front, which says nothing here.
fn bare(key: &str) -> &str {
    key.strip_prefix("prod:").or_else(|| key.strip_prefix("dev:")).unwrap_or(key)
}

fn key_parameter(head: &Parts) -> Result<Option<String>, Failure> {
    #[derive(Deserialize)]
    struct Parameters {
        #[serde(rename = "adminKey")]
        admin_key: Option<String>,
    }
    if !head.uri.query().is_some_and(|query| query.contains("adminKey=")) {
        return Ok(None);
    }
    Ok(request::parameters::<Parameters>(&head.uri)?.admin_key)
}

/// Reads the attributes of the user that the operator wants to be.
fn acting_user(json: &[u8]) -> Result<Arc<UserIdentity>, Failure> {
    let mut attributes: Map<String, Value> = serde_json::from_slice(json).map_err(|error| {
        bad_user(format!("The identity to act as is not a JSON object: {error}"))
    })?;
    let text = |name: &str| attributes.get(name).and_then(Value::as_str);
    let token_identifier = match (text("tokenIdentifier"), text("issuer"), text("subject")) {
        (Some(whole), _, _) => whole.to_owned(),
        (None, Some(issuer), Some(subject)) => format!("{issuer}|{subject}"),
        _ => {
            return Err(bad_user(
                "The identity to act as needs \"tokenIdentifier\", or \"issuer\" and \"subject\".",
            ));
        }
    };
    attributes.insert("tokenIdentifier".into(), token_identifier.clone().into());
    let attributes = Value::Object(attributes).to_string().into();
    Ok(Arc::new(UserIdentity { token_identifier, attributes }))
}

fn bad_user(why: impl Into<String>) -> Failure {
    Failure::bad("InvalidAdminKey", why)
}

fn malformed(why: &str) -> Failure {
    Failure::bad(
        "InvalidHeaderFailure",
        format!(
            "The Authorization header cannot be read: {why}. Send \"Bearer <token>\" \
                 or \"Convex <admin key>\"."
        ),
    )
}
