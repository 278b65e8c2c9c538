//! Which objects a column has and where their bytes are. Pure: decides, never waits.
//!
//! Invariants
//! 1. The record with the highest sequence of a digest holds; an older one changes nothing.
//! 2. Every listed digest is of a shard this column owns (the caller routes; `list` walks shards in order).

use super::digest::Digest;
use super::disk::DISKS_MAX;
use super::listing::Orders;
use super::object::disk_bytes;
use super::record::packed_bytes;
use crate::hash::{Hashing, hashing};
use crate::planted::{self, Bug};
use crate::shards::SHARDS;
use hashbrown::HashMap;

/// Objects on one listing page.
pub const LIST_MAX: usize = 1000;
/// No slot in RAM.
pub const NOT_HELD: u32 = u32::MAX;

/// Where an object's bytes are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a log segment.
    Packed {
        /// Its number.
        segment: u32,
        /// Of the data in the segment file.
        offset: u32,
    },
    /// In a file of its own.
    Object,
}

/// What is known of an object without touching the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub place: Place,
    /// Size in bytes.
    pub size: u64,
    /// Sequence of the record that says so.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch after which it is gone; 0: never.
    pub expires_ms: u64,
    /// CRC32C of a packed object's bytes, or of an object file's sums.
    pub crc: u32,
    /// May be dropped to make room.
    pub evictable: bool,
    /// Must not be, for now.
    pub pinned: bool,
    /// On which disk.
    pub disk: u8,
    /// Slot of the RAM copy of a packed object, or [`NOT_HELD`].
    pub held: u32,
}

/// How long an object is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Milliseconds since the Unix epoch after which it is gone; 0: never.
    pub expires_ms: u64,
    /// It may be dropped from disk to make room…
    pub evictable: bool,
    /// …but not as long as it is pinned.
    pub pinned: bool,
}

impl Entry {
    /// How the object is kept.
    pub fn keep(&self) -> Keep {
        Keep { expires_ms: self.expires_ms, evictable: self.evictable, pinned: self.pinned }
    }

    /// Whether the object is kept at least as well as `keep` asks.
    pub fn is_kept_as(&self, keep: Keep) -> bool {
        let long = self.expires_ms == 0 || (keep.expires_ms != 0 && self.expires_ms >= keep.expires_ms);
        let kept = long && (!self.evictable || keep.evictable) && (self.pinned || !keep.pinned);
        kept || planted::is(Bug::KeepNotBettered)
    }

    /// Whether the object may be dropped to make room.
    pub fn may_go(&self) -> bool {
        self.evictable && (!self.pinned || planted::is(Bug::PinnedEvicted))
    }

    /// Bytes it takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        match self.place {
            Place::Packed { .. } => packed_bytes(self.size),
            Place::Object => disk_bytes(self.size),
        }
    }

    /// How it is to be kept once `keep` is asked too: as well as either asks, for whoever stored it first was promised that.
    pub fn kept_as_well(&self, keep: Keep) -> Keep {
        let for_ever = self.expires_ms == 0 || keep.expires_ms == 0;
        Keep {
            expires_ms: if for_ever { 0 } else { self.expires_ms.max(keep.expires_ms) },
            evictable: self.evictable && keep.evictable,
            pinned: self.pinned || keep.pinned,
        }
    }

    /// Whether the object is gone at `now_ms`.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now_ms && !planted::is(Bug::ExpiredServed)
    }
}

type Map = HashMap<Digest, Entry, Hashing>;

/// The objects of one column.
pub struct Index {
    shards: Vec<Map>,
    count: u64,
    bytes: u64,
    /// Of those, the ones of private names.
    private: (u64, u64),
    /// Objects by disk.
    on_disk: [u64; DISKS_MAX],
    orders: Orders,
}

impl Index {
    /// No objects; `seed`: of the maps' hash function.
    pub fn new(seed: u64) -> Index {
        let hasher = hashing(seed);
        let shards = (0..SHARDS).map(|_| Map::with_hasher(hasher.clone())).collect();
        let (on_disk, orders) = ([0; DISKS_MAX], Orders::default());
        Index { shards, count: 0, bytes: 0, private: (0, 0), on_disk, orders }
    }

    /// Objects, and the sum of their sizes.
    pub fn totals(&self) -> (u64, u64) {
        (self.count, self.bytes)
    }

