//! Where a column's objects came from, so that one that is gone or damaged can be fetched again. Pure: decides, never waits;
//! the journals keep what is known here (`shard/origin.rs`).
//!
//! Invariants
//! 1. The URLs kept, with what an entry costs beside them, are at most `bytes_max`; the oldest is dropped first. What is dropped
//!    costs a 404 for an object that was evicted, nothing else.
//! 2. What is said with the highest sequence holds.

use super::digest::Digest;
use super::record::Origin;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of URLs on all columns together.
const NODE_BYTES_MAX: u64 = 16 << 20;
/// Of the smallest disk's quota, since each disk's checkpoints hold them all.
const QUOTA_SHARE: u64 = 256;
/// Two copies of the digest, the words of both trees.
const ENTRY_BYTES: u64 = 128;

/// Digest → URL.
pub struct Origins {
    urls: BTreeMap<Digest, (u64, String)>,
    /// Oldest first.
    order: BTreeSet<(u64, Digest)>,
    bytes: u64,
    bytes_max: u64,
    has_dropped: bool,
}

impl Origins {
    /// None known, for one of `columns` over disks of which the smallest may hold `quota_bytes`.
    pub fn new(quota_bytes: u64, columns: usize) -> Origins {
        let bytes_max = NODE_BYTES_MAX.min(quota_bytes / QUOTA_SHARE) / columns as u64;
        Origins { urls: BTreeMap::new(), order: BTreeSet::new(), bytes: 0, bytes_max, has_dropped: false }
    }

    /// Takes what is said; an older word changes nothing, an empty URL forgets.
    pub fn hear(&mut self, said: Origin) {
        let Origin { digest, sequence, url } = said;
        if self.urls.get(&digest).is_some_and(|&(known, _)| known >= sequence) {
            return;
        }
        self.drop_one(&digest);
        if url.is_empty() {
            return;
        }
        self.bytes += url.len() as u64 + ENTRY_BYTES;
        self.urls.insert(digest, (sequence, url));
        self.order.insert((sequence, digest));
        while self.bytes > self.bytes_max {
            let Some(&(_, oldest)) = self.order.first() else { break };
            self.drop_one(&oldest);
            self.has_dropped = true;
        }
    }

    fn drop_one(&mut self, digest: &Digest) {
        if let Some((sequence, url)) = self.urls.remove(digest) {
            self.order.remove(&(sequence, *digest));
            self.bytes -= url.len() as u64 + ENTRY_BYTES;
        }
    }

    /// How many are known, and the bytes they cost.
    pub fn totals(&self) -> (u64, u64) {
        (self.urls.len() as u64, self.bytes)
    }

    /// Where an object came from.
    pub fn get(&self, digest: &Digest) -> Option<&str> {
        self.urls.get(digest).map(|(_, url)| url.as_str())
    }

    /// Whether a journal may know where an object came from: a DELETE must then say that it is forgotten.
    pub fn may_be_known(&self, digest: &Digest) -> bool {
        self.has_dropped || self.urls.contains_key(digest)
    }

    /// What is known of one shard, in the order of digests.
    pub fn of_shard(&self, shard: u8) -> impl Iterator<Item = Origin> {
        let (mut first, mut last) = ([0; 32], [0xff; 32]);
        (first[0], last[0]) = (shard, shard);
        let of_shard = self.urls.range(Digest(first)..=Digest(last));
        of_shard.map(|(&digest, (sequence, url))| Origin { digest, sequence: *sequence, url: url.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(n: u32, sequence: u64, url: &str) -> Origin {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Origin { digest: Digest(bytes), sequence, url: url.to_owned() }
    }

    #[test]
    fn the_oldest_are_dropped_within_the_bound_whatever_the_order_they_come_in() {
        let mut origins = Origins::new(1 << 30, 1);
        let url = "u".repeat(1000);
        for n in (0..10_000).rev() {
            origins.hear(said(n, u64::from(n) + 1, &url));
            assert!(origins.bytes <= 4 << 20);
        }
        assert_eq!(origins.get(&said(9999, 0, "").digest), Some(url.as_str()));
        assert_eq!(origins.get(&said(0, 0, "").digest), None);
        assert!(origins.may_be_known(&said(0, 0, "").digest), "a journal may know what was dropped");
        for n in 0..10_000 {
            origins.hear(said(n, 20_000, ""));
        }
        assert_eq!((origins.bytes, origins.order.len()), (0, 0));
    }

    #[test]
    fn the_highest_sequence_holds() {
        let mut origins = Origins::new(1 << 30, 2);
        origins.hear(said(1, 5, "five"));
        origins.hear(said(1, 4, "four"));
        origins.hear(said(1, 3, ""));
        let digest = said(1, 0, "").digest;
        assert_eq!(origins.get(&digest), Some("five"));
        origins.hear(said(1, 6, ""));
        assert!(origins.get(&digest).is_none() && !origins.may_be_known(&digest));
    }

    #[test]
    fn a_shard_has_its_own() {
        let mut origins = Origins::new(1 << 30, 1);
        for shard in 0..=255u32 {
            origins.hear(said(shard << 24, 1, "first"));
            origins.hear(said(shard << 24 | 0xff_ffff, 2, "last"));
        }
        for shard in 0..=255 {
            let urls: Vec<String> = origins.of_shard(shard).map(|o| o.url).collect();
            assert_eq!(urls, ["first", "last"]);
        }
    }
}
