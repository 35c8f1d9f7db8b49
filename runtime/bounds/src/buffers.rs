//! The bytes of `ArrayBuffer`s: counted, and bounded.
//!
//! In: what V8 wants to allocate. Out: memory, or none, which JavaScript sees as a `RangeError`.
//! Invariant: what is counted is what V8 holds; it never passes the limit.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What JavaScript finds in memory that it did not ask to be zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uninitialized {
    /// Zeroes: whatever was there before would be a source of nondeterminism.
    Zeroed,
    /// What was there.
    AsItIs,
}

/// The count of one isolate, for all threads.
pub struct Buffers {
    bytes: AtomicUsize,
    limit: usize,
    uninitialized: Uninitialized,
}

impl Buffers {
    /// For at most so many bytes at a time.
    #[must_use]
    pub fn new(limit: usize, uninitialized: Uninitialized) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), limit, uninitialized })
    }

    /// An allocator for the isolate that counts here.
    #[must_use]
    pub fn allocator(self: &Arc<Self>) -> v8::UniqueRef<v8::Allocator> {
        static VTABLE: v8::RustAllocatorVtable<Buffers> =
            v8::RustAllocatorVtable { allocate, allocate_uninitialized, free, drop: drop_count };
        // SAFETY: the handle is a strong count that `drop_count` gives back, and the vtable's
        // functions take what `Arc::into_raw` gave.
        unsafe { v8::new_rust_allocator(Arc::into_raw(Arc::clone(self)), &VTABLE) }
    }

    /// Whether they take so much that V8 collects because of them.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= self.limit / 4
    }

    /// Counts `length` bytes in, or says no.
    fn reserve(&self, length: usize) -> bool {
        let before = self.bytes.fetch_add(length, Ordering::AcqRel);
        let fits = before.checked_add(length).is_some_and(|total| total <= self.limit);
        if !fits {
            self.bytes.fetch_sub(length, Ordering::AcqRel);
        }
        fits
    }
}

unsafe extern "C" fn allocate(buffers: &Buffers, length: usize) -> *mut c_void {
    if !buffers.reserve(length) {
        return std::ptr::null_mut();
    }
    // SAFETY: calloc takes any sizes; null is V8's own sign of failure (a RangeError).
    unsafe { libc::calloc(length.max(1), 1) }
}

unsafe extern "C" fn allocate_uninitialized(buffers: &Buffers, length: usize) -> *mut c_void {
    if buffers.uninitialized == Uninitialized::Zeroed {
        // SAFETY: as `allocate`.
        return unsafe { allocate(buffers, length) };
    }
    if !buffers.reserve(length) {
        return std::ptr::null_mut();
    }
    // SAFETY: as calloc above.
    unsafe { libc::malloc(length.max(1)) }
}

unsafe extern "C" fn free(buffers: &Buffers, data: *mut c_void, length: usize) {
    buffers.bytes.fetch_sub(length, Ordering::AcqRel);
    // SAFETY: `data` came from calloc or malloc above.
    unsafe { libc::free(data) };
}

unsafe extern "C" fn drop_count(buffers: *const Buffers) {
    // SAFETY: gives back the count that `allocator` took.
    drop(unsafe { Arc::from_raw(buffers) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_counted_in_and_out() {
        let buffers = Buffers::new(100, Uninitialized::AsItIs);
        assert!(buffers.reserve(60));
        assert!(!buffers.reserve(60), "the limit is 100");
        assert!(!buffers.reserve(usize::MAX), "sums that overflow do not fit");
        assert!(buffers.reserve(40));
    }

    #[test]
    fn what_is_given_back_fits_again() {
        let buffers = Buffers::new(100, Uninitialized::Zeroed);
        // SAFETY: a block is freed once, with its own length, and read within it.
        unsafe {
            let block = allocate_uninitialized(&buffers, 100);
            assert!(!block.is_null());
            let bytes = std::slice::from_raw_parts(block.cast::<u8>(), 100);
            assert!(bytes.iter().all(|byte| *byte == 0), "zeroed, as it was asked to be");
            assert!(allocate(&buffers, 1).is_null(), "it is full");
            free(&buffers, block, 100);
            let block = allocate(&buffers, 1);
            assert!(!block.is_null());
            free(&buffers, block, 1);
        }
    }
}
