//! What a shard holds in RAM: bytes of packed objects, pinned pages, checksums; how it gets there and leaves.
//!
//! Invariant: a slot of the policy, its `held` value and what names the slot (an entry, or `slots`) come and go together.

use super::super::digest::Digest;
use super::super::index::{NOT_HELD, Place};
use super::super::names::{BLOCK_BYTES, EXTENT_BYTES, SECTOR_BYTES};
use super::{Found, Held, Key, Object, Pinned, Shard, State, bump};
use crate::buffer::footprint_bytes;
use crate::io::{Class, Io};
use crate::journal::{Purpose, segment_path};
use crate::resident::Resident;
use bytes::Bytes;
use crc32c::crc32c;
use std::cell::Cell;
use std::io;
use std::sync::Arc;

/// Extents read in at a time; each occupies the blocking pool for some milliseconds.
const PROMOTIONS_MAX: usize = 8;
/// Packed objects from this size on are pinned when asked for again: sendfile then costs less than the copy.
const PIN_BYTES_MIN: usize = 4 << 10;
/// From here on it costs much less.
const PIN_BYTES_LARGE: usize = 48 << 10;
/// Packed objects pinned at a time (vm.max_map_count is 65530 for the whole process), and what of them is for large ones.
const PINS_MAX: usize = 4096;
const PINS_LARGE: usize = PINS_MAX / 2;

impl<I: Io> Shard<I> {
    /// A packed object's bytes, if they are in RAM: the fast path, without waiting.
    #[inline]
    pub fn get_held(&self, digest: &Digest) -> Option<Found> {
        let (found, pin) = self.find_held(digest)?;
        if pin {
            let (me, digest) = (self.clone(), *digest);
            self.inner.io.spawn("pin", async move { me.pin_packed(digest).await });
        }
        Some(found)
    }

    /// The bytes in RAM, and whether they should move to pinned pages.
    #[inline]
    pub(super) fn find_held(&self, digest: &Digest) -> Option<(Found, bool)> {
        let state = &mut *self.inner.state.borrow_mut();
        let entry = state.index.get(digest)?;
        if entry.held == NOT_HELD || entry.expires_ms != 0 {
            return None;
        }
        let was_asked_for = state.policy.touch(entry.held);
        bump(&self.inner.ram_hits);
        match &state.held[entry.held as usize] {
            Some(Held::Packed(bytes)) => {
                let worth = bytes.len() >= PIN_BYTES_MIN && was_asked_for && self.inner.plan.shared_pages;
                let pins_max = if bytes.len() < PIN_BYTES_LARGE { PINS_MAX - PINS_LARGE } else { PINS_MAX };
                let pin = worth && state.promoting.len() < PROMOTIONS_MAX && state.pins < pins_max;
                let pin = pin && state.promoting.insert((*digest, 0));
                Some((Found::Packed(bytes.clone()), pin))
            }
            Some(Held::Pinned(pinned)) => Some((Found::Pinned(pinned.clone()), false)),
            _ => unreachable!("the slot of a packed object holds its bytes"),
        }
    }

    /// Moves a packed object that is asked for again from the arena to pinned pages of its segment, so that it can be
    /// sent without copying.
    pub(super) async fn pin_packed(&self, digest: Digest) {
        let entry = self.lookup(&digest);
        if let Some(entry) = entry
            && let Place::Packed { segment, offset } = entry.place
        {
            let (from, len) = (offset as usize % SECTOR_BYTES, entry.size as usize);
            let start = u64::from(offset) - from as u64;
            let disk = &self.inner.disks[usize::from(entry.disk)];
            let path = segment_path(disk.names.root(), Purpose::Pack, segment);
            let reading = disk.store.get(segment).expect("an entry names a segment that exists").reading();
            let verify = move |bytes: &[u8]| crc32c(&bytes[from..]) == entry.crc;
            match self.inner.io.pin_resident(&path, start, from + len, Class::Fill, verify).await {
                Ok(Some(pages)) => {
                    let pinned = Pinned { pages, from, len, _reading: reading };
                    self.hold_pinned(&digest, entry.sequence, pinned);
                }
                Ok(None) => {}
                Err(e) => tracing::debug!(%digest, error = %e, "packed object not pinned"),
            }
        }
        self.inner.state.borrow_mut().promoting.remove(&(digest, 0));
    }

