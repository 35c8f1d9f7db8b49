//! What one run knows besides JavaScript: its questions, its streams, how it ended.
//!
//! In: events from the host. Out: messages to the host. Invariant: belongs to one thread; after its
//! end is known nothing more of it is sent.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use crate::console::Console;
use crate::network::Network;
use crate::protocol::{CallId, End, Limits, RunId, Stream, StreamId, Thrown, ToHost, WINDOW_BYTES};
use crate::wire::Wire;

/// What reaches a run while it runs.
#[derive(Debug)]
pub(crate) enum Event {
    /// A question of it was answered.
    Answer {
        /// Which.
        call: CallId,
        /// The answer.
        answer: Answered,
    },
    /// About one of its streams; with a chunk's bytes.
    Stream(Stream, Vec<u8>),
    /// Nobody waits for its response any more.
    Gone,
    /// Its switch was thrown: look at the reason.
    Stopped,
}

/// The host's answer.
#[derive(Debug)]
pub(crate) struct Answered {
    /// JSON text, or an error.
    pub(crate) result: Result<String, Thrown>,
    /// Bytes that belong to it.
    pub(crate) body: Option<StreamId>,
}

/// The state of one run, kept in deno_core's `OpState`.
pub(crate) struct RunState {
    pub(crate) run: RunId,
    pub(crate) limits: Limits,
    pub(crate) environment: Arc<BTreeMap<String, String>>,
    /// What `fetch` may reach.
    pub(crate) network: Arc<Network>,
    wire: Arc<Wire>,
    /// A response that leaves together with the end.
    response: RefCell<Option<(ToHost, Vec<u8>)>>,
    console: RefCell<Console>,
    next_call: Cell<CallId>,
    /// How many streams it has opened.
    opened: Cell<u64>,
    calls: RefCell<HashMap<CallId, oneshot::Sender<Answered>>>,
    /// Names of operations that have not ended, by their number.
    under_way: RefCell<BTreeMap<u64, &'static str>>,
    incoming: RefCell<HashMap<StreamId, Rc<Incoming>>>,
    outgoing: RefCell<HashMap<StreamId, Rc<Outgoing>>>,
    /// Whether nobody waits for its response, and who wants to know.
    gone: Cell<bool>,
    when_gone: Notify,
    /// Whether it ends, well, when nothing of it is under way any more.
    lingers: Cell<bool>,
    end: RefCell<Option<(End, String)>>,
    /// Whether nothing changes its end any more.
    settled: Cell<bool>,
}

/// A stream from the host.
#[derive(Default)]
pub(crate) struct Incoming {
    chunks: RefCell<VecDeque<Vec<u8>>>,
    ended: RefCell<Option<Result<(), String>>>,
    changed: Notify,
}

/// A stream to the host.
pub(crate) struct Outgoing {
    /// Bytes that it may still carry at all.
    left: Cell<u64>,
    credit: Cell<usize>,
    stopped: Cell<bool>,
    changed: Notify,
}

impl RunState {
    pub(crate) fn new(
        run: RunId,
        limits: Limits,
        environment: Arc<BTreeMap<String, String>>,
        network: Arc<Network>,
        wire: Arc<Wire>,
    ) -> Self {
        Self {
            run,
            limits,
            environment,
            network,
            wire,
            response: RefCell::default(),
            console: RefCell::new(Console::new(run, limits)),
            next_call: Cell::new(0),
            opened: Cell::new(0),
            calls: RefCell::default(),
            under_way: RefCell::default(),
            incoming: RefCell::default(),
            outgoing: RefCell::default(),
            gone: Cell::new(false),
            when_gone: Notify::new(),
            lingers: Cell::new(false),
            end: RefCell::default(),
            settled: Cell::new(false),
        }
    }

    /// Takes in what the host said.
    pub(crate) fn take_in(&self, event: Event) {
        match event {
            Event::Answer { call, answer } => {
                // Its first bytes may come before the question's op goes on.
                if let Some(stream) = answer.body {
                    self.expect(stream);
                }
                if let Some(asked) = self.calls.borrow_mut().remove(&call) {
                    // Nobody waits for it any more: its op was dropped.
                    let _ = asked.send(answer);
                }
            }
            Event::Stream(about, bytes) => self.take_in_stream(about, bytes),
            Event::Gone => {
                self.gone.set(true);
                self.when_gone.notify_waiters();
            }
            Event::Stopped => {}
        }
    }

    fn take_in_stream(&self, about: Stream, bytes: Vec<u8>) {
        match about {
            Stream::Chunk { stream } => {
                let found = self.incoming.borrow().get(&stream).cloned();
                if let Some(incoming) = found {
                    incoming.chunks.borrow_mut().push_back(bytes);
                    incoming.changed.notify_one();
                }
            }
            Stream::End { stream, error } => {
                let found = self.incoming.borrow().get(&stream).cloned();
                if let Some(incoming) = found {
                    *incoming.ended.borrow_mut() = Some(error.map_or(Ok(()), Err));
                    incoming.changed.notify_one();
                }
            }
            Stream::Credit { stream, bytes } => {
                let found = self.outgoing.borrow().get(&stream).cloned();
                if let Some(outgoing) = found {
                    outgoing.credit.set(outgoing.credit.get() + bytes as usize);
                    outgoing.changed.notify_one();
                }
            }
            Stream::Stop { stream } => {
                let found = self.outgoing.borrow_mut().remove(&stream);
                if let Some(outgoing) = found {
                    outgoing.stopped.set(true);
                    outgoing.changed.notify_one();
                }
            }
        }
    }

