//! Upkeep: packs are listed in the index when they are sealed, the index is checkpointed, dead packs go, mostly dead ones are
//! rewritten. All of it in the background, none of it in the way of a request.

use super::super::checkpoint::{CheckpointWriter, Contents, bytes_max, record_of};
use super::super::digest::Digest;
use super::super::disk::Disk;
use super::super::index::{Entry, NOT_HELD, Place};
use super::super::reader::read_packed;
use super::super::record::{self, Entry as Read, Record, Said, covered};
use super::held::take_held;
use super::{Held, PutError, Shard};
use crate::io::{Class, Io};
use crate::journal::{JournalError, Mark, Purpose, ScanPlan, Segment, What, scan, segment_path};
use crate::oneshot::Oneshot;
use bytes::Bytes;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of a pack looked at between turns.
const STEP_BYTES: u64 = 4 << 20;
/// Records appended to the index before the first is waited for.
const LISTED_AT_ONCE: usize = 1024;
/// Objects moved out of a pack at a time: enough for full groups.
const MOVED_AT_ONCE: usize = 64;
/// Packs rewritten in one round of upkeep.
const RECLAIMS_AT_ONCE: usize = 32;
/// When a put found the disk full, packs are rewritten that have this much or less in them.
const RECLAIM_WHEN_FULL: f64 = 0.9;
/// It rewrites packs of at most this part of the quota before it tries again.
const RECLAIM_PART_MAX: u64 = 16;

/// How often, and how long, a record waits for a checkpoint that makes room for it: a second in all, for the checkpoint may itself
/// wait for who stores or deletes now.
const INDEX_TRIES: usize = 50;
const INDEX_RETRY_NS: u64 = 20_000_000;

/// Of a pack, the part that is still wanted below which it is rewritten: low while there is room, for then it may die by
/// itself; high when the space is needed, and then the emptiest go first. Rewriting at 0.2 costs a quarter of what it frees, at
/// 0.4 two thirds: with a limit of 0.4 from 80 % on, a half-full disk wrote 1.66 bytes for each stored.
fn reclaim_below(used: u64, limit: u64) -> f64 {
    let full = used as f64 / limit.max(1) as f64;
    match full {
        f if f < 0.5 => 0.0,
        f if f < 0.9 => 0.1,
        f if f < 0.97 => 0.2,
        _ => 0.75,
    }
}

impl<I: Io> Shard<I> {
    /// What is due: called about once a second once everything is loaded.
    pub async fn upkeep(&self) {
        for disk in &self.inner.disks {
            if disk.out().is_none() {
                disk.see_room().await;
                self.remove_dead_packs(disk).await;
                for _ in 0..RECLAIMS_AT_ONCE {
                    if self.reclaim_one(disk, None).await == 0 {
                        break;
                    }
                }
                self.maybe_checkpoint(disk).await;
                self.set_aside(disk);
                disk.store.forget_retired();
            }
        }
    }

    /// Leaves everything so that the next start has next to nothing to read. Called when nothing is stored any more.
    pub async fn close(&self) {
        for disk in &self.inner.disks {
            if disk.out().is_none() && self.inner.loaded.get() {
                let moved = disk.index.mark().is_some_and(|m| m.sequence > 0) || disk.pack.mark().is_some();
                if moved {
                    self.checkpoint(disk).await;
                }
            }
        }
    }

    /// A pack takes no more: what it holds is listed in the index, so that no start has to read it again.
    pub(super) fn on_pack_sealed(&self, disk: &Rc<Disk<I>>, segment: Arc<Segment>) {
        let (me, disk) = (self.clone(), disk.clone());
        self.inner.io.spawn("list-pack", async move {
            if let Err(e) = me.list_pack(&disk, &segment).await {
                tracing::warn!(segment = segment.number, error = %e, "pack is not listed: the next start reads it");
            }
        });
    }

    async fn list_pack(&self, disk: &Rc<Disk<I>>, segment: &Arc<Segment>) -> Result<(), PutError> {
        let mut from = Some(Mark { segment: segment.number, offset: 0, sequence: 0 });
        while let Some(mark) = from {
            let (found, next) = self.read_step(disk, segment, mark).await.map_err(PutError::from_io)?;
            for part in found.chunks(LISTED_AT_ONCE) {
                let mut queued = Vec::with_capacity(part.len());
                for (digest, offset) in part {
                    // Nothing may be said of it by someone else between the look and the record.
                    let _lock = self.lock(*digest).await;
                    if let Some(entry) = self.entry_at(disk, digest, segment.number, *offset) {
                        let record = record_of(*digest, &entry);
                        queued.push(self.append_index_queued(disk, &record)?);
                    }
                }
                for appended in queued {
                    appended.synced().await?;
                }
            }
            from = next;
        }
        disk.index.append_synced(covered(segment.number, u32::MAX), Bytes::new()).await?;
        Ok(())
    }

