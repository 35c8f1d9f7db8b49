//! A verified token's claims → what `getUserIdentity()` returns (`convex-compat.md` section 9.6).
//!
//! In: claims. Out: JSON text with `tokenIdentifier`, `issuer` and `subject` first.
//! Invariant: claims that differ between two tokens of one user (times, ids of tokens) are left
//! out and the rest is ordered, so equal users have equal texts: the text is part of cache keys.

use std::collections::BTreeMap;

use database::record::UserIdentity;
use serde_json::{Map, Value};

/// `OpenID` Connect's standard claims under Convex's names (OpenID Connect Core 1.0, section 5.1).
const STANDARD: [(&str, &str, Form); 18] = [
    ("name", "name", Form::Text),
    ("given_name", "givenName", Form::Text),
    ("family_name", "familyName", Form::Text),
    ("nickname", "nickname", Form::Text),
    ("preferred_username", "preferredUsername", Form::Text),
    ("profile", "profileUrl", Form::Text),
    ("picture", "pictureUrl", Form::Text),
    ("website", "websiteUrl", Form::Text),
    ("email", "email", Form::Text),
    ("email_verified", "emailVerified", Form::Flag),
    ("gender", "gender", Form::Text),
    ("birthdate", "birthday", Form::Text),
    ("zoneinfo", "timezone", Form::Text),
    ("locale", "language", Form::Text),
    ("phone_number", "phoneNumber", Form::Text),
    ("phone_number_verified", "phoneNumberVerified", Form::Flag),
    ("address", "address", Form::Address),
    ("updated_at", "updatedAt", Form::Time),
];

/// Claims of the protocol itself, which say nothing about the user or differ at every sign-in.
const OIDC_PROTOCOL: [&str; 15] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "fva",
    "auth_time",
    "nonce",
    "acr",
    "amr",
    "azp",
    "at_hash",
    "c_hash",
];

/// The same for tokens that are no ID tokens.
const CUSTOM_PROTOCOL: [&str; 8] = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "fva"];

/// What a standard claim's value looks like.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    Address,
    /// Seconds since the Unix epoch, or RFC 3339.
    Time,
}

impl Form {
    /// The value in Convex's form; `None` for one of another type.
    fn read(self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::Text | Self::Address | Self::Time, Value::String(_))
            | (Self::Flag, Value::Bool(_)) => Some(value.clone()),
            // Some providers send booleans as strings.
            (Self::Flag, Value::String(text)) => text.parse::<bool>().ok().map(Value::Bool),
            (Self::Address, Value::Object(parts)) => {
                parts.get("formatted").filter(|text| text.is_string()).cloned()
            }
            (Self::Time, Value::Number(seconds)) => {
                let seconds = seconds.as_i64().or_else(|| seconds.as_f64().map(|s| s as i64))?;
                rfc3339(seconds).map(Value::String)
            }
            _ => None,
        }
    }
}

/// The user of an `OpenID` Connect token. A standard claim of an unexpected type stays under its
/// own name; other claims keep name and value.
pub(super) fn oidc(issuer: &str, subject: &str, mut claims: Map<String, Value>) -> UserIdentity {
    let mut attributes = BTreeMap::new();
    for (claim, name, form) in STANDARD {
        if let Some(value) = claims.get(claim).and_then(|value| form.read(value)) {
            claims.remove(claim);
            attributes.insert(name.to_owned(), value);
        }
    }
    for (name, value) in claims {
        if !OIDC_PROTOCOL.contains(&&*name) {
            attributes.entry(name).or_insert(value);
        }
    }
    identity(issuer, subject, attributes)
}

/// The user of a custom token: claims under their own names, objects inside of them flattened to
/// `a.b`.
pub(super) fn custom(issuer: &str, subject: &str, claims: Map<String, Value>) -> UserIdentity {
    let mut attributes = BTreeMap::new();
    for (name, value) in in_order(claims) {
        if !CUSTOM_PROTOCOL.contains(&&*name) {
            flatten(name, value, &mut attributes);
        }
    }
    identity(issuer, subject, attributes)
}

/// Recursion is bounded by the JSON parser's own limit of depth.
fn flatten(name: String, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in in_order(fields) {
                flatten(format!("{name}.{field}"), value, into);
            }
        }
        value => {
            into.entry(name).or_insert(value);
        }
    }
}

/// By name, so that which of two equal names wins does not depend on the token's spelling.
fn in_order(fields: Map<String, Value>) -> BTreeMap<String, Value> {
    fields.into_iter().collect()
}

fn identity(issuer: &str, subject: &str, attributes: BTreeMap<String, Value>) -> UserIdentity {
    let token_identifier = format!("{issuer}|{subject}");
    let mut all = Map::new();
    all.insert("tokenIdentifier".into(), token_identifier.clone().into());
    all.insert("issuer".into(), issuer.into());
    all.insert("subject".into(), subject.into());
    for (name, value) in attributes {
        // What was verified wins over a claim that happens to have its name.
        all.entry(name).or_insert(value);
    }
    UserIdentity { token_identifier, attributes: Value::Object(all).to_string().into() }
}

