//! Bytes that a seed determines, at any offset, and their names.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A blob's name: `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub String);

impl Digest {
    /// The name of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The name of nothing that any test stores.
    pub fn of_nothing_stored() -> Self {
        Self(format!("sha256:{}", "0".repeat(64)))
    }

    /// The target of requests for this blob.
    pub fn path(&self) -> String {
        format!("/blobs/{}", self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a stream.
#[derive(Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        let hex: String = self.0.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Digest(format!("sha256:{hex}"))
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Fills `out` with the bytes from `offset` on of the endless content that `seed` names.
pub fn fill(seed: u64, offset: u64, out: &mut [u8]) {
    let word = |at: u64| mix(mix(seed ^ GOLDEN).wrapping_add((at / 8).wrapping_mul(GOLDEN)));
    let head = ((8 - offset % 8) % 8).min(out.len() as u64) as usize;
    let (first, rest) = out.split_at_mut(head);
    if head > 0 {
        let from = (offset % 8) as usize;
        first.copy_from_slice(&word(offset).to_le_bytes()[from..from + head]);
    }
    let mut at = offset + head as u64;
    for chunk in rest.chunks_mut(8) {
        chunk.copy_from_slice(&word(at).to_le_bytes()[..chunk.len()]);
        at += 8;
    }
}

/// The first `size_bytes` bytes of the content that `seed` names.
pub fn bytes(seed: u64, size_bytes: usize) -> Vec<u8> {
    let mut out = vec![0; size_bytes];
    fill(seed, 0, &mut out);
    out
}

/// Compares a stream, part by part, with the content of a seed.
pub struct Expected {
    seed: u64,
    at: u64,
    scratch: Vec<u8>,
}

impl Expected {
    /// The content of `seed` from `offset` on.
    pub fn from(seed: u64, offset: u64) -> Self {
        Self { seed, at: offset, scratch: Vec::new() }
    }

    /// Panics unless `part` is what comes next.
    pub fn must_continue(&mut self, part: &[u8]) {
        self.scratch.resize(part.len(), 0);
        fill(self.seed, self.at, &mut self.scratch);
        assert!(
            self.scratch == part,
            "a wrong byte within {} bytes at offset {} of seed {}",
            part.len(),
            self.at,
            self.seed
        );
        self.at += part.len() as u64;
    }

    /// The offset after what was compared.
    pub fn at(&self) -> u64 {
        self.at
    }
}

/// Repeatable choices.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The choices that `seed` names.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(GOLDEN)))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.any() % limit
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A size in `min..=max`, small ones as likely as large ones in each power of two.
    pub fn size(&mut self, min: u64, max: u64) -> usize {
        let (low, high) = (min.max(1).ilog2(), max.ilog2() + 1);
        let bits = u64::from(low) + self.below(u64::from(high - low));
        ((1 << bits) + self.below(1 << bits)).clamp(min, max) as usize
    }
}

/// The seed of a run: `BASALT_TEST_SEED` or a fresh one. Printed, so that a failure shows it.
pub fn run_seed() -> u64 {
    let seed = std::env::var("BASALT_TEST_SEED").map_or_else(
        |_| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |d| d.as_nanos() as u64 & 0xffff_ffff)
        },
        |text| text.parse().expect("BASALT_TEST_SEED is a number"),
    );
    eprintln!("BASALT_TEST_SEED={seed}");
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_from_every_offset() {
        let whole = bytes(7, 100);
        for from in 0..40 {
            for size in 0..40 {
                let mut part = vec![0; size];
                fill(7, from as u64, &mut part);
                assert_eq!(part, whole[from..from + size], "{from} {size}");
            }
        }
        assert_ne!(bytes(7, 16), bytes(8, 16));
    }

    #[test]
    fn names_are_sha256() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").0, empty);
    }

    #[test]
    fn sizes_stay_within_bounds() {
        let mut rng = Rng::new(1);
        for _ in 0..1000 {
            assert!((13..=3 << 20).contains(&rng.size(13, 3 << 20)));
        }
    }
}
