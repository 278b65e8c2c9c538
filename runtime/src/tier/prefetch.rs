//! Which extents of object files to bring into RAM before they are asked for. Pure: the caller does the reading, has the
//! clock, and says what became of each extent.
//!
//! Called by `shard` for every read of an object file. A *stream* is one reader's position in one object. A read that
//! begins where a stream's last one ended, or a little further on, continues it; one that continues none and finds its
//! extent not in RAM begins one. A stream that is proved (two reads, and [`RUN_BYTES_MIN`] of them) gets a window of
//! 16 extents ahead of it, which doubles, up to 64, whenever its reader catches up (meets an extent that is still on its way), and
//! halves, down to 16, with each extent that was of no use. Where RAM is small a window is cut to an even share of what may be
//! ahead (invariant 2): below 1 GiB on a column even one stream has less than 16.
//!
//! A gap is bridged only up to what the stream has read so far: random small reads in one object now and then fall within
//! 2 MiB of each other, and one false stream costs as much disk as thousands of them.
//!
//! A reader who jumps cannot be told from another one who comes, nor one who pauses from one who went. So a proved stream is *left* when
//! its object is read at a place that was begun since its own last read, and it has waited for longer than a second and than
//! [`PATIENCE_GAPS`] times the longest it ever waited for its reader: readers who take turns in one object leave each other alone,
//! however slow they are. Left, or not read for [`IDLE_NS`], it is over, and what is ahead of it is dropped.
//!
//! Invariants
//! 1. At most [`STREAMS_MAX`] streams, [`POSITIONS_MAX`] of one object; at most [`FLIGHT_STREAM_MAX`] extents are being
//!    read for one stream, [`FLIGHT_MAX`] for all.
//! 2. Extents brought in and not used yet are at most `extents_max`: a share of RAM so small that the cache's own
//!    eviction does not reach them before their reader does.
//! 3. issued = hits + wasted + not used yet.
//!
//! Units: bytes, extents of [`EXTENT_BYTES`], monotonic nanoseconds.

use super::digest::Digest;
use super::names::EXTENT_BYTES;
use hashbrown::HashMap;
use std::ops::Range;

/// Streams known at a time on one column.
pub const STREAMS_MAX: usize = 64;
/// Streams of one object.
pub const POSITIONS_MAX: usize = 8;
/// Extents being read ahead for one stream.
pub const FLIGHT_STREAM_MAX: usize = 4;
/// Extents being read ahead on one column.
pub const FLIGHT_MAX: usize = 8;
/// A stream that nobody reads for this long is over, whatever else is read.
pub const IDLE_NS: u64 = 30_000_000_000;
/// A stream is not left before it has waited for so long.
const PATIENCE_NS_MIN: u64 = 1_000_000_000;
/// Nor before it has waited for so many times the longest it waited between two reads.
const PATIENCE_GAPS: u64 = 4;
/// The most bytes left out between two reads of one stream.
const GAP_BYTES_MAX: u64 = 2 << 20;
/// Bytes in sequence that prove a stream.
const RUN_BYTES_MIN: u64 = 128 << 10;
/// Reads in sequence that prove a stream.
const READS_MIN: u32 = 2;
/// The window begins here and never shrinks below.
const WINDOW_FIRST: u32 = 16;
/// The most extents ahead of a stream.
const WINDOW_MAX: u32 = 64;
/// The part of the RAM budget that extents not used yet may take: less than the tenth which new arrivals have for sure.
const BUDGET_DIVISOR: u64 = 16;

/// One extent of an object.
pub type Place = (Digest, u32);

/// A read of an object of `size` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Which object.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// First byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
}

/// Counts since start. Extents, but for `bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Asked to be brought in.
    pub issued: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Used by a reader, each counted once.
    pub hits: u64,
    /// Dropped, or never arrived, without use.
    pub wasted: u64,
}

struct Stream {
    id: u64,
    digest: Digest,
    size: u64,
    /// Where the last read ended.
    next: u64,
    run_bytes: u64,
    reads: u32,
    window: u32,
    /// The first extent not looked at yet.
    ahead: u32,
    /// The last extent at which its reader caught up: it counts once, in however many reads.
    caught_up: Option<u32>,
    /// An extent brought in ahead that the reader is in.
    within: Option<u32>,
    begun_ns: u64,
    last_ns: u64,
    /// The longest between two reads.
    gap_ns: u64,
}

impl Stream {
    fn is_proved(&self) -> bool {
        self.reads >= READS_MIN && self.run_bytes >= RUN_BYTES_MIN
    }

    fn is_continued_by(&self, read: &Read) -> bool {
        let gap_max = self.run_bytes.min(GAP_BYTES_MAX);
        self.digest == read.digest && (self.next..=self.next + gap_max).contains(&read.from)
    }

    /// Takes a read that continues it.
    fn go_on(&mut self, read: &Read, now_ns: u64) {
        self.next = read.to;
        self.run_bytes += read.to - read.from;
        self.reads = self.reads.saturating_add(1);
        self.gap_ns = self.gap_ns.max(now_ns.saturating_sub(self.last_ns));
        self.last_ns = now_ns;
    }

