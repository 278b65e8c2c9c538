//! Disk → state: reads every segment once, keeps the newest record of each object, routes it to today's owner.
//!
//! Called once at start, on one column, before any serves. Straight I/O; what holds is decided by `Newest`.
//!
//! Invariants
//! 1. Damage in the last batch of a segment is a torn tail and is cut (only unacknowledged records can be in it);
//!    damage before it is corruption: an error that names file and offset, and nothing is changed.
//! 2. The old index segments are removed only after the new one, which says all they said, is synced.
//! 3. A file that no record names is removed; an object whose file is missing or of another size is reported and left out.

use super::digest::Digest;
use super::index::{Entry, NOT_HELD, Place};
use super::log::is_full;
use super::names::{Names, SECTOR_BYTES, SegmentKind};
use super::object::disk_bytes;
use super::record::{
    BATCH_HEADER_BYTES, Batch, Record, RecordError, RecordKind, batch_bytes, check_data, encode_batch,
};
use super::segment::Segment;
use crate::budget::Budget;
use crate::buffer::Buffer;
use crate::hash::{Hashing, hashing};
use crate::io::{File, Io, Open};
use crate::planted::{self, Bug};
use crate::shards::{SHARDS, ShardMap};
use hashbrown::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Read at a time; many small batches, or the headers of a large one.
const WINDOW_BYTES: usize = 256 << 10;
/// Records in one batch of the rewritten index.
const REWRITE_RECORDS: usize = 4096;

/// Why a data directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A file is damaged where it may not be.
    #[error("{path} is corrupt at offset {1}: {2}", path = .0.display())]
    Corrupt(PathBuf, u64, RecordError),
    /// The disk failed.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, io::Error),
}

/// What one column starts with.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Its objects.
    pub entries: Vec<(Digest, Entry)>,
    /// Every pack segment on disk (columns share the live counts).
    pub segments: Vec<Arc<Segment>>,
    /// Segment numbers from here on are free.
    pub next_number: u32,
    /// Sequences from here on are free.
    pub next_sequence: u64,
}

/// The newest record of each object, and where it was found.
struct Newest {
    records: HashMap<Digest, (Record, u32, u32), Hashing>,
    sequence: u64,
}

impl Newest {
    fn new(seed: u64) -> Newest {
        Newest { records: HashMap::with_hasher(hashing(seed)), sequence: 0 }
    }

    fn offer(&mut self, record: Record, segment: u32, offset: u32) {
        self.sequence = self.sequence.max(record.sequence);
        let found = (record, segment, offset);
        self.records
            .entry(record.digest)
            .and_modify(|held| {
                if held.0.sequence < record.sequence || planted::is(Bug::StaleRecordWins) {
                    *held = found;
                }
            })
            .or_insert(found);
    }
}

/// A batch, where it starts, and its records.
type FoundBatch = (u64, Batch, Vec<(Record, u32)>);

struct SegmentFile {
    kind: SegmentKind,
    number: u32,
    path: PathBuf,
    /// Bytes of whole batches; what follows was never acknowledged.
    valid_bytes: u64,
}

/// Reads the directory and leaves it ready for use; counts what is there into `budget`.
pub async fn recover<I: Io>(
    io: &I,
    names: &Names,
    map: ShardMap,
    budget: &Budget,
) -> Result<Vec<Recovered>, RecoverError> {
    let found = io.list_dir(names.root()).await.map_err(|e| RecoverError::Io(names.root().to_owned(), e))?;
    let mut newest = Newest::new(io.random());
    let mut files = Vec::new();
    for (name, size) in found {
        if let Some((kind, number)) = Names::parse_segment(&name) {
            let path = names.segment(kind, number);
            let valid_bytes = read_segment(io, &path, kind, number, size, &mut newest).await?;
            files.push(SegmentFile { kind, number, path, valid_bytes });
        }
    }
    drop_missing_objects(io, names, &mut newest, budget).await?;
    let next_number = files.iter().map(|f| f.number + 1).max().unwrap_or(0);
    remove_empty(io, &mut files).await?;
    let kept = rewrite_index(io, names, next_number, &files, &newest, budget).await?;
    let segments = keep_segments(io, &files, &newest, budget).await?;
    for (name, _) in
        io.list_dir(&names.incoming_dir()).await.map_err(|e| RecoverError::Io(names.incoming_dir(), e))?
    {
        let path = names.incoming_dir().join(name);
        io.unlink(&path).await.map_err(|e| RecoverError::Io(path, e))?;
    }
    let next_number = next_number + u32::from(kept);
    Ok(route(newest, &segments, map, next_number))
}

