//! Room in a store that is full.
//!
//! In: whoever can make some. Out: the same for whoever needs some. Invariant: who asks decides
//! nothing about which blobs go.

use std::sync::OnceLock;

/// Makes room, as far as there is anything that nobody needs.
type Make = Box<dyn Fn() + Send + Sync>;

/// Where whoever stores blobs asks for room.
#[derive(Default)]
pub struct Room(OnceLock<Make>);

impl Room {
    /// Says who makes room, once; it may block as long as a disk does.
    pub fn answer(&self, make: impl Fn() + Send + Sync + 'static) {
        let first = self.0.set(Box::new(make)).is_ok();
        assert!(first, "the files of a store belong to one host");
    }

    /// Makes room, if anybody can.
    pub fn make(&self) {
        self.0.get().into_iter().for_each(|make| make());
    }
}
