//! A checkpoint: all that a column knew of its objects on one disk, in one file, so that recovery reads only what came after.
//!
//! ```text
//! checkpoint-<number> = part*, trailer
//! part     = the objects of one shard: batches of `file` and `listed` records (journal format), then batches of `origin` records
//!            (version 1 had none of these)
//! trailer  = one sector: magic "BSLC" u32 · version u16 · zeros u16 · number u32 · zeros u32
//!            · pack mark, index mark (segment u32 · offset u32 · sequence u64 each) · next sequence u64
//!            · 256 parts (first sector u32, or all ones: another column's shard · records u32) · zeros
//!            · CRC32C of the directory's seed and the 4092 B before
//! ```
//! It is written as `new-checkpoint-<number>` and gets its name when it is whole and synced, so one that has its name and does
//! not check is corruption. The newest one that has a shard speaks for it: what journals say before its marks is known.
//!
//! Called by `shard/keep.rs` (writing) and by recovery.

use super::index::Place;
use super::record::{self, Entry, ORIGIN_BYTES_MAX, Origin, Record, Said};
use crate::buffer::Buffer;
use crate::io::{Class, File, Io, Open};
use crate::journal::{
    BATCH_HEADER_BYTES, Batch, BatchError, Frame, Mark, NUMBER_MAX, Purpose, SECTOR_BYTES, ScanError, Store,
    batch_bytes, buffer_in_time, check_data, encode_batch, segment_path,
};
use crate::planted::{self, Bug};
use crate::shards::SHARDS;
use crc32c::crc32c_append;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: u32 = u32::from_le_bytes(*b"BSLC");
const VERSION: u16 = 2;
const PARTS_AT: usize = 64;
const FOREIGN: u32 = u32::MAX;
/// Bytes that a record takes in a batch at least: head and meta of an origin.
const RECORD_BYTES_MIN: u64 = 56;
/// Bytes that a record of an object takes in a batch at most: head and meta of one that is listed.
const RECORD_BYTES_MAX: u64 = 88;
/// Records in one batch.
const BATCH_RECORDS: usize = 2048;
/// Origins in one batch.
const BATCH_ORIGINS: usize = 64;
/// A batch is read whole in one go.
const BATCH_BYTES_MAX: usize = 256 << 10;
const _: () = assert!(BATCH_ORIGINS * (ORIGIN_BYTES_MAX + 64) + SECTOR_BYTES < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_RECORDS * 96 + SECTOR_BYTES < BATCH_BYTES_MAX);

/// What a checkpoint says of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its objects.
    pub records: Vec<Record>,
    /// Where objects came from, those that are gone included.
    pub origins: Vec<Origin>,
}

/// Where one shard is in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First sector.
    pub sector: u32,
    /// How many records.
    pub records: u32,
}

/// The last sector of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Its number.
    pub number: u32,
    /// What packs held before this is in here.
    pub pack: Mark,
    /// What the index journal said before this is in here.
    pub index: Mark,
    /// Sequences from here on were free.
    pub next_sequence: u64,
    /// By shard; `None`: another column's.
    pub parts: Vec<Option<Part>>,
}