async fn read_segment<I: Io>(
    io: &I,
    path: &std::path::Path,
    kind: SegmentKind,
    number: u32,
    size: u64,
    newest: &mut Newest,
) -> Result<u64, RecoverError> {
    let failed = |e| RecoverError::Io(path.to_owned(), e);
    let file = io.open(path, Open::ReadDirect).await.map_err(failed)?;
    let (mut at, mut number_next) = (0u64, 0u64);
    let mut last: Option<FoundBatch> = None;
    while at < size {
        let outcome = match read_batch_index(io, &file, at, size).await.map_err(failed)? {
            Ok((batch, _))
                if batch.kind != kind || batch.segment != number || batch.number != number_next =>
            {
                Err(RecordError::Damaged("batch of another place"))
            }
            other => other,
        };
        match outcome {
            Ok((batch, records)) => {
                if let Some((start, _, records)) = last.replace((at, batch, records)) {
                    records.iter().for_each(|(r, data_at)| newest.offer(*r, number, start as u32 + data_at));
                }
                at += batch.disk_bytes() as u64;
                number_next += 1;
            }
            Err(newer @ RecordError::Newer(_)) => {
                return Err(RecoverError::Corrupt(path.to_owned(), at, newer));
            }
            Err(e) => {
                refuse_later_batches(io, &file, (at, size), (kind, number, number_next), e)
                    .await
                    .map_err(failed)?
                    .map_err(|e| RecoverError::Corrupt(path.to_owned(), at, e))?;
                break;
            }
        }
    }
    let Some((start, batch, records)) = last else {
        return Ok(0);
    };
    if !is_whole(io, &file, start, &batch, &records, size).await.map_err(failed)? {
        return Ok(start);
    }
    records.iter().for_each(|(r, data_at)| newest.offer(*r, number, start as u32 + data_at));
    Ok(start + batch.disk_bytes() as u64)
}

type BatchIndex = Result<(Batch, Vec<(Record, u32)>), RecordError>;

/// The headers of the batch at `at`; the inner error is about the bytes, the outer about the disk.
async fn read_batch_index<I: Io>(io: &I, file: &I::File, at: u64, size: u64) -> io::Result<BatchIndex> {
    let buf = read(io, file, at, WINDOW_BYTES.min((size - at) as usize)).await?;
    let batch = match Batch::decode(&buf[..BATCH_HEADER_BYTES]) {
        Ok(batch) => batch,
        Err(e) => return Ok(Err(e)),
    };
    if at + batch.disk_bytes() as u64 > size || batch.index_bytes() > batch.disk_bytes() {
        return Ok(Err(RecordError::Damaged("batch beyond its segment")));
    }
    if batch.index_bytes() <= buf.capacity().min((size - at) as usize) {
        return Ok(batch.records(&buf).map(|r| (batch, r)));
    }
    drop(buf);
    let buf = read(io, file, at, batch.index_bytes()).await?;
    Ok(batch.records(&buf).map(|r| (batch, r)))
}

async fn read<I: Io>(io: &I, file: &I::File, at: u64, len: usize) -> io::Result<Buffer> {
    let buf = io.buffer(len).ok_or(io::ErrorKind::OutOfMemory)?;
    let (read, buf) = file.read_at(buf, len, at).await;
    read.map(|()| buf)
}

