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
use crate::owed::Owed;
use crate::protocol::{End, HttpHead, Limits, RunId, Thrown};
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

/// Is told the switch of a run that starts.
pub(crate) type Starts = Box<dyn FnOnce(Arc<StopSwitch>) + Send>;

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
    pub(crate) started: Starts,
    /// Its end, which is sent if only by dropping it.
    pub(crate) owed: Owed,
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
        // The thread waits until it has a job; where it is gone, the job's end says so.
        let _ = self.jobs.send(job);
    }

    /// Gives a thread its job, or says to whoever waits for it that there is none.
    pub(crate) fn give(spare: std::io::Result<Self>, job: Job) {
        match spare {
            Ok(spare) => spare.take(job),
            Err(why) => {
                let message = format!("The worker has no thread for another action: {why}.");
                job.owed.pay(threw(message));
            }
        }
    }
}

fn wait_and_run(shared: &Shared, waiting: Receiver<Job>, forecast: Option<Forecast>) {
    let made = Ahead::make(shared, forecast);
    let Ok(mut job) = waiting.recv() else { return };
    let (timers, runtime) = match made.and_then(|made| made.for_job(shared, &job)) {
        Ok(made) => made,
        Err(why) => {
            let state = state_of(shared, &job);
            let message = format!("The worker could not start a JavaScript runtime: {why}");
            state.set_end(threw(message), String::new());
            state.finish();
            return job.owed.paid();
        }
    };
    // What V8 and deno_core free is freed inside of their event loop's runtime, after a panic too:
    // what is declared later is dropped before.
    let _entered = timers.enter();
    let mut runtime = runtime;
    let mut runs = 0;
    let mut function;
    let owed = loop {
        runs += 1;
        function = job.function();
        let state = Rc::new(state_of(shared, &job));
        job.reuse &= runs < shared.limits.context_runs;
        match timers.block_on(drive(shared, &mut runtime, &state, job)) {
            Next::Over(owed) => break Some(owed),
            Next::Run(next) => job = *next,
            Next::Waits(more) => match more.recv() {
                Ok(next) => job = next,
                // Nobody wants its context any more.
                Err(_) => break None,
            },
        }
    };
    if shared.code.count_run(&function) && runtime.switch.reason().is_none() {
        runtime.keep_compiled();
    }
    shared.code.keep_scripts(function, runtime.platform.take_touched());
    drop(runtime);
    drop(owed);
}

fn state_of(shared: &Shared, job: &Job) -> RunState {
    let (wire, network) = (Arc::clone(&shared.wire), Arc::clone(&shared.network));
    RunState::new(job.run, shared.limits, Arc::clone(&job.environment), network, wire)
}

/// What a thread does after a run.
enum Next {
    /// It ends; then the process is to forget the run, whose end was sent.
    Over(Owed),
    /// It goes on with this job.
    Run(Box<Job>),
    /// It waits for another job.
    Waits(Receiver<Job>),
}

