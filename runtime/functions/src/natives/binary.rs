//! Natives over bytes: UTF-8, structured clone.
//!
//! In: strings, buffers, values. Out: the same. Invariant: pure.

use std::ptr::NonNull;

use super::{string, throw_error};

/// The bytes of an ArrayBuffer or a view; nothing for anything else.
pub(super) fn bytes_of(value: v8::Local<'_, v8::Value>) -> Vec<u8> {
    if let Ok(view) = v8::Local::<v8::ArrayBufferView>::try_from(value) {
        let mut bytes = vec![0; view.byte_length()];
        view.copy_contents(&mut bytes);
        return bytes;
    }
    let Ok(buffer) = v8::Local::<v8::ArrayBuffer>::try_from(value) else {
        return Vec::new();
    };
    let store = buffer.get_backing_store();
    let Some(data) = store.data() else { return Vec::new() };
    // SAFETY: the store is alive, its bytes are initialised, and nothing runs that writes them.
    unsafe { std::slice::from_raw_parts(data.cast::<u8>().as_ptr(), store.byte_length()) }.to_vec()
}

/// A fresh ArrayBuffer with these bytes, or `None` after throwing where the buffer limit is hit.
fn array_buffer<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    bytes: &[u8],
) -> Option<v8::Local<'s, v8::ArrayBuffer>> {
    // Not `ArrayBuffer::new`: V8 aborts the process there when the allocator says no.
    let Some(buffer) = try_new_buffer(scope, bytes.len()) else {
        let message = string(scope, "Array buffer allocation failed");
        let error = v8::Exception::range_error(scope, message);
        scope.throw_exception(error);
        return None;
    };
    let store = buffer.get_backing_store();
    if let Some(data) = store.data() {
        let length = bytes.len().min(store.byte_length());
        // SAFETY: a new store of at least `length` bytes, which nothing else refers to.
        unsafe { data.cast::<u8>().copy_from_nonoverlapping(NonNull::from(bytes).cast(), length) };
    }
    Some(buffer)
}

/// Allocates through JavaScript's own constructor, which throws where the allocator refuses.
fn try_new_buffer<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    len: usize,
) -> Option<v8::Local<'s, v8::ArrayBuffer>> {
    v8::tc_scope!(let scope, scope);
    let global = scope.get_current_context().global(scope);
    let key = string(scope, "ArrayBuffer");
    let constructor = global.get(scope, key.into())?;
    let constructor = v8::Local::<v8::Function>::try_from(constructor).ok()?;
    #[expect(clippy::cast_precision_loss, reason = "lengths stay far below 2^53")]
    let length = v8::Number::new(scope, len as f64);
    let made = constructor.new_instance(scope, &[length.into()])?;
    v8::Local::<v8::ArrayBuffer>::try_from(made).ok()
}

/// `(string) → Uint8Array`.
pub(super) fn utf8_encode(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let text = args.get(0).to_rust_string_lossy(scope);
    set_bytes(scope, text.as_bytes(), &mut result);
}

/// Answers with a fresh Uint8Array, or throws where the buffer limit is hit.
pub(super) fn set_bytes<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    bytes: &[u8],
    result: &mut v8::ReturnValue<'_, v8::Value>,
) {
    if let Some(buffer) = array_buffer(scope, bytes)
        && let Some(array) = v8::Uint8Array::new(scope, buffer, 0, bytes.len())
    {
        result.set(array.into());
    }
}

/// The characters of a string that has only one-byte characters.
fn latin1_of(scope: &mut v8::PinScope<'_, '_>, value: v8::Local<'_, v8::Value>) -> Option<Vec<u8>> {
    let text = v8::Local::<v8::String>::try_from(value).ok()?;
    if !text.contains_only_onebyte() {
        return None;
    }
    let mut bytes = vec![0; text.length()];
    text.write_one_byte_v2(scope, 0, &mut bytes, v8::WriteFlags::empty());
    Some(bytes)
}

/// `(string) → Uint8Array` of its characters; null where one of them has more than a byte.
pub(super) fn latin1_bytes(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    match latin1_of(scope, args.get(0)) {
        Some(bytes) => set_bytes(scope, &bytes, &mut result),
        None => result.set_null(),
    }
}

/// `(string, isUrl, asString) → Uint8Array` or binary string, from base64 with white space and with
/// no or all of its padding; null for anything else, right or wrong.
pub(super) fn base64_decode(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let bytes = latin1_of(scope, args.get(0));
    let Some(bytes) = bytes.and_then(|text| decoded(text, args.get(1).is_true())) else {
        return result.set_null();
    };
    if !args.get(2).is_true() {
        return set_bytes(scope, &bytes, &mut result);
    }
    match v8::String::new_from_one_byte(scope, &bytes, v8::NewStringType::Normal) {
        Some(text) => result.set(text.into()),
        None => result.set_null(),
    }
}

fn decoded(mut text: Vec<u8>, is_url: bool) -> Option<Vec<u8>> {
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    use base64::{Engine as _, alphabet};
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r');
    if text.iter().any(is_space) {
        text.retain(|byte| !is_space(byte));
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 0 {
        if padding > 2 || !text.len().is_multiple_of(4) {
            return None;
        }
        text.truncate(text.len() - padding);
    }
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if is_url { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}

/// `(value, brand, receive, fail) → copy`: [`web::clone`].
pub(super) fn structured_clone<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let (Ok(brand), Ok(receive), Ok(fail)) = (
        v8::Local::<v8::Symbol>::try_from(args.get(1)),
        v8::Local::<v8::Function>::try_from(args.get(2)),
        v8::Local::<v8::Function>::try_from(args.get(3)),
    ) else {
        return throw_error(scope, "structuredClone takes a symbol and two functions", None);
    };
    let platform = web::clone::Platform { brand, receive, fail };
    if let Some(copy) = web::clone::structured_clone(scope, args.get(0), platform) {
        result.set(copy);
    }
}
