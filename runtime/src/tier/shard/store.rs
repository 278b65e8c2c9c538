//! Storing and deleting: one operation on a digest at a time, records in the log before anything is acknowledged.

use super::super::digest::Digest;
use super::super::disk::Disk;
use super::super::index::{Entry, Keep, NOT_HELD, Place};
use super::super::names::{EXTENT_BYTES, Names, PACKED_BYTES_MAX};
use super::super::object::{Incoming, ObjectWriter, disk_bytes};
use super::super::record::{Record, Said, packed_bytes};
use super::held::take_held;
use super::{Held, Key, PutError, ReadError, Shard, Stored};
use crate::io::{Class, Io};
use crate::planted::{self, Bug};
use crate::shards::SHARDS;
use bytes::Bytes;
use crc32c::crc32c;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
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
        let keep = self.promised(&digest, keep);
        self.put_locked(digest, data, keep).await
    }

    /// Stores a small object in the place of the one of that name, if there is one: of names that are no digest of the bytes.
    /// After a crash it is the one or the other.
    pub async fn replace_packed(&self, digest: Digest, data: Bytes, keep: Keep) -> Result<Stored, PutError> {
        assert!(digest.is_private() && data.len() <= PACKED_BYTES_MAX, "{} bytes of {digest}", data.len());
        let _lock = self.lock(digest).await;
        self.put_locked(digest, data, keep).await
    }

    /// The caller holds the digest's lock.
    async fn put_locked(&self, digest: Digest, data: Bytes, keep: Keep) -> Result<Stored, PutError> {
        let disk = self.choose_disk(hash_of(&digest), packed_bytes(data.len() as u64))?;
        let storing = disk.storing();
        if !self.set_aside(&disk) || disk.store.budget().is_short() {
            // The pack that is being written is for what is moved out of others.
            return Err(PutError::NoSpace);
        }
        let record = Record {
            said: Said::Packed,
            digest,
            sequence: self.next_sequence(),
            expires_ms: keep.expires_ms,
            size: data.len() as u64,
            crc: crc32c(&data),
            evictable: keep.evictable,
            pinned: keep.pinned,
        };
        let written = disk.pack.append_synced(record.frame(), data).await.map_err(PutError::from);
        let written = written.inspect_err(|e| self.note_unsettled(&digest, e))?;
        self.insert(&disk, &record, Place::Packed { segment: written.segment, offset: written.offset }).await;
        drop(storing);
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
        let disk = self.inner.disks[usize::from(incoming.disk)].clone();
        if let Some(reason) = disk.out() {
            self.discard(incoming).await;
            return Err(PutError::Stopped(reason.to_string()));
        }
        let storing = disk.storing();
        if !self.set_aside(&disk) {
            self.discard(incoming).await;
            return Err(PutError::NoSpace);
        }
        let keep = self.promised(&digest, keep);
        let record = Record {
            said: Said::File,
            digest,
            sequence: self.next_sequence(),
            expires_ms: keep.expires_ms,
            size: incoming.size,
            crc: incoming.sums_crc,
            evictable: keep.evictable,
            pinned: keep.pinned,
        };
        if let Err(e) = self.name_object(&disk, &digest, &incoming).await {
            self.discard(incoming).await;
            return Err(disk.failed(&disk.names.object(&digest), e));
        }
        if let Err(e) = self.append_index(&disk, &record).await {
            self.note_unsettled(&digest, &e);
            // If the next start finds the record all the same, the file must be whole.
            if !may_be_written(&e) {
                self.discard_named(&disk, digest, incoming).await;
            }
            return Err(e);
        }
        self.insert(&disk, &record, Place::Object).await;
        drop(storing);
        self.hold_sums(&digest, record.sequence, &incoming.sums);
        Ok(Stored::New)
    }

    /// A put that was refused may be found by the next start: until then it cannot be deleted.
    fn note_unsettled(&self, digest: &Digest, e: &PutError) {
        if may_be_written(e) {
            self.inner.state.borrow_mut().unsettled.insert(*digest);
        }
    }

    async fn name_object(&self, disk: &Rc<Disk<I>>, digest: &Digest, incoming: &Incoming) -> io::Result<()> {
        let path = disk.names.object(digest);
        self.inner.io.rename(&Names::sums(&incoming.path), &Names::sums(&path)).await?;
        self.inner.io.rename(&incoming.path, &path).await?;
        self.inner.io.sync_dir(&disk.names.shard_dir(digest.shard().0)).await
    }

    /// Under its name but surely unrecorded: the next start removes it if this does not. Unless an earlier record names it:
    /// then it has taken the place of the same bytes.
    async fn discard_named(&self, disk: &Rc<Disk<I>>, digest: Digest, incoming: Incoming) {
        let is_named = |e: Entry| e.disk == disk.number && e.place == Place::Object;
        if self.lookup_any(&digest).is_some_and(is_named) {
            disk.store.budget().release(incoming.reserved);
            return;
        }
        let path = disk.names.object(&digest);
        self.discard(Incoming { path, ..incoming }).await;
    }

    /// How an object is to be kept that is stored anew: as well as whoever stored it before was promised, even if it has to
    /// be stored anew because it is damaged or its disk is out.
    fn promised(&self, digest: &Digest, keep: Keep) -> Keep {
        self.lookup(digest).map_or(keep, |entry| entry.kept_as_well(keep))
    }

    /// Removes a file that will not be committed and gives its space back.
    pub async fn discard(&self, incoming: Incoming) {
        let _ = self.inner.io.unlink(&Names::sums(&incoming.path)).await;
        let _ = self.inner.io.unlink(&incoming.path).await;
        self.inner.disks[usize::from(incoming.disk)].store.budget().release(incoming.reserved);
    }

    /// An object that is there is kept at least so well from now on.
    pub async fn keep(&self, digest: Digest, keep: Keep) -> Result<(), PutError> {
        let _lock = self.lock(digest).await;
        match self.whole(&digest) {
            Some(entry) => self.keep_better(&digest, &entry, keep).await,
            None => Ok(()),
        }
    }

    /// An object that is there already is kept for longer if that is asked: a record says so.
    async fn keep_better(&self, digest: &Digest, entry: &Entry, keep: Keep) -> Result<(), PutError> {
        if entry.is_kept_as(keep) {
            return Ok(());
        }
        let disk = self.inner.disks[usize::from(entry.disk)].clone();
        let Keep { expires_ms, evictable, pinned } = entry.kept_as_well(keep);
        let sequence = self.next_sequence();
        let record = Record {
            sequence,
            expires_ms,
            evictable,
            pinned,
            ..super::super::checkpoint::record_of(*digest, entry)
        };
        self.append_index(&disk, &record).await?;
        let state = &mut *self.inner.state.borrow_mut();
        if let Some(entry) = state.index.get_mut(digest) {
            (entry.sequence, entry.expires_ms) = (sequence, expires_ms);
            (entry.evictable, entry.pinned) = (evictable, pinned);
            self.tell_policy(digest, entry);
        }
        Ok(())
    }

    /// Deletes an object and forgets where it came from; false if there was neither. Readers under way finish.
    pub async fn delete(&self, digest: Digest) -> Result<bool, PutError> {
        let _lock = self.lock(digest).await;
        // An older copy on a disk that does not work would come back with it.
        let has_older = {
            let state = self.inner.state.borrow();
            state.outdated.contains(&digest) || state.unsettled.contains(&digest)
        };
        let known = if has_older { Err(ReadError::Out(digest)) } else { self.maybe_lost(&digest) };
        known.map_err(|e| PutError::Stopped(e.to_string()))?;
        let could_come_back = self.forget_any_origin(digest).await?;
        if self.lookup(&digest).is_none() {
            // A put whose write failed may be found by the next start all the same.
            let out = self.inner.disks.iter().find_map(|d| d.out());
            return out.map_or(Ok(could_come_back), |reason| Err(PutError::Stopped(reason.to_string())));
        }
        self.remove(digest).await?;
        Ok(true)
    }

    /// The caller holds the digest's lock.
    async fn remove(&self, digest: Digest) -> Result<u64, PutError> {
        let Some(disk) = self.lookup_any(&digest).map(|e| self.inner.disks[usize::from(e.disk)].clone())
        else {
            return Ok(0);
        };
        let record = Record {
            said: Said::Deleted,
            digest,
            sequence: self.next_sequence(),
            expires_ms: 0,
            size: 0,
            crc: 0,
            evictable: false,
            pinned: false,
        };
        if !planted::is(Bug::DeletionUnrecorded) {
            self.append_index(&disk, &record).await?;
        }
        let Some((old, held)) = self.forget(&digest) else { return Ok(0) };
        // Before the file is unlinked: its last descriptor to close would free all of its blocks, here.
        self.let_go(held).await;
        self.free_disk(&digest, &old).await;
        Ok(old.size)
    }

    /// Whether no disk that is out may have an older copy of what is deleted here, which was promised more.
    fn deletions_last(&self) -> bool {
        self.knows_all() && self.inner.state.borrow().outdated.is_empty()
    }

    /// Deletes objects whose time is over. Called now and then; looks at one shard at a time.
    pub async fn sweep_expired(&self) -> Result<(), PutError> {
        if !self.deletions_last() {
            return Ok(());
        }
        for shard in 0..SHARDS {
            let now_ms = self.inner.io.unix_ms();
            let gone = self.inner.state.borrow().index.expired(shard, now_ms, SWEEP_MAX);
            for digest in gone {
                let _lock = self.lock(digest).await;
                let works = |e: &Entry| self.inner.disks[usize::from(e.disk)].out().is_none();
                if self.lookup_any(&digest).is_some_and(|e| e.is_expired(now_ms) && works(&e)) {
                    self.remove(digest).await?;
                }
            }
            self.inner.io.yield_now().await;
        }
        Ok(())
    }

    /// Makes room on disk: deletes objects that may go, in the order of the disk's policy, until `bytes` of them are gone, and
    /// rewrites packs that are mostly dead. Returns about how much.
    pub async fn evict_from_disk(&self, bytes: u64) -> Result<u64, PutError> {
        let mut freed = 0;
        // All columns make room on the same disk: spread over several it would not hold what is to come.
        let working = self.inner.disks.iter().filter(|d| d.out().is_none());
        let Some(disk) = working.max_by_key(|d| (d.room_bytes(), d.number)).cloned() else { return Ok(0) };
        while freed < bytes && self.deletions_last() {
            let victims = disk.policy.borrow_mut().victims(bytes - freed, |digest| self.is_held(digest));
            if victims.is_empty() {
                break;
            }
            for (at, (digest, _)) in victims.iter().enumerate() {
                match self.evict_one(&disk, *digest).await {
                    Ok(bytes) => freed += bytes,
                    Err(e) => {
                        // They stay, and the policy must know.
                        victims[at..].iter().for_each(|(digest, _)| self.tell_policy_again(digest));
                        return Err(e);
                    }
                }
            }
        }
        // Packed objects give their space back with their pack.
        Ok(freed.max(self.reclaim(bytes).await))
    }

    /// Whether what an origin can give again is worth its place on disk: as long as there is room, and then if it is asked for
    /// again, or more often than what would go for it (`disk_policy`). This counts as having been asked for.
    pub fn admits(&self, digest: &Digest, bytes: u64) -> bool {
        let Ok(disk) = self.choose_disk(hash_of(digest), bytes) else { return false };
        let policy = &mut *disk.policy.borrow_mut();
        policy.on_read(digest);
        // With nothing of this column's that may go there is nothing to compare with: others make room.
        policy.bytes() == 0 || policy.admits(digest, bytes, disk.room_bytes())
    }

    /// Bytes on disk that may go.
    pub fn evictable_bytes(&self) -> u64 {
        let working = self.inner.disks.iter().filter(|d| d.out().is_none());
        working.map(|d| d.policy.borrow().bytes()).sum()
    }

    async fn evict_one(&self, disk: &Rc<Disk<I>>, digest: Digest) -> Result<u64, PutError> {
        let _lock = self.lock(digest).await;
        // What was deleted, or stored for good since, is not the object that was chosen.
        let chosen = |e: &Entry| e.may_go() && e.disk == disk.number;
        let Some(entry) = self.lookup_any(&digest).filter(chosen) else { return Ok(0) };
        assert!(entry.evictable, "only what may be dropped is dropped");
        let removed = self.remove(digest).await;
        if removed.is_ok() && digest.is_private() {
            super::bump(&self.inner.private_evictions);
        }
        removed
    }

    fn tell_policy_again(&self, digest: &Digest) {
        if let Some(entry) = self.lookup_any(digest) {
            self.tell_policy(digest, &entry);
        }
    }

    /// Whether RAM has (some of) an object: it was asked for.
    fn is_held(&self, digest: &Digest) -> bool {
        let state = self.inner.state.borrow();
        let packed = state.index.get(digest).is_some_and(|e| e.held != NOT_HELD);
        packed || state.slots.contains_key(&Key::Extent(*digest, 0))
    }

    /// The disk's policy knows of what may go, and of nothing else.
    pub(super) fn tell_policy(&self, digest: &Digest, entry: &Entry) {
        let policy = &mut *self.inner.disks[usize::from(entry.disk)].policy.borrow_mut();
        if entry.may_go() {
            policy.on_stored(digest, entry.disk_bytes());
        } else {
            policy.on_removed(digest);
        }
    }

    /// What the index has, expired or not.
    fn lookup_any(&self, digest: &Digest) -> Option<Entry> {
        self.inner.state.borrow().index.get(digest).copied()
    }

    /// What is known of an object that is there and not damaged. Not of one whose disk is out: a deletion whose write failed
    /// may yet be found there.
    pub(super) fn whole(&self, digest: &Digest) -> Option<Entry> {
        let entry = self.lookup(digest).filter(|e| self.inner.disks[usize::from(e.disk)].out().is_none())?;
        (!self.inner.state.borrow().damaged.contains(digest)).then_some(entry)
    }

    /// The size of an object that is there, not damaged, and on a disk that works.
    pub fn whole_size(&self, digest: &Digest) -> Option<u64> {
        self.whole(digest).map(|e| e.size)
    }

    /// The file of an object, and a number that tells it from an earlier or later one of the same digest. `None`: it has none
    /// of its own, or none that may be given away as it is.
    pub fn file(&self, digest: &Digest) -> Option<(PathBuf, u64)> {
        let entry = self.whole(digest).filter(|e| e.place == Place::Object)?;
        Some((self.inner.disks[usize::from(entry.disk)].names.object(digest), entry.sequence))
    }

    pub(super) fn next_sequence(&self) -> u64 {
        let state = &mut *self.inner.state.borrow_mut();
        state.next_sequence += 1;
        state.next_sequence
    }

    /// The object is stored: from here on it is served. What it replaces is dead.
    async fn insert(&self, disk: &Rc<Disk<I>>, record: &Record, place: Place) {
        let old = self.forget(&record.digest).map(|(old, _)| old);
        {
            let state = &mut *self.inner.state.borrow_mut();
            let Record { digest, size, sequence, expires_ms, crc, evictable, pinned, .. } = *record;
            state.damaged.remove(&digest);
            let disk = disk.number;
            let entry =
                Entry { place, size, sequence, expires_ms, crc, evictable, pinned, disk, held: NOT_HELD };
            state.index.insert(digest, entry);
            self.tell_policy(&digest, &entry);
        }
        let Some(old) = old else { return };
        match (old.place, place) {
            // An object file of the same name was replaced by the rename; only its space is counted twice.
            (Place::Object, Place::Object) if old.disk == disk.number => {
                disk.store.budget().release(disk_bytes(old.size));
            }
            _ => self.free_disk(&record.digest, &old).await,
        }
        if old.disk != disk.number {
            self.say_deleted(&record.digest, &old, record.sequence).await;
        }
    }

    /// An older copy on another disk must not come back when that disk is read without this one.
    /// `sequence`: of what replaced it, so that the copy's own record, read later, is older.
    pub(super) async fn say_deleted(&self, digest: &Digest, old: &Entry, sequence: u64) {
        let disk = self.inner.disks[usize::from(old.disk)].clone();
        let record =
            Record { said: Said::Deleted, sequence, ..super::super::checkpoint::record_of(*digest, old) };
        if let Err(e) = self.append_index(&disk, &record).await {
            tracing::warn!(%digest, error = %e, "the older copy on another disk is not recorded as gone");
            self.inner.state.borrow_mut().outdated.insert(*digest);
        }
    }

    /// Takes an object out of index and RAM.
    pub(super) fn forget(&self, digest: &Digest) -> Option<(Entry, Vec<Held>)> {
        let state = &mut *self.inner.state.borrow_mut();
        let old = state.index.remove(digest)?;
        self.inner.disks[usize::from(old.disk)].policy.borrow_mut().on_removed(digest);
        if let Some(prefetch) = &mut state.prefetch {
            prefetch.on_forgotten(digest);
        }
        let mut slots = vec![old.held];
        slots.extend(state.slots.remove(&Key::Sums(*digest)));
        if old.place == Place::Object {
            let extents = old.size.div_ceil(EXTENT_BYTES as u64) as u32;
            slots.extend((0..extents).filter_map(|n| state.slots.remove(&Key::Extent(*digest, n))));
        }
        let mut held = Vec::new();
        for slot in slots.into_iter().filter(|&s| s != NOT_HELD) {
            state.policy.remove(slot);
            held.extend(take_held(state, slot));
        }
        Some((old, held))
    }

    /// Unpinning an extent takes about half a millisecond: those of a large object go one by one, with turns of other
    /// tasks between them.
    pub(super) async fn let_go(&self, held: Vec<Held>) {
        for one in held {
            drop(one);
            self.inner.io.yield_now().await;
        }
    }

    pub(super) async fn free_disk(&self, digest: &Digest, old: &Entry) {
        let disk = &self.inner.disks[usize::from(old.disk)];
        match old.place {
            // What is on a disk that was taken out stays as it is.
            _ if disk.out().is_some() => {}
            Place::Packed { segment, .. } => self.sub_live(disk, segment, old),
            Place::Object => {
                let path = disk.names.object(digest);
                for file in [Names::sums(&path), path] {
                    if let Err(e) = self.inner.io.unlink(&file).await {
                        tracing::error!(path = %file.display(), error = %e, "deleted object's file stays until the next start");
                    }
                }
                disk.store.budget().release(disk_bytes(old.size));
            }
        }
    }

    pub(super) fn sub_live(&self, disk: &Rc<Disk<I>>, segment: u32, old: &Entry) {
        let known = disk.store.get(segment).expect("an entry names a segment that exists");
        known.sub_live(packed_bytes(old.size));
        if known.claim_dead() {
            let store = disk.store.clone();
            self.inner.io.spawn("segment-retire", async move { store.retire(segment).await });
        }
    }

    /// The disk that is to hold an object: by weight, those with room first.
    pub(super) fn choose_disk(&self, hash: u64, bytes: u64) -> Result<Rc<Disk<I>>, PutError> {
        let working = || self.inner.disks.iter().filter(|d| d.out().is_none());
        let best = |disks: &mut dyn Iterator<Item = &Rc<Disk<I>>>| {
            disks.min_by(|a, b| rank(hash, a).total_cmp(&rank(hash, b))).cloned()
        };
        best(&mut working().filter(|d| d.room_bytes() >= bytes))
            .or_else(|| best(&mut working()))
            .ok_or_else(|| PutError::Stopped("no disk works".into()))
    }

    /// Whether any working disk may hold so many bytes, were all else gone from it.
    pub fn could_hold(&self, bytes: u64) -> bool {
        self.inner.disks.iter().any(|d| d.out().is_none() && d.store.budget().limit() >= bytes)
    }

    /// Begins to receive a larger object, written as `class`; `number` tells apart those of this column.
    pub async fn begin_object(
        &self,
        number: u64,
        length: Option<u64>,
        class: Class,
    ) -> Result<ObjectWriter<I>, PutError> {
        let disk = self.choose_disk(self.inner.io.random(), length.unwrap_or(0))?;
        if !self.set_aside(&disk) {
            return Err(PutError::NoSpace);
        }
        let path = disk.names.incoming(self.inner.plan.column, number);
        ObjectWriter::create(disk, path, length, class).await
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

/// Whether a record whose write ended with this error may be on the disk all the same.
fn may_be_written(e: &PutError) -> bool {
    matches!(e, PutError::Stopped(_))
}

fn hash_of(digest: &Digest) -> u64 {
    u64::from_le_bytes(digest.0[8..16].try_into().expect("eight bytes"))
}

/// Weighted rendezvous: the lowest rank wins, and each disk wins in proportion to its weight.
fn rank<I: Io>(hash: u64, disk: &Disk<I>) -> f64 {
    // splitmix64 of both.
    let mut x = hash ^ (u64::from(disk.number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let unit = ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
    -(unit.max(f64::MIN_POSITIVE)).ln() / f64::from(disk.weight.max(1))
}
