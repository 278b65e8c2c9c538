//! What sequential readers get ahead, what random ones do not, and the bounds of both.

use super::*;
use hashbrown::HashSet;
use proptest::prelude::*;

const EXTENT: u64 = EXTENT_BYTES as u64;
const MIB: u64 = 1 << 20;
const SECOND_NS: u64 = 1_000_000_000;
/// RAM for 640 extents: 40 of them ahead.
const BUDGET: u64 = 640 * EXTENT;

fn object(n: u8) -> Digest {
    Digest([n; 32])
}

fn read(n: u8, size: u64, from: u64, len: u64) -> Read {
    Read { digest: object(n), size, from, to: (from + len).min(size) }
}

/// Does what a shard does, with a set of names for RAM.
struct Ram {
    prefetch: Prefetch,
    held: HashSet<Place>,
    loading: Vec<(Place, u64)>,
    now_ns: u64,
}

impl Ram {
    fn new(budget_bytes: u64) -> Ram {
        Ram { prefetch: Prefetch::new(budget_bytes), held: HashSet::new(), loading: Vec::new(), now_ns: 0 }
    }

    fn must_be_bounded(&self) {
        let p = &self.prefetch;
        assert!(p.streams.len() <= STREAMS_MAX && p.loading.len() <= FLIGHT_MAX);
        assert!(p.unused.len() <= p.extents_max, "{} of {}", p.unused.len(), p.extents_max);
        assert_eq!(p.loading.len(), self.loading.len());
        for stream in &p.streams {
            let same = p.streams.iter().filter(|s| s.digest == stream.digest).count();
            assert!(same <= POSITIONS_MAX, "{same} positions in one object");
            let flight = p.loading.values().filter(|&&id| id == stream.id).count();
            assert!(flight <= FLIGHT_STREAM_MAX, "{flight} in flight for one stream");
            assert!((WINDOW_FIRST..=WINDOW_MAX).contains(&stream.window));
        }
        let Counts { issued, hits, wasted, .. } = p.counts;
        assert_eq!(issued, hits + wasted + p.unused.len() as u64);
    }

    fn start(&mut self, digest: Digest, size: u64, numbers: Vec<u32>) {
        for number in numbers {
            assert!(u64::from(number) * EXTENT < size, "extent {number} is beyond {size} bytes");
            let place = (digest, number);
            assert!(!self.held.contains(&place), "extent {number} is in RAM");
            assert!(self.loading.iter().all(|(p, _)| *p != place), "extent {number} is on its way");
            self.loading.push((place, size));
        }
    }

    fn drop_unused(&mut self) {
        for place in self.prefetch.take_dropped() {
            assert!(self.held.remove(&place), "dropped and not held");
        }
    }

    fn read(&mut self, read: &Read) -> bool {
        let held = &self.held;
        let numbers = self.prefetch.on_read(read, self.now_ns, |n| held.contains(&(read.digest, n)));
        self.drop_unused();
        self.start(read.digest, read.size, numbers);
        let place = (read.digest, (read.from / EXTENT) as u32);
        self.held.contains(&place) && self.prefetch.on_used(place, read.to)
    }

    fn finish(&mut self, at: usize, is_here: bool) {
        let (place, size) = self.loading.remove(at % self.loading.len());
        if is_here {
            self.held.insert(place);
        }
        let held = &self.held;
        let numbers = self.prefetch.on_done(place, is_here, |n| held.contains(&(place.0, n)));
        self.start(place.0, size, numbers);
    }

    fn finish_all(&mut self) {
        while !self.loading.is_empty() {
            self.finish(0, true);
            self.must_be_bounded();
        }
    }
}

#[test]
fn a_sequential_reader_finds_every_extent_after_the_first_two() {
    for step in [64 << 10, MIB, EXTENT] {
        let (mut ram, size) = (Ram::new(BUDGET), 100 * EXTENT + 77);
        let mut from = 0;
        while from < size {
            let one = read(1, size, from, step);
            let ahead = ram.read(&one);
            assert_eq!(
                ahead,
                from >= if step == EXTENT { 2 * EXTENT } else { EXTENT },
                "at {from} by {step}"
            );
            ram.finish_all();
            from = one.to;
        }
        let counts = ram.prefetch.counts();
        assert_eq!((counts.hits, counts.wasted), (counts.issued, 0));
        assert!(counts.bytes >= 98 * EXTENT && counts.bytes <= 100 * EXTENT + 77, "{counts:?}");
    }
}

