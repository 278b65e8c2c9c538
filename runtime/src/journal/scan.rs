//! Reading a segment back: which batches are whole, where the journal ends, and whether what follows is a torn tail.
//!
//! Called by recovery, once for each segment. Straight I/O; the decision is in the claims that batches carry.
//!
//! Invariants
//! 1. A record is offered only when it is known to have been written whole: a later batch claims that it was synced, or its
//!    data was read and matches.
//! 2. Damage below a claim is corruption. Damage that no claim covers ends the journal there.

use super::batch::{BATCH_HEADER_BYTES, Batch, BatchError, Frame, Purpose, SECTOR_BYTES, check_data};
use super::memory::buffer_in_time;
use super::writer::Mark;
use crate::buffer::Buffer;
use crate::io::{Class, File, Io, Open};
use crate::planted::{self, Bug};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Read at a time; many small batches, or the heads of a large one.
const WINDOW_BYTES: usize = 256 << 10;

/// Why a segment could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// It is damaged where it may not be.
    #[error("{path} is corrupt at offset {1}: {2}", path = .0.display())]
    Corrupt(PathBuf, u64, BatchError),
    /// The disk failed.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, io::Error),
}

/// What is wanted of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Heads; data is left on the disk.
    Heads,
    /// Heads and verified data.
    Data,
}

/// What to read.
pub struct ScanPlan<'p> {
    /// Of the directory.
    pub seed: u32,
    /// The file.
    pub path: &'p Path,
    /// What its name says it holds…
    pub purpose: Purpose,
    /// …and its number.
    pub segment: u32,
    /// Start here: all before is known.
    pub from: Mark,
    /// The next segment of the same journal starts with this sequence, so this one must reach it.
    pub must_reach: Option<u64>,
    /// Stop after about this many bytes; go on from where that ended.
    pub step_bytes: Option<u64>,
    /// What is wanted.
    pub what: What,
    /// How urgent it is.
    pub class: Class,
}

/// A record found.
pub struct Found<'s> {
    /// Its head.
    pub frame: &'s Frame,
    /// Offset of its data in the segment file.
    pub offset: u32,
    /// Its data, when that was asked for.
    pub data: &'s [u8],
}

/// What a segment was found to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The journal ends here, or the segment does; otherwise the step did.
    pub is_end: bool,
    /// Bytes of whole batches; what follows was never acknowledged.
    pub valid_bytes: u64,
    /// Of these, the bytes of batches of which it is known that they were synced: a later one claims them.
    pub claimed_bytes: u64,
    /// Sequence after the last record.
    pub end: u64,
}

/// The header of the first batch of a segment, if there is one that names it.
pub async fn peek<I: Io>(
    io: &I,
    seed: u32,
    path: &Path,
    purpose: Purpose,
    segment: u32,
) -> io::Result<Option<Batch>> {
    let file = io.open(path, Open::ReadDirect).await?;
    if file.size().await? < SECTOR_BYTES as u64 {
        return Ok(None);
    }
    let buf = read(io, &file, 0, SECTOR_BYTES).await?;
    let named = |b: &Batch| b.purpose == purpose && is_of(b, segment);
    Ok(Batch::decode(seed, &buf).ok().filter(named))
}

/// Whether a batch belongs to this life of its file.
fn is_of(batch: &Batch, segment: u32) -> bool {
    batch.segment == segment || planted::is(Bug::IncarnationUnchecked)
}

async fn read<I: Io>(io: &I, file: &I::File, at: u64, len: usize) -> io::Result<Buffer> {
    let buf = buffer_in_time(io, len).await?;
    let (read, buf) = file.read_at(buf, len, at).await;
    read.map(|()| buf)
}

/// A stretch of the file in memory.
struct Window<'w, I: Io> {
    io: &'w I,
    path: &'w Path,
    file: &'w I::File,
    size: u64,
    at: u64,
    len: usize,
    buf: Option<Buffer>,
}

impl<I: Io> Window<'_, I> {
    /// The bytes from `at`: at least `len` of them, or all there are.
    async fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], ScanError> {
        let len = len.min((self.size - at) as usize);
        let inside = self.at <= at && at + len as u64 <= self.at + self.len as u64;
        if !inside || self.buf.is_none() {
            self.buf = None;
            self.len = len.max(WINDOW_BYTES).min((self.size - at) as usize);
            let buf = read(self.io, self.file, at, self.len).await;
            self.buf = Some(buf.map_err(|e| ScanError::Io(self.path.to_owned(), e))?);
            self.at = at;
        }
        let buf = self.buf.as_deref().expect("just read");
        Ok(&buf[(at - self.at) as usize..self.len])
    }
}

