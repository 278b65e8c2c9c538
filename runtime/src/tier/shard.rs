//! The owner of a column's objects. Waits where waiting is needed; what holds is decided by `index` and `policy`.
//!
//! Called by an engine's shard on the owning column, one call per request, many at a time. No state is borrowed across an
//! await.

mod ahead;
mod held;
mod keep;
mod load;
mod origin;
mod scrub;
mod store;

use super::digest::Digest;
use super::disk::{Disk, DiskPlan};
use super::index::{Entry, Index, Place};
use super::object::read_sums;
use super::origins::Origins;
use super::policy::Policy;
use super::prefetch::{self, Prefetch};
use super::reader::{ReadError, read_packed};
use super::readiness::Readiness;
use super::recover::Recovered;
use crate::io::{Class, Io};
use crate::journal::{JournalError, Reading, is_full};
use crate::oneshot::Oneshot;
use crate::resident::Resident;
use crate::shards::{SHARDS, Shard as ShardNumber, ShardMap};
use crate::waiters::Waiters;
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use load::{Loading, sums_path};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

pub use ahead::{Extent, Stretch};
pub use scrub::Counts as ScrubCounts;

/// Copies bytes into the column's memory; `None` when there is no room.
pub type Hold = Box<dyn Fn(&[u8]) -> Option<Bytes>>;

/// What a shard is made of.
pub struct Plan {
    /// Number of the column.
    pub column: usize,
    /// Which column owns what.
    pub map: ShardMap,
    /// Bytes of RAM for objects (of the column's memory).
    pub held_bytes: u64,
    /// Whether extents are brought into RAM ahead of sequential readers; they are in shared pages.
    pub prefetch: bool,
    /// Whether what is in RAM may be in pages of the page cache, which another process could write to.
    pub shared_pages: bool,
    /// The data directories.
    pub disks: Vec<DiskPlan>,
    /// Copies of packed objects: how a buffer for one is found. `None`: no memory now.
    pub hold: Hold,
    /// Told when a write or sync has failed for good and no other disk is left.
    pub on_stop: Rc<dyn Fn(String)>,
}

impl Plan {
    /// The shards of this column.
    fn owned(&self) -> impl Iterator<Item = usize> {
        let (map, column) = (self.map, self.column);
        (0..SHARDS).filter(move |&s| map.owner(ShardNumber(s as u8)) == column)
    }
}

/// An object found.
#[derive(Clone, Debug)]
pub enum Found {
    /// All its bytes, which were in RAM.
    Packed(Bytes),
    /// All its bytes, which were on disk until now.
    Read(Bytes),
    /// All its bytes, in pinned pages of its segment.
    Pinned(Pinned),
    /// Its file.
    Object(Object),
}

impl Found {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Found::Packed(bytes) | Found::Read(bytes) => bytes.len() as u64,
            Found::Pinned(pinned) => pinned.len as u64,
            Found::Object(object) => object.size,
        }
    }
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
    /// Keeps the file from being written over.
    pub(super) _reading: Reading,
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
    /// The disk failed, and is out; the node is stopping if it was the last.
    #[error("{0}")]
    Stopped(String),
}

impl From<JournalError> for PutError {
    fn from(e: JournalError) -> PutError {
        match e {
            JournalError::Busy => PutError::Busy,
            JournalError::NoSpace => PutError::NoSpace,
            JournalError::Stopped(reason) => PutError::Stopped(reason.to_string()),
        }
    }
}