    /// The next records of a pack, and where to go on.
    async fn read_step(
        &self,
        disk: &Rc<Disk<I>>,
        segment: &Segment,
        from: Mark,
    ) -> io::Result<(Vec<(Digest, u32)>, Option<Mark>)> {
        let path = segment_path(disk.names.root(), Purpose::Pack, segment.number);
        let plan = ScanPlan {
            seed: disk.store.seed(),
            path: &path,
            purpose: Purpose::Pack,
            segment: segment.number,
            from,
            must_reach: None,
            step_bytes: Some(STEP_BYTES),
            what: What::Heads,
            class: Class::Compaction,
        };
        let mut found = Vec::new();
        let scanned = scan(&self.inner.io, plan, |f| {
            if let Ok(Read::Object(Record { said: Said::Packed, digest, .. })) = record::read(f.frame) {
                found.push((digest, f.offset));
            }
        });
        let scanned = scanned.await.map_err(io::Error::other)?;
        let next = Mark { offset: scanned.valid_bytes as u32, sequence: scanned.end, ..from };
        Ok((found, (!scanned.is_end).then_some(next)))
    }

    /// An object, if that is where it is.
    fn entry_at(&self, disk: &Rc<Disk<I>>, digest: &Digest, segment: u32, offset: u32) -> Option<Entry> {
        let there = |e: &&Entry| e.disk == disk.number && e.place == Place::Packed { segment, offset };
        self.inner.state.borrow().index.get(digest).filter(there).copied()
    }

    async fn remove_dead_packs(&self, disk: &Rc<Disk<I>>) {
        for pack in disk.store.all(Purpose::Pack) {
            if pack.claim_dead() {
                disk.store.retire(pack.number).await;
            }
        }
    }

    /// Rewrites the pack with the least in it, if that is worth it (`below`: whatever is below this). Bytes freed.
    pub(super) async fn reclaim_one(&self, disk: &Rc<Disk<I>>, below: Option<f64>) -> u64 {
        let budget = disk.store.budget();
        // What is reserved or set aside is as good as used to who wants to store something.
        let below = below
            .unwrap_or_else(|| reclaim_below(budget.limit().saturating_sub(budget.room()), budget.limit()));
        let share = |s: &Segment| s.live_bytes() as f64 / s.disk_bytes as f64;
        let packs = disk.store.all(Purpose::Pack);
        let worst = packs.into_iter().filter(|s| s.is_sealed() && !s.is_retired());
        let Some(worst) = worst.min_by(|a, b| share(a).total_cmp(&share(b))) else { return 0 };
        if share(&worst) >= below {
            return 0;
        }
        if let Err(e) = self.move_out(disk, &worst).await {
            tracing::warn!(segment = worst.number, error = %e, "pack could not be rewritten");
        }
        if worst.claim_dead() {
            disk.store.retire(worst.number).await;
        }
        // Another column may yet want some of it.
        if worst.is_retired() { worst.disk_bytes } else { 0 }
    }

    /// Makes room for `bytes` by rewriting packs, the emptiest first; returns how many came back. Who comes while that is
    /// under way waits for it: all of them want the same packs.
    pub(super) async fn reclaim(&self, bytes: u64) -> u64 {
        let (give, freed) = Oneshot::new();
        let is_first = {
            let reclaiming = &mut *self.inner.reclaiming.borrow_mut();
            reclaiming.push(give);
            reclaiming.len() == 1
        };
        if is_first {
            // A task of its own: a client that goes away must not leave it half done.
            let me = self.clone();
            self.inner.io.spawn("reclaim", async move {
                let freed = me.reclaim_now(bytes).await;
                me.inner.reclaiming.take().iter().for_each(|waiting| waiting.set(freed));
            });
        }
        freed.await
    }

    async fn reclaim_now(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        for disk in self.inner.disks.iter().filter(|d| d.out().is_none()) {
            self.remove_dead_packs(disk).await;
            let bytes = bytes.min(disk.store.budget().limit() / RECLAIM_PART_MAX);
            while freed < bytes {
                match self.reclaim_one(disk, Some(RECLAIM_WHEN_FULL)).await {
                    0 => break,
                    more => freed += more,
                }
            }
        }
        freed
    }

