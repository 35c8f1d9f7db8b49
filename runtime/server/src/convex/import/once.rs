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

use super::{Wanted, enter, lost, perform, prepare, receive, to_its_end};
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
    let place = Place { host: Arc::clone(&host), token };
    let incoming = receive(&host, body).await?;
    let written = to_its_end(async move {
        let blob = incoming.keep_blob().await?;
        let id = enter(&host, &wanted, &[blob]).await?;
        drop(place);
        let work = move || {
            prepare::prepare(&host, id, &wanted, &[blob]).map_err(failure)?;
            // Somebody may have canceled it in this moment.
            let prepared = host.imports.confirm(&id.encode())?;
            perform::perform(&host, *prepared, || ()).map_err(failure)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(lost()))
    });
    Ok(answer(json!({ "numWritten": written.await? }).to_string()))
}

/// Place among the imports under way, for as long as the bytes come.
struct Place {
    host: Arc<Host>,
    token: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        // After an hour it is gone already.
        let _ = self.host.imports.take_upload(&self.token, &[]);
    }
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
