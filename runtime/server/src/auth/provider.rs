//! The providers of `auth.config.ts`: who may say who somebody is (`convex-compat.md` section 9.6).
//!
//! In: the JSON that the module exports. Out: [`Provider`]s in its order, or what to change in it.
//! Invariant: a push parses with the same code as a token's check, so what was deployed is usable.

use database::error::PushError;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};
use url::Url;

use super::keys::{KeySet, Keys, Source};

/// Most providers that a message lists.
const LISTED_MAX: usize = 10;

/// One entry of `providers`.
pub(crate) struct Provider {
    /// `domain` or `issuer`, as written.
    written: String,
    /// The same with a scheme and without a `/` at its end: what a token's `iss` is compared with.
    pub(super) issuer: String,
    /// Must be among a token's audiences.
    pub(super) application_id: Option<String>,
    pub(super) kind: Kind,
    pub(super) keys: Keys,
}

/// Which rules its tokens follow.
pub(super) enum Kind {
    /// `OpenID` Connect: `{domain, applicationID}`.
    Oidc,
    /// `{type: "customJwt", …}`, with `jwks` as written.
    Custom { jwks: String, algorithm: Algorithm },
}

/// Reads what `auth.config.ts` exports; nothing at all means no providers.
///
/// # Errors
/// `InvalidAuthConfig` or `InvalidProviderDomainUrl`: which entry is wrong, and how to write it.
pub(crate) fn parse(auth_json: Option<&str>) -> Result<Vec<Provider>, PushError> {
    let Some(text) = auth_json else {
        return Ok(Vec::new());
    };
    let config = serde_json::from_str(text).unwrap_or(Value::Null);
    let Some(Value::Array(entries)) = config.get("providers") else {
        return Err(invalid(
            "the default export must be `{ providers: [{ domain: \"https://…\", applicationID: \
             \"…\" }] }`.",
        ));
    };
    let entry = |(at, entry): (usize, &Value)| match entry {
        Value::Object(fields) => Entry { at, fields }.provider(),
        other => Err(invalid(&format!("providers[{at}] must be an object, not {other}."))),
    };
    entries.iter().enumerate().map(entry).collect()
}

impl Provider {
    /// Its entry in `appAuth` of the deploy protocol, with everything as written.
    pub(crate) fn json(&self) -> Value {
        match &self.kind {
            Kind::Oidc => json!({ "applicationID": self.application_id, "domain": self.written }),
            Kind::Custom { jwks, algorithm } => json!({
                "type": "customJwt",
                "applicationID": self.application_id,
                "issuer": self.written,
                "jwks": jwks,
                "algorithm": format!("{algorithm:?}"),
            }),
        }
    }

    /// Whether a token with this `iss` and these `aud` is this provider's to judge.
    pub(super) fn claims(&self, iss: &str, audiences: &[&str]) -> bool {
        self.issuer == canonical(iss)
            && self.application_id.as_deref().is_none_or(|id| audiences.contains(&id))
    }

    /// Which signatures its tokens may have.
    pub(super) fn algorithms(&self) -> &[Algorithm] {
        match &self.kind {
            Kind::Oidc => &[Algorithm::RS256, Algorithm::EdDSA],
            Kind::Custom { algorithm, .. } => std::slice::from_ref(algorithm),
        }
    }
}

/// What is configured, for a token that fits none of it.
pub(super) fn list(providers: &[Provider]) -> String {
    let one = |provider: &Provider| {
        let field = if matches!(provider.kind, Kind::Oidc) { "domain" } else { "issuer" };
        match &provider.application_id {
            Some(id) => format!("{field} {:?} with applicationID {id:?}", provider.written),
            None => format!("{field} {:?} with any audience", provider.written),
        }
    };
    let mut all: Vec<_> = providers.iter().take(LISTED_MAX).map(one).collect();
    if providers.len() > LISTED_MAX {
        all.push(format!("{} more", providers.len() - LISTED_MAX));
    }
    all.join("; ")
}

