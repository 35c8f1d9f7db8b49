//! A user's token → who it is (`convex-compat.md` section 9.6).
//!
//! In: a JWT, the configured providers, keys, the clock. Out: the user, and until when the token
//! may be believed; or 401 with what was compared with what.
//! Invariant: the algorithm is the provider's choice and never the token's alone; nothing is
//! believed before the signature holds; no message contains the token.

use std::sync::Arc;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use database::limits::TOKEN_BYTES;
use database::record::Identity;
use jsonwebtoken::{Algorithm, Header, TokenData, crypto, dangerous};
use serde_json::{Map, Value};

use super::fetch::Unavailable;
use super::keys::{KeySet, Outside};
use super::provider::{self, Kind, Provider};
use super::{Authenticated, claims};
use crate::refusal::Failure;

/// How far the clocks of provider and host may differ, nanoseconds.
const LEEWAY: u64 = 5_000_000_000;

/// Most characters of a claim that a message repeats.
const QUOTED_MAX: usize = 200;

/// Verifies a token against all providers.
///
/// # Errors
/// 401 `NoAuthProvider`: no provider has its issuer and audience. 401 `InvalidAuthHeader`: it is
/// no token that this provider could issue. 401 `Unauthenticated`: signature or time is wrong.
/// `AuthProviderDiscoveryFailed`: there are no keys; 503 where that may pass, else 401.
pub(super) async fn verify(
    outside: &Outside,
    providers: &[Provider],
    token: &str,
) -> Result<Authenticated, Failure> {
    let Unverified { header, claims } = read(token)?;
    let provider = choose(providers, &claims)?;
    let algorithm = allowed(provider, &header)?;
    verify_signature(outside, provider, token, (header.kid.as_deref(), algorithm)).await?;
    let expires = check_times(&claims, outside.world.now())?;
    let issuer = text(&claims, "iss")?.to_owned();
    let subject = text(&claims, "sub")?.to_owned();
    let user = match provider.kind {
        Kind::Oidc => claims::oidc(&issuer, &subject, claims),
        Kind::Custom { .. } => claims::custom(&issuer, &subject, claims),
    };
    Ok(Authenticated { identity: Identity::User(Arc::new(user)), expires: Some(expires) })
}

type Unverified = TokenData<Map<String, Value>>;

/// Reads a token without believing it.
fn read(token: &str) -> Result<Unverified, Failure> {
    if token.len() as u64 > TOKEN_BYTES {
        let length = token.len();
        return Err(invalid(format!(
            "The token is too long: it has {length} bytes, the limit is {TOKEN_BYTES}."
        )));
    }
    if token.matches('.').count() != 2 {
        return Err(invalid(
            "Could not parse the token: a JWT is three parts of base64url with dots between \
             them.",
        ));
    }
    let read: Unverified = dangerous::insecure_decode(token).map_err(|_| unreadable(token))?;
    match &read.header.crit {
        Some(names) => Err(invalid(format!(
            "The token's header demands extensions that concave does not know: crit is {}.",
            quoted(&Value::from(names.clone()))
        ))),
        None => Ok(read),
    }
}

/// Which of its parts is no good; an algorithm that no library knows gets its own text.
fn unreadable(token: &str) -> Failure {
    let part = |text: Option<&str>| {
        let bytes = URL_SAFE_NO_PAD.decode(text?).ok()?;
        serde_json::from_slice::<Map<String, Value>>(&bytes).ok()
    };
    let mut parts = token.split('.');
    match (part(parts.next()), part(parts.next())) {
        (None, _) => invalid("Could not parse the token: its header is no base64url of JSON."),
        (Some(header), _) if !known_algorithm(header.get("alg")) => {
            let alg = header.get("alg").map_or_else(|| "missing".into(), quoted);
            invalid(format!("The token's alg is {alg}; it must be RS256, ES256 or EdDSA."))
        }
        (_, None) => {
            invalid("Could not parse the token: its payload is no base64url of a JSON object.")
        }
        _ => invalid("Could not parse the token: a field of its header has the wrong type."),
    }
}

fn known_algorithm(alg: Option<&Value>) -> bool {
    alg.and_then(Value::as_str).is_some_and(|alg| alg.parse::<Algorithm>().is_ok())
}

/// The first provider that has the token's issuer and, if it names one, an audience of it.
fn choose<'a>(
    providers: &'a [Provider],
    claims: &Map<String, Value>,
) -> Result<&'a Provider, Failure> {
    let iss = text(claims, "iss")?;
    let audiences = audiences(claims)?;
    let Some(provider) = providers.iter().find(|one| one.claims(iss, &audiences)) else {
        let configured = match provider::list(providers) {
            none if none.is_empty() => {
                "this deployment has no auth.config.ts, or no providers in it".to_owned()
            }
            list => format!("auth.config.ts has {list}"),
        };
        let aud = claims.get("aud").map_or_else(|| "missing".into(), quoted);
        return Err(refused(
            "NoAuthProvider",
            format!(
                "No auth provider found matching the given token: its iss is {}, its aud is {aud}; \
                 {configured}.",
                quoted(&iss.into())
            ),
        ));
    };
    if matches!(provider.kind, Kind::Oidc) && audiences.len() != 1 {
        return Err(invalid(format!(
            "The token's aud is {}; a token of an OpenID Connect provider must have the \
             applicationID {:?} as its only audience.",
            claims.get("aud").map_or_else(|| "missing".into(), quoted),
            provider.application_id.as_deref().unwrap_or_default(),
        )));
    }
    Ok(provider)
}

