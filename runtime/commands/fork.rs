//! `concave fork`: an independent copy of a running host, served.
//!
//! In: a folder for it, or none. Out: another host, until Ctrl-C. Invariant: what is done to the
//! copy changes nothing in the original; its scheduled functions and cron jobs rest unless asked.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Deserialize;
use thiserror::Error;

use super::backup::{self, BackupError};
use super::client::{Client, ClientError};
use super::host::{self, Kept, Running, StartError};
use super::target::{Target, TargetError};
use super::terminal;
use crate::memory::Room;

/// Serve an independent copy of a running host, as of now
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave fork                        in the memory of the running host, at once; Ctrl-C ends it
  concave fork trial                  in the folder trial, by this process; it stays there
  concave run --url http://127.0.0.1:4321 --admin-key 'concave|…' migrations:try

Scheduled functions and cron jobs of the copy rest, unless --schedules is given: they would send
every mail a second time. The folder is a data folder as any: `concave serve` runs them.")]
pub struct Arguments {
    /// A new data folder for the copy; default: it lives in the memory of the running host
    folder: Option<PathBuf>,
    /// Run the copy's scheduled functions and cron jobs too
    #[arg(long)]
    schedules: bool,
    #[command(flatten)]
    target: Target,
}

/// Why there is no copy.
#[derive(Debug, Error)]
pub enum ForkError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// The copy could not be made.
    #[error(transparent)]
    Copy(#[from] BackupError),
    /// It could not be served.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The host that held the fork is gone.
    #[error("The host has stopped, and the fork in it.")]
    Ended,
}

/// Forks, and serves until Ctrl-C.
///
/// # Errors
/// See [`ForkError`].
pub async fn run(arguments: Arguments) -> Result<(), ForkError> {
    let here = env::current_dir().unwrap_or_default();
    let client = Client::new(arguments.target.resolve(&here)?)?;
    match arguments.folder {
        Some(folder) => in_folder(&client, folder, arguments.schedules).await,
        None => in_memory(&client, arguments.schedules).await,
    }
}

async fn in_folder(client: &Client, folder: PathBuf, schedules: bool) -> Result<(), ForkError> {
    let ts = backup::copy(client, &folder, false).await?.ts;
    let mut host = Running::start(host::Options {
        data: Some(Kept {
            folder: folder.clone(),
            give_up_after: None,
            history_disk: Room::default(),
        }),
        schedules,
        ..host::Options::new(
            Arc::new(|text| terminal::warning(text)),
            Arc::new(|text| terminal::news(text)),
        )
    })
    .await?;
    host.open();
    terminal::news(format!("a copy of {} in {}, as of {ts}", client.url(), folder.display()));
    told(&host.address.url, &host.site_url, &host.address.admin_key);
    host::asked_to_stop().await;
    if let Some(cut_off) = host.stop().await {
        terminal::warning(cut_off);
    }
    Ok(())
}

async fn in_memory(client: &Client, schedules: bool) -> Result<(), ForkError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Forked {
        url: String,
        site_url: String,
        admin_key: String,
        ts: String,
        milliseconds: f64,
    }
    let mut line = Vec::new();
    let mut is_told = false;
    let endpoint = format!("/api/concave/fork?schedules={schedules}");
    let lives = client.follow(&endpoint, |bytes| {
        line.extend_from_slice(bytes);
        let text = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if let (false, Ok(forked)) = (is_told, serde_json::from_slice::<Forked>(text)) {
            is_told = true;
            let Forked { url, site_url, admin_key, ts, milliseconds } = forked;
            let origin = client.url();
            terminal::news(format!("a fork of {origin}, as of {ts}, in {milliseconds:.0} ms"));
            told(&url, &site_url, &admin_key);
        }
        // Nothing but signs of life comes after it.
        line.truncate(if is_told { 0 } else { line.len() });
    });
    tokio::select! {
        ended = lives => ended.map_err(ForkError::from).and(Err(ForkError::Ended)),
        () = host::asked_to_stop() => Ok(()),
    }
}

fn told(url: &str, site_url: &str, admin_key: &str) {
    terminal::news(format!("serving {url}, HTTP actions {site_url}"));
    terminal::news(format!("admin key {admin_key}"));
    terminal::news("Ctrl-C ends it");
}
