//! Hashing whose seed comes through the seam, for maps that are iterated: on the real machine of the kernel, so that nobody
//! outside can aim at one bucket; on the twin of the simulation's seed, so that a run repeats.

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

/// A hash function with a seed of its own.
pub(crate) type Hashing = SeedableRandomState;

/// The hash function that `seed` ([`crate::io::Io::random`]) names.
pub(crate) fn hashing(seed: u64) -> Hashing {
    Hashing::with_seed(seed, SharedSeed::global_fixed())
}