impl PutError {
    /// What an operation on a file ended with. All but `Stopped` say nothing against the disk: it is full, its file system holds no
    /// file so large, or the node has no memory, no descriptor or no place in a queue now.
    pub(super) fn from_io(e: io::Error) -> PutError {
        let is_of_node = matches!(e.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::ResourceBusy)
            || matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
        match e.kind() {
            _ if is_full(&e) => PutError::NoSpace,
            io::ErrorKind::FileTooLarge => PutError::NoSpace,
            _ if is_of_node => PutError::Busy,
            _ => PutError::Stopped(e.to_string()),
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
    /// Of those, the ones of private names, and their bytes.
    pub private_objects: u64,
    /// See there.
    pub private_bytes: u64,
    /// Objects of private names that were deleted to make room.
    pub private_evictions: u64,
    /// RAM in use for objects.
    pub held_bytes: u64,
    /// RAM there may be.
    pub held_bytes_max: u64,
    /// Packed objects and extents found in RAM.
    pub ram_hits: u64,
    /// Packed objects and extents that were, or without reading ahead would have been, read from disk.
    pub disk_hits: u64,
    /// Objects or extents dropped from RAM.
    pub evictions: u64,
    /// Checksums that did not match.
    pub damaged: u64,
    /// Reading ahead.
    pub prefetch: prefetch::Counts,
    /// Looking for damage.
    pub scrub: ScrubCounts,
    /// Shards of which recovery has not read all; 0 once everything is loaded.
    pub unread_shards: u64,
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
    /// With an older copy on a disk that went out before that could be said to be gone: a deletion would not last.
    outdated: HashSet<Digest>,
    /// Being stored on a disk when it went out (so no more than there were puts): the next start may find a copy there that
    /// nobody was promised. A deletion would not last either.
    unsettled: HashSet<Digest>,
    locked: HashMap<Digest, Vec<Waker>>,
    /// Where objects came from, those that are gone included.
    origins: Origins,
    next_sequence: u64,
}

impl State {
    fn new(plan: &Plan, (policy_seed, index_seed): (u64, u64), next_sequence: u64) -> State {
        let quota_bytes = plan.disks.iter().map(|d| d.budget.limit()).min().unwrap_or(0);
        State {
            index: Index::new(index_seed),
            policy: Policy::new(plan.held_bytes, policy_seed),
            held: Vec::new(),
            slots: HashMap::new(),
            promoting: HashSet::new(),
            prefetch: (plan.prefetch && plan.shared_pages).then(|| Prefetch::new(plan.held_bytes)),
            awaited: HashMap::new(),
            pins: 0,
            damaged: HashSet::new(),
            outdated: HashSet::new(),
            unsettled: HashSet::new(),
            locked: HashMap::new(),
            origins: Origins::new(quota_bytes, plan.map.columns()),
            next_sequence,
        }
    }
}

/// The owner of a column's objects. Clones share it.
pub struct Shard<I: Io> {
    inner: Rc<Inner<I>>,
}

struct Inner<I: Io> {
    io: I,
    plan: Plan,
    disks: Vec<Rc<Disk<I>>>,
    owned_shards: u64,
    state: RefCell<State>,
    loading: RefCell<Loading>,
    /// Who wants a shard that is being read.
    load_waiters: Waiters,
    /// All of this column is in the index.
    loaded: Cell<bool>,
    readiness: Arc<Readiness>,
    /// The last start had journals to read: a checkpoint saves the next one that.
    stale: Cell<bool>,
    checkpointing: Cell<bool>,
    /// Who waits for packs being rewritten to make room; the first began it.
    reclaiming: RefCell<Vec<Oneshot<u64>>>,
    ram_hits: Cell<u64>,
    disk_hits: Cell<u64>,
    evictions: Cell<u64>,
    private_evictions: Cell<u64>,
    damaged: Cell<u64>,
    scrubbed: Cell<ScrubCounts>,
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

impl<I: Io> Shard<I> {
    /// Takes over what recovery found for this column. [`Shard::load_all`] is to be spawned next.
    pub fn new(io: I, plan: Plan, recovered: Recovered) -> Shard<I> {
        assert_eq!(plan.disks.len(), recovered.disks.len(), "recovery read other disks");
        let inner = Rc::new_cyclic(|weak: &std::rc::Weak<Inner<I>>| {
            let on_out: Rc<dyn Fn(u8, String)> = {
                let weak = weak.clone();
                Rc::new(move |disk, reason| {
                    if let Some(inner) = weak.upgrade() {
                        Shard { inner }.on_disk_failed(disk, &reason);
                    }
                })
            };
            let place = (plan.column, plan.map.columns());
            let disks = plan.disks.iter().zip(&recovered.disks).enumerate();
            let disks = disks.map(|(n, (d, found))| Disk::new(&io, n as u8, d, place, found, on_out.clone()));
            Inner {
                disks: disks.collect(),
                owned_shards: plan.owned().count() as u64,
                state: RefCell::new(State::new(&plan, (io.random(), io.random()), recovered.next_sequence)),
                stale: Cell::new(recovered.disks.iter().any(|d| d.stale)),
                loading: RefCell::new(Loading::new(recovered.disks)),
                load_waiters: Waiters::default(),
                loaded: Cell::new(false),
                readiness: recovered.readiness,
                checkpointing: Cell::new(false),
                reclaiming: RefCell::default(),
                ram_hits: Cell::new(0),
                disk_hits: Cell::new(0),
                evictions: Cell::new(0),
                private_evictions: Cell::new(0),
                damaged: Cell::new(0),
                scrubbed: Cell::default(),
                sweeping: Cell::new(false),
                io,
                plan,
            }
        });
        let shard = Shard { inner };
        shard.inner.disks.iter().for_each(|disk| shard.hear_sealed(disk));
        shard
    }

    fn hear_sealed(&self, disk: &Rc<Disk<I>>) {
        // Weak: the disk is held by what this would hold.
        let (me, weak) = (Rc::downgrade(&self.inner), Rc::downgrade(disk));
        disk.pack.on_sealed(Box::new(move |segment| {
            if let (Some(inner), Some(disk)) = (me.upgrade(), weak.upgrade()) {
                Shard { inner }.on_pack_sealed(&disk, segment);
            }
        }));
        let (me, weak) = (Rc::downgrade(&self.inner), Rc::downgrade(disk));
        disk.index.on_sealed(Box::new(move |_| {
            if let (Some(inner), Some(disk)) = (me.upgrade(), weak.upgrade()) {
                Shard { inner }.on_index_sealed(&disk);
            }
        }));
    }

    /// Takes the space that deletions need, while there is some. Called once, before the first request.
    pub async fn prepare(&self) -> Result<(), PutError> {
        for disk in self.inner.disks.iter().filter(|d| d.out().is_none()) {
            // What does not fit now is set aside once there is room, before anything is stored.
            self.set_aside(disk);
            match disk.index.prepare().await {
                Err(JournalError::Stopped(reason)) if self.inner.disks.len() > 1 => {
                    self.on_disk_failed(disk.number, &reason);
                }
                prepared => prepared?,
            }
        }
        Ok(())
    }

    /// A disk does not work any more: what is on it is answered with "not now". The last one takes the node with it.
    fn on_disk_failed(&self, number: u8, reason: &str) {
        let disk = &self.inner.disks[usize::from(number)];
        if !disk.take_out(reason) {
            return;
        }
        let root = disk.names.root().display();
        if self.inner.disks.iter().all(|d| d.out().is_some()) {
            (self.inner.plan.on_stop)(reason.to_owned());
        } else {
            tracing::error!(disk = %root, %reason, "disk is taken out: what is on it answers 503");
        }
    }

    /// The disk of an entry, if it works.
    fn disk_of(&self, digest: &Digest, entry: &Entry) -> Result<&Rc<Disk<I>>, ReadError> {
        let disk = &self.inner.disks[usize::from(entry.disk)];
        if disk.out().is_some() { Err(ReadError::Out(*digest)) } else { Ok(disk) }
    }

    /// What is not known may be on a disk that is out since before it was read.
    fn maybe_lost(&self, digest: &Digest) -> Result<(), ReadError> {
        if self.knows_all() { Ok(()) } else { Err(ReadError::Out(*digest)) }
    }

    /// Whether every disk was read: otherwise there may be objects that are in no listing.
    pub fn knows_all(&self) -> bool {
        self.inner.loading.borrow().disks.iter().all(|d| d.out.is_none())
    }

    /// An object, or `None` if there is none.
    pub async fn get(&self, digest: &Digest) -> Result<Option<Found>, ReadError> {
        loop {
            if let Some(found) = self.get_held(digest) {
                return Ok(Some(found));
            }
            let Some(entry) = self.lookup(digest) else {
                return self.maybe_lost(digest).map(|()| None);
            };
            if self.is_to_be_mended(digest) {
                return Err(ReadError::Damaged(*digest));
            }
            let found = self.get_from_disk(digest, &entry).await;
            match found {
                Ok(found) => return Ok(Some(found)),
                // Deleted, replaced or moved meanwhile: an error on the way to where it was says nothing.
                Err(_) if self.lookup(digest).is_none_or(|now| now.sequence != entry.sequence) => {}
                Err(e) => {
                    if let ReadError::Damaged(_) = &e {
                        self.on_damaged(digest);
                    }
                    return Err(e);
                }
            }
        }
    }

    async fn get_from_disk(&self, digest: &Digest, entry: &Entry) -> Result<Found, ReadError> {
        let disk = self.disk_of(digest, entry)?;
        if entry.may_go() {
            disk.policy.borrow_mut().on_read(digest);
        }
        match entry.place {
            Place::Packed { segment, offset } => {
                self.read_packed(disk, digest, entry, (segment, offset)).await.map(Found::Read)
            }
            Place::Object => {
                let sums = self.sums(disk, digest, entry).await?;
                let path = disk.names.object(digest);
                Ok(Found::Object(Object { path, size: entry.size, sums }))
            }
        }
    }

    /// The size of an object.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        self.lookup(digest).map(|e| e.size)
    }

    fn lookup(&self, digest: &Digest) -> Option<Entry> {
        let now_ms = self.inner.io.unix_ms();
        self.inner.state.borrow().index.get(digest).filter(|e| !e.is_expired(now_ms)).copied()
    }

    /// Known to be damaged, and an origin can give it again: better than what is left of it.
    fn is_to_be_mended(&self, digest: &Digest) -> bool {
        let state = self.inner.state.borrow();
        state.damaged.contains(digest) && state.origins.get(digest).is_some()
    }

    /// Counts an object whose bytes on disk are not what was stored; a put or fetch of it will store it anew.
    pub fn on_damaged(&self, digest: &Digest) {
        if self.lookup(digest).is_none() {
            return;
        }
        bump(&self.inner.damaged);
        if self.inner.state.borrow_mut().damaged.insert(*digest) {
            tracing::error!(%digest, "object is damaged on disk: it is not served; store it again to mend it");
        }
        self.drop_shared(digest);
    }

    async fn read_packed(
        &self,
        disk: &Rc<Disk<I>>,
        digest: &Digest,
        entry: &Entry,
        (segment, offset): (u32, u32),
    ) -> Result<Bytes, ReadError> {
        bump(&self.inner.disk_hits);
        let segment = disk.store.get(segment).expect("an entry names a segment that exists");
        let _reading = segment.reading();
        let file = disk.store.file(&segment).await.map_err(|e| ReadError::Io(*digest, e))?;
        let (buf, range) =
            read_packed(&self.inner.io, &file, digest, (offset, entry.size as usize, entry.crc)).await?;
        // Served from the read buffer when there is no room to keep it.
        Ok(match self.hold_packed(digest, entry.sequence, &buf[range.clone()]) {
            Some(bytes) => bytes,
            None => buf.into_shared(range.end).slice(range),
        })
    }

    async fn sums(
        &self,
        disk: &Rc<Disk<I>>,
        digest: &Digest,
        entry: &Entry,
    ) -> Result<Arc<[u32]>, ReadError> {
        {
            let state = &mut *self.inner.state.borrow_mut();
            if let Some(&slot) = state.slots.get(&Key::Sums(*digest)) {
                state.policy.touch(slot);
                if let Some(Held::Sums(sums)) = &state.held[slot as usize] {
                    return Ok(sums.clone());
                }
            }
        }
        let path = sums_path(&disk.names, digest);
        let sums = read_sums(&self.inner.io, &path, (entry.size, entry.crc), Class::Foreground).await;
        let sums = sums.map_err(|e| ReadError::of_sums(*digest, e))?;
        self.hold_sums(digest, entry.sequence, &sums);
        Ok(sums)
    }

    /// The next page of objects after `after`, in digest order; without those of private names.
    pub fn list(&self, after: Option<&Digest>, limit: usize) -> Vec<(Digest, u64)> {
        let now_ms = self.inner.io.unix_ms();
        self.inner.state.borrow_mut().index.list_those(after, limit, now_ms, |digest| !digest.is_private())
    }

    /// As [`Shard::list`], with those of private names.
    pub fn list_all(&self, after: Option<&Digest>, limit: usize) -> Vec<(Digest, u64)> {
        let now_ms = self.inner.io.unix_ms();
        self.inner.state.borrow_mut().index.list(after, limit, now_ms)
    }

    /// Counts since start and sizes now.
    pub fn stats(&self) -> Stats {
        let state = self.inner.state.borrow();
        let (objects, object_bytes) = state.index.totals();
        let (private_objects, private_bytes) = state.index.private_totals();
        let (held_bytes, held_bytes_max) = state.policy.usage();
        Stats {
            objects,
            object_bytes,
            private_objects,
            private_bytes,
            private_evictions: self.inner.private_evictions.get(),
            held_bytes,
            held_bytes_max,
            ram_hits: self.inner.ram_hits.get(),
            disk_hits: self.inner.disk_hits.get(),
            evictions: self.inner.evictions.get(),
            damaged: self.inner.damaged.get(),
            prefetch: state.prefetch.as_ref().map(Prefetch::counts).unwrap_or_default(),
            scrub: self.inner.scrubbed.get(),
            unread_shards: self.unread_shards(),
        }
    }

    /// Bytes that some column holds in RAM were read by one who had been given them before.
    pub fn on_shared(&self) {
        bump(&self.inner.ram_hits);
    }

    /// Bytes taken on the disks of all columns together, and their quotas.
    pub fn disk_usage(&self) -> (u64, u64) {
        let budgets = self.inner.plan.disks.iter().map(|d| &d.budget);
        budgets.fold((0, 0), |(used, quota), b| (used + b.used(), quota + b.quota()))
    }
}
