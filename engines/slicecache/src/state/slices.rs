//! Where the slices of an object begin and end, the first run to ask for when nothing is known of it, and how many runs at a time.
//!
//! Invariants of [`Slices`]: slices cover the object without gap or overlap; all but the last are `slice_bytes` long, a
//! multiple of [`SLICE_ALIGN_BYTES`].

use crate::limits::{
    AUTO_SLICE_BYTES_MAX, AUTO_SLICE_BYTES_MIN, SLICE_ALIGN_BYTES, SLICE_BYTES_MAX, SLICE_BYTES_MIN,
    SUBREQUESTS_MAX, WHOLE_BYTES_MAX,
};
use net::http1::{Ranges, parse_range};
use std::ops::Range;

/// How large slices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceSize {
    /// As set.
    Fixed(u64),
    /// min(max(size / 10, 512 KiB), 2 MiB), up to a multiple of 4 KiB.
    Auto,
}

impl SliceSize {
    /// Of an object of `size` bytes.
    #[must_use]
    pub fn bytes(self, size: u64) -> u64 {
        let bytes = match self {
            SliceSize::Fixed(bytes) => bytes,
            SliceSize::Auto => {
                let tenth = (size / 10).clamp(AUTO_SLICE_BYTES_MIN, AUTO_SLICE_BYTES_MAX);
                tenth.next_multiple_of(SLICE_ALIGN_BYTES)
            }
        };
        assert!(
            (SLICE_BYTES_MIN..=SLICE_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(SLICE_ALIGN_BYTES)
        );
        bytes
    }

    /// What a slice of an object of unknown size is taken for: right when it is set, and for 20 MiB or more.
    fn guess_bytes(self) -> u64 {
        self.bytes(u64::MAX)
    }
}

/// The first run that is asked for of an object of which nothing is known. Its answer tells size and validator, and holds
/// a slice that the client wants unless the guess of the slice size was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstRun {
    /// From a slice's start.
    From(Range<u64>),
    /// The last bytes.
    Last(u64),
    /// All of it, without a Range: ranges of it are no use.
    Whole,
}

impl FirstRun {
    /// For a client's Range field.
    #[must_use]
    pub fn new(range: Option<&[u8]>, slice_size: SliceSize) -> FirstRun {
        let guess_bytes = slice_size.guess_bytes();
        // Against the greatest size there is, a suffix begins beyond any object.
        let first = match range.map(|value| parse_range(value, u64::MAX)) {
            Some(Ranges::Single(range)) => range.start,
            Some(Ranges::Multi(ranges)) => ranges[0].start,
            Some(Ranges::None | Ranges::Unsatisfiable) | None => 0,
        };
        if first >= u64::MAX / 2 {
            return FirstRun::Last(guess_bytes);
        }
        let start = first / guess_bytes * guess_bytes;
        FirstRun::From(start..start + guess_bytes)
    }

    /// The value of the Range field of the request, if it has one.
    #[must_use]
    pub fn field(&self) -> Option<String> {
        match self {
            FirstRun::From(run) => Some(range_field(run)),
            FirstRun::Last(bytes) => Some(format!("bytes=-{bytes}")),
            FirstRun::Whole => None,
        }
    }

    /// Its first byte, as far as that is known before the object's size is: the object has more bytes than that, or nothing of it.
    #[must_use]
    pub fn start(&self) -> u64 {
        match self {
            FirstRun::From(run) => run.start,
            FirstRun::Last(_) | FirstRun::Whole => 0,
        }
    }

    /// What an object of `size` bytes has of it; `None`: nothing.
    #[must_use]
    pub fn of_object(&self, size: u64) -> Option<Range<u64>> {
        let run = match self {
            FirstRun::From(run) => run.start..run.end.min(size),
            FirstRun::Last(bytes) => size.saturating_sub(*bytes)..size,
            FirstRun::Whole => 0..size,
        };
        (run.start < run.end).then_some(run)
    }
}

