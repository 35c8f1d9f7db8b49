//! Freezes a context, so that no call can leave anything in an object of it.
//!
//! In: a context whose modules are evaluated, and no call has run in. Out: the same with every
//! object frozen that code of the deployment could reach. Invariant: what cannot be frozen, because
//! its state is not in properties, refuses: a `Map` that lives at module level keeps what a call
//! puts into it. A call that tries to change something frozen throws, and is decided by a fresh
//! context.
//!
//! V8's inspector knows all objects of a context (`Runtime.queryObjects`), also those that only a
//! closure holds. Objects without a prototype that only a closure holds are not among them: the
//! proof (`Purity`) refuses code that makes such; generators too, of which V8 has one for each
//! module.

use serde_json::{Value, json};

use crate::context::Ready;
use crate::inspector::Inspector;
use crate::natives::string;
use crate::sentinel;

/// Where the inspector leaves what it found, while it looks; no code of the deployment runs then.
const FOUND: &str = "__concave_found";
/// Rounds of opening what is made on first touch; each may show more of it.
const ROUNDS: usize = 4;

const SILENT: &str = "V8 does not say which objects there are";

/// Freezes everything in `ready`.
///
/// # Errors
/// What cannot be frozen, for whoever wonders why contexts of the module are not kept.
pub(crate) fn harden(scope: &mut v8::PinScope<'_, '_, ()>, ready: &Ready) -> Result<(), String> {
    if ready.origin.late.is_some() {
        return Err("it is evaluated in each context, because a startup snapshot cannot hold it \
                    (it uses WebAssembly or Intl while it is imported)"
            .to_owned());
    }
    v8::scope!(let scope, scope);
    let context = v8::Local::new(scope, &ready.context);
    let scope = &mut v8::ContextScope::new(scope, context);
    let known = meet(scope).ok_or(SILENT)?;
    let hardened = harden_known(scope, ready, known);
    if hardened.is_err() {
        sentinel::of(scope, |inspector| inspector.forget(context));
    }
    hardened
}

/// Makes the current context known to the inspector, which adds to the console that it finds.
fn meet(scope: &mut v8::PinScope<'_, '_>) -> Option<u32> {
    let context = scope.get_current_context();
    let global = context.global(scope);
    let console = string(scope, "console");
    let shown = global.get(scope, console.into())?;
    let nothing = v8::undefined(scope);
    global.set(scope, console.into(), nothing.into())?;
    let known = sentinel::of(scope, |inspector| inspector.meet(context));
    global.set(scope, console.into(), shown)?;
    Some(known)
}

/// The same, of the context that the inspector knows by this number.
fn harden_known(scope: &mut v8::PinScope<'_, '_>, ready: &Ready, known: u32) -> Result<(), String> {
    let hooks = v8::Local::new(scope, &ready.hooks);
    refuse_state(scope, known)?;
    drop_compile(scope).ok_or("regular expressions cannot be made safe")?;
    let own = own_objects(scope, hooks).ok_or("the prelude does not open")?;
    let mut count = 0;
    for _ in 0..ROUNDS {
        // What this round makes is gone when the next one looks.
        v8::scope!(let scope, scope);
        let all = Everything::of(scope, own, known)?;
        let before = count;
        count = all.open(scope);
        if count == before {
            return all.freeze(scope);
        }
        all.forget(scope);
    }
    Err("it goes on making objects while it is looked at".to_owned())
}

/// Looks for objects whose state is not in properties. The parts of the prelude that have such are
/// not open yet, unless a module has touched them while it was imported.
fn refuse_state(scope: &mut v8::PinScope<'_, '_>, known: u32) -> Result<(), String> {
    v8::scope!(let scope, scope);
    let holder = v8::Object::new(scope);
    let found = query_objects(scope, holder, known).ok_or(SILENT)?;
    let classes = stateful_classes(scope);
    for at in 0..found.length() {
        v8::scope!(let scope, scope);
        let object = found.get_index(scope, at).map(v8::Local::<v8::Object>::try_from);
        let Some(Ok(object)) = object else { continue };
        let native = keeps_state(object).map(str::to_owned);
        if let Some(what) = native.or_else(|| made_by(scope, object, &classes)) {
            return Err(format!("it keeps {what}, which a call could change"));
        }
    }
    Ok(())
}

