//! Disk → state, first part: what was written since the newest checkpoints. Little enough to read before the node serves; the
//! checkpoints themselves are read shard by shard, first those that are asked for (`shard/load.rs`).
//!
//! Called once at start, on one column, before any serves. Straight I/O; what holds is decided by `Tail`.
//!
//! Invariants
//! 1. A record at or behind its shard's mark is read; one before it is in the checkpoint already. The highest sequence holds.
//! 2. On corruption nothing in the directory has been changed; a seed that is not that of the journals counts as such.
//! 3. A file is removed only when a checkpoint or the journals say all that it said.

use super::checkpoint::{Part, Trailer, is_unfinished, read_trailer};
use super::digest::Digest;
use super::disk::DiskPlan;
use super::index::{Entry, NOT_HELD, Place};
use super::names::Names;
use super::readiness::Readiness;
use super::record::{self, Entry as Read, Origin, Record, RecordError, Said};
use crate::budget::Budget;
use crate::io::{Class, File, Io, Open};
use crate::journal::{
    Mark, NUMBER_MAX, Purpose, ScanError, ScanPlan, Segment, What, buffer_in_time, is_of_seed, parse_name,
    peek, scan, segment_path,
};
use crate::planted::{self, Bug};
use crate::shards::{SHARDS, Shard, ShardMap};
use hashbrown::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// More than any run of the node ever says.
const RUN_RECORDS_MAX: u64 = 1 << 40;
/// Sequences that begin with a date leave room for so many (as bits) in a millisecond: two runs, each without the other's
/// disk, are in order.
const MS_SHIFT: u32 = 20;

/// Read and written again at a time.
const REWRITE_BYTES: usize = 256 << 10;

/// Why a data directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A file is damaged where it may not be, or the disk failed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A record that this build does not understand.
    #[error("{path} at offset {1}: {2}", path = .0.display())]
    Record(PathBuf, u64, RecordError),
    /// Not one journal is of the directory's seed.
    #[error("{path} says a seed that none of the journals beside it has: it, or they, are damaged or of another directory", path = .0.display())]
    Seed(PathBuf),
    /// A segment that no node has written.
    #[error("{path}: no segment has a number above {NUMBER_MAX}", path = .0.display())]
    Number(PathBuf),
    /// The disk failed.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, io::Error),
}

impl RecoverError {
    /// Whether the disk failed, rather than the bytes on it being wrong.
    pub fn is_io(&self) -> bool {
        matches!(self, RecoverError::Io(..) | RecoverError::Scan(ScanError::Io(..)))
    }
}

/// The newest that the journals say of an object since its shard's checkpoint.
pub type Tail = HashMap<Digest, Record, foldhash::fast::FixedState>;

/// The newest that was said of where an object came from.
pub type OriginTail = HashMap<Digest, Origin, foldhash::fast::FixedState>;

/// Takes what is said unless something newer is known.
pub(super) fn hear_origin(tail: &mut OriginTail, said: Origin) {
    if tail.get(&said.digest).is_none_or(|known| known.sequence < said.sequence) {
        tail.insert(said.digest, said);
    }
}

/// Where a shard is in a checkpoint.
#[derive(Clone, Debug)]
pub struct PartAt {
    /// The checkpoint.
    pub number: u32,
    /// In it.
    pub part: Part,
}

/// What earlier boots left on a disk, shared by the columns.
#[derive(Debug, Default)]
pub struct Old {
    /// Packs. They count as unsealed until every column has said what of them is live.
    pub packs: Vec<Arc<Segment>>,
    /// Index segments and checkpoints, with their bytes: not needed any more once every column has written a checkpoint.
    pub replaced: Vec<(Purpose, u32, u64)>,
    /// Columns that have yet to load.
    pub loading: AtomicUsize,
    /// Columns that have yet to write their first checkpoint.
    pub checkpointing: AtomicUsize,
}

