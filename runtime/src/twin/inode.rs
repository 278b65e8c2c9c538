//! The bytes of one simulated file, as they are read now and as they would be after a power cut. Pure; called by `disk.rs`.
//!
//! Invariants
//! 1. A write is seen by every later read at once, and is durable only after a sync; until then each of its sectors stands or
//!    falls alone, and any of several unsynced versions of a sector may be the one that stands.
//! 2. Sectors are atomic: a power cut leaves one of the versions that were written, never a mixture.
//!
//! Units: bytes; sectors of [`SECTOR_BYTES`].

use super::rng::Rng;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The unit of writing: what a power cut keeps or loses whole.
pub(super) const SECTOR_BYTES: u64 = 4096;

/// A sector's content; `None`: a hole, which reads as zeros.
type Sector = Option<Rc<[u8]>>;

/// How a power cut chooses among unsynced writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of them are there.
    KeepAll,
    /// None of them is.
    KeepNone,
    /// Each is there or not, as the seed says; names too, and in any order.
    Random,
}

/// What a power cut took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    pub(super) torn_files: u64,
    pub(super) dropped_sectors: u64,
    pub(super) lost_names: u64,
}

#[derive(Clone, Default)]
pub(super) struct Inode {
    now: BTreeMap<u64, Rc<[u8]>>,
    durable: BTreeMap<u64, Rc<[u8]>>,
    /// Versions of each sector since the last sync, oldest first.
    unsynced: BTreeMap<u64, Vec<Sector>>,
    size: u64,
    durable_size: u64,
    /// End of the space that is reserved for it.
    allocated: u64,
    /// Handles.
    pub(super) open: u32,
    /// It has a name.
    pub(super) named: bool,
}

impl Inode {
    /// A new file with a name and a handle.
    pub(super) fn opened() -> Inode {
        Inode { open: 1, named: true, ..Inode::default() }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of disk it takes.
    pub(super) fn disk_bytes(&self) -> u64 {
        let written = self.now.last_key_value().map_or(0, |(at, _)| (at + 1) * SECTOR_BYTES);
        written.max(self.allocated)
    }

    fn put(&mut self, at: u64, sector: Sector) {
        match &sector {
            Some(bytes) => drop(self.now.insert(at, bytes.clone())),
            None => drop(self.now.remove(&at)),
        }
        self.unsynced.entry(at).or_default().push(sector);
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset.is_multiple_of(SECTOR_BYTES) && (bytes.len() as u64).is_multiple_of(SECTOR_BYTES));
        for (at, sector) in (offset / SECTOR_BYTES..).zip(bytes.chunks(SECTOR_BYTES as usize)) {
            self.put(at, Some(sector.into()));
        }
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    /// Fills `out` from `offset`; returns how many bytes there were.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        assert!(offset.is_multiple_of(SECTOR_BYTES));
        let len = self.size.saturating_sub(offset).min(out.len() as u64) as usize;
        for (at, part) in (offset / SECTOR_BYTES..).zip(out[..len].chunks_mut(SECTOR_BYTES as usize)) {
            match self.now.get(&at) {
                Some(sector) => part.copy_from_slice(&sector[..part.len()]),
                None => part.fill(0),
            }
        }
        len
    }

    pub(super) fn sync(&mut self) {
        for (at, mut versions) in std::mem::take(&mut self.unsynced) {
            match versions.pop().expect("an unsynced sector has a version") {
                Some(sector) => drop(self.durable.insert(at, sector)),
                None => drop(self.durable.remove(&at)),
            }
        }
        self.durable_size = self.size;
    }

    pub(super) fn allocate(&mut self, len: u64) {
        self.allocated = self.allocated.max(len.next_multiple_of(SECTOR_BYTES));
        self.size = self.size.max(len);
    }

    pub(super) fn truncate(&mut self, len: u64) {
        let beyond: Vec<u64> = self.now.range(len.div_ceil(SECTOR_BYTES)..).map(|(at, _)| *at).collect();
        beyond.into_iter().for_each(|at| self.put(at, None));
        let kept = len % SECTOR_BYTES;
        if len < self.size
            && kept > 0
            && let Some(last) = self.now.get(&(len / SECTOR_BYTES))
        {
            // The file system clears the rest of the last block.
            let mut cleared = last.to_vec();
            cleared[kept as usize..].fill(0);
            self.put(len / SECTOR_BYTES, Some(cleared.into()));
        }
        self.allocated = self.allocated.min(len.next_multiple_of(SECTOR_BYTES));
        self.size = len;
    }

