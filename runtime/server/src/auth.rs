//! Who calls: the `Authorization` header and the admin key (`convex-compat.md` sections 4.3, 6.1).
//!
//! In: request heads, and the `adminKey` that deploy bodies repeat. Out: an [`Identity`], or 400,
//! 401 or 403 with a text that says what to change.
//! Invariant: whether a key is right is decided by comparing hashes, so the time it takes tells
//! nothing about the key.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::record::{Identity, UserIdentity};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::host::Host;
use crate::refusal::Failure;
use crate::request;

/// The operator's secret, hashed.
pub(crate) struct AdminKey([u8; 32]);

impl AdminKey {
    /// Hashes the configured key.
    pub(crate) fn new(key: &str) -> Self {
        Self(Sha256::digest(bare(key)).into())
    }

    /// Who sends this request head.
    ///
    /// # Errors
    /// A header that cannot be read (400), a token nobody here can verify (401), a wrong key (403).
    pub(crate) fn identity(&self, head: &Parts) -> Result<Identity, Failure> {
        match head.headers.get(header::AUTHORIZATION) {
            Some(value) => {
                let value = value.to_str().map_err(|_| malformed("it is not ASCII"))?;
                self.read_header(value)
            }
            None => match key_parameter(head)? {
                Some(key) => self.read_key(&key),
                None => Ok(Identity::Anonymous),
            },
        }
    }

    /// Demands the operator. `in_body` is the `adminKey` of a deploy request.
    ///
    /// # Errors
    /// 401 without a key, 403 with a wrong one or with another identity.
    pub(crate) fn require(&self, head: &Parts, in_body: Option<&str>) -> Result<(), Failure> {
        let identity = match (self.identity(head)?, in_body) {
            (Identity::Anonymous, Some(key)) => self.read_key(key)?,
            (identity, _) => identity,
        };
        match identity {
            Identity::Admin | Identity::ActingAs(_) | Identity::System => Ok(()),
            Identity::Anonymous => Err(Failure::new(
                StatusCode::UNAUTHORIZED,
                "MissingAdminKey",
                "This endpoint is the operator's: send the header \
                 \"Authorization: Convex <admin key>\".",
            )),
            Identity::User(_) => Err(Failure::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "You do not have permission to perform this operation: it needs the admin key, \
                 not a user's token.",
            )),
        }
    }

    fn read_header(&self, value: &str) -> Result<Identity, Failure> {
        let (scheme, token) =
            value.trim().split_once(' ').ok_or_else(|| malformed("there is no scheme"))?;
        let token = token.trim();
        if scheme.eq_ignore_ascii_case("convex") {
            return self.read_key(token);
        }
        if scheme.eq_ignore_ascii_case("bearer") {
            return Err(no_provider());
        }
        Err(malformed(&format!("the scheme {scheme:?} is not known")))
    }

    /// `key`, or `key:base64(identity)` to act as a user.
    fn read_key(&self, token: &str) -> Result<Identity, Failure> {
        let token = bare(token);
        let (key, acting_as) = match token.split_once(':') {
            Some((key, encoded)) => (key, Some(encoded)),
            None => (token, None),
        };
        let digest: [u8; 32] = Sha256::digest(key).into();
        if digest != self.0 {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "BadDeployKey",
                "The admin key is not this deployment's. Take the one that the server printed or \
                 was started with.",
            ));
        }
        match acting_as {
            Some(encoded) => {
                let json = STANDARD.decode(encoded).map_err(|error| {
                    let why = format!("What follows ':' in the key is not base64: {error}");
                    Failure::bad("InvalidAdminKey", why)
                })?;
                Ok(Identity::ActingAs(Arc::new(acting_user(&json)?)))
            }
            None => Ok(Identity::Admin),
        }
    }
}

/// Who it is, and until when that may be believed.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    /// Who.
    pub(crate) identity: Identity,
    /// Nanoseconds since the Unix epoch; `None`: never ends.
    pub(crate) expires: Option<u64>,
}

impl Host {
    /// Whose token this is: a `Bearer` header, or what a user sends over the socket.
    ///
    /// # Errors
    /// 401: nobody here can verify it.
    pub(crate) async fn user(&self, _token: &str) -> Result<Authenticated, Failure> {
        Err(no_provider())
    }

    /// The operator, by key, acting as the user whose attributes are given.
    ///
    /// # Errors
    /// 403 for a wrong key, 400 for attributes that name nobody.
    pub(crate) fn admin(
        &self,
        key: &str,
        acting_as: Option<&RawValue>,
    ) -> Result<Identity, Failure> {
        match (self.admin_key.read_key(key)?, acting_as) {
            (_, Some(attributes)) => {
                Ok(Identity::ActingAs(Arc::new(acting_user(attributes.get().as_bytes())?)))
            }
            (identity, None) => Ok(identity),
        }
    }

    /// Who sends this request head.
    ///
    /// # Errors
    /// As [`AdminKey::identity`].
    pub(crate) async fn identify(&self, head: &Parts) -> Result<Authenticated, Failure> {
        Ok(Authenticated { identity: self.admin_key.identity(head)?, expires: None })
    }
}

fn no_provider() -> Failure {
    Failure::new(
        StatusCode::UNAUTHORIZED,
        "NoAuthProvider",
        "No auth provider found matching the given token: concave does not verify users' tokens \
         yet. Call without an Authorization header, or act as a user with \"Convex <admin \
         key>:<base64 of the identity's JSON>\".",
    )
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

/// Decodes the attributes of the user that the operator wants to be.
fn acting_user(json: &[u8]) -> Result<UserIdentity, Failure> {
    let bad = |why: String| Failure::bad("InvalidAdminKey", why);
    let mut attributes: Map<String, Value> = serde_json::from_slice(json)
        .map_err(|error| bad(format!("The identity to act as is not a JSON object: {error}")))?;
    let text = |name: &str| attributes.get(name).and_then(Value::as_str);
    let token_identifier = match (text("tokenIdentifier"), text("issuer"), text("subject")) {
        (Some(whole), _, _) => whole.to_owned(),
        (None, Some(issuer), Some(subject)) => format!("{issuer}|{subject}"),
        _ => {
            return Err(bad(
                "The identity to act as needs \"tokenIdentifier\", or \"issuer\" and \
                            \"subject\"."
                    .into(),
            ));
        }
    };
    attributes.insert("tokenIdentifier".into(), token_identifier.clone().into());
    Ok(UserIdentity { token_identifier, attributes: Value::Object(attributes).to_string().into() })
}

fn malformed(why: &str) -> Failure {
    Failure::bad(
        "InvalidHeaderFailure",
        format!("The Authorization header cannot be read: {why}. Send \"Convex <admin key>\"."),
    )
}
