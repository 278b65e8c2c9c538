//! What stays on disk of the objects that may go: what may be written, what goes first. Pure.
//!
//! Called by `shard`. S3-FIFO by bytes on disk chooses the victims; a gate by TinyLFU's sketch keeps out what is asked
//! for once, because a page written for one reader wears the disk and pushes out another's. What the gate saves and costs
//! is measured in `benches/tests/hit_ratio.rs`. Objects that are kept for good or pinned are never told here.
//!
//! Invariants
//! 1. What is stored is in the queues once; the sum of bytes is that of what is stored.
//! 2. The same calls with the same seed give the same answers.

use super::admission::Admission;
use super::digest::Digest;
use super::policy::Policy;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Victims of one call.
const VICTIMS_MAX: usize = 256;
/// Objects let off in one call because they are hot in RAM.
const SPARED_MAX: usize = 64;
/// As many requests lately show that it is not asked for once only.
const ASKED_AGAIN: u64 = 2;
/// Next victims that a candidate is compared with.
const COMPARED_MAX: usize = 16;

/// The evictable objects of a column on one disk.
pub struct DiskPolicy {
    policy: Policy<Digest>,
    /// Slots of the policy, found by the digest that they hold.
    slots: HashTable<u32>,
    admission: Admission,
    hasher: FixedState,
}

impl DiskPolicy {
    /// For about so many objects on disk. The seed is random on a node: digests are chosen by clients.
    pub fn new(objects: usize, seed: u64) -> DiskPolicy {
        DiskPolicy {
            // The disk's budget is shared with what is kept for good: `shard` asks for victims when it needs room.
            policy: Policy::new(u64::MAX, seed),
            slots: HashTable::new(),
            admission: Admission::new(objects),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// Bytes on disk that may go.
    pub fn bytes(&self) -> u64 {
        self.policy.usage().0
    }

    /// An object is on disk; called again when its bytes have changed.
    pub fn on_stored(&mut self, digest: &Digest, bytes: u64) {
        assert!(bytes > 0, "what is stored takes space");
        match self.find(digest) {
            Some(slot) if self.policy.get(slot).1 == bytes => return,
            Some(_) => drop(self.take(digest)),
            None => {}
        }
        self.enter(digest, bytes);
    }

    /// Someone asked for an object, stored or not. What RAM answers need not be told: `victims` asks.
    pub fn on_read(&mut self, digest: &Digest) {
        self.admission.record(self.hasher.hash_one(digest));
        if let Some(slot) = self.find(digest) {
            self.policy.touch(slot);
        }
    }

    /// An object is no longer on disk, or is kept for good from now on. No matter if it was never told.
    pub fn on_removed(&mut self, digest: &Digest) {
        self.take(digest);
    }

    /// Whether an object that was fetched may be written. With room for it always; else when it was asked for again lately,
    /// or more often than what it would push out: the mean of the next victims, by bytes, since as
    /// many bytes go as come. By the comparison alone (TinyLFU proper) nothing new comes in where requests go by time and
    /// not by popularity: loops over ten times the disk fetched 60 % of their bytes instead of 40 %.
    pub fn admits(&mut self, digest: &Digest, bytes: u64, room_bytes: u64) -> bool {
        if bytes <= room_bytes {
            return true;
        }
        let asked = self.admission.estimate(self.hasher.hash_one(digest));
        let (mut victim_bytes, mut victim_asked) = (0u128, 0u128);
        for (victim, weight) in self.policy.coldest(COMPARED_MAX) {
            victim_bytes += u128::from(weight);
            victim_asked +=
                u128::from(weight) * u128::from(self.admission.estimate(self.hasher.hash_one(victim)));
            if victim_bytes >= u128::from(bytes - room_bytes) {
                break;
            }
        }
        // Nothing may go: no.
        victim_bytes > 0 && (asked >= ASKED_AGAIN || u128::from(asked) * victim_bytes > victim_asked)
    }

    /// Takes out objects with at least `bytes` on disk, as far as there are and one call gives; the caller deletes them.
    /// `is_hot`: RAM holds it and has been asked for it; it is let off.
    pub fn victims(&mut self, bytes: u64, mut is_hot: impl FnMut(&Digest) -> bool) -> Vec<(Digest, u64)> {
        let (mut victims, mut sum, mut spared) = (Vec::new(), 0, 0);
        while sum < bytes && victims.len() < VICTIMS_MAX {
            let before = self.policy.usage().0;
            let Some((digest, slot)) = self.policy.evict() else { break };
            let weight = before - self.policy.usage().0;
            self.forget_slot(&digest, slot);
            if spared < SPARED_MAX && is_hot(&digest) {
                spared += 1;
                self.admission.record(self.hasher.hash_one(digest));
                let slot = self.enter(&digest, weight);
                // From the small queue to the main one, if it is not remembered.
                self.policy.touch(slot);
                self.policy.touch(slot);
                continue;
            }
            sum += weight;
            victims.push((digest, weight));
        }
        victims
    }

    fn find(&self, digest: &Digest) -> Option<u32> {
        self.slots.find(self.hasher.hash_one(digest), |&slot| self.policy.get(slot).0 == digest).copied()
    }

    fn enter(&mut self, digest: &Digest, bytes: u64) -> u32 {
        let mut victims = Vec::new();
        let slot = self.policy.insert(*digest, bytes, &mut victims).expect("no budget is passed");
        assert!(victims.is_empty(), "without a budget nothing goes unasked");
        let (policy, hasher) = (&self.policy, &self.hasher);
        self.slots.insert_unique(hasher.hash_one(digest), slot, |&s| hasher.hash_one(policy.get(s).0));
        slot
    }

    /// Out of the queues; its bytes.
    fn take(&mut self, digest: &Digest) -> Option<u64> {
        let slot = self.find(digest)?;
        let bytes = self.policy.get(slot).1;
        self.forget_slot(digest, slot);
        self.policy.remove(slot);
        Some(bytes)
    }

    fn forget_slot(&mut self, digest: &Digest, slot: u32) {
        let found = self.slots.find_entry(self.hasher.hash_one(digest), |&s| s == slot);
        found.expect("what the policy holds is known").remove();
    }
}

#[cfg(test)]
mod tests;
