//! The log of a column: records appended in groups, each group one write and one sync.
//!
//! Called by `shard.rs`, once for packed objects and once for the index. A record is *appended* when it is queued here
//! and *synced* when [`Log::append`] returns; nothing is acknowledged before.
//!
//! Invariants
//! 1. One group is under way at a time; what arrives meanwhile forms the next one.
//! 2. The queue is bounded in bytes; past it `append` is `Busy`.
//! 3. After a failed write or sync nothing is written any more: every append fails, and the node is told to stop.
//! 4. A segment is allocated whole before its first batch, so a full disk is met there and not in a group.

use super::names::{Names, SECTOR_BYTES, SegmentKind};
use super::record::{Record, batch_bytes, encode_batch};
use super::segment::{Segment, Segments};
use crate::budget::Budget;
use crate::io::{File, Io, Open};
use crate::oneshot::{Oneshot, Waiting};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// A group is written as one buffer of at most this size.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Queued bytes beyond which callers are told to come back.
const QUEUE_BYTES_MAX: usize = 16 << 20;
const MEMORY_RETRY_NS: u64 = 1_000_000;
/// Where space is short segments are made smaller, down to this.
const SEGMENT_BYTES_MIN: u32 = 256 << 10;

/// Where a record's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Segment number.
    pub segment: u32,
    /// Offset of the data in the segment file.
    pub offset: u32,
}

/// Why a record was not made durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Too much is queued: try again later.
    #[error("too many writes are queued")]
    Busy,
    /// Quota or disk is full.
    #[error("no space left for a log segment")]
    NoSpace,
    /// The log has stopped for good.
    #[error("the log has stopped: {0}")]
    Stopped(Rc<str>),
}

struct Pending {
    record: Record,
    data: Bytes,
    done: Oneshot<Result<Written, LogError>>,
}

struct Active<F> {
    file: F,
    segment: Arc<Segment>,
    at: u32,
    batches: u64,
}

struct State<F> {
    queue: VecDeque<Pending>,
    queued_bytes: usize,
    committing: bool,
    active: Option<Active<F>>,
    next_number: u32,
    stopped: Option<Rc<str>>,
}

/// What a log is made of.
pub struct LogPlan {
    /// Which kind of segments it writes.
    pub kind: SegmentKind,
    /// Size of each, allocated at once.
    pub segment_bytes: u32,
    /// Its first segment's number…
    pub first_number: u32,
    /// …and how far apart its numbers are (the number of columns), so that columns never share one.
    pub number_step: u32,
}

/// The writing end of a column's log. Clones share it.
pub struct Log<I: Io> {
    inner: Rc<Inner<I>>,
}

struct Inner<I: Io> {
    io: I,
    names: Names,
    plan: LogPlan,
    budget: Budget,
    segments: Rc<RefCell<Segments<I>>>,
    on_stop: Box<dyn Fn(String)>,
    state: RefCell<State<I::File>>,
}

impl<I: Io> Clone for Log<I> {
    fn clone(&self) -> Self {
        Log { inner: self.inner.clone() }
    }
}

impl<I: Io> Log<I> {
    /// A log that opens its first segment when the first record comes. `on_stop` hears of the failure that ends it.
    pub fn new(
        io: I,
        names: Names,
        plan: LogPlan,
        budget: Budget,
        segments: Rc<RefCell<Segments<I>>>,
        on_stop: Box<dyn Fn(String)>,
    ) -> Log<I> {
        let state = State {
            queue: VecDeque::new(),
            queued_bytes: 0,
            committing: false,
            active: None,
            next_number: plan.first_number,
            stopped: None,
        };
        Log {
            inner: Rc::new(Inner { io, names, plan, budget, segments, on_stop, state: RefCell::new(state) }),
        }
    }

    /// Queues a record; the answer comes when it is on stable storage.
    pub async fn append(&self, record: Record, data: Bytes) -> Result<Written, LogError> {
        self.enqueue(record, data)?.await
    }

    fn enqueue(&self, record: Record, data: Bytes) -> Result<Waiting<Result<Written, LogError>>, LogError> {
        let mut state = self.inner.state.borrow_mut();
        if let Some(reason) = &state.stopped {
            return Err(LogError::Stopped(reason.clone()));
        }
        if state.queued_bytes + record.batch_bytes() > QUEUE_BYTES_MAX {
            return Err(LogError::Busy);
        }
        state.queued_bytes += record.batch_bytes();
        let (done, waiting) = Oneshot::new();
        state.queue.push_back(Pending { record, data, done });
        if !std::mem::replace(&mut state.committing, true) {
            let me = self.clone();
            self.inner.io.spawn("group-commit", async move { me.commit_all().await });
        }
        Ok(waiting)
    }

    async fn commit_all(&self) {
        loop {
            let Some(group) = self.take_group() else {
                return;
            };
            if let Err(e) = self.commit(&group).await {
                self.on_error(&e);
                group.into_iter().for_each(|p| p.done.set(Err(e.clone())));
            }
        }
    }