/// Classes whose instances keep what methods change in private fields, or, as `Iterator`, inside.
const STATEFUL: [&str; 18] = [
    "AbortController",
    "AbortSignal",
    "ByteLengthQueuingStrategy",
    "Event",
    "EventTarget",
    "FinalizationRegistry",
    "FormData",
    "Headers",
    "Iterator",
    "ReadableStream",
    "Request",
    "Response",
    "TextDecoder",
    "TextDecoderStream",
    "TransformStream",
    "URL",
    "URLSearchParams",
    "WritableStream",
];

/// Names and prototypes of the stateful classes.
fn stateful_classes<'s>(
    scope: &mut v8::PinScope<'s, '_>,
) -> Vec<(&'static str, v8::Local<'s, v8::Value>)> {
    let global = scope.get_current_context().global(scope);
    let key = string(scope, "prototype");
    let mut all = Vec::new();
    for name in STATEFUL {
        let class = string(scope, name);
        let class = global.get(scope, class.into()).map(v8::Local::<v8::Object>::try_from);
        if let Some(Ok(class)) = class {
            all.extend(class.get(scope, key.into()).map(|prototype| (name, prototype)));
        }
    }
    all
}

/// Which stateful class an object is an instance of.
fn made_by(
    scope: &mut v8::PinScope<'_, '_>,
    object: v8::Local<'_, v8::Object>,
    classes: &[(&'static str, v8::Local<'_, v8::Value>)],
) -> Option<String> {
    if object.is_proxy() || object.is_function() || object.is_array() {
        return None;
    }
    // Classes are not meant, only what they make.
    let key = string(scope, "constructor");
    if object.has_own_property(scope, key.into())? {
        return None;
    }
    let (next, throw) = (string(scope, "next"), string(scope, "throw"));
    if object.is_generator_object() || object.has_own_property(scope, next.into())? {
        return None;
    }
    let mut above = object.get_prototype(scope)?;
    while let Ok(prototype) = v8::Local::<v8::Object>::try_from(above) {
        if let Some((name, _)) = classes.iter().find(|(_, class)| class.strict_equals(above)) {
            return Some(format!("an instance of {name}"));
        }
        // The prototype of generators: each module has one, each generator function a prototype.
        if prototype.is_proxy() || prototype.has_own_property(scope, throw.into())? {
            return None;
        }
        above = prototype.get_prototype(scope)?;
    }
    None
}

/// A method that changes what freezing does not reach; a call that wants it throws.
fn drop_compile(scope: &mut v8::PinScope<'_, '_>) -> Option<bool> {
    let empty = v8::String::empty(scope);
    let any = v8::RegExp::new(scope, empty, v8::RegExpCreationFlags::empty())?;
    let prototype = v8::Local::<v8::Object>::try_from(any.get_prototype(scope)?).ok()?;
    let key = string(scope, "compile");
    prototype.delete(scope, key.into())
}

/// The prelude's own objects, which change with each call and which no function can reach; a set.
fn own_objects<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    hooks: v8::Local<'s, v8::Object>,
) -> Option<v8::Local<'s, v8::Set>> {
    let own = v8::Set::new(scope);
    let key = string(scope, "own");
    let open = v8::Local::<v8::Function>::try_from(hooks.get(scope, key.into())?).ok()?;
    let list = v8::Local::<v8::Array>::try_from(open.call(scope, hooks.into(), &[])?).ok()?;
    for at in 0..list.length() {
        let object = list.get_index(scope, at)?;
        own.add(scope, object)?;
    }
    own.add(scope, list.into())?;
    own.add(scope, own.into())
}