    fn waits_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.last_ns)
    }

    fn patience_ns(&self) -> u64 {
        self.gap_ns.saturating_mul(PATIENCE_GAPS).max(PATIENCE_NS_MIN)
    }

    /// Its reader came to an extent before that was there.
    fn catch_up(&mut self, number: u32) {
        if self.caught_up.replace(number) != Some(number) {
            self.window = (self.window * 2).min(WINDOW_MAX);
        }
    }

    /// Extents ahead of the reader that may be brought in, at most `most`.
    fn wanted(&self, most: u32) -> Range<u32> {
        let extent_bytes = EXTENT_BYTES as u64;
        let first = self.next.div_ceil(extent_bytes) as u32;
        let end = first.saturating_add(self.window.min(most)).min(self.size.div_ceil(extent_bytes) as u32);
        self.ahead.max(first)..end
    }
}

/// Whether the reader of a stream reads elsewhere now. See the head of this file.
fn is_left(all: &[Stream], stream: &Stream, now_ns: u64) -> bool {
    stream.is_proved()
        && stream.waits_ns(now_ns) >= stream.patience_ns()
        && all.iter().any(|other| other.digest == stream.digest && other.begun_ns > stream.last_ns)
}

/// The streams of one column.
pub struct Prefetch {
    streams: Vec<Stream>,
    /// Brought in or being read, not used yet; for which stream.
    unused: HashMap<Place, u64>,
    /// Being read; for which stream.
    loading: HashMap<Place, u64>,
    /// In RAM, for a stream that is over.
    dropped: Vec<Place>,
    extents_max: usize,
    next_id: u64,
    counts: Counts,
}

impl Stream {
    /// Whether its next read can be of the same extent as the one that ended at `to`.
    fn goes_on_behind(&self, to: u64) -> bool {
        to < self.size && !to.is_multiple_of(EXTENT_BYTES as u64)
    }
}

impl Prefetch {
    /// No streams yet; `budget_bytes`: RAM for objects on this column.
    pub fn new(budget_bytes: u64) -> Prefetch {
        Prefetch {
            streams: Vec::new(),
            unused: HashMap::new(),
            loading: HashMap::new(),
            dropped: Vec::new(),
            extents_max: (budget_bytes / BUDGET_DIVISOR / EXTENT_BYTES as u64) as usize,
            next_id: 0,
            counts: Counts::default(),
        }
    }

    /// Notes a read; returns the extents to bring in now. `is_held`: in RAM, or on the way there.
    pub fn on_read(&mut self, read: &Read, now_ns: u64, is_held: impl Fn(u32) -> bool) -> Vec<u32> {
        assert!(read.from < read.to && read.to <= read.size, "{read:?}");
        let at = self.streams.iter().enumerate().filter(|(_, s)| s.is_continued_by(read));
        let at = match at.max_by_key(|(_, s)| s.next) {
            Some((at, _)) => at,
            // What is in RAM has no need of us: hot objects read at random cost no more than this look.
            None if is_held((read.from / EXTENT_BYTES as u64) as u32) => return Vec::new(),
            None => self.begin(read, now_ns),
        };
        self.streams[at].go_on(read, now_ns);
        let (id, number) = (self.streams[at].id, (read.from / EXTENT_BYTES as u64) as u32);
        if self.loading.get(&(read.digest, number)) == Some(&id) {
            self.streams[at].catch_up(number);
        }
        self.end_those(|all, s| s.digest == read.digest && is_left(all, s, now_ns));
        let at = self.streams.iter().position(|s| s.id == id).expect("just read, so it is not left");
        self.plan(at, is_held)
    }

    /// Notes that an extent was read in (`is_held`) or could not be; returns those to bring in next.
    pub fn on_done(&mut self, place: Place, is_here: bool, is_held: impl Fn(u32) -> bool) -> Vec<u32> {
        let id = self.loading.remove(&place).expect("only what was asked for is done");
        if !is_here && self.unused.remove(&place).is_some() {
            self.counts.wasted += 1;
        }
        match self.streams.iter().position(|s| s.id == id) {
            // What could not be read now will not be tried again ahead of need.
            Some(at) if is_here => self.plan(at, is_held),
            _ => Vec::new(),
        }
    }

    /// Notes that an extent in RAM serves a read that ends at `to`. True when it is there only because of us: this is its
    /// first use, or the same stream's next read of it.
    pub fn on_used(&mut self, place: Place, to: u64) -> bool {
        if let Some(id) = self.unused.remove(&place) {
            self.counts.hits += 1;
            if let Some(stream) = self.streams.iter_mut().find(|s| s.id == id) {
                stream.within = stream.goes_on_behind(to).then_some(place.1);
            }
            return true;
        }
        let reads = |s: &&mut Stream| s.within == Some(place.1) && s.next == to && s.digest == place.0;
        let Some(stream) = self.streams.iter_mut().find(reads) else { return false };
        if !stream.goes_on_behind(to) {
            stream.within = None;
        }
        true
    }

