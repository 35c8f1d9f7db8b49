//! `ctx.storage` in queries and mutations (`convex-compat.md` section 1.7).
//!
//! In: ids of files; in mutations bytes, as base64. Out: URLs, metadata, bytes.
//! Invariant: what a function learns about a file is a recorded read of its row, so a query that
//! showed a URL runs again when the file is deleted.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use data_encoding::HEXLOWER;
use database::environment::CLOUD_URL;
use database::error::UserError;
use database::files::{NewFile, StoredFile, url_suffix};
use database::limits;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use storage::{BlobId, UploadGrant};

use super::write::may_write;
use super::{Answer, parse};
use crate::execution::Execution;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfFile<'a> {
    #[serde(borrow)]
    storage_id: Cow<'a, str>,
}

pub(super) fn url(execution: &mut Execution, arguments: &str) -> Answer {
    let Some(file) = file(execution, "storage.getUrl", arguments)? else { return null() };
    let origin = origin(execution);
    let component = url_suffix(&execution.component());
    Ok(json!(format!("{origin}/api/storage/{}{component}", file.blob)).to_string())
}

/// The older form of the `_storage` document.
pub(super) fn metadata(execution: &mut Execution, arguments: &str) -> Answer {
    let Some(file) = file(execution, "storage.getMetadata", arguments)? else { return null() };
    let sha256 = HEXLOWER.encode(&file.sha256);
    Ok(json!({
        "storageId": file.id.encode(),
        "sha256": sha256,
        "size": file.size,
        "contentType": file.content_type,
    })
    .to_string())
}

pub(super) fn upload_url(execution: &mut Execution, _arguments: &str) -> Answer {
    may_write(execution, "storage.generateUploadUrl")?;
    let expires = execution.given.now + limits::UPLOAD_URL_MS * 1_000_000;
    let component = execution.component().to_string();
    let nonce = random(execution);
    let token = execution.files.tokens().issue(&UploadGrant { component, expires }, nonce);
    let origin = origin(execution);
    Ok(json!(format!("{origin}/api/storage/upload?token={token}")).to_string())
}

pub(super) fn delete(execution: &mut Execution, arguments: &str) -> Answer {
    may_write(execution, "storage.delete")?;
    let args: OfFile<'_> = parse("storage.delete", arguments)?;
    let component = execution.component();
    execution.transaction.delete_file(&component, &args.storage_id, "storage.delete")?;
    null()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Store<'a> {
    #[serde(borrow)]
    blob: Cow<'a, str>,
    content_type: Option<String>,
    #[serde(borrow)]
    sha256: Option<Cow<'a, str>>,
}

pub(super) fn store(execution: &mut Execution, arguments: &str) -> Answer {
    may_write(execution, "storage.store")?;
    let Store { blob, content_type, sha256 } = parse("storage.store", arguments)?;
    let bytes = STANDARD.decode(&*blob).map_err(|error| {
        let text = format!("Invalid argument `blob` for `storage.store`: {error}");
        UserError::new("InvalidArgument", text)
    })?;
    let size = bytes.len() as u64;
    execution.transaction.count_file_written(size)?;
    let hash: [u8; 32] = Sha256::digest(&bytes).into();
    if let Some(promised) = sha256 {
        check_hash(&promised, &hash)?;
    }
    let id = BlobId::from_random(random(execution));
    let name = id.to_string();
    let content_type = content_type.as_deref().filter(|text| !text.is_empty());
    let file = NewFile { blob: &name, sha256: hash, size, content_type };
    let component = execution.component();
    let stored = execution.transaction.store_file(&component, file)?;
    execution.files.store(id, bytes);
    Ok(json!(stored.encode()).to_string())
}

pub(super) fn get(execution: &mut Execution, arguments: &str) -> Answer {
    may_write(execution, "storage.get")?;
    let Some(file) = file(execution, "storage.get", arguments)? else { return null() };
    execution.transaction.count_file_read(file.size)?;
    let Some(bytes) = execution.files.read(&file)? else { return null() };
    Ok(json!({ "blob": STANDARD.encode(bytes), "contentType": file.content_type }).to_string())
}

fn file(
    execution: &mut Execution,
    operation: &str,
    arguments: &str,
) -> Result<Option<StoredFile>, UserError> {
    let args: OfFile<'_> = parse(operation, arguments)?;
    let component = execution.component();
    execution.transaction.file(&component, &args.storage_id, operation)
}

/// The origin of the API, which is an environment variable like any other.
fn origin(execution: &mut Execution) -> String {
    let origin = execution.transaction.environment_variable(CLOUD_URL);
    origin.map_or_else(String::new, |origin| origin.to_string())
}

/// Bytes that nobody outside can guess: the call's seed is secret.
fn random(execution: &mut Execution) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&execution.nested_seed()[..16]);
    bytes
}

fn check_hash(promised: &str, found: &[u8; 32]) -> Result<(), UserError> {
    let hex = HEXLOWER.encode(found);
    let base64 = STANDARD.encode(found);
    if promised.eq_ignore_ascii_case(&hex)
        || promised == base64
        || promised == URL_SAFE.encode(found)
    {
        return Ok(());
    }
    let text = format!(
        "The file was not stored: its SHA-256 is {base64}, and {promised:?} was promised. Write \
         it in base64 or in hexadecimal digits."
    );
    Err(UserError::new("Sha256Mismatch", text))
}

fn null() -> Answer {
    Ok("null".to_owned())
}
