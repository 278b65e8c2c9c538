//! Log segments on disk and how much of each is still wanted.
//!
//! A segment is written by one column and, after a restart with another number of columns, may hold records of several:
//! its live count is the one number they share. The last to drop a record of a sealed segment removes the file.

use super::names::SegmentKind;
use crate::io::Io;
use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One segment file.
#[derive(Debug)]
pub struct Segment {
    /// Its number.
    pub number: u32,
    /// Pack or index.
    pub kind: SegmentKind,
    /// Bytes it takes on disk.
    pub disk_bytes: u64,
    live_bytes: AtomicU64,
    sealed: AtomicBool,
}

impl Segment {
    /// A segment with nothing live.
    pub fn new(kind: SegmentKind, number: u32, disk_bytes: u64, sealed: bool) -> Arc<Segment> {
        let (live_bytes, sealed) = (AtomicU64::new(0), AtomicBool::new(sealed));
        Arc::new(Segment { number, kind, disk_bytes, live_bytes, sealed })
    }

    /// Bytes of records still wanted.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Acquire)
    }

    /// Counts a record as wanted.
    pub fn add_live(&self, bytes: u64) {
        self.live_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts a record as dead; true when the file is to be removed, which is said to one caller only.
    #[must_use]
    pub fn sub_live(&self, bytes: u64) -> bool {
        let before = self.live_bytes.fetch_sub(bytes, Ordering::AcqRel);
        assert!(before >= bytes, "segment {} had {before} live bytes, lost {bytes}", self.number);
        before == bytes && self.sealed.load(Ordering::Acquire)
    }

    /// Nothing is appended any more.
    pub fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }
}

/// The segments a column knows, with their open files.
pub struct Segments<I: Io> {
    known: HashMap<u32, (Arc<Segment>, Option<I::File>)>,
}

impl<I: Io> Segments<I> {
    /// Those found by recovery.
    pub fn new(found: impl Iterator<Item = Arc<Segment>>) -> Segments<I> {
        Segments { known: found.map(|s| (s.number, (s, None))).collect() }
    }

    /// Adds a segment this column has just made.
    pub fn add(&mut self, kind: SegmentKind, number: u32, disk_bytes: u64, file: I::File) -> Arc<Segment> {
        let segment = Segment::new(kind, number, disk_bytes, false);
        let before = self.known.insert(number, (segment.clone(), Some(file)));
        assert!(before.is_none(), "segment {number} exists already");
        segment
    }

    /// A segment by number.
    pub fn get(&self, number: u32) -> Option<&Arc<Segment>> {
        self.known.get(&number).map(|(s, _)| s)
    }

    /// Its open file, if there is one.
    pub fn file(&self, number: u32) -> Option<I::File> {
        self.known.get(&number).and_then(|(_, f)| f.clone())
    }

    /// Remembers an open file.
    pub fn set_file(&mut self, number: u32, file: I::File) {
        if let Some((_, slot)) = self.known.get_mut(&number) {
            *slot = Some(file);
        }
    }

    /// Forgets a segment.
    pub fn remove(&mut self, number: u32) {
        self.known.remove(&number);
    }
}