/// Damage is a torn tail only if no later batch of this segment is behind it.
async fn refuse_later_batches<I: Io>(
    io: &I,
    file: &I::File,
    (at, size): (u64, u64),
    (kind, number, number_next): (SegmentKind, u32, u64),
    damage: RecordError,
) -> io::Result<Result<(), RecordError>> {
    let mut window = at;
    while window < size {
        let len = WINDOW_BYTES.min((size - window) as usize);
        let buf = read(io, file, window, len).await?;
        let later = |sector: &[u8]| {
            Batch::decode(sector)
                .is_ok_and(|b| b.kind == kind && b.segment == number && b.number > number_next)
        };
        if buf[..len].chunks(SECTOR_BYTES).any(later) {
            return Ok(Err(damage));
        }
        window += len as u64;
    }
    Ok(Ok(()))
}

/// Whether the data of the last batch reached the disk whole.
async fn is_whole<I: Io>(
    io: &I,
    file: &I::File,
    start: u64,
    batch: &Batch,
    records: &[(Record, u32)],
    size: u64,
) -> io::Result<bool> {
    let len = batch.disk_bytes();
    if start + len as u64 > size {
        return Ok(false);
    }
    let buf = read(io, file, start, len).await?;
    Ok(check_data(&buf, records).is_ok() || planted::is(Bug::TornTailAccepted))
}

/// Leaves out objects whose file is not there, removes files that no record names, counts the rest.
async fn drop_missing_objects<I: Io>(
    io: &I,
    names: &Names,
    newest: &mut Newest,
    budget: &Budget,
) -> Result<(), RecoverError> {
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    for shard in 0..SHARDS {
        let dir = names.shard_dir(shard as u8);
        for (name, size) in io.list_dir(&dir).await.map_err(|e| RecoverError::Io(dir.clone(), e))? {
            let stem = name.strip_suffix(".sums").unwrap_or(&name);
            let digest = Digest::from_hex(stem.as_bytes()).ok();
            let wanted = digest
                .and_then(|d| newest.records.get(&d))
                .is_some_and(|(r, ..)| r.kind == RecordKind::Object);
            match digest {
                Some(digest) if wanted => {
                    if stem.len() == name.len() {
                        sizes.insert(digest, size);
                    }
                }
                _ => {
                    let path = dir.join(&name);
                    io.unlink(&path).await.map_err(|e| RecoverError::Io(path, e))?;
                }
            }
        }
    }
    newest.records.retain(|digest, (record, ..)| {
        let keep = record.kind != RecordKind::Object || sizes.get(digest) == Some(&record.size);
        if !keep {
            tracing::error!(%digest, size = record.size, found = ?sizes.get(digest), "object file is missing or of another size");
        } else if record.kind == RecordKind::Object {
            budget.adopt(disk_bytes(record.size));
        }
        keep
    });
    Ok(())
}

/// Segments without a batch go first: on a full disk their space is what the next steps need.
async fn remove_empty<I: Io>(io: &I, files: &mut Vec<SegmentFile>) -> Result<(), RecoverError> {
    for empty in files.extract_if(.., |f| f.valid_bytes == 0) {
        io.unlink(&empty.path).await.map_err(|e| RecoverError::Io(empty.path, e))?;
    }
    Ok(())
}

