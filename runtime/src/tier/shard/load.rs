//! Disk → state, second part: the checkpoints, shard by shard. The node serves meanwhile: a shard that is asked for is read
//! first, and who asks waits for that one only. Nothing new is stored before every column has read all.

use super::super::checkpoint::{Contents, read_part, record_of};
use super::super::digest::Digest;
use super::super::disk::Disk;
use super::super::index::{Entry, Keep, Place};
use super::super::names::Names;
use super::super::object::disk_bytes;
use super::super::reader::ReadError;
use super::super::readiness::NeverReady;
use super::super::record::{Record, Said};
use super::super::recover::{OriginTail, PartAt, RecoverError, RecoveredDisk, hear_origin};
use super::{PutError, Shard};
use crate::io::Io;
use crate::journal::{Purpose, ScanError, segment_path};
use crate::planted::{self, Bug};
use crate::shards::SHARDS;
use hashbrown::HashMap;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::Ordering;

const LOOK_NS: u64 = 1_000_000;

/// How far a shard has been read.
#[derive(Clone, Copy)]
pub(super) enum Load {
    /// Not at all.
    No,
    /// A task of its own reads it.
    Under,
    /// Its objects are in the index.
    Done,
    /// It cannot be read, and is not tried again: what recovery found of it is used up, and a second reading would take the
    /// files that it names for files that nothing names.
    Failed,
}

/// What of recovery is left to read.
pub(super) struct Loading {
    pub(super) disks: Vec<RecoveredDisk>,
    pub(super) shards: Vec<Load>,
    /// What may be dropped from disk, with the sequence it was stored under.
    pub(super) may_go: Vec<(u64, Digest)>,
}

/// What was found of one shard, before the disks are held against each other.
type Loaded = Vec<(Record, u8)>;

impl<I: Io> Shard<I> {
    /// Whether the shard of a digest has been read.
    #[inline]
    pub fn is_loaded(&self, digest: &Digest) -> bool {
        self.inner.loaded.get()
            || matches!(self.inner.loading.borrow().shards[usize::from(digest.shard().0)], Load::Done)
    }

