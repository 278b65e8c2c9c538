//! What stays in RAM: S3-FIFO (Yang et al., SOSP 2023) over weighted keys. Pure: decides, holds no bytes.
//!
//! New keys enter a small queue (a tenth of the budget); those asked for again move to the main queue, the others leave
//! and are remembered by name only (ghosts); a ghost that comes back enters the main queue at once.
//!
//! Invariants
//! 1. The weights held never pass the budget after `insert` returns.
//! 2. A slot number is valid from `insert` until `remove`, or until it is returned as a victim.

use hashbrown::HashSet;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};

const FREQUENCY_MAX: u8 = 3;

struct Slot<K> {
    key: K,
    weight: u64,
    frequency: u8,
    main: bool,
}

/// The queues. `K` names what is held.
pub struct Policy<K> {
    slots: Vec<Option<Slot<K>>>,
    unused: Vec<u32>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    small_weight: u64,
    main_weight: u64,
    budget: u64,
    ghosts: HashSet<u64>,
    ghost_order: VecDeque<u64>,
    hasher: foldhash::fast::RandomState,
}

impl<K: Hash + Clone> Policy<K> {
    /// An empty cache for `budget` units of weight.
    pub fn new(budget: u64) -> Policy<K> {
        Policy {
            slots: Vec::new(),
            unused: Vec::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_weight: 0,
            main_weight: 0,
            budget,
            ghosts: HashSet::new(),
            ghost_order: VecDeque::new(),
            hasher: Default::default(),
        }
    }

    /// Weight held, and the most that may be.
    pub fn usage(&self) -> (u64, u64) {
        (self.small_weight + self.main_weight, self.budget)
    }

    /// Notes that a held key was asked for; true if it was before.
    #[inline]
    pub fn touch(&mut self, slot: u32) -> bool {
        let Some(Some(s)) = self.slots.get_mut(slot as usize) else { return false };
        let before = s.frequency > 0;
        s.frequency = (s.frequency + 1).min(FREQUENCY_MAX);
        before
    }

    /// Notes that a key that is not held was asked for; true when it was asked for or held not long ago.
    pub fn miss(&mut self, key: &K) -> bool {
        let name = self.hasher.hash_one(key);
        if self.ghosts.contains(&name) {
            return true;
        }
        self.remember(name);
        false
    }

    fn remember(&mut self, name: u64) {
        if self.ghosts.insert(name) {
            self.ghost_order.push_back(name);
        }
        // As many ghosts as keys held (at least some), as in the paper.
        let most = (self.small.len() + self.main.len()).max(1024);
        while self.ghost_order.len() > most {
            let oldest = self.ghost_order.pop_front().expect("more than none");
            self.ghosts.remove(&oldest);
        }
    }

    /// Holds a key; the victims make room. `None` when it is heavier than the whole budget.
    pub fn insert(&mut self, key: K, weight: u64, victims: &mut Vec<(K, u32)>) -> Option<u32> {
        if weight > self.budget {
            return None;
        }
        while self.small_weight + self.main_weight + weight > self.budget {
            victims.extend(self.evict());
        }
        let main = self.ghosts.contains(&self.hasher.hash_one(&key));
        let slot = Some(Slot { key, weight, frequency: 0, main });
        let id = match self.unused.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        if main {
            self.main_weight += weight;
            self.main.push_back(id);
        } else {
            self.small_weight += weight;
            self.small.push_back(id);
        }
        Some(id)
    }

    /// Lets go of a key that is gone for another reason.
    pub fn remove(&mut self, slot: u32) {
        if let Some(s) = self.slots[slot as usize].take() {
            let weight = if s.main { &mut self.main_weight } else { &mut self.small_weight };
            *weight -= s.weight;
            // The queue still names the slot: it is reused only when the queue comes to it.
        }
    }

    /// Takes one key out; `None` when nothing is held.
    pub fn evict(&mut self) -> Option<(K, u32)> {
        loop {
            let from_small = self.small_weight * 10 >= self.budget || self.main.is_empty();
            let queue = if from_small && !self.small.is_empty() { &mut self.small } else { &mut self.main };
            let id = queue.pop_front()?;
            let Some(slot) = &mut self.slots[id as usize] else {
                self.unused.push(id);
                continue;
            };
            if slot.frequency > 0 {
                slot.frequency -= 1;
                if !slot.main {
                    slot.main = true;
                    slot.frequency = 0;
                    self.small_weight -= slot.weight;
                    self.main_weight += slot.weight;
                }
                self.main.push_back(id);
                continue;
            }
            let slot = self.slots[id as usize].take().expect("just seen");
            self.unused.push(id);
            if slot.main {
                self.main_weight -= slot.weight;
            } else {
                self.small_weight -= slot.weight;
                let name = self.hasher.hash_one(&slot.key);
                self.remember(name);
            }
            return Some((slot.key, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn one_pass_does_not_push_out_what_is_asked_for_again() {
        let mut policy = Policy::new(100);
        let mut victims = Vec::new();
        let hot: Vec<u32> = (0..50).map(|k| policy.insert(k, 1, &mut victims).expect("fits")).collect();
        hot.iter().for_each(|&s| assert!(!policy.touch(s)));
        for k in 1000..3000 {
            policy.insert(k, 1, &mut victims);
        }
        assert!(victims.iter().all(|(k, _)| *k >= 1000), "a scan evicted hot keys");
    }

    proptest! {
        #[test]
        fn weights_match_a_naive_count(ops in prop::collection::vec((0u16..200, 1u64..40, 0u8..4), 1..600)) {
            let mut policy = Policy::new(500);
            let mut held: HashMap<u16, (u32, u64)> = HashMap::new();
            for (key, weight, op) in ops {
                match (held.get(&key).copied(), op) {
                    (Some((slot, _)), 0) => {
                        policy.remove(slot);
                        held.remove(&key);
                    }
                    (Some((slot, _)), _) => {
                        policy.touch(slot);
                    }
                    (None, _) => {
                        let mut victims = Vec::new();
                        let slot = policy.insert(key, weight, &mut victims).expect("lighter than the budget");
                        for (victim, at) in victims {
                            prop_assert_eq!(held.remove(&victim).map(|h| h.0), Some(at));
                        }
                        held.insert(key, (slot, weight));
                    }
                }
                let sum: u64 = held.values().map(|h| h.1).sum();
                prop_assert_eq!(policy.usage().0, sum);
                prop_assert!(sum <= 500);
            }
        }
    }
}
