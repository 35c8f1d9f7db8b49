//! Users' tokens, end to end: configuration, keys, signatures, claims (`convex-compat.md`
//! section 9.6).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use database::limits::{
    AUTH_FETCH_BYTES, AUTH_KEYS_MS, AUTH_REFETCH_MS, AUTH_STALE_KEYS_MS, TOKEN_BYTES,
};
use database::record::Identity;
use serde_json::json;
use serde_json::value::RawValue;

use super::push::{finish, push, serving, start};
use super::signing::{Provider, Signer, jwks, message};
use super::*;
use crate::host::Host;

/// The bench's clock at its start, seconds.
const NOW: u64 = 1_700_000_000;

/// A server whose functions answer with `getUserIdentity()`, as text.
fn who() -> Bench {
    bench(false, |call| Ok(Ok(json!(call.identity.attributes().map(|a| &**a)).to_string())))
}

/// Deploys these providers.
async fn configure(bench: &Bench, providers: Value) {
    deploy(bench, providers, "export const list = query()").await;
}

async fn deploy(bench: &Bench, providers: Value, source: &str) {
    let config = json!({ "providers": providers }).to_string();
    let started = start(bench, push(&[("a.js", source), ("auth.config.js", &config)])).await;
    let got = finish(bench, &started, false).await;
    assert_eq!(got.status, 200, "{}", got.body);
}

/// A query with this token. No message may repeat a token.
async fn ask(bench: &Bench, token: &str) -> Got {
    let auth = format!("Bearer {token}");
    let body = r#"{"path":"a:who","args":{}}"#.to_owned();
    let got = bench.authorized(Method::POST, "/api/query", (&auth, body)).await;
    for part in token.split('.').filter(|part| part.len() > 20) {
        assert!(!got.body.contains(part), "{}", got.body);
    }
    got
}

/// Who the token's user is.
async fn user(bench: &Bench, token: &str) -> Value {
    let got = ask(bench, token).await;
    let value = got.json()["value"].clone();
    serde_json::from_str(value.as_str().unwrap_or_else(|| panic!("{}", got.body))).unwrap()
}

/// Status, code and message of a refusal.
async fn refusal(bench: &Bench, token: &str) -> (u16, String, String) {
    let got = ask(bench, token).await;
    let (status, code) = got.failure();
    (status, code, got.json()["message"].as_str().unwrap_or_default().to_owned())
}

fn wait(bench: &Bench, ms: u64) {
    bench.fake.world.0.fetch_add(ms * 1_000_000, Ordering::Relaxed);
}

fn claims(iss: &str) -> Value {
    json!({ "iss": iss, "sub": "u1", "aud": "app", "iat": NOW, "exp": NOW + 3_600,
        "given_name": "Ada", "org": { "id": 7 } })
}

fn oidc(issuer: &str) -> Value {
    json!([{ "domain": issuer, "applicationID": "app" }])
}

fn custom(issuer: &str, jwks: &str, algorithm: &str) -> Value {
    json!([{ "type": "customJwt", "issuer": issuer, "jwks": jwks, "algorithm": algorithm,
        "applicationID": "app" }])
}

#[tokio::test]
async fn openid_connect_with_discovery() {
    let (rsa, ed) = (Signer::rsa("r"), Signer::ed("e"));
    let provider = Provider::start(jwks(&[&rsa, &ed])).await;
    let bench = who();
    configure(&bench, oidc(&format!("{}/", provider.issuer))).await;
    assert_eq!(provider.asked(), 0, "a push asks nobody");
    let claims = claims(&provider.issuer);
    let tokens: Vec<_> = [&rsa, &ed].iter().map(|signer| signer.token(&claims)).collect();
    let expected = json!({
        "tokenIdentifier": format!("{}|u1", provider.issuer), "issuer": provider.issuer,
        "subject": "u1", "givenName": "Ada", "org": { "id": 7 },
    });
    let mut all = tokio::task::JoinSet::new();
    let bench = Arc::new(bench);
    for at in 0..20 {
        let (bench, token) = (bench.clone(), tokens[at % 2].clone());
        all.spawn(async move { user(&bench, &token).await });
    }
    while let Some(got) = all.join_next().await {
        assert_eq!(got.unwrap(), expected);
    }
    assert_eq!(provider.asked(), 2, "one discovery and one key set for all of them");

    // New code with the same providers keeps their keys.
    deploy(&bench, oidc(&format!("{}/", provider.issuer)), "export const more = 1").await;
    assert_eq!(user(&bench, &tokens[0]).await, expected);
    assert_eq!(provider.asked(), 0);

    // Without a kid, any key of the right kind may have signed.
    let anonymous = rsa.signed(&json!({ "alg": "RS256" }), &claims);
    assert_eq!(user(&bench, &anonymous).await, expected);
}

