//! The bytes of a journal segment (format version 1). Pure: slices in, values out.
//!
//! ```text
//! segment  = batch*                      every batch starts on a 4 KiB boundary
//! batch    = batch header (64 B), record heads, data of each record, zeros up to the boundary
//!            magic "BSLJ" u32 · version u16 · purpose u16 · journal u32 (number of its first segment) · segment u32
//!            · payload bytes u32 · heads bytes u32 · records u32 · zeros u32 · first u64 (sequence of its first record)
//!            · synced u64 (all before this sequence was synced when this was written)
//!            · after u32 (number of the journal's segment before this one, plus one; 0: this is its first) · zeros [8]
//!            · CRC32C of the directory's seed and the 60 B before
//! record   = head: data bytes u32 · CRC32C of the data u32 · kind u8 · version u8 · shard u8 · meta bytes u8
//!            · CRC32C of these 12 B, the meta and the sequence as u64 · meta, padded to a multiple of 8
//!            its data stands behind all heads, in order, each padded to a multiple of 8
//! ```
//! The heads stand together so that recovery reads them and skips the data. Data of at least 32 KiB starts on a 4 KiB
//! boundary: its pages can then be sent as they are (sendfile moves 16 whole pages at a time).
//! The seed is random and nobody outside knows it: no stored object can look like a batch of its own directory.
//! All integers little-endian. Kind, version and meta belong to the journal's user.

use crc32c::{crc32c, crc32c_append};

/// O_DIRECT and batches are in whole sectors of this size.
pub const SECTOR_BYTES: usize = 4096;
/// Data of at least this many bytes starts on a sector boundary.
pub const ALIGNED_BYTES_MIN: u32 = 32 << 10;
/// The most a record's meta can be.
pub const META_BYTES_MAX: usize = 80;
/// What this build writes.
pub const VERSION: u16 = 1;
/// Bytes of a batch header.
pub const BATCH_HEADER_BYTES: usize = 64;
const HEAD_BYTES: usize = 16;
/// No sequence is as high: whatever a batch claims to begin with, there are next ones.
const SEQUENCE_MAX: u64 = 1 << 62;
const MAGIC: u32 = u32::from_le_bytes(*b"BSLJ");

/// What a journal is for; part of the names of its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Purpose {
    /// Packed objects of the tier.
    Pack = 1,
    /// The tier's index.
    Index = 2,
    /// A checkpoint of the index: written once, whole.
    Checkpoint = 3,
}

impl Purpose {
    const ALL: [Purpose; 3] = [Purpose::Pack, Purpose::Index, Purpose::Checkpoint];

    /// As file names have it.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Pack => "pack",
            Purpose::Index => "index",
            Purpose::Checkpoint => "checkpoint",
        }
    }

    /// The purpose of that name.
    pub fn from_name(name: &str) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// A record's meta: small, read without its data.
#[derive(Clone, Copy)]
pub struct Meta {
    len: u8,
    bytes: [u8; META_BYTES_MAX],
}

impl Meta {
    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Meta {
        assert!(bytes.len() <= META_BYTES_MAX, "meta of {} bytes", bytes.len());
        let mut meta = Meta { len: bytes.len() as u8, bytes: [0; META_BYTES_MAX] };
        meta.bytes[..bytes.len()].copy_from_slice(bytes);
        meta
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialEq for Meta {
    fn eq(&self, other: &Meta) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Meta {}

impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// A record without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it says, in its user's words.
    pub kind: u8,
    /// Version of that kind's meta and data.
    pub version: u8,
    /// The shard it belongs to.
    pub shard: u8,
    /// Bytes of data.
    pub data_bytes: u32,
    /// CRC32C of the data.
    pub data_crc: u32,
    /// The rest.
    pub meta: Meta,
}

/// A batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Of the journal.
    pub purpose: Purpose,
    /// The journal: number of its first segment.
    pub journal: u32,
    /// The segment it was written into.
    pub segment: u32,
    /// Bytes of heads and data that follow the header.
    pub payload_bytes: u32,
    /// Bytes of heads.
    pub heads_bytes: u32,
    /// How many records.
    pub records: u32,
    /// Sequence of the first.
    pub first: u64,
    /// Everything before this sequence was synced when this batch was written.
    pub synced: u64,
    /// The journal's segment before this one. It may be gone: segments nobody wants are removed in any order.
    pub before: Option<u32>,
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No batch starts here: zeros or anything else.
    #[error("no batch header")]
    NoBatch,
    /// Written by a newer build.
    #[error("journal version {0} is newer than this build's {VERSION}")]
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

    /// Bytes from the start of the batch that hold its header and its records' heads.
    pub fn index_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.heads_bytes as usize
    }

