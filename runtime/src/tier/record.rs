//! The bytes of a log segment (format version 0). Pure: slices in, values out.
//!
//! ```text
//! segment  = batch*                      every batch starts on a 4 KiB boundary
//! batch    = batch header (32 B), record headers, data of each record, zeros up to the boundary
//!            magic "BSLT" u32 · version u16 · kind u16 (1 pack, 2 index) · segment u32 · payload bytes u32
//!            · batch number u64 (0, 1, 2 … in its segment) · records u32 · CRC32C of the 28 bytes before u32
//! record   = header (80 B); its data stands behind all headers, in order, each padded to a multiple of 8
//!            digest [32] · sequence u64 · expires u64 (ms since 1970, 0 never) · size u64 · data bytes u32
//!            · data CRC32C u32 · kind u8 · flags u8 (1 evictable) · shard u8 · zeros [9] · CRC32C of the 76 before u32
//! ```
//! The headers stand together so that recovery reads them and skips the data. Data of at least 32 KiB starts on a 4 KiB
//! boundary: its pages can then be sent as they are (sendfile moves 16 whole pages at a time).
//! All integers little-endian. `sequence` orders the records of one digest over all segments: the highest one holds.
//! Damage in the last batch of a segment is a torn tail and is cut; before it, it is corruption.

use super::digest::Digest;
use super::names::{FORMAT_VERSION, SECTOR_BYTES, SegmentKind};
use crc32c::crc32c;

const MAGIC: u32 = u32::from_le_bytes(*b"BSLT");
/// Bytes of a batch header.
pub const BATCH_HEADER_BYTES: usize = 32;
/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 80;
const EVICTABLE: u8 = 1;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A packed object; its bytes follow.
    Packed = 1,
    /// An object file exists, complete and synced.
    Object = 2,
    /// The object is gone.
    Deleted = 3,
}

/// A record without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub kind: RecordKind,
    /// Of which object.
    pub digest: Digest,
    /// Order among the records of one digest.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch after which the object is gone; 0: never.
    pub expires_ms: u64,
    /// Size of the object.
    pub size: u64,
    /// Bytes of data that follow (packed objects only).
    pub data_bytes: u32,
    /// CRC32C of those bytes; for an object file, of its sums file's content.
    pub data_crc: u32,
    /// May be dropped to make room.
    pub evictable: bool,
}

/// A batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Kind of the segment.
    pub kind: SegmentKind,
    /// Its number.
    pub segment: u32,
    /// Place among the batches of the segment.
    pub number: u64,
    /// Bytes of records that follow the header.
    pub payload_bytes: u32,
    /// How many records.
    pub records: u32,
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// No batch starts here: zeros or anything else.
    #[error("no batch header")]
    NoBatch,
    /// Written by a newer build.
    #[error("format version {0} is newer than this build's {FORMAT_VERSION}")]
    Newer(u16),
    /// Checksum or bounds do not hold.
    #[error("damaged: {0}")]
    Damaged(&'static str),
}

impl Batch {
    /// Bytes on disk, padding included.
    pub fn disk_bytes(&self) -> usize {
        (BATCH_HEADER_BYTES + self.payload_bytes as usize).next_multiple_of(SECTOR_BYTES)
    }

    /// Writes the header into the first 32 bytes of `out`.
    pub fn encode(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&(FORMAT_VERSION as u16).to_le_bytes());
        out[6..8].copy_from_slice(&(self.kind as u16).to_le_bytes());
        out[8..12].copy_from_slice(&self.segment.to_le_bytes());
        out[12..16].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..28].copy_from_slice(&self.records.to_le_bytes());
        let crc = crc32c(&out[..28]);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8]) -> Result<Batch, RecordError> {
        if bytes.len() < BATCH_HEADER_BYTES || u32_at(bytes, 0) != MAGIC {
            return Err(RecordError::NoBatch);
        }
        if u32_at(bytes, 28) != crc32c(&bytes[..28]) {
            return Err(RecordError::Damaged("batch header checksum"));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if u32::from(version) > FORMAT_VERSION {
            return Err(RecordError::Newer(version));
        }
        let kind = match u16::from_le_bytes([bytes[6], bytes[7]]) {
            1 => SegmentKind::Pack,
            2 => SegmentKind::Index,
            _ => return Err(RecordError::Damaged("segment kind")),
        };
        Ok(Batch {
            kind,
            segment: u32_at(bytes, 8),
            payload_bytes: u32_at(bytes, 12),
            number: u64_at(bytes, 16),
            records: u32_at(bytes, 24),
        })
    }
}