    /// As [`Index::totals`], of private names.
    pub fn private_totals(&self) -> (u64, u64) {
        self.private
    }

    /// Objects on a disk.
    pub fn on_disk(&self, disk: u8) -> u64 {
        self.on_disk[usize::from(disk)]
    }

    /// What is known of an object.
    #[inline]
    pub fn get(&self, digest: &Digest) -> Option<&Entry> {
        self.shards[usize::from(digest.shard().0)].get(digest)
    }

    /// As [`Index::get`], to change.
    #[inline]
    pub fn get_mut(&mut self, digest: &Digest) -> Option<&mut Entry> {
        self.shards[usize::from(digest.shard().0)].get_mut(digest)
    }

    /// Adds an object; the entry it replaces, if any, comes back.
    pub fn insert(&mut self, digest: Digest, entry: Entry) -> Option<Entry> {
        self.count += 1;
        self.bytes += entry.size;
        self.on_disk[usize::from(entry.disk)] += 1;
        if digest.is_private() {
            self.private = (self.private.0 + 1, self.private.1 + entry.size);
        }
        let old = self.shards[usize::from(digest.shard().0)].insert(digest, entry);
        match &old {
            Some(old) => self.take_off(&digest, old),
            None => self.orders.on_new(usize::from(digest.shard().0), digest),
        }
        old
    }

