//! What actions may ask of a host beside functions: scheduler, files, environment variables.
//!
//! In: an operation's JSON arguments, streams of bytes. Out: JSON text, streams of bytes.
//! Invariant: each is committed before it is answered: an action has no transaction of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use ::actions::pool::{Reply, Syscall};
use data_encoding::HEXLOWER;
use database::commit::{Database, Writer};
use database::components::Bindings;
use database::error::UserError;
use database::record::{Arguments, FunctionPath, Functions, Job, World};
use database::scheduling::{self, NewJob};
use functions::address::Address;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use server::{Files, InnerCalls, Outgoing, Promised, parse_sha256};

use super::calls::{parse, thrown};

/// The parts of a host that actions reach.
pub struct Services {
    /// The functions; they hold what runs actions, so it holds them weakly.
    pub functions: Weak<dyn Functions>,
    /// Where jobs are written.
    pub database: Arc<Database>,
    /// The clock.
    pub world: Arc<dyn World>,
    /// Stored files.
    pub files: Arc<Files>,
    /// Who is told of the functions that actions call.
    pub inner: Arc<InnerCalls>,
}

/// Who asks.
pub(super) struct Asking<'a> {
    /// Its function.
    pub(super) path: &'a FunctionPath,
    /// Names its request.
    pub(super) request_id: &'a Arc<str>,
    /// The job that it is, or on whose behalf it runs.
    pub(super) job: Option<Job>,
}

impl Asking<'_> {
    fn writer(&self) -> Writer {
        Writer::new(self.path.identifier(), Arc::clone(self.request_id))
    }
}

#[derive(Deserialize)]
struct Schedule<'a> {
    /// Seconds since the Unix epoch; null where JavaScript had NaN or an infinity.
    ts: Option<f64>,
    #[serde(borrow)]
    args: &'a RawValue,
}

#[derive(Deserialize)]
struct Cancel<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfFile<'a> {
    #[serde(borrow)]
    storage_id: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    content_type: Option<String>,
    sha256: Option<String>,
}

impl Services {
    /// `process.env` of a run that begins now: of a component's what its parent bound.
    pub(super) fn environment(&self, bound: Option<&Bindings>) -> Arc<BTreeMap<String, String>> {
        let snapshot = self.database.snapshot();
        let variables = snapshot.environment();
        let Some(bound) = bound else { return Arc::new(super::by_name(variables)) };
        let values = bound.iter().filter_map(|(name, binding)| {
            let value = binding.value(|of_app| variables.get(of_app).cloned())?;
            Some((name.clone(), value.to_string()))
        });
        Arc::new(values.collect())
    }

    /// Schedules or cancels; blocks while a commit is under way.
    pub(super) fn scheduler(&self, asking: &Asking<'_>, op: &str, json: &str) -> Answer {
        let (database, world) = (&*self.database, &*self.world);
        let component = &asking.path.component;
        if op == "1.0/actions/cancel_job" {
            let Cancel { id } = parse(json)?;
            scheduling::cancel(database, world, (component, &id), asking.writer())?;
            return Ok("null".to_owned());
        }
        let path = parse::<Address<'_>>(json)?.path(&database.snapshot(), component)?;
        let Schedule { ts, args } = parse(json)?;
        let args = Arguments::parse(&path, args.get())?;
        let (from, at) = (Arc::clone(component), ts.unwrap_or(f64::NAN));
        let job = NewJob { from, path, args, at, by: asking.job };
        let id = scheduling::schedule(database, world, job, asking.writer())?;
        Ok(json!(id.encode()).to_string())
    }

    /// What needs no bytes of a file.
    pub(super) fn storage(&self, component: &str, op: &str, json: &str) -> Answer {
        if op == "1.0/storageGenerateUploadUrl" {
            return Ok(json!(self.files.generate_upload_url(component)).to_string());
        }
        let OfFile { storage_id } = parse(json)?;
        match op {
            "1.0/storageGetUrl" => Ok(json!(self.files.url(component, &storage_id)?).to_string()),
            "1.0/storageDelete" => {
                self.files.delete(component, &storage_id)?;
                Ok("null".to_owned())
            }
            _ => {
                let found = self.files.metadata(component, &storage_id)?;
                let described = found.map(|file| {
                    let sha256 = HEXLOWER.encode(&file.sha256);
                    json!({
                        "storageId": file.id.encode(),
                        "sha256": sha256,
                        "size": file.size,
                        "contentType": file.content_type,
                    })
                });
                Ok(json!(described).to_string())
            }
        }
    }

    /// `ctx.storage.store` and `ctx.storage.get`.
    pub(crate) async fn file(&self, component: &str, syscall: Syscall) -> Reply {
        let done = match syscall.op.as_str() {
            "storage/storeBlob" => self.store(component, syscall).await,
            _ => self.get(component, &syscall.json).await,
        };
        done.unwrap_or_else(thrown)
    }

    async fn store(&self, component: &str, syscall: Syscall) -> Result<Reply, UserError> {
        let Syscall { json, body, .. } = syscall;
        let Store { content_type, sha256 } = parse(&json)?;
        let invalid = || UserError::new("InvalidSha256", "`sha256` is no SHA-256 hash.");
        let sha256 = sha256.map(|text| parse_sha256(&text).ok_or_else(invalid)).transpose()?;
        let content_type = content_type.filter(|kind| !kind.is_empty());
        let promised = Promised { content_type, sha256 };
        let body = body.ok_or_else(|| UserError::new("NoBody", "There are no bytes to store."))?;
        let id = self.files.store(component, body, promised).await.map_err(told)?;
        Ok(Reply::json(json!(id).to_string()))
    }

    async fn get(&self, component: &str, json: &str) -> Result<Reply, UserError> {
        let OfFile { storage_id } = parse(json)?;
        let found = self.files.get(component, &storage_id).await.map_err(told)?;
        let Some(Outgoing { file, body }) = found else { return Ok(Reply::json("null")) };
        let described = json!({ "contentType": file.content_type }).to_string();
        Ok(Reply { result: Ok(described), body: Some(body), lines: Vec::new() })
    }
}

type Answer = Result<String, UserError>;

fn told(error: server::FileError) -> UserError {
    match error {
        server::FileError::User(error) => error,
        other => UserError::new("StorageFailed", other.to_string()),
    }
}
