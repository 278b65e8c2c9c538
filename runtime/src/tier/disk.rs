//! One data directory as one column sees it: its journals, its segments, and whether it still works.
//!
//! Called by `shard` and `object`. A disk whose write or sync failed, of a journal or of an object, is taken out: nothing is written
//! to it any more, what is on it answers "not now"; with no other disk left the node stops.

use super::data_dir::DataDir;
use super::disk_policy::DiskPolicy;
use super::names::Names;
use super::recover::{Old, RecoveredDisk};
use super::shard::PutError;
use crate::budget::Budget;
use crate::io::Io;
use crate::journal::{Journal, JournalPlan, Mark, Purpose, Store};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Most data directories of a node.
pub const DISKS_MAX: usize = 16;

const INDEX_SEGMENT_BYTES: u32 = 1 << 20;
/// Where a column's part of a disk is small.
const INDEX_SEGMENT_BYTES_SMALL: u32 = 256 << 10;
/// What the index may grow by while a checkpoint is written, in segments: two before one is due for that, the rest meanwhile.
const INDEX_SLACK_SEGMENTS: u64 = 6;
/// The index journals of all columns have no more than this part of a disk set aside for what they grow by, however many there are.
const INDEX_PART_MIN: u64 = 8;
/// FORMAT, DISKS and the like, and blocks in which a file system keeps where the blocks of a file are.
const FIXED_BYTES: u64 = 128 << 10;
/// Each column may move a pack to a new one on a disk that is full otherwise; all of them have no more than this part of it.
const RESERVE_PART_MIN: u64 = 16;
/// What a column remembers requests for on a disk: an object for each of so many bytes of its share, at most so many.
const REMEMBERED_BYTES: u64 = 1 << 20;
const REMEMBERED_MAX: u64 = 1 << 18;

/// Size of pack segments: large for sequential reads, small against the quota so that a small disk is not one segment.
fn pack_segment_bytes(quota: u64) -> u32 {
    (quota / 64).clamp(1 << 20, 64 << 20).next_power_of_two() as u32
}

/// Large for few syncs of names, small where all columns' first segments would take a good part of the disk.
fn index_segment_bytes(quota: u64, columns: usize) -> u32 {
    let is_small = quota / 64 < u64::from(INDEX_SEGMENT_BYTES) * columns as u64;
    if is_small { INDEX_SEGMENT_BYTES_SMALL } else { INDEX_SEGMENT_BYTES }
}

fn remembered(plan: &DiskPlan, columns: usize) -> usize {
    (plan.budget.limit() / REMEMBERED_BYTES / columns as u64).min(REMEMBERED_MAX) as usize
}

/// What a disk is made of.
#[derive(Clone)]
pub struct DiskPlan {
    /// The directory.
    pub dir: Arc<DataDir>,
    /// Its bytes, shared by all columns.
    pub budget: Budget,
    /// Its share of new objects, relative to the others.
    pub weight: u32,
    /// Bytes of its file system that stay free.
    pub floor_bytes: u64,
}

/// One data directory as one column sees it.
pub struct Disk<I: Io> {
    /// Its place in the list of disks.
    pub number: u8,
    pub(super) names: Names,
    pub(super) store: Store<I>,
    pub(super) pack: Journal<I>,
    pub(super) index: Journal<I>,
    pub(super) old: Arc<Old>,
    pub(super) weight: u32,
    /// This column's objects that may go.
    pub(super) policy: RefCell<DiskPolicy>,
    floor_bytes: u64,
    columns: u64,
    index_segment_bytes: u64,
    /// Objects that are being stored: they are in no count of the index yet.
    storing: Cell<u64>,
    /// Numbers below were given out by earlier boots.
    pub(super) first_number: u32,
    /// This column's newest checkpoint of this boot: number and bytes.
    pub(super) checkpoint: Cell<Option<(u32, u64)>>,
    /// What the index journal had written by then.
    pub(super) index_bytes: Cell<u64>,
    out: RefCell<Option<Rc<str>>>,
    on_out: Rc<dyn Fn(u8, String)>,
}

impl<I: Io> Disk<I> {
    /// Takes over what recovery found. `on_out` hears why the disk had to be taken out.
    pub(super) fn new(
        io: &I,
        number: u8,
        plan: &DiskPlan,
        (column, columns): (usize, usize),
        found: &RecoveredDisk,
        on_out: Rc<dyn Fn(u8, String)>,
    ) -> Rc<Disk<I>> {
        let names = plan.dir.names().clone();
        let first_number = found.next_number + column as u32;
        let root = (names.root(), plan.dir.seed());
        let store = Store::new(io.clone(), root, plan.budget.clone(), (first_number, columns as u32));
        found.old.packs.iter().for_each(|s| store.adopt(s.clone()));
        let journal = |purpose, segment_bytes| {
            let on_out = on_out.clone();
            let on_stop = Box::new(move |reason| on_out(number, reason));
            Journal::new(store.clone(), JournalPlan { purpose, segment_bytes }, on_stop)
        };
        let pack_bytes = pack_segment_bytes(plan.budget.limit());
        let pack = journal(Purpose::Pack, pack_bytes);
        let reserve_bytes = u64::from(pack_bytes) * columns as u64;
        plan.budget.set_reserve(reserve_bytes.min(plan.budget.limit() / RESERVE_PART_MIN));
        let index_segment_bytes = index_segment_bytes(plan.budget.limit(), columns);
        let index = journal(Purpose::Index, index_segment_bytes);
        Rc::new(Disk {
            number,
            names,
            store,
            pack,
            index,
            old: found.old.clone(),
            weight: plan.weight,
            policy: RefCell::new(DiskPolicy::new(remembered(plan, columns), io.random())),
            floor_bytes: plan.floor_bytes,
            columns: columns as u64,
            index_segment_bytes: u64::from(index_segment_bytes),
            storing: Cell::new(0),
            first_number,
            checkpoint: Cell::new(None),
            index_bytes: Cell::new(0),
            out: RefCell::new(found.out.clone().map(Rc::from)),
            on_out,
        })
    }