#[tokio::test]
async fn custom_tokens_with_keys_in_the_config() {
    let (rsa, ec) = (Signer::rsa("r"), Signer::ec("e"));
    let bench = who();
    let keys = jwks(&[&rsa, &ec]);
    let urls = [
        format!("data:text/plain;charset=utf-8;base64,{}", STANDARD.encode(&keys)),
        format!("data:application/json,{}", keys.replace(' ', "%20")),
    ];
    for (url, signer) in urls.iter().zip([&rsa, &ec]) {
        configure(&bench, custom("https://i.example", url, signer.alg())).await;
        let token = signer.token(&claims("https://i.example"));
        let expected = json!({
            "tokenIdentifier": "https://i.example|u1", "issuer": "https://i.example",
            "subject": "u1", "given_name": "Ada", "org.id": 7,
        });
        assert_eq!(user(&bench, &token).await, expected, "{url}");
        let nameless = signer.signed(&json!({ "alg": signer.alg() }), &claims("i.example"));
        let (status, code, text) = refusal(&bench, &nameless).await;
        assert_eq!((status, &*code), (401, "InvalidAuthHeader"));
        assert!(text.contains("no kid"), "{text}");
    }
    let mut anybody = custom("https://i.example", &urls[0], "ES256");
    anybody[0]["applicationID"] = Value::Null;
    configure(&bench, anybody).await;
    let mut claims = claims("i.example/");
    claims.as_object_mut().unwrap().remove("aud");
    assert_eq!(user(&bench, &ec.token(&claims)).await["tokenIdentifier"], "i.example/|u1");
}

#[tokio::test]
async fn the_first_provider_that_fits_decides() {
    let (one, two) = (Signer::ec("k"), Signer::ec("k"));
    let provider = |signer: &Signer, app: &str| {
        let url = format!("data:,{}", jwks(&[signer]));
        let mut entry = custom("https://i.example", &url, "ES256")[0].clone();
        entry["applicationID"] = app.into();
        entry
    };
    let bench = who();
    configure(&bench, json!([provider(&one, "app"), provider(&two, "two")])).await;
    let mut claims = claims("https://i.example");
    claims["aud"] = json!(["x", "two"]);
    assert_eq!(user(&bench, &two.token(&claims)).await["subject"], "u1");
    claims["aud"] = json!(["two", "app"]);
    assert_eq!(refusal(&bench, &two.token(&claims)).await.1, "Unauthenticated");
    assert_eq!(user(&bench, &one.token(&claims)).await["subject"], "u1");
}

