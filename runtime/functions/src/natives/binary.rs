//! Natives over bytes: UTF-8, hashes, structured clone.
//!
//! In: strings, buffers, values. Out: the same. Invariant: pure.

use sha2::Digest as _;

use v8::{ValueDeserializerHelper as _, ValueSerializerHelper as _};

use super::{string, throw_error, throw_type_error};

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
    store.iter().map(std::cell::Cell::get).collect()
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
    for (cell, byte) in store.iter().zip(bytes) {
        cell.set(*byte);
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

fn set_bytes<'s>(
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

/// `(algorithm, bytes) → ArrayBuffer`; algorithms as Web Crypto names them.
pub(super) fn digest(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let bytes = bytes_of(args.get(1));
    let hash = match args.get(0).to_rust_string_lossy(scope).as_str() {
        "SHA-1" => sha1::Sha1::digest(&bytes).to_vec(),
        "SHA-256" => sha2::Sha256::digest(&bytes).to_vec(),
        "SHA-384" => sha2::Sha384::digest(&bytes).to_vec(),
        "SHA-512" => sha2::Sha512::digest(&bytes).to_vec(),
        other => {
            return throw_type_error(scope, &format!("Unrecognized digest algorithm {other:?}"));
        }
    };
    if let Some(buffer) = array_buffer(scope, &hash) {
        result.set(buffer.into());
    }
}

/// `(value) → copy`, by V8's structured clone; throws an `Error` named `DataCloneError`.
pub(super) fn structured_clone(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let context = scope.get_current_context();
    let serializer = v8::ValueSerializer::new(scope, Box::new(Cloner));
    serializer.write_header();
    if serializer.write_value(context, args.get(0)) != Some(true) {
        return;
    }
    let bytes = serializer.release();
    let deserializer = v8::ValueDeserializer::new(scope, Box::new(Cloner), &bytes);
    if deserializer.read_header(context) != Some(true) {
        return;
    }
    if let Some(copy) = deserializer.read_value(context) {
        result.set(copy);
    }
}

struct Cloner;

impl v8::ValueSerializerImpl for Cloner {
    fn throw_data_clone_error<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        message: v8::Local<'s, v8::String>,
    ) {
        let text = message.to_rust_string_lossy(scope);
        throw_error(scope, &text, None);
    }
}

impl v8::ValueDeserializerImpl for Cloner {}
