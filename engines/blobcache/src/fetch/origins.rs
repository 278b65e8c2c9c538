//! Where fetched blobs came from, so that one that was evicted can be fetched again. Called by `fetch` on the owner of a blob.
//!
//! Invariant: the URLs kept are at most [`ORIGINS_BYTES_MAX`] long together; the oldest is forgotten first. What is forgotten
//! here costs a 404 for a blob that was evicted, nothing else. In memory only: a restart forgets all.

use runtime::tier::Digest;
use std::collections::{HashMap, VecDeque};

/// Bytes of URLs on one column, with what an entry costs beside them.
pub const ORIGINS_BYTES_MAX: usize = 4 << 20;
/// Two copies of the digest, the table's and the queue's own words.
const ENTRY_BYTES: usize = 128;

/// Digest → URL.
#[derive(Default)]
pub struct Origins {
    urls: HashMap<Digest, (String, u64)>,
    /// Oldest first; an entry whose number is not the table's was replaced or forgotten.
    order: VecDeque<(Digest, u64)>,
    next: u64,
    bytes: usize,
}

impl Origins {
    pub fn remember(&mut self, digest: Digest, url: &str) {
        self.forget(&digest);
        self.next += 1;
        self.bytes += url.len() + ENTRY_BYTES;
        self.urls.insert(digest, (url.to_owned(), self.next));
        self.order.push_back((digest, self.next));
        while self.bytes > ORIGINS_BYTES_MAX || self.order.len() > 2 * self.urls.len() + 16 {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.urls.get(&oldest).is_some_and(|&(_, n)| n == number) {
                if self.bytes > ORIGINS_BYTES_MAX {
                    self.forget(&oldest);
                } else {
                    self.order.push_back((oldest, number));
                }
            }
        }
    }

    pub fn forget(&mut self, digest: &Digest) {
        if let Some((url, _)) = self.urls.remove(digest) {
            self.bytes -= url.len() + ENTRY_BYTES;
        }
    }

    pub fn get(&self, digest: &Digest) -> Option<&str> {
        self.urls.get(digest).map(|(url, _)| url.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u32) -> Digest {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Digest(bytes)
    }

    #[test]
    fn the_oldest_are_forgotten_within_the_bound() {
        let mut origins = Origins::default();
        let url = "u".repeat(1000);
        for n in 0..10_000 {
            origins.remember(digest(n), &url);
            assert!(origins.bytes <= ORIGINS_BYTES_MAX);
        }
        assert_eq!(origins.get(&digest(9999)), Some(url.as_str()));
        assert_eq!(origins.get(&digest(0)), None);
        for n in 0..10_000 {
            origins.forget(&digest(n));
        }
        assert_eq!(origins.bytes, 0);
    }

    #[test]
    fn what_is_remembered_again_stays_bounded_and_newest() {
        let mut origins = Origins::default();
        for n in 0..100_000 {
            origins.remember(digest(n % 3), &format!("http://h/{n}"));
        }
        assert_eq!(origins.get(&digest(0)), Some("http://h/99999"));
        assert!(origins.order.len() <= 32, "{} entries of 3", origins.order.len());
    }
}
