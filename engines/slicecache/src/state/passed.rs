//! Of which objects the answers were large when they were last passed through, so that those that come next wait behind small ones.
//!
//! Called before such a request takes its turn, and when it is known how much came. Invariant: at most [`LARGE_PASSED_MAX`] are known;
//! with one more all are forgotten, and learned anew.

use super::key::Name;
use crate::limits::{LARGE_PASSED_MAX, SMALL_BYTES_MAX};
use std::collections::BTreeSet;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Passed {
    large: BTreeSet<Name>,
}

impl Passed {
    /// An answer has so many bytes, or at least as many.
    pub fn note(&mut self, name: &Name, bytes: u64) {
        if bytes <= SMALL_BYTES_MAX {
            self.large.remove(name);
            return;
        }
        if self.large.len() >= LARGE_PASSED_MAX {
            self.large.clear();
        }
        self.large.insert(*name);
    }

    /// Whether the last answer was large. Of what is not known that is not said.
    #[must_use]
    pub fn was_large(&self, name: &Name) -> bool {
        self.large.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_counts_and_what_is_known_is_bounded() {
        let mut passed = Passed::default();
        let name = |n: usize| {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&n.to_le_bytes());
            name
        };
        for (bytes, is_large) in [(SMALL_BYTES_MAX, false), (SMALL_BYTES_MAX + 1, true), (0, false)] {
            passed.note(&name(0), bytes);
            assert_eq!(passed.was_large(&name(0)), is_large, "{bytes}");
        }
        (0..=LARGE_PASSED_MAX).for_each(|n| passed.note(&name(n), u64::MAX));
        assert!(passed.was_large(&name(LARGE_PASSED_MAX)) && !passed.was_large(&name(0)));
    }
}