/// What one column starts with, of one disk.
#[derive(Debug, Default)]
pub struct RecoveredDisk {
    /// What came after the checkpoints.
    pub tail: Tail,
    /// The same of origins.
    pub origins: OriginTail,
    /// By shard.
    pub parts: Vec<Option<PartAt>>,
    /// Segment numbers from here on are free.
    pub next_number: u32,
    /// What is there from before.
    pub old: Arc<Old>,
    /// Worth a checkpoint soon, so that the next start is quick.
    pub stale: bool,
    /// Why the disk cannot be used at all.
    pub out: Option<String>,
}

/// What one column starts with.
#[derive(Debug, Default)]
pub struct Recovered {
    /// In the order of the plan.
    pub disks: Vec<RecoveredDisk>,
    /// Sequences from here on are free.
    pub next_sequence: u64,
    /// Of all columns, and of all disks.
    pub readiness: Arc<Readiness>,
}

impl Record {
    /// What the index keeps of it; `None` if the object is gone. `at`: where a packed object's bytes are.
    pub(super) fn entry(&self, disk: u8) -> Option<Entry> {
        let place = match self.said {
            Said::Listed { segment, offset } => Place::Packed { segment, offset },
            Said::File => Place::Object,
            Said::Deleted => return None,
            Said::Packed => unreachable!("a packed record is kept as listed"),
        };
        let Record { size, sequence, expires_ms, crc, evictable, pinned, .. } = *self;
        Some(Entry { place, size, sequence, expires_ms, crc, evictable, pinned, disk, held: NOT_HELD })
    }
}

/// A segment file on disk.
#[derive(Clone, Copy, Debug)]
struct OnDisk {
    number: u32,
    bytes: u64,
}

/// What is in the directory.
#[derive(Default)]
struct Listing {
    packs: Vec<OnDisk>,
    indexes: Vec<OnDisk>,
    checkpoints: Vec<OnDisk>,
    /// Spares and unfinished checkpoints.
    scrap: Vec<String>,
    next_number: u32,
}

impl Listing {
    async fn read<I: Io>(io: &I, root: &Path) -> Result<Listing, RecoverError> {
        let mut listing = Listing::default();
        let found = io.list_dir(root).await.map_err(|e| RecoverError::Io(root.to_owned(), e))?;
        for (name, bytes) in found {
            let Some((purpose, number, spare)) = parse_name(&name) else {
                if is_unfinished(&name) {
                    listing.scrap.push(name);
                }
                continue;
            };
            if number > NUMBER_MAX {
                return Err(RecoverError::Number(root.join(name)));
            }
            listing.next_number = listing.next_number.max(number + 1);
            match purpose {
                _ if spare => listing.scrap.push(name),
                Purpose::Pack => listing.packs.push(OnDisk { number, bytes }),
                Purpose::Index => listing.indexes.push(OnDisk { number, bytes }),
                Purpose::Checkpoint => listing.checkpoints.push(OnDisk { number, bytes }),
            }
        }
        for files in [&mut listing.packs, &mut listing.indexes, &mut listing.checkpoints] {
            files.sort_unstable_by_key(|f| f.number);
        }
        Ok(listing)
    }
}

struct Survey<'s, I: Io> {
    io: &'s I,
    root: &'s Path,
    seed: u32,
    trailers: Vec<Trailer>,
    tail: Tail,
    origins: OriginTail,
    /// Packs whose records are in the index up to this offset.
    covered: HashMap<u32, u32>,
    /// The last segment of each journal, and the bytes of it that may not be synced: what was written last.
    last: Vec<(Purpose, u32, Range<u64>)>,
    next_sequence: u64,
    next_number: u32,
}