    /// Whether every column has read everything.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.inner.loaded.get() && self.inner.readiness.is_reached()
    }

    /// This column's shards that are still to be read. The last one counts until what follows the reading is done too.
    pub(super) fn unread_shards(&self) -> u64 {
        if self.inner.loaded.get() {
            return 0;
        }
        let shards = &self.inner.loading.borrow().shards;
        let unread = self.inner.plan.owned().filter(|&shard| !matches!(shards[shard], Load::Done)).count();
        unread.max(1) as u64
    }

    /// Waits until every column has read everything.
    ///
    /// # Errors
    /// One of them cannot: the node stops.
    pub async fn ready(&self) -> Result<(), NeverReady> {
        while !self.is_ready() {
            if self.inner.readiness.is_lost() {
                return Err(NeverReady);
            }
            self.inner.io.sleep(LOOK_NS).await;
        }
        Ok(())
    }

    /// Reads the shard of a digest, or waits for who does.
    pub async fn load(&self, digest: &Digest) -> Result<(), ReadError> {
        self.load_shard(usize::from(digest.shard().0)).await.map_err(|_| ReadError::Busy)
    }

    /// Reads all that is left. Called once, in the background.
    ///
    /// # Errors
    /// A shard cannot be read. It has been said why, and the node stops.
    pub async fn load_all(&self) -> Result<(), NeverReady> {
        for shard in self.inner.plan.owned() {
            self.load_shard(shard).await?;
            self.inner.io.yield_now().await;
        }
        self.tell_policies();
        for disk in self.inner.disks.iter().filter(|d| d.out().is_none()) {
            disk.see_room().await;
        }
        self.inner.loaded.set(true);
        for disk in &self.inner.disks {
            let left = &disk.old.loading;
            if disk.out().is_none() && left.fetch_sub(1, Ordering::AcqRel) == 1 {
                // Every column has said what of them is live.
                disk.old.packs.iter().for_each(|s| s.seal());
            }
        }
        self.inner.readiness.on_loaded();
        Ok(())
    }

    async fn load_shard(&self, shard: usize) -> Result<(), NeverReady> {
        let state = || self.inner.loading.borrow().shards[shard];
        if matches!(state(), Load::No) {
            self.inner.loading.borrow_mut().shards[shard] = Load::Under;
            // A task of its own: a client that goes away must not leave it half done.
            let me = self.clone();
            self.inner.io.spawn("load-shard", async move { me.load_mine(shard).await });
        }
        self.inner.load_waiters.until(|| !matches!(state(), Load::Under)).await;
        match state() {
            Load::Done => Ok(()),
            Load::Failed => Err(NeverReady),
            Load::No | Load::Under => unreachable!("a shard that is read is read to an end"),
        }
    }

    /// Reads a shard that nobody else reads, and tells those who wait.
    async fn load_mine(&self, shard: usize) {
        let read = self.read_shard(shard).await;
        self.inner.loading.borrow_mut().shards[shard] = if read.is_ok() { Load::Done } else { Load::Failed };
        self.inner.load_waiters.wake();
        if let Err(e) = read {
            self.inner.readiness.on_failed();
            (self.inner.plan.on_stop)(e.to_string());
        }
    }

    async fn read_shard(&self, shard: usize) -> Result<(), RecoverError> {
        let mut found: Loaded = Vec::new();
        let mut origins = OriginTail::default();
        for disk in &self.inner.disks {
            if let Some(reason) = disk.out() {
                self.leave_unread(disk, &reason);
                continue;
            }
            match self.read_disk(shard, disk, &mut origins).await {
                Ok(records) => found.extend(records.into_iter().map(|r| (r, disk.number))),
                Err(e) if e.is_io() && self.inner.disks.len() > 1 => {
                    self.leave_unread(disk, &e.to_string());
                    self.on_disk_failed(disk.number, &e.to_string());
                }
                Err(e) => return Err(e),
            }
        }
        for (digest, old, sequence) in self.insert_loaded(found) {
            if let Err(e) = self.settle_copies(&digest, &old, sequence).await {
                tracing::warn!(%digest, error = %e, "two disks have records of it until the next start");
            }
        }
        let state = &mut *self.inner.state.borrow_mut();
        origins.into_values().for_each(|said| state.origins.hear(said));
        Ok(())
    }

    /// Another disk has an older copy: it was stored anew while that disk was out. What was promised with the older one still
    /// holds, and is said of the newer one before the older is said to be gone.
    async fn settle_copies(&self, digest: &Digest, old: &Entry, mut sequence: u64) -> Result<(), PutError> {
        let entry = self.inner.state.borrow().index.get(digest).copied();
        if let Some(entry) = entry
            && entry.kept_as_well(old.keep()) != entry.keep()
        {
            let keep = entry.kept_as_well(old.keep());
            sequence = self.next_sequence();
            let Keep { expires_ms, evictable, pinned } = keep;
            let better = Entry { expires_ms, evictable, pinned, sequence, ..entry };
            let disk = self.inner.disks[usize::from(entry.disk)].clone();
            self.append_index(&disk, &record_of(*digest, &better)).await?;
            if let Some(entry) = self.inner.state.borrow_mut().index.get_mut(digest) {
                *entry = Entry { held: entry.held, ..better };
            }
        }
        self.say_deleted(digest, old, sequence).await;
        Ok(())
    }

    /// A disk that failed before all of it was read: what is not known may be there.
    fn leave_unread(&self, disk: &Rc<Disk<I>>, reason: &str) {
        let left = &mut self.inner.loading.borrow_mut().disks[usize::from(disk.number)];
        left.out.get_or_insert_with(|| reason.to_owned());
    }

    /// The newest of each object of a shard on one disk, files checked against the directory.
    async fn read_disk(
        &self,
        shard: usize,
        disk: &Rc<Disk<I>>,
        origins: &mut OriginTail,
    ) -> Result<Vec<Record>, RecoverError> {
        let (part, mut newest) = {
            let loading = &mut *self.inner.loading.borrow_mut();
            let left = &mut loading.disks[usize::from(disk.number)];
            let mine: HashMap<Digest, Record> =
                left.tail.extract_if(|d, _| usize::from(d.shard().0) == shard).collect();
            let said = left.origins.extract_if(|d, _| usize::from(d.shard().0) == shard);
            said.for_each(|(_, said)| hear_origin(origins, said));
            (left.parts[shard].take(), mine)
        };
        if let Some(at) = part {
            let part = self.read_part(disk, &at).await?;
            part.origins.into_iter().for_each(|said| hear_origin(origins, said));
            for record in part.records {
                let held = newest.entry(record.digest).or_insert(record);
                if held.sequence < record.sequence || planted::is(Bug::StaleRecordWins) {
                    *held = record;
                }
            }
        }
        let sizes = self.list_files(shard, disk, &newest).await?;
        let mut records: Vec<Record> = newest.into_values().collect();
        // Another disk may have an older copy of what is gone from this one.
        let alone = self.inner.disks.len() == 1;
        records.retain(|r| !(alone && r.said == Said::Deleted));
        records.retain(|r| match r.said {
            Said::File => {
                let whole = sizes.get(&r.digest) == Some(&r.size);
                if whole {
                    disk.store.budget().adopt(disk_bytes(r.size));
                } else {
                    tracing::error!(digest = %r.digest, size = r.size, found = ?sizes.get(&r.digest), "object file is missing or of another size");
                }
                whole
            }
            Said::Listed { segment, .. } => {
                let there = disk.store.get(segment).is_some();
                if !there {
                    tracing::error!(digest = %r.digest, segment, "the pack that holds this object is missing");
                }
                there
            }
            Said::Deleted => true,
            Said::Packed => unreachable!("a packed record is kept as listed"),
        });
        // One order whatever the hash map's: the simulator replays by seed.
        records.sort_unstable_by_key(|r| r.sequence);
        Ok(records)
    }

    /// A part of a checkpoint, read as urgently as a request, since requests wait for it. That too many of them wait for the
    /// disk is no failure of the disk.
    async fn read_part(&self, disk: &Rc<Disk<I>>, at: &PartAt) -> Result<Contents, ScanError> {
        let io = &self.inner.io;
        let path = segment_path(disk.names.root(), Purpose::Checkpoint, at.number);
        loop {
            match read_part(io, disk.store.seed(), &path, at.number, at.part).await {
                Err(ScanError::Io(_, e)) if e.kind() == ErrorKind::ResourceBusy => io.sleep(LOOK_NS).await,
                read => return read,
            }
        }
    }

    /// Sizes of a shard's object files; those that nothing names are removed.
    async fn list_files(
        &self,
        shard: usize,
        disk: &Rc<Disk<I>>,
        newest: &HashMap<Digest, Record>,
    ) -> Result<HashMap<Digest, u64>, RecoverError> {
        let io = &self.inner.io;
        let dir = disk.names.shard_dir(shard as u8);
        let (mut sizes, mut sums) = (HashMap::new(), Vec::new());
        for (name, size) in io.list_dir(&dir).await.map_err(|e| RecoverError::Io(dir.clone(), e))? {
            let stem = name.strip_suffix(".sums").unwrap_or(&name);
            let digest = Digest::from_hex(stem.as_bytes()).ok();
            let named = digest.and_then(|d| newest.get(&d)).is_some_and(|r| r.said == Said::File);
            match digest {
                Some(digest) if named => {
                    if stem.len() == name.len() {
                        sizes.insert(digest, size);
                    } else {
                        sums.push((digest, name));
                    }
                }
                _ => {
                    let path = dir.join(&name);
                    io.unlink(&path).await.map_err(|e| RecoverError::Io(path, e))?;
                }
            }
        }
        for (_, name) in sums.into_iter().filter(|(digest, _)| !sizes.contains_key(digest)) {
            let path = dir.join(&name);
            io.unlink(&path).await.map_err(|e| RecoverError::Io(path, e))?;
        }
        Ok(sizes)
    }

    /// The highest sequence holds; what another disk still has of the same object is dead, and comes back with the
    /// sequence of what replaced it.
    fn insert_loaded(&self, mut found: Loaded) -> Vec<(Digest, Entry, u64)> {
        // What replaced a copy is said with one sequence on both disks: the object after the deletion.
        found.sort_by_key(|(r, _)| (r.sequence, r.said != Said::Deleted));
        let mut elsewhere = Vec::new();
        for (record, disk) in found {
            if let Some((old, _)) = self.forget(&record.digest) {
                if old.disk != disk {
                    elsewhere.push((record.digest, old, record.sequence));
                }
                self.drop_dead(record.digest, old);
            }
            let Some(entry) = record.entry(disk) else { continue };
            if let Place::Packed { segment, .. } = entry.place {
                let segment = self.inner.disks[usize::from(disk)].store.get(segment).expect("just seen");
                segment.add_live(super::super::record::packed_bytes(entry.size));
            }
            self.inner.state.borrow_mut().index.insert(record.digest, entry);
            if entry.may_go() {
                self.inner.loading.borrow_mut().may_go.push((entry.sequence, record.digest));
            }
        }
        elsewhere
    }

    /// An older copy that a newer record replaced: its space comes back in the background.
    fn drop_dead(&self, digest: Digest, old: Entry) {
        let me = self.clone();
        self.inner.io.spawn("drop-dead", async move { me.free_disk(&digest, &old).await });
    }

    /// Tells the disks' policies what may go, in the order in which it was stored.
    fn tell_policies(&self) {
        let mut all = std::mem::take(&mut self.inner.loading.borrow_mut().may_go);
        all.sort_unstable();
        let state = self.inner.state.borrow();
        for (sequence, digest) in all {
            if let Some(entry) = state.index.get(&digest).filter(|e| e.sequence == sequence) {
                self.tell_policy(&digest, entry);
            }
        }
    }
}

impl Loading {
    /// Nothing read yet.
    pub(super) fn new(disks: Vec<RecoveredDisk>) -> Loading {
        Loading { disks, shards: vec![Load::No; SHARDS], may_go: Vec::new() }
    }
}

/// Where the checksums of an object are.
pub(super) fn sums_path(names: &Names, digest: &Digest) -> std::path::PathBuf {
    Names::sums(&names.object(digest))
}
