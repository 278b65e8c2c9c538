//! What stays in RAM, and on disk: S3-FIFO (Yang et al., SOSP 2023) over weighted keys. Pure: decides, holds no bytes.
//!
//! New keys enter a small queue (a tenth of what is held); those asked for twice more move to the main queue, the others
//! leave and are remembered by name only (ghosts); a ghost that comes back enters the main queue at once. The main queue
//! gives a second chance for each time a key was asked for, three at most.
//!
//! Called by `shard` for RAM (`touch` on each hit: one byte is read, and written unless it is at its highest) and by
//! `disk_policy` for the disk. Held against the published algorithm in `benches/tests/hit_ratio.rs`.
//!
//! Invariants
//! 1. The weights held never pass the budget after `insert` returns.
//! 2. A slot number is valid from `insert` until `remove`, or until it is returned as a victim; then it is used again.
//! 3. Every held slot is in exactly one queue. Memory is that of the most keys held at a time, and of as many ghosts.
//! 4. The order of victims depends on the calls alone: names are hashed with the seed given (the keys are chosen by
//!    clients, so a node takes a random one, the simulation one of its own), and no map is ever walked.

use super::fifo::{Fifo, Link};
use super::ghosts::Ghosts;
use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hash};

const FREQUENCY_MAX: u8 = 3;
/// Asked for as often while in the small queue, a key moves to the main one.
const MOVE_TO_MAIN_FREQUENCY: u8 = 2;
/// The small queue is at least one part in this many of the weight held.
const SMALL_PART: u64 = 10;
/// Ghosts there may be however few keys are held: then only their weight is a bound (3 MiB of names).
const GHOSTS_LEN_MIN: usize = 1 << 16;

struct Slot<K> {
    key: K,
    weight: u64,
    main: bool,
}

/// The queues. `K` names what is held.
pub struct Policy<K> {
    slots: Vec<Option<Slot<K>>>,
    /// By slot, apart from the rest: 64 of them share a cache line.
    frequencies: Vec<u8>,
    links: Vec<Link>,
    unused: Vec<u32>,
    small: Fifo,
    main: Fifo,
    budget: u64,
    /// Something was let go to make room.
    was_full: bool,
    ghosts: Ghosts,
    hasher: FixedState,
}

impl<K: Hash + Clone> Policy<K> {
    /// An empty cache for `budget` units of weight.
    pub fn new(budget: u64, seed: u64) -> Policy<K> {
        Policy {
            slots: Vec::new(),
            frequencies: Vec::new(),
            links: Vec::new(),
            unused: Vec::new(),
            small: Fifo::EMPTY,
            main: Fifo::EMPTY,
            budget,
            was_full: false,
            ghosts: Ghosts::new(seed),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// Weight held, and the most that may be.
    pub fn usage(&self) -> (u64, u64) {
        (self.small.weight + self.main.weight, self.budget)
    }

    /// Notes that a held key was asked for; true if it was before.
    #[inline]
    pub fn touch(&mut self, slot: u32) -> bool {
        let frequency = &mut self.frequencies[slot as usize];
        if *frequency < FREQUENCY_MAX {
            *frequency += 1;
            return *frequency > 1;
        }
        true
    }

    /// Notes that a key that is not held was asked for; true when it was asked for or held not long ago. `weight` is what
    /// it would have.
    pub fn miss(&mut self, key: &K, weight: u64) -> bool {
        let name = self.hasher.hash_one(key);
        let known = self.ghosts.contains(name);
        if !known {
            self.remember(name, weight);
        }
        known
    }

    /// As in libCacheSim, ghosts stand for as much weight as the main queue; as in the paper, for as many keys as are held.
    fn remember(&mut self, name: u64, weight: u64) {
        let weight_max = self.usage().0 / SMALL_PART * (SMALL_PART - 1);
        self.ghosts.remember(name, weight, weight_max.max(weight), self.slots.len().max(GHOSTS_LEN_MIN));
    }

    /// Holds a key; the victims make room. `None` when it is heavier than the whole budget. Nothing weighs less than one.
    pub fn insert(&mut self, key: K, weight: u64, victims: &mut Vec<(K, u32)>) -> Option<u32> {
        let weight = weight.max(1);
        if weight > self.budget {
            return None;
        }
        while self.usage().0 > self.budget - weight {
            victims.extend(self.evict());
        }
        let known = self.ghosts.take(self.hasher.hash_one(&key));
        // While there is room nothing needs to be proven: the queues grow together, so that they have their shares when
        // the first key must go.
        let main = known || (!self.was_full && self.small_is_next());
        let slot = Some(Slot { key, weight, main });
        let id = match self.unused.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                self.frequencies[id as usize] = 0;
                id
            }
            None => {
                self.slots.push(slot);
                self.frequencies.push(0);
                self.links.push(Link::ALONE);
                u32::try_from(self.slots.len() - 1).expect("fewer keys than a column's memory has bytes")
            }
        };
        let queue = if main { &mut self.main } else { &mut self.small };
        queue.push(&mut self.links, id, weight);
        Some(id)
    }

    /// What a slot holds, and its weight.
    pub fn get(&self, slot: u32) -> (&K, u64) {
        let slot = self.slots[slot as usize].as_ref().expect("the slot is held");
        (&slot.key, slot.weight)
    }

    /// Lets go of a key that is gone for another reason.
    pub fn remove(&mut self, slot: u32) {
        self.take(slot);
    }

