//! How fast the scrubber may read. Pure: the caller has the clock.
//!
//! Called by `shard/scrub` before every read.
//!
//! Invariants
//! 1. Bytes are earned before they are read: since the start at most what the rate gives for the time.
//! 2. Of time that was not used at most one grant is saved up, so that the next is earned while this one is read.
//!
//! Units: bytes, nanoseconds.

use std::num::NonZeroU64;

/// Earned at a time: small objects do not wait one by one, and no read is larger.
pub const GRANT_BYTES: u64 = 256 << 10;

/// A rate and what has been earned of it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    bytes_per_s: NonZeroU64,
    earned_bytes: u64,
    /// When the last grant is earned.
    earned_at_ns: u64,
}

impl Pace {
    /// Nothing is earned yet.
    pub fn new(bytes_per_s: NonZeroU64, now_ns: u64) -> Pace {
        Pace { bytes_per_s, earned_bytes: 0, earned_at_ns: now_ns }
    }

    /// Takes `bytes`; the time from which on they may be read.
    pub fn take(&mut self, bytes: u64, now_ns: u64) -> u64 {
        if self.earned_bytes < bytes {
            let grant = (bytes - self.earned_bytes).max(GRANT_BYTES);
            let takes_ns = u128::from(grant) * 1_000_000_000;
            let takes_ns = takes_ns.div_ceil(u128::from(self.bytes_per_s.get()));
            let takes_ns = u64::try_from(takes_ns).unwrap_or(u64::MAX);
            let from_ns = self.earned_at_ns.max(now_ns.saturating_sub(takes_ns));
            self.earned_at_ns = from_ns.saturating_add(takes_ns);
            self.earned_bytes += grant;
        }
        self.earned_bytes -= bytes;
        self.earned_at_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn pace(bytes_per_s: u64) -> Pace {
        Pace::new(NonZeroU64::new(bytes_per_s).expect("a rate"), 0)
    }

    /// Reads one after the other, each taking `read_ns`, until `end_ns`; the bytes read by then.
    fn read_until(pace: &mut Pace, sizes: impl Iterator<Item = u64>, begin_ns: u64, end_ns: u64) -> u64 {
        const READ_NS: u64 = 1_000_000;
        let (mut now_ns, mut read) = (begin_ns, 0);
        for bytes in sizes {
            now_ns = now_ns.max(pace.take(bytes, now_ns));
            if now_ns > end_ns {
                break;
            }
            read += bytes;
            now_ns += READ_NS;
        }
        read
    }

    #[test]
    fn the_rate_is_reached_and_never_passed() {
        for rate in [300_000, 1 << 20, 8 << 20, 100 << 20] {
            for size in [4096, 69_632, GRANT_BYTES] {
                let read = read_until(&mut pace(rate), std::iter::repeat(size), 0, 10 * SECOND_NS);
                assert!(read <= rate * 10, "{read} bytes in 10 s at {rate} a second, by {size}");
                // A read of small size takes a millisecond here, whatever the rate.
                let reachable = (rate * 10).min(size * 10_000) - GRANT_BYTES - size;
                assert!(read >= reachable * 9 / 10, "{read} bytes in 10 s at {rate} a second, by {size}");
            }
        }
    }

    #[test]
    fn of_a_rest_at_most_one_grant_is_saved_up() {
        let mut pace = pace(1 << 20);
        read_until(&mut pace, std::iter::repeat_n(GRANT_BYTES, 4), 0, SECOND_NS);
        let hour_ns = 3600 * SECOND_NS;
        let read = read_until(&mut pace, std::iter::repeat(4096), hour_ns, hour_ns + SECOND_NS);
        assert!(read <= (1 << 20) + GRANT_BYTES, "{read} bytes in the first second after a rest");
    }

    #[test]
    fn small_reads_wait_once_for_many() {
        let mut pace = pace(1 << 20);
        let first_ns = pace.take(4096, 0);
        assert_eq!(first_ns, SECOND_NS / 4, "a grant at a time");
        assert!((1..64).all(|_| pace.take(4096, first_ns) == first_ns));
        assert_eq!(pace.take(4096, first_ns), SECOND_NS / 2, "the next grant");
    }

    #[test]
    fn one_byte_a_second_is_a_rate() {
        assert_eq!(pace(1).take(10, 5), GRANT_BYTES * SECOND_NS);
    }
}
