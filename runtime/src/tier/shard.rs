//! The owner of a column's objects. Waits where waiting is needed; what holds is decided by `index` and `policy`.
//!
//! Called by an engine's shard on the owning column, one call per request, many at a time. No state is borrowed across an
//! await.

mod ahead;
mod held;
mod store;

use super::data_dir::DataDir;
use super::digest::Digest;
use super::index::{Entry, Index, Place};
use super::log::{Log, LogError, LogPlan};
use super::names::{Names, SegmentKind};
use super::object::read_sums;
use super::policy::Policy;
use super::prefetch::{self, Prefetch};
use super::reader::{ReadError, read_packed};
use super::recover::Recovered;
use super::segment::Segments;
use crate::budget::Budget;
use crate::io::{Io, Open};
use crate::oneshot::Oneshot;
use crate::resident::Resident;
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

pub use ahead::Stretch;

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
    /// Whether extents are brought into RAM ahead of sequential readers.
    pub prefetch: bool,
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
    /// Reading ahead.
    pub prefetch: prefetch::Counts,
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
    /// `None`: switched off.
    prefetch: Option<Prefetch>,
    /// Readers that wait for an extent that is being read ahead (at most one for each connection).
    awaited: HashMap<prefetch::Place, Vec<Oneshot<()>>>,
    /// Packed objects in pinned pages; each is a mapping of its own, and a process may have only so many.
    pins: usize,
    /// Found damaged on disk: a put of the same object mends it.
    damaged: HashSet<Digest>,
    /// What may be dropped from disk, oldest first, with the sequence it was stored under.
    evictable: VecDeque<(Digest, u64)>,
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
    /// Whether a task looks for idle streams.
    sweeping: Cell<bool>,
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
        let mut evictable: Vec<(Digest, u64)> =
            index.iter().filter(|(_, e)| e.evictable).map(|(d, e)| (*d, e.sequence)).collect();
        evictable.sort_unstable_by_key(|&(_, sequence)| sequence);
        let evictable = VecDeque::from(evictable);
        let state = State {
            index,
            policy: Policy::new(plan.held_bytes),
            held: Vec::new(),
            slots: HashMap::new(),
            promoting: HashSet::new(),
            prefetch: plan.prefetch.then(|| Prefetch::new(plan.held_bytes)),
            awaited: HashMap::new(),
            pins: 0,
            damaged: HashSet::new(),
            evictable,
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
                sweeping: Cell::new(false),
            }),
        }
    }

    /// Takes the space that deletions need, while there is some. Called once, before the first request.
    pub async fn prepare(&self) -> Result<(), PutError> {
        Ok(self.inner.index_log.prepare().await?)
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
            prefetch: state.prefetch.as_ref().map(Prefetch::counts).unwrap_or_default(),
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
}
