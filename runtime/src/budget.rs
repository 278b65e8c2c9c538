//! A byte budget shared by columns: reserve before use, release after. Called by the tier for disk bytes.
//!
//! Invariants
//! 1. A reservation that would pass the limit is refused, whatever the interleaving. The limit is the quota, or less
//!    while the file system has less room than that. A reserve below the limit is for those who make room.
//! 2. What a [`Purse`] has set aside is taken already, so who takes of it cannot be refused.

mod purse;

pub use purse::Purse;

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
    reserve: AtomicU64,
    taken: AtomicU64,
    /// Of those, what purses have set aside.
    aside: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes, none used.
    pub fn new(limit: u64) -> Budget {
        let (quota, limit) = (limit, AtomicU64::new(limit));
        let (reserve, taken, aside) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Budget { inner: Arc::new(Inner { quota, limit, reserve, taken, aside }) }
    }

    /// The last `bytes` below the limit are only for who takes them to give back more.
    pub fn set_reserve(&self, bytes: u64) {
        self.inner.reserve.store(bytes, Ordering::Relaxed);
    }

    /// There is room for `bytes` more and no further, whatever the quota says; it holds until this is called again.
    pub fn set_room(&self, bytes: u64) {
        let limit = self.inner.quota.min(self.used().saturating_add(bytes));
        self.inner.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes `bytes`, or nothing; not from the reserve.
    pub fn try_reserve(&self, bytes: u64) -> bool {
        self.take(bytes, self.limit().saturating_sub(self.inner.reserve.load(Ordering::Relaxed)))
    }

    /// Takes `bytes`, or nothing: for work that makes room.
    pub fn try_reserve_all(&self, bytes: u64) -> bool {
        self.take(bytes, self.limit())
    }

    fn take(&self, bytes: u64, limit: u64) -> bool {
        let take = |taken: u64| taken.checked_add(bytes).filter(|&sum| sum <= limit);
        self.inner.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Counts bytes that exist already (recovery), even beyond the limit.
    pub fn adopt(&self, bytes: u64) {
        self.inner.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back bytes taken before.
    pub fn release(&self, bytes: u64) {
        let before = self.inner.taken.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "released {bytes} bytes of {before} in use");
    }

    /// Bytes in use: taken, and not merely set aside.
    pub fn used(&self) -> u64 {
        self.taken().saturating_sub(self.inner.aside.load(Ordering::Relaxed))
    }

    /// Bytes that nobody else can have.
    pub fn taken(&self) -> u64 {
        self.inner.taken.load(Ordering::Relaxed)
    }

    /// The most that there may ever be.
    pub fn quota(&self) -> u64 {
        self.inner.quota
    }

    /// The limit as it stands.
    pub fn limit(&self) -> u64 {
        self.inner.limit.load(Ordering::Relaxed)
    }

    /// Bytes that [`Budget::try_reserve`] may still take.
    pub fn room(&self) -> u64 {
        self.limit().saturating_sub(self.inner.reserve.load(Ordering::Relaxed)).saturating_sub(self.taken())
    }

    /// Some of the reserve is in use.
    pub fn is_short(&self) -> bool {
        self.taken() + self.inner.reserve.load(Ordering::Relaxed) > self.limit()
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
    fn the_reserve_is_for_those_who_make_room() {
        let b = Budget::new(100);
        b.set_reserve(10);
        assert!(b.try_reserve(90) && !b.is_short() && b.room() == 0);
        assert!(!b.try_reserve(1) && b.try_reserve_all(10) && !b.try_reserve_all(1) && b.is_short());
        b.release(30);
        assert!(b.room() == 20 && b.try_reserve(20) && !b.try_reserve(1));
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