/// Reads what was written since the checkpoints of one disk, and leaves it ready for use; counts what is there into its budget.
pub async fn recover<I: Io>(
    io: &I,
    plan: &DiskPlan,
    map: ShardMap,
) -> Result<(Vec<RecoveredDisk>, u64), RecoverError> {
    let names = plan.dir.names();
    let root = names.root();
    let listing = Listing::read(io, root).await?;
    let mut survey = Survey {
        io,
        root,
        seed: plan.dir.seed(),
        trailers: Vec::new(),
        tail: Tail::default(),
        origins: OriginTail::default(),
        covered: HashMap::new(),
        last: Vec::new(),
        next_sequence: 1,
        next_number: listing.next_number,
    };
    survey.read_trailers(&listing.checkpoints).await?;
    survey.check_seed(&listing).await?;
    survey.read_indexes(&listing.indexes).await?;
    let kept = survey.read_packs(&listing.packs).await?;
    // All is known to be good: from here on the directory may be changed.
    let old = tidy(io, names, &listing, &kept, &plan.budget, map).await?;
    sync_last(io, root, &survey.last, &kept).await?;
    let unlisted = listing.indexes.len() + kept.iter().filter(|k| k.scanned).count();
    let next_sequence = survey.next_sequence;
    Ok((survey.route(map, Arc::new(old), unlisted > 0), next_sequence))
}

struct KeptPack {
    number: u32,
    bytes: u64,
    /// The file is longer than that.
    cut: bool,
    scanned: bool,
}

