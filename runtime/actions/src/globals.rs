//! The globals of an action.
//!
//! In: deno_web's scripts. Out: extensions with their ops, and scripts that put classes on the
//! global object. Invariant: the same set and order in the process that makes the snapshot and in
//! those that load it.

use std::sync::Arc;

use deno_core::Extension;

/// The extensions whose ops the globals need.
pub(crate) fn extensions() -> Vec<Extension> {
    let blobs = Arc::new(deno_web::BlobStore::default());
    let channel = deno_web::InMemoryBroadcastChannel::default();
    vec![
        deno_webidl::deno_webidl::init(),
        deno_web::deno_web::init(blobs, None, false, channel),
        crate::crypto::extension(),
        crate::fetch::extension(),
    ]
}

/// Scripts that define globals, by name, in order; they find `__bootstrap` and `__concave`.
pub(crate) const SCRIPTS: &[(&str, &str)] =
    &[("concave:/actions/50_globals.js", include_str!("../../../js/actions/50_globals.js"))];
