//! `concave serve`: a host without a watcher.
//!
//! In: ports, a key, perhaps a folder to push. Out: a host until it is told to stop.
//! Invariant: it never pretends to keep data that it does not keep.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::builder::FalseyValueParser;
use thiserror::Error;

use super::host::{
    DRAIN, KEY_FILE, Kept, Options, Running, SAME_SIGNAL, StartError, asked_to_stop,
};
use super::log::{Log, LogArguments};
use super::push::{PushError, Pusher};
use crate::memory::{Budget, Room};

/// Run a host: an empty one, or one with an app pushed to it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave serve --data data                             a host that keeps its data there
  concave serve --in-memory                             an empty host; push to it later
  concave serve --in-memory --push examples/chat        a host with an app
  concave serve --data data --memory 512M --log-format json
  CI=1 npx convex deploy --url http://127.0.0.1:3210 --admin-key 'concave|…'

The admin key is printed at the start, unless you give one.")]
pub struct Arguments {
    /// Keep data in memory only: it is gone when the host stops
    #[arg(long, conflicts_with = "data")]
    in_memory: bool,
    /// Keep data in this folder, made if need be: it survives restarts, crashes and power cuts
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Give up the commits after this timestamp: the way out of a damaged log
    #[arg(long, value_name = "TIMESTAMP", requires = "data")]
    give_up_after: Option<u64>,
    /// Port of the API; 0 takes a free one
    #[arg(long, default_value_t = 3210)]
    port: u16,
    /// Port of HTTP actions; 0 takes a free one
    #[arg(long, default_value_t = 3211)]
    site_port: u16,
    /// Node.js for modules with "use node" [default: node on PATH]
    #[arg(long, env = actions::node::NODE_VARIABLE, value_name = "PATH")]
    node: Option<PathBuf>,
    /// Memory that the host may take, with its processes for actions: 512M, 2G [default: no bound]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Budget>,
    /// Room for history in DIR: what a start brings back of it, and as much again for deleted
    /// files that it shows; oldest left out: 64M [default: 16M]
    #[arg(long, value_name = "SIZE", requires = "data")]
    history_disk: Option<Room>,
    #[command(flatten)]
    log: LogArguments,
    /// Push this app first
    #[arg(long, value_name = "DIR")]
    push: Option<PathBuf>,
    /// Let `fetch` in actions reach private networks and this machine
    #[arg(long)]
    allow_private_network: bool,
    /// Run every call in a fresh context: only modules that ask for it share theirs between calls
    #[arg(long)]
    fresh_contexts: bool,
    /// Show clients `Server Error` in place of what a function threw, and no log lines, as Convex
    /// does in production; the data of a ConvexError still comes
    #[arg(long, env = "REDACT_LOGS_TO_CLIENT", value_parser = FalseyValueParser::new())]
    redact_logs_to_client: bool,
    /// The operator's secret; without ':'
    #[arg(long, env = super::environment::ADMIN_KEY, hide_env_values = true, value_name = "KEY")]
    admin_key: Option<String>,
}

/// Why nothing is served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The host did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The app given with `--push` is none.
    #[error(transparent)]
    Project(#[from] PushError),
    /// The app given with `--push` could not be pushed; the push has said why.
    #[error("{} was not pushed, so there is nothing to serve.", folder.display())]
    NotPushed {
        /// The app's folder.
        folder: PathBuf,
    },
    /// The program could not start itself.
    #[error("The push of {} could not be started: {why}", folder.display())]
    NoPush {
        /// The app's folder.
        folder: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// See [`ServeError`].
pub async fn run(arguments: Arguments) -> Result<(), ServeError> {
    if let Some(folder) = &arguments.push {
        Pusher::new(folder)?;
    }
    let told_key = arguments.admin_key.is_some();
    let is_kept = arguments.data.is_some();
    let give_up_after = arguments.give_up_after;
    let history_disk = arguments.history_disk.unwrap_or_default();
    let log = Log::start(arguments.log);
    let (warn, tell) = (log.clone(), log.clone());
    let key_file = arguments.data.as_ref().map(|folder| folder.join(KEY_FILE));
    let mut host = Running::start(Options {
        port: arguments.port,
        site_port: arguments.site_port,
        admin_key: arguments.admin_key,
        private_network: arguments.allow_private_network,
        schedules: true,
        events: log.events(),
        node: arguments.node,
        fresh_contexts: arguments.fresh_contexts,
        redact: arguments.redact_logs_to_client,
        data: arguments.data.map(|folder| Kept { folder, give_up_after, history_disk }),
        memory: arguments.memory,
        ..Options::new(
            Arc::new(move |text| warn.warning(text)),
            Arc::new(move |text| tell.news(text)),
        )
    })
    .await?;
    if !arguments.in_memory && !is_kept {
        log.warning("Data is kept in memory only and is gone when this host stops.");
    }
    if let Some(folder) = arguments.push {
        push(folder, &host, &log).await?;
    }
    host.open();
    log.serving(&host.address.url, &host.site_url);
    match key_file {
        Some(file) if log.is_structured() && !told_key => {
            log.news(format_args!("the admin key is in {}", file.display()));
        }
        _ if !told_key => log.made_up_key(&host.address.admin_key),
        _ => {}
    }
    asked_to_stop().await;
    log.news(format_args!(
        "stopping: answering what is in flight, for {} seconds at most; a second signal, {} ms \
         later or more, ends it at once",
        DRAIN.as_secs(),
        SAME_SIGNAL.as_millis()
    ));
    if let Some(cut_off) = host.stop().await {
        log.warning(cut_off);
    }
    log.finish();
    Ok(())
}

/// Pushes in a process of its own: what bundling takes (tens of megabytes) ends with it.
async fn push(folder: PathBuf, host: &Running, log: &Log) -> Result<(), ServeError> {
    let pushed = async {
        let program = std::env::current_exe()?;
        let mut command = tokio::process::Command::new(program);
        command.arg("push").arg(&folder).args(["--url", &host.operator.url]);
        command.env(super::environment::ADMIN_KEY, &host.operator.admin_key);
        if !log.is_structured() {
            return command.status().await;
        }
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        said.lines().filter(|line| !line.is_empty()).for_each(|line| log.news(line));
        Ok(output.status)
    };
    match pushed.await {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(ServeError::NotPushed { folder }),
        Err(why) => Err(ServeError::NoPush { folder, why }),
    }
}
