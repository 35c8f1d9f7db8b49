//! Reads the arguments, runs one command, prints what went wrong, exits.
//!
//! In: the command line. Out: an exit code: 0 done, 1 failed, 2 not understood.
//! Invariant: nothing else in the program exits the process, but a host that has lost a part which
//! it cannot do without (`server::essential`).
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use concave::commands::{self, Arguments};

fn main() -> ExitCode {
    // Before anything starts a thread.
    functions::platform::set_time_zone();
    // Prints help, version and usage errors itself, with exit codes 0 and 2.
    let arguments = Arguments::parse();
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            commands::report(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
