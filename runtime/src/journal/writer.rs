//! Group commit: records appended by many are written and synced together.
//!
//! Called by the owner of the journal on its column. See the invariants in [`super`].

use super::batch::{Batch, Frame, Purpose, SECTOR_BYTES, batch_bytes, encode_batch};
use super::segment::Segment;
use super::store::{Store, is_full, segment_path};
use crate::io::{File, Io};
use crate::oneshot::{Oneshot, Waiting};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// A group is written as one buffer of at most this size.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Queued bytes beyond which callers are told to come back.
const QUEUE_BYTES_MAX: usize = 16 << 20;
const MEMORY_RETRY_NS: u64 = 1_000_000;
/// Where space is short segments are made smaller, down to this.
const SEGMENT_BYTES_MIN: u32 = 256 << 10;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Segment number.
    pub segment: u32,
    /// Offset of its data in the segment file.
    pub offset: u32,
    /// Its number in the journal.
    pub sequence: u64,
}

/// Why a record was not made durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Too much is queued: try again later.
    #[error("too many writes are queued")]
    Busy,
    /// Quota or disk is full.
    #[error("no space left for a journal segment")]
    NoSpace,
    /// The journal has stopped for good.
    #[error("the journal has stopped: {0}")]
    Stopped(Rc<str>),
}

/// A record that is queued, in its place behind all that were queued before.
pub struct Appended {
    synced: Waiting<Result<Written, JournalError>>,
}

impl Appended {
    /// Waits until it is on stable storage.
    pub async fn synced(self) -> Result<Written, JournalError> {
        self.synced.await
    }
}

struct Pending {
    frame: Frame,
    data: Bytes,
    done: Oneshot<Result<Written, JournalError>>,
}

struct Active<F> {
    file: F,
    segment: Arc<Segment>,
    at: u32,
}

struct State<F> {
    queue: VecDeque<Pending>,
    queued_bytes: usize,
    committing: bool,
    active: Option<Active<F>>,
    /// Number of the first segment, once there is one.
    journal: Option<u32>,
    /// The segment before the active one.
    before: Option<u32>,
    next_sequence: u64,
    mark: Option<Mark>,
    written_bytes: u64,
    stopped: Option<Rc<str>>,
}

/// What a journal is made of.
#[derive(Clone, Copy, Debug)]
pub struct JournalPlan {
    /// What it is for.
    pub purpose: Purpose,
    /// Size of a segment, allocated at once.
    pub segment_bytes: u32,
}

/// Where a journal stands: what is before it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Segment number.
    pub segment: u32,
    /// Offset in its file.
    pub offset: u32,
    /// Sequence of the next record.
    pub sequence: u64,
}

/// The writing end of a journal. Clones share it.
pub struct Journal<I: Io> {
    inner: Rc<Inner<I>>,
}

type OnSealed = Box<dyn Fn(Arc<Segment>)>;

struct Inner<I: Io> {
    store: Store<I>,
    plan: JournalPlan,
    on_stop: Box<dyn Fn(String)>,
    on_sealed: RefCell<Option<OnSealed>>,
    state: RefCell<State<I::File>>,
}

impl<I: Io> Clone for Journal<I> {
    fn clone(&self) -> Self {
        Journal { inner: self.inner.clone() }
    }
}

impl<I: Io> Journal<I> {
    /// A journal that opens its first segment when the first record comes. `on_stop` hears of the failure that ends it.
    pub fn new(store: Store<I>, plan: JournalPlan, on_stop: Box<dyn Fn(String)>) -> Journal<I> {
        let state = State {
            queue: VecDeque::new(),
            queued_bytes: 0,
            committing: false,
            active: None,
            journal: None,
            before: None,
            next_sequence: 0,
            mark: None,
            written_bytes: 0,
            stopped: None,
        };
        let on_sealed = RefCell::new(None);
        Journal { inner: Rc::new(Inner { store, plan, on_stop, on_sealed, state: RefCell::new(state) }) }
    }

    /// `hear` is called when a segment takes no more, in the turn in which it is sealed.
    pub fn on_sealed(&self, hear: OnSealed) {
        *self.inner.on_sealed.borrow_mut() = Some(hear);
    }

    /// Queues a record behind all that were queued before.
    pub fn append(&self, frame: Frame, data: Bytes) -> Result<Appended, JournalError> {
        assert_eq!(data.len(), frame.data_bytes as usize, "record and data disagree");
        let mut state = self.inner.state.borrow_mut();
        if let Some(reason) = &state.stopped {
            return Err(JournalError::Stopped(reason.clone()));
        }
        if state.queued_bytes + frame.bytes() > QUEUE_BYTES_MAX {
            return Err(JournalError::Busy);
        }
        state.queued_bytes += frame.bytes();
        let (done, synced) = Oneshot::new();
        state.queue.push_back(Pending { frame, data, done });
        if !std::mem::replace(&mut state.committing, true) {
            let me = self.clone();
            self.inner.store.io().spawn("group-commit", async move { me.commit_all().await });
        }
        Ok(Appended { synced })
    }

    /// Queues a record and waits until it is on stable storage.
    pub async fn append_synced(&self, frame: Frame, data: Bytes) -> Result<Written, JournalError> {
        self.append(frame, data)?.synced().await
    }

    /// Where the journal stands: everything before is synced. `None` while nothing was written.
    pub fn mark(&self) -> Option<Mark> {
        self.inner.state.borrow().mark
    }

