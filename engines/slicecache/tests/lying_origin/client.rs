//! A client: what it asked for, of which version it is answered, and what it got.

use slicecache::state::validator::Version;
use std::collections::VecDeque;
use std::ops::Range;

/// See the head of this file.
pub struct Client {
    pub range: Option<String>,
    /// Of the version that it is answered from: which one, and what is left to come.
    pub answered: Option<(Version, u64, VecDeque<Range<u64>>)>,
    pub is_asleep: bool,
}

impl Client {
    /// Some bytes came, taken from `at` of the origin's `version`.
    pub fn take(&mut self, range: &Range<u64>, version: u64) {
        let (_, expected, parts) = self.answered.as_mut().expect("a client that is answered");
        assert_eq!(version, *expected, "a byte of another version");
        let part = parts.front_mut().expect("more to come");
        assert!(part.start == range.start && range.end <= part.end, "{range:?} in place of {part:?}");
        part.start = range.end;
        if part.start == part.end {
            parts.pop_front();
        }
    }
}
