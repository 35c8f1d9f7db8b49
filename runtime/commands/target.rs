//! Which host a command talks to: flags, else environment, else what `dev` wrote.
//!
//! In: flags and a folder. Out: an address and a key. Invariant: a command that does not know its
//! host says how to tell it, and never guesses one.

use std::path::Path;

use clap::Args;
use thiserror::Error;

use super::environment::{self, ADMIN_KEY, FILE, URL};

/// The flags that name a host.
#[derive(Clone, Debug, Default, Args)]
pub struct Target {
    /// Address of a running host; default: what `concave dev` wrote to .env.local
    #[arg(long, env = URL, value_name = "URL")]
    pub url: Option<String>,
    /// The operator's secret, as `concave serve` printed it
    #[arg(long, env = ADMIN_KEY, hide_env_values = true, value_name = "KEY")]
    pub admin_key: Option<String>,
}

/// A host to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Origin, like `http://127.0.0.1:3210`.
    pub url: String,
    /// The operator's secret.
    pub admin_key: String,
}

/// Why no host is known.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TargetError {
    /// Nothing names one.
    #[error(
        "No host is known here. Either run this in the folder of an app that `concave dev` is \
         serving (it writes {FILE} there), or pass --url and --admin-key, or set {URL} and \
         {ADMIN_KEY}."
    )]
    Unknown,
    /// An address without a key.
    #[error(
        "The host {url} needs its admin key: pass --admin-key, or set {ADMIN_KEY}. `concave serve` \
         prints it when it starts."
    )]
    NoKey {
        /// The address.
        url: String,
    },
}

impl Target {
    /// Decides, looking at the `.env.local` files from `folder` upwards.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn resolve(&self, folder: &Path) -> Result<Address, TargetError> {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let recorded = folder
            .ancestors()
            .map(environment::read)
            .find(|recorded| recorded.url.is_some())
            .unwrap_or_default();
        let url = self.url.clone().or_else(|| recorded.url.clone());
        let url = url.ok_or(TargetError::Unknown)?;
        // A recorded key opens the recorded host only.
        let recorded_key = recorded.admin_key.filter(|_| recorded.url.as_ref() == Some(&url));
        match self.admin_key.clone().or(recorded_key) {
            Some(admin_key) => Ok(Address { url, admin_key }),
            None => Err(TargetError::NoKey { url }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_its_key_opens_only_its_host() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("convex");
        std::fs::create_dir(&inner).unwrap();
        let host = environment::Reach {
            url: "http://127.0.0.1:1",
            site_url: "http://127.0.0.1:2",
            admin_key: "file",
        };
        environment::write(folder.path(), host).unwrap();

        let found = Target::default().resolve(&inner).unwrap();
        assert_eq!(found, Address { url: "http://127.0.0.1:1".into(), admin_key: "file".into() });

        let elsewhere = Target { url: Some("http://127.0.0.1:2".into()), admin_key: None };
        let error = elsewhere.resolve(&inner).unwrap_err();
        assert_eq!(error, TargetError::NoKey { url: "http://127.0.0.1:2".into() });

        let both = Target { url: elsewhere.url, admin_key: Some("flag".into()) };
        assert_eq!(both.resolve(&inner).unwrap().admin_key, "flag");
    }

    #[test]
    fn nothing_known_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Target::default().resolve(folder.path()).unwrap_err().to_string();
        assert!(error.contains("concave dev") && error.contains("--url"), "{error}");
    }
}
