//! Slices that are of no more use leave the tier behind whatever ended their version.
//!
//! Invariant: one task of a column does that, however many slices a version had; each stretch of slices waits for it as one entry.

use super::Owner;
use crate::state::key::Name;
use runtime::io::Io;
use std::collections::VecDeque;
use std::ops::Range;

/// What is on its way out.
#[derive(Default)]
pub(super) struct Drops {
    waiting: VecDeque<Stretch>,
    is_at_work: bool,
}

/// Slices of a version.
#[derive(Debug, PartialEq, Eq)]
struct Stretch {
    primary: Name,
    number: u64,
    slices: Range<u64>,
}

impl Drops {
    /// Whether somebody is to begin with it.
    fn add(&mut self, primary: Name, number: u64, slices: Range<u64>) -> bool {
        match self.waiting.back_mut() {
            Some(last)
                if last.primary == primary && last.number == number && last.slices.end == slices.start =>
            {
                last.slices.end = slices.end;
            }
            _ => self.waiting.push_back(Stretch { primary, number, slices }),
        }
        !std::mem::replace(&mut self.is_at_work, true)
    }

    /// What comes next; with nothing the work is over.
    fn next(&mut self) -> Option<Stretch> {
        let next = self.waiting.pop_front();
        self.is_at_work = next.is_some();
        next
    }
}

impl<I: Io> Owner<I> {
    /// Has slices of a version deleted.
    pub(crate) fn drop_slices(&self, primary: Name, number: u64, slices: Range<u64>) {
        if !self.drops.borrow_mut().add(primary, number, slices) {
            return;
        }
        let me = self.me();
        self.spawn("slice-drop", async move {
            loop {
                let next = me.drops.borrow_mut().next();
                let Some(Stretch { primary, number, slices }) = next else { return };
                me.delete_version(primary, number, slices).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_many_slices_is_one_entry_and_one_task() {
        let mut drops = Drops::default();
        let (one, other) = ([1; 32], [2; 32]);
        let begun = (0..1000).filter(|&slice| drops.add(one, 7, slice..slice + 1)).count();
        assert_eq!(begun, 1);
        for (primary, number, slices) in [(one, 7, 1001..1002), (one, 8, 1002..1003), (other, 8, 1003..1009)]
        {
            assert!(!drops.add(primary, number, slices));
        }
        let next: Vec<Range<u64>> =
            std::iter::from_fn(|| drops.next()).map(|stretch| stretch.slices).collect();
        assert_eq!(next, [0..1000, 1001..1002, 1002..1003, 1003..1009]);
        assert!(drops.add(one, 7, 0..1), "it was over");
    }
}
