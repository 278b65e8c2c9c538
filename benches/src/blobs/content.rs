//! What the bytes of a blob are: its number says all of them, so nothing is kept to compare with.
//!
//! A stamp, then a run of one endless repetition of random bytes, begun at a place of the blob's own. The period is no
//! multiple of a block: a block of another place of the blob does not compare equal.

use std::io::Write;

use crate::Result;
use crate::rng::Rng;

/// Makes every blob another, whatever its place in the pattern.
pub const STAMP_BYTES: usize = 8;
const PERIOD_BYTES: usize = (1 << 20) + 8;
/// Between the beginnings of two blobs; its words have no divisor in common with those of a period.
const STEP_BYTES: u64 = 8 * 40_507;

/// The repetition.
#[derive(Debug)]
pub struct Content(Vec<u8>);

impl Content {
    /// The bytes of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut pattern = vec![0; PERIOD_BYTES];
        Rng::new(seed).fill(&mut pattern);
        Self(pattern)
    }

    /// As many bytes from `from` on as lie in one piece, behind the stamp; at most `len`.
    fn piece(&self, number: u64, from: u64, len: usize) -> &[u8] {
        let place = (number * STEP_BYTES + from) % PERIOD_BYTES as u64;
        let rest = &self.0[place as usize..];
        &rest[..rest.len().min(len)]
    }

    /// Writes a blob of `size` bytes to `out` behind what `first` holds, which goes out with the first piece.
    pub fn write(
        &self,
        number: u64,
        size: u64,
        first: &mut Vec<u8>,
        out: &mut impl Write,
    ) -> std::io::Result<()> {
        assert!(size >= STAMP_BYTES as u64, "a blob of {size} bytes has no room for its stamp");
        first.extend_from_slice(&number.to_le_bytes());
        let mut at = STAMP_BYTES as u64;
        let piece = self.piece(number, at, (size - at) as usize);
        first.extend_from_slice(piece);
        at += piece.len() as u64;
        out.write_all(first)?;
        while at < size {
            let piece = self.piece(number, at, (size - at) as usize);
            out.write_all(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Compares `bytes` with what the blob has from `from` on.
    pub fn check(&self, number: u64, from: u64, bytes: &[u8]) -> Result<()> {
        let (mut at, mut left) = (from, bytes);
        if at < STAMP_BYTES as u64 {
            let stamp = &number.to_le_bytes()[at as usize..];
            let (these, rest) = left.split_at(stamp.len().min(left.len()));
            if these != &stamp[..these.len()] {
                return Err(format!("a wrong stamp in blob {number}").into());
            }
            (at, left) = (at + these.len() as u64, rest);
        }
        while !left.is_empty() {
            let piece = self.piece(number, at, left.len());
            let (these, rest) = left.split_at(piece.len());
            if these != piece {
                return Err(format!("a wrong byte in blob {number}, at or behind {at}").into());
            }
            (at, left) = (at + piece.len() as u64, rest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_compares_equal_and_nothing_else_does() {
        let content = Content::new(3);
        let mut blob = Vec::new();
        content.write(7, PERIOD_BYTES as u64 + 5000, &mut Vec::new(), &mut blob).unwrap();
        assert_eq!(blob.len(), PERIOD_BYTES + 5000);
        for cut in [0, 3, 8, 4096, PERIOD_BYTES - 1, blob.len()] {
            content.check(7, 0, &blob[..cut]).unwrap();
            content.check(7, cut as u64, &blob[cut..]).unwrap();
        }
        for at in [0, 7, 8, 9, PERIOD_BYTES, blob.len() - 1] {
            let mut bad = blob.clone();
            bad[at] ^= 1;
            assert!(content.check(7, 0, &bad).is_err(), "bit flipped at {at}");
        }
        assert!(content.check(8, 0, &blob[..8]).is_err() && content.check(8, 8, &blob[8..64]).is_err());
        assert!(content.check(7, 4096, &blob[8192..12288]).is_err(), "another block of the same blob");
    }
}