#[tokio::test]
async fn a_wrong_token_says_what_is_wrong() {
    let signer = Signer::rsa("r");
    let provider = Provider::start(jwks(&[&signer])).await;
    let bench = who();
    configure(&bench, oidc(&provider.issuer)).await;
    let iss = &*provider.issuer;
    let with = |name: &str, value: Value| {
        let mut claims = claims(iss);
        claims[name] = value;
        signer.token(&claims)
    };
    let without = |name: &str| {
        let mut claims = claims(iss);
        claims.as_object_mut().unwrap().remove(name);
        signer.token(&claims)
    };
    let configured = format!("auth.config.ts has domain {iss:?} with applicationID \"app\".");
    let cases = [
        (with("iss", json!("https://other")), "NoAuthProvider", &*configured),
        (with("aud", json!("other")), "NoAuthProvider", "its aud is \"other\"; auth.config.ts"),
        (without("aud"), "NoAuthProvider", "its aud is missing; auth.config.ts"),
        (with("aud", json!(["app", "x"])), "InvalidAuthHeader", "as its only audience"),
        (with("aud", json!([7])), "InvalidAuthHeader", "aud must be a string or a list"),
        (without("iss"), "InvalidAuthHeader", "The token has no iss."),
        (without("sub"), "InvalidAuthHeader", "The token has no sub."),
        (with("sub", json!("")), "InvalidAuthHeader", "sub must be a string that is not empty"),
        (without("exp"), "InvalidAuthHeader", "The token has no exp"),
        (with("exp", json!("soon")), "InvalidAuthHeader", "exp must be a number"),
        (with("exp", json!(NOW - 60)), "Unauthenticated", "expired 60 s ago: its exp is 1699999"),
        (with("exp", json!(-1)), "Unauthenticated", "its exp is 0, the time is 1700000000"),
        (with("nbf", json!(NOW + 60)), "Unauthenticated", "is not valid yet: its nbf is 17000000"),
        (with("iat", json!(NOW + 60)), "Unauthenticated", "was issued in the future"),
    ];
    for (token, code, text) in cases {
        let (status, got, message) = refusal(&bench, &token).await;
        assert_eq!((status, &*got), (401, code), "{message}");
        assert!(message.contains(text), "{message}");
    }
    // Within five seconds the clocks may differ.
    for (name, time) in [("exp", NOW - 3), ("nbf", NOW + 4), ("iat", NOW + 4)] {
        assert_eq!(user(&bench, &with(name, json!(time))).await["subject"], "u1", "{name}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let signer = Signer::rsa("r");
    let provider = Provider::start(jwks(&[&signer])).await;
    let bench = who();
    configure(&bench, oidc(&provider.issuer)).await;
    let good = signer.token(&claims(&provider.issuer));
    let parts: Vec<_> = good.split('.').collect();
    let (head, payload, signature) = (parts[0], parts[1], parts[2]);
    let text = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let cases = [
        ("abc".to_owned(), "three parts"),
        (format!("{good}.x"), "three parts"),
        ("..".to_owned(), "its header is no base64url"),
        (format!("*.{payload}.{signature}"), "its header is no base64url"),
        (format!("{}.{payload}.{signature}", text("[]")), "its header is no base64url"),
        (format!("{}.{payload}.{signature}", text("{}")), "alg is missing"),
        (format!("{}.{payload}.{signature}", text(r#"{"alg":7}"#)), "alg is 7"),
        (format!("{head}.*.{signature}"), "its payload is no base64url"),
        (format!("{head}.{}.{signature}", text("[]")), "its payload is no base64url"),
        (message_of_header(&json!({ "alg": "RS256", "kid": 7 }), payload), "a field of its header"),
        (
            message_of_header(&json!({ "alg": "RS256", "crit": ["exp"] }), payload),
            "demands extensions that concave does not know: crit is [\"exp\"]",
        ),
        ("x".repeat(TOKEN_BYTES as usize + 1), "too long"),
    ];
    for (token, expected) in cases {
        let (status, code, message) = refusal(&bench, &token).await;
        assert_eq!((status, &*code), (401, "InvalidAuthHeader"), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(provider.asked(), 0, "none of them cost a request");
}

fn message_of_header(header: &Value, payload: &str) -> String {
    format!("{}.{payload}.AAAA", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[tokio::test]
async fn a_signature_cannot_be_argued_away() {
    let (signer, thief) = (Signer::rsa("r"), Signer::rsa("r"));
    let provider = Provider::start(jwks(&[&signer])).await;
    let bench = who();
    configure(&bench, oidc(&provider.issuer)).await;
    let claims = claims(&provider.issuer);
    let good = signer.token(&claims);
    assert_eq!(user(&bench, &good).await["subject"], "u1");

    let none = format!("{}.", message(&json!({ "alg": "none", "kid": "r" }), &claims));
    let hmac = {
        // The classic: the public key as the secret of a symmetric signature.
        let message = message(&json!({ "alg": "HS256", "kid": "r" }), &claims);
        let secret = signer.jwk()["n"].as_str().unwrap().to_owned();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    for (token, alg) in [(none, "alg is \"none\""), (hmac, "alg is HS256")] {
        let (status, code, text) = refusal(&bench, &token).await;
        assert_eq!((status, &*code), (401, "InvalidAuthHeader"), "{text}");
        assert!(text.contains(alg) && text.contains("RS256"), "{text}");
    }

    let mut other = claims.clone();
    other["sub"] = "root".into();
    let (head, signature) = (good.split('.').next().unwrap(), good.rsplit('.').next().unwrap());
    let swapped = message(&json!({}), &other);
    let swapped = format!("{head}.{}.{signature}", swapped.split('.').nth(1).unwrap());
    let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
    let embedded = json!({ "alg": "RS256", "kid": "r", "jwk": thief.jwk() });
    let garbled = format!("{unsigned}*");
    let forged =
        [swapped, unsigned, garbled, thief.token(&claims), thief.signed(&embedded, &claims)];
    for token in forged {
        let (status, code, text) = refusal(&bench, &token).await;
        assert_eq!((status, &*code), (401, "Unauthenticated"), "{text}");
        let why = format!("signature is wrong: the key \"r\" of {:?} did not", provider.issuer);
        assert!(text.contains(&why), "{text}");
    }
    let nameless = thief.signed(&json!({ "alg": "RS256" }), &claims);
    let (_, code, text) = refusal(&bench, &nameless).await;
    assert_eq!(code, "Unauthenticated");
    let why = format!("no key (kid), and none of the RS256 keys of {:?} made it", provider.issuer);
    assert!(text.contains(&why), "{text}");

    // A key verifies its own kind of signature and no other.
    let confused = thief.signed(&json!({ "alg": "EdDSA", "kid": "r" }), &claims);
    let (_, code, text) = refusal(&bench, &confused).await;
    assert_eq!(code, "InvalidAuthHeader");
    assert!(text.contains("no key with the token's kid \"r\" and alg EdDSA"), "{text}");

    // An elliptic key of the same set does not make the algorithm acceptable.
    let ec = Signer::ec("e");
    provider.change(|served| served.keys = jwks(&[&signer, &ec]));
    let (_, code, text) = refusal(&bench, &ec.token(&claims)).await;
    assert_eq!(code, "InvalidAuthHeader");
    assert!(text.contains("alg is ES256; tokens of"), "{text}");
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_once() {
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    let provider = Provider::start(jwks(&[&old])).await;
    let bench = who();
    configure(&bench, oidc(&provider.issuer)).await;
    let claims = claims(&provider.issuer);
    assert_eq!(user(&bench, &old.token(&claims)).await["subject"], "u1");
    assert_eq!(provider.asked(), 2);

    // Right after a fetch nobody asks again, whatever key ids are made up.
    provider.change(|served| served.keys = jwks(&[&new]));
    let (status, code, text) = refusal(&bench, &new.token(&claims)).await;
    assert_eq!((status, &*code), (401, "InvalidAuthHeader"));
    assert!(text.contains("no key with the token's kid \"new\""), "{text}");
    assert!(text.contains("which are: \"old\" (EdDSA)"), "{text}");
    assert_eq!(provider.asked(), 0);

    wait(&bench, AUTH_REFETCH_MS);
    assert_eq!(user(&bench, &new.token(&claims)).await["subject"], "u1");
    assert_eq!(provider.asked(), 2);
    assert!(refusal(&bench, &old.token(&claims)).await.2.contains("kid \"old\""));
    assert_eq!(provider.asked(), 0);

    // A key that was withdrawn is forgotten in time, without anybody asking for another.
    provider.change(|served| served.keys = jwks(&[&old]));
    wait(&bench, AUTH_KEYS_MS);
    assert!(refusal(&bench, &new.token(&claims)).await.2.contains("kid \"new\""));
    assert_eq!(provider.asked(), 2);
}

#[tokio::test]
async fn users_stay_signed_in_while_their_provider_is_down() {
    let signer = Signer::ed("k");
    let provider = Provider::start(jwks(&[&signer])).await;
    let bench = who();
    configure(&bench, oidc(&provider.issuer)).await;
    let mut claims = claims(&provider.issuer);
    claims["exp"] = json!(NOW + 1_000_000_000);
    let token = signer.token(&claims);
    provider.change(|served| served.status = 503);
    for asked in [1, 0] {
        let got = ask(&bench, &token).await;
        assert_eq!(got.failure(), (503, "AuthProviderDiscoveryFailed".into()));
        let text = format!(
            "Auth provider discovery of {0} failed: {0}/.well-known/openid-configuration: it \
             answered 503",
            provider.issuer
        );
        assert!(got.body.contains(&text), "{}", got.body);
        assert_eq!(provider.asked(), asked, "a provider that is down is not asked at each request");
    }
    provider.change(|served| served.status = 200);
    wait(&bench, AUTH_REFETCH_MS);
    assert_eq!(user(&bench, &token).await["subject"], "u1");

    provider.change(|served| served.status = 500);
    provider.asked();
    wait(&bench, AUTH_KEYS_MS);
    for asked in [1, 0] {
        assert_eq!(user(&bench, &token).await["subject"], "u1");
        assert_eq!(provider.asked(), asked);
    }
    wait(&bench, AUTH_STALE_KEYS_MS - AUTH_KEYS_MS);
    assert_eq!(ask(&bench, &token).await.failure().0, 503);
    provider.change(|served| served.status = 200);
    wait(&bench, AUTH_REFETCH_MS);
    assert_eq!(user(&bench, &token).await["subject"], "u1");
}

#[tokio::test]
async fn a_provider_that_answers_nonsense() {
    let signer = Signer::ec("k");
    let jwks = jwks(&[&signer]);
    let provider = Provider::start(jwks.clone()).await;
    let bench = who();
    let url = format!("{}/keys", provider.issuer);
    let token = signer.token(&claims(&provider.issuer));
    configure(&bench, custom(&provider.issuer, &url, "ES256")).await;
    let symmetric = json!({ "keys": [{ "kty": "oct", "k": "AAAA" }, { "kty": "EC", "crv": "x" },
        { "kty": "EC", "crv": "P-256", "use": "enc", "x": "AA", "y": "AA" }, 7] });
    let long = " ".repeat(AUTH_FETCH_BYTES as usize + 1);
    let cases = [
        (404, "application/json", jwks.clone(), "it answered 404"),
        (302, "application/json", jwks.clone(), "302 Found to /elsewhere, which is not followed"),
        (200, "text/html", jwks.clone(), "its Content-Type is \"text/html\"; it must be"),
        (200, "application/json", "{".into(), "it is no key set"),
        (200, "application/json", symmetric.to_string(), "none of its 4 keys is a public signing"),
        (200, "application/json", long, "the answer is longer than"),
    ];
    for (status, content_type, keys, text) in cases {
        provider.change(|served| {
            (served.status, served.content_type, served.keys) = (status, content_type, keys);
        });
        wait(&bench, AUTH_REFETCH_MS);
        let (status, code, message) = refusal(&bench, &token).await;
        assert_eq!((status, &*code), (401, "AuthProviderDiscoveryFailed"), "{message}");
        assert!(message.contains(text) && message.contains(&url), "{message}");
    }
    provider.change(|served| {
        (served.content_type, served.keys) = ("application/jwk-set+json", jwks);
    });
    wait(&bench, AUTH_REFETCH_MS);
    assert_eq!(user(&bench, &token).await["subject"], "u1");

    configure(&bench, oidc(&provider.issuer)).await;
    let cases = [
        (json!({ "issuer": "https://x", "jwks_uri": url }), "is about the issuer \"https://x\""),
        (json!({ "issuer": provider.issuer }), "no OpenID discovery document: missing field"),
        (json!({ "issuer": provider.issuer, "jwks_uri": "file:///k" }), "is no web address"),
    ];
    for (discovery, text) in cases {
        provider.change(|served| served.discovery = discovery.to_string());
        wait(&bench, AUTH_REFETCH_MS);
        let rsa = signer.signed(&json!({ "alg": "EdDSA" }), &claims(&provider.issuer));
        let (status, _, message) = refusal(&bench, &rsa).await;
        assert_eq!(status, 401);
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test]
async fn nobody_there_is_not_the_tokens_fault() {
    let bench = who();
    // A port that was free a moment ago.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let issuer = format!("http://{gone}");
    configure(&bench, oidc(&issuer)).await;
    let (status, code, text) = refusal(&bench, &Signer::ed("k").token(&claims(&issuer))).await;
    assert_eq!((status, &*code), (503, "AuthProviderDiscoveryFailed"));
    assert!(text.contains("onnection refused"), "{text}");
}

#[tokio::test]
async fn expiry_is_looked_at_on_each_request() {
    let signer = Signer::ed("k");
    let provider = Provider::start(jwks(&[&signer])).await;
    let bench = who();
    configure(&bench, oidc(&provider.issuer)).await;
    let token = signer.token(&claims(&provider.issuer));
    assert_eq!(user(&bench, &token).await["subject"], "u1");
    wait(&bench, 3_600_000 + 6_000);
    let (status, code, text) = refusal(&bench, &token).await;
    assert_eq!((status, &*code), (401, "Unauthenticated"));
    assert!(text.contains("Fetch a new one"), "{text}");
    for path in ["/api/query_batch", "/api/query_at_ts", "/api/run/a/who", "/api/mutation"] {
        let auth = format!("Bearer {token}");
        let got = bench.authorized(Method::POST, path, (&auth, "{}".into())).await;
        assert_eq!(got.failure(), (401, "Unauthenticated".into()), "{path}");
    }
}

#[tokio::test]
async fn a_push_with_a_bad_config_changes_nothing() {
    let signer = Signer::ec("k");
    let bench = who();
    let url = format!("data:,{}", jwks(&[&signer]));
    let good = custom("i.example", &url, "ES256");
    configure(&bench, good.clone()).await;
    let running = serving(&bench);
    let bad = [
        (json!([{ "domain": "\"x\"", "applicationID": "a" }]), "InvalidProviderDomainUrl"),
        (json!([{ "domain": "x" }]), "InvalidAuthConfig"),
        (json!({}), "InvalidAuthConfig"),
    ];
    for (providers, code) in bad {
        let config = json!({ "providers": providers }).to_string();
        let body = push(&[("a.js", "changed"), ("auth.config.js", &config)]);
        let got = bench.admin("/api/deploy2/start_push", body).await;
        assert_eq!(got.failure(), (400, code.into()));
        let text = got.json()["message"].as_str().unwrap().to_owned();
        assert!(text.starts_with("Hit an error while pushing:\nauth.config.ts: "), "{text}");
    }
    assert_eq!(serving(&bench), running);
    assert_eq!(user(&bench, &signer.token(&claims("i.example"))).await["subject"], "u1");

    // The tools are shown the providers as they were written, and what changes.
    let config = json!({ "providers": oidc("b.example") }).to_string();
    let started = start(&bench, push(&[("auth.config.js", &config)])).await;
    assert_eq!(started["appAuth"], json!([{ "applicationID": "app", "domain": "b.example" }]));
    let got = finish(&bench, &started, false).await.json();
    let added: Value = serde_json::from_str(got["authDiff"]["added"][0].as_str().unwrap()).unwrap();
    let removed = got["authDiff"]["removed"][0].as_str().unwrap();
    assert_eq!(added, started["appAuth"][0]);
    assert_eq!(serde_json::from_str::<Value>(removed).unwrap(), good[0]);
    let (_, code, text) = refusal(&bench, &signer.token(&claims("i.example"))).await;
    assert_eq!(code, "NoAuthProvider");
    assert!(text.contains("domain \"b.example\" with applicationID \"app\""), "{text}");
}

#[tokio::test]
async fn without_providers_every_token_is_strange() {
    let bench = who();
    let token = Signer::ed("k").token(&claims("https://i.example"));
    let (status, code, text) = refusal(&bench, &token).await;
    assert_eq!((status, &*code), (401, "NoAuthProvider"));
    assert!(text.contains("its iss is \"https://i.example\", its aud is \"app\""), "{text}");
    assert!(text.contains("no auth.config.ts"), "{text}");
    let (auth, body) = (format!("Bearer {token}"), r#"{"path":"a:who","args":{}}"#.to_owned());
    let got = bench.authorized(Method::POST, "/api/function", (&auth, body)).await;
    assert_eq!(got.failure(), (403, "Forbidden".into()));
}

#[tokio::test]
async fn sessions_ask_the_host_itself() {
    let signer = Signer::ed("k");
    let provider = Provider::start(jwks(&[&signer])).await;
    let (server, fake, events) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    let Routes { cloud, site } = Routes::new(server);
    let bench = Bench { fake: fake.clone(), cloud, site, events };
    configure(&bench, oidc(&provider.issuer)).await;
    let config = super::server(false, Box::new(|_| Ok(Ok("null".into())))).0.config;
    let host = Host::new(Server {
        database: fake.database.clone(),
        functions: fake.clone(),
        http_actions: Arc::new(NoHttpActions),
        files: files(&fake.database, &fake.world).1,
        config: ServerConfig { world: fake.world.clone(), ..config },
    });

    let known = host.user(&signer.token(&claims(&provider.issuer))).await.unwrap();
    assert_eq!(known.expires, Some((NOW + 3_605) * 1_000_000_000), "with the leeway of clocks");
    let Identity::User(user) = known.identity else { panic!("{:?}", known.identity) };
    assert_eq!(user.token_identifier, format!("{}|u1", provider.issuer));

    let json = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    let attributes = json(r#"{"issuer":"https://i","subject":"s"}"#);
    assert_eq!(host.admin(KEY, None).unwrap(), Identity::Admin);
    assert_eq!(host.admin(KEY, Some(&json("null"))).unwrap(), Identity::Admin);
    let acting = host.admin(KEY, Some(&attributes)).unwrap();
    assert!(matches!(acting, Identity::ActingAs(user) if user.token_identifier == "https://i|s"));
    assert_eq!(host.admin("nonsense", Some(&attributes)).unwrap_err().code, "BadDeployKey");
    assert_eq!(host.admin(KEY, Some(&json("7"))).unwrap_err().code, "InvalidAdminKey");
}