    fn take(&mut self, id: u32) -> Slot<K> {
        let slot = self.slots[id as usize].take().expect("the slot is held");
        let queue = if slot.main { &mut self.main } else { &mut self.small };
        queue.remove(&mut self.links, id, slot.weight);
        self.unused.push(id);
        slot
    }

    /// Whether the next victim is of the small queue.
    fn small_is_next(&self) -> bool {
        self.small.weight > 0 && self.small.weight * SMALL_PART >= self.usage().0
    }

    /// Takes one key out; `None` when nothing is held.
    pub fn evict(&mut self) -> Option<(K, u32)> {
        let id = self.next_victim()?;
        self.was_full = true;
        let slot = self.take(id);
        if !slot.main {
            let name = self.hasher.hash_one(&slot.key);
            self.remember(name, slot.weight);
        }
        Some((slot.key, id))
    }

    /// Gives the oldest their chances until one has none left: it is at the front of the queue whose turn it is.
    fn next_victim(&mut self) -> Option<u32> {
        loop {
            let small = self.small_is_next();
            let id = if small { self.small.front()? } else { self.main.front()? };
            let frequency = self.frequencies[id as usize];
            if frequency < if small { MOVE_TO_MAIN_FREQUENCY } else { 1 } {
                return Some(id);
            }
            self.move_on(id, small, frequency);
        }
    }

    /// To the back of the main queue: from the small one as if new, from the main one with a chance less.
    fn move_on(&mut self, id: u32, small: bool, frequency: u8) {
        let slot = self.slots[id as usize].as_mut().expect("queued slots are held");
        assert_eq!(slot.main, !small, "a slot is in the queue it says");
        slot.main = true;
        self.frequencies[id as usize] = if small { 0 } else { frequency - 1 };
        let queue = if small { &mut self.small } else { &mut self.main };
        queue.remove(&mut self.links, id, slot.weight);
        self.main.push(&mut self.links, id, slot.weight);
    }

    /// Keys that would be let go of next, and their weights: those without a chance among the oldest `scanned_max` of the
    /// queue whose turn it is. None only when nothing is held.
    pub fn coldest(&mut self, scanned_max: usize) -> impl Iterator<Item = (&K, u64)> {
        self.next_victim();
        let me = &*self;
        let (queue, least) =
            if me.small_is_next() { (&me.small, MOVE_TO_MAIN_FREQUENCY) } else { (&me.main, 1) };
        let oldest = queue.iter(&me.links).take(scanned_max);
        oldest.filter(move |&id| me.frequencies[id as usize] < least).map(|id| me.get(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn one_pass_does_not_push_out_what_is_asked_for_again() {
        let mut policy = Policy::new(100, 1);
        let mut victims = Vec::new();
        let hot: Vec<u32> = (0..50).map(|k| policy.insert(k, 1, &mut victims).expect("fits")).collect();
        hot.iter().for_each(|&s| assert!(!policy.touch(s)));
        hot.iter().for_each(|&s| assert!(policy.touch(s)));
        for k in 1000..3000 {
            policy.insert(k, 1, &mut victims);
        }
        assert!(victims.iter().all(|(k, _)| *k >= 1000), "a scan evicted hot keys");
    }

    #[test]
    fn a_key_that_comes_back_outlives_a_scan() {
        let mut policy = Policy::new(100, 1);
        let mut victims = Vec::new();
        for k in 0..101 {
            policy.insert(k, 1, &mut victims);
        }
        let (gone, _) = victims.pop().expect("one too many");
        policy.insert(gone, 1, &mut victims);
        // What it was remembered for has happened: it is not let in by that twice.
        assert!(!policy.ghosts.contains(policy.hasher.hash_one(gone)));
        for k in 1000..1080 {
            policy.insert(k, 1, &mut victims);
        }
        assert!(victims.iter().all(|&(k, _)| k != gone), "a scan evicted what came back");
    }

    #[test]
    fn asked_for_twice_without_being_held_is_known() {
        let mut policy: Policy<u32> = Policy::new(100, 1);
        assert!(!policy.miss(&1, 10));
        assert!(policy.miss(&1, 10));
        assert!(!policy.miss(&2, 10));
    }

    #[test]
    fn slots_and_ghosts_are_bounded_by_what_is_held() {
        let mut policy = Policy::new(1_000, 1);
        let mut victims = Vec::new();
        for key in 0..300_000u32 {
            let slot = policy.insert(key, 1, &mut victims).expect("fits");
            if key % 3 > 0 {
                policy.remove(slot);
            }
            policy.miss(&(key + 1_000_000), 1);
        }
        assert!(policy.slots.len() <= 1_000, "{} slots", policy.slots.len());
        assert!(policy.ghosts.len() <= GHOSTS_LEN_MIN, "{} ghosts", policy.ghosts.len());
    }

    proptest! {
        #[test]
        fn weights_match_a_naive_count(ops in prop::collection::vec((0u16..200, 1u64..40, 0u8..4), 1..600)) {
            let mut policy = Policy::new(500, 1);
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
                prop_assert!(held.iter().all(|(key, &(slot, weight))| policy.get(slot) == (key, weight)));
                prop_assert!(policy.coldest(9).all(|(key, _)| held.contains_key(key)));
                prop_assert_eq!(policy.usage().0, sum);
                prop_assert!(sum <= 500);
            }
        }
    }
}