    /// Moves what this column still wants of a pack to its own.
    async fn move_out(&self, disk: &Rc<Disk<I>>, segment: &Arc<Segment>) -> Result<(), PutError> {
        let _making_room = disk.store.making_room();
        let mut from = Some(Mark { segment: segment.number, offset: 0, sequence: 0 });
        while let Some(mark) = from {
            let (found, next) = self.read_step(disk, segment, mark).await.map_err(PutError::from_io)?;
            let wanted: Vec<_> = found
                .into_iter()
                .filter(|(digest, offset)| self.entry_at(disk, digest, segment.number, *offset).is_some())
                .collect();
            for part in wanted.chunks(MOVED_AT_ONCE) {
                let moves: Vec<_> = part.iter().map(|&at| self.spawn_move(disk, segment, at)).collect();
                for moved in moves {
                    moved.await?;
                }
            }
            from = next;
        }
        Ok(())
    }

    fn spawn_move(
        &self,
        disk: &Rc<Disk<I>>,
        segment: &Arc<Segment>,
        (digest, offset): (Digest, u32),
    ) -> crate::oneshot::Waiting<Result<(), PutError>> {
        let (done, waiting) = Oneshot::new();
        let (me, disk, segment) = (self.clone(), disk.clone(), segment.clone());
        self.inner.io.spawn("move-packed", async move {
            done.set(me.move_one(&disk, &segment, digest, offset).await);
        });
        waiting
    }

    async fn move_one(
        &self,
        disk: &Rc<Disk<I>>,
        segment: &Arc<Segment>,
        digest: Digest,
        offset: u32,
    ) -> Result<(), PutError> {
        let _lock = self.lock(digest).await;
        let Some(entry) = self.entry_at(disk, &digest, segment.number, offset) else { return Ok(()) };
        let file = disk.store.file_as(segment, Class::Compaction).await.map_err(PutError::from_io)?;
        let at = (offset, entry.size as usize, entry.crc);
        let (buf, range) = match read_packed(&self.inner.io, &file, &digest, at).await {
            Ok(read) => read,
            Err(e) => {
                // It stays where it is, and so does the pack: nothing that may yet be mended is thrown away.
                if matches!(e, super::ReadError::Damaged(_)) {
                    self.on_damaged(&digest);
                }
                return Err(PutError::Stopped(e.to_string()));
            }
        };
        let record =
            Record { said: Said::Packed, sequence: self.next_sequence(), ..record_of(digest, &entry) };
        let data = buf.into_shared(range.end).slice(range);
        // Written in one group with what clients put, and so as urgently.
        let written = disk.pack.append_synced(record.frame(), data).await?;
        self.move_entry(disk, &record, written.segment, written.offset);
        Ok(())
    }

    /// The object is elsewhere now; what is in RAM of it stays valid.
    fn move_entry(&self, disk: &Rc<Disk<I>>, record: &Record, segment: u32, offset: u32) {
        let old = {
            let state = &mut *self.inner.state.borrow_mut();
            let old = *state.index.get(&record.digest).expect("its lock is held");
            let pinned = matches!(state.held.get(old.held as usize), Some(Some(Held::Pinned(_))));
            if pinned {
                // Its pages are the old file's: they would keep that space.
                state.policy.remove(old.held);
                take_held(state, old.held);
            }
            let entry = state.index.get_mut(&record.digest).expect("just seen");
            if pinned {
                entry.held = NOT_HELD;
            }
            entry.place = Place::Packed { segment, offset };
            entry.sequence = record.sequence;
            old
        };
        if let Place::Packed { segment, .. } = old.place {
            let known = disk.store.get(segment).expect("an entry names a segment that exists");
            known.sub_live(record::packed_bytes(old.size));
        }
    }

    /// A segment of the index is full. A flood of deletions must not outrun the upkeep.
    pub(super) fn on_index_sealed(&self, disk: &Rc<Disk<I>>) {
        let (me, disk) = (self.clone(), disk.clone());
        self.inner.io.spawn("index-sealed", async move {
            if me.is_ready() && disk.out().is_none() {
                me.maybe_checkpoint(&disk).await;
            }
        });
    }

    async fn maybe_checkpoint(&self, disk: &Rc<Disk<I>>) {
        let grown = disk.has_index_grown(self.checkpoint_bytes_max(disk));
        let stale = disk.checkpoint.get().is_none() && self.inner.stale.get();
        if grown || stale {
            self.checkpoint(disk).await;
        }
    }