    /// Asks the host; the answer comes through the receiver.
    pub(crate) fn ask(
        &self,
        op: &str,
        json: &str,
        body: Option<StreamId>,
    ) -> oneshot::Receiver<Answered> {
        let call = self.next_call.get();
        self.next_call.set(call + 1);
        let (asked, answer) = oneshot::channel();
        self.calls.borrow_mut().insert(call, asked);
        let question = ToHost::Syscall { run: self.run, call, op: op.to_owned(), body };
        self.say(&question, json.as_bytes());
        answer
    }

    /// Sends a message, unless the run has ended.
    pub(crate) fn say(&self, message: &ToHost, tail: &[u8]) {
        if self.end.borrow().is_none() {
            self.wire.send(message, tail);
        }
    }

    /// Sends a whole response, with the end of the run, which follows.
    pub(crate) fn respond(&self, head: ToHost, body: &[u8]) {
        if !self.has_ended() {
            *self.response.borrow_mut() = Some((head, body.to_vec()));
        }
    }

    /// Sends a console line.
    pub(crate) fn log(&self, level: &str, messages: Vec<String>) {
        if let Some(line) = self.console.borrow_mut().line(level, messages) {
            self.say(&line, &[]);
        }
    }

    /// Tells the host something that nobody waits for an answer to.
    pub(crate) fn report(&self, op: &str, json: &str) {
        self.say(&ToHost::Report { run: self.run, op: op.to_owned() }, json.as_bytes());
    }

    /// Marks an operation as under way until the guard is dropped; `name` is what a warning about
    /// unawaited operations calls it.
    pub(crate) fn under_way(self: &Rc<Self>, name: &'static str) -> UnderWay {
        let number = self.next_call.get();
        self.next_call.set(number + 1);
        self.under_way.borrow_mut().insert(number, name);
        UnderWay { state: Rc::clone(self), number }
    }

    /// Opens a stream to the host that may carry `limit` bytes, and gives it a number.
    ///
    /// # Errors
    /// As [`StreamId::of`].
    pub(crate) fn open(&self, limit: u64) -> Result<StreamId, String> {
        let stream = StreamId::of(self.run, self.opened.get())?;
        self.opened.set(self.opened.get() + 1);
        let outgoing = Outgoing {
            left: Cell::new(limit),
            credit: Cell::new(WINDOW_BYTES),
            stopped: Cell::new(false),
            changed: Notify::new(),
        };
        self.outgoing.borrow_mut().insert(stream, Rc::new(outgoing));
        Ok(stream)
    }

    /// A stream to the host that still wants bytes.
    pub(crate) fn outgoing(&self, stream: StreamId) -> Option<Rc<Outgoing>> {
        self.outgoing.borrow().get(&stream).cloned()
    }

    /// Ends a stream to the host.
    pub(crate) fn close(&self, stream: StreamId, error: Option<String>) {
        if self.outgoing.borrow_mut().remove(&stream).is_some() {
            self.say(&ToHost::Stream(Stream::End { stream, error }), &[]);
        }
    }

    /// Expects a stream from the host.
    pub(crate) fn expect(&self, stream: StreamId) {
        self.incoming.borrow_mut().insert(stream, Rc::default());
    }

    /// A stream from the host that was neither read to its end nor stopped.
    pub(crate) fn incoming(&self, stream: StreamId) -> Option<Rc<Incoming>> {
        self.incoming.borrow().get(&stream).cloned()
    }

    /// Forgets a stream from the host; tells the host if there may be more of it.
    pub(crate) fn forget(&self, stream: StreamId) {
        if let Some(incoming) = self.incoming.borrow_mut().remove(&stream)
            && incoming.ended.borrow().is_none()
        {
            self.say(&ToHost::Stream(Stream::Stop { stream }), &[]);
        }
    }

    /// Waits until nobody waits for its response; false when the run ended before.
    pub(crate) async fn gone(&self) -> bool {
        let told = self.when_gone.notified();
        if !self.gone.get() && !self.has_ended() {
            told.await;
        }
        self.gone.get()
    }

    /// Lets it end when nothing of it is under way any more.
    pub(crate) fn linger(&self) {
        self.lingers.set(true);
    }

    /// How a run ends of which nothing is under way any more; `never_resolves` where it should not
    /// have come to that.
    pub(crate) fn idle_end(&self, never_resolves: impl FnOnce() -> End) -> End {
        if self.lingers.get() { End::Returned } else { never_resolves() }
    }

