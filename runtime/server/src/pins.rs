//! Which blobs may go, and which names may be given to new ones.
//!
//! In: snapshots that somebody reads, names that an import takes, blobs whose files are deleted.
//! Out: what can be deleted. Invariant: a blob stays while the newest snapshot or a pinned one
//! shows it; a name that is taken is its taker's alone until it is given up.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use database::snapshot::Snapshot;
use storage::{BlobError, BlobId};

use crate::files::Files;

/// A snapshot whose files are kept for as long as this lives.
pub(crate) struct Pinned(pub(crate) Arc<Snapshot>);

/// What must stay although the history has forgotten it.
#[derive(Default)]
pub(crate) struct Pins {
    snapshots: Vec<Weak<Pinned>>,
    /// Blobs that go when no snapshot here shows them.
    waiting: Vec<String>,
    /// Names of blobs that are not files yet.
    taken: BTreeSet<BlobId>,
}

impl Pins {
    /// Keeps the files of a snapshot.
    pub(crate) fn pin(&mut self, snapshot: Arc<Snapshot>) -> Arc<Pinned> {
        let pinned = Arc::new(Pinned(snapshot));
        self.snapshots.push(Arc::downgrade(&pinned));
        pinned
    }

    /// Takes a name; says whether it was free.
    pub(crate) fn take(&mut self, name: BlobId) -> bool {
        self.taken.insert(name)
    }

    /// Names that are nobody's any more, or files' by now.
    pub(crate) fn give_up(&mut self, names: &[BlobId]) {
        for name in names {
            self.taken.remove(name);
        }
    }

    /// Sorts out what must stay, and what can go.
    pub(crate) fn release(
        &mut self,
        names: impl IntoIterator<Item = String>,
        newest: &Snapshot,
    ) -> Vec<BlobId> {
        self.snapshots.retain(|pin| pin.strong_count() > 0);
        let pinned: Vec<_> = self.snapshots.iter().filter_map(Weak::upgrade).collect();
        let shows = |snapshot: &Snapshot, name: &str| {
            let mut components = snapshot.components();
            components.any(|component| snapshot.file_of_blob(component, name).is_some())
        };
        let all = std::mem::take(&mut self.waiting).into_iter().chain(names);
        let (stay, go): (Vec<_>, Vec<_>) =
            all.partition(|name| pinned.iter().any(|pinned| shows(&pinned.0, name)));
        self.waiting = stay;
        // An import may have brought a file back, or be about to.
        let go = go.iter().filter(|name| !shows(newest, name));
        let go = go.filter_map(|name| name.parse().ok());
        go.filter(|name| !self.taken.contains(name)).collect()
    }
}

/// Blobs that are to be files. Dropped before they are, they are deleted.
pub(crate) struct Claims {
    files: Arc<Files>,
    names: Vec<BlobId>,
}

impl Claims {
    /// None yet.
    pub(crate) fn new(files: &Arc<Files>) -> Self {
        Self { files: Arc::clone(files), names: Vec::new() }
    }

    /// A name for a new blob: the wanted one, if no blob has it and nobody else is about to.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn claim(&mut self, wanted: Option<BlobId>) -> Result<BlobId, BlobError> {
        let wanted = match wanted {
            Some(name) if self.files.take_name(name)? => Some(name),
            _ => None,
        };
        let name = wanted.unwrap_or_else(|| self.files.fresh_name());
        self.names.push(name);
        Ok(name)
    }

    /// They are files now, and go as files do.
    pub(crate) fn committed(mut self) {
        self.files.give_names_up(&std::mem::take(&mut self.names), false);
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.files.give_names_up(&self.names, true);
    }
}
