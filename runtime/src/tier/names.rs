//! Every name, number and size of the tier on disk, in one list to hold against `ls`.
//!
//! ```text
//! DATA/FORMAT                       "basalt-tier 0\nshards 256\n": refused when newer
//! DATA/device.toml                  what `bench disk --save` measured; absent: defaults
//! DATA/LOCK                         flock(2)ed while a node uses the directory
//! DATA/pack-0000000007              packed objects (at most 64 KiB each), see `record.rs`
//! DATA/index-0000000009             records of object files and deletions, see `record.rs`
//! DATA/objects/e3/e3b0c442…         one larger object: its bytes and nothing else, exact size
//! DATA/objects/e3/e3b0c442….sums    CRC32C of each 64 KiB block, little-endian, then the CRC32C of those
//! DATA/incoming/0-17                being received; removed at start
//! ```

use super::digest::Digest;
use std::path::{Path, PathBuf};

/// What this build writes.
pub const FORMAT_VERSION: u32 = 0;
/// Objects of at most this size are packed; exactly one checksum block.
pub const PACKED_BYTES_MAX: usize = BLOCK_BYTES;
/// Bytes under one CRC32C.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Unit of what is held in RAM of an object file.
pub const EXTENT_BYTES: usize = 4 << 20;
/// O_DIRECT and batches are in whole sectors of this size.
pub const SECTOR_BYTES: usize = 4096;

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

    /// The directory of a shard's object files.
    pub fn shard_dir(&self, shard: u8) -> PathBuf {
        self.root.join("objects").join(format!("{shard:02x}"))
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

    /// A log segment.
    pub fn segment(&self, kind: SegmentKind, number: u32) -> PathBuf {
        self.root.join(format!("{}-{number:010}", kind.prefix()))
    }

    /// The kind and number of a segment with this file name.
    pub fn parse_segment(name: &str) -> Option<(SegmentKind, u32)> {
        let (prefix, number) = name.split_once('-')?;
        let kind = [SegmentKind::Pack, SegmentKind::Index].into_iter().find(|k| k.prefix() == prefix)?;
        (number.len() == 10).then(|| number.parse().ok())?.map(|n| (kind, n))
    }
}

/// What a log segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum SegmentKind {
    /// Packed objects.
    Pack = 1,
    /// Object files and deletions.
    Index = 2,
}

impl SegmentKind {
    fn prefix(self) -> &'static str {
        match self {
            SegmentKind::Pack => "pack",
            SegmentKind::Index => "index",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_names_round_trip() {
        let names = Names::new(Path::new("/d"));
        for (kind, number) in [(SegmentKind::Pack, 7), (SegmentKind::Index, u32::MAX)] {
            let path = names.segment(kind, number);
            let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
            assert_eq!(Names::parse_segment(name), Some((kind, number)));
        }
        for other in ["FORMAT", "pack-7", "pack-00000000x7", "log-0000000001"] {
            assert_eq!(Names::parse_segment(other), None, "{other}");
        }
    }
}
