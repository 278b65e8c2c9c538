//! Storing and deleting: one operation on a digest at a time, records in the log before anything is acknowledged.

use super::super::digest::Digest;
use super::super::index::{Entry, Keep, NOT_HELD, Place};
use super::super::log::{Written, is_full};
use super::super::names::{EXTENT_BYTES, Names, PACKED_BYTES_MAX, SegmentKind};
use super::super::object::{Incoming, disk_bytes};
use super::super::record::{Record, RecordKind};
use super::held::take_held;
use super::{Key, PutError, Shard, Stored};
use crate::io::Io;
use crate::shards::SHARDS;
use bytes::Bytes;
use crc32c::crc32c;
use std::io;
use std::task::{Poll, Waker};

/// Expired objects of one shard deleted in one sweep.
const SWEEP_MAX: usize = 256;

impl<I: Io> Shard<I> {
    /// Stores a small object whose bytes are `data`.
    pub async fn put_packed(&self, digest: Digest, data: Bytes, keep: Keep) -> Result<Stored, PutError> {
        assert!(data.len() <= PACKED_BYTES_MAX, "{} bytes are no packed object", data.len());
        let _lock = self.lock(digest).await;
        if self.whole(&digest).is_some_and(|e| e.is_kept_as(keep)) {
            return Ok(Stored::Already);
        }
        let record = Record {
            kind: RecordKind::Packed,
            digest,
            sequence: self.next_sequence(),
            expires_ms: keep.expires_ms,
            size: data.len() as u64,
            data_bytes: data.len() as u32,
            data_crc: crc32c(&data),
            evictable: keep.evictable,
        };
        let Written { segment, offset } = self.inner.pack.append(record, data).await?;
        self.insert(&record, Place::Packed { segment, offset });
        // Not kept in RAM: that is for what is read. The buffer goes back to the pool while the cache still has it.
        Ok(Stored::New)
    }

    /// Names an object file that was received and synced. On any error but success it is discarded.
    pub async fn commit_object(
        &self,
        digest: Digest,
        incoming: Incoming,
        keep: Keep,
    ) -> Result<Stored, PutError> {
        let _lock = self.lock(digest).await;
        if let Some(entry) = self.whole(&digest) {
            self.discard(incoming).await;
            self.keep_better(&digest, &entry, keep).await?;
            return Ok(Stored::Already);
        }
        let record = Record {
            kind: RecordKind::Object,
            digest,
            sequence: self.next_sequence(),
            expires_ms: keep.expires_ms,
            size: incoming.size,
            data_bytes: 0,
            data_crc: incoming.sums_crc,
            evictable: keep.evictable,
        };
        if let Err(e) = self.name_object(&digest, &incoming).await {
            self.discard(incoming).await;
            return Err(if is_full(&e) { PutError::NoSpace } else { PutError::Stopped(e.to_string()) });
        }
        if let Err(e) = self.inner.index_log.append(record, Bytes::new()).await {
            // Under its name but unrecorded: the next start removes it if this does not.
            let path = self.inner.names.object(&digest);
            self.discard(Incoming { path, ..incoming }).await;
            return Err(e.into());
        }
        self.insert(&record, Place::Object);
        self.hold_sums(&digest, record.sequence, &incoming.sums);
        Ok(Stored::New)
    }

    pub(super) async fn name_object(&self, digest: &Digest, incoming: &Incoming) -> io::Result<()> {
        let path = self.inner.names.object(digest);
        self.inner.io.rename(&Names::sums(&incoming.path), &Names::sums(&path)).await?;
        self.inner.io.rename(&incoming.path, &path).await?;
        self.inner.io.sync_dir(&self.inner.names.shard_dir(digest.shard().0)).await
    }

    /// Removes a file that will not be committed and gives its space back.
    pub async fn discard(&self, incoming: Incoming) {
        let _ = self.inner.io.unlink(&Names::sums(&incoming.path)).await;
        let _ = self.inner.io.unlink(&incoming.path).await;
        self.inner.plan.budget.release(incoming.reserved);
    }

