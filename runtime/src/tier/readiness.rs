//! Whether every column has read what recovery left. Until then nothing new is stored, by any of them.
//!
//! One for all columns, made by `recover`; each counts itself off once, or says that it cannot.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A column could not read its part of the index: what is there will never all be known, and the node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the index cannot be read: the node stops")]
pub struct NeverReady;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Readiness {
    /// Columns that have yet to read theirs.
    left: AtomicUsize,
    is_lost: AtomicBool,
}

impl Readiness {
    /// Of so many columns.
    pub(super) fn new(columns: usize) -> Readiness {
        Readiness { left: AtomicUsize::new(columns), is_lost: AtomicBool::new(false) }
    }

    /// A column has read everything.
    pub(super) fn on_loaded(&self) {
        let before = self.left.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a column counted itself off twice");
    }

    /// A column cannot.
    pub(super) fn on_failed(&self) {
        self.is_lost.store(true, Ordering::Release);
    }

    /// Whether all have.
    pub(super) fn is_reached(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// Whether all never will have.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }
}
