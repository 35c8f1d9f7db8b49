//! Public keys of providers: where they come from, and how long they are believed.
//!
//! In: a [`Source`], the clock, the network. Out: a [`KeySet`].
//! Invariant: one fetch at a time for each provider, and not more than one in
//! [`AUTH_REFETCH_MS`] for keys that it does not have; keys older than [`AUTH_KEYS_MS`] are used
//! only while the provider cannot be reached, and never beyond [`AUTH_STALE_KEYS_MS`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use database::limits::{AUTH_KEYS_MS, AUTH_REFETCH_MS, AUTH_STALE_KEYS_MS};
use database::record::World;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::fetch::{Fetch, Unavailable};
use super::provider;

/// The clock and the network, as far as keys need them.
pub(super) struct Outside {
    pub(super) world: Arc<dyn World>,
    pub(super) fetch: Fetch,
}

/// Where a provider's keys stand.
pub(super) enum Source {
    /// Its discovery document names the address.
    Discovery(String),
    /// At this address.
    Url(String),
    /// In the configuration itself.
    Given(Arc<KeySet>),
}

/// A provider's keys as far as they are known.
pub(super) struct Keys {
    source: Source,
    held: Mutex<Held>,
    /// Taken by who fetches.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    /// The newest keys, and when they came, nanoseconds since the Unix epoch.
    keys: Option<(Arc<KeySet>, u64)>,
    /// When a fetch ended last, and why it brought nothing.
    tried: Option<(u64, Option<Unavailable>)>,
}

impl Held {
    fn younger_than(&self, now: u64, limit_ms: u64) -> Option<Arc<KeySet>> {
        let (keys, fetched) = self.keys.as_ref()?;
        (now.saturating_sub(*fetched) < nanoseconds(limit_ms)).then(|| keys.clone())
    }

    fn usable(&self, now: u64) -> Option<Arc<KeySet>> {
        self.younger_than(now, AUTH_STALE_KEYS_MS)
    }

    fn tried_since(&self, then: u64) -> bool {
        self.tried.as_ref().is_some_and(|(tried, _)| *tried >= then)
    }

    fn tried_lately(&self, now: u64) -> bool {
        self.tried_since(now.saturating_sub(nanoseconds(AUTH_REFETCH_MS)))
    }

    /// What the last fetch left: new keys, old ones, or its failure.
    fn outcome(&self, now: u64) -> Result<Arc<KeySet>, Unavailable> {
        self.usable(now).ok_or_else(|| {
            let failed = self.tried.as_ref().and_then(|(_, failed)| failed.clone());
            failed.unwrap_or_else(|| Unavailable::wrong("its keys are too old to be used".into()))
        })
    }
}