/// The value of a Range field for a run.
#[must_use]
pub fn range_field(run: &Range<u64>) -> String {
    debug_assert!(run.start < run.end);
    format!("bytes={}-{}", run.start, run.end - 1)
}

/// The slices of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    /// Of the object.
    pub size: u64,
    /// Of every slice but the last.
    pub slice_bytes: u64,
}

impl Slices {
    /// Of an object of `size` bytes.
    #[must_use]
    pub fn new(size: u64, slice_size: SliceSize) -> Slices {
        Slices { size, slice_bytes: slice_size.bytes(size) }
    }

    /// One for all of an object that is stored whole.
    #[must_use]
    pub fn whole(size: u64) -> Slices {
        assert!(size <= WHOLE_BYTES_MAX, "{size} bytes in a slice");
        Slices { size, slice_bytes: WHOLE_BYTES_MAX }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.size.div_ceil(self.slice_bytes)
    }

    /// The slice that holds a byte.
    #[must_use]
    pub fn at(&self, offset: u64) -> u64 {
        debug_assert!(offset < self.size);
        offset / self.slice_bytes
    }

    /// The bytes of a slice.
    #[must_use]
    pub fn bytes(&self, slice: u64) -> Range<u64> {
        assert!(slice < self.count(), "slice {slice} of {}", self.count());
        let start = slice * self.slice_bytes;
        start..self.size.min(start.saturating_add(self.slice_bytes))
    }

    /// The slices that hold a range, which is not empty, in order.
    #[must_use]
    pub fn holding(&self, range: &Range<u64>) -> Range<u64> {
        assert!(range.start < range.end && range.end <= self.size, "{range:?} of {}", self.size);
        self.at(range.start)..self.at(range.end - 1) + 1
    }

    /// The slices that lie wholly in a run.
    #[must_use]
    pub fn within(&self, run: &Range<u64>) -> Range<u64> {
        debug_assert!(run.start <= run.end && run.end <= self.size);
        let first = run.start.div_ceil(self.slice_bytes);
        let end = if run.end == self.size { self.count() } else { run.end / self.slice_bytes };
        first..end.max(first)
    }
}

/// How many runs of one object may be under way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// As set, within [`SUBREQUESTS_MAX`].
    Fixed(u64),
    /// From what is known of the way to the origin.
    Auto {
        /// Of the way to the origin, in Mb/s.
        bandwidth_mbps: u64,
        /// What the origin allows us.
        origin_connections_max: u64,
        /// Clients expected at a time.
        clients_expected: u64,
    },
}

