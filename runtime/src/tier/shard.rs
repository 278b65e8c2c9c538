//! The owner of a column's objects. Waits where waiting is needed; what holds is decided by `index` and `policy`.
//!
//! Called by an engine's shard on the owning column, one call per request, many at a time. No state is borrowed across an
//! await.

use super::data_dir::DataDir;
use super::digest::Digest;
use super::index::{Entry, Index, NOT_HELD, Place};
use super::log::{Log, LogError, LogPlan, Written};
use super::names::{BLOCK_BYTES, EXTENT_BYTES, Names, PACKED_BYTES_MAX, SECTOR_BYTES, SegmentKind};
use super::object::{Incoming, disk_bytes, read_sums};
use super::policy::Policy;
use super::reader::{ReadError, read_packed};
use super::record::{Record, RecordKind};
use super::recover::Recovered;
use super::segment::Segments;
use crate::budget::Budget;
use crate::io::{Io, Open};
use crate::resident::Resident;
use bytes::Bytes;
use crc32c::crc32c;
use hashbrown::{HashMap, HashSet};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Extents read in at a time; each occupies the blocking pool for some milliseconds.
const PROMOTIONS_MAX: usize = 2;
/// Packed objects from this size on are pinned when asked for again: sendfile then costs less than the copy.
const PIN_BYTES_MIN: usize = 48 << 10;
/// Packed objects pinned at a time (vm.max_map_count is 65530 for the whole process).
const PINS_MAX: usize = 4096;

/// Copies bytes into the column's memory; `None` when there is no room.
pub type Hold = Box<dyn Fn(&[u8]) -> Option<Bytes>>;

/// What a shard is made of.
pub struct Plan {
    /// Number of the column, and of columns.
    pub column: usize,
    /// Columns in this boot.
    pub columns: usize,
    /// Bytes of RAM for objects (of the column's memory).
    pub held_bytes: u64,
    /// Disk bytes, shared by all columns.
    pub budget: Budget,
    /// Copies of packed objects: how a buffer for one is found. `None`: no memory now.
    pub hold: Hold,
    /// Told when a write or sync has failed for good.
    pub on_stop: Rc<dyn Fn(String)>,
}

/// An object found.
#[derive(Clone, Debug)]
pub enum Found {
    /// All its bytes.
    Packed(Bytes),
    /// All its bytes, in pinned pages of its segment.
    Pinned(Pinned),
    /// Its file.
    Object(Object),
}

/// A packed object in pinned pages.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// The pages.
    pub pages: Resident,
    /// Where the object begins in them.
    pub from: usize,
    /// Its size.
    pub len: usize,
}

/// What a reader needs of an object file.
#[derive(Clone, Debug)]
pub struct Object {
    /// Where it is.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// CRC32C of each block.
    pub sums: Arc<[u32]>,
}

/// Whether a put stored anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is new.
    New,
    /// It was there.
    Already,
}

/// Why a put failed. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// Quota or disk is full.
    #[error("no space left")]
    NoSpace,
    /// Too much is under way: try again later.
    #[error("too many writes are queued")]
    Busy,
    /// The node is stopping because its disk failed.
    #[error("{0}")]
    Stopped(String),
}

impl From<LogError> for PutError {
    fn from(e: LogError) -> PutError {
        match e {
            LogError::Busy => PutError::Busy,
            LogError::NoSpace => PutError::NoSpace,
            LogError::Stopped(reason) => PutError::Stopped(reason.to_string()),
        }
    }
}

/// Counts since start and sizes now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Objects, and the sum of their sizes.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// RAM in use for objects.
    pub held_bytes: u64,
    /// RAM there may be.
    pub held_bytes_max: u64,
    /// Reads answered from RAM.
    pub ram_hits: u64,
    /// Reads that went to disk.
    pub disk_hits: u64,
    /// Objects or extents dropped from RAM.
    pub evictions: u64,
    /// Checksums that did not match.
    pub damaged: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Packed(Digest),
    Extent(Digest, u32),
    Sums(Digest),
}

enum Held {
    Packed(Bytes),
    Pinned(Pinned),
    Extent(Resident),
    Sums(Arc<[u32]>),
}

