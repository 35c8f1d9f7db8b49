//! `concave env`: environment variables of a running host.
//!
//! In: a name and a value. Out: the host's variables, changed or shown.
//! Invariant: a value is read from the command line, from a file or from standard input, and
//! printed only where it was asked for; standard output holds values and nothing else.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::client::{Client, ClientError};
use super::target::{Target, TargetError};
use super::terminal;

/// Show and change the environment variables that functions read as process.env.NAME
#[derive(Debug, Args)]
#[command(after_help = "\
Queries that read a variable run again when it changes; modules that read one while they are
imported are evaluated again.

Examples:
  concave env set API_KEY 4711
  concave env set CERTIFICATE < certificate.pem
  concave env list
  concave env get API_KEY
  concave env unset API_KEY")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set a variable
    Set(Set),
    /// Print the value of a variable
    Get(One),
    /// Print all variables, as NAME=value
    List(List),
    /// Delete a variable; one that is not set is deleted already
    #[command(visible_aliases = ["remove", "rm"])]
    Unset(One),
}

#[derive(Debug, Args)]
struct Set {
    /// Its name, or NAME=value
    name: String,
    /// Its value; without it, standard input
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// Read the value from a file
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    from_file: Option<PathBuf>,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Args)]
struct One {
    /// Its name
    name: String,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Args)]
struct List {
    /// Print the names alone
    #[arg(long, conflicts_with = "json")]
    names_only: bool,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Args)]
struct Shown {
    /// JSON: {name, value} for one variable, {NAME: value} for a list
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Why a variable was neither shown nor changed.
#[derive(Debug, Error)]
pub enum EnvError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// There is no such variable.
    #[error("The environment variable {name} is not set. `concave env list` shows those that are.")]
    NotSet {
        /// Its name.
        name: String,
    },
    /// Nothing says what the value is.
    #[error(
        "{name} needs a value: `concave env set {name} <value>`, or pipe it in, which keeps it out \
         of the shell's history: `concave env set {name} < file`."
    )]
    NoValue {
        /// The variable.
        name: String,
    },
    /// The value cannot be read.
    #[error("The value could not be read from {from}: {cause}.")]
    Unreadable {
        /// A file, or standard input.
        from: String,
        /// The system's words.
        cause: io::Error,
    },
}

/// Shows or changes variables.
///
/// # Errors
/// See [`EnvError`].
pub async fn run(arguments: Arguments) -> Result<(), EnvError> {
    match arguments.command {
        Command::Set(set) => {
            let client = client(&set.shown)?;
            let (name, value) = wanted(&set)?;
            change(&client, &name, Some(&value)).await?;
            told(&set.shown, &name, Some(&value), "Set");
        }
        Command::Unset(one) => {
            change(&client(&one.shown)?, &one.name, None).await?;
            told(&one.shown, &one.name, None, "Unset");
        }
        Command::Get(One { name, shown }) => {
            let mut all = all(&client(&shown)?).await?;
            let value = all.remove(&name).ok_or_else(|| EnvError::NotSet { name: name.clone() })?;
            if shown.json {
                terminal::data(json!({ "name": name, "value": value }));
            } else {
                terminal::data(value);
            }
        }
        Command::List(List { names_only, shown }) => {
            let all = all(&client(&shown)?).await?;
            if shown.json {
                terminal::data(json!(all));
            } else if all.is_empty() {
                terminal::news("No environment variables are set.");
            } else {
                let line = |(name, value): (&String, &String)| match names_only {
                    true => name.clone(),
                    false => format!("{name}={}", quoted(value)),
                };
                terminal::data(all.iter().map(line).collect::<Vec<_>>().join("\n"));
            }
        }
    }
    Ok(())
}

fn client(shown: &Shown) -> Result<Client, EnvError> {
    let folder = env::current_dir().unwrap_or_default();
    Ok(Client::new(shown.target.resolve(&folder)?)?)
}

async fn all(client: &Client) -> Result<BTreeMap<String, String>, EnvError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        environment_variables: BTreeMap<String, String>,
    }
    let answer: Answer = client.get("/api/v1/list_environment_variables").await?;
    Ok(answer.environment_variables)
}

async fn change(client: &Client, name: &str, value: Option<&str>) -> Result<(), EnvError> {
    let body = json!({ "changes": [{ "name": name, "value": value }] });
    let _: Value = client.post("/api/update_environment_variables", &body).await?;
    Ok(())
}

/// What was done: as data where that was asked for, else as news.
fn told(shown: &Shown, name: &str, value: Option<&str>, done: &str) {
    if shown.json {
        terminal::data(json!({ "name": name, "value": value }));
    } else {
        terminal::news(format_args!("{done} {name}."));
    }
}

/// Name and value, from wherever they come.
fn wanted(set: &Set) -> Result<(String, String), EnvError> {
    let name = set.name.clone();
    if let Some(value) = &set.value {
        return Ok((name, value.clone()));
    }
    if let Some(file) = &set.from_file {
        let unreadable = |cause| EnvError::Unreadable { from: file.display().to_string(), cause };
        return Ok((name, text(std::fs::read_to_string(file).map_err(unreadable)?)));
    }
    if let Some((name, value)) = name.split_once('=') {
        return Ok((name.to_owned(), value.to_owned()));
    }
    if io::stdin().is_terminal() {
        return Err(EnvError::NoValue { name });
    }
    let mut value = String::new();
    let unreadable = |cause| EnvError::Unreadable { from: "standard input".to_owned(), cause };
    io::stdin().read_to_string(&mut value).map_err(unreadable)?;
    Ok((name, text(value)))
}

/// The text of a file without the newline that ends its last line.
fn text(mut text: String) -> String {
    if text.ends_with('\n') {
        text.truncate(text.len() - 1);
    }
    text
}

/// A value as a `.env` file writes it.
fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+,=|".contains(&byte);
    if value.bytes().all(plain) {
        value.to_owned()
    } else if value.contains(['\'', '\n']) {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{escaped}\"")
    } else {
        format!("'{value}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_only_where_a_shell_would_split_them() {
        assert_eq!(quoted("https://a.example/x?"), "'https://a.example/x?'");
        assert_eq!(quoted("a|b=c"), "a|b=c");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's\n\"new\""), r#""it's\n\"new\"""#);
    }

    #[test]
    fn one_newline_at_the_end_of_a_file_is_not_part_of_the_value() {
        assert_eq!(text("a\n\n".into()), "a\n");
        assert_eq!(text("a".into()), "a");
    }
}