    pub(super) fn hold_pinned(&self, digest: &Digest, sequence: u64, pinned: Pinned) {
        let state = &mut *self.inner.state.borrow_mut();
        let Some(entry) = state.index.get(digest).filter(|e| e.sequence == sequence && e.held != NOT_HELD)
        else {
            return;
        };
        if let Some(Held::Packed(_)) = state.held[entry.held as usize].replace(Held::Pinned(pinned)) {
            state.pins += 1;
        }
    }

    /// Keeps a copy in this column's memory.
    pub(super) fn hold_packed(&self, digest: &Digest, sequence: u64, data: &[u8]) -> Option<Bytes> {
        let bytes = (self.inner.plan.hold)(data).or_else(|| {
            self.make_room();
            (self.inner.plan.hold)(data)
        })?;
        let state = &mut *self.inner.state.borrow_mut();
        let entry = state.index.get(digest).filter(|e| e.sequence == sequence)?;
        if entry.held == NOT_HELD {
            let slot = insert_held(
                state,
                Key::Packed(*digest),
                footprint_bytes(data.len()) as u64,
                Held::Packed(bytes.clone()),
                &self.inner.evictions,
            );
            if let (Some(slot), Some(entry)) = (slot, state.index.get_mut(digest)) {
                entry.held = slot;
            }
        }
        Some(bytes)
    }

    /// Drops some objects from RAM: fragmentation can keep the arena full while the policy is within its budget.
    pub fn make_room(&self) {
        let state = &mut *self.inner.state.borrow_mut();
        for _ in 0..32 {
            let Some(victim) = state.policy.evict() else {
                return;
            };
            drop_held(state, victim, &self.inner.evictions);
        }
    }

    pub(super) fn hold_sums(&self, digest: &Digest, sequence: u64, sums: &Arc<[u32]>) {
        let state = &mut *self.inner.state.borrow_mut();
        let key = Key::Sums(*digest);
        let current = state.index.get(digest).is_some_and(|e| e.sequence == sequence);
        if current && !state.slots.contains_key(&key) {
            let weight = (sums.len() * 4 + 128) as u64;
            if let Some(slot) =
                insert_held(state, key.clone(), weight, Held::Sums(sums.clone()), &self.inner.evictions)
            {
                state.slots.insert(key, slot);
            }
        }
    }

    /// A read of an extent that is not in RAM goes to disk; the second one brings it into RAM.
    pub(super) fn on_extent_miss(&self, (digest, number): (Digest, u32), object: &Object) {
        let key = Key::Extent(digest, number);
        {
            let state = &mut *self.inner.state.borrow_mut();
            bump(&self.inner.disk_hits);
            // While there is room everything is kept; after that what is asked for a second time.
            let (used, most) = state.policy.usage();
            let room = used + ((state.promoting.len() + 1) * EXTENT_BYTES) as u64 <= most;
            let wanted = room || state.policy.miss(&key, EXTENT_BYTES as u64);
            let busy = state.promoting.len() >= PROMOTIONS_MAX
                || !self.inner.plan.shared_pages
                || !state.index.get(&digest).is_some_and(|e| e.place == Place::Object);
            if !wanted || busy || !state.promoting.insert((digest, number)) {
                return;
            }
        }
        let (me, object) = (self.clone(), object.clone());
        self.inner.io.spawn("promote", async move { me.promote(digest, number, &object).await });
    }