    /// Bytes written since it began, padding and all.
    pub fn written_bytes(&self) -> u64 {
        self.inner.state.borrow().written_bytes
    }

    async fn commit_all(&self) {
        while let Some(group) = self.take_group() {
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
            group_bytes += next.frame.bytes() + SECTOR_BYTES;
            if !group.is_empty() && group_bytes > limit {
                state.queue.push_front(next);
                break;
            }
            state.queued_bytes -= next.frame.bytes();
            group.push(next);
        }
        state.committing = !group.is_empty();
        (!group.is_empty()).then_some(group)
    }

    async fn commit(&self, group: &[Pending]) -> Result<(), JournalError> {
        if let Some(reason) = &self.inner.state.borrow().stopped {
            return Err(JournalError::Stopped(reason.clone()));
        }
        let bytes = batch_bytes(group.iter().map(|p| &p.frame));
        let mut active = match self.take_active(bytes as u32) {
            Some(active) => active,
            None => self.open_segment(bytes).await?,
        };
        let store = &self.inner.store;
        let mut buf = loop {
            match store.io().buffer(bytes) {
                Some(buf) => break buf,
                // Readers hold the memory; they finish without us.
                None => store.io().sleep(MEMORY_RETRY_NS).await,
            }
        };
        let items: Vec<_> = group.iter().map(|p| (p.frame, &p.data[..])).collect();
        let batch = self.next_batch(active.segment.number);
        let offsets = encode_batch(store.seed(), batch, &items, &mut buf);
        let (synced, _buf) = active.file.write_sync(buf, bytes, u64::from(active.at)).await;
        synced.map_err(|e| {
            let path = segment_path(store.root(), self.inner.plan.purpose, active.segment.number);
            let at = active.at;
            JournalError::Stopped(format!("writing {bytes} bytes at {at} of {}: {e}", path.display()).into())
        })?;
        store.on_written(bytes as u64);
        for ((sequence, pending), offset) in (batch.first..).zip(group).zip(offsets) {
            // Live from here on: the caller's state learns of it in the same turn.
            active.segment.add_live(pending.frame.bytes() as u64);
            let (segment, offset) = (active.segment.number, active.at + offset);
            pending.done.set(Ok(Written { segment, offset, sequence }));
        }
        active.at += bytes as u32;
        let mut state = self.inner.state.borrow_mut();
        state.next_sequence += group.len() as u64;
        state.written_bytes += bytes as u64;
        let (segment, offset, sequence) = (active.segment.number, active.at, state.next_sequence);
        state.mark = Some(Mark { segment, offset, sequence });
        state.active = Some(active);
        Ok(())
    }

    fn next_batch(&self, segment: u32) -> Batch {
        let state = &mut *self.inner.state.borrow_mut();
        Batch {
            purpose: self.inner.plan.purpose,
            journal: *state.journal.get_or_insert(segment),
            segment,
            payload_bytes: 0,
            heads_bytes: 0,
            records: 0,
            first: state.next_sequence,
            // One batch is under way at a time: whatever was written before is synced.
            synced: state.next_sequence,
            before: state.before,
        }
    }

    /// The segment being written, if `bytes` more fit; otherwise it is sealed.
    fn take_active(&self, bytes: u32) -> Option<Active<I::File>> {
        let active = self.inner.state.borrow_mut().active.take()?;
        if u64::from(active.at) + u64::from(bytes) <= active.segment.disk_bytes {
            return Some(active);
        }
        self.seal(active);
        None
    }

    fn seal(&self, active: Active<I::File>) {
        active.segment.seal();
        self.inner.state.borrow_mut().before = Some(active.segment.number);
        if let Some(hear) = &*self.inner.on_sealed.borrow() {
            hear(active.segment);
        }
    }

    /// The next segment, as large as there is room for and at least as large as `bytes` need.
    async fn open_segment(&self, bytes: usize) -> Result<Active<I::File>, JournalError> {
        let mut size = self.inner.plan.segment_bytes;
        loop {
            match self.create_segment(size).await {
                Err(JournalError::NoSpace) if size / 4 >= (bytes as u32).max(SEGMENT_BYTES_MIN) => size /= 4,
                made => return made,
            }
        }
    }

    async fn create_segment(&self, size: u32) -> Result<Active<I::File>, JournalError> {
        let purpose = self.inner.plan.purpose;
        match self.inner.store.create(purpose, u64::from(size)).await {
            Ok((segment, file)) => Ok(Active { file, segment, at: 0 }),
            Err(e) if is_full(&e) => Err(JournalError::NoSpace),
            Err(e) => {
                let root = self.inner.store.root().display();
                Err(JournalError::Stopped(
                    format!("creating a {} segment in {root}: {e}", purpose.name()).into(),
                ))
            }
        }
    }

    /// Opens a segment now, so that the first records find their space even if the disk fills up meanwhile. A disk that is
    /// full already is no error: the first record will say so.
    pub async fn prepare(&self) -> Result<(), JournalError> {
        match self.open_segment(0).await {
            Ok(active) => self.inner.state.borrow_mut().active = Some(active),
            Err(JournalError::NoSpace) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn on_error(&self, e: &JournalError) {
        let JournalError::Stopped(reason) = e else { return };
        self.stop(reason.clone());
    }

    /// Ends the journal: nothing is written any more.
    pub fn stop(&self, reason: Rc<str>) {
        let first = self.inner.state.borrow_mut().stopped.replace(reason.clone()).is_none();
        if first {
            (self.inner.on_stop)(reason.to_string());
        }
    }
}