/// What cannot be frozen.
type Looked = Result<(), String>;

/// All objects of a context.
struct Everything<'s> {
    /// Where the inspector left them.
    holder: v8::Local<'s, v8::Object>,
    /// Those with a prototype.
    found: v8::Local<'s, v8::Array>,
    /// The prelude's own.
    own: v8::Local<'s, v8::Set>,
}

impl<'s> Everything<'s> {
    fn of(
        scope: &mut v8::PinScope<'s, '_>,
        own: v8::Local<'s, v8::Set>,
        known: u32,
    ) -> Result<Self, String> {
        let holder = v8::Object::new(scope);
        let found = query_objects(scope, holder, known);
        let found = found.ok_or(SILENT)?;
        own.add(scope, holder.into());
        own.add(scope, found.into());
        Ok(Self { holder, found, own })
    }

    /// Lets the objects that were made to look go.
    fn forget(&self, scope: &mut v8::PinScope<'s, '_>) {
        self.own.delete(scope, self.holder.into());
        self.own.delete(scope, self.found.into());
    }

    /// Reads every property once: what is made on first touch is there afterwards. Gives how many
    /// objects there are, those without a prototype that properties hold included.
    fn open(&self, scope: &mut v8::PinScope<'s, '_>) -> usize {
        self.each(scope, |_, _| Ok(())).unwrap_or_default()
    }

    /// Freezes everything.
    fn freeze(&self, scope: &mut v8::PinScope<'s, '_>) -> Result<(), String> {
        self.each(scope, |scope, object| {
            // The first two do not change; of the third only the prelude has any now.
            let passes = object.is_proxy()
                || object.is_module_namespace_object()
                || object.is_array_buffer_view();
            let level = v8::IntegrityLevel::Frozen;
            if passes || object.set_integrity_level(scope, level) == Some(true) {
                return Ok(());
            }
            let name = object.get_constructor_name().to_rust_string_lossy(scope);
            Err(format!("an object of it ({name}) cannot be frozen"))
        })?;
        Ok(())
    }

    /// Calls `act` with each object once; gives how many there were.
    fn each(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        mut act: impl FnMut(&mut v8::PinScope<'_, '_>, v8::Local<'_, v8::Object>) -> Looked,
    ) -> Result<usize, String> {
        let seen = v8::Set::new(scope);
        let mut count = 0;
        for at in 0..self.found.length() {
            v8::scope!(let scope, scope);
            v8::tc_scope!(let scope, scope);
            let mut unseen: Vec<v8::Local<'_, v8::Value>> =
                self.found.get_index(scope, at).into_iter().collect();
            while let Some(value) = unseen.pop() {
                let Ok(object) = v8::Local::<v8::Object>::try_from(value) else { continue };
                let is_known = |set: v8::Local<'_, v8::Set>, scope: &mut v8::PinScope<'_, '_>| {
                    set.has(scope, value).unwrap_or(true)
                };
                if is_known(seen, scope) || is_known(self.own, scope) {
                    continue;
                }
                seen.add(scope, value);
                count += 1;
                unseen.extend(values(scope, object));
                act(scope, object)?;
            }
        }
        Ok(count)
    }
}