    pub(super) async fn promote(&self, digest: Digest, number: u32, object: &Object) {
        let offset = u64::from(number) * EXTENT_BYTES as u64;
        let len = (object.size - offset).min(EXTENT_BYTES as u64) as usize;
        {
            // Room first: the arena counts pinned pages against the same memory.
            let state = &mut *self.inner.state.borrow_mut();
            while state.policy.usage().0 + len as u64 > state.policy.usage().1 {
                let Some(victim) = state.policy.evict() else {
                    break;
                };
                drop_held(state, victim, &self.inner.evictions);
            }
        }
        let sums = object.sums.clone();
        let first_block = offset as usize / BLOCK_BYTES;
        let verify = move |bytes: &[u8]| {
            bytes.chunks(BLOCK_BYTES).zip(&sums[first_block..]).all(|(block, &sum)| crc32c(block) == sum)
        };
        let pinned = self.inner.io.pin_resident(&object.path, offset, len, Class::Fill, verify).await;
        self.inner.state.borrow_mut().promoting.remove(&(digest, number));
        match pinned {
            Ok(Some(pages)) => self.hold_extent(digest, number, pages),
            Ok(None) => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => self.on_damaged(&digest),
            // Deleted meanwhile, or a disk that the next read will complain about with the request at hand.
            Err(e) => tracing::debug!(%digest, number, error = %e, "extent not pinned"),
        }
    }

    /// Lets go of what is held of an object in pages that are its file's: they may have changed with it.
    pub(super) fn drop_shared(&self, digest: &Digest) {
        let dropped = take_shared(&mut self.inner.state.borrow_mut(), digest);
        if !dropped.is_empty() {
            dropped.iter().for_each(|_| bump(&self.inner.evictions));
            let me = self.clone();
            self.inner.io.spawn("drop-shared", async move { me.let_go(dropped).await });
        }
    }

    pub(super) fn hold_extent(&self, digest: Digest, number: u32, pages: Resident) {
        let state = &mut *self.inner.state.borrow_mut();
        let key = Key::Extent(digest, number);
        let current = state.index.get(&digest).is_some_and(|e| e.place == Place::Object);
        if current && !state.slots.contains_key(&key) {
            let weight = pages.len() as u64;
            if let Some(slot) =
                insert_held(state, key.clone(), weight, Held::Extent(pages), &self.inner.evictions)
            {
                state.slots.insert(key, slot);
            }
        }
    }
}

pub(super) fn insert_held(
    state: &mut State,
    key: Key,
    weight: u64,
    held: Held,
    evictions: &Cell<u64>,
) -> Option<u32> {
    let mut victims = Vec::new();
    let slot = state.policy.insert(key, weight, &mut victims);
    victims.into_iter().for_each(|v| drop_held(state, v, evictions));
    let slot = slot?;
    if state.held.len() <= slot as usize {
        state.held.resize_with(slot as usize + 1, || None);
    }
    let before = state.held[slot as usize].replace(held);
    assert!(before.is_none(), "slot {slot} is in use");
    Some(slot)
}

pub(super) fn take_held(state: &mut State, slot: u32) -> Option<Held> {
    let held = state.held[slot as usize].take();
    if let Some(Held::Pinned(_)) = held {
        state.pins -= 1;
    }
    held
}

fn take_shared(state: &mut State, digest: &Digest) -> Vec<Held> {
    let Some(entry) = state.index.get_mut(digest) else { return Vec::new() };
    if entry.place != Place::Object {
        let slot = entry.held;
        if !matches!(state.held.get(slot as usize), Some(Some(Held::Pinned(_)))) {
            return Vec::new();
        }
        entry.held = NOT_HELD;
        state.policy.remove(slot);
        return take_held(state, slot).into_iter().collect();
    }
    let extents = entry.size.div_ceil(EXTENT_BYTES as u64) as u32;
    let mut taken = Vec::new();
    for number in 0..extents {
        if let Some(slot) = state.slots.remove(&Key::Extent(*digest, number)) {
            state.policy.remove(slot);
            taken.extend(take_held(state, slot));
            if let Some(prefetch) = &mut state.prefetch {
                prefetch.on_evicted((*digest, number));
            }
        }
    }
    taken
}

pub(super) fn drop_held(state: &mut State, (key, slot): (Key, u32), evictions: &Cell<u64>) {
    bump(evictions);
    drop(take_held(state, slot));
    match key {
        Key::Packed(digest) => {
            let entry = state.index.get_mut(&digest).expect("what is held is in the index");
            assert_eq!(entry.held, slot, "entry and slot name each other");
            entry.held = NOT_HELD;
        }
        other => {
            state.slots.remove(&other);
            if let (Key::Extent(digest, number), Some(prefetch)) = (other, &mut state.prefetch) {
                prefetch.on_evicted((digest, number));
            }
        }
    }
}