    /// An object file that is there already is kept for longer if that is asked: a record says so.
    async fn keep_better(&self, digest: &Digest, entry: &Entry, keep: Keep) -> Result<(), PutError> {
        if entry.is_kept_as(keep) {
            return Ok(());
        }
        let record = Record {
            kind: RecordKind::Object,
            digest: *digest,
            sequence: self.next_sequence(),
            expires_ms: keep.expires_ms,
            size: entry.size,
            data_bytes: 0,
            data_crc: entry.crc,
            evictable: keep.evictable,
        };
        self.inner.index_log.append(record, Bytes::new()).await?;
        if let Some(entry) = self.inner.state.borrow_mut().index.get_mut(digest) {
            entry.sequence = record.sequence;
            entry.expires_ms = record.expires_ms;
            entry.evictable = record.evictable;
        }
        Ok(())
    }

    /// Deletes an object; false if there was none. Readers under way finish.
    pub async fn delete(&self, digest: Digest) -> Result<bool, PutError> {
        let _lock = self.lock(digest).await;
        if self.lookup(&digest).is_none() {
            return Ok(false);
        }
        self.remove(digest).await?;
        Ok(true)
    }

    /// The caller holds the digest's lock.
    async fn remove(&self, digest: Digest) -> Result<u64, PutError> {
        let record = Record {
            kind: RecordKind::Deleted,
            digest,
            sequence: self.next_sequence(),
            expires_ms: 0,
            size: 0,
            data_bytes: 0,
            data_crc: 0,
            evictable: false,
        };
        self.inner.index_log.append(record, Bytes::new()).await?;
        let Some(old) = self.forget(&digest) else { return Ok(0) };
        self.free_disk(&digest, &old).await;
        Ok(old.size)
    }

    /// Deletes objects whose time is over. Called now and then; looks at one shard at a time.
    pub async fn sweep_expired(&self) -> Result<(), PutError> {
        for shard in 0..SHARDS {
            let now_ms = self.inner.io.unix_ms();
            let gone = self.inner.state.borrow().index.expired(shard, now_ms, SWEEP_MAX);
            for digest in gone {
                let _lock = self.lock(digest).await;
                let still =
                    self.inner.state.borrow().index.get(&digest).is_some_and(|e| e.is_expired(now_ms));
                if still {
                    self.remove(digest).await?;
                }
            }
            self.inner.io.yield_now().await;
        }
        Ok(())
    }

    /// Deletes evictable objects, the oldest first, until `bytes` of them are gone; returns how many were.
    pub async fn evict_from_disk(&self, bytes: u64) -> Result<u64, PutError> {
        let mut freed = 0;
        while freed < bytes {
            let Some((digest, sequence)) = self.inner.state.borrow_mut().evictable.pop_front() else { break };
            let _lock = self.lock(digest).await;
            // What was deleted, or stored for good since, is not the object that was queued.
            let same = |e: &Entry| e.evictable && e.sequence == sequence;
            let still = self.inner.state.borrow().index.get(&digest).is_some_and(same);
            if still {
                freed += self.remove(digest).await?;
            }
        }
        Ok(freed)
    }

    /// What is known of an object that is there and not damaged.
    fn whole(&self, digest: &Digest) -> Option<Entry> {
        let entry = self.lookup(digest)?;
        (!self.inner.state.borrow().damaged.contains(digest)).then_some(entry)
    }

    pub(super) fn next_sequence(&self) -> u64 {
        let state = &mut *self.inner.state.borrow_mut();
        state.next_sequence += 1;
        state.next_sequence
    }

