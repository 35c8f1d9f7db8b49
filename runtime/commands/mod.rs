//! The commands: what a user types, and what each does.
//!
//! In: parsed arguments. Out: effects, data on standard output, news on standard error, or one
//! typed failure. Invariant: a failure says what happened and what to do about it, in words for the
//! person who typed the command; no command exits the process itself.
//!
//! ```text
//! dev.rs  serve.rs      run a host           host.rs: database + functions + server, wired
//! push.rs run.rs        ask a running one    client.rs: HTTP; target.rs: which host
//! calls.rs replay.rs    the same: the last calls, and running one again
//! inspect.rs            with a debugger
//! data.rs why.rs        the same             history.rs: who wrote each version of a document
//! stats.rs              the same: where memory and work go
//! variables.rs          the same: concave env     dotenv.rs: the text of .env files
//! json5.rs              arguments as people type them
//! test.rs               run test files (../testing/)   test_server.rs: for vitest
//! export.rs import.rs   the same: data out of it and into it; system.rs: its own functions
//! backup.rs fork.rs     the same: a whole copy, at rest or served
//! limits.rs             print the table of limits
//! codegen.rs            write convex/_generated
//! log.rs                what serve says: text, or JSON (structured.rs)
//! watch.rs              which saves matter    events.rs: one line an event
//! repair.rs             what else repairs a failed push
//! environment.rs        .env.local            terminal.rs: where lines go
//! ```

use clap::{Parser, Subcommand};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

pub mod backup;
pub mod calls;
pub mod client;
pub mod codegen;
pub mod data;
pub mod dev;
pub mod dotenv;
pub mod environment;
pub mod events;
pub mod export;
pub mod fork;
pub mod history;
pub mod host;
pub mod import;
pub mod inspect;
mod json5;
pub mod limits;
pub mod log;
pub mod push;
pub mod repair;
pub mod replay;
pub mod run;
pub mod serve;
pub mod stats;
mod structured;
mod system;
pub mod target;
mod terminal;
pub mod test;
pub mod test_server;
pub mod variables;
pub mod watch;
pub mod why;

/// Runs TypeScript functions that are transactions: a host for `convex/` folders.
#[derive(Debug, Parser)]
#[command(name = "concave", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Start here:
  cd my-app && npm install      an app with a convex/ folder and the npm package `convex`
  concave dev                   run it; functions are pushed again at every save
  concave run messages:list     call one of them from another terminal

Each command explains itself: concave help dev")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Arguments),
    Serve(serve::Arguments),
    Push(push::Arguments),
    Run(run::Arguments),
    Data(data::Arguments),
    Why(why::Arguments),
    History(history::Arguments),
    Calls(calls::Arguments),
    Replay(replay::Arguments),
    Stats(stats::Arguments),
    Env(variables::Arguments),
    Test(test::Arguments),
    #[command(hide = true)]
    TestServer(test_server::Arguments),
    Export(export::Arguments),
    Backup(backup::Arguments),
    Fork(fork::Arguments),
    Import(import::Arguments),
    Limits(limits::Arguments),
    /// The child process that evaluates a pushed bundle: request in, snapshot out.
    #[command(hide = true, name = host::BUILDER_COMMAND)]
    SnapshotBuilder,
    /// A process that runs actions; its standard input is a socket to the host.
    #[command(hide = true, name = host::WORKER_COMMAND)]
    ActionWorker {
        /// `snapshot` prints the startup snapshot of later ones.
        what: Option<String>,
    },
}

