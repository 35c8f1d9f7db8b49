//! One stored version of a document: immutable, shared by every index and snapshot that holds it.
//!
//! In: a value that was checked. Out: the encoded text, as V8 receives it, and the decoded value.
//! Invariant: the text is canonical and contains `_id` and `_creationTime`, so equal documents have
//! equal texts.

use crate::id::DocumentId;
use crate::json;
use crate::value::Value;

/// A version of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its id, which holds the number of its table.
    pub id: DocumentId,
    /// `_creationTime`: milliseconds since the Unix epoch.
    pub creation_time: f64,
    /// Size of the value, in bytes (`convex-compat.md` section 2.3).
    pub size: u32,
    json: Box<str>,
}

impl Document {
    /// Encodes an object that already carries its system fields.
    pub fn new(id: DocumentId, creation_time: f64, value: &Value) -> Self {
        debug_assert!(value.field("_id").is_some() && value.field("_creationTime").is_some());
        let size = u32::try_from(value.size()).expect("documents are at most 1 MiB");
        Self { id, creation_time, size, json: json::encode(value).into_boxed_str() }
    }

    /// What was stored as such by [`Document::new`].
    pub(crate) fn restored(id: DocumentId, creation_time: f64, size: u32, json: &str) -> Self {
        Self { id, creation_time, size, json: json.into() }
    }

    /// Encoded JSON text with the system fields.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The decoded object with the system fields.
    pub fn value(&self) -> Value {
        json::decode(&self.json).expect("the text was made by our own encoder from a checked value")
    }

    /// Memory of this version, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + 16 + self.json.len()
    }
}