    /// Why the disk is out, if it is.
    pub fn out(&self) -> Option<Rc<str>> {
        self.out.borrow().clone()
    }

    /// Takes the disk out; true the first time.
    pub(super) fn take_out(&self, reason: &str) -> bool {
        let first = self.out.borrow_mut().replace(reason.into()).is_none();
        if first {
            self.pack.stop(reason.into());
            self.index.stop(reason.into());
        }
        first
    }

    /// An object could not be written to `path`: why, for who stores it. If it is the disk that failed, that is out from here on.
    pub(super) fn failed(&self, path: &Path, e: io::Error) -> PutError {
        match PutError::from_io(e) {
            PutError::Stopped(reason) => {
                let reason = format!("writing {}: {reason}", path.display());
                (self.on_out)(self.number, reason.clone());
                PutError::Stopped(reason)
            }
            passing => passing,
        }
    }

    /// Where a journal of this boot stands. Before its first record it stands behind everything of earlier boots.
    pub(super) fn mark(&self, journal: &Journal<I>) -> Mark {
        journal.mark().unwrap_or(Mark { segment: self.first_number, offset: 0, sequence: 0 })
    }

    /// Bytes of index journal worth a checkpoint of `next_bytes`: they count against the quota, and a start reads them.
    fn checkpoint_after_bytes(&self, next_bytes: u64) -> u64 {
        let last_bytes = self.checkpoint.get().map_or(0, |(_, bytes)| bytes);
        last_bytes.min(next_bytes).max(self.checkpoint_after_bytes_min())
    }

    fn checkpoint_after_bytes_min(&self) -> u64 {
        let limit = self.store.budget().limit();
        (limit / 64).clamp(1 << 20, 8 << 20).min(limit / INDEX_PART_MIN / self.columns / 2)
    }

    /// Whether the index journal has grown so much that a checkpoint of `next_bytes` is due.
    pub(super) fn has_index_grown(&self, next_bytes: u64) -> bool {
        let after_bytes = self.checkpoint_after_bytes(next_bytes);
        let grown_bytes = self.index.written_bytes() - self.index_bytes.get();
        // Few bytes may take many segments where they are small.
        grown_bytes > after_bytes || self.store.index_bytes() > after_bytes + 2 * self.index_segment_bytes
    }

    /// Sets aside what index and checkpoints may come to take until another checkpoint of at most `next_bytes` has replaced
    /// them; false: the disk is too full for it.
    pub(super) fn set_aside(&self, next_bytes: u64) -> bool {
        let part = self.store.budget().limit() / INDEX_PART_MIN / self.columns;
        let slack = INDEX_SLACK_SEGMENTS * self.index_segment_bytes;
        // As much as may be due after the next checkpoint, which is larger than the last one.
        let grows = next_bytes.max(self.checkpoint_after_bytes_min()) + slack.min(part / 2);
        let index = grows.saturating_sub(self.store.index_bytes());
        let checkpoint = next_bytes.saturating_sub(self.store.checkpoint_bytes());
        self.store.set_aside(index, checkpoint + FIXED_BYTES)
    }

    /// An object is about to be stored: it counts from here on.
    pub(super) fn storing(self: &Rc<Self>) -> Storing<I> {
        self.storing.set(self.storing.get() + 1);
        Storing(self.clone())
    }

    /// Objects that are being stored.
    pub(super) fn stored_soon(&self) -> u64 {
        self.storing.get()
    }

    /// Looks how much the file system has left: beyond the floor nothing is stored.
    pub(super) async fn see_room(&self) {
        match self.store.io().free_bytes(self.names.root()).await {
            Ok(free) => self.store.budget().set_room(free.saturating_sub(self.floor_bytes)),
            Err(e) => {
                let root = self.names.root().display();
                tracing::warn!(disk = %root, error = %e, "what is free cannot be seen: the last figure holds");
            }
        }
    }

    /// Bytes that fit yet.
    pub fn room_bytes(&self) -> u64 {
        self.store.budget().room()
    }
}

/// An object that is being stored; in the index, or given up, when this is dropped.
pub(super) struct Storing<I: Io>(Rc<Disk<I>>);

impl<I: Io> Drop for Storing<I> {
    fn drop(&mut self) {
        self.0.storing.set(self.0.storing.get() - 1);
    }
}
