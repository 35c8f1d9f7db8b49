//! An identity provider for tests: keys, tokens, and a web server for its documents.
//!
//! In: claims. Out: tokens with real signatures, made without the library that verifies them.
//! Invariant: keys are made fresh in every test; nothing secret is in the repository.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// One signing key of a provider.
pub(super) struct Signer {
    pub(super) kid: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn rsa(kid: &'static str) -> Self {
        Self { kid, pair: Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()) }
    }

    pub(super) fn ec(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { kid, pair: Pair::Ec(pair) }
    }

    pub(super) fn ed(kid: &'static str) -> Self {
        Self { kid, pair: Pair::Ed(Ed25519KeyPair::generate().unwrap()) }
    }

    pub(super) fn alg(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
            Pair::Ed(_) => "EdDSA",
        }
    }

    /// The public half, as a provider publishes it.
    pub(super) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(pair) => {
                let key = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256",
                    "n": text(&key.n), "e": text(&key.e) })
            }
            Pair::Ec(pair) => {
                // An uncompressed point: 4, x, y.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "kid": self.kid, "crv": "P-256",
                    "x": text(x), "y": text(y) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "kid": self.kid, "crv": "Ed25519",
                "x": text(pair.public_key().as_ref()) }),
        }
    }

    /// A token with this key's own header.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.signed(&json!({ "typ": "JWT", "alg": self.alg(), "kid": self.kid }), claims)
    }

    /// A token with any header.
    pub(super) fn signed(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let bytes = message.as_bytes();
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, bytes).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(bytes).as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and payload of a token, encoded.
pub(super) fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A JWKS document.
pub(super) fn jwks(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// A provider's web server.
pub(super) struct Provider {
    pub(super) issuer: String,
    served: Arc<Mutex<Served>>,
}

/// What it answers.
pub(super) struct Served {
    pub(super) discovery: String,
    pub(super) keys: String,
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// Paths that were asked for.
    pub(super) asked: Vec<String>,
}

impl Provider {
    /// Serves these keys on a free port, until the test ends.
    pub(super) async fn start(keys: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") });
        let served = Arc::new(Mutex::new(Served {
            discovery: discovery.to_string(),
            keys,
            status: 200,
            content_type: "application/json; charset=utf-8",
            asked: Vec::new(),
        }));
        let router = Router::new().fallback(document).with_state(served.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { issuer, served }
    }

    /// Changes what it answers from now on.
    pub(super) fn change(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.served.lock().unwrap());
    }

    /// How many requests came since the last look.
    pub(super) fn asked(&self) -> usize {
        std::mem::take(&mut self.served.lock().unwrap().asked).len()
    }
}

async fn document(State(served): State<Arc<Mutex<Served>>>, request: Request<Body>) -> Response {
    let mut served = served.lock().unwrap();
    let path = request.uri().path().to_owned();
    let body = match path.as_str() {
        "/.well-known/openid-configuration" => served.discovery.clone(),
        "/keys" => served.keys.clone(),
        _ => panic!("nobody should ask for {path}"),
    };
    served.asked.push(path);
    let status = StatusCode::from_u16(served.status).unwrap();
    let headers = [(header::CONTENT_TYPE, served.content_type), (header::LOCATION, "/elsewhere")];
    (status, headers, body).into_response()
}