impl<I: Io> Survey<'_, I> {
    async fn read_trailers(&mut self, checkpoints: &[OnDisk]) -> Result<(), RecoverError> {
        for &OnDisk { number, bytes } in checkpoints {
            let path = segment_path(self.root, Purpose::Checkpoint, number);
            let trailer = read_trailer(self.io, self.seed, &path, number, bytes).await?;
            self.next_sequence = self.next_sequence.max(trailer.next_sequence);
            let marks = [trailer.pack.segment, trailer.index.segment].into_iter().max().unwrap_or(0);
            self.next_number = self.next_number.max(marks + 1);
            self.trailers.push(trailer);
        }
        Ok(())
    }

    /// Under another seed than theirs the journals would look empty, and be removed as what was never acknowledged. A
    /// checkpoint has proved the seed already.
    async fn check_seed(&self, listing: &Listing) -> Result<(), RecoverError> {
        if !self.trailers.is_empty() {
            return Ok(());
        }
        let indexes = listing.indexes.iter().map(|f| (Purpose::Index, f.number));
        let packs = listing.packs.iter().map(|f| (Purpose::Pack, f.number));
        let mut is_doubtful = false;
        for (purpose, number) in indexes.chain(packs) {
            let path = segment_path(self.root, purpose, number);
            match is_of_seed(self.io, self.seed, &path).await.map_err(|e| RecoverError::Io(path, e))? {
                Some(true) => return Ok(()),
                Some(false) => is_doubtful = true,
                None => {}
            }
        }
        if is_doubtful { Err(RecoverError::Seed(Names::new(self.root).format())) } else { Ok(()) }
    }

    /// The newest checkpoint that has a shard.
    fn newest(&self, shard: Shard) -> Option<&Trailer> {
        self.trailers.iter().rev().find(|t| t.parts[usize::from(shard.0)].is_some())
    }

    fn is_known(&self, shard: Shard, purpose: Purpose, segment: u32, offset: u32) -> bool {
        let Some(newest) = self.newest(shard) else { return false };
        let mark = if purpose == Purpose::Pack { newest.pack } else { newest.index };
        (segment, offset) < (mark.segment, mark.offset)
    }

    /// Where to start reading a segment; `None`: nowhere, every checkpoint knows all of it.
    fn start(&self, purpose: Purpose, segment: u32) -> Option<Mark> {
        let mark = |t: &Trailer| if purpose == Purpose::Pack { t.pack } else { t.index };
        let marks = (0..SHARDS).map(|s| self.newest(Shard(s as u8)).map(mark));
        let lowest = marks.map(|m| m.map_or(0, |m| m.segment)).min().unwrap_or(0);
        if segment < lowest {
            return None;
        }
        // The column that wrote it has said how far it knows it.
        let known = self.trailers.iter().map(mark).filter(|m| m.segment == segment).max();
        Some(known.unwrap_or(Mark { segment, offset: 0, sequence: 0 }))
    }

    async fn read_indexes(&mut self, indexes: &[OnDisk]) -> Result<(), RecoverError> {
        let wanted: Vec<(u32, Mark)> =
            indexes.iter().filter_map(|f| Some((f.number, self.start(Purpose::Index, f.number)?))).collect();
        let reach = self.reach(Purpose::Index, wanted.iter().map(|w| w.0)).await?;
        for (number, from) in wanted {
            self.read(Purpose::Index, number, from, reach.get(&number).copied()).await?;
        }
        Ok(())
    }

    /// By segment: with which sequence the one that was begun after it starts. If that is gone, nothing is known.
    async fn reach(
        &self,
        purpose: Purpose,
        numbers: impl Iterator<Item = u32>,
    ) -> Result<HashMap<u32, u64>, RecoverError> {
        let mut reach = HashMap::new();
        for number in numbers {
            let path = segment_path(self.root, purpose, number);
            let first = peek(self.io, self.seed, &path, purpose, number).await;
            let Some(first) = first.map_err(|e| RecoverError::Io(path, e))? else { continue };
            if let Some(before) = first.before {
                reach.insert(before, first.first);
            }
        }
        Ok(reach)
    }

    async fn read(
        &mut self,
        purpose: Purpose,
        number: u32,
        from: Mark,
        must_reach: Option<u64>,
    ) -> Result<u64, RecoverError> {
        let path = segment_path(self.root, purpose, number);
        let plan = ScanPlan {
            seed: self.seed,
            path: &path,
            purpose,
            segment: number,
            from,
            must_reach,
            step_bytes: None,
            // In the index, data is URLs.
            what: if purpose == Purpose::Index { What::Data } else { What::Heads },
            class: Class::Foreground,
        };
        let (io, mut strange) = (self.io, None);
        let scanned = scan(io, plan, |found| {
            let offered = record::read(found.frame).and_then(|read| match read {
                Read::Origin(digest, sequence) => {
                    let said = Origin::read(digest, sequence, found.data)?;
                    self.offer_origin(number, found.offset, said);
                    Ok(())
                }
                read => {
                    self.offer(purpose, number, found.offset, read);
                    Ok(())
                }
            });
            if let Err(e) = offered {
                strange = strange.or(Some((u64::from(found.offset), e)));
            }
        })
        .await?;
        if must_reach.is_none() {
            self.last.push((purpose, number, scanned.claimed_bytes..scanned.valid_bytes));
        }
        match strange {
            Some((at, e)) => Err(RecoverError::Record(path, at, e)),
            None => Ok(scanned.valid_bytes),
        }
    }

    fn offer(&mut self, purpose: Purpose, number: u32, offset: u32, read: Read) {
        let mut record = match read {
            Read::Covered { segment, offset } => {
                // The pack may be gone by now: its number is not free for all that.
                self.next_number = self.next_number.max(segment + 1);
                let covered = self.covered.entry(segment).or_default();
                *covered = offset.max(*covered);
                return;
            }
            Read::Object(record) => record,
            Read::Origin(..) => unreachable!("offered with its data"),
        };
        self.next_sequence = self.next_sequence.max(record.sequence + 1);
        if self.is_known(record.digest.shard(), purpose, number, offset) {
            return;
        }
        if record.said == Said::Packed {
            record.said = Said::Listed { segment: number, offset };
        }
        let newest = self.tail.entry(record.digest).or_insert(record);
        if newest.sequence <= record.sequence || planted::is(Bug::StaleRecordWins) {
            *newest = record;
        }
    }

    fn offer_origin(&mut self, number: u32, offset: u32, said: Origin) {
        self.next_sequence = self.next_sequence.max(said.sequence + 1);
        if !self.is_known(said.digest.shard(), Purpose::Index, number, offset) {
            hear_origin(&mut self.origins, said);
        }
    }

    async fn read_packs(&mut self, packs: &[OnDisk]) -> Result<Vec<KeptPack>, RecoverError> {
        let mut wanted: Vec<(u32, Option<Mark>, u64)> = Vec::new();
        for &OnDisk { number, bytes } in packs {
            let start = match self.covered.get(&number) {
                Some(&covered) if covered == u32::MAX => None,
                _ => self.start(Purpose::Pack, number),
            };
            wanted.push((number, start, bytes));
        }
        let scanned = wanted.iter().filter(|w| w.1.is_some()).map(|w| w.0);
        let reach = self.reach(Purpose::Pack, scanned).await?;
        let mut kept = Vec::new();
        for (number, start, bytes) in wanted {
            let valid = match start {
                Some(from) => self.read(Purpose::Pack, number, from, reach.get(&number).copied()).await?,
                None => bytes,
            };
            kept.push(KeptPack { number, bytes: valid, cut: valid < bytes, scanned: start.is_some() });
        }
        Ok(kept)
    }

    /// Hands each column its part.
    fn route(self, map: ShardMap, old: Arc<Old>, stale: bool) -> Vec<RecoveredDisk> {
        let mut parts: Vec<Option<PartAt>> = vec![None; SHARDS];
        for (shard, slot) in parts.iter_mut().enumerate() {
            *slot = self.newest(Shard(shard as u8)).and_then(|t| {
                let part = t.parts[shard]?;
                Some(PartAt { number: t.number, part })
            });
        }
        let mut columns: Vec<RecoveredDisk> = (0..map.columns())
            .map(|_| RecoveredDisk {
                tail: Tail::default(),
                origins: OriginTail::default(),
                parts: parts.clone(),
                next_number: self.next_number,
                old: old.clone(),
                stale,
                out: None,
            })
            .collect();
        for (digest, record) in self.tail {
            columns[map.owner(digest.shard())].tail.insert(digest, record);
        }
        for (digest, said) in self.origins {
            columns[map.owner(digest.shard())].origins.insert(digest, said);
        }
        columns
    }
}

