//! One segment file: how much of it is still wanted, and who reads it.
//!
//! A segment is written by one column and, after a restart with another number of columns, may hold records of several: its
//! counts are what they share. The last to drop a record of a sealed segment retires the file.

use super::batch::Purpose;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// One segment file.
#[derive(Debug)]
pub struct Segment {
    /// Its number, which no other segment of this directory ever has.
    pub number: u32,
    /// What it holds.
    pub purpose: Purpose,
    /// Bytes it takes on disk.
    pub disk_bytes: u64,
    live_bytes: AtomicU64,
    sealed: AtomicBool,
    retired: AtomicBool,
    readings: AtomicU32,
}

impl Segment {
    /// A segment with nothing live.
    pub fn new(purpose: Purpose, number: u32, disk_bytes: u64, sealed: bool) -> Arc<Segment> {
        Arc::new(Segment {
            number,
            purpose,
            disk_bytes,
            live_bytes: AtomicU64::new(0),
            sealed: AtomicBool::new(sealed),
            retired: AtomicBool::new(false),
            readings: AtomicU32::new(0),
        })
    }

    /// Bytes of records still wanted.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Acquire)
    }

    /// Counts a record as wanted.
    pub fn add_live(&self, bytes: u64) {
        self.live_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts a record as dead.
    pub fn sub_live(&self, bytes: u64) {
        let before = self.live_bytes.fetch_sub(bytes, Ordering::AcqRel);
        assert!(before >= bytes, "segment {} had {before} live bytes, lost {bytes}", self.number);
    }

    /// Nothing is appended any more.
    pub fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Whether nothing is appended any more.
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// True for the one caller that is to retire the file, because nothing in it is wanted any more.
    #[must_use]
    pub fn claim_dead(&self) -> bool {
        self.is_sealed() && self.live_bytes() == 0 && !self.retired.swap(true, Ordering::AcqRel)
    }

    /// Whether someone has retired it.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Notes a reader of the file's bytes, until the value is dropped.
    pub fn reading(self: &Arc<Segment>) -> Reading {
        self.readings.fetch_add(1, Ordering::AcqRel);
        Reading { segment: self.clone() }
    }

    /// Whether someone still reads its bytes: they must not be overwritten.
    pub fn is_read(&self) -> bool {
        self.readings.load(Ordering::Acquire) > 0
    }
}

/// Keeps a segment's bytes from being overwritten.
#[derive(Debug)]
pub struct Reading {
    segment: Arc<Segment>,
}

impl Clone for Reading {
    fn clone(&self) -> Reading {
        self.segment.reading()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.segment.readings.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_retired_once_when_sealed_and_dead() {
        let segment = Segment::new(Purpose::Pack, 1, 4096, false);
        segment.add_live(10);
        segment.sub_live(10);
        assert!(!segment.claim_dead(), "still written");
        segment.seal();
        assert!(segment.claim_dead() && !segment.claim_dead());
    }

    #[test]
    fn is_read_while_any_reader_lives() {
        let segment = Segment::new(Purpose::Pack, 1, 4096, true);
        let first = segment.reading();
        let second = first.clone();
        drop(first);
        assert!(segment.is_read());
        drop(second);
        assert!(!segment.is_read());
    }
}
