//! The segment files of one directory, as one column sees them: made (from a spare where there is one), opened, retired.
//!
//! Called by the journals of a column, which share it, and by whoever reads their segments.
//!
//! ```text
//! <purpose>-<number>          a segment; numbers are ten digits and never used twice in a directory
//! spare-<purpose>-<number>    one nobody wants any more: the next of its purpose and size is written over it, because a
//!                             sync of blocks that were written before costs two thirds of one that were not
//! ```
//!
//! Invariants
//! 1. Disk bytes are taken from the budget before a file is made and given back after it is gone; those of the index and of
//!    checkpoints from the purse, which has some set aside. Beyond that, where the limit was lowered under what is there
//!    already, an index takes no more than [`LAST_RESORT_BYTES`], without which nothing could be deleted.
//! 2. The budget's reserve is for the segments that others are moved to: without it a full disk could not be made room on.
//! 3. A segment becomes a spare only when nobody reads its bytes any more.

use super::batch::Purpose;
use super::segment::Segment;
use crate::budget::{Budget, Purse};
use crate::io::{Class, File, Io, Open};
use crate::planted::{self, Bug};
use crate::shards::SHARDS;
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// Spares kept of each purpose: one is written while the next is about to be needed.
const SPARES_MAX: usize = 1;

/// Of an index, where not even what was set aside is there.
const LAST_RESORT_BYTES: u64 = 512 << 10;

/// No segment has a higher number: whatever is found in a directory, adding a column's index or step overflows nothing.
pub const NUMBER_MAX: u32 = u32::MAX - 2 * SHARDS as u32;

/// Where a segment is.
pub fn segment_path(root: &Path, purpose: Purpose, number: u32) -> PathBuf {
    root.join(format!("{}-{number:010}", purpose.name()))
}

fn spare_path(root: &Path, purpose: Purpose, number: u32) -> PathBuf {
    root.join(format!("spare-{}-{number:010}", purpose.name()))
}

/// What a file name says: purpose, number, whether it is a spare.
pub fn parse_name(name: &str) -> Option<(Purpose, u32, bool)> {
    let (spare, rest) = name.strip_prefix("spare-").map_or((false, name), |rest| (true, rest));
    let (purpose, number) = rest.rsplit_once('-')?;
    let all_digits = number.len() == 10 && number.bytes().all(|b| b.is_ascii_digit());
    let number = number.parse().ok().filter(|_| all_digits)?;
    Some((Purpose::from_name(purpose)?, number, spare))
}

/// Whether an error means that the disk, or our share of it, is full.
pub fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

struct Known<F> {
    segment: Arc<Segment>,
    file: Option<F>,
}

struct Spare {
    purpose: Purpose,
    path: PathBuf,
    disk_bytes: u64,
}

/// The segments of one directory. Clones share it.
pub struct Store<I: Io> {
    inner: Rc<Inner<I>>,
}

struct Inner<I: Io> {
    io: I,
    root: PathBuf,
    seed: u32,
    budget: Budget,
    purse: Purse,
    /// What the segments of the index take, spares included, and the checkpoint that is being written.
    index_bytes: Cell<u64>,
    checkpoint_bytes: Cell<u64>,
    /// Of what is set aside, what is not for the index.
    kept_bytes: Cell<u64>,
    known: RefCell<HashMap<u32, Known<I::File>>>,
    spares: RefCell<Vec<Spare>>,
    next_number: Cell<u32>,
    number_step: u32,
    written_bytes: Cell<u64>,
    /// Of those who make room now.
    makers: Cell<u32>,
}

/// While it lives, new segments may be made of the budget's reserve.
pub struct MakingRoom<I: Io>(Store<I>);

impl<I: Io> Drop for MakingRoom<I> {
    fn drop(&mut self) {
        let makers = &self.0.inner.makers;
        makers.set(makers.get() - 1);
    }
}

impl<I: Io> Clone for Store<I> {
    fn clone(&self) -> Self {
        Store { inner: self.inner.clone() }
    }
}

impl<I: Io> Store<I> {
    /// A store that numbers its segments `first_number`, `+ number_step`, … so that columns never share a number.
    pub fn new(
        io: I,
        (root, seed): (&Path, u32),
        budget: Budget,
        (first_number, number_step): (u32, u32),
    ) -> Store<I> {
        Store {
            inner: Rc::new(Inner {
                io,
                root: root.to_owned(),
                seed,
                purse: Purse::new(budget.clone()),
                budget,
                index_bytes: Cell::new(0),
                checkpoint_bytes: Cell::new(0),
                kept_bytes: Cell::new(0),
                known: RefCell::default(),
                spares: RefCell::default(),
                next_number: Cell::new(first_number),
                number_step,
                written_bytes: Cell::new(0),
                makers: Cell::new(0),
            }),
        }
    }

