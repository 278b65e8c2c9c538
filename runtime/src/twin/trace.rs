//! The event hash of a simulation: every scheduling decision, operation and its bytes' checksum go in, in order. Two runs of
//! one seed are the same run exactly when their hashes are equal. Called by the executor and by every operation.

use super::rng::mix;
use crc32c::crc32c;

/// The hash so far.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
}

impl Trace {
    pub(super) fn new(seed: u64) -> Trace {
        Trace { hash: mix(seed), events: 0 }
    }

    /// An event of some kind with its numbers.
    pub(super) fn event(&mut self, kind: &str, numbers: &[u64]) {
        self.events += 1;
        let mut hash = mix(self.hash ^ u64::from(crc32c(kind.as_bytes())));
        for &number in numbers {
            hash = mix(hash.rotate_left(7) ^ number);
        }
        self.hash = hash;
    }

    /// Hash and number of events.
    pub(super) fn get(&self) -> (u64, u64) {
        (self.hash, self.events)
    }
}
