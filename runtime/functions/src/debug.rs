//! Chrome DevTools on one execution: V8's inspector with a client that may stop it at a line.
//!
//! In: messages of the Chrome DevTools Protocol, from a [`Debugger`]. Out: answers and events to
//! it. Invariant: on a thread without a debugger nothing of this exists; one that leaves lets the
//! execution go on; everything here is dropped before the isolate.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use database::recording::Debugger;
use serde_json::json;
use v8::inspector::{
    Channel, ChannelImpl, StringBuffer, StringView, V8Inspector, V8InspectorClient,
    V8InspectorClientImpl, V8InspectorClientTrustLevel, V8InspectorSession,
};

use crate::natives::string;
use crate::watchdog;

/// The only group that contexts are in.
const GROUP: i32 = 1;

/// The number of our own message, which no client uses; its answer is nobody's.
const OWN: i32 = i32::MAX;

thread_local! {
    static DEBUGGED: RefCell<Option<Rc<Debug>>> = const { RefCell::new(None) };
}

/// The inspector of this thread's isolate.
struct Debug {
    inspector: V8Inspector,
    state: Rc<State>,
}

/// What the inspector's parts share.
struct State {
    wire: Arc<dyn Debugger>,
    session: RefCell<Option<Rc<V8InspectorSession>>>,
    /// The client has not said yet that the execution may begin.
    waits: Cell<bool>,
    paused: Cell<bool>,
    /// The outermost function has begun.
    begun: Cell<bool>,
}

/// Debugs what this thread's isolate runs until the guard is dropped: before the isolate. Waits
/// until the client lets it begin.
pub(crate) fn begin(isolate: &mut v8::Isolate, wire: Arc<dyn Debugger>) -> Guard {
    let state = Rc::new(State {
        wire: Arc::clone(&wire),
        session: RefCell::default(),
        waits: Cell::new(true),
        paused: Cell::new(false),
        begun: Cell::new(false),
    });
    let client = V8InspectorClient::new(Box::new(Client(Rc::clone(&state))));
    let inspector = V8Inspector::create(isolate, client);
    let channel = Channel::new(Box::new(Answers(wire)));
    let nothing = StringView::from(&b"{}"[..]);
    let trusted = V8InspectorClientTrustLevel::FullyTrusted;
    let session = inspector.connect(GROUP, channel, nothing, trusted);
    state.session.replace(Some(Rc::new(session)));
    while state.waits.get() && state.hear() {}
    DEBUGGED.set(Some(Rc::new(Debug { inspector, state })));
    Guard(())
}

/// Ends debugging on this thread.
pub(crate) struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(debug) = DEBUGGED.take() {
            // A session goes before its inspector.
            debug.state.session.take();
        }
    }
}

fn current() -> Option<Rc<Debug>> {
    DEBUGGED.with_borrow(Clone::clone)
}

/// Makes the context that was just made known, before anything is compiled in it.
pub(crate) fn meet(scope: &mut v8::PinScope<'_, '_>) {
    let Some(debug) = current() else { return };
    let context = scope.get_current_context();
    let name = StringView::from(&b"function"[..]);
    let about = StringView::from(&br#"{"isDefault":true}"#[..]);
    debug.inspector.context_created(context, GROUP, name, about);
}

/// Where the inspector finds a module's source map: in the address itself.
pub(crate) fn map_address<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    map: Option<&Arc<str>>,
) -> Option<v8::Local<'s, v8::Value>> {
    current()?;
    let map = STANDARD.encode(&**map?);
    Some(string(scope, &format!("data:application/json;base64,{map}")).into())
}

/// The outermost function is about to be called: the debugger is to stop in its first line. It is
/// given the time of a person.
pub(crate) fn stop_in(scope: &mut v8::PinScope<'_, '_>, function: v8::Local<'_, v8::Object>) {
    let Some(debug) = current() else { return };
    if debug.state.begun.replace(true) {
        return;
    }
    watchdog::be_patient();
    let key = string(scope, "_handler");
    let handler = function.get(scope, key.into());
    let Some(Ok(handler)) = handler.map(v8::Local::<v8::Function>::try_from) else { return };
    let (line, column) = (handler.get_script_line_number(), handler.get_script_column_number());
    let (Some(line), Some(column)) = (line, column) else { return };
    let script = handler.script_id().to_string();
    let at = json!({ "scriptId": script, "lineNumber": line, "columnNumber": column });
    let message = json!({
        "id": OWN, "method": "Debugger.setBreakpoint", "params": { "location": at },
    });
    debug.state.dispatch(&message.to_string());
}

impl State {
    /// Takes the client's next message. Returns whether there was one.
    fn hear(&self) -> bool {
        let Some(message) = self.wire.hear() else { return false };
        self.dispatch(&message);
        true
    }

    fn dispatch(&self, message: &str) {
        let Some(session) = self.session.borrow().clone() else { return };
        let wide: Vec<u16> = message.encode_utf16().collect();
        session.dispatch_protocol_message(StringView::from(&wide[..]));
    }
}

struct Client(Rc<State>);

impl V8InspectorClientImpl for Client {
    fn run_message_loop_on_pause(&self, _: i32) {
        let state = &self.0;
        state.paused.set(true);
        while state.paused.get() {
            if !state.hear() {
                // Nobody is left to say that it goes on: it does, and stops nowhere else.
                state.dispatch(&json!({ "id": OWN, "method": "Debugger.disable" }).to_string());
                state.paused.set(false);
            }
        }
    }

    fn quit_message_loop_on_pause(&self) {
        self.0.paused.set(false);
    }

    fn run_if_waiting_for_debugger(&self, _: i32) {
        self.0.waits.set(false);
    }
}

/// What goes to the client.
struct Answers(Arc<dyn Debugger>);

impl Answers {
    fn say(&self, message: &v8::UniquePtr<StringBuffer>) {
        if let Some(message) = message.as_ref() {
            self.0.say(message.string().to_string());
        }
    }
}

impl ChannelImpl for Answers {
    fn send_response(&self, id: i32, message: v8::UniquePtr<StringBuffer>) {
        if id != OWN {
            self.say(&message);
        }
    }

    fn send_notification(&self, message: v8::UniquePtr<StringBuffer>) {
        self.say(&message);
    }

    fn flush_protocol_notifications(&self) {}
}