    /// The next group, or `None` and the committer ends.
    fn take_group(&self) -> Option<Vec<Pending>> {
        let mut state = self.inner.state.borrow_mut();
        let mut group: Vec<Pending> = Vec::new();
        // Groups fit the smallest segment once space is short.
        let limit = match state.active.as_ref().map(|a| a.segment.disk_bytes) {
            Some(bytes) if bytes < u64::from(self.inner.plan.segment_bytes) => SEGMENT_BYTES_MIN as usize,
            _ => GROUP_BYTES_MAX.min(self.inner.plan.segment_bytes as usize),
        };
        // Counted generously: large data is moved to the next sector.
        let mut group_bytes = SECTOR_BYTES;
        while let Some(next) = state.queue.pop_front() {
            group_bytes += next.record.batch_bytes() + SECTOR_BYTES;
            if !group.is_empty() && group_bytes > limit {
                state.queue.push_front(next);
                break;
            }
            state.queued_bytes -= next.record.batch_bytes();
            group.push(next);
        }
        state.committing = !group.is_empty();
        (!group.is_empty()).then_some(group)
    }

    async fn commit(&self, group: &[Pending]) -> Result<(), LogError> {
        if let Some(reason) = &self.inner.state.borrow().stopped {
            return Err(LogError::Stopped(reason.clone()));
        }
        let bytes = batch_bytes(group.iter().map(|p| &p.record));
        let mut active = match self.take_active(bytes as u32) {
            Some(active) => active,
            None => self.open_segment(bytes).await?,
        };
        let mut buf = loop {
            match self.inner.io.buffer(bytes) {
                Some(buf) => break buf,
                // Readers hold the memory; they finish without us.
                None => self.inner.io.sleep(MEMORY_RETRY_NS).await,
            }
        };
        let items: Vec<_> = group.iter().map(|p| (p.record, &p.data[..])).collect();
        let offsets =
            encode_batch(self.inner.plan.kind, active.segment.number, active.batches, &items, &mut buf);
        let (synced, _buf) = active.file.write_sync(buf, bytes, u64::from(active.at)).await;
        synced.map_err(|e| {
            let path = self.inner.names.segment(self.inner.plan.kind, active.segment.number);
            let at = active.at;
            LogError::Stopped(format!("writing {bytes} bytes at {at} of {}: {e}", path.display()).into())
        })?;
        for (pending, offset) in group.iter().zip(offsets) {
            // Live from here on: the caller's state learns of it in the same turn.
            active.segment.add_live(pending.record.batch_bytes() as u64);
            pending.done.set(Ok(Written { segment: active.segment.number, offset: active.at + offset }));
        }
        active.at += bytes as u32;
        active.batches += 1;
        self.inner.state.borrow_mut().active = Some(active);
        Ok(())
    }

    /// The segment being written, if `bytes` more fit; otherwise it is sealed.
    fn take_active(&self, bytes: u32) -> Option<Active<I::File>> {
        let active = self.inner.state.borrow_mut().active.take()?;
        if u64::from(active.at) + u64::from(bytes) <= active.segment.disk_bytes {
            return Some(active);
        }
        active.segment.seal();
        None
    }

    /// The next segment, as large as there is room for and at least as large as `bytes` need.
    async fn open_segment(&self, bytes: usize) -> Result<Active<I::File>, LogError> {
        let mut size = self.inner.plan.segment_bytes;
        loop {
            match self.create_segment(size).await {
                Err(LogError::NoSpace) if size / 4 >= (bytes as u32).max(SEGMENT_BYTES_MIN) => size /= 4,
                made => return made,
            }
        }
    }

    async fn create_segment(&self, size: u32) -> Result<Active<I::File>, LogError> {
        let inner = &*self.inner;
        let bytes = u64::from(size);
        // Deletions must go on when the quota is used up: they are what frees it.
        if inner.plan.kind == SegmentKind::Index {
            inner.budget.adopt(bytes);
        } else if !inner.budget.try_reserve(bytes) {
            return Err(LogError::NoSpace);
        }
        let number = inner.state.borrow().next_number;
        let path = inner.names.segment(inner.plan.kind, number);
        let made = async {
            let file = inner.io.open(&path, Open::CreateDirect).await?;
            file.allocate(bytes).await?;
            file.sync_data().await?;
            inner.io.sync_dir(inner.names.root()).await?;
            Ok(file)
        };
        let made: io::Result<I::File> = made.await;
        match made {
            Ok(file) => {
                inner.state.borrow_mut().next_number += inner.plan.number_step;
                let segment = inner.segments.borrow_mut().add(inner.plan.kind, number, bytes, file.clone());
                Ok(Active { file, segment, at: 0, batches: 0 })
            }
            Err(e) => {
                let _ = inner.io.unlink(&path).await;
                inner.budget.release(bytes);
                if is_full(&e) {
                    return Err(LogError::NoSpace);
                }
                Err(LogError::Stopped(format!("creating {}: {e}", path.display()).into()))
            }
        }
    }

    /// Opens a segment now, so that the first records find their space even if the disk fills up meanwhile. A disk that is
    /// full already is no error: the first record will say so.
    pub async fn prepare(&self) -> Result<(), LogError> {
        match self.open_segment(0).await {
            Ok(active) => self.inner.state.borrow_mut().active = Some(active),
            Err(LogError::NoSpace) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn on_error(&self, e: &LogError) {
        let LogError::Stopped(reason) = e else { return };
        let first = self.inner.state.borrow_mut().stopped.replace(reason.clone()).is_none();
        if first {
            (self.inner.on_stop)(reason.to_string());
        }
    }
}

/// Whether an error means that the disk, or our share of it, is full.
pub fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
