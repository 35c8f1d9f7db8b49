//! `concave dev`: a host, and a push at every save.
//!
//! In: an app's folder. Out: a host, its address in `.env.local`, one line an event.
//! Invariant: a save that does not push leaves what was running running, and says what is wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use thiserror::Error;

use super::client::{Client, ClientError};
use super::environment::{self, FILE};
use super::events;
use super::host::{Kept, Options, Running, StartError, asked_to_stop};
use super::push::{PushError, Pusher};
use super::repair::{Repairs, TableOf};
use super::terminal;
use super::watch::{Watch, WatchError, is_package};
use crate::memory::Room;

/// Run an app while you write it: serve it, and push it again at every save
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave dev                          the app in this folder
  concave dev examples/swaghaus        another one
  concave run shop:getItems            from another terminal, in the app's folder
  npx convex run shop:getItems         the same with the npm package's own command line

The host's address and admin key are written to .env.local in the app's folder, the address also
under the name that the app's page reads (VITE_CONVEX_URL, NEXT_PUBLIC_CONVEX_URL, …). Data is kept
in the folder .concave beside it; delete that to start over.")]
pub struct Arguments {
    /// The app: a folder with package.json, or its convex/ folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Port of the API; 0 takes a free one
    #[arg(long, default_value_t = 3210)]
    port: u16,
    /// Port of HTTP actions; 0 takes a free one
    #[arg(long, default_value_t = 3211)]
    site_port: u16,
    /// Node.js for modules with "use node" [default: node on PATH]
    #[arg(long, env = actions::node::NODE_VARIABLE, value_name = "PATH")]
    node: Option<PathBuf>,
    /// Let `fetch` in actions reach private networks; this machine it reaches anyway
    #[arg(long)]
    allow_private_network: bool,
    /// Keep data in memory only: it is gone when the host stops
    #[arg(long)]
    in_memory: bool,
    /// Push once and exit: 0 if the app runs, 1 if it does not
    #[arg(long)]
    once: bool,
}

/// Why there is nothing to develop with.
#[derive(Debug, Error)]
pub enum DevError {
    /// The folder cannot be pushed at all.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The host did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The host did not answer its own process.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `.env.local` cannot be written.
    #[error("Could not write {FILE} in {}: {cause}. Make it writable.", folder.display())]
    Environment {
        /// The app's folder.
        folder: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// There is no place for its data.
    #[error(
        "Could not make {}, where data is kept: {cause}. Make it writable, or use --in-memory.",
        folder.display()
    )]
    Folder {
        /// Where data would be kept.
        folder: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// Files cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
}

/// Serves and pushes until Ctrl-C.
///
/// # Errors
/// See [`DevError`]. A push that fails later is printed, and is not an error of the command.
pub async fn run(arguments: Arguments) -> Result<(), DevError> {
    let mut pusher = Pusher::new(&arguments.dir)?;
    let root = pusher.project().root.clone();
    let printer = events::Printer::in_lines_but_pushes();
    let tell = printer.clone();
    let mut host = Running::start(Options {
        port: arguments.port,
        site_port: arguments.site_port,
        // The same key as last time, so that clients and terminals that know it go on working.
        admin_key: environment::read(&root).admin_key.filter(|key| key.starts_with("concave|")),
        private_network: arguments.allow_private_network,
        schedules: true,
        invariants: true,
        // What an app in development talks to runs beside it.
        loopback: true,
        events: Some(Arc::new(move |event| tell.print(event))),
        node: arguments.node.clone(),
        answers_at_once: true,
        data: if arguments.in_memory { None } else { Some(kept(&root)?) },
        ..Options::new(
            Arc::new(|text| terminal::warning(text)),
            Arc::new(|text| terminal::news(text)),
        )
    })
    .await?;
    let address = host.address.clone();
    let reach = environment::Reach {
        url: &address.url,
        site_url: &host.site_url,
        admin_key: &address.admin_key,
    };
    environment::write(&root, reach)
        .map_err(|cause| DevError::Environment { folder: root.clone(), cause })?;
    let client = Client::new(host.operator.clone())?;
    terminal::news(format!("concave dev {} at {}", arguments.dir.display(), address.url));

    let ended = if arguments.once {
        pusher.push(&client).await.map(|pushed| terminal::news(pushed.line())).map_err(Into::into)
    } else {
        follow((&mut pusher, &client), &arguments.dir, &mut host).await
    };
    let cut_off = host.stop().await;
    printer.finish();
    if let Some(cut_off) = cut_off {
        terminal::warning(cut_off);
    }
    ended
}

