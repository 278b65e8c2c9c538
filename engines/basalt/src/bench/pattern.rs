//! Bytes that a client can make and compare faster than a server sends them.
//!
//! A blob, or an object of an origin of ours, is a run of one endless repetition of random bytes, begun at a place of its own. The period is no multiple of a
//! block: bytes of another blob, or of another place nearer than 8 GiB, differ.

use std::io::{self, Write};
use std::sync::Arc;

/// 8 × 131,073. Displaced by a multiple of 64 KiB, the bytes are the same again after 131,073 × 64 KiB.
const PERIOD_BYTES: usize = (1 << 20) + 8;
/// Words between the beginnings of two blobs; has no divisor in common with the words of a period.
const STEP_WORDS: u64 = 40_507;

/// The repetition.
#[derive(Clone)]
pub struct Pattern(Arc<[u8]>);

impl Pattern {
    /// Another one for every seed but 0.
    pub fn new(seed: u64) -> Self {
        let mut word = seed | 1;
        let words = (0..PERIOD_BYTES / 8).flat_map(|_| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word.to_le_bytes()
        });
        Self(words.collect())
    }

    /// The place of byte `offset` of blob `number`.
    pub fn place(number: u64, offset: u64) -> u64 {
        // Both fit: blobs are fewer than a million, and the sum is below 2^64 for any file.
        let begin = number * STEP_WORDS % (PERIOD_BYTES as u64 / 8) * 8;
        (begin + offset) % PERIOD_BYTES as u64
    }

    /// What stands at `place`, up to the end of the period and at most `len` bytes.
    fn run(&self, place: u64, len: u64) -> &[u8] {
        let rest = &self.0[(place % PERIOD_BYTES as u64) as usize..];
        &rest[..rest.len().min(usize::try_from(len).unwrap_or(usize::MAX))]
    }

    /// Writes `len` bytes from `place` on.
    pub fn write(&self, mut place: u64, mut len: u64, out: &mut impl Write) -> io::Result<()> {
        while len > 0 {
            let run = self.run(place, len);
            out.write_all(run)?;
            place += run.len() as u64;
            len -= run.len() as u64;
        }
        Ok(())
    }

    /// Compares `bytes` with what stands from `place` on; the offset in `bytes` of the first that differs.
    pub fn check(&self, mut place: u64, bytes: &[u8]) -> Result<(), usize> {
        let mut left = bytes;
        while !left.is_empty() {
            let run = self.run(place, left.len() as u64);
            let (these, rest) = left.split_at(run.len());
            if these != run {
                let same = these.iter().zip(run).take_while(|(a, b)| a == b).count();
                return Err(bytes.len() - left.len() + same);
            }
            place += run.len() as u64;
            left = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(pattern: &Pattern, number: u64, offset: u64, len: u64) -> Vec<u8> {
        let mut out = Vec::new();
        pattern.write(Pattern::place(number, offset), len, &mut out).expect("a vector takes all");
        out
    }

    #[test]
    fn a_wrong_byte_is_found_wherever_it_is() {
        let pattern = Pattern::new(3);
        let good = bytes(&pattern, 5, 0, PERIOD_BYTES as u64 + 1000);
        assert_eq!(pattern.check(Pattern::place(5, 0), &good), Ok(()));
        assert_eq!(pattern.check(Pattern::place(5, 777), &good[777..]), Ok(()));
        for at in [0, 1, 8, PERIOD_BYTES - 1, PERIOD_BYTES, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(pattern.check(Pattern::place(5, 0), &bad), Err(at));
        }
    }

    #[test]
    fn other_blobs_and_other_blocks_differ() {
        let pattern = Pattern::new(3);
        let block = bytes(&pattern, 0, 0, 4096);
        for number in 1..2000 {
            assert!(pattern.check(Pattern::place(number, 0), &block).is_err(), "blob {number}");
        }
        for at in 1..2000u64 {
            assert!(pattern.check(Pattern::place(0, at << 16), &block).is_err(), "block {at}");
        }
        assert!(Pattern::new(5).check(0, &block).is_err(), "another run");
    }
}
