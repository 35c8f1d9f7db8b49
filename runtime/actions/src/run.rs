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

use deno_core::PollEventLoopOptions;
use deno_core::error::CoreError;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::ahead::{Ahead, Forecast, Loud};
use crate::heap::{StopSwitch, Stopped};
use crate::loader::Code;
use crate::network::Network;
use crate::protocol::{End, HttpHead, Limits, RunId, Thrown, ToHost};
use crate::run_state::{Event, RunState};
use crate::runtime::{Argument, Runtime};
use crate::sharing::{After, Sharing, Turn};
use crate::threads::Threads;
use crate::wire::Wire;

/// Turns of the event loop after a run: the first ends what waited for the run's end.
const LAST_TURNS: u32 = 2;

/// What every run of a process shares.
pub(crate) struct Shared {
    pub(crate) snapshot: &'static [u8],
    pub(crate) code: Arc<Code>,
    pub(crate) limits: Limits,
    pub(crate) network: Arc<Network>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) sharing: Sharing,
    pub(crate) loud: Loud,
    pub(crate) threads: Arc<Threads>,
}

pub(crate) type Environment = Arc<BTreeMap<String, String>>;

/// One function to run.
pub(crate) struct Job {
    pub(crate) run: RunId,
    pub(crate) module: String,
    pub(crate) export: String,
    pub(crate) request_id: String,
    pub(crate) timeout_ms: u64,
    /// Whether it may share a context with other runs that may.
    pub(crate) reuse: bool,
    /// Where it may, from its start on.
    pub(crate) turn: Option<Turn>,
    pub(crate) http: Option<HttpHead>,
    /// JSON text of an array.
    pub(crate) arguments: String,
    pub(crate) environment: Environment,
    pub(crate) events: UnboundedReceiver<Event>,
    /// Told the run's switch when it starts.
    pub(crate) started: Box<dyn FnOnce(Arc<StopSwitch>) + Send>,
    /// Told when it has ended.
    pub(crate) ended: Box<dyn FnOnce() + Send>,
}

impl Job {
    /// As messages name it.
    pub(crate) fn function(&self) -> String {
        identifier(&self.module, &self.export)
    }
}

/// A thread with a runtime that waits for a job.
pub(crate) struct Spare {
    jobs: Sender<Job>,
}

impl Spare {
    /// Takes a thread; the runtime is made there.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(shared: &Arc<Shared>, forecast: Option<Forecast>) -> std::io::Result<Self> {
        let (jobs, waiting) = channel();
        let of_task = Arc::clone(shared);
        shared.threads.run(Box::new(move || wait_and_run(&of_task, waiting, forecast)))?;
        Ok(Self { jobs })
    }

    /// Gives it its job.
    pub(crate) fn take(self, job: Job) {
        // The thread waits until it has a job.
        let _ = self.jobs.send(job);
    }

    /// Gives a thread its job, or says to whoever waits for it that there is none.
    pub(crate) fn give(spare: std::io::Result<Self>, shared: &Shared, job: Job) {
        match spare {
            Ok(spare) => spare.take(job),
            Err(why) => {
                let message = format!("The worker has no thread for another action: {why}.");
                (job.ended)();
                shared.wire.send(&ToHost::Done { run: job.run, end: threw(message) }, &[]);
            }
        }
    }
}

