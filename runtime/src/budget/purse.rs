//! Bytes that one holder has set aside of a budget, so that what must not be refused finds its room. Called by the tier for the
//! files of its index, which deletions need: they are what frees a full disk.

use super::Budget;
use std::cell::Cell;
use std::sync::atomic::Ordering;

/// Set aside at a time, so that few puts meet the atomics that all columns share.
const STEP_BYTES: u64 = 64 << 10;

/// What is set aside. It counts as taken of the budget, and as used once a file has it.
#[derive(Debug)]
pub struct Purse {
    budget: Budget,
    free: Cell<u64>,
}

impl Purse {
    /// An empty one.
    pub fn new(budget: Budget) -> Purse {
        Purse { budget, free: Cell::new(0) }
    }

    /// Sees to it that at least `bytes` are set aside, and not many more; false: there is no room for them, and nothing changes.
    pub fn set_aside(&self, bytes: u64) -> bool {
        let free = self.free.get();
        if free > bytes + 2 * STEP_BYTES {
            self.give(free - bytes - STEP_BYTES);
        }
        let lack = bytes.saturating_sub(free);
        let take = |more: u64| {
            let taken = self.budget.try_reserve(more);
            if taken {
                self.keep(more);
            }
            taken
        };
        lack == 0 || take(lack.next_multiple_of(STEP_BYTES)) || take(lack)
    }

    /// Takes `bytes` for a file: of what is set aside first, all but the last `kept`, then of what is left of the budget, its
    /// reserve included.
    pub fn take(&self, bytes: u64, kept: u64) -> bool {
        let more = bytes.saturating_sub(self.free.get().saturating_sub(kept));
        let taken = more == 0 || self.budget.try_reserve_all(more);
        if taken {
            self.spend(bytes - more);
        }
        taken
    }

    /// Takes `bytes`, the last ones that are set aside too, and even beyond the limit.
    pub fn must_take(&self, bytes: u64) {
        let own = bytes.min(self.free.get());
        self.budget.adopt(bytes - own);
        self.spend(own);
    }

    /// A file that had `bytes` is gone: they are set aside for the next one.
    pub fn put_back(&self, bytes: u64) {
        self.keep(bytes);
    }

    fn keep(&self, bytes: u64) {
        self.free.set(self.free.get() + bytes);
        self.budget.inner.aside.fetch_add(bytes, Ordering::Relaxed);
    }

    fn spend(&self, bytes: u64) {
        self.free.set(self.free.get() - bytes);
        self.budget.inner.aside.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn give(&self, bytes: u64) {
        self.spend(bytes);
        self.budget.release(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn what_is_set_aside_is_nobody_elses_and_not_used_yet() {
        let (budget, step) = (Budget::new(1024 * KIB), 64 * KIB);
        let purse = Purse::new(budget.clone());
        assert!(purse.set_aside(100 * KIB));
        assert_eq!((budget.used(), budget.taken()), (0, 2 * step));
        assert!(!budget.try_reserve(897 * KIB) && budget.try_reserve(896 * KIB));
        assert!(purse.take(128 * KIB, 0) && !purse.take(1, 0));
        assert_eq!((budget.used(), budget.taken()), (1024 * KIB, 1024 * KIB));
        purse.put_back(128 * KIB);
        assert_eq!((budget.used(), budget.taken()), (896 * KIB, 1024 * KIB));
        assert!(purse.set_aside(128 * KIB) && !purse.set_aside(129 * KIB));
        budget.release(896 * KIB);
        assert!(purse.set_aside(1000 * KIB) && purse.set_aside(0) && budget.taken() == step);
    }

    #[test]
    fn the_last_bytes_are_set_aside_one_by_one() {
        let budget = Budget::new(100);
        let purse = Purse::new(budget.clone());
        assert!(purse.set_aside(60) && purse.set_aside(100) && !purse.set_aside(101));
        assert_eq!(budget.taken(), 100);
    }

    #[test]
    fn who_takes_more_than_is_set_aside_takes_the_reserve_and_then_nothing_unless_he_must() {
        let budget = Budget::new(100);
        budget.set_reserve(20);
        let purse = Purse::new(budget.clone());
        assert!(purse.set_aside(50) && !purse.set_aside(81));
        assert!(purse.take(40, 10) && purse.take(30, 10) && !purse.take(21, 10) && purse.take(20, 10));
        assert_eq!((budget.used(), budget.taken()), (90, 100));
        purse.must_take(17);
        assert_eq!((budget.used(), budget.taken()), (107, 107));
    }

    #[test]
    fn what_is_set_aside_is_no_use_of_the_file_system() {
        let budget = Budget::new(1000);
        let purse = Purse::new(budget.clone());
        assert!(budget.try_reserve(100) && purse.set_aside(200));
        // 300 are free on the file system: the 200 are to come out of them.
        budget.set_room(300);
        assert_eq!((budget.limit(), budget.room()), (400, 100));
    }
}