    /// The power goes: what is there afterwards.
    pub(super) fn cut(&mut self, how: Cut, rng: &mut Rng, losses: &mut Losses) {
        let (mut kept, mut dropped) = (0, 0);
        for (at, versions) in std::mem::take(&mut self.unsynced) {
            let stands = match how {
                Cut::KeepAll => versions.len(),
                Cut::KeepNone => 0,
                // Version number `stands - 1`; 0: what was durable before.
                Cut::Random => rng.below(versions.len() as u64 + 1) as usize,
            };
            dropped += u64::from(stands < versions.len());
            kept += u64::from(stands == versions.len());
            match versions.into_iter().take(stands).next_back() {
                Some(Some(sector)) => drop(self.durable.insert(at, sector)),
                Some(None) => drop(self.durable.remove(&at)),
                None => {}
            }
        }
        let size_stands = match how {
            Cut::KeepAll => true,
            Cut::KeepNone => false,
            Cut::Random => rng.below(2) == 0,
        };
        if size_stands {
            self.durable_size = self.size;
        }
        losses.dropped_sectors += dropped;
        losses.torn_files += u64::from(kept > 0 && dropped > 0);
        self.size = self.durable_size;
        let end = self.size.div_ceil(SECTOR_BYTES);
        self.durable.retain(|at, _| *at < end);
        self.now = self.durable.clone();
        self.allocated = end * SECTOR_BYTES;
        self.open = 0;
    }

    /// The sectors that were written, as they are now.
    pub(super) fn sectors(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.now.iter().map(|(at, bytes)| (*at, &bytes[..]))
    }

    /// Flips the bits of the byte at `at` that `mask` has; false in a hole.
    pub(super) fn flip_bits(&mut self, at: u64, mask: u8) -> bool {
        let (sector, at) = (at / SECTOR_BYTES, (at % SECTOR_BYTES) as usize);
        let Some(bytes) = self.now.get(&sector) else { return false };
        let mut bytes = bytes.to_vec();
        bytes[at] ^= mask;
        let bytes: Rc<[u8]> = bytes.into();
        self.now.insert(sector, bytes.clone());
        self.durable.insert(sector, bytes);
        true
    }

    /// Flips bit `bit` of the file's written sectors, counted through them; false if there is none.
    pub(super) fn flip(&mut self, bit: u64) -> Option<u64> {
        let sectors = self.durable.len() as u64;
        if sectors == 0 {
            return None;
        }
        let (sector, bit) = ((bit / (SECTOR_BYTES * 8)) % sectors, bit % (SECTOR_BYTES * 8));
        let (&at, bytes) = self.durable.iter().nth(sector as usize).expect("counted just now");
        let mut bytes = bytes.to_vec();
        bytes[bit as usize / 8] ^= 1 << (bit % 8);
        let bytes: Rc<[u8]> = bytes.into();
        self.durable.insert(at, bytes.clone());
        if !self.unsynced.contains_key(&at) {
            self.now.insert(at, bytes);
        }
        Some(at * SECTOR_BYTES + bit / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(byte: u8, sectors: usize) -> Vec<u8> {
        vec![byte; sectors * SECTOR_BYTES as usize]
    }

    fn first_bytes(inode: &Inode, sectors: u64) -> Vec<u8> {
        let mut out = vec![9; (sectors * SECTOR_BYTES) as usize];
        let len = inode.read(0, &mut out);
        out[..len].iter().step_by(SECTOR_BYTES as usize).copied().collect()
    }

    #[test]
    fn only_synced_bytes_survive_for_sure() {
        let mut inode = Inode::default();
        inode.write(0, &filled(1, 2));
        inode.sync();
        inode.write(SECTOR_BYTES, &filled(2, 2));
        assert_eq!(first_bytes(&inode, 3), [1, 2, 2]);
        let mut losses = Losses::default();
        let mut none = inode.clone();
        none.cut(Cut::KeepNone, &mut Rng::new(1), &mut losses);
        assert_eq!((first_bytes(&none, 3), losses.dropped_sectors), (vec![1, 1], 2));
        inode.cut(Cut::KeepAll, &mut Rng::new(1), &mut losses);
        assert_eq!(first_bytes(&inode, 3), [1, 2, 2]);
    }

    #[test]
    fn a_random_cut_tears_and_reorders() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut inode = Inode::default();
            inode.write(0, &filled(1, 2));
            inode.sync();
            inode.write(0, &filled(2, 2));
            inode.write(0, &filled(3, 2));
            inode.cut(Cut::Random, &mut Rng::new(seed), &mut Losses::default());
            seen.insert(first_bytes(&inode, 2));
        }
        assert_eq!(seen.len(), 9, "every version of every sector: {seen:?}");
    }

    #[test]
    fn cut_short_and_grown_again_reads_zeros() {
        let mut inode = Inode::default();
        inode.write(0, &filled(7, 3));
        inode.truncate(5000);
        inode.allocate(3 * SECTOR_BYTES);
        let mut out = filled(9, 3);
        assert_eq!(inode.read(0, &mut out), out.len());
        assert!(out[..5000].iter().all(|&b| b == 7) && out[5000..].iter().all(|&b| b == 0));
        assert_eq!(inode.disk_bytes(), 3 * SECTOR_BYTES);
    }
}
