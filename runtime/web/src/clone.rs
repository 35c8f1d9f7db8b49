//! structuredClone, by V8's serializer, with objects of the web platform.
//!
//! In: a value, and what `js/runtime/68_platform.js` knows of platform objects. Out: its copy, or a
//! pending exception. Invariant: no name that user code can give chooses what is called while V8
//! reads, where it lets no JavaScript run: all parts go to one function.

use deno_core::v8::{self, Local};
use v8::{ValueDeserializerHelper as _, ValueSerializerHelper as _};

/// A copy of `value`; nothing where something was thrown.
pub fn structured_clone<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    value: Local<'s, v8::Value>,
    platform: Platform<'s>,
) -> Option<Local<'s, v8::Value>> {
    let context = scope.get_current_context();
    let serializer = v8::ValueSerializer::new(scope, Box::new(platform));
    serializer.write_header();
    if serializer.write_value(context, value) != Some(true) {
        return None;
    }
    let bytes = serializer.release();
    let deserializer = v8::ValueDeserializer::new(scope, Box::new(platform), &bytes);
    if deserializer.read_header(context) != Some(true) {
        return None;
    }
    deserializer.read_value(context)
}

/// What the JavaScript side knows of platform objects.
#[derive(Clone, Copy)]
pub struct Platform<'s> {
    /// The key of the method of a platform object that gives what is copied of it, or throws.
    pub brand: Local<'s, v8::Symbol>,
    /// Makes a platform object of such a copy.
    pub receive: Local<'s, v8::Function>,
    /// Called with V8's text where something cannot be cloned; throws.
    pub fail: Local<'s, v8::Function>,
}

impl v8::ValueSerializerImpl for Platform<'_> {
    fn throw_data_clone_error<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        message: Local<'s, v8::String>,
    ) {
        let undefined = v8::undefined(scope).into();
        self.fail.call(scope, undefined, &[message.into()]);
    }

    fn has_custom_host_object(&self, _isolate: &v8::Isolate) -> bool {
        true
    }

    fn is_host_object<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        object: Local<'s, v8::Object>,
    ) -> Option<bool> {
        object.has(scope, self.brand.into())
    }

    fn write_host_object<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        object: Local<'s, v8::Object>,
        serializer: &dyn v8::ValueSerializerHelper,
    ) -> Option<bool> {
        let method = object.get(scope, self.brand.into())?;
        let Ok(method) = Local::<v8::Function>::try_from(method) else {
            let message = text(scope, "Unsupported object type");
            self.throw_data_clone_error(scope, message);
            return None;
        };
        let parts = method.call(scope, object.into(), &[])?;
        serializer.write_value(scope.get_current_context(), parts)
    }

    fn get_wasm_module_transfer_id(
        &self,
        scope: &mut v8::PinScope<'_, '_>,
        _module: Local<'_, v8::WasmModuleObject>,
    ) -> Option<u32> {
        let message = text(scope, "#<Module> could not be cloned.");
        self.throw_data_clone_error(scope, message);
        None
    }
}

impl v8::ValueDeserializerImpl for Platform<'_> {
    fn read_host_object<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        deserializer: &dyn v8::ValueDeserializerHelper,
    ) -> Option<Local<'s, v8::Object>> {
        let parts = deserializer.read_value(scope.get_current_context())?;
        // V8 lets no JavaScript run while it reads.
        let scope = std::pin::pin!(v8::AllowJavascriptExecutionScope::new(scope));
        let scope = &mut scope.init();
        let undefined = v8::undefined(scope).into();
        let made = self.receive.call(scope, undefined, &[parts])?;
        Local::<v8::Object>::try_from(made).ok()
    }
}

fn text<'s>(scope: &v8::PinScope<'s, '_>, text: &str) -> Local<'s, v8::String> {
    v8::String::new(scope, text).unwrap_or_else(|| v8::String::empty(scope))
}