/// The form in which issuers are compared: `https://` where there is no scheme, no `/` at the end.
pub(super) fn canonical(issuer: &str) -> String {
    let bare = issuer.strip_suffix('/').unwrap_or(issuer);
    if has_scheme(bare) { bare.to_owned() } else { format!("https://{bare}") }
}

fn has_scheme(text: &str) -> bool {
    text.contains("://") || text.starts_with("data:")
}

/// One entry while it is read.
struct Entry<'a> {
    at: usize,
    fields: &'a Map<String, Value>,
}

impl Entry<'_> {
    fn provider(&self) -> Result<Provider, PushError> {
        match self.fields.get("type") {
            Some(Value::String(kind)) if kind == "customJwt" => self.custom(),
            None | Some(Value::Null) => self.oidc(),
            Some(other) => {
                Err(self.wrong("type", &format!("must be \"customJwt\" or absent, not {other}")))
            }
        }
    }

    fn oidc(&self) -> Result<Provider, PushError> {
        let written = self.text("domain")?;
        let issuer = self.issuer("domain", &written)?;
        let application_id = Some(self.text("applicationID")?);
        let keys = Keys::new(Source::Discovery(issuer.clone()));
        Ok(Provider { written, issuer, application_id, kind: Kind::Oidc, keys })
    }

    fn custom(&self) -> Result<Provider, PushError> {
        let written = self.text("issuer")?;
        let issuer = self.issuer("issuer", &written)?;
        let application_id = match self.fields.get("applicationID") {
            None | Some(Value::Null) => None,
            Some(_) => Some(self.text("applicationID")?),
        };
        let algorithm = match &*self.text("algorithm")? {
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            other => {
                let text = format!("must be \"RS256\" or \"ES256\", not {other:?}");
                return Err(self.wrong("algorithm", &text));
            }
        };
        let jwks = self.text("jwks")?;
        let keys = Keys::new(self.source(&jwks)?);
        let kind = Kind::Custom { jwks, algorithm };
        Ok(Provider { written, issuer, application_id, kind, keys })
    }

    fn source(&self, jwks: &str) -> Result<Source, PushError> {
        if !jwks.starts_with("data:") {
            return Ok(Source::Url(self.web_url("jwks", jwks)?));
        }
        let unreadable = |why: String| self.wrong("jwks", &format!("is a data: URL, but {why}"));
        let url = data_url::DataUrl::process(jwks)
            .map_err(|_| unreadable("there is no comma between its type and its data".into()))?;
        let (bytes, _) = url
            .decode_to_vec()
            .map_err(|_| unreadable("what follows \";base64,\" is not base64".into()))?;
        Ok(Source::Given(KeySet::parse(&bytes).map_err(unreadable)?.into()))
    }

    fn issuer(&self, name: &str, written: &str) -> Result<String, PushError> {
        if written.starts_with('"') {
            let text = "starts with a double quote: the value, or the environment variable that it \
                        comes from, is quoted twice";
            return Err(self.bad_url(name, written, text));
        }
        self.web_url(name, written).map(|url| canonical(&url))
    }

    /// A URL as written, with `https://` in front where it has no scheme.
    fn web_url(&self, name: &str, written: &str) -> Result<String, PushError> {
        let whole =
            if has_scheme(written) { written.to_owned() } else { format!("https://{written}") };
        let url = Url::parse(&whole)
            .map_err(|error| self.bad_url(name, written, &format!("is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            let text = format!("has the scheme {:?}; write http:// or https://", url.scheme());
            return Err(self.bad_url(name, written, &text));
        }
        Ok(whole)
    }

    fn text(&self, name: &str) -> Result<String, PushError> {
        match self.fields.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(Value::String(_)) => Err(self.wrong(name, "must not be empty")),
            None => Err(self.wrong(name, "is missing; it must be a string")),
            Some(other) => Err(self.wrong(name, &format!("must be a string, not {other}"))),
        }
    }

    fn bad_url(&self, name: &str, written: &str, why: &str) -> PushError {
        let text = format!("auth.config.ts: providers[{}].{name} {written:?} {why}.", self.at);
        PushError::new("InvalidProviderDomainUrl", text)
    }

    fn wrong(&self, name: &str, why: &str) -> PushError {
        invalid(&format!("providers[{}].{name} {why}.", self.at))
    }
}