    /// Removes an object.
    pub fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let old = self.shards[usize::from(digest.shard().0)].remove(digest)?;
        self.take_off(digest, &old);
        Some(old)
    }

    fn take_off(&mut self, digest: &Digest, old: &Entry) {
        self.count -= 1;
        self.bytes -= old.size;
        self.on_disk[usize::from(old.disk)] -= 1;
        if digest.is_private() {
            self.private = (self.private.0 - 1, self.private.1 - old.size);
        }
    }

    /// Objects of one shard that are gone at `now_ms`, at most `limit`.
    pub fn expired(&self, shard: usize, now_ms: u64, limit: usize) -> Vec<Digest> {
        let gone = self.shards[shard].iter().filter(|(_, e)| e.is_expired(now_ms));
        gone.map(|(d, _)| *d).take(limit).collect()
    }

    /// All objects of one shard, in no order.
    pub fn of_shard(&self, shard: usize) -> impl Iterator<Item = (&Digest, &Entry)> {
        self.shards[shard].iter()
    }

    /// The next `limit` objects after `after` in digest order.
    pub fn list(&mut self, after: Option<&Digest>, limit: usize, now_ms: u64) -> Vec<(Digest, u64)> {
        self.list_those(after, limit, now_ms, |_| true)
    }

    /// As [`Index::list`], of those that `is_listed`.
    pub fn list_those(
        &mut self,
        after: Option<&Digest>,
        limit: usize,
        now_ms: u64,
        is_listed: impl Fn(&Digest) -> bool,
    ) -> Vec<(Digest, u64)> {
        assert!((1..=LIST_MAX).contains(&limit), "page of {limit}");
        let mut page = Vec::with_capacity(limit);
        let first = after.map_or(0, |d| usize::from(d.shard().0));
        for (number, shard) in self.shards.iter().enumerate().skip(first).filter(|(_, s)| !s.is_empty()) {
            let names = self.orders.after(number, after, shard.len(), shard.keys());
            let stored = names.iter().filter_map(|d| shard.get_key_value(d));
            let live = stored.filter(|(d, e)| is_listed(d) && !e.is_expired(now_ms));
            page.extend(live.map(|(d, e)| (*d, e.size)).take(limit - page.len()));
            if page.len() == limit {
                break;
            }
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(size: u64) -> Entry {
        Entry {
            place: Place::Object,
            size,
            sequence: 1,
            expires_ms: 0,
            crc: 0,
            evictable: false,
            pinned: false,
            disk: 0,
            held: NOT_HELD,
        }
    }

    #[test]
    fn pages_are_in_order_and_complete() {
        let mut index = Index::new(1);
        let mut all: Vec<Digest> = (0..500u32)
            .map(|i| {
                let mut d = [0; 32];
                d[..4].copy_from_slice(&i.wrapping_mul(2_654_435_761).to_be_bytes());
                Digest(d)
            })
            .collect();
        for digest in &all {
            assert!(index.insert(*digest, entry(3)).is_none());
        }
        all.sort_unstable();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = index.list(after.as_ref(), 7, 0);
            seen.extend(page.iter().map(|(d, _)| *d));
            match page.last() {
                Some((d, _)) if page.len() == 7 => after = Some(*d),
                _ => break,
            }
        }
        assert_eq!(seen, all);
        assert_eq!((index.totals(), index.private_totals()), ((500, 1500), (0, 0)));
        let private = Digest::private(crate::shards::Shard(7), &[1; 32]);
        index.insert(private, entry(5));
        index.insert(private, entry(4));
        assert_eq!((index.totals(), index.private_totals()), ((501, 1504), (1, 4)));
        index.remove(&private);
        assert_eq!((index.totals(), index.private_totals()), ((500, 1500), (0, 0)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, bool),
        Remove(u8),
        List(Option<u8>, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (any::<u8>(), any::<bool>()).prop_map(|(n, expires)| Step::Insert(n, expires)),
            2 => any::<u8>().prop_map(Step::Remove),
            3 => (proptest::option::of(any::<u8>()), 1..9usize).prop_map(|(after, limit)| Step::List(after, limit)),
        ]
    }

    proptest! {
        #[test]
        fn a_page_is_what_is_there_whatever_came_and_went(steps in proptest::collection::vec(step(), 1..300)) {
            // Six shards, so that there are more than orders are kept of.
            let digest = |n: u8| {
                let mut bytes = [0; 32];
                (bytes[0], bytes[9]) = (n % 6, n);
                Digest(bytes)
            };
            let (mut index, mut model) = (Index::new(1), std::collections::BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(n, expires) => {
                        let expires_ms = if expires { 50 } else { 0 };
                        index.insert(digest(n), Entry { expires_ms, ..entry(u64::from(n)) });
                        model.insert(digest(n), (u64::from(n), expires));
                    }
                    Step::Remove(n) => prop_assert_eq!(index.remove(&digest(n)).is_some(), model.remove(&digest(n)).is_some()),
                    Step::List(after, limit) => {
                        let after = after.map(digest);
                        let live = model.iter().filter(|(d, (_, expires))| Some(**d) > after && !expires);
                        let page: Vec<_> = live.take(limit).map(|(d, (size, _))| (*d, *size)).collect();
                        prop_assert_eq!(index.list(after.as_ref(), limit, 100), page);
                    }
                }
            }
        }
    }

    #[test]
    fn only_a_better_keep_is_stored_anew() {
        let keep = |expires_ms, evictable| Keep { expires_ms, evictable, pinned: false };
        let held = |k: Keep| Entry { expires_ms: k.expires_ms, evictable: k.evictable, ..entry(1) };
        assert!(held(keep(0, false)).is_kept_as(keep(9, true)));
        assert!(held(keep(0, true)).is_kept_as(keep(9, true)));
        assert!(held(keep(9, false)).is_kept_as(keep(9, false)));
        assert!(!held(keep(0, true)).is_kept_as(keep(0, false)), "evictable is not for good");
        assert!(!held(keep(9, false)).is_kept_as(keep(0, false)), "an end is not for ever");
        assert!(!held(keep(9, false)).is_kept_as(keep(10, false)));
    }

    #[test]
    fn who_stores_again_takes_nothing_from_who_stored_before() {
        let all = [0, 5, 9].into_iter().flat_map(|expires_ms| {
            [(false, false), (true, false), (true, true)].map(|(evictable, pinned)| Keep {
                expires_ms,
                evictable,
                pinned,
            })
        });
        let held = |k: Keep| {
            let Keep { expires_ms, evictable, pinned } = k;
            Entry { expires_ms, evictable, pinned, ..entry(1) }
        };
        for (first, second) in all.clone().flat_map(|a| all.clone().map(move |b| (a, b))) {
            let both = held(held(first).kept_as_well(second));
            assert!(both.is_kept_as(first) && both.is_kept_as(second), "{first:?} {second:?}");
        }
    }

    #[test]
    fn replaced_objects_count_once() {
        let mut index = Index::new(1);
        let digest = Digest([1; 32]);
        assert!(index.insert(digest, entry(5)).is_none());
        assert_eq!(index.insert(digest, entry(7)).map(|e| e.size), Some(5));
        assert_eq!(index.totals(), (1, 7));
        assert!(index.remove(&digest).is_some() && index.remove(&digest).is_none());
        assert_eq!(index.totals(), (0, 0));
    }
}