/// `2023-11-14T22:13:20+00:00`, for years 0 to 9999.
fn rfc3339(seconds: i64) -> Option<String> {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years, so that a leap day ends its year.
    let days = days.checked_add(719_468)?;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    (0..=9_999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn standard_claims_have_convex_names() {
        let user = oidc(
            "https://i",
            "s",
            claims(json!({
                "iss": "https://i", "sub": "s", "aud": "app", "exp": 2, "iat": 1, "nbf": 1,
                "jti": "x", "fva": [0, 1], "nonce": "n", "azp": "app", "at_hash": "h",
                "c_hash": "c", "auth_time": 1, "acr": "0", "amr": ["pwd"],
                "name": "Ada L", "given_name": "Ada", "family_name": "L", "nickname": "al",
                "preferred_username": "ada", "profile": "https://p", "picture": "https://q",
                "website": "https://w", "email": "a@b", "email_verified": "true", "gender": "f",
                "birthdate": "1815-12-10", "zoneinfo": "Europe/London", "locale": "en",
                "phone_number": "+44", "phone_number_verified": false,
                "address": { "formatted": "12 St", "country": "UK" }, "updated_at": 1_700_000_000,
                "roles": ["admin"], "org": { "id": "o1" }, "https://claims/x": null,
                "tokenIdentifier": "forged", "emailVerified": "forged",
            })),
        );
        assert_eq!(user.token_identifier, "https://i|s");
        let expected = concat!(
            r#"{"tokenIdentifier":"https://i|s","issuer":"https://i","subject":"s","#,
            r#""address":"12 St","birthday":"1815-12-10","email":"a@b","emailVerified":true,"#,
            r#""familyName":"L","gender":"f","givenName":"Ada","https://claims/x":null,"#,
            r#""language":"en","name":"Ada L","nickname":"al","org":{"id":"o1"},"#,
            r#""phoneNumber":"+44","phoneNumberVerified":false,"pictureUrl":"https://q","#,
            r#""preferredUsername":"ada","profileUrl":"https://p","roles":["admin"],"#,
            r#""timezone":"Europe/London","updatedAt":"2023-11-14T22:13:20+00:00","#,
            r#""websiteUrl":"https://w"}"#,
        );
        assert_eq!(&*user.attributes, expected);
    }

    #[test]
    fn a_claim_of_another_type_keeps_its_name() {
        let odd = json!({ "given_name": 7, "email_verified": "perhaps", "updated_at": 1e300 });
        let user = oidc("i", "s", claims(odd));
        let expected = concat!(
            r#"{"tokenIdentifier":"i|s","issuer":"i","subject":"s","#,
            r#""email_verified":"perhaps","given_name":7,"updated_at":1e+300}"#,
        );
        assert_eq!(&*user.attributes, expected);
    }

    #[test]
    fn custom_claims_stay_as_they_are_and_objects_are_flattened() {
        let user = custom(
            "https://i",
            "s",
            claims(json!({
                "iss": "https://i", "sub": "s", "aud": ["app"], "exp": 2, "iat": 1, "nbf": 1,
                "jti": "x", "fva": 0, "email": "a@b", "given_name": "Ada", "email_verified": "true",
                "azp": "app", "a": { "b": { "c": 1 }, "d": [{ "e": 2 }] }, "a.d": "twice",
                "subject": "forged",
            })),
        );
        let expected = concat!(
            r#"{"tokenIdentifier":"https://i|s","issuer":"https://i","subject":"s","#,
            r#""a.b.c":1,"a.d":[{"e":2}],"azp":"app","email":"a@b","email_verified":"true","#,
            r#""given_name":"Ada"}"#,
        );
        assert_eq!(&*user.attributes, expected);
    }

    #[test]
    fn equal_users_have_equal_texts() {
        let one = claims(json!({ "jti": "1", "iat": 1, "exp": 9, "b": 1, "a": 2 }));
        let two = claims(json!({ "a": 2, "exp": 10, "jti": "2", "iat": 2, "b": 1 }));
        assert_eq!(oidc("i", "s", one.clone()), oidc("i", "s", two.clone()));
        assert_eq!(custom("i", "s", one), custom("i", "s", two));
    }

    #[test]
    fn times_are_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00+00:00"),
            (-1, "1969-12-31T23:59:59+00:00"),
            (951_827_696, "2000-02-29T12:34:56+00:00"),
            (4_107_542_399, "2100-02-28T23:59:59+00:00"),
            (4_107_542_400, "2100-03-01T00:00:00+00:00"),
            (253_402_300_799, "9999-12-31T23:59:59+00:00"),
        ];
        for (seconds, text) in cases {
            assert_eq!(rfc3339(seconds).as_deref(), Some(text));
        }
        assert_eq!(rfc3339(253_402_300_800), None);
        assert_eq!((rfc3339(i64::MAX), rfc3339(i64::MIN)), (None, None));
    }
}
