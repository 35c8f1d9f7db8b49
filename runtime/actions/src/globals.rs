//! The globals of an action.
//!
//! In: deno_web's scripts. Out: extensions with their ops, scripts that put names on the global
//! object, and those that are run when a name is touched. Invariant: the same set and order in the
//! process that makes the snapshot and in those that load it.

use std::borrow::Cow;
use std::sync::Arc;

use deno_core::Extension;

/// Ops of deno_web that no action can reach: each costs every isolate and context something.
const UNUSED: &[&str] = &[
    "op_broadcast_",
    "op_compression_",
    "op_console_",
    "op_geometry_",
    "op_lock_manager_",
    "op_readable_stream_resource_",
];

/// The extensions whose ops the globals need.
pub(crate) fn extensions() -> Vec<Extension> {
    let blobs = Arc::new(deno_web::BlobStore::default());
    let channel = deno_web::InMemoryBroadcastChannel::default();
    let web = deno_web::deno_web::init(blobs, None, false, channel);
    let is_used = |name: &str| !UNUSED.iter().any(|prefix| name.starts_with(prefix));
    let ops = web.ops.iter().filter(|op| is_used(op.name)).copied().collect();
    vec![
        deno_webidl::deno_webidl::init(),
        // The objects are geometry, style sheets and images.
        Extension { ops, objects: Cow::Borrowed(&[]), ..web },
        crate::crypto::extension(),
        crate::fetch::extension(),
    ]
}

/// Scripts that define globals, by name, in order; they find `__bootstrap` and `__concave`.
pub(crate) const SCRIPTS: &[(&str, &str)] =
    &[("concave:/actions/50_globals.js", include_str!("../../../js/actions/50_globals.js"))];