    /// Sequence after its last record.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.records)
    }

    fn encode(&self, seed: u32, out: &mut [u8]) {
        out[..BATCH_HEADER_BYTES].fill(0);
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&(self.purpose as u16).to_le_bytes());
        out[8..12].copy_from_slice(&self.journal.to_le_bytes());
        out[12..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..20].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[20..24].copy_from_slice(&self.heads_bytes.to_le_bytes());
        out[24..28].copy_from_slice(&self.records.to_le_bytes());
        out[32..40].copy_from_slice(&self.first.to_le_bytes());
        out[40..48].copy_from_slice(&self.synced.to_le_bytes());
        out[48..52].copy_from_slice(&self.before.map_or(0, |n| n + 1).to_le_bytes());
        let crc = crc32c_append(seed, &out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header.
    pub fn decode(seed: u32, bytes: &[u8]) -> Result<Batch, BatchError> {
        if bytes.len() < BATCH_HEADER_BYTES || u32_at(bytes, 0) != MAGIC {
            return Err(BatchError::NoBatch);
        }
        if u32_at(bytes, 60) != crc32c_append(seed, &bytes[..60]) {
            return Err(BatchError::Damaged("batch header checksum"));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version > VERSION {
            return Err(BatchError::Newer(version));
        }
        let purpose = u16::from_le_bytes([bytes[6], bytes[7]]);
        let purpose = Purpose::ALL.into_iter().find(|&p| p as u16 == purpose);
        let batch = Batch {
            purpose: purpose.ok_or(BatchError::Damaged("purpose"))?,
            journal: u32_at(bytes, 8),
            segment: u32_at(bytes, 12),
            payload_bytes: u32_at(bytes, 16),
            heads_bytes: u32_at(bytes, 20),
            records: u32_at(bytes, 24),
            first: u64_at(bytes, 32),
            synced: u64_at(bytes, 40),
            before: u32_at(bytes, 48).checked_sub(1),
        };
        let sound = batch.heads_bytes <= batch.payload_bytes
            && u64::from(batch.records) * HEAD_BYTES as u64 <= u64::from(batch.heads_bytes)
            && batch.synced <= batch.first
            && batch.first <= SEQUENCE_MAX;
        if sound { Ok(batch) } else { Err(BatchError::Damaged("batch header bounds")) }
    }

    /// The records, each with the offset of its data from the start of the batch. `bytes` holds at least
    /// [`Batch::index_bytes`]; data is not looked at.
    pub fn frames(&self, bytes: &[u8]) -> Result<Vec<(Frame, u32)>, BatchError> {
        let heads = bytes.get(BATCH_HEADER_BYTES..self.index_bytes());
        let mut rest = heads.ok_or(BatchError::Damaged("more heads than bytes"))?;
        let mut frames = Vec::with_capacity(self.records as usize);
        let mut at = self.index_bytes();
        for sequence in self.first..self.end() {
            let (frame, after) = Frame::decode(rest, sequence)?;
            rest = after;
            at = data_start(at, frame.data_bytes);
            frames.push((frame, at as u32));
            at += padded(frame.data_bytes as usize);
        }
        if !rest.is_empty() || at != BATCH_HEADER_BYTES + self.payload_bytes as usize {
            return Err(BatchError::Damaged("batch is not as long as its records"));
        }
        Ok(frames)
    }
}

impl Frame {
    /// Bytes of the head.
    pub fn head_bytes(&self) -> usize {
        HEAD_BYTES + padded(usize::from(self.meta.len))
    }

    /// Bytes this record takes in a batch, alignment aside.
    pub fn bytes(&self) -> usize {
        self.head_bytes() + padded(self.data_bytes as usize)
    }

    fn encode(&self, sequence: u64, out: &mut [u8]) {
        out[0..4].copy_from_slice(&self.data_bytes.to_le_bytes());
        out[4..8].copy_from_slice(&self.data_crc.to_le_bytes());
        out[8..12].copy_from_slice(&[self.kind, self.version, self.shard, self.meta.len]);
        let meta = self.meta.as_slice();
        out[HEAD_BYTES..][..meta.len()].copy_from_slice(meta);
        out[HEAD_BYTES + meta.len()..].fill(0);
        let crc = head_crc(out, sequence);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    fn decode(bytes: &[u8], sequence: u64) -> Result<(Frame, &[u8]), BatchError> {
        let damaged = BatchError::Damaged("record head");
        let len = *bytes.get(11).ok_or(damaged)?;
        let end = HEAD_BYTES + padded(usize::from(len));
        if usize::from(len) > META_BYTES_MAX || bytes.len() < end {
            return Err(damaged);
        }
        let (head, rest) = bytes.split_at(end);
        if u32_at(head, 12) != head_crc(head, sequence) {
            return Err(BatchError::Damaged("record head checksum"));
        }
        let frame = Frame {
            data_bytes: u32_at(head, 0),
            data_crc: u32_at(head, 4),
            kind: head[8],
            version: head[9],
            shard: head[10],
            meta: Meta::new(&head[HEAD_BYTES..HEAD_BYTES + usize::from(len)]),
        };
        Ok((frame, rest))
    }
}

/// Over the sequence too: a record is valid in its own place only.
fn head_crc(head: &[u8], sequence: u64) -> u32 {
    let crc = crc32c_append(crc32c(&head[..12]), &head[HEAD_BYTES..]);
    crc32c_append(crc, &sequence.to_le_bytes())
}

fn data_start(at: usize, data_bytes: u32) -> usize {
    if data_bytes >= ALIGNED_BYTES_MIN { at.next_multiple_of(SECTOR_BYTES) } else { at }
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Where heads and data end in a batch of these records.
fn ends<'f>(frames: impl Iterator<Item = &'f Frame> + Clone) -> (usize, usize) {
    let heads: usize = frames.clone().map(Frame::head_bytes).sum();
    let heads_end = BATCH_HEADER_BYTES + heads;
    let end = frames.fold(heads_end, |at, f| data_start(at, f.data_bytes) + padded(f.data_bytes as usize));
    (heads_end, end)
}

/// Bytes that a batch of these records takes on disk.
pub fn batch_bytes<'f>(frames: impl Iterator<Item = &'f Frame> + Clone) -> usize {
    ends(frames).1.next_multiple_of(SECTOR_BYTES)
}

/// Writes a batch to the start of `out`; returns the offset of each record's data from there. The counts of `batch` are
/// filled in here.
pub fn encode_batch(seed: u32, batch: Batch, items: &[(Frame, &[u8])], out: &mut [u8]) -> Vec<u32> {
    let (heads_end, end) = ends(items.iter().map(|(f, _)| f));
    let mut offsets = Vec::with_capacity(items.len());
    let (mut head_at, mut filled) = (BATCH_HEADER_BYTES, heads_end);
    for (sequence, (frame, data)) in (batch.first..).zip(items) {
        assert_eq!(data.len(), frame.data_bytes as usize, "record and data disagree");
        frame.encode(sequence, &mut out[head_at..head_at + frame.head_bytes()]);
        head_at += frame.head_bytes();
        let from = data_start(filled, frame.data_bytes);
        out[filled..from].fill(0);
        out[from..from + data.len()].copy_from_slice(data);
        let to = from + padded(data.len());
        out[from + data.len()..to].fill(0);
        offsets.push(from as u32);
        filled = to;
    }
    assert!(head_at == heads_end && filled == end, "layout and encoding disagree");
    out[end..end.next_multiple_of(SECTOR_BYTES)].fill(0);
    let payload_bytes = (end - BATCH_HEADER_BYTES) as u32;
    let heads_bytes = (heads_end - BATCH_HEADER_BYTES) as u32;
    Batch { payload_bytes, heads_bytes, records: items.len() as u32, ..batch }.encode(seed, out);
    offsets
}

/// Whether the data of every record in a whole batch is what it was.
pub fn check_data(bytes: &[u8], frames: &[(Frame, u32)]) -> Result<(), BatchError> {
    for (frame, at) in frames {
        let (from, to) = (*at as usize, *at as usize + frame.data_bytes as usize);
        let data = bytes.get(from..to).ok_or(BatchError::Damaged("batch cut short"))?;
        if crc32c(data) != frame.data_crc {
            return Err(BatchError::Damaged("data checksum"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
