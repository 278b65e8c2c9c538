//! Extents of object files on their way to a reader: held, coming, or to be read from disk; and those that are brought in
//! ahead of sequential readers, as [`super::super::prefetch`] decides.
//!
//! Invariant: what `prefetch` says is loading has a task here that ends with `on_done` and wakes who waits for it.

use super::super::digest::Digest;
use super::super::names::EXTENT_BYTES;
use super::super::prefetch::{Place, Read};
use super::held::take_held;
use super::{Held, Key, Object, Shard, State, bump};
use crate::io::Io;
use crate::oneshot::Oneshot;
use crate::resident::Resident;
use std::cell::Cell;
use std::ops::Range;

/// How often streams are looked at for idleness, while there are any.
const SWEEP_NS: u64 = 5_000_000_000;

/// An extent in RAM.
pub struct Extent {
    /// Its pages.
    pub pages: Resident,
    /// It is there because it was read ahead for this reader, who would have met the disk otherwise.
    pub is_ahead: bool,
}

/// Where a stretch of an object file is.
pub enum Stretch {
    /// In RAM.
    Held(Extent),
    /// Being read ahead for this reader: wait for it.
    Coming,
    /// On disk.
    Disk,
}

impl<I: Io> Shard<I> {
    /// Where bytes of an object file are that lie in one extent. Notes the read for those that follow it.
    pub fn stretch(&self, digest: &Digest, object: &Object, read: &Range<u64>) -> Stretch {
        self.read_ahead(digest, object, read);
        let place = (*digest, (read.start / EXTENT_BYTES as u64) as u32);
        let coming = self.inner.state.borrow().prefetch.as_ref().is_some_and(|p| p.is_loading(&place));
        if coming {
            return Stretch::Coming;
        }
        self.look(place, object, read)
    }

    /// As [`Shard::stretch`], waiting for what is coming; `None`: on disk.
    pub async fn extent(&self, digest: &Digest, object: &Object, read: &Range<u64>) -> Option<Extent> {
        match self.stretch(digest, object, read) {
            Stretch::Held(extent) => Some(extent),
            Stretch::Coming => self.await_extent(digest, object, read).await,
            Stretch::Disk => None,
        }
    }

    /// Waits for what [`Shard::stretch`] said is coming. `None`: it did not come, and is to be read from disk.
    pub async fn await_extent(&self, digest: &Digest, object: &Object, read: &Range<u64>) -> Option<Extent> {
        let place = (*digest, (read.start / EXTENT_BYTES as u64) as u32);
        let arrival = {
            let state = &mut *self.inner.state.borrow_mut();
            let loading = state.prefetch.as_ref().is_some_and(|p| p.is_loading(&place));
            loading.then(|| {
                let (give, arrival) = Oneshot::new();
                state.awaited.entry(place).or_default().push(give);
                arrival
            })
        };
        if let Some(arrival) = arrival {
            arrival.await;
        }
        match self.look(place, object, read) {
            Stretch::Held(extent) => Some(extent),
            _ => None,
        }
    }

    /// The pages of an extent that is in RAM, without a look at the rest of its object. `None` says nothing. To what decides what stays
    /// it is a read; to reading ahead it is none: for objects of hardly more than an extent.
    pub fn extent_held(&self, digest: &Digest, read: &Range<u64>) -> Option<Resident> {
        let entry = self.lookup(digest)?;
        if self.is_to_be_mended(digest) {
            return None;
        }
        let disk = self.disk_of(digest, &entry).ok()?;
        let extent = self.look_in_ram((*digest, (read.start / EXTENT_BYTES as u64) as u32), read)?;
        if entry.may_go() {
            disk.policy.borrow_mut().on_read(digest);
        }
        Some(extent.pages)
    }

