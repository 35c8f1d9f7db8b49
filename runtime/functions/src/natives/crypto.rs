//! The native of WebCrypto (`js/web/crypto.js`): `web::crypto` without randomness.
//!
//! In: a request and byte strings from JavaScript. Out: bytes, `null` where the operation needs
//! randomness, or an `Error` whose message begins with the name of a `DOMException`. Invariant:
//! equal arguments give equal answers, and none takes longer than a call may.

use database::limits;
use web::crypto::{Allowance, Error, Parts, run};

use super::binary::{bytes_of, set_bytes};
use super::throw_error;

/// What queries and mutations may have.
const ALLOWANCE: Allowance = Allowance { randomness: false, iterations: limits::PBKDF2_ITERATIONS };

/// `(request, key, data, first, second) → Uint8Array | null`.
pub(super) fn crypto(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let request = args.get(0).to_rust_string_lossy(scope);
    let [key, data, first, second] = [1, 2, 3, 4].map(|place| bytes_of(args.get(place)));
    let parts = Parts { key: &key, data: &data, first: &first, second: &second };
    match run(&request, &parts, ALLOWANCE) {
        Ok(bytes) => set_bytes(scope, &bytes, &mut result),
        Err(Error::RandomnessRefused) => result.set_null(),
        Err(error) => throw_error(scope, &error.to_string(), None),
    }
}