impl Record {
    /// Bytes this record takes in a batch.
    pub fn batch_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + padded(self.data_bytes)
    }

    fn encode(&self, out: &mut [u8]) {
        out[0..32].copy_from_slice(&self.digest.0);
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..48].copy_from_slice(&self.expires_ms.to_le_bytes());
        out[48..56].copy_from_slice(&self.size.to_le_bytes());
        out[56..60].copy_from_slice(&self.data_bytes.to_le_bytes());
        out[60..64].copy_from_slice(&self.data_crc.to_le_bytes());
        out[64] = self.kind as u8;
        out[65] = if self.evictable { EVICTABLE } else { 0 };
        out[66] = self.digest.shard().0;
        out[67..76].fill(0);
        let crc = crc32c(&out[..76]);
        out[76..80].copy_from_slice(&crc.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        let damaged = |what| Err(RecordError::Damaged(what));
        if u32_at(bytes, 76) != crc32c(&bytes[..76]) {
            return damaged("record header checksum");
        }
        let kind = match bytes[64] {
            1 => RecordKind::Packed,
            2 => RecordKind::Object,
            3 => RecordKind::Deleted,
            _ => return damaged("record kind"),
        };
        let digest = Digest(bytes[..32].try_into().expect("32 bytes"));
        if bytes[66] != digest.shard().0 {
            return damaged("record shard");
        }
        Ok(Record {
            kind,
            digest,
            sequence: u64_at(bytes, 32),
            expires_ms: u64_at(bytes, 40),
            size: u64_at(bytes, 48),
            data_bytes: u32_at(bytes, 56),
            data_crc: u32_at(bytes, 60),
            evictable: bytes[65] & EVICTABLE != 0,
        })
    }
}

/// Data of at least this many bytes starts on a sector boundary.
const ALIGNED_BYTES_MIN: u32 = 32 << 10;

/// Where each record's data starts in a batch of these records, and where the last one ends.
fn layout<'r>(records: impl ExactSizeIterator<Item = &'r Record>) -> (Vec<u32>, usize) {
    let mut at = BATCH_HEADER_BYTES + records.len() * RECORD_HEADER_BYTES;
    let mut offsets = Vec::with_capacity(records.len());
    for record in records {
        if record.data_bytes >= ALIGNED_BYTES_MIN {
            at = at.next_multiple_of(SECTOR_BYTES);
        }
        offsets.push(at as u32);
        at += padded(record.data_bytes);
    }
    (offsets, at)
}

fn padded(data_bytes: u32) -> usize {
    (data_bytes as usize).next_multiple_of(8)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Bytes that a batch of these records takes on disk.
pub fn batch_bytes<'r>(records: impl ExactSizeIterator<Item = &'r Record>) -> usize {
    layout(records).1.next_multiple_of(SECTOR_BYTES)
}

/// Writes a batch to the start of `out`; returns the offset of each record's data from there.
pub fn encode_batch(
    kind: SegmentKind,
    segment: u32,
    number: u64,
    items: &[(Record, &[u8])],
    out: &mut [u8],
) -> Vec<u32> {
    let (offsets, end) = layout(items.iter().map(|(r, _)| r));
    let mut filled = BATCH_HEADER_BYTES + items.len() * RECORD_HEADER_BYTES;
    for (i, ((record, data), &offset)) in items.iter().zip(&offsets).enumerate() {
        assert_eq!(data.len(), record.data_bytes as usize, "record and data disagree");
        let header = BATCH_HEADER_BYTES + i * RECORD_HEADER_BYTES;
        record.encode(&mut out[header..header + RECORD_HEADER_BYTES]);
        let (from, to) = (offset as usize, offset as usize + data.len());
        out[filled..from].fill(0);
        out[from..to].copy_from_slice(data);
        filled = to;
    }
    out[filled..end.next_multiple_of(SECTOR_BYTES)].fill(0);
    let payload_bytes = (end - BATCH_HEADER_BYTES) as u32;
    Batch { kind, segment, number, payload_bytes, records: items.len() as u32 }.encode(out);
    offsets
}

