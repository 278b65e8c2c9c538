//! Readers that have left and whose owner has not heard of it yet. Called by `columns`, which tells each owner of a few at a time.
//!
//! Invariant: of one column at most one task tells.

use crate::limits::LEAVES_AT_ONCE;
use crate::state::fill::Reader;
use std::collections::VecDeque;

/// Those of one owner.
#[derive(Default)]
pub(super) struct Leaving {
    readers: VecDeque<Reader>,
    is_told: bool,
}

impl Leaving {
    /// One more; `true`: a task is to begin that tells.
    pub fn add(&mut self, reader: Reader) -> bool {
        self.readers.push_back(reader);
        !std::mem::replace(&mut self.is_told, true)
    }

    /// Whom to tell of next; `None`: the task is over.
    pub fn next(&mut self) -> Option<Vec<Reader>> {
        let count = self.readers.len().min(LEAVES_AT_ONCE);
        if count == 0 {
            *self = Leaving::default();
            return None;
        }
        Some(self.readers.drain(..count).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_tells_of_all_a_few_at_a_time_and_then_another_one() {
        let mut leaving = Leaving::default();
        for _ in 0..2 {
            let count = 2 * LEAVES_AT_ONCE as Reader + 1;
            assert!(leaving.add(0));
            assert!((1..count).all(|reader| !leaving.add(reader)));
            let told: Vec<Vec<Reader>> = std::iter::from_fn(|| leaving.next()).collect();
            assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [LEAVES_AT_ONCE, LEAVES_AT_ONCE, 1]);
            assert!(told.into_iter().flatten().eq(0..count));
        }
    }
}
