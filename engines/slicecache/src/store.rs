//! Slices and records on their way into the tier and out of it. Called by `shard`, which spawns one task for each.
//!
//! Everything stored here is evictable: an origin can give it again. A disk error or a full disk makes a slice one that is not
//! stored, never one that fails.

use crate::limits::{LOOKED_AT_ONCE, RESPONSE_BYTES_MAX};
use crate::live::{Live, Recorded, record_digest, slice_digest};
use crate::log::entry::Entry;
use crate::planted::{self, Bug};
use crate::shard::Owner;
use crate::state::key::Name;
use crate::state::object::Object;
use crate::state::purge::{self, Verdict};
use crate::state::slices::Slices;
use bytes::Bytes;
use runtime::io::{Class, Io};
use runtime::tier::{Digest, Found, Keep, PACKED_BYTES_MAX, PutError, WRITE_BYTES, WRITES_MAX};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

const KEEP: Keep = Keep { expires_ms: 0, evictable: true, pinned: false };
/// Files of this engine in `incoming/` are numbered apart from those of others.
const INCOMING_FROM: u64 = 1 << 63;

impl<I: Io> Owner<I> {
    /// Puts a slice that is whole in memory into the tier, and says whether it is there.
    pub(crate) async fn store(self: Rc<Self>, live: Rc<Live<I>>, epoch: u64, slice: u64) {
        let bytes = live.state.borrow().memory.get(&slice).map_or(0, |slice| slice.bytes);
        let buffers = bytes.div_ceil(WRITE_BYTES as u64).clamp(1, WRITES_MAX as u64);
        let _turn = self.stores.take(buffers).await;
        let taken = {
            let state = live.state.borrow();
            if state.object.epoch() != epoch {
                return;
            }
            let number = state.known.as_ref().filter(|_| live.is_current.get()).map(|known| known.number);
            number.map(|number| (live.slice_digest(number, slice), state.memory[&slice].pieces.clone()))
        };
        if planted::is(Bug::FreedEarly) {
            live.state.borrow_mut().memory.remove(&slice);
        }
        let stored = match taken {
            Some((digest, pieces)) if self.is_worth_it(&live, &digest, bytes) => {
                self.put(digest, &pieces).await.then_some(digest)
            }
            Some(_) => {
                self.metrics.not_admitted.inc();
                None
            }
            None => None,
        };
        let is_wanted = live.is_current.get() && live.state.borrow().object.epoch() == epoch;
        if let (Some(digest), false) = (stored, is_wanted) {
            self.delete(digest).await;
        }
        self.on_stored(&live, epoch, slice, stored.is_some() && is_wanted);
    }

    async fn put(&self, digest: Digest, pieces: &[Bytes]) -> bool {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        for is_last in [false, true] {
            let put = match bytes <= PACKED_BYTES_MAX as u64 {
                true => self.put_packed(digest, pieces).await,
                false => self.put_file(digest, pieces, bytes).await,
            };
            match put {
                Ok(()) => return true,
                Err(PutError::NoSpace) if !is_last && (self.make_room)(bytes).await => {}
                Err(error) => {
                    tracing::debug!(%digest, %error, "a slice is not stored");
                    return false;
                }
            }
        }
        false
    }

    /// Whether a slice is to be stored: its object was asked for often enough, and if the disk is full it is worth its place. One that
    /// is not stays in memory until its readers have it; where there is not enough left of that for another response it is stored all
    /// the same, or readers would wait for each other's memory.
    fn is_worth_it(&self, live: &Live<I>, digest: &Digest, bytes: u64) -> bool {
        let is_used = live.asked.get() >= self.config.uses_min;
        (is_used && self.tier.admits(digest, bytes)) || self.memory.left() < RESPONSE_BYTES_MAX
    }

    async fn put_packed(&self, digest: Digest, pieces: &[Bytes]) -> Result<(), PutError> {
        let data = match pieces {
            [piece] => piece.clone(),
            pieces => Bytes::from(pieces.concat()),
        };
        self.tier.put_packed(digest, data, KEEP).await.map(|_| ())
    }

    async fn put_file(&self, digest: Digest, pieces: &[Bytes], bytes: u64) -> Result<(), PutError> {
        let number = INCOMING_FROM + self.files_total.get();
        self.files_total.set(self.files_total.get() + 1);
        let mut writer = self.tier.begin_object(number, Some(bytes), Class::Fill).await?;
        let (mut left, mut pieces, mut piece) = (bytes, pieces.iter(), Bytes::new());
        while left > 0 {
            let len = usize::try_from(left).map_or(WRITE_BYTES, |left| left.min(WRITE_BYTES));
            let mut buf = self.buffer(len).await.ok_or(PutError::Busy)?;
            let mut at = 0;
            while at < len {
                if piece.is_empty() {
                    piece = pieces.next().expect("pieces as long as the slice").clone();
                }
                let part = piece.split_to(piece.len().min(len - at));
                buf[at..at + part.len()].copy_from_slice(&part);
                at += part.len();
            }
            writer.write(buf, len).await?;
            self.io.yield_now().await;
            left -= len as u64;
        }
        let incoming = writer.finish().await?;
        self.tier.commit_object(digest, incoming, KEEP).await.map(|_| ())
    }

    /// What cannot be deleted goes when the disk is full; `false`: such a thing.
    pub(crate) async fn delete(&self, digest: Digest) -> bool {
        let deleted = self.tier.delete(digest).await;
        if let Err(error) = &deleted {
            tracing::debug!(%digest, %error, "what is of no more use stays until the disk is full");
        }
        deleted.is_ok()
    }

