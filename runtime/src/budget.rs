//! A byte budget shared by columns: reserve before use, release after. Called by the tier for disk bytes.
//!
//! Invariant: a reservation that would pass the limit is refused, whatever the interleaving. The limit is the quota, or less
//! while the file system has less room than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may be used, and that are.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    quota: u64,
    limit: AtomicU64,
    used: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes, none used.
    pub fn new(limit: u64) -> Budget {
        let (quota, limit) = (limit, AtomicU64::new(limit));
        Budget { inner: Arc::new(Inner { quota, limit, used: AtomicU64::new(0) }) }
    }

    /// There is room for `bytes` more and no further, whatever the quota says; it holds until this is called again.
    pub fn set_room(&self, bytes: u64) {
        let limit = self.inner.quota.min(self.used().saturating_add(bytes));
        self.inner.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes `bytes`, or nothing.
    pub fn try_reserve(&self, bytes: u64) -> bool {
        let take = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.limit());
        self.inner.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Counts bytes that exist already (recovery), even beyond the limit.
    pub fn adopt(&self, bytes: u64) {
        self.inner.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back bytes taken before.
    pub fn release(&self, bytes: u64) {
        let before = self.inner.used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "released {bytes} bytes of {before} in use");
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// The most that there may ever be.
    pub fn quota(&self) -> u64 {
        self.inner.quota
    }

    /// The limit as it stands.
    pub fn limit(&self) -> u64 {
        self.inner.limit.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_beyond_the_limit() {
        let b = Budget::new(100);
        assert!(b.try_reserve(60) && !b.try_reserve(41) && b.try_reserve(40));
        b.release(100);
        assert_eq!((b.used(), b.try_reserve(u64::MAX)), (0, false));
    }

    #[test]
    fn room_narrows_the_quota_and_never_widens_it() {
        let b = Budget::new(100);
        assert!(b.try_reserve(50));
        b.set_room(20);
        assert!(!b.try_reserve(21) && b.try_reserve(20) && !b.try_reserve(1));
        b.set_room(1000);
        assert!(!b.try_reserve(31) && b.try_reserve(30));
    }
}
