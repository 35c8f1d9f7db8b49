//! V8's inspector, asked like a protocol client asks it, from within.
//!
//! In: methods of the Chrome DevTools Protocol. Out: their answers, at once. Invariant: an
//! inspector is dropped before its isolate, and stops nothing: it has no debugger.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};
use v8::inspector::{
    Channel, ChannelImpl, StringBuffer, StringView, V8Inspector, V8InspectorClient,
    V8InspectorClientImpl, V8InspectorClientTrustLevel, V8InspectorSession,
};

/// The only group that contexts are in.
const GROUP: i32 = 1;

/// An inspector of one isolate, and a session with it.
pub(crate) struct Inspector {
    // Dropped in this order.
    session: V8InspectorSession,
    inspector: V8Inspector,
    answer: Rc<RefCell<String>>,
}

impl Inspector {
    /// Begins to inspect.
    pub(crate) fn of(isolate: &mut v8::Isolate) -> Self {
        let inspector = V8Inspector::create(isolate, V8InspectorClient::new(Box::new(Client)));
        let answer = Rc::new(RefCell::new(String::new()));
        let channel = Channel::new(Box::new(Answers(Rc::clone(&answer))));
        let state = StringView::from(&b"{}"[..]);
        let trusted = V8InspectorClientTrustLevel::FullyTrusted;
        let session = inspector.connect(GROUP, channel, state, trusted);
        Self { session, inspector, answer }
    }

    /// Makes a context known for as long as `look` runs; its number is 1 where no other was.
    pub(crate) fn with_context<R>(
        &self,
        context: v8::Local<'_, v8::Context>,
        look: impl FnOnce(&Self) -> R,
    ) -> R {
        let nothing = StringView::empty;
        self.inspector.context_created(context, GROUP, nothing(), nothing());
        let found = look(self);
        self.inspector.context_destroyed(context);
        found
    }

    /// The answer to a question, as it came: `{"id": 1, "result": …}`. Empty: there was none.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> String {
        let message = json!({ "id": 1, "method": method, "params": params }).to_string();
        self.session.dispatch_protocol_message(StringView::from(message.as_bytes()));
        self.answer.take()
    }
}

/// Nothing stops at breakpoints here, and nobody is asked back.
struct Client;

impl V8InspectorClientImpl for Client {}

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
