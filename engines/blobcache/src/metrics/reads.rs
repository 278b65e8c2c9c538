//! Reads by how far they had to go, and what they moved lately. The words are defined in [`super`].
//!
//! Caller: `serve`, for each piece of an answer that was sent and at the end of each read, on the column that serves it.

use runtime::metrics::{Counter, Family, Gauge, Registry};
use std::cell::{Cell, RefCell};

pub(super) static READS: Family =
    Family::counter("blobcache_reads_total", "GETs answered with bytes of a blob (200 or 206).");
pub(super) static L0_HITS: Family =
    Family::counter("blobcache_l0_hits_total", "Reads all of whose bytes were in RAM.");
pub(super) static L1_HITS: Family =
    Family::counter("blobcache_l1_hits_total", "Reads of stored blobs of which some bytes came from disk.");
pub(super) static L2_MISSES: Family =
    Family::counter("blobcache_l2_misses_total", "Reads of blobs that had to come from their origin.");
static L0_BYTES: Family =
    Family::counter("blobcache_l0_bytes_served_total", "Bytes of stored blobs that reads sent from RAM.");
static L1_BYTES: Family =
    Family::counter("blobcache_l1_bytes_served_total", "Bytes of stored blobs that reads sent from disk.");
pub(super) static WINDOW_BYTES: Family =
    Family::gauge("blobcache_read_window_bytes", "Bytes of blobs that reads sent in the last ten seconds.");

/// The seconds that throughput is the mean of.
pub const WINDOW_SECONDS: u64 = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// Where bytes were when they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// L0.
    #[default]
    Ram,
    /// L1.
    Disk,
    /// L2.
    Origin,
}

/// The farthest that one read had to go so far.
#[derive(Debug, Default)]
pub struct Depth(Cell<Level>);

impl Depth {
    /// It had to go there.
    pub fn reach(&self, level: Level) {
        self.0.set(self.0.get().max(level));
    }
}

/// The counts of one column.
pub struct Reads {
    reads: Counter,
    /// By level.
    ends: [Counter; 3],
    bytes: [Counter; 2],
    window_bytes: Gauge,
    window: RefCell<Window>,
}

impl Reads {
    pub(super) fn new(registry: &Registry) -> Reads {
        Reads {
            reads: registry.counter(&READS, &[]),
            ends: [&L0_HITS, &L1_HITS, &L2_MISSES].map(|family| registry.counter(family, &[])),
            bytes: [&L0_BYTES, &L1_BYTES].map(|family| registry.counter(family, &[])),
            window_bytes: registry.gauge(&WINDOW_BYTES, &[]),
            window: RefCell::default(),
        }
    }

    /// A read sent bytes that were at `level`. What it had to wait for the origin for is neither level's merit.
    pub fn sent(&self, depth: &Depth, level: Level, bytes: u64, now_ns: u64) {
        depth.reach(level);
        if let (Some(counter), true) = (self.bytes.get(level as usize), depth.0.get() < Level::Origin) {
            counter.add(bytes);
        }
        self.window.borrow_mut().add(now_ns, bytes);
    }

    /// A read has ended.
    pub fn count(&self, depth: &Depth) {
        self.reads.inc();
        self.ends[depth.0.get() as usize].inc();
    }

    /// Brings the gauge of recent bytes up to date.
    pub(super) fn refresh(&self, now_ns: u64) {
        self.window_bytes.set(self.window.borrow_mut().sum(now_ns) as i64);
    }
}

/// Bytes by second: the one that runs, and as many before it as the window has.
#[derive(Default)]
struct Window {
    second: u64,
    bytes: [u64; WINDOW_SECONDS as usize + 1],
}

impl Window {
    fn slot(&mut self, second: u64) -> &mut u64 {
        let count = self.bytes.len() as u64;
        &mut self.bytes[(second % count) as usize]
    }

    fn advance(&mut self, now_ns: u64) {
        let now = now_ns / SECOND_NS;
        let stale = now.saturating_sub(self.second).min(self.bytes.len() as u64);
        for second in now - stale..now {
            *self.slot(second + 1) = 0;
        }
        self.second = self.second.max(now);
    }

    fn add(&mut self, now_ns: u64, bytes: u64) {
        self.advance(now_ns);
        *self.slot(self.second) += bytes;
    }

    /// Of the last whole seconds.
    fn sum(&mut self, now_ns: u64) -> u64 {
        self.advance(now_ns);
        let running = *self.slot(self.second);
        self.bytes.iter().sum::<u64>() - running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_as_deep_as_its_farthest_byte() {
        let reads = Reads::new(&Registry::new(0));
        for levels in [&[][..], &[Level::Ram], &[Level::Ram, Level::Disk, Level::Ram], &[Level::Origin]] {
            let depth = Depth::default();
            levels.iter().for_each(|&level| reads.sent(&depth, level, 10, 0));
            reads.count(&depth);
        }
        let waited = Depth::default();
        waited.reach(Level::Origin);
        reads.sent(&waited, Level::Ram, 1000, 0);
        reads.count(&waited);
        assert_eq!(reads.reads.get(), 5);
        assert_eq!([0, 1, 2].map(|level: usize| reads.ends[level].get()), [2, 1, 2]);
        assert_eq!([0, 1].map(|level: usize| reads.bytes[level].get()), [30, 10]);
    }

    #[test]
    fn the_window_is_the_last_ten_whole_seconds() {
        let at = |ms: u64| ms * 1_000_000;
        let mut window = Window::default();
        window.add(at(5_000), 1);
        window.add(at(5_999), 2);
        assert_eq!(window.sum(at(5_999)), 0, "the second has not ended");
        window.add(at(6_000), 4);
        assert_eq!(window.sum(at(6_000)), 3);
        assert_eq!(window.sum(at(15_999)), 7);
        assert_eq!(window.sum(at(16_000)), 4);
        assert_eq!(window.sum(at(17_000)), 0);
        window.add(at(100_000), 8);
        assert_eq!((window.sum(at(100_500)), window.sum(at(101_000))), (0, 8));
        assert_eq!(window.sum(at(1_000_000)), 0);
    }
}