/// `aud` as a list: it is a string, a list of strings, or absent.
fn audiences(claims: &Map<String, Value>) -> Result<Vec<&str>, Failure> {
    let wrong = || invalid("The token's aud must be a string or a list of strings.");
    match claims.get("aud") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(many)) => many.iter().map(|one| one.as_str().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

/// The token's algorithm, if the provider's tokens may have it.
fn allowed(provider: &Provider, header: &Header) -> Result<Algorithm, Failure> {
    let algorithms = provider.algorithms();
    if !algorithms.contains(&header.alg) {
        let wanted: Vec<_> = algorithms.iter().map(|one| format!("{one:?}")).collect();
        return Err(invalid(format!(
            "The token's alg is {:?}; tokens of {:?} must have {}.",
            header.alg,
            provider.issuer,
            wanted.join(" or "),
        )));
    }
    if matches!(provider.kind, Kind::Custom { .. }) && header.kid.is_none() {
        return Err(invalid(
            "The token's header has no kid; tokens of a customJwt provider must name their key.",
        ));
    }
    Ok(header.alg)
}

/// Demands that one of the provider's keys made the signature.
async fn verify_signature(
    outside: &Outside,
    provider: &Provider,
    token: &str,
    (id, algorithm): (Option<&str>, Algorithm),
) -> Result<(), Failure> {
    let failed = |error| undiscovered(provider, error);
    let mut keys = provider.keys.current(outside).await.map_err(failed)?;
    if keys.fitting(id, algorithm).is_empty() {
        keys = provider.keys.newer(outside, &keys).await.map_err(failed)?;
    }
    let fitting = keys.fitting(id, algorithm);
    if fitting.is_empty() {
        return Err(unknown_key(provider, (id, algorithm), &keys));
    }
    let Some((message, signature)) = token.rsplit_once('.') else {
        return Err(invalid("Could not parse the token: it has no signature."));
    };
    // An error is a signature that cannot be decoded or a key that cannot be used: no proof.
    let made_by = |key: &jsonwebtoken::DecodingKey| {
        crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
    };
    if fitting.iter().any(|key| made_by(&key.key)) {
        return Ok(());
    }
    let issuer = &provider.issuer;
    let why = match id {
        Some(id) => format!("the key {} of {issuer:?} did not make it", quoted(&id.into())),
        None => format!(
            "its header names no key (kid), and none of the {algorithm:?} keys of {issuer:?} made \
             it"
        ),
    };
    let text = format!(
        "The token's signature is wrong: {why}. The token was changed after it was signed, or \
         another key signed it."
    );
    Err(refused("Unauthenticated", text))
}

fn unknown_key(
    provider: &Provider,
    (id, algorithm): (Option<&str>, Algorithm),
    keys: &KeySet,
) -> Failure {
    let wanted = match id {
        Some(id) => format!("with the token's kid {} and alg {algorithm:?}", quoted(&id.into())),
        None => format!("for the token's alg {algorithm:?}"),
    };
    invalid(format!(
        "There is no key {wanted} among the keys of {:?}, which are: {}.",
        provider.issuer,
        keys.ids(),
    ))
}

fn undiscovered(provider: &Provider, error: Unavailable) -> Failure {
    let status =
        if error.passing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNAUTHORIZED };
    let text = format!("Auth provider discovery of {} failed: {}.", provider.issuer, error.message);
    Failure::new(status, "AuthProviderDiscoveryFailed", text)
}

/// Checks `exp`, `nbf` and `iat`; gives the end of the token's life, nanoseconds since the Unix
/// epoch.
fn check_times(claims: &Map<String, Value>, now: u64) -> Result<u64, Failure> {
    let seconds = |ns: u64| ns / 1_000_000_000;
    let Some(exp) = time(claims, "exp")? else {
        return Err(invalid("The token has no exp; a token must say when it ends."));
    };
    let expires = exp.saturating_add(LEEWAY);
    if now >= expires {
        let ago = seconds(now.saturating_sub(exp));
        return Err(refused(
            "Unauthenticated",
            format!(
                "The token has expired {ago} s ago: its exp is {}, the time is {}. Fetch a new \
                 one.",
                seconds(exp),
                seconds(now),
            ),
        ));
    }
    for (name, what) in [("nbf", "is not valid yet"), ("iat", "was issued in the future")] {
        let Some(from) = time(claims, name)? else { continue };
        if from > now.saturating_add(LEEWAY) {
            return Err(refused(
                "Unauthenticated",
                format!(
                    "The token {what}: its {name} is {}, the time is {}. Compare the clocks of \
                     provider and host.",
                    seconds(from),
                    seconds(now),
                ),
            ));
        }
    }
    Ok(expires)
}

/// A claim that is a time: seconds since the Unix epoch → nanoseconds.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Failure> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(Some(match number.as_u64() {
            Some(seconds) => seconds.saturating_mul(1_000_000_000),
            // Fractions, and times before 1970, which saturate to it.
            None => (number.as_f64().unwrap_or(0.0) * 1e9) as u64,
        })),
        Some(_) => {
            Err(invalid(format!("The token's {name} must be a number of seconds since 1970.")))
        }
    }
}

/// A claim that must be there.
fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<&'a str, Failure> {
    match claims.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(invalid(format!("The token's {name} must be a string that is not empty."))),
        None => Err(invalid(format!("The token has no {name}."))),
    }
}

/// A claim in a message, shortened.
fn quoted(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    refused("InvalidAuthHeader", message)
}

fn refused(code: &'static str, message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, code, message)
}
