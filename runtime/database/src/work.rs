//! The work of a call: what is counted, what it may be, what a function is told of it.
//!
//! In: counts, limits. Out: budgets. Invariant: a budget that is handed down only gets smaller, and
//! every kind of work is in each of the three.

use crate::limits;

/// Something of every kind of work, in the units of the limits table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work<T> {
    /// Documents read.
    pub documents_read: T,
    /// Bytes of documents read.
    pub bytes_read: T,
    /// Index ranges opened (`db.get` and `db.query`).
    pub ranges: T,
    /// Documents written.
    pub documents_written: T,
    /// Bytes of documents written.
    pub bytes_written: T,
    /// Functions scheduled.
    pub functions_scheduled: T,
    /// Bytes of their arguments.
    pub scheduled_bytes: T,
    /// Files whose bytes are read.
    pub files_read: T,
    /// Bytes of those.
    pub file_bytes_read: T,
    /// Files stored.
    pub files_written: T,
    /// Bytes of those.
    pub file_bytes_written: T,
}

/// How much was done.
pub type Usage = Work<u64>;

/// How much may be done.
pub type Budget = Work<u64>;

/// The database's part of `getTransactionMetrics` (`convex-compat.md` section 1.7).
pub type Metrics = Work<Metric>;

/// One line of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// So far.
    pub used: u64,
    /// Until the limit.
    pub remaining: u64,
}

impl Budget {
    /// That of every function: the limits table (`convex-compat.md` section 8.6).
    pub const LIMITS: Self = Self {
        documents_read: limits::DOCUMENTS_READ,
        bytes_read: limits::BYTES_READ,
        ranges: limits::INDEX_RANGES,
        documents_written: limits::DOCUMENTS_WRITTEN,
        bytes_written: limits::BYTES_WRITTEN,
        functions_scheduled: limits::FUNCTIONS_SCHEDULED,
        scheduled_bytes: limits::SCHEDULED_BYTES,
        files_read: limits::FILES_READ,
        file_bytes_read: limits::FILE_BYTES_READ,
        files_written: limits::FILES_WRITTEN,
        file_bytes_written: limits::FILE_BYTES_WRITTEN,
    };

    /// At most `limits` more than `used`, and never more than before.
    pub(crate) fn lowered(self, used: Self, limits: Self) -> Self {
        self.with(used.with(limits, u64::saturating_add), u64::min)
    }

    /// How much of it is used, and left.
    pub(crate) fn metrics(self, usage: Self) -> Metrics {
        usage.with(self, |used, limit| Metric { used, remaining: limit.saturating_sub(used) })
    }
}

impl<T: Copy> Work<T> {
    /// The same of every kind.
    pub(crate) const fn each(value: T) -> Self {
        Self {
            documents_read: value,
            bytes_read: value,
            ranges: value,
            documents_written: value,
            bytes_written: value,
            functions_scheduled: value,
            scheduled_bytes: value,
            files_read: value,
            file_bytes_read: value,
            files_written: value,
            file_bytes_written: value,
        }
    }

    /// Joins two, kind by kind.
    fn with<U, R>(self, other: Work<U>, join: impl Fn(T, U) -> R) -> Work<R> {
        Work {
            documents_read: join(self.documents_read, other.documents_read),
            bytes_read: join(self.bytes_read, other.bytes_read),
            ranges: join(self.ranges, other.ranges),
            documents_written: join(self.documents_written, other.documents_written),
            bytes_written: join(self.bytes_written, other.bytes_written),
            functions_scheduled: join(self.functions_scheduled, other.functions_scheduled),
            scheduled_bytes: join(self.scheduled_bytes, other.scheduled_bytes),
            files_read: join(self.files_read, other.files_read),
            file_bytes_read: join(self.file_bytes_read, other.file_bytes_read),
            files_written: join(self.files_written, other.files_written),
            file_bytes_written: join(self.file_bytes_written, other.file_bytes_written),
        }
    }
}
