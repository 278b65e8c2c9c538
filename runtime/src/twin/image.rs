//! The disk of a world at one moment: to be cut, damaged, and started from. Called by simulations.

use super::disk::Disk;
use super::inode::{Cut, SECTOR_BYTES};
use super::rng::{Rng, mix};
use crc32c::crc32c;
use std::path::{Path, PathBuf};

/// A disk and the time at which it was so.
#[derive(Clone)]
pub struct Image {
    pub(super) disk: Disk,
    pub(super) now_ns: u64,
}

impl Image {
    /// As a power cut leaves it; `seed` chooses where `how` leaves a choice.
    #[must_use]
    pub fn cut(&self, how: Cut, seed: u64) -> Image {
        let mut cut = self.clone();
        cut.disk.cut(how, &mut Rng::new(seed));
        cut
    }

    /// Equal for equal names and bytes.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0;
        let mut add = |number: u64| hash = mix(hash ^ number);
        for (path, inode) in self.disk.files() {
            add(u64::from(crc32c(path.as_os_str().as_encoded_bytes())));
            add(inode.size());
            for (at, bytes) in inode.sectors() {
                add(at);
                add(u64::from(crc32c(bytes)));
            }
        }
        hash
    }

    /// The files, each with its size and the offsets of the sectors that were written.
    pub fn files(&self) -> Vec<(PathBuf, u64, Vec<u64>)> {
        let sectors =
            |inode: &super::inode::Inode| inode.sectors().map(|(at, _)| at * SECTOR_BYTES).collect();
        self.disk.files().map(|(path, inode)| (path.to_owned(), inode.size(), sectors(inode))).collect()
    }

    /// The bytes of a file; `None`: there is none of that name.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let inode = self.disk.find(path).ok()?;
        let mut bytes = vec![0; inode.size() as usize];
        inode.read(0, &mut bytes);
        Some(bytes)
    }

    /// Has a file hold what another build would have written into it; false if there is none.
    pub fn replace(&mut self, path: &Path, content: &[u8]) -> bool {
        self.disk.replace(path, content)
    }

    /// Changes the bits of one byte of a file that `mask` has; false where nothing was written.
    pub fn flip_bits(&mut self, path: &Path, at: u64, mask: u8) -> bool {
        self.disk.flip_bits(path, at, mask)
    }
}
