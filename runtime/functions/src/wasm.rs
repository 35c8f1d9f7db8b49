//! WebAssembly modules: compiled once for the whole host, shared by isolates.
//!
//! In: the text of a `.wasm` file as the bundler sends it, and modules that functions compile from
//! bytes. Out: module objects. Invariant: what V8 knows of a module (its bytes, its code of both
//! tiers) is the same for equal bytes, by V8's own table, as long as one reference to it lives;
//! the references kept here are bounded, and outlive every isolate that made them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use database::limits;

/// What the bundler writes around the base64 of a `.wasm` file (`bundler/src/compile.rs`).
const BEFORE: &str = "const webAssembly = \"";
const AFTER: &str = "\";\n\
    const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(webAssembly) : \
    globalThis.Buffer ? Buffer.from(webAssembly, \"base64\") : \
    Uint8Array.from(atob(webAssembly), (character)=>character.charCodeAt(0));\n\
    export default new WebAssembly.Module(bytes);\n";

/// Whether `source` is a `.wasm` file as the bundler sends it.
pub(crate) fn is_file(source: &Arc<str>) -> bool {
    // Megabytes of base64 are looked through once.
    source.starts_with(BEFORE)
        && (place_of(&kept(), source).is_some() || base64_of(source).is_some())
}

/// The base64 of a `.wasm` file, if `source` is such a file as the bundler sends it.
fn base64_of(source: &str) -> Option<&str> {
    source.strip_prefix(BEFORE)?.strip_suffix(AFTER).filter(|text| !text.contains('"'))
}

/// One module that is kept.
struct Kept {
    compiled: v8::CompiledWasmModule,
    /// The text that it came from; held, so that no other text can have its address.
    source: Option<Arc<str>>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.compiled.get_wire_bytes_ref().len()
    }
}

/// The most recently used last.
static KEPT: Mutex<VecDeque<Kept>> = Mutex::new(VecDeque::new());

fn kept() -> MutexGuard<'static, VecDeque<Kept>> {
    // Whatever panicked left the list whole: single pushes and removals.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a module beyond the isolate that compiled it.
pub(crate) fn keep(module: v8::Local<'_, v8::WasmModuleObject>) {
    insert(Kept { compiled: module.get_compiled_module(), source: None });
}

/// Where the module of `source` is in the list.
fn place_of(list: &VecDeque<Kept>, source: &Arc<str>) -> Option<usize> {
    list.iter().position(|kept| kept.source.as_ref().is_some_and(|s| Arc::ptr_eq(s, source)))
}

fn insert(mut new: Kept) {
    let mut list = kept();
    // Equal bytes are the same bytes while V8 holds them.
    let address = new.compiled.get_wire_bytes_ref().as_ptr();
    let is_same = |old: &Kept| old.compiled.get_wire_bytes_ref().as_ptr() == address;
    if let Some(at) = list.iter().position(is_same)
        && let Some(old) = list.remove(at)
    {
        new.source = new.source.or(old.source);
    }
    list.push_back(new);
    let surplus = surplus(&list.iter().map(Kept::bytes).collect::<Vec<_>>());
    list.drain(..surplus);
}

/// How many of these, the oldest first, are too many; the newest stays whatever its size.
fn surplus(sizes: &[usize]) -> usize {
    let mut total: usize = sizes.iter().sum();
    let mut count = 0;
    while total as u64 > limits::WASM_MODULES_BYTES && count + 1 < sizes.len() {
        total -= sizes[count];
        count += 1;
    }
    count
}

/// The module of a `.wasm` file as the bundler sends it.
///
/// `None`: an exception is pending.
pub(crate) fn module_of<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    source: &Arc<str>,
) -> Option<v8::Local<'s, v8::WasmModuleObject>> {
    {
        let mut list = kept();
        if let Some(at) = place_of(&list, source)
            && let Some(found) = list.remove(at)
        {
            let module = v8::WasmModuleObject::from_compiled_module(scope, &found.compiled);
            list.push_back(found);
            if module.is_some() {
                return module;
            }
        }
    }
    let text = base64_of(source).unwrap_or_default();
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) else {
        crate::natives::throw_type_error(scope, "The .wasm file did not arrive as base64");
        return None;
    };
    let module = v8::WasmModuleObject::compile(scope, &bytes)?;
    insert(Kept { compiled: module.get_compiled_module(), source: Some(Arc::clone(source)) });
    Some(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_modules_go_when_they_are_too_many() {
        let limit = usize::try_from(limits::WASM_MODULES_BYTES).unwrap();
        assert_eq!(surplus(&[]), 0);
        assert_eq!(surplus(&[limit / 2, limit / 2]), 0);
        assert_eq!(surplus(&[limit / 2, 1, limit / 2, 1]), 1);
        assert_eq!(surplus(&[1, 1, limit]), 2);
        assert_eq!(surplus(&[1, 2 * limit]), 1);
    }

    #[test]
    fn only_the_bundlers_own_text_is_a_wasm_file() {
        // The bundler has the same test: tests/projects.rs.
        let text = "const webAssembly = \"AGFzbQEAAAA=\";\n\
            const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(webAssembly) : \
            globalThis.Buffer ? Buffer.from(webAssembly, \"base64\") : \
            Uint8Array.from(atob(webAssembly), (character)=>character.charCodeAt(0));\n\
            export default new WebAssembly.Module(bytes);\n";
        assert_eq!(base64_of(text), Some("AGFzbQEAAAA="));
        assert_eq!(base64_of(&text.replace("bytes", "other")), None);
        assert_eq!(base64_of(&format!("{BEFORE}\"; evil(); \"{AFTER}")), None);
    }
}