    /// Sets how the run ended; the first one counts.
    pub(crate) fn set_end(&self, end: End, result: String) {
        self.end.borrow_mut().get_or_insert((end, result));
        self.when_gone.notify_waiters();
    }

    /// Ends it by an error. One that nobody caught counts although the function has returned just
    /// before: V8 tells of it only when all that was ready has run.
    pub(crate) fn fail(&self, thrown: Thrown) {
        if self.ended_well() && !self.settled.get() {
            self.end.take();
            self.response.take();
        }
        self.set_end(End::Threw(thrown), String::new());
    }

    /// The turn of its event loop is over in which it ended.
    pub(crate) fn settle(&self) {
        self.settled.set(true);
    }

    /// Whether it ended, and not by an error.
    pub(crate) fn ended_well(&self) -> bool {
        matches!(&*self.end.borrow(), Some((End::Returned | End::NoRoute, _)))
    }

    /// Whether its end is known.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Sends the end, once it is known; first a warning about what nobody awaited.
    pub(crate) fn finish(&self) {
        let (end, result) = self.end.take().unwrap_or_else(|| {
            let message = "The worker lost track of this action.".to_owned();
            (End::Threw(Thrown { message, ..Thrown::default() }), String::new())
        });
        if end == End::Returned
            && let Some(text) = unawaited(self.under_way.borrow().values())
        {
            let warning = self.console.borrow().warning(text);
            self.wire.send(&warning, &[]);
        }
        for (stream, _) in self.outgoing.take() {
            let error = Some("the function ended before its body did".to_owned());
            self.wire.send(&ToHost::Stream(Stream::End { stream, error }), &[]);
        }
        for (stream, incoming) in self.incoming.take() {
            if incoming.ended.borrow().is_none() {
                self.wire.send(&ToHost::Stream(Stream::Stop { stream }), &[]);
            }
        }
        let done = ToHost::Done { run: self.run, end };
        match self.response.take() {
            Some((head, body)) => {
                self.wire.send_two((&head, &body), (&done, result.as_bytes()));
            }
            None => self.wire.send(&done, result.as_bytes()),
        }
    }
}

/// The warning about operations that were under way when the function returned
/// (`convex-compat.md` section 8.5).
fn unawaited<'a>(names: impl Iterator<Item = &'a &'static str>) -> Option<String> {
    let names: Vec<_> = names.copied().collect();
    let (count, plural) = match names.len() {
        0 => return None,
        1 => (1, ""),
        many => (many, "s"),
    };
    Some(format!(
        "{count} unawaited operation{plural}: [{}]. Async operations should be awaited or they \
         might not run. See https://docs.convex.dev/functions/actions#dangling-promises for more \
         information.",
        names.join(", ")
    ))
}

/// An operation that is under way.
pub(crate) struct UnderWay {
    state: Rc<RunState>,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // When the runtime is dropped with the run, its end has been sent.
        if let Ok(mut names) = self.state.under_way.try_borrow_mut() {
            names.remove(&self.number);
        }
    }
}

impl Incoming {
    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// Why the stream is not whole.
    pub(crate) async fn next(&self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(chunk) = self.chunks.borrow_mut().pop_front() {
                return Ok(Some(chunk));
            }
            if let Some(ended) = self.ended.borrow().clone() {
                return ended.map(|()| None);
            }
            self.changed.notified().await;
        }
    }
}

impl Outgoing {
    /// Counts bytes that are to be sent; says whether they are too many.
    pub(crate) fn count(&self, bytes: usize) -> bool {
        let left = self.left.get().checked_sub(bytes as u64);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Waits until some bytes may be sent, and takes up to `wanted` of them; 0 when nobody wants
    /// more.
    pub(crate) async fn take_credit(&self, wanted: usize) -> usize {
        loop {
            if self.stopped.get() {
                return 0;
            }
            let taken = wanted.min(self.credit.get());
            if taken > 0 {
                self.credit.set(self.credit.get() - taken);
                return taken;
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_run_that_asked_much_are_its_own() {
        let (network, wire) = (Arc::new(Network::default()), Arc::new(Wire::deaf()));
        let state = RunState::new(7, Limits::default(), Arc::default(), network, wire);
        state.next_call.set(1 << 20);
        drop(state.ask("1.0/actions/query", "{}", None));
        let stream = state.open(0).unwrap();
        assert_eq!(stream.run(), 7, "the host and the worker take it for this run's");
        state.opened.set(1 << 20);
        let refused = state.open(0).unwrap_err();
        assert!(refused.starts_with("Too many streams"), "{refused}");
        assert!(state.outgoing(stream).is_some(), "those before are as they were");
    }

    #[test]
    fn the_warning_names_what_nobody_awaited() {
        assert_eq!(unawaited([].iter()), None);
        let one = unawaited(["runMutation"].iter()).unwrap();
        assert!(one.starts_with("1 unawaited operation: [runMutation]. Async"), "{one}");
        let two = unawaited(["fetch", "runQuery"].iter()).unwrap();
        assert!(two.starts_with("2 unawaited operations: [fetch, runQuery]. Async"), "{two}");
    }
}
