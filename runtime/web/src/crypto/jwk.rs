//! JSON Web Keys (RFC 7517, 7518, 8037): the members that hold the key itself.
//!
//! In: members as the script read them, each a string. Out: bytes, or the members as JSON text.
//! Invariant: base64url without padding, whole bytes only; `use`, `key_ops`, `ext` and `alg` are
//! the script's affair.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Error;

/// A key's members; `None` where absent.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Jwk {
    kty: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    q: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dq: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qi: Option<String>,
}

/// The members of an RSA key in the order of RFC 8017: the last six of private keys only.
pub(super) const RSA: usize = 8;

impl Jwk {
    pub(super) fn of_secret(key: &[u8]) -> Self {
        Self { kty: Some("oct".to_owned()), k: Some(encode(key)), ..Self::default() }
    }

    /// `numbers`: n, e and for a private key d, p, q, dp, dq, qi.
    pub(super) fn of_rsa(numbers: &[&[u8]]) -> Self {
        let at = |place: usize| numbers.get(place).map(|bytes| encode(bytes));
        Self {
            kty: Some("RSA".to_owned()),
            n: at(0),
            e: at(1),
            d: at(2),
            p: at(3),
            q: at(4),
            dp: at(5),
            dq: at(6),
            qi: at(7),
            ..Self::default()
        }
    }

    /// A key on a curve: `y` where the point has one, `d` where the key is private.
    pub(super) fn of_curve(
        kty: &str,
        crv: &str,
        (x, y): (&[u8], Option<&[u8]>),
        d: Option<&[u8]>,
    ) -> Self {
        Self {
            kty: Some(kty.to_owned()),
            crv: Some(crv.to_owned()),
            x: Some(encode(x)),
            y: y.map(encode),
            d: d.map(encode),
            ..Self::default()
        }
    }

    /// The members as JSON.
    pub(super) fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings are always JSON")
    }

    pub(super) fn secret(&self) -> Result<Vec<u8>, Error> {
        self.expect("oct", None)?;
        member(self.k.as_ref())
    }

    /// n, e and for a private key the other six.
    pub(super) fn rsa(&self) -> Result<Vec<Vec<u8>>, Error> {
        self.expect("RSA", None)?;
        let all = [&self.n, &self.e, &self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi];
        let given = if self.d.is_some() { RSA } else { 2 };
        all[..given].iter().map(|text| member(text.as_ref())).collect()
    }

    /// x, y and d of a key on the curve `crv`, as far as they are there.
    pub(super) fn curve(&self, kty: &str, crv: &str) -> Result<Coordinates, Error> {
        self.expect(kty, Some(crv))?;
        Ok(Coordinates {
            x: member(self.x.as_ref())?,
            y: self.y.as_ref().map(|text| decode(text)).transpose()?,
            d: self.d.as_ref().map(|text| decode(text)).transpose()?,
        })
    }

    fn expect(&self, kty: &str, crv: Option<&str>) -> Result<(), Error> {
        if self.kty.as_deref() != Some(kty) {
            return Err(Error::Data("The JWK's kty is not the algorithm's"));
        }
        if crv.is_some() && self.crv.as_deref() != crv {
            return Err(Error::Data("The JWK's crv is not the algorithm's"));
        }
        Ok(())
    }
}

/// A key on a curve.
pub(super) struct Coordinates {
    pub(super) x: Vec<u8>,
    pub(super) y: Option<Vec<u8>>,
    pub(super) d: Option<Vec<u8>>,
}

fn member(text: Option<&String>) -> Result<Vec<u8>, Error> {
    decode(text.ok_or(Error::Data("The JWK lacks a member of its kind of key"))?)
}

fn decode(text: &str) -> Result<Vec<u8>, Error> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Error::Data("A member of the JWK is not base64url"))
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