/// Why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// `concave dev`
    #[error(transparent)]
    Dev(#[from] dev::DevError),
    /// `concave serve`
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    /// `concave push`
    #[error(transparent)]
    Push(#[from] push::PushError),
    /// `concave run`
    #[error(transparent)]
    Run(#[from] run::RunError),
    /// `concave data`
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// `concave why`
    #[error(transparent)]
    Why(#[from] why::WhyError),
    /// `concave history`
    #[error(transparent)]
    History(#[from] history::HistoryError),
    /// `concave calls`
    #[error(transparent)]
    Calls(#[from] calls::CallsError),
    /// `concave replay`
    #[error(transparent)]
    Replay(#[from] replay::ReplayError),
    /// `concave stats`
    #[error(transparent)]
    Stats(#[from] stats::StatsError),
    /// `concave export`
    #[error(transparent)]
    Export(#[from] export::ExportError),
    /// `concave backup`
    #[error(transparent)]
    Backup(#[from] backup::BackupError),
    /// `concave fork`
    #[error(transparent)]
    Fork(#[from] fork::ForkError),
    /// `concave import`
    #[error(transparent)]
    Import(#[from] import::ImportError),
    /// `concave env`
    #[error(transparent)]
    Env(#[from] variables::EnvError),
    /// `concave test`
    #[error(transparent)]
    Test(#[from] test::TestError),
    /// `concave test-server`
    #[error(transparent)]
    TestServer(#[from] test_server::TestServerError),
    /// Data that nobody can read.
    #[error(
        "Could not write to standard output: {0}. What is there is not whole. Make room where it \
         goes, or send it elsewhere."
    )]
    Output(std::io::Error),
    /// The builder's pipes.
    #[error("The snapshot builder is started by concave itself and talks through pipes: {0}")]
    Builder(std::io::Error),
    /// The worker's socket.
    #[error("A worker of actions is started by concave itself and talks through a socket: {0}")]
    Worker(std::io::Error),
    /// The system gave no threads.
    #[error("The system would not start concave's threads: {0}. Close programs and try again.")]
    Threads(std::io::Error),
}

impl Failure {
    /// 2 where the command line itself is wrong, or nothing could be replayed; else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Run(run::RunError::Arguments { .. } | run::RunError::Identity { .. }) => 2,
            Self::Push(push::PushError::Target(_))
            | Self::Run(run::RunError::Target(_))
            | Self::Data(data::DataError::Target(_))
            | Self::History(history::HistoryError::Target(_))
            | Self::Stats(stats::StatsError::Target(_))
            | Self::Export(export::ExportError::Target(_))
            | Self::Backup(backup::BackupError::Target(_))
            | Self::Fork(fork::ForkError::Target(_))
            | Self::Import(import::ImportError::Target(_))
            | Self::Why(why::WhyError::Target(_)) => 2,
            Self::Replay(replay::ReplayError::Different { .. }) => 1,
            Self::Replay(_) | Self::Calls(calls::CallsError::Target(_)) => 2,
            Self::Env(variables::EnvError::Target(_) | variables::EnvError::NoValue { .. }) => 2,
            _ => 1,
        }
    }
}

/// Runs one command to its end.
///
/// # Errors
/// See [`Failure`].
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    run_command(arguments.command)?;
    terminal::written().map_err(Failure::Output)
}

fn run_command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Limits(arguments) => {
            limits::run(&arguments);
            Ok(())
        }
        Command::SnapshotBuilder => functions::builder::main().map_err(Failure::Builder),
        Command::ActionWorker { what } => {
            actions::worker::main(what.as_slice()).map_err(Failure::Worker)
        }
        Command::Dev(arguments) => threads()?.block_on(dev::run(arguments)).map_err(Failure::Dev),
        Command::Serve(arguments) => {
            threads()?.block_on(serve::run(arguments)).map_err(Failure::Serve)
        }
        Command::Push(arguments) => {
            threads()?.block_on(push::run(arguments)).map_err(Failure::Push)
        }
        Command::Run(arguments) => threads()?.block_on(run::run(arguments)).map_err(Failure::Run),
        Command::Data(arguments) => {
            threads()?.block_on(data::run(arguments)).map_err(Failure::Data)
        }
        Command::Why(arguments) => threads()?.block_on(why::run(arguments)).map_err(Failure::Why),
        Command::History(arguments) => {
            threads()?.block_on(history::run(arguments)).map_err(Failure::History)
        }
        Command::Calls(arguments) => {
            threads()?.block_on(calls::run(arguments)).map_err(Failure::Calls)
        }
        Command::Replay(arguments) => {
            threads()?.block_on(replay::run(arguments)).map_err(Failure::Replay)
        }
        Command::Stats(arguments) => {
            threads()?.block_on(stats::run(arguments)).map_err(Failure::Stats)
        }
        Command::Test(arguments) => thread()?.block_on(test::run(arguments)).map_err(Failure::Test),
        Command::TestServer(arguments) => {
            threads()?.block_on(test_server::run(arguments)).map_err(Failure::TestServer)
        }
        Command::Export(arguments) => {
            threads()?.block_on(export::run(arguments)).map_err(Failure::Export)
        }
        Command::Backup(arguments) => {
            threads()?.block_on(backup::run(arguments)).map_err(Failure::Backup)
        }
        Command::Fork(arguments) => {
            threads()?.block_on(fork::run(arguments)).map_err(Failure::Fork)
        }
        Command::Import(arguments) => {
            threads()?.block_on(import::run(arguments)).map_err(Failure::Import)
        }
        Command::Env(arguments) => {
            threads()?.block_on(variables::run(arguments)).map_err(Failure::Env)
        }
    }
}

/// Prints a failure where people look for it.
pub fn report(failure: &Failure) {
    terminal::problem(failure);
}

fn threads() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.and_then(with_limited_files).map_err(Failure::Threads)
}

/// For what only passes messages on: it would wait for other threads more often than they help.
fn thread() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.and_then(with_limited_files).map_err(Failure::Threads)
}

/// Lets a write beyond the size that files may have (`ulimit -f`) fail, as one to a full disk does:
/// the system would end the process. What is installed here stays, and no process that is started
/// inherits it.
fn with_limited_files(runtime: Runtime) -> std::io::Result<Runtime> {
    let too_large = SignalKind::from_raw(libc::SIGXFSZ);
    let entered = runtime.enter();
    signal(too_large).map(drop)?;
    drop(entered);
    Ok(runtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_with_an_example() {
        for command in Arguments::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            assert!(help.contains(&format!("concave {name}")), "{name}: {help:?}");
        }
    }
}
