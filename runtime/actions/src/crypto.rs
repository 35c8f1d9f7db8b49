//! WebCrypto in actions: the ops that `js/web/crypto.js` asks for.
//!
//! In: requests and byte strings of a script. Out: bytes, or an `Error` whose message begins with
//! the name of a `DOMException`. Invariant: what takes long (new RSA keys, PBKDF2) runs on a thread
//! of its own, so timers and other work of the run go on meanwhile.

use std::cell::RefCell;
use std::rc::Rc;

use deno_core::{Extension, JsBuffer, OpState, op2};
use deno_error::JsErrorBox;
use web::crypto::{Allowance, Error, Parts, run};

use crate::run_state::RunState;

deno_core::extension!(
    concave_crypto,
    deps = [deno_web],
    ops = [op_crypto, op_crypto_slow, op_crypto_fill],
    lazy_loaded_js = [dir "../../js/web", "crypto.js"],
);

/// The extension, with the script as `ext:concave_crypto/crypto.js`.
pub(crate) fn extension() -> Extension {
    concave_crypto::init()
}

/// `(request, key, data, first, second) → bytes`.
#[op2]
#[buffer]
fn op_crypto(
    #[string] request: &str,
    #[buffer] key: &[u8],
    #[buffer] data: &[u8],
    #[buffer] first: &[u8],
    #[buffer] second: &[u8],
) -> Result<Vec<u8>, JsErrorBox> {
    // The script sends PBKDF2, which alone counts iterations, to the other op.
    let allowance = Allowance { randomness: true, iterations: 0 };
    run(request, &Parts { key, data, first, second }, allowance).map_err(thrown)
}

/// The same, on a thread of its own.
#[op2]
#[buffer]
async fn op_crypto_slow(
    state: Rc<RefCell<OpState>>,
    #[string] request: String,
    #[serde] parts: Vec<JsBuffer>,
) -> Result<Vec<u8>, JsErrorBox> {
    let iterations = state.borrow().borrow::<Rc<RunState>>().limits.pbkdf2_iterations;
    let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
    let task = tokio::task::spawn_blocking(move || {
        let part = |place: usize| parts.get(place).map_or(&[][..], Vec::as_slice);
        let parts = Parts { key: part(0), data: part(1), first: part(2), second: part(3) };
        run(&request, &parts, Allowance { randomness: true, iterations })
    });
    match task.await {
        Ok(answer) => answer.map_err(thrown),
        Err(_) => Err(JsErrorBox::generic("OperationError: The operation was stopped")),
    }
}

/// Random bytes.
#[op2(fast)]
fn op_crypto_fill(#[buffer] bytes: &mut [u8]) -> Result<(), JsErrorBox> {
    web::crypto::fill(bytes).map_err(thrown)
}

fn thrown(error: Error) -> JsErrorBox {
    JsErrorBox::generic(error.to_string())
}
