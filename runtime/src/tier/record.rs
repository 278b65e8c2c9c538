//! What the tier says in its journals (version 1 of each kind). Pure: frames in, values out.
//!
//! ```text
//! kind         journal   meta                                              data
//! 1 packed     pack      object                                            the object's bytes
//! 2 file       index     object (crc: of the sums file's content)          -
//! 3 deleted    index     object                                            -
//! 4 listed     index     object · segment u32 · offset u32: where in a pack its bytes are   -
//! 5 covered    index     segment u32 · offset u32: before it, all of this pack is in the index   -
//! 6 origin     index     digest [32] · sequence u64       the URL that the object came from; none: it is forgotten
//! object = digest [32] · sequence u64 · expires u64 (ms since 1970, 0 never) · size u64 · crc u32 · flags u8
//!          (1 evictable, 2 pinned) · zeros [3]
//! ```
//! `sequence` orders what is said of one object over all journals, and apart from that what is said of its origin: the highest
//! holds. An origin stays known when its object is deleted to make room or because its time is over; a DELETE forgets it. A kind's next version gets a new version
//! number and this one stays readable; the golden files in `tests/golden` hold what each version wrote.

use super::digest::Digest;
use crate::journal::{Frame, Meta, NUMBER_MAX};
use crc32c::crc32c;

const VERSION: u8 = 1;
const OBJECT_BYTES: usize = 64;
/// No object is as large: sums of sizes stay below 2^64.
pub const SIZE_BYTES_MAX: u64 = 1 << 48;
/// No sequence is as high: there is always a next one.
pub const SEQUENCE_MAX: u64 = 1 << 62;
const EVICTABLE: u8 = 1;
const PINNED: u8 = 2;
const ORIGIN_META_BYTES: usize = 40;
/// The longest URL that is kept.
pub const ORIGIN_BYTES_MAX: usize = 2 << 10;

/// What is said of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Its bytes are this record's data.
    Packed,
    /// It is a file of its own, complete and synced.
    File,
    /// It is gone.
    Deleted,
    /// Its bytes are in a pack.
    Listed {
        /// Number of the pack.
        segment: u32,
        /// Of the bytes in its file.
        offset: u32,
    },
}

/// A record about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub said: Said,
    /// Of which object.
    pub digest: Digest,
    /// Order among the records of one digest.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch after which the object is gone; 0: never.
    pub expires_ms: u64,
    /// Size of the object.
    pub size: u64,
    /// CRC32C of a packed object's bytes; for a file, of its sums file's content.
    pub crc: u32,
    /// May be dropped to make room.
    pub evictable: bool,
    /// Must not be, for now.
    pub pinned: bool,
}

/// Where an object came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The object.
    pub digest: Digest,
    /// Order among what is said of its origin.
    pub sequence: u64,
    /// From here; empty: it is not to be fetched again.
    pub url: String,
}

/// A record of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// About an object.
    Object(Record),
    /// All of a pack before `offset` is in the index.
    Covered {
        /// Number of the pack.
        segment: u32,
        /// In its file.
        offset: u32,
    },
    /// Where an object came from: [`Origin::read`] has the rest.
    Origin(Digest, u64),
}

/// Why a frame is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Of a kind or version that this build does not know.
    #[error("record kind {0} version {1} is newer than this build")]
    Newer(u8, u8),
    /// Its checksum holds, and yet it makes no sense.
    #[error("record without sense: {0}")]
    Strange(&'static str),
}

impl Said {
    fn kind(self) -> u8 {
        match self {
            Said::Packed => 1,
            Said::File => 2,
            Said::Deleted => 3,
            Said::Listed { .. } => 4,
        }
    }
}

const COVERED: u8 = 5;
const ORIGIN: u8 = 6;

impl Origin {
    /// As the journal keeps it, with `url` as its data.
    pub fn frame(&self) -> Frame {
        assert!(self.url.len() <= ORIGIN_BYTES_MAX, "a URL of {} bytes", self.url.len());
        let mut meta = [0; ORIGIN_META_BYTES];
        meta[..32].copy_from_slice(&self.digest.0);
        meta[32..].copy_from_slice(&self.sequence.to_le_bytes());
        Frame {
            kind: ORIGIN,
            version: VERSION,
            shard: self.digest.shard().0,
            data_bytes: self.url.len() as u32,
            data_crc: crc32c(self.url.as_bytes()),
            meta: Meta::new(&meta),
        }
    }