/// Writes one index segment with all that still matters and removes the old ones. True if there was anything to write.
async fn rewrite_index<I: Io>(
    io: &I,
    names: &Names,
    number: u32,
    files: &[SegmentFile],
    newest: &Newest,
    budget: &Budget,
) -> Result<bool, RecoverError> {
    // A deletion matters as long as a packed record of the same object may be on disk.
    let packs_exist = files.iter().any(|f| f.kind == SegmentKind::Pack);
    let matters = |r: &&Record| match r.kind {
        RecordKind::Object => true,
        RecordKind::Deleted => packs_exist,
        RecordKind::Packed => false,
    };
    let records: Vec<Record> = newest.records.values().map(|(r, ..)| r).filter(matters).copied().collect();
    let old_index = || files.iter().filter(|f| f.kind == SegmentKind::Index);
    if !records.is_empty() {
        let path = names.segment(SegmentKind::Index, number);
        match write_index(io, &path, number, &records).await {
            Ok(bytes) => budget.adopt(bytes),
            // A full disk: the old ones stay until a start that finds room.
            Err(e) if is_full(&e) => {
                let _ = io.unlink(&path).await;
                old_index().for_each(|f| budget.adopt(f.valid_bytes));
                return Ok(false);
            }
            Err(e) => return Err(RecoverError::Io(path, e)),
        }
    }
    io.sync_dir(names.root()).await.map_err(|e| RecoverError::Io(names.root().to_owned(), e))?;
    for old in old_index() {
        io.unlink(&old.path).await.map_err(|e| RecoverError::Io(old.path.clone(), e))?;
    }
    Ok(!records.is_empty())
}

async fn write_index<I: Io>(
    io: &I,
    path: &std::path::Path,
    number: u32,
    records: &[Record],
) -> io::Result<u64> {
    let file = io.open(path, Open::CreateDirect).await?;
    let mut at = 0;
    for (i, part) in records.chunks(REWRITE_RECORDS).enumerate() {
        let items: Vec<(Record, &[u8])> = part.iter().map(|r| (*r, &[][..])).collect();
        let bytes = batch_bytes(part.iter());
        let mut buf = io.buffer(bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        encode_batch(SegmentKind::Index, number, i as u64, &items, &mut buf);
        file.write_at(buf, bytes, at).await.0?;
        at += bytes as u64;
    }
    file.sync_data().await?;
    Ok(at)
}

/// Counts what is live in each pack, cuts torn tails and unused space, removes packs nobody wants.
async fn keep_segments<I: Io>(
    io: &I,
    files: &[SegmentFile],
    newest: &Newest,
    budget: &Budget,
) -> Result<Vec<Arc<Segment>>, RecoverError> {
    let mut live: HashMap<u32, u64> = HashMap::new();
    for (record, segment, _) in newest.records.values().filter(|(r, ..)| r.kind == RecordKind::Packed) {
        *live.entry(*segment).or_default() += record.batch_bytes() as u64;
    }
    let mut kept = Vec::new();
    for pack in files.iter().filter(|f| f.kind == SegmentKind::Pack) {
        let failed = |e| RecoverError::Io(pack.path.clone(), e);
        let Some(&bytes) = live.get(&pack.number) else {
            io.unlink(&pack.path).await.map_err(failed)?;
            continue;
        };
        let file = io.open(&pack.path, Open::WriteDirect).await.map_err(failed)?;
        file.truncate(pack.valid_bytes).await.map_err(failed)?;
        // A process that was killed may have left its last batch written and not synced. From here on it counts as stored.
        if !planted::is(Bug::RecoveredUnsynced) {
            file.sync_data().await.map_err(failed)?;
        }
        budget.adopt(pack.valid_bytes);
        let segment = Segment::new(SegmentKind::Pack, pack.number, pack.valid_bytes, true);
        segment.add_live(bytes);
        kept.push(segment);
    }
    Ok(kept)
}

fn route(newest: Newest, segments: &[Arc<Segment>], map: ShardMap, next_number: u32) -> Vec<Recovered> {
    let next_sequence = newest.sequence + 1;
    let mut columns: Vec<Recovered> = (0..map.columns())
        .map(|_| Recovered { segments: segments.to_vec(), next_number, next_sequence, entries: Vec::new() })
        .collect();
    for (digest, (record, segment, offset)) in newest.records {
        let place = match record.kind {
            RecordKind::Packed => Place::Packed { segment, offset },
            RecordKind::Object => Place::Object,
            RecordKind::Deleted => continue,
        };
        let Record { size, sequence, expires_ms, data_crc: crc, evictable, .. } = record;
        let entry = Entry { place, size, sequence, expires_ms, crc, evictable, held: NOT_HELD };
        columns[map.owner(digest.shard())].entries.push((digest, entry));
    }
    columns
}