impl Trailer {
    /// Writes it into a sector.
    pub fn encode(&self, seed: u32, out: &mut [u8]) {
        out[..SECTOR_BYTES].fill(0);
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..12].copy_from_slice(&self.number.to_le_bytes());
        encode_mark(&self.pack, &mut out[16..32]);
        encode_mark(&self.index, &mut out[32..48]);
        out[48..56].copy_from_slice(&self.next_sequence.to_le_bytes());
        for (slot, part) in out[PARTS_AT..].chunks_exact_mut(8).zip(&self.parts) {
            let (sector, records) = part.map_or((FOREIGN, 0), |p| (p.sector, p.records));
            slot[..4].copy_from_slice(&sector.to_le_bytes());
            slot[4..].copy_from_slice(&records.to_le_bytes());
        }
        let crc = crc32c_append(seed, &out[..SECTOR_BYTES - 4]);
        out[SECTOR_BYTES - 4..SECTOR_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a sector.
    pub fn decode(seed: u32, bytes: &[u8]) -> Result<Trailer, BatchError> {
        if bytes.len() != SECTOR_BYTES || u32_at(bytes, 0) != MAGIC {
            return Err(BatchError::Damaged("no checkpoint trailer"));
        }
        if u32_at(bytes, SECTOR_BYTES - 4) != crc32c_append(seed, &bytes[..SECTOR_BYTES - 4]) {
            return Err(BatchError::Damaged("checkpoint trailer checksum"));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version > VERSION {
            return Err(BatchError::Newer(version));
        }
        let part = |slot: &[u8]| {
            let (sector, records) = (u32_at(slot, 0), u32_at(slot, 4));
            (sector != FOREIGN).then_some(Part { sector, records })
        };
        let trailer = Trailer {
            number: u32_at(bytes, 8),
            pack: decode_mark(&bytes[16..32]),
            index: decode_mark(&bytes[32..48]),
            next_sequence: u64_at(bytes, 48),
            parts: bytes[PARTS_AT..PARTS_AT + SHARDS * 8].chunks_exact(8).map(part).collect(),
        };
        // Numbers and sequences go on behind the highest that is named.
        let can_go_on = |mark: &Mark| mark.segment <= NUMBER_MAX && mark.sequence <= record::SEQUENCE_MAX;
        let sound = can_go_on(&trailer.pack)
            && can_go_on(&trailer.index)
            && trailer.next_sequence <= record::SEQUENCE_MAX + 1;
        if sound { Ok(trailer) } else { Err(BatchError::Damaged("checkpoint trailer bounds")) }
    }
}

fn encode_mark(mark: &Mark, out: &mut [u8]) {
    out[0..4].copy_from_slice(&mark.segment.to_le_bytes());
    out[4..8].copy_from_slice(&mark.offset.to_le_bytes());
    out[8..16].copy_from_slice(&mark.sequence.to_le_bytes());
}

fn decode_mark(bytes: &[u8]) -> Mark {
    Mark { segment: u32_at(bytes, 0), offset: u32_at(bytes, 4), sequence: u64_at(bytes, 8) }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What a checkpoint says of an object.
pub fn record_of(digest: super::Digest, entry: &super::index::Entry) -> Record {
    Record {
        said: match entry.place {
            Place::Packed { segment, offset } => Said::Listed { segment, offset },
            Place::Object => Said::File,
        },
        digest,
        sequence: entry.sequence,
        expires_ms: entry.expires_ms,
        size: entry.size,
        crc: entry.crc,
        evictable: entry.evictable,
        pinned: entry.pinned,
    }
}

/// A checkpoint being written.
pub struct CheckpointWriter<I: Io> {
    store: Store<I>,
    file: I::File,
    new_path: PathBuf,
    at: u64,
    records: u64,
    trailer: Trailer,
}

/// More than a checkpoint of so many objects and `origins` (how many, and their bytes) in `shards` takes on disk.
pub fn bytes_max(records: u64, (origins, origin_bytes): (u64, u64), shards: u64) -> u64 {
    let batches = records / BATCH_RECORDS as u64 + records.min(shards);
    let batches = batches + origins / BATCH_ORIGINS as u64 + origins.min(shards);
    let sector_bytes = SECTOR_BYTES as u64;
    // A batch has a head, and a part of a sector that is empty; the trailer is one.
    records * RECORD_BYTES_MAX
        + origin_bytes
        + batches * (BATCH_HEADER_BYTES as u64 + sector_bytes)
        + sector_bytes
}

fn new_path(root: &Path, number: u32) -> PathBuf {
    root.join(format!("new-checkpoint-{number:010}"))
}

/// Whether a file is a checkpoint that was never finished.
pub fn is_unfinished(name: &str) -> bool {
    name.strip_prefix("new-").and_then(crate::journal::parse_name).is_some()
}

impl<I: Io> CheckpointWriter<I> {
    /// Begins one that will speak for all that was written before the marks.
    pub async fn create(
        store: &Store<I>,
        (pack, index): (Mark, Mark),
        next_sequence: u64,
    ) -> io::Result<CheckpointWriter<I>> {
        let number = store.take_number()?;
        let new_path = new_path(store.root(), number);
        let file = store.io().open(&new_path, Open::CreateDirect).await?.classed(Class::Compaction);
        let trailer = Trailer { number, pack, index, next_sequence, parts: vec![None; SHARDS] };
        Ok(CheckpointWriter { store: store.clone(), file, new_path, at: 0, records: 0, trailer })
    }

    /// Adds a shard.
    pub async fn add(&mut self, shard: usize, contents: &Contents) -> io::Result<()> {
        let sector = u32::try_from(self.at / SECTOR_BYTES as u64).map_err(io::Error::other)?;
        let Contents { records, origins } = contents;
        self.trailer.parts[shard] = Some(Part { sector, records: (records.len() + origins.len()) as u32 });
        for part in records.chunks(BATCH_RECORDS) {
            let frames: Vec<(Frame, &[u8])> = part.iter().map(|r| (r.frame(), &[][..])).collect();
            self.write_batch(&frames).await?;
        }
        for part in origins.chunks(BATCH_ORIGINS) {
            let frames: Vec<(Frame, &[u8])> = part.iter().map(|o| (o.frame(), o.url.as_bytes())).collect();
            self.write_batch(&frames).await?;
        }
        Ok(())
    }

    async fn write_batch(&mut self, frames: &[(Frame, &[u8])]) -> io::Result<()> {
        let bytes = batch_bytes(frames.iter().map(|(f, _)| f));
        let mut buf = buffer_in_time(self.store.io(), bytes).await?;
        let number = self.trailer.number;
        let batch = Batch {
            purpose: Purpose::Checkpoint,
            journal: number,
            segment: number,
            payload_bytes: 0,
            heads_bytes: 0,
            records: 0,
            first: self.records,
            synced: 0,
            before: None,
        };
        encode_batch(self.store.seed(), batch, frames, &mut buf);
        self.store.take_for_checkpoint(bytes as u64);
        self.file.write_at(buf, bytes, self.at).await.0?;
        self.at += bytes as u64;
        self.records += frames.len() as u64;
        Ok(())
    }

    /// Makes it hold: synced, then named. Returns its number and bytes. To be discarded on an error, as after one of [`Self::add`].
    pub async fn finish(&mut self) -> io::Result<(u32, u64)> {
        let (io, root) = (self.store.io(), self.store.root());
        // The trailer vouches for the parts, so they are synced first.
        self.file.sync_data().await?;
        let mut buf = buffer_in_time(io, SECTOR_BYTES).await?;
        self.trailer.encode(self.store.seed(), &mut buf);
        self.store.take_for_checkpoint(SECTOR_BYTES as u64);
        self.file.write_sync(buf, SECTOR_BYTES, self.at).await.0?;
        let bytes = self.at + SECTOR_BYTES as u64;
        let number = self.trailer.number;
        io.rename(&self.new_path, &segment_path(root, Purpose::Checkpoint, number)).await?;
        if !planted::is(Bug::CheckpointNameUnsynced) {
            io.sync_dir(root).await?;
        }
        self.store.end_checkpoint(true);
        self.store.on_written(bytes);
        Ok((number, bytes))
    }

    /// Gives up.
    pub async fn discard(self) {
        let removed = self.store.io().unlink(&self.new_path).await;
        self.store.end_checkpoint(removed.is_err());
    }
}

/// Reads the trailer of a checkpoint of `size` bytes.
pub async fn read_trailer<I: Io>(
    io: &I,
    seed: u32,
    path: &Path,
    number: u32,
    size: u64,
) -> Result<Trailer, ScanError> {
    let corrupt = |at, damage| ScanError::Corrupt(path.to_owned(), at, damage);
    let sector = SECTOR_BYTES as u64;
    if size < sector || !size.is_multiple_of(sector) {
        return Err(corrupt(0, BatchError::Damaged("checkpoint of another length")));
    }
    let read = async {
        let file = io.open(path, Open::ReadDirect).await?;
        let buf = buffer_in_time(io, SECTOR_BYTES).await?;
        let (read, buf) = file.read_at(buf, SECTOR_BYTES, size - sector).await;
        read.map(|()| buf)
    };
    let buf: Buffer = read.await.map_err(|e| ScanError::Io(path.to_owned(), e))?;
    let trailer = Trailer::decode(seed, &buf[..SECTOR_BYTES]).map_err(|e| corrupt(size - sector, e))?;
    if trailer.number != number {
        return Err(corrupt(size - sector, BatchError::Damaged("checkpoint of another number")));
    }
    Ok(trailer)
}

/// Reads one shard of a checkpoint.
pub async fn read_part<I: Io>(
    io: &I,
    seed: u32,
    path: &Path,
    number: u32,
    part: Part,
) -> Result<Contents, ScanError> {
    let failed = |e| ScanError::Io(path.to_owned(), e);
    let mut found = Contents::default();
    if part.records == 0 {
        return Ok(found);
    }
    let file = io.open(path, Open::ReadDirect).await.map_err(failed)?;
    let size = file.size().await.map_err(failed)?;
    let mut at = u64::from(part.sector) * SECTOR_BYTES as u64;
    if u64::from(part.records) * RECORD_BYTES_MIN > size {
        let damage = BatchError::Damaged("more records than its checkpoint can hold");
        return Err(ScanError::Corrupt(path.to_owned(), at, damage));
    }
    while found.count() < part.records as usize {
        let corrupt = |damage| ScanError::Corrupt(path.to_owned(), at, damage);
        let len = (BATCH_BYTES_MAX as u64).min(size.saturating_sub(at)) as usize;
        if len < SECTOR_BYTES {
            return Err(corrupt(BatchError::Damaged("part beyond its checkpoint")));
        }
        let buf = buffer_in_time(io, len).await.map_err(failed)?;
        let (read, buf) = file.read_at(buf, len, at).await;
        read.map_err(failed)?;
        let batch_bytes = found.take_batch(seed, number, &buf[..len]).map_err(corrupt)?;
        if found.count() > part.records as usize {
            return Err(corrupt(BatchError::Damaged("more records than the trailer says")));
        }
        at += batch_bytes as u64;
    }
    Ok(found)
}

impl Contents {
    /// How many records of either kind.
    pub fn count(&self) -> usize {
        self.records.len() + self.origins.len()
    }

    /// Takes the records of one batch of checkpoint `number`; returns the bytes it takes on disk.
    pub fn take_batch(&mut self, seed: u32, number: u32, bytes: &[u8]) -> Result<usize, BatchError> {
        let batch = Batch::decode(seed, bytes)?;
        if batch.purpose != Purpose::Checkpoint || batch.segment != number {
            return Err(BatchError::Damaged("batch of another place"));
        }
        let frames = batch.frames(bytes)?;
        check_data(bytes, &frames)?;
        for &(ref frame, data_at) in &frames {
            let data = &bytes[data_at as usize..(data_at + frame.data_bytes) as usize];
            self.take(frame, data).ok_or(BatchError::Damaged("record of another kind"))?;
        }
        Ok(batch.disk_bytes())
    }

    fn take(&mut self, frame: &Frame, data: &[u8]) -> Option<()> {
        match record::read(frame).ok()? {
            Entry::Object(record) => self.records.push(record),
            Entry::Origin(digest, sequence) => self.origins.push(Origin::read(digest, sequence, data).ok()?),
            Entry::Covered { .. } => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: u32 = 77;

    fn trailer() -> Trailer {
        let part = |s: usize| s.is_multiple_of(2).then_some(Part { sector: s as u32, records: 3 });
        Trailer {
            number: 12,
            pack: Mark { segment: 3, offset: 4096, sequence: 99 },
            index: Mark { segment: 4, offset: 8192, sequence: 100 },
            next_sequence: 1 << 40,
            parts: (0..SHARDS).map(part).collect(),
        }
    }

    #[test]
    fn every_flipped_byte_of_a_trailer_is_noticed() {
        let mut bytes = vec![0xee; SECTOR_BYTES];
        trailer().encode(SEED, &mut bytes);
        assert_eq!(Trailer::decode(SEED, &bytes), Ok(trailer()));
        for at in 0..SECTOR_BYTES {
            bytes[at] ^= 0x20;
            assert!(Trailer::decode(SEED, &bytes).is_err(), "flip at {at} went unnoticed");
            bytes[at] ^= 0x20;
        }
    }

    proptest! {
        #[test]
        fn any_sector_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), SECTOR_BYTES)) {
            prop_assert!(Trailer::decode(SEED, &bytes).is_err());
        }
    }
}