/// Removes scrap and what was never acknowledged; counts the rest.
async fn tidy<I: Io>(
    io: &I,
    names: &Names,
    listing: &Listing,
    kept: &[KeptPack],
    budget: &Budget,
    map: ShardMap,
) -> Result<Old, RecoverError> {
    let root = names.root();
    let failed = |path: PathBuf| move |e| RecoverError::Io(path, e);
    for name in &listing.scrap {
        let path = root.join(name);
        io.unlink(&path).await.map_err(failed(path))?;
    }
    let incoming = names.incoming_dir();
    for (name, _) in io.list_dir(&incoming).await.map_err(failed(incoming.clone()))? {
        let path = incoming.join(name);
        io.unlink(&path).await.map_err(failed(path))?;
    }
    let mut old = Old::default();
    for pack in kept {
        let path = segment_path(root, Purpose::Pack, pack.number);
        if pack.bytes == 0 {
            io.unlink(&path).await.map_err(failed(path))?;
            continue;
        }
        if pack.cut {
            let file = io.open(&path, Open::WriteDirect).await.map_err(failed(path.clone()))?;
            file.truncate(pack.bytes).await.map_err(failed(path))?;
        }
        budget.adopt(pack.bytes);
        old.packs.push(Segment::new(Purpose::Pack, pack.number, pack.bytes, false));
    }
    let indexes = listing.indexes.iter().map(|f| (Purpose::Index, f));
    let checkpoints = listing.checkpoints.iter().map(|f| (Purpose::Checkpoint, f));
    for (purpose, file) in indexes.chain(checkpoints) {
        budget.adopt(file.bytes);
        old.replaced.push((purpose, file.number, file.bytes));
    }
    *old.loading.get_mut() = map.columns();
    *old.checkpointing.get_mut() = map.columns();
    Ok(old)
}

