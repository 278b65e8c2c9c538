//! First-in-first-out queues threaded through an array of slots: anything can leave from the middle at once. Pure.
//!
//! Called by `policy`. A link belongs to the slot of the same number and is in at most one queue at a time.

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// The neighbours of a slot in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    before: u32,
    after: u32,
}

impl Link {
    pub(super) const ALONE: Link = Link { before: NONE, after: NONE };
}

/// A queue of slots.
pub(super) struct Fifo {
    front: u32,
    back: u32,
    /// Sum of the weights in it.
    pub(super) weight: u64,
}

impl Fifo {
    pub(super) const EMPTY: Fifo = Fifo { front: NONE, back: NONE, weight: 0 };

    /// The oldest, if there is one.
    #[inline]
    pub(super) fn front(&self) -> Option<u32> {
        (self.front != NONE).then_some(self.front)
    }

    /// All of them, the oldest first.
    pub(super) fn iter<'a>(&self, links: &'a [Link]) -> impl Iterator<Item = u32> + use<'a> {
        std::iter::successors(self.front(), |&slot| {
            let after = links[slot as usize].after;
            (after != NONE).then_some(after)
        })
    }

    /// Adds a slot that is in no queue.
    #[inline]
    pub(super) fn push(&mut self, links: &mut [Link], slot: u32, weight: u64) {
        assert!(links[slot as usize] == Link::ALONE && self.back != slot, "slot {slot} is in a queue");
        links[slot as usize].before = self.back;
        match self.back {
            NONE => self.front = slot,
            back => links[back as usize].after = slot,
        }
        self.back = slot;
        self.weight += weight;
    }

    /// Takes out a slot that is in this queue.
    #[inline]
    pub(super) fn remove(&mut self, links: &mut [Link], slot: u32, weight: u64) {
        let Link { before, after } = std::mem::replace(&mut links[slot as usize], Link::ALONE);
        match before {
            NONE => {
                assert_eq!(self.front, slot, "the first of a queue is its front");
                self.front = after;
            }
            before => links[before as usize].after = after,
        }
        match after {
            NONE => {
                assert_eq!(self.back, slot, "the last of a queue is its back");
                self.back = before;
            }
            after => links[after as usize].before = before,
        }
        self.weight -= weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn two_queues_over_one_array_match_deques(ops in prop::collection::vec((0u32..30, any::<bool>()), 1..300)) {
            let mut links = vec![Link::ALONE; 30];
            let mut queues = [Fifo::EMPTY, Fifo::EMPTY];
            let mut naive = [VecDeque::new(), VecDeque::new()];
            for (slot, second) in ops {
                let weight = u64::from(slot) + 1;
                match naive.iter().position(|q| q.contains(&slot)) {
                    Some(at) => {
                        queues[at].remove(&mut links, slot, weight);
                        naive[at].retain(|&s| s != slot);
                    }
                    None => {
                        queues[usize::from(second)].push(&mut links, slot, weight);
                        naive[usize::from(second)].push_back(slot);
                    }
                }
                for (queue, naive) in queues.iter().zip(&naive) {
                    prop_assert!(queue.iter(&links).eq(naive.iter().copied()));
                    prop_assert_eq!(queue.front(), naive.front().copied());
                    prop_assert_eq!(queue.weight, naive.iter().map(|&s| u64::from(s) + 1).sum::<u64>());
                }
            }
        }
    }
}