    fn look_in_ram(&self, place: Place, read: &Range<u64>) -> Option<Extent> {
        let state = &mut *self.inner.state.borrow_mut();
        let slot = *state.slots.get(&Key::Extent(place.0, place.1))?;
        let Some(Held::Extent(pages)) = &state.held[slot as usize] else {
            unreachable!("the slot of an extent holds its pages")
        };
        let is_ahead = state.prefetch.as_mut().is_some_and(|p| p.on_used(place, read.end));
        // Without reading ahead this read would have gone to the disk: it is no hit, and says nothing about
        // whether the extent will be asked for again.
        bump(if is_ahead { &self.inner.disk_hits } else { &self.inner.ram_hits });
        if !is_ahead {
            state.policy.touch(slot);
        }
        Some(Extent { pages: pages.clone(), is_ahead })
    }

    fn look(&self, place: Place, object: &Object, read: &Range<u64>) -> Stretch {
        match self.look_in_ram(place, read) {
            Some(extent) => Stretch::Held(extent),
            None => {
                self.on_extent_miss(place, object);
                Stretch::Disk
            }
        }
    }

    fn read_ahead(&self, digest: &Digest, object: &Object, read: &Range<u64>) {
        let numbers = {
            let State { prefetch, slots, promoting, .. } = &mut *self.inner.state.borrow_mut();
            let Some(prefetch) = prefetch else { return };
            let read = Read { digest: *digest, size: object.size, from: read.start, to: read.end };
            let numbers = prefetch.on_read(&read, self.inner.io.now_ns(), |n| {
                slots.contains_key(&Key::Extent(*digest, n)) || promoting.contains(&(*digest, n))
            });
            if prefetch.is_idle() {
                return;
            }
            numbers
        };
        self.drop_unused();
        self.bring(digest, object, numbers);
        if !self.inner.sweeping.replace(true) {
            let me = self.clone();
            self.inner.io.spawn("prefetch-sweep", async move { me.sweep_streams().await });
        }
    }

    fn bring(&self, digest: &Digest, object: &Object, numbers: Vec<u32>) {
        for number in numbers {
            self.inner.state.borrow_mut().promoting.insert((*digest, number));
            let (me, digest, object) = (self.clone(), *digest, object.clone());
            self.inner.io.spawn("prefetch", async move { me.bring_one((digest, number), object).await });
        }
    }

    async fn bring_one(&self, place: Place, object: Object) {
        self.promote(place.0, place.1, &object).await;
        let (numbers, waiting) = {
            let State { prefetch, slots, promoting, awaited, .. } = &mut *self.inner.state.borrow_mut();
            let is_here = slots.contains_key(&Key::Extent(place.0, place.1));
            let prefetch = prefetch.as_mut().expect("it asked for this");
            let numbers = prefetch.on_done(place, is_here, |n| {
                slots.contains_key(&Key::Extent(place.0, n)) || promoting.contains(&(place.0, n))
            });
            (numbers, awaited.remove(&place))
        };
        waiting.into_iter().flatten().for_each(|reader| reader.set(()));
        self.bring(&place.0, &object, numbers);
    }

    /// Ends idle streams, for as long as there are streams.
    async fn sweep_streams(&self) {
        loop {
            self.inner.io.sleep(SWEEP_NS).await;
            let is_idle = {
                let state = &mut *self.inner.state.borrow_mut();
                let prefetch = state.prefetch.as_mut().expect("streams are its");
                prefetch.sweep(self.inner.io.now_ns());
                prefetch.is_idle()
            };
            self.drop_unused();
            if is_idle {
                self.inner.sweeping.set(false);
                return;
            }
        }
    }

    fn drop_unused(&self) {
        let state = &mut *self.inner.state.borrow_mut();
        let dropped = state.prefetch.as_mut().map(|p| p.take_dropped()).unwrap_or_default();
        dropped.into_iter().for_each(|place| drop_place(state, place, &self.inner.evictions));
    }
}

fn drop_place(state: &mut State, (digest, number): Place, evictions: &Cell<u64>) {
    if let Some(slot) = state.slots.remove(&Key::Extent(digest, number)) {
        state.policy.remove(slot);
        take_held(state, slot);
        bump(evictions);
    }
}
