//! One run on its own thread: a runtime made ahead, then the function, then the end.
//!
//! In: a [`Job`]. Out: console lines, syscalls and the end, on the wire. Invariant: exactly one
//! [`ToHost::Done`](crate::protocol::ToHost::Done) per job, as long as the process lives.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll};
use std::thread;

use deno_core::PollEventLoopOptions;
use deno_core::error::CoreError;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::heap::{StopSwitch, Stopped};
use crate::loader::Code;
use crate::network::Network;
use crate::protocol::{End, HttpHead, Limits, RunId, Thrown};
use crate::run_state::{Event, RunState};
use crate::runtime::{Argument, Runtime};
use crate::wire::Wire;

/// Stack of a thread that runs JavaScript, in bytes; V8 is told to use an eighth of it.
const STACK_BYTES: usize = 8 << 20;

/// What every run of a process shares.
pub(crate) struct Shared {
    pub(crate) snapshot: &'static [u8],
    pub(crate) code: Arc<Code>,
    pub(crate) limits: Limits,
    pub(crate) network: Arc<Network>,
    pub(crate) wire: Arc<Wire>,
}

/// One function to run.
pub(crate) struct Job {
    pub(crate) run: RunId,
    pub(crate) module: String,
    pub(crate) export: String,
    pub(crate) request_id: String,
    pub(crate) timeout_ms: u64,
    pub(crate) http: Option<HttpHead>,
    /// JSON text of an array.
    pub(crate) arguments: String,
    pub(crate) environment: Arc<BTreeMap<String, String>>,
    pub(crate) events: UnboundedReceiver<Event>,
    /// Told the run's switch when it starts.
    pub(crate) started: Box<dyn FnOnce(Arc<StopSwitch>) + Send>,
    /// Told when it has ended.
    pub(crate) ended: Box<dyn FnOnce() + Send>,
}

/// A thread with a runtime, waiting for a job.
pub(crate) struct Spare {
    jobs: Sender<Job>,
}

impl Spare {
    /// Starts the thread; the runtime is made there.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let (jobs, waiting) = channel();
        let shared = Arc::clone(shared);
        thread::Builder::new()
            .name("action".into())
            .stack_size(STACK_BYTES)
            .spawn(move || wait_and_run(&shared, &waiting))?;
        Ok(Self { jobs })
    }

    /// Gives it its job.
    pub(crate) fn take(self, job: Job) {
        // The thread waits until it has a job.
        let _ = self.jobs.send(job);
    }
}

fn wait_and_run(shared: &Shared, waiting: &Receiver<Job>) {
    let timers = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let made = timers.map_err(|e| e.to_string()).and_then(|timers| {
        let runtime = {
            let _entered = timers.enter();
            Runtime::new(shared.snapshot, Arc::clone(&shared.code), &shared.limits)?
        };
        Ok((timers, runtime))
    });
    let Ok(job) = waiting.recv() else { return };
    let Job { run, environment, .. } = &job;
    let wire = Arc::clone(&shared.wire);
    let network = Arc::clone(&shared.network);
    let state = RunState::new(*run, shared.limits, Arc::clone(environment), network, wire);
    match made {
        Ok((timers, mut runtime)) => {
            let ended = timers.block_on(drive(&mut runtime, Rc::new(state), job));
            // What V8 and deno_core free is freed inside of their event loop's runtime.
            let _entered = timers.enter();
            drop(runtime);
            ended();
        }
        Err(why) => {
            let message = format!("The worker could not start a JavaScript runtime: {why}");
            state.set_end(threw(message), String::new());
            state.finish();
            (job.ended)();
        }
    }
}

/// Runs the job to its end, which is sent; what is left to do is told.
async fn drive(runtime: &mut Runtime, state: Rc<RunState>, job: Job) -> Box<dyn FnOnce() + Send> {
    let Job { module, export, request_id, timeout_ms, http, arguments, .. } = job;
    let (mut events, started, ended) = (job.events, job.started, job.ended);
    let path = identifier(&module, &export);
    runtime.js.op_state().borrow_mut().put(Rc::clone(&state));
    started(Arc::clone(&runtime.switch));
    if let Some(stream) = http.as_ref().and_then(|http| http.body) {
        state.expect(stream);
    }
    let target = serde_json::json!({ "module": module, "export": export, "path": path });
    let target = target.to_string();
    match &http {
        None => runtime.call(
            false,
            &[Argument::Json(&target), Argument::Text(&request_id), Argument::Text(&arguments)],
        ),
        Some(head) => {
            let head = serde_json::to_string(head).unwrap_or_default();
            runtime.call(true, &[Argument::Json(&target), Argument::Json(&head)]);
        }
    }
    let limits = Watch { path: &path, timeout_ms };
    poll_fn(|context| step(runtime, &state, &mut events, (&limits, context))).await;
    state.finish();
    ended
}

/// What the end of a run says of it.
struct Watch<'a> {
    path: &'a str,
    timeout_ms: u64,
}

/// One turn of the event loop; ready when the end is known.
fn step(
    runtime: &mut Runtime,
    state: &RunState,
    events: &mut UnboundedReceiver<Event>,
    (watch, context): (&Watch<'_>, &mut Context<'_>),
) -> Poll<()> {
    while let Poll::Ready(Some(event)) = events.poll_recv(context) {
        state.take_in(event);
    }
    if let Some(why) = runtime.switch.reason() {
        state.set_end(stopped(why, watch, &state.limits), String::new());
        return Poll::Ready(());
    }
    let polled = runtime.js.poll_event_loop(context, PollEventLoopOptions::default());
    if let Some(why) = runtime.switch.reason() {
        state.set_end(stopped(why, watch, &state.limits), String::new());
    } else if !state.has_ended() {
        match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {
                state.set_end(state.idle_end(|| never_resolves(watch.path)), String::new());
            }
            Poll::Ready(Err(error)) => state.set_end(broke(&error), String::new()),
        }
    }
    Poll::Ready(())
}

/// `dir/mod:fn`, as messages name a function.
fn identifier(module: &str, export: &str) -> String {
    let stem = module.strip_suffix(".js").unwrap_or(module);
    if export == "default" { stem.to_owned() } else { format!("{stem}:{export}") }
}

fn threw(message: String) -> End {
    End::Threw(Thrown { message, ..Thrown::default() })
}

/// The texts of `convex-compat.md` section 8.6.
fn stopped(why: Stopped, watch: &Watch<'_>, limits: &Limits) -> End {
    threw(match why {
        Stopped::OutOfMemory => format!(
            "JavaScript execution ran out of memory (maximum memory usage: {} MB)",
            limits.heap_bytes >> 20
        ),
        Stopped::TimedOut => format!(
            "Function execution timed out (maximum duration: {}s)",
            watch.timeout_ms.div_ceil(1000)
        ),
        Stopped::Cancelled => format!("{} was cancelled: nobody waits for it.", watch.path),
    })
}

fn never_resolves(path: &str) -> End {
    threw(format!(
        "Returned promise will never resolve: {path} awaits something that nothing will ever \
         settle. No timer, request or call is under way; look for a `new Promise(…)` whose resolve \
         is never called."
    ))
}

/// An error that `js/actions` did not see: one of the event loop itself.
fn broke(error: &CoreError) -> End {
    threw(format!("Uncaught {error}"))
}

#[cfg(test)]
mod tests {
    use super::identifier;

    #[test]
    fn functions_are_named_as_users_do() {
        assert_eq!(identifier("a/b.js", "c"), "a/b:c");
        assert_eq!(identifier("http.js", "default"), "http");
    }
}