impl Keys {
    /// Nothing is fetched before the first token asks.
    pub(super) fn new(source: Source) -> Self {
        Self { source, held: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The keys to verify with now.
    ///
    /// # Errors
    /// There are none that may still be used, and the provider gives none.
    pub(super) async fn current(&self, outside: &Outside) -> Result<Arc<KeySet>, Unavailable> {
        if let Source::Given(keys) = &self.source {
            return Ok(keys.clone());
        }
        let now = outside.world.now();
        let usable = {
            let held = self.held();
            if let Some(fresh) = held.younger_than(now, AUTH_KEYS_MS) {
                return Ok(fresh);
            }
            if held.tried_lately(now) {
                return held.outcome(now);
            }
            held.usable(now)
        };
        let _turn = match (usable, self.turn.try_lock()) {
            (_, Ok(turn)) => turn,
            // Somebody is fetching already; nobody has to wait who can do without.
            (Some(usable), Err(_)) => return Ok(usable),
            (None, Err(_)) => self.turn.lock().await,
        };
        self.fetch_unless_tried(outside, now).await
    }

    /// The keys for a token whose key is not in `known`: newer ones, if it is time to ask again.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub(super) async fn newer(
        &self,
        outside: &Outside,
        known: &Arc<KeySet>,
    ) -> Result<Arc<KeySet>, Unavailable> {
        if matches!(self.source, Source::Given(_)) {
            return Ok(known.clone());
        }
        let now = outside.world.now();
        {
            let held = self.held();
            let replaced = held.keys.as_ref().is_some_and(|(keys, _)| !Arc::ptr_eq(keys, known));
            if replaced || held.tried_lately(now) {
                return held.outcome(now);
            }
        }
        let _turn = self.turn.lock().await;
        self.fetch_unless_tried(outside, now).await
    }

    /// Fetches, unless another call has done so since `asked`. The caller holds the turn.
    async fn fetch_unless_tried(
        &self,
        outside: &Outside,
        asked: u64,
    ) -> Result<Arc<KeySet>, Unavailable> {
        if !self.held().tried_since(asked) {
            let result = self.fetch(&outside.fetch).await;
            let now = outside.world.now();
            let mut held = self.held();
            match result {
                Ok(keys) => {
                    held.keys = Some((Arc::new(keys), now));
                    held.tried = Some((now, None));
                }
                Err(failed) => held.tried = Some((now, Some(failed))),
            }
        }
        self.held().outcome(outside.world.now())
    }

    async fn fetch(&self, fetch: &Fetch) -> Result<KeySet, Unavailable> {
        let url = match &self.source {
            Source::Discovery(issuer) => discover(fetch, issuer).await?,
            Source::Url(url) => url.clone(),
            Source::Given(_) => return Err(Unavailable::wrong("its keys are configured".into())),
        };
        let body = fetch.json(&url).await?;
        KeySet::parse(&body).map_err(|why| Unavailable::wrong(format!("{url}: {why}")))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks an `OpenID` provider where its keys are (OpenID Connect Discovery 1.0, section 4).
async fn discover(fetch: &Fetch, issuer: &str) -> Result<String, Unavailable> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        jwks_uri: String,
    }
    let url = format!("{issuer}/.well-known/openid-configuration");
    let body = fetch.json(&url).await?;
    let wrong = |why: String| Unavailable::wrong(format!("{url}: {why}"));
    let found: Discovery = serde_json::from_slice(&body)
        .map_err(|error| wrong(format!("it is no OpenID discovery document: {error}")))?;
    if provider::canonical(&found.issuer) != issuer {
        let other = found.issuer;
        return Err(wrong(format!("it is about the issuer {other:?}; write that as `domain`")));
    }
    if !found.jwks_uri.starts_with("https://") && !found.jwks_uri.starts_with("http://") {
        return Err(wrong(format!("its jwks_uri {:?} is no web address", found.jwks_uri)));
    }
    Ok(found.jwks_uri)
}

/// The keys of one JWKS document that can verify signatures.
pub(super) struct KeySet(Vec<Key>);

/// One of them.
pub(super) struct Key {
    id: Option<String>,
    /// The one kind of signature that it verifies.
    algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl KeySet {
    /// Reads a JWKS document. Keys of other uses and kinds are left out, as RFC 7517, section 5
    /// wants it.
    ///
    /// # Errors
    /// It is no such document, or no key in it can be used.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is no key set {{\"keys\":[…]}}: {error}"))?;
        let count = document.keys.len();
        let keys: Vec<Key> = document.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(format!(
                "none of its {count} keys is a public signing key for RS256, ES256 or EdDSA"
            ));
        }
        Ok(Self(keys))
    }

    /// The keys that may have signed a token with this `kid` and `alg`.
    pub(super) fn fitting(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&Key> {
        let fits =
            |key: &&Key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id);
        self.0.iter().filter(fits).collect()
    }

    /// The ids of all keys, for messages.
    pub(super) fn ids(&self) -> String {
        let id = |key: &Key| {
            let id = key.id.as_deref().unwrap_or("(without kid)");
            format!("{id:?} ({:?})", key.algorithm)
        };
        self.0.iter().take(10).map(id).collect::<Vec<_>>().join(", ")
    }
}

fn usable(entry: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(entry).ok()?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let agrees =
        jwk.common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    if !signs || !agrees {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { id: jwk.common.key_id, algorithm, key })
}

fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}