    /// Deletes what is stored of these slices of a version.
    pub(crate) async fn delete_version(&self, primary: Name, number: u64, slices: Range<u64>) {
        for slice in slices {
            let digest = slice_digest(&primary, number, slice);
            if self.tier.size(&digest).is_some() {
                self.delete(digest).await;
            }
            if slice % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1 {
                self.io.yield_now().await;
            }
        }
    }

    /// Writes down what is known of an object, until what is written is what is known.
    pub(crate) async fn record(self: Rc<Self>, live: Rc<Live<I>>) {
        loop {
            let (name, entry) = {
                let state = &mut *live.state.borrow_mut();
                // Nobody finds it any more, and what is written from here on nobody would delete before he who forgot it answers.
                if !live.is_current.get() {
                    state.record = Recorded::No;
                    return;
                }
                state.record = Recorded::Writing { is_stale: false };
                (live.name.get(), state.entry(&live.key.target()))
            };
            let is_written = match entry.as_ref().and_then(|entry| Some((entry, entry.encode()?))) {
                Some((entry, bytes)) => self.write_record(&live.primary, &name, entry, bytes.into()).await,
                None => false,
            };
            if !live.is_current.get() && is_written {
                // What was written is no more, whoever took its place writes its own.
                self.delete(record_digest(&live.primary, &name)).await;
                self.rewrite_record(&name);
            }
            let state = &mut *live.state.borrow_mut();
            let is_stale = state.record == Recorded::Writing { is_stale: true };
            if !is_stale || !live.is_current.get() {
                state.record = if is_written { Recorded::Yes } else { Recorded::No };
                return;
            }
        }
    }

    async fn write_record(&self, primary: &Name, name: &Name, entry: &Entry, bytes: Bytes) -> bool {
        let put = |name: &Name| self.tier.replace_packed(record_digest(primary, name), bytes.clone(), KEEP);
        let mut written = put(name).await;
        if written.is_ok() && !entry.vary.is_empty() {
            // Under the object's own name it says on which fields answers depend.
            written = put(primary).await;
        }
        written.inspect_err(|error| tracing::debug!(%error, "the record of an object is not stored")).is_ok()
    }

    /// The record under a name, if it can be used.
    pub(crate) async fn read_record(&self, primary: &Name, name: &Name) -> Option<Entry> {
        let entry = self.read_entry(&record_digest(primary, name)).await?;
        (!self.disowned.borrow().holds(primary)).then_some(entry)
    }

    /// As [`Owner::read_record`], under a name in the tier.
    pub(crate) async fn read_entry(&self, digest: &Digest) -> Option<Entry> {
        self.tier.load(digest).await.ok()?;
        // On a disk that is out there may be purges that nobody knows of.
        if !self.tier.knows_all() {
            return None;
        }
        let bytes = match self.tier.get(digest).await {
            Ok(Some(Found::Packed(bytes) | Found::Read(bytes))) => bytes,
            Ok(Some(Found::Pinned(pinned))) => {
                Bytes::copy_from_slice(&pinned.pages[pinned.from..pinned.from + pinned.len])
            }
            Ok(Some(Found::Object(_)) | None) => return None,
            Err(error) => {
                tracing::debug!(%digest, %error, "the record of an object cannot be read");
                return None;
            }
        };
        Entry::decode(&bytes)
    }

    /// Looks into the tier for what there is of an object, and wakes those who wait for that.
    pub(crate) async fn load(self: Rc<Self>, live: Rc<Live<I>>) {
        let name = live.name.get();
        if let Some(entry) = self.read_record(&live.primary, &name).await
            && entry.target == live.key.target()
            && (name != live.primary || entry.vary.is_empty())
        {
            self.adopt_record(&live, entry).await;
        }
        live.is_loaded.set(true);
        live.loading.wake();
    }

    /// What purges say of a record.
    pub(crate) fn verdict_of(&self, entry: &Entry) -> Verdict {
        let (generation, target) = (entry.generation, entry.target.as_str());
        self.purges.borrow().verdict(&purge::Entry { generation, target, tags: &entry.tags })
    }

    async fn adopt_record(self: &Rc<Self>, live: &Rc<Live<I>>, entry: Entry) {
        let slices = Slices { size: entry.version.size, slice_bytes: entry.slice_bytes };
        let mut held = Vec::new();
        for slice in 0..slices.count() {
            let bounds = slices.bytes(slice);
            let size = self.tier.size(&live.slice_digest(entry.number, slice));
            if size == Some(bounds.end - bounds.start) {
                held.push(slice);
            }
            if slice % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1 {
                self.io.yield_now().await;
            }
        }
        let freshness = match self.verdict_of(&entry) {
            Verdict::Gone => {
                self.delete(record_digest(&live.primary, &live.name.get())).await;
                return self.drop_slices(live.primary, entry.number, 0..slices.count());
            }
            Verdict::Soft => entry.freshness.expired(),
            Verdict::Keep => entry.freshness,
        };
        // It was asked for often enough to be stored.
        live.asked.set(live.asked.get().max(self.config.uses_min));
        let state = &mut *live.state.borrow_mut();
        let version = (entry.version, entry.slice_bytes);
        state.object = Object::stored(self.config.slicing(&live.key.path), version, freshness, held);
        state.known = Some(crate::live::Known {
            number: entry.number,
            generation: entry.generation,
            lines: Arc::new(entry.lines),
            tags: entry.tags,
            vary: entry.vary,
        });
        state.record = Recorded::Yes;
    }
}
