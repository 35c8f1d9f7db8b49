//! `concave run`: call one function of a running host, as its operator.
//!
//! In: a function's path and JSON arguments. Out: its result as JSON on standard output, its log
//! lines on standard error. Invariant: standard output holds the result and nothing else.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundler::Project;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::client::{Client, ClientError};
use super::system::plain;
use super::target::{Target, TargetError};
use super::{json5, terminal};

/// Call a query, mutation or action of a running host, internal ones too
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave run shop:getItems
  concave run stock:add '{name: \"Pin\", price: 3, stock: 7}'
  concave run api.messages.list '{\"channel\": \"…\"}' | jq '.page'
  concave run shop:getItems --at 1700000000000000000      a query as of then, from `concave history`
  concave run lib:listNames --component workflow/workpool       a function of a component
  concave run users:me --identity '{\"subject\": \"ada\", \"issuer\": \"https://example.com\"}'

Values that JSON lacks are written as Convex encodes them: {\"$integer\": \"AQAAAAAAAAA=\"}; NaN,
Infinity and -0 as in JavaScript.")]
pub struct Arguments {
    /// The function: dir/module:name, api.dir.module.name, or convex/dir/module.ts:name
    path: String,
    /// Its argument, an object of JSON or JSON5
    #[arg(default_value = "{}", value_name = "ARGS_JSON")]
    args: String,
    /// Of this component: the names joined by "/", like workflow/workpool
    #[arg(long, value_name = "PATH")]
    component: Option<String>,
    /// Call as this user: a JSON object with subject and issuer
    #[arg(long, value_name = "JSON")]
    identity: Option<String>,
    /// A query as of this moment: nanoseconds or milliseconds since 1970, within the history kept
    #[arg(long, value_name = "TIMESTAMP")]
    at: Option<u64>,
    #[command(flatten)]
    target: Target,
}

/// Why there is no result.
#[derive(Debug, Error)]
pub enum RunError {
    /// The argument is not JSON.
    #[error(
        "The arguments are not a JSON object: {cause}. Write them like '{{\"name\": \"Ada\"}}'."
    )]
    Arguments {
        /// Where and why.
        cause: String,
    },
    /// The identity is not one.
    #[error(
        "The identity is not a JSON object with subject and issuer: {cause}. Write it like \
         '{{\"subject\": \"ada\", \"issuer\": \"https://example.com\"}}'."
    )]
    Identity {
        /// Where and why.
        cause: String,
    },
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// The function failed.
    #[error("{message}")]
    Function {
        /// Its error, with the place in the source.
        message: String,
    },
}

/// What `/api/function` answers (`convex-compat.md` section 4.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    error_message: String,
    error_data: Option<Value>,
    #[serde(default)]
    log_lines: Vec<String>,
}

/// Calls the function and prints what it returns.
///
/// # Errors
/// See [`RunError`].
pub async fn run(arguments: Arguments) -> Result<(), RunError> {
    let folder = env::current_dir().unwrap_or_default();
    let path = function_path(&arguments.path, &Place::of(&folder));
    let args = json5::object(&arguments.args).map_err(|cause| RunError::Arguments { cause })?;
    let mut client = Client::new(arguments.target.resolve(&folder)?)?;
    if let Some(text) = &arguments.identity {
        client.act_as(&identity(text)?.to_string());
    }
    let component = arguments.component.as_deref().unwrap_or_default();
    let mut body = json!({
        "path": path, "args": args, "format": "convex_encoded_json", "componentPath": component,
    });
    let endpoint = match arguments.at {
        None => "/api/function",
        Some(at) => {
            body["ts"] = STANDARD.encode(nanoseconds(at).to_le_bytes()).into();
            "/api/query_at_ts"
        }
    };
    let answer: Answer = client.post(endpoint, &body).await?;
    for line in &answer.log_lines {
        terminal::news(line);
    }
    if answer.status != "success" {
        let mut message = explain(&client, component, &answer).await;
        if arguments.at.is_some() && message.contains("but it is defined as") {
            message
                .push_str("\nOnly queries can be called as of an earlier moment: leave --at out.");
        }
        return Err(RunError::Function { message });
    }
    terminal::data(pretty(answer.value));
    Ok(())
}

/// What JavaScript and people write has milliseconds; commits have nanoseconds.
fn nanoseconds(at: u64) -> u64 {
    const LATEST_MS: u64 = 1 << 50;
    if at < LATEST_MS { at.saturating_mul(1_000_000) } else { at }
}

/// Where function files are.
struct Place {
    /// From the project's root, with a slash at its end: `convex/`.
    prefix: String,
    dir: PathBuf,
}

impl Place {
    /// Of the project in a folder; `convex/` where there is none to ask.
    fn of(folder: &Path) -> Self {
        let found = Project::find(folder).ok().and_then(|project| {
            let inside = project.functions_dir.strip_prefix(&project.root).ok()?;
            Some((inside.to_string_lossy().replace('\\', "/"), project.functions_dir))
        });
        let (inside, dir) = found.unwrap_or_else(|| ("convex".to_owned(), folder.join("convex")));
        let prefix = if inside.is_empty() { inside } else { inside + "/" };
        Self { prefix, dir }
    }
}

/// `api.a.b.fn` and `convex/a/b.ts:fn` as `a/b:fn`; everything else as it is.
fn function_path(text: &str, place: &Place) -> String {
    let reference = text.strip_prefix("api.").or_else(|| text.strip_prefix("internal."));
    match reference.and_then(|reference| reference.rsplit_once('.')) {
        Some((module, export)) if !module.contains(':') => {
            format!("{}:{export}", module.replace('.', "/"))
        }
        _ => of_file(text, place),
    }
}