#[test]
fn what_is_read_again_is_not_ahead_any_more_not_even_the_end() {
    for size in [20 * EXTENT, 20 * EXTENT + 77] {
        let mut ram = Ram::new(BUDGET);
        for pass in 0..3 {
            let mut from = 0;
            while from < size {
                let one = read(1, size, from, MIB);
                assert!(!(ram.read(&one) && pass > 0), "pass {pass} at {from}");
                ram.finish_all();
                from = one.to;
            }
        }
    }
}

#[test]
fn the_window_is_16_for_a_reader_who_never_waits() {
    for (budget, most) in [(1 << 40, 16), (BUDGET, 16), (32 * EXTENT, 2), (EXTENT, 0)] {
        let (mut ram, size) = (Ram::new(budget), 1000 * EXTENT);
        let mut peaks = Vec::new();
        for n in 0..50 {
            ram.read(&read(1, size, n * EXTENT, EXTENT));
            ram.finish_all();
            peaks.push(ram.prefetch.unused.len());
        }
        assert_eq!(peaks[0], 0, "one read is no stream");
        assert_eq!((peaks[1], peaks.iter().max()), (most, Some(&most)), "{budget} bytes");
    }
}

/// Reads on by extents, of which each is still on its way when it is asked for.
fn catch_up(ram: &mut Ram, size: u64, numbers: Range<u64>) {
    for n in numbers {
        let one = read(1, size, n * EXTENT, EXTENT);
        ram.read(&one);
        let place = (one.digest, n as u32);
        if let Some(at) = ram.loading.iter().position(|(p, _)| *p == place) {
            ram.finish(at, true);
            assert!(ram.prefetch.on_used(place, one.to));
        }
        ram.must_be_bounded();
    }
}

#[test]
fn the_window_doubles_when_its_reader_catches_up() {
    for (budget, most) in [(BUDGET, 40), (1 << 40, 64), (32 * EXTENT, 2), (EXTENT, 0)] {
        let (mut ram, size) = (Ram::new(budget), 1000 * EXTENT);
        let mut windows = Vec::new();
        for n in 0..6 {
            catch_up(&mut ram, size, n..n + 1);
            windows.push(ram.prefetch.streams[0].window);
        }
        let grown = if most == 0 { [16; 6] } else { [16, 16, 32, 64, 64, 64] };
        assert_eq!(windows, grown, "{budget} bytes");
        ram.finish_all();
        assert_eq!(ram.prefetch.unused.len(), most, "{budget} bytes");
    }
}

#[test]
fn a_reader_catches_up_once_at_an_extent() {
    let (mut ram, size) = (Ram::new(1 << 40), 1000 * EXTENT);
    for n in 0..12 {
        ram.read(&read(1, size, n * MIB, MIB));
    }
    // Three reads in the second extent and four in the third, none of which came yet.
    assert_eq!(ram.prefetch.streams[0].window, WINDOW_MAX);
    let (mut ram, size) = (Ram::new(1 << 40), 1000 * EXTENT);
    for n in 0..8 {
        ram.read(&read(1, size, n * MIB, MIB));
    }
    assert_eq!(ram.prefetch.streams[0].window, 32);
}

#[test]
fn waste_halves_the_window_down_to_16() {
    let (mut ram, size) = (Ram::new(1 << 40), 1000 * EXTENT);
    catch_up(&mut ram, size, 0..6);
    ram.finish_all();
    let mut unused: Vec<Place> = ram.prefetch.unused.keys().copied().collect();
    for (wasted, window) in [64, 32, 16, 16].into_iter().enumerate() {
        assert_eq!((ram.prefetch.streams[0].window, ram.prefetch.counts().wasted), (window, wasted as u64));
        let place = unused.pop().expect("64 of them");
        ram.held.remove(&place);
        ram.prefetch.on_evicted(place);
        ram.must_be_bounded();
    }
}

#[test]
fn those_who_came_first_leave_some_of_a_small_budget_to_others() {
    let (mut ram, size) = (Ram::new(BUDGET), 400 * EXTENT);
    for n in 0..20 {
        for reader in 0..8 {
            ram.read(&read(1, size, (reader * 50 + n) * EXTENT, EXTENT));
            ram.finish_all();
        }
    }
    for stream in &ram.prefetch.streams {
        let ahead = ram.prefetch.unused.values().filter(|&&id| id == stream.id).count();
        // The one it is at is held with them until it is used.
        assert!((4..=5).contains(&ahead), "{ahead} of 40 for one of 8");
    }
}

#[test]
fn gaps_up_to_2_mib_are_bridged_and_no_more() {
    for (gap, bridged) in [(0, true), (MIB, true), (2 * MIB, true), (2 * MIB + 1, false), (16 * MIB, false)] {
        let (mut ram, size) = (Ram::new(BUDGET), 100 * EXTENT);
        ram.read(&read(1, size, 0, 3 * MIB));
        ram.read(&read(1, size, 3 * MIB + gap, MIB));
        assert_eq!(!ram.loading.is_empty(), bridged, "a gap of {gap}");
    }
}