impl Batch {
    /// Bytes from the start of the batch that hold its header and those of its records.
    pub fn index_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records as usize * RECORD_HEADER_BYTES
    }

    /// The records, each with the offset of its data from the start of the batch. `bytes` holds at least
    /// [`Batch::index_bytes`]; data is not looked at.
    pub fn records(&self, bytes: &[u8]) -> Result<Vec<(Record, u32)>, RecordError> {
        let end = BATCH_HEADER_BYTES + self.payload_bytes as usize;
        if self.index_bytes() > end || self.index_bytes() > bytes.len() {
            return Err(RecordError::Damaged("more records than bytes"));
        }
        let headers = bytes[BATCH_HEADER_BYTES..self.index_bytes()].chunks_exact(RECORD_HEADER_BYTES);
        let records: Vec<Record> = headers.map(Record::decode).collect::<Result<_, _>>()?;
        let (offsets, data_end) = layout(records.iter());
        if data_end != end {
            return Err(RecordError::Damaged("batch is not as long as its records"));
        }
        Ok(records.into_iter().zip(offsets).collect())
    }
}

/// Whether the data of every record in a whole batch is what it was.
pub fn check_data(bytes: &[u8], records: &[(Record, u32)]) -> Result<(), RecordError> {
    for (record, at) in records.iter().filter(|(r, _)| r.kind == RecordKind::Packed) {
        let (from, to) = (*at as usize, *at as usize + record.data_bytes as usize);
        let data = bytes.get(from..to).ok_or(RecordError::Damaged("batch cut short"))?;
        if crc32c(data) != record.data_crc {
            return Err(RecordError::Damaged("data checksum"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_batch(bytes: &[u8]) -> Result<(Batch, Vec<(Record, u32)>), RecordError> {
        let batch = Batch::decode(bytes)?;
        let records = batch.records(bytes)?;
        check_data(bytes, &records)?;
        Ok((batch, records))
    }

    fn batch_of_two() -> Vec<u8> {
        let mut bytes = vec![0xee; 2 * SECTOR_BYTES];
        let data: Vec<u8> = (0..5001u32).map(|i| i as u8).collect();
        let packed = Record {
            kind: RecordKind::Packed,
            digest: Digest([7; 32]),
            sequence: 3,
            expires_ms: 0,
            size: 5001,
            data_bytes: 5001,
            data_crc: crc32c(&data),
            evictable: true,
        };
        let deleted = Record { kind: RecordKind::Deleted, data_bytes: 0, data_crc: 0, sequence: 4, ..packed };
        encode_batch(SegmentKind::Pack, 9, 1, &[(packed, &data), (deleted, &[])], &mut bytes);
        bytes
    }

    #[test]
    fn reads_back_what_was_written() {
        let bytes = batch_of_two();
        let (batch, records) = read_batch(&bytes).expect("whole");
        assert_eq!((batch.segment, batch.number, batch.disk_bytes()), (9, 1, 2 * SECTOR_BYTES));
        assert_eq!(
            records.iter().map(|(r, _)| r.kind).collect::<Vec<_>>(),
            [RecordKind::Packed, RecordKind::Deleted]
        );
        assert_eq!(bytes[records[0].1 as usize + 5000], (5000u32 % 256) as u8);
    }

    #[test]
    fn large_data_starts_on_a_sector_and_reads_back() {
        let (small, large) = (vec![1u8; 100], vec![2u8; 65536]);
        let record = |data: &[u8]| Record {
            kind: RecordKind::Packed,
            digest: Digest([7; 32]),
            sequence: 1,
            expires_ms: 0,
            size: data.len() as u64,
            data_bytes: data.len() as u32,
            data_crc: crc32c(data),
            evictable: false,
        };
        let items =
            [(record(&small), &small[..]), (record(&large), &large[..]), (record(&small), &small[..])];
        let mut bytes = vec![0xee; batch_bytes(items.iter().map(|(r, _)| r))];
        let offsets = encode_batch(SegmentKind::Pack, 1, 0, &items, &mut bytes);
        assert_eq!(offsets[1] % SECTOR_BYTES as u32, 0);
        let (batch, records) = read_batch(&bytes).expect("whole");
        assert_eq!(batch.disk_bytes(), bytes.len());
        assert_eq!(records.iter().map(|r| r.1).collect::<Vec<_>>(), offsets);
    }

    #[test]
    fn every_flipped_byte_is_noticed_or_padding() {
        let bytes = batch_of_two();
        let (_, good) = read_batch(&bytes).expect("whole");
        let data_end = good[0].1 as usize + 5001;
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x41;
            if let Ok((_, records)) = read_batch(&bad) {
                assert!(at >= data_end, "flip at {at} went unnoticed");
                assert_eq!(records, good);
            }
        }
    }

    #[test]
    fn newer_is_told_apart_from_damage() {
        let mut bytes = batch_of_two();
        bytes[4] = 9;
        let crc = crc32c(&bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read_batch(&bytes).map(|_| ()), Err(RecordError::Newer(9)));
    }
}