    pub(super) fn insert(&self, record: &Record, place: Place) {
        let old = self.forget(&record.digest);
        let state = &mut *self.inner.state.borrow_mut();
        let Record { digest, size, sequence, expires_ms, data_crc: crc, evictable, .. } = *record;
        state.damaged.remove(&digest);
        if evictable {
            state.evictable.push_back((digest, sequence));
        }
        state
            .index
            .insert(digest, Entry { place, size, sequence, expires_ms, crc, evictable, held: NOT_HELD });
        // An object file of the same name was replaced by the rename; only its space is counted twice.
        match old.map(|o| (o.place, o)) {
            Some((Place::Packed { segment, .. }, old)) => self.sub_live(segment, &old, &digest),
            Some((Place::Object, old)) => self.inner.plan.budget.release(disk_bytes(old.size)),
            None => {}
        }
    }

    /// Takes an object out of index and RAM.
    pub(super) fn forget(&self, digest: &Digest) -> Option<Entry> {
        let state = &mut *self.inner.state.borrow_mut();
        let old = state.index.remove(digest)?;
        if let Some(prefetch) = &mut state.prefetch {
            prefetch.on_forgotten(digest);
        }
        let mut slots = vec![old.held];
        slots.extend(state.slots.remove(&Key::Sums(*digest)));
        if old.place == Place::Object {
            let extents = old.size.div_ceil(EXTENT_BYTES as u64) as u32;
            slots.extend((0..extents).filter_map(|n| state.slots.remove(&Key::Extent(*digest, n))));
        }
        for slot in slots.into_iter().filter(|&s| s != NOT_HELD) {
            state.policy.remove(slot);
            take_held(state, slot);
        }
        Some(old)
    }

    pub(super) async fn free_disk(&self, digest: &Digest, old: &Entry) {
        match old.place {
            Place::Packed { segment, .. } => self.sub_live(segment, old, digest),
            Place::Object => {
                let path = self.inner.names.object(digest);
                for file in [Names::sums(&path), path] {
                    if let Err(e) = self.inner.io.unlink(&file).await {
                        tracing::error!(path = %file.display(), error = %e, "deleted object's file stays until the next start");
                    }
                }
                self.inner.plan.budget.release(disk_bytes(old.size));
            }
        }
    }

    pub(super) fn sub_live(&self, segment: u32, old: &Entry, digest: &Digest) {
        let dead = Record {
            kind: RecordKind::Packed,
            digest: *digest,
            sequence: old.sequence,
            expires_ms: old.expires_ms,
            size: old.size,
            data_bytes: old.size as u32,
            data_crc: old.crc,
            evictable: old.evictable,
        };
        let known = self.inner.segments.borrow().get(segment).cloned();
        let known = known.expect("an entry names a segment that exists");
        if known.sub_live(dead.batch_bytes() as u64) {
            let me = self.clone();
            self.inner.io.spawn("segment-remove", async move {
                me.inner.segments.borrow_mut().remove(segment);
                let path = me.inner.names.segment(SegmentKind::Pack, segment);
                match me.inner.io.unlink(&path).await {
                    Ok(()) => me.inner.plan.budget.release(known.disk_bytes),
                    Err(e) => tracing::error!(path = %path.display(), error = %e, "dead segment stays until the next start"),
                }
            });
        }
    }

    /// Waits for the operations on a digest that came before.
    pub(super) async fn lock(&self, digest: Digest) -> Lock<I> {
        std::future::poll_fn(|cx| {
            let state = &mut *self.inner.state.borrow_mut();
            match state.locked.get_mut(&digest) {
                Some(waiting) => {
                    waiting.push(cx.waker().clone());
                    Poll::Pending
                }
                None => {
                    state.locked.insert(digest, Vec::new());
                    Poll::Ready(())
                }
            }
        })
        .await;
        Lock { shard: self.clone(), digest }
    }
}

pub(super) struct Lock<I: Io> {
    shard: Shard<I>,
    digest: Digest,
}

impl<I: Io> Drop for Lock<I> {
    fn drop(&mut self) {
        let waiting = self.shard.inner.state.borrow_mut().locked.remove(&self.digest);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}
