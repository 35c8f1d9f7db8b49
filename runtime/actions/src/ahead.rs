//! A runtime made before there is a run for it, with the module that the run will probably want.
//!
//! In: the last run's module and variables. Out: a runtime in which that module is imported.
//! Invariant: nobody can tell: an import that says anything, leaves something under way or saw
//! other variables than its run is thrown away with its runtime.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Runtime as Timers;

use crate::run::{Environment, Job, Shared, rests};
use crate::run_state::RunState;
use crate::runtime::Runtime;
use crate::wire::Wire;

/// Turns of the event loop that an import may take: none of it waits for anything outside.
const IMPORT_TURNS: u32 = 50;

/// What the next run will probably be like: the last one.
pub(crate) struct Forecast {
    module: String,
    function: String,
    environment: Environment,
}

impl Forecast {
    /// The next run will be like this one.
    pub(crate) fn of(job: &Job) -> Self {
        let environment = Arc::clone(&job.environment);
        Self { module: job.module.clone(), function: job.function(), environment }
    }
}

/// Modules that must not be imported before their run: they would be heard.
#[derive(Default)]
pub(crate) struct Loud(Mutex<BTreeSet<String>>);

impl Loud {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A runtime and its event loop, in the order in which they are dropped.
pub(crate) struct Ahead {
    runtime: Runtime,
    timers: Timers,
    /// What an imported module saw.
    environment: Option<Environment>,
}

impl Ahead {
    /// Makes a runtime on the thread that will use it.
    ///
    /// # Errors
    /// The system or V8 has none to give.
    pub(crate) fn make(shared: &Shared, forecast: Option<Forecast>) -> Result<Self, String> {
        let (runtime, timers) = fresh(shared)?;
        let mut made = Self { runtime, timers, environment: None };
        let Some(Forecast { module, function, environment }) = forecast else { return Ok(made) };
        if shared.loud.with(|loud| loud.contains(&module)) {
            return Ok(made);
        }
        made.runtime.run_scripts(&shared.code.scripts_of(&function));
        if made.import(shared, &module, &environment) {
            return Ok(Self { environment: Some(environment), ..made });
        }
        shared.loud.with(|loud| loud.insert(module));
        made.discard();
        Self::make(shared, None)
    }

    /// Imports a module; false if somebody would have noticed.
    fn import(&mut self, shared: &Shared, module: &str, environment: &Environment) -> bool {
        let wire = Arc::new(Wire::deaf());
        let (variables, network) = (Arc::clone(environment), Arc::clone(&shared.network));
        let state = RunState::new(0, shared.limits, variables, network, Arc::clone(&wire));
        let state = Rc::new(state);
        let Self { runtime, timers, .. } = self;
        runtime.js.op_state().borrow_mut().put(Rc::clone(&state));
        let target = serde_json::json!({ "module": module, "import": shared.code.import });
        runtime.prepare(&target.to_string());
        let is_over = timers.block_on(poll_fn(|context| rests(runtime, IMPORT_TURNS, context)));
        is_over && !wire.said() && !state.has_ended() && runtime.switch.reason().is_none()
    }

    /// The runtime for a job: another one, where this one has seen what the job must not.
    ///
    /// # Errors
    /// As [`Ahead::make`].
    pub(crate) fn for_job(self, shared: &Shared, job: &Job) -> Result<(Timers, Runtime), String> {
        let is_stale = |seen: &Environment| !Arc::ptr_eq(seen, &job.environment);
        if self.environment.as_ref().is_some_and(is_stale) {
            self.discard();
            return fresh(shared).map(|(runtime, timers)| (timers, runtime));
        }
        Ok((self.timers, self.runtime))
    }

    fn discard(self) {
        let _entered = self.timers.enter();
        drop(self.runtime);
    }
}

fn fresh(shared: &Shared) -> Result<(Runtime, Timers), String> {
    let timers = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let timers = timers.map_err(|error| error.to_string())?;
    let entered = timers.enter();
    let runtime = Runtime::new(shared.snapshot, Arc::clone(&shared.code), &shared.limits)?;
    drop(entered);
    Ok((runtime, timers))
}