/// Runs the job to its end, which is sent.
async fn drive(shared: &Shared, runtime: &mut Runtime, state: &Rc<RunState>, job: Job) -> Next {
    let Job { module, export, request_id, timeout_ms, http, arguments, .. } = job;
    let (mut events, started, mut owed, mut turn) = (job.events, job.started, job.owed, job.turn);
    let path = path(&module, &export, http.as_ref());
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
        owed.paid();
        return Next::Over(owed);
    }
    // From here on nobody can stop this run; somebody may have done so before.
    owed.forget();
    let may_wait = runtime.switch.reason().is_none() && runtime.has_room(&shared.limits);
    let (jobs, waiting) = channel();
    let turn = turn.filter(|_| may_wait);
    let after = turn.map_or(After::End, |turn| turn.end(job.environment, Spare { jobs }));
    // Last: the host may send the next job as soon as it reads this.
    state.finish();
    owed.paid();
    match after {
        After::Run(job) => Next::Run(job),
        After::Rest => Next::Waits(waiting),
        After::End => Next::Over(owed),
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

/// As messages name a run.
pub(crate) fn path(module: &str, export: &str, http: Option<&HttpHead>) -> String {
    match http {
        Some(head) => format!("{} {}", head.method, head.routed_path),
        None => identifier(module, export),
    }
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
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::protocol::{self, ImportPhase, Residents, ToHost};
    use crate::{owed, runtime};

    fn shared(snapshot: &'static [u8], wire: &Arc<Wire>) -> Arc<Shared> {
        let module = "export const f = { isAction: true, invokeAction: async () => '1' };";
        let modules = BTreeMap::from([("m.js".to_owned(), module.into())]);
        let mib = 1 << 20;
        Arc::new(Shared {
            snapshot,
            code: Arc::new(Code::new(modules, ImportPhase::default())),
            limits: Limits { heap_bytes: 64 * mib, buffer_bytes: mib, ..Limits::default() },
            network: Arc::default(),
            wire: Arc::clone(wire),
            sharing: Sharing::default(),
            loud: Loud::default(),
            threads: Arc::default(),
        })
    }

    /// A wire, and the host's end of it.
    fn wire() -> (Arc<Wire>, UnixStream) {
        let (ours, host) = UnixStream::pair().unwrap();
        host.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        (Arc::new(Wire::new(ours)), host)
    }

    fn job(started: impl FnOnce() + Send + 'static, wire: &Arc<Wire>) -> (Job, Arc<AtomicBool>) {
        let forgotten = Arc::<AtomicBool>::default();
        let tells = Arc::clone(&forgotten);
        let forget = move || tells.store(true, Ordering::SeqCst);
        let job = Job {
            run: 7,
            module: "m.js".to_owned(),
            export: "f".to_owned(),
            request_id: String::new(),
            timeout_ms: 60_000,
            reuse: false,
            turn: None,
            http: None,
            arguments: "[]".to_owned(),
            environment: Arc::default(),
            events: unbounded_channel().1,
            started: Box::new(|_| started()),
            owed: Owed::new(7, "m:f".to_owned(), Arc::clone(wire), forget),
        };
        (job, forgotten)
    }

    /// What a run says besides its console lines, up to its end.
    fn said(host: &mut UnixStream) -> Vec<ToHost> {
        let mut said = Vec::new();
        while !matches!(said.last(), Some(ToHost::Done { .. })) {
            said.push(protocol::read(host).unwrap().unwrap().head);
        }
        said
    }

    fn assert_bug(said: &[ToHost], what: &str) {
        let [ToHost::Retire, ToHost::Done { run: 7, end: End::Threw(Thrown { message, .. }) }] =
            said
        else {
            panic!("{said:?}")
        };
        assert!(message.starts_with("The worker that ran m:f hit a bug of its own: "), "{message}");
        assert!(message.contains(what), "{message}");
    }

    #[test]
    fn a_run_whose_thread_panics_has_one_end_and_its_process_is_retired() {
        owed::listen();
        let snapshot = runtime::make_snapshot(&Residents::default()).unwrap();
        let (wire, mut host) = wire();
        let shared = shared(Box::leak(snapshot), &wire);
        let (fine, _) = job(|| {}, &wire);
        Spare::start(&shared, None).unwrap().take(fine);
        assert_eq!(said(&mut host), [ToHost::Done { run: 7, end: End::Returned }]);
        let (bad, forgotten) = job(|| panic!("a bug of a test"), &wire);
        Spare::start(&shared, None).unwrap().take(bad);
        assert_bug(&said(&mut host), "a bug of a test (run.rs:");
        assert!(forgotten.load(Ordering::SeqCst));
        let (fine, _) = job(|| {}, &wire);
        Spare::start(&shared, None).unwrap().take(fine);
        assert_eq!(said(&mut host), [ToHost::Done { run: 7, end: End::Returned }], "it goes on");
    }

    #[test]
    fn a_job_for_a_thread_that_is_gone_has_its_end() {
        let (wire, mut host) = wire();
        let (job, forgotten) = job(|| {}, &wire);
        let (jobs, gone) = channel();
        drop(gone);
        Spare { jobs }.take(job);
        assert_bug(&said(&mut host), "its thread is gone");
        assert!(forgotten.load(Ordering::SeqCst));
    }

    #[test]
    fn functions_are_named_as_users_do() {
        assert_eq!(identifier("a/b.js", "c"), "a/b:c");
        assert_eq!(identifier("http.js", "default"), "http");
    }
}
