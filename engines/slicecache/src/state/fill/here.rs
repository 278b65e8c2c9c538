//! How many slices of a stretch are here: held or whole. Called by `fill`, which says what comes and goes.
//!
//! Counted by stretches of [`STRETCH`] slices, so that an answer of a large object costs neither a walk of what it has nor of what it
//! would have: an origin may say of any object that it has 2^24 slices.

use std::collections::BTreeMap;
use std::ops::Range;

const STRETCH: u64 = 1024;

/// See the head of this file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Here {
    /// By stretch; none is 0.
    counts: BTreeMap<u64, u64>,
}

impl Here {
    /// A slice is here that was not.
    pub fn add(&mut self, slice: u64) {
        *self.counts.entry(slice / STRETCH).or_default() += 1;
    }

    /// A slice that was here is not any more.
    pub fn remove(&mut self, slice: u64) {
        let stretch = slice / STRETCH;
        let count = self.counts.get_mut(&stretch).expect("it was here");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&stretch);
        }
    }

    /// How many of `slices` are here. `each` counts those of less than a stretch.
    pub fn count(&self, slices: Range<u64>, each: impl Fn(Range<u64>) -> u64) -> u64 {
        let (first, end) = (slices.start.div_ceil(STRETCH), slices.end / STRETCH);
        if first >= end {
            return each(slices);
        }
        let between: u64 = self.counts.range(first..end).map(|(_, count)| count).sum();
        each(slices.start..first * STRETCH) + between + each(end * STRETCH..slices.end)
    }
}

impl FromIterator<u64> for Here {
    fn from_iter<T: IntoIterator<Item = u64>>(slices: T) -> Here {
        let mut here = Here::default();
        slices.into_iter().for_each(|slice| here.add(slice));
        here
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn every_stretch_is_counted_right_and_little_of_it_one_by_one(
            runs in prop::collection::vec((0..6 * STRETCH, 0..3 * STRETCH), 0..4),
            gone in prop::collection::vec(0..9 * STRETCH, 0..50),
            asked in prop::collection::vec((0..9 * STRETCH, 0..9 * STRETCH), 1..20),
        ) {
            let mut slices: BTreeSet<u64> = runs.into_iter().flat_map(|(at, len)| at..at + len).collect();
            let mut here: Here = slices.iter().copied().collect();
            gone.iter().filter(|slice| slices.remove(slice)).for_each(|slice| here.remove(*slice));
            for (at, len) in asked {
                let looked_at = Cell::new(0);
                let each = |part: Range<u64>| {
                    looked_at.set(looked_at.get() + (part.end - part.start));
                    slices.range(part).count() as u64
                };
                prop_assert_eq!(here.count(at..at + len, each), slices.range(at..at + len).count() as u64);
                prop_assert!(looked_at.get() < 2 * STRETCH);
            }
            slices.iter().for_each(|slice| here.remove(*slice));
            prop_assert_eq!(here, Here::default());
        }
    }
}