    /// Notes that an extent left RAM.
    pub fn on_evicted(&mut self, place: Place) {
        if let Some(id) = self.unused.remove(&place) {
            self.counts.wasted += 1;
            if let Some(stream) = self.streams.iter_mut().find(|s| s.id == id) {
                stream.window = (stream.window / 2).max(WINDOW_FIRST);
            }
        }
    }

    /// Notes that an object is gone, and its extents with it.
    pub fn on_forgotten(&mut self, digest: &Digest) {
        self.streams.retain(|s| s.digest != *digest);
        let before = self.unused.len();
        self.unused.retain(|place, _| place.0 != *digest);
        self.counts.wasted += (before - self.unused.len()) as u64;
        self.dropped.retain(|place| place.0 != *digest);
    }

    /// Ends the streams that nobody reads any more.
    pub fn sweep(&mut self, now_ns: u64) {
        self.end_those(|all, s| s.waits_ns(now_ns) >= IDLE_NS || is_left(all, s, now_ns));
    }

    fn end_those(&mut self, is_over: impl Fn(&[Stream], &Stream) -> bool) {
        while let Some(at) = self.streams.iter().position(|s| is_over(&self.streams, s)) {
            self.end(at);
        }
    }

    /// Whether an extent is being read ahead.
    pub fn is_loading(&self, place: &Place) -> bool {
        self.loading.contains_key(place)
    }

    /// Whether there is nothing to sweep.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// Extents to let go of: their streams ended before they were used.
    pub fn take_dropped(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.dropped)
    }

    /// Counts since start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A new stream, in the place of one that was not read for long where there is no other.
    fn begin(&mut self, read: &Read, now_ns: u64) -> usize {
        let same = |s: &Stream| s.digest == read.digest;
        if self.streams.iter().filter(|s| same(s)).count() >= POSITIONS_MAX {
            self.end_oldest(same);
        } else if self.streams.len() >= STREAMS_MAX {
            self.end_oldest(|_| true);
        }
        self.streams.push(Stream {
            id: self.next_id,
            digest: read.digest,
            size: read.size,
            next: read.from,
            run_bytes: 0,
            reads: 0,
            window: WINDOW_FIRST,
            ahead: 0,
            caught_up: None,
            within: None,
            begun_ns: now_ns,
            last_ns: now_ns,
            gap_ns: 0,
        });
        self.next_id += 1;
        self.streams.len() - 1
    }

    /// Positions that are no streams (yet) go first, so that random reads do not end a stream.
    fn end_oldest(&mut self, among: impl Fn(&Stream) -> bool) {
        let all = self.streams.iter().enumerate().filter(|(_, s)| among(s));
        let (at, _) = all.min_by_key(|(_, s)| (s.is_proved(), s.last_ns)).expect("the bound is above none");
        self.end(at);
    }

    fn end(&mut self, at: usize) {
        let id = self.streams.swap_remove(at).id;
        let mut gone: Vec<Place> = self.unused.iter().filter(|&(_, of)| *of == id).map(|(&p, _)| p).collect();
        // One order whatever the hash map's: the simulator replays by seed.
        gone.sort_unstable();
        for place in gone {
            self.unused.remove(&place);
            self.counts.wasted += 1;
            // What is still being read stays when it comes: an extent of the cache like any other.
            if !self.loading.contains_key(&place) {
                self.dropped.push(place);
            }
        }
    }

    /// Extents that each stream may have ahead, so that those who came first leave something to the others.
    fn share(&self) -> u32 {
        let proved = self.streams.iter().filter(|s| s.is_proved()).count().max(1);
        (self.extents_max / proved).max(FLIGHT_STREAM_MAX) as u32
    }

    fn plan(&mut self, at: usize, is_held: impl Fn(u32) -> bool) -> Vec<u32> {
        let share = self.share();
        let stream = &mut self.streams[at];
        let mut now = Vec::new();
        if !stream.is_proved() {
            return now;
        }
        let mut in_flight = self.loading.values().filter(|&&id| id == stream.id).count();
        for number in stream.wanted(share) {
            let place = (stream.digest, number);
            if !is_held(number) && !self.unused.contains_key(&place) && !self.loading.contains_key(&place) {
                let is_full = self.unused.len() >= self.extents_max || self.loading.len() >= FLIGHT_MAX;
                if is_full || in_flight >= FLIGHT_STREAM_MAX {
                    break;
                }
                in_flight += 1;
                self.unused.insert(place, stream.id);
                self.loading.insert(place, stream.id);
                self.counts.issued += 1;
                let from = u64::from(number) * EXTENT_BYTES as u64;
                self.counts.bytes += (stream.size - from).min(EXTENT_BYTES as u64);
                now.push(number);
            }
            stream.ahead = number + 1;
        }
        now
    }
}

#[cfg(test)]
mod tests;
