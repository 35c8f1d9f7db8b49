//! Where bytes are kept: files of the application, behind one trait.
//!
//! In: bytes and their names. Out: the same bytes.
//! Invariant: a blob is visible whole or not at all.
#![forbid(unsafe_code)]
