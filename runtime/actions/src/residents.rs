//! Modules that live in the startup snapshot.
//!
//! In: a runtime that is to become a snapshot, the modules. Out: the same runtime with the modules
//! evaluated in it. Invariant: what they do while they are evaluated ends with that: a snapshot
//! holds no timer, no request and no promise of the host's.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use deno_core::{JsRuntime, JsRuntimeForSnapshot, ModuleSpecifier, PollEventLoopOptions, v8};

use crate::loader::SCHEME;
use crate::network::Network;
use crate::protocol::{Limits, Residents};
use crate::run_state::RunState;
use crate::wire::Wire;

/// Evaluates the modules.
///
/// # Errors
/// A module that cannot be loaded, that throws, or that says something.
pub(crate) fn move_in(
    runtime: &mut JsRuntimeForSnapshot,
    residents: &Residents,
) -> Result<(), String> {
    if residents.modules.is_empty() {
        return Ok(());
    }
    let wire = Arc::new(Wire::deaf());
    let network = Arc::new(Network::default());
    let (limits, variables) = (Limits::default(), Arc::new(BTreeMap::new()));
    let state = Rc::new(RunState::new(0, limits, variables, network, Arc::clone(&wire)));
    runtime.op_state().borrow_mut().put(state);
    let import = serde_json::to_string(&residents.import).map_err(|e| e.to_string())?;
    let begin = format!("__concaveReside({import})");
    let end = runtime.execute_script("concave:/actions/reside.js", begin);
    let end = end.map_err(|e| e.to_string())?;
    let entry = format!("{SCHEME}{}", residents.entry);
    let entry = ModuleSpecifier::parse(&entry).map_err(|e| e.to_string())?;
    let timers = tokio::runtime::Builder::new_current_thread().enable_all().build();
    timers.map_err(|e| e.to_string())?.block_on(evaluate(runtime, &entry))?;
    call(runtime, &end);
    runtime.op_state().borrow_mut().take::<Rc<RunState>>();
    if wire.said() { Err(format!("{entry} says something at import")) } else { Ok(()) }
}

async fn evaluate(runtime: &mut JsRuntime, entry: &ModuleSpecifier) -> Result<(), String> {
    let module = runtime.load_side_es_module(entry).await.map_err(|e| e.to_string())?;
    let evaluated = runtime.mod_evaluate(module);
    let options = PollEventLoopOptions::default();
    runtime.run_event_loop(options).await.map_err(|e| e.to_string())?;
    evaluated.await.map_err(|e| e.to_string())
}

fn call(runtime: &mut JsRuntime, function: &v8::Global<v8::Value>) {
    deno_core::scope!(scope, runtime);
    let function = v8::Local::new(scope, function);
    if let Ok(function) = v8::Local::<v8::Function>::try_from(function) {
        let undefined = v8::undefined(scope).into();
        // It puts back what it took; it cannot throw.
        let _ = function.call(scope, undefined, &[]);
    }
}