#[test]
fn readers_of_one_object_are_streams_of_their_own() {
    let (mut ram, size) = (Ram::new(BUDGET), 400 * EXTENT);
    for n in 0..20 {
        for reader in 0..4 {
            ram.read(&read(1, size, (reader * 100 + n) * EXTENT, EXTENT));
            ram.finish_all();
        }
    }
    assert_eq!(ram.prefetch.streams.len(), 4);
    assert!(ram.prefetch.counts().hits >= 4 * 17, "{:?}", ram.prefetch.counts());
}

#[test]
fn a_stream_is_over_after_30_s() {
    let (mut ram, size) = (Ram::new(BUDGET), 100 * EXTENT);
    ram.read(&read(1, size, 0, EXTENT));
    ram.read(&read(1, size, EXTENT, EXTENT));
    ram.finish_all();
    let unused = ram.prefetch.unused.len() as u64;
    assert!(unused > 0);
    ram.prefetch.sweep(30 * SECOND_NS - 1);
    assert!(!ram.prefetch.is_idle() && ram.prefetch.take_dropped().is_empty());
    ram.prefetch.sweep(30 * SECOND_NS);
    assert!(ram.prefetch.is_idle());
    assert_eq!(ram.prefetch.counts().wasted, unused);
    assert_eq!(ram.held.len() as u64, unused);
    ram.drop_unused();
    assert!(ram.held.is_empty(), "what nobody came for stays in RAM");
}

/// A reader at `from`, extent by extent, each read `gap_ns` after the last.
fn go_on(ram: &mut Ram, size: u64, (from, extents): (u64, u64), gap_ns: u64) {
    for n in from..from + extents {
        ram.read(&read(1, size, n * EXTENT, EXTENT));
        ram.finish_all();
        ram.now_ns += gap_ns;
    }
}

#[test]
fn what_was_ahead_of_a_reader_who_went_elsewhere_is_dropped() {
    let (mut ram, size) = (Ram::new(BUDGET), 400 * EXTENT);
    go_on(&mut ram, size, (0, 4), SECOND_NS / 100);
    let left: Vec<Place> = ram.prefetch.unused.keys().copied().collect();
    assert!(!left.is_empty());
    // He jumps and reads on there: for a while he could be another one.
    go_on(&mut ram, size, (200, 90), SECOND_NS / 100);
    assert!(left.iter().all(|place| ram.held.contains(place)), "too soon");
    go_on(&mut ram, size, (290, 20), SECOND_NS / 100);
    assert!(!left.iter().any(|place| ram.held.contains(place)), "kept for nobody");
    assert_eq!(ram.prefetch.counts().wasted, left.len() as u64);
    assert_eq!(ram.prefetch.streams.len(), 1);
}

#[test]
fn what_was_ahead_of_a_reader_who_turned_to_random_reads_is_dropped() {
    let (mut ram, size) = (Ram::new(BUDGET), 400 * EXTENT);
    go_on(&mut ram, size, (0, 4), SECOND_NS / 100);
    let left: Vec<Place> = ram.prefetch.unused.keys().copied().collect();
    for n in 0..4 {
        ram.read(&read(1, size, (300 - n * 40) * EXTENT + 5, 4096));
        ram.now_ns += SECOND_NS / 2;
    }
    assert_eq!((ram.prefetch.counts().wasted, left.is_empty()), (left.len() as u64, false));
    assert!(!left.iter().any(|place| ram.held.contains(place)), "kept for nobody");
}

#[test]
fn nobody_breaks_the_stream_of_a_slower_reader() {
    let (mut ram, size) = (Ram::new(BUDGET), 400 * EXTENT);
    // One takes 2 s for an extent; another comes and is quick, a third reads here and there.
    for n in 0..20 {
        ram.read(&read(1, size, n * EXTENT, EXTENT));
        ram.finish_all();
        if n >= 1 {
            for part in 0..8 {
                ram.read(&read(1, size, (100 + n * 8 + part) * EXTENT, EXTENT));
                ram.finish_all();
                ram.read(&read(1, size, (390 - n * 4) * EXTENT + part * 300_000, 4096));
                ram.now_ns += SECOND_NS / 4;
            }
        } else {
            ram.now_ns += 2 * SECOND_NS;
        }
    }
    assert_eq!(ram.prefetch.counts().wasted, 0, "{:?}", ram.prefetch.counts());
}

