//! V8 once a process: flags, platform, time zone, locale.
//!
//! In: nothing. Out: an initialised V8. Invariant: every process that makes or uses a snapshot runs
//! with exactly [`FLAGS`]; a blob made under other flags must not be loaded (`runtime.md` section
//! 1.4).

use std::sync::Once;

/// The flags of every isolate, with their reasons.
pub const FLAGS: &[&str] = &[
    // Two snapshot families in one process share the read-only heap: without this they crash.
    "--no-extensible-ro-snapshot",
    // Late-installed library features abort the process when user code touched their targets at
    // import; the prelude supplies them in JavaScript (js/runtime/85_late_features.js).
    "--no-js-promise-try",
    "--no-js-base-64",
    "--no-js-regexp-escape",
    "--no-js-error-iserror",
    "--no-js-upsert",
    "--no-js-iterator-sequencing",
    "--no-js-atomics-pause",
    "--no-js-sum-precise",
    "--no-js-float16array",
    "--no-js-intl-locale-variants",
    // A second clock.
    "--no-harmony-temporal",
    // SharedArrayBuffer is absent unless a context asks for it; none does.
    "--enable-sharedarraybuffer-per-context",
    // eval and new Function.
    "--disallow-code-generation-from-strings",
    // Whatever randomness is left inside V8.
    "--random-seed=1",
    // KiB. Threads have 8 MiB; JSON and regular expressions recurse natively beyond this.
    "--stack-size=984",
    // Pages of 64 KiB: a wasm memory cannot pass 256 MiB, whatever the machine has.
    "--wasm-max-mem-pages=4096",
    // It takes the stack check out of small counted loops, and out of the endless loop around one
    // too: `for (;;) new Array(1000).fill(0)` could not be stopped by anything.
    "--no-turboshaft-loop-unrolling",
    // Compilation in the background would leave a promise to be settled after the call.
    "--no-wasm-async-compilation",
    // Contexts come and go; the code they share stays compiled.
    "--no-flush-bytecode",
    // V8 remembers on shared code that it was hot once and optimises it at once in every later
    // context: for contexts that live for one call that costs twenty times the call.
    "--no-profile-guided-optimization",
    // Contexts made while marking runs survive that collection; marked in one go, none does.
    "--no-incremental-marking",
    // Garbage is contexts: a collection costs what lives, so wait until more is dead, and let the
    // young generation be large enough that it is only ever emptied by a full collection.
    "--heap-growing-percent=700",
    "--min-semi-space-size=8",
    "--max-semi-space-size=8",
    // Two cores belong to calls, not to helper threads.
    "--single-threaded-gc",
];

/// The variable with more flags.
const EXTRA_FLAGS: &str = "CONCAVE_V8_FLAGS";

/// Whether V8 runs with more than [`FLAGS`].
pub(crate) fn has_extra_flags() -> bool {
    std::env::var_os(EXTRA_FLAGS).is_some()
}

/// Initialises V8, once a process; later calls return at once.
pub fn initialize() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the first thing that `main` and every test of this crate do; no other thread
        // reads the environment yet. V8 and ICU read TZ once, below.
        unsafe { std::env::set_var("TZ", "UTC") };
        let mut flags = FLAGS.join(" ");
        // Tests run the corpus again under other flags and must get equal outcomes.
        if let Ok(extra) = std::env::var(EXTRA_FLAGS) {
            flags.push(' ');
            flags.push_str(&extra);
        }
        v8::V8::set_flags_from_string(&flags);
        v8::icu::set_default_locale("en-US");
        let platform = v8::new_unprotected_default_platform(1, false).make_shared();
        v8::V8::initialize_platform(platform);
        v8::V8::initialize();
    });
}
