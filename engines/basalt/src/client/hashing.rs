//! A reader that hashes what passes through it and moves a progress bar.

use std::io::{self, Read};

use indicatif::ProgressBar;
use sha2::{Digest as _, Sha256};

use crate::cli::digest::Digest;

/// Passes bytes on, hashing them; fails if a promised length is not kept.
pub struct HashingReader<'a, R> {
    inner: R,
    hasher: Sha256,
    bar: &'a ProgressBar,
    passed_bytes: u64,
    promised_bytes: Option<u64>,
    failure: Option<String>,
}

impl<'a, R: Read> HashingReader<'a, R> {
    /// Reads all of `inner`, which must give exactly `promised_bytes` if there is a promise.
    pub fn new(inner: R, promised_bytes: Option<u64>, bar: &'a ProgressBar) -> Self {
        Self { inner, hasher: Sha256::new(), bar, passed_bytes: 0, promised_bytes, failure: None }
    }

    /// Why reading failed, if it did: whoever reads for us may hide it in an error of its own.
    pub fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// The digest and the number of the bytes that passed.
    pub fn finish(self) -> (Digest, u64) {
        (Digest::of_hash(&self.hasher.finalize().into()), self.passed_bytes)
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failure = Some(error.to_string());
        error
    }
}

impl<R: Read> Read for HashingReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left_bytes = self.promised_bytes.map_or(u64::MAX, |all| all - self.passed_bytes);
        let len = usize::try_from(left_bytes).unwrap_or(usize::MAX).min(buffer.len());
        if len == 0 {
            return Ok(0);
        }
        let read = match self.inner.read(&mut buffer[..len]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(self.fail(error)),
        };
        if read == 0 && self.promised_bytes.is_some() {
            let short = format!("it ended after {} bytes; it shrank", self.passed_bytes);
            return Err(self.fail(io::Error::new(io::ErrorKind::UnexpectedEof, short)));
        }
        self.hasher.update(&buffer[..read]);
        self.passed_bytes += read as u64;
        self.bar.inc(read as u64);
        assert!(self.promised_bytes.is_none_or(|all| self.passed_bytes <= all), "read past the promise");
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_and_are_hashed() {
        let bar = ProgressBar::hidden();
        let mut reader = HashingReader::new(&b"abc!"[..], Some(3), &bar);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect("three bytes");
        let (digest, passed_bytes) = reader.finish();
        assert_eq!((bytes.as_slice(), passed_bytes), (&b"abc"[..], 3));
        // FIPS 180-2, B.1.
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), expected);
    }

    #[test]
    fn a_source_that_shrank_is_an_error() {
        let bar = ProgressBar::hidden();
        let mut reader = HashingReader::new(&b"ab"[..], Some(3), &bar);
        let error = reader.read_to_end(&mut Vec::new()).expect_err("short");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(reader.take_failure().is_some_and(|why| why.contains("after 2 bytes")));
    }
}