/// A process that was killed may have left its last batches written and not synced. They count as stored from here on: they
/// are served, and said anew nowhere. They are written again first: if it was their sync that failed, the kernel takes them for
/// clean, and another sync would make nothing durable.
async fn sync_last<I: Io>(
    io: &I,
    root: &Path,
    last: &[(Purpose, u32, Range<u64>)],
    kept: &[KeptPack],
) -> Result<(), RecoverError> {
    let is_gone = |purpose, number| {
        purpose == Purpose::Pack && kept.iter().any(|pack| pack.number == number && pack.bytes == 0)
    };
    for (purpose, number, unsynced) in last.iter().filter(|last| !is_gone(last.0, last.1)) {
        let path = segment_path(root, *purpose, *number);
        let synced = async {
            let file = io.open(&path, Open::WriteDirect).await?;
            if planted::is(Bug::RecoveredUnsynced) {
                return Ok(());
            }
            rewrite(io, &file, unsynced.clone()).await?;
            file.sync_data().await
        };
        synced.await.map_err(|e| RecoverError::Io(path.clone(), e))?;
    }
    Ok(())
}

/// Writes what a file has there once more, in whole sectors.
async fn rewrite<I: Io>(io: &I, file: &I::File, bytes: Range<u64>) -> io::Result<()> {
    for at in bytes.clone().step_by(REWRITE_BYTES) {
        let len = REWRITE_BYTES.min((bytes.end - at) as usize);
        let (read, buf) = file.read_at(buffer_in_time(io, len).await?, len, at).await;
        read?;
        file.write_at(buf, len, at).await.0?;
    }
    Ok(())
}

/// Reads all disks. One of several that fails is left out; with only one, its failure is the node's.
pub async fn recover_all<I: Io>(
    io: &I,
    disks: &[DiskPlan],
    map: ShardMap,
) -> Result<Vec<Recovered>, RecoverError> {
    let readiness = Arc::new(Readiness::new(map.columns()));
    let fresh = || Recovered { disks: Vec::new(), next_sequence: 1, readiness: readiness.clone() };
    let mut columns: Vec<Recovered> = (0..map.columns()).map(|_| fresh()).collect();
    for plan in disks {
        let (parts, next_sequence) = match recover(io, plan, map).await {
            Ok(found) => found,
            Err(e) if e.is_io() && disks.len() > 1 => {
                tracing::error!(error = %e, "disk is left out: what is on it answers 503");
                let out = Some(e.to_string());
                let part =
                    || RecoveredDisk { out: out.clone(), parts: vec![None; SHARDS], ..Default::default() };
                ((0..map.columns()).map(|_| part()).collect(), 1)
            }
            Err(e) => return Err(e),
        };
        for (column, part) in columns.iter_mut().zip(parts) {
            column.disks.push(part);
            column.next_sequence = column.next_sequence.max(next_sequence);
        }
    }
    if columns.iter().all(|c| c.disks.iter().all(|d| d.out.is_some())) {
        let path = disks.first().map(|d| d.dir.names().root().to_owned()).unwrap_or_default();
        return Err(RecoverError::Io(path, io::Error::other("no disk could be read")));
    }
    // Sequences order what the disks say of one object, so they are one line. A disk that is left out may be ahead of the
    // others, by what was said in one run of the node at most.
    let known = columns.iter().map(|c| c.next_sequence).max().unwrap_or(1);
    let left_out = columns.iter().any(|c| c.disks.iter().any(|d| d.out.is_some()));
    let next = if left_out { (known + RUN_RECORDS_MAX).max(io.unix_ms() << MS_SHIFT) } else { known };
    columns.iter_mut().for_each(|c| c.next_sequence = next);
    Ok(columns)
}