/// The app's data folder, which its repository need not know of.
fn kept(root: &Path) -> Result<Kept, DevError> {
    let folder = root.join(".concave");
    let ignored = || {
        storage::make_private(&folder)?;
        std::fs::write(folder.join(".gitignore"), "*\n")
    };
    match ignored() {
        Ok(()) => Ok(Kept { folder, give_up_after: None, history_disk: Room::default() }),
        Err(cause) => Err(DevError::Folder { folder, cause }),
    }
}

/// Pushes now and at every save. Clients are let in after the first push, however it ended.
async fn follow(
    (pusher, client): (&mut Pusher, &Client),
    dir: &Path,
    host: &mut Running,
) -> Result<(), DevError> {
    let mut folder = pusher.project().functions_dir.clone();
    let mut watch = Watch::new(&folder)?;
    watch.also(&pusher.project().settings());
    let stop = asked_to_stop();
    tokio::pin!(stop);
    let mut repairs = Repairs::new(host.database());
    let (mut told, mut saved) = (Told::default(), true);
    loop {
        repairs.begin();
        let has_new = tokio::select! {
            () = &mut stop => break,
            has_new = push(pusher, client, &mut watch, (&mut told, saved)) => has_new,
        };
        host.open();
        let has_moved = pusher.project().functions_dir != folder;
        if has_moved {
            folder.clone_from(&pusher.project().functions_dir);
            watch = Watch::new(&folder)?;
            watch.also(&pusher.watched());
        }
        if has_new || has_moved {
            // Nobody watched those while they were pushed: what was saved meanwhile is not running.
            saved = false;
            continue;
        }
        tokio::select! {
            () = &mut stop => break,
            path = watch.changed() => saved = !is_package(&path),
            () = repairs.made(told.table()), if told.failure.is_some() => saved = false,
        }
    }
    terminal::news(format!("stopping {}", dir.display()));
    Ok(())
}

/// What the terminal was told last.
#[derive(Default)]
struct Told {
    /// That the app runs as saved.
    runs: bool,
    /// That it does not, and why.
    failure: Option<Failure>,
    warnings: Vec<String>,
}

struct Failure {
    text: String,
    /// The table whose documents do not fit.
    table: Option<TableOf>,
}

impl Told {
    fn table(&self) -> Option<&TableOf> {
        self.failure.as_ref()?.table.as_ref()
    }
}

/// Pushes and tells. A push that changes nothing is news only after one that failed, and a failure
/// only once: `saved` is whether somebody saved a file, and so waits to be told something. Gives
/// whether it had sources that were not watched.
async fn push(
    pusher: &mut Pusher,
    client: &Client,
    watch: &mut Watch,
    (told, saved): (&mut Told, bool),
) -> bool {
    let pushed = pusher.push(client).await;
    let has_new = watch.also(&pusher.watched());
    match pushed {
        Ok(pushed) => {
            for warning in pushed.warnings.iter().filter(|text| !told.warnings.contains(text)) {
                terminal::warning(warning);
            }
            if !(pushed.unchanged && told.runs) {
                terminal::news(events::marked("push", &pushed.line()));
            } else if !pushed.generated.is_empty() {
                let files = terminal::count(pushed.generated.len(), "generated file");
                terminal::news(events::marked("push", &format!("{files} written again")));
            }
            *told = Told { runs: true, failure: None, warnings: pushed.warnings };
        }
        Err(error) => {
            told.runs = false;
            let failure = Failure { text: error.to_string(), table: error.table() };
            let known = told.failure.as_ref().is_some_and(|known| known.text == failure.text);
            match (known, saved) {
                (true, true) => {
                    let text = "failed again, for the same reason; what was running goes on";
                    terminal::news(events::marked("push", text));
                }
                (true, false) => {}
                (false, _) => {
                    terminal::problem(error);
                    terminal::news("Fix it and save; what was running goes on.");
                }
            }
            told.failure = Some(failure);
        }
    }
    has_new
}
