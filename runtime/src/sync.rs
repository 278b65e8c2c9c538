//! The shared-memory primitives that the mesh is written against: the standard library's, or loom's
//! under `--cfg loom`, so that the very same sources run in `loom-tests/`.
//!
//! Caller: `mesh/` only. Everything else in this workspace is single-threaded per column and needs none of it.
//! Invariant: nothing here behaves differently from the standard library in a normal build; the cell
//! only forces the closure style that loom can watch.

#[cfg(loom)]
pub use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    },
};
#[cfg(not(loom))]
pub use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};

/// `std::cell::UnsafeCell` with loom's interface: the pointer lives only inside the closure.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    #[inline]
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Calls `f` with a pointer for reading. Dereferencing it is the caller's `unsafe`.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Calls `f` with a pointer for writing. Dereferencing it is the caller's `unsafe`.
    #[inline]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Keeps its content alone on a pair of cache lines: 128 bytes, because x86 prefetches lines in pairs
/// and some aarch64 cores have lines of that size.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_an_array_share_no_line() {
        let two = [Padded(AtomicUsize::new(1)), Padded(AtomicUsize::new(2))];
        let distance_bytes = std::ptr::from_ref(&two[1]).addr() - std::ptr::from_ref(&two[0]).addr();
        assert_eq!(distance_bytes, 128);
    }
}
