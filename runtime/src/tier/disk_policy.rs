//! What stays on disk of the objects that an origin can give again: what may be written, what goes first, what never goes.
//! Pure.
//!
//! Called by `shard`. S3-FIFO by bytes on disk chooses the victims; a gate by TinyLFU's sketch keeps out what is asked
//! for once, because a page written for one reader wears the disk and pushes out another's. What the gate saves and costs
//! is measured in `benches/tests/hit_ratio.rs`. A pinned object is in no queue.
//!
//! Invariants
//! 1. A pinned object is never a victim.
//! 2. Every stored object is either in the queues or pinned, never both; the sums of bytes are those of what is stored.
//! 3. The same calls with the same seed give the same answers.

use super::admission::Admission;
use super::digest::Digest;
use super::policy::Policy;
use foldhash::fast::FixedState;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashTable};
use std::hash::BuildHasher;

/// Objects pinned at a time (by name; 6 MiB).
pub const DISK_PINS_MAX: usize = 1 << 17;
/// Victims of one call.
const VICTIMS_MAX: usize = 256;
/// Objects let off in one call because they are hot in RAM.
const SPARED_MAX: usize = 64;
/// As many requests lately show that it is not asked for once only.
const ASKED_AGAIN: u64 = 2;
/// Next victims that a candidate is compared with.
const COMPARED_MAX: usize = 16;

/// There are `DISK_PINS_MAX` pinned objects already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many objects are pinned")]
pub struct PinsFull;

/// The evictable objects of a column.
pub struct DiskPolicy {
    policy: Policy<Digest>,
    /// Slots of the policy, found by the digest that they hold.
    slots: HashTable<u32>,
    /// Bytes on disk; 0 when it is not stored (yet).
    pinned: HashMap<Digest, u64, FixedState>,
    pinned_bytes: u64,
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
            pinned: HashMap::with_hasher(FixedState::with_seed(seed)),
            pinned_bytes: 0,
            admission: Admission::new(objects),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// Bytes on disk that may go, and bytes that are pinned.
    pub fn bytes(&self) -> (u64, u64) {
        (self.policy.usage().0, self.pinned_bytes)
    }

    /// An object is on disk; called again when its bytes have changed.
    pub fn on_stored(&mut self, digest: &Digest, bytes: u64) {
        assert!(bytes > 0, "what is stored takes space");
        if let Some(before) = self.pinned.get_mut(digest) {
            self.pinned_bytes = self.pinned_bytes - *before + bytes;
            *before = bytes;
            return;
        }
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

    /// An object is no longer on disk. A pin stays: it is of the name.
    pub fn on_removed(&mut self, digest: &Digest) {
        match self.pinned.get_mut(digest) {
            Some(bytes) => self.pinned_bytes -= std::mem::take(bytes),
            None => drop(self.take(digest)),
        }
    }

    /// Whether an object that was fetched may be written. With room for it always, and when it is pinned; else when it was
    /// asked for again lately, or more often than what it would push out: the mean of the next victims, by bytes, since as
    /// many bytes go as come. By the comparison alone (TinyLFU proper) nothing new comes in where requests go by time and
    /// not by popularity: loops over ten times the disk fetched 60 % of their bytes instead of 40 %.
    pub fn admits(&mut self, digest: &Digest, bytes: u64, room_bytes: u64) -> bool {
        if bytes <= room_bytes || self.pinned.contains_key(digest) {
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

    /// Takes out objects with at least `bytes` on disk, as far as there are and one call gives; the caller deletes them (and
    /// asks `is_pinned` again if it waits before it does). `is_hot`: RAM holds it and has been asked for it; it is let off.
    pub fn victims(&mut self, bytes: u64, mut is_hot: impl FnMut(&Digest) -> bool) -> Vec<(Digest, u64)> {
        let (mut victims, mut sum, mut spared) = (Vec::new(), 0, 0);
        while sum < bytes && victims.len() < VICTIMS_MAX {
            let before = self.policy.usage().0;
            let Some((digest, slot)) = self.policy.evict() else { break };
            let weight = before - self.policy.usage().0;
            self.forget_slot(&digest, slot);
            assert!(!self.pinned.contains_key(&digest), "{digest} is pinned");
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

    /// Keeps an object until `unpin`, stored already or later.
    pub fn pin(&mut self, digest: &Digest) -> Result<(), PinsFull> {
        let pins = self.pinned.len();
        if let Entry::Vacant(vacant) = self.pinned.entry(*digest) {
            if pins >= DISK_PINS_MAX {
                return Err(PinsFull);
            }
            vacant.insert(0);
            if let Some(bytes) = self.take(digest) {
                self.on_stored(digest, bytes);
            }
        }
        Ok(())
    }

    /// Lets go of a pin: the object is as one just stored. False if it was not pinned.
    pub fn unpin(&mut self, digest: &Digest) -> bool {
        let Some(bytes) = self.pinned.remove(digest) else { return false };
        self.pinned_bytes -= bytes;
        if bytes > 0 {
            self.enter(digest, bytes);
        }
        true
    }

    /// Whether it may not go.
    pub fn is_pinned(&self, digest: &Digest) -> bool {
        self.pinned.contains_key(digest)
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
