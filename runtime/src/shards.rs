//! The fixed 256-shard map. A shard is the first byte of a key's digest; a column owns the shards that this boot
//! assigns to it. Called by every engine to route, by recovery to hand records to today's owner.
//!
//! Invariant: the number of shards is part of the data directory's format and never changes for it.

/// Shards in a data directory.
pub const SHARDS: usize = 256;

/// One of the 256 shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(pub u8);

/// Which column owns which shard in this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMap {
    columns: u16,
}

impl ShardMap {
    /// A map over `columns` columns.
    ///
    /// # Panics
    /// When there is no column, or more columns than shards.
    pub fn new(columns: usize) -> ShardMap {
        assert!((1..=SHARDS).contains(&columns), "columns must be 1..=256, got {columns}");
        ShardMap { columns: columns as u16 }
    }

    /// The column that owns `shard`.
    #[inline]
    pub fn owner(self, shard: Shard) -> usize {
        usize::from(u16::from(shard.0) % self.columns)
    }

    /// Columns in this boot.
    pub fn columns(self) -> usize {
        usize::from(self.columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_one_owner_and_shares_are_even() {
        for columns in [1, 2, 3, 64, 256] {
            let map = ShardMap::new(columns);
            let mut owned = vec![0usize; columns];
            (0..=255).for_each(|s| owned[map.owner(Shard(s))] += 1);
            let (low, high) = (owned.iter().min(), owned.iter().max());
            assert!(high.zip(low).is_some_and(|(h, l)| h - l <= 1), "{owned:?}");
        }
    }
}
