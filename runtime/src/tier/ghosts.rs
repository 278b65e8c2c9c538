//! Names of what was let go: the memory by which S3-FIFO tells a key that comes back from a new one. Pure.
//!
//! Called by `policy`. A name is a seeded hash of the key; two keys with one name would only be mistaken for each other
//! when choosing a queue.
//!
//! Invariants
//! 1. `weight` is the sum of the weights of the names that are remembered, and never above what was last allowed.
//! 2. `order` holds every remembered name once; it is never longer than what was last allowed, forgotten names included.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// The names, oldest first.
pub(super) struct Ghosts {
    /// Name and weight; weight 0 when it was taken out of the middle.
    order: VecDeque<(u64, u64)>,
    /// Numbers of the remembered names: their place in `order`, counted from the first there ever was.
    numbers: HashMap<u64, u64, FixedState>,
    /// Number of the front of `order`.
    first: u64,
    weight: u64,
}

impl Ghosts {
    pub(super) fn new(seed: u64) -> Ghosts {
        let numbers = HashMap::with_hasher(FixedState::with_seed(seed));
        Ghosts { order: VecDeque::new(), numbers, first: 0, weight: 0 }
    }

    pub(super) fn contains(&self, name: u64) -> bool {
        self.numbers.contains_key(&name)
    }

    /// Forgets a name; whether it was remembered.
    pub(super) fn take(&mut self, name: u64) -> bool {
        let Some(number) = self.numbers.remove(&name) else { return false };
        let (known, weight) = &mut self.order[(number - self.first) as usize];
        assert_eq!(*known, name, "number and place name each other");
        self.weight -= std::mem::take(weight);
        true
    }

    /// Remembers a name and forgets the oldest beyond a total weight and a length.
    pub(super) fn remember(&mut self, name: u64, weight: u64, weight_max: u64, len_max: usize) {
        assert!(weight > 0 && len_max > 0);
        self.take(name);
        self.numbers.insert(name, self.first + self.order.len() as u64);
        self.order.push_back((name, weight));
        self.weight += weight;
        while self.weight > weight_max || self.order.len() > len_max {
            let (oldest, weight) = self.order.pop_front().expect("weight and length are of names");
            self.first += 1;
            self.weight -= weight;
            if weight > 0 {
                self.numbers.remove(&oldest);
            }
        }
        assert!(self.numbers.len() <= self.order.len());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn remembers_the_latest_within_the_bounds(
            ops in prop::collection::vec((0u64..40, 1u64..9, any::<bool>()), 1..400),
            len_max in 1usize..30,
        ) {
            let mut ghosts = Ghosts::new(1);
            // The naive twin: everything in order, a name that was taken leaves a hole.
            let mut order: VecDeque<(Option<u64>, u64)> = VecDeque::new();
            for (name, weight, take) in ops {
                let at = order.iter().position(|&(n, _)| n == Some(name));
                prop_assert_eq!(ghosts.contains(name), at.is_some());
                if take {
                    prop_assert_eq!(ghosts.take(name), at.is_some());
                } else {
                    ghosts.remember(name, weight, 60, len_max);
                }
                if let Some(at) = at {
                    order[at] = (None, 0);
                }
                if !take {
                    order.push_back((Some(name), weight));
                    while order.len() > len_max || order.iter().map(|o| o.1).sum::<u64>() > 60 {
                        order.pop_front();
                    }
                }
                prop_assert_eq!(ghosts.weight, order.iter().map(|o| o.1).sum::<u64>());
                prop_assert_eq!(ghosts.len(), order.len());
            }
        }
    }
}