fn wait_and_run(shared: &Shared, waiting: Receiver<Job>, forecast: Option<Forecast>) {
    let made = Ahead::make(shared, forecast);
    let Ok(mut job) = waiting.recv() else { return };
    let (timers, mut runtime) = match made.and_then(|made| made.for_job(shared, &job)) {
        Ok(made) => made,
        Err(why) => {
            let state = state_of(shared, &job);
            let message = format!("The worker could not start a JavaScript runtime: {why}");
            state.set_end(threw(message), String::new());
            state.finish();
            return (job.ended)();
        }
    };
    let mut runs = 0;
    let mut function;
    let ended = loop {
        runs += 1;
        function = job.function();
        let state = Rc::new(state_of(shared, &job));
        job.reuse &= runs < shared.limits.context_runs;
        match timers.block_on(drive(shared, &mut runtime, &state, job)) {
            Next::Over(ended) => break ended,
            Next::Run(next) => job = *next,
            Next::Waits(more) => match more.recv() {
                Ok(next) => job = next,
                // Nobody wants its context any more.
                Err(_) => break Box::new(|| {}),
            },
        }
    };
    // What V8 and deno_core free is freed inside of their event loop's runtime.
    let _entered = timers.enter();
    if shared.code.count_run(&function) && runtime.switch.reason().is_none() {
        runtime.keep_compiled();
    }
    shared.code.keep_scripts(function, runtime.platform.take_touched());
    drop(runtime);
    ended();
}

fn state_of(shared: &Shared, job: &Job) -> RunState {
    let (wire, network) = (Arc::clone(&shared.wire), Arc::clone(&shared.network));
    RunState::new(job.run, shared.limits, Arc::clone(&job.environment), network, wire)
}

/// What a thread does after a run.
enum Next {
    /// It ends; then there is something to tell.
    Over(Box<dyn FnOnce() + Send>),
    /// It goes on with this job.
    Run(Box<Job>),
    /// It waits for another job.
    Waits(Receiver<Job>),
}

/// Runs the job to its end, which is sent.
async fn drive(shared: &Shared, runtime: &mut Runtime, state: &Rc<RunState>, job: Job) -> Next {
    let Job { module, export, request_id, timeout_ms, http, arguments, .. } = job;
    let (mut events, started, ended, mut turn) = (job.events, job.started, job.ended, job.turn);
    let path = match &http {
        Some(head) => format!("{} {}", head.method, head.routed_path),
        None => identifier(&module, &export),
    };
    runtime.js.op_state().borrow_mut().put(Rc::clone(state));
    started(Arc::clone(&runtime.switch));
    if let Some(stream) = http.as_ref().and_then(|http| http.body) {
        state.expect(stream);
    }
    let import = shared.code.import;
    let target = serde_json::json!({
        "module": module, "export": export, "path": path, "import": import,
    });
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
    poll_fn(|context| {
        let polled = step(runtime, state, &mut events, (&limits, context));
        if polled.is_pending()
            && let Some(turn) = &mut turn
        {
            turn.pause();
        }
        polled
    })
    .await;
    state.settle();
    let may_share = job.reuse && state.ended_well();
    if !(may_share && poll_fn(|context| rests(runtime, LAST_TURNS, context)).await) {
        state.finish();
        return Next::Over(ended);
    }
    // From here on nobody can stop this run; somebody may have done so before.
    ended();
    let may_wait = runtime.switch.reason().is_none() && runtime.has_room(&shared.limits);
    let (jobs, waiting) = channel();
    let turn = turn.filter(|_| may_wait);
    let after = turn.map_or(After::End, |turn| turn.end(job.environment, Spare { jobs }));
    // Last: the host may send the next job as soon as it reads this.
    state.finish();
    match after {
        After::Run(job) => Next::Run(job),
        After::Rest => Next::Waits(waiting),
        After::End => Next::Over(Box::new(|| {})),
    }
}

/// Whether nothing is under way in a runtime after so many turns of its event loop.
pub(crate) fn rests(runtime: &mut Runtime, turns: u32, context: &mut Context<'_>) -> Poll<bool> {
    for _ in 0..turns {
        let polled = runtime.js.poll_event_loop(context, PollEventLoopOptions::default());
        if let Poll::Ready(ended) = polled {
            return Poll::Ready(ended.is_ok());
        }
    }
    Poll::Ready(false)
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
        Stopped::WasmMemory => format!(
            "WebAssembly memory of {} is too large (maximum memory usage: {} MB). Does it load \
             more than it needs, or keep what it no longer uses? Free documents, or work in pages.",
            watch.path,
            limits.wasm_bytes >> 20
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
