//! Upload tokens: text that says who may upload, until when, signed with the operator's secret.
//!
//! In: a component and a moment. Out: a token for a URL; from a token, what it grants.
//! Invariant: a token grants what its maker signed and nothing else; it needs no memory here, and
//! it holds no clock: the caller says what time it is.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

/// Separates this use of the secret from every other.
const PURPOSE: &[u8] = b"concave: upload tokens";

/// First byte of a token: its format.
const FORMAT: u8 = 1;

/// Format, expiry, nonce.
const HEAD: usize = 1 + 8 + 16;

/// Bytes of a signature.
const TAG: usize = 32;

/// Makes and checks tokens.
pub struct UploadTokens {
    key: hmac::Key,
}

/// What a token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadGrant {
    /// The component whose file it will be; the root is the empty string.
    pub component: String,
    /// When it ends, nanoseconds since the Unix epoch.
    pub expires: u64,
}

/// Why a token grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Nobody with the secret has made it.
    #[error("it was not made by this deployment")]
    Invalid,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
}

impl UploadTokens {
    /// Tokens of the operator with this secret.
    pub fn new(admin_key: &str) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, admin_key.as_bytes());
        let derived = hmac::sign(&secret, PURPOSE);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    /// Makes a token; `nonce` makes it another than all the others.
    pub fn issue(&self, grant: &UploadGrant, nonce: [u8; 16]) -> String {
        let mut token = vec![FORMAT];
        token.extend_from_slice(&grant.expires.to_be_bytes());
        token.extend_from_slice(&nonce);
        token.extend_from_slice(grant.component.as_bytes());
        let tag = hmac::sign(&self.key, &token);
        token.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What a token grants at `now`, nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn check(&self, token: &str, now: u64) -> Result<UploadGrant, TokenError> {
        let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Invalid)?;
        let end = token.len().checked_sub(TAG).ok_or(TokenError::Invalid)?;
        let (signed, tag) = token.split_at(end);
        hmac::verify(&self.key, signed, tag).map_err(|_| TokenError::Invalid)?;
        if signed.len() < HEAD || signed[0] != FORMAT {
            return Err(TokenError::Invalid);
        }
        let mut expires = [0; 8];
        expires.copy_from_slice(&signed[1..9]);
        let expires = u64::from_be_bytes(expires);
        let component = str::from_utf8(&signed[HEAD..]).map_err(|_| TokenError::Invalid)?;
        if now >= expires {
            return Err(TokenError::Expired);
        }
        Ok(UploadGrant { component: component.to_owned(), expires })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_grants_what_was_signed_until_it_expires() {
        let tokens = UploadTokens::new("key|1");
        let grant = UploadGrant { component: "shop/cart".into(), expires: 1_000 };
        let token = tokens.issue(&grant, [7; 16]);
        assert_eq!(tokens.check(&token, 999), Ok(grant.clone()));
        assert_eq!(tokens.check(&token, 1_000), Err(TokenError::Expired));
        assert_ne!(token, tokens.issue(&grant, [8; 16]));
        assert_eq!(UploadTokens::new("key|2").check(&token, 0), Err(TokenError::Invalid));
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed() {
        let tokens = UploadTokens::new("key|1");
        let grant = UploadGrant { component: String::new(), expires: 1_000 };
        let token = URL_SAFE_NO_PAD.decode(tokens.issue(&grant, [7; 16])).unwrap();
        for at in 0..token.len() {
            let mut forged = token.clone();
            forged[at] ^= 1;
            let forged = URL_SAFE_NO_PAD.encode(forged);
            assert_eq!(tokens.check(&forged, 0), Err(TokenError::Invalid), "byte {at}");
        }
        for junk in ["", "x", "AAAA", &"A".repeat(200)] {
            assert_eq!(tokens.check(junk, 0), Err(TokenError::Invalid));
        }
    }
}
