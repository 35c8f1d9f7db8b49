//! jemalloc, which V8, SQLite and Rust share: how it gives memory back.
//!
//! In: nothing. Out: freed pages for the system. Invariant: nothing here changes what is allocated;
//! a control that fails leaves everything as it was.

use std::ffi::CStr;
use std::ptr;

use tikv_jemalloc_sys::mallctl;

/// Has threads of its own give freed pages back after a while: without them that happens only when
/// somebody allocates, so an idle process would keep what it has.
pub fn give_back_when_idle() {
    write(c"background_thread", true);
}

/// Gives all freed pages back now.
pub fn give_back() {
    // 4096 stands for all arenas.
    let purge = c"arena.4096.purge";
    // SAFETY: a control that neither takes nor gives a value.
    unsafe { mallctl(purge.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0) };
}

fn write<T: Copy>(name: &CStr, mut value: T) {
    let new = ptr::from_mut(&mut value).cast();
    // SAFETY: jemalloc reads as many bytes as it is told, and refuses another number than it wants.
    unsafe { mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), new, size_of::<T>()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_its_own_are_on() {
        give_back_when_idle();
        let (mut on, mut size) = (false, size_of::<bool>());
        let old = ptr::from_mut(&mut on).cast();
        let name = c"background_thread".as_ptr();
        // SAFETY: jemalloc writes at most `size` bytes, which is what `on` has.
        let failed = unsafe { mallctl(name, old, &raw mut size, ptr::null_mut(), 0) };
        assert!(failed == 0 && on);
        give_back();
    }
}