    /// The machine.
    pub fn io(&self) -> &I {
        &self.inner.io
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The directory's seed.
    pub fn seed(&self) -> u32 {
        self.inner.seed
    }

    /// The disk budget.
    pub fn budget(&self) -> &Budget {
        &self.inner.budget
    }

    /// Records are about to be moved out of a segment, which then goes.
    pub fn making_room(&self) -> MakingRoom<I> {
        let makers = &self.inner.makers;
        makers.set(makers.get() + 1);
        MakingRoom(self.clone())
    }

    /// What is set aside for index and checkpoints.
    pub fn purse(&self) -> &Purse {
        &self.inner.purse
    }

    /// Sets aside `index` bytes for what the index may grow by, and `kept` that it may not have; false: there is no room.
    pub fn set_aside(&self, index: u64, kept: u64) -> bool {
        self.inner.kept_bytes.set(kept);
        self.inner.purse.set_aside(index + kept)
    }

    /// Bytes of the segments of the index that were made by this store.
    pub fn index_bytes(&self) -> u64 {
        self.inner.index_bytes.get()
    }

    /// Bytes of the checkpoint that is being written.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.inner.checkpoint_bytes.get()
    }

    /// A checkpoint is about to take so many bytes more.
    pub fn take_for_checkpoint(&self, bytes: u64) {
        let kept_bytes = &self.inner.kept_bytes;
        kept_bytes.set(kept_bytes.get().saturating_sub(bytes));
        self.inner.purse.must_take(bytes);
        self.inner.checkpoint_bytes.set(self.checkpoint_bytes() + bytes);
    }

    /// The checkpoint is written, or given up; `is_there`: its file still has those bytes.
    pub fn end_checkpoint(&self, is_there: bool) {
        let bytes = self.inner.checkpoint_bytes.replace(0);
        if !is_there {
            self.inner.purse.put_back(bytes);
        }
    }

    /// Takes disk bytes for a segment.
    fn try_take(&self, purpose: Purpose, disk_bytes: u64) -> bool {
        let Inner { budget, makers, purse, index_bytes, kept_bytes, .. } = &*self.inner;
        if purpose != Purpose::Index {
            let is_making_room = makers.get() > 0;
            return if is_making_room {
                budget.try_reserve_all(disk_bytes)
            } else {
                budget.try_reserve(disk_bytes)
            };
        }
        let sum = index_bytes.get() + disk_bytes;
        let mut taken = purse.take(disk_bytes, kept_bytes.get());
        if !taken && sum <= LAST_RESORT_BYTES {
            purse.must_take(disk_bytes);
            taken = true;
        }
        if taken {
            index_bytes.set(sum);
        }
        taken
    }

    fn give_back(&self, purpose: Purpose, disk_bytes: u64) {
        let Inner { budget, purse, index_bytes, .. } = &*self.inner;
        if purpose == Purpose::Index {
            index_bytes.set(index_bytes.get() - disk_bytes);
            purse.put_back(disk_bytes);
        } else {
            budget.release(disk_bytes);
        }
    }

    /// Adds a segment that recovery found.
    pub fn adopt(&self, segment: Arc<Segment>) {
        let before = self
            .inner
            .known
            .borrow_mut()
            .insert(segment.number, Known { segment: segment.clone(), file: None });
        assert!(before.is_none(), "segment {} is known already", segment.number);
    }

    /// A number no other segment has.
    pub fn take_number(&self) -> io::Result<u32> {
        let number = self.inner.next_number.get();
        if number > NUMBER_MAX {
            return Err(io::Error::other("segment numbers are used up"));
        }
        self.inner.next_number.set(number + self.inner.number_step);
        Ok(number)
    }

    /// Counts bytes given to the disk.
    pub fn on_written(&self, bytes: u64) {
        self.inner.written_bytes.set(self.inner.written_bytes.get() + bytes);
    }

    /// Bytes given to the disk since start.
    pub fn written_bytes(&self) -> u64 {
        self.inner.written_bytes.get()
    }

    /// Makes a segment of `disk_bytes`, its name and blocks on stable storage.
    pub async fn create(&self, purpose: Purpose, disk_bytes: u64) -> io::Result<(Arc<Segment>, I::File)> {
        let number = self.take_number()?;
        let file = match self.take_spare(purpose, disk_bytes) {
            Some(spare) => self.reuse(spare, number).await?,
            None => self.make(purpose, number, disk_bytes).await?,
        };
        let segment = Segment::new(purpose, number, disk_bytes, false);
        let known = Known { segment: segment.clone(), file: Some(file.clone()) };
        let before = self.inner.known.borrow_mut().insert(number, known);
        assert!(before.is_none(), "segment {number} exists already");
        Ok((segment, file))
    }