struct State {
    index: Index,
    policy: Policy<Key>,
    /// By policy slot.
    held: Vec<Option<Held>>,
    /// Slots of extents and sums (a packed object's is in its entry).
    slots: HashMap<Key, u32>,
    promoting: HashSet<(Digest, u32)>,
    /// Packed objects in pinned pages; each is a mapping of its own, and a process may have only so many.
    pins: usize,
    /// Found damaged on disk: a put of the same object mends it.
    damaged: HashSet<Digest>,
    locked: HashMap<Digest, Vec<Waker>>,
    next_sequence: u64,
}

/// The owner of a column's objects. Clones share it.
pub struct Shard<I: Io> {
    inner: Rc<Inner<I>>,
}

struct Inner<I: Io> {
    io: I,
    names: Names,
    plan: Plan,
    pack: Log<I>,
    index_log: Log<I>,
    segments: Rc<RefCell<Segments<I>>>,
    state: RefCell<State>,
    ram_hits: Cell<u64>,
    disk_hits: Cell<u64>,
    evictions: Cell<u64>,
    damaged: Cell<u64>,
}

impl<I: Io> Clone for Shard<I> {
    fn clone(&self) -> Self {
        Shard { inner: self.inner.clone() }
    }
}

fn bump(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Size of pack segments: large for sequential reads, small against the quota so that a small disk is not one segment.
fn pack_segment_bytes(quota: u64) -> u32 {
    (quota / 64).clamp(1 << 20, 64 << 20).next_power_of_two() as u32
}

const INDEX_SEGMENT_BYTES: u32 = 1 << 20;

impl<I: Io> Shard<I> {
    /// Takes over what recovery found for this column.
    pub fn new(io: I, dir: &DataDir, plan: Plan, recovered: Recovered) -> Shard<I> {
        let names = dir.names().clone();
        let segments = Rc::new(RefCell::new(Segments::new(recovered.segments.into_iter())));
        // Two logs a column: numbers of all logs of all columns are interleaved and never meet.
        let step = 2 * plan.columns as u32;
        let log = |kind, segment_bytes, first_number| {
            let on_stop = plan.on_stop.clone();
            let log_plan = LogPlan { kind, segment_bytes, first_number, number_step: step };
            let on_stop = Box::new(move |reason| on_stop(reason));
            Log::new(io.clone(), names.clone(), log_plan, plan.budget.clone(), segments.clone(), on_stop)
        };
        let first = recovered.next_number + 2 * plan.column as u32;
        let pack = log(SegmentKind::Pack, pack_segment_bytes(plan.budget.limit()), first);
        let index_log = log(SegmentKind::Index, INDEX_SEGMENT_BYTES, first + 1);
        let mut index = Index::default();
        recovered.entries.into_iter().for_each(|(digest, entry)| {
            let twice = index.insert(digest, entry);
            assert!(twice.is_none(), "recovery found {digest} twice");
        });
        let state = State {
            index,
            policy: Policy::new(plan.held_bytes),
            held: Vec::new(),
            slots: HashMap::new(),
            promoting: HashSet::new(),
            pins: 0,
            damaged: HashSet::new(),
            locked: HashMap::new(),
            next_sequence: recovered.next_sequence,
        };
        let counters = || Cell::new(0);
        Shard {
            inner: Rc::new(Inner {
                io,
                names,
                plan,
                pack,
                index_log,
                segments,
                state: RefCell::new(state),
                ram_hits: counters(),
                disk_hits: counters(),
                evictions: counters(),
                damaged: counters(),
            }),
        }
    }

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
    fn find_held(&self, digest: &Digest) -> Option<(Found, bool)> {
        let state = &mut *self.inner.state.borrow_mut();
        let entry = state.index.get(digest)?;
        if entry.held == NOT_HELD || entry.expires_ms != 0 {
            return None;
        }
        let was_asked_for = state.policy.touch(entry.held);
        bump(&self.inner.ram_hits);
        match &state.held[entry.held as usize] {
            Some(Held::Packed(bytes)) => {
                let large = bytes.len() >= PIN_BYTES_MIN && was_asked_for;
                let pin = large && state.promoting.len() < PROMOTIONS_MAX && state.pins < PINS_MAX;
                let pin = pin && state.promoting.insert((*digest, 0));
                Some((Found::Packed(bytes.clone()), pin))
            }
            Some(Held::Pinned(pinned)) => Some((Found::Pinned(pinned.clone()), false)),
            _ => unreachable!("the slot of a packed object holds its bytes"),
        }
    }

    /// Moves a packed object that is asked for again from the arena to pinned pages of its segment, so that it can be
    /// sent without copying.
    async fn pin_packed(&self, digest: Digest) {
        let entry = self.lookup(&digest);
        if let Some(entry) = entry
            && let Place::Packed { segment, offset } = entry.place
        {
            let (from, len) = (offset as usize % SECTOR_BYTES, entry.size as usize);
            let start = u64::from(offset) - from as u64;
            let path = self.inner.names.segment(SegmentKind::Pack, segment);
            let verify = move |bytes: &[u8]| crc32c(&bytes[from..]) == entry.crc;
            match self.inner.io.pin_resident(&path, start, from + len, verify).await {
                Ok(Some(pages)) => self.hold_pinned(&digest, entry.sequence, Pinned { pages, from, len }),
                Ok(None) => {}
                Err(e) => tracing::debug!(%digest, error = %e, "packed object not pinned"),
            }
        }
        self.inner.state.borrow_mut().promoting.remove(&(digest, 0));
    }

    fn hold_pinned(&self, digest: &Digest, sequence: u64, pinned: Pinned) {
        let state = &mut *self.inner.state.borrow_mut();
        let Some(entry) = state.index.get(digest).filter(|e| e.sequence == sequence && e.held != NOT_HELD)
        else {
            return;
        };
        if let Some(Held::Packed(_)) = state.held[entry.held as usize].replace(Held::Pinned(pinned)) {
            state.pins += 1;
        }
    }

    /// An object, or `None` if there is none.
    pub async fn get(&self, digest: &Digest) -> Result<Option<Found>, ReadError> {
        if let Some(found) = self.get_held(digest) {
            return Ok(Some(found));
        }
        let Some(entry) = self.lookup(digest) else {
            return Ok(None);
        };
        let found = match entry.place {
            Place::Packed { segment, offset } => {
                let found = self.read_packed(digest, &entry, segment, offset).await;
                self.gone_meanwhile(digest, &entry, found.map(Found::Packed))
            }
            Place::Object => {
                let found = self.sums(digest, &entry).await;
                let path = self.inner.names.object(digest);
                self.gone_meanwhile(
                    digest,
                    &entry,
                    found.map(|sums| Found::Object(Object { path, size: entry.size, sums })),
                )
            }
        };
        if let Err(ReadError::Damaged(_)) = &found {
            self.on_damaged(digest);
        }
        found
    }

    /// The size of an object.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        self.lookup(digest).map(|e| e.size)
    }

    fn lookup(&self, digest: &Digest) -> Option<Entry> {
        let now_ms = self.inner.io.unix_ms();
        self.inner.state.borrow().index.get(digest).filter(|e| !e.is_expired(now_ms)).copied()
    }

    /// An error on the way to an object that was deleted meanwhile is no error: it is not there.
    fn gone_meanwhile(
        &self,
        digest: &Digest,
        entry: &Entry,
        found: Result<Found, ReadError>,
    ) -> Result<Option<Found>, ReadError> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(_) if self.lookup(digest).is_none_or(|now| now.sequence != entry.sequence) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Counts an object whose bytes on disk are not what was stored; a put of it will store it anew.
    pub fn on_damaged(&self, digest: &Digest) {
        bump(&self.inner.damaged);
        tracing::error!(%digest, "object is damaged on disk: it is not served; store it again to mend it");
        self.inner.state.borrow_mut().damaged.insert(*digest);
    }

    async fn read_packed(
        &self,
        digest: &Digest,
        entry: &Entry,
        segment: u32,
        offset: u32,
    ) -> Result<Bytes, ReadError> {
        bump(&self.inner.disk_hits);
        let io_error = |e| ReadError::Io(*digest, e);
        let open = self.inner.segments.borrow().file(segment);
        let file = match open {
            Some(file) => file,
            None => {
                let path = self.inner.names.segment(SegmentKind::Pack, segment);
                let file = self.inner.io.open(&path, Open::ReadDirect).await.map_err(io_error)?;
                self.inner.segments.borrow_mut().set_file(segment, file.clone());
                file
            }
        };
        let (buf, range) =
            read_packed(&self.inner.io, &file, digest, (offset, entry.size as usize, entry.crc)).await?;
        // Served from the read buffer when there is no room to keep it.
        Ok(match self.hold_packed(digest, entry.sequence, &buf[range.clone()]) {
            Some(bytes) => bytes,
            None => buf.into_shared(range.end).slice(range),
        })
    }

    /// Keeps a copy in this column's memory.
    fn hold_packed(&self, digest: &Digest, sequence: u64, data: &[u8]) -> Option<Bytes> {
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
                data.len().max(64) as u64,
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

    async fn sums(&self, digest: &Digest, entry: &Entry) -> Result<Arc<[u32]>, ReadError> {
        {
            let state = &mut *self.inner.state.borrow_mut();
            if let Some(&slot) = state.slots.get(&Key::Sums(*digest)) {
                state.policy.touch(slot);
                if let Some(Held::Sums(sums)) = &state.held[slot as usize] {
                    return Ok(sums.clone());
                }
            }
        }
        let path = Names::sums(&self.inner.names.object(digest));
        let sums = read_sums(&self.inner.io, &path, entry.size, entry.crc).await;
        let sums = sums.map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => ReadError::Damaged(*digest),
            io::ErrorKind::OutOfMemory => ReadError::Busy,
            _ => ReadError::Io(*digest, e),
        })?;
        self.hold_sums(digest, entry.sequence, &sums);
        Ok(sums)
    }

    fn hold_sums(&self, digest: &Digest, sequence: u64, sums: &Arc<[u32]>) {
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

    /// An extent of an object file, if it is in RAM. `first`: this request has not asked for it before; the second request
    /// brings it into RAM.
    pub fn extent(&self, digest: &Digest, number: u32, object: &Object, first: bool) -> Option<Resident> {
        let key = Key::Extent(*digest, number);
        {
            let state = &mut *self.inner.state.borrow_mut();
            if let Some(&slot) = state.slots.get(&key) {
                let Some(Held::Extent(pages)) = &state.held[slot as usize] else {
                    unreachable!("the slot of an extent holds its pages")
                };
                state.policy.touch(slot);
                bump(&self.inner.ram_hits);
                return Some(pages.clone());
            }
            bump(&self.inner.disk_hits);
            let wanted = first && state.policy.miss(&key);
            let busy = state.promoting.len() >= PROMOTIONS_MAX
                || !state.index.get(digest).is_some_and(|e| e.place == Place::Object);
            if !wanted || busy || !state.promoting.insert((*digest, number)) {
                return None;
            }
        }
        let (me, digest, object) = (self.clone(), *digest, object.clone());
        self.inner.io.spawn("promote", async move { me.promote(digest, number, &object).await });
        None
    }

    async fn promote(&self, digest: Digest, number: u32, object: &Object) {
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
        let pinned = self.inner.io.pin_resident(&object.path, offset, len, verify).await;
        self.inner.state.borrow_mut().promoting.remove(&(digest, number));
        match pinned {
            Ok(Some(pages)) => self.hold_extent(digest, number, pages),
            Ok(None) => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => self.on_damaged(&digest),
            // Deleted meanwhile, or a disk that the next read will complain about with the request at hand.
            Err(e) => tracing::debug!(%digest, number, error = %e, "extent not pinned"),
        }
    }

    fn hold_extent(&self, digest: Digest, number: u32, pages: Resident) {
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

    /// Stores a small object. `data` is its bytes, `is_ours` whether they are in this column's memory.
    pub async fn put_packed(&self, digest: Digest, data: Bytes, is_ours: bool) -> Result<Stored, PutError> {
        assert!(data.len() <= PACKED_BYTES_MAX, "{} bytes are no packed object", data.len());
        let _lock = self.lock(digest).await;
        if self.has_whole(&digest) {
            return Ok(Stored::Already);
        }
        let record = Record {
            kind: RecordKind::Packed,
            digest,
            sequence: self.next_sequence(),
            expires_ms: 0,
            size: data.len() as u64,
            data_bytes: data.len() as u32,
            data_crc: crc32c(&data),
            evictable: false,
        };
        let Written { segment, offset } = self.inner.pack.append(record, data.clone()).await?;
        self.insert(&record, Place::Packed { segment, offset });
        if is_ours {
            let state = &mut *self.inner.state.borrow_mut();
            let slot = insert_held(
                state,
                Key::Packed(digest),
                data.len().max(64) as u64,
                Held::Packed(data),
                &self.inner.evictions,
            );
            if let (Some(slot), Some(entry)) = (slot, state.index.get_mut(&digest)) {
                entry.held = slot;
            }
        } else {
            self.hold_packed(&digest, record.sequence, &data);
        }
        Ok(Stored::New)
    }

    /// Names an object file that was received and synced. On any error but success it is discarded.
    pub async fn commit_object(&self, digest: Digest, incoming: Incoming) -> Result<Stored, PutError> {
        let _lock = self.lock(digest).await;
        if self.has_whole(&digest) {
            self.discard(incoming).await;
            return Ok(Stored::Already);
        }
        let record = Record {
            kind: RecordKind::Object,
            digest,
            sequence: self.next_sequence(),
            expires_ms: 0,
            size: incoming.size,
            data_bytes: 0,
            data_crc: incoming.sums_crc,
            evictable: false,
        };
        if let Err(e) = self.name_object(&digest, &incoming).await {
            self.discard(incoming).await;
            return Err(if super::log::is_full(&e) {
                PutError::NoSpace
            } else {
                PutError::Stopped(e.to_string())
            });
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

    async fn name_object(&self, digest: &Digest, incoming: &Incoming) -> io::Result<()> {
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

    /// Deletes an object; false if there was none. Readers under way finish.
    pub async fn delete(&self, digest: Digest) -> Result<bool, PutError> {
        let _lock = self.lock(digest).await;
        if self.lookup(&digest).is_none() {
            return Ok(false);
        }
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
        let old = self.forget(&digest);
        if let Some(old) = old {
            self.free_disk(&digest, &old).await;
        }
        Ok(true)
    }

    /// The next page of objects after `after`, in digest order.
    pub fn list(&self, after: Option<&Digest>, limit: usize) -> Vec<(Digest, u64)> {
        let now_ms = self.inner.io.unix_ms();
        self.inner.state.borrow().index.list(after, limit, now_ms)
    }

    /// Counts since start and sizes now.
    pub fn stats(&self) -> Stats {
        let state = self.inner.state.borrow();
        let (objects, object_bytes) = state.index.totals();
        let (held_bytes, held_bytes_max) = state.policy.usage();
        Stats {
            objects,
            object_bytes,
            held_bytes,
            held_bytes_max,
            ram_hits: self.inner.ram_hits.get(),
            disk_hits: self.inner.disk_hits.get(),
            evictions: self.inner.evictions.get(),
            damaged: self.inner.damaged.get(),
        }
    }

    /// Where objects are received, for [`super::ObjectWriter`].
    pub fn names(&self) -> &Names {
        &self.inner.names
    }

    /// The disk budget.
    pub fn budget(&self) -> &Budget {
        &self.inner.plan.budget
    }

    fn has_whole(&self, digest: &Digest) -> bool {
        self.lookup(digest).is_some() && !self.inner.state.borrow().damaged.contains(digest)
    }

    fn next_sequence(&self) -> u64 {
        let state = &mut *self.inner.state.borrow_mut();
        state.next_sequence += 1;
        state.next_sequence
    }

    fn insert(&self, record: &Record, place: Place) {
        let old = self.forget(&record.digest);
        let state = &mut *self.inner.state.borrow_mut();
        let Record { digest, size, sequence, expires_ms, data_crc: crc, evictable, .. } = *record;
        state.damaged.remove(&digest);
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
    fn forget(&self, digest: &Digest) -> Option<Entry> {
        let state = &mut *self.inner.state.borrow_mut();
        let old = state.index.remove(digest)?;
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

    async fn free_disk(&self, digest: &Digest, old: &Entry) {
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

    fn sub_live(&self, segment: u32, old: &Entry, digest: &Digest) {
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
    async fn lock(&self, digest: Digest) -> Lock<I> {
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

struct Lock<I: Io> {
    shard: Shard<I>,
    digest: Digest,
}

impl<I: Io> Drop for Lock<I> {
    fn drop(&mut self) {
        let waiting = self.shard.inner.state.borrow_mut().locked.remove(&self.digest);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

fn insert_held(state: &mut State, key: Key, weight: u64, held: Held, evictions: &Cell<u64>) -> Option<u32> {
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

fn take_held(state: &mut State, slot: u32) {
    if let Some(Held::Pinned(_)) = state.held[slot as usize].take() {
        state.pins -= 1;
    }
}

fn drop_held(state: &mut State, (key, slot): (Key, u32), evictions: &Cell<u64>) {
    bump(evictions);
    take_held(state, slot);
    match key {
        Key::Packed(digest) => {
            let entry = state.index.get_mut(&digest).expect("what is held is in the index");
            assert_eq!(entry.held, slot, "entry and slot name each other");
            entry.held = NOT_HELD;
        }
        other => drop(state.slots.remove(&other)),
    }
}
