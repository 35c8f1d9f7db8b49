//! V8's inspector, asked like a protocol client asks it, from within.
//!
//! In: methods of the Chrome DevTools Protocol. Out: their answers, at once, and whether something
//! was thrown. Invariant: an inspector is dropped before its isolate, an isolate has one at a time,
//! and nothing that runs waits for it: where it pauses it goes on at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde_json::{Value, json};
use v8::inspector::{
    Channel, ChannelImpl, StringBuffer, StringView, V8Inspector, V8InspectorClient,
    V8InspectorClientImpl, V8InspectorClientTrustLevel, V8InspectorSession,
};

use crate::sentinel;

/// The only group that contexts are in.
const GROUP: i32 = 1;

/// An inspector of one isolate, and a session with it.
pub(crate) struct Inspector {
    // Dropped in this order.
    session: V8InspectorSession,
    inspector: V8Inspector,
    answer: Rc<RefCell<String>>,
    /// How many contexts were made known: V8 numbers them.
    contexts: Cell<u32>,
    paused: Rc<Cell<bool>>,
}

impl Inspector {
    /// Begins to inspect.
    pub(crate) fn of(isolate: &mut v8::Isolate) -> Self {
        let paused = Rc::new(Cell::new(false));
        let client = V8InspectorClient::new(Box::new(Client(Rc::clone(&paused))));
        let inspector = V8Inspector::create(isolate, client);
        let answer = Rc::new(RefCell::new(String::new()));
        let channel = Channel::new(Box::new(Answers(Rc::clone(&answer))));
        let state = StringView::from(&b"{}"[..]);
        let trusted = V8InspectorClientTrustLevel::FullyTrusted;
        let session = inspector.connect(GROUP, channel, state, trusted);
        Self { session, inspector, answer, contexts: Cell::new(0), paused }
    }

    /// Makes a context known, for good: V8 forgets it when it is collected. Gives its number.
    pub(crate) fn meet(&self, context: v8::Local<'_, v8::Context>) -> u32 {
        let nothing = StringView::empty;
        self.inspector.context_created(context, GROUP, nothing(), nothing());
        self.contexts.update(|count| count + 1);
        self.contexts.get()
    }

    /// Lets it be unknown again.
    pub(crate) fn forget(&self, context: v8::Local<'_, v8::Context>) {
        self.inspector.context_destroyed(context);
    }

    /// Notices what is thrown in a known context, caught or not.
    pub(crate) fn watch_throws(&self) {
        self.ask("Debugger.enable", &json!({}));
        self.pause_on_throws(true);
    }

    /// Whether it goes on noticing. Each time costs a fifth of a millisecond and more: V8 gathers
    /// the frames, and what is in scope, for a client to see.
    pub(crate) fn pause_on_throws(&self, pauses: bool) {
        let state = if pauses { "all" } else { "none" };
        self.ask("Debugger.setPauseOnExceptions", &json!({ "state": state }));
    }

    /// Whether something was thrown since the last question.
    pub(crate) fn take_thrown(&self) -> bool {
        self.paused.take()
    }

    /// The answer to a question, as it came: `{"id": 1, "result": …}`. Empty: there was none.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> String {
        let message = json!({ "id": 1, "method": method, "params": params }).to_string();
        self.session.dispatch_protocol_message(StringView::from(message.as_bytes()));
        self.answer.take()
    }
}

/// Nobody is asked back: what pauses goes on.
struct Client(Rc<Cell<bool>>);

impl V8InspectorClientImpl for Client {
    fn run_message_loop_on_pause(&self, _: i32) {
        self.0.set(true);
        sentinel::rest();
    }
}

/// Keeps the answer to the last question.
struct Answers(Rc<RefCell<String>>);

impl ChannelImpl for Answers {
    fn send_response(&self, _: i32, message: v8::UniquePtr<StringBuffer>) {
        let text = message.as_ref().map(|message| message.string().to_string());
        self.0.replace(text.unwrap_or_default());
    }

    fn send_notification(&self, _: v8::UniquePtr<StringBuffer>) {}

    fn flush_protocol_notifications(&self) {}
}
