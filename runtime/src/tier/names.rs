//! Every name, number and size of the tier on disk, in one list to hold against `ls`.
//!
//! ```text
//! DATA/FORMAT                       "basalt-tier 2\nshards 256\nseed 9f2c33d1\ncrc32c 6562151f\n": refused when newer or damaged;
//!                                   the checksum is that of the lines before, which version 1 was without
//! DATA/DISKS                        which directories belong together, see `members.rs`; absent where there is one
//! DATA/device.toml                  what `bench disk --save` measured; absent: defaults
//! DATA/LOCK                         flock(2)ed while a node uses the directory
//! DATA/pack-0000000007              packed objects (at most 64 KiB each): a journal segment, see `journal/batch.rs`, `record.rs`
//! DATA/index-0000000009             what happened to objects: a journal segment
//! DATA/checkpoint-0000000012        all that a column knew, see `checkpoint.rs` (new-checkpoint-…: never finished)
//! DATA/spare-pack-0000000003        a segment nobody wants, to be written over
//! DATA/objects/e3/e3b0c442…         one larger object: its bytes and nothing else, exact size
//! DATA/objects/e3/e3b0c442….sums    CRC32C of each 64 KiB block, little-endian, then the CRC32C of those
//! DATA/incoming/0-17                being received; removed at start
//! ```

use super::digest::Digest;
use std::path::{Path, PathBuf};

/// What this build writes.
pub const FORMAT_VERSION: u32 = 2;
/// Objects of at most this size are packed; exactly one checksum block.
pub const PACKED_BYTES_MAX: usize = BLOCK_BYTES;
/// Bytes under one CRC32C.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Unit of what is held in RAM of an object file.
pub const EXTENT_BYTES: usize = 4 << 20;
/// O_DIRECT is in whole sectors of this size.
pub const SECTOR_BYTES: usize = crate::journal::SECTOR_BYTES;

/// What was measured of the device; the tier only lets it be.
pub(super) const DEVICE_FILE: &str = "device.toml";

/// Paths of one data directory.
#[derive(Clone, Debug)]
pub struct Names {
    root: PathBuf,
}

impl Names {
    /// The names under `root`.
    pub fn new(root: &Path) -> Names {
        Names { root: root.to_owned() }
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Version file.
    pub fn format(&self) -> PathBuf {
        self.root.join("FORMAT")
    }

    /// What was measured of this directory's device.
    pub fn device(&self) -> PathBuf {
        self.root.join(DEVICE_FILE)
    }

    /// Which directories belong together.
    pub fn disks(&self) -> PathBuf {
        self.root.join("DISKS")
    }

    /// Lock file.
    pub fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    /// Objects being received.
    pub fn incoming_dir(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// One object being received.
    pub fn incoming(&self, column: usize, number: u64) -> PathBuf {
        self.incoming_dir().join(format!("{column}-{number}"))
    }

    /// The directory of all object files.
    pub fn objects_dir(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// The directory of a shard's object files.
    pub fn shard_dir(&self, shard: u8) -> PathBuf {
        self.objects_dir().join(format!("{shard:02x}"))
    }

    /// An object file.
    pub fn object(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.shard_dir(digest.shard().0).join(std::str::from_utf8(&hex).expect("hex digits are ASCII"))
    }

    /// The checksums beside an object file (or one being received).
    pub fn sums(object: &Path) -> PathBuf {
        object.with_extension("sums")
    }
}