/// The path in a text that may name a file, as a shell completes it. A folder in the functions
/// folder may have that folder's name: what is in there comes first, as in Convex's command line.
fn of_file(text: &str, Place { prefix, dir }: &Place) -> String {
    const EXTENSIONS: [&str; 8] = [".ts", ".js", ".tsx", ".jsx", ".mts", ".mjs", ".cts", ".cjs"];
    let (file, export) = text.split_once(':').unwrap_or((text, "default"));
    let file = file.strip_prefix("./").unwrap_or(file);
    let extension = EXTENSIONS.iter().find(|extension| file.ends_with(*extension));
    let module = extension.and_then(|end| file.strip_suffix(end)).unwrap_or(file);
    let is_there = || match extension {
        Some(_) => dir.join(file).exists(),
        None => EXTENSIONS.iter().any(|end| dir.join(format!("{file}{end}")).exists()),
    };
    let outside = module.strip_prefix(prefix.as_str()).filter(|_| !is_there());
    format!("{}:{export}", outside.unwrap_or(module))
}

/// The identity with the fields that the host needs.
fn identity(text: &str) -> Result<Value, RunError> {
    let wrong = |cause: String| RunError::Identity { cause };
    let mut identity = json5::object(text).map_err(wrong)?;
    let field = |name: &str| match identity[name].as_str() {
        Some(value) => Ok(value.to_owned()),
        None => Err(wrong(format!("{name} is missing"))),
    };
    let token = format!("{}|{}", field("issuer")?, field("subject")?);
    if identity["tokenIdentifier"].is_null() {
        identity["tokenIdentifier"] = json!(token);
    }
    Ok(identity)
}

fn pretty(value: Value) -> String {
    serde_json::to_string_pretty(&plain(value)).expect("JSON that was read can be written")
}

/// The function's error, a ConvexError's data, and for a missing function the ones there are.
async fn explain(client: &Client, component: &str, answer: &Answer) -> String {
    let mut text = answer.error_message.trim_end().to_owned();
    if let Some(data) = &answer.error_data {
        let _ = write!(text, "\nData: {}", pretty(data.clone()));
    }
    if text.contains("Could not find") {
        let names = functions(client, component).await;
        let owner = match component {
            "" => "This deployment".to_owned(),
            path => format!("The component {path:?}"),
        };
        if !names.is_empty() {
            let _ = write!(text, "\n{owner} has:\n  {}", names.join("\n  "));
        }
    }
    text
}

async fn functions(client: &Client, component: &str) -> Vec<String> {
    let path = "_system/cli/modules:apiSpec";
    let body = json!({ "path": path, "args": {}, "componentPath": component });
    let Ok(answer) = client.post::<Answer>("/api/query", &body).await else {
        // The error about the missing function is the news; the list is a courtesy.
        return Vec::new();
    };
    let name = |function: &Value| Some(function["identifier"].as_str()?.replace(".js:", ":"));
    answer.value.as_array().into_iter().flatten().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_become_nanoseconds_and_none_wrap_around() {
        assert_eq!(nanoseconds(1_700_000_000_123), 1_700_000_000_123_000_000);
        assert_eq!(nanoseconds(1_700_000_000_123_000_000), 1_700_000_000_123_000_000);
        assert_eq!(nanoseconds(99_999_999_999_999), u64::MAX);
    }

    #[test]
    fn references_become_paths() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("convex/convex")).unwrap();
        std::fs::write(root.path().join("package.json"), "{}").unwrap();
        std::fs::write(root.path().join("convex/convex/in.ts"), "").unwrap();
        let place = Place::of(root.path());
        for (text, path) in [
            ("api.a.b.fn", "a/b:fn"),
            ("internal.stock.refill", "stock:refill"),
            ("a/b:fn", "a/b:fn"),
            ("messages", "messages:default"),
            ("api.js:fn", "api:fn"),
            ("./convex/a/b.ts:fn", "a/b:fn"),
            ("convex/a:fn", "a:fn"),
            ("convex/a.mjs:fn", "a:fn"),
            ("api.ts:fn", "api:fn"),
            ("convex/page.tsx", "page:default"),
            ("convex/page", "page:default"),
            ("convex/in.ts:fn", "convex/in:fn"),
            ("convex/in:fn", "convex/in:fn"),
            ("convex/convex/in:fn", "convex/in:fn"),
            ("backend/fns/a:fn", "backend/fns/a:fn"),
        ] {
            assert_eq!(function_path(text, &place), path, "{text}");
        }
        std::fs::create_dir_all(root.path().join("backend/fns")).unwrap();
        let settings = r#"{"functions": "./backend/fns/"}"#;
        std::fs::write(root.path().join("convex.json"), settings).unwrap();
        let place = Place::of(root.path());
        assert_eq!(function_path("backend/fns/a.ts:fn", &place), "a:fn");
        assert_eq!(function_path("backend/fns/a:fn", &place), "a:fn");
        assert_eq!(function_path("convex/a:fn", &place), "convex/a:fn");
        let nowhere = Place::of(Path::new("/"));
        assert_eq!(function_path("convex/a:fn", &nowhere), "a:fn");
    }

    #[test]
    fn moments_are_milliseconds_or_nanoseconds() {
        assert_eq!(nanoseconds(1_700_000_000_123), 1_700_000_000_123_000_000);
        assert_eq!(nanoseconds(1_700_000_000_123_456_789), 1_700_000_000_123_456_789);
    }

    #[test]
    fn identities_get_their_token_identifier() {
        let known = identity(r#"{"subject":"ada","issuer":"https://x"}"#).unwrap();
        assert_eq!(known["tokenIdentifier"], "https://x|ada");
        let error = identity(r#"{"subject":"ada"}"#).unwrap_err().to_string();
        assert!(error.contains("issuer is missing"), "{error}");
    }
}
