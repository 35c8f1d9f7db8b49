//! An import in one request (`convex-compat.md` section 6.13): the body is the file, and nobody is
//! asked.
//!
//! In: a file, and what to do with it in the URL. Out: how many documents came. Invariant: as of
//! any import; the row of it is there too.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use database::error::UserError;
use database::memory::OUT_OF_MEMORY;
use serde_json::json;

use super::{Wanted, delete, perform, prepare, receive, state};
use crate::archive::ArchiveError;
use crate::convex::json as answer;
use crate::files::FileError;
use crate::host::Host;
use crate::refusal::Failure;
use crate::request;

/// `POST /api/import?tableName=&componentPath=&format=&mode=`
pub(crate) async fn once(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    host.admin_key.require(&head, None)?;
    let wanted: Wanted = request::parameters(&head.uri)?;
    wanted.check()?;
    host.imports.tidy(&host);
    // It counts among the imports under way from its first byte on.
    let token = host.files.fresh_name().to_string();
    host.imports.begin(&token, host.config.world.now())?;
    let received = receive(&host, body).await;
    host.imports.take_upload(&token, &[])?;
    let blob = received?;
    let id = match state::add(&host, &wanted).await {
        Ok(id) => id,
        Err(failure) => {
            delete(&host, vec![blob]).await;
            return Err(failure);
        }
    };
    host.imports.enter(id, vec![blob], host.config.world.now());
    let work = move || {
        prepare::prepare(&host, id, &wanted, &[blob]).map_err(failure)?;
        // Somebody may have canceled it in this moment.
        let prepared = host.imports.confirm(&id.encode())?;
        perform::perform(&host, *prepared, || ()).map_err(failure)
    };
    let done = tokio::task::spawn_blocking(work).await;
    let written = done.map_err(|_| {
        let text = "The import ended without a result. Nothing was imported.";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", text)
    })??;
    Ok(answer(json!({ "numWritten": written }).to_string()))
}

fn failure(error: ArchiveError) -> Failure {
    match error {
        ArchiveError::Wrong(UserError { code: OUT_OF_MEMORY, message, .. }) => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, OUT_OF_MEMORY, message)
        }
        ArchiveError::Wrong(error) => error.into(),
        ArchiveError::Store(error) => FileError::from(error).into(),
        ArchiveError::Io(error) => FileError::Store(error.into()).into(),
    }
}