fn invalid(why: &str) -> PushError {
    PushError::new("InvalidAuthConfig", format!("auth.config.ts: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(entry: Value) -> Result<Provider, PushError> {
        let text = json!({ "providers": [entry] }).to_string();
        parse(Some(&text)).map(|mut all| all.remove(0))
    }

    #[test]
    fn issuers_are_compared_without_scheme_and_slash() {
        for domain in ["https://a.example", "https://a.example/", "a.example", "a.example/"] {
            let provider = one(json!({ "domain": domain, "applicationID": "app" })).unwrap();
            for iss in ["https://a.example", "https://a.example/", "a.example"] {
                assert!(provider.claims(iss, &["x", "app"]), "{domain} {iss}");
            }
            for iss in ["http://a.example", "https://a.example/b", "https://a.example//", "b"] {
                assert!(!provider.claims(iss, &["app"]), "{domain} {iss}");
            }
            assert!(!provider.claims("a.example", &["other"]));
            assert_eq!(provider.json(), json!({ "applicationID": "app", "domain": domain }));
        }
    }

    #[test]
    fn no_config_is_no_providers() {
        assert!(parse(None).unwrap().is_empty());
        assert!(parse(Some(r#"{"providers":[]}"#)).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_config_says_what_to_change() {
        let custom = |name: &str, value: Value| {
            let mut entry = json!({ "type": "customJwt", "issuer": "https://i.example",
                "jwks": "https://i.example/keys", "algorithm": "ES256" });
            entry[name] = value;
            entry
        };
        let oidc = |domain: &str| json!({ "domain": domain, "applicationID": "a" });
        let cases = [
            (json!(7), "InvalidAuthConfig", "providers[0] must be an object, not 7"),
            (json!({ "domain": "x" }), "InvalidAuthConfig", "applicationID is missing"),
            (json!({ "applicationID": "x" }), "InvalidAuthConfig", "domain is missing"),
            (json!({ "type": "saml" }), "InvalidAuthConfig", "type must be \"customJwt\""),
            (oidc(""), "InvalidAuthConfig", "domain must not be empty"),
            (oidc("\"https://a\""), "InvalidProviderDomainUrl", "starts with a double quote"),
            (oidc("ftp://a.example"), "InvalidProviderDomainUrl", "has the scheme \"ftp\""),
            (oidc("https://"), "InvalidProviderDomainUrl", "is no URL: empty host"),
            (custom("algorithm", json!("HS256")), "InvalidAuthConfig", "\"RS256\" or \"ES256\""),
            (custom("issuer", json!("a b")), "InvalidProviderDomainUrl", "issuer \"a b\""),
            (custom("jwks", json!("file:///k")), "InvalidProviderDomainUrl", "scheme \"file\""),
            (custom("jwks", json!("data:x")), "InvalidAuthConfig", "there is no comma"),
            (custom("jwks", json!("data:;base64,*")), "InvalidAuthConfig", "not base64"),
            (custom("jwks", json!("data:,{}")), "InvalidAuthConfig", "is a data: URL, but"),
            (custom("applicationID", json!(1)), "InvalidAuthConfig", "must be a string, not 1"),
        ];
        for (entry, code, text) in cases {
            let error = one(entry).err().unwrap();
            assert_eq!(error.code, code, "{}", error.message);
            assert!(error.message.contains(text), "{}", error.message);
            assert!(error.message.starts_with("auth.config.ts: "), "{}", error.message);
        }
        for text in ["null", "[]", "{}", r#"{"providers":{}}"#] {
            assert_eq!(parse(Some(text)).err().unwrap().code, "InvalidAuthConfig", "{text}");
        }
    }
}
