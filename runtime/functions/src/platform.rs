//! V8 once a process: flags, platform, time zone, locale.
//!
//! In: nothing. Out: an initialised V8. Invariant: V8 and ICU, which read the variable `TZ` once,
//! find UTC there, and nobody writes to the environment beside other threads. Every process that
//! makes or uses a snapshot runs with exactly [`FLAGS`]; a blob made under other flags must not be
//! loaded (`runtime.md` section 1.4).

use std::ffi::OsStr;
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

/// The variable with the time zone, and the only one that functions know.
const TIME_ZONE: &str = "TZ";
const UTC: &str = "UTC";

fn is_utc() -> bool {
    std::env::var_os(TIME_ZONE).as_deref() == Some(OsStr::new(UTC))
}

/// Makes UTC the time zone of this process. The first thing that `main` does: from the first thread
/// on nobody may write to the environment, which libraries read without asking. Processes that
/// this one starts inherit it; tests have it from cargo (`.cargo/config.toml`).
///
/// # Panics
/// There are other threads already.
pub fn set_time_zone() {
    if is_utc() {
        return;
    }
    // Where the system does not say it, `main` is trusted.
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(threads, 1, "the time zone of a process is set before it has other threads");
    // SAFETY: no other thread could read the environment meanwhile, as was just counted.
    unsafe { std::env::set_var(TIME_ZONE, UTC) };
}

/// Initialises V8, once a process; later calls return at once.
///
/// # Panics
/// The time zone is another than UTC: `main` did not begin with [`set_time_zone`], or a test was
/// not started by cargo.
pub fn initialize() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        assert!(
            is_utc(),
            "the environment of a process that runs functions must say TZ=UTC before its first \
             thread starts: a program begins with platform::set_time_zone(), tests are run by cargo"
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "the test below runs it, in a process with another time zone"]
    fn sets_the_time_zone_beside_other_threads() {
        set_time_zone();
    }

    #[test]
    #[ignore = "the test below runs it, in a process with another time zone"]
    fn starts_v8_without_a_time_zone() {
        initialize();
    }

    #[test]
    fn nobody_writes_to_the_environment_beside_other_threads() {
        let fails = |test: &str| {
            let mut process = std::process::Command::new(std::env::current_exe().unwrap());
            let test = format!("platform::tests::{test}");
            process
                .args(["--exact", &test, "--ignored", "--nocapture"])
                .env(TIME_ZONE, "Asia/Tokyo");
            let ended = process.output().unwrap();
            assert!(!ended.status.success(), "{test}");
            String::from_utf8(ended.stderr).unwrap()
        };
        let said = fails("sets_the_time_zone_beside_other_threads");
        assert!(said.contains("is set before it has other threads"), "{said}");
        let said = fails("starts_v8_without_a_time_zone");
        assert!(said.contains("begins with platform::set_time_zone()"), "{said}");
    }
}