#[test]
fn a_reader_of_another_object_breaks_nothing() {
    let (mut ram, size) = (Ram::new(BUDGET), 400 * EXTENT);
    go_on(&mut ram, size, (0, 4), SECOND_NS / 100);
    for n in 0..20 {
        ram.read(&read(2, size, n * EXTENT, EXTENT));
        ram.finish_all();
        ram.now_ns += SECOND_NS / 4;
    }
    assert_eq!(ram.prefetch.counts().wasted, 0);
    assert_eq!(ram.prefetch.streams.len(), 2);
}

/// He jumped and was done there at once: nobody reads any more who could show it.
#[test]
fn a_reader_who_went_elsewhere_and_ended_is_noticed_by_the_sweep() {
    let (mut ram, size) = (Ram::new(BUDGET), 400 * EXTENT);
    go_on(&mut ram, size, (0, 4), SECOND_NS / 100);
    ram.read(&read(1, size, 398 * EXTENT, EXTENT));
    let left = ram.prefetch.unused.len() as u64;
    ram.now_ns += 5 * SECOND_NS;
    ram.prefetch.sweep(ram.now_ns);
    ram.drop_unused();
    assert_eq!((ram.prefetch.counts().wasted, left > 0), (left, true));
    assert_eq!(ram.prefetch.streams.len(), 1, "his last place is one yet");
}

#[test]
fn what_fails_or_is_deleted_is_waste() {
    let (mut ram, size) = (Ram::new(BUDGET), 100 * EXTENT);
    ram.read(&read(1, size, 0, EXTENT));
    ram.read(&read(1, size, EXTENT, EXTENT));
    let asked = ram.loading.len() as u64;
    ram.finish(0, false);
    assert_eq!((ram.prefetch.counts().wasted, ram.loading.len() as u64), (1, asked - 1));
    ram.prefetch.on_forgotten(&object(1));
    assert_eq!(ram.prefetch.counts().wasted, asked);
    while !ram.loading.is_empty() {
        ram.finish(0, false);
    }
    ram.must_be_bounded();
}

proptest! {
    #[test]
    fn small_reads_at_random_bring_in_nothing(
        froms in prop::collection::vec((0u8..3, 0u64..16 * 1024), 1..2000),
    ) {
        let (mut ram, size) = (Ram::new(BUDGET), 64 * MIB);
        for (n, block) in froms {
            ram.read(&read(n, size, block * 4096, 4096));
            ram.now_ns += 1;
        }
        prop_assert_eq!(ram.prefetch.counts(), Counts::default());
        ram.must_be_bounded();
    }

    #[test]
    fn bounds_hold_whatever_happens(
        budget_extents in 0u64..2000,
        ops in prop::collection::vec((0u8..12, 0u8..80, 0u64..40 * EXTENT, 1u64..3 * MIB), 1..600),
    ) {
        let mut ram = Ram::new(budget_extents * EXTENT);
        let mut nexts = [0u64; 80];
        for (op, n, at, len) in ops {
            let size = (u64::from(n) % 7 + 1) * 9 * EXTENT - u64::from(n);
            let next = &mut nexts[usize::from(n)];
            match op {
                // Onwards, or from anywhere.
                0..=5 => {
                    let from = *next % size;
                    let end = (from / EXTENT + 1) * EXTENT;
                    let one = read(n, size, from, len.min(end - from));
                    *next = one.to;
                    ram.read(&one);
                }
                6 => {
                    let from = at % size;
                    let end = (from / EXTENT + 1) * EXTENT;
                    ram.read(&read(n, size, from, len.min(end - from)));
                }
                7 | 8 if !ram.loading.is_empty() => ram.finish(at as usize, op == 7),
                9 => {
                    if let Some(&place) = ram.held.iter().next() {
                        ram.held.remove(&place);
                        ram.prefetch.on_evicted(place);
                    }
                }
                10 => {
                    ram.held.retain(|p| p.0 != object(n));
                    ram.prefetch.on_forgotten(&object(n));
                }
                _ => {
                    ram.now_ns += at * 100;
                    let now_ns = ram.now_ns;
                    ram.prefetch.sweep(now_ns);
                    ram.drop_unused();
                    let fresh = |s: &Stream| now_ns - s.last_ns < IDLE_NS;
                    prop_assert!(ram.prefetch.streams.iter().all(fresh));
                }
            }
            ram.must_be_bounded();
            let unheld = ram.prefetch.unused.keys()
                .find(|p| !ram.held.contains(*p) && !ram.prefetch.is_loading(p));
            prop_assert_eq!(unheld, None, "counted as unused and nowhere");
        }
    }
}