    /// Writes a checkpoint and lets go of what it replaces.
    pub(super) async fn checkpoint(&self, disk: &Rc<Disk<I>>) {
        if self.inner.checkpointing.replace(true) {
            return;
        }
        disk.index_bytes.set(disk.index.written_bytes());
        match self.write_checkpoint(disk).await {
            Ok((made, index)) => {
                let before = disk.checkpoint.replace(Some(made));
                self.release_replaced(disk, before, index).await;
            }
            Err(e) => tracing::warn!(error = %e, "no checkpoint: the next start reads the journals instead"),
        }
        self.inner.checkpointing.set(false);
        self.set_aside(disk);
    }

    /// More than a checkpoint takes once all is in it that is being stored.
    fn checkpoint_bytes_max(&self, disk: &Disk<I>) -> u64 {
        let state = self.inner.state.borrow();
        let records = state.index.on_disk(disk.number) + disk.stored_soon();
        bytes_max(records, state.origins.totals(), self.inner.owned_shards)
    }

    /// Sees to it that index and checkpoints find room whatever is deleted; false: the disk is too full.
    pub(super) fn set_aside(&self, disk: &Disk<I>) -> bool {
        disk.set_aside(self.checkpoint_bytes_max(disk))
    }

    async fn write_checkpoint(&self, disk: &Rc<Disk<I>>) -> io::Result<((u32, u64), Mark)> {
        let marks = (disk.mark(&disk.pack), disk.mark(&disk.index));
        let next_sequence = self.inner.state.borrow().next_sequence + 1;
        // What was written before the marks must be in the index: who wrote it holds its digest's lock until it is.
        let mut under_way: Vec<Digest> = self.inner.state.borrow().locked.keys().copied().collect();
        under_way.sort_unstable();
        for digest in under_way {
            drop(self.lock(digest).await);
        }
        let mut writer = CheckpointWriter::create(&disk.store, marks, next_sequence).await?;
        for shard in self.inner.plan.owned() {
            let contents = {
                let state = self.inner.state.borrow();
                let mine = state.index.of_shard(shard).filter(|(_, e)| e.disk == disk.number);
                let records = mine.map(|(d, e)| record_of(*d, e)).collect();
                Contents { records, origins: state.origins.of_shard(shard as u8).collect() }
            };
            if let Err(e) = writer.add(shard, &contents).await {
                writer.discard().await;
                return Err(e);
            }
        }
        match writer.finish().await {
            Ok(made) => Ok((made, marks.1)),
            Err(e) => {
                writer.discard().await;
                Err(e)
            }
        }
    }

    async fn release_replaced(&self, disk: &Rc<Disk<I>>, before: Option<(u32, u64)>, index: Mark) {
        let root = disk.names.root();
        match before {
            // For the one after this.
            Some((number, bytes)) => {
                let is_gone = self.remove_file(Purpose::Checkpoint, number, root).await;
                if is_gone {
                    disk.store.purse().put_back(bytes);
                }
            }
            None if disk.old.checkpointing.fetch_sub(1, Ordering::AcqRel) == 1 => {
                // Every column has said all that these say.
                for &(purpose, number, bytes) in &disk.old.replaced {
                    if self.remove_file(purpose, number, root).await {
                        disk.store.budget().release(bytes);
                    }
                }
            }
            None => {}
        }
        for segment in disk.store.all(Purpose::Index) {
            if segment.number < index.segment && segment.is_sealed() {
                disk.store.retire(segment.number).await;
            }
        }
    }

    async fn remove_file(&self, purpose: Purpose, number: u32, root: &std::path::Path) -> bool {
        let path = segment_path(root, purpose, number);
        let removed = self.inner.io.unlink(&path).await;
        removed
            .inspect_err(|e| {
                tracing::warn!(path = %path.display(), error = %e, "replaced file stays until the next start")
            })
            .is_ok()
    }

    /// Appends to the index journal, to be waited for later.
    fn append_index_queued(
        &self,
        disk: &Rc<Disk<I>>,
        record: &Record,
    ) -> Result<crate::journal::Appended, JournalError> {
        disk.index.append(record.frame(), Bytes::new())
    }

    /// Appends to the index journal; returns when it is on stable storage.
    pub(super) async fn append_index(&self, disk: &Rc<Disk<I>>, record: &Record) -> Result<(), PutError> {
        for _ in 0..INDEX_TRIES {
            match self.append_index_queued(disk, record)?.synced().await {
                Err(JournalError::NoSpace) => {}
                appended => return appended.map(|_| ()).map_err(PutError::from),
            }
            // More was said than there is room for beside a checkpoint: after one there is again.
            let (me, disk) = (self.clone(), disk.clone());
            self.inner.io.spawn("index-full", async move { me.checkpoint(&disk).await });
            self.inner.io.sleep(INDEX_RETRY_NS).await;
        }
        Err(PutError::NoSpace)
    }
}
