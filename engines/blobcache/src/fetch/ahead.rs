//! Which parts of one fetch were asked of the origin ahead of its readers, and what became of them. Plain state; called by
//! `readers`, on the column of the job and, for what is wanted alone, on those of its proxies.
//!
//! - A part is *ahead* if a reader follows the fetch when it is asked for, and none has wanted a byte of it or behind it.
//! - It is a *hit* when a reader then wants a byte of it while the fetch is under way, whether it has arrived or not.
//! - It is *wasted* when the fetch ends and stores nothing, or begins anew with another version, before anybody wanted it.
//! - Parts of a blob that is stored before anybody wanted them are neither: they stay on disk, and reading them is a read of
//!   what is stored.
//!
//! The first part is never ahead: it tells how large the blob is, which a reader must know before he can say what he wants.
//! Neither is a body that comes as one stream: it has no parts.
//!
//! Invariants
//! 1. A part is ahead once at most, and then once at most a hit or wasted.
//! 2. There is one number in memory for each part at most, as small beside its checksums.

use std::collections::BTreeSet;

/// The parts of one fetch, by number.
#[derive(Default)]
pub struct Ahead {
    wanted: BTreeSet<u64>,
    /// Ahead, and not wanted yet.
    pending: BTreeSet<u64>,
}

/// What it is that a reader wants a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A reader wanted it before.
    Again,
    /// The first time, and it was not ahead.
    New,
    /// The first time, and it was ahead.
    Hit,
}

impl Ahead {
    /// A part is asked of the origin; whether it is ahead of readers.
    pub fn on_asked(&mut self, part: u64, is_followed: bool) -> bool {
        let is_ahead = part > 0 && is_followed && self.wanted.last().is_none_or(|&farthest| farthest < part);
        is_ahead && self.pending.insert(part)
    }

    /// A reader wants bytes of a part.
    pub fn on_wanted(&mut self, part: u64) -> Want {
        match (self.wanted.insert(part), self.pending.remove(&part)) {
            (false, _) => Want::Again,
            (true, false) => Want::New,
            (true, true) => Want::Hit,
        }
    }

    /// The fetch is over, or begins anew; how many parts are wasted.
    pub fn on_over(&mut self, is_stored: bool) -> usize {
        let Ahead { pending, .. } = std::mem::take(self);
        if is_stored { 0 } else { pending.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_behind_all_that_is_wanted_is_ahead_and_the_first_is_not() {
        let mut ahead = Ahead::default();
        assert!(!ahead.on_asked(0, true), "the first part");
        assert!(!ahead.on_asked(1, false), "nobody reads");
        assert!(ahead.on_asked(2, true));
        assert_eq!(ahead.on_wanted(4), Want::New);
        assert!(!ahead.on_asked(3, true), "a reader is behind it");
        assert!(!ahead.on_asked(4, true), "he waits for it");
        assert!(ahead.on_asked(5, true));
        assert_eq!(ahead.on_over(false), 2, "parts 2 and 5");
    }

    #[test]
    fn a_part_is_a_hit_once_and_one_that_was_skipped_is_none() {
        let mut ahead = Ahead::default();
        assert!((1..4).all(|part| ahead.on_asked(part, true)));
        let wants = [0, 2, 2, 3, 0].map(|part| ahead.on_wanted(part));
        assert_eq!(wants, [Want::New, Want::Hit, Want::Again, Want::Hit, Want::Again]);
        assert_eq!(ahead.on_over(false), 1, "part 1");
        assert_eq!((ahead.on_wanted(1), ahead.on_over(false)), (Want::New, 0), "it is over");
    }

    #[test]
    fn what_is_stored_is_not_wasted() {
        let mut ahead = Ahead::default();
        assert!((1..4).all(|part| ahead.on_asked(part, true)));
        assert_eq!(ahead.on_over(true), 0);
    }

    #[test]
    fn each_beginning_counts_by_itself() {
        let mut ahead = Ahead::default();
        assert!(ahead.on_asked(1, true));
        assert_eq!(ahead.on_wanted(7), Want::New);
        assert_eq!(ahead.on_over(false), 1);
        assert!(ahead.on_asked(1, true), "what was wanted of the other version is forgotten");
        assert_eq!(ahead.on_wanted(1), Want::Hit);
    }
}
