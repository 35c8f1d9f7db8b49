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
use super::dotenv;
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
  concave env set --from-file several.env
  concave env list > several.env
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
    #[arg(required_unless_present = "from_file")]
    name: Option<String>,
    /// Its value; without it, standard input
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// Read the value from a file; without a name, all the variables of a .env file
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
    /// A file of variables has none.
    #[error(
        "{from} sets no variables: a line is NAME=value, as `concave env list` prints them. For \
         a value that is the whole file, name its variable: `concave env set NAME --from-file \
         {from}`."
    )]
    NoVariables {
        /// The file.
        from: String,
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
            let wanted = wanted(&set)?;
            let changes = wanted.iter().map(|(name, value)| (&**name, Some(&**value)));
            change(&client, changes).await?;
            for (name, value) in &wanted {
                told(&set.shown, name, Some(value), "Set");
            }
        }
        Command::Unset(one) => {
            change(&client(&one.shown)?, [(&*one.name, None)]).await?;
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
                    false => format!("{name}={}", shown_as(name, value)),
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

/// All of them, or none.
async fn change(
    client: &Client,
    changes: impl IntoIterator<Item = (&str, Option<&str>)>,
) -> Result<(), EnvError> {
    let change = |(name, value)| json!({ "name": name, "value": value });
    let changes: Vec<_> = changes.into_iter().map(change).collect();
    let body = json!({ "changes": changes });
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

/// Names and values, from wherever they come.
fn wanted(set: &Set) -> Result<Vec<(String, String)>, EnvError> {
    if let Some(file) = &set.from_file {
        let from = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|cause| EnvError::Unreadable { from: from.clone(), cause })?;
        return match &set.name {
            Some(name) => Ok(vec![(name.clone(), without_end(text))]),
            None => match last_of_each(dotenv::read(&text)) {
                found if found.is_empty() => Err(EnvError::NoVariables { from }),
                found => Ok(found),
            },
        };
    }
    let name = set.name.clone().unwrap_or_default();
    if let Some(value) = &set.value {
        return Ok(vec![(name, value.clone())]);
    }
    if let Some((name, value)) = name.split_once('=') {
        return Ok(vec![(name.to_owned(), value.to_owned())]);
    }
    if io::stdin().is_terminal() {
        return Err(EnvError::NoValue { name });
    }
    let mut value = String::new();
    let unreadable = |cause| EnvError::Unreadable { from: "standard input".to_owned(), cause };
    io::stdin().read_to_string(&mut value).map_err(unreadable)?;
    Ok(vec![(name, without_end(value))])
}

/// A file may set a variable again: the last line counts.
fn last_of_each(found: Vec<(String, String)>) -> Vec<(String, String)> {
    found.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// The text of a file without the newline that ends its last line.
fn without_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.truncate(text.len() - 1);
    }
    text
}

/// A value as a `.env` file writes it; one that none can hold as it is, which is said.
fn shown_as(name: &str, value: &str) -> String {
    dotenv::written(value).unwrap_or_else(|| {
        terminal::warning(format!(
            "{name} has a value that no .env file can hold, for its quotes, backslashes or \
             carriage returns: to read it back, take `concave env get {name}` or `--json`."
        ));
        format!("'{value}'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_at_the_end_of_a_file_is_not_part_of_the_value() {
        assert_eq!(without_end("a\n\n".into()), "a\n");
        assert_eq!(without_end("a".into()), "a");
    }

    #[test]
    fn the_last_line_of_a_file_that_sets_a_variable_counts() {
        let found = last_of_each(dotenv::read("A=1\nB=2\nA=3"));
        assert_eq!(found, [("A".to_owned(), "3".to_owned()), ("B".to_owned(), "2".to_owned())]);
    }
}