    fn take_spare(&self, purpose: Purpose, disk_bytes: u64) -> Option<Spare> {
        let spares = &mut *self.inner.spares.borrow_mut();
        let at = spares.iter().position(|s| s.purpose == purpose && s.disk_bytes == disk_bytes)?;
        Some(spares.swap_remove(at))
    }

    async fn reuse(&self, spare: Spare, number: u32) -> io::Result<I::File> {
        let Inner { io, root, .. } = &*self.inner;
        let path = segment_path(root, spare.purpose, number);
        io.rename(&spare.path, &path).await?;
        if !planted::is(Bug::SpareNameUnsynced) {
            io.sync_dir(root).await?;
        }
        io.open(&path, Open::WriteDirect).await
    }

    async fn make(&self, purpose: Purpose, number: u32, disk_bytes: u64) -> io::Result<I::File> {
        let Inner { io, root, .. } = &*self.inner;
        if !self.try_take(purpose, disk_bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let path = segment_path(root, purpose, number);
        let made = async {
            let file = io.open(&path, Open::CreateDirect).await?;
            file.allocate(disk_bytes).await?;
            file.sync_data().await?;
            if !planted::is(Bug::SegmentNameUnsynced) {
                io.sync_dir(root).await?;
            }
            Ok(file)
        };
        let made: io::Result<I::File> = made.await;
        if made.is_err() {
            let _ = io.unlink(&path).await;
            self.give_back(purpose, disk_bytes);
        }
        made
    }

    /// A segment by number.
    pub fn get(&self, number: u32) -> Option<Arc<Segment>> {
        self.inner.known.borrow().get(&number).map(|k| k.segment.clone())
    }

    /// All segments of a purpose.
    pub fn all(&self, purpose: Purpose) -> Vec<Arc<Segment>> {
        let known = self.inner.known.borrow();
        let mut all: Vec<_> =
            known.values().map(|k| &k.segment).filter(|s| s.purpose == purpose).cloned().collect();
        all.sort_unstable_by_key(|s| s.number);
        all
    }

    /// Its file, opened once.
    pub async fn file(&self, segment: &Segment) -> io::Result<I::File> {
        let open = self.inner.known.borrow().get(&segment.number).and_then(|k| k.file.clone());
        if let Some(file) = open {
            return Ok(file);
        }
        let path = segment_path(&self.inner.root, segment.purpose, segment.number);
        let file = self.inner.io.open(&path, Open::ReadDirect).await?;
        if let Some(known) = self.inner.known.borrow_mut().get_mut(&segment.number) {
            known.file = Some(file.clone());
        }
        Ok(file)
    }

    /// Its file, for work that nobody waits for.
    pub async fn file_as(&self, segment: &Segment, class: Class) -> io::Result<I::File> {
        Ok(self.file(segment).await?.classed(class))
    }

    /// Removes a segment that nobody wants, or keeps its file to be written over. A failure leaves the file for the next start.
    pub async fn retire(&self, number: u32) {
        let Some(known) = self.inner.known.borrow_mut().remove(&number) else { return };
        drop(known.file);
        let Inner { io, root, .. } = &*self.inner;
        let segment = known.segment;
        let path = segment_path(root, segment.purpose, number);
        if self.wants_spare(&segment) {
            let spare = spare_path(root, segment.purpose, number);
            if io.rename(&path, &spare).await.is_ok() {
                let (purpose, disk_bytes) = (segment.purpose, segment.disk_bytes);
                self.inner.spares.borrow_mut().push(Spare { purpose, path: spare, disk_bytes });
                return;
            }
        }
        match io.unlink(&path).await {
            Ok(()) => self.give_back(segment.purpose, segment.disk_bytes),
            Err(e) => {
                tracing::error!(path = %path.display(), error = %e, "dead segment stays until the next start");
            }
        }
    }

    fn wants_spare(&self, segment: &Segment) -> bool {
        let spares = self.inner.spares.borrow();
        let same = spares.iter().filter(|s| s.purpose == segment.purpose).count();
        // A quota that is nearly used up has no room for spares.
        let roomy = self.inner.budget.taken() < self.inner.budget.limit() / 2;
        same < SPARES_MAX && roomy && !segment.is_read() && segment.purpose != Purpose::Checkpoint
    }

    /// Forgets segments that other columns have retired, so that no open file keeps their space.
    pub fn forget_retired(&self) {
        self.inner.known.borrow_mut().retain(|_, k| !k.segment.is_retired());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let root = Path::new("/d");
        for (purpose, number) in [(Purpose::Pack, 7), (Purpose::Index, u32::MAX), (Purpose::Checkpoint, 0)] {
            for (path, spare) in
                [(segment_path(root, purpose, number), false), (spare_path(root, purpose, number), true)]
            {
                let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
                assert_eq!(parse_name(name), Some((purpose, number, spare)));
            }
        }
        for other in ["FORMAT", "pack-7", "pack-00000000x7", "log-0000000001", "spare-1", "pack-+000000001"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
