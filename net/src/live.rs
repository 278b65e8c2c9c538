//! A value that the node may replace while its columns use it: certificates, tokens. Made by the node, read by `server`.
//!
//! Invariant: a column takes the lock only after a replacement; otherwise a read is one load of an atomic.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The node's end of a value that may be replaced. Clones share it.
pub struct Live<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    generation: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Live { inner: self.inner.clone() }
    }
}

impl<T> Live<T> {
    /// A value.
    pub fn new(value: T) -> Live<T> {
        let value = Mutex::new(Arc::new(value));
        Live { inner: Arc::new(Inner { generation: AtomicU64::new(0), value }) }
    }

    /// From now on it is this one; who has the old one may finish with it.
    pub fn replace(&self, value: T) {
        let mut current = self.inner.value.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(value);
        self.inner.generation.fetch_add(1, Ordering::Release);
    }

    fn read(&self) -> (u64, Arc<T>) {
        let current = self.inner.value.lock().unwrap_or_else(PoisonError::into_inner);
        (self.inner.generation.load(Ordering::Acquire), current.clone())
    }
}

/// One column's end.
pub(crate) struct View<T> {
    live: Live<T>,
    generation: Cell<u64>,
    value: RefCell<Arc<T>>,
}

impl<T> View<T> {
    pub(crate) fn new(live: &Live<T>) -> View<T> {
        let (generation, value) = live.read();
        View { live: live.clone(), generation: Cell::new(generation), value: RefCell::new(value) }
    }

    /// The value as it is now.
    pub(crate) fn get(&self) -> Arc<T> {
        if self.live.inner.generation.load(Ordering::Acquire) != self.generation.get() {
            let (generation, value) = self.live.read();
            self.generation.set(generation);
            *self.value.borrow_mut() = value;
        }
        self.value.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_sees_what_it_was_replaced_by() {
        let live = Live::new(1);
        let (early, held) = (View::new(&live), View::new(&live).get());
        assert_eq!(*early.get(), 1);
        live.replace(2);
        live.replace(3);
        assert_eq!((*early.get(), *View::new(&live).get(), *held), (3, 3, 1));
    }
}