/// A batch whose records wait for a claim that covers them.
struct Waiting {
    at: u64,
    batch: Batch,
    frames: Vec<(Frame, u32)>,
}

struct Scan<'s, I: Io> {
    plan: ScanPlan<'s>,
    window: Window<'s, I>,
    /// The journal, once a batch has named it.
    journal: Option<u32>,
    /// Sequence of the next batch, once one was read.
    next: Option<u64>,
    at: u64,
    waiting: VecDeque<Waiting>,
    /// Batches that none has claimed yet: where they begin, and the sequence after their last record.
    unclaimed: VecDeque<(u64, u64)>,
    done: Scanned,
}

/// Reads a segment from its mark on and offers its records in order.
pub async fn scan<I: Io>(
    io: &I,
    plan: ScanPlan<'_>,
    mut offer: impl FnMut(Found<'_>),
) -> Result<Scanned, ScanError> {
    let path = plan.path.to_owned();
    let failed = |e| ScanError::Io(path.clone(), e);
    let file = io.open(plan.path, Open::ReadDirect).await.map_err(failed)?.classed(plan.class);
    // A file whose size is no whole number of sectors was cut by someone else: what is whole is read.
    let size = file.size().await.map_err(failed)? / SECTOR_BYTES as u64 * SECTOR_BYTES as u64;
    let from = u64::from(plan.from.offset);
    let window = Window { io, path: plan.path, file: &file, size, at: 0, len: 0, buf: None };
    let next = (from > 0).then_some(plan.from.sequence);
    let done = Scanned { is_end: false, valid_bytes: from, claimed_bytes: from, end: plan.from.sequence };
    let (waiting, unclaimed) = (VecDeque::new(), VecDeque::new());
    let mut scan = Scan { plan, window, journal: None, next, at: from, waiting, unclaimed, done };
    let scanned = scan.run(&mut offer).await?;
    let first_unclaimed = scan.unclaimed.front().map_or(scanned.valid_bytes, |(at, _)| *at);
    Ok(Scanned { claimed_bytes: first_unclaimed.min(scanned.valid_bytes), ..scanned })
}

impl<I: Io> Scan<'_, I> {
    async fn run(&mut self, offer: &mut impl FnMut(Found<'_>)) -> Result<Scanned, ScanError> {
        loop {
            if self.next.is_some() && self.next == self.plan.must_reach {
                // The next segment's first batch claims all of this one.
                self.claim(u64::MAX);
                self.settle(u64::MAX, offer).await?;
                return Ok(Scanned { is_end: true, ..self.done });
            }
            if self
                .plan
                .step_bytes
                .is_some_and(|step| self.done.valid_bytes >= u64::from(self.plan.from.offset) + step)
            {
                return Ok(self.done);
            }
            match self.read_batch().await? {
                Ok((batch, frames)) => self.take(batch, frames, offer).await?,
                Err(damage) => {
                    self.end(damage, offer).await?;
                    return Ok(Scanned { is_end: true, ..self.done });
                }
            }
        }
    }

    fn corrupt(&self, at: u64, damage: BatchError) -> ScanError {
        ScanError::Corrupt(self.plan.path.to_owned(), at, damage)
    }

    async fn read_batch(&mut self) -> Result<Result<(Batch, Vec<(Frame, u32)>), BatchError>, ScanError> {
        if self.at >= self.window.size {
            return Ok(Err(BatchError::NoBatch));
        }
        let (at, whole) = (self.at, self.plan.what == What::Data);
        let bytes = self.window.bytes(at, SECTOR_BYTES).await?;
        let batch = match Batch::decode(self.plan.seed, bytes) {
            Ok(batch) => batch,
            Err(e) => return Ok(Err(e)),
        };
        if let Err(e) = self.check_place(&batch) {
            return Ok(Err(e));
        }
        let want = if whole { batch.disk_bytes() } else { batch.index_bytes() };
        let bytes = self.window.bytes(at, want).await?;
        let frames = batch.frames(bytes).and_then(|frames| {
            if whole {
                check_data(bytes, &frames)?;
            }
            Ok(frames)
        });
        Ok(frames.map(|frames| (batch, frames)))
    }

    /// Whether a batch is the next one of this very life of the file.
    fn check_place(&self, batch: &Batch) -> Result<(), BatchError> {
        let mine = batch.purpose == self.plan.purpose && is_of(batch, self.plan.segment);
        let next = self.next.is_none_or(|next| next == batch.first);
        let same = self.journal.is_none_or(|journal| journal == batch.journal);
        if !(mine && next && same) {
            return Err(BatchError::Damaged("batch of another place"));
        }
        if self.at + batch.disk_bytes() as u64 > self.window.size {
            return Err(BatchError::Damaged("batch beyond its segment"));
        }
        Ok(())
    }

    async fn take(
        &mut self,
        batch: Batch,
        frames: Vec<(Frame, u32)>,
        offer: &mut impl FnMut(Found<'_>),
    ) -> Result<(), ScanError> {
        self.journal = Some(batch.journal);
        self.next = Some(batch.end());
        self.claim(batch.synced);
        self.unclaimed.push_back((self.at, batch.end()));
        self.settle(batch.synced, offer).await?;
        self.waiting.push_back(Waiting { at: self.at, batch, frames });
        self.at += batch.disk_bytes() as u64;
        if self.plan.what == What::Data {
            // Its data has been checked already.
            self.settle(u64::MAX, offer).await?;
        }
        Ok(())
    }

    /// All before `synced` was synced.
    fn claim(&mut self, synced: u64) {
        while self.unclaimed.front().is_some_and(|(_, end)| *end <= synced) {
            self.unclaimed.pop_front();
        }
    }

    /// Offers the records before `synced`.
    async fn settle(&mut self, synced: u64, offer: &mut impl FnMut(Found<'_>)) -> Result<(), ScanError> {
        while self.waiting.front().is_some_and(|w| w.batch.end() <= synced) {
            let Waiting { at, batch, frames } = self.waiting.pop_front().expect("just seen");
            let bytes: &[u8] = match self.plan.what {
                What::Heads => &[],
                What::Data => self.window.bytes(at, batch.disk_bytes()).await?,
            };
            for (frame, from) in &frames {
                let (from, offset) = (*from as usize, at as u32 + from);
                let data = bytes.get(from..from + frame.data_bytes as usize).unwrap_or(&[]);
                offer(Found { frame, offset, data });
            }
            self.done =
                Scanned { valid_bytes: at + batch.disk_bytes() as u64, end: batch.end(), ..self.done };
        }
        Ok(())
    }

    /// The chain of batches ends here, with `damage`: is that a torn tail?
    async fn end(&mut self, damage: BatchError, offer: &mut impl FnMut(Found<'_>)) -> Result<(), ScanError> {
        if let BatchError::Newer(_) = damage {
            return Err(self.corrupt(self.at, damage));
        }
        if self.plan.must_reach.is_some() {
            return Err(self.corrupt(self.at, damage));
        }
        let claimed = self.claimed_behind().await?.filter(|_| !planted::is(Bug::ClaimIgnored));
        if claimed.is_some_and(|claimed| self.next.is_none_or(|next| claimed > next)) {
            return Err(self.corrupt(self.at, damage));
        }
        // What no claim covers is whole, or the journal ends before it.
        while let Some(last) = self.waiting.front() {
            let (at, end, whole_bytes) = (last.at, last.batch.end(), last.batch.disk_bytes());
            let bytes = self.window.bytes(at, whole_bytes).await?;
            let whole = check_data(bytes, &self.waiting[0].frames);
            match whole {
                Err(_) if planted::is(Bug::TornTailAccepted) => self.settle(end, offer).await?,
                Ok(()) => self.settle(end, offer).await?,
                Err(damage) if claimed.is_some_and(|claimed| claimed >= end) => {
                    return Err(self.corrupt(at, damage));
                }
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// The highest claim of any batch of this segment behind the break: all before it was synced.
    async fn claimed_behind(&mut self) -> Result<Option<u64>, ScanError> {
        let ScanPlan { seed, purpose, segment, .. } = self.plan;
        let (mut at, mut claimed) = (self.at, None);
        while at < self.window.size {
            let bytes = self.window.bytes(at, WINDOW_BYTES).await?;
            let len = bytes.len();
            let headers = bytes.chunks(SECTOR_BYTES).filter_map(|sector| {
                let head = sector.get(..BATCH_HEADER_BYTES)?;
                Batch::decode(seed, head).ok().filter(|b| b.purpose == purpose && is_of(b, segment))
            });
            let same = |b: &Batch| self.journal.is_none_or(|journal| journal == b.journal);
            claimed = claimed.max(headers.filter(same).map(|b| b.synced).max());
            at += len as u64;
        }
        Ok(claimed)
    }
}