impl Concurrency {
    /// For slices of a size: min(Mb/s ÷ (slice MB × 8), connections ÷ clients, 8), at least 1.
    #[must_use]
    pub fn runs_max(self, slice_bytes: u64) -> usize {
        let runs = match self {
            Concurrency::Fixed(runs) => runs,
            Concurrency::Auto { bandwidth_mbps, origin_connections_max, clients_expected } => {
                let slices_per_s = bandwidth_mbps.saturating_mul(1_000_000) / (slice_bytes * 8);
                slices_per_s.min(origin_connections_max / clients_expected.max(1))
            }
        };
        usize::try_from(runs.clamp(1, SUBREQUESTS_MAX)).expect("at most SUBREQUESTS_MAX")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn sizes_of_slices() {
        for (size, bytes) in [
            (0, 512 << 10),
            (1, 512 << 10),
            (5 * MIB, 512 << 10),
            (6 * MIB, 630_784), // a tenth is 629,145.6
            (10 * MIB, MIB),
            (20 * MIB, 2 * MIB),
            (100 * MIB, 2 * MIB),
            (u64::MAX, 2 * MIB),
        ] {
            assert_eq!(SliceSize::Auto.bytes(size), bytes, "{size}");
            assert_eq!(SliceSize::Fixed(MIB).bytes(size), MIB);
        }
    }

    #[test]
    fn the_first_run() {
        let run = |range: &str| FirstRun::new(Some(range.as_bytes()), SliceSize::Fixed(MIB));
        let from = |start: u64| FirstRun::From(start * MIB..(start + 1) * MIB);
        assert_eq!(FirstRun::new(None, SliceSize::Fixed(MIB)), from(0));
        for (range, expected) in [
            ("bytes=0-0", from(0)),
            ("bytes=1048575-", from(0)),
            ("bytes=1048576-99999999", from(1)),
            ("bytes=5000000-5000001,0-1", from(4)),
            ("bytes=-5", FirstRun::Last(MIB)),
            ("bytes=-5,0-1", FirstRun::Last(MIB)),
            ("bytes=99999999999999999999-", from(0)),
            ("bytes=x", from(0)),
            ("items=5-", from(0)),
        ] {
            assert_eq!(run(range), expected, "{range}");
        }
        assert_eq!(
            [from(1), FirstRun::Last(5), FirstRun::Whole].map(|run| run.field().unwrap_or_default()),
            ["bytes=1048576-2097151", "bytes=-5", ""]
        );
        assert_eq!(from(1).of_object(2 * MIB), Some(MIB..2 * MIB));
        assert_eq!(from(1).of_object(MIB + 1), Some(MIB..MIB + 1));
        assert_eq!((from(1).of_object(MIB), from(0).of_object(0)), (None, None));
        assert_eq!(FirstRun::Last(5).of_object(3), Some(0..3));
        assert_eq!(FirstRun::new(None, SliceSize::Auto), FirstRun::From(0..2 * MIB));
    }

    #[test]
    fn runs_at_a_time() {
        let auto = |bandwidth_mbps, origin_connections_max, clients_expected| {
            Concurrency::Auto { bandwidth_mbps, origin_connections_max, clients_expected }.runs_max(MIB)
        };
        assert_eq!(auto(1000, 1000, 1), 8);
        assert_eq!(auto(42, 1000, 1), 5); // 42 Mb/s are 5.006 slices a second
        assert_eq!(auto(1000, 30, 10), 3);
        assert_eq!((auto(1, 1000, 1), auto(1000, 1, 10), auto(u64::MAX, u64::MAX, 0)), (1, 1, 8));
        let fixed = |runs| Concurrency::Fixed(runs).runs_max(MIB);
        assert_eq!((fixed(0), fixed(4), fixed(9)), (1, 4, 8));
    }

    proptest! {
        #[test]
        fn slices_cover_an_object_and_ranges_are_held_by_theirs(
            size in 1..50_000_000_u64,
            fixed in prop::option::of(16..2560_u64),
            (a, b) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let slice_size = fixed.map_or(SliceSize::Auto, |blocks| SliceSize::Fixed(blocks * SLICE_ALIGN_BYTES));
            let slices = Slices::new(size, slice_size);
            let mut end = 0;
            for slice in 0..slices.count() {
                let bytes = slices.bytes(slice);
                prop_assert!(bytes.start == end && bytes.end > end);
                prop_assert!(bytes.end == size || bytes.end - bytes.start == slices.slice_bytes);
                end = bytes.end;
            }
            prop_assert_eq!(end, size);
            let at = |index: prop::sample::Index| index.index(usize::try_from(size).unwrap()) as u64;
            let range = at(a).min(at(b))..at(a).max(at(b)) + 1;
            let touched: Vec<u64> = (0..slices.count())
                .filter(|&s| slices.bytes(s).start < range.end && range.start < slices.bytes(s).end).collect();
            prop_assert_eq!(slices.holding(&range).collect::<Vec<_>>(), touched);
            let whole: Vec<u64> = (0..slices.count())
                .filter(|&s| slices.bytes(s).start >= range.start && slices.bytes(s).end <= range.end).collect();
            prop_assert_eq!(slices.within(&range).collect::<Vec<_>>(), whole);
            // The last bytes of an object, as many as the guess, hold its last slice.
            let run = FirstRun::new(Some(b"bytes=-1"), slice_size).of_object(size).expect("not empty");
            prop_assert!(slices.within(&run).contains(&(slices.count() - 1)));
        }
    }
}