/// What is in the properties of an object, getters and setters included; its prototype too.
fn values<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
) -> Vec<v8::Local<'s, v8::Value>> {
    // A proxy's traps are code of the deployment; its target and handler are found by themselves.
    if object.is_proxy() || object.is_array_buffer_view() || object.is_module_namespace_object() {
        return Vec::new();
    }
    let mut all: Vec<_> = object.get_prototype(scope).into_iter().collect();
    let every = v8::GetPropertyNamesArgs {
        mode: v8::KeyCollectionMode::OwnOnly,
        property_filter: v8::PropertyFilter::ALL_PROPERTIES,
        index_filter: v8::IndexFilter::IncludeIndices,
        key_conversion: v8::KeyConversionMode::ConvertToString,
    };
    let Some(names) = object.get_own_property_names(scope, every) else { return all };
    let parts = ["value", "get", "set"].map(|part| string(scope, part));
    for at in 0..names.length() {
        let Some(name) = names.get_index(scope, at) else { continue };
        let Ok(name) = v8::Local::<v8::Name>::try_from(name) else { continue };
        let descriptor = object.get_own_property_descriptor(scope, name);
        let Some(Ok(descriptor)) = descriptor.map(v8::Local::<v8::Object>::try_from) else {
            continue;
        };
        for part in parts {
            all.extend(descriptor.get(scope, part.into()).filter(|value| value.is_object()));
        }
    }
    all
}

/// What an object keeps outside of its properties.
fn keeps_state(object: v8::Local<'_, v8::Object>) -> Option<&'static str> {
    Some(match () {
        () if object.is_map() => "a Map",
        () if object.is_set() => "a Set",
        () if object.is_weak_map() => "a WeakMap",
        () if object.is_weak_set() => "a WeakSet",
        () if object.is_date() => "a Date",
        () if object.is_map_iterator() || object.is_set_iterator() => "an iterator",
        () if object.is_array_buffer() || object.is_shared_array_buffer() => "an ArrayBuffer",
        () if object.is_array_buffer_view() => "a typed array",
        () if object.is_wasm_memory_object() => "a WebAssembly.Memory",
        () if is_pending(object) => "a promise that nothing has settled",
        () => return None,
    })
}

fn is_pending(object: v8::Local<'_, v8::Object>) -> bool {
    let promise = v8::Local::<v8::Promise>::try_from(object);
    promise.is_ok_and(|promise| promise.state() == v8::PromiseState::Pending)
}

/// All objects of the current context that inherit from its `Object.prototype`; `known`: the
/// inspector's number of it.
fn query_objects<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    holder: v8::Local<'s, v8::Object>,
    known: u32,
) -> Option<v8::Local<'s, v8::Array>> {
    let global = scope.get_current_context().global(scope);
    let prototype = string(scope, "prototype");
    let root = holder.get_prototype(scope)?;
    holder.set(scope, prototype.into(), root)?;
    let key = string(scope, FOUND);
    global.set(scope, key.into(), holder.into())?;
    let asked = sentinel::of(scope, |inspector| ask(inspector, known));
    global.delete(scope, key.into())?;
    asked?;
    let list = string(scope, "list");
    let found = holder.get(scope, list.into())?;
    v8::Local::<v8::Array>::try_from(found).ok()
}

/// Has the inspector put its list into the object that [`FOUND`] names, and let go of it.
fn ask(inspector: &Inspector, known: u32) -> Option<()> {
    let id = |value: &Value, of: &str| Some(value["result"][of]["objectId"].as_str()?.to_owned());
    let call = |method: &str, params: Value| {
        serde_json::from_str::<Value>(&inspector.ask(method, &params)).ok()
    };
    let evaluate = |text: &str| {
        let params = json!({ "expression": text, "contextId": known, "objectGroup": FOUND });
        call("Runtime.evaluate", params)
    };
    let root = evaluate(&format!("{FOUND}.prototype"))?;
    let holder = evaluate(FOUND)?;
    let prototype = id(&root, "result")?;
    let all = json!({ "prototypeObjectId": prototype, "objectGroup": FOUND });
    let all = call("Runtime.queryObjects", all)?;
    let kept = call(
        "Runtime.callFunctionOn",
        json!({
            "objectId": id(&all, "objects")?,
            "functionDeclaration": "function (holder) { holder.list = this; }",
            "arguments": [{ "objectId": id(&holder, "result")? }],
            "objectGroup": FOUND,
        }),
    )?;
    call("Runtime.releaseObjectGroup", json!({ "objectGroup": FOUND }))?;
    kept["error"].is_null().then_some(())
}