    /// Understands the data of an [`Entry::Origin`].
    pub fn read(digest: Digest, sequence: u64, data: &[u8]) -> Result<Origin, RecordError> {
        let url = std::str::from_utf8(data).map_err(|_| RecordError::Strange("a URL that is no text"))?;
        Ok(Origin { digest, sequence, url: url.to_owned() })
    }
}

impl Record {
    /// As the journal keeps it.
    pub fn frame(&self) -> Frame {
        let mut meta = [0; OBJECT_BYTES + 8];
        meta[0..32].copy_from_slice(&self.digest.0);
        meta[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        meta[40..48].copy_from_slice(&self.expires_ms.to_le_bytes());
        meta[48..56].copy_from_slice(&self.size.to_le_bytes());
        meta[56..60].copy_from_slice(&self.crc.to_le_bytes());
        meta[60] = if self.evictable { EVICTABLE } else { 0 } | if self.pinned { PINNED } else { 0 };
        let mut len = OBJECT_BYTES;
        if let Said::Listed { segment, offset } = self.said {
            meta[64..68].copy_from_slice(&segment.to_le_bytes());
            meta[68..72].copy_from_slice(&offset.to_le_bytes());
            len += 8;
        }
        let packed = self.said == Said::Packed;
        Frame {
            kind: self.said.kind(),
            version: VERSION,
            shard: self.digest.shard().0,
            data_bytes: if packed { self.size as u32 } else { 0 },
            data_crc: if packed { self.crc } else { 0 },
            meta: Meta::new(&meta[..len]),
        }
    }
}

/// Says that all of a pack before `offset` is in the index.
pub fn covered(segment: u32, offset: u32) -> Frame {
    let mut meta = [0; 8];
    meta[..4].copy_from_slice(&segment.to_le_bytes());
    meta[4..].copy_from_slice(&offset.to_le_bytes());
    Frame {
        kind: COVERED,
        version: VERSION,
        shard: 0,
        data_bytes: 0,
        data_crc: crc32c(&[]),
        meta: Meta::new(&meta),
    }
}

/// Bytes that a packed object takes in a pack.
pub fn packed_bytes(size: u64) -> u64 {
    (16 + OBJECT_BYTES) as u64 + size.next_multiple_of(8)
}

/// Understands a frame.
pub fn read(frame: &Frame) -> Result<Entry, RecordError> {
    if frame.version != VERSION || !(1..=ORIGIN).contains(&frame.kind) {
        return Err(RecordError::Newer(frame.kind, frame.version));
    }
    let meta = frame.meta.as_slice();
    let pair = |at: usize| (u32_at(meta, at), u32_at(meta, at + 4));
    let want = match frame.kind {
        COVERED => 8,
        ORIGIN => ORIGIN_META_BYTES,
        4 => OBJECT_BYTES + 8,
        _ => OBJECT_BYTES,
    };
    if meta.len() != want {
        return Err(RecordError::Strange("meta length"));
    }
    let said = match frame.kind {
        COVERED => {
            let (segment, offset) = pair(0);
            // Numbers go on behind the highest that is named.
            return match segment {
                0..=NUMBER_MAX => Ok(Entry::Covered { segment, offset }),
                _ => Err(RecordError::Strange("segment")),
            };
        }
        ORIGIN => return read_origin(frame, meta),
        1 => Said::Packed,
        2 => Said::File,
        3 => Said::Deleted,
        _ => {
            let (segment, offset) = pair(64);
            Said::Listed { segment, offset }
        }
    };
    let digest = Digest(meta[..32].try_into().expect("32 bytes"));
    let record = Record {
        said,
        digest,
        sequence: u64_at(meta, 32),
        expires_ms: u64_at(meta, 40),
        size: u64_at(meta, 48),
        crc: u32_at(meta, 56),
        evictable: meta[60] & EVICTABLE != 0,
        pinned: meta[60] & PINNED != 0,
    };
    let data_bytes = if said == Said::Packed { record.size } else { 0 };
    if frame.shard != digest.shard().0 || u64::from(frame.data_bytes) != data_bytes {
        return Err(RecordError::Strange("shard or size"));
    }
    if record.size > SIZE_BYTES_MAX || record.sequence > SEQUENCE_MAX {
        return Err(RecordError::Strange("size or sequence"));
    }
    Ok(Entry::Object(record))
}

fn read_origin(frame: &Frame, meta: &[u8]) -> Result<Entry, RecordError> {
    let digest = Digest(meta[..32].try_into().expect("32 bytes"));
    if frame.shard != digest.shard().0 || frame.data_bytes as usize > ORIGIN_BYTES_MAX {
        return Err(RecordError::Strange("shard or size"));
    }
    let sequence = u64_at(meta, 32);
    if sequence > SEQUENCE_MAX {
        return Err(RecordError::Strange("sequence"));
    }
    Ok(Entry::Origin(digest, sequence))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(said: Said) -> Record {
        Record {
            said,
            digest: Digest([9; 32]),
            sequence: 3,
            expires_ms: 77,
            size: 5001,
            crc: 0xfeed,
            evictable: true,
            pinned: true,
        }
    }

    fn all() -> Vec<Record> {
        let listed = Said::Listed { segment: 8, offset: 4096 };
        [Said::Packed, Said::File, Said::Deleted, listed].into_iter().map(record).collect()
    }

    #[test]
    fn reads_back_what_was_written() {
        for record in all() {
            assert_eq!(read(&record.frame()), Ok(Entry::Object(record)));
        }
        assert_eq!(read(&covered(8, 1 << 20)), Ok(Entry::Covered { segment: 8, offset: 1 << 20 }));
        assert_eq!(record(Said::Packed).frame().bytes() as u64, packed_bytes(5001));
        for url in ["", "http://h/a?b=1", &"u".repeat(ORIGIN_BYTES_MAX)] {
            let said = Origin { digest: Digest([9; 32]), sequence: 3, url: url.to_owned() };
            let Ok(Entry::Origin(digest, sequence)) = read(&said.frame()) else { panic!("an origin") };
            assert_eq!(Origin::read(digest, sequence, url.as_bytes()), Ok(said));
        }
    }

    #[test]
    fn origins_without_sense_are_refused() {
        let frame = origin().frame();
        let strange = |frame: Frame| assert!(matches!(read(&frame), Err(RecordError::Strange(_))));
        strange(Frame { shard: 8, ..frame });
        strange(Frame { data_bytes: ORIGIN_BYTES_MAX as u32 + 1, ..frame });
        strange(Frame { meta: Meta::new(&[9; 39]), ..frame });
        strange(Origin { sequence: SEQUENCE_MAX + 1, ..origin() }.frame());
        assert!(Origin::read(Digest([9; 32]), 3, b"http://\xff/").is_err());
    }

    #[test]
    fn newer_kinds_and_versions_are_refused() {
        let frame = record(Said::File).frame();
        assert_eq!(read(&Frame { version: 2, ..frame }), Err(RecordError::Newer(2, 2)));
        assert_eq!(read(&Frame { kind: 7, ..frame }), Err(RecordError::Newer(7, 1)));
    }

    /// What version 1 of each kind wrote once must be read for ever: this file is never written anew.
    #[test]
    fn golden_metas_of_version_1_are_read() {
        let golden = include_str!("../../tests/golden/tier-records-1.txt");
        let written: Vec<String> = all().iter().map(|r| hex(&r.frame())).collect();
        let lines: Vec<&str> = golden.lines().collect();
        assert_eq!(lines[..4], written[..], "this build writes version 1 differently");
        assert_eq!(lines[4], hex(&covered(8, 1 << 20)));
        assert_eq!(lines[5], hex(&origin().frame()));
    }

    fn origin() -> Origin {
        Origin { digest: Digest([9; 32]), sequence: 3, url: "https://example.org/a".to_owned() }
    }

    fn hex(frame: &Frame) -> String {
        let meta: String = frame.meta.as_slice().iter().map(|b| format!("{b:02x}")).collect();
        format!("{} {} {} {meta}", frame.kind, frame.version, frame.shard)
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(kind: u8, version in 0u8..3, meta in prop::collection::vec(any::<u8>(), 0..80)) {
            let frame = Frame { kind, version, shard: 0, data_bytes: 0, data_crc: 0, meta: Meta::new(&meta) };
            let _ = read(&frame);
        }
    }
}
